"""Segments: numbered without gaps, as many as asked for, and never fewer than four."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lime.wrappers.scikit_image import SegmentationAlgorithm
from toys import pictures

from reportgen.attribution.segmentation import SEGMENTATIONS, segment
from reportgen.config import Config

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
    assert found.max() + 1 == 16


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
