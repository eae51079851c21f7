"""How far the methods agree with one another, and where their relevance lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from reportgen.errors import NotApplicable
from reportgen.metrics.base import HIGHER, Context, Measured, Metric, no_work
from reportgen.metrics.binarised import MOST_ZEROS, TIES, TOP_SHARE, otsu, top_count, top_weights
from reportgen.metrics.likeness import WINDOW, same_signs, spearman, ssim
from reportgen.metrics.similarity import Traits, null_traits
from reportgen.metrics.yardstick import placed
from reportgen.perturbation.removal import removal_ranks
from reportgen.records import Card, Measurement, Quantity

Values = NDArray[np.float64]

SHARES: Mapping[str, float] = {"iou": TOP_SHARE, "iou_10": 0.1, "iou_5": 0.05}
_CONSTANT = "one of the maps is constant"
_NO_THRESHOLD = (
    "one of the maps has no threshold: its positive part is constant, or zero on more than "
    f"{MOST_ZEROS:.0%} of the pixels"
)
_NO_SIGNS = "one of the maps has no negative values, so that signs say nothing"
_NO_WINDOW = f"one of the maps is constant, or smaller than the window of {WINDOW} pixels"
_NO_AREA = "the segments are positive nowhere or everywhere, or one of the maps is constant"
_PAIRED = "smooth random maps, each beside one of the two maps"


def _quantity(key: str, title: str, meaning: str, low: float = 0) -> Quantity:
    return Quantity(key=key, title=title, meaning=meaning, direction=HIGHER, range=(low, 1))


AGREEMENT = Card(
    key="agreement",
    title="Agreement of methods",
    category="agreement",
    definition="For each pair of maps: intersection over union (IoU) of the pixels ranked highest "
    "by signed relevance, Spearman's rank correlation of all pixels, and further likenesses.",
    paper="Krishna et al., The Disagreement Problem in Explainable ML, 2022, arXiv 2202.01602; "
    "Wang et al., IEEE Transactions on Image Processing, 2004 (SSIM)",
    direction=HIGHER,
    range=(-1, 1),
    needs="maps",
    seeding=f"none: {TIES}, as the mean over independent orders of each map's own would have it; "
    "in correlations they share their mean rank",
    limits="Methods may agree and both be wrong. Unsigned and signed maps rank different things, "
    "and a coarse map cannot equal a fine one: see the granularity of both.",
    quantities=(
        _quantity("iou", "IoU of the top 20%", "Of the 20% of pixels that each map ranks highest."),
        _quantity("iou_10", "IoU of the top 10%", "Of the 10% that each map ranks highest."),
        _quantity("iou_5", "IoU of the top 5%", "Of the 5% that each map ranks highest."),
        _quantity(
            "top_k_intersection",
            "Top 20% shared",
            "Share of the 20% of pixels that one map ranks highest which the other does as well.",
        ),
        _quantity("spearman", "Rank correlation", "Spearman's, of all pixels by signed value.", -1),
        _quantity(
            "sign_agreement",
            "Top 20% shared with the same sign",
            "Share of the 20% of pixels with the highest absolute values in one map which are so "
            "in the other, with the same sign. For pairs of signed maps.",
        ),
        _quantity(
            "ssim",
            "Structural similarity",
            f"SSIM in two dimensions, window of {WINDOW} pixels, each map scaled to [0, 1] by its "
            "own lowest and highest value.",
            -1,
        ),
        _quantity(
            "otsu_overlap",
            "IoU above Otsu's threshold",
            "IoU of where the positive parts are above Otsu's threshold. The regions differ in "
            "size, which alone lowers it.",
        ),
        _quantity(
            "iou_positive_area",
            "IoU with the positive segments",
            "For a method that works on segments beside one that does not: IoU of the positive "
            "segments and of as many pixels that the other ranks highest.",
        ),
    ),
    controls="the same number for one of the two maps and a smooth random map (for signs, less its "
    "mean), of both maps together",
)
LOCATION = Card(
    key="location",
    title="Location of relevance",
    category="description",
    definition="The share of a map's positive relevance that its top 20% of pixels hold, and the "
    "centre of those of them that are positive, as shares of the width and height from the upper "
    "left.",
    paper="own definition",
    direction="descriptive",
    range=(0, 1),
    needs="maps",
    seeding="equal values are ordered by a seeded permutation of each map's own",
    limits="Says where relevance lies in the picture, not what is there.",
    quantities=(
        Quantity(
            key="relevance_in_top",
            title="Relevance in the top 20%",
            meaning="Share of the positive relevance.",
            range=(0, 1),
            form="percent",
        ),
        Quantity(
            key="centre_x",
            title="Centre, from the left",
            meaning="Share of the width.",
            range=(0, 1),
        ),
        Quantity(
            key="centre_y",
            title="Centre, from the top",
            meaning="Share of the height.",
            range=(0, 1),
        ),
        Quantity(
            key="consensus_area",
            title="Area of consensus",
            meaning="Share of the picture that is positive and in the top 20% of more than half "
            "of the methods.",
            range=(0, 1),
            form="percent",
        ),
    ),
    controls="none: they describe where relevance lies, and no place is better than another",
)


def random_iou(share: float) -> float:
    """Return the IoU expected of two random sets, each covering ``share`` of a picture."""
    return share / (2 - share)


def top_pixels(maps: Tensor, share: float, seed: int) -> Tensor:
    """Return bool masks (M, H, W) of the ``share`` of pixels with the highest signed values.

    At least one pixel. Each map orders its equal values by a permutation of its own: under one
    permutation for all, the zeros that fill up two sparse maps would be the same pixels, and would
    pass for agreement.
    """
    count = top_count(share, maps[0].numel())
    ranks = [removal_ranks(one[None], seed + index) for index, one in enumerate(maps)]
    return (torch.cat(ranks) < count).view(maps.shape)


def iou(masks: Tensor) -> Tensor:
    """Return the intersection over union (M, M) of every pair of bool masks (M, H, W).

    Also of weights in [0, 1], of pixels that belong to a region in part and independently.
    """
    flat = masks.flatten(1).double()
    both = flat @ flat.T
    sizes = flat.sum(dim=1)
    return both / (sizes[:, None] + sizes[None, :] - both)


def constant(maps: Tensor) -> NDArray[np.bool_]:
    """Return which of maps (M, H, W) have one value everywhere, (M,)."""
    flat = maps.flatten(1)
    return np.asarray((flat.amax(dim=1) == flat.amin(dim=1)).cpu())


@dataclass(frozen=True)
class _Table:
    """A number for each pair, ``values`` (M, M + n) or more rows, of M methods and n null maps.

    NaN where there is none, for the reason ``why``.
    """

    values: Values
    why: str
    settings: Mapping[str, JsonValue]


def _agreement(context: Context) -> Measured:
    if len(context.maps) < 2:
        raise NotApplicable("agreement needs the maps of at least two methods")
    own, nulls = Traits(torch.stack(list(context.maps.values()))), context.once(null_traits)
    methods, maps = len(own.maps), torch.cat([own.maps, nulls.maps]).cpu().double()
    tables = {
        **_by_count(maps),
        **_by_value(own, nulls),
        **_by_region(maps, methods),
        "iou_positive_area": _by_segments(context, maps),
    }
    measurements = tuple(
        measurement
        for pair in combinations(range(methods), 2)
        for measurement in _pair(context, pair, tables)
    )
    arrays = {
        f"agreement.{key}": np.nan_to_num(tables[key].values[:methods, :methods]).astype(np.float32)
        for key in ("iou", "spearman")
    }
    return Measured(measurements, arrays)


def _by_count(maps: Tensor) -> dict[str, _Table]:
    """Return what compares as many pixels of each map."""
    tables, flat = {}, constant(maps)
    for key, share in SHARES.items():
        weights = top_weights(maps, top_count(share, maps[0].numel()))
        overlaps = iou(weights).numpy()
        np.fill_diagonal(overlaps, 1)
        tables[key] = _Table(_without(overlaps, flat), _CONSTANT, _at(share, random_iou(share)))
    shared = tables["iou"].values * 2 / (1 + tables["iou"].values)
    counted = _Table(shared, _CONSTANT, _at(TOP_SHARE, TOP_SHARE))
    return {**tables, "top_k_intersection": counted}


def _at(share: float, expected: float) -> Mapping[str, JsonValue]:
    return {"area": share, "expected at random": expected, "ties": TIES}


def _by_value(own: Traits, nulls: Traits) -> dict[str, _Table]:
    """Return what compares all values of the methods' own maps, and of the null maps."""
    ranks = np.concatenate([spearman(own.ranks, each.ranks) for each in (own, nulls)], axis=1)
    alike = np.concatenate([ssim(own.windows, each.windows) for each in (own, nulls)], axis=1)
    return {
        "spearman": _Table(ranks, _CONSTANT, {"expected at random": 0}),
        "ssim": _Table(alike, _NO_WINDOW, {"window": WINDOW, "scaling": "each map to [0, 1]"}),
    }


