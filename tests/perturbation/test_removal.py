from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reportgen.errors import UsageError
from reportgen.perturbation.removal import (
    masked,
    removal_counts,
    removal_ranks,
    removed,
    removed_rows,
    segment_mean,
)
from reportgen.perturbation.streams import stream

MakePicture = Callable[..., Tensor]

sides = st.integers(1, 9)
quick = settings(deadline=None, max_examples=30)


def quadrant_share(ranks_of: Callable[[Tensor], Tensor]) -> float:
    """Return which share of the top left quadrant of a constant map is in the first half."""
    ranks = ranks_of(torch.full((1, 40, 60), 0.5)).view(40, 60)
    return (ranks[:20, :30] < 1200).float().mean().item()


def assert_fair_to_ties(ranks_of: Callable[[Tensor], Tensor]) -> None:
    # 600 of 2400 pixels drawn without replacement, half of them "first": hypergeometric.
    sigma = (0.25 / 600 * 1800 / 2399) ** 0.5
    assert abs(quadrant_share(ranks_of) - 0.5) < 3 * sigma


def raster_ranks(maps: Tensor) -> Tensor:
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1).int()


def plain_ranks(maps: Tensor, seed: int) -> Tensor:
    """Rank by a stable sort of the shuffled values, in the way that any number format allows."""
    shuffle = torch.randperm(maps[0].numel(), generator=stream(seed, "ties"))
    order = shuffle[maps.flatten(1)[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    return order.argsort(dim=1).int()


def awkward(seed: int) -> Tensor:
    """Return values of every size and both signs, many alike, with both zeros and the smallest."""
    generator = torch.Generator().manual_seed(seed)
    normal, powers = torch.randn(2, 2, 30, 40, generator=generator)
    wide = normal * 10 ** (8 * powers)
    few = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 3.4e38, -3.4e38])
    alike = few[torch.randint(len(few), (1, 30, 40), generator=generator)]
    return torch.cat([wide, alike, normal[:1].round()])


@pytest.mark.parametrize("seed", range(3))
def test_the_fast_sort_is_the_plain_one(seed: int) -> None:
    maps = awkward(seed)
    assert torch.equal(removal_ranks(maps, seed), plain_ranks(maps, seed))
    assert torch.equal(removal_ranks(maps.double(), seed), plain_ranks(maps, seed))


def zeros_apart(maps: Tensor) -> Tensor:
    return torch.where((maps == 0) & maps.signbit(), -1e-45, maps)


@pytest.mark.parametrize("wrong", [Tensor.abs, Tensor.half, zeros_apart])
def test_another_order_would_be_noticed(wrong: Callable[[Tensor], Tensor]) -> None:
    maps = awkward(0)
    assert not torch.equal(removal_ranks(wrong(maps).float(), 0), plain_ranks(maps, 0))


@pytest.mark.parametrize("seed", range(5))
def test_ties_are_broken_at_random(seed: int) -> None:
    assert_fair_to_ties(lambda maps: removal_ranks(maps, seed))


def test_raster_order_would_be_noticed() -> None:
    assert quadrant_share(raster_ranks) == 1
    with pytest.raises(AssertionError):
        assert_fair_to_ties(raster_ranks)


@quick
@given(st.integers(1, 3), sides, sides, st.integers(1, 4), st.integers(0, 2**32))
def test_ranks_order_the_values(maps: int, height: int, width: int, levels: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-levels, levels, (maps, height, width), generator=generator).float()
    ranks = removal_ranks(values, seed)
    assert ranks.dtype == torch.int32
    each = torch.arange(height * width, dtype=torch.int32)
    assert torch.equal(ranks.sort(dim=1).values, each.expand(maps, -1))
    by_rank = values.flatten(1).gather(1, ranks.argsort(dim=1))
    assert (by_rank.diff(dim=1) <= 0).all()


def test_negative_values_go_last() -> None:
    ranks = removal_ranks(torch.tensor([[[-3.0, 0.5], [0.0, 2.0]]]), 0)
    assert ranks.tolist() == [[3, 1, 2, 0]]


def test_negative_zero_ties_with_zero() -> None:
    zeros = torch.zeros(1, 8, 8)
    assert torch.equal(removal_ranks(-zeros, 0), removal_ranks(zeros, 0))


def test_tie_breaks_depend_on_the_seed_alone() -> None:
    maps = torch.zeros(2, 8, 8)
    ranks = removal_ranks(maps, 1)
    assert torch.equal(ranks, removal_ranks(maps.clone(), 1))
    assert torch.equal(ranks[0], ranks[1])
    assert torch.equal(ranks[0], removal_ranks(maps[:1], 1)[0])
    assert not torch.equal(ranks, removal_ranks(maps, 2))


