from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reportgen.errors import UsageError
from reportgen.perturbation.controls import (
    CONTROLS,
    centre_map,
    control_maps,
    random_maps,
    smooth_random_maps,
    sobel_map,
)

MakePicture = Callable[..., Tensor]

DRAWN = {"random": random_maps, "smooth-random": smooth_random_maps}


@pytest.mark.parametrize("key", CONTROLS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_control_maps_are_maps(
    make_picture: MakePicture, key: str, channels: int, dtype: torch.dtype
) -> None:
    pixels = make_picture(channels, 12, 19, dtype=dtype)
    before = pixels.clone()
    maps = control_maps(key, pixels, 4, 0)
    assert maps.shape == (4 if CONTROLS[key].random else 1, 12, 19)
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    assert maps.flatten(1).std(dim=1).min() > 0
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("key", CONTROLS)
def test_only_random_controls_follow_the_seed(make_picture: MakePicture, key: str) -> None:
    pixels = make_picture(3, 12, 19)
    maps = control_maps(key, pixels, 2, 0)
    assert torch.equal(maps, control_maps(key, pixels, 2, 0))
    assert torch.equal(maps, control_maps(key, pixels, 2, 1)) != CONTROLS[key].random


@pytest.mark.parametrize("key", CONTROLS)
def test_only_the_edges_follow_the_picture(make_picture: MakePicture, key: str) -> None:
    one, two = (control_maps(key, make_picture(3, 12, 19, seed=seed), 2, 0) for seed in (0, 1))
    assert torch.equal(one, two) == (key != "edges")


@pytest.mark.parametrize("key", DRAWN)
def test_draws_differ_and_do_not_depend_on_their_number(key: str) -> None:
    three = DRAWN[key](3, (10, 14), 0)
    assert torch.equal(three[:2], DRAWN[key](2, (10, 14), 0))
    assert not torch.equal(three[0], three[1])


def test_the_random_controls_are_unrelated() -> None:
    assert not torch.equal(random_maps(1, (7, 7), 0), smooth_random_maps(1, (7, 7), 0))


def test_random_maps_are_uniform() -> None:
    maps = random_maps(2, (100, 150), 0)
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert abs(maps.mean().item() - 0.5) < 3 * (1 / 12 / 30000) ** 0.5
    assert abs((maps < 0.1).float().mean().item() - 0.1) < 3 * (0.09 / 30000) ** 0.5


def steepest(maps: torch.Tensor) -> float:
    return max(maps.diff(dim=dim).abs().max().item() for dim in (1, 2))


def test_smooth_random_maps_are_as_smooth_as_a_class_activation_map() -> None:
    # Two of 7 neighbours in [0, 1], 32 pixels apart.
    assert steepest(smooth_random_maps(3, (224, 224), 0)) <= 1 / 32 + 1e-6
    assert steepest(random_maps(3, (224, 224), 0)) > 1 / 32 + 1e-6


@pytest.mark.parametrize(("grid", "scale"), [(7, 3), (4, 5)])
def test_smooth_random_maps_pass_through_their_grid(grid: int, scale: int) -> None:
    coarse = smooth_random_maps(2, (grid, grid), 0, grid)
    fine = smooth_random_maps(2, (grid * scale, grid * scale), 0, grid)
    middles = fine[:, scale // 2 :: scale, scale // 2 :: scale]
    torch.testing.assert_close(middles, coarse, atol=1e-6, rtol=0)
    assert coarse.std() > 0.2


def test_edges_of_a_step_are_at_the_step() -> None:
    pixels = torch.zeros(3, 6, 10)
    pixels[:, :, 5:] = 1
    edges = sobel_map(pixels)
    assert edges[:, 4:6].min() > 0.5
    assert not edges[:, :4].any()
    assert not edges[:, 6:].any()


def test_edges_of_a_plain_picture_are_nothing_up_to_its_border() -> None:
    assert not sobel_map(torch.full((3, 8, 8), 0.5)).any()


@pytest.mark.parametrize("channels", [1, 3])
def test_edges_are_sobel_on_the_mean_of_the_channels(
    make_picture: MakePicture, channels: int
) -> None:
    pixels = make_picture(channels, 9, 13, dtype=torch.float64)
    across = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]], dtype=torch.float64) / 4
    kernels = torch.stack([across, across.T])[:, None]
    gradients = F.conv2d(pixels.mean(0)[None, None], kernels)[0]
    expected = gradients.square().mean(0).sqrt()
    torch.testing.assert_close(sobel_map(pixels)[1:-1, 1:-1], expected, atol=1e-12, rtol=0)


def test_centre_map_is_a_gaussian_of_a_quarter_of_each_side() -> None:
    values = centre_map((9, 17))
    assert values[4, 8] == 1
    assert values[4, 8 + 4].item() == pytest.approx(math.exp(-0.5 * (4 / (17 / 4)) ** 2), rel=1e-6)
    assert values[4 - 3, 8].item() == pytest.approx(math.exp(-0.5 * (3 / (9 / 4)) ** 2), rel=1e-6)
    assert torch.equal(values, values.flip((0, 1)))


def test_centre_map_of_even_sides_is_symmetric() -> None:
    values = centre_map((8, 6))
    assert torch.equal(values, values.flip(0))
    assert torch.equal(values, values.flip(1))
    assert values.argmax().item() == 3 * 6 + 2


def test_unknown_control_lists_the_known(make_picture: MakePicture) -> None:
    with pytest.raises(UsageError, match=r"'checker'.*random, smooth-random, edges, centre"):
        control_maps("checker", make_picture(1, 4, 4), 1, 0)
