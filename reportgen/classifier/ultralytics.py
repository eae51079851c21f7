"""What is known of a classifier that Ultralytics trained, by what its files say of themselves.

Its exports carry their task, labels and input size; so does the network in its checkpoints. Since
YOLOv8 its classifiers take pixels in [0, 1] as they are (``ultralytics.data.augment``), which no
file says, and which nothing else would tell from pixels normalised as for ImageNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from reportgen.classifier.labels import ordered_labels
from reportgen.classifier.metadata import Hints, Known
from reportgen.errors import ModelError
from reportgen.records import Source

_AUTHOR = "Ultralytics"
_TASK = "classify"
_COLOUR = 3


def exported_hints(entries: Mapping[str, Any], name: str, source: Source = "file") -> Hints:
    """Return what the ``entries`` of a file called ``name`` say, nothing where another wrote it.

    Raises ModelError for a network of another task, such as detection.
    """
    if entries.get("author") != _AUTHOR:
        return Hints()
    task = entries.get("task", _TASK)
    if task != _TASK:
        raise ModelError(
            f"'{name}' holds a network of Ultralytics for the task '{task}', not a classifier; "
            "expected one of its networks for the task 'classify' (such as yolo11n-cls)."
        )
    channels = _whole(entries.get("channels")) or _COLOUR
    return Hints(
        labels=_labels(entries.get("names"), source),
        interpolation=Known("bilinear", source),
        mean=Known((0.0,) * channels, source),
        std=Known((1.0,) * channels, source),
        channel_order=Known("rgb", source) if channels == _COLOUR else None,
        **_sizes(entries.get("imgsz"), source),
    )


def network_hints(network: nn.Module, name: str, source: Source) -> Hints:
    """Return the same of a ``network`` that was made by Ultralytics' own classes."""
    if not type(network).__module__.startswith("ultralytics."):
        return Hints()
    stated = {
        "author": _AUTHOR,
        "task": getattr(network, "task", _TASK),
        "names": getattr(network, "names", None),
        "imgsz": _entry(getattr(network, "args", None), "imgsz"),
        "channels": _entry(getattr(network, "yaml", None), "channels"),
    }
    return exported_hints(stated, name, source)


def _entry(options: object, name: str) -> object:
    return options.get(name) if isinstance(options, Mapping) else None


def _labels(names: object, source: Source) -> Known[tuple[str, ...]] | None:
    if isinstance(names, Mapping):
        names = ordered_labels({str(index): label for index, label in names.items()})
    if not isinstance(names, list | tuple) or not names:
        return None
    return Known(tuple(map(str, names)), source)


def _sizes(sides: object, source: Source) -> dict[str, Any]:
    """Return the input size, and the resize before it: of the short side for a square."""
    given = sides if isinstance(sides, list | tuple) else [sides, sides]
    known = [side for side in map(_whole, given) if side is not None]
    if len(known) != 2:
        return {}
    height, width = known
    resize = height if height == width else (height, width)
    return {"crop": Known((height, width), source), "resize": Known(resize, source)}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
