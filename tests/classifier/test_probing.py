"""The eight probe pictures are sent in batches that large pictures do not blow up."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from reportgen.classifier import probing
from reportgen.classifier.opened import Opened
from reportgen.records import Preprocessing


class Sizes(nn.Module):
    """Two linear scores of a picture's mean colour; remembers the batches it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return self.fc(x.mean((2, 3)))


def probed(side: int) -> tuple[Tensor, list[int]]:
    torch.manual_seed(0)
    network = Sizes().eval()
    used = Preprocessing(channels=3, resize=side, crop=(side, side), mean=(0,) * 3, std=(1,) * 3)
    found = probing.probe(Opened(network, "", "module", ""), used, torch.device("cpu"))
    return found.raw, network.seen


def test_large_pictures_are_probed_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, seen = probed(32)
    assert seen[-1] == 8
    monkeypatch.setattr(probing, "_PIXELS_AT_ONCE", 3 * 32 * 32)
    parts, seen = probed(32)
    assert seen[-3:] == [3, 3, 2]
    assert torch.allclose(parts, whole, atol=1e-6)


def test_a_picture_larger_than_that_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_PIXELS_AT_ONCE", 10)
    assert probed(32)[1][-8:] == [1] * 8
