"""What a survey says: texts with the facts they rest on, and the marks that lead to these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reportgen.facts.formats import listed
from reportgen.phrases import counted, phrase
from reportgen.records import Fact
from reportgen.render.document import Cell, Line, Mark, Row, Table


@dataclass(frozen=True)
class Told:
    """A text and the facts it rests on, whose sources are JSON pointers into the survey."""

    text: str
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Marks:
    """The facts that lines rest on, numbered from 1 in the order in which lines are marked."""

    facts: dict[str, Fact] = field(default_factory=dict)

    def line(self, told: Told) -> Line:
        """Return a text with one mark for each of its facts, which leads to the fact's row."""
        return Line(told.text, tuple(self._mark(fact) for fact in told.facts))

    def table(self) -> Table:
        """Return the facts that were marked, with the places where they stand in the survey."""
        rows = (
            Row(str(n), (Cell(fact.source), Cell(fact.text)), _anchor(n))
            for n, fact in enumerate(self.facts.values(), start=1)
        )
        keys = ("column.no", "survey.pointer", "column.value")
        columns = tuple(phrase(key) for key in keys)
        return Table(phrase("survey.fact-table"), columns, tuple(rows), "facts")

    def _mark(self, fact: Fact) -> Mark:
        self.facts.setdefault(fact.name, fact)
        number = list(self.facts).index(fact.name) + 1
        return Mark(str(number), _anchor(number), f"{fact.name} = {fact.text}")


def tell(key: str, values: Mapping[str, Told] | None = None, rests: Iterable[Told] = ()) -> Told:
    """Return the phrase ``key`` filled with ``values``.

    It rests on the facts of its values, and on those of ``rests``, which it tells without a number.
    """
    filled = dict(values or {})
    text = phrase(key, **{name: value.text for name, value in filled.items()})
    return Told(text, _facts([*filled.values(), *rests]))


def counting(key: str, number: Told) -> Told:
    """Return a number of things: the phrase ``key`` for as many as the fact of ``number`` says."""
    (fact,) = number.facts
    value = fact.value if isinstance(fact.value, int) else 0
    return Told(counted(key, value, number.text), number.facts)


def listing(parts: Iterable[Told]) -> Told:
    """Return texts as a list: "a, b and c"."""
    every = tuple(parts)
    return Told(listed(part.text for part in every), _facts(every))


def joined(parts: Iterable[Told]) -> Told:
    """Return texts as clauses of one sentence."""
    every = tuple(parts)
    return Told("; ".join(part.text for part in every), _facts(every))


def _facts(parts: Iterable[Told]) -> tuple[Fact, ...]:
    return tuple({fact.name: fact for part in parts for fact in part.facts}.values())


def _anchor(number: int) -> str:
    return f"fact-{number}"
