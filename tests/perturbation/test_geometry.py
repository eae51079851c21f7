from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from torch import Tensor

from reportgen.perturbation.geometry import rotated

MakePicture = Callable[..., Tensor]

ODD_ANGLES = [-170.0, -45.0, -0.5, 1.0, 33.3, 90.0, 123.0, 300.0]


def turn(pixels: Tensor, *angles: float) -> Tensor:
    return rotated(pixels, torch.tensor(angles), pixels.mean((1, 2)))


def turned_by_scipy(pixels: Tensor, angle: float, fill: Tensor) -> Tensor:
    """Return the turned picture, computed in pixels with y downwards, one channel at a time."""
    height, width = pixels.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(float)
    down, right = rows - (height - 1) / 2, columns - (width - 1) / 2
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    source = [
        sin * right + cos * down + (height - 1) / 2,
        cos * right - sin * down + (width - 1) / 2,
    ]
    channels = [
        map_coordinates(channel.numpy(), source, order=1, mode="grid-constant", cval=ground.item())
        for channel, ground in zip(pixels, fill, strict=True)
    ]
    return torch.from_numpy(np.stack(channels))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (13, 24), (24, 13), (1, 7)])
@pytest.mark.parametrize("channels", [1, 3])
def test_rotation_is_that_of_scipy(
    make_picture: MakePicture, channels: int, height: int, width: int
) -> None:
    pixels = make_picture(channels, height, width, dtype=torch.float64)
    fill = torch.linspace(0, 1, channels + 2, dtype=torch.float64)[1:-1]
    pictures = rotated(pixels, torch.tensor(ODD_ANGLES, dtype=torch.float64), fill)
    expected = [turned_by_scipy(pixels, angle, fill) for angle in ODD_ANGLES]
    torch.testing.assert_close(pictures, torch.stack(expected), atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([1, 3]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0.0, 360.0, -360.0, 720.0]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_whole_turns_are_exact(
    make_picture: MakePicture,
    channels: int,
    height: int,
    width: int,
    angle: float,
    dtype: torch.dtype,
) -> None:
    pixels = make_picture(channels, height, width, dtype=dtype)
    pictures = turn(pixels, 10.0, angle)
    assert pictures.shape == (2, *pixels.shape)
    assert pictures.dtype == dtype
    assert torch.equal(pictures[1], pixels)


@pytest.mark.parametrize("side", [7, 32, 64])
def test_quarter_turns_of_a_square(make_picture: MakePicture, side: int) -> None:
    pixels = make_picture(3, side, side)
    expected = [torch.rot90(pixels, quarters, (1, 2)) for quarters in (1, -1, 2, 3)]
    pictures = turn(pixels, 90.0, -90.0, 180.0, 270.0)
    torch.testing.assert_close(pictures, torch.stack(expected), atol=1e-5, rtol=0)


def test_quarter_turn_of_a_large_square_is_exact_but_for_float32(make_picture: MakePicture) -> None:
    # In float32 the coordinates in [-1, 1] are off by 112 * 2^-23 pixels across and downwards:
    # at most 2.7e-5 on white noise; measured 1.3e-5.
    pixels = make_picture(3, 224, 224, dtype=torch.float64)
    expected = torch.rot90(pixels, 1, (1, 2))[None]
    torch.testing.assert_close(turn(pixels, 90.0), expected, atol=1e-12, rtol=0)
    single = rotated(pixels.float(), torch.tensor([90.0]), torch.zeros(3))
    torch.testing.assert_close(single, expected.float(), atol=3e-5, rtol=0)


def test_half_turn_of_a_non_square_is_two_flips(make_picture: MakePicture) -> None:
    pixels = make_picture(3, 20, 37)
    expected = pixels.flip((1, 2))[None].expand(2, -1, -1, -1)
    torch.testing.assert_close(turn(pixels, 180.0, -180.0), expected, atol=1e-5, rtol=0)


def test_positive_is_counter_clockwise_on_screen() -> None:
    pixels = torch.zeros(1, 9, 9)
    pixels[0, 4, 8] = 1  # a light at the right goes to the top
    assert turn(pixels, 90.0)[0, 0].argmax().item() == 4
    assert turn(pixels, -90.0)[0, 0].argmax().item() == 8 * 9 + 4


def test_non_square_pictures_turn_without_shear() -> None:
    pixels = torch.zeros(1, 21, 61)
    pixels[0, 10, 30:38] = 1  # from the centre to the right: upwards, and as long, after 90 degrees
    bright = rotated(pixels, torch.tensor([90.0]), torch.zeros(1))[0, 0] > 0.5
    assert bright.nonzero().tolist() == [[row, 30] for row in range(3, 11)]


def test_mirrored_pictures_turn_the_other_way(make_picture: MakePicture) -> None:
    pixels = make_picture(3, 15, 22, dtype=torch.float64)
    mirrored = turn(pixels.flip(2), 25.0, 200.0).flip(3)
    torch.testing.assert_close(mirrored, turn(pixels, -25.0, -200.0), atol=1e-12, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_border_blends_into_the_fill(channels: int) -> None:
    colour = torch.linspace(0.3, 0.9, channels)
    pixels = colour[:, None, None].repeat(1, 14, 19)
    pictures = rotated(pixels, torch.tensor(ODD_ANGLES), colour)
    expected = pixels.expand_as(pictures)
    assert torch.equal(pictures, expected)
    theta = torch.tensor([[[0.8, -0.6, 0.0], [0.6, 0.8, 0.0]]])
    grid = F.affine_grid(theta, [1, channels, 14, 19], align_corners=False)
    darkened = F.grid_sample(pixels[None], grid, align_corners=False)
    corner = darkened.sum(1) == 0
    darkened = torch.where(corner[:, None], expected[:1], darkened)  # fills corners, not the blend
    assert not torch.equal(darkened, expected[:1])


def test_corners_have_the_fill() -> None:
    fill = torch.tensor([0.25, 0.5, 0.75])
    picture = rotated(torch.zeros(3, 30, 30), torch.tensor([45.0]), fill)[0]
    for row, column in [(0, 0), (0, 29), (29, 0), (29, 29)]:
        assert torch.equal(picture[:, row, column], fill)
    assert not picture[:, 15, 15].any()


def test_batch_is_one_by_one_and_stays_in_range(make_picture: MakePicture) -> None:
    pixels = make_picture(3, 17, 12).round()  # black and white: any overshoot leaves [0, 1]
    before = pixels.clone()
    pictures = turn(pixels, *ODD_ANGLES)
    assert torch.equal(pictures, torch.cat([turn(pixels, angle) for angle in ODD_ANGLES]))
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    pictures.fill_(-1)
    assert torch.equal(pixels, before)


def test_whole_turn_is_a_copy(make_picture: MakePicture) -> None:
    pixels = make_picture(1, 5, 5)
    before = pixels.clone()
    turn(pixels, 0.0).fill_(-1)
    assert torch.equal(pixels, before)
