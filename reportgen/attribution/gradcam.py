"""Grad-CAM, Grad-CAM++ and LayerCAM: channels weighted by gradients, by the grad-cam library."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reportgen.attribution.base import Explained, Method, Request, in_batches
from reportgen.attribution.cams import CUT, enlarged, library, negative_share
from reportgen.classifier.layers import FeatureLayer
from reportgen.config import Config
from reportgen.errors import NotApplicable
from reportgen.records import Card
from reportgen.work import Size, Work

Array = NDArray[np.floating]
Arithmetic = Callable[[Array, Array], Array]

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
    self_check=CUT,
    limits="As coarse as the feature map; shows where evidence for the class was found, not what "
    "it was, and no evidence against the class.",
    granularity="feature map",
)
PLUS_PLUS = Card(
    key="gradcam-plus-plus",
    title="Grad-CAM++",
    category="class activation map, gradient-weighted",
    definition="Channels of one feature map, each weighted by a sum over its places of the "
    "positive gradients g of the class score, each times 1 / (2 + g times the channel's sum), "
    "added up; negative sums are set to zero.",
    paper="Chattopadhay et al., Grad-CAM++, WACV 2018, arXiv 1710.11063 (equation 19)",
    range=(0, None),
    needs="gradients of an inner feature map",
    seeding="deterministic",
    self_check=CUT,
    limits="As coarse as the feature map; counts only gradients that speak for the class. Its "
    "weights are derived for activations that are not negative.",
    granularity="feature map",
)
LAYERCAM = Card(
    key="layercam",
    title="LayerCAM",
    category="class activation map, gradient-weighted",
    definition="Channels of one feature map, each weighted place by place by the positive part of "
    "the class score's gradient there, added up; negative sums are set to zero.",
    paper="Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, "
    "IEEE Transactions on Image Processing 2021",
    range=(0, None),
    needs="gradients of an inner feature map",
    seeding="deterministic",
    self_check=CUT,
    limits="As coarse as the feature map; counts only gradients that speak for the class.",
    granularity="feature map",
)
_LARGEST_GRADIENT = 1e4


def _explain(request: Request, card: Card, arithmetic: Arithmetic) -> Explained:
    layer = request.layer()
    sums = in_batches(request, lambda pixels: _sums(request, layer, pixels, arithmetic))
    settings = {"score": request.classifier.evaluator.head.score}
    return enlarged(request, layer, sums, negative_share(card, sums[0]), settings)


def _sums(request: Request, layer: FeatureLayer, pixels: Tensor, arithmetic: Arithmetic) -> Tensor:
    """Return the signed sums (n, h, w) at the feature map's own resolution."""
    evaluator = request.classifier.evaluator
    activation, gradient = evaluator.feature_gradients(pixels, layer, request.target)
    if gradient is None:
        raise NotApplicable(f"the class score does not depend on the layer '{layer.name}'")
    activations, gradients = (
        layer.grid.spatial(tensor).float().cpu().numpy() for tensor in (activation, gradient)
    )
    return torch.from_numpy(arithmetic(activations, gradients)).to(pixels.device)


def _by_library(name: str, activations: Array, gradients: Array) -> Array:
    sums: Array = library(name).get_cam_image(None, None, None, activations, gradients, False)
    return sums


def _plus_plus(activations: Array, gradients: Array) -> Array:
    # The library adds 1e-6 to a denominator of squared gradients, which after a mean over places
    # are no larger. Scaled one against the other the map is the same, and its weights the paper's.
    largest = np.abs(gradients).max(axis=(1, 2, 3), keepdims=True)
    scale = _LARGEST_GRADIENT / np.where(largest > 0, largest, 1)
    return _by_library("GradCAMPlusPlus", activations / scale, gradients * scale)


def _work(config: Config, size: Size) -> Work:
    return Work(1, 1)


_OPTIONS = ("layer",)
METHOD = Method(
    CARD, partial(_explain, card=CARD, arithmetic=partial(_by_library, "GradCAM")), _work, _OPTIONS
)
PLUS_PLUS_METHOD = Method(
    PLUS_PLUS, partial(_explain, card=PLUS_PLUS, arithmetic=_plus_plus), _work, _OPTIONS
)
LAYERCAM_METHOD = Method(
    LAYERCAM,
    partial(_explain, card=LAYERCAM, arithmetic=partial(_by_library, "LayerCAM")),
    _work,
    _OPTIONS,
)
