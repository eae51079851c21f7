"""Class activation maps: the papers' formulas, the library's maps, and where both differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from toys import (
    FORMATS,
    ChannelsLast,
    Constant,
    FunctionalRelu,
    InPlaceRelu,
    OnlyBatchesOf,
    ShortOfMemory,
    TinyViT,
    as_opened,
    classified,
    hints,
    pictures,
    request,
    seeded,
)

from reportgen.attribution import METHODS, Explained, ablationcam, eigencam, gradcam, scorecam
from reportgen.attribution.base import Request
from reportgen.attribution.cams import library
from reportgen.classifier.classifier import classifier_from
from reportgen.classifier.metadata import Known
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.config import Config
from reportgen.errors import NotApplicable

SQUARE = (3, 16, 16)
WIDE = (3, 16, 24)
TARGET = 2
KEYS = ("gradcam-plus-plus", "layercam", "eigencam", "scorecam", "ablationcam")
LIBRARY = dict(
    zip(KEYS, ("GradCAMPlusPlus", "LayerCAM", "EigenCAM", "ScoreCAM", "AblationCAM"), strict=True)
)

every_cam = pytest.mark.parametrize("key", KEYS)


def sharp(times: float = 20) -> nn.Module:
    """Return a network whose scores are far apart."""
    network = seeded(FunctionalRelu)
    network.fc.weight.data *= times
    return network


def explained(
    key: str, network: nn.Module, pixels: Tensor, layer: str = "", target: int = TARGET
) -> Explained:
    with classified(network, tuple(pixels.shape[1:])) as classifier:
        asked = request(classifier, pixels, target, Config(layer=layer))
        return METHODS[key].explain(asked)


def share_off(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    if found.shape != expected.shape:
        return np.inf
    return float((found - expected).abs().max() / expected.abs().max())


def enlarged(sums: Tensor, pixels: Tensor) -> Tensor:
    maps = interpolate(sums.relu()[:, None], pixels.shape[-2:], mode="bilinear")
    return maps[:, 0].detach()


# The papers' formulas on FunctionalRelu, one picture, channel and place at a time where that is
# how the paper puts it.


def halves(network: nn.Module, pixels: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return the last feature map, and what makes the target's score of it."""
    features = network.conv(network.features(pixels)).relu().detach()
    return features, lambda a: network.fc(a.mean((2, 3)))[:, TARGET]


