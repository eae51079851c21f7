from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reportgen.errors import UsageError
from reportgen.perturbation.corruption import (
    CONSTANTS,
    CORRUPTIONS,
    SEVERITIES,
    constants_for,
    corrupted,
    severity_constant,
    small_noise,
)

MakePicture = Callable[..., Tensor]

LARGE, SMALL = (64, 96), (32, 40)


def grey(height: int = 200, width: int = 200) -> Tensor:
    return torch.full((3, height, width), 0.5)


def assert_share(observed: Tensor, expected: float) -> None:
    """Fail unless the share of true values is within three standard errors of ``expected``."""
    sigma = (expected * (1 - expected) / observed.numel()) ** 0.5
    assert abs(observed.float().mean().item() - expected) < 3 * sigma


def test_share_that_is_wrong_would_be_noticed() -> None:
    with pytest.raises(AssertionError):
        assert_share(torch.arange(10000) < 5200, 0.5)


def test_every_corruption_has_its_constants() -> None:
    for constants in CONSTANTS.values():
        assert set(constants) == set(CORRUPTIONS)
        assert all(len(values) == len(SEVERITIES) for values in constants.values())


@pytest.mark.parametrize(
    ("size", "name"),
    [
        ((63, 500), "CIFAR-C"),
        ((500, 63), "CIFAR-C"),
        ((64, 64), "ImageNet-C"),
        ((224, 224), "ImageNet-C"),
        ((28, 28), "CIFAR-C"),
    ],
)
def test_constants_follow_the_short_side(size: tuple[int, int], name: str) -> None:
    assert constants_for(size) == name


def test_constants_of_the_two_sets() -> None:
    assert severity_constant(LARGE, "gaussian", 5) == 0.38
    assert severity_constant(SMALL, "gaussian", 5) == 0.10
    assert severity_constant(LARGE, "shot", 1) == 60
    assert severity_constant(SMALL, "impulse", 3) == 0.03


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_noise_has_its_sigma(severity: int) -> None:
    sigma = severity_constant((200, 200), "gaussian", severity)
    change = corrupted(grey(), "gaussian", severity, 1, 0) - 0.5
    assert_share(change.abs() < sigma, math.erf(1 / math.sqrt(2)))
    assert_share(change > 0, 0.5)
    assert_share(change.abs() == 0.5, 1 - math.erf(0.5 / sigma / math.sqrt(2)))


def test_gaussian_noise_before_clipping_has_its_standard_deviation() -> None:
    noisy = corrupted(grey(), "gaussian", 1, 1, 0)  # 0.08: clipping is six sigma away
    assert abs(noisy.std().item() - 0.08) < 3 * 0.08 / (2 * noisy.numel()) ** 0.5


def test_shot_noise_has_the_spread_of_counted_photons() -> None:
    noisy = corrupted(grey(), "shot", 1, 1, 0)
    sigma = math.sqrt(0.5 / 60)
    assert sigma == pytest.approx(0.0913, abs=5e-5)
    assert abs(noisy.mean().item() - 0.5) < 3 * sigma / noisy.numel() ** 0.5
    # n Poisson draws of mean m = 30 have a sample variance with variance (2 m^2 + m) / n.
    spread = sigma * ((2 + 1 / 30) / noisy.numel()) ** 0.5 / 2
    assert abs(noisy.std().item() - sigma) < 3 * spread
    photons = noisy * 60
    torch.testing.assert_close(photons, photons.round(), atol=1e-4, rtol=0)


def test_shot_noise_leaves_black_black() -> None:
    assert not corrupted(torch.zeros(3, 64, 64), "shot", 5, 2, 0).any()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise_strikes_each_channel_by_itself(severity: int) -> None:
    amount = severity_constant((200, 200), "impulse", severity)
    noisy = corrupted(grey(), "impulse", severity, 1, 0)
    struck = noisy != 0.5
    assert_share(struck, amount)
    assert_share(noisy[struck] == 1, 0.5)
    assert set(noisy[struck].unique().tolist()) == {0.0, 1.0}
    assert_share(struck.any(1), 1 - (1 - amount) ** 3)
    if severity == 5:
        assert 1 - (1 - amount) ** 3 == pytest.approx(0.611, abs=5e-5)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("side", [63, 64])
