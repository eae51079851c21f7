"""Maps made again: of the picture or of copies of it, with counts that repeats can afford.

One set of noisy copies, with their scores and maps, serves every metric of stability.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from reportgen.config import Config
from reportgen.errors import NotApplicable, failure_reason
from reportgen.metrics.base import Context, Measured, Plan
from reportgen.metrics.yardstick import NULL, null_maps
from reportgen.perturbation.controls import CONTROLS, control_maps
from reportgen.perturbation.corruption import small_noise
from reportgen.records import Measurement, Quantity, Skipped
from reportgen.work import Work

# The methods that draw at random, and the option that says how often.
SAMPLED: Mapping[str, str] = {
    "shap": "shap_evals",
    "lime": "lime_samples",
    "kernel-shap": "shap_evals",
    "rise": "rise_masks",
    "smoothgrad": "smoothgrad_draws",
    "gradient-shap": "gradient_shap_draws",
}
COUNTED: Mapping[str, str] = {**SAMPLED, "integrated-gradients": "ig_steps"}
INDEPENDENT = (
    "the same number for an explainer that draws a new smooth random map for the picture and for "
    "each copy: one value for each of the smooth random maps, the next ones standing for the copies"
)


def reduced(config: Config) -> Config:
    """Return the options under which maps are made again and again."""
    samples, steps = config.sensitivity_samples, config.sensitivity_steps
    return config.model_copy(
        update={
            "lime_samples": min(config.lime_samples, samples),
            "shap_evals": min(config.shap_evals, samples),
            "rise_masks": min(config.rise_masks, samples),
            "smoothgrad_draws": min(config.smoothgrad_draws, steps),
            "gradient_shap_draws": min(config.gradient_shap_draws, steps),
            "ig_steps": min(config.ig_steps, steps),
            # A map made again shall differ by what was changed, not by its number of steps.
            "ig_doublings": 0,
        }
    )


def count_setting(config: Config, method: str) -> dict[str, JsonValue]:
    """Return the method's own count under ``config``, by the name of its option, if it has one."""
    field = COUNTED.get(method)
    return {} if field is None else {field: getattr(config, field)}


def own_map(context: Context, method: str) -> Tensor:
    """Return the method's map (H, W) of the picture itself, made with the reduced counts."""
    return finite_maps(context, method, context.pixels[None], reduced(context.config))[0]


def noisy_copies(context: Context) -> Tensor:
    """Return the copies (n, C, H, W) of the picture with small uniform noise."""
    config = context.config
    return small_noise(
        context.pixels, config.sensitivity_radius, config.sensitivity_draws, config.seed
    )


def noisy_pictures(context: Context) -> Tensor:
    """Return the picture and then its noisy copies, (1 + n, C, H, W)."""
    return torch.cat([context.pixels[None], context.once(noisy_copies)])


def noisy_outputs(context: Context) -> Tensor:
    """Return raw outputs (1 + n, outputs) of the picture and then of its noisy copies."""
    pictures, evaluator = context.once(noisy_pictures), context.classifier.evaluator
    return evaluator.stream(len(pictures), lambda start, stop: pictures[start:stop])


def noisy_scores(context: Context) -> Tensor:
    """Return the class scores (1 + n, classes) of the picture and then of its noisy copies."""
    scores = context.classifier.evaluator.head.scores(context.once(noisy_outputs))
    return scores[:, : len(context.classifier.labels)]


def noisy_maps(context: Context, method: str) -> Tensor:
    """Return the method's maps (1 + n, H, W) of the picture and then of its noisy copies.

    All are made with the reduced counts and the same seed. Raises NotApplicable where a map holds
    NaN or infinite values.
    """
    own, config = context.once(own_map, method), reduced(context.config)
    copies = finite_maps(context, method, context.once(noisy_copies), config)
    return torch.cat([own[None], copies])


def noisy_controls(context: Context) -> Mapping[str, Tensor]:
    """Return, for each control that is not random, its maps (1 + n, H, W) as ``noisy_maps``."""
    pictures, seed = context.once(noisy_pictures), context.config.seed
    return {
        key: torch.cat([control_maps(key, picture, 1, seed) for picture in pictures])
        for key, control in CONTROLS.items()
        if not control.random
    }


def rounds(count: int, size: int) -> list[list[int]]:
    """Return, for each of ``count`` maps, its index and those of the ``size - 1`` after it.

    After the last comes the first. Where ``size`` is more than ``count``, the others come again.
    """
    others = count - 1
    return [
        [first, *((first + 1 + offset % others) % count for offset in range(size - 1))]
        for first in range(count)
    ]


def null_groups(context: Context) -> Iterator[Tensor]:
    """Yield (1 + n, H, W) for each smooth random map: it, and others as maps of the n copies."""
    maps = context.once(null_maps)
    for indices in rounds(len(maps), 1 + context.config.sensitivity_draws):
        yield maps[indices]


def null_rows(
    quantity: Quantity, nulls: NDArray[np.float64], settings: Mapping[str, JsonValue]
) -> list[Measurement]:
    """Return the control's own measurement, the mean of ``nulls`` (n,); none where all are NaN."""
    known = nulls[np.isfinite(nulls)]
    if not len(known):
        return []
    return [
        Measurement(
            metric=quantity.key,
            subject=NULL,
            value=float(known.mean()),
            direction=quantity.direction,
            range=quantity.range,
            interval=(float(known.min()), float(known.max())),
            interval_kind=f"lowest and highest of {len(known)} draws",
            settings=settings,
            detail={"draws": [float(value) for value in known]},
        )
    ]


def finite_maps(context: Context, method: str, pixels: Tensor, config: Config) -> Tensor:
    """Return the method's maps (n, H, W) of pixels (n, C, H, W).

    Raises NotApplicable where a map holds NaN or infinite values.
    """
    maps = context.explain(method, pixels, config).float()
    if not bool(maps.isfinite().all()):
        raise NotApplicable("a map holds NaN or infinite values")
    return maps


def each_method(
    context: Context,
    step: str,
    methods: Iterable[str],
    measure: Callable[[Context, str], Measured],
) -> Measured:
    """Return what ``measure`` finds for all ``methods`` together; those that fail are skipped."""
    measurements: list[Measurement] = []
    arrays: dict[str, NDArray[np.generic]] = {}
    skipped: list[Skipped] = []
    for method in methods:
        try:
            found = measure(context, method)
        except Exception as error:  # one failing method never costs the user the others
            skipped.append(Skipped(step=step, subject=method, reason=failure_reason(error)))
            continue
        measurements.extend(found.measurements)
        arrays.update(found.arrays)
        skipped.extend(found.skipped)
    return Measured(tuple(measurements), arrays, tuple(skipped))


def own_map_work(plan: Plan) -> Mapping[str, Work]:
    """Return the work of ``own_map`` for every method."""
    config = reduced(plan.config)
    return {f"own map, {method}": plan.explain(method, config) for method in plan.methods}


def noisy_map_work(plan: Plan) -> Mapping[str, Work]:
    """Return the work of ``noisy_maps`` for every method, with that of ``own_map``."""
    config, copies = reduced(plan.config), plan.config.sensitivity_draws
    noisy = {
        f"maps of noisy copies, {method}": plan.explain(method, config) * copies
        for method in plan.methods
    }
    return {**own_map_work(plan), **noisy}


def noisy_score_work(plan: Plan) -> Mapping[str, Work]:
    """Return the work of ``noisy_scores``."""
    return {"scores of noisy copies": Work(1 + plan.config.sensitivity_draws)}
