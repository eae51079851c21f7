"""Segments: numbered without gaps, as many as asked for, and never fewer than four."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lime.wrappers.scikit_image import SegmentationAlgorithm
from toys import pictures

from reportgen.attribution.segmentation import SEGMENTATIONS, segment
from reportgen.config import Config


def scene(channels: int, side: int) -> torch.Tensor:
    """Return a picture (channels, side, side) with a bright disc, a gradient, and some noise."""
    across = torch.linspace(-1, 1, side)
    disc = (across[:, None] ** 2 + across**2 < 0.3).float()
    noise = torch.rand(channels, side, side, generator=torch.Generator().manual_seed(0))
    return (0.5 * disc + 0.2 * (across + 1) * 0.5 + 0.2 * noise).clamp(0, 1)


every_kind = pytest.mark.parametrize("kind", SEGMENTATIONS)


@every_kind
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 32, 32), (3, 24, 40), (3, 5, 7), (1, 2, 2)])
def test_segments_are_numbered_from_zero_without_gaps(kind: str, shape: tuple[int, ...]) -> None:
    pixels = pictures(1, *shape)[0]
    before = pixels.clone()
    found = segment(pixels, Config(segmentation=kind))[0]
    assert found.shape == shape[1:]
    assert found.dtype == np.int64
    assert np.unique(found).tolist() == list(range(found.max() + 1))
    assert found.max() >= 3
    assert torch.equal(pixels, before)
    assert np.array_equal(found, segment(pixels, Config(segmentation=kind))[0])


@every_kind
def test_an_empty_picture_is_cut_all_the_same(kind: str) -> None:
    assert segment(torch.zeros(3, 32, 32), Config(segmentation=kind))[0].max() >= 3


@pytest.mark.parametrize("count", [9, 25, 50])
def test_a_grid_has_about_the_segments_asked_for(count: int) -> None:
    found = segment(torch.zeros(3, 60, 90), Config(segmentation="grid", segments=count))[0]
    assert abs(found.max() + 1 - count) <= 0.15 * count
    sizes = np.bincount(found.ravel())
    assert sizes.max() < 1.5 * sizes.min()


def test_a_small_picture_has_fewer_segments() -> None:
    found = segment(torch.zeros(3, 12, 12), Config(segmentation="grid", segments=50))[0]
    assert found.max() + 1 == 9


def test_quickshift_is_limes_own() -> None:
    colours = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9], [0.9, 0.9, 0.1]])
    patches = colours.T.reshape(3, 2, 2).repeat_interleave(24, 1).repeat_interleave(24, 2)
    pixels = patches + 0.05 * pictures(1, 3, 48, 48)[0]
    theirs = SegmentationAlgorithm(
        "quickshift", kernel_size=4, max_dist=200, ratio=0.2, random_seed=0
    )(pixels.permute(1, 2, 0).double().numpy())
    ours = segment(pixels, Config(segmentation="quickshift"))[0]
    assert np.unique(theirs).size >= 4
    assert np.array_equal(ours, theirs)
    other = segment(pixels.flip(1), Config(segmentation="quickshift"))[0]
    assert not np.array_equal(other, theirs)


def test_a_fallback_is_reported_as_what_it_is() -> None:
    assert segment(torch.zeros(3, 32, 32), Config(segmentation="quickshift"))[1] == "grid"
    assert segment(torch.zeros(3, 32, 32), Config(segmentation="grid"))[1] == "grid"
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64)
    assert segment(ramp, Config(segmentation="slic"))[1] == "slic"


@pytest.mark.parametrize("kind", ["slic", "grid", "quickshift"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("side", [28, 32, 64])
def test_segments_scale_with_the_picture(kind: str, channels: int, side: int) -> None:
    pixels = scene(channels, side)
    found, used = segment(pixels, Config(segmentation=kind))
    sizes = np.bincount(found.ravel())
    assert len(sizes) >= (12 if used != "quickshift" else 4)
    assert len(sizes) <= side * side / 16
    assert sizes.max() <= 0.7 * side * side


@pytest.mark.parametrize(("kind", "fewest"), [("slic", 15), ("grid", 40)])
def test_1024_pixels_are_cut_at_their_own_size(kind: str, fewest: int) -> None:
    pixels = scene(3, 1000)
    found, used = segment(pixels, Config(segmentation=kind))
    assert (found.shape, used) == ((1000, 1000), kind)
    assert fewest <= found.max() + 1 <= 60
    assert (np.diff(found, axis=1) != 0).any(axis=0).sum() > 5


def test_quickshift_sees_a_large_picture_in_coarser_pixels() -> None:
    # 800 pixels are three to each of 267.
    pixels = scene(3, 800)[:, 300:348]
    found, used = segment(pixels, Config(segmentation="quickshift"))
    assert (found.shape, used) == ((48, 800), "quickshift")
    blocks = found[:, :798].reshape(16, 3, 266, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert 4 <= found.max() + 1 <= 48 * 800 / 16


@every_kind
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (4, 32, 48)])
def test_a_constant_picture_is_cut_into_a_grid_of_like_cells(
    kind: str, shape: tuple[int, ...]
) -> None:
    found, used = segment(torch.full(shape, 0.5), Config(segmentation=kind))
    sizes = np.bincount(found.ravel())
    assert len(sizes) >= 25
    assert sizes.max() < 3 * sizes.min()
    assert used in ("grid", "slic")  # of one colour, SLIC's segments are cells as well