def _by_region(maps: Tensor, methods: int) -> dict[str, _Table]:
    """Return what compares the strongest or positive parts; the first maps are of ``methods``."""
    regions = otsu(maps)
    centred = maps.clone()
    centred[methods:] -= centred[methods:].mean(dim=(1, 2), keepdim=True)
    signs = same_signs(centred, top_count(TOP_SHARE, maps[0].numel()))
    unsigned = np.asarray((centred.flatten(1).amin(dim=1) >= 0).numpy())
    return {
        "sign_agreement": _Table(
            _without(signs, unsigned), _NO_SIGNS, _at(TOP_SHARE, TOP_SHARE / 2)
        ),
        "otsu_overlap": _Table(
            _without(iou(regions.weights).numpy(), regions.failed), _NO_THRESHOLD, {"bins": 256}
        ),
    }


def _by_segments(context: Context, maps: Tensor) -> _Table:
    """Return the overlap of the positive segments with as large a region of each other map."""
    values = np.full((len(maps), len(maps)), np.nan)
    for index in range(len(context.maps)):
        positive = maps[index] > 0
        count = int(positive.sum())
        if _on_segments(context, index) and 0 < count < positive.numel():
            hits = top_weights(maps, count).flatten(1) @ positive.flatten().double()
            overlaps = _without((hits / (2 * count - hits)).numpy(), constant(maps))
            values[index] = overlaps
            # The other way round only for methods: a null map takes the place of the other method.
            values[: len(context.maps), index] = overlaps[: len(context.maps)]
    return _Table(values, _NO_AREA, {"ties": TIES})


