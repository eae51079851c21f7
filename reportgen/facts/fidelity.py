"""Facts about deletion and insertion, and about what beats smooth noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from reportgen.facts.formats import decimal, listed, probability
from reportgen.facts.sources import numbered, pointer, setting, titles, values
from reportgen.facts.words import PICTURES, worded
from reportgen.records import Fact, Measurement, Report

# Where the probability changes by no more than this from one end of a curve to the other, no map
# can be told from another, and dividing by the change would only magnify noise.
LITTLE_CHANGE = 0.05
# The note of an attribution whose map has one value everywhere.
CONSTANT_MAP = "constant map"
_NOISE = "smooth-random"


# A map does better than smooth random maps where so few of them do as well: p of its yardstick.
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Curve:
    """The best of several AUCs of one kind: the lowest or the highest."""

    best: Callable[[Iterable[float]], float]

    def better(self, value: float, other: float) -> bool:
        """Return whether ``value`` is better, as both are shown: to three decimals."""
        mine, theirs = round(value, 3), round(other, 3)
        return mine != theirs and self.best((mine, theirs)) == mine


CURVES: Mapping[str, Curve] = {"deletion": Curve(min), "insertion": Curve(max)}


def fidelity_facts(report: Report) -> Iterator[Fact]:
    """Return how the curves were made, the yardstick, the best methods, and the verdicts."""
    for metric, curve in CURVES.items():
        yield from setting(
            report, metric, "baseline", f"{metric}.baseline", lambda name: worded(PICTURES, name)
        )
        yield from setting(report, metric, "steps", f"{metric}.steps", str)
        yield from _change(report, metric)
        yield from _best(report, metric, curve)
    yield from _null_maps(report)
    yield from _verdicts(report)


def _ends(measurement: Measurement) -> tuple[float, float] | None:
    first, last = (measurement.detail.get(f"{end} probability") for end in ("first", "last"))
    if isinstance(first, int | float) and isinstance(last, int | float):
        return float(first), float(last)
    return None


def _change(report: Report, metric: str) -> Iterator[Fact]:
    """The probability at both ends of the curves, which all curves of a metric share."""
    for index, measurement in numbered(report, metric)[:1]:
        ends = _ends(measurement)
        if ends is None:
            return
        where = ("measurements", index, "detail")
        for end, value in zip(("first", "last"), ends, strict=True):
            yield Fact(
                name=f"{metric}.{end}",
                value=value,
                text=probability(value),
                source=pointer(*where, f"{end} probability"),
            )
        change = abs(ends[0] - ends[1])
        name, text = f"{metric}.change", decimal(change)
        yield Fact(name=name, value=change, text=text, source=pointer(*where))


def _null_maps(report: Report) -> Iterator[Fact]:
    """How many smooth random maps each map is placed among."""
    for index, measurement in enumerate(report.measurements):
        found = measurement.yardstick
        if measurement.metric in CURVES and found is not None:
            source = pointer("measurements", index, "yardstick", "maps")
            text = f"{found.maps} {found.controls}"
            yield Fact(name=f"{_NOISE}.maps", value=found.maps, text=text, source=source)
            return


def _best(report: Report, metric: str, curve: Curve) -> Iterator[Fact]:
    """The best AUC of the methods, and all methods that reach it as it is shown."""
    known = titles(report)
    found = {known[m]: value for m, value in values(report, metric).items() if m in known}
    if found:
        best = curve.best(found.values())
        names = [title for title, value in found.items() if not curve.better(best, value)]
        name, where = f"fidelity.best_{metric}", "/measurements"
        yield Fact(name=name, value=list(names), text=listed(names), source=where)
        yield Fact(name=f"{name}_auc", value=best, text=decimal(best), source=where)


def _verdicts(report: Report) -> Iterator[Fact]:
    """Whether each map does better than smooth random maps, on each curve that can tell."""
    outcomes = {a.method: dict(_outcomes(report, a.method)) for a in report.attributions}
    for method, found in outcomes.items():
        for metric, better in found.items():
            yield Fact(
                name=f"{method}.beats_noise.{metric}",
                value=better,
                text="yes" if better else "no",
                source="/measurements",
            )
    telling = [metric for metric in CURVES if any(metric in found for found in outcomes.values())]
    judged = {m: found for m, found in outcomes.items() if found and len(found) == len(telling)}
    if judged:
        beating = [titles(report)[m] for m, found in judged.items() if all(found.values())]
        yield from _judged(telling, len(judged), beating)


def _judged(telling: list[str], judged: int, beating: list[str]) -> Iterator[Fact]:
    where = "/measurements"
    name, text = "report.judged_in", ("both " if len(telling) > 1 else "") + listed(telling)
    yield Fact(name=name, value=list(telling), text=text, source=where)
    yield Fact(name="report.judged", value=judged, text=str(judged), source=where)
    number = len(beating)
    yield Fact(name="report.beating", value=number, text=str(number), source=where)
    name, text = "report.beating_titles", listed(beating)
    yield Fact(name=name, value=list(beating), text=text, source=where)


def _outcomes(report: Report, method: str) -> Iterator[tuple[str, bool]]:
    attribution = report.attribution(method)
    if attribution is None or CONSTANT_MAP in attribution.notes:
        return
    for metric in CURVES:
        own = report.measurement(metric, method)
        if own is None or own.yardstick is None or own.yardstick.p is None or not _tells(own):
            continue
        yield metric, own.yardstick.p <= SIGNIFICANT


def _tells(measurement: Measurement) -> bool:
    """Return whether the ends of a curve are far enough apart to tell one map from another."""
    ends = _ends(measurement)
    return ends is None or abs(ends[0] - ends[1]) > LITTLE_CHANGE
