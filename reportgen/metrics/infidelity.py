"""Infidelity: how well a map, read as contributions, predicts what removals do to the score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from reportgen.metrics.base import LOWER, Context, Measured, Metric, Plan
from reportgen.metrics.curves import Values, by_subject, every_map, filled, subjects
from reportgen.metrics.scores import measurement
from reportgen.metrics.yardstick import PLACED
from reportgen.perturbation.streams import stream
from reportgen.records import Card, Measurement, Quantity
from reportgen.work import Work

SMALLEST = 1 / 16
LARGEST = 1 / 2
RESAMPLES = 1000
# Float32 scores that differ by no more than this share of them differ by rounding.
_ROUNDING = 1e-6
_UNMOVED = "the score is the same whichever square of the picture is removed"
ERROR = Quantity(
    key="infidelity",
    title="Infidelity",
    meaning="Mean squared error, in squared units of the score.",
    direction=LOWER,
    range=(0, None),
)
SHARE = Quantity(
    key="infidelity_share",
    title="Infidelity, as a share of the score's changes",
    meaning="Infidelity over the mean squared change of the score: 0 where the map predicts every "
    "change, 1 where it does no better than a map of zeros.",
    direction=LOWER,
    range=(0, 1),
)
CARD = Card(
    key="infidelity",
    title="Infidelity",
    category="faithfulness",
    definition="Squares of random size and place give way to the baseline. Mean of (b a - d)^2, "
    "where a is the sum of the map over the square, d the fall of the score, and b the factor of "
    "at least 0, one a map, that makes the mean smallest.",
    paper="Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, "
    "arXiv 1901.09392",
    direction=LOWER,
    range=(0, None),
    needs="predictions",
    seeding="the squares are seeded, and the same for all maps",
    limits="Every map is read as contributions that add up over a square, also where it is none: "
    "a saliency map has no sign and a class activation map no negative part. The factor forgives "
    "any scale, but no negative one: a map that points the wrong way is as bad as zeros. "
    "Any map without negative values knows that larger squares change more, a smooth random one as "
    "well: only its distance from those says something. Pixels near the border are removed less "
    "often, because the squares lie wholly inside the picture.",
    quantities=(ERROR, SHARE),
    controls=PLACED,
)


@dataclass(frozen=True)
class Removals:
    """Squares (R, 3) int64 of top, left and side, in pixels, and the fall (R,) of the score."""

    squares: NDArray[np.int64]
    falls: Values


@dataclass(frozen=True)
class Fit:
    """Of each map (M,): the factor, the mean squared error with it, its share, and that without.

    ``share`` is NaN where the score does not change.
    """

    factor: Values
    error: Values
    share: Values
    unscaled: Values


def removals(context: Context) -> Removals:
    """Return the squares and what the model says of their removal, for all maps."""
    config, evaluator = context.config, context.classifier.evaluator
    height, width = context.pixels.shape[-2:]
    squares = random_squares((height, width), config.fidelity_samples, config.seed)
    fill = context.once(filled, config.deletion_baseline)
    places = squares.to(context.pixels.device)

    def build(start: int, stop: int) -> Tensor:
        inside = covered(places[start:stop], (height, width))
        return torch.where(inside[:, None], fill, context.pixels)

    target = context.prediction.target
    scores = evaluator.head.scores(evaluator.stream(len(squares), build))[:, target.index]
    return Removals(squares.numpy(), target.score - scores.double().cpu().numpy())


def random_squares(size: tuple[int, int], count: int, seed: int) -> Tensor:
    """Return squares (count, 3) int64 on the CPU: top, left, side, whole inside the picture.

    Sides are uniform from a sixteenth to half of the short side of ``size`` (height, width), places
    uniform among those possible.
    """
    low, high = _sides(size)
    drawn = torch.rand(count, 3, generator=stream(seed, "infidelity squares"), dtype=torch.float64)
    sides = low + (drawn[:, 2] * (high - low + 1)).long()
    rooms = torch.tensor(size) - sides[:, None] + 1
    return torch.cat([(drawn[:, :2] * rooms).long(), sides[:, None]], dim=1)


def _sides(size: tuple[int, int]) -> tuple[int, int]:
    return max(1, round(SMALLEST * min(size))), max(1, round(LARGEST * min(size)))


def covered(squares: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the pixels (n, H, W) bool of squares (n, 3), on their device: top, left, side."""
    top, left, side = squares.view(-1, 3, 1).unbind(dim=1)
    rows, columns = (torch.arange(length, device=squares.device) for length in size)
    down = (rows >= top) & (rows < top + side)
    across = (columns >= left) & (columns < left + side)
    return down[:, :, None] & across[:, None, :]


