"""What a report looks like before it is drawn: numbered sections of text, figures and tables.

Everything here is text and image addresses; the templates turn it into HTML and decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import ClassVar

DASH = "–"


@dataclass(frozen=True)
class Mark:
    """A small number behind a sentence that leads to the fact it rests on."""

    number: str
    anchor: str
    tip: str


@dataclass(frozen=True)
class Line:
    """A sentence and the marks of its facts; ``tip`` says who wrote it, if a language model did."""

    text: str
    marks: tuple[Mark, ...] = ()
    tip: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell: its text, the name of the fact it shows, a second line, a shade (a CSS class)."""

    text: str
    fact: str = ""
    detail: str = ""
    shade: str = ""


@dataclass(frozen=True)
class Row:
    """A row: its header cell and the cells behind it."""

    header: str
    cells: tuple[Cell, ...]
    anchor: str = ""
    quiet: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a caption; ``columns`` names the header column first."""

    kind: ClassVar[str] = "table"

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    style: str = ""
    number: int = 0


@dataclass(frozen=True)
class Panel:
    """One picture of a figure: its data address, its text alternative, and its label."""

    source: str
    alternative: str
    label: str = ""
    legend: str = ""
    legend_alternative: str = ""


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a line in ``colour`` with an SVG dash pattern."""

    label: str
    colour: str
    dash: str = ""


@dataclass(frozen=True)
class Figure:
    """Pictures side by side with one caption; ``style`` is a CSS class for their size."""

    kind: ClassVar[str] = "figure"

    caption: str
    panels: tuple[Panel, ...]
    keys: tuple[Key, ...] = ()
    style: str = ""
    number: int = 0


@dataclass(frozen=True)
class Stated:
    """A named value in a strip: what it is, its text, and the yardstick beside it."""

    title: str
    cell: Cell
    direction: str = ""
    yardstick: str = ""


@dataclass(frozen=True)
class Strip:
    """A row of named values."""

    kind: ClassVar[str] = "strip"

    quantities: tuple[Stated, ...]


@dataclass(frozen=True)
class Remark:
    """A short paragraph led by a bold word: limits, notes, what was skipped and why.

    A ``foreign`` text is English whatever the language of the report: an error, as it was raised.
    """

    kind: ClassVar[str] = "remark"

    lead: str
    text: str
    foreign: bool = False


@dataclass(frozen=True)
class Entry:
    """A term of a card and what it says; English where it is ``foreign``."""

    term: str
    text: str
    foreign: bool = False


@dataclass(frozen=True)
class CardView:
    """What a method or a metric is, as a titled list of terms."""

    kind: ClassVar[str] = "card"

    title: str
    subtitle: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    kind: ClassVar[str] = "heading"

    text: str


@dataclass(frozen=True)
class Alert:
    """A finding as the reader meets it: severity in a word, and the statement."""

    severity: str
    statement: Line
    threshold: str = ""
    rule: str = ""
    subject: str = ""


@dataclass(frozen=True)
class AlertList:
    """Findings with their thresholds, the gravest first."""

    kind: ClassVar[str] = "alerts"

    alerts: tuple[Alert, ...]


Block = Table | Figure | Strip | Remark | CardView | Heading | AlertList


@dataclass(frozen=True)
class Part:
    """A section or an appendix: its number, title, sentences and blocks."""

    number: str
    title: str
    anchor: str
    lines: tuple[Line, ...] = ()
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The first page: the verdict in a line, the prediction, the maps, and what to distrust."""

    line: Line | None
    narration: tuple[str, ...]
    kicker: str
    label: str
    probability: Cell
    details: tuple[Entry, ...]
    picture: Panel | None
    maps: tuple[Panel, ...]
    maps_note: str
    agreement: tuple[Line, ...]
    alerts: tuple[Alert, ...]
    alerts_note: str


@dataclass(frozen=True)
class Document:
    """A whole report, ready for the templates."""

    title: str
    model: str
    image: str
    running: str
    created: str
    generator: str
    verdict: Verdict
    parts: tuple[Part, ...]


def numbered(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return ``parts`` with figures and tables numbered from 1, each kind on its own."""
    figures, tables = count(1), count(1)
    return tuple(
        replace(part, blocks=tuple(_numbered(part.blocks, figures, tables))) for part in parts
    )


def capital(text: str) -> str:
    """Return ``text`` with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


def shortened(text: str, limit: int) -> str:
    """Return ``text`` in at most ``limit`` characters, cut at a word where one is near."""
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    at_word = head.rsplit(" ", 1)[0]
    return (at_word if len(at_word) > limit * 2 // 3 else head).rstrip() + "…"


def _numbered(
    blocks: Iterable[Block], figures: Iterator[int], tables: Iterator[int]
) -> Iterator[Block]:
    for block in blocks:
        if isinstance(block, Figure):
            yield replace(block, number=next(figures))
        elif isinstance(block, Table):
            yield replace(block, number=next(tables))
        else:
            yield block
