"""An antialiased drawing surface addressed in fractions of the picture's side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIDE = 128
"""Width and height of a finished picture, in pixels."""

OVERSAMPLING = 3
"""Canvas pixels per picture pixel along each axis; averaged away by `Canvas.reduced`."""

Colour = tuple[int, int, int]
Points = NDArray[np.float64]
"""Corners of a polygon, shape (K, 2): x to the right, y downwards."""


class Canvas:
    """A square surface whose coordinates run from 0 (left, top) to 1 (right, bottom)."""

    def __init__(self, mode: str) -> None:
        """Start black ("RGB", "L") or fully transparent ("RGBA")."""
        self._pixels = SIDE * OVERSAMPLING
        self._image = Image.new(mode, (self._pixels, self._pixels))
        self._pen = ImageDraw.Draw(self._image)

    def polygon(self, points: Points, colour: Colour | int) -> None:
        """Fill the polygon with corners `points` (K, 2)."""
        corners = [(float(x), float(y)) for x, y in points * self._pixels]
        self._pen.polygon(corners, fill=colour)

    def rectangle(
        self, left: float, top: float, right: float, bottom: float, colour: Colour
    ) -> None:
        """Fill an axis-aligned rectangle."""
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        self.polygon(np.array(corners), colour)

    def ellipse(self, x: float, y: float, across: float, down: float, colour: Colour) -> None:
        """Fill an ellipse centred on (x, y) with half-axes `across` and `down`."""
        edges = (x - across, y - down, x + across, y + down)
        self._pen.ellipse([edge * self._pixels for edge in edges], fill=colour)

    def gradient(self, top: float, bottom: float, upper: Colour, lower: Colour) -> None:
        """Fill the full-width band from `top` to `bottom`, blending between two colours."""
        start, stop = (round(edge * self._pixels) for edge in (top, bottom))
        blend = np.linspace(0.0, 1.0, stop - start)[:, None, None]
        column = np.array(upper) * (1 - blend) + np.array(lower) * blend
        band = Image.fromarray(column.round().astype(np.uint8))
        self._image.paste(band.resize((self._pixels, stop - start)), (0, start))

    def reduced(self) -> Image.Image:
        """Average the canvas down to a SIDE x SIDE picture."""
        return self._image.reduce(OVERSAMPLING)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Blend two colours; `share` in [0, 1] is the weight of the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def varied(colour: Colour, spread: float, generator: np.random.Generator) -> Colour:
    """Shift a colour's brightness by about `spread` levels, and its hue by a third of that."""
    shift = generator.normal(0.0, spread) + generator.normal(0.0, spread / 3, size=3)
    red, green, blue = (int(level) for level in np.clip(np.array(colour) + shift, 0, 255))
    return red, green, blue
