"""How far the relevance of a map lies on the object that the user has marked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from reportgen.errors import NotApplicable
from reportgen.metrics.base import HIGHER, Context, Measured, Metric, no_work
from reportgen.metrics.binarised import MOST_ZEROS, TIES, TOP_SHARE, otsu, top_count, top_weights
from reportgen.metrics.rows import Row, Values, measurements, stacked
from reportgen.metrics.yardstick import PLACED
from reportgen.records import Card, Form, Quantity

_NOTHING_POSITIVE = "the map has no positive relevance"
_NOTHING_AROUND = "the map is zero everywhere around the object"
_NO_THRESHOLD = (
    f"without Otsu's threshold, as the positive part is constant or zero on more than "
    f"{MOST_ZEROS:.0%} of the pixels: the top {TOP_SHARE:.0%} instead"
)


def _quantity(key: str, title: str, meaning: str, form: Form = "decimal") -> Quantity:
    return Quantity(
        key=key, title=title, meaning=meaning, direction=HIGHER, range=(0, 1), form=form
    )


CARD = Card(
    key="localisation",
    title="Localisation",
    category="localisation",
    definition="How far a map's relevance lies on the object m that the user has marked, as the "
    "network sees it. The pixels ranked highest by signed relevance make a region B, as large as "
    "the object (equal area) or 20% of the picture; a second one is where the positive relevance "
    "is above Otsu's threshold. Their intersection over union (IoU) with m, and what needs no "
    "region.",
    paper="Zhang et al., IJCV 2018, arXiv 1608.00507 (pointing game); Wang et al., Score-CAM, CVPR "
    "Workshops 2020, arXiv 1910.01279 (energy-based pointing game); Arras et al., CLEVR-XAI, "
    "Information Fusion 2022, arXiv 2003.07258 (rank accuracy); Otsu, IEEE Transactions on "
    "Systems, Man, and Cybernetics, 1979",
    needs="maps and a mask of the object",
    seeding=f"none: {TIES}, as the mean over all their orders would have it",
    limits="A model may look beside the object, and a right map then shows that: these numbers "
    "judge map and model together. Regions by Otsu's threshold differ in size from map to map, "
    "which alone changes their numbers; rank methods by those of equal area.",
    quantities=(
        _quantity(
            "relevance_rank_accuracy",
            "Relevance rank accuracy",
            "Share of the |m| highest pixels that lie in m: precision, recall and Dice at equal "
            "area in one.",
            "percent",
        ),
        _quantity("iou_equal_area", "IoU at equal area", "|B and m| / |B or m| with |B| = |m|."),
        _quantity(
            "iou_top",
            "IoU of the top 20%",
            "|B and m| / |B or m|; 1 only for an object of just that size.",
        ),
        _quantity("iou_otsu", "IoU above Otsu's threshold", "|B and m| / |B or m|."),
        _quantity("dice_otsu", "Dice above Otsu's threshold", "2 IoU / (1 + IoU)."),
        _quantity("precision_otsu", "Precision above Otsu's threshold", "|B and m| / |B|."),
        _quantity(
            "recall_otsu",
            "Recall above Otsu's threshold",
            "|B and m| / |m|; a larger region has the higher one.",
        ),
        _quantity(
            "pointing_game",
            "Pointing game",
            "1 where the highest pixel lies in m, else 0; of several equal ones the share in m. "
            "Without the tolerance of 15 pixels that the paper gives.",
        ),
        _quantity(
            "energy_pointing_game",
            "Energy-based pointing game",
            "Share of the positive relevance that lies in m; also called relevance mass accuracy.",
            "percent",
        ),
        _quantity(
            "roc_auc",
            "ROC AUC",
            "How likely a pixel in m ranks above one around it, equal ones counting half.",
        ),
        Quantity(
            key="signal_to_noise",
            title="Signal to noise",
            meaning="Mean absolute relevance in m over that around it; uniform relevance has 1.",
            direction=HIGHER,
            range=(0, None),
        ),
    ),
    controls=PLACED,
)


@dataclass(frozen=True)
class Overlap:
    """Pixel counts (M,): ``hits`` of a region on the object, the region's ``size``; ``area``."""

    hits: Tensor
    size: Tensor
    area: float

    @property
    def precision(self) -> Tensor:
        """The share of the region that lies on the object."""
        return self.hits / self.size

    @property
    def recall(self) -> Tensor:
        """The share of the object that the region covers."""
        return self.hits / self.area

    @property
    def iou(self) -> Tensor:
        """Intersection over union of region and object."""
        return self.hits / (self.size + self.area - self.hits)

    @property
    def dice(self) -> Tensor:
        """Twice the intersection over the sum of both areas."""
        return 2 * self.hits / (self.size + self.area)


def overlap(weights: Tensor, mask: Tensor) -> Overlap:
    """Return how regions with ``weights`` (M, H, W) in [0, 1] cover the object in ``mask``."""
    size, area = weights.flatten(1).sum(dim=1), float(mask.sum())
    inside = weights.flatten(1) @ mask.flatten().to(weights)
    # Parts of pixels do not always add up to the last digit.
    return Overlap(torch.minimum(inside, size.clamp_max(area)), size, area)


def pointing_game(maps: Tensor, mask: Tensor) -> Tensor:
    """Return the share (M,) of the highest pixels of maps (M, H, W) that lie in ``mask``."""
    flat = maps.flatten(1)
    highest = (flat == flat.amax(dim=1, keepdim=True)).double()
    return highest @ mask.flatten().double() / highest.sum(dim=1)


