"""Which layer is found, in which layout it is read, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import (
    CLASSES,
    FORMATS,
    ChannelsLast,
    ClassMaps,
    Constant,
    Fixed,
    FunctionalRelu,
    InPlaceRelu,
    ReusedRelu,
    TinyViT,
    classified,
    pictures,
    seeded,
)

from reportgen.classifier.grids import Grid
from reportgen.classifier.layers import FeatureLayer
from reportgen.classifier.taps import taps_of
from reportgen.errors import NotApplicable, UsageError

SQUARE = (3, 16, 16)
WIDE = (3, 16, 24)


def layer_of(
    network: nn.Module, shape: tuple[int, int, int] = SQUARE, name: str = ""
) -> FeatureLayer:
    return read(network, pictures(1, *shape), name)[0]


def read(network: nn.Module, pixels: Tensor, name: str = "") -> tuple[FeatureLayer, Tensor]:
    """Return the layer found for the first picture, and what it holds as (n, C, h, w)."""
    with classified(network, tuple(pixels.shape[1:])) as classifier:
        layer = classifier.feature_layer(pixels[0], 0, name)
        activation, _ = classifier.evaluator.feature_gradients(pixels, layer, 0)
        return layer, layer.grid.spatial(activation)


def gradient_of(network: nn.Module, pixels: Tensor, name: str = "") -> Tensor:
    """Return the gradient of the first class by the layer, in the layer's own layout."""
    with classified(network, tuple(pixels.shape[1:])) as classifier:
        layer = classifier.feature_layer(pixels[0], 0, name)
        gradient = classifier.evaluator.feature_gradients(pixels, layer, 0)[1]
    if gradient is None:
        raise AssertionError("the score does not depend on the layer")
    return gradient


def alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and float((a - b).detach().abs().max()) < 1e-6


def test_the_comparison_can_fail() -> None:
    values = torch.zeros(2, 3)
    assert not alike(values, values + 2e-6)
    assert not alike(values, values[:1])


