from __future__ import annotations

from collections.abc import Callable
from statistics import mean, stdev

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_toys import Constant, context_of
from scipy.stats import percentileofscore

from reportgen.metrics.curves import subjects
from reportgen.metrics.yardstick import NULL, NULLS, null_maps, placed
from reportgen.perturbation.controls import smooth_random_maps
from reportgen.records import Direction, Quantity, Yardstick

LOW = Quantity(key="low", title="Low", direction="lower is better")
HIGH = Quantity(key="high", title="High", direction="higher is better")
PLAIN = Quantity(key="plain", title="Plain")

Place = Callable[[Quantity, float | None, list[float]], Yardstick | None]
PIXELS = torch.rand(3, 10, 14, generator=torch.Generator().manual_seed(0))


def assert_places(place: Place) -> None:
    nulls = [0.1, 0.2, 0.2, 0.4]
    low, high = place(LOW, 0.2, nulls), place(HIGH, 0.2, nulls)
    assert low is not None
    assert high is not None
    # Better than one, equal to two: (1 + 2 / 2) / 4; and at least as good are three of four.
    assert (low.percentile, low.p) == (0.5, (1 + 3) / 5)
    assert (high.percentile, high.p) == (0.5, (1 + 3) / 5)
    best, worst = place(LOW, 0.0, nulls), place(HIGH, 0.0, nulls)
    assert best is not None
    assert worst is not None
    assert (best.percentile, best.p) == (1, 1 / 5)
    assert (worst.percentile, worst.p) == (0, 1)
    assert best.z == pytest.approx((0 - mean(nulls)) / stdev(nulls))
    assert (best.mean, best.sd, best.maps) == (
        pytest.approx(mean(nulls)),
        pytest.approx(stdev(nulls)),
        4,
    )


def test_a_value_is_placed_by_its_direction() -> None:
    assert_places(placed)


def without_the_one(quantity: Quantity, value: float | None, nulls: list[float]) -> Yardstick:
    right = placed(quantity, value, nulls)
    assert right is not None
    return right.model_copy(update={"p": ((right.p or 0) * (len(nulls) + 1) - 1) / len(nulls)})


def of_the_population(quantity: Quantity, value: float | None, nulls: list[float]) -> Yardstick:
    right = placed(quantity, value, nulls)
    assert right is not None
    return right.model_copy(update={"sd": float(np.std(nulls))})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda quantity, value, nulls: placed(HIGH, value, nulls),
        without_the_one,
        of_the_population,
    ],
    ids=["whatever the direction", "p may be 0", "sd of the population"],
)
def test_another_place_would_be_noticed(wrong: Place) -> None:
    with pytest.raises(AssertionError):
        assert_places(wrong)


numbers = st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=30)
directions = st.sampled_from([LOW, HIGH, PLAIN])


@given(directions, st.integers(-5, 5).map(float), numbers)
def test_it_is_scipys_mean_percentile(quantity: Quantity, value: float, nulls: list[float]) -> None:
    yardstick = placed(quantity, value, nulls)
    assert yardstick is not None
    below = float(percentileofscore(nulls, value, kind="mean")) / 100
    lower: Direction = "lower is better"
    expected = 1 - below if quantity.direction == lower else below
    assert yardstick.percentile == pytest.approx(expected)
    assert 0 <= yardstick.percentile <= 1
    if quantity.direction == "descriptive":
        assert yardstick.p is None
    else:
        assert yardstick.p is not None
        assert 0 < yardstick.p <= 1


@given(directions, st.integers(-5, 5).map(float), numbers)
def test_scale_and_offset_of_all_numbers_change_nothing(
    quantity: Quantity, value: float, nulls: list[float]
) -> None:
    plain = placed(quantity, value, nulls)
    moved = placed(quantity, 2 * value + 1, [2 * null + 1 for null in nulls])
    assert plain is not None
    assert moved is not None
    assert (moved.percentile, moved.p) == (plain.percentile, plain.p)
    assert moved.z == (None if plain.z is None else pytest.approx(plain.z))


def test_equal_numbers_have_no_z() -> None:
    yardstick = placed(HIGH, 0.3, [0.1 + 0.2] * 20)
    assert yardstick is not None
    assert yardstick.z is None
    # Rounding does not decide which of two equal numbers is the better one.
    assert (yardstick.percentile, yardstick.p) == (0.5, 1)


def test_missing_numbers_are_left_out() -> None:
    yardstick = placed(HIGH, 1.0, [0.0, float("nan"), 2.0, float("inf")])
    assert yardstick is not None
    assert (yardstick.maps, yardstick.mean) == (2, 1.0)
    assert yardstick.controls == NULLS


@pytest.mark.parametrize(
    ("value", "nulls"), [(None, [1.0, 2.0]), (1.0, []), (1.0, [1.0]), (1.0, [1.0, float("nan")])]
)
def test_without_enough_numbers_there_is_no_place(value: float | None, nulls: list[float]) -> None:
    assert placed(HIGH, value, nulls) is None


def test_other_controls_are_named() -> None:
    yardstick = placed(HIGH, 1.0, [0.0, 2.0], controls="random pixels")
    assert yardstick is not None
    assert yardstick.controls == "random pixels"


def test_null_maps_are_smooth_random_and_made_once() -> None:
    with context_of(Constant(), PIXELS, {}, null_maps=23, seed=4) as context:
        found = context.once(null_maps)
        assert torch.equal(found, smooth_random_maps(23, (10, 14), 4))
        assert context.once(subjects)[NULL] is found
        assert context.classifier.evaluator.counter.forward == 0


def test_the_first_null_maps_stay_when_more_are_drawn() -> None:
    few, many = (null_maps_of(count) for count in (20, 30))
    assert torch.equal(many[:20], few)


def null_maps_of(count: int) -> torch.Tensor:
    with context_of(Constant(), PIXELS, {}, null_maps=count) as context:
        return context.once(null_maps)
