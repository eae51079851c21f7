"""The way from the picture to the tensor the network sees, and the way back for its maps.

``prepare`` equals torchvision's Resize, CenterCrop and ToTensor on a PIL image to the last bit,
and remembers which part of the picture the network sees. ``place_back`` and ``display_copy`` put a
map and the picture on one grid, so that they can be drawn over each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import affine_transform
from torch import Tensor

from reportgen.errors import ImageError, ModelError
from reportgen.planes import Planes
from reportgen.records import Box, Preprocessing

MAX_RESIZED_PIXELS = 178_956_970
"""The largest resized picture, in pixels; only a very long, thin picture comes near it."""

_MODES: Mapping[int, str] = {1: "L", 3: "RGB"}

_LITTLE = 0.4
"""A share of the picture below which a reader has to know that the rest was not seen."""

_FILTERS: Mapping[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class Prepared:
    """A picture as the network sees it, before normalisation.

    ``pixels`` is float32 (C, H, W) in [0, 1], on the CPU. ``crop`` is what the network sees, in
    pixels of the picture; it reaches beyond the picture only where ``notes`` tell of padding.
    ``size`` is the picture's and ``resized`` the resized picture's (width, height), in pixels.
    """

    pixels: Tensor
    crop: Box
    size: tuple[int, int]
    resized: tuple[int, int]
    notes: tuple[str, ...] = ()


def prepare(
    image: Image.Image, preprocessing: Preprocessing, planes: Planes | None = None
) -> Prepared:
    """Return ``image`` resized, cropped at the centre (padded with zeros) and scaled to [0, 1].

    A network of other than one or three channels is given ``planes`` (height, width, channels) of
    the picture instead. Resizing is antialiased, except "nearest". Raises ModelError for an
    impossible ``preprocessing``, ImageError for a picture so long and thin that resizing it is
    impossible, or without the channels that the network takes.
    """
    _check(preprocessing)
    resized = _resized_size(image.size, preprocessing.resize)
    cut = _centre_cut(resized, preprocessing.crop)
    box, way = (cut.left, cut.top, cut.right, cut.bottom), _FILTERS[preprocessing.interpolation]
    sources, converted = _sources(image, preprocessing.channels, planes)
    seen = [_to_tensor(source.resize(resized, way).crop(box)) for source in sources]
    return Prepared(
        pixels=torch.cat(seen),
        crop=_rescaled(cut, resized, image.size),
        size=image.size,
        resized=resized,
        notes=(
            *converted,
            *_padding_note(resized, preprocessing.crop),
            *_little_note(resized, preprocessing.crop),
        ),
    )


def prepare_mask(mask: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """Return a mask (a grey picture, not 0 on the object) as the network sees it: (H, W) bool.

    Resized and cropped as the picture is, but to the nearest pixel; what is padded is no object.
    """
    _check(preprocessing)
    resized = _resized_size(mask.size, preprocessing.resize)
    cut = _centre_cut(resized, preprocessing.crop)
    whole = mask.resize(resized, Image.Resampling.NEAREST)
    seen = whole.crop((cut.left, cut.top, cut.right, cut.bottom))
    return torch.from_numpy(np.array(seen)) > 0


def place_back(saliency: NDArray[Any], crop: Box, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a map of what the network sees on the grid of the picture, NaN outside the crop.

    ``saliency`` is (H, W) over ``crop``, in pixels of a picture of ``size`` (width, height). The
    result is float32 (height, width), interpolated bilinearly between pixel centres and held
    constant from the outermost centres to the edge.
    """
    columns, rows = size
    down = _Axis(saliency.shape[0], crop.top, crop.bottom, rows)
    across = _Axis(saliency.shape[1], crop.left, crop.right, columns)
    placed: NDArray[np.float32] = affine_transform(
        np.asarray(saliency, dtype=np.float32),
        np.diag([down.step, across.step]),
        [down.start, across.start],
        output_shape=(rows, columns),
        order=1,
        mode="nearest",
    )
    placed[~down.inside] = np.nan
    placed[:, ~across.inside] = np.nan
    return placed


def display_copy(
    image: Image.Image, crop: Box, limit: int | None = None
) -> tuple[Image.Image, Box]:
    """Return a copy of ``image`` at ``display_size``, reduced by Lanczos, and ``crop`` on it."""
    shown = display_size(image.size, limit)
    return image.resize(shown, Image.Resampling.LANCZOS), _rescaled(crop, image.size, shown)


def display_size(size: tuple[int, int], limit: int | None = None) -> tuple[int, int]:
    """Return ``size`` (width, height) with its longer side at most ``limit``, at least 1x1."""
    width, height = size
    if limit is None or max(size) <= limit:
        return size
    scale = limit / max(size)
    return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True)
