"""Findings: rules over the facts, each with its threshold and severity.

A rule looks at one thing. It gives "problem" where a conclusion would be wrong, "caution" where it
would be weak, "note" for what a reader must know, and "pass" where a test was made and held.
"""

from __future__ import annotations

from collections.abc import Mapping

from reportgen.findings.rules import RULES
from reportgen.findings.view import findings_wording, view_of
from reportgen.records import Finding, Report, Severity

__all__ = ["RULES", "briefed", "findings_of"]

_ORDER: Mapping[Severity, int] = {"problem": 0, "caution": 1, "note": 2, "pass": 3}


def findings_of(report: Report) -> tuple[Finding, ...]:
    """Return what the rules conclude from a report that has its facts, the gravest first."""
    view = view_of(report)
    found = [finding for rule in RULES for finding in rule(view)]
    return tuple(sorted(found, key=lambda finding: _ORDER[finding.severity]))


def briefed(report: Report) -> tuple[Finding, ...]:
    """Return the findings, the first of each rule with a short sentence on all that it found.

    The report has its findings, and the facts that name what each rule found.
    """
    wording = findings_wording(report)
    told: set[str] = set()
    found = []
    for finding in report.findings:
        fresh, key = finding.rule not in told, f"{finding.rule}-brief"
        told.add(finding.rule)
        brief = wording.sentence(key, finding.rule) if fresh else None
        found.append(finding.model_copy(update={"brief": brief}))
    return tuple(found)
