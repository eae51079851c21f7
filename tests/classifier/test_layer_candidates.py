"""Which activations are listed as candidates, and by which of them a map is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from toys import CLASSES, FORMATS, classified, pictures, seeded

from reportgen.classifier.grids import Grid
from reportgen.classifier.layer_candidates import Listed, _last, list_activations
from reportgen.classifier.taps import taps_of

SHAPE = (3, 16, 16)


class Tokens(nn.Module):
    """Patch tokens, ``mixed``, whose mean is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.first = nn.Parameter(torch.randn(8, 8))
        self.bias = nn.Parameter(torch.randn(8))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        scores: Tensor = self.head(self.mixed(tokens).relu().mean(1))
        return scores

    def mixed(self, tokens: Tensor) -> Tensor:
        return tokens


class BiasBehind(Tokens):
    """Adds the bias of a projection by itself, as graphs in ONNX do."""

    def mixed(self, tokens: Tensor) -> Tensor:
        return (tokens @ self.first).add(self.bias)


class BiasBefore(Tokens):
    """The bias is the first of the two that are added."""

    def mixed(self, tokens: Tensor) -> Tensor:
        return self.bias + tokens @ self.first


class Skipped(Tokens):
    """What goes around the projection is added, and this sum is none."""

    def mixed(self, tokens: Tensor) -> Tensor:
        return tokens @ self.first + tokens


class Scaled(Tokens):
    """A bias is added to what is no projection."""

    def mixed(self, tokens: Tensor) -> Tensor:
        return tokens * 2 + self.bias


def listed(network: nn.Module) -> list[Listed]:
    with classified(network, SHAPE) as classifier:
        taps = taps_of(classifier.evaluator.network)
        return list_activations(classifier.evaluator, taps, pictures(1, *SHAPE))


@pytest.mark.parametrize("make", [BiasBehind, BiasBefore])
def test_a_projection_and_its_bias_are_one(make: Callable[[], nn.Module]) -> None:
    found = [each for each in listed(seeded(make)) if each.shape == (2, 16, 8)]
    assert [each.name.rpartition("_")[0] for each in found] == ["transpose", "bias", "relu"]
    assert [each.projection for each in found] == [False, True, False]


@pytest.mark.parametrize(("make", "flags"), [(Skipped, [0, 1, 0, 0]), (Scaled, [0, 0, 0, 0])])
def test_other_sums_are_no_projections(make: Callable[[], nn.Module], flags: list[int]) -> None:
    found = [each for each in listed(seeded(make)) if each.shape == (2, 16, 8)]
    assert [each.projection for each in found] == [bool(flag) for flag in flags]


class Positions(nn.Module):
    """Adds positions to patches: for all pictures at once, or for one after another."""

    def __init__(self, one_by_one: bool) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 8, 2, 2))
        self._one_by_one = one_by_one

    def forward(self, patches: Tensor) -> Tensor:
        resized = nn.functional.interpolate(self.positions, patches.shape[-2:])
        if not self._one_by_one:
            return patches + resized
        return torch.stack([each.sub(0).add(resized[0]).mul(1) for each in patches])


class Positioned(nn.Sequential):
    """Patches and their positions, then two convolutions of the same shape."""

    def __init__(self, one_by_one: bool) -> None:
        inner = (nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU())
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES))
        super().__init__(nn.Conv2d(3, 8, 4, 4), Positions(one_by_one), *inner, *head)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_layer_is_the_same_for_every_number_of_pictures(count: int) -> None:
    plain, looped = (seeded(lambda one=one: Positioned(one)) for one in (False, True))
    batch = pictures(count, *SHAPE)
    for name in ("2", "4", "5"):
        found = []
        for network in (plain, looped):
            taps = taps_of(network)
            taps.shapes(pictures(2, *SHAPE))
            found.append(taps.reader([name])(batch)[1][0])
        assert torch.equal(*found)


