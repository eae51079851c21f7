"""How alike maps are in structure and in sign."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from torch import Tensor

from reportgen.metrics.binarised import top_weights

Values = NDArray[np.float64]

WINDOW = 7
_SAMPLE = WINDOW**2 / (WINDOW**2 - 1)
_SMALL = (0.01**2, 0.03**2)


def same_signs(maps: Tensor, count: int) -> Values:
    """Return the share (M, M) of each map's ``count`` strongest pixels that a pair shares, in sign.

    ``maps`` (M, H, W) are signed; the strongest pixels have the highest absolute values, ties count
    in part, and a zero has no sign. Paper: Krishna et al., 2022, arXiv 2202.01602.
    """
    weights, flat = top_weights(maps.abs(), count).flatten(1), maps.flatten(1)
    up, down = weights * (flat > 0), weights * (flat < 0)
    return np.asarray(((up @ up.T + down @ down.T) / count).cpu().numpy())


def ssim(maps: Values, others: Values) -> Values:
    """Return the structural similarity (M, T) in [-1, 1] of maps (M, H, W) with others (T, H, W).

    Each map is scaled to [0, 1] by its own lowest and highest value. A square window of 7 pixels,
    sample covariances, the mean over all windows that lie inside, as scikit-image does it; what
    belongs to one map is filtered once for all its pairs. NaN for constant maps, and where the
    window does not fit. Paper: Wang et al., IEEE Transactions on Image Processing, 2004.
    """
    if min(maps.shape[1:]) < WINDOW:
        return np.full((len(maps), len(others)), np.nan)
    first, second = _scaled(maps), _scaled(others)
    mean, variance = _moments(second)
    return np.array([_row(one, second, mean, variance) for one in first])


def _row(one: Values, others: Values, mean: Values, variance: Values) -> Values:
    (own_mean, own_variance), (c1, c2) = _moments(one), _SMALL
    covariance = _SAMPLE * (_filtered(one * others) - own_mean * mean)
    luminance = (2 * own_mean * mean + c1) / (own_mean**2 + mean**2 + c1)
    structure = (2 * covariance + c2) / (own_variance + variance + c2)
    return np.asarray((luminance * structure).mean(axis=(1, 2)).clip(-1, 1))


def _moments(maps: Values) -> tuple[Values, Values]:
    mean = _filtered(maps)
    return mean, _SAMPLE * (_filtered(maps**2) - mean**2)


def _filtered(maps: Values) -> Values:
    """Return the means of the windows that lie inside maps (..., H, W)."""
    edge = slice(WINDOW // 2, -(WINDOW // 2))
    size = (*(0,) * (maps.ndim - 2), WINDOW, WINDOW)
    return np.asarray(uniform_filter(maps, size)[..., edge, edge])


def _scaled(maps: Values) -> Values:
    low = maps.min(axis=(1, 2), keepdims=True)
    span = maps.max(axis=(1, 2), keepdims=True) - low
    return np.asarray((maps - low) / np.where(span > 0, span, np.nan))
