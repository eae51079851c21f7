from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from metric_toys import Constant, Weighted, context_of, descending, quadrant_mask, uniform
from torch import Tensor, nn

from reportgen.metrics import METRICS, Measured
from reportgen.metrics.baselines import KINDS, MEAN, WINS, places
from reportgen.metrics.curves import deletion_curves
from reportgen.records import Measurement

PIXELS = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
MAP = torch.rand(8, 8, generator=torch.Generator().manual_seed(1))

Places = Callable[[Mapping[str, float]], Mapping[str, int]]


def measured(network: nn.Module, pixels: Tensor, maps: dict[str, Tensor], **options) -> Measured:
    with context_of(network, pixels, maps, **{"curve_steps": 8, **options}) as context:
        return METRICS["baselines"].measure(context)


def found(result: Measured, metric: str, subject: str = "map") -> Measurement:
    return next(m for m in result.measurements if (m.metric, m.subject) == (metric, subject))


def test_it_is_the_mean_of_deletion_under_each_baseline() -> None:
    result = found(measured(Weighted(descending(8, 8)), PIXELS, {"map": MAP}), MEAN.key)
    each = []
    for kind in KINDS:
        options = {"deletion_baseline": kind, "curve_steps": 8}
        with context_of(Weighted(descending(8, 8)), PIXELS, {"map": MAP}, **options) as context:
            measurements = METRICS["deletion"].measure(context).measurements
        each.append(next(m.value for m in measurements if m.subject == "map"))
    assert [result.detail[kind] for kind in KINDS] == pytest.approx(each)
    assert result.value == pytest.approx(sum(each) / 4)
    assert result.interval == (pytest.approx(min(each)), pytest.approx(max(each)))
    assert result.interval_kind == "lowest and highest of 4 baselines"


def test_passes_are_those_of_three_baselines_more() -> None:
    with context_of(Weighted(descending(8, 8)), PIXELS, {"map": MAP}, curve_steps=8) as context:
        counter = context.classifier.evaluator.counter
        context.once(deletion_curves, "black")
        once = counter.forward
        METRICS["baselines"].measure(context)
        assert counter.forward == 4 * once


def assert_places(order: Places) -> None:
    assert order({"a": 0.3, "b": 0.1, "c": 0.2}) == {"a": 3, "b": 1, "c": 2}
    assert order({"a": 0.1, "b": 0.1 + 1e-9, "c": 0.2}) == {"a": 1, "b": 1, "c": 3}


def test_the_lowest_area_is_first_and_equal_ones_share() -> None:
    assert_places(places)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda areas: {m: 1 + sum(o > a for o in areas.values()) for m, a in areas.items()},
        lambda areas: {m: 1 + sum(o < a for o in areas.values()) for m, a in areas.items()},
    ],
    ids=["the highest first", "rounding decides"],
)
def test_a_wrong_order_would_be_noticed(wrong: Places) -> None:
    with pytest.raises(AssertionError):
        assert_places(wrong)


def test_the_true_map_wins_under_every_baseline() -> None:
    mask = quadrant_mask(8)
    maps = {"map": mask, "anti": -mask}
    result = measured(Weighted(mask / mask.sum()), torch.ones(3, 8, 8), maps)
    best, worst = found(result, WINS.key), found(result, WINS.key, "anti")
    # Blurring white leaves white: under that baseline all are equal, and all are first.
    assert (best.value, worst.value) == (4, 1)
    assert best.detail == {f"place under {kind}": 1 for kind in KINDS}
    assert worst.detail["place under blur"] == 1
    assert worst.detail["place under black"] == 2
    assert best.yardstick is not None
    assert best.yardstick.maps == 20
    assert {m.subject for m in result.measurements if m.metric == WINS.key} == set(maps)


def test_the_winner_can_change_with_the_baseline() -> None:
    # Above, 0.6 with the weight 1; below, 1 with the weight 1/2. Black takes 0.6 and 0.5 of them,
    # noise of the mean 1/2 only 0.1 and 0.25, and the blur makes only what is below darker.
    above = torch.zeros(8, 8)
    above[:4] = 1
    pixels, weights = (1 - 0.4 * above)[None], (1 + above) / 2 / 64
    result = measured(Weighted(weights), pixels, {"above": above, "below": 1 - above})
    above_first = {"black": 1, "mean": 1, "blur": 2, "noise": 2}
    expected = {f"place under {kind}": place for kind, place in above_first.items()}
    assert found(result, WINS.key, "above").detail == expected
    assert found(result, WINS.key, "above").value == 2
    assert found(result, WINS.key, "below").value == 2


def test_one_method_alone_wins_nothing() -> None:
    result = measured(uniform(8, 8), PIXELS, {"map": MAP})
    assert {m.metric for m in result.measurements} == {MEAN.key}


def test_a_constant_model_gives_everyone_the_first_place() -> None:
    result = measured(Constant(), PIXELS, {"map": MAP, "other": -MAP})
    assert {m.value for m in result.measurements if m.metric == MEAN.key} == {0.75}
    assert {m.value for m in result.measurements if m.metric == WINS.key} == {4}
