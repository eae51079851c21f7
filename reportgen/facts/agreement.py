"""Facts about where maps lie and how far they agree."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from reportgen.facts.apart import foremost, spans
from reportgen.facts.fidelity import SIGNIFICANT
from reportgen.facts.formats import count, decimal, listed, percent, place
from reportgen.facts.sources import number, numbered, setting, titles, values
from reportgen.phrases import named
from reportgen.records import Fact, Report


def agreement_facts(report: Report) -> Iterator[Fact]:
    """Return the place of each map, the mean overlap, and the pairs at both ends."""
    yield from _locations(report)
    yield from setting(report, "relevance_in_top", "area", "location.area", number(percent))
    yield from _pairs(report)
    yield from _ends(report)
    yield from setting(report, "iou", "expected at random", "agreement.iou_floor", number(decimal))
    yield from setting(report, "iou", "area", "agreement.area", number(percent))


def _locations(report: Report) -> Iterator[Fact]:
    down = values(report, "centre_y")
    for subject, across in values(report, "centre_x").items():
        if subject in down:
            where = place(across, down[subject])
            name, text = f"{subject}.location", named("place", where)
            yield Fact(name=name, value=where, text=text, source="/measurements")
    known = [part for method in titles(report) if (part := _part(report, method))]
    if len(known) > 1 and len(set(known)) == 1:
        text, where = named("place", known[0]), "/measurements"
        yield Fact(name="location.common", value=known[0], text=text, source=where)


def _part(report: Report, method: str) -> str | None:
    """Return the part of the picture in which a map lies, if that was measured."""
    across, down = (values(report, f"centre_{axis}").get(method) for axis in "xy")
    return None if across is None or down is None else place(across, down)


def _pairs(report: Report) -> Iterator[Fact]:
    known = titles(report)
    for _, measurement in numbered(report, "iou"):
        names = [known.get(method, method) for method in measurement.subject.split("~")]
        words, name = listed(names), f"{measurement.subject}.methods"
        yield Fact(name=name, value=words, text=words, source="/attributions")


def _ends(report: Report) -> Iterator[Fact]:
    """The mean over pairs, and the pair that agrees most and least, if there are several."""
    overlaps = values(report, "iou")
    if not overlaps:
        return
    number, where = len(overlaps), "/measurements"
    yield Fact(name="agreement.pairs", value=number, text=count(number), source=where)
    mean = fmean(overlaps.values())
    yield Fact(
        name="agreement.mean_iou",
        value=mean,
        text=decimal(mean),
        source="/measurements",
        direction="higher is better",
    )
    found = spans(m for _, m in numbered(report, "iou"))
    for end, choose in (("closest", max), ("farthest", min)):
        first = foremost(found, choose)
        if len(first) == 1:
            yield Fact(name=f"agreement.{end}", value=first[0], text=first[0], source=where)
    yield from _beyond_chance(report)


def _beyond_chance(report: Report) -> Iterator[Fact]:
    """How many pairs overlap more than smooth random maps do with one of the two."""
    found = [m.yardstick for _, m in numbered(report, "iou") if m.yardstick]
    told = [yardstick.p <= SIGNIFICANT for yardstick in found if yardstick.p is not None]
    if told:
        for name, number in (("tested", len(told)), ("beyond", sum(told))):
            text = count(number)
            yield Fact(name=f"agreement.{name}", value=number, text=text, source="/measurements")
