"""Guided backpropagation: captum's map, every way to call a ReLU, and what has none."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from captum.attr import GuidedBackprop
from gradient_methods import SHAPE, difference, explained
from torch import Tensor, nn
from torch.nn import functional as F
from toys import (
    FORMATS,
    FunctionalRelu,
    InPlaceRelu,
    Pointwise,
    TinyViT,
    pictures,
    seeded,
)

from reportgen.attribution import METHODS
from reportgen.errors import NotApplicable

METHOD = "guided-backprop"
Rectify = Callable[[Tensor], Tensor]


class Rectified(nn.Module):
    """Two convolutions, each followed by ``rectify``, and a linear layer."""

    def __init__(self, rectify: Rectify) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, 2, 1)
        self.second = nn.Conv2d(6, 8, 3, 2, 1)
        self.fc = nn.Linear(8, 3)
        self.rectify = rectify

    def forward(self, x: Tensor) -> Tensor:
        x = self.rectify(self.second(self.rectify(self.first(x))))
        return self.fc(x.mean((2, 3)))


class Modules(Rectified):
    """The same network, with a ReLU module of its own at each place, as captum needs it."""

    def __init__(self, make: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__(lambda x: x)
        self.a, self.b = make(), make()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.b(self.second(self.a(self.first(x)))).mean((2, 3)))


SPELLINGS: dict[str, Rectify] = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "returned nothing": lambda x: (x.relu_(), x)[1],
}
CLIPPED: dict[str, Rectify] = {
    "F.relu6": F.relu6,
    "F.relu6 in place": lambda x: F.relu6(x, inplace=True),
    "module": nn.ReLU6(),
    "module in place": nn.ReLU6(inplace=True),
    "hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
    "hardtanh by name": lambda x: F.hardtanh(x, min_val=0.0, max_val=6.0),
    "hardtanh in place": lambda x: F.hardtanh_(x, 0.0, 6.0),
    "hardtanh module": nn.Hardtanh(0.0, 6.0),
}


def captums(network: nn.Module, pixels: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces the hooks that it sets
        found = GuidedBackprop(network).attribute(pixels.clone().requires_grad_(), target=0)
    return found.detach().abs().amax(1)


def slow(network: Rectified, pixels: Tensor, top: float) -> Tensor:
    """Return the map by the chain rule, rectifier by rectifier."""
    a = network.first(pixels)
    b = network.second(a.clamp(0, top))
    passed = network.fc.weight[0].view(1, -1, 1, 1) / b[0, 0].numel()
    passed = passed.expand_as(b).clamp_min(0) * (b > 0) * (b < top)
    passed = F.conv_transpose2d(passed, network.second.weight, None, 2, 1, 1)
    passed = passed.clamp_min(0) * (a > 0) * (a < top)
    back = F.conv_transpose2d(passed, network.first.weight, None, 2, 1, 1)
    return back.detach().abs().amax(1)


@pytest.mark.parametrize("rectify", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_of_relu_gives_captums_map(rectify: Rectify) -> None:
    theirs = captums(seeded(Modules), pictures(2))
    found = explained(METHOD, seeded(lambda: Rectified(rectify)), pictures(2))
    assert found.settings["rectifiers in a pass"] == 2
    assert difference(found.maps, theirs) < 1e-7
    assert difference(found.maps, theirs + 2e-7) > 1e-7
    plain = explained("saliency", seeded(Modules), pictures(2)).maps
    assert difference(found.maps, plain) > 1e-3


@pytest.mark.parametrize("rectify", CLIPPED.values(), ids=CLIPPED)
def test_every_spelling_of_relu6_is_guided(rectify: Rectify) -> None:
    network = seeded(lambda: Rectified(rectify))
    with torch.no_grad():
        # Activations beyond 6, where nothing comes back at all.
        network.first.weight *= 100
    pixels = pictures(2)
    found = explained(METHOD, network, pixels)
    assert found.settings["rectifiers in a pass"] == 2
    expected = slow(network, pixels, 6.0)
    scale = float(expected.max())
    assert difference(found.maps, expected) < 1e-5 * scale
    assert difference(found.maps, slow(network, pixels, torch.inf)) > 1e-2 * scale
    assert difference(found.maps, explained("saliency", network, pixels).maps) > 1e-2 * scale


def test_the_chain_rule_by_hand_is_captums() -> None:
    network, pixels = seeded(Modules), pictures(2)
    assert difference(slow(network, pixels, torch.inf), captums(network, pixels)) < 1e-7


def test_why_captums_is_not_used() -> None:
    """It sees only modules: with a function it gives the plain gradient, and says nothing."""
    network = seeded(lambda: Rectified(F.relu))
    plain = explained("saliency", seeded(lambda: Rectified(F.relu)), pictures(1)).maps
    assert difference(captums(network, pictures(1)), plain) < 1e-7


@pytest.mark.parametrize("kind", ["eager", "exported", "symbolic"])
@pytest.mark.parametrize("make", [FunctionalRelu, InPlaceRelu])
def test_graphs_are_guided_as_modules_are(kind: str, make: type[nn.Module]) -> None:
    expected = explained(METHOD, seeded(make), pictures(2))
    found = explained(METHOD, FORMATS[kind](seeded(make), SHAPE), pictures(2))
    assert found.settings["rectifiers in a pass"] == 2
    assert difference(found.maps, expected.maps) < 1e-7
    assert difference(found.maps, explained("saliency", seeded(make), pictures(2)).maps) > 1e-4


@pytest.mark.parametrize("kind", ["traced", "scripted", "frozen"])
def test_torchscript_is_refused_in_a_sentence(kind: str) -> None:
    network = FORMATS[kind](seeded(FunctionalRelu), SHAPE)
    with pytest.raises(NotApplicable, match="inside TorchScript cannot be reached"):
        explained(METHOD, network, pictures(1))


def test_a_script_inside_a_module_is_refused_too() -> None:
    script = FORMATS["traced"](seeded(FunctionalRelu), SHAPE)
    with pytest.raises(NotApplicable, match="inside TorchScript"):
        explained(METHOD, nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), script), pictures(1))


def test_a_network_without_relu_is_refused_in_a_sentence() -> None:
    for network in (seeded(TinyViT), Pointwise(lambda x: F.hardtanh(x) + F.leaky_relu(x))):
        with pytest.raises(NotApplicable, match="this network calls none"):
            explained(METHOD, network, pictures(1))


def test_the_gradient_is_plain_again_afterwards() -> None:
    network, pixels = seeded(FunctionalRelu), pictures(1)
    before = explained("saliency", network, pixels).maps
    explained(METHOD, network, pixels)
    assert torch.equal(explained("saliency", network, pixels).maps, before)


def test_only_positive_gradients_come_back() -> None:
    """The score falls with the second feature, which is all that the ReLU of it hides."""
    opposed = Pointwise(lambda x: x.relu() - (x * 0.5).relu())
    found = explained(METHOD, opposed, pictures(1)).maps
    assert torch.equal(found, torch.ones(1, 16, 16) * (pictures(1).amax(1) > 0))
    plain = explained("saliency", opposed, pictures(1)).maps
    assert torch.equal(plain, 0.5 * found)


def test_the_card_says_that_it_is_class_agnostic() -> None:
    assert METHODS[METHOD].card.class_agnostic
