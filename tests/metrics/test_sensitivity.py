from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from captum.metrics import sensitivity_max
from metric_toys import Weighted, context_of, descending, uniform
from torch import Tensor
from toys import Pointwise, request

from reportgen.attribution import METHODS
from reportgen.config import Config
from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Context, Measured
from reportgen.metrics.repeats import (
    each_method,
    noisy_copies,
    noisy_maps,
    own_map,
    reduced,
    rounds,
)
from reportgen.metrics.sensitivity import relative_changes
from reportgen.metrics.yardstick import null_maps
from reportgen.records import Measurement

MEASURE = METRICS["sensitivity"].measure
RADIUS = 0.05
DRAWS = 60
# Away from 0 and 1, so that no noise is clipped.
PIXELS = 0.2 + 0.6 * torch.rand(1, 24, 32, generator=torch.Generator().manual_seed(0))
COUNT = PIXELS.numel()
NORM = float(PIXELS.norm())
OPTIONS = {"sensitivity_radius": RADIUS, "sensitivity_draws": DRAWS}


def identity(method: str, pixels: Tensor, config: Config) -> Tensor:
    return pixels[:, 0]


def squared(method: str, pixels: Tensor, config: Config) -> Tensor:
    return pixels[:, 0] ** 2


def measured(explain, methods: tuple[str, ...] = ("map",), **options: Any) -> Measured:
    maps = dict.fromkeys(methods, PIXELS[0])
    with context_of(uniform(24, 32), PIXELS, maps, explain, **{**OPTIONS, **options}) as context:
        return MEASURE(context)


def found(result: Measured, metric: str = "sensitivity", subject: str = "map") -> Measurement:
    (one,) = (m for m in result.measurements if (m.metric, m.subject) == (metric, subject))
    return one


def test_the_gradient_of_a_linear_model_does_not_change() -> None:
    weights = torch.rand(24, 32)
    result = measured(lambda method, pixels, config: weights.expand(len(pixels), 24, 32))
    assert found(result).value == 0
    assert found(result, "average_sensitivity").value == 0


def test_the_picture_as_its_own_map_changes_as_the_noise_does() -> None:
    result = measured(identity)
    largest, average = found(result), found(result, "average_sensitivity")
    expected = RADIUS * (COUNT / 3) ** 0.5 / NORM
    copies = np.asarray(largest.detail["copies"])
    assert len(copies) == DRAWS
    # The variance of a squared uniform is 4/45: the norm's relative spread over D values.
    spread = expected * (4 / 45 / COUNT) ** 0.5 * 3 / 2
    assert average.value == pytest.approx(expected, abs=3 * spread / DRAWS**0.5)
    assert average.value == pytest.approx(copies.mean())
    assert average.interval == (copies.min(), copies.max())
    assert average.interval_kind == f"lowest and highest of {DRAWS} copies"
    assert largest.value == copies.max() <= RADIUS * COUNT**0.5 / NORM
    assert largest.interval is None


Formula = Callable[[Tensor], Tensor | None]


def check_against_the_paper(formula: Formula) -> None:
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(5, 4, 6, generator=generator)
    slow = []
    for copy in maps[1:]:
        pairs = zip(copy.ravel().tolist(), maps[0].ravel().tolist(), strict=True)
        above = sum((a - b) ** 2 for a, b in pairs)
        slow.append((above / sum(float(b) ** 2 for b in maps[0].ravel())) ** 0.5)
    assert formula(maps) == pytest.approx(np.asarray(slow), rel=1e-6)


def check_against_captum(formula: Formula) -> None:
    """captum on our own copies, so that nothing differs but the formula."""
    with context_of(uniform(24, 32), PIXELS, {"map": PIXELS[0]}, squared, **OPTIONS) as context:
        copies, maps = noisy_copies(context), noisy_maps(context, "map")
    theirs = sensitivity_max(
        # A tuple when given a tuple: captum would take the batch axis for it otherwise.
        lambda inputs: tuple(one**2 for one in inputs) if isinstance(inputs, tuple) else inputs**2,
        PIXELS[None],
        perturb_func=lambda expanded, radius: copies,
        perturb_radius=RADIUS,
        n_perturb_samples=DRAWS,
    )
    assert float(formula(maps).max()) == pytest.approx(float(theirs), rel=1e-5)


def check_against_quantus(formula: Formula) -> None:
    quantus = pytest.importorskip("quantus", reason="a library for comparison, not installed here")
    maps = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(5))
    flat = maps.numpy().reshape(2, 1, -1)
    change = quantus.similarity_func.difference(a=flat[0], b=flat[1])
    theirs = quantus.norm_func.fro_norm(a=change) / quantus.norm_func.fro_norm(a=flat[0])
    assert float(formula(maps)) == pytest.approx(theirs.item(), rel=1e-6)