@pytest.mark.parametrize("shape", [SQUARE, WIDE])
@pytest.mark.parametrize("make", [FunctionalRelu, InPlaceRelu, ReusedRelu])
@pytest.mark.parametrize("form", FORMATS)
def test_the_last_feature_map_is_found_in_every_format(
    form: str, make: Callable[[], nn.Module], shape: tuple[int, int, int]
) -> None:
    network = seeded(make)
    stored = FORMATS[form](network, shape)
    pixels = pictures(2, *shape)
    layer, found = read(stored, pixels)
    assert layer.grid == Grid(4, shape[2] // 4, "channels first")
    middle = network.features(pixels)
    last = F.relu(network.conv(F.relu(middle) if make is ReusedRelu else middle)).detach()
    assert alike(found, last)
    assert float(last.amax()) > 0.1


@pytest.mark.parametrize("form", ["eager", "symbolic", "exported"])
def test_a_module_or_a_container_can_be_named(form: str) -> None:
    network = seeded(FunctionalRelu)
    stored = FORMATS[form](network, SQUARE)
    pixels = pictures(2)
    for name in ("features", "features.2"):
        layer, found = read(stored, pixels, name)
        assert layer.name == name
        assert alike(found, network.features(pixels))
    assert not alike(read(stored, pixels, "features.1")[1], found)


class Residual(nn.Module):
    """A block whose last tensor is made by a module, after one that its own forward made."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, 1, 1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x) + x - 0.5)


@pytest.mark.parametrize("form", ["eager", "exported"])
def test_a_block_stands_for_its_output(form: str) -> None:
    network = seeded(lambda: nn.Sequential(nn.Conv2d(3, 3, 2, 2), Residual(), nn.Flatten()))
    network.append(seeded(lambda: nn.Linear(3 * 8 * 8, CLASSES)))
    stored = FORMATS[form](network, SQUARE)
    _, found = read(stored, pictures(1), "1")
    assert alike(found, network[:2](pictures(1)))
    assert float(found.amin()) == 0


def test_a_feature_map_made_by_a_nested_forward_is_found() -> None:
    network = nn.Sequential(seeded(FunctionalRelu))
    layer, found = read(network, pictures(1))
    assert layer.name.startswith("0.relu_")
    assert alike(found, read(network[0], pictures(1))[1])


@pytest.mark.parametrize("form", ["traced", "scripted", "frozen"])
def test_a_value_of_a_script_can_be_named(form: str) -> None:
    stored = FORMATS[form](seeded(FunctionalRelu), SQUARE)
    layer, found = read(stored, pictures(2))
    named, again = read(stored, pictures(2), layer.name)
    assert named.name == layer.name
    assert alike(found, again)


@pytest.mark.parametrize("form", FORMATS)
def test_an_unknown_layer_lists_the_known_ones(form: str) -> None:
    stored = FORMATS[form](seeded(FunctionalRelu), SQUARE)
    some = layer_of(stored).name
    with pytest.raises(UsageError, match=r"Unknown layer 'nowhere'; the known ones are: ") as error:
        layer_of(stored, name="nowhere")
    assert some in str(error.value)


@pytest.mark.parametrize("form", ["eager", "exported"])
def test_a_layer_without_places_does_not_apply(form: str) -> None:
    stored = FORMATS[form](seeded(FunctionalRelu), SQUARE)
    with pytest.raises(NotApplicable, match=r"the layer 'fc' gives a tensor of shape \(1, 3\)"):
        layer_of(stored, name="fc")


@pytest.mark.parametrize("form", ["eager", "traced", "exported"])
@pytest.mark.parametrize("shape", [SQUARE, WIDE])
def test_patch_tokens_are_taken_where_a_gradient_still_reaches_them(
    form: str, shape: tuple[int, int, int]
) -> None:
    stored = FORMATS[form](seeded(TinyViT), shape)
    pixels = pictures(2, *shape)
    layer, found = read(stored, pixels)
    assert layer.grid == Grid(4, shape[2] // 4, "tokens", 1)
    assert found.shape[2:] == (4, shape[2] // 4)
    # Behind the last block only the class token is read.
    assert bool(gradient_of(stored, pixels)[:, 1:].any())


def test_the_last_block_of_patch_tokens_is_passed_over() -> None:
    network = seeded(TinyViT)
    assert layer_of(network).name.startswith("blocks.1.")
    gradient = gradient_of(network, pictures(1), "blocks")
    assert bool(gradient[:, :1].any())
    assert not bool(gradient[:, 1:].any())


@pytest.mark.parametrize("form", FORMATS)
def test_channels_last_activations_are_turned(form: str) -> None:
    network = seeded(ChannelsLast)
    stored = FORMATS[form](network, WIDE)
    pixels = pictures(2, *WIDE)
    layer, found = read(stored, pixels)
    assert layer.grid == Grid(4, 6, "channels last")
    normed = network.norm(network.stem(pixels).permute(0, 2, 3, 1))
    mixed = network.mix(normed).relu()
    # The map of the last one is nowhere positive for this class and picture.
    assert any(alike(found, each.permute(0, 3, 1, 2)) for each in (mixed, normed))


@pytest.mark.parametrize("form", FORMATS)
def test_maps_of_class_scores_are_passed_over(form: str) -> None:
    network = seeded(ClassMaps)
    stored = FORMATS[form](network, SQUARE)
    pixels = pictures(2)
    assert alike(read(stored, pixels)[1], F.relu(network.conv(network.features(pixels))))


def test_a_constant_score_has_a_layer_all_the_same() -> None:
    gradient = gradient_of(seeded(Constant), pictures(1))
    assert gradient.shape == (1, 6, 4, 4)
    assert not bool(gradient.any())


def test_a_network_without_feature_maps_does_not_apply() -> None:
    network = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, CLASSES)))
    with pytest.raises(NotApplicable, match="no layer gives a feature map"):
        layer_of(network)
    with pytest.raises(NotApplicable, match="no layer gives a feature map"):
        layer_of(Fixed(torch.tensor([1.0, 2.0])))


class Windows(nn.Module):
    """Cuts the picture into windows that stand where other pictures of a batch would."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 2, 2)
        self.mix = nn.Linear(5, 5)
        self.fc = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        windows = x.unflatten(2, (2, 4)).unflatten(4, (2, 4)).permute(0, 2, 4, 3, 5, 1)
        mixed = self.mix(windows.flatten(0, 2).flatten(1, 2)).relu()
        return self.fc(mixed.unflatten(0, (len(x), 4)).mean((1, 2)))


def test_windows_are_not_taken_for_pictures() -> None:
    assert layer_of(seeded(Windows)).name == "conv"


class Biased(FunctionalRelu):
    """Makes weights of two heads, which for two pictures look like one feature map for each."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(2, 16, 5))

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.conv(self.features(x)))
        return self.fc(features.mean((2, 3))) * (self.table * 2).softmax(-1).mean()


@pytest.mark.parametrize("form", ["eager", "exported"])
def test_what_looks_like_one_entry_for_each_picture_is_passed_over(form: str) -> None:
    with classified(FORMATS[form](seeded(Biased), SQUARE), SQUARE) as classifier:
        choice = classifier.layer_search(pictures(1)[0], 0).choice
    assert {(each.height, each.channels) for each in choice.candidates} == {(4, 6), (8, 4)}


def test_a_named_layer_without_an_entry_for_each_picture_does_not_apply() -> None:
    with pytest.raises(NotApplicable, match=r"the layer 'softmax_\d+' gives a tensor of shape"):
        layer_of(seeded(Biased), name=_softmax_of(seeded(Biased)))


def _softmax_of(network: nn.Module) -> str:
    names = [name for name, _ in taps_of(network).shapes(pictures(2))]
    return next(name for name in names if name.startswith("softmax"))


class Brief(FunctionalRelu):
    """Calls a function more for two pictures than for one."""

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.conv(self.features(x)))
        scores = self.fc(features.mean((2, 3)))
        return scores + (features * 0).mean((1, 2, 3))[:, None] if len(x) > 1 else scores


def test_a_function_that_one_picture_does_not_need_is_passed_over() -> None:
    assert layer_of(seeded(Brief)).grid == Grid(4, 4, "channels first")


class ConvolvedAttention(nn.Module):
    """Attention with keys and values on a coarser grid than its queries; a class token is read."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 8, 2, 2), nn.Parameter(torch.ones(1, 1, 8))
        self.norm, self.query = nn.LayerNorm(8), nn.Linear(8, 8)
        self.values, self.fc = nn.Conv2d(8, 8, 2, 2), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        places = self.patches(x)
        tokens = places.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], dim=1)
        normed = self.norm(tokens)
        coarse = self.values(normed[:, 1:].transpose(1, 2).unflatten(2, places.shape[2:]))
        values = coarse.flatten(2).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(self.query(normed), values, values)
        return self.fc((tokens + mixed)[:, 0])


