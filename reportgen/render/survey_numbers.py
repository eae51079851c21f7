"""The numbers of a survey as text: each in one form, wherever it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reportgen.facts.formats import count, decimal, percent
from reportgen.records import Quantity
from reportgen.render.document import DASH
from reportgen.render.figures import CONTROLS
from reportgen.render.lookup import ARROWS
from reportgen.surveys.records import Entry, Summary, Survey


@dataclass(frozen=True)
class Numbers:
    """A survey with what is needed to write its numbers at hand."""

    survey: Survey
    quantities: Mapping[str, Quantity]
    several: bool

    def title(self, subject: str) -> str:
        """Return the title of a method, a pair "a~b", a control map, or the subject itself."""
        known = {**CONTROLS, **self.survey.titles, "prediction": "Prediction"}
        return " and ".join(known.get(part, part) for part in subject.split("~"))

    def metric(self, metric: str) -> str:
        """Return the title of a number, with an arrow for the better way."""
        quantity = self.quantities[metric]
        return f"{quantity.title} {ARROWS.get(quantity.direction, '')}".strip()

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
        return f"{low} to {high}"

    def name(self, entry: Entry) -> str:
        """Return which picture an entry is of, and under which model where there are several."""
        name = f"{entry.number}: {entry.image}"
        return f"{name}, {entry.model}" if self.several else name


def numbers_of(survey: Survey) -> Numbers:
    """Return the survey ready to be written out."""
    quantities = {quantity.key: quantity for quantity in survey.quantities}
    return Numbers(survey, quantities, len(survey.models) > 1)


def each_once(words: Iterable[str]) -> tuple[str, ...]:
    """Return words in order, each once."""
    return tuple(dict.fromkeys(words))
