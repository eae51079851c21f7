"""The statistics of a survey, against closed forms, slow rewritings and scipy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from reportgen.surveys.statistics import holm, mean_intervals, resampled_means, signed_rank

Numbers = NDArray[np.float64]
Correct = Callable[[Sequence[float]], Sequence[float]]
Interval = Callable[[Numbers], Numbers]
MADE = (10_000, 0.95)


def sample(count: int, shift: float = 0.0, seed: int = 0) -> Numbers:
    return np.random.default_rng(seed).gamma(2.0, 1.0, count) - 2 + shift


class TestHolm:
    @staticmethod
    def slowly(ps: Sequence[float]) -> list[float]:
        """Adjust as Holm (1979) says: to the largest (m - j + 1) p_(j) up to p itself."""
        ordered = sorted(ps)
        steps = [min(1.0, (len(ps) - j) * p) for j, p in enumerate(ordered)]
        return [max(steps[: ordered.index(p) + ordered.count(p)]) for p in ps]

    @staticmethod
    def check(correct: Correct) -> None:
        for seed in range(20):
            ps = np.random.default_rng(seed).uniform(0, 0.3, seed + 1).round(2).tolist()
            np.testing.assert_allclose(correct(ps), TestHolm.slowly(ps), rtol=1e-12)

    def test_as_in_the_paper(self) -> None:
        self.check(holm)

    def test_by_hand(self) -> None:
        assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
        assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
        assert holm([]) == []

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda ps: list(ps),
            lambda ps: [min(1.0, p * len(ps)) for p in ps],
            lambda ps: stats.false_discovery_control(ps),
        ],
        ids=["none", "Bonferroni", "Benjamini-Hochberg"],
    )
    def test_another_correction_is_seen(self, wrong: Correct) -> None:
        with pytest.raises(AssertionError):
            self.check(wrong)


class TestSignedRank:
    def test_all_of_one_sign_by_hand(self) -> None:
        # All 2^n signs are equally likely; two of them are as extreme as all positive.
        for count in (5, 6, 9):
            assert signed_rank(np.arange(1.0, count + 1)) == pytest.approx(2 / 2**count)

    def test_six_are_the_fewest_that_can_reach_five_percent(self) -> None:
        five, six = (signed_rank(np.arange(1.0, count + 1)) for count in (5, 6))
        assert five is not None and six is not None
        assert six <= 0.05 < five

    def test_slowly(self) -> None:
        differences = sample(7, 0.5)
        ranks = stats.rankdata(np.abs(differences))
        found = abs(float((ranks * np.sign(differences)).sum()))
        signs = np.array(np.meshgrid(*[[-1, 1]] * 7)).reshape(7, -1)
        as_far = np.mean(np.abs(ranks @ signs) >= found - 1e-9)
        assert signed_rank(differences) == pytest.approx(as_far)

    def test_nothing_differs(self) -> None:
        assert signed_rank(np.zeros(8)) is None

    def test_ties_and_zeros_raise_no_warning(self) -> None:
        p = signed_rank(np.array([0.0, 0.1, 0.1, 0.1, 0.2, 0.2, -0.1, 0.3] * 4))
        assert p is not None and 0 < p < 0.05


def check_interval(interval: Interval) -> None:
    """Check against scipy's percentile bootstrap, which draws other samples."""
    for seed, count in ((1, 8), (2, 30)):
        values = sample(count, 0.3, seed)
        other = stats.bootstrap(
            (values,), np.mean, n_resamples=20_000, method="percentile", rng=seed
        ).confidence_interval
        # Both limits are quantiles of 10 000 means: they move by a few hundredths of their sd.
        tolerance = 0.08 * values.std() / np.sqrt(count)
        np.testing.assert_allclose(
            interval(values[None])[0], [other.low, other.high], atol=tolerance
        )


class TestBootstrap:
    def test_the_interval_is_scipys(self) -> None:
        check_interval(lambda values: mean_intervals(values, MADE, 0))

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda values: mean_intervals(values, (10_000, 0.9), 0),
            lambda values: mean_intervals(-values, MADE, 0),
            lambda values: values.mean() + np.array([[-2, 2]]) * values.std(),
        ],
        ids=["another confidence", "another sign", "spread of the values"],
    )
    def test_another_interval_is_seen(self, wrong: Interval) -> None:
        with pytest.raises(AssertionError):
            check_interval(wrong)

    def test_equal_values_have_no_spread(self) -> None:
        found = mean_intervals(np.full((1, 9), 0.25), MADE, 0)
        np.testing.assert_allclose(found, [[0.25, 0.25]])

    def test_samples_are_as_many_as_asked_and_draw_with_replacement(self) -> None:
        means = resampled_means(np.eye(4), 500, 0)
        assert means.shape == (4, 500)
        np.testing.assert_allclose(means.sum(axis=0), 1)
        # Of four draws from four, one column appears k times with the binomial's probability.
        shares = [np.mean(means[0] * 4 == k) for k in range(5)]
        np.testing.assert_allclose(shares, stats.binom.pmf(range(5), 4, 0.25), atol=0.07)

    def test_rows_do_not_change_one_another(self) -> None:
        values = np.stack([sample(9, seed=seed) for seed in range(150)])
        together = mean_intervals(values, (2000, 0.95), 3)
        alone = mean_intervals(values[120:121], (2000, 0.95), 3)
        np.testing.assert_allclose(together[120:121], alone, rtol=1e-12)

    def test_the_seed_decides(self) -> None:
        values = sample(9)[None]
        first, again, other = (mean_intervals(values, (500, 0.95), seed) for seed in (0, 0, 1))
        assert (first == again).all()
        assert (first != other).any()

    def test_nothing_to_do(self) -> None:
        assert mean_intervals(np.empty((0, 5)), MADE, 0).shape == (0, 2)
