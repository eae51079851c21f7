from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.metrics.likeness import WINDOW, ranked, same_signs, spearman, ssim, windows

ensure_torchvision()

from torchmetrics.functional.image import structural_similarity_index_measure  # noqa: E402

Maps = NDArray[np.float64]


def noise(seed: int, *shape: int) -> Maps:
    return np.random.default_rng(seed).normal(size=shape)


def scaled(one: Maps) -> Maps:
    return (one - one.min()) / (one.max() - one.min())


def by_hand(one: Maps, other: Maps) -> float:
    """SSIM window by window, from the paper."""
    found = []
    for row in range(one.shape[0] - WINDOW + 1):
        for column in range(one.shape[1] - WINDOW + 1):
            a, b = (m[row : row + WINDOW, column : column + WINDOW].ravel() for m in (one, other))
            (va, cov), (_, vb) = np.cov(a, b)
            top = (2 * a.mean() * b.mean() + 0.01**2) * (2 * cov + 0.03**2)
            found.append(top / ((a.mean() ** 2 + b.mean() ** 2 + 0.01**2) * (va + vb + 0.03**2)))
    return float(np.mean(found))


def similarities(maps: Maps, others: Maps) -> Maps:
    return ssim(windows(maps), windows(others))


MAPS = np.stack([noise(0, 12, 17), noise(0, 12, 17) + noise(1, 12, 17), noise(2, 12, 17) ** 2])


def test_it_is_that_of_scikit_image_and_of_the_paper() -> None:
    found = similarities(MAPS, MAPS)
    for i, one in enumerate(MAPS):
        for j, other in enumerate(MAPS):
            pair = scaled(one), scaled(other)
            expected = structural_similarity(*pair, win_size=WINDOW, data_range=1)
            assert found[i, j] == pytest.approx(expected, abs=1e-12)
            assert found[i, j] == pytest.approx(by_hand(*pair), abs=1e-12)


def test_the_comparison_can_fail() -> None:
    pair = scaled(MAPS[0]), scaled(MAPS[1])
    found = similarities(MAPS[:1], MAPS[1:2])[0, 0]
    for options in ({"win_size": 9}, {"win_size": 7, "use_sample_covariance": False}):
        with pytest.raises(AssertionError):
            other = structural_similarity(*pair, data_range=1, **options)
            assert found == pytest.approx(other, abs=1e-12)


def by_torchmetrics(one: Maps, other: Maps, k2: float) -> float:
    """Its SSIM with population covariances, over the windows that lie inside."""
    first, second = (torch.from_numpy(scaled(m))[None, None] for m in (one, other))
    _, image = structural_similarity_index_measure(
        first,
        second,
        gaussian_kernel=False,
        kernel_size=WINDOW,
        data_range=1.0,
        k2=k2,
        return_full_image=True,
    )
    edge = slice(WINDOW // 2, -(WINDOW // 2))
    return float(image[..., edge, edge].mean())


def test_torchmetrics_agrees() -> None:
    """A sample covariance is a population covariance with a smaller constant beside it."""
    found = similarities(MAPS[:1], MAPS[1:2])[0, 0]
    k2 = 0.03 * (1 - 1 / WINDOW**2) ** 0.5
    assert found == pytest.approx(by_torchmetrics(*MAPS[:2], k2), abs=1e-9)
    with pytest.raises(AssertionError):
        assert found == pytest.approx(by_torchmetrics(*MAPS[:2], 0.03), abs=1e-9)


def test_two_dimensions_tell_a_map_from_its_negative() -> None:
    """Flattened to one dimension, as elsewhere, the similarity of w and -w is far from its -1."""
    assert similarities(MAPS[:1], -MAPS[:1])[0, 0] < 0
    assert similarities(MAPS[:1], 3 * MAPS[:1] + 2)[0, 0] == pytest.approx(1)


def test_constant_maps_and_small_ones_have_none() -> None:
    maps = np.stack([MAPS[0], np.ones((12, 17))])
    assert np.isnan(similarities(maps, maps)).tolist() == [[False, True], [True, True]]
    assert np.isnan(similarities(MAPS[:, :6], MAPS[:, :6])).all()


def test_inputs_stay_as_they_are() -> None:
    before = MAPS.copy()
    similarities(MAPS, MAPS)
    assert np.array_equal(before, MAPS)


def tied(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(noise(seed, *shape) * 3).round().float()


def check_spearman(found: Maps, maps: torch.Tensor, others: torch.Tensor) -> None:
    for row, one in zip(found, maps, strict=True):
        for value, other in zip(row, others, strict=True):
            pair = one.flatten().numpy(), other.flatten().numpy()
            assert value == pytest.approx(spearmanr(*pair).statistic, abs=1e-12)


def test_spearman_is_scipys_with_ties() -> None:
    maps, others = tied(3, 4, 20, 30), tied(4, 6, 20, 30)
    others[0] = maps[1]
    found = spearman(ranked(maps), ranked(others))
    assert found.shape == (4, 6)
    assert found[1, 0] == 1
    check_spearman(found, maps, others)
    with pytest.raises(AssertionError):
        check_spearman(found, maps, others.flip(0))


def test_spearman_has_the_same_digits_in_every_order_and_company() -> None:
    """The ranks are whole numbers: sums of their products are not rounded."""
    ranks = ranked(torch.cat([tied(5, 3, 20, 30), torch.from_numpy(noise(6, 2, 20, 30))]))
    assert np.array_equal(ranks, ranks.round())
    together, shuffled = spearman(ranks, ranks), ranks[:, np.random.default_rng(7).permutation(600)]
    assert np.array_equal(together, together.T)
    assert np.array_equal(together, spearman(shuffled, shuffled))
    for i in range(5):
        assert np.array_equal(together[i : i + 1, i:], spearman(ranks[i : i + 1], ranks[i:]))


def test_a_constant_map_has_no_rank_correlation() -> None:
    maps = torch.stack([tied(8, 4, 5), torch.ones(4, 5)])
    assert np.isnan(spearman(ranked(maps), ranked(maps))).tolist() == [[False, True], [True, True]]


def test_signs_are_those_of_the_strongest_pixels() -> None:
    maps = torch.tensor(
        [[[9.0, -8.0, 1.0, 0.0]], [[-9.0, -8.0, 0.5, 0.0]], [[0.0, 0.0, 5.0, -4.0]]]
    )
    assert same_signs(maps, 2).tolist() == [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]


def test_zeros_have_no_sign() -> None:
    maps = torch.tensor([[[9.0, 0.0, 0.0, 0.0]], [[5.0, 0.0, 0.0, 0.0]]])
    assert same_signs(maps, 2).tolist() == [[0.5, 0.5], [0.5, 0.5]]
