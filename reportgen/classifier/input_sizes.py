"""Which sizes of pictures a network was probably made for, told by its weights and its strides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, product

from torch import Tensor, nn

from reportgen.classifier.operations import Operation, Shape, watch

Size = tuple[int, int]

USUAL_SIDES = (224, 32, 28, 64, 96, 128, 256, 299, 384, 512, 48, 160, 192, 320, 448)
SMALL_SIDE = 32

_ROUND_SIDES = {
    *USUAL_SIDES, 16, 24, 40, 50, 56, 80, 100, 112, 120, 144, 150, 180, 200, 227, 240, 250, 288,
    300, 336, 350, 360, 400, 416, 480, 500, 600, 608, 640, 720, 768, 800, 896, 960, 1000, 1024,
}  # fmt: skip
_PROBED = (224, 448)
_PREFIXES = (0, 1, 2, 5)
_ATTRIBUTES = ("image_size", "img_size", "input_size")
_LARGEST = 2048
_TRIES = 16
_SMALL_STRIDE = 8
_FULL_SIZE_CONVOLUTIONS = 3


def stated_sizes(network: nn.Module) -> Iterator[Size]:
    """Give the sizes that a network's own attributes name, such as ``image_size``."""
    for owner in (network, getattr(network, "patch_embed", None), getattr(network, "config", None)):
        for name in _ATTRIBUTES:
            value = getattr(owner, name, None)
            sides = (value, value) if isinstance(value, int) else value
            if isinstance(sides, tuple | list) and len(sides) == 2 and all(map(_is_side, sides)):
                yield int(sides[0]), int(sides[1])


def likely_sizes(network: nn.Module, zeros: Callable[[Size], Tensor]) -> Iterator[Size]:
    """Give the sizes that fit the weights of a network which does not take any size.

    They are those for which its last feature map has as many values as a linear layer takes, and
    those with as many patches as there are positions. ``zeros`` makes a batch of a size.
    """
    yield from _by_positions(network)
    small, large = (_failure(network, zeros((side, side))) for side in _PROBED)
    if small.map[1] != large.map[1]:
        return
    axis = _Axis(small.map[2], max(1, large.map[2] - small.map[2]))
    counts = (*small.wanted, *(p.shape[1] for p in network.parameters() if p.ndim == 2))
    for rows, columns in _grids(counts, small.map[1]):
        near = product(axis.sides(rows), axis.sides(columns))
        pairs = [pair for pair in near if rows != columns or pair[0] == pair[1]]
        yield from islice(pairs, _TRIES)


def made_for_small(network: nn.Module, batch: Tensor) -> bool:
    """Return whether a network was made for pictures of about 32 pixels.

    Such networks (ResNet and DenseNet for CIFAR) keep the full size over several convolutions and
    shrink it by 8 at most, which would cost too much on larger pictures. ``batch`` (n, C, H, W) is
    one that it takes.
    """
    heights: list[int] = []

    def note(operation: Operation) -> None:
        if "convolution" in operation.name and operation.feature_map:
            heights.append(operation.feature_map[2])

    watch(network, batch, note)
    height = batch.shape[2]
    full = sum(found == height for found in heights)
    return full >= _FULL_SIZE_CONVOLUTIONS and min(heights) * _SMALL_STRIDE >= height


@dataclass(frozen=True)
class _Axis:
    """How many places a feature map has by the side of the picture: ``places`` at the smaller of
    the sides probed, ``more`` more of them at the larger.
    """

    places: int
    more: int

    def sides(self, places: int) -> list[int]:
        """Return the sides that may give so many places, round ones first, then the nearest."""
        stride = (_PROBED[1] - _PROBED[0]) / self.more
        middle = round(_PROBED[0] + (places - self.places) * stride)
        reach = math.ceil(2 * stride)
        around = range(max(2, middle - reach), min(_LARGEST, middle + reach) + 1)
        return sorted(around, key=lambda side: (side not in _ROUND_SIDES, abs(side - middle)))


def _is_side(value: object) -> bool:
    return isinstance(value, int) and 2 <= value <= _LARGEST


@dataclass(frozen=True)
class _Failure:
    """The last feature map before a network fails, and how many values it wanted instead."""

    map: Shape
    wanted: tuple[int, ...]


def _failure(network: nn.Module, batch: Tensor) -> _Failure:
    """Return where a network fails with a batch of another size; the first map is the batch."""
    shapes: list[Shape] = [tuple(batch.shape)]
    wanted: list[int] = []

    def note(operation: Operation) -> None:
        if operation.feature_map and operation.feature_map[0] == len(batch):
            shapes.append(operation.feature_map)
        elif operation.result is None and operation.name in ("addmm", "mm"):
            wanted.append(int(operation.tensors[-1].shape[0]))
        elif operation.result is None and operation.name in ("view", "reshape", "_unsafe_view"):
            wanted.append(int(operation.arguments[1][-1]))

    watch(network, batch, note)
    return _Failure(shapes[-1], tuple(wanted))


def _grids(counts: Iterable[int], channels: int) -> Iterator[Size]:
    """Give the (rows, columns) of maps of ``channels`` that have one of ``counts`` values."""
    whole = (count for count in dict.fromkeys(counts) if count > 0 and count % channels == 0)
    for places in (count // channels for count in whole):
        root = math.isqrt(places)
        for rows in range(root, max(1, root // 2) - 1, -1):
            if places % rows == 0 and places // rows <= 3 * rows:
                yield rows, places // rows


def _by_positions(network: nn.Module) -> Iterator[Size]:
    """Give the sizes whose patches are as many as the positions (1, positions, width) known."""
    patch = next((p.shape[-1] for p in network.parameters() if p.ndim == 4), 1)
    for tokens in (p.shape[1] for p in network.parameters() if p.ndim == 3 and p.shape[0] == 1):
        for prefix in _PREFIXES:
            side = math.isqrt(max(0, tokens - prefix))
            if side > 1 and side**2 == tokens - prefix and patch > 1:
                yield side * patch, side * patch
