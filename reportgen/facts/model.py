"""Facts about the model, the picture, and what the run cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reportgen.facts.formats import (
    count,
    counted,
    decimal,
    four_digits,
    listed,
    percent,
    probability,
    size,
    unknown_or,
)
from reportgen.facts.sources import plain, pointer
from reportgen.phrases import named, phrase, retold
from reportgen.records import Fact, Report

_ASSUMABLE = (
    "channels", "resize", "crop", "interpolation", "mean", "std", "channel_order",
    "transform_input",
)  # fmt: skip
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
    assumed = [name for name in _ASSUMABLE if sources.get(name) == "assumed"]
    if report.model.labels.source == "assumed":
        assumed.append("labels")
    if report.model.head.source == "assumed":
        assumed.append("head")
    return tuple(phrase(f"assumed.{name}") for name in assumed)


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
    text, source = named("format", model.format), pointer("model", "format")
    yield Fact(name="model.format", value=model.format, text=text, source=source)
    yield plain("model.architecture", model.architecture, "model", "architecture")
    title, origin, where = str(model.head.value), model.head.source, "/model/head"
    told = retold("head", title)
    yield Fact(name="model.head", value=title, text=told, source=f"{where}/value")
    text, source = phrase(f"source.{origin}"), f"{where}/source"
    yield Fact(name="model.head_source", value=origin, text=text, source=source)
    yield plain("model.device", report.provenance.device, "provenance", "device")
    for name, number in (("parameters", model.parameters), ("classes", model.classes)):
        where, text = f"/model/{name}", unknown_or("unknown", number)
        yield Fact(name=f"model.{name}", value=number, text=text, source=where)
    if model.predictions_only:
        yield plain("model.predictions_only", model.predictions_only, "model", "predictions_only")
    assumed = assumptions(report)
    text = listed(assumed) or phrase("nothing")
    yield Fact(name="model.assumed", value=list(assumed), text=text, source="/model")
    number, text = len(assumed), counted(len(assumed), "settings")
    yield Fact(name="model.assumptions", value=number, text=text, source="/model")
    own, stated = model.own_normalisation, model.preprocessing
    if own is not None:
        yield _values("model.own_normalisation", own.mean, own.std, "/model/own_normalisation")
        yield _values("model.normalisation", stated.mean, stated.std, "/model/preprocessing")


def _values(name: str, mean: Sequence[float], std: Sequence[float], source: str) -> Fact:
    """Return a mean and a standard deviation of each channel as a fact."""
    text = phrase("normalisation", mean=four_digits(mean), std=four_digits(std))
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
        text = phrase("no-number") if value is None else form(value)
        yield Fact(name=f"precision.{name}", value=value, text=text, source=pointer(*where, name))


def _passes(report: Report) -> Iterator[Fact]:
    for way in ("forward", "backward"):
        total = sum(getattr(passes, way) for passes in report.provenance.passes)
        name, source = f"passes.{way}", "/provenance/passes"
        yield Fact(name=name, value=total, text=count(total), source=source)
