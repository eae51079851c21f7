"""Saliency and input x gradient: captum's maps, closed forms, and the axioms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from captum.attr import InputXGradient, Saliency
from gradient_methods import (
    SHAPE,
    Normalised,
    difference,
    explained,
    normalising,
)
from torch import Tensor
from toys import (
    Fixed,
    FunctionalRelu,
    Linear,
    Pointwise,
    ShortOfMemory,
    classified,
    one,
    pictures,
    quadrant,
    request,
    seeded,
)

from reportgen.attribution import METHODS
from reportgen.config import Config
from reportgen.errors import NotApplicable

HERE = ("saliency", "input-x-gradient")
both = pytest.mark.parametrize("method", HERE)
WEIGHTS = torch.linspace(-1, 1, 3 * 16 * 16).reshape(SHAPE)


def captums_saliency(network: Normalised, pixels: Tensor) -> Tensor:
    return Saliency(network).attribute(pixels.clone().requires_grad_(), target=2).amax(1)


def captums_product(network: Normalised, pixels: Tensor) -> Tensor:
    found = InputXGradient(network).attribute(pixels.clone().requires_grad_(), target=2)
    return found.detach().sum(1)


@pytest.mark.parametrize("size", [1, 2, 32])
@pytest.mark.parametrize(
    ("method", "library"), [(HERE[0], captums_saliency), (HERE[1], captums_product)]
)
def test_the_map_is_captums_whatever_the_batch(
    method: str, library: Callable[[Normalised, Tensor], Tensor], size: int
) -> None:
    network, pixels = seeded(FunctionalRelu), pictures(3)
    theirs = library(Normalised(network), pixels)
    ours = normalising(method, network, pixels, Config(device="cpu", batch_size=size))
    assert difference(ours, theirs) < 1e-6
    assert difference(ours, theirs + 2e-6) > 1e-6
    assert difference(ours, theirs.flip(0)) > 1e-3
    assert difference(ours, -theirs) > 1e-3


def test_lin_is_known_by_hand() -> None:
    pixels = pictures(2)
    found = explained("saliency", Linear(WEIGHTS), pixels)
    assert difference(found.maps, WEIGHTS.abs().amax(0).expand(2, 16, 16)) < 1e-6
    found = explained("input-x-gradient", Linear(WEIGHTS), pixels)
    assert difference(found.maps, (WEIGHTS * pixels).sum(1)) < 1e-6
    assert found.settings["baseline"] == "black"
    other = explained("input-x-gradient", Linear(WEIGHTS), pixels, target=1)
    assert difference(other.maps, -found.maps) < 1e-6


def test_a_network_without_biases_is_complete() -> None:
    """Input x gradient adds up where the score is homogeneous, and not on squares."""
    pixels = pictures(1)
    homogeneous = Pointwise(lambda x: x.relu() * 3 - (-x).relu())
    total = float(explained("input-x-gradient", homogeneous, pixels).maps.sum())
    assert total == pytest.approx(float(homogeneous(pixels)[0, 0].detach()), rel=1e-5)
    squares = Pointwise(lambda x: x**2)
    total = float(explained("input-x-gradient", squares, pixels).maps.sum())
    assert total == pytest.approx(2 * float(squares(pixels)[0, 0]), rel=1e-5)


@both
def test_only_what_counts_is_explained(method: str) -> None:
    found = explained(method, one(SHAPE, 3, 5), pictures(1)).maps[0]
    assert found.nonzero().tolist() == [[3, 5]]
    found = explained(method, quadrant(SHAPE), pictures(1)).maps[0]
    assert bool((found[:8, :8] > 0).all())
    assert float(found.abs().sum()) == pytest.approx(float(found[:8, :8].sum()))


@both
def test_the_same_function_has_the_same_explanation(method: str) -> None:
    folded = Pointwise(lambda x: x * 3)
    spelled = Pointwise(lambda x: x + x.relu() - (-x).relu() + x)
    a, b = (explained(method, network, pictures(1)).maps for network in (folded, spelled))
    assert difference(a, b) < 1e-6


@both
def test_out_of_memory_changes_nothing(method: str) -> None:
    pixels = pictures(3)
    network = ShortOfMemory(seeded(FunctionalRelu), most=8)
    with classified(network, SHAPE) as classifier:
        network.most = 2
        found = METHODS[method].explain(request(classifier, pixels, 0)).maps
        assert classifier.evaluator.batch_size == 2
    assert difference(found, explained(method, seeded(FunctionalRelu), pixels).maps) < 1e-6


@both
def test_scores_without_gradient_are_refused_in_a_sentence(method: str) -> None:
    with pytest.raises(NotApplicable, match="the class scores have no gradient by the picture"):
        explained(method, Fixed(torch.tensor([1.0, 2.0])), pictures(1))


@both
def test_a_step_function_has_a_zero_map(method: str) -> None:
    assert not bool(explained(method, Pointwise(torch.sign), pictures(1)).maps.any())


def test_the_score_of_probabilities_is_their_logarithm() -> None:
    with classified(Linear(torch.full(SHAPE, 1 / 768)), SHAPE, "probabilities") as classifier:
        found = METHODS["saliency"].explain(request(classifier, pictures(1)))
    assert found.settings["score"] == "log-probability"
