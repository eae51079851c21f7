"""One number for every map: of the methods, and of the control maps that they stand beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from reportgen.metrics.base import Context
from reportgen.metrics.curves import every_map, subjects
from reportgen.metrics.yardstick import NULL, placed
from reportgen.records import Measurement, Quantity

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """A number for each of the ``stacked`` maps, ``values`` (M,), NaN where there is none.

    ``notes`` say something of those maps for which their flags (M,) are set, among them why there
    is no number; ``detail`` holds further numbers (M,).
    """

    values: Values
    settings: Mapping[str, JsonValue]
    notes: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    detail: Mapping[str, Values] = field(default_factory=dict)


def stacked(context: Context) -> Tensor:
    """Return the maps (M, H, W) of all ``curves.subjects``, one after another, as float64.

    On the CPU: on a GPU the order of sums, and their last digits, change from run to run. Raises
    NotApplicable where no method has a map.
    """
    context.require_maps()
    return every_map(context).cpu().double()


def measurements(context: Context, quantity: Quantity, row: Row) -> tuple[Measurement, ...]:
    """Return the quantity of each subject, the mean over its maps, placed among the null maps."""
    places, start = {}, 0
    for subject, maps in context.once(subjects).items():
        places[subject] = slice(start, start + len(maps))
        start += len(maps)
    nulls = row.values[places[NULL]]
    return tuple(
        _measurement(context, quantity, subject, _part(row, place), nulls)
        for subject, place in places.items()
    )


def _part(row: Row, place: slice) -> Row:
    return Row(
        row.values[place],
        row.settings,
        {note: flags[place] for note, flags in row.notes.items()},
        {name: values[place] for name, values in row.detail.items()},
    )


def _measurement(
    context: Context, quantity: Quantity, subject: str, row: Row, nulls: Values
) -> Measurement:
    known = row.values[np.isfinite(row.values)]
    value = float(known.mean()) if len(known) else None
    several = len(known) > 1
    return Measurement(
        metric=quantity.key,
        subject=subject,
        value=value,
        direction=quantity.direction,
        range=quantity.range,
        interval=(float(known.min()), float(known.max())) if several else None,
        interval_kind=f"lowest and highest of {len(known)} draws" if several else "",
        settings={**row.settings, **_granularity(context, subject)},
        detail=_detail(row),
        note="; ".join(note for note, flags in row.notes.items() if flags.any()),
        yardstick=None if subject == NULL else placed(quantity, value, nulls),
    )


def _granularity(context: Context, subject: str) -> dict[str, JsonValue]:
    card = context.cards.get(subject)
    return {"granularity": card.granularity} if card and card.granularity else {}


def _detail(row: Row) -> dict[str, JsonValue]:
    """Return the further numbers, the mean over draws, and the draws themselves, if several."""
    means = {
        name: float(np.mean(values))
        for name, values in row.detail.items()
        if np.isfinite(values).all()
    }
    if len(row.values) == 1:
        return {**means}
    return {**means, "draws": [float(v) if np.isfinite(v) else None for v in row.values]}
