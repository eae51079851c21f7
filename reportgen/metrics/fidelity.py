"""Deletion and insertion AUC of every map, placed among those of smooth random maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from pydantic import JsonValue

from reportgen.config import Baseline
from reportgen.facts import LITTLE_CHANGE
from reportgen.metrics.base import HIGHER, LOWER, Context, Measured, Metric, Plan
from reportgen.metrics.curves import (
    Curves,
    Values,
    curve_settings,
    deletion_curves,
    deletion_work,
    insertion_curves,
    insertion_work,
)
from reportgen.metrics.yardstick import NULL, PLACED, placed
from reportgen.records import Card, Direction, Measurement, Quantity, Yardstick
from reportgen.work import Work


def _quantities(key: str, title: str, direction: Direction) -> tuple[Quantity, Quantity]:
    return (
        Quantity(key=key, title=title, direction=direction, range=(0, 1)),
        Quantity(
            key=f"{key}_normalised",
            title=f"{title}, normalised",
            meaning="(AUC - p_N) / (p_0 - p_N), where p_0 is the probability on the whole picture "
            "and p_N that on the baseline: the area between the ends of the curve. Not given where "
            f"they differ by {LITTLE_CHANGE} or less.",
            direction=direction,
        ),
    )


DELETION = Card(
    key="deletion",
    title="Deletion AUC",
    category="faithfulness",
    definition="Area under the class probability while pixels are replaced by the baseline, the "
    "most relevant first; trapezoid over the share of pixels replaced.",
    paper="Petsiuk et al., RISE, BMVC 2018, arXiv 1806.07421",
    direction=LOWER,
    range=(0, 1),
    needs="predictions",
    seeding="equal values are ordered by one seeded permutation",
    limits="Pictures with replaced pixels are unlike any the model was trained on. The same area "
    "for control maps says how much of the value is the map's.",
    quantities=_quantities("deletion", "Deletion AUC", LOWER),
    controls=PLACED,
)
INSERTION = Card(
    key="insertion",
    title="Insertion AUC",
    category="faithfulness",
    definition="Area under the class probability while pixels of the picture are put back onto "
    "the baseline, the most relevant first; trapezoid over the share of pixels put back.",
    paper="Petsiuk et al., RISE, BMVC 2018, arXiv 1806.07421",
    direction=HIGHER,
    range=(0, 1),
    needs="predictions",
    seeding="equal values are ordered by one seeded permutation",
    limits="A blurred baseline still shows some of the picture, so the curve need not start near "
    "zero; coarse maps do well.",
    quantities=_quantities("insertion", "Insertion AUC", HIGHER),
    controls=PLACED,
)


def _deletion(context: Context) -> Measured:
    return _measured(context, DELETION, deletion_curves, context.config.deletion_baseline)


def _insertion(context: Context) -> Measured:
    return _measured(context, INSERTION, insertion_curves, context.config.insertion_baseline)


def _measured(
    context: Context, card: Card, run: Callable[[Context, Baseline], Curves], kind: Baseline
) -> Measured:
    context.require_maps()
    curves = context.once(run, kind)
    settings = curve_settings(context, kind)
    measurements = [
        measurement
        for subject in curves.values
        for measurement in (
            _area(card, curves, subject, settings),
            *_normalised(card, curves, subject, settings),
        )
    ]
    arrays = {
        f"curve.{card.key}.{subject}": np.vstack([curves.fractions, values]).astype(np.float32)
        for subject, values in curves.values.items()
    }
    return Measured(tuple(measurements), arrays)


def normalised_area(auc: float, whole: float, baseline: float) -> float | None:
    """Return (AUC - p_N) / (p_0 - p_N), or None where the ends differ by 0.05 or less.

    ``whole`` and ``baseline`` are p_0 and p_N, the probabilities on the whole picture and on the
    baseline; what is left is the map's own share, comparable between pictures.
    """
    change = whole - baseline
    return (auc - baseline) / change if abs(change) > LITTLE_CHANGE else None


def _area(card: Card, curves: Curves, subject: str, settings: dict[str, JsonValue]) -> Measurement:
    quantity, areas = card.quantities[0], curves.areas(subject)
    draws, value = len(areas), float(areas.mean())
    first, last = curves.ends
    return Measurement(
        metric=quantity.key,
        subject=subject,
        value=value,
        direction=quantity.direction,
        range=quantity.range,
        interval=(float(areas.min()), float(areas.max())) if draws > 1 else None,
        interval_kind=f"lowest and highest of {draws} draws" if draws > 1 else "",
        settings=settings,
        detail={
            "draws": [float(area) for area in areas],
            "first probability": first,
            "last probability": last,
        },
        array=f"curve.{card.key}.{subject}",
        yardstick=_yardstick(quantity, value, subject, curves.areas(NULL)),
    )


def _normalised(
    card: Card, curves: Curves, subject: str, settings: dict[str, JsonValue]
) -> list[Measurement]:
    """Return the normalised area of a method; controls have none of their own."""
    if len(curves.values[subject]) > 1 or subject == NULL:
        return []
    quantity, (first, last) = card.quantities[1], curves.ends
    whole, baseline = (first, last) if card is DELETION else (last, first)
    value, *nulls = (
        normalised_area(float(area), whole, baseline)
        for area in (*curves.areas(subject), *curves.areas(NULL))
    )
    known = np.asarray([area for area in nulls if area is not None])
    # The baseline's probability may be the higher one; then every normalised area is turned round.
    reliable = whole > baseline
    return [
        Measurement(
            metric=quantity.key,
            subject=subject,
            value=value if reliable else None,
            direction=quantity.direction,
            range=quantity.range,
            settings=settings,
            note=_why(whole, baseline),
            yardstick=_yardstick(quantity, value if reliable else None, subject, known),
        )
    ]


def _why(whole: float, baseline: float) -> str:
    if whole - baseline > LITTLE_CHANGE:
        return ""
    if abs(whole - baseline) <= LITTLE_CHANGE:
        return f"the probabilities of picture and baseline differ by {LITTLE_CHANGE} or less"
    return "the probability is higher on the baseline than on the picture"


def _yardstick(
    quantity: Quantity, value: float | None, subject: str, nulls: Values
) -> Yardstick | None:
    return None if subject == NULL else placed(quantity, value, nulls)


def _deletion_work(plan: Plan) -> Mapping[str, Work]:
    return deletion_work(plan, plan.config.deletion_baseline) if plan.methods else {}


def _insertion_work(plan: Plan) -> Mapping[str, Work]:
    return insertion_work(plan, plan.config.insertion_baseline) if plan.methods else {}


DELETION_METRIC = Metric(DELETION, _deletion, _deletion_work)
INSERTION_METRIC = Metric(INSERTION, _insertion, _insertion_work)
