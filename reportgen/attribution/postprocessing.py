"""Turning a noisy signed map into smooth areas, for the eye: what papers do to gradient maps."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.exposure import equalize_adapthist
from skimage.filters import gaussian, threshold_otsu
from torch import Tensor

SIGMA = 3.0
NOTE = (
    "The map was smoothed, equalised and cut at Otsu's threshold: it has no signs and no longer "
    "adds up to the score's change; the completeness gap is that of the map before."
)


def smooth_equalise_otsu(maps: Tensor) -> Tensor:
    """Return the post-processed maps (n, H, W) in [0, 1] of signed maps (n, H, W).

    Absolute values, as a share of the largest, go through a Gaussian filter (sigma of 3 pixels) and
    adaptive histogram equalisation; what is below Otsu's threshold is set to 0. A map that is
    constant after the filter has nothing to equalise and becomes 0.
    """
    found = [_processed(each) for each in maps.abs().cpu().double().numpy()]
    return torch.from_numpy(np.stack(found)).float().to(maps.device)


def _processed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = values.max()
    smooth = gaussian(values / largest, sigma=SIGMA) if largest else values
    # Equal values differ by rounding after a filter; that is no structure.
    if np.ptp(smooth) < np.finfo(np.float32).eps:
        return np.zeros_like(values)
    equalised = equalize_adapthist(smooth / smooth.max())
    kept: NDArray[np.float64] = np.where(equalised < threshold_otsu(equalised), 0, equalised)
    return kept
