"""RISE: the mean of random masks, weighted by the probability of what they let through."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from reportgen.attribution.base import Explained, Method, Request
from reportgen.attribution.sampling import sampling_error
from reportgen.config import Baseline, Config
from reportgen.perturbation.removal import baseline
from reportgen.perturbation.streams import stream
from reportgen.records import Card
from reportgen.work import Size, Work

FILL: Baseline = "mean"
CARD = Card(
    key="rise",
    title="RISE",
    category="perturbation, random masks",
    definition="How much higher the class probability is, on average, where a pixel is shown: "
    "random coarse masks, enlarged bilinearly and shifted at random, are averaged with weights "
    "(their probability minus the mean probability) / share shown. It is the paper's map minus "
    "what the paper gives a model that ignores the masks, the mean probability times the mean "
    "mask / share shown; with many masks that is a constant, and both rank pixels alike.",
    paper="Petsiuk, Das and Saenko, RISE: Randomized Input Sampling for Explanation of Black-box "
    "Models, BMVC 2018, arXiv 1806.07421",
    needs="predictions",
    seeding="one stream for the masks' cells, one for their shifts, the same for every picture; "
    "more masks keep the first ones",
    self_check="sampling error: the standard error of the map, as a share of its norm",
    limits="As coarse as the cells; noisy with few masks. Hidden parts fade to the data set's mean "
    "colour.",
    granularity="patches",
)


@dataclass(frozen=True)
class Masks:
    """Random masks over (height, width) pixels, kept as coarse as they were drawn.

    ``grids`` (n, cells, cells) are 0 and 1; ``shifts`` (n, 2) are pixels down and across, less than
    a cell's size, and ``cell`` is that size (height, width).
    """

    grids: Tensor
    shifts: Tensor
    cell: tuple[int, int]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.grids)

    def to(self, device: torch.device) -> Masks:
        """Return the same masks on ``device``."""
        return replace(self, grids=self.grids.to(device), shifts=self.shifts.to(device))

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the masks ``start`` to ``stop`` (exclusive), (stop - start, H, W) in [0, 1].

        The cells of a mask are enlarged to one cell more than the picture needs, blended between
        their centres, and cut at the shift. Outside the outer centres the nearest cell goes on.
        """
        cells = self.grids.shape[-1] + 1
        large = interpolate(
            self.grids[start:stop, None],
            (cells * self.cell[0], cells * self.cell[1]),
            mode="bilinear",
            align_corners=False,
        )[:, 0]
        shifts, device = self.shifts[start:stop], self.shifts.device
        down = shifts[:, :1] + torch.arange(self.size[0], device=device)
        across = shifts[:, 1:] + torch.arange(self.size[1], device=device)
        which = torch.arange(len(large), device=device)[:, None, None]
        # Blending rounds beyond 1 in the last digit.
        return large[which, down[:, :, None], across[:, None, :]].clamp(0, 1)


def random_masks(count: int, cells: int, share: float, size: tuple[int, int], seed: int) -> Masks:
    """Return ``count`` masks for pictures of ``size`` (height, width), drawn on the CPU."""
    cell = (-(-size[0] // cells), -(-size[1] // cells))
    drawn = torch.rand(count, cells, cells, generator=stream(seed, "rise cells"))
    places = torch.rand(count, 2, generator=stream(seed, "rise shifts"))
    shifts = (places * torch.tensor(cell)).long()
    return Masks((drawn < share).float(), shifts, cell, size)


def _explain(request: Request) -> Explained:
    config = request.config
    height, width = request.pixels.shape[-2:]
    masks = random_masks(
        config.rise_masks, config.rise_cells, config.rise_share, (height, width), request.seed
    )
    placed = masks.to(request.pixels.device)
    found = [_map(request, pixels, placed) for pixels in request.pixels]
    return Explained(
        maps=torch.stack([each for each, _ in found]).float().to(request.pixels.device),
        signed=True,
        resolution=f"{config.rise_cells}x{config.rise_cells} cells, enlarged and shifted",
        settings={
            "score": "probability",
            "masks": config.rise_masks,
            "cells": f"{config.rise_cells}x{config.rise_cells}",
            "share shown": config.rise_share,
            "fill": FILL,
            "weights": "probability minus its mean over the masks",
            "seed": request.seed,
        },
        checks=(sampling_error(CARD.key, *found[0], config.rise_masks, "mask"),),
    )


def _map(request: Request, pixels: Tensor, masks: Masks) -> tuple[Tensor, float]:
    """Return the map (H, W) in float64 on the CPU, and its summed squared standard errors."""
    share = request.config.rise_share
    weights = _centred(_probabilities(request, pixels, masks)) / share

    def run(size: int) -> tuple[Tensor, Tensor]:
        totals, squares = [], []
        for start in range(0, len(masks), size):
            stop = min(start + size, len(masks))
            # The weights add up to 0: taking the share off changes no sum, but keeps what all
            # pixels of a mask have in common out of the error.
            rows = masks.rows(start, stop).flatten(1) - share
            near = weights[start:stop].to(rows)
            totals.append((near @ rows).cpu().double())
            squares.append((near.square() @ rows.square()).cpu().double())
        return torch.stack(totals).sum(0), torch.stack(squares).sum(0)

    total, squares = request.classifier.evaluator.within_memory(run)
    mean = total / len(masks)
    variances = (squares / len(masks) - mean.square()).clamp_min(0)
    return mean.view(masks.size), float(variances.sum()) / (len(masks) - 1)


def _centred(probabilities: Tensor) -> Tensor:
    # Differences from one of them are exactly 0 where all are equal, whatever their sum rounds to.
    differences = probabilities - probabilities[0]
    return differences - differences.mean()


def _probabilities(request: Request, pixels: Tensor, masks: Masks) -> Tensor:
    """Return the target's probability (n,) through each mask, float64 on the CPU."""
    fill = baseline(pixels, FILL, request.classifier.mean, request.seed)

    def build(start: int, stop: int) -> Tensor:
        shown = masks.rows(start, stop)[:, None].to(pixels)
        return shown * pixels + (1 - shown) * fill

    found = request.classifier.evaluator.probabilities(len(masks), build)
    return found[:, request.target].cpu().double()


def _work(config: Config, size: Size) -> Work:
    return Work(config.rise_masks)


METHOD = Method(CARD, _explain, _work, ("rise_masks", "rise_cells", "rise_share"))
