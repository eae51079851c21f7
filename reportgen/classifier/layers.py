"""Which activation Grad-CAM looks at, found by running a probe and looking at the tensors.

The last feature map that still has a place for every region of the picture is taken: (n, C, h, w),
(n, h, w, C), or tokens (n, prefix + h*w, C). A candidate is passed over where no gradient reaches
its places, as for the patch tokens after a transformer's last block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from reportgen.classifier.evaluator import Evaluator, Resume
from reportgen.classifier.taps import Taps, taps_of
from reportgen.errors import NotApplicable, unknown_name

_PREFIXES = (0, 1, 2, 5)
_UNPADDED = 8


@dataclass(frozen=True)
class Grid:
    """How an activation is laid out over the picture: its grid and the order of its axes."""

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


@dataclass(frozen=True)
class FeatureLayer:
    """A layer chosen for class activation maps, how to read it, and how to run what follows it."""

    name: str
    grid: Grid
    read: Callable[[Tensor], tuple[object, Tensor]]
    resume: Resume

    def __call__(self, batch: Tensor) -> tuple[object, Tensor]:
        """Return the network's output and the activation in its own layout."""
        return self.read(batch)


def find_grid(shape: tuple[int, ...], picture: tuple[int, int]) -> Grid | None:
    """Return how a tensor of ``shape`` lies over a picture of (height, width), or None.

    A grid has the picture's proportions (to within one cell) and more than one cell each way.
    """
    if len(shape) == 4:
        if _fits(shape[2], shape[3], picture):
            return Grid(shape[2], shape[3], "channels first")
        if _fits(shape[1], shape[2], picture):
            return Grid(shape[1], shape[2], "channels last")
    if len(shape) == 3:
        return _token_grid(shape[1], picture)
    return None


def _fits(height: int, width: int, picture: tuple[int, int]) -> bool:
    if min(height, width) < 2 or not (_side(height, picture[0]) and _side(width, picture[1])):
        return False
    return abs(height * picture[1] / picture[0] - width) < 1


def _side(cells: int, pixels: int) -> bool:
    # Between half and full size lie no strides, only look-alikes such as 197x197 attention weights;
    # a few pixels less than full size are unpadded convolutions.
    return 2 * cells <= pixels + 1 or 0 <= pixels - cells <= _UNPADDED


def _token_grid(tokens: int, picture: tuple[int, int]) -> Grid | None:
    for prefix in (p for p in _PREFIXES if p < tokens):
        height = round(((tokens - prefix) * picture[0] / picture[1]) ** 0.5)
        if height and (tokens - prefix) % height == 0:
            width = (tokens - prefix) // height
            if _fits(height, width, picture):
                return Grid(height, width, "tokens", prefix)
    return None


def find_layer(evaluator: Evaluator, pixels: Tensor, target: int, name: str = "") -> FeatureLayer:
    """Return the layer for Grad-CAM on pixels (1, C, H, W): ``name``, or the last that is usable.

    Where the gradient is zero everywhere (a constant score), it is the last one that the score
    depends on. Raises UsageError for a name that the network does not have, and NotApplicable where
    no activation has the form of a feature map or the score depends on none.
    """
    taps = taps_of(evaluator.network)
    shapes = evaluator.watch(pixels, partial(_shapes, taps))
    if name:
        return _named(taps, name, evaluator, pixels)
    flat: FeatureLayer | None = None
    for layer in _candidates(evaluator, taps, shapes, pixels):
        gradient = evaluator.feature_gradients(pixels, layer, target)[1]
        if gradient is None or not bool(gradient.isfinite().all()):
            continue
        if bool(layer.grid.spatial(gradient).any()):
            return layer
        flat = flat or layer
    if flat is None:
        raise NotApplicable(
            "no layer gives a feature map that lies over the picture and receives a gradient"
        )
    return flat


def _shapes(taps: Taps, batch: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Return names and shapes of the activations that have one entry for each picture."""
    return [(name, shape) for name, shape in taps.shapes(batch) if shape[:1] == batch.shape[:1]]


def _candidates(
    evaluator: Evaluator, taps: Taps, shapes: list[tuple[str, tuple[int, ...]]], pixels: Tensor
) -> Iterator[FeatureLayer]:
    with torch.no_grad():
        outputs = evaluator.raw(pixels).shape[1]
    for name, shape in reversed(shapes):
        grid = find_grid(shape, (pixels.shape[-2], pixels.shape[-1]))
        if grid is not None and not _class_map(grid, shape, outputs):
            yield FeatureLayer(name, grid, taps.tap(name), taps.resume(name))


def _named(taps: Taps, name: str, evaluator: Evaluator, pixels: Tensor) -> FeatureLayer:
    if name not in taps.names():
        raise unknown_name("layer", name, taps.names())
    read = taps.tap(name)
    shape = evaluator.watch(pixels, lambda batch: tuple(read(batch)[1].shape))
    grid = find_grid(shape, (pixels.shape[-2], pixels.shape[-1]))
    if grid is None:
        raise NotApplicable(
            f"the layer '{name}' gives a tensor of shape {shape}, "
            "which is no feature map that lies over the picture"
        )
    return FeatureLayer(name, grid, read, taps.resume(name))


def _class_map(grid: Grid, shape: tuple[int, ...], outputs: int) -> bool:
    # One channel an output: these are scores in place already, not features.
    return grid.kind == "channels first" and shape[1] == outputs
