"""Make a network of random weights that answers to pictures, as a file that all scripts can open.

    python benchmarks/live.py resnet18 FILE.pth

The scores of torchvision's networks before training hardly depend on the picture: those of
MobileNetV2 are all 0 to nine places, so that curves and maps of them compare rounding errors. Here
batch normalisation knows the statistics of a batch of smooth noise, and the last layer is scaled.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from bare import random_network
from torch import Tensor, nn
from torch.nn import functional as F

SPREAD = 1.5
"""Standard deviation of a class score over the noise; pictures move the scores further."""
_PICTURES, _BLOBS, _SIDE = 16, 7, 224


def live_network(name: str) -> nn.Module:
    """Return torchvision's network ``name``, the same every time; raises ValueError for others."""
    network = random_network(name)
    wake(network, _smooth_noise())
    return network


@torch.no_grad()
def wake(network: nn.Module, batch: Tensor) -> None:
    """Let the scores of ``network``, in eval mode, have mean 0 and ``SPREAD`` over ``batch``."""
    _know(network, batch)
    _spread_out(network, network(batch))


def _know(network: nn.Module, batch: Tensor) -> None:
    """Give batch normalisation the statistics of ``batch``."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches, of which there is one
        norm.train()
    network(batch)
    for norm in norms:
        norm.eval()


def _spread_out(network: nn.Module, scores: Tensor) -> None:
    """Scale and move the last layer by the scores (n, classes) that it gave."""
    last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    centre = scores.mean(0)
    factor = SPREAD / (scores - centre).std()
    last.weight.mul_(factor)
    last.bias.sub_(centre).mul_(factor)


def _smooth_noise() -> Tensor:
    drawn = torch.randn(_PICTURES, 3, _BLOBS, _BLOBS, generator=torch.Generator().manual_seed(0))
    return F.interpolate(drawn, size=(_SIDE, _SIDE), mode="bicubic")


def main(words: list[str] | None = None) -> None:
    """Write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="what torchvision calls the network")
    parser.add_argument("file", type=Path)
    given = parser.parse_args(words)
    torch.save(live_network(given.name).state_dict(), given.file)


if __name__ == "__main__":
    main()