def test_seed_changes_nothing_without_ties(make_picture: MakePicture) -> None:
    maps = make_picture(2, 6, 5, dtype=torch.float64)
    assert torch.equal(removal_ranks(maps, 1), removal_ranks(maps, 2))
    assert torch.equal(removal_ranks(maps, 1), raster_ranks(maps))


@pytest.mark.parametrize(
    ("pixels", "steps", "expected"),
    [
        (3, 16, [0, 1, 2, 3]),
        (1, 1, [0, 1]),
        (9, 2, [0, 5, 9]),
        (10, 4, [0, 3, 5, 8, 10]),
        (224 * 224, 28, [1792 * step for step in range(29)]),
    ],
)
def test_counts_by_hand(pixels: int, steps: int, expected: list[int]) -> None:
    assert removal_counts(pixels, steps) == expected


@quick
@given(st.integers(1, 10**6), st.integers(1, 300))
def test_counts_rise_from_none_to_all(pixels: int, steps: int) -> None:
    counts = removal_counts(pixels, steps)
    assert counts[0] == 0
    assert counts[-1] == pixels
    assert counts == sorted(set(counts))
    assert len(counts) == min(pixels, steps) + 1
    if steps <= pixels:
        assert all(abs(k - pixels * i / steps) <= 0.5 + 1e-9 for i, k in enumerate(counts))


@pytest.mark.parametrize(("pixels", "steps"), [(0, 4), (4, 0)])
def test_counts_of_nothing_are_refused(pixels: int, steps: int) -> None:
    with pytest.raises(UsageError, match="at least one pixel and one step"):
        removal_counts(pixels, steps)


def removed_one_by_one(
    pixels: Tensor, fill: Tensor, ranks: Tensor, counts: Sequence[int]
) -> Tensor:
    width = pixels.shape[2]
    pictures = []
    for count in counts:
        picture = pixels.clone()
        for pixel, rank in enumerate(ranks.tolist()):
            if rank < count:
                row, column = divmod(pixel, width)
                picture[:, row, column] = fill[:, row, column]
        pictures.append(picture)
    return torch.stack(pictures)


@quick
@given(st.sampled_from([1, 3]), sides, sides, st.integers(1, 12), st.booleans())
def test_removed_is_the_slow_loop(
    make_picture: MakePicture, channels: int, height: int, width: int, steps: int, double: bool
) -> None:
    dtype = torch.float64 if double else torch.float32
    pixels = make_picture(channels, height, width, dtype=dtype)
    fill = make_picture(channels, height, width, seed=1, dtype=dtype)
    ranks = removal_ranks(make_picture(1, height, width, seed=2), 0)[0]
    counts = removal_counts(height * width, steps)
    pictures = removed(pixels, fill, ranks, counts)
    assert pictures.dtype == dtype
    assert torch.equal(pictures, removed_one_by_one(pixels, fill, ranks, counts))


Blend = Callable[[Tensor, Tensor, Tensor], Tensor]


