"""Gradient SHAP: a slow mean, captum's expectation, closed forms, and completeness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import GradientShap, IntegratedGradients
from gradient_methods import SHAPE, difference, explained
from torch import Tensor, nn
from toys import (
    FunctionalRelu,
    Linear,
    Pointwise,
    ShortOfMemory,
    classified,
    pictures,
    request,
    seeded,
)

from reportgen.attribution import METHODS
from reportgen.attribution.gradient_shap import BASELINES, shares
from reportgen.config import Config
from reportgen.perturbation.removal import baseline

METHOD = "gradient-shap"
WEIGHTS = torch.linspace(-1, 1, 768).reshape(SHAPE)


def few(draws: int) -> Config:
    return Config(gradient_shap_draws=draws)


def starts(pixels: Tensor) -> Tensor:
    """Return the baselines (4, C, H, W) of a picture (C, H, W), for a toy whose mean is black."""
    mean = (0.0,) * len(pixels)
    return torch.stack([baseline(pixels, kind, mean, 0) for kind in BASELINES])


def slow(network: nn.Module, pixels: Tensor, draws: int) -> Tensor:
    """Return the signed map (H, W) of a picture, one draw at a time."""
    total, places = torch.zeros_like(pixels), shares(draws, 0)
    for draw in range(draws):
        start = starts(pixels)[draw % 4]
        leaf = (start + places[draw] * (pixels - start))[None].requires_grad_()
        (gradient,) = torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)
        total += gradient[0] * (pixels - start)
    return (total / draws).sum(0)


@pytest.mark.parametrize("draws", [1, 6, 9])
def test_the_map_is_the_mean_over_the_draws(draws: int) -> None:
    network, pixels = seeded(FunctionalRelu), pictures(2)
    found = explained(METHOD, network, pixels, few(draws)).maps
    for ours, each in zip(found, pixels, strict=True):
        assert difference(ours, slow(network, each, draws)) < 1e-7
        assert difference(ours, slow(network, each, draws) + 2e-7) > 1e-7
        assert difference(ours, slow(network, each, draws + 1)) > 1e-5


def captums(network: nn.Module, pixels: Tensor, draws: int, target: int = 0) -> Tensor:
    """Return captum's map (H, W), which draws baselines and points from global generators."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)  # captum draws the points on the way from this one
        found = GradientShap(network).attribute(
            pixels[None].repeat(1, 1, 1, 1),
            starts(pixels),
            n_samples=draws,
            stdevs=0.0,
            target=target,
        )
    return found.detach()[0].sum(0)


def expectation(network: nn.Module, pixels: Tensor) -> Tensor:
    """Return the mean of Integrated Gradients from each baseline, finely summed."""
    found = IntegratedGradients(network).attribute(
        pixels.expand(4, *pixels.shape), starts(pixels), target=0, n_steps=200
    )
    return found.detach().sum(1).mean(0)


def test_many_draws_give_captums_expectation() -> None:
    network, pixels = seeded(FunctionalRelu), pictures(1)[0]
    exact = expectation(network, pixels)
    scale = float(exact.abs().max())
    ours = explained(METHOD, network, pixels[None], few(400)).maps[0]
    assert difference(ours, exact) < 0.03 * scale
    # Captum draws independently, and errs more with as many draws.
    assert difference(captums(network, pixels, 400), exact) < 0.15 * scale
    assert difference(captums(network, pixels, 400, target=1), exact) > 0.5 * scale
    assert difference(expectation(network, pixels.flip(2)), exact) > 0.5 * scale


def test_lin_is_known_by_hand() -> None:
    pixels = pictures(1)
    found = explained(METHOD, Linear(WEIGHTS), pixels, few(8))
    expected = (WEIGHTS * (pixels[0] - starts(pixels[0]).mean(0))).sum(0)
    assert difference(found.maps[0], expected) < 1e-5
    assert found.checks[0].value == pytest.approx(0, abs=1e-4)
    uneven = explained(METHOD, Linear(WEIGHTS), pixels, few(5))
    mean = (starts(pixels[0]).sum(0) + starts(pixels[0])[0]) / 5
    assert difference(uneven.maps[0], (WEIGHTS * (pixels[0] - mean)).sum(0)) < 1e-5
    assert uneven.checks[0].value == pytest.approx(0, abs=1e-4)


def test_the_gap_is_measured_and_closes() -> None:
    squares, pixels = Pointwise(lambda x: x**2), pictures(1)
    ends = squares(torch.cat([pixels, starts(pixels[0])]))[:, 0]
    change = float(ends[0] - ends[1:].mean())
    gaps = []
    for draws in (4, 40, 400):
        found = explained(METHOD, squares, pixels, few(draws))
        (check,) = found.checks
        expected = abs(float(found.maps.double().sum()) - change) / abs(change)
        assert check.value == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert check.detail["score change"] == pytest.approx(change, rel=1e-5)
        gaps.append(expected)
    assert gaps[0] > 0.05
    assert gaps[2] < 0.02


def test_points_are_uniform_spread_evenly_and_kept() -> None:
    found = shares(4000, 3)
    assert torch.equal(found[:50], shares(50, 3))
    assert not torch.equal(found[:50], shares(50, 4))
    assert bool(((found >= 0) & (found < 1)).all())
    for kind in range(4):
        own = found[kind::4].sort().values
        # Independent draws leave gaps several times as wide as the mean one, 1/1000.
        assert float(own.diff().max()) < 0.003
        assert float(own.mean()) == pytest.approx(0.5, abs=0.002)
    independent = torch.rand(1000, generator=torch.Generator().manual_seed(0)).sort().values
    assert float(independent.diff().max()) > 0.003


def test_a_score_that_does_not_change_has_no_gap() -> None:
    (check,) = explained(METHOD, Linear(torch.zeros(SHAPE)), pictures(1), few(8)).checks
    assert check.value is None
    assert check.note.startswith("the score is the same")


def test_out_of_memory_changes_nothing_and_passes_are_counted() -> None:
    network = ShortOfMemory(seeded(FunctionalRelu), most=8)
    with classified(network, SHAPE) as classifier:
        counter = classifier.evaluator.counter
        found = METHODS[METHOD].explain(request(classifier, pictures(2), 0, few(6))).maps
        assert (counter.forward, counter.backward) == (2 * (6 + 5), 2 * 6)
        network.most = 2
        again = METHODS[METHOD].explain(request(classifier, pictures(2), 0, few(6))).maps
    assert difference(found, again) < 1e-6
