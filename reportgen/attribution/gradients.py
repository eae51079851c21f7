"""Saliency and Integrated Gradients, by captum."""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.attr import IntegratedGradients, Saliency
from torch import Tensor

from reportgen.attribution.base import Explained, Method, Request
from reportgen.errors import NotApplicable
from reportgen.perturbation.removal import baseline
from reportgen.records import Card, Measurement

SALIENCY = Card(
    key="saliency",
    title="Saliency",
    category="gradient",
    definition="The largest absolute gradient of the class score over the channels of each pixel.",
    paper="Simonyan et al., Deep Inside Convolutional Networks, 2013, arXiv 1312.6034",
    range=(0, None),
    needs="gradients of the input",
    seeding="deterministic",
    limits="Says how strongly the score reacts to a small change of a pixel, not how much the "
    "pixel contributed, and not in which direction.",
)
INTEGRATED_GRADIENTS = Card(
    key="integrated-gradients",
    title="Integrated Gradients",
    category="gradient, along a path",
    definition="Each pixel's difference from a baseline picture, times the mean gradient of the "
    "class score on the straight line between the two; summed over channels.",
    paper="Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, "
    "arXiv 1703.01365",
    needs="gradients of the input",
    seeding="deterministic; a noise baseline is drawn with the run's seed",
    self_check="completeness gap: how far the map's sum is from the score's change between "
    "baseline and picture, as a share of that change",
    limits="Depends on the baseline: parts of the picture that look like the baseline get nothing.",
)


def _saliency(request: Request) -> Explained:
    def run(size: int) -> Tensor:
        parts = [_gradient(request, part) for part in torch.split(request.pixels, size)]
        return torch.cat(parts)

    maps = request.classifier.evaluator.within_memory(run)
    return Explained(
        maps=maps,
        signed=False,
        resolution="pixels",
        settings={
            "score": request.classifier.evaluator.head.score,
            "channels": "largest absolute value",
        },
    )


def _gradient(request: Request, pixels: Tensor) -> Tensor:
    method = Saliency(_differentiable(request))
    gradient = method.attribute(pixels.clone().requires_grad_(), target=request.target, abs=True)
    largest: Tensor = gradient.detach().amax(dim=1).float()
    return largest


def _integrated_gradients(request: Request) -> Explained:
    config, classifier = request.config, request.classifier
    starts = torch.stack(
        [baseline(p, config.ig_baseline, classifier.mean, request.seed) for p in request.pixels]
    )
    attributed = classifier.evaluator.within_memory(lambda size: _paths(request, starts, size))
    maps = attributed.sum(dim=1).float()
    return Explained(
        maps=maps,
        signed=True,
        resolution="pixels",
        settings={
            "score": classifier.evaluator.head.score,
            "steps": config.ig_steps,
            "rule": "Gauss-Legendre",
            "baseline": config.ig_baseline,
            "channels": "sum",
        },
        checks=(_completeness_gap(request, maps[0], starts[0]),),
    )


def _paths(request: Request, starts: Tensor, size: int) -> Tensor:
    """Return attributions (n, C, H, W), with at most ``size`` pictures in a pass."""
    method = IntegratedGradients(_differentiable(request))
    parts = [
        method.attribute(
            pixels,
            baselines=start,
            target=request.target,
            n_steps=request.config.ig_steps,
            method="gausslegendre",
            internal_batch_size=size,
        ).detach()
        for pixels, start in zip(
            torch.split(request.pixels, size), torch.split(starts, size), strict=True
        )
    ]
    return torch.cat(parts)


def _differentiable(request: Request) -> Callable[[Tensor], Tensor]:
    def scores(pixels: Tensor) -> Tensor:
        found = request.classifier.evaluator.scores(pixels)
        if not found.requires_grad:
            raise NotApplicable("the class scores have no gradient by the picture")
        return found

    return scores


def _completeness_gap(request: Request, attributed: Tensor, start: Tensor) -> Measurement:
    evaluator = request.classifier.evaluator
    with torch.no_grad():
        ends = evaluator.scores(torch.stack([request.pixels[0], start]))
    difference = float(ends[0, request.target] - ends[1, request.target])
    gap = abs(float(attributed.double().sum()) - difference)
    return Measurement(
        metric="completeness_gap",
        subject=INTEGRATED_GRADIENTS.key,
        value=gap / abs(difference) if difference else None,
        direction="lower is better",
        range=(0, None),
        settings={"score": evaluator.head.score, "steps": request.config.ig_steps},
        detail={"absolute gap": gap, "score change": difference},
        note="" if difference else "the score is the same on the baseline as on the picture",
    )


SALIENCY_METHOD = Method(SALIENCY, _saliency)
INTEGRATED_GRADIENTS_METHOD = Method(INTEGRATED_GRADIENTS, _integrated_gradients)
