"""Facts about the model, the picture, and what the run cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reportgen.facts.formats import count, decimal, listed, percent, probability, size
from reportgen.facts.sources import plain, pointer
from reportgen.facts.words import SOURCES, worded
from reportgen.records import Fact, Report

_ASSUMABLE: Mapping[str, str] = {
    "channels": "the number of channels",
    "resize": "the resize",
    "crop": "the input size",
    "interpolation": "the interpolation",
    "mean": "the mean",
    "std": "the standard deviation",
    "channel_order": "the order of the colours",
}

_SAME = 1e-3


def model_facts(report: Report) -> Iterator[Fact]:
    """Return who was explained, on which picture, and with how many passes."""
    yield from _identity(report)
    yield from _image(report)
    yield from _passes(report)
    yield from _precision(report)


def assumptions(report: Report) -> tuple[str, ...]:
    """Return what was assumed about the model because nothing stated it, in words."""
    sources = report.model.preprocessing_sources
    assumed = [words for name, words in _ASSUMABLE.items() if sources.get(name) == "assumed"]
    if report.model.labels.source == "assumed":
        assumed.append("the labels")
    if report.model.head.source == "assumed":
        assumed.append("how outputs become probabilities")
    return tuple(assumed)


def normalised_twice(report: Report) -> bool:
    """Return whether the network normalises its input, and something else does so before it."""
    own, stated = report.model.own_normalisation, report.model.preprocessing
    if own is None:
        return False
    unit = 1 / own.white
    untouched = all(abs(mean) < _SAME for mean in stated.mean)
    return not untouched or any(abs(std / unit - 1) > _SAME for std in stated.std)


def _identity(report: Report) -> Iterator[Fact]:
    model = report.model
    yield plain("model.name", model.name, "model", "name")
    yield plain("model.format", model.format, "model", "format")
    yield plain("model.architecture", model.architecture, "model", "architecture")
    yield plain("model.head", model.head.value, "model", "head", "value")
    origin = model.head.source
    yield Fact(
        name="model.head_source",
        value=origin,
        text=worded(SOURCES, origin),
        source="/model/head/source",
    )
    yield plain("model.device", report.provenance.device, "provenance", "device")
    for name, number in (("parameters", model.parameters), ("classes", model.classes)):
        where, text = f"/model/{name}", "unknown" if number is None else count(number)
        yield Fact(name=f"model.{name}", value=number, text=text, source=where)
    if model.predictions_only:
        yield plain("model.predictions_only", model.predictions_only, "model", "predictions_only")
    assumed = assumptions(report)
    text = listed(assumed) or "nothing"
    yield Fact(name="model.assumed", value=list(assumed), text=text, source="/model")
    own, stated = model.own_normalisation, model.preprocessing
    if own is not None:
        yield _values("model.own_normalisation", own.mean, own.std, "/model/own_normalisation")
        yield _values("model.normalisation", stated.mean, stated.std, "/model/preprocessing")


def _values(name: str, mean: Sequence[float], std: Sequence[float], source: str) -> Fact:
    """Return a mean and a standard deviation of each channel as a fact."""
    numbers = [", ".join(f"{value:.4g}" for value in values) for values in (mean, std)]
    text = f"mean {numbers[0]}; standard deviation {numbers[1]}"
    return Fact(name=name, value=[list(mean), list(std)], text=text, source=source)


def _image(report: Report) -> Iterator[Fact]:
    image = report.image
    yield plain("image.name", image.name, "image", "name")
    yield Fact(
        name="image.size",
        value=[image.width, image.height],
        text=size(image.height, image.width),
        source="/image",
    )
    if image.mask is not None:
        share, name = image.mask.share, "image.marked"
        yield Fact(name=name, value=share, text=percent(share), source="/image/mask/share")
    height, width = report.model.preprocessing.crop
    yield Fact(
        name="image.input_size",
        value=[width, height],
        text=size(height, width),
        source="/model/preprocessing",
    )


def _precision(report: Report) -> Iterator[Fact]:
    """Return what a reduced precision changed, where one was asked for."""
    yield plain("precision", report.provenance.precision, "provenance", "precision")
    check, where = report.provenance.precision_check, ("provenance", "precision_check")
    if check is None:
        return
    yield plain("precision.reduced", check.precision, *where, "precision")
    for name, value, form in (
        ("pictures", check.pictures, count),
        ("least", check.least, decimal),
        ("rank_correlation", check.rank_correlation, probability),
        ("largest_difference", check.largest_difference, probability),
        ("mean_difference", check.mean_difference, probability),
    ):
        text = "none" if value is None else form(value)
        yield Fact(name=f"precision.{name}", value=value, text=text, source=pointer(*where, name))


def _passes(report: Report) -> Iterator[Fact]:
    for way in ("forward", "backward"):
        total = sum(getattr(passes, way) for passes in report.provenance.passes)
        name, source = f"passes.{way}", "/provenance/passes"
        yield Fact(name=name, value=total, text=count(total), source=source)
