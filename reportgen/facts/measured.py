"""Facts that are one measurement each: what it is called, and its value in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from reportgen.facts.formats import angle, decimal, degrees, percent
from reportgen.facts.sources import pointer
from reportgen.records import Fact, Measurement, Report


@dataclass(frozen=True)
class Naming:
    """How the measurements of one metric are called and put into words.

    In ``pattern``, ``{}`` is the subject; in ``words``, the value as ``form`` writes it. ``bounds``
    writes the ends of an interval; as ``form`` does when None.
    """

    pattern: str
    form: Callable[[float], str]
    words: str = "{}"
    bounds: Callable[[float], str] | None = None

    def name(self, subject: str) -> str:
        """Return the name of the fact about ``subject``."""
        return self.pattern.format(subject.replace(" ", "."))

    def text(self, measurement: Measurement) -> str:
        """Return the value in words, with its interval; the note where there is no value."""
        if measurement.value is None:
            return measurement.note
        text = self.words.format(self.form(measurement.value))
        if measurement.interval is None:
            return text
        low, high = map(self.bounds or self.form, measurement.interval)
        return f"{text} ({low} to {high})"


SELF_CHECKS: Mapping[str, Naming] = {
    "completeness_gap": Naming("{}.self_check", percent, "completeness gap {}"),
    "surrogate_r2": Naming("{}.self_check", decimal, "R\N{SUPERSCRIPT TWO} of the surrogate {}"),
    "additivity_gap": Naming("{}.self_check", decimal, "additivity gap {}"),
    "negative_share": Naming("{}.self_check", percent, "{} of places below zero"),
}
NAMED: Mapping[str, Naming] = {
    "deletion": Naming("{}.deletion_auc", decimal),
    "insertion": Naming("{}.insertion_auc", decimal),
    "sensitivity": Naming("{}.sensitivity", decimal),
    **SELF_CHECKS,
    "iou": Naming("{}.iou", decimal),
    "spearman": Naming("{}.spearman", decimal),
    "relevance_in_top": Naming("{}.area_share", percent),
    "consensus_area": Naming("{}.area", percent),
    "rotation_flip": Naming("rotation.{}", degrees, bounds=angle),
    "noise_retention": Naming("noise.{}", percent),
    "noise_flips": Naming("noise.{}.flips", percent),
}


def measured_facts(report: Report) -> Iterator[Fact]:
    """Return one fact for each measurement that has a name."""
    for index, measurement in enumerate(report.measurements):
        if measurement.metric in NAMED:
            naming = NAMED[measurement.metric]
            yield Fact(
                name=naming.name(measurement.subject),
                value=measurement.value,
                text=naming.text(measurement),
                source=pointer("measurements", index, "value"),
                direction=measurement.direction,
            )
