"""Faithfulness correlation: do the parts a map calls important change the prediction most?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from reportgen.metrics.base import HIGHER, Context, Measured, Metric, Plan
from reportgen.metrics.curves import Values, by_subject, every_map, filled, target_probabilities
from reportgen.metrics.scores import measurement
from reportgen.metrics.yardstick import PLACED
from reportgen.perturbation.removal import masked
from reportgen.perturbation.streams import stream
from reportgen.records import Card, Measurement, Quantity
from reportgen.work import Work

Parts = Literal["patches", "segments"]
GRID = 16
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
# Float32 probabilities that differ by no more than this differ by rounding.
_ROUNDING = 1e-7
_DIGITS = 1e-12
_DEVIATIONS = 1.959964


def _quantity(parts: Parts, meaning: str) -> Quantity:
    return Quantity(
        key=f"faithfulness_correlation_{parts}",
        title=f"Faithfulness correlation, {parts}",
        meaning=meaning,
        direction=HIGHER,
        range=(-1, 1),
    )


QUANTITIES: Mapping[Parts, Quantity] = {
    "patches": _quantity("patches", f"The parts are the cells of a {GRID} x {GRID} grid."),
    "segments": _quantity("segments", "The parts are the picture's segments, as LIME has them."),
}
CARD = Card(
    key="correlation",
    title="Faithfulness correlation",
    category="faithfulness",
    definition="Parts of the picture, chosen at random, give way to the baseline. Pearson "
    "correlation, over the choices, of the sum of the map over the pixels removed and the fall of "
    "the class probability. Choices are of 10, 20, 30, 40 and 50% of the parts, and compared only "
    "with choices of as many parts, so that no map profits from more being removed.",
    paper="Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations, IJCAI 2020, "
    "arXiv 2005.00631",
    direction=HIGHER,
    range=(-1, 1),
    needs="predictions",
    seeding="the choices are seeded, and the same for all maps",
    limits="Correlation sees how parts compare, not how large their shares are. Where the "
    "probability hardly falls, or falls to nothing under every choice, there is little to "
    "correlate. Segments differ in size: removing large ones changes more, and a map without "
    "negative values adds up to more over them, a smooth random one as well.",
    quantities=tuple(QUANTITIES.values()),
    controls=PLACED,
)


@dataclass(frozen=True)
class Samples:
    """Choices of parts, and by how much the probability falls when these are removed.

    ``labels`` (H, W) int64 are the parts, ``removed`` (R, P) bool the parts removed in each choice,
    ``sizes`` (R,) how many these are, and ``falls`` (R,) the probability less that after removal.
    """

    labels: Tensor
    removed: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    falls: Values


def subset_samples(context: Context, parts: Parts) -> Samples:
    """Return the choices of parts and what the model says of them, for all maps."""
    labels = patches(context.pixels) if parts == "patches" else context.segments
    removed = choices(
        int(labels.max()) + 1,
        context.config.fidelity_samples,
        stream(context.config.seed, "faithfulness choices", parts),
    )
    fill = context.once(filled, context.config.deletion_baseline)
    keep = ~removed.to(labels.device)
    left = target_probabilities(
        context,
        len(keep),
        lambda start, stop: masked(context.pixels, fill, labels, keep[start:stop]),
    )
    falls = context.prediction.target.probability - left
    return Samples(labels, removed.numpy(), removed.sum(dim=1).numpy(), falls)


def patches(pixels: Tensor) -> Tensor:
    """Return the cell (H, W) int64 of each pixel of (C, H, W) in a grid of at most 16 x 16."""
    height, width = pixels.shape[-2:]
    rows, columns = min(GRID, height), min(GRID, width)
    down = torch.arange(height, device=pixels.device) * rows // height
    across = torch.arange(width, device=pixels.device) * columns // width
    return down[:, None] * columns + across


def choices(parts: int, count: int, generator: torch.Generator) -> Tensor:
    """Return random choices (count, parts) bool of 10, 20, ..., 50% of the parts, by turns.

    At least one part is chosen.
    """
    sizes = torch.tensor([max(1, round(share * parts)) for share in SHARES])
    places = torch.rand(count, parts, generator=generator).argsort(dim=1).argsort(dim=1)
    return places < sizes[torch.arange(count) % len(SHARES), None]


def part_sums(maps: Tensor, labels: Tensor) -> Values:
    """Return the sum of each of ``maps`` (M, H, W) over each part of ``labels`` (H, W): (M, P).

    Summed on the CPU in float64, where the order of the sums is always the same.
    """
    values, index = maps.cpu().double().flatten(1), labels.cpu().flatten()
    sums = values.new_zeros(len(values), int(index.max()) + 1).index_add_(1, index, values)
    return np.asarray(sums.numpy())


def correlations(sums: Values, falls: Values, sizes: NDArray[np.int64]) -> Values:
    """Return the correlation (M,) of ``sums`` (R, M) with ``falls`` (R,), within equal ``sizes``.

    NaN where either is the same in all choices of one size.
    """
    own, fall = _centred(sums, sizes), _centred(falls[:, None], sizes)[:, 0]
    moved = np.sqrt(np.mean(fall**2))
    spread = np.sqrt(np.mean(own**2, axis=0))
    told = spread > _DIGITS * np.sqrt(np.mean(sums**2, axis=0))
    if moved <= _ROUNDING:
        return np.full(sums.shape[1], np.nan)
    found = np.full(sums.shape[1], np.nan)
    found[told] = (own.T @ fall)[told] / (len(falls) * spread[told] * moved)
    return found.clip(-1, 1)


def _centred(values: Values, sizes: NDArray[np.int64]) -> Values:
    """Return values (R, M) less their mean over the choices of the same size."""
    groups = np.unique(sizes, return_inverse=True)[1]
    counts = np.bincount(groups)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, groups, values)
    return np.asarray(values - (sums / counts[:, None])[groups])


def fisher_interval(correlation: float, samples: int) -> tuple[float, float]:
    """Return the 95% interval of a correlation over ``samples``, by Fisher's transformation."""
    inner = min(max(correlation, -1 + 1e-15), 1 - 1e-15)
    centre, half = math.atanh(inner), _DEVIATIONS / math.sqrt(samples - 3)
    return math.tanh(centre - half), math.tanh(centre + half)


