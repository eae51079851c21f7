"""What the tests of the gradient methods share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from toys import classified, request

from reportgen.attribution import METHODS, Explained
from reportgen.classifier.classifier import classifier_from
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.opened import Opened
from reportgen.config import Config

SHAPE = (3, 16, 16)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def explained(
    method: str, network: nn.Module, pixels: Tensor, config: Config | None = None, target: int = 0
) -> Explained:
    """Return the explanation of pictures (n, C, H, W), of any size, without normalisation."""
    with classified(network, tuple(pixels.shape[1:])) as classifier:
        return METHODS[method].explain(request(classifier, pixels, target, config))


class Normalised(nn.Module):
    """The network behind its normalisation, as captum is usually given it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
        return self.network((pixels - mean) / std)


def normalising(method: str, network: nn.Module, pixels: Tensor, config: Config) -> Tensor:
    """Return the method's maps of class 2, with a normalisation inside the classifier."""
    given = Hints(
        crop=Known((16, 16), "option"), mean=Known(MEAN, "option"), std=Known(STD, "option")
    )
    opened = Opened(network, "toy", "module", "toy")
    with classifier_from(opened, given, config) as classifier:
        return METHODS[method].explain(request(classifier, pixels, 2, config)).maps


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference; infinite where the shapes differ."""
    return float((ours - theirs).abs().max()) if ours.shape == theirs.shape else torch.inf
