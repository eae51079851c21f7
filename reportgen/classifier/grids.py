"""How an activation lies over the picture: its grid of places, and the order of its axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor

from torch import Tensor

_MOST_PREFIX = 16
_UNPADDED = 8


@dataclass(frozen=True)
class Grid:
    """How an activation is laid out over the picture: its grid and the order of its axes.

    ``kind`` is "channels first", "channels last" or "tokens"; ``prefix`` tokens (class,
    distillation, registers) stand before those of the places.
    """

    height: int
    width: int
    kind: str
    prefix: int = 0

    def spatial(self, activation: Tensor) -> Tensor:
        """Return the activation as (n, channels, height, width): the same memory, seen so."""
        if self.kind == "channels first":
            return activation
        if self.kind == "channels last":
            return activation.permute(0, 3, 1, 2)
        tokens = activation[:, self.prefix :].transpose(1, 2)
        return tokens.reshape(len(tokens), -1, self.height, self.width)


def find_grids(shape: tuple[int, ...], picture: tuple[int, int]) -> tuple[Grid, ...]:
    """Return all ways in which a tensor of ``shape`` may lie over a picture of (height, width).

    A grid has the picture's proportions (to within one cell) and more than one cell each way; with
    0 to 16 prefix tokens, one number of tokens may fit several grids, the fewest prefix tokens
    first.
    """
    if len(shape) == 3:
        return tuple(_token_grids(shape[1], picture))
    if len(shape) != 4:
        return ()
    sides = {"channels first": shape[2:], "channels last": shape[1:3]}
    return tuple(Grid(*size, kind) for kind, size in sides.items() if _fits(*size, picture))


def _fits(height: int, width: int, picture: tuple[int, int]) -> bool:
    if min(height, width) < 2 or not (_side(height, picture[0]) and _side(width, picture[1])):
        return False
    return abs(height * picture[1] / picture[0] - width) < 1


def _side(cells: int, pixels: int) -> bool:
    # Between half and full size lie no strides, only look-alikes such as 197x197 attention weights;
    # a few pixels less than full size are unpadded convolutions.
    return 2 * cells <= pixels + 1 or 0 <= pixels - cells <= _UNPADDED


def _token_grids(tokens: int, picture: tuple[int, int]) -> Iterator[Grid]:
    for prefix in range(min(_MOST_PREFIX + 1, tokens)):
        places = tokens - prefix
        side = (places * picture[0] / picture[1]) ** 0.5
        for height in dict.fromkeys((floor(side), ceil(side))):
            if height and places % height == 0 and _fits(height, places // height, picture):
                yield Grid(height, places // height, "tokens", prefix)
