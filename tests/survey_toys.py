"""Reports of made-up numbers, as a survey keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sample_report import sample

from reportgen.records import Card, Measurement, Quantity, Report, Yardstick
from reportgen.surveys.records import Entry
from reportgen.surveys.tally import Tally, entry_of

QUANTITIES = (
    Quantity(key="deletion", title="Deletion AUC", direction="lower is better", range=(0, 1)),
    Quantity(key="insertion", title="Insertion AUC", direction="higher is better", range=(0, 1)),
    Quantity(key="drop", title="Drop", direction="lower is better", range=(-1, 1)),
    Quantity(key="rise", title="Rise", direction="higher is better", range=(-1, 1)),
    Quantity(key="area", title="Area", form="percent"),
)

Number = float | None | Mapping[str, Any]
Numbers = Mapping[tuple[str, str], Number]


@cache
def template() -> Report:
    """Return a report on the methods gradcam and saliency."""
    return sample(("gradcam", "saliency"), (48, 48))[0]


def report_of(numbers: Numbers, model: Mapping[str, Any] | None = None) -> Report:
    """Return a report that holds ``numbers`` by metric and subject: values, or whole fields."""
    card = Card(
        key="toys", title="Toys", category="", definition="", paper="", needs="", seeding="",
        quantities=QUANTITIES,
    )  # fmt: skip
    known = {quantity.key: quantity for quantity in QUANTITIES}
    measurements = []
    for (metric, subject), value in numbers.items():
        fields = dict(value) if isinstance(value, Mapping) else {"value": value}
        quantity = known.get(metric)
        if quantity:
            fields = {"direction": quantity.direction, "range": quantity.range, **fields}
        measurements.append(Measurement(metric=metric, subject=subject, **fields))
    return template().model_copy(
        update={
            "measurements": tuple(measurements),
            "metrics": (card,),
            "model": template().model.model_copy(update=dict(model or {})),
        }
    )


def placed(value: float, z: float | None, p: float, percentile: float = 0.5) -> Mapping[str, Any]:
    """Return the fields of a value that stands among 20 null maps."""
    yardstick = Yardstick(
        controls="maps", maps=20, mean=0.5, sd=0.1, z=z, percentile=percentile, p=p
    )
    return {"value": value, "yardstick": yardstick}


def tally_of(models: Mapping[str, Sequence[Numbers]]) -> Tally:
    """Return the tally of one report for each picture of each model."""
    tally = Tally()
    for model, pictures in models.items():
        for number, numbers in enumerate(pictures, start=1):
            report = report_of(numbers)
            place = Entry(number=number, image="", model=model, folder=f"images/{number:04d}-x")
            tally.add(entry_of(place, report), report)
    return tally


def column(metric: str, subject: str, values: Sequence[Number]) -> list[Numbers]:
    """Return pictures that hold one number each."""
    return [{(metric, subject): value} for value in values]
