"""Facts: every number of a report, named and put into words once.

This is the only place that turns a number into text. Findings, sentences, tables and the first
page all show these texts, so they cannot disagree.
"""

from __future__ import annotations

from reportgen.facts.agreement import agreement_facts
from reportgen.facts.fidelity import (
    CONSTANT_MAP,
    CURVES,
    LITTLE_CHANGE,
    SIGNIFICANT,
    backwards,
    better,
    fidelity_facts,
)
from reportgen.facts.formats import decimal, degrees, percent, seconds
from reportgen.facts.layer import LAYER_CHECKS, layer_facts, layer_failings
from reportgen.facts.measured import SELF_CHECKS, fact_name, measured_facts
from reportgen.facts.model import assumptions, model_facts, normalised_twice
from reportgen.facts.omissions import TOLD_REASONS, found_facts, omission_facts
from reportgen.facts.outcome import attribution_facts, outcome_facts, prediction_facts
from reportgen.facts.rankings import ranking_facts
from reportgen.facts.robustness import robustness_facts
from reportgen.facts.verdicts import DESTROYED, FAILS_FROM, SEEDS, STABLE, verdict_facts
from reportgen.records import Fact, Report

__all__ = [
    "CONSTANT_MAP",
    "CURVES",
    "DESTROYED",
    "FAILS_FROM",
    "LAYER_CHECKS",
    "LITTLE_CHANGE",
    "SEEDS",
    "SELF_CHECKS",
    "SIGNIFICANT",
    "STABLE",
    "TOLD_REASONS",
    "assumptions",
    "backwards",
    "better",
    "decimal",
    "degrees",
    "fact_name",
    "facts_of",
    "layer_failings",
    "normalised_twice",
    "percent",
    "seconds",
]

_PARTS = (
    model_facts,
    prediction_facts,
    attribution_facts,
    layer_facts,
    measured_facts,
    agreement_facts,
    fidelity_facts,
    robustness_facts,
    verdict_facts,
    ranking_facts,
    omission_facts,
    outcome_facts,
    found_facts,
)


def facts_of(report: Report) -> tuple[Fact, ...]:
    """Return all facts of a report, each name once, each with a direction in words."""
    named = {fact.name: _directed(fact) for part in _PARTS for fact in part(report)}
    return tuple(named.values())


def _directed(fact: Fact) -> Fact:
    return fact if fact.direction else fact.model_copy(update={"direction": "descriptive"})
