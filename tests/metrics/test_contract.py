"""What every entry of METRICS promises."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from metric_toys import Weighted, context_of, descending
from torch import Tensor

from reportgen.config import PROFILES, Config, split_names
from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Context, Measured
from reportgen.records import Measurement

OF_THE_PREDICTION = {"rotation", "noise"}
NEEDING_MAPS = sorted(set(METRICS) - OF_THE_PREDICTION)
HEIGHT, WIDTH = 10, 14
SMALL: Mapping[str, Any] = {
    "curve_steps": 4,
    "control_draws": 2,
    "rotation_step": 30.0,
    "fidelity_samples": 40,
    "stability_seeds": 2,
    "sanity_stages": 2,
    "road_shares": "0.3,0.6",
}

every_metric = pytest.mark.parametrize("metric", METRICS)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
    return pixels.mean(dim=1) * (0 if method == "flat" else 1)


MAPS = {"a": noise(1, HEIGHT, WIDTH), "lime": noise(2, HEIGHT, WIDTH) - 0.5}
FLAT = {**MAPS, "flat": torch.zeros(HEIGHT, WIDTH)}


@contextmanager
def small(
    maps: dict[str, Tensor], channels: int = 3, **options: Any
) -> Iterator[tuple[Context, Weighted]]:
    network = Weighted(descending(HEIGHT, WIDTH))
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[2:6, 3:9] = True
    pixels = noise(0, channels, HEIGHT, WIDTH)
    with context_of(network, pixels, maps, explain, mask=mask, **{**SMALL, **options}) as found:
        yield found, network


def run(metric: str, maps: dict[str, Tensor], channels: int = 3, **options: Any) -> Measured:
    with small(maps, channels, **options) as (context, _):
        return METRICS[metric].measure(context)


def same(one: Measured, other: Measured) -> bool:
    arrays = one.arrays.keys() == other.arrays.keys() and all(
        np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items()
    )
    return arrays and one.measurements == other.measurements and one.skipped == other.skipped


def near(one: Measurement, other: Measurement) -> bool:
    if (one.metric, one.subject) != (other.metric, other.subject):
        return False
    if one.value is None or other.value is None:
        return one.value is other.value
    return abs(one.value - other.value) <= 1e-5 * max(1.0, abs(other.value))


def test_the_comparisons_can_fail() -> None:
    one = run("location", MAPS)
    assert same(one, run("location", MAPS))
    assert not same(one, run("location", FLAT))
    first = one.measurements[0]
    moved = first.model_copy(update={"value": (first.value or 0) + 1e-3})
    assert near(first, first)
    assert not near(first, moved)
    assert not near(first, first.model_copy(update={"value": None}))


@every_metric
@pytest.mark.parametrize("channels", [1, 3])
def test_it_measures_something_the_same_each_time(metric: str, channels: int) -> None:
    first = run(metric, MAPS, channels)
    assert first.measurements
    torch.rand(1)
    np.random.random()
    assert same(first, run(metric, MAPS, channels))


@every_metric
def test_the_batch_size_changes_nothing(metric: str) -> None:
    together, alone = run(metric, MAPS), run(metric, MAPS, batch_size=1)
    pairs = zip(together.measurements, alone.measurements, strict=True)
    assert all(near(one, other) for one, other in pairs)


@every_metric
def test_it_leaves_inputs_model_and_randomness_as_they_were(metric: str) -> None:
    with small(FLAT) as (context, network):
        before = [context.pixels.clone(), *(values.clone() for values in FLAT.values())]
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        randomness = random_states()
        METRICS[metric].measure(context)
        after = [context.pixels, *FLAT.values()]
        assert all(map(torch.equal, before, after))
        assert all(torch.equal(tensor, state[n]) for n, tensor in network.state_dict().items())
        assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
        assert random_states() == randomness


def random_states() -> list[object]:
    name, keys, *rest = np.random.get_state()
    return [random.getstate(), torch.get_rng_state().tolist(), name, keys.tolist(), rest]


@every_metric
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


@every_metric
def test_each_number_is_one_of_its_cards_and_read_as_there(metric: str) -> None:
    quantities = {quantity.key: quantity for quantity in METRICS[metric].card.quantities}
    found = run(metric, MAPS).measurements
    assert {m.metric for m in found} <= set(quantities)
    for measurement in found:
        quantity = quantities[measurement.metric]
        assert measurement.direction == quantity.direction
        assert measurement.range == quantity.range


@every_metric
def test_each_number_of_a_map_is_placed_among_control_maps_or_the_card_says_why_not(
    metric: str,
) -> None:
    card = METRICS[metric].card
    assert card.controls
    found = [m for m in run(metric, MAPS).measurements if m.subject in MAPS]
    if card.controls.startswith("none"):
        assert not any(m.yardstick for m in found)
        return
    placed = [m.yardstick for m in found if m.value is not None]
    assert all(yardstick is not None and yardstick.maps >= 20 for yardstick in placed)


@pytest.mark.parametrize("metric", NEEDING_MAPS)
def test_a_constant_map_has_a_number_or_a_note(metric: str) -> None:
    result = run(metric, FLAT)
    found = [m for m in result.measurements if "flat" in m.subject]
    left_out = [skip for skip in result.skipped if skip.subject == "flat"]
    sampled_only = metric == "sampling-stability"
    assert found or left_out or sampled_only
    assert all(m.value is not None or m.note for m in found)
    assert all(skip.reason.endswith(".") or " " in skip.reason for skip in left_out)


@every_metric
def test_without_maps_it_does_not_apply_or_does_not_mind(metric: str) -> None:
    with small({}) as (context, _):
        if metric in NEEDING_MAPS:
            with pytest.raises(NotApplicable):
                METRICS[metric].measure(context)
        else:
            assert METRICS[metric].measure(context).measurements


@every_metric
def test_its_card_is_complete(metric: str) -> None:
    card = METRICS[metric].card
    assert card.key == metric
    for words in (card.title, card.category, card.definition, card.paper, card.needs):
        assert words
    assert card.seeding
    assert card.quantities
    assert card.limits.endswith(".")
    assert card.definition.endswith(".")


def test_no_two_metrics_give_the_same_number() -> None:
    keys = [quantity.key for metric in METRICS.values() for quantity in metric.card.quantities]
    assert len(keys) == len(set(keys))


def test_every_metric_asked_for_by_a_profile_exists() -> None:
    asked = [Config().metrics, *(str(each.get("metrics", "all")) for each in PROFILES.values())]
    for names in asked:
        assert names == "all" or set(split_names(names)) <= set(METRICS)
