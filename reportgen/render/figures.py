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

from reportgen.facts.formats import short
from reportgen.phrases import named, phrase, retold
from reportgen.records import Attribution, Report
from reportgen.render import charts, pictures
from reportgen.render.document import Figure, Key, Panel, shortened
from reportgen.render.lookup import FactIndex

Arrays = dict[str, NDArray[Any]]

THUMBNAIL = 240
LABEL = 40
CONTROLS = ("random", "smooth-random", "edges", "centre")
NOISES = ("gaussian", "shot", "impulse")
SIDES = ("positive", "negative")


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
        """Return the title of a method, of a control map, or of a kind of noise."""
        attribution = self.report.attribution(subject)
        if attribution:
            return attribution.card.title
        return named("noise" if subject in NOISES else "control", subject)

    @property
    def controls(self) -> tuple[str, ...]:
        """The control maps, in the order in which their curves or facts appear."""
        methods = {attribution.method for attribution in self.report.attributions}
        measured = [m.subject for m in self.report.measurements]
        known = [name for name in CONTROLS if self._has_curve(name)]
        others = [s for s in measured if self._has_curve(s) and s not in methods]
        return tuple(dict.fromkeys([*known, *others]))

    def _has_curve(self, subject: str) -> bool:
        return any(f"{subject}.{curve}_auc" in self.facts for curve in ("deletion", "insertion"))


def picture_panel(source: Source) -> Panel | None:
    """Return the picture with the crop drawn, or None where it is missing."""
    original = source.arrays.get("original")
    if original is None:
        return None
    drawn = pictures.cropped(original, source.frame)
    name, size = source.report.image.name, source.facts.text("image.size")
    alternative = phrase("figure.picture", name=name, size=size)
    label = phrase("figure.frame") if source.frame else ""
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
        "over": pictures.outlined(over, chart, segments, source.arrays.get("mask")),
        "alone": pictures.raw(chart, segments),
    }
    original, frame = source.arrays.get("original"), source.frame
    if original is not None and frame is not None:
        drawn["whole"] = pictures.placed(original, over, frame)
    words = _described(source, attribution)
    panels = [_map_panel(picture, words, view) for view, picture in drawn.items()]
    if not chart.flaw:
        bar, told = charts.colour_bar(chart), phrase("map.colour-bar")
        panels[-1] = replace(panels[-1], legend=bar, legend_alternative=told)
    caption = _map_caption(attribution, chart, segments is not None)
    marked = f" {phrase('map.marked')}" if "mask" in source.arrays else ""
    return Figure(f"{caption}{marked}", tuple(panels))


def _map_panel(picture: Image.Image, words: str, view: str) -> Panel:
    label = phrase(f"map.{view}")
    return _panel(picture, f"{words} {label}.", label)


