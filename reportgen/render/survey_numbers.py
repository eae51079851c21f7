"""The numbers of a survey as text: each in one form, wherever it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reportgen.facts.cards import worded_quantity
from reportgen.facts.formats import count, decimal, listed, percent
from reportgen.phrases import named, phrase
from reportgen.records import Fact, Quantity
from reportgen.render.document import DASH
from reportgen.render.lookup import ARROWS
from reportgen.render.survey_told import Told
from reportgen.surveys.records import Entry, Summary, Survey, Totals
from reportgen.surveys.totals import totals_of


@dataclass(frozen=True)
class Numbers:
    """A survey with what is needed to write its numbers at hand."""

    survey: Survey
    totals: Totals
    quantities: Mapping[str, Quantity]
    several: bool

    def at(self, pointer: str, form: Callable[[Any], str] = count) -> Told:
        """Return what stands behind a JSON pointer into the survey, written by ``form``."""
        value = self._behind(pointer)
        name = pointer[1:].replace("/", ".")
        fact = Fact(name=name, value=value, text=form(value), source=pointer)
        return Told(fact.text, (fact,))

    def _behind(self, pointer: str) -> Any:
        found: Any = self.survey
        for part in pointer.split("/")[1:]:
            if isinstance(found, Mapping):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            else:
                found = found[int(part)] if isinstance(found, tuple) else getattr(found, part)
        return found

    def title(self, subject: str) -> str:
        """Return the title of a method, a pair "a~b", a control map, or the subject itself."""
        known = self.survey.titles
        return listed(known.get(part) or named("control", part) for part in subject.split("~"))

    def metric(self, metric: str) -> str:
        """Return the title of a number, with an arrow for the better way."""
        quantity = self.quantities[metric]
        known = named("number-title", metric)
        title = worded_quantity(quantity).title if known == metric else known
        return f"{title} {ARROWS.get(quantity.direction, '')}".strip()

    def number(self, metric: str, value: float | None) -> str:
        """Return a value of ``metric``, or a dash."""
        if value is None:
            return DASH
        form = self.quantities[metric].form
        if form == "count" and value == int(value):
            return count(value)
        return percent(value) if form == "percent" else decimal(value)

    def spread(self, summary: Summary) -> str:
        """Return the quartiles of a summary, or nothing."""
        if summary.quartiles is None or summary.pictures < 2:
            return ""
        low, high = (self.number(summary.metric, value) for value in summary.quartiles)
        return phrase("range.both", low=low, high=high)

    def name(self, entry: Entry) -> str:
        """Return which picture an entry is of, and under which model where there are several."""
        name = f"{entry.number}: {entry.image}"
        return f"{name}, {entry.model}" if self.several else name


def numbers_of(survey: Survey) -> Numbers:
    """Return the survey ready to be written out; one without totals gets them."""
    quantities = {quantity.key: quantity for quantity in survey.quantities}
    totals = survey.totals or totals_of(survey)
    counted = survey.model_copy(update={"totals": totals})
    return Numbers(counted, totals, quantities, len(survey.models) > 1)


def each_once(words: Iterable[str]) -> tuple[str, ...]:
    """Return words in order, each once."""
    return tuple(dict.fromkeys(words))