CHECKS = [check_against_the_paper, check_against_captum, check_against_quantus]
PLANTED: dict[str, Formula] = {
    "divided by the copy's norm": lambda maps: (
        (maps[1:] - maps[0]).flatten(1).norm(dim=1) / maps[1:].flatten(1).norm(dim=1)
    ),
    "not divided": lambda maps: (maps[1:] - maps[0]).flatten(1).norm(dim=1),
    "sum of absolute values": lambda maps: (
        (maps[1:] - maps[0]).flatten(1).abs().sum(1) / maps[0].abs().sum()
    ),
    "from the last copy": lambda maps: (
        (maps[1:] - maps[-1]).flatten(1).norm(dim=1) / maps[0].norm()
    ),
}


@pytest.mark.parametrize("check", CHECKS)
def test_the_change_is_that_of_the_paper_and_of_the_libraries(
    check: Callable[[Formula], None],
) -> None:
    check(relative_changes)


@pytest.mark.parametrize("error", PLANTED)
@pytest.mark.parametrize("check", CHECKS)
def test_the_comparison_sees_a_planted_error(check: Callable[[Formula], None], error: str) -> None:
    with pytest.raises(AssertionError):
        check(PLANTED[error])


def captums(seed: int) -> float:
    torch.manual_seed(seed)
    changes = sensitivity_max(
        lambda inputs: tuple(one**2 for one in inputs) if isinstance(inputs, tuple) else inputs**2,
        PIXELS[None],
        perturb_radius=RADIUS,
        n_perturb_samples=DRAWS,
    )
    return float(changes)


def test_captum_with_its_own_noise_measures_the_same() -> None:
    with torch.random.fork_rng():
        theirs = [captums(seed) for seed in range(12)]
    # The largest of 60 draws differs from run to run: measured, by a little over one percent.
    spread = float(np.std(theirs))
    assert spread < 0.02 * np.mean(theirs)
    expected = pytest.approx(np.mean(theirs), abs=3 * spread)
    assert found(measured(squared)).value == expected
    assert found(measured(identity)).value != expected
    assert found(measured(squared), "average_sensitivity").value != expected
    assert found(measured(squared, sensitivity_radius=0.9 * RADIUS)).value != expected


