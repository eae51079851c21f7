from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from metric_toys import context_of, uniform
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import Tensor

from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.metrics.likeness import ranked
from reportgen.metrics.similarity import (
    SPEARMAN,
    SSIM,
    STRENGTH,
    Compared,
    Traits,
    compare,
    is_flat,
    null_traits,
    own_traits,
    standing,
)
from reportgen.metrics.yardstick import null_maps
from reportgen.records import Measurement, Quantity

SHAPE = (14, 18)
QUANTITY = Quantity(key="q", title="Q", direction="lower is better", range=(-1, 1))


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or SHAPE, generator=torch.Generator().manual_seed(seed))


ONE = noise(0)
OTHER = ONE + 0.5 * noise(1)


def compared(kind: str, own: Tensor, other: Tensor) -> Compared:
    return compare(kind, Traits(own[None]), Traits(other[None]), "the other")


def likeness(kind: str, own: Tensor, other: Tensor) -> float:
    value = compared(kind, own, other).value
    assert value is not None
    return value


@pytest.mark.parametrize("kind", [SPEARMAN, STRENGTH, SSIM])
def test_a_map_is_like_itself_and_as_much_like_another_as_that_is_like_it(kind: str) -> None:
    assert likeness(kind, ONE, ONE) == pytest.approx(1)
    assert likeness(kind, ONE, OTHER) == pytest.approx(likeness(kind, OTHER, ONE))
    assert likeness(kind, ONE, OTHER) < 0.95


@pytest.mark.parametrize("kind", [SPEARMAN, SSIM])
def test_scaling_and_shifting_a_map_change_nothing(kind: str) -> None:
    assert likeness(kind, 3 * ONE + 5, OTHER) == pytest.approx(likeness(kind, ONE, OTHER), abs=1e-5)


@pytest.mark.parametrize("kind", [SPEARMAN, STRENGTH, SSIM])
def test_turning_both_maps_over_changes_nothing(kind: str) -> None:
    turned = likeness(kind, ONE.flip(1), OTHER.flip(1))
    assert turned == pytest.approx(likeness(kind, ONE, OTHER))


def test_a_map_and_its_negative_are_opposite_in_rank_and_equal_in_strength() -> None:
    assert likeness(SPEARMAN, ONE, -ONE) == pytest.approx(-1)
    assert likeness(STRENGTH, ONE, -ONE) == pytest.approx(1)


def in_windows(one: np.ndarray, other: np.ndarray) -> float:
    """Go through the windows of 7 x 7 pixels one by one, as in the paper."""
    values = []
    for row in range(SHAPE[0] - 6):
        for column in range(SHAPE[1] - 6):
            a, b = (x[row : row + 7, column : column + 7].ravel() for x in (one, other))
            covariance = np.cov(a, b)
            light = (2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4)
            shape = (2 * covariance[0, 1] + 9e-4) / (np.trace(covariance) + 9e-4)
            values.append(light * shape)
    return float(np.mean(values))


def by_torchmetrics(one: np.ndarray, other: np.ndarray) -> float:
    ensure_torchvision()
    from torchmetrics.functional.image import structural_similarity_index_measure

    # It divides by 49, not by 48, as it takes windows for the whole of what they sample.
    pair = [torch.from_numpy(x)[None, None] for x in (one, other)]
    _, whole = structural_similarity_index_measure(
        *pair, gaussian_kernel=False, kernel_size=7, data_range=1.0, return_full_image=True
    )
    return float(whole[..., 3:-3, 3:-3].mean())


def by_skimage(one: np.ndarray, other: np.ndarray) -> float:
    return float(structural_similarity(one, other, win_size=7, data_range=1.0))


def in_one_line(one: np.ndarray, other: np.ndarray) -> float:
    """The fault of other libraries: windows of pixels that only follow one another."""
    return float(structural_similarity(one.ravel(), other.ravel(), win_size=7, data_range=1.0))


def check_ssim(reference: Callable[[np.ndarray, np.ndarray], float], tolerance: float) -> None:
    for other in (OTHER, -ONE, noise(2)):
        scaled = [((x - x.min()) / (x.max() - x.min())).double().numpy() for x in (ONE, other)]
        assert likeness(SSIM, ONE, other) == pytest.approx(reference(*scaled), abs=tolerance)


def test_structural_similarity_is_that_of_the_paper_and_of_two_libraries() -> None:
    check_ssim(in_windows, 1e-5)
    check_ssim(by_skimage, 1e-5)
    # The two ways of estimating a covariance differ by 1 in 48.
    check_ssim(by_torchmetrics, 5e-3)


@pytest.mark.parametrize(
    "wrong", [in_one_line, lambda one, other: by_skimage(one, 1 - other)], ids=["line", "sign"]
)
def test_another_structural_similarity_would_be_noticed(
    wrong: Callable[[np.ndarray, np.ndarray], float],
) -> None:
    with pytest.raises(AssertionError):
        check_ssim(wrong, 5e-3)


