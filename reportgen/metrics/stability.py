"""How far a map moves for each step of the picture, or of the scores: Lipschitz, RIS and ROS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from reportgen.errors import NotApplicable
from reportgen.metrics.base import LOWER, Context, Measured, Metric, Plan
from reportgen.metrics.decision import decisions
from reportgen.metrics.repeats import (
    INDEPENDENT,
    count_setting,
    each_method,
    noisy_controls,
    noisy_map_work,
    noisy_maps,
    noisy_outputs,
    noisy_pictures,
    noisy_score_work,
    noisy_scores,
    null_groups,
    null_rows,
    reduced,
)
from reportgen.metrics.yardstick import NULL, placed
from reportgen.records import Card, Measurement, Quantity
from reportgen.work import Work

Values = NDArray[np.float64]

FLOOR = 1e-2
# Scores of several hundreds of terms in float32 differ by this much from rounding alone.
RESOLUTION = 1e-6

LIPSCHITZ = Quantity(
    key="local_lipschitz",
    title="Local Lipschitz estimate",
    meaning="The largest, over the copies, of the map's change divided by the picture's change "
    "(Euclidean norms; pixels in [0, 1]). In the map's own units: compare it with the control "
    "maps, which are scaled to the map's norm, and not between methods.",
    direction=LOWER,
    range=(0, None),
)
INPUT = Quantity(
    key="relative_input_stability",
    title="Relative input stability (RIS)",
    meaning="The largest, over the copies with the same top class, of the norm of the map's "
    "relative change, pixel by pixel, divided by the norm of the picture's.",
    direction=LOWER,
    range=(0, None),
)
OUTPUT = Quantity(
    key="relative_output_stability",
    title="Relative output stability (ROS)",
    meaning="The largest, over the copies with the same top class, of the norm of the map's "
    "relative change, pixel by pixel, divided by the norm of the change of the class scores.",
    direction=LOWER,
    range=(0, None),
)
STABILITY = Card(
    key="relative-stability",
    title="Relative stability",
    category="robustness of the map",
    definition="The change of the map for each unit of change in the picture, or in the class "
    "scores: the largest over copies of the picture with uniform noise of at most the radius in "
    "each channel value. A relative change divides by the absolute value, and by 1% of the "
    "largest one where it is smaller. Copies with another top class (with several labels a "
    "picture: on which the explained label crosses the threshold) count for the first only.",
    paper="Alvarez-Melis and Jaakkola, On the Robustness of Interpretability Methods, 2018, "
    "arXiv 1806.08049; Agarwal et al., Rethinking Stability for Attribution-based Explanations, "
    "2022, arXiv 2203.06877",
    direction=LOWER,
    range=(0, None),
    needs="the method, once for the picture and once a copy; predictions of the copies",
    seeding="the copies of max-sensitivity; methods that draw at random draw the same on all",
    limits="The largest of few copies, so a lower bound that grows with their number. A map that "
    "ignores the picture scores perfectly. Where a map is nearly zero its relative change rests "
    "on the floor of 1%, which is a choice. A copy on which the scores do not move, within "
    "the rounding of float32, says nothing about output stability and is left out. Methods with a "
    "count are measured with the reduced count shown.",
    quantities=(LIPSCHITZ, INPUT, OUTPUT),
    controls=INDEPENDENT
    + "; for the Lipschitz estimate these maps are scaled to the norm of the method's map. "
    "Beside it, the edges of the picture and of each copy, and the centre",
)
_ALL_FLIPPED = "the top class of every noisy copy is another"
_ALL_CROSSED = "every noisy copy brings the label to the other side of the threshold"
_NOTHING: Mapping[str, str] = {
    LIPSCHITZ.key: "no noisy copy differs from the picture",
    INPUT.key: "no noisy copy of the same top class differs from the picture",
    OUTPUT.key: "the class scores are the same on every noisy copy of the same top class",
}


@dataclass(frozen=True)
class Moves:
    """How far each of n copies is from the picture; NaN where a copy says nothing.

    ``distance``, ``relative`` and ``scores`` (n,) are the denominators of the three quantities,
    ``flipped`` (n,) whether the prediction is another.
    """

    distance: Values
    relative: Values
    scores: Values
    flipped: NDArray[np.bool_]

    def by_quantity(self) -> Mapping[str, Values]:
        """Return the denominators by the key of the quantity."""
        return {
            LIPSCHITZ.key: self.distance,
            INPUT.key: np.where(self.flipped, np.nan, self.relative),
            OUTPUT.key: np.where(self.flipped, np.nan, self.scores),
        }


def moves(context: Context) -> Moves:
    """Return how far picture and scores move from the picture to each of its noisy copies."""
    pictures, scores = context.once(noisy_pictures), context.once(noisy_scores).double()
    head = context.classifier.evaluator.head
    decided = decisions(context, head.probabilities(context.once(noisy_outputs)))
    steps = distances(scores)
    still = RESOLUTION * float(scores[0].norm())
    return Moves(
        distance=_positive(distances(pictures)),
        relative=_positive(relative_distances(pictures)),
        scores=np.where(steps > still, steps, np.nan),
        flipped=(decided[1:] != decided[0]).cpu().numpy(),
    )


def distances(points: Tensor) -> Values:
    """Return how far points 1.. of (n, ...) are from point 0, by the Euclidean norm, (n - 1,)."""
    differences = (points[1:].double() - points[0].double()).flatten(1)
    return np.asarray(differences.norm(dim=1).cpu())


def relative_distances(points: Tensor) -> Values:
    """Return the Euclidean norm of the relative differences of points 1.. of (n, ...) from point 0.

    Each element is divided by its absolute value in point 0, which is floored at 1% of the largest
    one: where it is near 0 the quotient would be arbitrarily large. NaN where point 0 is zero.
    """
    own = points[0].double()
    floor = FLOOR * float(own.abs().max())
    if floor == 0:
        return np.full(len(points) - 1, np.nan)
    scale = own.abs().clamp_min(floor)
    return distances(points.double() / scale)


def ratios(maps: Tensor, denominators: Mapping[str, Values]) -> Mapping[str, Values]:
    """Return each quantity for each copy (n,), by key, from maps (1 + n, H, W); NaN if undefined.

    ``maps`` are of the picture and its copies; ``denominators`` are those of ``Moves``.
    """
    relative = relative_distances(maps)
    changes = {LIPSCHITZ.key: distances(maps), INPUT.key: relative, OUTPUT.key: relative}
    return {key: change / denominators[key] for key, change in changes.items()}


def null_ratios(context: Context) -> Mapping[str, Values]:
    """Return the largest ratio of each null map (n,), by key; its map scaled to a norm of 1."""
    denominators = context.once(moves).by_quantity()
    found = [
        ratios(group.double() / group[0].double().norm(), denominators)
        for group in null_groups(context)
    ]
    return {key: np.array([_largest(one[key]) for one in found]) for key in denominators}


def _stability(context: Context) -> Measured:
    if not context.maps:
        raise NotApplicable("there is no map whose stability could be measured")
    methods = each_method(context, STABILITY.key, context.maps, _of_method)
    controls = [
        measurement
        for subject, maps in context.once(noisy_controls).items()
        for measurement in _all(context, subject, maps)
    ]
    for quantity in (INPUT, OUTPUT):
        settings = _settings(context, quantity, NULL)
        controls += null_rows(quantity, context.once(null_ratios)[quantity.key], settings)
    return Measured((*methods.measurements, *controls), skipped=methods.skipped)


def _of_method(context: Context, method: str) -> Measured:
    return Measured(tuple(_all(context, method, context.once(noisy_maps, method))))


def _all(context: Context, subject: str, maps: Tensor) -> Iterator[Measurement]:
    norm = float(maps[0].double().norm())
    found = ratios(maps, context.once(moves).by_quantity())
    for quantity in STABILITY.quantities:
        nulls = context.once(null_ratios)[quantity.key]
        scaled = nulls * norm if quantity is LIPSCHITZ else nulls
        # Of a zero map every copy's distance is known, but there is no map to be stable.
        copies = found[quantity.key] if norm else np.full(len(maps) - 1, np.nan)
        note = _why(context, quantity) if norm else "the map is zero everywhere"
        yield _measurement(context, quantity, subject, copies, note).model_copy(
            update={"yardstick": placed(quantity, _number(copies), scaled)}
        )


def _measurement(
    context: Context, quantity: Quantity, subject: str, copies: Values, note: str
) -> Measurement:
    value = _number(copies)
    return Measurement(
        metric=quantity.key,
        subject=subject,
        value=value,
        direction=quantity.direction,
        range=quantity.range,
        settings=_settings(context, quantity, subject),
        detail=_detail(context, quantity, copies),
        note=note if value is None else "",
    )


def _why(context: Context, quantity: Quantity) -> str:
    """Return why no copy gives a number."""
    if quantity is not LIPSCHITZ and context.once(moves).flipped.all():
        one_wins = context.prediction.threshold is None
        return _ALL_FLIPPED if one_wins else _ALL_CROSSED
    return _NOTHING[quantity.key]


def _detail(context: Context, quantity: Quantity, copies: Values) -> dict[str, JsonValue]:
    numbers: list[JsonValue] = [None if np.isnan(copy) else float(copy) for copy in copies]
    if quantity is LIPSCHITZ:
        return {"copies": numbers}
    share = float(context.once(moves).flipped.mean())
    return {"copies": numbers, "share of copies with another top class": share}


def _settings(context: Context, quantity: Quantity, subject: str) -> dict[str, JsonValue]:
    config = context.config
    floor: dict[str, JsonValue] = {} if quantity is LIPSCHITZ else {"floor": FLOOR}
    head = context.classifier.evaluator.head
    score: dict[str, JsonValue] = {"score": head.score} if quantity is OUTPUT else {}
    return {
        "radius": config.sensitivity_radius,
        "draws": config.sensitivity_draws,
        "norm": "Euclidean",
        "seed": config.seed,
        **floor,
        **score,
        **count_setting(reduced(config), subject),
    }


def _positive(values: Values) -> Values:
    return np.where(values > 0, values, np.nan)


def _largest(copies: Values) -> float:
    """Return the largest of the numbers (n,) that are known; NaN where none is."""
    known = copies[~np.isnan(copies)]
    return float(known.max()) if len(known) else float("nan")


def _number(copies: Values) -> float | None:
    largest = _largest(copies)
    return None if np.isnan(largest) else largest


def _work(plan: Plan) -> Mapping[str, Work]:
    return {**noisy_map_work(plan), **noisy_score_work(plan)} if plan.methods else {}


METRIC = Metric(STABILITY, _stability, _work)
