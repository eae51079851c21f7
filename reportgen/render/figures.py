"""Which pictures stand in a report: each with its caption, its text alternative and its legend.

A figure whose arrays are missing is left out; the section then says what was skipped and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reportgen.records import Attribution, Report
from reportgen.render import charts, pictures
from reportgen.render.document import Figure, Key, Panel, shortened
from reportgen.render.lookup import FactIndex

Arrays = dict[str, NDArray[Any]]

THUMBNAIL = 240
LABEL = 40
CONTROLS = {
    "random": "Control: random pixels",
    "smooth-random": "Control: smooth random",
    "edges": "Control: edges",
    "centre": "Control: centre",
}
NOISES = {"gaussian": "Gaussian noise", "shot": "Shot noise", "impulse": "Impulse noise"}
SIDES = {"positive": "positive angles", "negative": "negative angles"}


@dataclass(frozen=True)
class Source:
    """What a report is drawn from: the records, the arrays beside them, the facts by name.

    ``overlays`` are kept by method once they are drawn: several pictures show them.
    """

    report: Report
    arrays: Arrays
    facts: FactIndex
    overlays: dict[str, Image.Image] = field(default_factory=dict)

    @property
    def several(self) -> bool:
        """Whether a picture may have several labels, of which each stands alone."""
        return self.report.prediction.threshold is not None

    def map_of(self, attribution: Attribution) -> pictures.ColouredMap | None:
        """Return the coloured map of a method, or None where the array is missing."""
        values = self.arrays.get(attribution.array)
        return None if values is None else pictures.coloured(values, attribution.signed)

    def overlay_of(
        self, attribution: Attribution, pixels: pictures.Pixels, chart: pictures.ColouredMap
    ) -> Image.Image:
        """Return the map of a method over the input, without borders, drawn once."""
        if attribution.method not in self.overlays:
            self.overlays[attribution.method] = pictures.overlay(pixels, chart)
        return self.overlays[attribution.method]

    def segments_of(self, attribution: Attribution) -> NDArray[Any] | None:
        """Return the segments (height, width) the method worked on, or None."""
        name = attribution.arrays.get("segments", f"segments.{attribution.method}")
        return self.arrays.get(name)

    @property
    def frame(self) -> pictures.Frame | None:
        """The crop the network saw, in pixels of the display copy, or None."""
        crop = self.arrays.get("crop")
        return None if crop is None else pictures.Frame(*(float(side) for side in crop))

    def title(self, subject: str) -> str:
        """Return the title of a method or of a control map."""
        attribution = self.report.attribution(subject)
        return attribution.card.title if attribution else CONTROLS.get(subject, subject)

    @property
    def controls(self) -> tuple[str, ...]:
        """The control maps, in the order in which their curves or facts appear."""
        methods = {attribution.method for attribution in self.report.attributions}
        measured = [m.subject for m in self.report.measurements]
        known = [name for name in CONTROLS if f"{name}.deletion_auc" in self.facts]
        others = [s for s in measured if f"{s}.deletion_auc" in self.facts and s not in methods]
        return tuple(dict.fromkeys([*known, *others]))


def picture_panel(source: Source) -> Panel | None:
    """Return the picture with the crop drawn, or None where it is missing."""
    original = source.arrays.get("original")
    if original is None:
        return None
    drawn = pictures.cropped(original, source.frame)
    alternative = f"The picture {source.report.image.name}, {source.facts.text('image.size')}."
    label = "The frame is what the network saw." if source.frame else ""
    return Panel(pictures.data_address(drawn), alternative, label)


def thumbnails(source: Source) -> tuple[Panel, ...]:
    """Return one small overlay for each method, labelled with its name and location."""
    panels = (_thumbnail(source, attribution) for attribution in source.report.attributions)
    return tuple(panel for panel in panels if panel)


def map_figure(source: Source, attribution: Attribution) -> Figure | None:
    """Return the map over the input, alone, and on the whole picture, with the colour bar."""
    chart, pixels = source.map_of(attribution), source.arrays.get("input")
    if chart is None or pixels is None:
        return None
    segments = source.segments_of(attribution)
    over = source.overlay_of(attribution, pixels, chart)
    drawn = {
        "Over the input": pictures.outlined(over, chart, segments, source.arrays.get("mask")),
        "The map alone": pictures.raw(chart, segments),
    }
    original, frame = source.arrays.get("original"), source.frame
    if original is not None and frame is not None:
        drawn["On the whole picture"] = pictures.placed(original, over, frame)
    words = _described(source, attribution)
    panels = [_panel(picture, f"{words} {label}.", label) for label, picture in drawn.items()]
    if not chart.flaw:
        bar = charts.colour_bar(chart)
        panels[-1] = replace(panels[-1], legend=bar, legend_alternative="Colour bar of the map.")
    caption = _map_caption(attribution, chart, segments is not None)
    marked = " Green line: the marked area." if "mask" in source.arrays else ""
    return Figure(f"{caption}{marked}", tuple(panels))


def curves_figure(source: Source) -> Figure | None:
    """Return the deletion and insertion curves of all methods and controls, side by side."""
    pens = _pens(source)
    deletion, insertion = (_traces(source, kind, pens) for kind in ("deletion", "insertion"))
    if not deletion and not insertion:
        return None
    top = charts.highest(list(deletion.values()), list(insertion.values()))
    drawn = {"Deletion": (deletion, "share of pixels deleted, most important first")}
    drawn["Insertion"] = (insertion, "share of pixels inserted, most important first")
    panels = [
        _curve_panel(title, list(traces.values()), top, axis)
        for title, (traces, axis) in drawn.items()
        if traces
    ]
    shown = [subject for subject in pens if subject in deletion or subject in insertion]
    keys = (_key(source.title(subject), pens[subject]) for subject in shown)
    return Figure(
        "Probability of the explained class while pixels are deleted (lower is better) and "
        "inserted (higher is better) in the order of each map. Grey: the control maps; random "
        "controls have one line a draw.",
        tuple(panels),
        tuple(keys),
        "charts",
    )


def rotation_figure(source: Source) -> Figure | None:
    """Return the probability against the angle, and the pictures at which the class flips."""
    curve = source.arrays.get("curve.rotation")
    if curve is None:
        return None
    flipped = _flipped_panels(source)
    sheet = charts.HALF if flipped else charts.WIDE
    trace = charts.Trace(curve[:2], charts.method_pen(0))
    words = ", ".join(f"{SIDES[side]}: {_angle(source, side)}" for side in SIDES)
    panel = Panel(
        charts.rotation_chart(trace, _flips(source, curve[0]), sheet),
        f"Probability against the angle of rotation; {words}.",
    )
    pictured = " Beside it, the picture at that angle." if flipped else ""
    return Figure(
        f"{_ROTATED_LABEL if source.several else _ROTATED_CLASS}{pictured}",
        (panel, *flipped),
        (),
        "mixed" if flipped else "wide",
    )


_ROTATED_CLASS = (
    "Probability of the top class while the picture is rotated. Dashed red: the angle at which the "
    "top class first changes."
)
_ROTATED_LABEL = (
    "Probability of the label while the picture is rotated. Dashed red: the angle at which it "
    "first crosses the threshold."
)


def noise_figure(source: Source) -> Figure | None:
    """Return the share of probability kept against the severity, and pictures at severity 3."""
    retention = source.arrays.get("noise.retention")
    if retention is None:
        return None
    examples = source.arrays.get("noise.examples", ())
    pens = {kind: charts.method_pen(index) for index, kind in enumerate(NOISES)}
    severities = np.arange(1, retention.shape[1] + 1)
    traces = [
        charts.Trace(np.stack([severities, row]), pen)
        for row, pen in zip(retention, pens.values(), strict=False)
    ]
    drawn = Panel(charts.severity_chart(traces), _NOISE_WORDS)
    shown = zip(examples, NOISES.values(), strict=False)
    panels = (drawn, *(_seen_panel(pixels, title) for pixels, title in shown))
    keys = (_key(NOISES[kind], pen) for kind, pen in pens.items())
    caption = _NOISE_CAPTION.format("label" if source.several else "top class")
    return Figure(caption, panels, tuple(keys), "mixed")


_NOISE_WORDS = "Share of the probability kept against the severity; the table has the numbers."
_NOISE_CAPTION = (
    "Share of the {}'s probability that is kept under noise (1: unchanged), and the picture "
    "at severity 3, as the network saw it."
)


def _flips(source: Source, angles: NDArray[Any]) -> list[float]:
    """Return the signed angles of the first flips, as far as the curve reaches."""
    positive = source.facts.number("rotation.positive")
    negative = source.facts.number("rotation.negative")
    found = [positive, None if negative is None else -abs(negative)]
    return [a for a in found if a is not None and angles.min() <= a <= angles.max()]


def _flipped_panels(source: Source) -> tuple[Panel, ...]:
    found = {side: source.arrays.get(f"rotation.flipped.{side}") for side in SIDES}
    return tuple(
        _seen_panel(pixels, f"{SIDES[side].capitalize()}: {_new_class(source, side)}")
        for side, pixels in found.items()
        if pixels is not None
    )


def _angle(source: Source, side: str) -> str:
    return source.facts.text(f"rotation.{side}")


def _new_class(source: Source, side: str) -> str:
    return shortened(source.facts.text(f"rotation.{side}.class"), LABEL)


def _thumbnail(source: Source, attribution: Attribution) -> Panel | None:
    chart, pixels = source.map_of(attribution), source.arrays.get("input")
    if chart is None or pixels is None:
        return None
    drawn = pictures.data_address(source.overlay_of(attribution, pixels, chart), THUMBNAIL)
    location = source.facts.text(f"{attribution.method}.location")
    legend = chart.flaw or location
    return Panel(drawn, _described(source, attribution), attribution.card.title, legend)


def _described(source: Source, attribution: Attribution) -> str:
    """Return the text alternative of a map, from its facts."""
    location = source.facts.text(f"{attribution.method}.location")
    share = source.facts.text(f"{attribution.method}.area_share")
    return f"Map of {attribution.card.title}. Location: {location}. Area share: {share}."


def _panel(drawn: Any, alternative: str, label: str) -> Panel:
    return Panel(pictures.data_address(drawn), alternative, label)


def _seen_panel(pixels: NDArray[Any], label: str) -> Panel:
    return _panel(pictures.seen(pixels), label, label)


def _map_caption(attribution: Attribution, chart: pictures.ColouredMap, borders: bool) -> str:
    """Return what the colours mean, how the scale is set, and how fine the map really is."""
    title, resolution = attribution.card.title, attribution.resolution
    if chart.flaw:
        return f"{title}: {chart.flaw}; there is nothing to colour. Resolution: {resolution}."
    colours = "red speaks for the class, blue against it, white is zero"
    if not chart.signed:
        colours = "bright is important, black is zero"
    lines = " Thin lines: borders of the segments." if borders else ""
    return (
        f"{title}: {colours}. The scale ends at the {pictures.PERCENTILE:g}th percentile of the "
        f"absolute values. Over a picture, larger values are more opaque.{lines} "
        f"Resolution: {resolution}."
    )


def _pens(source: Source) -> dict[str, charts.Pen]:
    methods = [attribution.method for attribution in source.report.attributions]
    pens = {method: charts.method_pen(index) for index, method in enumerate(methods)}
    controls = {name: charts.control_pen(i) for i, name in enumerate(source.controls)}
    return {**controls, **pens}


def _traces(source: Source, kind: str, pens: dict[str, charts.Pen]) -> dict[str, charts.Trace]:
    found = {subject: source.arrays.get(f"curve.{kind}.{subject}") for subject in pens}
    return {s: charts.Trace(curve, pens[s]) for s, curve in found.items() if curve is not None}


def _curve_panel(title: str, traces: Sequence[charts.Trace], top: float, axis: str) -> Panel:
    alternative = f"{title} curves; the areas under them are in the table of fidelity."
    return Panel(charts.fraction_chart(traces, top, axis), alternative, title)


def _key(label: str, pen: charts.Pen) -> Key:
    return Key(label, pen.colour, pen.svg_dash)
