"""What a rule looks at: a report with its facts at hand, and the words for its findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reportgen.phrases import phrase
from reportgen.records import Attribution, Finding, Report, Severity
from reportgen.wording import Wording, read_wording


@dataclass(frozen=True)
class View:
    """A report with its facts at hand, and the words for findings."""

    report: Report
    wording: Wording

    def value(self, name: str) -> float | None:
        """Return the number behind a fact, or None where there is no such fact or number."""
        fact = self.wording.facts.get(name)
        return fact.value if fact and isinstance(fact.value, float | int) else None

    def text(self, name: str) -> str:
        """Return the text of a fact; empty where there is no such fact."""
        fact = self.wording.facts.get(name)
        return fact.text if fact else ""

    @property
    def attributions(self) -> tuple[Attribution, ...]:
        """The maps of the report."""
        return self.report.attributions

    def finding(self, key: str, severity: Severity, threshold: str, subject: str = "") -> Finding:
        """Return the finding of the rule ``key``; its sentence stands under the same key."""
        sentence = self.wording.sentence(key, subject)
        return Finding(
            rule=key,
            severity=severity,
            subject=subject,
            statement=sentence.text,
            facts=sentence.facts,
            threshold=threshold,
        )


Rule = Callable[[View], Iterator[Finding]]


def view_of(report: Report) -> View:
    """Return what rules look at, of a report that has its facts."""
    return View(report, findings_wording(report))


def findings_wording(report: Report) -> Wording:
    """Return the words for findings, filled with the facts of a report."""
    return read_wording("findings.toml", {fact.name: fact for fact in report.facts})


def threshold_of(key: str, limit: str = "") -> str:
    """Return the threshold of a rule in words."""
    return phrase(f"threshold.{key}", limit=limit)