def gradients(network: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
    features, score = halves(network, pixels)
    leaf = features.requires_grad_()
    return features.detach(), torch.autograd.grad(score(leaf).sum(), leaf)[0]


def plus_plus_by_hand(network: nn.Module, pixels: Tensor) -> Tensor:
    a, g = gradients(network, pixels)
    total = a.sum((2, 3), keepdim=True)
    # Equation 19, with the higher derivatives of exp(score): g^2 and g^3, up to one factor.
    alpha = g**2 / (2 * g**2 + total * g**3)
    weights = (alpha.nan_to_num() * g.relu()).sum((2, 3), keepdim=True)
    return (weights * a).sum(1)


def layercam_by_hand(network: nn.Module, pixels: Tensor) -> Tensor:
    a, g = gradients(network, pixels)
    return (g.relu() * a).sum(1)


def eigencam_by_hand(network: nn.Module, pixels: Tensor) -> Tensor:
    sums = []
    for picture in halves(network, pixels)[0]:
        rows = picture.flatten(1).T
        centred = rows - rows.mean(0)
        direction = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
        # The covariance with the mean of the channels is the eigenvalue times this sum.
        direction = direction * direction.sum().sign()
        sums.append((centred @ direction).view(picture.shape[1:]))
    return torch.stack(sums)


def scorecam_by_hand(network: nn.Module, pixels: Tensor) -> Tensor:
    sums = []
    for picture, activation in zip(pixels, halves(network, pixels)[0], strict=True):
        scores = []
        for channel in activation:
            mask = interpolate(channel[None, None], picture.shape[1:], mode="bilinear")[0, 0]
            span = mask.max() - mask.min()
            mask = (mask - mask.min()) / span if span > 0 else torch.zeros_like(mask)
            scores.append(network((picture * mask)[None])[0, TARGET])
        weights = torch.stack(scores).softmax(0)
        sums.append((weights[:, None, None] * activation).sum(0))
    return torch.stack(sums)


def ablationcam_by_hand(network: nn.Module, pixels: Tensor) -> Tensor:
    activations, score = halves(network, pixels)
    sums = torch.zeros(len(pixels), *activations.shape[2:], dtype=pixels.dtype)
    for channel in range(activations.shape[1]):
        without = activations.clone()
        without[:, channel] = 0
        weight = (score(activations) - score(without)) / score(activations)
        sums += weight[:, None, None] * activations[:, channel]
    return sums


BY_HAND = dict(
    zip(
        KEYS,
        (
            plus_plus_by_hand,
            layercam_by_hand,
            eigencam_by_hand,
            scorecam_by_hand,
            ablationcam_by_hand,
        ),
        strict=True,
    )
)


def off_the_paper(key: str, form: str = "eager", shape: tuple[int, int, int] = SQUARE) -> float:
    network, pixels = sharp(), pictures(2, *shape)
    found = explained(key, FORMATS[form](network, shape), pixels).maps
    with torch.no_grad() if key in KEYS[2:] else torch.enable_grad():
        sums = BY_HAND[key](network.double(), pixels.double())
    return share_off(found, enlarged(sums, pixels).float())


# The papers' formulas run in float64; the largest difference measured is 5.2e-7.
ROUNDING = 1e-5


@every_cam
@pytest.mark.parametrize("shape", [SQUARE, WIDE])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_map_of_the_paper(
    key: str, form: str, shape: tuple[int, int, int]
) -> None:
    assert off_the_paper(key, form, shape) < ROUNDING


def negated(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *given: -function(*given)


PLANTED: dict[str, tuple[object, str, object]] = {
    "the other sign": (eigencam, "_agreement", negated(eigencam._agreement)),
    "weights without softmax": (scorecam, "_weights", lambda scores: scores),
    "masks without their stretch": (
        scorecam,
        "_masks",
        lambda channels, size: interpolate(channels[:, None], size, mode="bilinear"),
    ),
    "rises for drops": (ablationcam, "_drops", negated(ablationcam._drops)),
}


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_error_is_seen(plant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, wrong = PLANTED[plant]
    monkeypatch.setattr(module, name, wrong)
    key = module.CARD.key
    with pytest.raises(AssertionError):
        test_every_format_gives_the_map_of_the_paper(key, "eager", SQUARE)


@pytest.mark.parametrize(("key", "name"), [("gradcam-plus-plus", "LayerCAM"), ("layercam", "")])
def test_another_methods_weights_are_seen(
    key: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arithmetic = partial(gradcam._by_library, name or "GradCAMPlusPlus")
    method = METHODS[key]
    wrong = partial(gradcam._explain, card=method.card, arithmetic=arithmetic)
    monkeypatch.setitem(METHODS, key, dataclasses.replace(method, explain=wrong))
    with pytest.raises(AssertionError):
        test_every_format_gives_the_map_of_the_paper(key, "eager", SQUARE)


# Against the library, on layers that are modules.


def librarys(key: str, network: nn.Module, layer: str, pixels: Tensor, target: int) -> Tensor:
    """Return the library's maps, from 0 to 1."""
    ensure_torchvision()
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(target)] * len(pixels)
    with getattr(pytorch_grad_cam, LIBRARY[key])(network, [network.get_submodule(layer)]) as cam:
        return torch.from_numpy(cam(pixels, targets))


def stretched(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


def enlarge_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the library's Score-CAM enlarge its masks as the paper's authors do."""

    def upsample(size: tuple[int, int]) -> nn.Module:
        return nn.Upsample(size=tuple(size), mode="bilinear", align_corners=False)

    monkeypatch.setattr(nn, "UpsamplingBilinear2d", upsample)


def off_the_library(
    key: str, shape: tuple[int, int, int] = SQUARE, network: nn.Module | None = None
) -> float:
    network, pixels = network or sharp(), pictures(3, *shape)
    theirs = librarys(key, network, "features.1", pixels, TARGET)
    return share_off(stretched(explained(key, network, pixels, "features.1").maps), theirs)


@pytest.mark.parametrize("shape", [SQUARE, WIDE])
@pytest.mark.parametrize("key", ["layercam", "scorecam", "ablationcam"])
def test_the_map_is_the_librarys(
    key: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    enlarge_as_ours(monkeypatch)
    assert off_the_library(key, shape) < ROUNDING


@pytest.mark.parametrize("plant", ["weights without softmax", "rises for drops"])
def test_a_planted_error_is_no_map_of_the_library(
    plant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, wrong = PLANTED[plant]
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(AssertionError):
        test_the_map_is_the_librarys(module.CARD.key, SQUARE, monkeypatch)


def test_score_cams_masks_lie_under_the_map() -> None:
    # The library aligns the corners of its masks, but not those of its map.
    assert off_the_library("scorecam") > 10 * ROUNDING


def test_grad_cam_plus_plus_has_no_constant_that_small_gradients_feel() -> None:
    # The library's map depends on the scale of the network's scores through a constant of 1e-6.
    assert off_the_library("gradcam-plus-plus", network=sharp(1e4)) < ROUNDING
    assert off_the_library("gradcam-plus-plus", network=sharp(1)) > 0.01


def test_the_component_is_the_librarys_up_to_its_sign() -> None:
    network, pixels = seeded(FunctionalRelu), pictures(3)
    activations = network.features[:2](pixels).detach()
    theirs = library("EigenCAM").get_cam_image(None, None, None, activations.numpy(), None, False)
    ours = eigencam._components(activations)
    signs = (ours * torch.from_numpy(theirs)).sum((1, 2)).sign()
    assert share_off(ours * signs[:, None, None], torch.from_numpy(theirs)) < ROUNDING
    # Which sign the library's solver gives differs from picture to picture.
    assert len(set(signs.tolist())) == 2
    mean = activations.mean(1)
    for component, average in zip(ours, mean, strict=True):
        assert float(torch.corrcoef(torch.stack([component.ravel(), average.ravel()]))[0, 1]) > 0
    share = explained("eigencam", network, pixels, "features.1").checks[0].value
    singular = torch.linalg.svdvals(
        (activations[0] - activations[0].mean((1, 2))[:, None, None]).flatten(1)
    )
    assert share == pytest.approx(float(singular[0] ** 2 / (singular**2).sum()), rel=1e-5)


def test_the_sign_does_not_depend_on_the_solvers(monkeypatch: pytest.MonkeyPatch) -> None:
    activations = seeded(FunctionalRelu).features[:2](pictures(2)).detach()
    expected = eigencam._components(activations)

    class Flipped:
        def get_cam_image(self, *given: object) -> np.ndarray:
            return -library("EigenCAM").get_cam_image(*given)

    monkeypatch.setattr(eigencam, "library", lambda name: Flipped())
    assert torch.equal(eigencam._components(activations), expected)


def test_a_flat_feature_map_has_no_component() -> None:
    flat = torch.rand(1, 5, 1, 1).expand(1, 5, 4, 4)
    assert not bool(eigencam._components(flat).any())
    check = eigencam._component_share(flat[0], torch.zeros(4, 4))
    assert (check.value, check.note) == (None, "the feature map is the same at every place")


def test_eigencam_gives_every_class_the_same_map() -> None:
    network, pixels = seeded(FunctionalRelu), pictures(1)
    maps = [explained("eigencam", network, pixels, target=target).maps for target in range(3)]
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], maps[2])
    assert METHODS["eigencam"].card.class_agnostic


def test_a_negative_score_does_not_turn_the_ablation_over() -> None:
    network, pixels = sharp(), pictures(2)
    before = explained("ablationcam", network, pixels).maps
    # A constant is added to the score, and the shares of it change, but not their signs.
    network.fc.bias.data -= 50
    after = explained("ablationcam", network, pixels).maps
    assert share_off(stretched(after), stretched(before)) < 1e-4
    # The share of the score itself, as the library takes it, gives the opposite map.
    opposite = ablationcam_by_hand(network, pixels)
    assert share_off(after, enlarged(-opposite, pixels)) < 1e-4
    assert share_off(after, enlarged(opposite, pixels)) > 0.5


def test_a_signed_channel_is_set_to_zero_as_in_the_paper() -> None:
    # The library puts -1e7 there, and less with each row of its batch.
    network, pixels = sharp(), pictures(1)
    network.features[2].bias.data -= 0.1
    features = network.features(pixels).detach()
    assert float(features.min()) < 0

    def score(a: Tensor) -> Tensor:
        return network.fc(network.conv(a).relu().mean((2, 3)))[:, TARGET].detach()

    sums = torch.zeros(1, 8, 8)
    for channel in range(4):
        without = features.clone()
        without[:, channel] = 0
        weight = (score(features) - score(without)) / score(features).abs()
        sums += weight * features[:, channel]
    ours = explained("ablationcam", network, pixels, "features").maps
    assert share_off(ours, enlarged(sums, pixels)) < ROUNDING


@pytest.mark.parametrize("form", list(FORMATS)[1:])
@pytest.mark.parametrize("make", [InPlaceRelu, ChannelsLast, TinyViT])
@every_cam
def test_every_layout_gives_the_map_of_the_eager_network(
    key: str, make: Callable[[], nn.Module], form: str
) -> None:
    network = seeded(make, seed=4 if make is TinyViT else 0)
    pixels = pictures(2, *WIDE)
    expected = explained(key, network, pixels, target=1).maps
    found = explained(key, FORMATS[form](network, WIDE), pixels, target=1).maps
    assert share_off(found, expected) < 2e-5
    assert share_off(found, expected.flip(0)) > 1e-3


def test_only_the_tokens_of_places_are_ablated() -> None:
    network, pixels = seeded(TinyViT, seed=4), pictures(1, *WIDE)
    with classified(network, WIDE) as classifier:
        layer = classifier.feature_layer(pixels[0], 1, "blocks.0")
        asked = request(classifier, pixels, 1)
        tokens = classifier.evaluator.features(pixels, layer)
        drops = ablationcam._drops(asked, layer, pixels, tokens)
        with torch.no_grad():
            whole = network(pixels)[0, 1]
    last = network.blocks[1]

    def score(tokens: Tensor) -> Tensor:
        return network.fc(last(tokens)[:, 0])[0, 1].detach()

    def expected(channel: int, first: int) -> float:
        without = tokens.clone()
        without[:, first:, channel] = 0
        return float((whole - score(without)) / whole.abs())

    for channel in (0, 5, 21):
        assert float(drops[channel]) == pytest.approx(expected(channel, 1), abs=1e-5)
        assert float(drops[channel]) != pytest.approx(expected(channel, 0), abs=1e-3)


@pytest.mark.parametrize("key", ["scorecam", "ablationcam"])
def test_batches_and_memory_change_nothing(key: str) -> None:
    network, pixels = sharp(), pictures(2)
    expected = explained(key, network, pixels).maps
    short = ShortOfMemory(network, 100)
    for bound, fixed, size in (
        (short, None, 7),
        (OnlyBatchesOf(network, 4), 4, 3),
        (network, None, 3),
    ):
        with classified(bound, SQUARE, fixed_batch=fixed, batch_size=size) as classifier:
            short.most = 5
            found = METHODS[key].explain(request(classifier, pixels, TARGET))
        assert share_off(found.maps, expected) < ROUNDING
    assert 7 in short.sizes
    assert short.sizes[-1] < 5


@pytest.mark.parametrize("key", ["gradcam-plus-plus", "layercam", "scorecam", "ablationcam"])
def test_a_constant_model_has_a_zero_map_and_says_so(key: str) -> None:
    found = explained(key, seeded(Constant), pictures(2))
    assert not bool(found.maps.any())
    assert found.checks[0].value in (0, None)
    assert found.checks[0].note


@every_cam
def test_no_feature_map_no_map(key: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))
    with pytest.raises(NotApplicable, match="no layer gives a feature map"):
        explained(key, network, pictures(1))


@every_cam
def test_the_record_says_how_the_map_was_made(key: str) -> None:
    found = explained(key, seeded(FunctionalRelu), pictures(1, *WIDE), "features")
    assert found.resolution == "8x12 feature map"
    assert (found.settings["layer"], found.settings["chosen by"]) == ("features", "option")
    assert ("score" in found.settings) == (key != "eigencam")
    assert METHODS[key].card.granularity == "feature map"
    assert found.checks[0].subject == key


def off_with_a_mean(mean: tuple[float, ...], monkeypatch: pytest.MonkeyPatch) -> float:
    """Compare Score-CAM of normalised pictures with the library's, which multiplies these."""
    enlarge_as_ours(monkeypatch)
    network, pixels = sharp(), pictures(2)
    std = (0.2, 0.3, 0.25)
    given = replace(hints(SQUARE, "softmax"), mean=Known(mean, "option"), std=Known(std, "option"))
    with classifier_from(as_opened(network), given, Config(device="cpu")) as classifier:
        asked = request(classifier, pixels, TARGET, Config(layer="features.1"))
        ours = METHODS["scorecam"].explain(asked).maps
        normalised = classifier.evaluator.normalised(pixels)
    return share_off(
        stretched(ours), librarys("scorecam", network, "features.1", normalised, TARGET)
    )


def test_score_cam_fades_to_the_mean_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    assert off_with_a_mean((0.5, 0.4, 0.3), monkeypatch) < ROUNDING
    monkeypatch.setattr(scorecam, "baseline", lambda picture, *given: torch.zeros_like(picture))
    assert off_with_a_mean((0.5, 0.4, 0.3), monkeypatch) > ROUNDING


def test_masks_run_from_0_to_1_and_weights_add_up_to_1() -> None:
    channel = torch.tensor([[0.0, 0.0], [1.0, 3.0]])
    assert scorecam._masks(channel[None], (2, 2)).flatten().tolist() == pytest.approx(
        [0, 0, 1 / 3, 1]
    )
    assert not bool(scorecam._masks(torch.full((1, 2, 2), 0.3), (4, 4)).any())
    assert scorecam._weights(torch.tensor([[1.0, 1.0], [0.0, np.log(3)]])).tolist() == [
        [0, 0],
        pytest.approx([0.25, 0.75]),
    ]


@pytest.fixture
def mobilenet(assets: Path) -> Iterator[tuple[nn.Module, Request]]:
    ensure_torchvision()
    from PIL import Image
    from torchvision.models import mobilenet_v2

    network = mobilenet_v2()
    weights = assets / "weights" / "mobilenet_v2_imagenet.pth"
    network.load_state_dict(torch.load(weights, weights_only=True))
    picture = Image.open(assets / "images" / "imagenet" / "n01443537_goldfish.JPEG")
    array = np.asarray(picture.convert("RGB").resize((224, 224)), dtype=np.float32) / 255
    pixels = torch.from_numpy(array).permute(2, 0, 1)[None].contiguous()
    with classified(network.eval(), (3, 224, 224)) as classifier:
        yield network, request(classifier, pixels, 1, Config(layer="features.18"))


# Their resize is another routine; the largest difference measured is in test_gradcam.py. What the
# library adds in Grad-CAM++ moves this network's map by a few hundredths.
@pytest.mark.parametrize(
    ("key", "rounding"), [("layercam", 1e-5), ("gradcam-plus-plus", 0.05), ("eigencam", 1e-4)]
)
def test_mobilenets_map_is_the_librarys(
    key: str, rounding: float, mobilenet: tuple[nn.Module, Request]
) -> None:
    network, asked = mobilenet
    ours = stretched(METHODS[key].explain(asked).maps)
    theirs = librarys(key, network, "features.18", asked.pixels.clone().requires_grad_(), 1)
    assert share_off(ours, theirs) < rounding
    assert share_off(1 - ours, theirs) > 0.5
