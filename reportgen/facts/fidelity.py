"""Facts about deletion and insertion, and about what beats smooth noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from reportgen.facts.apart import span
from reportgen.facts.formats import decimal, listed, probability, shortlist
from reportgen.facts.sources import numbered, pointer, setting, titles
from reportgen.phrases import named, phrase, retold
from reportgen.records import Fact, Measurement, Report

# Where the probability changes by no more than this from one end of a curve to the other, no map
# can be told from another, and dividing by the change would only magnify noise.
LITTLE_CHANGE = 0.05
# The note of an attribution whose map has one value everywhere.
CONSTANT_MAP = "constant map"
_NOISE = "smooth-random"


# A map does better than smooth random maps where so few of them do as well: p of its yardstick.
SIGNIFICANT = 0.05


# The best of several AUCs of a curve: the lowest or the highest.
CURVES: Mapping[str, Callable[[Iterable[float]], float]] = {"deletion": min, "insertion": max}


def better(metric: str, one: Measurement, other: Measurement) -> bool:
    """Return whether the first AUC of a curve is better, as far as the two can be told apart."""
    mine, theirs = (span(m.value, m.interval) for m in (one, other) if m.value is not None)
    return mine.apart(theirs) and CURVES[metric]((mine.value, theirs.value)) == mine.value


def backwards(report: Report, metric: str) -> bool:
    """Return whether the probability is higher on the baseline of a curve than on the picture."""
    gains = [_gained(found) for _, found in numbered(report, metric)[:1]]
    return any(gain is not None and gain < 0 for gain in gains)


def fidelity_facts(report: Report) -> Iterator[Fact]:
    """Return how the curves were made, the yardstick, and the verdicts."""
    for metric in CURVES:
        yield from setting(
            report, metric, "baseline", f"{metric}.baseline", lambda b: named("picture", str(b))
        )
        yield from setting(report, metric, "steps", f"{metric}.steps", str)
        yield from _change(report, metric)
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
            text = phrase("maps", maps=found.maps, controls=retold("controls", found.controls))
            yield Fact(name=f"{_NOISE}.maps", value=found.maps, text=text, source=source)
            return


def _verdicts(report: Report) -> Iterator[Fact]:
    """Whether each map does better than smooth random maps, on each curve that can tell."""
    outcomes = {a.method: beats_noise(report, a.method) for a in report.attributions}
    for method, found in outcomes.items():
        for metric, better in found.items():
            yield Fact(
                name=f"{method}.beats_noise.{metric}",
                value=better,
                text=phrase("yes" if better else "no"),
                source="/measurements",
            )
    for metric in CURVES:
        told = {m: found[metric] for m, found in outcomes.items() if metric in found}
        yield from _supported(report, f"{metric}.supported", [m for m in told if told[m]])
        yield from _supported(report, f"{metric}.unsupported", [m for m in told if not told[m]])
    telling = [metric for metric in CURVES if any(metric in found for found in outcomes.values())]
    yield from _alone(report, outcomes.values())
    judged = {m: found for m, found in outcomes.items() if found and len(found) == len(telling)}
    if judged:
        beating = [titles(report)[m] for m, found in judged.items() if all(found.values())]
        yield from _judged(telling, len(judged), beating)
        yield from _supported(report, "report.unjudged", [m for m in outcomes if m not in judged])


def _alone(report: Report, outcomes: Iterable[Mapping[str, bool]]) -> Iterator[Fact]:
    """Return why maps are judged by one curve alone, if any are."""
    alone = [*dict.fromkeys(metric for found in outcomes if len(found) == 1 for metric in found)]
    if alone:
        measured = [metric for metric in CURVES if numbered(report, metric)]
        text = phrase("only-curve.measured" if len(measured) == 1 else "only-curve.telling")
        yield Fact(name="report.only_curve", value=[*alone], text=text, source="/measurements")


def _supported(report: Report, name: str, methods: list[str]) -> Iterator[Fact]:
    """Return the titles of methods as a fact, if there are any."""
    found = [titles(report)[method] for method in methods]
    if found:
        yield Fact(name=name, value=[*found], text=shortlist(found), source="/measurements")


def _judged(telling: list[str], judged: int, beating: list[str]) -> Iterator[Fact]:
    where = "/measurements"
    curves = listed(phrase(f"curve.{metric}") for metric in telling)
    text = phrase("both", curves=curves) if len(telling) > 1 else curves
    yield Fact(name="report.judged_in", value=list(telling), text=text, source=where)
    yield Fact(name="report.judged", value=judged, text=str(judged), source=where)
    number = len(beating)
    yield Fact(name="report.beating", value=number, text=str(number), source=where)
    name, text = "report.beating_titles", shortlist(beating)
    yield Fact(name=name, value=list(beating), text=text, source=where)


def beats_noise(report: Report, method: str) -> dict[str, bool]:
    """Return whether a map does better than smooth random maps, on each curve that can tell."""
    attribution = report.attribution(method)
    if attribution is None or CONSTANT_MAP in attribution.notes:
        return {}
    found = {metric: report.measurement(metric, method) for metric in CURVES}
    return {
        metric: own.yardstick.p <= SIGNIFICANT
        for metric, own in found.items()
        if own and own.yardstick and own.yardstick.p is not None and _tells(own)
    }


def _tells(measurement: Measurement) -> bool:
    """Return whether the picture has so much more of the probability that a curve tells maps apart.

    Where the baseline has more of it, no AUC speaks for a map.
    """
    gained = _gained(measurement)
    return gained is None or gained > LITTLE_CHANGE


def _gained(measurement: Measurement) -> float | None:
    """Return how much higher the probability is on the picture than on the baseline."""
    ends = _ends(measurement)
    if ends is None:
        return None
    return ends[0] - ends[1] if measurement.metric == "deletion" else ends[1] - ends[0]
