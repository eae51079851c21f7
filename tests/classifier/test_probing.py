"""Probe pictures: large ones do not blow up memory, and rounding is told from chance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from reportgen.classifier import probing
from reportgen.classifier.opened import Opened
from reportgen.errors import ModelError
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


def test_of_pictures_larger_than_that_two_are_sent_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_PIXELS_AT_ONCE", 10)
    raw, seen = probed(32)
    assert seen == [1] * 3
    assert len(raw) == 2


class Amplified(Sizes):
    """Rounds batches of each size in its own way, as a deep network that amplifies rounding."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + 0.01 * len(x))


class Jittered(Sizes):
    """Adds noise of a hundredth of the scores."""

    def forward(self, x: Tensor) -> Tensor:
        scores = super().forward(x)
        return scores + 0.01 * scores.abs().max() * torch.randn_like(scores)


class Centred(Sizes):
    """Takes the mean of the batch away, as batch normalisation in training mode."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean((0, 2, 3), keepdim=True))


class Dropping(Sizes):
    """Drops features in every mode."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(x, 0.1))


SMALL = Preprocessing(channels=3, resize=8, crop=(8, 8), mean=(0,) * 3, std=(1,) * 3)


def scores(network: nn.Module, fixed_batch: int | None = None) -> Tensor:
    opened = Opened(network.eval(), "", "module", "", fixed_batch=fixed_batch)
    return probing.probe(opened, SMALL, torch.device("cpu")).raw


def test_rounding_by_the_size_of_the_batch_is_no_chance() -> None:
    torch.manual_seed(0)
    network = Amplified()
    assert torch.equal(scores(network), network(probing.probe_pictures(SMALL)))


@pytest.mark.parametrize("make", [Jittered, Centred, Dropping])
@pytest.mark.parametrize("fixed_batch", [None, 3])
def test_other_scores_in_another_pass_or_batch_are_refused(
    make: type[nn.Module], fixed_batch: int | None
) -> None:
    torch.manual_seed(0)
    with pytest.raises(ModelError, match="other scores for the same picture"):
        scores(make(), fixed_batch)
