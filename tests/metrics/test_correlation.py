from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from metric_toys import Constant, Weighted, context_of, descending
from scipy.stats import pearsonr
from torch import Tensor, nn

from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Measured
from reportgen.metrics.correlation import (
    QUANTITIES,
    choices,
    correlations,
    fisher_interval,
    part_sums,
    patches,
    subset_samples,
)
from reportgen.perturbation.streams import stream
from reportgen.records import Measurement

PIXELS = torch.rand(1, 16, 20, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.rand(16, 20, generator=torch.Generator().manual_seed(1)) / 320
TRUE = WEIGHTS * PIXELS[0]
KEYS = [quantity.key for quantity in QUANTITIES.values()]

both = pytest.mark.parametrize("key", KEYS)


def noise(seed: int) -> Tensor:
    return torch.rand(16, 20, generator=torch.Generator().manual_seed(seed))


def measured(network: nn.Module, pixels: Tensor, maps: dict[str, Tensor], **options) -> Measured:
    with context_of(network, pixels, maps, **options) as context:
        return METRICS["correlation"].measure(context)


def found(result: Measured, metric: str, subject: str = "map") -> Measurement:
    return next(m for m in result.measurements if (m.metric, m.subject) == (metric, subject))


@both
def test_the_contributions_themselves_correlate_perfectly(key: str) -> None:
    maps = {"map": TRUE, "anti": -TRUE, "scaled": 5 * TRUE}
    result = measured(Weighted(WEIGHTS), PIXELS, maps)
    assert found(result, key).value == pytest.approx(1, abs=1e-6)
    assert found(result, key, "scaled").value == pytest.approx(1, abs=1e-6)
    assert found(result, key, "anti").value == pytest.approx(-1, abs=1e-6)
    assert found(result, key).interval == pytest.approx((1, 1), abs=1e-6)
    assert found(result, key).yardstick.percentile == 1
    assert found(result, key, "anti").yardstick.percentile == 0


def test_a_map_that_knows_nothing_correlates_by_chance_alone() -> None:
    # In cells of one pixel each; a positive map sums up more over larger parts.
    maps = {str(seed): noise(seed)[:, :16] for seed in range(10, 110)}
    square, network = PIXELS[:, :, :16], Weighted(WEIGHTS[:, :16])
    result = measured(network, square, maps, fidelity_samples=205)
    found_values = [found(result, KEYS[0], subject).value for subject in maps]
    # Two noisy maps of 256 parts have a correlation of about 1 / sqrt(256) themselves, which 205
    # choices of five sizes find within 1 / sqrt(200); a hundred maps tell the spread within 7%.
    spread = math.sqrt(1 / 256 + 1 / 200)
    assert np.std(found_values) == pytest.approx(spread, rel=0.21)
    assert abs(np.mean(found_values)) < 3 * spread / math.sqrt(len(maps))


def assert_within_sizes(correlate: Callable[..., np.ndarray]) -> None:
    """Hold against scipy, size by size, where one size makes the sums and the falls both large."""
    generator = np.random.default_rng(0)
    sizes = np.repeat([2, 9], 30)
    falls = generator.normal(size=60) + 10 * (sizes == 9)
    sums = generator.normal(size=(60, 2)) + 10 * (sizes == 9)[:, None]
    sums[:, 1] += falls
    for column in range(2):
        centred = [
            np.concatenate([part - part.mean() for part in (series[:30], series[30:])])
            for series in (sums[:, column], falls)
        ]
        expected = pearsonr(*centred).statistic
        assert correlate(sums, falls, sizes)[column] == pytest.approx(expected)


def test_it_is_pearsons_correlation_within_equal_sizes() -> None:
    assert_within_sizes(correlations)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda sums, falls, sizes: correlations(sums, falls, np.ones_like(sizes)),
        lambda sums, falls, sizes: correlations(sums, -falls, sizes),
        lambda sums, falls, sizes: np.array(
            [pearsonr(np.argsort(np.argsort(s)), falls).statistic for s in sums.T]
        ),
    ],
    ids=["over all sizes", "wrong sign", "of ranks"],
)
def test_another_correlation_would_be_noticed(wrong: Callable[..., np.ndarray]) -> None:
    with pytest.raises(AssertionError):
        assert_within_sizes(wrong)


def test_a_positive_map_gains_nothing_from_larger_choices() -> None:
    # Sums over more parts are larger, and so are the falls: over all sizes this alone is 0.9.
    square, values = PIXELS[:, :, :16], 1 + noise(7)[None, :, :16]
    with context_of(Weighted(WEIGHTS[:, :16]), square, {"map": values[0]}) as context:
        samples = context.once(subset_samples, "patches")
    sums = samples.removed.astype(float) @ part_sums(values, samples.labels).T
    mixed = correlations(sums, samples.falls, np.ones_like(samples.sizes))
    apart = correlations(sums, samples.falls, samples.sizes)
    assert mixed[0] > 0.9
    assert abs(apart[0]) < 0.3


