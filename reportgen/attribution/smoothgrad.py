"""SmoothGrad: the mean gradient over noisy copies of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reportgen.attribution.base import Explained, Method, Request
from reportgen.attribution.gradients import gradients, largest
from reportgen.attribution.sampling import sampling_error
from reportgen.config import Config
from reportgen.perturbation.streams import stream
from reportgen.records import Card
from reportgen.work import Size, Work

CARD = Card(
    key="smoothgrad",
    title="SmoothGrad",
    category="gradient, averaged over noise",
    definition="The gradient of the class score, averaged over copies of the picture with Gaussian "
    "noise; the largest absolute value over the channels of each pixel. The noise's standard "
    "deviation is a share of the picture's range of values.",
    paper="Smilkov et al., SmoothGrad: Removing Noise by Adding Noise, 2017, arXiv 1706.03825",
    range=(0, None),
    needs="gradients of the input, once a copy",
    seeding="one stream a copy, the same for every picture; more copies keep the first ones",
    self_check="sampling error: the standard error of the mean gradient, as a share of its norm",
    limits="Says how strongly the score reacts around the picture, not how much a pixel "
    "contributed, and not in which direction. Noisy copies may leave [0, 1].",
    granularity="pixels",
)


@dataclass(frozen=True)
class _Mean:
    """The mean gradient (C, H, W), and its summed squared standard errors."""

    gradient: Tensor
    error: float | None


def _explain(request: Request) -> Explained:
    means = [_mean(request, pixels) for pixels in request.pixels]
    config = request.config
    first = means[0]
    return Explained(
        maps=torch.stack([largest(each.gradient) for each in means]).to(request.pixels.device),
        signed=False,
        resolution="pixels",
        settings={
            "score": request.classifier.evaluator.head.score,
            "copies": config.smoothgrad_draws,
            "noise": "Gaussian, not clipped",
            "sigma": config.smoothgrad_sigma,
            "sigma is a share of": "the picture's largest minus its smallest value",
            "channels": "largest absolute value of the mean",
            "seed": request.seed,
        },
        checks=(
            sampling_error(CARD.key, first.gradient, first.error, config.smoothgrad_draws, "copy"),
        ),
    )


def _mean(request: Request, pixels: Tensor) -> _Mean:
    """Return the mean gradient by one picture (C, H, W), summed in float64 on the CPU."""
    draws = request.config.smoothgrad_draws

    def run(size: int) -> tuple[Tensor, Tensor]:
        parts = [
            gradients(request, _copies(request, pixels, start, min(start + size, draws)))
            for start in range(0, draws, size)
        ]
        exact = [part.cpu().double() for part in parts]
        total = torch.stack([part.sum(0) for part in exact]).sum(0)
        return total, torch.stack([part.square().sum(0) for part in exact]).sum(0)

    total, squares = request.classifier.evaluator.within_memory(run)
    mean = total / draws
    if draws == 1:
        return _Mean(mean, None)
    variances = ((squares - draws * mean.square()) / (draws - 1)).clamp_min(0)
    return _Mean(mean, float(variances.sum()) / draws)


def _copies(request: Request, pixels: Tensor, start: int, stop: int) -> Tensor:
    """Return the noisy copies ``start`` to ``stop`` (exclusive) of a picture (C, H, W)."""
    scale = request.config.smoothgrad_sigma * (pixels.amax() - pixels.amin())
    noise = [
        torch.randn(pixels.shape, generator=stream(request.seed, "smoothgrad", draw))
        for draw in range(start, stop)
    ]
    return pixels + scale * torch.stack(noise).to(pixels)


def _work(config: Config, size: Size) -> Work:
    return Work(1, 1) * config.smoothgrad_draws


METHOD = Method(CARD, _explain, _work, ("smoothgrad_draws", "smoothgrad_sigma"))
