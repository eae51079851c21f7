"""Facts that are one measurement each: what it is called, and its value in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from reportgen.facts.formats import (
    angle,
    count,
    decimal,
    degrees,
    deviations,
    interval,
    percent,
    standing,
)
from reportgen.facts.sources import noted, pointer
from reportgen.phrases import phrase, retold
from reportgen.records import Fact, Measurement, Report, Yardstick


@dataclass(frozen=True)
class Naming:
    """How the measurements of one metric are called and put into words.

    In ``pattern``, ``{}`` is the subject; ``words`` is the phrase around the value as ``form``
    writes it, if there is one. ``bounds`` writes the ends of an interval; as ``form`` does when
    None.
    """

    pattern: str
    form: Callable[[float], str]
    words: str = ""
    bounds: Callable[[float], str] | None = None

    def name(self, subject: str) -> str:
        """Return the name of the fact about ``subject``."""
        return self.pattern.format(subject.replace(" ", "."))

    def text(self, measurement: Measurement) -> str:
        """Return the value in words, with its interval; the note where there is no value."""
        if measurement.value is None:
            return noted(measurement.note)
        text = self.form(measurement.value)
        if self.words:
            text = phrase(self.words, value=text)
        if measurement.interval is None:
            return text
        return interval(text, *map(self.bounds or self.form, measurement.interval))


SELF_CHECKS: Mapping[str, Naming] = {
    "completeness_gap": Naming("{}.self_check", percent, "self-check.completeness_gap"),
    "surrogate_r2": Naming("{}.self_check", decimal, "self-check.surrogate_r2"),
    "additivity_gap": Naming("{}.self_check", decimal, "self-check.additivity_gap"),
    "sampling_error": Naming("{}.self_check", percent, "self-check.sampling_error"),
    "component_share": Naming("{}.self_check", percent, "self-check.component_share"),
    "largest_weight": Naming("{}.self_check", percent, "self-check.largest_weight"),
    "negative_share": Naming("{}.self_check", percent, "self-check.negative_share"),
    "placeless_share": Naming("{}.self_check", percent, "self-check.placeless_share"),
}
FORMS: Mapping[str, Callable[[float], str]] = {
    "decimal": decimal,
    "percent": percent,
    "count": count,
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
    """Return a fact for each measurement that has a name, and one for its place among controls."""
    forms = {q.key: FORMS[q.form] for card in report.metrics for q in card.quantities}
    for index, measurement in enumerate(report.measurements):
        naming = NAMED.get(measurement.metric)
        if naming is None and measurement.metric in forms:
            pattern = fact_name(measurement.metric, "{}")
            naming = Naming(pattern, forms[measurement.metric])
        if naming is not None:
            yield from _facts(naming, measurement, index)


def _facts(naming: Naming, measurement: Measurement, index: int) -> Iterator[Fact]:
    name = naming.name(measurement.subject)
    yield Fact(
        name=name,
        value=measurement.value,
        text=naming.text(measurement),
        source=pointer("measurements", index, "value"),
        direction=measurement.direction,
        interval=measurement.interval,
    )
    yardstick = measurement.yardstick
    if yardstick is not None:
        yield Fact(
            name=f"{name}.place",
            value=yardstick.percentile,
            text=_place(yardstick),
            source=pointer("measurements", index, "yardstick", "percentile"),
        )
        yield Fact(
            name=f"{name}.rank",
            value=yardstick.z,
            text=_rank(yardstick),
            source=pointer("measurements", index, "yardstick", "z"),
        )


def fact_name(metric: str, subject: str) -> str:
    """Return the name of the fact about the measurement of ``metric`` for ``subject``."""
    naming = NAMED.get(metric)
    return naming.name(subject) if naming else f"{subject}.{metric}".replace(" ", ".")


def _rank(yardstick: Yardstick) -> str:
    z = "" if yardstick.z is None else phrase("rank-z", z=deviations(yardstick.z))
    if yardstick.p is None:
        return phrase("rank-above", share=percent(yardstick.percentile), z=z)
    return phrase("rank", better=_beaten(yardstick), maps=yardstick.maps, z=z)


def _beaten(yardstick: Yardstick) -> int:
    """Return how many control maps the value is better than."""
    as_good = round((yardstick.p or 0) * (yardstick.maps + 1)) - 1
    return yardstick.maps - as_good


def _place(yardstick: Yardstick) -> str:
    z = "" if yardstick.z is None else phrase("place-z", z=deviations(yardstick.z))
    if yardstick.p is None:
        share, controls = percent(yardstick.percentile), retold("controls", yardstick.controls)
        return phrase("place-above", share=share, maps=yardstick.maps, controls=controls, z=z)
    return standing(_beaten(yardstick), yardstick.maps, yardstick.controls) + z
