"""Where a fact comes from: measurements by metric, and JSON pointers into the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydantic import JsonValue

from reportgen.phrases import retold
from reportgen.records import Fact, Measurement, Report

Form = Callable[[JsonValue], str]


def pointer(*parts: str | int) -> str:
    """Return a JSON pointer, with "~" and "/" in names escaped (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def plain(name: str, value: JsonValue, *parts: str | int) -> Fact:
    """Return a fact whose text is its value, found at ``parts`` of the report."""
    return Fact(name=name, value=value, text=str(value), source=pointer(*parts))


def noted(note: str) -> str:
    """Return the notes behind a measurement, those that are known in the language spoken."""
    return "; ".join(retold("note", part) for part in note.split("; "))


def number(form: Callable[[float], str]) -> Form:
    """Return ``form`` for settings: it writes numbers, and anything else stays as it is."""
    return lambda value: form(value) if isinstance(value, int | float) else str(value)


def numbered(report: Report, metric: str) -> list[tuple[int, Measurement]]:
    """Return the measurements of ``metric``, each with its place in the report."""
    return [(i, m) for i, m in enumerate(report.measurements) if m.metric == metric]


def values(report: Report, metric: str) -> dict[str, float]:
    """Return the numbers that ``metric`` gave, by subject; what has no number is left out."""
    found = numbered(report, metric)
    return {m.subject: m.value for _, m in found if m.value is not None}


def titles(report: Report) -> dict[str, str]:
    """Return the title of each method, in report order."""
    return {a.method: a.card.title for a in report.attributions}


def setting(report: Report, metric: str, key: str, name: str, form: Form) -> Iterator[Fact]:
    """Return one setting of a metric as a fact, if the metric was measured with it."""
    for index, measurement in numbered(report, metric):
        if key in measurement.settings:
            value = measurement.settings[key]
            source = pointer("measurements", index, "settings", key)
            yield Fact(name=name, value=value, text=form(value), source=source)
            return
