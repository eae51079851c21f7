"""Which pictures a survey names: where maps disagree, and where they are least to be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from reportgen.surveys.records import Criteria, Named
from reportgen.surveys.tally import Column, Tally

OVERLAP = "iou"
FIDELITY = "deletion"
STABILITY = "sensitivity"

Sizes = Callable[[Column], Iterable[float]]


@dataclass(frozen=True)
class Rule:
    """A rule that ranks pictures by what it makes of one number's values for several subjects.

    ``pool`` makes one value of those of a picture; the largest comes first, or the ``smallest``.
    """

    key: str
    metric: str
    of: Sizes
    pool: Callable[[Sequence[float]], float]
    smallest: bool = False


RULES: tuple[Rule, ...] = (
    Rule(
        key="disagreement",
        metric=OVERLAP,
        of=lambda column: column.numbers,
        pool=fmean,
        smallest=True,
    ),
    Rule(
        key="fidelity",
        metric=FIDELITY,
        of=lambda column: column.zs,
        pool=fmean,
    ),
    Rule(
        key="stability",
        metric=STABILITY,
        of=lambda column: column.numbers,
        pool=max,
    ),
)


def named(tally: Tally, criteria: Criteria) -> tuple[Named, ...]:
    """Return the pictures that the rules name under each model, the most remarkable first.

    A rule names one picture in three, ``named_most`` at most, and none of a single picture.
    """
    return tuple(
        found
        for model in tally.models
        for rule in RULES
        for found in _first(rule, model, tally, criteria)
    )


def _first(rule: Rule, model: str, tally: Tally, criteria: Criteria) -> list[Named]:
    values = ranked_by(rule, model, tally)
    order = sorted(values, key=lambda number: values[number], reverse=not rule.smallest)
    # Rounded up: of two pictures one is named.
    count = (
        min(ceil(len(order) * criteria.named_share), criteria.named_most) if len(order) > 1 else 0
    )
    return [
        Named(rule=rule.key, model=model, number=number, rank=rank, value=values[number])
        for rank, number in enumerate(order[:count], start=1)
    ]


def ranked_by(rule: Rule, model: str, tally: Tally) -> dict[int, float]:
    """Return what ``rule`` ranks the pictures of ``model`` by; those without it are left out."""
    found: dict[int, list[float]] = {}
    for key, column in tally.columns.items():
        if (key.model, key.metric) == (model, rule.metric) and _is_map(key.subject, tally):
            for picture, value in zip(column.pictures, rule.of(column), strict=True):
                if value == value:
                    found.setdefault(picture, []).append(value)
    return {picture: rule.pool(values) for picture, values in sorted(found.items())}


def _is_map(subject: str, tally: Tally) -> bool:
    """Return whether all of ``subject`` (a method, or a pair "a~b") are methods."""
    return all(part in tally.titles for part in subject.split("~"))
