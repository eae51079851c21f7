"""What people say about a model: with options, in ``model.toml``, or inside its archive.

``model.toml`` lies beside a model file, or in a model's folder.

Options count most. The other two have the same entries, each of which may be left out:

    labels = ["cat", "dog"]            # in model.toml also the name of a file beside it
    head = "softmax"                   # or another one that the option head takes
    temperature = 1.5                  # by which logits are divided
    transform_input = false            # whether GoogLeNet or Inception v3 re-normalises its input
    [preprocessing]
    channels = 3
    resize = 256                       # the short side, or [height, width]
    crop = [224, 224]                  # height, width
    interpolation = "bilinear"         # or "bicubic", "nearest"
    mean = [0.485, 0.456, 0.406]       # of pixels in [0, 1]
    std = [0.229, 0.224, 0.225]
    channel_order = "rgb"              # or "bgr": of mean and std as well
    numbers = "float"                  # or "uint8": whole numbers from 0 to 255

    [sources]
    mean = "assumed"                   # of an entry that nobody stated; or "detected"

There is no entry for the architecture: a file that came with a model must not choose code to run.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool, ValidationError
from torch import nn

from reportgen.classifier.heads import Head
from reportgen.classifier.hub import is_hub_name, local_path
from reportgen.classifier.labels import read_labels
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.model_folders import is_model_folder
from reportgen.config import Config
from reportgen.errors import ModelError, UsageError
from reportgen.records import ModelRecord, Source

T = TypeVar("T")

_NAME = "model.toml"
EMBEDDED = "reportgen.json"
"""The name of the description inside a model file."""

Entry = Literal[
    "labels", "head", "temperature", "channels", "resize", "crop", "interpolation", "mean", "std",
    "channel_order", "numbers", "transform_input",
]  # fmt: skip
Pixels = Annotated[int, Field(ge=1, strict=True)]
Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]

_SIZE = re.compile(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", re.ASCII)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PreprocessingPart(_Part):
    """The entries under ``preprocessing``; see the top of this module."""

    channels: Pixels | None = None
    resize: Pixels | tuple[Pixels, Pixels] | None = None
    crop: tuple[Pixels, Pixels] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic"] | None = None
    mean: tuple[Mean, ...] | None = None
    std: tuple[Deviation, ...] | None = None
    channel_order: Literal["rgb", "bgr"] | None = None
    numbers: Literal["float", "uint8"] | None = None


class Description(_Part):
    """A model's description; see the top of this module."""

    labels: Annotated[tuple[str, ...], Field(min_length=1)] | str | None = None
    head: (
        Literal[
            "softmax",
            "sigmoid",
            "multilabel",
            "probabilities",
            "multilabel-probabilities",
            "log-probabilities",
        ]
        | None
    ) = None
    temperature: Annotated[float, Field(gt=0)] | None = None
    transform_input: StrictBool | None = None
    preprocessing: PreprocessingPart = PreprocessingPart()
    sources: Mapping[Entry, Literal["detected", "assumed"]] = {}


def described(record: ModelRecord, head: Head) -> dict[str, JsonValue]:
    """Return the description of a model that is ready, which ``embedded_hints`` reads.

    What was detected or assumed is marked so; labels that are only numbers are left out.
    """
    named, switch = record.labels.source != "assumed", record.transform_input
    sources: Mapping[str, Source] = {
        "labels": record.labels.source, "head": record.head.source, **record.preprocessing_sources
    }  # fmt: skip
    return {
        **({"labels": record.labels.value} if named else {}),
        "head": head.kind,
        **({"temperature": head.temperature} if head.temperature else {}),
        **({} if switch is None else {"transform_input": switch}),
        "preprocessing": record.preprocessing.model_dump(mode="json"),
        "sources": {
            name: source
            for name, source in sources.items()
            if source in ("detected", "assumed") and (named or name != "labels")
        },
    }


def flag_hints(config: Config) -> Hints:
    """Return what the options ``labels``, ``size``, ``resize``, ``mean`` ... say about a model.

    Without ``resize``, a square ``size`` also is the short side of the resize, and one that is not
    square is both sides. Raises UsageError for a value that cannot be used.
    """
    crop = _crop(config.size)
    mean, std = _numbers("mean", config.mean), _numbers("std", config.std)
    if mean and std and len(mean) != len(std):
        raise UsageError(
            f"Options 'mean' and 'std' have {len(mean)} and {len(std)} values; give one a channel."
        )
    return Hints(
        labels=_known(read_labels(Path(config.labels)) if config.labels else None, "option"),
        head=_known(None if config.head == "auto" else str(config.head), "option"),
        resize=_known(_resize(config.resize, crop), "option"),
        crop=_known(crop, "option"),
        interpolation=_known(config.interpolation and str(config.interpolation), "option"),
        mean=_known(mean, "option"),
        std=_known(std, "option"),
        channel_order=_known(config.channel_order and str(config.channel_order), "option"),
    )


