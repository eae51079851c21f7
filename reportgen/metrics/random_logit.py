"""Whether a map changes when another class is explained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import JsonValue
from torch import Tensor

from reportgen.errors import NotApplicable
from reportgen.metrics.base import LOWER, Context, Measured, Metric, Plan
from reportgen.metrics.repeats import (
    count_setting,
    each_method,
    finite_maps,
    own_map_work,
    reduced,
)
from reportgen.metrics.similarity import (
    RESEMBLANCES,
    SPEARMAN,
    SSIM,
    Compared,
    Traits,
    compare,
    own_traits,
    standing,
)
from reportgen.perturbation.streams import stream
from reportgen.records import Card, Measurement, Quantity
from reportgen.work import Work

SPEARMAN_QUANTITY = Quantity(
    key="random_logit_spearman",
    title="Similarity to another class's map",
    meaning="Spearman's rank correlation of the signed maps of the two classes.",
    direction=LOWER,
    range=(-1, 1),
)
SSIM_QUANTITY = Quantity(
    key="random_logit_ssim",
    title="Structural similarity to another class's map",
    meaning="SSIM of the maps of the two classes, each scaled to [0, 1], in windows of 7 x 7 "
    "pixels. High for any two maps that are zero nearly everywhere.",
    direction=LOWER,
    range=(-1, 1),
)
RANDOM_LOGIT = Card(
    key="random-logit",
    title="Random class",
    category="sanity check",
    definition="How similar the method's map of the explained class is to its map of another "
    "class, drawn at random from the others.",
    paper="Sixt et al., When Explanations Lie: Why Many Modified BP Attributions Fail, ICML 2020, "
    "arXiv 1912.09818",
    direction=LOWER,
    range=(-1, 1),
    needs="the method twice, with reduced counts, for the two classes",
    seeding="one seeded draw of the other class; a method that draws at random uses the run's seed "
    "for both maps",
    limits="One other class. Maps of classes that look alike are alike for a good reason. Where "
    "one output speaks for two classes their scores are exact opposites, so that a signed map "
    "turns round and a map of strength alone stays what it is.",
    quantities=(SPEARMAN_QUANTITY, SSIM_QUANTITY),
    controls=RESEMBLANCES,
)
_OTHER = "the map of the other class"
_AGNOSTIC = "the method gives nearly the same map for every class, by design"
_OPPOSITE = "one output speaks for both classes, so that their scores are exact opposites"


def other_class(context: Context) -> int:
    """Return the index of a class drawn at random from those that are not explained.

    Raises NotApplicable for a model of one class, and where a contrast is explained.
    """
    if context.prediction.contrast is not None:
        raise NotApplicable("a contrast of two classes is explained, to which no class is another")
    classes, target = len(context.classifier.labels), context.prediction.target.index
    if classes < 2:
        raise NotApplicable("the model has no other class")
    generator = stream(context.config.seed, "other class")
    drawn = int(torch.randint(classes - 1, (1,), generator=generator))
    return drawn + (drawn >= target)


def other_map(context: Context, method: str) -> Tensor:
    """Return the method's map (H, W) of the other class, made as ``own_map``."""
    target = str(context.once(other_class))
    config = reduced(context.config).model_copy(update={"target": target})
    return finite_maps(context, method, context.pixels[None], config)[0]


def _random_logit(context: Context) -> Measured:
    if not context.maps:
        raise NotApplicable("there is no map to compare with that of another class")
    context.once(other_class)
    return each_method(context, RANDOM_LOGIT.key, context.maps, _similarities)


def _similarities(context: Context, method: str) -> Measured:
    own, other = context.once(own_traits, method), Traits(other_map(context, method)[None])
    found = []
    for quantity, kind in ((SPEARMAN_QUANTITY, SPEARMAN), (SSIM_QUANTITY, SSIM)):
        bare = _measurement(context, quantity, method, compare(kind, own, other, _OTHER))
        place = standing(context, quantity, bare, kind)
        found.append(bare.model_copy(update={"yardstick": place}))
    return Measured(tuple(found))


def _measurement(
    context: Context, quantity: Quantity, method: str, compared: Compared
) -> Measurement:
    index = context.once(other_class)
    settings: dict[str, JsonValue] = {
        "other class": "drawn from all others",
        **count_setting(reduced(context.config), method),
        "seed": context.config.seed,
    }
    return Measurement(
        metric=quantity.key,
        subject=method,
        value=compared.value,
        direction=quantity.direction,
        range=quantity.range,
        settings=settings,
        detail={"other class": index, "other label": context.classifier.labels[index]},
        note="; ".join(filter(None, (compared.why_not, *_by_design(context, method)))),
    )


def _by_design(context: Context, method: str) -> list[str]:
    agnostic = context.cards[method].class_agnostic
    opposite = context.classifier.evaluator.head.kind == "sigmoid"
    return [*[_AGNOSTIC] * agnostic, *[_OPPOSITE] * opposite]


def _work(plan: Plan) -> Mapping[str, Work]:
    config = reduced(plan.config)
    others = {f"other class, {method}": plan.explain(method, config) for method in plan.methods}
    return {**own_map_work(plan), **others}


METRIC = Metric(RANDOM_LOGIT, _random_logit, _work)
