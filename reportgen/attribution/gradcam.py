"""Grad-CAM, with the arithmetic of the grad-cam library on activations read by the classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from reportgen.attribution.base import Explained, Method, Request
from reportgen.classifier.layers import FeatureLayer
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import NotApplicable
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
    return Explained(
        maps=maps[:, 0],
        signed=False,
        resolution=f"{layer.grid.height}x{layer.grid.width} feature map",
        settings={
            "layer": layer.name,
            "score": classifier.evaluator.head.score,
            "chosen by": _chooser(request),
        },
        checks=(_negative_share(cams[0]),),
    )


def _chooser(request: Request) -> str:
    return "option" if request.config.layer else "last feature map that receives a gradient"


def _batches(request: Request, layer: FeatureLayer, size: int) -> Tensor:
    parts = torch.split(request.pixels, size)
    return torch.cat([_low_resolution(request, layer, part) for part in parts])


def _low_resolution(request: Request, layer: FeatureLayer, pixels: Tensor) -> Tensor:
    """Return the signed sums (n, h, w) at the feature map's own resolution."""
    evaluator = request.classifier.evaluator
    activation, gradient = evaluator.feature_gradients(pixels, layer, request.target)
    if gradient is None:
        raise NotApplicable(f"the class score does not depend on the layer '{layer.name}'")
    activations, gradients = (
        layer.grid.spatial(tensor).float().cpu().numpy() for tensor in (activation, gradient)
    )
    sums = _library().get_cam_image(None, None, None, activations, gradients)
    return torch.from_numpy(sums).to(pixels.device)


def _library() -> Any:
    ensure_torchvision()
    from pytorch_grad_cam import GradCAM

    # The library asks for a model with a parameter, but only its arithmetic is used here.
    return GradCAM(nn.PReLU(), [])


def _negative_share(sums: Tensor) -> Measurement:
    return Measurement(
        metric="negative_share",
        subject=CARD.key,
        value=float((sums < 0).float().mean()),
        range=(0, 1),
        settings={"of": "places of the feature map, before negative sums are set to zero"},
        note="" if bool(sums.any()) else "the sum is zero at every place",
    )


METHOD = Method(CARD, _explain)
