"""Facts about where maps lie and how far they agree."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from reportgen.facts.formats import decimal, percent, place
from reportgen.facts.sources import number, numbered, setting, titles, values
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
            words = place(across, down[subject])
            name = f"{subject}.location"
            yield Fact(name=name, value=words, text=words, source="/measurements")


def _pairs(report: Report) -> Iterator[Fact]:
    known = titles(report)
    for _, measurement in numbered(report, "iou"):
        names = [known.get(method, method) for method in measurement.subject.split("~")]
        words, name = " and ".join(names), f"{measurement.subject}.methods"
        yield Fact(name=name, value=words, text=words, source="/attributions")


def _ends(report: Report) -> Iterator[Fact]:
    """The mean over pairs, and the pair that agrees most and least, if there are several."""
    overlaps = values(report, "iou")
    if not overlaps:
        return
    mean = fmean(overlaps.values())
    yield Fact(
        name="agreement.mean_iou",
        value=mean,
        text=decimal(mean),
        source="/measurements",
        direction="higher is better",
    )
    for end, choose in (("closest", max), ("farthest", min)):
        pair = choose(overlaps, key=lambda subject: overlaps[subject])
        yield Fact(name=f"agreement.{end}", value=pair, text=pair, source="/measurements")
