"""Saliency and Integrated Gradients: captum's maps, closed forms, and the axioms."""

from __future__ import annotations

import pytest
import torch
from captum.attr import IntegratedGradients, Saliency
from torch import Tensor, nn
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

from reportgen.attribution import METHODS, Explained
from reportgen.classifier.classifier import classifier_from
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.opened import Opened
from reportgen.config import Config
from reportgen.errors import NotApplicable

SHAPE = (3, 16, 16)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def steps(count: int, **options: object) -> Config:
    """Return a configuration with ``count`` steps, also below what a user may ask for."""
    return Config(**options).model_copy(update={"ig_steps": count})


def explained(
    method: str, network: nn.Module, pixels: Tensor, config: Config | None = None, target: int = 0
) -> Explained:
    with classified(network, tuple(pixels.shape[1:])) as classifier:
        return METHODS[method].explain(request(classifier, pixels, target, config))


class Normalised(nn.Module):
    """The network behind its normalisation, as captum is usually given it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
        return self.network((pixels - mean) / std)


def normalising(method: str, network: nn.Module, pixels: Tensor, config: Config) -> Tensor:
    """Return the method's maps of class 2, with a normalisation inside the classifier."""
    given = Hints(
        crop=Known((16, 16), "option"), mean=Known(MEAN, "option"), std=Known(STD, "option")
    )
    opened = Opened(network, "toy", "module", "toy")
    with classifier_from(opened, given, config) as classifier:
        return METHODS[method].explain(request(classifier, pixels, 2, config)).maps


def difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max()) if ours.shape == theirs.shape else torch.inf


def test_saliency_is_captums() -> None:
    network, pixels = seeded(FunctionalRelu), pictures(3)
    method = Saliency(Normalised(network))
    theirs = method.attribute(pixels.clone().requires_grad_(), target=2).amax(1)
    ours = normalising("saliency", network, pixels, Config(device="cpu"))
    assert difference(ours, theirs) < 1e-6
    assert difference(ours, theirs + 2e-6) > 1e-6
    assert difference(ours, theirs.flip(0)) > 1e-3


@pytest.mark.parametrize("size", [1, 2, 5, 32])
def test_integrated_gradients_are_captums_whatever_the_batch(size: int) -> None:
    network, pixels = seeded(FunctionalRelu), pictures(3)
    method = IntegratedGradients(Normalised(network))
    theirs = method.attribute(pixels, baselines=0.0, target=2, n_steps=9).sum(1)
    config = steps(9, batch_size=size, device="cpu", ig_baseline="black")
    ours = normalising("integrated-gradients", network, pixels, config)
    assert difference(ours, theirs) < 1e-6
    assert difference(ours, theirs + 2e-6) > 1e-6
    assert difference(ours, theirs.flip(0)) > 1e-3


def test_integrated_gradients_on_lin_are_the_weights_times_the_change() -> None:
    weights = torch.linspace(-1, 1, 3 * 16 * 16).reshape(SHAPE)
    pixels = pictures(2)
    found = explained("integrated-gradients", Linear(weights), pixels, steps(5))
    assert difference(found.maps, (weights * pixels).sum(1)) < 1e-6
    grey = steps(5, ig_baseline="image-mean")
    found = explained("integrated-gradients", Linear(weights), pixels, grey)
    expected = (weights * (pixels - pixels.mean((2, 3), keepdim=True))).sum(1)
    assert difference(found.maps, expected) < 1e-6


@pytest.mark.parametrize("target", [0, 1])
def test_one_step_is_gradient_times_input_for_a_linear_model(target: int) -> None:
    weights = torch.linspace(-1, 1, 3 * 16 * 16).reshape(SHAPE)
    pixels = pictures(1)
    found = explained("integrated-gradients", Linear(weights), pixels, steps(1), target)
    leaf = pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Linear(weights)(leaf)[:, target].sum(), leaf)
    assert difference(found.maps, (gradient * pixels).sum(1)) < 1e-6


def test_only_what_counts_is_explained() -> None:
    for method in ("saliency", "integrated-gradients"):
        found = explained(method, one(SHAPE, 3, 5), pictures(1)).maps[0]
        assert found.nonzero().tolist() == [[3, 5]]
        found = explained(method, quadrant(SHAPE), pictures(1)).maps[0]
        assert bool((found[:8, :8] > 0).all())
        assert float(found.abs().sum()) == pytest.approx(float(found[:8, :8].sum()))


THREE = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3)


