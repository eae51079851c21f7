from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from metric_toys import Constant, Weighted, context_of, descending, quadrant_mask
from torch import Tensor, nn

from reportgen.config import load_config
from reportgen.errors import NotApplicable, UsageError
from reportgen.metrics import METRICS, Measured
from reportgen.metrics.curves import ranks
from reportgen.metrics.road import shares_of
from reportgen.perturbation.imputation import NOISE, imputed
from reportgen.records import Measurement

KEYS = ("road_morf", "road_lerf", "road")
PIXELS = torch.rand(3, 10, 14, generator=torch.Generator().manual_seed(0))
MAP = torch.rand(10, 14, generator=torch.Generator().manual_seed(1))
CLOSE = 1e-4

Missing = Callable[[Tensor, int], Tensor]


def measured(network: nn.Module, pixels: Tensor, maps: dict[str, Tensor], **options) -> Measured:
    with context_of(network, pixels, maps, **options) as context:
        return METRICS["road"].measure(context)


def found(result: Measured, metric: str, subject: str = "map") -> Measurement:
    return next(m for m in result.measurements if (m.metric, m.subject) == (metric, subject))


def values_of(result: Measured, subject: str = "map") -> list[float | None]:
    return [found(result, key, subject).value for key in KEYS]


def most_relevant(values: Tensor, count: int) -> Tensor:
    gone = torch.zeros(values.numel(), dtype=torch.bool)
    gone[values.flatten().argsort(descending=True)[:count]] = True
    return gone.view(values.shape)


def by_threshold(values: Tensor, count: int) -> Tensor:
    """Remove what a percentile leaves, as the grad-cam library does: all of a tie or nothing."""
    return ~(values < np.percentile(values.numpy(), 100 - 100 * count / values.numel()))


def probability_without(missing: Tensor) -> float:
    (seen,) = imputed(PIXELS, missing[None], NOISE, 0).double()
    return float((seen.mean(0) * descending(10, 14)).sum())


def assert_slow_loop(values: Tensor, missing: Missing) -> None:
    options = {"road_shares": "0.2,0.5"}
    result = measured(Weighted(descending(10, 14)), PIXELS, {"map": values}, **options)
    counts = (28, 70)
    morf = np.mean([probability_without(missing(values, count)) for count in counts])
    lerf = np.mean([probability_without(missing(-values, count)) for count in counts])
    assert values_of(result) == pytest.approx([morf, lerf, (lerf - morf) / 2], abs=CLOSE)


def test_it_is_what_a_loop_over_shares_and_orders_gives() -> None:
    assert_slow_loop(MAP, most_relevant)


def test_the_other_order_would_be_noticed() -> None:
    with pytest.raises(AssertionError):
        assert_slow_loop(MAP, lambda values, count: most_relevant(-values, count))


def test_without_ties_a_threshold_does_the_same() -> None:
    assert_slow_loop(MAP, by_threshold)


def test_with_ties_a_threshold_would_remove_everything() -> None:
    clipped = (MAP - MAP.quantile(0.6)).clamp_min(0)
    assert float((clipped == 0).float().mean()) == pytest.approx(0.6, abs=0.01)
    assert by_threshold(clipped, 70).all()
    with pytest.raises(AssertionError):
        assert_slow_loop(clipped, by_threshold)


@pytest.mark.parametrize("zeros", [0.6, 1.0])
def test_ties_are_removed_by_count_at_random(zeros: float) -> None:
    flat = (MAP - MAP.quantile(zeros)).clamp_min(0)
    with context_of(Weighted(descending(10, 14)), PIXELS, {"map": flat}) as context:
        order = context.once(ranks)[0]
    for count in (28, 70, 112):
        assert int((order < count).sum()) == count
    tied = (order < 112) & (flat.flatten() == 0)
    halves = tied.view(10, 14)[:5].sum(), tied.view(10, 14)[5:].sum()
    # In raster order the upper half would go first.
    assert abs(int(halves[0] - halves[1])) < 20