class Counting(nn.Module):
    """Looks for the largest channel of each place: whole numbers that lie over the picture too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 1, 1)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        places = self.conv(x)
        largest = places.argmax(1, keepdim=True)
        scores: Tensor = self.head((places * (largest > 0)).mean((2, 3)))
        return scores


@pytest.mark.parametrize("form", FORMATS)
def test_whole_numbers_are_no_candidates(form: str) -> None:
    found = listed(FORMATS[form](seeded(Counting), SHAPE))
    assert {each.shape[1] for each in found} == {4}


class Shared(nn.Module):
    """Two blocks share one activation, as those of YOLO do."""

    def __init__(self) -> None:
        super().__init__()
        act = nn.SiLU()
        blocks = [nn.Sequential(nn.Conv2d(n, 4, 3, 1, 1), act) for n in (3, 4)]
        self.first, self.last = blocks
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.last(self.first(x)).mean((2, 3)))
        return scores


def test_a_shared_module_is_called_after_the_block_that_runs_it() -> None:
    assert [each.name for each in listed(seeded(Shared))] == [
        "first.0",
        "first.1",
        "last.0",
        "last.1",
    ]


class Dropped(nn.Module):
    """Each convolution is followed by a dropout, which only passes on in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        convs = [nn.Conv2d(3 if i == 0 else 4, 4, 3, 1, 1) for i in range(3)]
        self.body = nn.Sequential(*(m for c in convs for m in (c, nn.Dropout2d(), nn.Dropout())))
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(x).mean((2, 3)))
        return scores


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_only_passed_on_is_no_candidate(form: str) -> None:
    network = FORMATS[form](seeded(Dropped), SHAPE)
    found = [each for each in listed(network) if each.shape[1:] == (4, 16, 16)]
    assert len(found) == 3


class ClassToken(nn.Module):
    """A class token reads a norm by a projection without bias: both have the same map."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.norm = nn.LayerNorm(8)
        self.both = nn.Linear(8, 16, bias=False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        both = self.both(self.norm(self.tokens(x)))
        keys, values = both.reshape(-1, 17, 2, 1, 8).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (keys[:, :, :1] @ keys.transpose(2, 3)).softmax(-1)
        scores: Tensor = self.head((weights @ values)[:, 0, 0])
        return scores

    def tokens(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1)


@pytest.mark.parametrize("form", FORMATS)
def test_a_map_is_known_by_the_norm_and_not_by_the_projection_behind_it(form: str) -> None:
    network, pixels = seeded(ClassToken), pictures(1, *SHAPE)
    with classified(FORMATS[form](network, SHAPE), SHAPE) as classifier:
        layer = classifier.feature_layer(pixels[0], 0)
        found, gradient = classifier.evaluator.feature_gradients(pixels, layer, 0)
    tokens = network.tokens(pixels).detach()
    assert layer.grid.prefix == 1
    assert gradient is not None and bool(gradient.any())
    assert float((found - network.norm(tokens).detach()).abs().max()) < 1e-6
    assert float((found - tokens).abs().max()) > 0.1


def of(side: int, channels: int, count: int) -> list[Listed]:
    grid = Grid(side, side, "channels first")
    shape = (2, channels, side, side)
    return [Listed(f"{side}.{i}", shape, (grid,)) for i in range(count)]


def test_the_last_grid_of_a_large_picture_leaves_room_for_those_before() -> None:
    # EfficientNet-B7 at 600 pixels.
    found = [*of(300, 64, 9), *of(75, 480, 30), *of(38, 1344, 40), *of(19, 3840, 20)]
    names = [each.name for each in _last(found)]
    assert names == ["19.19", "19.18", "19.17", "38.39", "38.38", "75.29", "300.8"]


def test_each_of_many_grids_has_room_for_what_is_only_handed_on() -> None:
    # Exporters write many copies behind the last activation that a class token reads.
    found = [each for side in (56, 28, 14, 7, 4, 2) for each in of(side, 32, 100)]
    assert len(list(_last(found))) == 6 * 24


def test_a_single_grid_has_all_the_room_and_one_activation_always_has() -> None:
    assert len(list(_last(of(14, 96, 300)))) == 120
    assert [each.name for each in _last(of(1024, 64, 3))] == ["1024.2"]
    assert list(_last([])) == []
