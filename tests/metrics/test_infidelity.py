from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum.metrics import infidelity
from metric_toys import Constant, Weighted, context_of
from torch import Tensor, nn

from reportgen.config import Config
from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Measured
from reportgen.metrics.infidelity import (
    Fit,
    covered,
    fit,
    random_squares,
    removals,
    square_sums,
)
from reportgen.records import Measurement

PIXELS = torch.rand(1, 16, 20, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.rand(16, 20, generator=torch.Generator().manual_seed(1)) - 0.4
TRUE = WEIGHTS * PIXELS[0]
KEYS = ("infidelity", "infidelity_share")

# Scores are the outputs themselves under this head, and linear in the pixels.
LINEAR = "multilabel"

Fitting = Callable[[np.ndarray, np.ndarray], Fit]


def noise(seed: int) -> Tensor:
    return torch.rand(16, 20, generator=torch.Generator().manual_seed(seed))


def measured(network: nn.Module, pixels: Tensor, maps: dict[str, Tensor], **options) -> Measured:
    with context_of(network, pixels, maps, **{"head": LINEAR, **options}) as context:
        return METRICS["infidelity"].measure(context)


def found(result: Measured, metric: str, subject: str = "map") -> Measurement:
    return next(m for m in result.measurements if (m.metric, m.subject) == (metric, subject))


def values_of(result: Measured, subject: str = "map") -> list[float | None]:
    return [found(result, key, subject).value for key in KEYS]


def sampled(maps: Tensor, count: int = 200) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Return sums and falls of LIN, and the removed pixels (count, 1, H, W) as numbers."""
    options = {"head": LINEAR, "fidelity_samples": count}
    with context_of(Weighted(WEIGHTS), PIXELS, {"map": TRUE}, **options) as context:
        sample = context.once(removals)
    gone = covered(torch.from_numpy(sample.squares), (16, 20))[:, None].float()
    return square_sums(maps, sample.squares), sample.falls, gone


def test_the_contributions_themselves_predict_every_change() -> None:
    maps = {"map": TRUE, "half": TRUE / 2, "zeros": torch.zeros(16, 20), "anti": -TRUE}
    result = measured(Weighted(WEIGHTS), PIXELS, maps)
    _, falls, _ = sampled(TRUE[None])
    moved = float(np.mean(falls**2))
    assert values_of(result) == pytest.approx([0, 0], abs=1e-9)
    assert values_of(result, "half") == pytest.approx([0, 0], abs=1e-9)
    assert values_of(result, "zeros") == pytest.approx([moved, 1])
    assert values_of(result, "anti") == pytest.approx([moved, 1])
    factors = {name: found(result, KEYS[0], name).detail["factor"] for name in maps}
    assert factors == pytest.approx({"map": 1, "half": 2, "zeros": 0, "anti": 0}, abs=1e-5)
    # Without the factor the closed forms of 0, a quarter, all, and four times the changes.
    raw = {name: found(result, KEYS[0], name).detail["error without the factor"] for name in maps}
    expected = {"map": 0, "half": moved / 4, "zeros": moved, "anti": 4 * moved}
    assert raw == pytest.approx(expected, rel=1e-5, abs=1e-9)


def by_captum(maps: Tensor, removed: Tensor, normalised: bool) -> list[float]:
    """Return captum's infidelity of each map under the same removals, which leave black behind."""
    network = Weighted(WEIGHTS)

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        return removed, inputs * (1 - removed)

    return [
        float(
            infidelity(
                network,
                perturb,
                PIXELS[None],
                values[None, None],
                target=0,
                n_perturb_samples=len(removed),
                max_examples_per_batch=len(removed),
                normalize=normalised,
            )
        )
        for values in maps
    ]


MAPS = torch.stack([TRUE, TRUE / 2, TRUE + 0.2 * noise(2), noise(3).mul(0.1) + TRUE.abs()])


def assert_like_captum(fitting: Fitting) -> None:
    sums, falls, removed = sampled(MAPS)
    result = fitting(sums, falls)
    assert (result.factor > 0).all()
    plain, scaled = (by_captum(MAPS, removed, normalised) for normalised in (False, True))
    assert result.unscaled == pytest.approx(plain, rel=1e-3, abs=1e-6)
    assert result.error == pytest.approx(scaled, rel=1e-3, abs=1e-6)


def test_it_is_what_captum_measures_on_the_same_removals() -> None:
    assert_like_captum(fit)


def halved(sums: np.ndarray, falls: np.ndarray) -> Fit:
    return fit(sums, falls / 2)


def unsigned(sums: np.ndarray, falls: np.ndarray) -> Fit:
    return fit(np.abs(sums), falls)


def unfitted(sums: np.ndarray, falls: np.ndarray) -> Fit:
    right = fit(sums, falls)
    return Fit(right.factor, right.unscaled, right.share, right.unscaled)


@pytest.mark.parametrize("wrong", [halved, unsigned, unfitted])
def test_another_error_would_be_noticed(wrong: Fitting) -> None:
    with pytest.raises(AssertionError):
        assert_like_captum(wrong)


def test_captums_normalisation_forgives_the_wrong_sign_and_ours_does_not() -> None:
    sums, falls, removed = sampled(-TRUE[None])
    assert by_captum(-TRUE[None], removed, True) == pytest.approx([0], abs=1e-6)
    assert fit(sums, falls).share == pytest.approx([1])


def check_least_squares(fitting: Fitting) -> None:
    sums, falls, _ = sampled(MAPS)
    result = fitting(sums, falls)
    for column in range(len(MAPS)):
        (factor,), (residue,), *_ = np.linalg.lstsq(sums[:, [column]], falls, rcond=None)
        assert result.factor[column] == pytest.approx(factor)
        assert result.error[column] == pytest.approx(residue / len(falls), abs=1e-12)


def test_the_factor_is_that_of_least_squares() -> None:
    check_least_squares(fit)
    for wrong in (halved, unfitted):
        with pytest.raises(AssertionError):
            check_least_squares(wrong)


def test_weights_count_squares_as_often() -> None:
    sums, falls, _ = sampled(MAPS, 20)
    counts = np.array([[2, 0, 1, *[1] * 17], [1] * 20])
    drawn = [0, 0, *range(2, 20)]
    weighted, plain = fit(sums, falls, counts), fit(sums, falls)
    assert weighted.share[0] == pytest.approx(fit(sums[drawn], falls[drawn]).share)
    assert weighted.share[1] == pytest.approx(plain.share)
    assert weighted.error[1] == pytest.approx(plain.error)


def test_scale_changes_nothing_and_an_offset_something() -> None:
    maps = {"map": MAPS[2], "scaled": 7 * MAPS[2], "moved": MAPS[2] + 1}
    result = measured(Weighted(WEIGHTS), PIXELS, maps)
    assert values_of(result, "scaled") == pytest.approx(values_of(result), rel=1e-4)
    assert values_of(result, "moved") != pytest.approx(values_of(result), rel=1e-2)


def test_the_perfect_map_is_placed_first() -> None:
    result = measured(Weighted(WEIGHTS), PIXELS, {"map": TRUE, "anti": -TRUE})
    assert [found(result, key).yardstick.percentile for key in KEYS] == [1, 1]
    assert [found(result, key, "anti").yardstick.p for key in KEYS] == [1, 1]
    assert found(result, KEYS[1], "smooth-random").yardstick is None


def test_intervals_are_those_of_squares_drawn_again() -> None:
    result = measured(Weighted(WEIGHTS), PIXELS, {"map": noise(4)}, fidelity_samples=100)
    sums, falls, _ = sampled(noise(4)[None], 100)
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(2000):
        drawn = generator.integers(100, size=100)
        shares.append(float(fit(sums[drawn], falls[drawn]).share[0]))
    row = found(result, KEYS[1])
    # Percentiles of 1000 and 2000 resamples differ by chance.
    assert row.interval == pytest.approx(tuple(np.quantile(shares, (0.025, 0.975))), abs=0.03)
    assert row.interval_kind.startswith("Monte-Carlo 95%")
    assert row.interval[0] <= row.value <= row.interval[1]


def test_squares_lie_inside_and_have_all_sides() -> None:
    squares = random_squares((32, 48), 2000, 0)
    top, left, side = squares.T
    assert (int(side.min()), int(side.max())) == (2, 16)
    counts = side.bincount()[2:].double()
    assert float((counts - 2000 / 15).abs().max()) < 4 * (2000 / 15) ** 0.5
    assert (int(top.min()), int((top + side).max())) == (0, 32)
    assert (int(left.min()), int((left + side).max())) == (0, 48)
    assert torch.equal(squares, random_squares((32, 48), 2000, 0))
    assert not torch.equal(squares, random_squares((32, 48), 2000, 1))
    assert random_squares((1, 5), 10, 0)[:, 2].tolist() == [1] * 10


def test_square_sums_are_sums_over_the_covered_pixels() -> None:
    squares = random_squares((16, 20), 50, 0)
    expected = torch.einsum(
        "rhw,mhw->rm", covered(squares, (16, 20)).double(), MAPS.double()
    ).numpy()
    assert square_sums(MAPS, squares.numpy()) == pytest.approx(expected, abs=1e-9)
    assert covered(squares, (16, 20)).sum((1, 2)).tolist() == squares[:, 2].square().tolist()


def test_the_score_is_the_heads_and_falls_are_what_a_loop_gives() -> None:
    result = measured(Weighted(WEIGHTS), PIXELS, {"map": TRUE})
    assert found(result, KEYS[0]).settings["score"] == "logit"
    _, falls, removed = sampled(TRUE[None], 20)
    expected = [float((TRUE.double() * gone[0]).sum()) for gone in removed]
    assert falls == pytest.approx(expected, abs=1e-5)
    assert -falls != pytest.approx(expected, abs=1e-5)


def test_passes_are_the_squares_whatever_the_maps() -> None:
    maps = {str(seed): noise(seed) for seed in range(6)}
    with context_of(Weighted(WEIGHTS), PIXELS, maps, head=LINEAR) as context:
        METRICS["infidelity"].measure(context)
        assert context.classifier.evaluator.counter.forward == Config().fidelity_samples


def test_a_constant_model_leaves_nothing_to_predict() -> None:
    result = measured(Constant(), PIXELS, {"map": TRUE})
    assert values_of(result) == [None, None]
    assert found(result, KEYS[0]).note.startswith("the score is the same")
    assert found(result, KEYS[0]).interval is None


def test_without_maps_no_pass_is_spent() -> None:
    with context_of(Constant(), PIXELS, {}) as context:
        with pytest.raises(NotApplicable, match="no map"):
            METRICS["infidelity"].measure(context)
        assert context.classifier.evaluator.counter.forward == 0
