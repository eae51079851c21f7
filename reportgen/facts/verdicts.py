"""Facts about the tests that a map passes or fails: sanity checks, seeds, and the marked object."""

from __future__ import annotations

from collections.abc import Iterator

from reportgen.facts.formats import count, shortlist
from reportgen.facts.measured import fact_name
from reportgen.facts.sources import pointer, setting, titles
from reportgen.phrases import named, phrase
from reportgen.records import Fact, Measurement, Report

# A map whose rank correlation with that of a model with random weights is so high has not noticed.
FAILS_FROM = 0.5
# Seeds agree where the mean Jaccard index of the highest segments is at least this.
STABLE = 0.9
DESTROYED = "randomised_spearman"
SEEDS = "seed_jaccard_5"
_SETTLED = "samples that settle it"
_LIMIT = "not settled at"


def verdict_facts(report: Report) -> Iterator[Fact]:
    """Return the verdict of each test of a map, and the methods that notice a destroyed model."""
    for index, measurement in enumerate(report.measurements):
        found = measurement.detail.get("verdict")
        if isinstance(found, str):
            yield Fact(
                name=f"{fact_name(measurement.metric, measurement.subject)}.verdict",
                value=found,
                text=named("outcome", found),
                source=pointer("measurements", index, "detail", "verdict"),
            )
    yield from _noticing(report)
    for index, measurement in enumerate(report.measurements):
        if measurement.metric == SEEDS:
            yield from _settled(measurement, index)
    yield from setting(report, SEEDS, "seeds", "seeds.count", str)


def _noticing(report: Report) -> Iterator[Fact]:
    """The titles of the methods whose maps change with the weights, and of those whose do not."""
    known = titles(report)
    verdicts = {
        known[m.subject]: m.detail.get("verdict")
        for m in report.measurements
        if m.metric == DESTROYED and m.subject in known
    }
    for name, outcome in (("sanity.passing", "passes"), ("sanity.failing", "fails")):
        found = [title for title, verdict in verdicts.items() if verdict == outcome]
        if found:
            text = shortlist(found)
            yield Fact(name=name, value=[*found], text=text, source="/measurements")


def _settled(measurement: Measurement, index: int) -> Iterator[Fact]:
    """How many samples it takes until seeds agree, or up to how many they do not."""
    name, where = f"{measurement.subject}.samples_needed", ("measurements", index, "detail")
    needed, limit = measurement.detail.get(_SETTLED), measurement.detail.get(_LIMIT)
    if isinstance(needed, int):
        source = pointer(*where, _SETTLED)
        yield Fact(
            name=name, value=needed, text=phrase("samples", number=count(needed)), source=source
        )
    elif isinstance(limit, int):
        text, source = phrase("more-samples", number=count(limit)), pointer(*where, _LIMIT)
        yield Fact(name=name, value=limit, text=text, source=source)
