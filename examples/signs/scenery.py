"""Street scenes to stand a road sign in: sky, road, houses, foliage and distractors."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from canvas import Canvas, Colour, mix, varied
from outlines import box, rounded

SKIES: list[tuple[Colour, Colour]] = [
    ((92, 148, 214), (196, 219, 238)),
    ((150, 170, 190), (214, 218, 220)),
    ((120, 140, 190), (244, 208, 170)),
    ((168, 178, 186), (190, 196, 200)),
]
FOLIAGE: list[Colour] = [(58, 92, 44), (84, 118, 52), (44, 76, 56), (142, 118, 50), (122, 136, 66)]
WALLS: list[Colour] = [
    (158, 88, 68),
    (206, 190, 160),
    (170, 166, 160),
    (222, 214, 200),
    (120, 104, 94),
    (196, 160, 116),
]
ROOFS: list[Colour] = [(126, 62, 50), (74, 74, 82), (98, 80, 70)]
GLASS: list[Colour] = [(56, 70, 86), (108, 130, 150), (30, 36, 44), (206, 186, 120)]
ASPHALT: Colour = (92, 94, 98)
PAVING: Colour = (158, 154, 148)
GRASS: Colour = (98, 124, 62)
STEEL: Colour = (140, 144, 148)
# The colours of the signs themselves, so that colour alone does not give a sign away.
PAINTS: list[Colour] = [
    (188, 30, 38),
    (24, 84, 160),
    (240, 188, 20),
    (232, 232, 228),
    (40, 40, 44),
    (196, 24, 34),
]


def paint_scene(canvas: Canvas, generator: np.random.Generator) -> None:
    """Fill an RGB canvas with one kind of scene and a few distractors, but no sign."""
    anywhere = (_billboard, _balloon, _sign_back)
    kinds = (
        (_country_road, (*anywhere, _parked_car)),
        (_town_street, (*anywhere, _parked_car, _awning, _street_lamp)),
        (_wood_edge, anywhere),
    )
    paint_surroundings, distractors = kinds[generator.integers(len(kinds))]
    paint_surroundings(canvas, generator)
    for choice in generator.integers(len(distractors), size=generator.integers(1, 4)):
        distractors[choice](canvas, generator)


def _country_road(canvas: Canvas, generator: np.random.Generator) -> None:
    horizon = float(generator.uniform(0.42, 0.65))
    _sky(canvas, generator, horizon)
    _hills(canvas, generator, horizon)
    grass = varied(GRASS, 12, generator)
    canvas.gradient(horizon, 1.0, mix(grass, (190, 196, 170), 0.25), grass)
    _road(canvas, generator, horizon)
    for _ in range(generator.integers(2, 6)):
        _tree(canvas, generator, float(generator.uniform(0, 1)), horizon + 0.03)


def _town_street(canvas: Canvas, generator: np.random.Generator) -> None:
    horizon = float(generator.uniform(0.55, 0.75))
    _sky(canvas, generator, horizon)
    left = -float(generator.uniform(0.0, 0.2))
    while left < 1.0:
        width = float(generator.uniform(0.22, 0.5))
        _house(canvas, generator, left, width, horizon)
        left += width
    pavement = varied(PAVING, 10, generator)
    canvas.gradient(horizon, 1.0, pavement, mix(pavement, (60, 60, 60), 0.25))
    _road(canvas, generator, horizon)
    if generator.random() < 0.6:
        _tree(canvas, generator, float(generator.uniform(0, 1)), horizon + 0.06)


def _wood_edge(canvas: Canvas, generator: np.random.Generator) -> None:
    horizon = float(generator.uniform(0.7, 0.88))
    _sky(canvas, generator, horizon)
    canvas.gradient(
        horizon, 1.0, varied(GRASS, 14, generator), varied((110, 104, 70), 14, generator)
    )
    for depth in np.linspace(0.0, 1.0, 4):
        for x in generator.uniform(-0.05, 1.05, size=5):
            y = horizon - 0.42 * (1 - depth) + generator.normal(0.0, 0.05)
            _leaves(canvas, generator, float(x), float(y), 0.24)
    for x in generator.uniform(0, 1, size=3):
        trunk = varied((84, 68, 54), 12, generator)
        width = float(generator.uniform(0.012, 0.03))
        canvas.rectangle(x - width, 0.1, x + width, horizon + 0.04, trunk)
    _leaves(canvas, generator, float(generator.uniform(0, 1)), 0.05, 0.3)


def _sky(canvas: Canvas, generator: np.random.Generator, horizon: float) -> None:
    upper, lower = SKIES[generator.integers(len(SKIES))]
    canvas.gradient(0.0, horizon, varied(upper, 10, generator), varied(lower, 6, generator))
    for _ in range(generator.integers(0, 4)):
        x, y = generator.uniform(0, 1), generator.uniform(0.02, horizon * 0.6)
        _cloud(canvas, generator, float(x), float(y), mix(upper, (250, 250, 250), 0.75))


def _cloud(
    canvas: Canvas, generator: np.random.Generator, x: float, y: float, colour: Colour
) -> None:
    for _ in range(7):
        dx, dy = generator.normal(0.0, (0.07, 0.012))
        across = float(generator.uniform(0.03, 0.08))
        canvas.ellipse(x + dx, y + dy, across, across * 0.4, varied(colour, 3, generator))


def _hills(canvas: Canvas, generator: np.random.Generator, horizon: float) -> None:
    across = np.linspace(0.0, 1.0, 40)
    for distance in (1.0, 0.5):
        waves = generator.uniform(1.0, 4.0, size=3)
        phases = generator.uniform(0, 2 * np.pi, size=3)
        relief = np.sin(2 * np.pi * waves[:, None] * across + phases[:, None]).mean(axis=0)
        ridge = horizon - 0.10 * distance - 0.06 * relief
        skyline = np.stack([across, ridge], axis=1)
        base = FOLIAGE[generator.integers(3)]
        colour = varied(mix(base, (150, 170, 190), 0.6 * distance), 6, generator)
        canvas.polygon(np.concatenate([skyline, [(1.0, horizon), (0.0, horizon)]]), colour)


def _road(canvas: Canvas, generator: np.random.Generator, horizon: float) -> None:
    vanishing = np.array([generator.uniform(0.1, 0.9), horizon])
    middle = np.array([generator.uniform(0.0, 1.0), 1.05])
    half = np.array([generator.uniform(0.35, 0.6), 0.0])
    neck = np.array([0.012, 0.0])
    edges = np.stack([vanishing - neck, vanishing + neck, middle + half, middle - half])
    canvas.polygon(edges, varied(ASPHALT, 14, generator))
    for near in (0.06, 0.16, 0.32, 0.6):
        start, stop = (vanishing + (middle - vanishing) * share for share in (near, near * 1.45))
        thin, thick = half * 0.05 * near, half * 0.05 * near * 1.45
        dash = np.stack([start - thin, start + thin, stop + thick, stop - thick])
        canvas.polygon(dash, (226, 226, 220))


def _house(
    canvas: Canvas, generator: np.random.Generator, left: float, width: float, ground: float
) -> None:
    top = float(generator.uniform(0.02, 0.38))
    wall = varied(WALLS[generator.integers(len(WALLS))], 12, generator)
    right = left + width
    if generator.random() < 0.6:
        ridge = np.array([(left - 0.01, top), (right + 0.01, top), (right - 0.05, top - 0.1)])
        slope = np.concatenate([ridge, [(left + 0.05, top - 0.1)]])
        canvas.polygon(slope, varied(ROOFS[generator.integers(len(ROOFS))], 10, generator))
    canvas.rectangle(left, top, right, ground, wall)
    canvas.rectangle(left, top, left + 0.006, ground, mix(wall, (0, 0, 0), 0.35))
    canvas.rectangle(left, ground - 0.05, right, ground, mix(wall, (30, 30, 30), 0.35))
    _windows(canvas, generator, (left, top, right, ground - 0.06), wall)


def _windows(
    canvas: Canvas,
    generator: np.random.Generator,
    facade: tuple[float, float, float, float],
    wall: Colour,
) -> None:
    left, top, right, bottom = facade
    columns, rows = generator.integers(2, 5), max(1, round((bottom - top) / 0.16))
    wide, high = (right - left) / columns, (bottom - top) / rows
    frame = mix(wall, (250, 250, 250), 0.6)
    for row in range(rows):
        for column in range(columns):
            x, y = left + wide * (column + 0.25), top + high * (row + 0.22)
            pane = varied(GLASS[generator.integers(len(GLASS))], 8, generator)
            canvas.rectangle(x - 0.007, y - 0.007, x + wide / 2 + 0.007, y + high * 0.6, frame)
            canvas.rectangle(x, y, x + wide / 2, y + high * 0.6 - 0.007, pane)


def _tree(canvas: Canvas, generator: np.random.Generator, x: float, foot: float) -> None:
    height = float(generator.uniform(0.15, 0.45))
    trunk = height * 0.04
    bark = varied((88, 70, 54), 10, generator)
    canvas.rectangle(x - trunk, foot - height * 0.6, x + trunk, foot, bark)
    _leaves(canvas, generator, x, foot - height * 0.7, height * 0.4)


def _leaves(
    canvas: Canvas, generator: np.random.Generator, x: float, y: float, radius: float
) -> None:
    """A crown of overlapping leaf clumps, lighter towards the top left as if sunlit."""
    shifts = generator.normal(0.0, 0.45, size=(60, 2))
    sizes = radius * generator.uniform(0.08, 0.2, size=60)
    sunlit = -(shifts @ np.array([0.5, 0.8]))
    green = np.array(FOLIAGE[generator.integers(len(FOLIAGE))])
    highlights = np.where(sunlit[:, None] > 0, (236, 240, 170), (10, 20, 14))
    shares = np.minimum(0.5 * np.abs(sunlit), 0.5)[:, None]
    # Thousands of leaves are drawn: shading them one by one would take most of the time.
    shades = green + (highlights - green) * shares + generator.normal(0.0, 8, size=(60, 1))
    colours = np.clip(shades, 0, 255).astype(int).tolist()
    spots = (np.array([x, y]) + radius * shifts).tolist()
    for (across, down), size, colour in zip(spots, sizes.tolist(), colours, strict=True):
        canvas.ellipse(across, down, size, size * 0.8, tuple(colour))


def _paint(generator: np.random.Generator) -> Colour:
    return varied(PAINTS[generator.integers(len(PAINTS))], 10, generator)


def _parked_car(canvas: Canvas, generator: np.random.Generator) -> None:
    x, ground = generator.uniform(0.0, 1.0), generator.uniform(0.72, 0.97)
    length = float(generator.uniform(0.10, 0.2))
    place = np.array([x, ground])
    paint = _paint(generator)
    cabin = np.array([(-0.55, -0.45), (-0.35, -0.8), (0.3, -0.8), (0.6, -0.45)])
    body = rounded(box(-1.0, -0.5, 1.0, -0.1), 0.15)
    canvas.polygon(place + length * cabin, mix(paint, (20, 24, 30), 0.3))
    canvas.polygon(place + length * (cabin * 0.8 + np.array([0.0, -0.1])), (70, 84, 98))
    canvas.polygon(place + length * body, paint)
    for wheel in (-0.6, 0.6):
        spot = x + wheel * length
        canvas.ellipse(spot, ground - 0.1 * length, length * 0.19, length * 0.19, (26, 26, 28))
        canvas.ellipse(spot, ground - 0.1 * length, length * 0.1, length * 0.1, (150, 150, 152))


def _billboard(canvas: Canvas, generator: np.random.Generator) -> None:
    left, top = generator.uniform(-0.05, 0.8), generator.uniform(0.05, 0.5)
    wide, high = generator.uniform(0.1, 0.32), generator.uniform(0.07, 0.2)
    paint = _paint(generator)
    canvas.rectangle(
        left + wide * 0.45, top, left + wide * 0.55, 0.85, varied(STEEL, 10, generator)
    )
    canvas.rectangle(left, top, left + wide, top + high, paint)
    for row in range(generator.integers(1, 4)):
        y = top + high * (0.15 + 0.27 * row)
        end = left + wide * generator.uniform(0.5, 0.92)
        canvas.rectangle(left + wide * 0.08, y, end, y + high * 0.14, _paint(generator))


def _awning(canvas: Canvas, generator: np.random.Generator) -> None:
    left, top = generator.uniform(-0.1, 0.8), generator.uniform(0.4, 0.6)
    wide, drop, flare = generator.uniform(0.15, 0.35), 0.07, 0.03
    paints = [_paint(generator), (236, 234, 226)]
    marks = np.linspace(0.0, 1.0, 9)
    for stripe, (start, stop) in enumerate(pairwise(marks)):
        upper = [(left + wide * share, top) for share in (start, stop)]
        lower = [(left - flare + (wide + 2 * flare) * share, top + drop) for share in (stop, start)]
        canvas.polygon(np.array(upper + lower), paints[stripe % 2])


def _street_lamp(canvas: Canvas, generator: np.random.Generator) -> None:
    x, top = generator.uniform(0.02, 0.98), generator.uniform(0.05, 0.35)
    reach = float(generator.choice([-1.0, 1.0])) * 0.12
    steel = varied(STEEL, 14, generator)
    canvas.rectangle(x - 0.008, top, x + 0.008, 0.9, steel)
    canvas.rectangle(min(x, x + reach), top, max(x, x + reach), top + 0.012, steel)
    canvas.ellipse(x + reach, top + 0.012, 0.035, 0.014, (240, 236, 210))


def _balloon(canvas: Canvas, generator: np.random.Generator) -> None:
    x, y = generator.uniform(0.05, 0.95), generator.uniform(0.05, 0.6)
    radius = float(generator.uniform(0.03, 0.075))
    paint = _paint(generator)
    canvas.rectangle(x - 0.002, y, x + 0.002, y + 4 * radius, (110, 110, 110))
    canvas.ellipse(x, y, radius, radius * 1.2, paint)
    shine = mix(paint, (255, 255, 255), 0.55)
    canvas.ellipse(x - 0.35 * radius, y - 0.4 * radius, radius * 0.22, radius * 0.32, shine)


def _sign_back(canvas: Canvas, generator: np.random.Generator) -> None:
    """The bare grey back of a sign that faces the other way."""
    x, y = generator.uniform(0.05, 0.95), generator.uniform(0.2, 0.6)
    radius = float(generator.uniform(0.05, 0.11))
    steel = varied(STEEL, 12, generator)
    canvas.ellipse(x, y, radius * 0.85, radius, steel)
    canvas.rectangle(x - 0.012, y - radius, x + 0.012, 0.92, mix(steel, (50, 50, 50), 0.35))
