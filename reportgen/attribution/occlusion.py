"""Occlusion: how the probability drops while a square hides each part of the picture in turn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reportgen.attribution.base import Explained, Method, Request
from reportgen.config import Config
from reportgen.perturbation.removal import baseline
from reportgen.records import Card
from reportgen.work import Size, Work

CARD = Card(
    key="occlusion",
    title="Occlusion",
    category="perturbation, sliding square",
    definition="The drop of the class probability while a square is hidden, averaged over the "
    "squares that cover a pixel. Each square is two strides wide, so that most pixels are covered "
    "by four; on a picture that is not square it has the picture's proportions.",
    paper="Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, "
    "arXiv 1311.2901",
    needs="predictions",
    seeding="deterministic; a noise fill is drawn with the run's seed",
    limits="As coarse as the square; depends on what it shows. What the model finds twice in the "
    "picture loses nothing when one of the two is hidden.",
    granularity="patches",
)


@dataclass(frozen=True)
class _Spans:
    """The squares' extents along one side: from ``first`` (n,) to ``last`` (n,), exclusive."""

    first: Tensor
    last: Tensor
    length: int

    def covered(self) -> Tensor:
        """Return which places (n, length) each of them covers."""
        places = torch.arange(self.length, device=self.first.device)
        return (places >= self.first[:, None]) & (places < self.last[:, None])


def _positions(length: int, cells: int) -> int:
    """Return how many squares lie along a side: fewer where the stride would be under a pixel."""
    return max(1, min(cells, length - 1))


def _spans(length: int, cells: int, device: torch.device) -> _Spans:
    """Return the extents, two strides long each, that together cover the whole length."""
    count = _positions(length, cells)
    edges = [round(place * length / (count + 1)) for place in range(count + 2)]
    return _Spans(
        torch.tensor(edges[:-2], device=device), torch.tensor(edges[2:], device=device), length
    )


def _explain(request: Request) -> Explained:
    config = request.config
    height, width = request.pixels.shape[-2:]
    down = _spans(height, config.occlusion_cells, request.pixels.device)
    across = _spans(width, config.occlusion_cells, request.pixels.device)
    square = f"{_side(down)}x{_side(across)}"
    return Explained(
        maps=torch.stack([_map(request, pixels, down, across) for pixels in request.pixels]),
        signed=True,
        resolution=f"{len(down.first)}x{len(across.first)} squares of {square} pixels",
        settings={
            "score": "probability",
            "positions": f"{len(down.first)}x{len(across.first)}",
            "square": f"{square} pixels",
            "fill": config.occlusion_fill,
            "overlaps": "mean",
        },
    )


def _side(spans: _Spans) -> int:
    return int((spans.last - spans.first).max())


def _map(request: Request, pixels: Tensor, down: _Spans, across: _Spans) -> Tensor:
    rows, columns = down.covered(), across.covered()
    drops = _drops(request, pixels, rows, columns).view(len(rows), len(columns))
    over, beside = rows.cpu().double(), columns.cpu().double()
    covering = over.sum(0)[:, None] * beside.sum(0)
    return ((over.T @ drops @ beside) / covering).float().to(pixels.device)


def _drops(request: Request, pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the drop under each square (rows * columns,), float64 on the CPU, row by row."""
    fill = baseline(pixels, request.config.occlusion_fill, request.classifier.mean, request.seed)

    def build(start: int, stop: int) -> Tensor:
        # The first picture is the whole one, under a square that covers nothing.
        squares = torch.arange(start, stop, device=pixels.device) - 1
        places = squares.clamp_min(0)
        down, across = rows[places // len(columns)], columns[places % len(columns)]
        hidden = down[:, :, None] & across[:, None, :] & (squares >= 0)[:, None, None]
        return torch.where(hidden[:, None], fill, pixels)

    found = request.classifier.evaluator.probabilities(1 + len(rows) * len(columns), build)
    probabilities = found[:, request.target].cpu().double()
    return probabilities[0] - probabilities[1:]


def _work(config: Config, size: Size) -> Work:
    down, across = (_positions(side, config.occlusion_cells) for side in (size.height, size.width))
    return Work(1 + down * across)


METHOD = Method(CARD, _explain, _work, ("occlusion_cells", "occlusion_fill"))