def test_severities_rise(kind: str, side: int) -> None:
    pixels = grey(side, side)
    changes = [
        (corrupted(pixels, kind, severity, 4, 0) - pixels).abs().mean().item()
        for severity in SEVERITIES
    ]
    assert changes == sorted(set(changes))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_small_pictures_get_less_noise(kind: str) -> None:
    small, large = grey(63, 63), grey(64, 64)
    assert (corrupted(small, kind, 3, 2, 0) - 0.5).abs().mean() < (
        corrupted(large, kind, 3, 2, 0) - 0.5
    ).abs().mean()


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(list(CORRUPTIONS)),
    st.sampled_from(SEVERITIES),
    st.sampled_from([1, 3]),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_copies_are_pictures(
    make_picture: MakePicture,
    kind: str,
    severity: int,
    channels: int,
    height: int,
    width: int,
    dtype: torch.dtype,
) -> None:
    pixels = make_picture(channels, height, width, dtype=dtype)
    before = pixels.clone()
    for copies in (corrupted(pixels, kind, severity, 2, 0), small_noise(pixels, 0.1, 2, 0)):
        assert copies.shape == (2, channels, height, width)
        assert copies.dtype == dtype
        assert copies.min() >= 0
        assert copies.max() <= 1
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_draws_are_set_by_seed_severity_and_number(make_picture: MakePicture, kind: str) -> None:
    pixels = make_picture(3, 16, 20)
    three = corrupted(pixels, kind, 2, 3, 0)
    assert torch.equal(three, corrupted(pixels, kind, 2, 3, 0))
    assert torch.equal(three[:2], corrupted(pixels, kind, 2, 2, 0))
    assert not torch.equal(three[0], three[1])
    assert not torch.equal(three, corrupted(pixels, kind, 2, 3, 1))


def assert_unrelated(one: Tensor, two: Tensor) -> None:
    correlation = torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1]
    assert abs(correlation.item()) < 3 / one.numel() ** 0.5


def test_noise_that_is_related_would_be_noticed() -> None:
    noise = corrupted(grey(), "gaussian", 1, 1, 0)
    with pytest.raises(AssertionError):
        assert_unrelated(noise, 0.02 * noise + corrupted(grey(), "gaussian", 2, 1, 0))


def test_severities_do_not_share_their_noise() -> None:
    assert_unrelated(*(corrupted(grey(), "gaussian", severity, 1, 0) for severity in (1, 2)))


def test_kinds_do_not_share_their_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CORRUPTIONS, "impulse", CORRUPTIONS["gaussian"])
    assert_unrelated(*(corrupted(grey(), kind, 1, 1, 0) for kind in ("gaussian", "impulse")))


def test_small_noise_is_uniform_within_its_radius() -> None:
    change = small_noise(grey(), 0.1, 1, 0) - 0.5
    assert change.abs().max() <= 0.1 + 1e-7  # float32 around 0.5
    assert_share(change.abs() < 0.05, 0.5)
    assert_share(change > 0.05, 0.25)


def test_small_noise_is_clipped() -> None:
    change = small_noise(torch.ones(3, 100, 100), 0.1, 1, 0) - 1
    assert change.min() < -0.09
    assert_share(change == 0, 0.5)


def test_small_noise_is_set_by_seed_and_number(make_picture: MakePicture) -> None:
    pixels = make_picture(1, 9, 7)
    three = small_noise(pixels, 0.02, 3, 0)
    assert torch.equal(three, small_noise(pixels, 0.02, 3, 0))
    assert torch.equal(three[:1], small_noise(pixels, 0.02, 1, 0))
    assert not torch.equal(three[0], three[1])
    assert not torch.equal(three, small_noise(pixels, 0.02, 3, 1))


def test_unknown_corruption_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"'fog'.*gaussian, shot, impulse"):
        corrupted(grey(8, 8), "fog", 1, 1, 0)


@pytest.mark.parametrize("severity", [0, 6])
def test_severity_out_of_range_is_refused(severity: int) -> None:
    with pytest.raises(UsageError, match=f"from 1 to 5 and got {severity}"):
        corrupted(grey(8, 8), "shot", severity, 1, 0)
