"""Facts about rotation, noise, and the stability of maps."""

from __future__ import annotations

from collections.abc import Iterator

from reportgen.facts.formats import (
    counted,
    degrees,
    levels,
    listed,
    percent,
    whole_degrees,
)
from reportgen.facts.sources import noted, number, numbered, plain, pointer, setting, values
from reportgen.phrases import named, phrase
from reportgen.records import Fact, Measurement, Report

_SHOWN_SEVERITY = 3
_HALF = 0.5


def robustness_facts(report: Report) -> Iterator[Fact]:
    """Return the first rotation and noise that change the prediction, and the stable maps."""
    yield from _rotation(report)
    yield from _noise(report)
    yield from _sensitivity(report)


def _rotation(report: Report) -> Iterator[Fact]:
    yield from setting(report, "rotation_flip", "grid", "rotation.step", number(degrees))
    yield from setting(report, "rotation_flip", "limit", "rotation.limit", number(whole_degrees))
    flips = numbered(report, "rotation_flip")
    for index, flip in flips:
        if "new class" in flip.detail:
            where = ("measurements", index, "detail", "new class")
            yield plain(f"rotation.{flip.subject}.class", flip.detail["new class"], *where)
    found = sorted((flip.value, i, flip) for i, flip in flips if flip.value is not None)
    if found:
        yield from _first(*found[0])
        yield from _other(found[0][1], flips)
    elif flips:
        text = noted(flips[0][1].note)
        yield Fact(name="rotation.first", value=None, text=text, source="/measurements")


def _first(value: float, index: int, flip: Measurement) -> Iterator[Fact]:
    where = ("measurements", index)
    yield Fact(
        name="rotation.first",
        value=value,
        text=degrees(value),
        source=pointer(*where, "value"),
        direction=flip.direction,
        interval=flip.interval,
    )
    yield _way("rotation.first_way", flip, index)
    if "new class" in flip.detail:
        label = flip.detail["new class"]
        yield plain("rotation.first_class", label, *where, "detail", "new class")


def _other(first: int, flips: list[tuple[int, Measurement]]) -> Iterator[Fact]:
    """The other direction, where it was searched too."""
    for index, flip in flips:
        if index != first:
            text = noted(flip.note) if flip.value is None else degrees(flip.value)
            where = pointer("measurements", index, "value")
            yield Fact(name="rotation.other", value=flip.value, text=text, source=where)
            yield _way("rotation.other_way", flip, index)


def _way(name: str, flip: Measurement, index: int) -> Fact:
    source = pointer("measurements", index, "subject")
    return Fact(name=name, value=flip.subject, text=named("way", flip.subject), source=source)


def _noise(report: Report) -> Iterator[Fact]:
    for metric in ("noise_flips", "noise_retention"):
        yield from setting(report, metric, "constants", "noise.constants", str)
    yield from _kept(report)
    firsts = dict(_firsts(report))
    for kind, level in firsts.items():
        title = named("noise", kind)
        yield Fact(name=f"noise.{kind}.title", value=kind, text=title, source="/measurements")
        words = phrase("severity" if level else "no-severity", level=level)
        yield Fact(name=f"noise.{kind}.first", value=level, text=words, source="/measurements")
    if firsts:
        each = [_under(str(level or phrase("no-level")), kind) for kind, level in firsts.items()]
        name, text = "noise.firsts", listed(each)
        yield Fact(name=name, value=list(each), text=text, source="/measurements")
        text = listed(named("noise", kind) for kind in firsts)
        yield Fact(name="noise.kinds", value=[*firsts], text=text, source="/measurements")


def _kept(report: Report) -> Iterator[Fact]:
    """The share of probability kept under each noise at the middle severity, in one list."""
    words = []
    for subject, share in values(report, "noise_retention").items():
        kind, severity = subject.split()
        if int(severity) == _SHOWN_SEVERITY:
            words.append(_under(percent(share), kind))
    if words:
        name, text = "noise.kept", listed(words)
        yield Fact(name=name, value=list(words), text=text, source="/measurements")
        text = phrase("severity", level=_SHOWN_SEVERITY)
        yield Fact(name="noise.shown", value=_SHOWN_SEVERITY, text=text, source="/measurements")


def _under(value: str, kind: str) -> str:
    return phrase("under", value=value, noise=named("noise", kind))


def _firsts(report: Report) -> Iterator[tuple[str, int | None]]:
    """The first severity of each noise at which at least half of the copies change class."""
    flips: dict[str, list[int]] = {}
    for subject, share in values(report, "noise_flips").items():
        kind, severity = subject.split()
        flips.setdefault(kind, []).extend([int(severity)] if share >= _HALF else [])
    for kind, severities in flips.items():
        yield kind, min(severities, default=None)


def _sensitivity(report: Report) -> Iterator[Fact]:
    yield from setting(report, "sensitivity", "radius", "sensitivity.radius", number(levels))
    yield from setting(report, "sensitivity", "draws", "sensitivity.draws", number(_copies))


def _copies(draws: float) -> str:
    return counted(int(draws), "copies")
