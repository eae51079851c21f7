"""Ablation-CAM: each channel weighted by how far the class score falls without it."""

from __future__ import annotations

import torch
from torch import Tensor

from reportgen.attribution.base import Explained, Method, Request
from reportgen.attribution.cams import CUT, enlarged, features, negative_share
from reportgen.classifier.device import batch_size, choose_device
from reportgen.classifier.layers import FeatureLayer
from reportgen.config import Config
from reportgen.records import Card
from reportgen.work import Size, Work

CARD = Card(
    key="ablationcam",
    title="Ablation-CAM",
    category="class activation map, by ablation",
    definition="Channels of one feature map, each weighted by how far the class score falls when "
    "the channel is set to zero, as a share of the score's absolute value; added up, and negative "
    "sums set to zero.",
    paper="Desai and Ramaswamy, Ablation-CAM: Visual Explanations for Deep Convolutional Network "
    "via Gradient-free Localization, WACV 2020",
    range=(0, None),
    needs="an inner feature map, and a run of what follows it for each of its channels",
    seeding="deterministic",
    self_check=CUT,
    limits="As coarse as the feature map; channels are taken away one by one, so that what two of "
    "them both carry counts for neither. A score near zero makes all shares large.",
    granularity="feature map",
)


def _explain(request: Request) -> Explained:
    layer = request.layer()
    activations = features(request, layer)
    weights = torch.stack(
        [
            _drops(request, layer, pixels[None], activation[None])
            for pixels, activation in zip(request.pixels, activations, strict=True)
        ]
    )
    sums = (weights.float()[:, :, None, None] * layer.grid.spatial(activations).float()).sum(1)
    settings = {
        "score": request.classifier.evaluator.head.score,
        "ablated channels": "zero",
        "weights": "drop of the score, as a share of its absolute value",
    }
    return enlarged(request, layer, sums, negative_share(CARD, sums[0]), settings)


def _drops(request: Request, layer: FeatureLayer, pixels: Tensor, activation: Tensor) -> Tensor:
    """Return the weight of each channel of one picture's activation (1, ...), float64."""
    evaluator = request.classifier.evaluator
    channels = layer.grid.spatial(activation).shape[1]

    def build(start: int, stop: int) -> Tensor:
        # One row a channel, and a last one with all of them, to which the others are compared.
        rows = torch.arange(start, min(stop, channels), device=activation.device)
        changed = activation.expand(stop - start, *activation.shape[1:]).clone()
        layer.grid.spatial(changed)[rows - start, rows] = 0
        return changed

    raw = evaluator.resumed(pixels, layer.resume, channels + 1, build)
    scores = evaluator.head.scores(raw)[:, request.target].double()
    # A share of the score itself would turn the map over where the score is negative.
    size = scores[-1].abs()
    return (scores[-1] - scores[:-1]) / torch.where(size > 0, size, 1)


def _work(config: Config, size: Size) -> Work:
    """Return the feature map's own pass, two batches that try the resumed network, and the rows.

    Rows come in full batches. Exact for an eager network in batches of two and more; else up to
    three batches too many, counting batches of the size that is chosen before memory runs out.
    """
    rows = size.channels + 1
    batch = min(config.batch_size or batch_size(choose_device(config.device)), rows)
    return Work(1 + 2 * batch + -(-rows // batch) * batch)


METHOD = Method(CARD, _explain, _work, ("layer",))
