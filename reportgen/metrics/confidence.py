"""Average Drop, Increase in Confidence and Average Gain: the picture seen through the map."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import JsonValue
from torch import Tensor

from reportgen.metrics.base import HIGHER, LOWER, Context, Measured, Metric, Plan
from reportgen.metrics.curves import (
    Values,
    by_subject,
    every_map,
    map_count,
    target_probabilities,
)
from reportgen.metrics.scores import measurement
from reportgen.metrics.yardstick import PLACED
from reportgen.records import Card, Measurement, Quantity
from reportgen.work import Work

# Probabilities are float32, and those of one picture in two batches differ in their last digits.
ROUNDING = 1e-6
CARD = Card(
    key="confidence",
    title="Confidence in the highlighted picture",
    category="faithfulness",
    definition="Y is the class probability on the picture, O that on the picture times the map, "
    "whose positive part is first stretched to [0, 1]: what the map leaves out fades to black. "
    "The drop is max(0, Y - O) / Y, the increase 1 where O > Y, else 0, and the gain "
    "max(0, O - Y) / (1 - Y).",
    paper="Chattopadhay et al., Grad-CAM++, WACV 2018, arXiv 1710.11063; gain: Zhang et al., "
    "Opti-CAM, 2023, arXiv 2301.07002",
    direction=LOWER,
    range=(0, 1),
    needs="predictions",
    seeding="deterministic; the control maps are seeded",
    limits="A map that shows the whole picture has no drop, so these numbers are read beside the "
    "share of the picture that was shown, and beside complexity. The papers average over many "
    "pictures; this is one. Dimmed pictures are unlike any the model was trained on.",
    quantities=(
        Quantity(
            key="average_drop",
            title="Drop in confidence",
            direction=LOWER,
            range=(0, 1),
            form="percent",
        ),
        Quantity(
            key="increase_in_confidence",
            title="Increase in confidence",
            meaning="1 where the probability is higher on the highlighted picture by more than "
            f"{ROUNDING:g}, else 0.",
            direction=HIGHER,
            range=(0, 1),
            form="count",
        ),
        Quantity(
            key="average_gain",
            title="Gain in confidence",
            direction=HIGHER,
            range=(0, 1),
            form="percent",
        ),
    ),
    controls=PLACED,
)
_NOTES = {
    "average_drop": "the class has the probability 0 on the picture, which cannot drop",
    "average_gain": "the class has the probability 1 on the picture, which cannot grow",
}
_FLAT = "the positive part of the map is the same everywhere, so that it highlights nothing"


def highlighted(maps: Tensor) -> Tensor:
    """Return the positive part of each of ``maps`` (M, H, W), stretched to [0, 1].

    All 0 where it is the same everywhere.
    """
    positive = maps.clamp_min(0)
    low = positive.amin((-2, -1), keepdim=True)
    spread = positive.amax((-2, -1), keepdim=True) - low
    return positive.sub_(low).div_(spread.where(spread > 0, spread.new_ones(()))).clamp_(0, 1)


def changes(whole: float, shown: Values) -> Mapping[str, Values]:
    """Return drop, increase and gain of the probabilities ``shown`` (n,) against ``whole``.

    NaN where the drop or the gain would be a share of nothing.
    """
    unknown = np.full_like(shown, np.nan)
    drop = np.maximum(0, whole - shown) / whole if whole > 0 else unknown
    gain = np.maximum(0, shown - whole) / (1 - whole) if whole < 1 else unknown
    increase = (shown > whole + ROUNDING).astype(np.float64)
    return {
        "average_drop": drop,
        "increase_in_confidence": increase,
        "average_gain": np.minimum(gain, 1),
    }


def _measure(context: Context) -> Measured:
    context.require_maps()
    masks = highlighted(every_map(context))
    shown = target_probabilities(
        context, len(masks), lambda start, stop: context.pixels * masks[start:stop, None]
    )
    shares = masks.double().mean((-2, -1)).cpu().numpy()
    whole = context.prediction.target.probability
    flat = shares == 0
    found = {
        key: by_subject(context, np.where(flat, np.nan, values))
        for key, values in changes(whole, shown).items()
    }
    details = _details(whole, by_subject(context, shown), by_subject(context, shares))
    return Measured(
        tuple(
            _row(quantity, subject, found[quantity.key], details[subject])
            for subject in details
            for quantity in CARD.quantities
        )
    )


def _row(
    quantity: Quantity,
    subject: str,
    found: Mapping[str, Values],
    detail: Mapping[str, JsonValue],
) -> Measurement:
    note = _FLAT if detail["share of the picture shown"] == 0 else _NOTES.get(quantity.key, _FLAT)
    settings = {
        "score": "probability",
        "map": "positive part, stretched to 0 to 1",
        "fill": "black",
    }
    return measurement(quantity, subject, found, settings, detail, note)


def _details(
    whole: float, shown: Mapping[str, Values], shares: Mapping[str, Values]
) -> Mapping[str, Mapping[str, JsonValue]]:
    return {
        subject: {
            "probability on the picture": whole,
            "probability on the highlighted picture": float(values.mean()),
            "share of the picture shown": float(shares[subject].mean()),
        }
        for subject, values in shown.items()
    }


def _work(plan: Plan) -> Mapping[str, Work]:
    return {"highlighted pictures": Work(map_count(plan))} if plan.methods else {}


METRIC = Metric(CARD, _measure, _work)
