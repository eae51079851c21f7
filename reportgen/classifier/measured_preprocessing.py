"""What a picture's way into a network does, measured by sending pictures through it.

Image processors resize, crop, rescale, shift, normalise and reorder colours, each kind with
options and rounding of its own. What all of them do together is read off a few pictures that are
known: plain ones for mean, standard deviation and the order of the colours, ramps for resize and
crop, and coloured tiles for the interpolation and as the proof of the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.preprocessing import prepare
from reportgen.errors import ModelError
from reportgen.records import Preprocessing, Source

Processor = Callable[[Image.Image], Tensor]
"""From a picture to what the network sees of it: float (C, H, W)."""

Pixels = NDArray[np.uint8]

_SHAPES = ((288, 480), (480, 288))
_INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
_TILE = 12

# The largest mean difference from the processor's own pixels, in [0, 1], that rounding explains.
_ALIKE = 0.01


@dataclass(frozen=True)
class _Values:
    """What happens to values: (pixel - mean) / std, in the network's order of channels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str


@dataclass(frozen=True)
class _Geometry:
    """The size after the resize, the size seen, and what of it can only be approximated."""

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    note: str = ""


def measure(process: Processor, channels: int, source: Source) -> tuple[Hints, tuple[str, ...]]:
    """Return the preprocessing that ``process`` does to pictures of 1 or 3 ``channels``, and notes.

    Raises ModelError where its results are no linear function of the pixels.
    """
    values = _values(process, channels)
    geometry = _geometry(process, channels, values)
    chosen, difference = _interpolation(process, values, geometry)
    hints = Hints(
        channels=Known(len(values.mean), source),
        resize=Known(geometry.resize, source),
        crop=Known(geometry.crop, source),
        interpolation=Known(chosen, source),
        mean=Known(values.mean, source),
        std=Known(values.std, source),
        channel_order=Known(values.order, source) if channels > 1 else None,
    )
    return hints, _notes(geometry, difference)


def _notes(geometry: _Geometry, difference: float) -> tuple[str, ...]:
    if geometry.note:
        return (geometry.note,)
    if difference <= _ALIKE:
        return ()
    return (
        "The folder's image processor resizes in a way of its own, which is approximated: on a "
        f"picture of coloured tiles, pixels in [0, 1] differ by {difference:.3f} on average.",
    )


def _values(process: Processor, channels: int) -> _Values:
    black, white, red = (
        _middle(process(_plain(colour, channels))).mean(dim=(1, 2))
        for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0))
    )
    spread = white - black
    if not bool(spread.isfinite().all()) or bool((spread <= 0).any()):
        raise ModelError(
            "The folder's image processor gives a black and a white picture the same values, or "
            "none; correct its preprocessing, or remove preprocessor_config.json and state it "
            "with --size, --mean and --std."
        )
    first = int(((red - black) / spread).argmax())
    order = "bgr" if channels == 3 and first == 2 else "rgb"
    # Float32 knows seven digits; more would write 0.485 as 0.48499998.
    mean, std = _rounded(-black / spread), _rounded(1 / spread)
    return _Values(mean, std, order)


