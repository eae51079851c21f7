"""Maps cut in two: their most relevant pixels by count, and by Otsu's threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TOP_SHARE = 0.2
MOST_ZEROS = 0.9
TIES = "pixels tied at the threshold count in part"


@dataclass(frozen=True)
class Otsu:
    """The regions above Otsu's threshold: ``weights`` (M, H, W) float64 of 0 and 1.

    ``thresholds`` (M,) are NaN for maps that have no such threshold, ``failed`` (M,) says which;
    ``weights`` of these are those of their top 20%.
    """

    weights: Tensor
    thresholds: NDArray[np.float64]
    failed: NDArray[np.bool_]


def top_count(share: float, pixels: int) -> int:
    """Return how many of ``pixels`` a share is, rounded; at least one."""
    return max(1, round(share * pixels))


def top_weights(maps: Tensor, count: int) -> Tensor:
    """Return how far each pixel of maps (M, H, W) is one of its map's ``count`` highest.

    Float64 in [0, 1] on the CPU, adding up to ``count``: 1 above the lowest value that is still
    needed, 0 below, and at it an equal part for all, the mean over all orders of equal values. Sums
    of weights, and of products of two maps' weights, are then what random orders give on average.
    """
    weights = torch.empty(maps.shape, dtype=torch.float64)
    # Map by map, each of which stays in the processor's cache.
    for values, found in zip(
        maps.flatten(1).cpu().numpy(), weights.flatten(1).numpy(), strict=True
    ):
        lowest = np.partition(values, -count)[-count]
        tied = values == lowest
        np.greater(values, lowest, out=found)
        found[tied] = (count - np.count_nonzero(found)) / np.count_nonzero(tied)
    return weights


def otsu(maps: Tensor) -> Otsu:
    """Return where the positive parts of maps (M, H, W), on the CPU, are above Otsu's threshold.

    256 bins, as scikit-image does it. Where the positive part is constant or zero on more than 90%
    of the pixels, the threshold says nothing, and the top 20% of the signed map are taken instead.
    Paper: Otsu, IEEE Transactions on Systems, Man, and Cybernetics, 1979.
    """
    positive = maps.double().clamp_min(0)
    flat = positive.flatten(1)
    empty = (flat == 0).double().mean(dim=1) > MOST_ZEROS
    failed = empty | (flat.amax(dim=1) == flat.amin(dim=1))
    thresholds = _thresholds(positive.numpy(), failed.numpy())
    limits = torch.from_numpy(thresholds)[:, None, None]
    weights = (positive > limits).double()
    weights[failed] = top_weights(maps[failed], top_count(TOP_SHARE, flat.shape[1]))
    return Otsu(weights, thresholds, failed.numpy())


def _thresholds(positive: NDArray[np.float64], failed: NDArray[np.bool_]) -> NDArray[np.float64]:
    from skimage.filters import threshold_otsu

    found = (
        np.nan if without else threshold_otsu(one, nbins=256)
        for one, without in zip(positive, failed, strict=True)
    )
    return np.fromiter(found, dtype=np.float64, count=len(positive))
