"""The layer found is the right one: networks trained in seconds, on pictures that say where.

Each picture has one blob in a class's colour, at a random place on a textured ground; its mask is
known. Each class has a sigmoid of its own, and networks are also shown pictures without a blob, so
that no class can be told by what is not there. A wrong layer or grid, planted on purpose, is caught
by the self-test.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import as_opened, hints, request

from reportgen.attribution import METHODS
from reportgen.classifier import layers
from reportgen.classifier.classifier import Classifier, classifier_from
from reportgen.classifier.grids import Grid
from reportgen.classifier.layer_candidates import Reading, read_named, read_spotted
from reportgen.classifier.layer_tests import Removal, locate, look, removal
from reportgen.classifier.metadata import Known
from reportgen.classifier.taps import taps_of
from reportgen.config import Config

COLOURS = torch.tensor([[0.9, 0.2, 0.2], [0.2, 0.8, 0.2], [0.25, 0.3, 0.95]])
CLASSES = len(COLOURS)
MEAN, STD = 0.5, 0.2
HELD_OUT = 30
STEPS = 150


def drawn(count: int, height: int, width: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return pictures (n, 3, H, W) in [0, 1], their classes, and masks (n, H, W) of the blobs."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    classes = torch.arange(count) % len(COLOURS)
    radius = (6 + 3 * random(count))[:, None, None]
    down = radius + random(count, 1, 1) * (height - 2 * radius)
    across = radius + random(count, 1, 1) * (width - 2 * radius)
    rows, columns = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    masks = ((rows - down) ** 2 + (columns - across) ** 2) <= radius**2
    coarse = F.interpolate(random(count, 1, 6, 6), (height, width), mode="bilinear")
    ground = 0.3 + 0.4 * coarse + 0.2 * (random(count, 3, height, width) - 0.5)
    blobs = COLOURS[classes][:, :, None, None] + 0.2 * (random(count, 3, height, width) - 0.5)
    return torch.where(masks[:, None], blobs, ground).clamp(0, 1), classes, masks


class Convolutions(nn.Sequential):
    """A plain convolutional network."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(24, 32, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(32, CLASSES),
        )  # fmt: skip


