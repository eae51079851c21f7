"""The maps that methods make of a model whose weights were drawn anew, for all checks that ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from reportgen.classifier.randomisation import Stage, randomised, stages
from reportgen.errors import NotApplicable
from reportgen.metrics.base import Context, Plan
from reportgen.metrics.repeats import count_setting, finite_maps, own_map_work, reduced
from reportgen.metrics.similarity import Compared
from reportgen.perturbation.geometry import rotated
from reportgen.perturbation.streams import stream
from reportgen.records import Measurement, Quantity
from reportgen.work import Work

COPIES = 8
COPY_NOISE = 0.1
_DRAWN = "a normal distribution with each tensor's own mean and standard deviation"
DRAWING = (
    f"Weights are drawn anew in place, from {_DRAWN}; scales and shifts of normalisation layers "
    f"are kept, and the running statistics behind the drawn weights are estimated on {COPIES} "
    "turned and noisy copies of the picture."
)
NEEDS = (
    "weights that can be changed, and the method once more for each state of the model, with "
    "reduced counts"
)
SEEDING = (
    "each weight tensor is drawn from a stream of its own; a method that draws at random uses the "
    "run's seed for both maps"
)
NAME = "the map of the re-drawn model"


@dataclass(frozen=True)
class Destroyed:
    """Each method's map (H, W) of a re-drawn model, or what went wrong with it.

    ``probability`` is the class's after the draw; ``note`` says what could not be re-drawn.
    """

    maps: Mapping[str, Tensor]
    errors: Mapping[str, Exception]
    probability: float
    note: str

    def map_of(self, method: str) -> Tensor:
        """Return a method's map, or raise what kept it from being made."""
        if method in self.errors:
            raise self.errors[method]
        return self.maps[method]


def weight_stages(context: Context) -> tuple[Stage, ...]:
    """Return the stages of the model's weights, from its output to its input."""
    return stages(context.classifier, context.pixels, context.config.sanity_stages)


def destroyed_maps(context: Context) -> Destroyed:
    """Return the maps of the model with all its weights drawn anew.

    Raises NotApplicable where the class's score is the same as before.
    """
    return destroyed_by(context, context.once(weight_stages))


def varied_copies(context: Context) -> Tensor:
    """Return copies (n, C, H, W) of the picture, turned all round and with noise, in [0, 1]."""
    pixels, mean = context.pixels, torch.tensor(context.classifier.mean)
    turned = rotated(pixels, torch.arange(COPIES) * (360 / COPIES), mean)
    generator = stream(context.config.seed, "copies for running statistics")
    noise = torch.randn(turned.shape, generator=generator).to(turned)
    return (turned + COPY_NOISE * noise).clamp(0, 1)


def destroyed_by(context: Context, chosen: Sequence[Stage]) -> Destroyed:
    """Return the maps of the model with the weights of the ``chosen`` stages drawn anew."""
    seed, config = context.config.seed, reduced(context.config)
    maps: dict[str, Tensor] = {}
    errors: dict[str, Exception] = {}
    copies = context.once(varied_copies)
    with randomised(
        context.classifier, chosen, lambda name: stream(seed, "re-drawn weight", name), copies
    ) as note:
        probability = _changed_probability(context)
        for method in context.maps:
            try:
                made = finite_maps(context, method, context.pixels[None], config)[0]
                # A linear model's gradient may be a view of its weights, which are put back.
                maps[method] = made.clone()
            except Exception as error:  # one failing method never costs the user the others
                # Its frames would keep the tensors that were in use alive.
                errors[method] = error.with_traceback(None)
    return Destroyed(maps, errors, probability, note)


def _changed_probability(context: Context) -> float:
    evaluator, target = context.classifier.evaluator, context.prediction.target
    raw = evaluator.stream(1, lambda start, stop: context.pixels[None])
    if np.isclose(float(evaluator.head.scores(raw)[0, target.index]), target.score, rtol=1e-6):
        raise NotApplicable("the class's score stays the same when the weights are drawn anew")
    return float(evaluator.head.probabilities(raw)[0, target.index])


def measured(
    context: Context,
    quantity: Quantity,
    method: str,
    compared: Compared,
    detail: Mapping[str, JsonValue],
) -> Measurement:
    """Return what was compared with the re-drawn model's map, without its place among nulls."""
    stages_, note = context.once(weight_stages), context.once(destroyed_maps).note
    return Measurement(
        metric=quantity.key,
        subject=method,
        value=compared.value,
        direction=quantity.direction,
        range=quantity.range,
        settings={
            "weight tensors": sum(len(stage.weights) for stage in stages_),
            "drawn from": _DRAWN,
            **count_setting(reduced(context.config), method),
            "seed": context.config.seed,
        },
        detail=detail,
        note="; ".join(filter(None, (compared.why_not, note))),
    )


def destroyed_work(plan: Plan) -> Mapping[str, Work]:
    """Return the work of ``destroyed_maps``, with that of the maps they are compared with."""
    if not plan.methods:
        return {}
    return {
        "order of the weights": Work(1),
        "maps of the re-drawn model": redrawn_work(plan),
        **own_map_work(plan),
    }


def redrawn_work(plan: Plan) -> Work:
    """Return the work of ``destroyed_by``, of a model with running statistics behind the weights.

    Where there are none, the ``COPIES`` on which they are estimated are saved; and all the maps,
    where the class's score stays the same.
    """
    config, score = reduced(plan.config), 1
    maps = (plan.explain(method, config) for method in plan.methods)
    return sum(maps, Work(COPIES + score))
