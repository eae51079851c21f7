"""How activations may lie over a picture, and how they are read in each layout."""

from __future__ import annotations

import pytest
import torch

from reportgen.classifier.grids import Grid, find_grids

FIRST, LAST, TOKENS = "channels first", "channels last", "tokens"


@pytest.mark.parametrize(
    ("shape", "picture", "grids"),
    [
        ((1, 512, 7, 7), (224, 224), [Grid(7, 7, FIRST)]),
        ((1, 512, 7, 10), (224, 320), [Grid(7, 10, FIRST)]),
        ((1, 64, 15, 10), (225, 150), [Grid(15, 10, FIRST)]),
        ((1, 7, 7, 768), (224, 224), [Grid(7, 7, LAST)]),
        ((1, 7, 10, 768), (224, 320), [Grid(7, 10, LAST)]),
        ((1, 7, 7, 7), (224, 224), [Grid(7, 7, FIRST), Grid(7, 7, LAST)]),
        ((1, 196, 768), (224, 224), [Grid(14, 14, TOKENS)]),
        ((1, 197, 768), (224, 224), [Grid(14, 14, TOKENS, 1)]),
        ((1, 198, 768), (224, 224), [Grid(14, 14, TOKENS, 2)]),
        ((1, 201, 768), (224, 224), [Grid(14, 14, TOKENS, 5)]),
        ((1, 212, 768), (224, 224), [Grid(14, 14, TOKENS, 16)]),
        ((1, 213, 768), (224, 224), []),
        ((1, 281, 768), (224, 320), [Grid(14, 20, TOKENS, 1)]),
        ((1, 127, 768), (225, 150), [Grid(14, 9, TOKENS, 1), Grid(13, 9, TOKENS, 10)]),
        ((1, 20, 24, 24), (28, 28), [Grid(24, 24, FIRST)]),
        ((1, 512, 1, 1), (224, 224), []),
        ((1, 512, 7, 7), (224, 448), []),
        ((1, 12, 197, 197), (224, 224), []),
        ((1, 1000), (224, 224), []),
        ((1, 151, 768), (224, 224), [Grid(12, 12, TOKENS, 7)]),
    ],
)
def test_grids_have_the_proportions_of_the_picture(
    shape: tuple[int, ...], picture: tuple[int, int], grids: list[Grid]
) -> None:
    assert list(find_grids(shape, picture)) == grids


def test_few_tokens_fit_several_grids() -> None:
    found = find_grids((1, 17, 8), (32, 32))
    assert [(grid.prefix, grid.height, grid.width) for grid in found] == [
        (1, 4, 4), (8, 3, 3), (13, 2, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("grid", [Grid(2, 3, FIRST), Grid(2, 3, LAST)])
def test_pictures_are_read_in_their_layout(grid: Grid) -> None:
    expected = torch.arange(24.0).reshape(1, 4, 2, 3)
    stored = expected if grid.kind == FIRST else expected.permute(0, 2, 3, 1)
    assert torch.equal(grid.spatial(stored), expected)


def test_tokens_are_read_row_by_row_behind_their_prefix() -> None:
    expected = torch.arange(24.0).reshape(1, 4, 2, 3)
    tokens = torch.cat([torch.full((1, 2, 4), -1.0), expected.flatten(2).transpose(1, 2)], dim=1)
    assert torch.equal(Grid(2, 3, TOKENS, 2).spatial(tokens), expected)
    assert not torch.equal(Grid(2, 3, TOKENS, 1).spatial(tokens[:, :-1]), expected)
