from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from metric_toys import context_of, uniform
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import Tensor

from reportgen.attribution.gradcam import CARD as GRADCAM
from reportgen.attribution.lime import CARD as LIME
from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Measured
from reportgen.metrics.agreement import AGREEMENT, iou, random_iou, top_pixels
from reportgen.records import Card, Measurement

SHAPE = (20, 30)
SEGMENTS = LIME.model_copy(update={"granularity": "segments"})
COARSE = GRADCAM.model_copy(update={"granularity": "feature map"})


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape or SHAPE, generator=torch.Generator().manual_seed(seed))


def measured(
    metric: str, maps: dict[str, Tensor], cards: dict[str, Card] | None = None
) -> Measured:
    height, width = next(iter(maps.values())).shape
    pixels = torch.ones(1, height, width)
    with context_of(uniform(height, width), pixels, maps, cards=cards) as context:
        return METRICS[metric].measure(context)


def pair(metric: str, a: Tensor, b: Tensor, cards: dict[str, Card] | None = None) -> Measurement:
    """Return the measurement of a pair of maps."""
    found = measured("agreement", {"a": a, "b": b}, cards).measurements
    (only,) = [m for m in found if m.metric == metric]
    return only


def value(result: Measured, metric: str, subject: str) -> float | None:
    found = [m for m in result.measurements if (m.metric, m.subject) == (metric, subject)]
    assert len(found) == 1
    return found[0].value


def test_a_scaled_map_is_the_same_and_a_negated_one_the_reverse() -> None:
    values = noise(0)
    result = measured("agreement", {"a": values, "b": 2 * values + 3, "c": -values})
    assert value(result, "iou", "a~b") == 1
    assert value(result, "spearman", "a~b") == pytest.approx(1)
    assert value(result, "iou", "a~c") == 0
    assert value(result, "spearman", "a~c") == pytest.approx(-1)


def test_disjoint_halves_share_nothing() -> None:
    left, right = torch.zeros(SHAPE), torch.zeros(SHAPE)
    left[:, :15], right[:, 15:] = noise(1, 20, 15) + 1, noise(2, 20, 15) + 1
    assert value(measured("agreement", {"l": left, "r": right}), "iou", "l~r") == 0


def test_random_masks_overlap_as_expected() -> None:
    share, count = 0.2, 60
    overlaps = iou(top_pixels(noise(3, count, *SHAPE), share, 0))
    pairs = overlaps[np.triu_indices(count, 1)].numpy()
    # Pairs share maps and are therefore counted as if only `count` of them were independent.
    assert abs(pairs.mean() - random_iou(share)) < 3 * pairs.std() / np.sqrt(count)
    assert random_iou(share) == pytest.approx(1 / 9)


def test_the_zeros_of_sparse_maps_are_no_agreement() -> None:
    a, b = torch.zeros(SHAPE), torch.zeros(SHAPE)
    a[0], b[-1] = 1 + noise(4, 30), 1 + noise(5, 30)
    overlap = value(measured("agreement", {"a": a, "b": b}), "iou", "a~b")
    # 90 of 120 pixels are drawn among 570 zeros: as if by one permutation for all, 0.6 would come.
    assert overlap is not None
    assert overlap < 0.15


def check_correlations(maps: Tensor, found: Measured) -> None:
    expected = spearmanr(maps.flatten(1).numpy(), axis=1).statistic
    for (i, one), (j, other) in combinations(enumerate("abcd"), 2):
        value_ = value(found, "spearman", f"{one}~{other}")
        assert value_ == pytest.approx(expected[i, j], abs=1e-12)
        assert found.arrays["agreement.spearman"][i, j] == pytest.approx(expected[i, j], abs=1e-6)


def test_rank_correlations_are_scipys_with_ties() -> None:
    maps = (noise(6, 4, *SHAPE) * 5).round()
    found = measured("agreement", dict(zip("abcd", maps, strict=True)))
    check_correlations(maps, found)
    with pytest.raises(AssertionError):
        check_correlations(maps.flip(0), found)


def test_a_constant_map_has_no_agreement_and_says_so() -> None:
    maps = {"a": noise(8), "flat": torch.zeros(SHAPE), "too": torch.ones(SHAPE)}
    result = measured("agreement", maps)
    assert {m.subject for m in result.measurements} == {"a~flat", "a~too", "flat~too"}
    for measurement in result.measurements:
        assert (measurement.value, measurement.yardstick) == (None, None)
        if measurement.metric in ("iou", "iou_10", "iou_5", "top_k_intersection", "spearman"):
            assert measurement.note == "one of the maps is constant"
        assert measurement.note.startswith("one of the maps")
    assert all(np.isfinite(array).all() for array in result.arrays.values())