class Gated(nn.Module):
    """Weights its last feature map by a gate that is computed on a coarser grid."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 6, 2, 2), nn.Conv2d(6, 6, 3, 1, 1)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x).relu()
        gate = self.gate(F.avg_pool2d(features, 2)).sigmoid()
        features = features * F.interpolate(gate, features.shape[2:])
        return self.fc(features.mean((2, 3)))


@pytest.mark.parametrize("form", ["eager", "exported"])
@pytest.mark.parametrize("make", [ConvolvedAttention, Gated])
def test_the_inside_of_attention_and_of_gates_is_passed_over(
    form: str, make: Callable[[], nn.Module]
) -> None:
    with classified(FORMATS[form](seeded(make), SQUARE), SQUARE) as classifier:
        choice = classifier.layer_search(pictures(1)[0], 0).choice
    assert choice.chosen
    assert {(each.height, each.width) for each in choice.candidates} == {(8, 8)}


class Prepared(FunctionalRelu):
    """Normalises and mirrors the picture itself, before its first convolution."""

    def forward(self, x: Tensor) -> Tensor:
        x = ((x - 0.5) / 0.2).flip(1).clamp(-2, 2)
        return self.fc(F.relu(self.conv(self.features(x))).mean((2, 3)))


@pytest.mark.parametrize("form", FORMATS)
def test_the_picture_itself_is_no_feature_map(form: str) -> None:
    with classified(FORMATS[form](seeded(Prepared), SQUARE), SQUARE) as classifier:
        choice = classifier.layer_search(pictures(1)[0], 0).choice
    assert {each.height for each in choice.candidates} == {4, 8}


class Branching(nn.Module):
    """Reads its first activation again behind the last feature map, and changes it in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 4, 4)
        self.second = nn.Conv2d(4, 4, 3, 1, 1)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.first(x)
        last = self.second(skip)
        skip = skip.add_(1)
        return self.fc(torch.cat([F.relu(last, inplace=True) + skip, skip], dim=1).mean((2, 3)))


