"""What a survey shows of single reports: cards of named pictures, and pages for print."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from reportgen.facts.formats import probability
from reportgen.phrases import phrase, speaking_of
from reportgen.records import Report
from reportgen.render.document import Alert, Line, Verdict
from reportgen.render.figures import Source
from reportgen.render.lookup import index_facts
from reportgen.render.survey_numbers import Numbers
from reportgen.render.survey_text import none_named, value_of, verdict_of
from reportgen.render.survey_told import Marks
from reportgen.render.survey_view import Card, Group, Link, Page
from reportgen.render.verdict import verdict
from reportgen.surveys.naming import RULES, Rule
from reportgen.surveys.records import Entry, Survey

MAPS = 5

Place = tuple[int, str]
Verdicts = Mapping[Place, Verdict]


def shown_places(survey: Survey, printed: bool) -> tuple[Entry, ...]:
    """Return the entries whose reports must be looked at: the named ones, and those with a page."""
    places = {(one.number, one.model) for one in survey.named}
    if printed:
        places |= {(entry.number, entry.model) for entry in printed_entries(survey)}
    return tuple(e for e in survey.reported if (e.number, e.model) in places)


def printed_entries(survey: Survey) -> tuple[Entry, ...]:
    """Return the entries that have a page in print: all of a few, the named ones of many."""
    if len(survey.reported) <= survey.criteria.printed_most:
        return survey.reported
    places = {(one.number, one.model) for one in survey.named}
    return tuple(entry for entry in survey.reported if (entry.number, entry.model) in places)


def looked_at(report: Report, arrays: Mapping[str, NDArray[Any]]) -> Verdict:
    """Return the first page of one report, without its marks, which lead to its own facts."""
    with speaking_of(report.language):
        found = verdict(Source(report, dict(arrays), index_facts(report)))
    return replace(
        found,
        line=found.line and Line(found.line.text),
        agreement=tuple(Line(line.text) for line in found.agreement),
        alerts=tuple(replace(alert, statement=_plain(alert)) for alert in found.alerts),
    )


def _plain(alert: Alert) -> Line:
    return Line(alert.statement.text)


def groups(numbers: Numbers, verdicts: Verdicts, printed: bool, marks: Marks) -> tuple[Group, ...]:
    """Return the pictures that each rule names, under each model."""
    cards = {
        place: _card(numbers, place, verdicts, marks.line(value_of(numbers, place)), printed)
        for place in range(len(numbers.survey.named))
    }
    return tuple(
        _group(numbers, rule, model.key, cards, marks)
        for model in numbers.survey.models
        for rule in RULES
    )


def _group(
    numbers: Numbers, rule: Rule, model: str, every: Mapping[int, Card], marks: Marks
) -> Group:
    cards = tuple(
        every[place]
        for place, one in enumerate(numbers.survey.named)
        if (one.rule, one.model) == (rule.key, model)
    )
    title = phrase(f"survey.rule-{rule.key}")
    title = phrase("survey.under-model", title=title, model=model) if numbers.several else title
    note = None if cards else marks.line(none_named(numbers))
    return Group(title, phrase(f"survey.statement-{rule.key}"), cards, note)


def _card(numbers: Numbers, place: int, verdicts: Verdicts, value: Line, printed: bool) -> Card:
    one = numbers.survey.named[place]
    entry = numbers.survey.entry(one.number, one.model)
    found = verdicts.get((one.number, one.model))
    address = address_of(numbers.survey, entry, printed) if entry else ""
    label = entry.label if entry else ""
    chance = probability(entry.probability) if entry and entry.probability is not None else ""
    return Card(
        link=Link(f"{one.number}: {entry.image}" if entry else str(one.number), address),
        value=value,
        prediction=", ".join(part for part in (label, chance) if part),
        picture=found.picture if found else None,
        maps=found.maps[:MAPS] if found else (),
    )


def address_of(survey: Survey, entry: Entry, printed: bool) -> str:
    """Return where the report of an entry is: its page in print, its file on a screen."""
    if not entry.folder:
        return ""
    if printed:
        return f"#{anchor_of(entry)}" if entry in printed_entries(survey) else ""
    return "/".join([*entry.folder.split("/"), "report.html"])


def anchor_of(entry: Entry) -> str:
    """Return an anchor of plain characters that no other entry has."""
    return "report-" + re.sub(r"[^A-Za-z0-9-]", "-", entry.folder)


def pages(numbers: Numbers, verdicts: Verdicts, marks: Marks) -> tuple[Page, ...]:
    """Return the pages for print."""
    printed = {(entry.number, entry.model) for entry in printed_entries(numbers.survey)}
    return tuple(
        _page(numbers, place, verdicts[entry.number, entry.model], marks)
        for place, entry in enumerate(numbers.survey.entries)
        if (entry.number, entry.model) in printed & verdicts.keys()
    )


def _page(numbers: Numbers, place: int, found: Verdict, marks: Marks) -> Page:
    entry = numbers.survey.entries[place]
    return Page(
        anchor=anchor_of(entry),
        title=numbers.name(entry),
        kicker=found.kicker,
        label=found.label,
        probability=found.probability.text,
        details=found.details,
        picture=found.picture,
        maps=found.maps,
        verdict=marks.line(verdict_of(numbers, place)),
        sentences=tuple(line.text for line in found.agreement),
        alerts=found.alerts,
    )