def test_the_saliency_of_a_network_is_as_sensitive_as_captum_finds_it() -> None:
    network = Pointwise(lambda x: x**3)
    held: list[Context] = []

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        return METHODS[method].explain(request(held[0].classifier, pixels, 0, config)).maps

    def theirs(inputs: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        if isinstance(inputs, tuple):
            return tuple(theirs(one) for one in inputs)
        # captum measures under no_grad, in which there is no gradient to explain with.
        with torch.enable_grad():
            return Saliency(network).attribute(inputs.clone().requires_grad_(), target=0)

    maps = {"saliency": PIXELS[0]}
    with context_of(network, PIXELS, maps, explain, head="softmax", **OPTIONS) as context:
        held.append(context)
        ours = found(MEASURE(context), subject="saliency").value
        copies = context.once(noisy_copies)
    expected = sensitivity_max(
        theirs, PIXELS[None], perturb_func=lambda x, r: copies, n_perturb_samples=DRAWS
    )
    assert ours == pytest.approx(float(expected), rel=1e-5)
    assert found(measured(identity)).value != pytest.approx(float(expected), rel=1e-5)


def test_a_zero_map_has_a_note_and_no_number() -> None:
    result = measured(lambda method, pixels, config: pixels[:, 0] * 0)
    for metric in ("sensitivity", "average_sensitivity"):
        one = found(result, metric)
        assert (one.value, one.note) == (None, "the map is zero everywhere")
        assert one.yardstick is None
    assert relative_changes(torch.zeros(3, 2, 2)) is None


def test_a_map_that_is_zero_on_the_picture_only_is_no_number_either() -> None:
    """captum divides by 1 there, and gives an absolute change among relative ones."""
    copies = PIXELS + 0.01
    theirs = sensitivity_max(
        lambda inputs: (
            tuple(one - PIXELS for one in inputs) if isinstance(inputs, tuple) else inputs - PIXELS
        ),
        PIXELS[None],
        perturb_func=lambda expanded, radius: copies.expand_as(expanded),
    )
    assert float(theirs) == pytest.approx(0.01 * COUNT**0.5, rel=1e-4)
    assert relative_changes(torch.cat([PIXELS - PIXELS, copies - PIXELS])) is None


def test_one_failing_method_costs_the_others_nothing() -> None:
    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        if method == "refuses":
            raise NotApplicable("no gradient here")
        if method == "breaks":
            raise ValueError("shape\nand more")
        if method == "not finite":
            return pixels[:, 0] / 0
        if method == "fails on copies" and len(pixels) > 1:
            raise NotApplicable("one picture only")
        return identity(method, pixels, config)

    names = ("refuses", "breaks", "not finite", "fails on copies", "works")
    result = measured(explain, names)
    assert {m.subject for m in result.measurements} & set(names) == {"works"}
    assert [(s.step, s.subject, s.reason) for s in result.skipped] == [
        ("sensitivity", "refuses", "no gradient here"),
        ("sensitivity", "breaks", "ValueError: shape"),
        ("sensitivity", "not finite", "a map holds NaN or infinite values"),
        ("sensitivity", "fails on copies", "one picture only"),
    ]


def test_an_error_without_a_message_still_has_a_reason() -> None:
    def measure(context: Context, method: str) -> Measured:
        raise ValueError

    with context_of(uniform(4, 4), torch.rand(1, 4, 4), {}) as context:
        (skip,) = each_method(context, "step", ["a"], measure).skipped
    assert skip.reason == "ValueError"


def test_maps_are_made_with_the_reduced_counts_and_one_seed_on_the_clean_picture_too() -> None:
    seen: list[tuple[int, int, int]] = []

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        seen.append((len(pixels), config.lime_samples, config.seed))
        return identity(method, pixels, config)

    result = measured(explain, ("lime",), seed=7)
    samples = Config().sensitivity_samples
    assert seen == [(1, samples, 7), (DRAWS, samples, 7)]
    assert found(result, subject="lime").settings["lime_samples"] == samples
    assert "lime_samples" not in found(result, subject="edges").settings


def test_one_set_of_maps_serves_all_metrics_of_stability() -> None:
    seen: list[int] = []

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        seen.append(len(pixels))
        return identity(method, pixels, config)

    with context_of(uniform(24, 32), PIXELS, {"map": PIXELS[0]}, explain, **OPTIONS) as context:
        MEASURE(context)
        assert context.classifier.evaluator.counter.forward == 0
        METRICS["relative-stability"].measure(context)
        assert torch.equal(context.once(own_map, "map"), PIXELS[0])
        assert context.classifier.evaluator.counter.forward == 1 + DRAWS
    assert seen == [1, DRAWS]


def test_reduced_counts_are_never_more_than_those_of_the_run() -> None:
    config = Config(lime_samples=20, shap_evals=300, ig_steps=5, sensitivity_samples=50)
    used = reduced(config)
    assert (used.lime_samples, used.shap_evals, used.ig_steps) == (20, 50, 5)


def test_controls_stand_beside_the_methods() -> None:
    result = measured(identity, sensitivity_draws=3)
    assert found(result, subject="centre").value == 0
    assert found(result, subject="edges").value > 0
    control, yardstick = found(result, subject="smooth-random"), found(result).yardstick
    assert yardstick is not None and yardstick.maps == Config().null_maps
    assert control.value == pytest.approx(yardstick.mean)
    assert len(control.detail["draws"]) == Config().null_maps
    # Noise that cannot be seen moves a map that follows the picture less than a new random map.
    assert yardstick.percentile == 1


def test_null_values_are_those_of_maps_drawn_anew_for_each_copy() -> None:
    draws = 3
    with context_of(
        uniform(24, 32), PIXELS, {"map": PIXELS[0]}, identity, sensitivity_draws=draws
    ) as context:
        control = found(MEASURE(context), subject="smooth-random").detail["draws"]
        maps = context.once(null_maps)
    count = len(maps)
    for index in range(count):
        others = [maps[(index + step) % count] for step in range(1, draws + 1)]
        expected = max(float((o - maps[index]).norm() / maps[index].norm()) for o in others)
        assert control[index] == pytest.approx(expected, rel=1e-5)


def test_rounds_begin_with_each_map_and_never_repeat_it() -> None:
    assert rounds(3, 2) == [[0, 1], [1, 2], [2, 0]]
    assert rounds(3, 5) == [[0, 1, 2, 1, 2], [1, 2, 0, 2, 0], [2, 0, 1, 0, 1]]


def test_the_scale_of_a_map_changes_nothing_and_an_offset_does() -> None:
    plain = found(measured(identity)).value
    scaled = found(measured(lambda m, pixels, c: -3 * pixels[:, 0])).value
    moved = found(measured(lambda m, pixels, c: pixels[:, 0] + 1)).value
    assert scaled == pytest.approx(plain, rel=1e-6)
    assert moved < 0.6 * plain


def test_maps_may_be_flipped_and_one_copy_is_enough() -> None:
    maps = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(4))
    assert torch.allclose(relative_changes(maps.flip(-1)), relative_changes(maps))
    result = measured(identity, sensitivity_draws=1)
    assert found(result).value == found(result, "average_sensitivity").value
    assert found(result, "average_sensitivity").interval is None


def test_a_linear_network_is_measured_with_its_gradient() -> None:
    network = Weighted(descending(24, 32))
    held: list[Context] = []

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        return METHODS[method].explain(request(held[0].classifier, pixels, 0, config)).maps

    maps = {"saliency": PIXELS[0]}
    with context_of(network, PIXELS, maps, explain, head="softmax", **OPTIONS) as context:
        held.append(context)
        before = context.classifier.evaluator.counter.backward
        assert found(MEASURE(context), subject="saliency").value == pytest.approx(0, abs=1e-6)
        assert context.classifier.evaluator.counter.backward - before == 1 + DRAWS
