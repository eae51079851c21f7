"""Maps and pictures as small image files: colours, overlays, segment borders, the crop drawn in.

The bytes depend on the arrays only. A picture becomes a ``data:`` address that holds a PNG where
it has few colours (a map alone), and a JPEG otherwise (a photograph).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FloatMap = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint8]

PERCENTILE = 99.5
SIDE = 420
LARGEST = 460
SEEN_SIDE = 240
QUALITY = 83
FEW_COLOURS = 256
MARK = (0, 190, 90)
OPACITY = 0.9
FRAME = (31, 78, 121)
BORDER = 0.6
_SQUARES = 4  # pixels enlarged by more than this stay visible squares
_THIN = 48  # the frame of a smaller crop would hide it
COLOURS = {False: "inferno", True: "RdBu_r"}


@dataclass(frozen=True)
class Frame:
    """Where the network looked: left, top, right, bottom in pixels of the picture."""

    left: float
    top: float
    right: float
    bottom: float

    def scaled(self, factor: float) -> tuple[int, int, int, int]:
        """Return the corners in whole pixels of a picture ``factor`` times as large."""
        left, top = round(self.left * factor), round(self.top * factor)
        right, bottom = round(self.right * factor), round(self.bottom * factor)
        return left, top, max(right, left + 1), max(bottom, top + 1)


@dataclass(frozen=True)
class ColouredMap:
    """A map with its colours: values in [-1, 1] (signed) or [0, 1] of the limit of the scale.

    ``flaw`` says in words why a map has no colours ("constant map"); it is empty otherwise.
    """

    strength: FloatMap
    signed: bool
    limit: float
    flaw: str = ""


def coloured(values: FloatMap, signed: bool) -> ColouredMap:
    """Return ``values`` (height, width) on their scale: 0 to the limit, or -limit to limit.

    The limit is the 99.5th percentile of the absolute values; it is the largest one where that
    percentile is zero.
    """
    if flaw := _flaw(values):
        return ColouredMap(np.zeros(values.shape, np.float32), signed, 0.0, flaw)
    size = np.abs(values)
    limit = float(np.percentile(size, PERCENTILE)) or float(size.max())
    return ColouredMap(np.clip(values / limit, -1.0 if signed else 0.0, 1.0), signed, limit)


def overlay(pixels: Pixels, chart: ColouredMap) -> Image.Image:
    """Return the map over a grey version of ``pixels`` (height, width, channels).

    A colour is the more opaque the larger the value is.
    """
    factor = enlargement(pixels, SIDE)
    grey = _enlarged(Image.fromarray(rgb(pixels)).convert("L"), factor)
    base = np.asarray(grey, np.float32)[..., None]
    opacity = OPACITY * _repeated(np.abs(chart.strength), factor)[..., None]
    mixed = base * (1 - opacity) + _repeated(_palette(chart), factor) * opacity
    return _finished(mixed, chart, None, 255)


def outlined(
    drawn: Image.Image,
    chart: ColouredMap,
    segments: NDArray[Any] | None,
    marked: NDArray[Any] | None,
) -> Image.Image:
    """Return the overlay ``drawn`` of a map with white borders of the segments (height, width).

    The outline of the ``marked`` area (height, width) is green.
    """
    if segments is None and marked is None:
        return drawn
    factor = drawn.width // chart.strength.shape[1]
    colours = np.asarray(drawn, np.float32)
    outline = _edges(marked, factor)
    if outline is not None:
        colours = np.where(outline[..., None], MARK, colours)
    return _finished(colours, chart, _edges(segments, factor), 255)


def raw(chart: ColouredMap, segments: NDArray[Any] | None = None) -> Image.Image:
    """Return the map alone, each value one pixel of one colour; segment borders are grey.

    With borders, or with words on it, the map is enlarged.
    """
    plain = segments is None and not chart.flaw
    factor = 1 if plain else enlargement(chart.strength, SIDE)
    return _finished(_repeated(_palette(chart), factor), chart, _edges(segments, factor), 105)


def placed(original: Pixels, drawn: Image.Image, frame: Frame) -> Image.Image:
    """Return the whole picture, faded, with ``drawn`` at its place inside ``frame``."""
    picture, factor = _fitted(original)
    faded = Image.blend(picture, Image.new("RGB", picture.size, "white"), 0.55)
    left, top, right, bottom = frame.scaled(factor)
    faded.paste(drawn.resize((right - left, bottom - top), Image.Resampling.BICUBIC), (left, top))
    return _framed(faded, frame, factor)


def cropped(original: Pixels, frame: Frame | None) -> Image.Image:
    """Return the whole picture with ``frame`` drawn and what lies outside of it faded."""
    picture, factor = _fitted(original)
    if frame is None:
        return picture
    faded = Image.blend(picture, Image.new("RGB", picture.size, "white"), 0.55)
    left, top, right, bottom = frame.scaled(factor)
    box = (max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height))
    faded.paste(picture.crop(box), box[:2])
    return _framed(faded, frame, factor)


def seen(pixels: Pixels) -> Image.Image:
    """Return a picture as the network saw it, enlarged by a whole number where it is small."""
    return _enlarged(Image.fromarray(rgb(pixels)), enlargement(pixels, SEEN_SIDE))


def enlargement(pixels: NDArray[Any], side: int) -> int:
    """Return the whole factor that brings the longer side near to ``side`` pixels."""
    height, width = pixels.shape[:2]
    return int(max(1, round(side / max(height, width))))


def data_address(picture: Image.Image, longest: int = LARGEST) -> str:
    """Return ``picture``, at most ``longest`` pixels wide or high, as a ``data:`` address."""
    shrunk = picture.copy()
    shrunk.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    stream = BytesIO()
    if colours := shrunk.getcolors(FEW_COLOURS):
        shrunk.quantize(len(colours), dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
        return address("image/png", stream.getvalue())
    # Pillow reserves too few bytes for optimised noise, and fails.
    shrunk.save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return address("image/jpeg", stream.getvalue())


def address(kind: str, content: bytes) -> str:
    """Return ``content`` of the media type ``kind`` as a ``data:`` address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def rgb(pixels: Pixels) -> Pixels:
    """Return (height, width, 3): the first three channels, or the first where there are fewer."""
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    colours = planes[..., :3] if planes.shape[2] >= 3 else np.repeat(planes[..., :1], 3, axis=2)
    return np.ascontiguousarray(colours)