def _on_segments(context: Context, index: int) -> bool:
    return context.cards[list(context.maps)[index]].granularity == "segments"


def _without(values: Values, missing: NDArray[np.bool_]) -> Values:
    """Return a copy of values (T, T), or (T,), that is NaN where a map is ``missing`` (T,)."""
    left_out = missing | missing[:, None] if values.ndim == 2 else missing
    return np.where(left_out, np.nan, values)


def _pair(
    context: Context, pair: tuple[int, int], tables: Mapping[str, _Table]
) -> Iterator[Measurement]:
    methods = list(context.maps)
    cards = [context.cards[methods[index]] for index in pair]
    agnostic = [card.title for card in cards if card.class_agnostic]
    note = f"nearly the same for every class: {', '.join(agnostic)}" if agnostic else ""
    apart = _on_segments(context, pair[0]) != _on_segments(context, pair[1])
    for quantity in AGREEMENT.quantities:
        if quantity.key == "iou_positive_area" and not apart:
            continue
        table = tables[quantity.key]
        found = float(table.values[pair])
        value = None if np.isnan(found) else found
        yield Measurement(
            metric=quantity.key,
            subject="~".join(methods[index] for index in pair),
            value=value,
            direction=quantity.direction,
            range=quantity.range,
            settings=table.settings,
            detail={"granularity": [card.granularity for card in cards]},
            note="; ".join(filter(None, (table.why if value is None else "", note))),
            yardstick=placed(
                quantity, value, table.values[list(pair), len(methods) :].ravel(), _PAIRED
            ),
        )


def _location(context: Context) -> Measured:
    if not context.maps:
        raise NotApplicable("there is no map whose relevance could be located")
    maps = torch.stack(list(context.maps.values())).cpu()
    masks = top_pixels(maps, TOP_SHARE, context.config.seed) & (maps > 0)
    shares = _held(maps)
    found = [
        measurement
        for method, share, mask in zip(context.maps, shares, masks, strict=True)
        for measurement in _located(method, float(share), mask)
    ]
    return Measured(tuple(found + _consensus(context, masks)))


def _held(maps: Tensor) -> Values:
    """Return the share (M,) of positive relevance in the top 20%; NaN where there is none."""
    weights = top_weights(maps, top_count(TOP_SHARE, maps[0].numel()))
    positive = maps.double().clamp_min(0)
    shares = (weights * positive).sum(dim=(1, 2)) / positive.sum(dim=(1, 2))
    return np.asarray(shares.clamp_max(1).numpy())


def _located(method: str, share: float, mask: Tensor) -> list[Measurement]:
    quantity, value = LOCATION.quantities[0], None if np.isnan(share) else share
    held = Measurement(
        metric=quantity.key,
        subject=method,
        value=value,
        range=quantity.range,
        settings={"area": TOP_SHARE, "of": "positive relevance"},
        note="the map has no positive relevance" if value is None else "",
    )
    return [held] if value is None else [held, *_centre(method, mask)]


def _consensus(context: Context, masks: Tensor) -> list[Measurement]:
    """Return where more than half of the methods agree, if there are several."""
    if len(masks) < 2:
        return []
    shared = masks.sum(dim=0) * 2 > len(masks)
    covered = Measurement(
        metric="consensus_area",
        subject="consensus",
        value=float(shared.double().mean()),
        range=(0, 1),
        settings={"area": TOP_SHARE, "methods": len(masks), "rule": "more than half of them"},
    )
    return [covered, *_centre("consensus", shared)] if bool(shared.any()) else [covered]


def _centre(subject: str, mask: Tensor) -> list[Measurement]:
    height, width = mask.shape
    rows, columns = torch.nonzero(mask, as_tuple=True)
    across = (float(columns.double().mean()) + 0.5) / width
    down = (float(rows.double().mean()) + 0.5) / height
    return [
        Measurement(metric="centre_x", subject=subject, value=across, range=(0, 1)),
        Measurement(metric="centre_y", subject=subject, value=down, range=(0, 1)),
    ]


AGREEMENT_METRIC = Metric(AGREEMENT, _agreement, no_work)
LOCATION_METRIC = Metric(LOCATION, _location, no_work)