def curves_figure(source: Source) -> Figure | None:
    """Return the deletion and insertion curves of all methods and controls, side by side."""
    pens = _pens(source)
    deletion, insertion = (_traces(source, kind, pens) for kind in ("deletion", "insertion"))
    if not deletion and not insertion:
        return None
    drawn = {"deletion": deletion, "insertion": insertion}
    top = charts.highest(list(deletion.values()), list(insertion.values()))
    kinds = [kind for kind, traces in drawn.items() if traces]
    panels = [_curve_panel(kind, list(drawn[kind].values()), top) for kind in kinds]
    shown = [subject for subject in pens if subject in deletion or subject in insertion]
    keys = (_key(source.title(subject), pens[subject]) for subject in shown)
    return Figure(
        phrase("curves.caption" if deletion and insertion else f"curves.caption-{kinds[0]}"),
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
    angles = {side: source.facts.text(f"rotation.{side}") for side in SIDES}
    drawn = charts.rotation_chart(trace, _flips(source, curve[0]), sheet)
    panel = Panel(drawn, phrase("rotation-figure.alternative", **angles))
    caption = phrase("rotation-figure.of-label" if source.several else "rotation-figure.of-class")
    pictured = f" {phrase('rotation-figure.pictured')}" if flipped else ""
    return Figure(
        f"{caption}{pictured}",
        (panel, *flipped),
        (),
        "mixed" if flipped else "wide",
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
    drawn = Panel(charts.severity_chart(traces), phrase("noise-figure.alternative"))
    titles = {kind: phrase(f"noise-title.{kind}") for kind in NOISES}
    shown = zip(examples, titles.values(), strict=False)
    panels = (drawn, *(_seen_panel(pixels, title) for pixels, title in shown))
    keys = (_key(titles[kind], pen) for kind, pen in pens.items())
    caption = phrase("noise-figure.of-label" if source.several else "noise-figure.of-class")
    return Figure(caption, panels, tuple(keys), "mixed")


def _flips(source: Source, angles: NDArray[Any]) -> list[float]:
    """Return the signed angles of the first flips, as far as the curve reaches."""
    positive = source.facts.number("rotation.positive")
    negative = source.facts.number("rotation.negative")
    found = [positive, None if negative is None else -abs(negative)]
    return [a for a in found if a is not None and angles.min() <= a <= angles.max()]


def _flipped_panels(source: Source) -> tuple[Panel, ...]:
    found = {side: source.arrays.get(f"rotation.flipped.{side}") for side in SIDES}
    return tuple(
        _seen_panel(pixels, phrase(f"rotated.{side}", label=_new_class(source, side)))
        for side, pixels in found.items()
        if pixels is not None
    )


def _new_class(source: Source, side: str) -> str:
    return shortened(source.facts.text(f"rotation.{side}.class"), LABEL)


def _thumbnail(source: Source, attribution: Attribution) -> Panel | None:
    chart, pixels = source.map_of(attribution), source.arrays.get("input")
    if chart is None or pixels is None:
        return None
    drawn = pictures.data_address(source.overlay_of(attribution, pixels, chart), THUMBNAIL)
    location = source.facts.text(f"{attribution.method}.location")
    legend = retold("note", chart.flaw) or location
    return Panel(drawn, _described(source, attribution), attribution.card.title, legend)


def _described(source: Source, attribution: Attribution) -> str:
    """Return the text alternative of a map, from its facts."""
    location = source.facts.text(f"{attribution.method}.location")
    share = source.facts.text(f"{attribution.method}.area_share")
    title = attribution.card.title
    return phrase("map.alternative", title=title, location=location, share=share)


def _panel(drawn: Any, alternative: str, label: str) -> Panel:
    return Panel(pictures.data_address(drawn), alternative, label)


def _seen_panel(pixels: NDArray[Any], label: str) -> Panel:
    return _panel(pictures.seen(pixels), label, label)


def _map_caption(attribution: Attribution, chart: pictures.ColouredMap, borders: bool) -> str:
    """Return what the colours mean, how the scale is set, and how fine the map really is."""
    title = attribution.card.title
    resolution = phrase("map.resolution", resolution=retold("resolution", attribution.resolution))
    if chart.flaw:
        return f"{phrase('map.flaw', title=title, flaw=retold('note', chart.flaw))} {resolution}"
    colours = phrase("map.signed" if chart.signed else "map.unsigned", title=title)
    scale = phrase("map.scale", percentile=short(pictures.PERCENTILE))
    lines = [phrase("map.borders")] if borders else []
    return " ".join([colours, scale, *lines, resolution])


def _pens(source: Source) -> dict[str, charts.Pen]:
    methods = [attribution.method for attribution in source.report.attributions]
    pens = {method: charts.method_pen(index) for index, method in enumerate(methods)}
    controls = {name: charts.control_pen(i) for i, name in enumerate(source.controls)}
    return {**controls, **pens}


def _traces(source: Source, kind: str, pens: dict[str, charts.Pen]) -> dict[str, charts.Trace]:
    found = {subject: source.arrays.get(f"curve.{kind}.{subject}") for subject in pens}
    return {s: charts.Trace(curve, pens[s]) for s, curve in found.items() if curve is not None}


def _curve_panel(kind: str, traces: Sequence[charts.Trace], top: float) -> Panel:
    drawn = charts.fraction_chart(traces, top, phrase(f"curves.{kind}-axis"))
    return Panel(drawn, phrase(f"curves.{kind}-alternative"), phrase(f"curves.{kind}"))


def _key(label: str, pen: charts.Pen) -> Key:
    return Key(label, pen.colour, pen.svg_dash)
