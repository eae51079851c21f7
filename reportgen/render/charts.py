"""Curves and colour bars as small vector drawings, with the same bytes for the same numbers.

Only axes and lines are drawn here. Names stand in the legend beside the drawing, as text, so that
no label of a model ever reaches a font or a markup parser of the drawing library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reportgen.render.pictures import COLOURS, ColouredMap, address

Curve = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Sheet:
    """A drawing's width and height in inches, and the margins around its axes."""

    width: float
    height: float
    left: float = 0.46
    right: float = 0.12
    bottom: float = 0.4
    top: float = 0.08

    @property
    def axes(self) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of the axes, as shares of the sheet."""
        across = self.width - self.left - self.right
        up = self.height - self.bottom - self.top
        return (
            self.left / self.width,
            self.bottom / self.height,
            across / self.width,
            up / self.height,
        )


# DejaVu Sans comes with matplotlib, so that drawing needs no font of the system; the text in the
# drawing is then shown in the font of the report.
FONTS = (b"'DejaVu Sans'", b"'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans'")
HALF = Sheet(3.35, 2.25)
WIDE = Sheet(6.9, 2.1)
BAR = Sheet(2.6, 0.34, 0.22, 0.22, 0.2, 0.02)

INK = "#33393f"
STYLE: dict[str, Any] = {
    "axes.edgecolor": "#8a929a",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7.5,
    "grid.color": "#e3e6e9",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "reportgen",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}

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

    def draw(axes: Axes) -> None:
        _lines(axes, traces)
        axes.set(xlim=(0, 1), ylim=(0, _headroom(top)), xlabel=axis, ylabel="probability")

    return _drawn(draw, HALF)


def rotation_chart(trace: Trace, flips: Sequence[float], sheet: Sheet) -> str:
    """Return probability against the angle in degrees, with a rule at each flip."""

    def draw(axes: Axes) -> None:
        for angle in flips:
            axes.axvline(angle, color="#a4161a", linewidth=1.0, dashes=(3, 2))
        _lines(axes, [trace])
        angles = trace.curve[0]
        axes.set(xlim=(angles.min(), angles.max()), ylim=(0, _headroom(_highest([trace]))))
        axes.set(xlabel="rotation in degrees", ylabel="probability")

    return _drawn(draw, sheet)


def severity_chart(traces: Sequence[Trace]) -> str:
    """Return the share of probability kept against the severity of the noise."""

    def draw(axes: Axes) -> None:
        _lines(axes, traces, marker="o")
        axes.axhline(1.0, color="#8a929a", linewidth=0.7)
        axes.set(ylim=(0, _headroom(max(1.0, _highest(traces)))), xticks=range(1, 6))
        axes.set(xlabel="severity", ylabel="share of probability kept")

    return _drawn(draw, HALF)


def colour_bar(chart: ColouredMap) -> str:
    """Return the colour bar of a map, with the limits of its scale, as a ``data:`` address."""
    low = -chart.limit if chart.signed else 0.0

    def draw(axes: Axes) -> None:
        ramp = np.linspace(0, 1, 128)[None, :]
        axes.imshow(ramp, COLOURS[chart.signed], aspect="auto", extent=(low, chart.limit, 0, 1))
        axes.set(yticks=[], xticks=[low, (low + chart.limit) / 2, chart.limit])
        axes.set_xticklabels([f"{value:.3g}" for value in axes.get_xticks()])
        axes.grid(visible=False)

    return _drawn(draw, BAR)


def highest(*groups: Sequence[Trace]) -> float:
    """Return the largest finite height of all traces, or 0."""
    return max((_highest(traces) for traces in groups), default=0.0)


def _lines(axes: Axes, traces: Sequence[Trace], marker: str = "") -> None:
    for trace in traces:
        pen = trace.pen
        style: Any = (0, pen.dashes) if pen.dashes else "solid"
        for heights in trace.curve[1:]:
            axes.plot(
                trace.curve[0],
                heights,
                color=pen.colour,
                linestyle=style,
                linewidth=pen.width,
                marker=marker,
                markersize=3,
            )


def _highest(traces: Sequence[Trace]) -> float:
    heights = [np.max(t.curve[1:], where=np.isfinite(t.curve[1:]), initial=0.0) for t in traces]
    return float(max(heights, default=0.0))


def _headroom(top: float) -> float:
    return min(top * 1.06, 1.02) if 0 < top <= 1 else max(top * 1.06, 1.02)


def _drawn(draw: Callable[[Axes], None], sheet: Sheet) -> str:
    """Return what ``draw`` puts on fresh axes, under settings that no user file can change."""
    stream = BytesIO()
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(sheet.width, sheet.height))
        draw(figure.add_axes(sheet.axes))
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return address("image/svg+xml", stream.getvalue().replace(*FONTS))
