from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from metric_toys import Constant, Weighted, context_of, descending, quadrant_mask, uniform
from torch import Tensor, nn

from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Measured
from reportgen.metrics.aopc import area_over, least_relevant_first
from reportgen.metrics.curves import Curves, Values, deletion_curves, insertion_curves
from reportgen.records import Measurement

EXACT = 1e-6
KEYS = ("aopc_morf", "aopc_lerf", "abpc")
NOISE = torch.rand(2, 2, 4, 6, generator=torch.Generator().manual_seed(0))


def measured(network: nn.Module, pixels: Tensor, maps: dict[str, Tensor], **options) -> Measured:
    with context_of(network, pixels, maps, **options) as context:
        return METRICS["aopc"].measure(context)


def found(result: Measured, metric: str, subject: str = "map") -> Measurement:
    return next(m for m in result.measurements if (m.metric, m.subject) == (metric, subject))


def values_of(result: Measured, subject: str = "map") -> list[float | None]:
    return [found(result, key, subject).value for key in KEYS]


def in_perfect_order(side: int) -> Values:
    """Return the curve of LIN with weights N, ..., 1 over their sum, the largest removed first."""
    weights = np.sort(descending(side, side).double().numpy().ravel())[::-1]
    return 1 - np.concatenate([[0], weights.cumsum()])[None]


def assert_closed_form(aopc: Callable[[Values], Values]) -> None:
    assert aopc(in_perfect_order(2)) == pytest.approx([0.6])
    for side in (2, 4, 6):
        count = side * side
        expected = (2 * count + 1) / (3 * (count + 1))
        assert aopc(in_perfect_order(side)) == pytest.approx([expected])


def test_descending_weights_have_the_closed_form() -> None:
    assert_closed_form(area_over)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda curves: (curves[:, :1] - curves)[:, 1:].mean(axis=1),
        lambda curves: 1 - np.trapezoid(curves, dx=1 / (curves.shape[1] - 1), axis=1),
        lambda curves: (curves - curves[:, :1]).mean(axis=1),
    ],
    ids=["without the whole picture", "one less the trapezoid", "wrong sign"],
)
def test_a_wrong_mean_would_be_noticed(wrong: Callable[[Values], Values]) -> None:
    with pytest.raises(AssertionError):
        assert_closed_form(wrong)


def test_the_metric_has_the_closed_form() -> None:
    weights, white = descending(2, 2), torch.ones(1, 2, 2)
    result = measured(Weighted(weights), white, {"map": weights, "anti": -weights}, curve_steps=4)
    # In the reverse order 1, 2, 3, 4 tenths go: the mean of 0, 0.1, 0.3, 0.6 and 1.
    assert values_of(result) == pytest.approx([0.6, 0.4, 0.2], abs=EXACT)
    assert values_of(result, "anti") == pytest.approx([0.4, 0.6, -0.2], abs=EXACT)


def test_a_uniform_model_has_no_area_between_the_curves() -> None:
    result = measured(uniform(4, 6), torch.ones(1, 4, 6), {"map": NOISE[0, 0]}, curve_steps=24)
    assert values_of(result) == pytest.approx([0.5, 0.5, 0], abs=EXACT)


def by_loop(steps: range) -> list[float]:
    """Return MoRF, LeRF and their difference over these of eight steps, one pixel after another."""
    pixels, values, weights = NOISE[0], NOISE[1, 0], descending(4, 6)
    seen = pixels.mean(0).flatten().double() * weights.flatten().double()
    falls = []
    for sign in (-1, 1):
        order = (sign * values.flatten()).argsort().tolist()
        left = [sum(float(seen[i]) for i in order[3 * step :]) for step in steps]
        falls.append(sum(float(seen.sum()) - each for each in left) / len(left))
    return [*falls, falls[0] - falls[1]]


def check_like(expected: list[float]) -> None:
    maps = {"map": NOISE[1, 0]}
    result = measured(Weighted(descending(4, 6)), NOISE[0], maps, curve_steps=8)
    assert values_of(result) == pytest.approx(expected, abs=EXACT)


def test_it_is_the_mean_over_a_loop_from_the_paper() -> None:
    check_like(by_loop(range(9)))
    for wrong in (range(1, 9), range(8)):  # without the first term, without the last
        with pytest.raises(AssertionError):
            check_like(by_loop(wrong))


def test_the_anti_maps_curves_are_swapped() -> None:
    values = NOISE[1, 0]
    maps = {"map": values, "anti": -values, "moved": 4 * values + 1}
    result = measured(Weighted(descending(4, 6)), NOISE[0], maps, curve_steps=8)
    morf, lerf, between = values_of(result)
    assert values_of(result, "anti") == pytest.approx([lerf, morf, -between], abs=EXACT)
    assert values_of(result, "moved") == [morf, lerf, between]


def test_least_relevant_first_is_insertion_read_backwards() -> None:
    curves = Curves(np.array([0, 0.25, 1]), {"map": np.array([[0.1, 0.7, 0.9]])})
    backwards = least_relevant_first(curves)
    assert backwards.fractions.tolist() == [0, 0.75, 1]
    assert backwards.values["map"].tolist() == [[0.9, 0.7, 0.1]]


def test_the_curves_are_shared_and_kept() -> None:
    maps = {"map": NOISE[1, 0]}
    with context_of(Weighted(descending(4, 6)), NOISE[0], maps, curve_steps=8) as context:
        context.once(deletion_curves, "black")
        context.once(insertion_curves, "black")
        spent = context.classifier.evaluator.counter.forward
        result = METRICS["aopc"].measure(context)
        assert context.classifier.evaluator.counter.forward == spent
    row = found(result, "aopc_lerf")
    fractions, values = result.arrays[row.array]
    assert row.value == pytest.approx(float((values[0] - values).mean()), abs=EXACT)
    assert fractions.tolist() == pytest.approx([step / 8 for step in range(9)])
    assert found(result, "abpc").array is None


def test_the_perfect_map_is_placed_first() -> None:
    mask = quadrant_mask(8)
    white = torch.ones(1, 8, 8)
    result = measured(Weighted(mask / mask.sum()), white, {"map": mask}, curve_steps=8)
    assert [found(result, key).yardstick.percentile for key in KEYS] == [1, 1, 1]
    assert [found(result, key).yardstick.maps for key in KEYS] == [20, 20, 20]
    assert found(result, "abpc", "smooth-random").yardstick is None
    assert len(found(result, "abpc", "random").detail["draws"]) == 3


def test_a_constant_model_has_no_area() -> None:
    result = measured(Constant(), torch.ones(1, 4, 6), {"map": NOISE[0, 0]})
    assert {m.value for m in result.measurements} == {0}


def test_without_maps_no_pass_is_spent() -> None:
    with context_of(uniform(4, 6), torch.ones(1, 4, 6), {}) as context:
        with pytest.raises(NotApplicable, match="no map"):
            METRICS["aopc"].measure(context)
        assert context.classifier.evaluator.counter.forward == 0