def _middle(pixels: Tensor) -> Tensor:
    """Return the middle of (C, H, W), where nothing is padded."""
    height, width = pixels.shape[-2:]
    return pixels[:, height // 2 :, width // 2 :][:, :4, :4].double()


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") + 0.0 for value in values.tolist())


def _geometry(process: Processor, channels: int, values: _Values) -> _Geometry:
    """Return how pictures are resized and cropped, from a wide and a tall one."""
    seen, resized = [], []
    for shape in _SHAPES:
        across, down = (_unit(process(_ramp(shape, axis, channels)), values) for axis in (1, 0))
        seen.append((across.shape[0], across.shape[1]))
        resized.append((_extent(down.T), _extent(across)))
    if seen[0] != seen[1]:
        # A processor may keep the number of pixels instead of the shorter side.
        side = min(process(_tiles(channels)).shape[-2:])
        return _Geometry(side, (side, side), _free_size(side))
    return _fixed(seen[0], resized[0], resized[1])


def _free_size(side: int) -> str:
    return (
        "The folder's image processor keeps the shape of a picture; here the network sees the "
        f"centre square, {side}x{side} pixels."
    )


def _fixed(seen: tuple[int, int], wide: tuple[int, int], tall: tuple[int, int]) -> _Geometry:
    """Return the geometry behind one size ``seen``, and a ``wide`` and a ``tall`` picture's.

    All are (height, width) in pixels.
    """
    if wide == tall:
        return _Geometry(wide, seen)
    if _keeps_shape(wide) and wide == tall[::-1]:
        return _Geometry(min(wide), seen)
    note = (
        "The folder's image processor pads pictures or resizes them in a way of its own; here the "
        f"whole picture is resized to {seen[1]}x{seen[0]} pixels."
    )
    return _Geometry(seen, seen, note)


def _keeps_shape(size: tuple[int, int]) -> bool:
    height, width = _SHAPES[0]
    return abs(size[1] - size[0] * width / height) <= 1


def _extent(ramp: Tensor) -> int:
    """Return how many pixels wide a ramp from 0 to 1 is, of which ``ramp`` (H, W) is a part."""
    inner = _inner(_inner(ramp).T).mean(dim=1)
    places = torch.arange(len(inner), dtype=inner.dtype)
    places = places - places.mean()
    slope = float((places * inner).sum() / (places * places).sum())
    return round(1 / slope) if slope > 0 else 0


def _inner(rows: Tensor) -> Tensor:
    """Return all but the first and the last eighth, which may be padded."""
    margin = len(rows) // 8
    return rows[margin : len(rows) - margin]


def _interpolation(process: Processor, values: _Values, geometry: _Geometry) -> tuple[str, float]:
    """Return the interpolation that comes nearest to ``process``, and the mean difference left."""
    picture = _tiles(len(values.mean))
    wanted = _unit_channels(process(picture), values)
    if wanted.shape[-2:] != geometry.crop:
        return _INTERPOLATIONS[0], 0.0
    differences = {
        name: _difference(_prepared(picture, values, geometry, name), wanted)
        for name in _INTERPOLATIONS
    }
    best = min(differences, key=lambda name: differences[name])
    return best, differences[best]


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the mean difference, with the crop one pixel off where that is nearer.

    Half a pixel is rounded down by some libraries, and to the even number by others.
    """
    shifted = (ours.roll((by, by), dims=(1, 2)) for by in (-1, 0, 1))
    return min(float((s - theirs)[:, 1:-1, 1:-1].abs().mean()) for s in shifted)


def _prepared(picture: Image.Image, values: _Values, geometry: _Geometry, name: str) -> Tensor:
    plain = Preprocessing(
        channels=len(values.mean),
        resize=geometry.resize,
        crop=geometry.crop,
        interpolation=name,  # type: ignore[arg-type]
        mean=values.mean,
        std=values.std,
    )
    pixels = prepare(picture, plain).pixels.double()
    return pixels.flip(0) if values.order == "bgr" else pixels


def _unit(pixels: Tensor, values: _Values) -> Tensor:
    """Return normalised (C, H, W) as grey in [0, 1], (H, W)."""
    return _unit_channels(pixels, values).mean(dim=0)


def _unit_channels(pixels: Tensor, values: _Values) -> Tensor:
    mean, std = (torch.tensor(v).double().view(-1, 1, 1) for v in (values.mean, values.std))
    return pixels.double() * std + mean


def _plain(colour: tuple[int, int, int], channels: int) -> Image.Image:
    return Image.new("RGB", _SHAPES[0][::-1], colour).convert("RGB" if channels == 3 else "L")


def _ramp(shape: tuple[int, int], axis: int, channels: int) -> Image.Image:
    """Return a picture (height, width) that goes from black to white along ``axis``."""
    levels = (np.arange(shape[axis]) + 0.5) / shape[axis] * 255
    # Noise before rounding, so that the mean of many pixels is the level and not its rounding.
    noise = np.random.default_rng(0).random(shape)
    along = levels[:, None] if axis == 0 else levels[None, :]
    return _picture(np.floor(along + noise).clip(0, 255).astype(np.uint8), channels)


def _tiles(channels: int) -> Image.Image:
    """Return a square picture of coloured tiles: sharp edges, on which interpolations differ."""
    cells = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    whole = cells.repeat(_TILE, axis=0).repeat(_TILE, axis=1)
    return Image.fromarray(whole).convert("RGB" if channels == 3 else "L")


def _picture(grey: Pixels, channels: int) -> Image.Image:
    return Image.fromarray(grey).convert("RGB" if channels == 3 else "L")
