"""Pictures with other than one or three channels: infrared beside colours, several bands, opacity.

They are kept as they are stored, one plane a channel, because no colour picture can hold them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reportgen.errors import ImageError

Planes = NDArray[np.uint8] | NDArray[np.float32]

MOST = 16
"""The most channels that a picture may have."""

_WHITES = (1, 255, 65535)


def read_npy(path: Path, shown: str) -> NDArray[Any]:
    """Return the array in a NumPy file as it is; ImageError for objects, which could run code."""
    try:
        values: NDArray[Any] = np.load(path, allow_pickle=False)
    # The last two: a short file may say that it holds more than any memory.
    except (ValueError, OSError, EOFError, MemoryError, OverflowError) as error:
        raise ImageError(
            f"The array {shown} cannot be read: {error}; save it again with numpy.save."
        ) from None
    return values


def read_bands(path: Path, largest: int) -> NDArray[Any] | None:
    """Return the bands or grey pages (height, width, channels) of a TIFF file, None for others.

    None also for one or three channels, more than ``MOST``, and more than ``largest`` pixels.
    """
    # Imported late: most pictures need none of it.
    import tifffile

    try:
        with tifffile.TiffFile(os.fspath(path)) as file:
            series = file.series[0]
            shape, axes = series.shape, series.axes
            if len(shape) != 3 or int(np.prod(shape[-2:])) > largest * MOST:
                return None
            values: NDArray[Any] = series.asarray()
    except Exception:  # a damaged or rare file: what Pillow says of it is told
        return None
    found = values if axes.endswith("S") else np.moveaxis(values, 0, -1)
    return found if is_special(found.shape[2]) else None


def is_special(channels: int) -> bool:
    """Return whether a picture of so many channels has to be kept as planes."""
    return channels not in (1, 3) and 2 <= channels <= MOST


def check_array(values: NDArray[Any]) -> None:
    """Raise ImageError unless an array is (H, W) or (H, W, C), of a type that a picture has."""
    shape, dtype = values.shape, values.dtype
    # Nobody brings a picture of three rows: these are channels.
    first = len(shape) == 3 and 0 < shape[0] <= 4 and shape[0] < min(shape[1:])
    if not (len(shape) == 2 or (len(shape) == 3 and 1 <= shape[2] <= MOST and not first)):
        raise ImageError(
            f"Expected an array of shape (height, width) or (height, width, 1 to {MOST} channels), "
            f"not {shape}; move the channels to the end."
        )
    if dtype not in (np.uint8, np.uint16) and not np.issubdtype(dtype, np.floating):
        raise ImageError(
            "Expected an array of uint8 in [0, 255], of uint16 in [0, 65535] or of floats in "
            f"[0, 1], not of {dtype}."
        )


def check_range(values: NDArray[Any]) -> int:
    """Return what white is in an array of this type; ImageError for floats outside [0, 1]."""
    if values.dtype in (np.uint8, np.uint16):
        return int(np.iinfo(values.dtype).max)
    if not (values.min() >= 0 and values.max() <= 1):
        raise ImageError(
            "Expected floats in [0, 1], not values from "
            f"{values.min():g} to {values.max():g}; scale the array first."
        )
    return 1


def planes_of(values: NDArray[Any], shown: str) -> tuple[Planes, str]:
    """Return values (height, width, channels) as planes, uint8 or float32 in [0, 1], and a note.

    The note says what was taken for white; "" for bytes, where there is no doubt. Raises
    ImageError for values that are negative, not finite, or no numbers of a picture.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values), ""
    if values.dtype.kind not in "uif":
        raise ImageError(f"Expected the picture {shown} to hold numbers, not {values.dtype}.")
    low, high = float(values.min()), float(values.max())
    white = 65535 if values.dtype == np.uint16 else next((w for w in _WHITES if high <= w), None)
    if not (low >= 0 and white):
        raise ImageError(
            f"Expected the picture {shown} to hold values from 0 to 1, 255 or 65535, not from "
            f"{low:g} to {high:g}; scale it first."
        )
    scaled = np.asarray(values, dtype=np.float32) / np.float32(white)
    return scaled, f"{values.dtype} values scaled to [0, 1], 0 shown black and {white} white"


def first_channels(planes: Planes) -> Image.Image:
    """Return the first three channels as red, green and blue, or the first alone as grey."""
    chosen = planes[..., :3] if planes.shape[2] >= 3 else planes[..., 0]
    eight = chosen if chosen.dtype == np.uint8 else np.rint(chosen * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(eight))


def shown_note(channels: int) -> str:
    """Return the note for a picture that is shown by its first channels."""
    which = "three are shown as red, green and blue" if channels > 2 else "one is shown as grey"
    return f"{channels} channels, of which the first {which}"
