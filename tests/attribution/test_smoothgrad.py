"""SmoothGrad: a slow average, captum's noise tunnel, closed forms, and its draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from captum.attr import NoiseTunnel, Saliency
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
from reportgen.config import Config
from reportgen.perturbation.streams import stream

METHOD = "smoothgrad"


def few(draws: int, sigma: float = 0.15) -> Config:
    return Config(smoothgrad_draws=draws, smoothgrad_sigma=sigma)


def gradient(network: nn.Module, pixels: Tensor) -> Tensor:
    leaf = pixels.clone().requires_grad_()
    return torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)[0]


def slow(
    network: nn.Module, pixels: Tensor, draws: int, reduce: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the paper's mean over noisy copies of pixels (C, H, W), one copy at a time."""
    scale = 0.15 * (pixels.max() - pixels.min())
    found = []
    for draw in range(draws):
        noise = torch.randn(pixels.shape, generator=stream(0, "smoothgrad", draw))
        found.append(gradient(network, (pixels + scale * noise)[None])[0])
    return reduce(torch.stack(found))


def test_the_map_is_the_papers_mean() -> None:
    network, pixels = seeded(FunctionalRelu), pictures(2)
    ours = explained(METHOD, network, pixels, few(7)).maps
    for found, each in zip(ours, pixels, strict=True):
        theirs = slow(network, each, 7, lambda g: g.mean(0).abs().amax(0))
        assert difference(found, theirs) < 1e-7
        assert difference(found, theirs + 2e-7) > 1e-7
        # The mean of absolute values is another map.
        other = slow(network, each, 7, lambda g: g.abs().mean(0).amax(0))
        assert difference(found, other) > 1e-4
        assert difference(found, slow(network, each, 8, lambda g: g.mean(0).abs().amax(0))) > 1e-4


def tunnel(network: nn.Module, pixels: Tensor, draws: int, sigma: float) -> Tensor:
    """Return captum's signed mean gradient, which draws from torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = NoiseTunnel(Saliency(network)).attribute(
            pixels, nt_type="smoothgrad", nt_samples=draws, stdevs=sigma, target=0, abs=False
        )
    return found.detach()


def test_many_copies_give_captums_expectation() -> None:
    """The gradient of a quartic under noise is known: 4 x^3 + 12 x sigma^2."""
    quartic, pixels = Pointwise(lambda x: x**4), pictures(1, 1, 8, 8)
    sigma = 0.15 * float(pixels.max() - pixels.min())
    exact = (4 * pixels**3 + 12 * pixels * sigma**2)[0, 0]
    ours = explained(METHOD, quartic, pixels, few(800)).maps[0]
    theirs = tunnel(quartic, pixels, 800, sigma)[0, 0]
    assert difference(ours, exact) < 0.06
    assert difference(theirs, exact) < 0.06
    assert difference((4 * pixels**3)[0, 0], exact) > 0.1
    assert difference(ours, tunnel(quartic, pixels, 800, 2 * sigma)[0, 0]) > 0.2


def test_a_linear_model_has_its_gradient_whatever_the_noise() -> None:
    weights = torch.linspace(-1, 1, 768).reshape(SHAPE)
    for draws in (1, 3):
        found = explained(METHOD, Linear(weights), pictures(1), few(draws))
        assert difference(found.maps[0], weights.abs().amax(0)) < 1e-6
    assert found.checks[0].value == pytest.approx(0, abs=1e-6)


def test_a_constant_picture_has_no_noise() -> None:
    network, grey = seeded(FunctionalRelu), torch.full((1, *SHAPE), 0.5)
    found = explained(METHOD, network, grey, few(3)).maps
    assert difference(found, explained("saliency", network, grey).maps) < 1e-6


@contextmanager
def watched(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the pictures that the network is given, without normalisation."""
    seen: list[Tensor] = []
    handle = network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    yield seen
    handle.remove()


def copies(pixels: Tensor, draws: int, batch: int = 32) -> Tensor:
    network = seeded(FunctionalRelu)
    with classified(network, SHAPE, batch_size=batch) as classifier, watched(network) as seen:
        METHODS[METHOD].explain(request(classifier, pixels, 0, few(draws)))
        assert classifier.evaluator.counter.backward == draws * len(pixels)
    return torch.cat(seen)


def test_more_copies_keep_the_first_ones_in_any_batch() -> None:
    pixels = pictures(1)
    assert torch.equal(copies(pixels, 9)[:5], copies(pixels, 5))
    assert torch.equal(copies(pixels, 9, batch=2), copies(pixels, 9))


def test_the_noise_has_the_share_of_the_range() -> None:
    pixels = pictures(1) * 0.5 + 0.2
    noise = copies(pixels, 40) - pixels
    scale = 0.15 * float(pixels.max() - pixels.min())
    assert float(noise.std()) == pytest.approx(scale, rel=0.02)
    assert abs(float(noise.mean())) < 0.02 * scale


def test_the_sampling_error_is_that_of_the_mean() -> None:
    network, pixels = seeded(FunctionalRelu), pictures(1)
    (check,) = explained(METHOD, network, pixels, few(12)).checks
    draws = slow(network, pixels[0], 12, lambda g: g)
    expected = float((draws.var(0) / 12).sum().sqrt() / draws.mean(0).norm())
    assert check.value == pytest.approx(expected, rel=1e-5)
    assert check.metric == "sampling_error"
    assert check.settings["samples"] == 12
    more = explained(METHOD, network, pixels, few(300)).checks[0]
    assert more.value is not None
    assert more.value < 0.5 * expected


def test_one_copy_has_no_sampling_error() -> None:
    (check,) = explained(METHOD, seeded(FunctionalRelu), pictures(1), few(1)).checks
    assert (check.value, check.note) == (None, "one sample says nothing of its error")


def test_out_of_memory_changes_nothing() -> None:
    network = ShortOfMemory(seeded(FunctionalRelu), most=8)
    with classified(network, SHAPE) as classifier:
        network.most = 3
        found = METHODS[METHOD].explain(request(classifier, pictures(2), 0, few(5))).maps
    expected = explained(METHOD, seeded(FunctionalRelu), pictures(2), few(5)).maps
    assert difference(found, expected) < 1e-6
