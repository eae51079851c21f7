"""Curves and colour bars as small vector drawings, with the same bytes for the same numbers.

Only axes and lines are drawn here. Names stand in the legend beside the drawing, as text, so that
no label of a model ever reaches the drawing. The few elements are written as they are: a plotting
library takes longer over them than all other pictures of a report together, and its drawings have
ten times as many elements to lay out on paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from reportgen.phrases import phrase
from reportgen.render.pictures import COLOURS, ColouredMap, address, data_address

Curve = NDArray[np.floating[Any]]
Numbers = Sequence[float] | Curve


INCH = 72


@dataclass(frozen=True)
class Sheet:
    """A drawing's width and height in inches, and the margins around its axes."""

    width: float
    height: float
    left: float = 0.46
    right: float = 0.12
    bottom: float = 0.4
    top: float = 0.08


@dataclass(frozen=True)
class Axes:
    """Axes on a sheet, with the numbers at their ends; places are in points from the top left."""

    sheet: Sheet
    across: tuple[float, float]
    up: tuple[float, float]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The left, top, right and bottom edge."""
        sheet = self.sheet
        right, bottom = sheet.width - sheet.right, sheet.height - sheet.bottom
        return sheet.left * INCH, sheet.top * INCH, right * INCH, bottom * INCH

    def x(self, values: Numbers) -> Curve:
        """Return the places of ``values`` from the left."""
        left, _, right, _ = self.box
        low, high = self.across
        return left + (np.asarray(values, np.float64) - low) / (high - low) * (right - left)

    def y(self, values: Numbers) -> Curve:
        """Return the places of ``values`` from the top."""
        _, top, _, bottom = self.box
        low, high = self.up
        return bottom - (np.asarray(values, np.float64) - low) / (high - low) * (bottom - top)


HALF = Sheet(3.35, 2.25)
WIDE = Sheet(6.9, 2.1)
BAR = Sheet(2.6, 0.34, 0.22, 0.22, 0.2, 0.02)

FONTS = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
SIZE = 7.5
INK, EDGE, GRID, FLIP = "#33393f", "#8a929a", "#e3e6e9", "#a4161a"
STEPS = (1, 2, 2.5, 5, 10)
MOST_TICKS = 9
MINUS = "\N{MINUS SIGN}"
RAMP = 216
# In points: how long a tick is, and how far below the axis the numbers and the name stand.
TICK, NUMBER, NAME = 3.5, 12.5, 24.5

_DASHES = ((), (5, 1.6), (1.6, 1.4), (6, 1.6, 1.6, 1.6), (9, 2.5))
_METHOD_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#8c4a86", "#b07800", "#3b93c4", "#1b1f23")
_CONTROL_COLOURS = ("#5c6166", "#7d8389", "#8f959b", "#6b7076")


@dataclass(frozen=True)
class Pen:
    """The colour of a line and its dashes, in points."""

    colour: str
    dashes: tuple[float, ...] = ()
    width: float = 1.4

    @property
    def svg_dash(self) -> str:
        """The dashes as an SVG attribute."""
        return " ".join(f"{length * self.width:g}" for length in self.dashes)


@dataclass(frozen=True)
class Trace:
    """A line to draw: x in the first row of ``curve``, one line for each row below it."""

    curve: Curve
    pen: Pen


def method_pen(index: int) -> Pen:
    """Return the pen of the method at ``index``: no two of the first 35 are alike."""
    colour = _METHOD_COLOURS[index % len(_METHOD_COLOURS)]
    return Pen(colour, _DASHES[index % len(_DASHES)])


def control_pen(index: int) -> Pen:
    """Return the pen of the control at ``index``: thin and grey."""
    colour = _CONTROL_COLOURS[index % len(_CONTROL_COLOURS)]
    return Pen(colour, _DASHES[1:][index % (len(_DASHES) - 1)], 0.9)


def fraction_chart(traces: Sequence[Trace], top: float, axis: str) -> str:
    """Return probability against a share of pixels in [0, 1] as a ``data:`` address.

    ``top`` is the largest probability to make room for; ``axis`` names the horizontal axis.
    """
    axes = Axes(HALF, (0, 1), (0, _headroom(top)))
    return _drawn(HALF, _grid(axes, axis, phrase("axis.probability")), _lines(axes, traces))


def rotation_chart(trace: Trace, flips: Sequence[float], sheet: Sheet) -> str:
    """Return probability against the angle in degrees, with a rule at each flip."""
    angles = trace.curve[0]
    ends = (float(angles.min()), float(angles.max()))
    axes = Axes(sheet, ends, (0, _headroom(_highest([trace]))))
    rules = "".join(_path(axes.x([angle] * 2), axes.y(axes.up)) for angle in flips)
    return _drawn(
        sheet,
        _grid(axes, phrase("axis.rotation"), phrase("axis.probability")),
        _stroke(rules, FLIP, 1.0, "3 2"),
        _lines(axes, [trace]),
    )


def severity_chart(traces: Sequence[Trace]) -> str:
    """Return the share of probability kept against the severity of the noise."""
    axes = Axes(HALF, (0.8, 5.2), (0, _headroom(max(1.0, _highest(traces)))))
    unchanged = _path(axes.x(axes.across), axes.y([1, 1]))
    return _drawn(
        HALF,
        _grid(axes, phrase("axis.severity"), phrase("axis.kept"), range(1, 6)),
        _stroke(unchanged, EDGE, 0.7),
        _lines(axes, traces),
        *(_dots(axes, trace) for trace in traces),
    )


def colour_bar(chart: ColouredMap) -> str:
    """Return the colour bar of a map, with the limits of its scale, as a ``data:`` address."""
    low = -chart.limit if chart.signed else 0.0
    ticks = [low, (low + chart.limit) / 2, chart.limit]
    axes = Axes(BAR, (low, chart.limit), (0, 1))
    return _drawn(
        BAR,
        _ramp(axes, COLOURS[chart.signed]),
        _stroke(_edges(axes) + _below(axes, ticks), EDGE, 0.6),
        _row(axes, ticks, [f"{tick:.3g}" for tick in ticks]),
    )


def highest(*groups: Sequence[Trace]) -> float:
    """Return the largest finite height of all traces, or 0."""
    return max((_highest(traces) for traces in groups), default=0.0)


def _grid(axes: Axes, across: str, up: str, columns: Sequence[float] | None = None) -> str:
    """Return the rules, edges, numbers and names of axes; ``columns`` are the numbers along x."""
    left, top, right, bottom = axes.box
    columns = _ticks(axes.across, (right - left) / (3 * SIZE)) if columns is None else columns
    rows = _ticks(axes.up, (bottom - top) / (2 * SIZE))
    power = _power(rows)
    named = f"{up} (1e{power})".replace("-", MINUS) if power else up
    rules = [_path(axes.x([x, x]), axes.y(axes.up)) for x in columns]
    rules += [_path(axes.x(axes.across), axes.y([y, y])) for y in rows]
    beside = "".join(f"M{left:.2f} {y:.2f}h-{TICK}" for y in axes.y(rows))
    middle = (top + bottom) / 2
    return (
        _stroke("".join(rules), GRID, 0.5)
        + _stroke(_edges(axes) + _below(axes, columns) + beside, EDGE, 0.6)
        + _row(axes, columns, _texts(columns))
        + _column(axes, rows, _texts([tick / 10**power for tick in rows]))
        + f'<text x="{(left + right) / 2:.2f}" y="{bottom + NAME:.2f}">{escape(across)}</text>'
        + f'<text transform="translate(8 {middle:.2f}) rotate(-90)">{escape(named)}</text>'
    )


def _ticks(ends: tuple[float, float], room: float) -> list[float]:
    """Return round numbers between ``ends``, no more than there is ``room`` for."""
    low, high = ends
    locator = MaxNLocator(min(max(int(room), 1), MOST_TICKS), steps=STEPS)
    slack = 1e-9 * (high - low)
    return [tick for tick in locator.tick_values(low, high) if low - slack <= tick <= high + slack]


def _power(ticks: Sequence[float]) -> int:
    """Return the power of ten by which the numbers beside an axis are divided, to be short."""
    return 0 if _exact(ticks, 2) else math.floor(math.log10(max(ticks)))


def _texts(ticks: Sequence[float]) -> list[str]:
    """Return the numbers with as many decimals as tell them apart."""
    digits = next((digits for digits in range(4) if _exact(ticks, digits)), 4)
    return [f"{tick:.{digits}f}".replace("-", MINUS) for tick in ticks]


def _exact(ticks: Sequence[float], digits: int) -> bool:
    return np.allclose(ticks, np.round(ticks, digits), rtol=0, atol=1e-6 * np.abs(ticks).max())


def _row(axes: Axes, ticks: Sequence[float], texts: Sequence[str]) -> str:
    below = axes.box[3] + NUMBER
    places = zip(axes.x(ticks), texts, strict=True)
    return "".join(f'<text x="{x:.2f}" y="{below:.2f}">{text}</text>' for x, text in places)


def _column(axes: Axes, ticks: Sequence[float], texts: Sequence[str]) -> str:
    beside = axes.box[0] - 2 * TICK
    places = zip(axes.y(ticks) + 0.36 * SIZE, texts, strict=True)
    written = (f'<text x="{beside:.2f}" y="{y:.2f}">{text}</text>' for y, text in places)
    return f'<g text-anchor="end">{"".join(written)}</g>'


def _edges(axes: Axes) -> str:
    left, top, right, bottom = axes.box
    return f"M{left:.2f} {top:.2f}V{bottom:.2f}H{right:.2f}"


def _below(axes: Axes, ticks: Sequence[float]) -> str:
    bottom = axes.box[3]
    return "".join(f"M{x:.2f} {bottom:.2f}v{TICK}" for x in axes.x(ticks))


def _ramp(axes: Axes, colours: str) -> str:
    """Return the colours of a map from matplotlib, from left to right, as a picture in the axes."""
    # A gradient would be smaller, but WeasyPrint leaves it white.
    left, top, right, bottom = axes.box
    across, up = right - left, bottom - top
    shades = matplotlib.colormaps[colours](np.linspace(0, 1, RAMP), bytes=True)[:, :3]
    # Of the shape of the axes, so that nothing has to be stretched.
    picture = Image.fromarray(np.tile(shades, (round(RAMP * up / across), 1, 1)))
    return (
        f'<image x="{left:.2f}" y="{top:.2f}" width="{across:.2f}" height="{up:.2f}" '
        f'href="{data_address(picture)}"/>'
    )


def _lines(axes: Axes, traces: Sequence[Trace]) -> str:
    """Return one path for each trace, with a stroke for each of its rows."""
    return "".join(
        _stroke(
            "".join(_path(axes.x(trace.curve[0]), axes.y(row)) for row in trace.curve[1:]),
            trace.pen.colour,
            trace.pen.width,
            trace.pen.svg_dash,
        )
        for trace in traces
    )


def _dots(axes: Axes, trace: Trace) -> str:
    places = [p for row in trace.curve[1:] for p in _finite(axes, trace.curve[0], row)]
    dots = "".join(f'<circle cx="{x:.2f}" cy="{y:.2f}" r="2"/>' for x, y in places)
    return f'<g fill="{trace.pen.colour}">{dots}</g>'


def _finite(axes: Axes, x: Curve, y: Curve) -> list[tuple[float, float]]:
    known = np.isfinite(y)
    return list(zip(axes.x(x[known]), axes.y(y[known]), strict=True))


def _path(x: Curve, y: Curve) -> str:
    """Return a path through the points; it is interrupted where a number is not finite."""
    parts, drawing = [], False
    for across, down in zip(x, y, strict=True):
        known = bool(np.isfinite(down))
        if known:
            parts.append(f"{'L' if drawing else 'M'}{across:.2f} {down:.2f}")
        drawing = known
    return "".join(parts)


def _stroke(path: str, colour: str, width: float, dashes: str = "") -> str:
    if not path:
        return ""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}" '
        f'stroke-linejoin="round"{dashed}/>'
    )


def _highest(traces: Sequence[Trace]) -> float:
    heights = [np.max(t.curve[1:], where=np.isfinite(t.curve[1:]), initial=0.0) for t in traces]
    return float(max(heights, default=0.0))


def _headroom(top: float) -> float:
    return min(top * 1.06, 1.02) if 0 < top <= 1 else max(top * 1.06, 1.02)


def _drawn(sheet: Sheet, *parts: str) -> str:
    width, height = f"{sheet.width * INCH:g}", f"{sheet.height * INCH:g}"
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" '
        f'viewBox="0 0 {width} {height}"><g font-family="{FONTS}" font-size="{SIZE}" fill="{INK}" '
        f'text-anchor="middle">{"".join(parts)}</g></svg>'
    )
    return address("image/svg+xml", drawing.encode())
