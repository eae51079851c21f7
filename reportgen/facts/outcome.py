"""Facts about the prediction, the maps, and how the run went."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pydantic import JsonValue

from reportgen.facts.formats import count, counted, decimal, listed, probability
from reportgen.facts.sources import plain, pointer
from reportgen.phrases import named, phrase, retold
from reportgen.records import Attribution, ClassScore, Fact, Report

_LABELS = 6  # as many as a sentence can list

# The settings of methods that sentences speak of, and their words.
_SETTINGS: Mapping[str, Callable[[JsonValue], str]] = {
    "layer": str,
    "samples": str,
    "evaluations": str,
    "steps": str,
    "fill": lambda name: named("fill", str(name)),
    "segmentation": lambda name: named("segmentation", str(name)),
    "baseline": lambda name: named("picture", str(name)),
}


def prediction_facts(report: Report) -> Iterator[Fact]:
    """Return the class explained, the top classes, and the lead of the first."""
    prediction = report.prediction
    target, where = prediction.target, "/prediction/target"
    yield from _scored("prediction", target, where)
    yield plain("prediction.index", target.index, "prediction", "target", "index")
    score = decimal(target.score)
    yield Fact(name="prediction.score", value=target.score, text=score, source=f"{where}/score")
    for place, entry in enumerate(prediction.top):
        yield from _scored(f"prediction.top{place + 1}", entry, f"/prediction/top/{place}")
    if prediction.contrast is not None:
        yield from _contrasted(report)
    if prediction.threshold is not None:
        yield from _held(report)
    elif len(prediction.top) > 1:
        yield from _runner_up(report)


def _scored(name: str, entry: ClassScore, where: str) -> Iterator[Fact]:
    yield Fact(name=f"{name}.label", value=entry.label, text=entry.label, source=f"{where}/label")
    yield Fact(
        name=f"{name}.probability",
        value=entry.probability,
        text=probability(entry.probability),
        source=f"{where}/probability",
    )


def _contrasted(report: Report) -> Iterator[Fact]:
    contrast, where = report.prediction.contrast, "/prediction/contrast"
    if contrast is not None:
        yield from _scored("prediction.first", contrast.first, f"{where}/first")
        yield from _scored("prediction.second", contrast.second, f"{where}/second")


def _held(report: Report) -> Iterator[Fact]:
    """Return which labels hold, and the one whose holding is watched while the picture changes."""
    prediction = report.prediction
    threshold, holding = prediction.threshold, prediction.holding
    text, source = probability(threshold or 0), "/prediction/threshold"
    yield Fact(name="prediction.threshold", value=threshold, text=text, source=source)
    labels = [_label_said(entry) for entry in holding]
    shown = labels if len(labels) <= _LABELS else [*labels[:_LABELS], phrase("others")]
    source, most = "/prediction/top", count(report.model.classes)
    key = "held.some" if labels else "held.none"
    text = phrase(key, number=count(len(labels)), all=most)
    yield Fact(name="prediction.held", value=len(labels), text=text, source=source)
    if holding:
        yield Fact(
            name="prediction.holding",
            value=[entry.label for entry in holding],
            text=listed(shown),
            source=source,
        )
    where = ("contrast", "first") if prediction.contrast else ("target",)
    entry = prediction.contrast.first if prediction.contrast else prediction.target
    yield from _scored("prediction.watched", entry, pointer("prediction", *where))


def _label_said(entry: ClassScore) -> str:
    return phrase("label", label=entry.label, probability=probability(entry.probability))


def _runner_up(report: Report) -> Iterator[Fact]:
    first, second = report.prediction.top[:2]
    lead = first.probability - second.probability
    name, text = "prediction.margin", probability(lead)
    yield Fact(name=name, value=lead, text=text, source="/prediction/top")
    yield plain("prediction.runner_up", second.label, "prediction", "top", 1, "label")


def attribution_facts(report: Report) -> Iterator[Fact]:
    """Return what each map is called, how fine it is, and how it was made."""
    for index, attribution in enumerate(report.attributions):
        method, where = attribution.method, ("attributions", index)
        yield plain(f"{method}.title", attribution.card.title, *where, "card", "title")
        yield Fact(
            name=f"{method}.resolution",
            value=attribution.resolution,
            text=retold("resolution", attribution.resolution),
            source=pointer(*where, "resolution"),
        )
        yield from _granularity(attribution, index)
        yield from _settings(attribution, index)


def _granularity(attribution: Attribution, index: int) -> Iterator[Fact]:
    card = attribution.card
    if card.granularity:
        text = phrase(f"granularity.{card.granularity}")
        yield Fact(
            name=f"{attribution.method}.granularity",
            value=card.granularity,
            text=phrase("class-agnostic", granularity=text) if card.class_agnostic else text,
            source=pointer("attributions", index, "card", "granularity"),
        )


def _settings(attribution: Attribution, index: int) -> Iterator[Fact]:
    for key, form in _SETTINGS.items():
        if key in attribution.settings:
            value = attribution.settings[key]
            yield Fact(
                name=f"{attribution.method}.{key}",
                value=value,
                text=form(value),
                source=pointer("attributions", index, "settings", key),
            )


def outcome_facts(report: Report) -> Iterator[Fact]:
    """Return how many maps, measurements and findings there are."""
    sizes = {
        "methods": ("/attributions", len(report.attributions)),
        "measurements": ("/measurements", len(report.measurements)),
    }
    for name, (source, number) in sizes.items():
        yield Fact(name=f"report.{name}", value=number, text=count(number), source=source)
    for severity in ("problem", "caution"):
        number = sum(finding.severity == severity for finding in report.findings)
        name, text = f"report.{severity}s", counted(number, severity)
        yield Fact(name=name, value=number, text=text, source="/findings")
