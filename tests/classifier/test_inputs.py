"""What a network takes is found by trying and looking: channels, size, numbers; else assumed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from factories import densenet_bc100, mnist_cnn, resnet20, vit_cifar10
from torch import Tensor, nn
from toys import FunctionalRelu, frozen, scripted, seeded

from reportgen.classifier.borrowing import borrowed
from reportgen.classifier.classifier import classifier_from
from reportgen.classifier.inputs import Intake, complete, preprocessing_of
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.opened import Opened
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.config import Config
from reportgen.errors import ModelError, UsageError

ensure_torchvision()

from torchvision.models import VisionTransformer, resnet18  # noqa: E402

NOTHING = Hints()
CPU = torch.device("cpu")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Flattening(nn.Module):
    """Two convolutions and pools, then a linear layer for pictures of one size."""

    def __init__(self, size: tuple[int, int], channels: int = 3, view: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 4, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(4, 6, 5),
            nn.MaxPool2d(2),
        )
        rows, columns = (((side - 4) // 2 - 4) // 2 for side in size)
        self.view = view
        self.fc = nn.Linear(6 * rows * columns, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        flat = x.view(-1, self.fc.in_features) if self.view else x.flatten(1)
        scores: Tensor = self.fc(flat)
        return scores


class Perceptron(nn.Module):
    """One linear layer over all pixels."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(pixels, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(x.flatten(1))
        return scores


class Bytes(nn.Module):
    """Takes whole numbers alone, and looks each of them up."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.linspace(0, 1, 256), requires_grad=False)
        self.fc = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.uint8:
            raise TypeError("expected bytes")
        scores: Tensor = self.fc(self.values[x.long()].mean((2, 3)))
        return scores


def intake(network: nn.Module, given: Hints = NOTHING) -> Intake:
    with borrowed(network):
        return complete(given, Opened(network, "toy", "module", "toy"), CPU)


def size_of(found: Intake) -> tuple[tuple[int, int], str]:
    assert found.hints.crop is not None
    return found.hints.crop.value, found.hints.crop.source


@pytest.mark.parametrize("side", [32, 48, 50, 100, 150])
@pytest.mark.parametrize("view", [False, True])
def test_the_size_is_solved_from_the_linear_layer(side: int, view: bool) -> None:
    network = seeded(lambda: Flattening((side, side), view=view))
    (found, _), source = size_of(intake(network))
    assert network(torch.zeros(1, 3, found, found)).shape == (1, 3)
    # The pools round down, so that four sides next to each other fit.
    assert side - 3 <= found <= side + 3 and source == "assumed"
    assert found == (48 if side == 50 else side)


@pytest.mark.parametrize("size", [(240, 320), (64, 128)])
def test_a_size_that_is_not_square_is_found_and_the_whole_picture_is_seen(
    size: tuple[int, int],
) -> None:
    found = intake(seeded(lambda: Flattening(size)))
    assert size_of(found) == (size, "assumed")
    assert preprocessing_of(found.hints).resize == size


@pytest.mark.parametrize(
    ("pixels", "channels", "side"), [(784, 1, 28), (3072, 3, 32), (7500, 3, 50), (2500, 1, 50)]
)
def test_pixels_alone_tell_channels_and_size(pixels: int, channels: int, side: int) -> None:
    found = intake(seeded(lambda: Perceptron(pixels)))
    assert size_of(found) == ((side, side), "detected")
    assert preprocessing_of(found.hints).channels == channels


@pytest.mark.parametrize("make", [lambda network: network, scripted, frozen])
def test_every_format_tells_its_size(make: Callable[..., nn.Module]) -> None:
    network = seeded(lambda: Flattening((56, 56)))
    made = network if make.__name__ == "<lambda>" else make(network, (3, 56, 56))
    assert size_of(intake(made))[0] == (56, 56)


@pytest.mark.parametrize(
    ("make", "side", "source"),
    [
        (lambda: VisionTransformer(48, 8, 1, 2, 32, 64), 48, "detected"),
        (vit_cifar10, 32, "assumed"),  # 33 pixels make as many patches of 4
        (mnist_cnn, 28, "assumed"),
    ],
)
def test_networks_of_one_size(make: Callable[[], nn.Module], side: int, source: str) -> None:
    assert size_of(intake(seeded(make))) == ((side, side), source)


@pytest.mark.parametrize(
    ("make", "side"),
    [(resnet20, 32), (densenet_bc100, 32), (resnet18, 224), (FunctionalRelu, 224)],
)
def test_of_networks_that_take_any_size_the_stem_tells(
    make: Callable[[], nn.Module], side: int
) -> None:
    found = intake(seeded(make))
    assert size_of(found) == ((side, side), "assumed")
    assert any("32x32 pixels were assumed" in note for note in found.notes) == (side == 32)


def test_what_is_said_counts_more_than_what_is_found() -> None:
    found = intake(seeded(resnet20), Hints(crop=Known((40, 48), "option")))
    assert size_of(found) == ((40, 48), "option")
    assert found.notes == ()
    with pytest.raises(ModelError, match="does not accept a picture of 40x48 pixels"):
        intake(seeded(mnist_cnn), Hints(crop=Known((40, 48), "option")))


def test_a_wrong_guess_at_the_channels_is_corrected_and_a_wrong_statement_is_not() -> None:
    network = seeded(lambda: FunctionalRelu(1))
    guessed = intake(network, Hints(channels=Known(5, "argument")))
    assert guessed.hints.channels == Known(1, "detected")
    with pytest.raises(ModelError, match="accepts none of the usual square inputs"):
        intake(network, Hints(channels=Known(5, "model.toml")))


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_any_number_of_channels_is_taken_unnormalised(channels: int) -> None:
    found = preprocessing_of(intake(seeded(lambda: FunctionalRelu(channels))).hints)
    assert (found.channels, found.mean) == (channels, (0.0,) * channels)


def test_whole_numbers_are_given_where_floats_are_refused() -> None:
    network = seeded(Bytes)
    found = intake(network)
    stated = preprocessing_of(found.hints)
    assert (stated.numbers, stated.std) == ("uint8", (1 / 255,) * 3)
    assert preprocessing_of(intake(seeded(FunctionalRelu)).hints).numbers == "float"
    with classifier_from(Opened(network, "toy", "module", "toy"), Hints(), Config()) as ready:
        pixels = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        expected = network((pixels * 255).round().to(torch.uint8))
        assert torch.allclose(ready.evaluator.raw(pixels), expected, atol=1e-5)
        assert not ready.evaluator.scores(pixels.clone().requires_grad_()).requires_grad
        streamed = ready.evaluator.stream(2, lambda start, stop: pixels[start:stop])
        assert torch.allclose(streamed, expected, atol=1e-5)


def test_assumed_statistics_are_turned_with_the_colours() -> None:
    found = preprocessing_of(
        intake(seeded(FunctionalRelu), Hints(channel_order=Known("bgr", "option"))).hints
    )
    assert (found.mean, found.std) == (IMAGENET[0][::-1], IMAGENET[1][::-1])
    own = Hints(
        channel_order=Known("bgr", "option"),
        mean=Known((0.1, 0.2, 0.3), "option"),
        std=Known((0.5, 0.6, 0.7), "option"),
    )
    assert preprocessing_of(intake(seeded(FunctionalRelu), own).hints).mean == (0.1, 0.2, 0.3)
    with pytest.raises(UsageError, match="for networks of 3 channels, but this one takes 1"):
        preprocessing_of(
            intake(
                seeded(lambda: FunctionalRelu(1)), Hints(channel_order=Known("bgr", "option"))
            ).hints
        )


class Colours(nn.Module):
    """Calls a picture by its strongest channel: the first, the second, or the third."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) * 20