@both
def test_scale_and_offset_of_a_map_change_nothing_where_parts_are_equal(key: str) -> None:
    # Squares of 16 x 16 in equal cells, so that an offset adds the same to every part.
    square, weights, values = PIXELS[:, :, :16], WEIGHTS[:, :16], noise(3)[:, :16]
    maps = {"map": values, "moved": 3 * values + 2}
    result = measured(Weighted(weights), square, maps)
    value = found(result, key).value
    assert found(result, key, "moved").value == pytest.approx(value, abs=1e-6)


def check_falls(weights: Tensor) -> None:
    with context_of(Weighted(WEIGHTS), PIXELS, {"map": TRUE}) as context:
        for parts in QUANTITIES:
            samples = context.once(subset_samples, parts)
            for removed, fall in zip(samples.removed[:10], samples.falls[:10], strict=True):
                gone = torch.from_numpy(removed)[samples.labels]
                expected = float((weights * PIXELS[0].double() * gone).sum())
                assert fall == pytest.approx(expected, abs=1e-6)


def test_falls_are_what_a_loop_over_choices_gives() -> None:
    check_falls(WEIGHTS.double())
    for wrong in (-WEIGHTS.double(), WEIGHTS.double().flip(0)):
        with pytest.raises(AssertionError):
            check_falls(wrong)


def test_choices_are_of_ten_to_fifty_percent_by_turns() -> None:
    found_choices = choices(40, 50, stream(0, "test"))
    sizes = found_choices.sum(dim=1)
    assert sizes.tolist() == [4, 8, 12, 16, 20] * 10
    assert len(torch.unique(found_choices, dim=0)) == 50
    shares = found_choices.double().mean(dim=0)
    assert float((shares - 0.3).abs().max()) < 0.3
    assert choices(3, 5, stream(0, "test")).sum(dim=1).tolist() == [1, 1, 1, 1, 2]


def test_patches_cover_the_picture_evenly() -> None:
    cells = patches(torch.zeros(3, 224, 320))
    assert cells.unique().tolist() == list(range(256))
    assert cells.flatten().bincount().unique().tolist() == [14 * 20]
    assert patches(torch.zeros(1, 10, 14)).flatten().tolist() == list(range(140))


def test_part_sums_are_sums_over_parts() -> None:
    labels = torch.tensor([[0, 0, 2], [1, 2, 2]])
    maps = torch.stack([torch.arange(6.0).view(2, 3), torch.ones(2, 3)])
    assert part_sums(maps, labels).tolist() == [[1, 3, 11], [2, 1, 3]]


def test_fishers_interval_is_scipys() -> None:
    generator = np.random.default_rng(1)
    one = generator.normal(size=50)
    other = one + generator.normal(size=50)
    result = pearsonr(one, other)
    low, high = result.confidence_interval(0.95)
    assert fisher_interval(result.statistic, 50) == pytest.approx((low, high), abs=1e-6)
    with pytest.raises(AssertionError):
        assert fisher_interval(result.statistic, 47) == pytest.approx((low, high), abs=1e-6)
    assert fisher_interval(-1, 10) == pytest.approx((-1, -1))


@both
def test_intervals_are_named_and_hold_the_value(key: str) -> None:
    row = found(measured(Weighted(WEIGHTS), PIXELS, {"map": noise(5)}), key)
    low, high = row.interval
    assert low < row.value < high
    assert row.interval_kind == "Monte-Carlo 95% over 200 choices, Fisher's z"
    random = found(measured(Weighted(WEIGHTS), PIXELS, {"map": noise(5)}), key, "random")
    assert random.interval_kind == "lowest and highest of 3 draws"


@both
def test_a_map_of_zeros_says_nothing(key: str) -> None:
    row = found(measured(Weighted(WEIGHTS), PIXELS, {"map": torch.zeros(16, 20)}), key)
    assert (row.value, row.interval, row.yardstick) == (None, None, None)
    assert row.note == "the sum of the map is the same over every choice of as many parts"


@both
def test_a_constant_model_leaves_nothing_to_correlate(key: str) -> None:
    row = found(measured(Constant(), PIXELS, {"map": TRUE}), key)
    assert row.value is None
    assert row.note == "the probability is the same after every choice of as many parts"


def test_passes_are_the_choices_of_both_kinds_whatever_the_maps() -> None:
    maps = {str(seed): noise(seed) for seed in range(6)}
    with context_of(Weighted(WEIGHTS), PIXELS, maps, fidelity_samples=30) as context:
        METRICS["correlation"].measure(context)
        assert context.classifier.evaluator.counter.forward == 60


def test_the_seed_decides_which_parts_are_chosen() -> None:
    maps = {"map": noise(5)}
    one, same, other = (
        found(measured(Weighted(WEIGHTS), PIXELS, maps, seed=seed), KEYS[0]).value
        for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other


def test_without_maps_no_pass_is_spent() -> None:
    with context_of(Weighted(descending(16, 20)), PIXELS, {}) as context:
        with pytest.raises(NotApplicable, match="no map"):
            METRICS["correlation"].measure(context)
        assert context.classifier.evaluator.counter.forward == 0
