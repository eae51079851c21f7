"""The first page: the prediction, where the maps point, what they agree on, what to distrust."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from reportgen.records import Finding, Severity
from reportgen.render import figures
from reportgen.render.document import DASH, Alert, Entry, Line, Verdict, shortened
from reportgen.render.figures import Source

ORDER: tuple[Severity, ...] = ("problem", "caution", "note", "pass")

# What fits on the first page beside the pictures, in characters where it is text; the rest stands
# in full further on. LINE is what the end of a statement takes that fills no line.
ROOM = 1500
LINE = 60
STATEMENT = 230
MAPS = 6
LABEL = 90
DETAIL = 110
SENTENCES = 3


_KICKERS = {False: "Prediction", True: "Explained label"}


def verdict(source: Source) -> Verdict:
    """Return the first page of the report."""
    maps = figures.thumbnails(source)
    brief = _that_fit(_brief(source, finding) for finding in _worst_first(source))
    return Verdict(
        kicker=_kicker(source),
        label=shortened(source.facts.text("prediction.label"), LABEL),
        probability=source.facts.cell("prediction.probability"),
        details=_details(source),
        picture=figures.picture_panel(source),
        maps=maps[:MAPS],
        maps_note=_more(len(maps) - MAPS, "map", "in the sections"),
        agreement=_agreement(source),
        alerts=brief,
        alerts_note=_more(len(source.report.findings) - len(brief), "finding", "in appendix C"),
    )


def alerts(source: Source) -> tuple[Alert, ...]:
    """Return all findings in full, the gravest first."""
    return tuple(_alert(source, finding) for finding in _worst_first(source))


def _kicker(source: Source) -> str:
    prediction = source.report.prediction
    if prediction.contrast is not None:
        return "Explained contrast, chosen by option"
    kind = "label" if source.several else "class"
    chosen = prediction.target_source == "option"
    return f"Explained {kind}, chosen by option" if chosen else _KICKERS[source.several]


def _details(source: Source) -> tuple[Entry, ...]:
    """Return the lines below the probability: the rival class, or the other labels that hold."""
    entries = (
        Entry("Why", _class(source, "first")),
        Entry("And not", _class(source, "second")),
        *(_labels(source) if source.several else _rivals(source)),
        Entry("Score", source.facts.text("prediction.score")),
    )
    return tuple(entry for entry in entries if not entry.text.startswith(DASH))


def _rivals(source: Source) -> tuple[Entry, ...]:
    chosen = source.report.prediction.target_source == "option"
    return (
        *([Entry("Top class", _class(source, "top1"))] if chosen else []),
        Entry("Runner-up", _class(source, "top2")),
        Entry("Margin", source.facts.text("prediction.margin")),
    )


def _labels(source: Source) -> tuple[Entry, ...]:
    count, held = (source.facts.text(f"prediction.{name}") for name in ("held", "holding"))
    return (
        Entry("Threshold", source.facts.text("prediction.threshold")),
        Entry("Labels that hold", shortened(f"{count}: {held}", DETAIL)),
    )


def _class(source: Source, place: str) -> str:
    label = shortened(source.facts.text(f"prediction.{place}.label"), DETAIL)
    return f"{label}, {source.facts.text(f'prediction.{place}.probability')}"


def _agreement(source: Source) -> tuple[Line, ...]:
    """Return the first sentences on how the maps compare."""
    found = (section for section in source.report.sections if section.key == "comparison")
    sentences = [sentence for section in found for sentence in section.sentences]
    return tuple(source.facts.line(sentence) for sentence in sentences[:SENTENCES])


def _worst_first(source: Source) -> list[Finding]:
    return sorted(source.report.findings, key=lambda finding: ORDER.index(finding.severity))


def _alert(source: Source, finding: Finding) -> Alert:
    statement = Line(finding.statement, source.facts.marks(finding.facts))
    subject = source.title(finding.subject)
    return Alert(finding.severity, statement, finding.threshold, finding.rule, subject)


def _brief(source: Source, finding: Finding) -> Alert:
    marks = source.facts.marks(finding.facts)
    return Alert(finding.severity, Line(shortened(finding.statement, STATEMENT), marks))


def _that_fit(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    """Return as many of the first alerts as the first page has room for."""
    found = tuple(alerts)
    used = accumulate(len(alert.statement.text) + LINE for alert in found)
    return found[: sum(total <= ROOM for total in used)]


def _more(count: int, noun: str, place: str) -> str:
    """Return that ``count`` more stand elsewhere, or nothing."""
    if count <= 0:
        return ""
    return f"{count} more {noun}{'s' if count > 1 else ''} {place}."
