"""What is printed on each road sign, as coloured polygons.

A face lives in a square from -1 to 1 (x to the right, y downwards). Its first
patch is the board itself; the others lie on top of it, in painting order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from canvas import Colour, Points
from outlines import (
    Corner,
    arc,
    arrowhead,
    box,
    disc,
    regular,
    ribbon,
    rounded,
    softened,
)

RED: Colour = (196, 24, 34)
BLUE: Colour = (14, 82, 165)
YELLOW: Colour = (250, 196, 12)
WHITE: Colour = (244, 244, 240)
BLACK: Colour = (24, 24, 26)


class Patch(NamedTuple):
    """One flat coloured polygon, corners of shape (K, 2)."""

    points: Points
    colour: Colour


Face = list[Patch]

# Strokes of the glyphs used on the signs, in a box from (0, 0) to (1, 1).
_LOOP: list[Corner] = [(0, 0.5), (0, 0), (1, 0), (1, 1), (0, 1), (0, 0.5)]
_GLYPHS: dict[str, list[list[Corner]]] = {
    "S": [
        [(1, 0.24), (1, 0), (0, 0), (0, 0.48), (1, 0.52), (1, 1), (0, 1), (0, 0.76)],
    ],
    "T": [[(-0.1, 0), (1.1, 0)], [(0.5, 0), (0.5, 1.08)]],
    "O": [_LOOP],
    "P": [[(0, -0.08), (0, 1.08)], [(0, 0), (1.1, 0), (1.1, 0.56), (0, 0.56)]],
    "5": [
        [(0.95, 0), (0.1, 0)],
        [(0.14, -0.08), (0.06, 0.5)],
        [(0.06, 0.44), (0.5, 0.3), (1.05, 0.42), (1.05, 1), (0.05, 1), (-0.05, 0.78)],
    ],
    "0": [_LOOP],
}


def _written(text: str, size: Corner, stroke: float, colour: Colour) -> Face:
    """Centre `text` on the face in glyphs of the given width and height."""
    pitch = size[0] + 1.75 * stroke
    first = -pitch * (len(text) - 1) / 2
    face = []
    for place, glyph in enumerate(text):
        origin = np.array([first + place * pitch - size[0] / 2, -size[1] / 2])
        for path in _GLYPHS[glyph]:
            curve = softened(path) * np.array(size) + origin
            face.append(Patch(ribbon(curve, stroke), colour))
    return face


def _stop() -> Face:
    return [
        Patch(regular(8, 1.0, 22.5), WHITE),
        Patch(regular(8, 0.93, 22.5), RED),
        *_written("STOP", (0.205, 0.50), 0.11, WHITE),
    ]


def _no_entry() -> Face:
    return [
        Patch(disc(1.0), WHITE),
        Patch(disc(0.95), RED),
        Patch(rounded(box(-0.72, -0.19, 0.72, 0.19), 0.04), WHITE),
    ]


def _yield() -> Face:
    return [
        Patch(rounded(regular(3, 1.14, 90.0), 0.16), WHITE),
        Patch(rounded(regular(3, 1.06, 90.0), 0.15), RED),
        Patch(rounded(regular(3, 0.66, 90.0), 0.06), WHITE),
    ]


def _priority_road() -> Face:
    return [
        Patch(rounded(regular(4, 1.0, 0.0), 0.12), BLACK),
        Patch(rounded(regular(4, 0.97, 0.0), 0.12), WHITE),
        Patch(rounded(regular(4, 0.70, 0.0), 0.08), BLACK),
        Patch(rounded(regular(4, 0.66, 0.0), 0.08), YELLOW),
    ]


def _turn_right() -> Face:
    path = softened([(-0.34, 0.66), (-0.34, -0.12), (0.26, -0.12)])
    return [
        *_blue_disc(),
        Patch(ribbon(path, 0.27), WHITE),
        Patch(arrowhead((0.24, -0.12), 0.0, 0.50), WHITE),
    ]


def _roundabout() -> Face:
    face = _blue_disc()
    for start in (-90.0, 30.0, 150.0):
        shaft = arc(0.55, start, start - 64.0)
        face.append(Patch(ribbon(shaft, 0.2), WHITE))
        # Counterclockwise travel is 90 degrees behind the shaft's end; 12 more follow the bend.
        heading = start - 64.0 - 90.0 - 12.0
        face.append(Patch(arrowhead((shaft[-1, 0], shaft[-1, 1]), heading, 0.32), WHITE))
    return face


def _blue_disc() -> Face:
    return [Patch(disc(1.0), WHITE), Patch(disc(0.95), BLUE)]


def _speed_limit_50() -> Face:
    return [
        Patch(disc(1.0), WHITE),
        Patch(disc(0.97), RED),
        Patch(disc(0.75), WHITE),
        *_written("50", (0.34, 0.62), 0.155, BLACK),
    ]


def _pedestrian_crossing() -> Face:
    stripes = [box(x - 0.07, 0.50, x + 0.07, 0.60) for x in (-0.42, -0.14, 0.14, 0.42)]
    return [
        Patch(rounded(box(-0.9, -0.9, 0.9, 0.9), 0.12), WHITE),
        Patch(rounded(box(-0.85, -0.85, 0.85, 0.85), 0.1), BLUE),
        Patch(np.array([(0.0, -0.72), (0.78, 0.66), (-0.78, 0.66)]), WHITE),
        *(Patch(stripe, BLACK) for stripe in stripes),
        *(Patch(limb, BLACK) for limb in _walker()),
    ]


def _walker() -> list[Points]:
    """A person walking to the left: head, trunk, two arms and two legs."""
    return [
        disc(0.095, (0.0, -0.38)),
        ribbon([(0.0, -0.27), (0.02, 0.10)], 0.17),
        ribbon(softened([(0.0, -0.22), (-0.16, -0.08), (-0.24, 0.06)]), 0.075),
        ribbon(softened([(0.02, -0.22), (0.17, -0.06), (0.2, 0.08)]), 0.075),
        ribbon(softened([(-0.01, 0.04), (-0.12, 0.22), (-0.2, 0.45)]), 0.1),
        ribbon(softened([(0.03, 0.04), (0.1, 0.24), (0.22, 0.43)]), 0.1),
    ]


FACES: dict[str, Callable[[], Face]] = {
    "stop": _stop,
    "no entry": _no_entry,
    "yield": _yield,
    "priority road": _priority_road,
    "turn right": _turn_right,
    "roundabout": _roundabout,
    "speed limit 50": _speed_limit_50,
    "pedestrian crossing": _pedestrian_crossing,
}
