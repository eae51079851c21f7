from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu
from torch import Tensor

from reportgen.metrics.binarised import otsu, top_count, top_weights


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def by_random_orders(values: Tensor, count: int, draws: int) -> Tensor:
    """The mean, over random orders of equal values, of which pixels are the highest."""
    generator, total = torch.Generator().manual_seed(9), torch.zeros(values.numel())
    for _ in range(draws):
        shuffle = torch.randperm(values.numel(), generator=generator)
        order = shuffle[values.flatten()[shuffle].argsort(descending=True, stable=True)]
        total[order[:count]] += 1
    return (total / draws).view(values.shape)


def test_without_ties_the_highest_pixels_count_whole() -> None:
    values = noise(0, 3, 6, 7)
    for count in (1, 8, 41, 42):
        weights = top_weights(values, count)
        assert set(weights.unique().tolist()) <= {0.0, 1.0}
        for one, own in zip(values, weights, strict=True):
            highest = one.flatten().argsort(descending=True)[:count]
            assert own.sum() == count
            assert own.flatten()[highest].eq(1).all()


def test_ties_count_in_part() -> None:
    values = torch.tensor([[[3.0, 2.0, 2.0], [2.0, 1.0, 1.0]]])
    third = 1 / 3
    assert top_weights(values, 2)[0].tolist() == [[1, third, third], [third, 0, 0]]
    assert top_weights(values, 5)[0].tolist() == [[1, 1, 1], [1, 0.5, 0.5]]
    assert top_weights(torch.zeros(1, 2, 4), 2).unique().tolist() == [0.25]


def test_parts_are_the_mean_over_random_orders() -> None:
    values = (noise(1, 4, 5) * 3).round()
    found = top_weights(values[None], 7)[0].float()
    drawn = by_random_orders(values, 7, 2000)
    # Three standard deviations of a share of one half in 2000 draws.
    assert float((found - drawn).abs().max()) < 3 * 0.5 / 2000**0.5
    with pytest.raises(AssertionError):
        raster = torch.zeros(20)
        raster[values.flatten().argsort(descending=True, stable=True)[:7]] = 1
        assert float((raster.view(4, 5) - drawn).abs().max()) < 3 * 0.5 / 2000**0.5


def test_a_share_is_at_least_one_pixel() -> None:
    assert [top_count(0.2, pixels) for pixels in (1, 2, 10, 50176)] == [1, 1, 2, 10035]


def test_otsus_threshold_is_that_of_scikit_image() -> None:
    maps = torch.stack([noise(2, 20, 30), noise(3, 20, 30) ** 3 - 0.1, noise(4, 20, 30) * 1e-6])
    found = otsu(maps)
    for own, one, threshold in zip(maps, found.weights, found.thresholds, strict=True):
        positive = own.clamp_min(0).double().numpy()
        assert threshold == threshold_otsu(positive)
        assert np.array_equal(one.numpy() > 0, positive > threshold)
    assert not found.failed.any()


def variance_between(values: np.ndarray, threshold: float) -> float:
    """What Otsu maximises, for one threshold."""
    low, high = values[values <= threshold], values[values > threshold]
    return len(low) * len(high) * float(low.mean() - high.mean()) ** 2 if len(high) else 0.0


def test_the_threshold_parts_best() -> None:
    values = (noise(5, 1, 20, 30) ** 2).double()
    found, flat = otsu(values), values.flatten().numpy()
    centres = (np.arange(256) + 0.5) / 256 * np.ptp(flat) + flat.min()
    best = max(variance_between(flat, float(centre)) for centre in centres)
    # The histogram puts a value into the middle of its bin, which moves the variance a little.
    assert variance_between(flat, found.thresholds[0]) == pytest.approx(best, rel=1e-3)
    with pytest.raises(AssertionError):
        median = float(np.median(flat))
        assert variance_between(flat, median) == pytest.approx(best, rel=1e-3)


def test_two_levels_are_parted() -> None:
    values = torch.tensor([0.0, 50.0, 200.0]).repeat_interleave(10).view(1, 5, 6)
    found = otsu(values.where(values > 0, torch.tensor(0.0)))
    assert found.weights.sum() in (10, 20)
    assert not found.failed[0]


@pytest.mark.parametrize("kind", ["constant", "negative", "nearly all zero"])
def test_where_the_threshold_says_nothing_the_top_fifth_is_taken(kind: str) -> None:
    values = noise(6, 1, 10, 10)
    if kind == "constant":
        values = torch.full((1, 10, 10), 3.0)
    elif kind == "negative":
        values = -values
    else:
        values = values * (torch.arange(100).view(1, 10, 10) < 9)
    found = otsu(values)
    assert found.failed.tolist() == [True]
    assert np.isnan(found.thresholds).all()
    assert torch.equal(found.weights, top_weights(values, 20))


def test_a_tenth_of_the_pixels_is_enough() -> None:
    values = noise(7, 1, 10, 10) * (torch.arange(100).view(1, 10, 10) < 10)
    assert otsu(values).failed.tolist() == [False]


def by_kthvalue(values: Tensor, count: int) -> Tensor:
    """The weights of all maps at once, from torch's own order statistic."""
    flat = values.flatten(1).double()
    lowest = flat.kthvalue(flat.shape[1] - count + 1, dim=1, keepdim=True).values
    above, tied = (flat > lowest).double(), (flat == lowest).double()
    part = (count - above.sum(1, keepdim=True)) / tied.sum(1, keepdim=True)
    return (above + part * tied).view(values.shape)


def test_map_by_map_gives_the_weights_of_all_maps_at_once() -> None:
    values = torch.cat([noise(11, 3, 9, 8), (noise(12, 4, 9, 8) * 4).round(), -noise(13, 2, 9, 8)])
    values[-1] = 0
    before = values.clone()
    for count in (1, 14, 71, 72):
        assert torch.equal(top_weights(values, count), by_kthvalue(values, count))
        assert count == 72 or not torch.equal(
            top_weights(values, count), by_kthvalue(values, count + 1)
        )
    assert torch.equal(values, before)
