"""Grad-CAM: the library's map, the same map from every file format, and no gradient no map."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate
from toys import (
    FORMATS,
    ChannelsLast,
    ClassMaps,
    Constant,
    Fixed,
    FunctionalRelu,
    InPlaceRelu,
    OnlyBatchesOf,
    ReusedRelu,
    TinyViT,
    classified,
    pictures,
    request,
    seeded,
)

from reportgen.attribution import METHODS, Explained
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.config import Config
from reportgen.errors import NotApplicable, UsageError

SQUARE = (3, 16, 16)
WIDE = (3, 16, 24)
TARGET = 1


def explained(network: nn.Module, pixels: Tensor, layer: str = "") -> Explained:
    with classified(network, tuple(pixels.shape[1:])) as classifier:
        asked = request(classifier, pixels, TARGET, Config(layer=layer))
        return METHODS["gradcam"].explain(asked)


def library(network: nn.Module, layer: nn.Module, pixels: Tensor) -> NDArray[np.float32]:
    ensure_torchvision()
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(network, [layer]) as cam:
        return cam(pixels, [ClassifierOutputTarget(TARGET)] * len(pixels))


def stretched(maps: Tensor) -> NDArray[np.float32]:
    """Return each map with its values from 0 to 1, as the library gives them."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return ((maps - low) / (high - low)).numpy()


def difference(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    return float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else np.inf


# The library resizes with another routine, and runs the network in another order of memory; the
# largest difference measured is 1.5e-6.
LIBRARY_ROUNDING = 1e-5


@pytest.mark.parametrize("shape", [SQUARE, WIDE])
@pytest.mark.parametrize("layer", ["features", "features.2", "conv"])
def test_the_map_is_the_librarys(layer: str, shape: tuple[int, int, int]) -> None:
    network = seeded(FunctionalRelu)
    pixels = pictures(3, *shape)
    theirs = library(network, network.get_submodule(layer), pixels)
    ours = stretched(explained(network, pixels, layer).maps)
    assert difference(ours, theirs) < LIBRARY_ROUNDING
    assert difference(ours, theirs[::-1]) > 0.1
    assert difference(ours, theirs * (1 - 2 * LIBRARY_ROUNDING)) > LIBRARY_ROUNDING


def share_off(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


def by_hand(network: nn.Module, pixels: Tensor) -> Tensor:
    """Return the maps of FunctionalRelu from the paper's formula, in plain steps."""
    features = network.conv(network.features(pixels)).relu().detach().requires_grad_()
    score = network.fc(features.mean((2, 3)))[:, TARGET].sum()
    (gradient,) = torch.autograd.grad(score, features)
    sums = (features * gradient.mean((2, 3), keepdim=True)).sum(1, keepdim=True).relu()
    return interpolate(sums, pixels.shape[-2:], mode="bilinear")[:, 0].detach()


@pytest.mark.parametrize("shape", [SQUARE, WIDE])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_map_of_the_paper(form: str, shape: tuple[int, int, int]) -> None:
    network = seeded(FunctionalRelu)
    pixels = pictures(2, *shape)
    expected = by_hand(network, pixels)
    found = explained(FORMATS[form](network, shape), pixels).maps
    assert share_off(found, expected) < 1e-5
    assert share_off(found, expected.flip(0)) > 0.01


@pytest.mark.parametrize("make", [InPlaceRelu, ReusedRelu, ChannelsLast, ClassMaps, TinyViT])
@pytest.mark.parametrize("form", list(FORMATS)[1:])
def test_every_format_gives_the_map_of_the_eager_network(
    form: str, make: Callable[[], nn.Module]
) -> None:
    # Weights with which the transformer finds evidence for the class.
    network = seeded(make, seed=4 if make is TinyViT else 0)
    pixels = pictures(2, *WIDE)
    expected = explained(network, pixels).maps
    found = explained(FORMATS[form](network, WIDE), pixels).maps
    assert share_off(found, expected) < 1e-5
    assert share_off(found, expected.flip(0)) > 0.01


@pytest.mark.parametrize("size", [1, 4])
def test_a_fixed_batch_gives_the_same_map(size: int) -> None:
    network = seeded(FunctionalRelu)
    pixels = pictures(5)
    bound = OnlyBatchesOf(network, size)
    with classified(bound, SQUARE, fixed_batch=size, batch_size=3) as classifier:
        found = METHODS["gradcam"].explain(request(classifier, pixels, TARGET)).maps
    assert share_off(found, by_hand(network, pixels)) < 1e-5


def test_the_record_says_where_it_looked() -> None:
    found = explained(seeded(FunctionalRelu), pictures(1, *WIDE))
    assert found.resolution == "4x6 feature map"
    assert str(found.settings["layer"]).startswith("relu_")
    assert found.settings["chosen by"] == "self-test of the network's last feature maps"
    assert found.settings["score"] == "logit"
    assert not found.signed
    named = explained(seeded(FunctionalRelu), pictures(1, *WIDE), "features")
    assert (named.settings["layer"], named.settings["chosen by"]) == ("features", "option")
    assert named.resolution == "8x12 feature map"


def test_the_share_that_is_cut_is_measured() -> None:
    network = seeded(FunctionalRelu)
    pixels = pictures(2)
    features = network.features(pixels).detach().requires_grad_()
    score = network.fc(network.conv(features).relu().mean((2, 3)))[:, TARGET].sum()
    (gradient,) = torch.autograd.grad(score, features)
    sums = (features * gradient.mean((2, 3), keepdim=True)).sum(1)
    (check,) = explained(network, pixels, "features").checks
    assert check.metric == "negative_share"
    assert check.value == pytest.approx(float((sums[0] < 0).float().mean()))


def test_a_constant_model_has_a_zero_map_and_says_so() -> None:
    found = explained(seeded(Constant), pictures(2))
    assert not bool(found.maps.any())
    assert found.checks[0].value == 0
    assert found.checks[0].note == "the sum is zero at every place"


def test_no_feature_map_no_grad_cam() -> None:
    with pytest.raises(NotApplicable, match="no layer gives a feature map"):
        explained(Fixed(torch.tensor([1.0, 2.0])), pictures(1))
    with pytest.raises(UsageError, match="Unknown layer 'nowhere'"):
        explained(seeded(FunctionalRelu), pictures(1), "nowhere")


class Ignoring(nn.Module):
    """Computes a feature map that its scores do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Conv2d(3, 5, 2, 2)
        self.unused = nn.Conv2d(3, 4, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.unused(x)
        return self.used(x).relu().mean((2, 3))


def test_a_layer_that_the_score_does_not_depend_on_does_not_apply() -> None:
    network = seeded(Ignoring)
    with pytest.raises(NotApplicable, match="does not depend on the layer 'unused'"):
        explained(network, pictures(1), "unused")
    assert bool(explained(network, pictures(1)).maps.any())