class _Axis:
    """One axis of a map of ``length`` cells that covers ``first`` to ``last`` of ``count`` pixels.

    Pixel i, whose centre is i + 0.5, lies at ``start`` + i * ``step`` cells from the first centre.
    """

    length: int
    first: float
    last: float
    count: int

    @property
    def step(self) -> float:
        return self.length / (self.last - self.first)

    @property
    def start(self) -> float:
        return (0.5 - self.first) * self.step - 0.5

    @property
    def inside(self) -> NDArray[np.bool_]:
        centres = np.arange(self.count) + 0.5
        return (centres >= self.first) & (centres < self.last)


def _sources(
    image: Image.Image, channels: int, planes: Planes | None
) -> tuple[list[Image.Image], tuple[str, ...]]:
    """Return what is resized, in the network's channels, and a note where that was converted."""
    if channels in _MODES:
        return [image.convert(_MODES[channels])], _colour_note(image.mode, channels)
    if planes is None or planes.shape[2] != channels:
        found = len(image.getbands()) if planes is None else planes.shape[2]
        raise ImageError(
            f"The network takes pictures of {channels} channels, but this one has {found}; give "
            f"one with {channels}, such as a .npy array (height, width, {channels}) or a TIFF file."
        )
    # Each by itself: Pillow would weigh colours by an opacity, which these need not have.
    return [Image.fromarray(planes[..., index]) for index in range(channels)], ()


def _colour_note(mode: str, channels: int) -> tuple[str, ...]:
    if mode == "L" and channels == 3:
        return ("a grey picture, repeated for red, green and blue",)
    return ("colours turned into grey, as the network takes one channel",) * (
        mode == "RGB" and channels == 1
    )


def _check(preprocessing: Preprocessing) -> None:
    resize = preprocessing.resize
    lengths = (*preprocessing.crop, *([resize] if isinstance(resize, int) else resize))
    if min(lengths) < 1:
        raise ModelError(f"Expected resize and crop of at least 1 pixel, not {min(lengths)}.")


def _resized_size(size: tuple[int, int], resize: int | tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) after the resize; the longer side is rounded down as torchvision's."""
    if isinstance(resize, int):
        short, long = sorted(size)
        longer = int(resize * long / short)
        width, height = (resize, longer) if size[0] <= size[1] else (longer, resize)
    else:
        height, width = resize
    if width * height > MAX_RESIZED_PIXELS:
        raise ImageError(
            f"A picture of {size[0]}x{size[1]} pixels would become {width}x{height} for this "
            "network; crop it to a less extreme shape first."
        )
    return width, height


def _centre_cut(size: tuple[int, int], crop: tuple[int, int]) -> Box:
    """Return the crop (height, width) at the centre of a picture of ``size`` (width, height)."""
    left, top = _offset(size[0], crop[1]), _offset(size[1], crop[0])
    return Box(left=left, top=top, right=left + crop[1], bottom=top + crop[0])


def _offset(length: int, cropped: int) -> int:
    # torchvision rounds halves to even where it cuts, and pads the larger half on the far side.
    return round((length - cropped) / 2) if cropped <= length else -((cropped - length) // 2)


def _rescaled(box: Box, size: tuple[int, int], other: tuple[int, int]) -> Box:
    """Return a box on a picture of ``size`` (width, height) for the same picture of ``other``."""
    # Multiplied first: a whole side of one picture is then exactly a whole side of the other.
    return Box(
        left=box.left * other[0] / size[0],
        top=box.top * other[1] / size[1],
        right=box.right * other[0] / size[0],
        bottom=box.bottom * other[1] / size[1],
    )


def _padding_note(resized: tuple[int, int], crop: tuple[int, int]) -> tuple[str, ...]:
    if crop[1] <= resized[0] and crop[0] <= resized[1]:
        return ()
    return (
        f"padded with black, as the resized picture ({resized[0]}x{resized[1]} pixels) is smaller "
        f"than what the network sees ({crop[1]}x{crop[0]})",
    )


def _little_note(resized: tuple[int, int], crop: tuple[int, int]) -> tuple[str, ...]:
    seen = min(1, crop[1] / resized[0]) * min(1, crop[0] / resized[1])
    if seen >= _LITTLE:
        return ()
    return (f"the network sees {seen:.0%} of the picture, its middle; crop it to what matters",)


def _to_tensor(image: Image.Image) -> Tensor:
    values = torch.from_numpy(np.array(image))
    channels_last = values if values.ndim == 3 else values[..., None]
    pixels = channels_last.permute(2, 0, 1).contiguous().to(torch.float32)
    # Bicubic resizing of floats may leave [0, 1] by a little.
    return pixels.clamp(0, 1) if image.mode == "F" else pixels.div(255)
