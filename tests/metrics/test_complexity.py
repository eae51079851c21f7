from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from metric_toys import context_of, uniform
from scipy.stats import entropy as scipy_entropy
from torch import Tensor

from reportgen.attribution.gradcam import CARD as GRADCAM
from reportgen.metrics.complexity import CARD, METRIC, entropy, gini, shares_of
from reportgen.records import Measurement

SHAPE = (12, 15)
PIXELS = 180


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape or SHAPE, generator=torch.Generator().manual_seed(seed))


def found(maps: dict[str, Tensor]) -> dict[tuple[str, str], Measurement]:
    height, width = next(iter(maps.values())).shape
    fine = GRADCAM.model_copy(update={"granularity": "feature map"})
    with context_of(
        uniform(height, width),
        torch.ones(1, height, width),
        maps,
        cards=dict.fromkeys(maps, fine),
        control_draws=2,
    ) as context:
        measured = METRIC.measure(context)
        assert context.classifier.evaluator.counter.forward == 0
    return {(m.metric, m.subject): m for m in measured.measurements}


def number(metric: str, values: Tensor) -> float:
    value = found({"a": values})[metric, "a"].value
    assert value is not None
    return value


def alike(count: int) -> Tensor:
    """A map of ``count`` equal pixels, every other one negative, and zeros."""
    values = torch.zeros(PIXELS)
    values[:count] = 4
    values[:count:2] *= -1
    return values.view(SHAPE)


@pytest.mark.parametrize("count", [1, 2, 30, PIXELS])
def test_equal_pixels_have_closed_forms(count: int) -> None:
    values = alike(count)
    assert number("gini", values) == pytest.approx(1 - count / PIXELS)
    assert number("entropy", values) == pytest.approx(math.log(count), abs=1e-12)
    assert number("effective_complexity", values) == pytest.approx(count / PIXELS)


def test_a_ramp_has_a_closed_form() -> None:
    ramp = torch.arange(1, PIXELS + 1).float().view(SHAPE)
    assert number("gini", ramp) == pytest.approx((PIXELS - 1) / (3 * PIXELS))
    assert number("effective_complexity", ramp) == pytest.approx((PIXELS - 1) / PIXELS)


def test_the_entropy_of_224_pixels_squared() -> None:
    assert float(entropy(torch.full((1, 224**2), 224.0**-2).double())) == pytest.approx(
        10.823, abs=5e-4
    )


def gini_by_differences(values: np.ndarray) -> float:
    """Half the mean absolute difference of all pairs, over the mean."""
    sizes = np.abs(values.ravel())
    return float(np.abs(sizes[:, None] - sizes).mean() / (2 * sizes.mean()))


def check_gini(own: Callable[[Tensor], float]) -> None:
    values = noise(0) - 0.4
    assert own(values) == pytest.approx(gini_by_differences(values.double().numpy()), abs=1e-9)


def check_entropy(own: Callable[[Tensor], float]) -> None:
    values = noise(1) - 0.4
    expected = scipy_entropy(np.abs(values.double().numpy()).ravel())
    assert own(values) == pytest.approx(expected, abs=1e-9)


def test_both_are_those_of_other_definitions() -> None:
    check_gini(lambda values: number("gini", values))
    check_entropy(lambda values: number("entropy", values))


def test_the_comparisons_can_fail() -> None:
    def shifted(values: Tensor) -> float:
        ordered = values.abs().double().flatten().sort().values
        weights = 2 * torch.arange(PIXELS) - PIXELS - 1  # counted from 0
        return float((weights * ordered).sum() / (PIXELS * ordered.sum()))

    with pytest.raises(AssertionError):
        check_gini(shifted)
    with pytest.raises(AssertionError):
        check_gini(lambda values: float(gini(shares_of(values[None].clamp_min(0)))[0]))
    with pytest.raises(AssertionError):
        check_entropy(lambda values: number("entropy", values) / math.log(2))


def test_quantus_agrees() -> None:
    quantus = pytest.importorskip("quantus", reason="Quantus is no dependency; compared by hand")
    values = (noise(2) + 0.1).double().numpy().ravel()
    for metric, kind in (("gini", quantus.Sparseness), ("entropy", quantus.Complexity)):
        # It adds to its input in place, so it is given copies.
        judge = kind(normalise=False, disable_warnings=True)
        batch = {"x_batch": values[None].copy(), "a_batch": values[None].copy()}
        (expected,) = judge.evaluate_batch(**batch)
        own = number(metric, torch.from_numpy(values).view(SHAPE))
        assert own == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, -2.0, 1e-30])
def test_a_constant_map_has_the_limit_values(value: float) -> None:
    result = found({"a": torch.full(SHAPE, value), "b": noise(3)})
    limits = {"gini": 0.0, "entropy": math.log(PIXELS), "effective_complexity": 1.0}
    for metric, limit in limits.items():
        measurement = result[metric, "a"]
        assert measurement.value == pytest.approx(limit, abs=1e-12)
        assert measurement.note == (
            "" if value else "the map is zero everywhere, and counts as uniform"
        )
        assert result[metric, "b"].note == ""


def test_scale_and_sign_and_place_do_not_matter() -> None:
    values = noise(4) - 0.5
    for metric in ("gini", "entropy", "effective_complexity"):
        for other in (-values, values * 1e-20, values * 1e20, values.flip(0, 1)):
            assert number(metric, values) == pytest.approx(number(metric, other), rel=1e-5)


def test_the_share_of_the_highest_entropy_is_told() -> None:
    measurement = found({"a": alike(30)})["entropy", "a"]
    assert measurement.detail["share of ln N"] == pytest.approx(math.log(30) / math.log(PIXELS))
    assert measurement.settings["ln N"] == pytest.approx(math.log(PIXELS))


def test_values_stand_beside_controls_and_name_the_granularity() -> None:
    result = found({"a": alike(1), "b": noise(5)})
    for quantity in CARD.quantities:
        one = result[quantity.key, "a"]
        assert one.settings["granularity"] == "feature map"
        assert one.yardstick is not None
        assert (one.yardstick.maps, one.yardstick.percentile) == (20, 1)
        drawn = result[quantity.key, "random"]
        assert drawn.interval_kind == "lowest and highest of 2 draws"
        assert drawn.value == pytest.approx(float(np.mean(drawn.detail["draws"])))
        assert result[quantity.key, "smooth-random"].yardstick is None
        assert {"edges", "centre"} <= {subject for _, subject in result}


def test_inputs_stay_as_they_are() -> None:
    values = noise(6) - 0.5
    before = values.clone()
    number("gini", values)
    assert torch.equal(values, before)
