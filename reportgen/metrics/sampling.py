"""How much a map that rests on random draws changes with the seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from reportgen.errors import NotApplicable
from reportgen.facts import STABLE
from reportgen.metrics.agreement import constant, iou
from reportgen.metrics.base import HIGHER, Context, Measured, Metric, Plan
from reportgen.metrics.likeness import ranked, spearman
from reportgen.metrics.repeats import SAMPLED, each_method, finite_maps, rounds
from reportgen.metrics.yardstick import null_maps, placed
from reportgen.perturbation.removal import removal_ranks
from reportgen.perturbation.streams import stream
from reportgen.records import Card, Measurement, Quantity
from reportgen.work import Work

Values = NDArray[np.float64]

SEARCH_SEEDS = 3
SEARCH_FACTORS = (2, 4, 8)

SPEARMAN = Quantity(
    key="seed_spearman",
    title="Rank correlation between seeds",
    meaning="Spearman's correlation of the maps of two seeds, the mean over all pairs: of the "
    "means of the segments where the method works on segments, else of all pixels.",
    direction=HIGHER,
    range=(-1, 1),
)
JACCARDS: Mapping[int, Quantity] = {
    top: Quantity(
        key=f"seed_jaccard_{top}",
        title=f"Top {top} segments shared between seeds",
        meaning=f"The {top} segments with the highest mean under each of two seeds: those in both "
        "as a share of those in either (Jaccard index), the mean over all pairs of seeds. "
        "Methods that work on pixels are ranked by the same segments.",
        direction=HIGHER,
        range=(0, 1),
    )
    for top in (5, 10)
}
VERDICT_TOP = 5
SAMPLING = Card(
    key="sampling-stability",
    title="Stability under the seed",
    category="robustness of the map",
    definition="A method that draws at random is repeated with different seeds on the same "
    "picture, with the same segments and the count of the map shown, which is the first of them. "
    f"It is stable where the Jaccard index of the top {VERDICT_TOP} segments is {STABLE} or more. "
    f"Where it is not, the count is doubled up to {SEARCH_FACTORS[-1]} times itself, with "
    f"{SEARCH_SEEDS} seeds at each step, until it is.",
    paper="own definition, after Visani et al., Statistical Stability Indices for LIME, 2020, "
    "arXiv 2001.11757",
    direction=HIGHER,
    range=(-1, 1),
    needs="the method, once a seed and more where it is unstable",
    seeding="the run's seed first, then seeds drawn from it; equal means are ordered by one "
    "seeded permutation, in the correlation they share their mean rank",
    limits="Says whether the count is large enough, not whether the map is right: the same error "
    "under every seed is stable. A fill of noise is drawn anew as well. Segments of "
    "equal mean are ordered alike under all seeds, so that empty ones may agree. The top segments "
    "may be stable where the ranks below them are not. Few seeds settle the count only roughly.",
    quantities=(SPEARMAN, *JACCARDS.values()),
    controls="the same number for an explainer that draws a new smooth random map under each seed: "
    "one value for each of the smooth random maps, the next ones standing for the other seeds (at "
    "most half of them)",
)


@dataclass(frozen=True)
class Likeness:
    """How alike the maps of R seeds are, two by two: matrices (R, R) by the key of the quantity.

    A quantity that no two of them can have is missing.
    """

    matrices: Mapping[str, Values]

    def values(self, quantity: Quantity, among: Sequence[int]) -> Values | None:
        """Return the number of each pair of seeds ``among`` these; None where there is none."""
        matrix = self.matrices.get(quantity.key)
        return None if matrix is None else pairs(matrix[np.ix_(among, among)])


def likeness(maps: Tensor, segments: Tensor, on_segments: bool, seed: int) -> Likeness:
    """Return how alike maps (R, H, W) are; ``seed`` orders segments (H, W) of equal means.

    Where ``on_segments``, the means of the segments are correlated, else the pixels.
    """
    means = segment_means(maps, segments)[:, None]
    if constant(maps).any() or constant(means).any():
        return Likeness({})
    ranks = removal_ranks(means, seed)
    overlaps = {
        quantity.key: np.asarray(iou(ranks < top).cpu())
        for top, quantity in JACCARDS.items()
        if top < means.shape[-1]
    }
    places = ranked(means if on_segments else maps)
    return Likeness({SPEARMAN.key: spearman(places, places), **overlaps})


def pairs(matrix: Values) -> Values:
    """Return the entries of a symmetric matrix (R, R) above its diagonal, (R (R - 1) / 2,)."""
    return np.asarray(matrix[np.triu_indices(len(matrix), k=1)])


def segment_means(maps: Tensor, segments: Tensor) -> Tensor:
    """Return the mean (M, S) float32 of each map (M, H, W) over each segment of (H, W) int.

    Summed on the CPU in float64, so that the order of the sums is always the same; rounded to
    float32, so that equal values of different segments have equal means.
    """
    labels = segments.cpu().long().flatten()
    values = maps.cpu().double().flatten(1)
    sizes = labels.bincount()
    sums = values.new_zeros(len(values), len(sizes)).index_add_(1, labels, values)
    return (sums / sizes.clamp_min(1)).float()


def expected_jaccard(top: int, segments: int) -> float:
    """Return the Jaccard index expected of two random choices of ``top`` out of ``segments``."""
    # Imported late: scipy.stats is slow to import, and many reports need none of it.
    from scipy.stats import hypergeom

    shared = np.arange(max(0, 2 * top - segments), top + 1)
    chances = hypergeom.pmf(shared, segments, top, top)
    return float((chances * shared / (2 * top - shared)).sum())


def seeds(seed: int, count: int) -> list[int]:
    """Return ``count`` seeds: ``seed`` itself, and others below 2^31 drawn from it."""
    drawn = torch.randint(2**31, (count - 1,), generator=stream(seed, "sampling stability"))
    return [seed, *drawn.tolist()]


def null_values(context: Context, quantity: Quantity, on_segments: bool) -> Values:
    """Return the quantity of an explainer that draws every map anew, one value a null map."""
    maps, config = context.once(null_maps), context.config
    found = context.once(_null_likeness, on_segments)
    size = min(config.stability_seeds, len(maps) // 2)
    groups = (found.values(quantity, indices) for indices in rounds(len(maps), size))
    return np.array([group.mean() for group in groups if group is not None])


def _null_likeness(context: Context, on_segments: bool) -> Likeness:
    maps = context.once(null_maps)
    return likeness(maps, context.segments, on_segments, context.config.seed)


def _sampling(context: Context) -> Measured:
    methods = [method for method in context.maps if method in SAMPLED]
    if not methods:
        raise NotApplicable("there is no map of a method that draws at random")
    return each_method(context, SAMPLING.key, methods, _of_method)


def _of_method(context: Context, method: str) -> Measured:
    config = context.config
    used = seeds(config.seed, config.stability_seeds)
    count = getattr(config, SAMPLED[method])
    # The map shown is the one of the run's own seed.
    others = _repeated(context, method, used[1:], count)
    maps = torch.cat([context.maps[method][None].float(), others])
    alike = likeness(maps, context.segments, _on_segments(context, method), config.seed)
    measurements = tuple(
        _measurement(context, quantity, method, alike) for quantity in SAMPLING.quantities
    )
    settled = tuple(_judged(context, method, measurement) for measurement in measurements)
    spread = segment_means(maps, context.segments).double().std(dim=0)
    return Measured(settled, {f"seed_sd.{method}": spread.numpy().astype(np.float32)})


def _on_segments(context: Context, method: str) -> bool:
    return context.cards[method].granularity == "segments"


def _repeated(context: Context, method: str, used: Sequence[int], count: int) -> Tensor:
    """Return the maps (R, H, W) under each of the seeds, with the method's count set to this."""
    configs = (
        context.config.model_copy(update={"seed": seed, SAMPLED[method]: count}) for seed in used
    )
    pixels = context.pixels[None]
    return torch.cat([finite_maps(context, method, pixels, config) for config in configs])