def square_sums(maps: Tensor, squares: NDArray[np.int64]) -> Values:
    """Return the sum (R, M) of ``maps`` (M, H, W) over each square, by an integral image."""
    values = maps.cpu().double().numpy()
    integral = np.pad(values.cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))
    top, left, side = squares.T
    below, right = top + side, left + side
    corners = integral[:, below, right] + integral[:, top, left]
    return np.asarray((corners - integral[:, top, right] - integral[:, below, left]).T)


def fit(sums: Values, falls: Values, weights: Values | None = None) -> Fit:
    """Return how well the sums (R, M) predict the falls (R,).

    ``weights`` (R,), or (B, R) for B fits at once, say how much each square counts; equally where
    there are none.
    """
    counted = np.ones(len(falls)) if weights is None else weights
    shares = counted / counted.sum(axis=-1, keepdims=True)
    own, both = shares @ sums**2, shares @ (sums * falls[:, None])
    fall = (shares @ falls**2)[..., None]
    factor = np.divide(both, own, out=np.zeros_like(own), where=(own > 0) & (both > 0))
    error = np.maximum(0, fall - factor * both)
    share = np.divide(error, fall, out=np.full_like(error, np.nan), where=fall > 0)
    return Fit(factor, error, share, own - 2 * both + fall)


def _measure(context: Context) -> Measured:
    context.require_maps()
    sample = context.once(removals)
    sums = square_sums(every_map(context), sample.squares)
    found = fit(sums, sample.falls)
    numbers = {ERROR.key: found.error, SHARE.key: found.share}
    details = [
        {"factor": float(factor), "error without the factor": float(unscaled)}
        for factor, unscaled in zip(found.factor, found.unscaled, strict=True)
    ]
    if _unmoved(context, sample):
        numbers = {key: np.full_like(values, np.nan) for key, values in numbers.items()}
        return Measured(tuple(_rows(context, numbers, None, details)))
    bounds = _bounds(sums, sample.falls, context.config.seed)
    return Measured(tuple(_rows(context, numbers, bounds, details)))


def _unmoved(context: Context, sample: Removals) -> bool:
    limit = _ROUNDING * max(1, abs(context.prediction.target.score))
    return bool(np.sqrt(np.mean(sample.falls**2)) <= limit)


def _bounds(sums: Values, falls: Values, seed: int) -> Mapping[str, Values]:
    """Return the ends (2, M) of intervals, from fits to squares drawn again with replacement."""
    generator = stream(seed, "infidelity resamples")
    drawn = torch.randint(len(falls), (RESAMPLES, len(falls)), generator=generator)
    counts = torch.zeros(RESAMPLES, len(falls), dtype=torch.float64)
    counts.scatter_add_(1, drawn, torch.ones_like(counts))
    fits = fit(sums, falls, counts.numpy())
    return {
        quantity.key: np.nanquantile(values, (0.025, 0.975), axis=0)
        for quantity, values in ((ERROR, fits.error), (SHARE, fits.share))
    }


def _rows(
    context: Context,
    numbers: Mapping[str, Values],
    bounds: Mapping[str, Values] | None,
    details: list[dict[str, float]],
) -> Iterator[Measurement]:
    settings, row = _settings(context), 0
    for subject, maps in context.once(subjects).items():
        for quantity in CARD.quantities:
            found = by_subject(context, numbers[quantity.key])
            alone = len(maps) == 1
            made = measurement(
                quantity, subject, found, settings, dict(details[row]) if alone else {}, _UNMOVED
            )
            ends = bounds[quantity.key][:, row] if bounds and alone else None
            yield made if ends is None else _with_interval(made, ends)
        row += len(maps)


def _with_interval(row: Measurement, ends: Values) -> Measurement:
    kind = f"Monte-Carlo 95%: squares drawn again {RESAMPLES} times, percentiles"
    low, high = (float(end) for end in ends)
    return row.model_copy(update={"interval": (low, high), "interval_kind": kind})


def _settings(context: Context) -> Mapping[str, JsonValue]:
    config = context.config
    height, width = context.pixels.shape[-2:]
    low, high = _sides((height, width))
    return {
        "score": context.classifier.evaluator.head.score,
        "baseline": config.deletion_baseline,
        "squares": config.fidelity_samples,
        "shortest side": low,
        "longest side": high,
        "seed": config.seed,
    }


def _work(plan: Plan) -> Mapping[str, Work]:
    return {"removals of squares": Work(plan.config.fidelity_samples)} if plan.methods else {}


METRIC = Metric(CARD, _measure, _work)
