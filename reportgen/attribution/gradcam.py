"""Grad-CAM, with the arithmetic of the grad-cam library on activations read by the classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from reportgen.attribution.base import Explained, Method, Request
from reportgen.classifier.layers import FeatureLayer
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.records import Card, Measurement

CARD = Card(
    key="gradcam",
    title="Grad-CAM",
    category="class activation map, gradient-weighted",
    definition="Channels of one feature map, each weighted by the mean gradient of the class score "
    "over its places, added up; negative sums are set to zero.",
    paper="Selvaraju et al., Grad-CAM, ICCV 2017, arXiv 1610.02391",
    range=(0, None),
    needs="gradients of an inner feature map",
    seeding="deterministic",
    self_check="share of the feature map's places where the sum is negative and is cut to zero",
    limits="As coarse as the feature map; shows where evidence for the class was found, not what "
    "it was, and no evidence against the class.",
)


def _explain(request: Request) -> Explained:
    classifier = request.classifier
    layer = classifier.feature_layer(request.pixels[0], request.target, request.config.layer)
    cams = classifier.evaluator.within_memory(lambda size: _batches(request, layer, size))
    size = request.pixels.shape[-2:]
    maps = interpolate(cams.clamp_min(0)[:, None], size, mode="bilinear", align_corners=False)
    negative = float((cams[0] < 0).float().mean())
    return Explained(
        maps=maps[:, 0],
        signed=False,
        resolution=f"{layer.grid.height}x{layer.grid.width} feature map",
        settings={"layer": layer.name, "score": "logit", "chosen by": _chooser(request)},
        checks=(_negative_share(negative),),
    )


def _chooser(request: Request) -> str:
    return "option" if request.config.layer else "last feature map that receives a gradient"


def _batches(request: Request, layer: FeatureLayer, size: int) -> Tensor:
    parts = torch.split(request.pixels, size)
    return torch.cat([_low_resolution(request, layer, part) for part in parts])


def _low_resolution(request: Request, layer: FeatureLayer, pixels: Tensor) -> Tensor:
    """Return the signed sums (n, h, w) at the feature map's own resolution."""
    scores, read = request.classifier.evaluator.scores_and_features(pixels, layer)
    gradient = torch.autograd.grad(scores[:, request.target].sum(), read)[0]
    activations, gradients = (
        layer.grid.spatial(t.detach()).float().cpu().numpy() for t in (read, gradient)
    )
    sums = _library().get_cam_image(None, None, None, activations, gradients)
    return torch.from_numpy(sums).to(pixels.device)


def _library() -> Any:
    ensure_torchvision()
    from pytorch_grad_cam import GradCAM

    # The library asks for a model with a parameter, but only its arithmetic is used here.
    return GradCAM(nn.PReLU(), [])


def _negative_share(value: float) -> Measurement:
    return Measurement(
        metric="negative_share",
        subject=CARD.key,
        value=value,
        range=(0, 1),
        settings={"of": "places of the feature map, before negative sums are set to zero"},
    )


METHOD = Method(CARD, _explain)
