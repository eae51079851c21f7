"""Facts about what was left out, and about which maps each rule speaks of."""

from __future__ import annotations

from collections.abc import Iterator

from reportgen.facts.formats import count, shortlist
from reportgen.facts.sources import titles
from reportgen.phrases import named, phrase
from reportgen.records import Fact, Report, Skipped

# As many reasons as the text tells; the appendix has them all.
TOLD_REASONS = 4


def omission_facts(report: Report) -> Iterator[Fact]:
    """Return what was left out, together where the reason is the same, the commonest first."""
    if not report.skipped:
        return
    steps = [_step(report, skipped) for skipped in report.skipped]
    text, where = shortlist(steps), "/skipped"
    yield Fact(name="report.skipped", value=[*steps], text=text, source=where)
    reasons: dict[str, list[str]] = {}
    for step, skipped in zip(steps, report.skipped, strict=True):
        reasons.setdefault(skipped.reason, []).append(step)
    commonest = sorted(reasons.items(), key=lambda found: -len(found[1]))
    for place, (reason, found) in enumerate(commonest[:TOLD_REASONS], start=1):
        name, text = f"skipped.{place}", shortlist(found)
        yield Fact(name=f"{name}.steps", value=[*found], text=text, source=where)
        text = reason.strip().removesuffix(".")
        yield Fact(name=f"{name}.reason", value=reason, text=text, source=where)
    left = sum(len(found) for _, found in commonest[TOLD_REASONS:])
    if left:
        yield Fact(name="skipped.more", value=left, text=count(left), source=where)


def _step(report: Report, skipped: Skipped) -> str:
    if not skipped.subject:
        return skipped.step
    subject = titles(report).get(skipped.subject, skipped.subject)
    return phrase("step", step=skipped.step, subject=subject)


def found_facts(report: Report) -> Iterator[Fact]:
    """Return, for each rule that found something of maps or noises, the names of all of these."""
    known = titles(report)
    subjects: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.subject:
            subject = known.get(finding.subject) or named("noise", finding.subject)
            subjects.setdefault(finding.rule, []).append(subject)
    for rule, found in subjects.items():
        text = shortlist(found)
        yield Fact(name=f"found.{rule}", value=[*found], text=text, source="/findings")
