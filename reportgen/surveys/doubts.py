"""Numbers that cannot tell what they seem to: constant, derived, or outside their range."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations

import numpy as np

from reportgen.surveys.records import Doubt
from reportgen.surveys.statistics import Numbers
from reportgen.surveys.summary import comparable
from reportgen.surveys.tally import Column, Key, Tally

# Of fewer values it is no surprise that they are equal.
FEWEST = 3

RELATIONS: Mapping[str, Callable[[Numbers], Numbers]] = {
    "the same number": lambda a: a,
    "its negative": lambda a: -a,
    "1 minus it": lambda a: 1 - a,
}

Columns = Mapping[Key, Column]


def doubts(tally: Tally) -> tuple[Doubt, ...]:
    """Return what is doubtful about the numbers of methods and of the prediction.

    Values are the same where they differ by rounding alone. The same end of the range everywhere
    (no noise changed the class of any picture) is a result, and not doubted.
    """
    columns = {k: c for k, c in comparable(tally).items() if tally.of_model(k.subject)}
    telling = {k: c for k, c in columns.items() if tally.direction(k.metric) != "descriptive"}
    return (
        *_outside(tally, columns),
        *_same_in_all_models(tally, telling),
        *_same_in_all_pictures(tally, telling),
        *_derived(telling),
    )


def _outside(tally: Tally, columns: Columns) -> Iterator[Doubt]:
    for key, column in columns.items():
        low, high = tally.quantities[key.metric].range
        values = _known(column)
        count = _above(values, high) + _above(-values, None if low is None else -low)
        if count:
            yield _doubt("outside its range", [key], count)


def _above(values: Numbers, limit: float | None) -> int:
    """Return how many values are above ``limit`` by more than rounding in float32."""
    return 0 if limit is None else int((values > limit + 1e-6 * max(1.0, abs(limit))).sum())


def _same_in_all_models(tally: Tally, columns: Columns) -> Iterator[Doubt]:
    groups: dict[tuple[str, str], list[Key]] = {}
    for key in columns:
        groups.setdefault((key.metric, key.subject), []).append(key)
    for keys in groups.values():
        if len(keys) > 1 and len(keys) == len(tally.models):
            values = _aligned([columns[key] for key in keys])
            same = values.shape[1] > 0 and _all_close(values, values[:1])
            if same and not _at_an_end(tally, keys[0], values):
                yield _doubt("same in all models", keys, values.shape[1])


def _same_in_all_pictures(tally: Tally, columns: Columns) -> Iterator[Doubt]:
    for key, column in columns.items():
        values = _known(column)
        same = len(values) >= FEWEST and _all_close(values, values[:1])
        if same and not _at_an_end(tally, key, values):
            yield _doubt("same in all pictures", [key], len(values))


def _derived(columns: Columns) -> Iterator[Doubt]:
    groups: dict[tuple[str, str], list[Key]] = {}
    for key in columns:
        groups.setdefault((key.model, key.subject), []).append(key)
    for keys in groups.values():
        for a, b in combinations(keys, 2):
            values = _aligned([columns[a], columns[b]])
            relation = _relation(values) if a.metric != b.metric else ""
            if relation:
                yield _doubt("derived", [b], values.shape[1], a.metric, relation)


def _at_an_end(tally: Tally, key: Key, values: Numbers) -> bool:
    ends = [end for end in tally.quantities[key.metric].range if end is not None]
    return any(_all_close(values, np.full(values.shape, end)) for end in ends)


def _relation(values: Numbers) -> str:
    """Return what the second row is of the first, or nothing; constants are no relation."""
    first, second = values
    if len(first) < FEWEST or _all_close(first, first[:1]):
        return ""
    found = (words for words, make in RELATIONS.items() if _all_close(second, make(first)))
    return next(found, "")


def _aligned(columns: list[Column]) -> Numbers:
    """Return the values (columns, pictures) of the pictures that all columns have."""
    found = [column.by_picture() for column in columns]
    both = [n for n in found[0] if all(n in other for other in found[1:])]
    return np.array([[values[n] for n in both] for values in found], dtype=np.float64)


def _known(column: Column) -> Numbers:
    values = column.values
    return values[np.isfinite(values)]


def _all_close(values: Numbers, other: Numbers) -> bool:
    return bool(np.allclose(values, other, rtol=1e-9, atol=1e-12))


def _doubt(kind: str, keys: list[Key], count: int, other: str = "", relation: str = "") -> Doubt:
    return Doubt.model_validate(
        {
            "kind": kind,
            "metric": keys[0].metric,
            "subject": keys[0].subject,
            "models": tuple(key.model for key in keys),
            "count": count,
            "other": other,
            "relation": relation,
        }
    )
