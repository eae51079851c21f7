"""Integrated Gradients: captum's maps, closed forms, completeness, and more steps on demand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from gradient_methods import SHAPE, Normalised, difference, explained, normalising
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
from reportgen.attribution.integrated_gradients import ACCEPTED_GAP
from reportgen.attribution.postprocessing import NOTE
from reportgen.config import Config
from reportgen.errors import NotApplicable

METHOD = "integrated-gradients"
THREE = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3)
ONE = torch.ones(1, 1, 1, 1)
WEIGHTS = torch.linspace(-1, 1, 3 * 16 * 16).reshape(SHAPE)


def steps(count: int, **options: object) -> Config:
    """Return a configuration with ``count`` steps, also below what a user may ask for."""
    return Config(**options).model_copy(update={"ig_steps": count})


def kink() -> Pointwise:
    """KINK: ReLU(x - 1/2)."""
    return Pointwise(lambda x: (x - 0.5).relu())


@pytest.mark.parametrize("size", [1, 2, 5, 32])
def test_the_map_is_captums_whatever_the_batch(size: int) -> None:
    network, pixels = seeded(FunctionalRelu), pictures(3)
    method = IntegratedGradients(Normalised(network))
    theirs = method.attribute(pixels, baselines=0.0, target=2, n_steps=30).sum(1)
    config = steps(30, batch_size=size, device="cpu", ig_baseline="black")
    ours = normalising(METHOD, network, pixels, config)
    assert difference(ours, theirs) < 1e-6
    assert difference(ours, theirs + 2e-6) > 1e-6
    assert difference(ours, theirs.flip(0)) > 1e-3
    assert difference(ours, -theirs) > 1e-3


def slow(network: torch.nn.Module, pixels: Tensor, count: int) -> Tensor:
    """Return the paper's integral by Gauss-Legendre, one point of the path at a time."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    total = torch.zeros_like(pixels)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        leaf = (pixels * float(node)).requires_grad_()
        (gradient,) = torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)
        total += float(weight) * gradient
    return (total * pixels).sum(1)


def test_the_map_is_the_papers_integral() -> None:
    network, pixels = seeded(FunctionalRelu), pictures(1)
    ours = explained(METHOD, network, pixels, steps(30)).maps
    assert difference(ours, slow(network, pixels, 30)) < 1e-6
    assert difference(ours, slow(network, pixels, 31)) > 1e-6


def test_lin_is_the_weights_times_the_change() -> None:
    pixels = pictures(2)
    found = explained(METHOD, Linear(WEIGHTS), pixels, steps(5))
    assert difference(found.maps, (WEIGHTS * pixels).sum(1)) < 1e-6
    grey = steps(5, ig_baseline="image-mean")
    found = explained(METHOD, Linear(WEIGHTS), pixels, grey)
    expected = (WEIGHTS * (pixels - pixels.mean((2, 3), keepdim=True))).sum(1)
    assert difference(found.maps, expected) < 1e-6


@pytest.mark.parametrize("target", [0, 1])
def test_one_step_is_gradient_times_input_for_a_linear_model(target: int) -> None:
    pixels = pictures(1)
    found = explained(METHOD, Linear(WEIGHTS), pixels, steps(1), target)
    product = explained("input-x-gradient", Linear(WEIGHTS), pixels, target=target)
    assert difference(found.maps, product.maps) < 1e-6


def test_only_what_counts_is_explained() -> None:
    found = explained(METHOD, one(SHAPE, 3, 5), pictures(1)).maps[0]
    assert found.nonzero().tolist() == [[3, 5]]
    found = explained(METHOD, quadrant(SHAPE), pictures(1)).maps[0]
    assert bool((found[:8, :8] > 0).all())
    assert float(found.abs().sum()) == pytest.approx(float(found[:8, :8].sum()))


@pytest.mark.parametrize("count", [2, 10, 50])
def test_gauss_legendre_is_exact_on_squares(count: int) -> None:
    squares = Pointwise(lambda x: x**2)
    found = explained(METHOD, squares, THREE, steps(count))
    assert float(found.maps.sum()) == pytest.approx(14, abs=1e-4)
    assert found.maps.flatten().tolist() == pytest.approx([1, 4, 9], abs=1e-4)
    assert found.checks[0].value == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("count", [2, 3, 7, 20, 51])
def test_the_weights_add_up_to_one(count: int) -> None:
    """The map of a sum is the picture itself; a rule short of 1/n shows as such."""
    total = Pointwise(lambda x: x)
    found = explained(METHOD, total, THREE, steps(count))
    assert found.maps.flatten().tolist() == pytest.approx([1, 2, 3], rel=1e-6)
    short = IntegratedGradients(total).attribute(
        THREE, baselines=0.0, target=0, n_steps=count, method="riemann_trapezoid"
    )
    expected = [value * (count - 1) / count for value in (1, 2, 3)]
    assert short.flatten().tolist() == pytest.approx(expected, rel=1e-5)


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
    found = explained(METHOD, kink(), ONE, steps(count))
    assert float(found.maps.sum()) == pytest.approx(value, abs=5e-4)
    assert found.checks[0].value == pytest.approx(abs(0.5 - value) / 0.5, abs=1e-3)
    assert found.settings["steps"] == found.settings["steps asked for"] == count


def test_steps_are_doubled_where_the_map_does_not_add_up() -> None:
    """Three points on KINK: the middle one, with the weight 4/9, has no gradient; six are exact."""
    found = explained(METHOD, kink(), ONE, steps(3))
    assert (found.settings["steps asked for"], found.settings["steps"]) == (3, 6)
    assert float(found.maps.sum()) == pytest.approx(0.5, abs=1e-6)
    (check,) = found.checks
    assert check.detail["steps"] == check.detail["most steps tried"] == 6
    assert check.value == pytest.approx(0, abs=1e-6)