def sidecar_hints(source: str | os.PathLike[str] | nn.Module) -> Hints:
    """Return what ``NAME.toml``, or else ``model.toml``, says beside the model file NAME.pt.

    Of a model in a folder, that is ``model.toml`` in it. Nothing where there is no such file, or
    the model has no place on disk. Raises UsageError for a description that cannot be used.
    """
    if isinstance(source, nn.Module):
        return Hints()
    file = next((place for place in _places(os.fspath(source)) if place.is_file()), None)
    return _read(file) if file else Hints()


def _places(source: str) -> tuple[Path, ...]:
    path = local_path(source) if is_hub_name(source) else Path(source)
    if is_model_folder(path):
        return (path / _NAME,)
    return (path.with_suffix(".toml"), path.with_name(_NAME)) if path.is_file() else ()


def embedded_hints(text: str, origin: str) -> Hints:
    """Return what ``reportgen.json`` says inside a model file; nothing for an empty ``text``.

    Raises ModelError for a description that cannot be used, or that names a file of labels.
    """
    if not text.strip():
        return Hints()
    try:
        description = Description.model_validate(json.loads(text))
    except ValueError as error:
        raise ModelError(_unusable(f"reportgen.json in '{origin}'", error)) from None
    if isinstance(description.labels, str):
        raise ModelError(f"reportgen.json in '{origin}' must list its labels, not name a file.")
    return _hints(description, description.labels, "file")


def _read(file: Path) -> Hints:
    try:
        description = Description.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"Cannot read '{file}': {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(_unusable(f"'{file}'", error)) from None
    labels = description.labels
    return _hints(
        description,
        _labels_beside(file, labels) if isinstance(labels, str) else labels,
        "model.toml",
    )


def _labels_beside(file: Path, name: str) -> tuple[str, ...]:
    path = file.parent / name
    if not path.resolve().is_relative_to(file.parent.resolve()):
        raise UsageError(f"'{file}' names labels outside its own folder; put '{name}' beside it.")
    return read_labels(path)


def _hints(description: Description, labels: tuple[str, ...] | None, source: Source) -> Hints:
    part = description.preprocessing

    def known(entry: Entry, value: T | None) -> Known[T] | None:
        return _known(value, description.sources.get(entry, source))

    return Hints(
        labels=known("labels", labels),
        head=known("head", description.head),
        temperature=known("temperature", description.temperature),
        channels=known("channels", part.channels),
        resize=known("resize", part.resize),
        crop=known("crop", part.crop),
        interpolation=known("interpolation", part.interpolation),
        mean=known("mean", part.mean),
        std=known("std", part.std),
        channel_order=known("channel_order", part.channel_order),
        numbers=known("numbers", part.numbers),
        transform_input=known("transform_input", description.transform_input),
    )


def _known(value: T | None, source: Source) -> Known[T] | None:
    return None if value is None else Known(value, source)


def _unusable(what: str, error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return f"{what} cannot be read: {error}."
    first: Any = error.errors()[0]
    entry = ".".join(str(part) for part in first["loc"]) or "the whole"
    return f"{what} cannot be used: '{entry}' is {str(first['input'])[:60]!r}; {first['msg']}."


def _crop(size: str) -> tuple[int, int] | None:
    if not size:
        return None
    sides = _SIZE.fullmatch(size.strip())
    if sides is None:
        raise UsageError(
            f"Option 'size' cannot be '{size}'; expected 224, or 224x320 (height x width)."
        )
    height = int(sides.group(1))
    return height, int(sides.group(2) or height)


def _resize(resize: int | None, crop: tuple[int, int] | None) -> int | tuple[int, int] | None:
    if crop is None:
        return resize
    if resize is None:
        return crop[0] if crop[0] == crop[1] else crop
    if resize < min(crop):
        raise UsageError(
            f"Option 'resize' is {resize}, less than the size {crop[0]}x{crop[1]} to cut out; give "
            f"at least {min(crop)}."
        )
    return resize


def _numbers(name: str, text: str) -> tuple[float, ...] | None:
    if not text:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    lowest = math.ulp(0.0) if name == "std" else 0.0
    if not values or not all(lowest <= value <= 1 for value in values):
        raise UsageError(
            f"Option '{name}' cannot be '{text}'; expected a number for each channel, separated by "
            f"commas, {'above 0 and up to 1' if name == 'std' else 'from 0 to 1'} (of pixels in "
            "[0, 1])."
        )
    return values