@pytest.mark.parametrize("count", [2, 10, 50])
def test_gauss_legendre_is_exact_on_squares(count: int) -> None:
    squares = Pointwise(lambda x: x**2)
    found = explained("integrated-gradients", squares, THREE, steps(count))
    assert float(found.maps.sum()) == pytest.approx(14, abs=1e-4)
    assert found.maps.flatten().tolist() == pytest.approx([1, 4, 9], abs=1e-4)
    assert found.checks[0].value == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("rule", "total"),
    [("riemann_trapezoid", 12.6), ("riemann_right", 15.4), ("riemann_middle", 14.0)],
)
def test_why_no_riemann_rule_of_captum_is_used(rule: str, total: float) -> None:
    """Its trapezoid weights add up to (n - 1) / n; a captum that mends this fails here."""
    method = IntegratedGradients(Pointwise(lambda x: x**2))
    found = method.attribute(THREE, baselines=0.0, target=0, n_steps=10, method=rule)
    assert float(found.sum()) == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize(("count", "value"), [(50, 0.5), (51, 0.485)])
def test_the_error_at_a_kink_is_measured(count: int, value: float) -> None:
    kink = Pointwise(lambda x: (x - 0.5).relu())
    found = explained("integrated-gradients", kink, torch.ones(1, 1, 1, 1), steps(count))
    assert float(found.maps.sum()) == pytest.approx(value, abs=5e-4)
    assert found.checks[0].value == pytest.approx(abs(0.5 - value) / 0.5, abs=1e-3)


def test_completeness() -> None:
    network, pixels = seeded(FunctionalRelu), pictures(2)
    found = explained("integrated-gradients", network, pixels, steps(200))
    scores = network(torch.cat([pixels, torch.zeros(1, *SHAPE)]))[:, 0].detach()
    change = scores[:2] - scores[2]
    # 200 steps over the kinks of ReLU; the largest gap measured is 0.34% of the change.
    assert float(((found.maps.sum((1, 2)) - change) / change).abs().max()) < 0.01
    (check,) = found.checks
    expected = abs(float(found.maps[0].sum() - change[0]) / float(change[0]))
    assert check.value == pytest.approx(expected, abs=1e-4)
    assert check.detail["score change"] == pytest.approx(float(change[0]), abs=1e-6)


def test_a_picture_that_is_its_own_baseline_has_no_explanation() -> None:
    found = explained("integrated-gradients", seeded(FunctionalRelu), torch.zeros(1, *SHAPE))
    assert not bool(found.maps.any())
    assert found.checks[0].value is None
    assert found.checks[0].note == "the score is the same on the baseline as on the picture"


def test_the_same_function_has_the_same_explanation() -> None:
    folded = Pointwise(lambda x: x * 3)
    spelled = Pointwise(lambda x: x + x.relu() - (-x).relu() + x)
    for method in ("saliency", "integrated-gradients"):
        pixels = pictures(1)
        a, b = (explained(method, network, pixels).maps for network in (folded, spelled))
        assert difference(a, b) < 1e-6


def test_out_of_memory_changes_nothing() -> None:
    pixels = pictures(3)
    for method in ("saliency", "integrated-gradients"):
        network = ShortOfMemory(seeded(FunctionalRelu), most=8)
        with classified(network, SHAPE) as classifier:
            network.most = 2
            found = METHODS[method].explain(request(classifier, pixels, 0, steps(6))).maps
            assert classifier.evaluator.batch_size == 2
        expected = explained(method, seeded(FunctionalRelu), pixels, steps(6)).maps
        assert difference(found, expected) < 1e-6


@pytest.mark.parametrize("method", ["saliency", "integrated-gradients"])
def test_scores_without_gradient_are_refused_in_a_sentence(method: str) -> None:
    with pytest.raises(NotApplicable, match="the class scores have no gradient by the picture"):
        explained(method, Fixed(torch.tensor([1.0, 2.0])), pictures(1))


@pytest.mark.parametrize("method", ["saliency", "integrated-gradients"])
def test_a_step_function_has_a_zero_map(method: str) -> None:
    assert not bool(explained(method, Pointwise(torch.sign), pictures(1)).maps.any())


def test_the_score_of_probabilities_is_their_logarithm() -> None:
    with classified(Linear(torch.full(SHAPE, 1 / 768)), SHAPE, "probabilities") as classifier:
        found = METHODS["saliency"].explain(request(classifier, pictures(1)))
    assert found.settings["score"] == "log-probability"