def _measure(context: Context) -> Measured:
    context.require_maps()
    rows: list[Measurement] = []
    for parts in QUANTITIES:
        rows.extend(_rows(context, parts))
    return Measured(tuple(rows))


def _rows(context: Context, parts: Parts) -> list[Measurement]:
    samples = context.once(subset_samples, parts)
    sums = samples.removed.astype(np.float64) @ part_sums(every_map(context), samples.labels).T
    found = by_subject(context, correlations(sums, samples.falls, samples.sizes))
    settings = _settings(context, samples)
    note = _why(samples)
    rows = [measurement(QUANTITIES[parts], s, found, settings, note=note) for s in found]
    told = [_with_parts(row, samples) for row in rows]
    return [_with_interval(row, samples) if len(found[row.subject]) == 1 else row for row in told]


def _with_parts(row: Measurement, samples: Samples) -> Measurement:
    # Beside the settings: how many segments a picture has is no reason not to compare it.
    sizes: list[JsonValue] = [int(size) for size in np.unique(samples.sizes)]
    parts = {"parts": samples.removed.shape[1], "parts removed": sizes}
    return row.model_copy(update={"detail": {**row.detail, **parts}})


def _with_interval(row: Measurement, samples: Samples) -> Measurement:
    # Each mean that is subtracted costs one degree of freedom, as the one of all choices does.
    free = len(samples.falls) - len(np.unique(samples.sizes)) + 1
    if row.value is None or free <= 3:
        return row
    return row.model_copy(
        update={
            "interval": fisher_interval(row.value, free),
            "interval_kind": f"Monte-Carlo 95% over {len(samples.falls)} choices, Fisher's z",
        }
    )


def _why(samples: Samples) -> str:
    moved = _centred(samples.falls[:, None], samples.sizes)
    if np.sqrt(np.mean(moved**2)) <= _ROUNDING:
        return "the probability is the same after every choice of as many parts"
    return "the sum of the map is the same over every choice of as many parts"


def _settings(context: Context, samples: Samples) -> Mapping[str, JsonValue]:
    return {
        "score": "probability",
        "baseline": context.config.deletion_baseline,
        "parts removed": "10 to 50% of them",
        "choices": len(samples.falls),
        "seed": context.config.seed,
    }


def _work(plan: Plan) -> Mapping[str, Work]:
    kinds = QUANTITIES if plan.methods else ()
    return {f"choices of {parts}": Work(plan.config.fidelity_samples) for parts in kinds}


METRIC = Metric(CARD, _measure, _work)
