"""How alike maps are in rank, in sign and in structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from torch import Tensor

from reportgen.metrics.binarised import top_weights

Values = NDArray[np.float64]

WINDOW = 7
_SAMPLE = WINDOW**2 / (WINDOW**2 - 1)
_SMALL = (0.01**2, 0.03**2)


@dataclass(frozen=True)
class Windows:
    """Maps scaled to [0, 1], (M, H, W), and ``mean`` and ``variance`` (M, h, w) of their windows.

    What belongs to one map, whatever it is compared with.
    """

    maps: Values
    mean: Values
    variance: Values


def ranked(maps: Tensor) -> Values:
    """Return the ranks (M, N) of the values of maps (M, H, W), as twice their distance from N's.

    That is from the mean rank (N + 1) / 2; equal values share their mean rank. They are whole
    numbers, so that up to 300,000 pixels sums of their products are exact in whatever order.
    """
    return np.stack([_ranked(values) for values in maps.flatten(1).cpu().numpy()])


def _ranked(values: NDArray[np.floating]) -> Values:
    # Row by row, and in whole numbers: a third of the time of scipy's rankdata over all maps.
    order = values.argsort()
    ascending = values[order]
    steps = np.flatnonzero(ascending[1:] != ascending[:-1]) + 1
    edges = np.concatenate([[0], steps, [len(values)]])
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(edges[:-1] + edges[1:] - len(values), np.diff(edges))
    return ranks


def spearman(ranks: Values, others: Values) -> Values:
    """Return Spearman's correlation (M, T) of maps, from what ``ranked`` makes of them.

    ``ranks`` are (M, N), ``others`` (T, N). NaN for a constant map.
    """
    sizes = np.outer((ranks**2).sum(axis=1), (others**2).sum(axis=1))
    return np.asarray(ranks @ others.T / np.where(sizes > 0, np.sqrt(sizes), np.nan))


def same_signs(maps: Tensor, count: int) -> Values:
    """Return the share (M, M) of each map's ``count`` strongest pixels that a pair shares, in sign.

    ``maps`` (M, H, W) are signed; the strongest pixels have the highest absolute values, ties count
    in part, and a zero has no sign. Paper: Krishna et al., 2022, arXiv 2202.01602.
    """
    weights, flat = top_weights(maps.abs(), count).flatten(1), maps.flatten(1)
    up, down = torch.where(flat > 0, weights, 0), torch.where(flat < 0, weights, 0)
    return np.asarray(((up @ up.T + down @ down.T) / count).cpu().numpy())


def windows(maps: Values) -> Windows:
    """Return what structural similarity needs to know of each of maps (M, H, W) by itself."""
    scaled = _scaled(maps)
    mean = _filtered(scaled)
    return Windows(scaled, mean, _SAMPLE * (_filtered(scaled**2) - mean**2))


def ssim(one: Windows, other: Windows) -> Values:
    """Return the structural similarity (M, T) in [-1, 1] of M maps with T others.

    Each map is scaled to [0, 1] by its own lowest and highest value. A square window of 7 pixels,
    sample covariances, the mean over all windows that lie inside, as scikit-image does it. NaN for
    constant maps, and where the window does not fit. Paper: Wang et al., IEEE Transactions on Image
    Processing, 2004.
    """
    found = np.full((len(one.maps), len(other.maps)), np.nan)
    if min(one.maps.shape[1:]) >= WINDOW:
        # Pair by pair: what one pair needs stays in the processor's cache.
        for pair in np.ndindex(*found.shape):
            found[pair] = _similarity(one, other, *pair)
    return found


def _similarity(one: Windows, other: Windows, row: int, column: int) -> float:
    (first, second), (c1, c2) = (one.mean[row], other.mean[column]), _SMALL
    both = first * second
    covariance = _SAMPLE * (_filtered(one.maps[row] * other.maps[column]) - both)
    alike = (2 * both + c1) * (2 * covariance + c2)
    most = (first**2 + second**2 + c1) * (one.variance[row] + other.variance[column] + c2)
    return float(np.clip((alike / most).mean(), -1, 1))


def _filtered(maps: Values) -> Values:
    """Return the means of the windows that lie inside maps (..., H, W)."""
    edge = slice(WINDOW // 2, -(WINDOW // 2))
    size = (*(0,) * (maps.ndim - 2), WINDOW, WINDOW)
    return np.asarray(uniform_filter(maps, size)[..., edge, edge])


def _scaled(maps: Values) -> Values:
    low = maps.min(axis=(1, 2), keepdims=True)
    span = maps.max(axis=(1, 2), keepdims=True) - low
    return np.asarray((maps - low) / np.where(span > 0, span, np.nan))
