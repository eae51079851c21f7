"""Where facts come from: each source is a JSON pointer into the report that resolves."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from sample_report import sample
from told_reports import everything, layer_of, located, on_mask, report_of, verdict

from reportgen.records import Direction, Report


def resolved(document: Any, pointer: str) -> Any:
    """Return what a JSON pointer leads to (RFC 6901); raises KeyError or IndexError."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        document = document[int(name)] if isinstance(document, list) else document[name]
    return document


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def astray(report: Report) -> list[str]:
    """Return the facts whose source leads nowhere, or to another number than their value."""
    document = json.loads(report.model_dump_json())
    found = []
    for fact in report.facts:
        try:
            there = resolved(document, fact.source)
        except (KeyError, IndexError, ValueError):
            found.append(fact.name)
        else:
            found += [fact.name] if is_number(there) and there != fact.value else []
    return found


REPORTS = (
    report_of(*everything(), layer=layer_of("passes")),
    report_of(threshold=0.5, target=1),
    report_of(contrast=(1, 0)),
    report_of(verdict("seed_jaccard_5", "lime", "unstable"), on_mask("lime", 0.4)),
    sample(("gradcam", "lime"), (32, 32))[0],
)


@pytest.mark.parametrize("report", REPORTS)
def test_every_source_leads_to_the_value(report: Report) -> None:
    assert astray(report) == []
    assert {fact.direction for fact in report.facts} <= set(get_args(Direction))


def test_a_source_that_leads_astray_is_found() -> None:
    report = report_of()
    first, second, *rest = report.facts
    lost = first.model_copy(update={"source": "/model/nothing"})
    other = second.model_copy(update={"source": "/provenance/seed", "value": "a"})
    changed = report.model_copy(update={"facts": (lost, other, *rest)})
    assert astray(changed) == [first.name, second.name]


def test_a_fact_has_the_interval_of_its_measurement() -> None:
    measurement = located("lime", 0.4, 0.5, 0.5)[0].model_copy(update={"interval": (0.3, 0.5)})
    made = report_of(measurement)
    assert [f.interval for f in made.facts if f.interval] == [(0.3, 0.5)]
