"""Facts by name, as the cells and marks in which a report shows them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reportgen.phrases import phrase
from reportgen.records import Fact, Report, Sentence
from reportgen.render.document import DASH, Cell, Line, Mark

NARRATION = "narration"
"""The anchor of what is said of the language model."""

ARROWS = {"higher is better": "↑", "lower is better": "↓"}


@dataclass(frozen=True)
class Numbered:
    """A fact, its number in the table of facts, and the anchor of its row."""

    number: int
    anchor: str
    fact: Fact


@dataclass(frozen=True)
class FactIndex:
    """All facts by name. A fact that does not exist is shown as a dash, never as an error.

    ``narrator`` is the language model that wrote sentences, if one did.
    """

    entries: Mapping[str, Numbered]
    narrator: str = ""

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def text(self, name: str) -> str:
        """Return the text of the fact, or a dash."""
        entry = self.entries.get(name)
        return (entry.fact.text or DASH) if entry else DASH

    def cell(self, name: str, shade: str = "", detail: str = "") -> Cell:
        """Return a cell that shows the fact and names it, or a dash."""
        entry = self.entries.get(name)
        if entry is None:
            return Cell(DASH)
        return Cell(self.text(name), name, detail, shade)

    def number(self, name: str) -> float | None:
        """Return the value of the fact for a drawing, or None where it is not a number."""
        entry = self.entries.get(name)
        value = entry.fact.value if entry else None
        return float(value) if isinstance(value, int | float) else None

    def direction(self, *names: str) -> str:
        """Return the direction of the first fact that exists, or nothing."""
        known = (self.entries[name].fact.direction for name in names if name in self.entries)
        return next(known, "")

    def line(self, sentence: Sentence) -> Line:
        """Return a sentence with one mark for each fact it rests on, and one for a model's hand."""
        marks = self.marks(sentence.facts)
        if sentence.author == "template":
            return Line(sentence.text, marks)
        tip = phrase("narration.tip", model=self.narrator)
        return Line(sentence.text, (Mark(phrase("narration.mark"), NARRATION, tip), *marks), tip)

    def marks(self, names: Iterable[str]) -> tuple[Mark, ...]:
        """Return the marks of the facts; a missing fact gets a mark that leads nowhere."""
        return tuple(self._mark(name) for name in names)

    def _mark(self, name: str) -> Mark:
        entry = self.entries.get(name)
        if entry is None:
            return Mark(DASH, "", phrase("mark.missing", name=name))
        return Mark(str(entry.number), entry.anchor, f"{name} = {entry.fact.text}")


def worded_direction(direction: str) -> str:
    """Return in words which way is better; nothing where neither is."""
    return phrase(f"direction.{direction}") if direction in ARROWS else ""


def cited_names(report: Report) -> dict[str, None]:
    """Return the names of the facts that sentences and findings rest on, in reading order."""
    sentences = [sentence for section in report.sections for sentence in section.sentences]
    first_page = [report.verdict, *(finding.brief for finding in report.findings)]
    cited = [sentence.facts for sentence in sentences]
    cited += [finding.facts for finding in report.findings]
    cited += [sentence.facts for sentence in first_page if sentence is not None]
    return dict.fromkeys(name for names in cited for name in names)


def index_facts(report: Report) -> FactIndex:
    """Return the facts by name, numbered from 1, those that are cited first, in reading order.

    Of two facts with one name, the first counts.
    """
    entries: dict[str, Numbered] = {}
    taken: set[str] = set()
    for number, fact in enumerate(_cited_first(report), start=1):
        anchor = _anchor(fact.name, number, taken)
        entries.setdefault(fact.name, Numbered(number, anchor, fact))
    return FactIndex(entries, report.narration.model if report.narration else "")


def _cited_first(report: Report) -> list[Fact]:
    order = {name: place for place, name in enumerate(cited_names(report))}
    return sorted(report.facts, key=lambda fact: order.get(fact.name, len(order)))


def _anchor(name: str, number: int, taken: set[str]) -> str:
    """Return an anchor made of plain characters that no other fact has."""
    anchor = "fact-" + re.sub(r"[^A-Za-z0-9._-]", "_", name)
    while anchor in taken:
        anchor = f"{anchor}-{number}"
    taken.add(anchor)
    return anchor
