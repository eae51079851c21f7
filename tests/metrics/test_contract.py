"""What every entry of METRICS promises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from metric_toys import Weighted, context_of, descending
from torch import Tensor

from reportgen.config import Config
from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Context, Measured

NEEDING_MAPS = {"deletion", "insertion", "agreement", "location", "sensitivity"}
HEIGHT, WIDTH = 10, 14


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
    return pixels.mean(dim=1) * (0 if method == "flat" else 1)


MAPS = {"a": noise(1, HEIGHT, WIDTH), "b": noise(2, HEIGHT, WIDTH) - 0.5}
FLAT = {**MAPS, "flat": torch.zeros(HEIGHT, WIDTH)}


@contextmanager
def small(maps: dict[str, Tensor], channels: int = 3) -> Iterator[Context]:
    pixels = noise(0, channels, HEIGHT, WIDTH)
    options = {"curve_steps": 4, "control_draws": 2, "rotation_step": 30.0}
    with context_of(Weighted(descending(HEIGHT, WIDTH)), pixels, maps, explain, **options) as found:
        yield found


def run(metric: str, maps: dict[str, Tensor], channels: int = 3) -> Measured:
    with small(maps, channels) as context:
        return METRICS[metric].measure(context)


def same(one: Measured, other: Measured) -> bool:
    arrays = one.arrays.keys() == other.arrays.keys() and all(
        np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items()
    )
    return arrays and one.measurements == other.measurements and one.skipped == other.skipped


def test_the_comparison_can_fail() -> None:
    one = run("location", MAPS)
    assert same(one, run("location", MAPS))
    assert not same(one, run("location", FLAT))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("channels", [1, 3])
def test_it_measures_something_the_same_each_time(metric: str, channels: int) -> None:
    first = run(metric, MAPS, channels)
    assert first.measurements
    assert same(first, run(metric, MAPS, channels))


@pytest.mark.parametrize("metric", METRICS)
def test_it_leaves_its_inputs_as_they_were(metric: str) -> None:
    with small(FLAT) as context:
        before = [context.pixels.clone(), *(values.clone() for values in FLAT.values())]
        METRICS[metric].measure(context)
        after = [context.pixels, *FLAT.values()]
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("metric", METRICS)
def test_values_lie_in_their_range_and_arrays_are_finite(metric: str) -> None:
    result = run(metric, MAPS)
    for measurement in result.measurements:
        low, high = measurement.range
        assert measurement.value is not None or measurement.note
        if measurement.value is not None:
            assert low is None or measurement.value >= low
            assert high is None or measurement.value <= high
    assert all(np.isfinite(array).all() for array in result.arrays.values())
    named = {m.array for m in result.measurements if m.array}
    assert named <= set(result.arrays)


@pytest.mark.parametrize("metric", sorted(NEEDING_MAPS))
def test_a_constant_map_has_a_number_or_a_note(metric: str) -> None:
    found = [m for m in run(metric, FLAT).measurements if "flat" in m.subject]
    assert found
    assert all(m.value is not None or m.note for m in found)


@pytest.mark.parametrize("metric", METRICS)
def test_without_maps_it_does_not_apply_or_does_not_mind(metric: str) -> None:
    with small({}) as context:
        if metric in NEEDING_MAPS:
            with pytest.raises(NotApplicable):
                METRICS[metric].measure(context)
        else:
            assert METRICS[metric].measure(context).measurements


@pytest.mark.parametrize("metric", METRICS)
def test_its_card_is_complete(metric: str) -> None:
    card = METRICS[metric].card
    assert card.key == metric
    for words in (card.title, card.category, card.definition, card.paper, card.needs):
        assert words
    assert card.seeding
    assert card.limits.endswith(".")
    assert card.definition.endswith(".")


def test_every_metric_is_asked_for_by_default() -> None:
    assert Config().metrics.split(",") == list(METRICS)