def energy(maps: Tensor, mask: Tensor) -> Tensor:
    """Return the share (M,) of positive relevance in ``mask``; NaN where there is none."""
    positive = maps.flatten(1).double().clamp_min(0)
    return (positive @ mask.flatten().double() / positive.sum(dim=1)).clamp_max(1)


def roc_auc(maps: Tensor, mask: Tensor) -> Values:
    """Return the area (M,) under the ROC curve of maps (M, H, W) as scores of ``mask``.

    The rank-sum formula, equal values sharing their mean rank.
    """
    # Imported late: scipy.stats is slow to import, and many reports need none of it.
    from scipy.stats import rankdata

    ranks = rankdata(maps.flatten(1).numpy(), axis=1)
    inside = mask.flatten().numpy()
    count = int(inside.sum())
    surplus = ranks[:, inside].sum(axis=1) - count * (count + 1) / 2
    return np.asarray(surplus / (count * (inside.size - count)))


def signal_and_noise(maps: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean absolute relevance (M,) in ``mask``, and that around it."""
    sizes, inside = maps.flatten(1).double().abs(), mask.flatten()
    return sizes[:, inside].mean(dim=1), sizes[:, ~inside].mean(dim=1)


def _localisation(context: Context) -> Measured:
    maps, mask = context.once(stacked), _object(context)
    rows = {
        **_by_count(maps, mask),
        **_by_otsu(maps, mask),
        **_without_region(maps, mask),
        "signal_to_noise": _signal_to_noise(maps, mask),
    }
    return Measured(
        tuple(
            measurement
            for quantity in CARD.quantities
            for measurement in measurements(context, quantity, rows[quantity.key])
        )
    )


def _object(context: Context) -> Tensor:
    """Return the mask; an empty one would make every region a hit, or a division by zero."""
    if context.mask is None:
        raise NotApplicable("no mask was given; the option mask says where the object is")
    if not bool(context.mask.any()):
        raise NotApplicable("the object lies outside the part of the picture that the network sees")
    if bool(context.mask.all()):
        raise NotApplicable("the object fills all of the picture that the network sees")
    return context.mask.cpu()


def _by_count(maps: Tensor, mask: Tensor) -> dict[str, Row]:
    area, pixels = int(mask.sum()), mask.numel()
    equal = overlap(top_weights(maps, area), mask)
    top = overlap(top_weights(maps, top_count(TOP_SHARE, pixels)), mask)
    share = area / pixels
    both = TOP_SHARE * share
    signed: dict[str, JsonValue] = {"of": "signed relevance", "ties": TIES}
    at_equal: dict[str, JsonValue] = {**signed, "area": "that of the object"}
    at_top: dict[str, JsonValue] = {**signed, "area": TOP_SHARE}
    by_chance = both / (TOP_SHARE + share - both)
    return {
        "relevance_rank_accuracy": _row(equal.recall.numpy(), at_equal, mask, share),
        "iou_equal_area": _row(equal.iou.numpy(), at_equal, mask, share / (2 - share)),
        "iou_top": _row(top.iou.numpy(), at_top, mask, by_chance),
    }


def _by_otsu(maps: Tensor, mask: Tensor) -> dict[str, Row]:
    found = otsu(maps)
    region = overlap(found.weights, mask)
    settings: dict[str, JsonValue] = {"of": "positive relevance", "bins": 256}
    detail = {"area": region.size.numpy() / mask.numel(), "threshold": found.thresholds}
    values = {
        "iou_otsu": region.iou,
        "dice_otsu": region.dice,
        "precision_otsu": region.precision,
        "recall_otsu": region.recall,
    }
    notes = {_NO_THRESHOLD: found.failed}
    bare = {key: _row(one.numpy(), settings, mask) for key, one in values.items()}
    return {
        key: replace(row, notes=notes, detail={**row.detail, **detail}) for key, row in bare.items()
    }


def _without_region(maps: Tensor, mask: Tensor) -> dict[str, Row]:
    share, energies = float(mask.double().mean()), energy(maps, mask).numpy()
    signed: dict[str, JsonValue] = {"of": "signed relevance"}
    pointed: dict[str, JsonValue] = {**signed, "tolerance": 0}
    held = _row(energies, {"of": "positive relevance"}, mask, share)
    return {
        "pointing_game": _row(pointing_game(maps, mask).numpy(), pointed, mask, share),
        "energy_pointing_game": replace(held, notes={_NOTHING_POSITIVE: np.isnan(energies)}),
        "roc_auc": _row(roc_auc(maps, mask), signed, mask, 0.5),
    }


def _signal_to_noise(maps: Tensor, mask: Tensor) -> Row:
    signal, noise = signal_and_noise(maps, mask)
    ratio = torch.where(noise > 0, signal / noise, torch.nan).numpy()
    row = _row(ratio, {"of": "absolute relevance"}, mask, 1)
    share = (signal / (signal + noise)).numpy()
    notes = {_NOTHING_AROUND: np.isnan(ratio)}
    return replace(row, notes=notes, detail={**row.detail, "share": share})


def _row(
    values: Values, settings: Mapping[str, JsonValue], mask: Tensor, expected: float | None = None
) -> Row:
    """Return a row with what depends on the mask: its area, and what random maps are expected at.

    These stand in the detail, because settings are what pictures must share to be compared.
    """
    known = {"object area": float(mask.double().mean())}
    if expected is not None:
        known["expected at random"] = expected
    detail = {name: np.full(len(values), number) for name, number in known.items()}
    return Row(values, settings, detail=detail)


METRIC = Metric(CARD, _localisation, no_work)