def test_steps_are_doubled_twice_at_most_and_the_best_is_kept() -> None:
    narrow = Pointwise(lambda x: (x - 0.9).relu() - (x - 0.901).relu())
    with classified(narrow, (1, 1, 1)) as classifier:
        found = METHODS[METHOD].explain(request(classifier, ONE, 0, steps(4)))
        counter = classifier.evaluator.counter
    gaps = {count: abs(float(slow(narrow, ONE, count)) - 0.001) / 0.001 for count in (4, 8, 16)}
    assert min(gaps.values()) > ACCEPTED_GAP
    best = min(gaps, key=lambda count: gaps[count])
    assert found.settings["steps"] == best
    assert found.checks[0].value == pytest.approx(gaps[best], rel=1e-4)
    # The gap of 4 and of 8 steps is the same, so that 16 are not tried.
    assert gaps[4] == pytest.approx(gaps[8], rel=1e-4)
    assert found.checks[0].detail["most steps tried"] == 8
    assert (counter.forward, counter.backward) == (2 + 12, 12)


def test_a_gap_that_no_step_can_close_is_left() -> None:
    found = explained(METHOD, Pointwise(torch.sign), pictures(1), steps(4))
    assert not bool(found.maps.any())
    assert (found.settings["steps"], found.checks[0].value) == (4, 1)


def test_each_picture_has_the_steps_that_it_needs() -> None:
    """The kink of a dark picture is never reached: its map is exact at once."""
    pixels = torch.cat([ONE * 0.4, ONE, ONE * 0.9])
    together = explained(METHOD, kink(), pixels, steps(3))
    alone = [explained(METHOD, kink(), each[None], steps(3)) for each in pixels]
    assert difference(together.maps, torch.cat([each.maps for each in alone])) == 0
    assert [each.settings["steps"] for each in alone] == [3, 6, 6]
    assert together.checks == alone[0].checks


def test_completeness() -> None:
    network, pixels = seeded(FunctionalRelu), pictures(2)
    found = explained(METHOD, network, pixels, steps(200))
    scores = network(torch.cat([pixels, torch.zeros(1, *SHAPE)]))[:, 0].detach()
    change = scores[:2] - scores[2]
    # 200 steps over the kinks of ReLU; the largest gap measured is 0.34% of the change.
    assert float(((found.maps.sum((1, 2)) - change) / change).abs().max()) < 0.01
    (check,) = found.checks
    expected = abs(float(found.maps[0].sum() - change[0]) / float(change[0]))
    assert check.value == pytest.approx(expected, abs=1e-4)
    assert check.detail["score change"] == pytest.approx(float(change[0]), abs=1e-6)


def test_a_picture_that_is_its_own_baseline_has_no_explanation() -> None:
    found = explained(METHOD, seeded(FunctionalRelu), torch.zeros(1, *SHAPE))
    assert not bool(found.maps.any())
    assert found.checks[0].value is None
    assert found.checks[0].note == "the score is the same on the baseline as on the picture"


def test_the_same_function_has_the_same_explanation() -> None:
    folded = Pointwise(lambda x: x * 3)
    spelled = Pointwise(lambda x: x + x.relu() - (-x).relu() + x)
    a, b = (explained(METHOD, network, pictures(1)).maps for network in (folded, spelled))
    assert difference(a, b) < 1e-6


def test_out_of_memory_changes_nothing() -> None:
    pixels = pictures(3)
    network = ShortOfMemory(seeded(FunctionalRelu), most=8)
    with classified(network, SHAPE) as classifier:
        network.most = 2
        found = METHODS[METHOD].explain(request(classifier, pixels, 0, steps(6))).maps
        assert classifier.evaluator.batch_size == 2
    assert (
        difference(found, explained(METHOD, seeded(FunctionalRelu), pixels, steps(6)).maps) < 1e-6
    )


def test_scores_without_gradient_are_refused_in_a_sentence() -> None:
    with pytest.raises(NotApplicable, match="the class scores have no gradient by the picture"):
        explained(METHOD, Fixed(torch.tensor([1.0, 2.0])), pictures(1))


def test_a_processed_map_says_so_and_is_checked_before() -> None:
    network, pixels = seeded(FunctionalRelu), pictures(2)
    raw = explained(METHOD, network, pixels, steps(30))
    done = explained(METHOD, network, pixels, steps(30, ig_postprocessing="smooth-equalise-otsu"))
    assert (raw.signed, done.signed) == (True, False)
    assert (raw.notes, done.notes) == ((), (NOTE,))
    assert done.settings == {**raw.settings, "post-processing": "smooth-equalise-otsu"}
    assert done.checks == raw.checks
    assert bool((raw.maps < 0).any())
    assert bool((done.maps >= 0).all())
    assert bool((done.maps == 0).any())
    assert float(done.maps.max()) == pytest.approx(1)


def test_a_flipped_picture_has_the_flipped_map() -> None:
    with classified(Linear(WEIGHTS), SHAPE) as classifier:
        asked = request(classifier, pictures(1), 0, steps(5))
        found = METHODS[METHOD].explain(asked).maps
    with classified(Linear(WEIGHTS.flip(2)), SHAPE) as classifier:
        flipped = replace(request(classifier, pictures(1).flip(3), 0, steps(5)))
        assert difference(METHODS[METHOD].explain(flipped).maps.flip(2), found) < 1e-6
