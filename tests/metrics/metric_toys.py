"""Classifiers whose metrics are known by hand, and the context in which a metric meets them.

Outputs are probabilities unless stated otherwise; pixels reach the network as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reportgen.attribution.gradcam import CARD as GRADCAM
from reportgen.classifier.classifier import classifier_from
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.opened import Opened
from reportgen.config import Config
from reportgen.metrics import Context, Shared
from reportgen.records import Card


class Weighted(nn.Module):
    """LIN: the probability of class 0 is the sum of weights (H, W) times the channels' mean."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x: Tensor) -> Tensor:
        total = (x.mean(dim=1) * self.weights).sum(dim=(1, 2))
        return torch.stack([total, 1 - total], dim=1)


class Compared(nn.Module):
    """Two logits: the sum over each of two masks (2, H, W)."""

    def __init__(self, masks: Tensor) -> None:
        super().__init__()
        self.masks = masks

    def forward(self, x: Tensor) -> Tensor:
        return (x.mean(dim=1)[:, None] * self.masks).sum(dim=(2, 3))


class Constant(nn.Module):
    """The same probabilities for every picture."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([[0.75, 0.25]]).expand(len(x), 2)


def one(height: int, width: int, row: int, column: int) -> Weighted:
    """ONE(j): the probability is one pixel."""
    weights = torch.zeros(height, width)
    weights[row, column] = 1
    return Weighted(weights)


def uniform(height: int, width: int) -> Weighted:
    """LIN with equal weights: the probability is the mean (MEANCOLOUR of one class)."""
    return Weighted(torch.full((height, width), 1 / (height * width)))


def quadrant_mask(side: int) -> Tensor:
    """QUAD's map: 1 in the upper left quadrant (side, side)."""
    mask = torch.zeros(side, side)
    mask[: side // 2, : side // 2] = 1
    return mask


def descending(height: int, width: int) -> Tensor:
    """Weights (H, W) proportional to N, N - 1, ..., 1, which add up to 1."""
    weights = torch.arange(height * width, 0, -1).float()
    return (weights / weights.sum()).view(height, width)


def disc_places(side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return x to the right and y upwards, from the centre, and the disc (side, side)."""
    centred = torch.arange(side) - (side - 1) / 2
    x, y = centred.expand(side, side), -centred[:, None].expand(side, side)
    return x, y, x**2 + y**2 <= (side / 2 - 1) ** 2


@contextmanager
def context_of(
    network: nn.Module,
    pixels: Tensor,
    maps: Mapping[str, Tensor],
    explain: Callable[[str, Tensor, Config], Tensor] | None = None,
    head: str = "probabilities",
    mask: Tensor | None = None,
    cards: Mapping[str, Card] | None = None,
    **options: Any,
) -> Iterator[Context]:
    """Yield the context of a network on pixels (C, H, W); class 0 is explained."""
    chosen = {"deletion_baseline": "black", "insertion_baseline": "black", **options}
    config = Config(**chosen)
    channels, height, width = pixels.shape
    hints = Hints(
        head=Known(head, "option"),
        channels=Known(channels, "option"),
        resize=Known((height, width), "option"),
        crop=Known((height, width), "option"),
        mean=Known((0.0,) * channels, "option"),
        std=Known((1.0,) * channels, "option"),
    )
    opened = Opened(network=network, name="toy", format="module", architecture="toy")
    with classifier_from(opened, hints, config) as classifier:
        prediction = classifier.predict(pixels, "0")
        classifier.evaluator.counter.forward = 0
        height, width = pixels.shape[-2:]
        rows, columns = torch.arange(height) * 4 // height, torch.arange(width) * 4 // width
        yield Context(
            classifier=classifier,
            pixels=pixels,
            prediction=prediction,
            maps=maps,
            config=config,
            explain=explain or _no_explainer,
            cards=cards or dict.fromkeys(maps, GRADCAM),
            segments=rows[:, None] * 4 + columns,
            mask=mask,
            shared=Shared(classifier.evaluator.counter),
        )


def _no_explainer(method: str, pixels: Tensor, config: Config) -> Tensor:
    raise AssertionError("this metric should not explain anything again")
