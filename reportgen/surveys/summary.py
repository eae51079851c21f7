"""Each number of each subject over all pictures: quartiles, and the place among null maps."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from reportgen.surveys.records import Criteria, Placement, Summary
from reportgen.surveys.statistics import Numbers
from reportgen.surveys.tally import Column, Key, Tally, settings_of

REFUSED = "not added up"


def summaries(tally: Tally, criteria: Criteria) -> tuple[Summary, ...]:
    """Return one summary for each number, in the order in which they were measured.

    Values are only added up where all pictures that have the number have it under the same
    settings: an area under a curve from another baseline is another number.
    """
    covered = _pictures(tally)
    found: dict[tuple[str, ...], Summary] = {}
    for key, column in tally.columns.items():
        if set(column.pictures) == covered[key.unsettled]:
            found[(*key.unsettled, key.settings)] = _summary(key, column, criteria)
        else:
            found.setdefault(key.unsettled, _refused(key, _kinds(tally, key)))
    return tuple(found.values())


def comparable(tally: Tally) -> dict[Key, Column]:
    """Return the columns whose values may be added up and compared."""
    covered = _pictures(tally)
    return {
        key: column
        for key, column in tally.columns.items()
        if set(column.pictures) == covered[key.unsettled]
    }


def _pictures(tally: Tally) -> dict[tuple[str, str, str], set[int]]:
    """Return the pictures that have a number, under whatever settings."""
    covered: dict[tuple[str, str, str], set[int]] = {}
    for key, column in tally.columns.items():
        covered.setdefault(key.unsettled, set()).update(column.pictures)
    return covered


def _kinds(tally: Tally, key: Key) -> int:
    return sum(other.unsettled == key.unsettled for other in tally.columns)


def _summary(key: Key, column: Column, criteria: Criteria) -> Summary:
    values = column.values
    known = values[np.isfinite(values)]
    low, first, median, third, high = _five(known)
    return Summary(
        model=key.model,
        metric=key.metric,
        subject=key.subject,
        pictures=len(known),
        without=len(values) - len(known),
        median=median,
        quartiles=_pair(first, third),
        extremes=_pair(low, high),
        placement=_placement(column, criteria),
        settings=settings_of(key),
        note="" if len(known) else "no picture has a value",
    )


def _refused(key: Key, kinds: int) -> Summary:
    return Summary(
        model=key.model,
        metric=key.metric,
        subject=key.subject,
        pictures=0,
        note=f"{REFUSED}: the pictures were measured under {kinds} different settings",
    )


def _placement(column: Column, criteria: Criteria) -> Placement | None:
    percentiles, zs, ps = (_known(part) for part in (column.percentiles, column.zs, column.ps))
    if not len(percentiles):
        return None
    return Placement(
        pictures=len(percentiles),
        percentile=float(np.median(percentiles)),
        z=float(np.median(zs)) if len(zs) else None,
        tested=len(ps),
        better=int((ps <= criteria.better).sum()),
    )


def _five(values: Numbers) -> tuple[float | None, ...]:
    """Return the smallest, the quartiles and the largest; None where there are no values."""
    if not len(values):
        return (None,) * 5
    return tuple(float(value) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1]))


def _pair(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def _known(values: Iterable[float]) -> Numbers:
    numbers = np.array(values, dtype=np.float64)
    return numbers[np.isfinite(numbers)]
