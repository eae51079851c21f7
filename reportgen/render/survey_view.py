"""What a survey looks like before it is drawn: text and image addresses, no decisions left."""

from __future__ import annotations

from dataclasses import dataclass

from reportgen.render.document import Alert, Entry, Panel, Part
from reportgen.render.document import Line as Sentence


@dataclass(frozen=True)
class Link:
    """A text, and where it leads; it leads nowhere where ``address`` is empty."""

    text: str
    address: str = ""


@dataclass(frozen=True)
class Card:
    """One picture that a rule named: what it ranks by, the picture, and its maps."""

    link: Link
    value: Sentence
    prediction: str
    picture: Panel | None
    maps: tuple[Panel, ...]


@dataclass(frozen=True)
class Group:
    """The pictures that one rule names, or why it names none."""

    title: str
    rule: str
    cards: tuple[Card, ...]
    note: Sentence | None = None


@dataclass(frozen=True)
class Line:
    """The row of one picture under one model, and below it the verdict of its report."""

    link: Link
    cells: tuple[str, ...]
    note: str = ""
    verdict: Sentence | None = None


@dataclass(frozen=True)
class Page:
    """The page of one report, as its own first page shows it."""

    anchor: str
    title: str
    kicker: str
    label: str
    probability: str
    details: tuple[Entry, ...]
    picture: Panel | None
    maps: tuple[Panel, ...]
    verdict: Sentence
    sentences: tuple[str, ...]
    alerts: tuple[Alert, ...]


@dataclass(frozen=True)
class SurveyDocument:
    """A whole survey, ready for the templates; ``pages`` is empty on a screen.

    ``columns`` are those of the table of pictures, whose rows are ``lines``; ``facts`` has the
    table of what the sentences rest on.
    """

    title: str
    identity: tuple[Entry, ...]
    running: str
    created: str
    generator: str
    verdict: Sentence
    summary: tuple[Sentence, ...]
    groups: tuple[Group, ...]
    parts: tuple[Part, ...]
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    pages: tuple[Page, ...]
    pages_note: Sentence | None
    facts: Part