def _measurement(context: Context, quantity: Quantity, method: str, alike: Likeness) -> Measurement:
    repeats = context.config.stability_seeds
    numbers = alike.values(quantity, range(repeats))
    value = None if numbers is None else float(numbers.mean())
    nulls = null_values(context, quantity, _on_segments(context, method))
    return Measurement(
        metric=quantity.key,
        subject=method,
        value=value,
        direction=quantity.direction,
        range=quantity.range,
        interval=None if numbers is None else (float(numbers.min()), float(numbers.max())),
        interval_kind="" if numbers is None else f"lowest and highest of {_pairs(len(numbers))}",
        settings=_settings(context, quantity, method),
        detail=_chance(context, quantity),
        note="" if numbers is not None else _why(context, alike),
        yardstick=placed(quantity, value, nulls),
    )


def _pairs(count: int) -> str:
    return "1 pair of seeds" if count == 1 else f"{count} pairs of seeds"


def _why(context: Context, alike: Likeness) -> str:
    if not alike.matrices:
        return "the map, or the mean of its segments, is constant under a seed and ranks nothing"
    return f"there are only {_segments(context)} segments, of which all are at the top"


def _settings(context: Context, quantity: Quantity, method: str) -> dict[str, JsonValue]:
    config, field = context.config, SAMPLED[method]
    places = "segments" if _on_segments(context, method) else "pixels"
    tops = {q.key: top for top, q in JACCARDS.items()}
    top = tops.get(quantity.key)
    return {
        "seeds": config.stability_seeds,
        field: getattr(config, field),
        "segmentation": "that of the map shown, for all seeds",
        "seed": config.seed,
        "of": places if top is None else "segments",
    }


