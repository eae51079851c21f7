"""Which numbers can be told apart: those shown as others, by intervals that do not meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from reportgen.records import Measurement

_SHOWN = 3  # the decimals of a number that is shown


@dataclass(frozen=True)
class Span:
    """A value and the ends of its interval; both are the value where there is no interval."""

    value: float
    low: float
    high: float

    def apart(self, other: Span) -> bool:
        """Return whether the values and the ends of the intervals, as shown, do not meet."""
        mine, others = (
            [round(end, _SHOWN) for end in (each.low, each.high)] for each in (self, other)
        )
        return mine[1] < others[0] or others[1] < mine[0]


def span(value: float, interval: tuple[float, float] | None) -> Span:
    """Return a value with its interval, which holds the value itself too."""
    low, high = interval or (value, value)
    return Span(value, min(low, value), max(high, value))


def spans(measurements: Iterable[Measurement]) -> dict[str, Span]:
    """Return the numbers with their intervals by subject; what has no number is left out."""
    return {m.subject: span(m.value, m.interval) for m in measurements if m.value is not None}


def foremost(
    found: Mapping[str, Span], best: Callable[[Iterable[float]], float]
) -> tuple[str, ...]:
    """Return the subject of the best value, and all that cannot be told from it or one another.

    The others are each apart from all of these; where nothing can be told apart, all are returned.
    """
    if not found:
        return ()
    value = best(each.value for each in found.values())
    leading = {subject for subject, each in found.items() if each.value == value}
    while joined := _touching(found, leading):
        leading |= joined
    return tuple(subject for subject in found if subject in leading)


def _touching(found: Mapping[str, Span], leading: set[str]) -> set[str]:
    return {
        subject
        for subject, each in found.items()
        if subject not in leading and not all(each.apart(found[other]) for other in leading)
    }