def _flaw(values: FloatMap) -> str:
    if not np.isfinite(values).all():
        return "values are not finite"
    return "constant map" if values.min() == values.max() else ""


def _palette(chart: ColouredMap) -> FloatMap:
    """Return the colours (height, width, 3) in [0, 255]."""
    position = (chart.strength + 1) / 2 if chart.signed else chart.strength
    colours = matplotlib.colormaps[COLOURS[chart.signed]](position)
    return np.asarray(colours[..., :3] * 255, np.float32)


def _repeated(values: NDArray[Any], factor: int) -> NDArray[Any]:
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def _enlarged(picture: Image.Image, factor: int) -> Image.Image:
    """Return ``picture`` enlarged; pixels stay visible squares where there are few of them."""
    size = (picture.width * factor, picture.height * factor)
    return picture.resize(size, _resampling(factor))


def _resampling(factor: float) -> Image.Resampling:
    if factor > _SQUARES:
        return Image.Resampling.NEAREST
    return Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC


def _finished(
    colours: FloatMap, chart: ColouredMap, edges: NDArray[np.bool_] | None, shade: int
) -> Image.Image:
    if edges is not None and not chart.flaw:
        colours = np.where(edges[..., None], colours * (1 - BORDER) + shade * BORDER, colours)
    picture = Image.fromarray(np.clip(colours + 0.5, 0, 255).astype(np.uint8))
    return _worded(picture, chart.flaw) if chart.flaw else picture


def _edges(segments: NDArray[Any] | None, factor: int) -> NDArray[np.bool_] | None:
    """Return where a pixel differs from the one to its right or below it."""
    if segments is None:
        return None
    large = _repeated(segments, factor)
    edges = np.zeros(large.shape, bool)
    edges[:, :-1] |= large[:, :-1] != large[:, 1:]
    edges[:-1, :] |= large[:-1, :] != large[1:, :]
    return edges


def _worded(picture: Image.Image, words: str) -> Image.Image:
    """Return ``picture`` with ``words`` on a white label in the middle."""
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(10, picture.width // 14))
    middle = (picture.width / 2, picture.height / 2)
    box = draw.textbbox(middle, words, font=font, anchor="mm")
    draw.rectangle((box[0] - 8, box[1] - 6, box[2] + 8, box[3] + 6), fill="white")
    draw.text(middle, words, fill="black", font=font, anchor="mm")
    return picture


def _fitted(original: Pixels) -> tuple[Image.Image, float]:
    picture = Image.fromarray(rgb(original))
    factor = LARGEST / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, _resampling(factor)), factor


def _framed(picture: Image.Image, frame: Frame, factor: float) -> Image.Image:
    """Return ``picture`` with the frame drawn on its inside, in white on a dark line."""
    left, top, right, bottom = frame.scaled(factor)
    draw = ImageDraw.Draw(picture)
    thick = 2 if min(right - left, bottom - top) > _THIN else 1
    draw.rectangle((left, top, right - 1, bottom - 1), outline="white", width=2 * thick)
    draw.rectangle((left + 1, top + 1, right - 2, bottom - 2), outline=FRAME, width=thick)
    return picture
