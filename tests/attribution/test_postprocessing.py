"""Post-processed maps: the three steps one by one, and maps with nothing in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.exposure import equalize_adapthist
from skimage.filters import threshold_otsu
from torch import Tensor
from toys import pictures

from reportgen.attribution.postprocessing import smooth_equalise_otsu


def blob(height: int = 24, width: int = 32) -> Tensor:
    """Return a signed map (H, W) with a strong square on weak noise."""
    values = pictures(1, 1, height, width)[0, 0] - 0.3
    values[6:14, 6:14] -= 4
    return values


def slow(values: Tensor) -> Tensor:
    shares = np.abs(values.numpy().astype(float)) / float(values.abs().max())
    smooth = gaussian_filter(shares, 3.0, mode="nearest")
    equal = equalize_adapthist(smooth / smooth.max())
    return torch.from_numpy(np.where(equal >= threshold_otsu(equal), equal, 0)).float()


def test_the_steps_are_those_of_the_libraries() -> None:
    values = torch.stack([blob(), blob().flip(1)])
    found = smooth_equalise_otsu(values)
    assert found.dtype == torch.float32
    for ours, each in zip(found, values, strict=True):
        assert float((ours - slow(each)).abs().max()) < 1e-6
        assert float((ours - slow(each) - 2e-6).abs().max()) > 1e-6
        assert float((ours - slow(each.clamp_min(0))).abs().max()) > 0.1


def test_the_strong_square_is_what_is_left() -> None:
    found = smooth_equalise_otsu(blob()[None])[0]
    assert bool((found[7:13, 7:13] > 0).all())
    assert not bool(found[20:, 24:].any())
    assert 0 < float((found > 0).float().mean()) < 0.6


@pytest.mark.parametrize("scale", [1e-12, -1.0, 1e6])
def test_scale_and_sign_change_nothing(scale: float) -> None:
    expected = smooth_equalise_otsu(blob()[None])
    assert float((smooth_equalise_otsu(scale * blob()[None]) - expected).abs().max()) < 1e-4


@pytest.mark.parametrize("value", [0.0, 0.3, -2.0])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (16, 16), (64, 48)])
def test_a_constant_map_becomes_nothing(value: float, size: tuple[int, int]) -> None:
    maps = torch.full((2, *size), value)
    found = smooth_equalise_otsu(maps)
    assert found.shape == maps.shape
    assert not bool(found.any())


@pytest.mark.parametrize("size", [(2, 2), (1, 9), (5, 3)])
def test_small_maps_are_processed(size: tuple[int, int]) -> None:
    found = smooth_equalise_otsu(torch.rand(1, *size, generator=torch.Generator().manual_seed(0)))
    assert bool(found.isfinite().all())
    assert bool((found >= 0).all())
