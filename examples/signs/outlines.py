"""Outlines of plane figures as polygons: arrays of corners of shape (K, 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from canvas import Points

Corner = tuple[float, float]


def arc(radius: float, start: float, stop: float, count: int = 48) -> Points:
    """`count` points on a circle about the origin; degrees, clockwise from the right."""
    angles = np.radians(np.linspace(start, stop, count))
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def disc(radius: float, centre: Corner = (0.0, 0.0)) -> Points:
    """A full circle."""
    return np.asarray(arc(radius, 0.0, 360.0) + np.array(centre))


def regular(sides: int, radius: float, turn: float) -> Points:
    """A regular polygon with its first corner `turn` degrees clockwise from the right."""
    return arc(radius, turn, turn + 360.0, sides + 1)[:-1]


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """An axis-aligned rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def rounded(corners: Points, radius: float) -> Points:
    """Replace every corner by a curve that begins `radius` before it and ends as far after."""
    share = np.linspace(0.0, 1.0, 8)[:, None]
    curves = []
    for before, corner, after in zip(
        np.roll(corners, 1, axis=0), corners, np.roll(corners, -1, axis=0), strict=True
    ):
        enter = corner + radius * _direction(before - corner)
        leave = corner + radius * _direction(after - corner)
        curves.append(
            (1 - share) ** 2 * enter + 2 * share * (1 - share) * corner + share**2 * leave
        )
    return np.concatenate(curves)


def ribbon(path: Sequence[Corner] | Points, width: float) -> Points:
    """The area within `width / 2` of an open path, with square ends and mitred bends."""
    points = np.asarray(path, dtype=np.float64)
    steps = np.diff(points, axis=0)
    normals = np.stack([-steps[:, 1], steps[:, 0]], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    before = np.concatenate([normals[:1], normals])
    after = np.concatenate([normals, normals[-1:]])
    mitres = (before + after) / (1 + np.sum(before * after, axis=1, keepdims=True))
    return np.concatenate([points + mitres * width / 2, (points - mitres * width / 2)[::-1]])


def softened(path: Sequence[Corner]) -> Points:
    """Cut the bends of an open path thrice (Chaikin's rule); its ends stay in place."""
    points = np.array(path, dtype=np.float64)
    for _ in range(3):
        ahead, behind = points[:-1], points[1:]
        cuts = np.stack([0.75 * ahead + 0.25 * behind, 0.25 * ahead + 0.75 * behind], axis=1)
        points = np.concatenate([points[:1], cuts.reshape(-1, 2)[1:-1], points[-1:]])
    return points


def arrowhead(base: Corner, heading: float, size: float) -> Points:
    """A triangle on the point `base`, pointing `heading` degrees clockwise from the right."""
    turn = np.radians(heading)
    ahead = size * np.array([np.cos(turn), np.sin(turn)])
    aside = 0.75 * np.array([-ahead[1], ahead[0]])
    return np.array(base) + np.stack([ahead, aside, -aside])


def _direction(vector: Points) -> Points:
    return np.asarray(vector / np.linalg.norm(vector))
