from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from reportgen.config import Baseline
from reportgen.errors import NotApplicable, UsageError
from reportgen.perturbation.removal import BASELINES, baseline

MakePicture = Callable[..., Tensor]

MEANS = {1: (0.25,), 3: (0.5, 0.25, 0.125)}


def test_every_baseline_of_the_options_exists() -> None:
    assert tuple(BASELINES) == get_args(Baseline)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(list(BASELINES)),
    st.sampled_from([1, 3]),
    st.integers(2, 70),
    st.integers(2, 70),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_baseline_is_a_new_picture_of_the_same_shape(
    make_picture: MakePicture,
    kind: Baseline,
    channels: int,
    height: int,
    width: int,
    dtype: torch.dtype,
) -> None:
    pixels = make_picture(channels, height, width, dtype=dtype)
    before = pixels.clone()
    fill = baseline(pixels, kind, MEANS[channels], 0)
    assert fill.shape == pixels.shape
    assert fill.dtype == dtype
    assert fill.min() >= 0
    assert fill.max() <= 1
    fill.fill_(-1)
    assert (fill == -1).all()
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("kind", BASELINES)
def test_baseline_is_set_by_its_seed(make_picture: MakePicture, kind: Baseline) -> None:
    pixels = make_picture(3, 10, 12)
    first, again, other = (baseline(pixels, kind, MEANS[3], seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (kind != "noise")


def test_black_is_zero(make_picture: MakePicture) -> None:
    assert not baseline(make_picture(3, 4, 5), "black", MEANS[3], 0).any()


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_is_zero_after_normalisation(make_picture: MakePicture, channels: int) -> None:
    fill = baseline(make_picture(channels, 4, 5), "mean", MEANS[channels], 0)
    assert not (fill - torch.tensor(MEANS[channels])[:, None, None]).any()


def test_image_mean_keeps_the_mean_of_each_channel() -> None:
    pixels = torch.tensor([[[0.0, 1.0], [0.5, 0.5]], [[0.25, 0.25], [0.0, 0.5]]])
    fill = baseline(pixels, "image-mean", (0, 0), 0)
    assert fill.tolist() == [[[0.5, 0.5], [0.5, 0.5]], [[0.25, 0.25], [0.25, 0.25]]]


def test_noise_is_uniform_and_differs_by_channel(make_picture: MakePicture) -> None:
    fill = baseline(make_picture(3, 100, 100), "noise", MEANS[3], 0)
    assert abs(fill.mean().item() - 0.5) < 3 * (1 / 12 / 30000) ** 0.5
    assert abs((fill < 0.1).float().mean().item() - 0.1) < 3 * (0.09 / 30000) ** 0.5
    assert not torch.equal(fill[0], fill[1])


def blurred_by_scipy(pixels: Tensor, radius: int, sigma: float, mode: str) -> Tensor:
    values = pixels.numpy()
    for axis in (1, 2):
        values = gaussian_filter1d(values, sigma, axis=axis, mode=mode, radius=radius)
    return torch.from_numpy(np.ascontiguousarray(values))


@pytest.mark.parametrize(
    ("height", "width", "radius", "sigma"),
    [
        (224, 224, 5, 5.0),  # RISE: kernel 11, sigma 5
        (224, 300, 5, 5.0),  # the short side decides
        (300, 112, 2, 2.5),
        (448, 448, 10, 10.0),
        (62, 70, 1, 5 * 62 / 224),
        (28, 28, 1, 15 / 11),  # no smaller than kernel 3
        (2, 3, 1, 15 / 11),
    ],
)
def test_blur_is_that_of_scipy(
    make_picture: MakePicture, height: int, width: int, radius: int, sigma: float
) -> None:
    pixels = make_picture(1, height, width, dtype=torch.float64)
    fill = baseline(pixels, "blur", MEANS[1], 0)
    expected = blurred_by_scipy(pixels, radius, sigma, mode="mirror")
    torch.testing.assert_close(fill, expected, atol=1e-12, rtol=0)


def test_blur_leaves_a_white_picture_white_up_to_its_border() -> None:
    white = torch.ones(3, 224, 224)
    fill = baseline(white, "blur", MEANS[3], 0)
    torch.testing.assert_close(fill, white, atol=1e-6, rtol=0)
    padded_with_zeros = blurred_by_scipy(white, 5, 5.0, mode="constant")
    with pytest.raises(AssertionError):
        torch.testing.assert_close(padded_with_zeros, white, atol=1e-6, rtol=0)


def test_unknown_baseline_lists_the_known(make_picture: MakePicture) -> None:
    with pytest.raises(UsageError, match=r"'white'.*black, mean, image-mean, blur, noise"):
        baseline(make_picture(3, 4, 4), "white", MEANS[3], 0)


@pytest.mark.parametrize("kind", BASELINES)
def test_mean_of_another_length_is_refused(make_picture: MakePicture, kind: Baseline) -> None:
    with pytest.raises(UsageError, match="mean of 3 values, one a channel, and got 1"):
        baseline(make_picture(3, 4, 4), kind, (0.5,), 0)


def test_one_pixel_wide_pictures_cannot_be_blurred(make_picture: MakePicture) -> None:
    with pytest.raises(NotApplicable, match="at least 2 pixels and got 1x5"):
        baseline(make_picture(1, 1, 5), "blur", MEANS[1], 0)
