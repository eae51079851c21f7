from __future__ import annotations

import numpy as np
import pytest
import torch
from metric_toys import context_of, uniform
from scipy.stats import spearmanr
from torch import Tensor

from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Measured
from reportgen.metrics.agreement import iou, random_iou, spearman, top_pixels

SHAPE = (20, 30)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape or SHAPE, generator=torch.Generator().manual_seed(seed))


def measured(metric: str, maps: dict[str, Tensor]) -> Measured:
    height, width = next(iter(maps.values())).shape
    with context_of(uniform(height, width), torch.ones(1, height, width), maps) as context:
        return METRICS[metric].measure(context)


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


def test_spearman_is_scipys_with_ties() -> None:
    maps = (noise(6, 4, *SHAPE) * 5).round()
    expected = spearmanr(maps.flatten(1).numpy(), axis=1).statistic
    assert spearman(maps) == pytest.approx(expected, abs=1e-12)
    assert abs(spearman(maps) - spearman(noise(7, 4, *SHAPE))).max() > 0.01


def test_a_constant_map_has_no_agreement_and_says_so() -> None:
    maps = {"a": noise(8), "flat": torch.zeros(SHAPE), "too": torch.ones(SHAPE)}
    result = measured("agreement", maps)
    for measurement in result.measurements:
        assert (measurement.metric, measurement.value, measurement.note) in (
            ("iou", None, "one of the maps is constant"),
            ("spearman", None, "one of the maps is constant"),
        )
    assert len(result.measurements) == 6
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
