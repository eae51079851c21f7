"""Deletion under several baselines: does what replaces the pixels decide which method wins?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import JsonValue

from reportgen.config import Baseline
from reportgen.metrics.base import HIGHER, LOWER, Context, Measured, Metric, Plan
from reportgen.metrics.curves import Values, deletion_curves, deletion_work
from reportgen.metrics.scores import measurement
from reportgen.metrics.yardstick import NULL, PLACED
from reportgen.records import Card, Measurement, Quantity
from reportgen.work import Work

KINDS: tuple[Baseline, ...] = ("black", "mean", "blur", "noise")
# AUCs of float32 probabilities that are closer than this are taken as equal.
SAME_AREA = 1e-6
MEAN = Quantity(
    key="deletion_over_baselines",
    title="Deletion AUC, mean over four baselines",
    direction=LOWER,
    range=(0, 1),
)
WINS = Quantity(
    key="deletion_first_places",
    title="Baselines under which the method is first",
    meaning="Under how many of the four baselines the method has the lowest deletion AUC of all "
    "methods; shared first places count. A method with four wins whatever the baseline. Of a "
    "smooth random map: under how many it would be first among the methods.",
    direction=HIGHER,
    range=(0, len(KINDS)),
    form="count",
)
CARD = Card(
    key="baselines",
    title="Deletion AUC under four baselines",
    category="faithfulness",
    definition="The deletion AUC with pixels replaced in turn by black, the data set's mean "
    "colour, a blurred copy and uniform noise: the mean of the four, the lowest and the highest, "
    "and the place of each method under each of them.",
    paper="Petsiuk et al., RISE, BMVC 2018, arXiv 1806.07421; Sturmfels et al., Visualizing "
    "the Impact of Feature Attribution Baselines, Distill 2020, doi 10.23915/distill.00022",
    direction=LOWER,
    range=(0, 1),
    needs="predictions",
    seeding="equal values are ordered by one seeded permutation; the noise is seeded",
    limits="Four baselines of many, and none of them is a picture without the object.",
    quantities=(MEAN, WINS),
    controls=PLACED,
)


def places(areas: Mapping[str, float]) -> Mapping[str, int]:
    """Return the place of each method by its deletion AUC, 1 for the lowest; equal ones share."""
    return {
        method: 1 + sum(other < area - SAME_AREA for other in areas.values())
        for method, area in areas.items()
    }


def _measure(context: Context) -> Measured:
    context.require_maps()
    found = {kind: context.once(deletion_curves, kind) for kind in KINDS}
    areas = {
        subject: np.stack([curves.areas(subject) for curves in found.values()], axis=1)
        for subject in found[KINDS[0]].values
    }
    settings = _settings(context)
    rows = [_mean(subject, areas, settings) for subject in areas]
    if len(context.maps) > 1:
        rows.extend(_wins(context, areas, settings))
    return Measured(tuple(rows))


def _mean(
    subject: str, areas: Mapping[str, Values], settings: Mapping[str, JsonValue]
) -> Measurement:
    """Return the mean over the baselines; ``areas`` hold (draws, baselines) of each subject."""
    means = {name: values.mean(axis=1) for name, values in areas.items()}
    each = areas[subject].mean(axis=0)
    row = measurement(MEAN, subject, means, settings, _listed(each))
    return row.model_copy(
        update={
            "interval": (float(each.min()), float(each.max())),
            "interval_kind": f"lowest and highest of {len(KINDS)} baselines",
        }
    )


def _wins(
    context: Context, areas: Mapping[str, Values], settings: Mapping[str, JsonValue]
) -> list[Measurement]:
    methods = {method: areas[method][0] for method in context.maps}
    best = np.min(list(methods.values()), axis=0)
    found = {
        subject: (areas[subject] <= best + SAME_AREA).sum(axis=1).astype(np.float64)
        for subject in (*methods, NULL)
    }
    orders = {
        kind: places({method: float(each[column]) for method, each in methods.items()})
        for column, kind in enumerate(KINDS)
    }
    chosen = {**settings, "methods": len(methods)}
    return [
        measurement(
            WINS,
            method,
            found,
            chosen,
            {f"place under {kind}": order[method] for kind, order in orders.items()},
        )
        for method in methods
    ]


def _listed(each: Values) -> dict[str, JsonValue]:
    return {kind: float(area) for kind, area in zip(KINDS, each, strict=True)}


def _settings(context: Context) -> Mapping[str, JsonValue]:
    return {
        "score": "probability",
        "baselines": list(KINDS),
        "steps": context.config.curve_steps,
        "ties": "one seeded permutation",
        "seed": context.config.seed,
    }


def _work(plan: Plan) -> Mapping[str, Work]:
    kinds = KINDS if plan.methods else ()
    return {name: work for kind in kinds for name, work in deletion_work(plan, kind).items()}


METRIC = Metric(CARD, _measure, _work)
