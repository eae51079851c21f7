"""What is kept of each report once it is written: a row of numbers."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan

import numpy as np
from pydantic import JsonValue

from reportgen.perturbation.controls import CONTROLS
from reportgen.records import (
    Direction,
    Fact,
    Measurement,
    ModelRecord,
    Passes,
    Provenance,
    Quantity,
    Report,
)
from reportgen.surveys.records import Entry
from reportgen.surveys.statistics import Numbers


@dataclass(frozen=True)
class Key:
    """What a column holds: a number of a subject under a model, all with the same settings."""

    model: str
    metric: str
    subject: str
    settings: str

    @property
    def unsettled(self) -> tuple[str, str, str]:
        """The same without the settings."""
        return self.model, self.metric, self.subject


@dataclass
class Column:
    """Values by picture; NaN where a value, its z or its p is missing."""

    pictures: array[int] = field(default_factory=lambda: array("L"))
    numbers: array[float] = field(default_factory=lambda: array("d"))
    percentiles: array[float] = field(default_factory=lambda: array("d"))
    zs: array[float] = field(default_factory=lambda: array("d"))
    ps: array[float] = field(default_factory=lambda: array("d"))

    def add(self, picture: int, measurement: Measurement) -> None:
        """Add the value of one picture."""
        yardstick = measurement.yardstick
        self.pictures.append(picture)
        self.numbers.append(_or_nan(measurement.value))
        self.percentiles.append(_or_nan(yardstick.percentile if yardstick else None))
        self.zs.append(_or_nan(yardstick.z if yardstick else None))
        self.ps.append(_or_nan(yardstick.p if yardstick else None))

    @property
    def values(self) -> Numbers:
        """The values, in the order of the pictures."""
        return np.array(self.numbers, dtype=np.float64)

    def by_picture(self) -> dict[int, float]:
        """Return the values that exist, by the number of the picture."""
        pairs = zip(self.pictures, self.numbers, strict=True)
        return {picture: value for picture, value in pairs if value == value}


@dataclass
class Tally:
    """All reports of a survey so far, as columns of numbers."""

    columns: dict[Key, Column] = field(default_factory=dict)
    models: dict[str, ModelRecord] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    quantities: dict[str, Quantity] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    passes: dict[str, tuple[int, int]] = field(default_factory=dict)
    provenance: Provenance | None = None

    def add(self, entry: Entry, report: Report) -> None:
        """Keep the numbers of one report; ``entry`` says of which picture and model."""
        self.entries.append(entry)
        self.models.setdefault(entry.model, report.model)
        self.titles.update({a.method: a.card.title for a in report.attributions})
        known = {q.key: q for card in report.metrics for q in card.quantities}
        for measurement in report.measurements:
            settings = json.dumps(dict(measurement.settings), sort_keys=True)
            key = Key(entry.model, measurement.metric, measurement.subject, settings)
            self.columns.setdefault(key, Column()).add(entry.number, measurement)
            if measurement.metric not in self.quantities:
                self.quantities[measurement.metric] = _quantity(measurement, known)
        self._book(report.provenance)

    def fail(self, entry: Entry) -> None:
        """Keep that there is no report of a picture under a model."""
        self.entries.append(entry)

    def direction(self, metric: str) -> Direction:
        """Return which way is better."""
        return self.quantities[metric].direction

    def of_model(self, subject: str) -> bool:
        """Return whether ``subject`` is a method or a part of the prediction.

        Pairs of methods and control maps are neither.
        """
        return subject in self.titles or ("~" not in subject and subject not in CONTROLS)

    def total(self) -> Provenance | None:
        """Return where the first report came from, with the passes of all; None without one."""
        passes = tuple(
            Passes(stage=stage, forward=forward, backward=backward)
            for stage, (forward, backward) in self.passes.items()
        )
        return self.provenance and self.provenance.model_copy(update={"passes": passes})

    def _book(self, provenance: Provenance) -> None:
        self.provenance = self.provenance or provenance
        for passed in provenance.passes:
            forward, backward = self.passes.get(passed.stage, (0, 0))
            self.passes[passed.stage] = (forward + passed.forward, backward + passed.backward)


def entry_of(place: Entry, report: Report) -> Entry:
    """Return ``place``, which says which picture and model, with what the report found."""
    severities = [finding.severity for finding in report.findings]
    target = report.prediction.target
    return place.model_copy(
        update={
            "image": report.image.name,
            "label": target.label,
            "probability": target.probability,
            "problems": severities.count("problem"),
            "cautions": severities.count("caution"),
            "skipped": len(report.skipped),
            "verdict": report.verdict.text if report.verdict else "",
            "facts": _rests(report),
            "judged": _whole(report, "report.judged"),
            "beating": _whole(report, "report.beating"),
        }
    )


def _rests(report: Report) -> tuple[Fact, ...]:
    """Return the facts that the verdict of a report rests on."""
    names = report.verdict.facts if report.verdict else ()
    return tuple(fact for name in names if (fact := report.fact(name)))


def _whole(report: Report, name: str) -> int:
    """Return the whole number behind a fact; 0 where there was nothing to count."""
    fact = report.fact(name)
    return fact.value if fact and isinstance(fact.value, int) else 0


def settings_of(key: Key) -> Mapping[str, JsonValue]:
    """Return the settings of a column."""
    settings: Mapping[str, JsonValue] = json.loads(key.settings)
    return settings


def _quantity(measurement: Measurement, known: Mapping[str, Quantity]) -> Quantity:
    """Return what the card says of a number, or what the measurement itself says."""
    name = measurement.metric
    return known.get(name) or Quantity(
        key=name,
        title=name.replace("_", " ").capitalize(),
        direction=measurement.direction,
        range=measurement.range,
    )


def _or_nan(value: float | None) -> float:
    return nan if value is None else value