def test_a_ramp_and_its_negative_are_not_alike_in_two_dimensions() -> None:
    ramp = torch.linspace(0, 1, 14 * 18).view(SHAPE)
    scaled = ramp.double().numpy()
    # On one line the ramp is so flat within seven pixels that only its brightness counts.
    assert in_one_line(scaled, 1 - scaled) > 0.4
    assert likeness(SSIM, ramp, -ramp) < in_one_line(scaled, 1 - scaled) - 0.2


def test_constant_maps_have_a_reason_and_no_number() -> None:
    flat = torch.full(SHAPE, 0.1)
    rounded = flat + 1e-9
    rounded[0, 0] = torch.nextafter(rounded[0, 0], torch.tensor(1.0))
    for kind in (SPEARMAN, STRENGTH, SSIM):
        for one in (flat, rounded, flat * 0):
            assert is_flat(one)
            assert compared(kind, one, ONE).why_not == "the map is constant"
            assert compared(kind, ONE, one).why_not == "the other is constant"
    assert not is_flat(ONE)
    assert not is_flat(1 + ONE / 1000)


def test_a_map_of_one_strength_has_no_rank_of_strength() -> None:
    signs = ONE.sign()
    assert compared(STRENGTH, signs, ONE).why_not.endswith("strong everywhere")
    assert likeness(SPEARMAN, signs, ONE) > 0.5


def test_a_picture_smaller_than_the_window_has_no_structure() -> None:
    small = compared(SSIM, noise(3, 6, 20), noise(4, 6, 20))
    assert small.value is None
    assert "smaller" in small.why_not
    assert compared(SPEARMAN, noise(3, 6, 20), noise(4, 6, 20)).value is not None


def test_a_likeness_stands_among_those_to_the_smooth_random_maps() -> None:
    pixels = torch.ones(1, *SHAPE)
    bare = Measurement(metric="q", subject="m", value=0.9)
    maps = {"m": ONE}
    with context_of(uniform(*SHAPE), pixels, maps, lambda *_: ONE[None]) as context:
        found = {kind: standing(context, QUANTITY, bare, kind) for kind in (SPEARMAN, SSIM)}
        nulls = context.once(null_maps)
        missing = bare.model_copy(update={"value": None})
        assert standing(context, QUANTITY, missing, SPEARMAN) is None
    own = ONE.flatten().numpy()
    expected = [spearmanr(own, values.flatten().numpy()).statistic for values in nulls]
    assert found[SPEARMAN] is not None
    assert found[SPEARMAN].mean == pytest.approx(np.mean(expected), abs=1e-9)
    assert found[SPEARMAN].percentile == 0
    assert found[SSIM] is not None
    assert found[SSIM].mean == pytest.approx(
        np.mean([likeness(SSIM, ONE, values) for values in nulls])
    )


def check_traits(maps: Tensor, traits: Traits) -> None:
    """What is kept is what each map has when it is ranked, and cut into windows, by itself."""
    for index, one in enumerate(maps):
        alone = Traits(one[None])
        for kept, own in (
            (traits.ranks, ranked(one[None])),
            (traits.strengths, ranked(one[None].abs())),
            (traits.windows.mean, alone.windows.mean),
            (traits.windows.variance, alone.windows.variance),
        ):
            assert np.array_equal(kept[index], own[0])


@pytest.mark.parametrize("maps", [noise(5, 3, *SHAPE), noise(6, 3, *SHAPE).abs()])
def test_what_is_kept_of_maps_is_that_of_each_by_itself(maps: Tensor) -> None:
    check_traits(maps, Traits(maps))
    with pytest.raises(AssertionError):
        check_traits(maps, Traits(-maps))


def test_traits_are_made_once_for_all_that_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(maps: Tensor) -> np.ndarray:
        made.append(len(maps))
        return ranked(maps)

    monkeypatch.setattr("reportgen.metrics.similarity.ranked", counted)
    pixels, maps = torch.ones(1, *SHAPE), {"m": ONE, "n": OTHER}
    bare = Measurement(metric="q", subject="m", value=0.9)
    with context_of(uniform(*SHAPE), pixels, maps, lambda *_: ONE[None]) as context:
        for method in maps:
            for kind in (SPEARMAN, STRENGTH, SPEARMAN):
                one = bare.model_copy(update={"subject": method})
                assert standing(context, QUANTITY, one, kind) is not None
        assert context.once(own_traits, "m").maps.shape == (1, *SHAPE)
        assert len(context.once(null_traits).maps) == 20
    # The smooth random maps have no negative values: their strengths are the same ranks.
    assert sorted(made) == [1, 1, 1, 1, 20]