def test_a_map_of_zeros_is_no_wipe_out() -> None:
    maps = {"map": torch.zeros(10, 14)}
    result = measured(Weighted(descending(10, 14)), PIXELS, maps, road_shares="0.5")
    morf, lerf, combined = values_of(result)
    control = found(result, "road", "random")
    assert combined == pytest.approx(0, abs=0.05)
    assert morf == pytest.approx(lerf, abs=0.1)
    assert control.value == pytest.approx(0, abs=0.05)


def test_removing_the_object_is_what_counts() -> None:
    mask = quadrant_mask(8)
    pixels = torch.where(mask > 0, 0.9, 0.1)[None]
    maps = {"map": mask, "anti": -mask}
    result = measured(Weighted(mask / mask.sum()), pixels, maps, road_shares="0.25")
    # Without the quadrant all is imputed from 0.1; without another quarter nothing changes.
    morf, lerf, combined = values_of(result)
    assert morf == pytest.approx(0.1, abs=0.01)
    assert lerf == pytest.approx(0.9, abs=0.01)
    assert combined == pytest.approx(0.4, abs=0.01)
    anti = values_of(result, "anti")
    assert anti == pytest.approx([0.9, 0.1, -0.4], abs=0.01)
    for key in ("road_morf", "road"):
        assert found(result, key).yardstick.percentile == 1
        # Some smooth random maps leave the quadrant alone, too.
        assert found(result, key, "anti").yardstick.percentile < 0.5
        assert found(result, key, "smooth-random").yardstick is None


def test_every_probability_is_kept_by_share() -> None:
    result = measured(
        Weighted(descending(10, 14)), PIXELS, {"map": MAP}, road_shares="0.5, 0.2,0.5"
    )
    row = found(result, "road_morf")
    shares, probabilities = result.arrays[row.array]
    assert shares.tolist() == pytest.approx([0.2, 0.5])
    assert row.value == pytest.approx(float(probabilities.mean()))
    assert row.settings["shares"] == [0.2, 0.5]


def test_passes_are_two_orders_and_the_shares_of_each_map() -> None:
    options = {"road_shares": "0.2,0.5", "control_draws": 3}
    with context_of(Weighted(descending(10, 14)), PIXELS, {"map": MAP}, **options) as context:
        METRICS["road"].measure(context)
        assert context.classifier.evaluator.counter.forward == (1 + 20 + 3 + 2) * 2 * 2


@pytest.mark.parametrize("size", [1, 7])
def test_the_batch_size_changes_nothing(size: int) -> None:
    results = [
        measured(Weighted(descending(10, 14)), PIXELS, {"map": MAP}, batch_size=batch)
        for batch in (size, 64)
    ]
    one, other = ([m.value for m in result.measurements] for result in results)
    assert one == pytest.approx(other, abs=1e-5)


def test_scale_and_offset_of_a_map_change_nothing() -> None:
    maps = {"map": MAP, "moved": 4 * MAP - 2}
    result = measured(Weighted(descending(10, 14)), PIXELS, maps)
    assert values_of(result, "moved") == values_of(result)


@pytest.mark.parametrize("text", ["", "0.2,x", "0,0.5", "0.5,1", "-0.1", "nan"])
def test_impossible_shares_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected shares above 0"):
        load_config(flags={"road_shares": text})


def test_shares_are_sorted_and_kept_once() -> None:
    assert shares_of("0.5, 0.2,0.50") == (0.2, 0.5)


def test_a_constant_model_is_moved_by_nothing() -> None:
    result = measured(Constant(), PIXELS, {"map": MAP}, road_shares="0.5")
    assert values_of(result) == [0.75, 0.75, 0]


def test_without_maps_no_pass_is_spent() -> None:
    with context_of(Constant(), PIXELS, {}) as context:
        with pytest.raises(NotApplicable, match="no map"):
            METRICS["road"].measure(context)
        assert context.classifier.evaluator.counter.forward == 0
