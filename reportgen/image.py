"""Opening a picture: checked, upright, in 8 bits, as "RGB" or "L", with a note of what was done.

The picture is read as a person means it: its EXIF orientation is applied, transparent parts lie on
white, and deep values are scaled by their true range. Colour profiles are not applied, because the
pipelines that classifiers are trained and served with do not apply them; a note says so.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from reportgen.errors import ImageError
from reportgen.planes import (
    Planes,
    check_array,
    check_range,
    first_channels,
    planes_of,
    read_bands,
    read_npy,
    shown_note,
)
from reportgen.signatures import NUMPY, RAW, TIFF, looks_like

MAX_PIXELS = 178_956_970
"""The largest picture that is read, in pixels: Pillow's own limit for a decompression bomb."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
"""The formats that are read, as Pillow names them; some of the others would run a program."""

_WORDS: Mapping[str, str] = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with transparency",
    "La": "grey with transparency",
    "I": "grey",
    "I;16": "grey",
    "I;16B": "grey",
    "I;16L": "grey",
    "F": "grey",
    "P": "palette",
    "PA": "palette with transparency",
    "RGB": "RGB",
    "RGBA": "RGB with transparency",
    "RGBa": "RGB with transparency",
    "RGBX": "RGB",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
    "HSV": "HSV",
}
_GREY = frozenset(mode for mode, word in _WORDS.items() if word.startswith(("grey", "black")))
_CONVERTED = frozenset({"P", "PA", "CMYK", "YCbCr", "HSV"})
_PLANES = frozenset({"LA", "RGBA", "RGBX", "CMYK"})

_WHITES: Mapping[str, tuple[int, ...]] = {
    "12-bit": (4095,),
    "16-bit": (65535,),
    "32-bit": (255, 65535),
    "floating-point": (1,),
}

_TURNS: Mapping[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """A picture as a person sees it.

    ``image`` is upright and in mode "RGB", or "L" where the source is grey; at least 2x2 pixels.
    ``name`` is the file's base name ("image" for a picture from memory), unprintable characters
    replaced. ``sha256`` is of the file's bytes, for a picture from memory of mode, size and pixels
    of ``image``, in hexadecimal. ``mode`` is how the source held it, in words; ``notes`` say what
    was done to it. ``planes`` (height, width, channels), uint8 or float32 in [0, 1], is what the
    source holds where that is neither one channel nor three, for networks that take as many.
    """

    image: Image.Image
    name: str
    sha256: str
    mode: str
    notes: tuple[str, ...] = ()
    planes: Planes | None = None


@dataclass(frozen=True)
class _Stored:
    """How values are stored, known only before Pillow decodes them; ``depth`` is "" for 8 bits."""

    mode: str
    depth: str
    white_is_zero: bool


def open_image(
    source: str | os.PathLike[str] | Image.Image | NDArray[Any],
) -> Picture:
    """Return the picture in a file or in memory, upright and in 8 bits; ``source`` stays as it is.

    An array, also one in a file of ``numpy.save``, is (height, width) or (height, width, channels),
    of uint8 in [0, 255], uint16 in [0, 65535] or floats in [0, 1]; of four channels the last is
    opacity, but for networks that take four. Of an animation or a file of several pages the first
    frame is read; the grey pages of a TIFF file also are its channels. Raises ImageError for
    anything that is not a whole picture of 2x2 to ``MAX_PIXELS`` pixels.
    """
    if isinstance(source, Image.Image):
        return _from_memory(source)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, (str, os.PathLike)):
        return _from_file(Path(source))
    raise ImageError(
        "Expected a picture as a path, a PIL image or a numpy array, "
        f"not a value of type {type(source).__name__}."
    )


def _from_file(path: Path) -> Picture:
    shown = repr(str(path))
    _check_file(path, shown)
    with _reading(shown), path.open("rb") as file:
        head = file.read(6)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if head == NUMPY:
        picture = _from_array(read_npy(path, shown), shown)
    else:
        bands = read_bands(path, MAX_PIXELS) if head[:4] in TIFF else None
        picture = _decoded(path, shown) if bands is None else _with_bands(path, bands, shown)
    return replace(picture, name=_printable(path.name), sha256=digest)


def _decoded(path: Path, shown: str) -> Picture:
    with _reading(shown) as caught, path.open("rb") as file:
        mode, image, notes, planes = _as_seen(_identified(file, shown), shown)
    return Picture(image, "", "", mode, notes + _warned(caught), planes)


def _with_bands(path: Path, bands: NDArray[Any], shown: str) -> Picture:
    """Return the picture of a TIFF file of several bands, which Pillow may be unable to read."""
    try:
        picture = _decoded(path, shown)
    except ImageError:
        return _of_planes(bands, shown)
    if picture.planes is None and bands.shape[1::-1] == picture.image.size:
        with suppress(ImageError):  # of its other pages nobody need know
            return replace(picture, planes=planes_of(bands, shown)[0])
    return picture