def _chance(context: Context, quantity: Quantity) -> dict[str, JsonValue]:
    """Return what two random choices of segments would share, where segments are chosen."""
    found = [top for top, each in JACCARDS.items() if each is quantity]
    return {"expected at random": expected_jaccard(found[0], _segments(context))} if found else {}


def _segments(context: Context) -> int:
    return int(context.segments.max()) + 1


def _judged(context: Context, method: str, measurement: Measurement) -> Measurement:
    """Return the overlap that the verdict rests on with it; others as they are."""
    if measurement.metric != JACCARDS[VERDICT_TOP].key or measurement.value is None:
        return measurement
    count = getattr(context.config, SAMPLED[method])
    detail: dict[str, JsonValue] = {
        **measurement.detail,
        "rule": f"stable where the Jaccard index of the top {VERDICT_TOP} is {STABLE} or more",
        "verdict": "stable" if measurement.value >= STABLE else "unstable",
        "samples that settle it": count,
    }
    if measurement.value < STABLE:
        detail |= _search(context, method, count)
    return measurement.model_copy(update={"detail": detail})


def _search(context: Context, method: str, count: int) -> dict[str, JsonValue]:
    """Return the first doubling of ``count`` at which a few seeds agree, if one does."""
    found: dict[str, JsonValue] = {}
    for factor in SEARCH_FACTORS:
        overlap = _overlap_at(context, method, count * factor)
        if overlap is not None:
            found[str(count * factor)] = overlap
        if overlap is not None and overlap >= STABLE:
            return {"samples that settle it": count * factor, "search": found}
    limit = count * SEARCH_FACTORS[-1]
    return {"samples that settle it": None, "search": found, "not settled at": limit}


def _overlap_at(context: Context, method: str, count: int) -> float | None:
    """Return the mean Jaccard index under a few seeds; None where a map is constant."""
    used = seeds(context.config.seed, SEARCH_SEEDS)
    maps = _repeated(context, method, used, count)
    alike = likeness(maps, context.segments, _on_segments(context, method), context.config.seed)
    numbers = alike.values(JACCARDS[VERDICT_TOP], range(SEARCH_SEEDS))
    return None if numbers is None else float(numbers.mean())


def _work(plan: Plan) -> Mapping[str, Work]:
    """Return the work where every method is stable.

    For each that is not, the search for the count that would settle it comes on top: as many maps
    as ``SEARCH_SEEDS``, with the count times each of ``SEARCH_FACTORS`` in turn, until they agree.
    To the end that is the work of 42 maps with the count itself.
    """
    others = plan.config.stability_seeds - 1
    return {
        f"maps under other seeds, {method}": plan.explain(method, plan.config) * others
        for method in plan.methods
        if method in SAMPLED
    }


METRIC = Metric(SAMPLING, _sampling, _work)
