"""Networks that are wrapped, compiled, recomputed or partly scripted: the plain network's maps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils import checkpoint
from toys import CLASSES, classified, pictures, request, scripted, seeded, traced

from reportgen.attribution import METHODS
from reportgen.classifier.loading import open_model
from reportgen.config import Config

SQUARE = (3, 16, 16)
METHODS_LOOKED_AT = ("gradcam", "saliency")


class Stages(nn.Module):
    """Two convolutions, each in a stage of its own, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.Tanh())
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.first(x)).mean((2, 3)))


class Checkpointed(Stages):
    """The same, each stage recomputed on the way back."""

    reentrant = False

    def forward(self, x: Tensor) -> Tensor:
        for stage in (self.first, self.second):
            x = checkpoint.checkpoint(stage, x, use_reentrant=self.reentrant)
        return self.fc(x.mean((2, 3)))


class Reentrant(Checkpointed):
    """The same, by the older kind of recomputation."""

    reentrant = True


def with_stage(change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    network = seeded(Stages)
    network.second = change(network.second)
    return network


def normed() -> nn.Module:
    """Return the network with one weight that is computed anew in each pass."""
    network = seeded(Stages)
    parametrizations.weight_norm(network.second[0])
    return network


VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "checkpointed": lambda: seeded(Checkpointed),
    "checkpointed, the older kind": lambda: seeded(Reentrant),
    "one stage compiled": lambda: with_stage(_compiled),
    "compiled": lambda: _compiled(seeded(Stages)),
    "in parallel": lambda: nn.DataParallel(seeded(Stages)),
    "compiled in parallel": lambda: nn.DataParallel(_compiled(seeded(Stages))),
    "one stage in parallel": lambda: with_stage(nn.DataParallel),
    "one stage scripted": lambda: with_stage(lambda stage: scripted(stage, SQUARE)),
    "one stage traced": lambda: with_stage(lambda stage: traced(stage, (4, 8, 8))),
    "weights computed": normed,
}


def _compiled(network: nn.Module) -> nn.Module:
    return torch.compile(network, backend=_never)


def _never(graph: object, inputs: object) -> None:
    raise AssertionError("the network was compiled")


def maps(network: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
    with classified(open_model(network).network, SQUARE) as classifier:
        asked = request(classifier, pixels, 2, Config(layer="second"))
        return {name: METHODS[name].explain(asked).maps for name in METHODS_LOOKED_AT}


def alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and float((a - b).abs().max()) < 1e-5 * float(b.abs().max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_maps_are_those_of_the_plain_network(variant: str) -> None:
    pixels = pictures(2)
    expected = maps(seeded(Stages), pixels)
    network = VARIANTS[variant]().train()
    before = list(network.state_dict())
    found = maps(network, pixels)
    for method in METHODS_LOOKED_AT:
        assert alike(found[method], expected[method])
        assert not alike(found[method].flip(0), expected[method])
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())
    assert list(network.state_dict()) == before
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_what_is_around_a_network_is_taken_off() -> None:
    plain = seeded(Stages)
    wrapped = nn.DataParallel(plain), _compiled(plain), nn.DataParallel(_compiled(plain))
    for network in wrapped:
        opened = open_model(network)
        assert opened.network is plain
        assert opened.architecture == "Stages"


def test_compiling_and_recomputing_go_on_as_before() -> None:
    network = _compiled(seeded(Stages))
    kept = checkpoint.CheckpointFunction
    with classified(network, SQUARE) as classifier:
        classifier.evaluator.raw(pictures(1))
        assert checkpoint.CheckpointFunction is not kept
    assert checkpoint.CheckpointFunction is kept
    torch._dynamo.reset()
    with pytest.raises(Exception, match="the network was compiled"):
        network(pictures(1))
    with pytest.raises(ZeroDivisionError), classified(network, SQUARE):
        raise ZeroDivisionError
    assert checkpoint.CheckpointFunction is kept
