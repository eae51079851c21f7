"""What is known of a classifier that Ultralytics trained, by what its files say of themselves.

Its exports carry their task, labels and input size; so does the network in its checkpoints. Since
YOLOv8 its classifiers take pixels in [0, 1] as they are (``ultralytics.data.augment``), which no
file says, and which nothing else would tell from pixels normalised as for ImageNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.training import labels_in, side_in, sides_in
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
    channels = side_in(entries.get("channels")) or _COLOUR
    labels, crop = labels_in(entries.get("names")), sides_in(entries.get("imgsz"))
    # Of a square the short side, so that the picture keeps its shape.
    resize = crop and (crop[0] if crop[0] == crop[1] else crop)
    return Hints(
        labels=Known(labels, source) if labels else None,
        resize=Known(resize, source) if resize else None,
        crop=Known(crop, source) if crop else None,
        interpolation=Known("bilinear", source),
        mean=Known((0.0,) * channels, source),
        std=Known((1.0,) * channels, source),
        channel_order=Known("rgb", source) if channels == _COLOUR else None,
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
