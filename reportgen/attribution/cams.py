"""What all class activation maps share: a sum over the channels of one feature map, enlarged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue
from torch import Tensor, nn
from torch.nn.functional import interpolate

from reportgen.attribution.base import Explained, Request, in_batches
from reportgen.classifier.layers import FeatureLayer
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.records import Card, Measurement

CUT = "share of the feature map's places where the sum is negative and is cut to zero"


def library(name: str) -> Any:
    """Return the grad-cam library's class activation map called ``name``, for its arithmetic."""
    ensure_torchvision()
    import pytorch_grad_cam

    # The library asks for a model with a parameter, but only its arithmetic is used.
    return getattr(pytorch_grad_cam, name)(nn.PReLU(), [])


def features(request: Request, layer: FeatureLayer) -> Tensor:
    """Return the activation of ``layer`` in its own layout, one a picture."""
    evaluator = request.classifier.evaluator
    return in_batches(request, lambda pixels: evaluator.features(pixels, layer))


def enlarged(
    request: Request,
    layer: FeatureLayer,
    sums: Tensor,
    check: Measurement,
    settings: Mapping[str, JsonValue],
) -> Explained:
    """Return the maps of signed sums (n, h, w): cut at zero, and enlarged to the pictures."""
    size = request.pixels.shape[-2:]
    positive = sums.clamp_min(0)[:, None]
    maps = interpolate(positive, size, mode="bilinear", align_corners=False)[:, 0]
    return Explained(
        maps=maps,
        signed=False,
        resolution=f"{layer.grid.height}x{layer.grid.width} feature map",
        settings={"layer": layer.name, **settings, "chosen by": _chooser(request)},
        checks=(check,),
    )


def _chooser(request: Request) -> str:
    return "option" if request.config.layer else "self-test of the network's last feature maps"


def negative_share(card: Card, sums: Tensor) -> Measurement:
    """Return the share of places of signed sums (h, w) that is cut to zero."""
    return Measurement(
        metric="negative_share",
        subject=card.key,
        value=float((sums < 0).float().mean()),
        range=(0, 1),
        settings={"of": "places of the feature map, before negative sums are set to zero"},
        note="" if bool(sums.any()) else "the sum is zero at every place",
    )
