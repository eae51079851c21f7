"""The first page: the prediction, where the maps point, what they agree on, what to distrust."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from reportgen.facts.formats import counted
from reportgen.phrases import phrase
from reportgen.records import Finding, Severity
from reportgen.render import figures
from reportgen.render.document import DASH, Alert, Entry, Line, Verdict, shortened
from reportgen.render.figures import Source
from reportgen.render.narrated import narration_lines

ORDER: tuple[Severity, ...] = ("problem", "caution", "note", "pass")

# What fits on the first page beside the pictures, in characters where it is text; the rest stands
# in full further on. LINE is what the end of a statement takes that fills no line.
ROOM = 1500
LINE = 80
MAPS = 6
LABEL = 90
DETAIL = 110
SENTENCES = 4


def verdict(source: Source) -> Verdict:
    """Return the first page of the report."""
    maps = figures.thumbnails(source)
    narration = narration_lines(source.report.narration)
    told = _that_fit(_briefly(source), ROOM - sum(len(line) for line in narration))
    line = source.report.verdict
    return Verdict(
        line=source.facts.line(line) if line else None,
        narration=narration,
        kicker=_kicker(source),
        label=shortened(source.facts.text("prediction.label"), LABEL),
        probability=source.facts.cell("prediction.probability"),
        details=_details(source),
        picture=figures.picture_panel(source),
        maps=maps[:MAPS],
        maps_note=_more(len(maps) - MAPS, "more-maps"),
        agreement=_agreement(source),
        alerts=told,
        alerts_note=_more(_untold(source, told), "more-findings"),
    )


def alerts(source: Source) -> tuple[Alert, ...]:
    """Return all findings in full, the gravest first."""
    return tuple(_alert(source, finding) for finding in _worst_first(source))


def _kicker(source: Source) -> str:
    prediction = source.report.prediction
    if prediction.contrast is not None:
        return phrase("kicker.contrast")
    chosen = "chosen-" if prediction.target_source == "option" else ""
    return phrase(f"kicker.{chosen}{'label' if source.several else 'class'}")


def _details(source: Source) -> tuple[Entry, ...]:
    """Return the lines below the probability: the rival class, or the other labels that hold."""
    entries = (
        Entry(phrase("first.why"), _class(source, "first")),
        Entry(phrase("first.and-not"), _class(source, "second")),
        *(_labels(source) if source.several else _rivals(source)),
        Entry(phrase("first.score"), source.facts.text("prediction.score")),
    )
    return tuple(entry for entry in entries if not entry.text.startswith(DASH))


def _rivals(source: Source) -> tuple[Entry, ...]:
    chosen = source.report.prediction.target_source == "option"
    return (
        *([Entry(phrase("first.top-class"), _class(source, "top1"))] if chosen else []),
        Entry(phrase("first.runner-up"), _class(source, "top2")),
        Entry(phrase("first.margin"), source.facts.text("prediction.margin")),
    )


def _labels(source: Source) -> tuple[Entry, ...]:
    count, held = (source.facts.text(f"prediction.{name}") for name in ("held", "holding"))
    return (
        Entry(phrase("first.threshold"), source.facts.text("prediction.threshold")),
        Entry(
            phrase("first.holding"), shortened(phrase("first.held", count=count, held=held), DETAIL)
        ),
    )


def _class(source: Source, place: str) -> str:
    label = shortened(source.facts.text(f"prediction.{place}.label"), DETAIL)
    return phrase(
        "first.class",
        label=label,
        probability=source.facts.text(f"prediction.{place}.probability"),
    )


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


def _briefly(source: Source) -> Iterator[Alert]:
    """Yield the short sentence of each rule; of a report that has none, every statement."""
    told = any(finding.brief for finding in source.report.findings)
    for finding in _worst_first(source):
        if finding.brief is not None:
            yield Alert(finding.severity, source.facts.line(finding.brief), rule=finding.rule)
        elif not told:
            yield _alert(source, finding)


def _untold(source: Source, told: tuple[Alert, ...]) -> int:
    """Return how many findings the alerts do not speak of; a short sentence speaks of its rule."""
    findings = source.report.findings
    if not any(finding.brief for finding in findings):
        return len(findings) - len(told)
    rules = {alert.rule for alert in told}
    return sum(finding.rule not in rules for finding in findings)


def _that_fit(alerts: Iterable[Alert], room: int) -> tuple[Alert, ...]:
    """Return as many of the first alerts as ``room``, in characters, is enough for."""
    found = tuple(alerts)
    used = accumulate(len(alert.statement.text) + LINE for alert in found)
    return found[: sum(total <= room for total in used)]


def _more(count: int, things: str) -> str:
    """Return that ``count`` more stand elsewhere, or nothing."""
    return counted(count, things) if count > 0 else ""