def perceptron(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


class Attention(nn.Module):
    """A block before whose attention and perceptron tokens (n, T, C) are normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = perceptron(width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.out(F.scaled_dot_product_attention(query, key, value))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Patches of 6 x 6 pixels behind ``prefix`` tokens; the mean of the patches' is read."""

    def __init__(self, prefix: int = 1, places: int = 64, width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 6, 6)
        self.prefix = nn.Parameter(torch.randn(1, prefix, width) * 0.1)
        self.positions = nn.Parameter(torch.randn(1, places, width) * 0.02)
        self.blocks = nn.Sequential(Attention(width), Attention(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        tokens = torch.cat([self.prefix.expand(x.shape[0], -1, -1), tokens], dim=1)
        return self.head(self.norm(self.blocks(tokens)[:, self.prefix.shape[1] :].mean(1)))


class Windows(nn.Module):
    """Attention inside windows of (n, h, w, C), which may be shifted by half a window."""

    def __init__(self, width: int, side: int, shift: int) -> None:
        super().__init__()
        self.attention = Attention(width)
        self.side, self.shift = side, shift

    def forward(self, x: Tensor) -> Tensor:
        n, height, width, channels = x.shape
        x = x.roll((-self.shift, -self.shift), (1, 2))
        x = x.unflatten(2, (-1, self.side)).unflatten(1, (-1, self.side)).transpose(2, 3)
        rows = self.attention(x.reshape(-1, self.side * self.side, channels))
        x = rows.view(n, height // self.side, width // self.side, self.side, self.side, channels)
        x = x.transpose(2, 3).reshape(n, height, width, channels)
        return x.roll((self.shift, self.shift), (1, 2))


class Hierarchy(nn.Module):
    """Swin-like: windows, shifted windows, patches merged, windows; channels last throughout."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.merge = nn.Conv2d(3, 24, 6, 6), nn.Linear(96, 32)
        self.first = nn.Sequential(Windows(24, 4, 0), Windows(24, 4, 2))
        self.second = Windows(32, 2, 0)
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.patches(x).permute(0, 2, 3, 1))
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3).flatten(3)
        return self.head(self.norm(self.second(self.merge(x))).mean((1, 2)))


class Depthwise(nn.Module):
    """A depthwise convolution of (n, C, h, w), and a scaled perceptron at each place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 5, 1, 2, groups=width)
        self.norm, self.mlp = nn.LayerNorm(width), perceptron(width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.scale * self.mlp(self.norm(self.conv(x).permute(0, 2, 3, 1)))
        return x + mixed.permute(0, 3, 1, 2)


class Modernised(nn.Module):
    """ConvNeXt-like: depthwise blocks around a strided convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 16, 4, 4), Depthwise(16)
        self.down = nn.Conv2d(16, 32, 2, 2)
        self.second = nn.Sequential(Depthwise(32), Depthwise(32))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.down(self.first(self.stem(x))))
        return self.head(self.norm(x.mean((2, 3))))


SIZES: Mapping[str, tuple[Callable[[], nn.Module], int, int]] = {
    "convolutions": (Convolutions, 48, 48),
    "wide convolutions": (Convolutions, 48, 72),
    "transformer": (Transformer, 48, 48),
    "hierarchy": (Hierarchy, 48, 48),
    "modernised": (Modernised, 48, 48),
}


@cache
def trained(kind: str) -> nn.Module:
    return train(*SIZES[kind])


def train(make: Callable[[], nn.Module], height: int, width: int, seed: int = 0) -> nn.Module:
    pixels, classes, masks = drawn(384, height, width, seed=10 * seed)
    blank = torch.arange(len(pixels)) % 4 == 0
    grey = pixels.mean((1, 2, 3))[:, None, None, None].expand_as(pixels)
    pixels = torch.where(blank[:, None, None, None] & masks[:, None], grey, pixels)
    wanted = F.one_hot(classes, CLASSES) * ~blank[:, None]
    pixels = (pixels - MEAN) / STD
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        network = make()
        optimiser = torch.optim.AdamW(network.parameters(), lr=6e-3, fused=True)
        for _ in range(STEPS):
            rows = torch.randint(len(pixels), (32,), generator=generator)
            optimiser.zero_grad()
            scores = network(pixels[rows])
            F.binary_cross_entropy_with_logits(scores, wanted[rows].float()).backward()
            optimiser.step()
    return network.eval()


def shares_inside(classifier: Classifier, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the share of each map in the mask, that of its mirror image, and the mask's area."""
    _, height, width = SIZES[kind]
    pixels, classes, masks = drawn(HELD_OUT, height, width, seed=1)
    shares, mirrored = torch.zeros(HELD_OUT), torch.zeros(HELD_OUT)
    for target in range(CLASSES):
        rows = classes == target
        maps = METHODS["gradcam"].explain(request(classifier, pixels[rows], target)).maps
        maps = maps / maps.sum((1, 2), keepdim=True).clamp_min(1e-12)
        shares[rows] = (maps * masks[rows]).sum((1, 2))
        mirrored[rows] = (maps.flip(2) * masks[rows]).sum((1, 2))
    return shares, mirrored, masks.float().mean((1, 2))


def made_ready(kind: str, network: nn.Module | None = None) -> AbstractContextManager[Classifier]:
    known = replace(
        hints((3, *SIZES[kind][1:]), "multilabel"),
        mean=Known((MEAN,) * 3, "option"),
        std=Known((STD,) * 3, "option"),
    )
    return classifier_from(as_opened(network or trained(kind)), known, Config(device="cpu"))


@pytest.fixture(scope="module")
def ready() -> Iterator[Callable[[str], Classifier]]:
    with ExitStack() as stack:

        @cache
        def make(kind: str) -> Classifier:
            return stack.enter_context(made_ready(kind))

        yield make


@pytest.mark.parametrize("kind", SIZES)
def test_the_map_of_the_layer_found_lies_on_the_blob(
    kind: str, ready: Callable[[str], Classifier]
) -> None:
    classifier = ready(kind)
    shares, mirrored, floor = shares_inside(classifier, kind)
    choice = classifier.layer_choice()
    assert choice is not None
    chosen = choice.candidate(choice.chosen)
    assert chosen is not None
    assert chosen.passes
    assert chosen.height == min(each.height for each in choice.candidates if each.passes)
    assert float((shares > floor).float().mean()) >= 0.9
    assert float((mirrored > floor).float().mean()) < 0.9
    assert float(shares.mean()) > float(floor.mean())


LAYERS = {"convolutions": "5", "transformer": "blocks.0", "hierarchy": "norm"}


def failing_checks(
    classifier: Classifier, kind: str, spoil: Callable[[Tensor], Tensor], grid: Grid | None = None
) -> set[str]:
    """Return the checks that a known layer fails once ``spoil`` has changed what is read of it."""
    evaluator, (pixels, classes, _) = classifier.evaluator, drawn(1, *SIZES[kind][1:], seed=2)
    taps = taps_of(evaluator.network)
    taps.shapes(pixels)
    read = read_named(evaluator, taps, LAYERS[kind], pixels, (int(classes), 2))
    (spots,) = read_spotted(evaluator, taps, [read], pixels)
    if spots is None:
        raise AssertionError("no entry for each picture")
    gradients = tuple(None if g is None else spoil(g) for g in read.gradients)
    wrong = replace(read, activation=spoil(read.activation), gradients=gradients)
    used = grid or read.grids[0]
    checks = (*look(wrong, used), locate(wrong.activation, spoil(spots), used).check(used))
    return {check.key for check in checks if check.outcome == "fails"}


def shuffled(tensor: Tensor) -> Tensor:
    order = torch.randperm(tensor.shape[1], generator=torch.Generator().manual_seed(0))
    return tensor[:, order]


WRONG = {
    "right": ("convolutions", lambda t: t, None, set()),
    "right tokens": ("transformer", lambda t: t, None, set()),
    "right windows": ("hierarchy", lambda t: t, None, set()),
    "transposed": ("convolutions", lambda t: t.transpose(2, 3), None, {"place"}),
    "mirrored": ("hierarchy", lambda t: t.flip(2), None, {"place"}),
    "rows and channels taken for a picture": (
        "hierarchy", lambda t: t.permute(0, 2, 1, 3), None, {"place"},
    ),
    "a prefix token too few": (
        "transformer", lambda t: t[:, :-1], Grid(8, 8, "tokens", 0), {"place"},
    ),
    "a prefix token too many": (
        "transformer", lambda t: F.pad(t, (0, 0, 0, 1)), Grid(8, 8, "tokens", 2), {"place"},
    ),
    "tokens in another order": ("transformer", shuffled, None, {"place"}),
    "the same everywhere": (
        "convolutions", lambda t: t.mean((2, 3), keepdim=True).expand_as(t), None,
        {"varied", "place"},
    ),
    "not a number": ("convolutions", lambda t: t * torch.nan, None, {"finite", "place"}),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_layer_or_grid_is_caught(wrong: str, ready: Callable[[str], Classifier]) -> None:
    kind, spoil, grid, failing = WRONG[wrong]
    found = failing_checks(ready(kind), kind, spoil, grid)
    assert found >= failing
    assert bool(found) == bool(failing)


class Everywhere(nn.Module):
    """Gives every place the mean of all: what follows a mean over places does not notice."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True).expand_as(x) * 1.0


class Shuffled(nn.Module):
    """Puts the tokens behind the first into another order, which attention does not notice."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1], shuffled(x[:, 1:])], dim=1)


def with_a_constant_stage() -> nn.Module:
    layers = list(copy.deepcopy(trained("convolutions")).children())
    return nn.Sequential(*layers[:6], Everywhere(), *layers[6:])


def with_shuffled_tokens() -> nn.Module:
    network = copy.deepcopy(trained("transformer"))
    first, second = network.blocks
    network.blocks = nn.Sequential(first, Shuffled(), second)
    return network


@pytest.mark.parametrize(
    ("kind", "make", "wrong", "failing"),
    [
        ("convolutions", with_a_constant_stage, "6", {"varied", "place"}),
        ("transformer", with_shuffled_tokens, "blocks.2", {"place"}),
    ],
)
def test_a_stage_that_loses_the_places_is_passed_over(
    kind: str, make: Callable[[], nn.Module], wrong: str, failing: set[str]
) -> None:
    (pixels, classes, masks), network = drawn(1, *SIZES[kind][1:], seed=1), make()
    assert torch.allclose(network(pixels), trained(kind)(pixels), atol=1e-4)
    with made_ready(kind, network) as classifier:
        found = classifier.layer_search(pixels[0], int(classes))
        named = classifier.layer_search(pixels[0], int(classes), wrong)
        (gradcam,) = METHODS["gradcam"].explain(request(classifier, pixels, int(classes))).maps
    assert found.choice.chosen not in ("", wrong)
    assert float((gradcam * masks[0]).sum() / gradcam.sum()) > float(masks.float().mean())
    assert (named.choice.source, named.choice.chosen) == ("option", wrong)
    (candidate,) = named.choice.candidates
    assert {check.key for check in candidate.checks if check.outcome == "fails"} == failing


def test_a_map_of_nothing_or_of_every_class_is_caught(ready: Callable[[str], Classifier]) -> None:
    ones = torch.ones(1, 4, 3, 3)
    for gradients, failing in (
        ((-ones, ones), {"varied", "positive"}),
        ((ones, 2 * ones), {"varied", "class"}),
        ((ones, None), {"varied"}),
    ):
        read = Reading("x", (Grid(3, 3, "channels first"),), False, ones, gradients)
        assert {c.key for c in look(read, read.grids[0]) if c.outcome == "fails"} == failing


def test_removal_tells_a_map_from_its_opposite(ready: Callable[[str], Classifier]) -> None:
    classifier = ready("convolutions")
    pixels, classes, masks = drawn(1, 48, 48, seed=4)
    maps = [masks[0].float(), -masks[0].float()]
    found = removal(classifier.evaluator, pixels, int(classes), maps)
    assert found.tells
    assert [found.check(index).outcome for index in (0, 1)] == ["passes", "fails"]
    assert found.scores[0] > max(found.noise) > min(found.noise) > found.scores[1]


def test_the_opposite_of_a_map_scores_the_opposite(ready: Callable[[str], Classifier]) -> None:
    pixels, classes, _ = drawn(1, 48, 48, seed=3)
    heat = torch.rand(48, 48, generator=torch.Generator().manual_seed(0))
    found = removal(ready("convolutions").evaluator, pixels, int(classes), [heat, -heat])
    assert found.scores[0] == pytest.approx(-found.scores[1], abs=1e-6)
    assert abs(found.scores[0]) > 1e-3


def test_a_lead_that_is_not_clear_is_undecided() -> None:
    noise = (1.0, -1.0, 1.0, 1.0, -1.0)
    found = Removal((2.1, 1.9, 0.0, -9.0), noise, tells=True)
    assert found.sd == 1
    outcomes = [found.check(index).outcome for index in range(4)]
    assert outcomes == ["passes", "undecided", "fails", "fails"]
    untold = replace(found, tells=False).check(0)
    assert (untold.outcome, untold.value) == ("undecided", None)


@pytest.mark.parametrize(
    ("scores", "chosen", "runner_up"),
    [
        ((9, 9, 9, 90), "5", "4"),
        ((1, 9, 1, 9), "4", "0"),
        ((-1, 1, -1, 9), "0", "4"),
        ((-1, 1, -1, 1), "4", "0"),
        ((-1, -1, -1, -1), "", ""),
    ],
)
def test_the_last_layer_that_leads_clearly_is_taken(
    ready: Callable[[str], Classifier], monkeypatch: pytest.MonkeyPatch,
    scores: tuple[float, ...], chosen: str, runner_up: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(layers, "removal", lambda *_: Removal(scores, (1.0,) * 5, tells=True))
    pixels, classes, _ = drawn(1, 48, 48, seed=1)
    classifier = replace(ready("convolutions"), searches={})
    choice = classifier.layer_search(pixels[0], int(classes)).choice
    assert (choice.chosen, choice.runner_up) == (chosen, runner_up)
    assert bool(choice.reason) == (not chosen)
    assert (choice.noise_maps, choice.noise_mean, choice.noise_sd) == (10, 0, 1)


@pytest.mark.parametrize("kind", ["convolutions", "transformer"])
def test_where_no_layer_passes_a_transformer_is_told_of_its_attention(
    kind: str, ready: Callable[[str], Classifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "removal", lambda *_: Removal((-1,) * 9, (1.0,) * 5, tells=True))
    pixels, classes, _ = drawn(1, 48, 48, seed=1)
    classifier = replace(ready(kind), searches={})
    reason = classifier.layer_search(pixels[0], int(classes)).choice.reason
    assert "does no better than smooth random maps" in reason
    told = "; attention-rollout and attention-relevance need no layer" in reason
    assert told == (kind == "transformer")


def test_a_search_costs_no_more_than_it_must(ready: Callable[[str], Classifier]) -> None:
    classifier = replace(ready("convolutions"), searches={})
    counter, (pixels, classes, _) = classifier.evaluator.counter, drawn(1, 48, 48, seed=1)
    before = (counter.forward, counter.backward)
    candidates = classifier.layer_search(pixels[0], int(classes)).choice.candidates
    assert len(candidates) == 4
    # The activations listed, the next class, gradients, spots, and for the picture, nothing of it,
    # and each of four and five maps, what is left at two shares without either end.
    assert counter.forward - before[0] == 2 + 1 + 1 + 4 + 2 + (4 + 5) * 4
    assert counter.backward - before[1] == 2
