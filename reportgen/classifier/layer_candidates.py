"""Activations that class activation maps could look at, found by running a picture.

Names and modules say nothing here: what counts is that a tensor has one entry for each picture of a
batch and places that lie over the picture, and that the class score has a gradient there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile
from math import prod

import torch
from torch import Tensor

from reportgen.classifier.evaluator import Evaluator
from reportgen.classifier.functions import BIAS
from reportgen.classifier.grids import Grid, find_grids
from reportgen.classifier.kept_tensors import nothing_kept
from reportgen.classifier.taps import Taps
from reportgen.errors import NotApplicable

Shape = tuple[int, ...]
_READ = 120
_READ_OF_A_GRID = 24
# So that the last grid of a large picture leaves room for those before it.
_MOST_NUMBERS = 2**24
_SHARING = 4
# What mixes channels and goes on elsewhere: queries and keys, the inside of a perceptron. Beside it
# stands the sum or the norm of the block, which holds what the block has found.
_PROJECTIONS = frozenset(
    ("linear", "addmm", "matmul", "__matmul__", "mm", "bmm", "baddbmm", "einsum",
     "scaled_dot_product_attention", "multi_head_attention_forward")
)  # fmt: skip
# What makes a leaf of the picture itself, before the network does anything, and what a network in
# eval mode only passes on.
_NOTHING_NEW = frozenset(
    ("detach", "requires_grad_", "dropout", "dropout1d", "dropout2d", "feature_dropout")
)
# What may hold anything: a script inside an eager network.
_OPAQUE = "script"


@dataclass(frozen=True)
class Listed:
    """An activation by name, how it may lie over the picture, and whether it is a projection.

    The likeliest of ``grids`` comes first.
    """

    name: str
    shape: Shape
    grids: tuple[Grid, ...]
    projection: bool = False


@dataclass(frozen=True)
class Reading:
    """An activation (1, ...) of the picture, and the gradients by it of one or two classes' scores.

    The first gradient is that of the class explained; each is None where its score does not depend
    on the activation.
    """

    name: str
    grids: tuple[Grid, ...]
    projection: bool
    activation: Tensor
    gradients: tuple[Tensor | None, ...]

    @property
    def reached(self) -> bool:
        """Whether the gradient of the class explained is anything but zero at some place."""
        first = self.gradients[0]
        return first is not None and any(bool(grid.spatial(first).any()) for grid in self.grids)

    def sums(self, grid: Grid) -> tuple[Tensor, ...]:
        """Return Grad-CAM's sums (h, w) of each class, before negative ones are cut."""
        return tuple(self._sum(grid, gradient) for gradient in self.gradients)

    def _sum(self, grid: Grid, gradient: Tensor | None) -> Tensor:
        places = grid.spatial(self.activation).float()
        if gradient is None:
            return places.new_zeros(places.shape[2:])
        weights = grid.spatial(gradient).float().mean((2, 3), keepdim=True)
        return (weights * places).sum(1)[0]


def list_activations(evaluator: Evaluator, taps: Taps, pixels: Tensor) -> list[Listed]:
    """Return the activations that may lie over pixels (1, C, H, W), in the order of the network."""
    # Of two pictures: what has one entry whatever the batch, such as position embeddings, is none.
    with nothing_kept():
        found = evaluator.watch(_rows(evaluator, pixels), partial(_shapes, taps))
    shapes = _mixed(taps, found)
    picture = (pixels.shape[-2], pixels.shape[-1])
    fitting = [(*each, find_grids(each[1], picture)) for each in _whole(taps, shapes)]
    return [
        Listed(name, shape, grids, projection)
        for name, shape, projection, grids in fitting
        if grids and taps.function(name) not in _NOTHING_NEW
    ]


def _whole(taps: Taps, shapes: Sequence[tuple[str, Shape]]) -> list[tuple[str, Shape, bool]]:
    """Return (name, shape, whether it is a bare projection), with projections and biases as one."""
    whole: list[tuple[str, Shape, bool]] = []
    for name, shape in shapes:
        function = taps.function(name)
        adds = function == BIAS and bool(whole) and whole[-1][1:] == (shape, True)
        if adds:
            whole.pop()
        whole.append((name, shape, adds or function in _PROJECTIONS))
    return whole


def _mixed(taps: Taps, shapes: Sequence[tuple[str, Shape]]) -> Sequence[tuple[str, Shape]]:
    """Return what comes from the first convolution or projection on, if there is any.

    What comes before it is the picture still: normalised, its channels turned, or cut into patches.
    """
    return list(dropwhile(lambda each: not _mixes(taps.function(each[0])), shapes)) or shapes


def _mixes(function: str) -> bool:
    return "conv" in function or function in _PROJECTIONS or function == _OPAQUE


def _rows(evaluator: Evaluator, pixels: Tensor) -> Tensor:
    return pixels.expand(evaluator.fixed_batch or 2, *pixels.shape[1:])


def _shapes(taps: Taps, batch: Tensor) -> list[tuple[str, Shape]]:
    return [(name, shape) for name, shape in taps.shapes(batch) if shape[:1] == batch.shape[:1]]


