"""The gradient of one picture through batch normalisation between places and tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies
from torch import Tensor, nn
from toys import CLASSES, FORMATS, classified, hints, pictures, seeded

from reportgen.classifier.classifier import classifier_from
from reportgen.classifier.loading import open_model
from reportgen.classifier.lone_pictures import LonePictures
from reportgen.config import Config
from reportgen.preflight import fitted

SHAPE = (3, 16, 16)


class Stem(nn.Module):
    """A normalised map becomes tokens beside another; its gradient is laid out as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4)
        self.norm = nn.BatchNorm2d(8)
        self.mixed = nn.Linear(8, 8)
        self.head = nn.Linear(8, CLASSES)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.norm(self.conv(x)))

    def read(self, places: Tensor) -> Tensor:
        tokens = places.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1)
        scores: Tensor = self.head(self.mixed(tokens).tanh().mean(1))
        return scores


class Return(Stem):
    """Tokens become a map, which is normalised."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.mixed(self.conv(x).flatten(2).transpose(1, 2))
        places = self.norm(tokens.transpose(1, 2).unflatten(2, (4, 4)))
        scores: Tensor = self.head(places.tanh().mean((2, 3)))
        return scores


class Instance(Stem):
    """Each picture is normalised by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(8)


def gradient(network: nn.Module, pixels: Tensor) -> Tensor:
    """Return the gradient of the first class's score of the first picture, by that picture."""
    leaf = pixels.clone().requires_grad_()
    return torch.autograd.grad(network(leaf)[0, 0], leaf)[0][:1]


def _with_token(values: Tensor) -> Tensor:
    """Return values (n, C, h, w) as a view of tokens behind another."""
    behind = torch.zeros(len(values), 1, values.shape[1])
    tokens = torch.cat([behind, values.flatten(2).transpose(1, 2)], 1)
    return tokens[:, 1:].permute(0, 2, 1).view(values.shape)


LAYOUTS: Sequence[Callable[[Tensor], Tensor]] = (
    lambda values: values.contiguous(),
    lambda values: values.contiguous(memory_format=torch.channels_last),
    lambda values: values.permute(2, 0, 3, 1).contiguous().permute(1, 3, 0, 2),
    lambda values: torch.cat([values, values], 1)[:, values.shape[1] :],
    _with_token,
)


@settings(deadline=None, max_examples=300)
@given(
    batch=strategies.integers(1, 3),
    channels=strategies.sampled_from((1, 2, 8, 19)),
    sides=strategies.sampled_from(((1, 1), (1, 5), (5, 1), (3, 4))),
    layouts=strategies.tuples(*[strategies.sampled_from(LAYOUTS)] * 2),
    seed=strategies.integers(0, 99),
)
def test_no_layout_is_misread(
    batch: int,
    channels: int,
    sides: tuple[int, int],
    layouts: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(channels).eval()
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    values, wanted = torch.randn(2, batch, channels, *sides)
    leaf = layouts[0](values).detach().requires_grad_()
    with LonePictures():
        output = norm(leaf)
    found = torch.autograd.grad(output, leaf, layouts[1](wanted))[0]
    scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    assert alike(found, wanted * scale[:, None, None])


def alike(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) <= 1e-5 * float(b.abs().max())


@pytest.mark.parametrize("make", [Stem, Return, Instance])
def test_pytorch_computes_it_wrongly(make: type[Stem]) -> None:
    # Once this fails, lone_pictures.py can go.
    network, pixels = seeded(make).eval(), pictures(1, *SHAPE)
    assert not alike(gradient(network, pixels), gradient(network, pixels.repeat(2, 1, 1, 1)))


# PyTorch does not trace instance normalisation of batches without a warning.
CASES = [(make, form) for make in (Stem, Return) for form in FORMATS]
CASES += [(Instance, form) for form in ("eager", "scripted", "exported", "symbolic")]


@pytest.mark.parametrize(("make", "form"), CASES)
def test_it_is_that_of_the_picture_in_a_larger_batch(make: type[Stem], form: str) -> None:
    network, pixels = seeded(make).eval(), pictures(1, *SHAPE)
    known = gradient(network, pixels.repeat(2, 1, 1, 1))
    with classified(FORMATS[form](network, SHAPE), SHAPE) as classifier:
        assert alike(gradient(classifier.evaluator.scores, pixels), known)


def test_it_is_right_where_only_one_picture_is_taken() -> None:
    network, pixels = seeded(Stem).eval(), pictures(1, *SHAPE)
    known = gradient(network, pixels.repeat(2, 1, 1, 1))
    module = torch.export.export(network, (pixels,)).module(check_guards=False)
    alone = torch.fx.GraphModule(module, module.graph)
    with classified(alone, SHAPE, fixed_batch=1) as classifier:
        assert alike(gradient(classifier.evaluator.scores, pixels), known)


@pytest.mark.parametrize("form", ["eager", "symbolic", "exported"])
def test_that_by_an_activation_is_right_too(form: str) -> None:
    network, pixels = seeded(Stem).eval(), pictures(1, *SHAPE)
    places = network.conv(pixels.repeat(2, 1, 1, 1)).detach().requires_grad_()
    known = torch.autograd.grad(network.read(network.norm(places))[0, 0], places)[0][:1]
    with classified(FORMATS[form](network, SHAPE), SHAPE) as classifier:
        layer = classifier.feature_layer(pixels[0], 0, "conv")
        _, found = classifier.evaluator.feature_gradients(pixels, layer, 0)
    assert found is not None and alike(found, known)


class One(Stem):
    """A network whose trace takes one picture alone."""

    def read(self, places: Tensor) -> Tensor:
        return super().read(places.reshape(1, 8, 4, 4))


class OneConvolved(One):
    """The same without tokens."""

    def read(self, places: Tensor) -> Tensor:
        scores: Tensor = self.head(places.reshape(1, 8, 16).tanh().mean(2))
        return scores


@pytest.mark.parametrize(("make", "refused"), [(One, True), (OneConvolved, False)])
def test_a_script_of_one_picture_alone_is_refused_where_it_is_wrong(
    make: type[Stem], refused: bool, tmp_path: Path
) -> None:
    path = tmp_path / "one.pt"
    FORMATS["traced"](seeded(make).eval(), SHAPE).save(path)
    config = Config(device="cpu")
    with classifier_from(open_model(path), hints(SHAPE, None), config) as classifier:
        reason = fitted(classifier, config).record.predictions_only
        assert classifier.evaluator.fixed_batch == 1
    assert ("gradient of batch normalisation wrongly" in reason) is refused
    assert bool(reason) is refused
