"""What a checkpoint says of itself: the arguments of its training, kept beside the weights.

timm's train.py, torchvision's references, Lightning and many scripts keep their options. Those that
name the architecture, the labels and how pictures were prepared are read as plain values under the
names in common use. They are words of the file: nothing is imported or run because of them.
"""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from reportgen.classifier.labels import ordered_labels
from reportgen.classifier.metadata import Hints, Known

T = TypeVar("T")

_PLACES = (
    "args",
    "hyper_parameters",
    "hparams",
    "hyperparameters",
    "config",
    "cfg",
    "opt",
    "meta",
    "dataset_meta",
    "model_config",
    "preprocessing",
)
_ARCHITECTURE = ("arch", "architecture", "model_name", "model", "backbone", "model_arch", "net")
_LABELS = (
    "labels",
    "classes",
    "class_names",
    "label_names",
    "categories",
    "CLASSES",
    "class_to_idx",
    "idx_to_class",
    "label2id",
    "id2label",
    "idx_to_label",
)
_CROP = ("val_crop_size", "test_crop_size", "img_size", "image_size", "input_size", "crop_size")
_RESIZE = ("val_resize_size", "resize_size", "resize")
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
_DEPTH = 2
_LARGEST = 8192
_WHITE = 255


@dataclass(frozen=True)
class Training:
    """What was found; ``architecture`` is the file's own word for it, empty where it has none."""

    architecture: str = ""
    hints: Hints = field(default_factory=Hints)


def training_of(content: object, metadata: Mapping[str, str]) -> Training:
    """Return what stands beside the weights in the ``content`` of a file, or in its ``metadata``.

    What is not of the expected form is passed over; sizes are pixels, mean and std of [0, 1].
    """
    places = [*_places(content), {name: _unpacked(text) for name, text in metadata.items()}]
    crop, share = _first(places, _CROP, sides_in), _first(places, ("crop_pct",), _share)
    resize = _first(places, _RESIZE, side_in)
    if resize is None and crop is not None and share is not None:
        resize = math.floor(min(crop) / share)
    mean, std = _colours(_first(places, ("mean",), _numbers), _first(places, ("std",), _numbers))
    return Training(
        _first(places, _ARCHITECTURE, _word) or "",
        Hints(
            labels=_known(_first(places, _LABELS, labels_in)),
            resize=_known(resize),
            crop=_known(crop),
            interpolation=_known(_first(places, ("interpolation",), _interpolation)),
            mean=_known(mean),
            std=_known(std),
        ),
    )


def _places(content: object, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield the top of a checkpoint and what is kept under the usual names, the top first."""
    if isinstance(content, Namespace):
        content = vars(content)
    if not isinstance(content, Mapping):
        return
    yield content
    if depth < _DEPTH:
        for name in _PLACES:
            yield from _places(content.get(name), depth + 1)


def _first(
    places: Sequence[Mapping[str, Any]], names: Sequence[str], read: Callable[[Any], T | None]
) -> T | None:
    found = (read(place[name]) for place in places for name in names if name in place)
    return next((value for value in found if value is not None), None)


def _word(value: object) -> str | None:
    return value.strip().removeprefix("timm/") or None if isinstance(value, str) else None


def labels_in(value: object) -> tuple[str, ...] | None:
    """Return the labels in a list, or in an object by index; None for anything else."""
    if isinstance(value, Mapping):
        value = ordered_labels({str(k): v for k, v in value.items()})
    if not isinstance(value, list | tuple) or not value:
        return None
    names = tuple(name.strip() for name in value if isinstance(name, str))
    return names if len(names) == len(value) and all(names) else None


def side_in(value: object) -> int | None:
    """Return a whole number from 1 to 8192; None for anything else."""
    whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST
    return value if whole else None  # type: ignore[return-value]


def sides_in(value: object) -> tuple[int, int] | None:
    """Return (height, width) of a side, of both, or of (channels, height, width)."""
    given = list(value)[-2:] if isinstance(value, list | tuple) else [value, value]
    sides = [side for side in map(side_in, given) if side is not None]
    return (sides[0], sides[1]) if len(sides) == 2 else None


def _share(value: object) -> float | None:
    return value if isinstance(value, float | int) and 0 < value <= 1 else None


def _numbers(value: object) -> tuple[float, ...] | None:
    given = value.flatten().tolist() if isinstance(value, Tensor) else value
    if not isinstance(given, list | tuple) or not given:
        return None
    plain = all(isinstance(n, float | int) and math.isfinite(n) and n >= 0 for n in given)
    return tuple(float(number) for number in given) if plain else None


def _colours(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return both of pixels in [0, 1]; some scripts state them of pixels up to 255."""
    if mean is None or std is None or len(mean) != len(std) or min(std) == 0:
        return None, None
    white = _WHITE if max(*mean, *std) > 1 else 1
    scaled = tuple(n / white for n in mean), tuple(n / white for n in std)
    return scaled if max(*scaled[0], *scaled[1]) <= 1 else (None, None)


def _interpolation(value: object) -> str | None:
    return value if isinstance(value, str) and value in _INTERPOLATIONS else None


def _unpacked(text: str) -> Any:
    try:
        return json.loads(text) if text.startswith(("[", "{")) else text
    except ValueError:
        return text


def _known(value: T | None) -> Known[T] | None:
    return None if value is None else Known(value, "file")
