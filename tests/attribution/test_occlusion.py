"""Occlusion: captum's map where strides divide, a slow version everywhere, and closed forms."""

from __future__ import annotations

import pytest
import torch
from captum.attr import Occlusion
from gradient_methods import difference
from torch import Tensor, nn
from toys import (
    Constant,
    FunctionalRelu,
    Linear,
    ShortOfMemory,
    classified,
    one,
    pictures,
    quadrant,
    request,
    seeded,
)

from reportgen.attribution import METHODS, Explained
from reportgen.config import Config
from reportgen.perturbation.removal import baseline

METHOD = "occlusion"
Shape = tuple[int, int, int]


def occluded(
    network: nn.Module, pixels: Tensor, config: Config, head: str = "softmax", target: int = 1
) -> Explained:
    with classified(network, tuple(pixels.shape[1:]), head) as classifier:
        return METHODS[METHOD].explain(request(classifier, pixels, target, config))


def black(cells: int) -> Config:
    return Config(occlusion_cells=cells, occlusion_fill="black")


def captums(network: nn.Module, pixels: Tensor, stride: int) -> Tensor:
    """Return the library's map (H, W), which hides one square at a time."""
    found = Occlusion(lambda x: network(x).softmax(1)).attribute(
        pixels, (pixels.shape[1], 2 * stride, 2 * stride), (pixels.shape[1], stride, stride), 0.0, 1
    )
    return found[0, 0].float()


def slow(network: nn.Module, pixels: Tensor, cells: int, fill: Tensor) -> Tensor:
    """Return the mean drop over the squares that cover each pixel, one square at a time."""
    height, width = pixels.shape[1:]
    sums, counts = torch.zeros(height, width), torch.zeros(height, width)
    clean = network(pixels[None]).softmax(1)[0, 1]
    for i in range(cells):
        for j in range(cells):
            top, bottom = (round(k * height / (cells + 1)) for k in (i, i + 2))
            left, right = (round(k * width / (cells + 1)) for k in (j, j + 2))
            hidden = pixels.clone()
            hidden[:, top:bottom, left:right] = fill[:, top:bottom, left:right]
            drop = clean - network(hidden[None]).softmax(1)[0, 1]
            sums[top:bottom, left:right] += drop.detach().float()
            counts[top:bottom, left:right] += 1
    return sums / counts


@pytest.mark.parametrize(("size", "cells", "stride"), [(16, 7, 2), (20, 4, 4), (12, 11, 1)])
def test_the_map_is_captums_where_strides_divide(size: int, cells: int, stride: int) -> None:
    network, pixels = seeded(FunctionalRelu).double(), pictures(1, 3, size, size)
    ours = occluded(network, pixels, black(cells)).maps[0]
    theirs = captums(network, pixels.double(), stride)
    scale = float(theirs.abs().max())
    assert difference(ours, theirs) < 1e-5 * scale
    assert difference(ours, theirs * (1 + 4e-5)) > 1e-5 * scale
    assert difference(ours, -theirs) > scale
    assert difference(ours, theirs.flip(1)) > 0.01 * scale


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 13, 21), (3, 24, 10)])
@pytest.mark.parametrize("cells", [2, 5, 8])
@pytest.mark.parametrize("fill", ["black", "blur", "image-mean", "noise"])
def test_the_map_is_the_mean_drop(shape: Shape, cells: int, fill: str) -> None:
    network = seeded(lambda: FunctionalRelu(shape[0])).double()
    pixels = pictures(1, *shape)
    config = Config(occlusion_cells=cells, occlusion_fill=fill)
    ours = occluded(network, pixels, config).maps[0]
    filled = baseline(pixels[0], fill, (0.0,) * shape[0], 0)
    expected = slow(network, pixels[0].double(), cells, filled.double())
    scale = float(expected.abs().max())
    assert difference(ours, expected) < 1e-5 * scale
    assert difference(ours, expected * (1 + 4e-5)) > 1e-5 * scale


def test_one_pixel_counts_where_a_square_covers_it() -> None:
    """ONE: every square over the pixel costs its value, and each place averages its squares."""
    shape = (3, 16, 16)
    pixels = pictures(1)
    found = occluded(one(shape, 5, 5), pixels, black(7), "probabilities", 0).maps[0]
    value = float(pixels[0, 0, 5, 5])
    # With a stride of 2, rows 2 to 7 share a square with row 5.
    assert found.nonzero().amin(0).tolist() == [2, 2]
    assert found.nonzero().amax(0).tolist() == [7, 7]
    assert float(found[5, 5]) == pytest.approx(value, rel=1e-5)
    # One of the two squares down, one of the two across.
    assert float(found[2, 2]) == pytest.approx(value / 4, rel=1e-5)
    assert float(found[4, 7]) == pytest.approx(value / 2, rel=1e-5)


def test_quad_is_found_and_its_opposite_is_negative() -> None:
    pixels = torch.full((1, 3, 16, 16), 0.6)
    found = occluded(quadrant((3, 16, 16)), pixels, black(7), "probabilities", 0).maps[0]
    assert float(found[:6, :6].min()) > 0
    assert not bool(found[10:, 10:].any())
    # Four of sixteen 2 x 2 cells of the quadrant are hidden at a time.
    assert float(found[4, 4]) == pytest.approx(0.6 / 4, rel=1e-4)
    other = occluded(quadrant((3, 16, 16)), pixels, black(7), "probabilities", 1).maps[0]
    assert difference(other, -found) < 1e-6


@pytest.mark.parametrize(
    ("shape", "positions", "square"),
    [
        ((3, 30, 30), "14x14", "4x4 pixels"),
        ((3, 30, 60), "14x14", "4x8 pixels"),
        ((3, 8, 30), "7x14", "2x4 pixels"),
        ((3, 1, 2), "1x1", "1x2 pixels"),
    ],
)
def test_squares_keep_the_pictures_proportions(shape: Shape, positions: str, square: str) -> None:
    weights = torch.full(shape, 1 / torch.Size(shape).numel())
    found = occluded(Linear(weights), pictures(1, *shape), black(14), "probabilities", 0)
    assert (found.settings["positions"], found.settings["square"]) == (positions, square)
    assert bool((found.maps > 0).all())


def test_a_flipped_picture_has_the_flipped_map() -> None:
    weights = torch.linspace(0, 1, 768).reshape(3, 16, 16) / 768
    config = black(7)
    found = occluded(Linear(weights), pictures(1), config, "probabilities", 0).maps
    flipped = occluded(Linear(weights.flip(2)), pictures(1).flip(3), config, "probabilities", 0)
    assert difference(flipped.maps.flip(2), found) < 1e-6


def test_a_constant_model_has_a_zero_map() -> None:
    assert not bool(occluded(seeded(Constant), pictures(2), black(9)).maps.any())


def test_out_of_memory_changes_nothing_and_passes_are_counted() -> None:
    network = ShortOfMemory(seeded(FunctionalRelu).double(), most=32)
    with classified(network, (3, 16, 16)) as classifier:
        asked = request(classifier, pictures(2), 1, black(5))
        found = METHODS[METHOD].explain(asked).maps
        assert classifier.evaluator.counter.forward == 2 * (1 + 25)
        network.most = 3
        again = METHODS[METHOD].explain(asked).maps
    assert difference(found, again) < 1e-5 * float(found.abs().max())