def _of_planes(values: NDArray[Any], shown: str) -> Picture:
    _check_size(values.shape[1], values.shape[0], shown)
    planes, note = planes_of(values, shown)
    image, channels = first_channels(planes), planes.shape[2]
    notes = tuple(text for text in (note, shown_note(channels)) if text)
    mode = f"{channels} channels of {values.dtype}"
    return Picture(image, "image", _pixel_hash(image, planes.tobytes()), mode, notes, planes)


def _from_memory(image: Image.Image) -> Picture:
    with _reading("'image'") as caught:
        mode, seen, notes, planes = _as_seen(image, "'image'")
    return Picture(seen, "image", _pixel_hash(seen), mode, notes + _warned(caught), planes)


def _from_array(values: NDArray[Any], shown: str = "'image'") -> Picture:
    check_array(values)
    _check_size(values.shape[1], values.shape[0], shown)
    if values.ndim == 3 and values.shape[2] not in (1, 3, 4):
        return _of_planes(values, shown)
    flat = values[..., 0] if values.shape[2:] == (1,) else values
    white = check_range(flat)
    if flat.dtype == np.uint8:
        return _from_memory(Image.fromarray(np.ascontiguousarray(flat)))
    eight = np.rint(np.asarray(flat, dtype=np.float64) * (255 / white)).astype(np.uint8)
    picture = _from_memory(Image.fromarray(eight))
    depth = "16-bit" if white > 1 else "floating-point"
    planes = None if picture.planes is None else planes_of(flat, shown)[0]
    return replace(picture, notes=(_scaling_note(depth, 0, white), *picture.notes), planes=planes)


def _check_file(path: Path, shown: str) -> None:
    """Refuse what is not a file with something in it; a pipe would be waited for without end."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ImageError(f"There is no picture {shown}; check the path.") from None
    except OSError as error:
        raise ImageError(_unreadable(shown, error)) from None
    except ValueError:
        raise ImageError(f"No file can have the name {shown}; check the path.") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise ImageError(f"Expected the file of a picture, but {shown} is {kind}.")
    if status.st_size == 0:
        raise ImageError(f"The picture {shown} is empty; copy or download it again.")
    if RAW.fullmatch(path.suffix):
        raise ImageError(_not_read(shown, "a camera's raw file"))


@contextmanager
def _reading(shown: str) -> Iterator[list[warnings.WarningMessage]]:
    """Read strictly, whatever the caller has set; collect warnings and name errors.

    Any exception becomes ImageError, because damaged files make decoders raise nearly anything.
    """
    tolerant = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings(record=True, action="always") as caught:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield caught
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(_too_large(shown)) from None
    except Exception as error:
        raise ImageError(_unreadable(shown, error)) from None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = tolerant


def _identified(file: IO[bytes], shown: str) -> Image.Image:
    Image.init()
    known = tuple(name for name in FORMATS if name in Image.OPEN)
    try:
        return Image.open(file, formats=known)
    except UnidentifiedImageError:
        file.seek(0)
        raise ImageError(_not_read(shown, looks_like(file.read(512)))) from None


def _as_seen(
    image: Image.Image, shown: str
) -> tuple[str, Image.Image, tuple[str, ...], Planes | None]:
    """Return the stored mode in words, a copy in "RGB" or "L", what was done to it, and planes."""
    _check_size(*image.size, shown)
    if image.mode not in _WORDS:
        raise ImageError(f"The picture {shown} is in {image.mode} colours; save it as RGB first.")
    stored = _stored(image)
    word = f"{stored.depth} {_WORDS[stored.mode]}".strip()
    before = (_frame_note(image), _profile_note(image))
    upright, turned = _turned_upright(image)
    planes = np.asarray(upright) if upright.mode in _PLANES else None
    shallow, scaled = _in_8_bits(upright, stored, shown)
    opaque, flattened = _on_white(shallow)
    converted = f"converted from {word}" if stored.mode in _CONVERTED else ""
    final = opaque.convert("L" if stored.mode in _GREY else "RGB")
    final.info.clear()  # a copy saved later must not carry the old profile, turn or place along
    notes = (*before, turned, scaled, converted, flattened)
    return word, final, tuple(note for note in notes if note), planes


def _stored(image: Image.Image) -> _Stored:
    raw = "".join(str(tile.args) for tile in getattr(image, "tile", ())[:1])
    # Pillow opens grey with opacity in 16 bits as RGBA, and undoes "white is zero" only in 8 bits.
    mode = "LA" if raw.startswith("LA;16") else image.mode
    white_is_zero = getattr(image, "tag_v2", {}).get(262) == 0 and mode in ("F", "I;16", "I;16B")
    return _Stored(mode, _depth(image, raw), white_is_zero)


def _depth(image: Image.Image, raw: str) -> str:
    if image.mode == "F":
        return "floating-point"
    if bits := re.search(r";(12|16)", image.mode + raw):
        return f"{bits[1]}-bit"
    # Pillow scales a PPM file to [0, 65535], or to 8 bits, from any white above 255.
    if getattr(image, "format", "") == "PPM" and (white := re.search(r", (\d+)\)$", raw)):
        return "16-bit" if int(white[1]) > 255 else ""
    return "32-bit" if image.mode == "I" else ""


def _frame_note(image: Image.Image) -> str:
    frames = getattr(image, "n_frames", 1)
    if frames == 1:
        return ""
    return f"first of {frames} frames" if not image.tell() else f"one of {frames} frames"


def _profile_note(image: Image.Image) -> str:
    profile = image.info.get("icc_profile") or b"sRGB"
    standard = b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile
    return "" if standard else "ICC colour profile ignored"


def _turned_upright(image: Image.Image) -> tuple[Image.Image, str]:
    # Pillow turns a TIFF itself while it loads, and then forgets that it did.
    turned = getattr(image, "tag_v2", {}).get(ExifTags.Base.Orientation) in _TURNS
    image.load()
    orientation, damaged = _orientation(image)
    if orientation in _TURNS:
        image, turned = image.transpose(_TURNS[orientation]), True
    return image, "turned upright as its EXIF orientation says" if turned else damaged


def _orientation(image: Image.Image) -> tuple[int, str]:
    """Return the EXIF orientation, 1 with a note where a camera or an editor left it broken."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1)), ""
    except Exception:
        return 1, "damaged EXIF data ignored"


