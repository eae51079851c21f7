"""Noise on a picture: the three noises of ImageNet-C, and small uniform noise.

Paper: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations, ICLR 2019 (arXiv 1903.12261). Their pictures are stored as JPEG files; these are
not, so that numbers differ a little from those on the published pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reportgen.errors import UsageError, unknown_name
from reportgen.perturbation.streams import stream

SEVERITIES = (1, 2, 3, 4, 5)
SMALL_SIDE = 64

CONSTANTS: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "ImageNet-C": {
        "gaussian": (0.08, 0.12, 0.18, 0.26, 0.38),
        "shot": (60, 25, 12, 5, 3),
        "impulse": (0.03, 0.06, 0.09, 0.17, 0.27),
    },
    "CIFAR-C": {
        "gaussian": (0.04, 0.06, 0.08, 0.09, 0.10),
        "shot": (500, 250, 100, 75, 50),
        "impulse": (0.01, 0.02, 0.03, 0.05, 0.07),
    },
}


@dataclass(frozen=True)
class Corruption:
    """One kind of noise: its title, what its constant means, and the function that applies it."""

    title: str
    constant: str
    corrupt: Callable[[Tensor, float, torch.Generator], Tensor]


def constants_for(size: tuple[int, int]) -> str:
    """Return the name of the constants for pictures of ``size`` (height, width), in pixels.

    "CIFAR-C" where the short side is below 64 pixels, else "ImageNet-C": what a large picture
    bears would drown a small one.
    """
    return "CIFAR-C" if min(size) < SMALL_SIDE else "ImageNet-C"


def severity_constant(size: tuple[int, int], kind: str, severity: int) -> float:
    """Return the constant of ``kind`` at ``severity`` 1 to 5 for pictures of ``size``.

    Raises UsageError for an unknown kind or severity.
    """
    if kind not in CORRUPTIONS:
        raise unknown_name("corruption", kind, CORRUPTIONS)
    if severity not in SEVERITIES:
        raise UsageError(f"Expected a severity from 1 to 5 and got {severity}; choose one of them.")
    return CONSTANTS[constants_for(size)][kind][severity - 1]


def corrupted(pixels: Tensor, kind: str, severity: int, draws: int, seed: int) -> Tensor:
    """Return ``draws`` noisy copies (draws, C, H, W), clipped to [0, 1], of a picture (C, H, W).

    Each (kind, severity, draw) has a stream of its own, so that draw 3 is the same picture however
    many are drawn. Raises UsageError for an unknown kind or severity.
    """
    height, width = pixels.shape[-2:]
    constant = severity_constant((height, width), kind, severity)
    corrupt, picture = CORRUPTIONS[kind].corrupt, pixels.cpu()
    streams = (stream(seed, "corruption", kind, severity, draw) for draw in range(draws))
    copies = [corrupt(picture, constant, generator) for generator in streams]
    return torch.stack(copies).clamp_(0, 1).to(pixels.device)


def small_noise(pixels: Tensor, radius: float, draws: int, seed: int) -> Tensor:
    """Return ``draws`` copies (draws, C, H, W) with noise uniform in [-radius, radius].

    Each channel value is drawn by itself and clipped to [0, 1], so that no value moves further
    than ``radius``, and black and white pixels move to one side only. ``radius`` is in units of
    pixel values. Paper: Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS
    2019 (arXiv 1901.09392).
    """
    picture = pixels.cpu()
    streams = (stream(seed, "small noise", draw) for draw in range(draws))
    noise = torch.stack([_uniform(picture, generator) for generator in streams])
    return (picture + radius * (2 * noise - 1)).clamp(0, 1).to(pixels.device)


def _gaussian(pixels: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    noise = torch.randn(pixels.shape, generator=generator, dtype=pixels.dtype)
    return noise.mul_(sigma).add_(pixels)


def _shot(pixels: Tensor, photons: float, generator: torch.Generator) -> Tensor:
    return torch.poisson(pixels * photons, generator=generator).div_(photons)


def _impulse(pixels: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    lot = _uniform(pixels, generator)
    salted = torch.where(lot < amount / 2, 1.0, pixels)
    return torch.where((lot >= amount / 2) & (lot < amount), 0.0, salted)


def _uniform(pixels: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(pixels.shape, generator=generator, dtype=pixels.dtype)


CORRUPTIONS: Mapping[str, Corruption] = {
    "gaussian": Corruption(
        "Gaussian noise", "standard deviation of the noise, in pixel values", _gaussian
    ),
    "shot": Corruption("Shot noise", "photons that make a channel value of 1", _shot),
    "impulse": Corruption(
        "Impulse noise", "share of channel values replaced, half by 1 and half by 0", _impulse
    ),
}
