from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from metric_toys import Weighted, context_of, descending
from scipy.stats import spearmanr
from skimage.measure import regionprops
from sklearn.metrics import jaccard_score
from torch import Tensor
from toys import request

from reportgen.attribution import METHODS
from reportgen.attribution.gradcam import CARD
from reportgen.config import Config
from reportgen.errors import NotApplicable
from reportgen.facts import STABLE
from reportgen.metrics import METRICS, Context, Measured
from reportgen.metrics.sampling import (
    expected_jaccard,
    likeness,
    pairs,
    seeds,
    segment_means,
)
from reportgen.records import Measurement

MEASURE = METRICS["sampling-stability"].measure
SPEARMAN, TOP5, TOP10 = (q.key for q in METRICS["sampling-stability"].card.quantities)
HEIGHT, WIDTH, REPEATS = 12, 16, 5
PIXELS = torch.rand(1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
ON_SEGMENTS = CARD.model_copy(update={"granularity": "segments"})
ON_PIXELS = CARD.model_copy(update={"granularity": "pixels"})
SIGNAL = torch.linspace(0, 1, HEIGHT * WIDTH).view(HEIGHT, WIDTH)

Explain = Callable[[str, Tensor, Config], Tensor]


def drawn(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    return torch.rand(height, width, generator=torch.Generator().manual_seed(seed))


def steady(method: str, pixels: Tensor, config: Config) -> Tensor:
    return SIGNAL[None]


def knows_nothing(method: str, pixels: Tensor, config: Config) -> Tensor:
    return drawn(config.seed)[None]


def settles(method: str, pixels: Tensor, config: Config) -> Tensor:
    """A Monte-Carlo mean: its error falls with the root of the count."""
    error = drawn(config.seed + config.lime_samples) - 0.5
    return (SIGNAL + 4 * error / config.lime_samples**0.5)[None]


def measured(explain: Explain, methods: tuple[str, ...] = ("lime",), **options: Any) -> Measured:
    chosen = {"stability_seeds": REPEATS, "lime_samples": 10, **options}
    config = Config(**chosen)
    maps = {method: explain(method, PIXELS[None], config)[0] for method in methods}
    cards = {method: ON_SEGMENTS if method == "lime" else ON_PIXELS for method in methods}
    network = Weighted(descending(HEIGHT, WIDTH))
    with context_of(network, PIXELS, maps, explain, cards=cards, **chosen) as context:
        return MEASURE(context)


def found(result: Measured, metric: str, subject: str = "lime") -> Measurement:
    (one,) = (m for m in result.measurements if (m.metric, m.subject) == (metric, subject))
    return one


def sixteen() -> Tensor:
    """Return the segments of the context: 4 x 4 blocks."""
    rows, columns = torch.arange(HEIGHT) * 4 // HEIGHT, torch.arange(WIDTH) * 4 // WIDTH
    return rows[:, None] * 4 + columns


def test_a_map_that_does_not_depend_on_the_seed_is_stable() -> None:
    result = measured(steady)
    for key in (SPEARMAN, TOP5, TOP10):
        one = found(result, key)
        assert one.value == pytest.approx(1)
        assert one.interval == pytest.approx((1, 1))
        assert one.interval_kind == "lowest and highest of 10 pairs of seeds"
    detail = found(result, TOP5).detail
    assert (detail["verdict"], detail["samples that settle it"]) == ("stable", 10)
    assert "search" not in detail
    assert result.arrays["seed_sd.lime"].tolist() == [0] * 16


def test_a_map_of_nothing_but_the_seed_is_unstable_and_is_not_settled() -> None:
    result = measured(knows_nothing)
    top = found(result, TOP5)
    assert top.value < 0.5
    assert top.detail["verdict"] == "unstable"
    assert top.detail["samples that settle it"] is None
    assert top.detail["not settled at"] == 80
    assert list(top.detail["search"]) == ["20", "40", "80"]
    assert "verdict" not in found(result, TOP10).detail
    assert (result.arrays["seed_sd.lime"] > 0).all()


def overlap(count: int, used: list[int]) -> float:
    """Return the mean Jaccard index of the top five blocks, with Python's sets."""
    tops = []
    for seed in used:
        config = Config(seed=seed, lime_samples=count)
        blocks = settles("lime", PIXELS, config)[0].view(4, 3, 4, 4).mean(dim=(1, 3)).flatten()
        tops.append(set(blocks.argsort(descending=True)[:5].tolist()))
    return float(np.mean([len(a & b) / len(a | b) for a, b in combinations(tops, 2)]))


def test_the_count_that_settles_it_is_the_first_doubling_at_which_few_seeds_agree() -> None:
    result = measured(settles, lime_samples=100)
    top = found(result, TOP5)
    used = seeds(0, REPEATS)
    assert top.value == pytest.approx(overlap(100, used))
    assert top.value < STABLE
    search = {int(count): value for count, value in top.detail["search"].items()}
    assert search == pytest.approx({count: overlap(count, used[:3]) for count in search})
    settled = top.detail["samples that settle it"]
    assert settled in (200, 400, 800)
    assert settled == max(search)
    assert [count for count, value in search.items() if value >= STABLE] == [settled]


def test_maps_are_made_at_the_count_of_the_map_shown_and_it_is_the_first() -> None:
    seen: list[tuple[int, int, int]] = []

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        seen.append((len(pixels), config.seed, config.lime_samples))
        return steady(method, pixels, config)

    result = measured(explain, seed=3, sensitivity_samples=10, lime_samples=70)
    # The first call makes the map shown.
    assert [pictures for pictures, _, _ in seen] == [1] * REPEATS
    assert [seed for _, seed, _ in seen] == seeds(3, REPEATS)
    assert {count for _, _, count in seen} == {70}
    settings = found(result, SPEARMAN).settings
    assert (settings["lime_samples"], settings["seeds"]) == (70, REPEATS)


def test_the_search_asks_for_doubled_counts_and_three_seeds() -> None:
    seen: list[tuple[int, int]] = []

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        seen.append((config.rise_masks, config.seed))
        return knows_nothing(method, pixels, config)

    measured(explain, ("rise",), rise_masks=10)
    three = seeds(0, 3)
    expected = [(10 * factor, seed) for factor in (2, 4, 8) for seed in three]
    assert seen[REPEATS:] == expected


def test_seeds_begin_with_that_of_the_run_and_more_of_them_change_none() -> None:
    few, many = seeds(5, 3), seeds(5, 12)
    assert few[0] == 5
    assert many[:3] == few
    assert len(set(many)) == 12
    assert seeds(6, 3)[1:] != few[1:]
    assert all(0 <= seed < 2**31 for seed in many)


Alike = Callable[[Tensor, Tensor], Mapping[str, float]]


def ours(maps: Tensor, segments: Tensor) -> Mapping[str, float]:
    alike = likeness(maps, segments, True, 0).matrices
    return {key: float(pairs(matrix).mean()) for key, matrix in alike.items()}


def check_against_scipy_and_sklearn(formula: Alike) -> None:
    segments = sixteen()
    maps = torch.stack([SIGNAL + drawn(seed) for seed in range(4)])
    means = np.array(
        [[one[segments == label].double().mean().item() for label in range(16)] for one in maps]
    )
    marks = {5: np.zeros((4, 16)), 10: np.zeros((4, 16))}
    for top, mark in marks.items():
        np.put_along_axis(mark, np.argsort(-means, axis=1)[:, :top], 1, axis=1)
    two = list(combinations(range(4), 2))
    expected = {
        SPEARMAN: np.mean([spearmanr(means[i], means[j]).statistic for i, j in two]),
        TOP5: np.mean([jaccard_score(marks[5][i], marks[5][j]) for i, j in two]),
        TOP10: np.mean([jaccard_score(marks[10][i], marks[10][j]) for i, j in two]),
    }
    assert formula(maps, segments) == pytest.approx(expected, rel=1e-9)


def test_likeness_is_that_of_scipy_and_sklearn() -> None:
    check_against_scipy_and_sklearn(ours)


def with_the_diagonal(maps: Tensor, segments: Tensor) -> Mapping[str, float]:
    alike = likeness(maps, segments, True, 0).matrices
    return {key: float(matrix.mean()) for key, matrix in alike.items()}


PLANTED: dict[str, Alike] = {
    "each map with itself": with_the_diagonal,
    "lowest segments": lambda maps, segments: ours(-maps, segments),
    "absolute values": lambda maps, segments: ours((maps - 1).abs(), segments),
    "other segments": lambda maps, segments: ours(maps, segments.flip(0).roll(1, 1)),
    "two maps only": lambda maps, segments: ours(maps[:2], segments),
}


@pytest.mark.parametrize("error", PLANTED)
def test_the_comparison_sees_a_planted_error(error: str) -> None:
    with pytest.raises(AssertionError):
        check_against_scipy_and_sklearn(PLANTED[error])


def check_means(formula: Callable[[Tensor, Tensor], Tensor]) -> None:
    segments = (drawn(1) * 7).long()
    values = drawn(2) - 0.5
    regions = regionprops(segments.numpy() + 1, intensity_image=values.double().numpy())
    expected = [region.intensity_mean for region in regions]
    assert formula(values[None], segments)[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_means_of_segments_are_those_of_skimage() -> None:
    check_means(segment_means)
    with pytest.raises(AssertionError):
        check_means(lambda maps, segments: segment_means(maps.abs(), segments))
    with pytest.raises(AssertionError):
        check_means(
            lambda maps, segments: segment_means(maps, segments) * segments.ravel().bincount()
        )


def test_equal_values_of_different_segments_have_equal_means() -> None:
    segments = (drawn(1) * 7).long()
    weights = torch.tensor([0.1, 0.3, 0.1, 0.7, 0.3, 0.1, 0.7])
    assert torch.equal(segment_means(weights[segments][None], segments)[0], weights)


def test_a_number_without_pixels_has_the_mean_zero() -> None:
    assert segment_means(torch.ones(1, 1, 2), torch.tensor([[0, 2]])).tolist() == [[1, 0, 1]]


def check_expected(formula: Callable[[int, int], float]) -> None:
    for top, segments in ((1, 5), (2, 6), (3, 4), (4, 4)):
        chosen = [set(choice) for choice in combinations(range(segments), top)]
        scores = [len(a & b) / len(a | b) for a in chosen for b in chosen]
        assert formula(top, segments) == pytest.approx(np.mean(scores), rel=1e-9)


def test_the_overlap_expected_at_random_is_that_of_all_choices() -> None:
    check_expected(expected_jaccard)
    assert expected_jaccard(1, 7) == pytest.approx(1 / 7)
    with pytest.raises(AssertionError):
        check_expected(lambda top, segments: top / (2 * segments - top))


def test_methods_on_pixels_correlate_their_pixels_and_are_ranked_by_segments() -> None:
    result = measured(knows_nothing, ("lime", "rise"))
    maps = [drawn(seed).flatten().numpy() for seed in seeds(0, REPEATS)]
    expected = np.mean([spearmanr(a, b).statistic for a, b in combinations(maps, 2)])
    on_pixels, on_segments = found(result, SPEARMAN, "rise"), found(result, SPEARMAN)
    assert on_pixels.value == pytest.approx(expected)
    assert on_segments.value != pytest.approx(expected, abs=1e-3)
    assert (on_pixels.settings["of"], on_segments.settings["of"]) == ("pixels", "segments")
    assert found(result, TOP5, "rise").value == found(result, TOP5).value
    assert found(result, TOP5, "rise").settings["of"] == "segments"


def test_only_methods_that_draw_are_repeated() -> None:
    result = measured(steady, ("gradcam", "lime", "saliency"))
    assert {m.subject for m in result.measurements} == {"lime"}
    with pytest.raises(NotApplicable, match="draws at random"):
        measured(steady, ("gradcam", "integrated-gradients"))
    with pytest.raises(NotApplicable, match="draws at random"):
        measured(steady, ())


@pytest.mark.parametrize(
    ("method", "field"),
    [
        ("shap", "shap_evals"),
        ("lime", "lime_samples"),
        ("kernel-shap", "shap_evals"),
        ("rise", "rise_masks"),
        ("smoothgrad", "smoothgrad_draws"),
        ("gradient-shap", "gradient_shap_draws"),
    ],
)
def test_each_method_has_its_count(method: str, field: str) -> None:
    result = measured(steady, (method,), **{field: 12})
    assert found(result, SPEARMAN, method).settings[field] == 12


def test_a_map_that_is_constant_under_a_seed_has_a_note() -> None:
    def sometimes(method: str, pixels: Tensor, config: Config) -> Tensor:
        return steady(method, pixels, config) * (config.seed == 0)

    for explain in (sometimes, lambda m, p, c: torch.zeros(1, HEIGHT, WIDTH)):
        result = measured(explain)
        for key in (SPEARMAN, TOP5, TOP10):
            one = found(result, key)
            assert one.value is None and one.interval is None and one.yardstick is None
            assert one.note.endswith("is constant under a seed and ranks nothing")
            assert "verdict" not in one.detail


def test_a_search_that_meets_constant_maps_goes_on() -> None:
    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        if config.lime_samples == 10:
            return knows_nothing(method, pixels, config)
        return steady(method, pixels, config) * (config.lime_samples >= 40)

    detail = found(measured(explain), TOP5).detail
    assert detail["samples that settle it"] == 40
    assert list(detail["search"]) == ["40"]


def test_too_few_segments_have_no_top() -> None:
    maps = {"lime": SIGNAL}
    cards = {"lime": ON_SEGMENTS}
    options = {"cards": cards, "stability_seeds": 3}
    with context_of(Weighted(descending(HEIGHT, WIDTH)), PIXELS, maps, steady, **options) as whole:
        context = replace(whole, segments=whole.segments % 4)
        result = MEASURE(context)
    assert found(result, SPEARMAN).value == pytest.approx(1)
    for key in (TOP5, TOP10):
        one = found(result, key)
        assert one.value is None
        assert one.note == "there are only 4 segments, of which all are at the top"


def test_one_failing_method_costs_the_others_nothing() -> None:
    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        if method == "rise" and config.seed:
            raise NotApplicable("no more masks")
        return steady(method, pixels, config)

    result = measured(explain, ("lime", "rise"))
    assert {m.subject for m in result.measurements} == {"lime"}
    (skip,) = result.skipped
    assert (skip.step, skip.subject, skip.reason) == (
        "sampling-stability",
        "rise",
        "no more masks",
    )


def test_scale_and_offset_of_a_map_change_nothing_and_its_sign_does() -> None:
    maps = torch.stack([SIGNAL + drawn(seed) for seed in range(4)])
    plain = ours(maps, sixteen())
    assert ours(5 * maps + 3, sixteen()) == pytest.approx(plain)
    assert ours(maps.flip(-1), sixteen().flip(-1)) == pytest.approx(plain)
    assert ours(-maps, sixteen()) != pytest.approx(plain)


def test_equal_maps_with_equal_values_are_the_same_top() -> None:
    """SHAP's segments share values where it did not refine them."""
    values = (sixteen() // 4).float()
    assert ours(torch.stack([values, values]), sixteen()) == pytest.approx(
        {SPEARMAN: 1, TOP5: 1, TOP10: 1}
    )


def test_values_are_placed_among_those_of_maps_drawn_anew() -> None:
    result = measured(steady, null_maps=40)
    for key, top in ((TOP5, 5), (TOP10, 10)):
        one = found(result, key)
        assert one.yardstick is not None and one.yardstick.maps == 40
        expected = expected_jaccard(top, 16)
        assert one.detail["expected at random"] == expected
        # Smooth maps choose neighbouring segments together, which moves the mean hardly at all.
        assert one.yardstick.mean == pytest.approx(expected, abs=0.06)
        assert one.yardstick.percentile == 1
    correlation = found(result, SPEARMAN).yardstick
    assert correlation is not None and abs(correlation.mean) < 0.1


def test_the_same_seed_gives_the_same_and_another_gives_another() -> None:
    first, again = measured(knows_nothing), measured(knows_nothing)
    assert first.measurements == again.measurements
    other = measured(knows_nothing, seed=1)
    assert found(other, SPEARMAN).value != found(first, SPEARMAN).value


def test_lime_itself_is_repeated_and_more_samples_make_it_steadier() -> None:
    held: list[Context] = []

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        asked = request(held[0].classifier, pixels, 0, config)
        segments = held[0].segments.numpy()
        return METHODS[method].explain(replace(asked, seed=config.seed, segments=segments)).maps

    def run(samples: int) -> Measured:
        # Curved, so that the linear model of LIME depends on the maskings it was fitted to.
        network = Weighted(descending(HEIGHT, WIDTH) * SIGNAL.flip(0).exp())
        options = {"lime_samples": samples, "stability_seeds": 4, "lime_fill": "black"}
        with context_of(network, PIXELS, {}, explain, **options) as context:
            held[:] = [context]
            maps = {"lime": explain("lime", PIXELS[None], context.config)[0]}
            return MEASURE(replace(context, maps=maps, cards={"lime": ON_SEGMENTS}))

    few, many = run(20), run(200)
    assert found(few, SPEARMAN).value < found(many, SPEARMAN).value
    assert found(many, SPEARMAN).value > 0.9
    assert few.arrays["seed_sd.lime"].mean() > many.arrays["seed_sd.lime"].mean()