class Flattened(FunctionalRelu):
    """Asks the picture, not the feature map, how large the batch is."""

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.conv(self.features(x)))
        return self.fc(features.mean((2, 3)).view(x.shape[0], 6))


def resumed(
    form: str, make: Callable[[], nn.Module], name: str, changed: Tensor, batch_size: int = 3
) -> tuple[Tensor, int]:
    """Return the outputs of one picture with other activations, and how many passes it took."""
    pixels = pictures(1)
    stored = FORMATS[form](seeded(make), SQUARE)
    with classified(stored, SQUARE, batch_size=batch_size) as classifier:
        layer = classifier.feature_layer(pixels[0], 0, name)
        counter = classifier.evaluator.counter
        before = counter.forward
        outputs = classifier.evaluator.resumed(
            pixels, layer.resume, len(changed), lambda start, stop: changed[start:stop]
        )
        return outputs, counter.forward - before


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("make", [FunctionalRelu, Flattened])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_what_follows_a_layer_is_run_on_other_activations(
    form: str, make: Callable[[], nn.Module], batch_size: int
) -> None:
    network = seeded(make)
    changed = pictures(7, 6, 4, 4)
    outputs, _ = resumed(form, make, "", changed, batch_size)
    assert alike(outputs, network.fc(changed.mean((2, 3))))
    assert not alike(outputs.flip(0), network.fc(changed.mean((2, 3))))


@pytest.mark.parametrize("form", FORMATS)
def test_what_lies_beside_a_layer_is_not_lost(form: str) -> None:
    network = seeded(Branching)
    changed = pictures(7, 4, 4, 4) - 0.5
    name = "second"
    if form in ("traced", "scripted", "frozen"):
        taps = taps_of(FORMATS[form](network, SQUARE))
        shapes = [known for known, shape in taps.shapes(pictures(1)) if shape[1] == 4]
        name = shapes[1]
    outputs, _ = resumed(form, Branching, name, changed)
    skip = network.first(pictures(1)) + 1
    both = [changed.relu() + skip, skip.expand(7, -1, -1, -1)]
    assert alike(outputs, network.fc(torch.cat(both, dim=1).mean((2, 3))))


def test_earlier_layers_run_once_where_the_network_allows_it() -> None:
    changed = pictures(7, 6, 4, 4)
    # Three batches of 3; before them an eager network tries the short way beside the long one, an
    # exported one is run up to the layer, and a script's graph is cut.
    assert resumed("eager", FunctionalRelu, "", changed)[1] == 9 + 3 + 3
    assert resumed("eager", Flattened, "", changed)[1] == 9 + 3
    assert resumed("exported", FunctionalRelu, "", changed)[1] == 9 + 3
    assert resumed("traced", FunctionalRelu, "", changed)[1] == 9


def test_a_short_way_that_gives_something_else_is_not_taken() -> None:
    class Counting(FunctionalRelu):
        def forward(self, x: Tensor) -> Tensor:
            features = F.relu(self.conv(self.features(x)))
            return self.fc(features.mean((2, 3))) * (len(x) / len(features))

    changed = pictures(7, 6, 4, 4)
    expected = seeded(Counting).fc(changed.mean((2, 3)))
    last = layer_of(seeded(FunctionalRelu)).name
    assert alike(resumed("eager", Counting, last, changed)[0], expected)