def read_last(
    evaluator: Evaluator,
    taps: Taps,
    listed: Sequence[Listed],
    pixels: Tensor,
    classes: Sequence[int],
) -> list[Reading]:
    """Return the last activations of each grid with the classes' gradients, the last first.

    Those that the score does not depend on are left out, and, where there are others, those that
    hold the class scores themselves, place by place.
    """
    chosen = list(_last(listed))
    if not chosen:
        return []
    names = [each.name for each in chosen]
    found, gradients = evaluator.gradients(pixels, taps.reader(names), classes)
    rows = zip(chosen, found, zip(*gradients, strict=True), strict=True)
    readings = [
        Reading(each.name, each.grids, each.projection, tensor, by)
        for each, tensor, by in rows
        # Of one picture, what only looked like one entry for each picture is of another shape.
        if tensor.shape == (1, *each.shape[1:])
    ]
    told = [each for each in readings if each.gradients[0] is not None]
    return [each for each in told if not _is_class_map(each, classes[0])] or told


def read_named(
    evaluator: Evaluator, taps: Taps, name: str, pixels: Tensor, classes: Sequence[int]
) -> Reading:
    """Return the activation called ``name``.

    Raises NotApplicable where it does not lie over the picture.
    """
    reader, rows = taps.reader([name]), _rows(evaluator, pixels)
    shape = evaluator.watch(rows, lambda batch: tuple(reader(batch)[1][0].shape))
    each = shape[:1] == (len(rows),)
    grids = find_grids(shape, (pixels.shape[-2], pixels.shape[-1])) if each else ()
    if not grids:
        raise lies_nowhere(name, (1, *shape[1:]) if each else shape)
    (found,), gradients = evaluator.gradients(pixels, reader, classes)
    return Reading(name, grids, False, found, tuple(by for (by,) in gradients))


def lies_nowhere(name: str, shape: Shape) -> NotApplicable:
    """Return the error for a layer called ``name`` whose activation does not lie over pictures."""
    return NotApplicable(
        f"the layer '{name}' gives a tensor of shape {shape}, "
        "which is no feature map that lies over the picture"
    )


def read_spotted(
    evaluator: Evaluator, taps: Taps, readings: Sequence[Reading], pixels: Tensor
) -> list[Tensor | None]:
    """Return each activation (4, ...) of copies of the picture with a planted spot; see SPOTS.

    None for one that has not an entry for each copy, such as weights for each head of attention.
    """
    reader, copies = taps.reader([each.name for each in readings]), spotted(pixels)

    def run(size: int) -> list[Tensor]:
        parts = [evaluator.activations(part, reader) for part in torch.split(copies, size)]
        return [_joined(tensors) for tensors in zip(*parts, strict=True)]

    rows = zip(readings, evaluator.within_memory(run), strict=True)
    wanted = [(tensor, (len(copies), *each.activation.shape[1:])) for each, tensor in rows]
    return [tensor if tensor.shape == shape else None for tensor, shape in wanted]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    alike = all(part.shape[1:] == parts[0].shape[1:] for part in parts)
    return torch.cat(list(parts)) if alike else parts[0]


def _last(listed: Sequence[Listed]) -> Iterator[Listed]:
    """Yield the last activations of each grid, as far as they fit into memory together."""
    grids = len({each.grids[0] for each in listed})
    most = max(_READ_OF_A_GRID, _READ // max(1, grids))
    share = _MOST_NUMBERS // min(max(1, grids), _SHARING)
    sizes: dict[Grid, list[int]] = {}
    for each in reversed(listed):
        size, known = prod(each.shape[1:]), sizes.setdefault(each.grids[0], [])
        if known and (len(known) == most or sum(known) + size > share):
            continue
        known.append(size)
        numbers = sum(map(sum, sizes.values()))
        if numbers > _MOST_NUMBERS and numbers > size:
            return
        yield each


def _is_class_map(reading: Reading, target: int) -> bool:
    """Return whether of many channels the score depends on its own alone: these are scores."""
    gradient = reading.gradients[0]
    if reading.grids[0].kind != "channels first" or gradient is None:
        return False
    reached = gradient.flatten(2).abs().amax((0, 2)) > 0
    return gradient.shape[1] > max(target, 1) and bool(reached[target]) and int(reached.sum()) == 1


# No two lie in one row or column, and none where the picture's mirror images have one.
SPOTS = ((1.5 / 7, 4.5 / 7), (2.5 / 7, 1.5 / 7), (4.5 / 7, 5.5 / 7), (5.5 / 7, 2.5 / 7))
HALF_SPOT = 0.5 / 7


def spotted(pixels: Tensor) -> Tensor:
    """Return copies (4, C, H, W) of pixels (1, C, H, W), each with a spot at one of SPOTS.

    SPOTS are centres (down, across) in [0, 1]. A spot is a seventh of each side; in it dark values
    are 1 and bright ones 0.
    """
    height, width = pixels.shape[-2:]
    copies = pixels.repeat(len(SPOTS), 1, 1, 1)
    changed = (pixels[0] < 0.5).to(pixels)
    for copy, (down, across) in zip(copies, SPOTS, strict=True):
        rows, columns = _span(down, height), _span(across, width)
        copy[:, rows, columns] = changed[:, rows, columns]
    return copies


def _span(centre: float, side: int) -> slice:
    start = round((centre - HALF_SPOT) * side)
    return slice(start, max(start + 1, round((centre + HALF_SPOT) * side)))
