"""A network that normalises its input itself is noticed, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from toys import FunctionalRelu, scripted, seeded

from reportgen.classifier.classifier import classifier_from
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.opened import Opened
from reportgen.classifier.own_normalisation import own_normalisation
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.config import Config
from reportgen.records import OwnNormalisation

ensure_torchvision()

from torchvision import transforms  # noqa: E402

NOTHING = Hints()
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHIFT, SCALE = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))


class After(nn.Module):
    """A small network after a function of its input."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.network = FunctionalRelu()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.network(self.function(x))
        return scores


class Registered(nn.Module):
    """Holds its mean and deviation as buffers, in a form that can be scripted."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", SHIFT.clone())
        self.register_buffer("std", SCALE.clone())
        self.conv = nn.Conv2d(3, 4, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std
        return self.conv(x).mean((2, 3))


def found_in(network: nn.Module) -> OwnNormalisation | None:
    noise = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return own_normalisation(network.eval(), noise)


def in_place(x: Tensor) -> Tensor:
    return x.clone().sub_(SHIFT).div_(SCALE)


def as_kornia(x: Tensor) -> Tensor:
    flat = x.view(x.shape[0], x.shape[1], -1)
    return ((flat - SHIFT.view(1, 3, 1)) / SCALE.view(1, 3, 1)).view(x.shape)


@pytest.mark.parametrize(
    ("function", "mean", "std", "white"),
    [
        (lambda x: (x - SHIFT) / SCALE, MEAN, STD, 1),
        (in_place, MEAN, STD, 1),
        (as_kornia, MEAN, STD, 1),
        (transforms.Normalize(MEAN, STD), MEAN, STD, 1),
        (lambda x: x * 2 - 1, (0.5,) * 3, (0.5,) * 3, 1),
        (lambda x: x / 255, (0.0,) * 3, (255.0,) * 3, 255),
        (lambda x: x.div(127.5) - 1, (127.5,) * 3, (127.5,) * 3, 255),
        (
            lambda x: (x / 255 - SHIFT) / SCALE,
            (123.675, 116.28, 103.53),
            (58.395, 57.12, 57.375),
            255,
        ),
        (lambda x: x - SHIFT * 255, (123.675, 116.28, 103.53), (1.0,) * 3, 255),
    ],
)
def test_what_normalises_pixels_is_found(
    function: Callable[[Tensor], Tensor],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    white: int,
) -> None:
    found = found_in(seeded(lambda: After(function)))
    assert found is not None
    assert found.white == white
    assert found.mean == pytest.approx(mean, abs=1e-3 * white)
    assert found.std == pytest.approx(std, rel=1e-3)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x,
        lambda x: x - x.mean(),
        lambda x: x * 2 - x.mean(),
        lambda x: (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True),
        lambda x: x * 3,
        lambda x: x.square() - 0.5,
        lambda x: x.relu(),
        lambda x: (x * 0.229 + 0.485 - 0.5) / 0.5,  # from ImageNet's values to others
    ],
)
def test_nothing_else_is_taken_for_it(function: Callable[[Tensor], Tensor]) -> None:
    assert found_in(seeded(lambda: After(function))) is None


def batch_normalised(mean: float, variance: float) -> nn.Module:
    network = nn.Sequential(nn.BatchNorm2d(3), seeded(FunctionalRelu))
    assert isinstance(network[0].running_mean, Tensor)
    assert isinstance(network[0].running_var, Tensor)
    network[0].running_mean.fill_(mean)
    network[0].running_var.fill_(variance)
    return network


def test_the_statistics_of_a_first_batch_normalisation_tell_what_came_before() -> None:
    assert found_in(batch_normalised(0.45, 0.06)) is not None
    bytes_in = found_in(batch_normalised(120, 3600))
    assert bytes_in is not None and bytes_in.white == 255
    # Values that were normalised before, and weights that were never trained.
    for mean, variance in ((0.03, 0.97), (-0.1, 1.1), (0.0, 1.0)):
        assert found_in(batch_normalised(mean, variance)) is None


def test_scripts_are_seen_through() -> None:
    found = found_in(scripted(seeded(Registered), (3, 16, 16)))
    assert found is not None and found.mean == pytest.approx(MEAN)


def prepared(network: nn.Module, given: Hints = NOTHING) -> tuple[object, ...]:
    opened = Opened(network, "toy", "module", "toy")
    with classifier_from(opened, given, Config()) as ready:
        record = ready.record
        stated = record.preprocessing
        return (
            stated.mean,
            stated.std,
            record.preprocessing_sources["mean"],
            ready.mean,
            record.notes,
        )


def test_our_own_is_switched_off_and_said_so() -> None:
    mean, std, source, zero, notes = prepared(seeded(lambda: After(in_place)))
    assert (mean, std, source) == ((0.0,) * 3, (1.0,) * 3, "detected")
    assert zero == pytest.approx(MEAN)  # what normalisation turns into zero
    assert "normalises its input itself (mean 0.485, 0.456, 0.406" in str(notes)
    bytes_in = prepared(seeded(lambda: After(lambda x: x / 255)))
    assert bytes_in[:3] == ((0.0,) * 3, (1 / 255,) * 3, "detected")


def test_what_somebody_assumed_gives_way_and_what_somebody_stated_does_not() -> None:
    network = seeded(lambda: After(in_place))
    assumed = Hints(mean=Known(MEAN, "assumed"), std=Known(STD, "assumed"))
    assert prepared(network, assumed)[0] == (0.0,) * 3
    stated = Hints(mean=Known(MEAN, "option"), std=Known(STD, "option"))
    assert prepared(network, stated)[:3] == (MEAN, STD, "option")
