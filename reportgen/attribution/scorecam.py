"""Score-CAM: each channel weighted by what the network says to the picture seen through it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from reportgen.attribution.base import Explained, Method, Request
from reportgen.attribution.cams import enlarged, features
from reportgen.config import Config
from reportgen.perturbation.removal import baseline
from reportgen.records import Card, Measurement
from reportgen.work import Size, Work

CARD = Card(
    key="scorecam",
    title="Score-CAM",
    category="class activation map, by masking the picture",
    definition="Channels of one feature map, each weighted by the class score of the picture seen "
    "through it (the channel enlarged, its values stretched from 0 to 1, what it hides fading to "
    "the data set's mean colour), with a softmax over the channels; added up, and negative sums "
    "set to zero.",
    paper="Wang et al., Score-CAM, CVPR Workshops 2020, arXiv 1910.01279",
    range=(0, None),
    needs="an inner feature map, and a prediction for each of its channels",
    seeding="deterministic",
    self_check="largest weight of one channel: near 1, the map shows that channel alone",
    limits="As coarse as the feature map; the softmax makes every weight positive, so no channel "
    "speaks against the class, and its sharpness depends on the scale of the scores.",
    granularity="feature map",
)


def _explain(request: Request) -> Explained:
    layer = request.layer()
    activations = layer.grid.spatial(features(request, layer)).float()
    weights = _weights(_scores(request, activations))
    sums = (weights.float()[:, :, None, None] * activations).sum(1)
    settings = {
        "score": request.classifier.evaluator.head.score,
        "fill": "mean",
        "weights": "softmax over the channels",
    }
    return enlarged(request, layer, sums, _largest_weight(weights[0]), settings)


def _scores(request: Request, activations: Tensor) -> Tensor:
    """Return the class score (n, C) of each picture through each channel of (n, C, h, w)."""
    evaluator, pixels = request.classifier.evaluator, request.pixels
    fill = baseline(pixels[0], "mean", request.classifier.mean, request.seed)
    pictures, channels = activations.shape[:2]
    flat = activations.flatten(0, 1)

    def build(start: int, stop: int) -> Tensor:
        rows = torch.arange(start, stop, device=pixels.device)
        shown = _masks(flat[start:stop], (pixels.shape[-2], pixels.shape[-1]))
        return fill + shown * (pixels[rows // channels] - fill)

    raw = evaluator.stream(pictures * channels, build)
    return evaluator.head.scores(raw)[:, request.target].double().view(pictures, channels)


def _masks(channels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return channels (B, h, w) enlarged to ``size`` and stretched from 0 to 1, (B, 1, H, W)."""
    # As the authors' code enlarges them; with aligned corners the masks would lie beside the map.
    large = interpolate(channels[:, None], size, mode="bilinear", align_corners=False)
    low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
    # A channel that is the same everywhere shows nothing.
    return torch.where(high > low, (large - low) / (high - low), 0)


def _weights(scores: Tensor) -> Tensor:
    """Return the weights (n, C) of the channels, which are zero where all scores are equal."""
    differ = scores.amax(1, keepdim=True) > scores.amin(1, keepdim=True)
    return torch.where(differ, scores.softmax(1), 0)


def _largest_weight(weights: Tensor) -> Measurement:
    equal = not bool(weights.any())
    return Measurement(
        metric="largest_weight",
        subject=CARD.key,
        value=None if equal else float(weights.max()),
        direction="lower is better",
        range=(0, 1),
        settings={"of": "the channels' weights, which add up to 1"},
        note="every channel has the same score" if equal else "",
    )


def _work(config: Config, size: Size) -> Work:
    return Work(1 + size.channels)


METHOD = Method(CARD, _explain, _work, ("layer",))
