"""How far the methods agree with one another, and where their relevance lies."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from scipy.stats import rankdata
from torch import Tensor

from reportgen.errors import NotApplicable
from reportgen.metrics.base import HIGHER, Context, Measured, Metric
from reportgen.perturbation.removal import removal_ranks
from reportgen.records import Card, Measurement

TOP_SHARE = 0.2
_CONSTANT = "one of the maps is constant"

AGREEMENT = Card(
    key="agreement",
    title="Agreement of methods",
    category="agreement",
    definition="For each pair of maps: intersection over union (IoU) of the 20% of pixels ranked "
    "highest by each, and Spearman's rank correlation of all pixels.",
    paper="Krishna et al., The Disagreement Problem in Explainable ML, 2022, arXiv 2202.01602",
    direction=HIGHER,
    range=(-1, 1),
    needs="maps",
    seeding="equal values are ordered by a seeded permutation of each map's own (IoU), or share "
    "their mean rank (correlation)",
    limits="Methods may agree and both be wrong. Unsigned and signed maps rank different things.",
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
    count = max(1, round(share * maps[0].numel()))
    ranks = [removal_ranks(one[None], seed + index) for index, one in enumerate(maps)]
    return (torch.cat(ranks) < count).view(maps.shape)


def iou(masks: Tensor) -> Tensor:
    """Return the intersection over union (M, M) of every pair of bool masks (M, H, W)."""
    flat = masks.flatten(1).double()
    both = flat @ flat.T
    sizes = flat.sum(dim=1)
    return both / (sizes[:, None] + sizes[None, :] - both)


def spearman(maps: Tensor) -> NDArray[np.float64]:
    """Return Spearman's rank correlation (M, M) of maps (M, H, W); NaN for a constant map.

    Equal values share their mean rank.
    """
    ranks = rankdata(maps.flatten(1).cpu().double().numpy(), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.atleast_2d(np.corrcoef(ranks))


def constant(maps: Tensor) -> NDArray[np.bool_]:
    """Return which of maps (M, H, W) have one value everywhere, (M,)."""
    flat = maps.flatten(1)
    return np.asarray((flat.amax(dim=1) == flat.amin(dim=1)).cpu())


def _agreement(context: Context) -> Measured:
    if len(context.maps) < 2:
        raise NotApplicable("agreement needs the maps of at least two methods")
    methods = list(context.maps)
    maps = torch.stack(list(context.maps.values()))
    overlaps = iou(top_pixels(maps, TOP_SHARE, context.config.seed)).cpu().numpy()
    # Which pixels a constant map ranks highest is the permutation's doing, and says nothing.
    overlaps[constant(maps)] = overlaps[:, constant(maps)] = np.nan
    correlations = spearman(maps)
    measurements = [
        measurement
        for (i, a), (j, b) in combinations(enumerate(methods), 2)
        for measurement in (
            _overlap(f"{a}~{b}", float(overlaps[i, j])),
            _correlation(f"{a}~{b}", float(correlations[i, j])),
        )
    ]
    arrays = {
        "agreement.iou": np.nan_to_num(overlaps).astype(np.float32),
        "agreement.spearman": np.nan_to_num(correlations).astype(np.float32),
    }
    return Measured(tuple(measurements), arrays)


def _overlap(pair: str, value: float) -> Measurement:
    settings: dict[str, JsonValue] = {
        "area": TOP_SHARE,
        "expected at random": random_iou(TOP_SHARE),
    }
    return Measurement(
        metric="iou",
        subject=pair,
        value=None if np.isnan(value) else value,
        direction=HIGHER,
        range=(0, 1),
        settings=settings,
        note=_CONSTANT if np.isnan(value) else "",
    )


def _correlation(pair: str, value: float) -> Measurement:
    return Measurement(
        metric="spearman",
        subject=pair,
        value=None if np.isnan(value) else value,
        direction=HIGHER,
        range=(-1, 1),
        settings={"expected at random": 0},
        note=_CONSTANT if np.isnan(value) else "",
    )


def _location(context: Context) -> Measured:
    if not context.maps:
        raise NotApplicable("there is no map whose relevance could be located")
    maps = torch.stack(list(context.maps.values()))
    masks = top_pixels(maps, TOP_SHARE, context.config.seed) & (maps > 0)
    found = [
        measurement
        for method, values, mask in zip(context.maps, maps, masks, strict=True)
        for measurement in _located(method, values, mask)
    ]
    return Measured(tuple(found + _consensus(context, masks)))


def _located(method: str, values: Tensor, mask: Tensor) -> list[Measurement]:
    positive = values.double().clamp_min(0)
    total = float(positive.sum())
    share = float(positive[mask].sum()) / total if total else None
    held = Measurement(
        metric="relevance_in_top",
        subject=method,
        value=share,
        range=(0, 1),
        settings={"area": TOP_SHARE, "of": "positive relevance"},
        note="" if total else "the map has no positive relevance",
    )
    return [held, *_centre(method, mask)] if total else [held]


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


AGREEMENT_METRIC = Metric(AGREEMENT, _agreement)
LOCATION_METRIC = Metric(LOCATION, _location)