@pytest.mark.parametrize(("order", "said"), [("rgb", 0), ("bgr", 2)])
def test_a_red_picture_reaches_the_channel_that_the_network_calls_red(
    order: str, said: int
) -> None:
    given = Hints(channel_order=Known(order, "option"), crop=Known((8, 8), "option"))
    opened = Opened(seeded(Colours), "toy", "module", "toy")
    with classifier_from(opened, given, Config()) as ready:
        red = torch.zeros(3, 8, 8)
        red[0] = 1
        assert ready.predict(red).top[0].index == said
        assert ready.mean == IMAGENET[0]  # of the picture's channels, whatever the network's order
        leaf = red[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(ready.evaluator.scores(leaf)[0, said], leaf)
        assert gradient[0].abs().sum((1, 2)).argmax() == 0


class OfOneSize(nn.Module):
    """Takes 16x16 pixels alone, as its configuration says."""

    def __init__(self) -> None:
        super().__init__()
        self.image_size = 16
        self.fc = nn.Linear(3 * 16 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class Vast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.empty(len(x), 10, 2**55).sum(2)


def test_too_little_memory_is_no_wrong_size() -> None:
    with pytest.raises(ModelError, match=r"A picture of \d+x\d+ pixels needs more memory than"):
        intake(Vast())


def test_a_size_in_a_file_that_the_network_does_not_take_gives_way_to_its_own() -> None:
    said = Hints(crop=Known((24, 24), "file"), resize=Known(28, "file"))
    found = intake(seeded(OfOneSize), said)
    assert size_of(found) == ((16, 16), "detected")
    assert found.hints.resize == Known(16, "assumed")
    assert any("24x24 pixels, as its files say; 16x16 was taken" in n for n in found.notes)
    with pytest.raises(ModelError, match="does not accept a picture of 24x24 pixels"):
        intake(seeded(OfOneSize), Hints(crop=Known((24, 24), "model.toml")))
