"""Facts about which maps come first: among those of one granularity, and where that can be told.

Single pixels destroy a picture sooner than coarse patches, so maps of different granularity are not
ranked with one another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

from reportgen.facts.apart import Span, foremost, span
from reportgen.facts.fidelity import CURVES, beats_noise
from reportgen.facts.formats import decimal, listed, shortlist
from reportgen.facts.sources import numbered, titles
from reportgen.phrases import named, phrase
from reportgen.records import Fact, Report

_ANYWHERE = (-math.inf, math.inf)


def ranking_facts(report: Report) -> Iterator[Fact]:
    """Return the best of each curve and the stablest maps, and those that cannot be ranked."""
    for metric, best in CURVES.items():
        yield from _ranked(report, f"{metric}.best", _judged(report, metric), best)
    yield from _ranked(report, "sensitivity.least", _sensitivities(report), min)
    yield from _listed(report, _sensitivities(report))


def _judged(report: Report, metric: str) -> dict[str, Span]:
    """Return the AUCs of the maps that could be judged by this curve.

    How far the AUC of a map that is drawn at random may be off is unknown without an interval.
    """
    return {
        m.subject: span(m.value, m.interval or (_ANYWHERE if _drawn(report, m.subject) else None))
        for _, m in numbered(report, metric)
        if m.value is not None and metric in beats_noise(report, m.subject)
    }


def _drawn(report: Report, method: str) -> bool:
    """Return whether the map of a method hangs on random numbers."""
    attribution = report.attribution(method)
    return attribution is not None and "seed" in attribution.settings


def _sensitivities(report: Report) -> dict[str, Span]:
    """Return the largest change of each map, with the lowest and highest of its copies."""
    copies = {m.subject: m.interval for _, m in numbered(report, "average_sensitivity")}
    found = [m for _, m in numbered(report, "sensitivity") if report.attribution(m.subject)]
    return {
        m.subject: span(m.value, m.interval or copies.get(m.subject))
        for m in found
        if m.value is not None
    }


def _ranked(
    report: Report,
    name: str,
    found: Mapping[str, Span],
    best: Callable[[Iterable[float]], float],
) -> Iterator[Fact]:
    """Return who comes first in each granularity, and the granularities of which nobody does."""
    leading, alike = [], []
    for kind, members in _by_granularity(report, found).items():
        first = foremost(members, best)
        if len(first) == len(members):
            alike.append(named("granularity", kind))
        elif _worth_telling(report, name, first):
            leading.append(_standing(report, first, members, kind))
    where = "/measurements"
    if leading:
        yield Fact(name=name, value=[*leading], text=listed(leading), source=where)
    if alike:
        yield Fact(name=f"{name}.alike", value=[*alike], text=listed(alike), source=where)


def _by_granularity(report: Report, found: Mapping[str, Span]) -> dict[str, dict[str, Span]]:
    """Return what several maps of one granularity have."""
    groups: dict[str, dict[str, Span]] = {}
    for attribution in report.attributions:
        kind, each = attribution.card.granularity, found.get(attribution.method)
        if kind is not None and each is not None:
            groups.setdefault(kind, {})[attribution.method] = each
    return {kind: members for kind, members in groups.items() if len(members) > 1}


def _worth_telling(report: Report, name: str, first: Iterable[str]) -> bool:
    """Return whether all that come first do better than smooth random maps on this curve."""
    metric = name.removesuffix(".best")
    return metric not in CURVES or all(beats_noise(report, m).get(metric) for m in first)


def _standing(report: Report, first: Iterable[str], members: Mapping[str, Span], kind: str) -> str:
    known = titles(report)
    return phrase(
        "standing.first",
        titles=listed(known[method] for method in first),
        values=listed(decimal(members[method].value) for method in first),
        kind=named("granularity", kind),
    )


def _listed(report: Report, found: Mapping[str, Span]) -> Iterator[Fact]:
    """Return how much each map changes, in the order of the report."""
    known = titles(report)
    words = [f"{known[method]} {decimal(each.value)}" for method, each in found.items()]
    if words:
        name, text = "sensitivity.each", shortlist(words)
        yield Fact(name=name, value=[*words], text=text, source="/measurements")