def assert_either_to_the_last_bit(blend: Blend) -> None:
    """Hold a blend by weights 0 and 1 against ``where``, on values that do not add exactly."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 3, 40, 50, generator=generator) ** 8
    gone = torch.rand(4, 2000, generator=generator) < 0.5
    expected = torch.where(gone.view(4, 1, 40, 50), second, first)
    assert torch.equal(blend(first, second, gone.float().view(4, 1, 40, 50)), expected)


def chosen(first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    segments = torch.arange(2000).view(40, 50)
    return masked(second, first, segments, weights.flatten(1) > 0)


def test_a_masked_pixel_is_the_one_or_the_other_to_the_last_bit() -> None:
    assert_either_to_the_last_bit(chosen)


def test_a_rounded_pixel_would_be_noticed() -> None:
    with pytest.raises(AssertionError):
        assert_either_to_the_last_bit(lambda a, b, weights: a + weights * (b - a))


def test_removed_counts_are_exact_and_ends_are_whole(make_picture: MakePicture) -> None:
    pixels, fill = make_picture(3, 12, 20), torch.full((3, 12, 20), 2.0)
    counts = removal_counts(240, 7)
    pictures = removed(pixels, fill, removal_ranks(torch.zeros(1, 12, 20), 0)[0], counts)
    assert (pictures == 2).all(1).sum((1, 2)).tolist() == counts
    assert torch.equal(pictures[0], pixels)
    assert torch.equal(pictures[-1], fill)


def test_insertion_is_reversed_deletion_read_backwards(make_picture: MakePicture) -> None:
    pixels, fill = make_picture(3, 9, 7), make_picture(3, 9, 7, seed=1)
    ranks = removal_ranks(make_picture(1, 9, 7, seed=2), 0)[0]
    counts = removal_counts(63, 10)
    insertion = removed(fill, pixels, ranks, counts)
    deletion = removed(pixels, fill, 62 - ranks, [63 - count for count in reversed(counts)])
    assert torch.equal(insertion, deletion.flip(0))
    assert not torch.equal(insertion, removed(pixels, fill, ranks, counts).flip(0))


@pytest.mark.parametrize("size", [1, 4, 5, 7, 15])
def test_rows_are_the_same_in_batches_of_any_size(make_picture: MakePicture, size: int) -> None:
    pixels, fill = make_picture(3, 6, 5), make_picture(3, 6, 5, seed=1)
    ranks = removal_ranks(make_picture(3, 6, 5, seed=2), 0)
    counts = removal_counts(30, 4)
    whole = torch.cat([removed(pixels, fill, of_map, counts) for of_map in ranks])
    maps, gone = torch.arange(3).repeat_interleave(5), torch.tensor(counts).repeat(3)
    parts = zip(maps.split(size), gone.split(size), strict=True)
    batches = [removed_rows(pixels, fill, ranks, *part) for part in parts]
    assert torch.equal(torch.cat(batches), whole)
    assert not torch.equal(torch.cat(batches[::-1]), whole) or size == 15


@quick
@given(st.sampled_from([1, 3]), sides, sides, st.integers(1, 5), st.integers(0, 100))
def test_masked_is_the_slow_loop(
    make_picture: MakePicture, channels: int, height: int, width: int, count: int, seed: int
) -> None:
    pixels, fill = (
        make_picture(channels, height, width),
        make_picture(channels, height, width, seed=1),
    )
    generator = torch.Generator().manual_seed(seed)
    segments = torch.randint(count, (height, width), generator=generator, dtype=torch.int32)
    keep = torch.rand(4, count, generator=generator) < 0.5
    pictures = masked(pixels, fill, segments, keep)
    for picture, kept in zip(pictures, keep, strict=True):
        expected = pixels.clone()
        for segment in range(count):
            if not kept[segment]:
                expected[:, segments == segment] = fill[:, segments == segment]
        assert torch.equal(picture, expected)


def test_masked_keeps_all_or_nothing(make_picture: MakePicture) -> None:
    pixels, fill = make_picture(3, 4, 6), make_picture(3, 4, 6, seed=1)
    segments = torch.arange(24).view(4, 6) // 6
    keep = torch.tensor([[True] * 4, [False] * 4])
    assert torch.equal(masked(pixels, fill, segments, keep), torch.stack([pixels, fill]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_segment_mean_is_the_slow_loop(
    make_picture: MakePicture, channels: int, dtype: torch.dtype
) -> None:
    pixels = make_picture(channels, 7, 11, dtype=dtype)
    segments = torch.arange(77).view(7, 11) % 5 * 2  # numbers 1, 3, 5 and 7 stand for no pixel
    expected = torch.empty_like(pixels)
    for segment in segments.unique():
        inside = segments == segment
        expected[:, inside] = pixels[:, inside].mean(1, keepdim=True)
    means = segment_mean(pixels, segments)
    assert means.dtype == dtype
    torch.testing.assert_close(means, expected, atol=1e-6, rtol=0)


def test_segment_mean_of_constant_segments_is_the_picture() -> None:
    segments = torch.arange(35).view(5, 7) // 10
    pixels = (segments / 10.0 + 0.1).expand(3, 5, 7)
    assert torch.equal(segment_mean(pixels, segments), pixels)


def test_inputs_are_unchanged(make_picture: MakePicture) -> None:
    pixels, fill, maps = make_picture(3, 6, 5), make_picture(3, 6, 5, seed=1), torch.zeros(1, 6, 5)
    segments, keep = torch.arange(30).view(6, 5) // 10, torch.tensor([[True, False, True]])
    inputs = [pixels, fill, maps, segments, keep]
    copies = [each.clone() for each in inputs]
    ranks = removal_ranks(maps, 0)[0]
    given_ranks = ranks.clone()
    outputs = [removed(pixels, fill, ranks, [0, 7, 30]), segment_mean(pixels, segments)]
    outputs.append(masked(pixels, fill, segments, keep))
    for output in outputs:
        output.fill_(-1)
    assert all(torch.equal(each, copy) for each, copy in zip(inputs, copies, strict=True))
    assert torch.equal(ranks, given_ranks)