def _in_8_bits(image: Image.Image, stored: _Stored, shown: str) -> tuple[Image.Image, str]:
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image, f"{stored.depth} values scaled to 8 bits" if stored.depth else ""
    values: NDArray[Any] = np.asarray(image).astype(np.float64 if image.mode == "F" else np.float32)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ImageError(f"The picture {shown} has values that are not finite; replace them first.")
    black, white = _black_and_white(low, high, stored)
    eight = np.rint((values - black) * (255 / ((white - black) or 1))).astype(np.uint8)
    return Image.fromarray(eight), _scaling_note(stored.depth, black, white)


def _black_and_white(low: float, high: float, stored: _Stored) -> tuple[float, float]:
    whites = [white for white in _WHITES[stored.depth] if low >= 0 and high <= white]
    black, white = (0, whites[0]) if whites else (low, high)
    return (white, black) if stored.white_is_zero else (black, white)


def _scaling_note(depth: str, black: float, white: float) -> str:
    return f"{depth} values scaled to 8 bits, {black:.6g} shown black and {white:.6g} white"


def _on_white(image: Image.Image) -> tuple[Image.Image, str]:
    if not image.has_transparency_data:
        return image, ""
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    if rgba.getchannel("A").getextrema() == (255, 255):
        return rgba, ""
    white = Image.new("RGBA", rgba.size, "white")
    white.alpha_composite(rgba)
    return white, "transparent parts shown on white"


def _check_size(width: int, height: int, shown: str) -> None:
    if min(width, height) < 2:
        raise ImageError(
            f"The picture {shown} is {width}x{height} pixels; the smallest that is read is 2x2."
        )
    if width * height > MAX_PIXELS:
        raise ImageError(_too_large(shown))


def _too_large(shown: str) -> str:
    return f"The picture {shown} has more than the {MAX_PIXELS} pixels that are read; reduce it."


def _not_read(shown: str, looks: str) -> str:
    formats = ", ".join(FORMATS)
    return f"Expected a picture, but {shown} looks like {looks}; the formats read are {formats}."


def _unreadable(shown: str, error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"The picture {shown} needs more memory than there is; reduce it."
    if isinstance(error, OSError) and error.strerror:
        return (
            f"The picture {shown} cannot be opened ({error.strerror}); check path and permissions."
        )
    reason = _printable(str(error)) or type(error).__name__
    return f"The picture {shown} is damaged or cut off: {reason}; copy or download it again."


def _warned(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    texts = dict.fromkeys(_printable(str(warning.message)) for warning in caught)
    return tuple(f"warning while reading: {text}" for text in texts)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _pixel_hash(image: Image.Image, planes: bytes = b"") -> str:
    header = f"{image.mode} {image.width}x{image.height}\n".encode()
    return hashlib.sha256(header + (planes or image.tobytes())).hexdigest()