def test_one_map_agrees_with_nothing() -> None:
    with pytest.raises(NotApplicable, match="two methods"):
        measured("agreement", {"a": noise(9)})


def test_a_bright_square_is_found_where_it_is() -> None:
    square = torch.zeros(SHAPE)
    square[2:6, 20:26] = 1
    result = measured("location", {"a": square})
    assert value(result, "centre_x", "a") == pytest.approx(23 / 30)
    assert value(result, "centre_y", "a") == pytest.approx(4 / 20)
    assert value(result, "relevance_in_top", "a") == pytest.approx(1)


def test_the_share_is_that_of_the_highest_fifth() -> None:
    values = torch.full(SHAPE, 1.0)
    values[:4] = 2 + noise(10, 4, 30) / 1000
    held = value(measured("location", {"a": values}), "relevance_in_top", "a")
    assert held == pytest.approx(float(values[:4].sum() / values.sum()))


def test_consensus_is_more_than_half_of_the_methods() -> None:
    a, b, c = torch.zeros(SHAPE), torch.zeros(SHAPE), torch.zeros(SHAPE)
    a[:4, :15], b[:4, :15], c[-4:, :15] = 1, 1, 1
    result = measured("location", {"a": a, "b": b, "c": c})
    assert value(result, "consensus_area", "consensus") == pytest.approx(60 / 600)
    assert value(result, "centre_y", "consensus") == pytest.approx(2 / 20)


def test_two_maps_apart_share_nothing() -> None:
    a, b = torch.zeros(SHAPE), torch.zeros(SHAPE)
    a[0], b[-1] = 1, 1
    result = measured("location", {"a": a, "b": b})
    assert value(result, "consensus_area", "consensus") == 0
    assert not [m for m in result.measurements if m.subject == "consensus" and "centre" in m.metric]


def test_a_map_without_positive_relevance_has_no_place() -> None:
    result = measured("location", {"a": -noise(11)})
    (only,) = result.measurements
    assert (only.value, only.note) == (None, "the map has no positive relevance")


def test_the_smallest_picture_has_a_top_pixel() -> None:
    assert top_pixels(torch.tensor([[[0.0, 1.0]]]), 0.2, 0).tolist() == [[[False, True]]]


EXACT = ("iou", "iou_10", "iou_5", "top_k_intersection", "spearman", "ssim", "otsu_overlap")


@pytest.mark.parametrize("metric", (*EXACT, "sign_agreement"))
def test_a_map_equals_itself_and_the_order_of_a_pair_does_not_matter(metric: str) -> None:
    a, b = noise(12) - 0.5, noise(13) - 0.5
    assert pair(metric, a, a.clone()).value == pytest.approx(1)
    ordered, reverse = pair(metric, a, b).value, pair(metric, b, a).value
    assert ordered == pytest.approx(reverse, abs=1e-9)
    assert ordered is not None and ordered < 0.9


@pytest.mark.parametrize("metric", ("iou", "iou_10", "iou_5", "top_k_intersection", "spearman"))
def test_ranks_alone_matter(metric: str) -> None:
    a, b = noise(14), (noise(15) * 7).round()
    assert pair(metric, a, b).value == pytest.approx(pair(metric, 3 * a + 1, b.exp()).value)


@pytest.mark.parametrize("metric", (*EXACT, "sign_agreement"))
def test_turning_both_maps_changes_nothing(metric: str) -> None:
    a, b = (noise(16) * 5).round() - 2, (noise(17) * 3).round() - 1
    turned = pair(metric, a.flip(0, 1), b.flip(0, 1)).value
    assert pair(metric, a, b).value == pytest.approx(turned, abs=1e-6)


def test_shares_are_the_ious_in_another_form() -> None:
    a, b = noise(18), noise(19)
    for metric, share in (("iou", 0.2), ("iou_10", 0.1), ("iou_5", 0.05)):
        count = round(share * 600)
        tops = [set(m.flatten().argsort(descending=True)[:count].tolist()) for m in (a, b)]
        both = len(tops[0] & tops[1])
        assert pair(metric, a, b).value == pytest.approx(both / len(tops[0] | tops[1]))
        if metric == "iou":
            assert pair("top_k_intersection", a, b).value == pytest.approx(both / 120)


def by_hand(a: Tensor, b: Tensor, count: int) -> float:
    """Krishna et al.'s sign agreement, feature by feature."""
    tops = [set(m.abs().flatten().argsort(descending=True)[:count].tolist()) for m in (a, b)]
    same = [i for i in tops[0] & tops[1] if a.flatten()[i] * b.flatten()[i] > 0]
    return len(same) / count


def test_signs_agree_as_counted_by_hand() -> None:
    a = noise(20) - 0.4
    b = a * torch.where(noise(21) < 0.3, -1.0, 1.0)
    found = pair("sign_agreement", a, b).value
    assert found == pytest.approx(by_hand(a, b, 120))
    assert 0.5 < by_hand(a, b, 120) < 0.9
    assert pair("sign_agreement", a, -a).value == 0
    with pytest.raises(AssertionError):
        assert found == pytest.approx(by_hand(a, b.abs(), 120))


def test_unsigned_maps_have_no_signs_to_compare() -> None:
    only = pair("sign_agreement", noise(22), noise(23) - 0.5)
    assert only.value is None
    assert "no negative values" in only.note


def test_ssim_is_that_of_scikit_image() -> None:
    a, b = noise(24) - 0.3, 5 * noise(24) + 2 * noise(25)
    scaled = [((m - m.min()) / (m.max() - m.min())).double().numpy() for m in (a, b)]
    expected = structural_similarity(*scaled, win_size=7, data_range=1)
    found = pair("ssim", a, b).value
    assert found == pytest.approx(expected, abs=1e-6)
    with pytest.raises(AssertionError):
        unscaled = structural_similarity(a.numpy(), b.numpy(), win_size=7, data_range=5)
        assert found == pytest.approx(unscaled, abs=1e-6)


def test_maps_smaller_than_the_window_have_no_ssim() -> None:
    only = pair("ssim", noise(26, 6, 9), noise(27, 6, 9))
    assert only.value is None
    assert "smaller than the window" in only.note


def test_regions_above_otsus_threshold() -> None:
    a, b = torch.zeros(SHAPE), torch.zeros(SHAPE)
    a[2:12], b[7:17] = 1, 5
    assert pair("otsu_overlap", a - 0.5 * (a == 0), b).value == pytest.approx(5 / 15)
    sparse = torch.zeros(SHAPE)
    sparse[0, :5] = 1
    assert "no threshold" in pair("otsu_overlap", a, sparse).note


def test_positive_segments_are_compared_at_their_own_area() -> None:
    cards = {"a": SEGMENTS, "b": COARSE}
    segments, heat = torch.full(SHAPE, -1.0), noise(28)
    segments[5:10], heat[5:12] = 0.5, 2 + noise(29, 7, 30)
    top = set(heat.flatten().argsort(descending=True)[:150].tolist())
    inside = set((segments > 0).flatten().nonzero()[:, 0].tolist())
    only = pair("iou_positive_area", segments, heat, cards)
    assert only.value == pytest.approx(len(top & inside) / len(top | inside))
    assert only.yardstick is not None
    assert only.yardstick.maps == 20
    swapped = pair("iou_positive_area", heat, segments, {"a": COARSE, "b": SEGMENTS})
    assert (swapped.value, swapped.yardstick) == (only.value, only.yardstick)
    nothing = pair("iou_positive_area", -segments.abs(), heat, cards)
    assert nothing.value is None
    assert "positive nowhere or everywhere" in nothing.note


def test_two_maps_of_one_kind_have_no_segments_to_compare() -> None:
    for card in (SEGMENTS, COARSE):
        cards = {"a": card, "b": card}
        found = measured("agreement", {"a": noise(30), "b": noise(31)}, cards).measurements
        assert "iou_positive_area" not in {m.metric for m in found}


def test_each_pair_is_placed_among_pairs_with_null_maps() -> None:
    a, b = noise(32) - 0.5, noise(33) - 0.5
    for quantity in AGREEMENT.quantities[:-1]:
        one = pair(quantity.key, a, b).yardstick
        assert one is not None
        assert (one.maps, one.controls) == (
            40,
            "smooth random maps, each beside one of the two maps",
        )
        same = pair(quantity.key, a, a.clone()).yardstick
        assert same is not None
        assert same.percentile == 1
        assert same.p == pytest.approx(1 / 41)


def test_pairs_say_how_fine_their_maps_are_and_which_ignore_the_class() -> None:
    blind = GRADCAM.model_copy(update={"title": "Blind", "class_agnostic": True})
    only = pair("iou", noise(34), noise(35), {"a": SEGMENTS, "b": blind})
    assert only.detail["granularity"] == ["segments", blind.granularity]
    assert only.note == "nearly the same for every class: Blind"


def test_a_symmetric_matrix_of_one_on_its_diagonal() -> None:
    maps = {"a": noise(36).round(), "b": noise(37), "c": noise(38)}
    for name, table in measured("agreement", maps).arrays.items():
        assert table.shape == (3, 3), name
        assert table == pytest.approx(table.T)
        assert table.diagonal() == pytest.approx(1)
