"""Classifiers of Ultralytics are shown pictures as they were in training, by what their files say.

The files here are made as its exporter makes them; the network inside is a small one.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toys import CLASSES, InPlaceRelu, seeded, traced

from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import Hints
from reportgen.classifier.ultralytics import exported_hints
from reportgen.errors import ModelError

SHAPE = (3, 64, 64)
LABELS = tuple(f"thing {index}" for index in range(CLASSES))
NAMES = dict(enumerate(LABELS))
ENTRIES: dict[str, Any] = {
    "author": "Ultralytics",
    "task": "classify",
    "imgsz": [64, 64],
    "names": {str(index): label for index, label in NAMES.items()},
    "channels": 3,
}


def script(folder: Path, description: str) -> Path:
    path = folder / "best"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        network = traced(seeded(InPlaceRelu), SHAPE)
        torch.jit.save(network, path, _extra_files={"config.txt": description})
    return path


def described(folder: Path, **entries: Any) -> Path:
    return script(folder, json.dumps({**ENTRIES, **entries}))


def graph(folder: Path, **entries: Any) -> Path:
    onnx_toys = pytest.importorskip("onnx_toys")
    texts = {key: str(value) for key, value in {**ENTRIES, "names": NAMES, **entries}.items()}
    form = onnx_toys.Form(sides=SHAPE[1:], metadata=tuple(texts.items()))
    path: Path = onnx_toys.written(folder, form)
    return path


def module(**attributes: Any) -> nn.Module:
    kind = type("ClassificationModel", (InPlaceRelu,), {"__module__": "ultralytics.nn.tasks"})
    network: nn.Module = seeded(kind)
    given = {"task": "classify", "names": NAMES, "args": {"imgsz": 64}, "yaml": {"channels": 3}}
    vars(network).update({**given, **attributes})
    return network


def values(hints: Hints) -> dict[str, Any]:
    known = {name: getattr(hints, name) for name in hints.__dataclass_fields__}
    return {name: each.value for name, each in known.items() if each is not None}


TRAINED_WITH = {
    "labels": LABELS,
    "channels": 3,
    "resize": 64,
    "crop": (64, 64),
    "interpolation": "bilinear",
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
    "channel_order": "rgb",
}


def test_a_torchscript_export_says_how_it_was_trained(tmp_path: Path) -> None:
    opened = open_model(described(tmp_path))
    assert values(opened.hints) == TRAINED_WITH
    assert opened.hints.mean is not None
    assert opened.hints.mean.source == "file"


def test_an_onnx_export_says_how_it_was_trained(tmp_path: Path) -> None:
    assert values(open_model(graph(tmp_path)).hints) == TRAINED_WITH


def test_its_own_network_says_how_it_was_trained() -> None:
    opened = open_model(module())
    assert values(opened.hints) == TRAINED_WITH
    assert opened.hints.labels is not None
    assert opened.hints.labels.source == "argument"


def test_another_task_is_refused(tmp_path: Path) -> None:
    told = "of Ultralytics for the task 'detect', not a classifier"
    for make in (described, graph):
        path = make(tmp_path, task="detect")
        with pytest.raises(ModelError, match=f"'{path}' holds a network {told}"):
            open_model(path)
    with pytest.raises(ModelError, match=told):
        open_model(module(task="detect"))


def test_what_another_wrote_says_nothing(tmp_path: Path) -> None:
    opened = open_model(described(tmp_path, author="somebody"))
    assert values(opened.hints) == {"channels": 3}


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "author: Ultralytics"])
def test_a_description_of_another_form_says_nothing(tmp_path: Path, text: str) -> None:
    assert values(open_model(script(tmp_path, text)).hints) == {"channels": 3}


def test_a_side_that_is_no_square_is_resized_to_as_it_is() -> None:
    found = values(exported_hints({**ENTRIES, "imgsz": [48, 64]}, "best"))
    assert (found["resize"], found["crop"]) == ((48, 64), (48, 64))


@pytest.mark.parametrize(
    ("entries", "lost"),
    [
        ({"imgsz": "large"}, {"crop", "resize"}),
        ({"imgsz": [0, 64]}, {"crop", "resize"}),
        ({"names": "many"}, {"labels"}),
        ({"names": {"1": "a", "2": "b"}}, {"labels"}),
        ({"channels": 1}, {"channel_order"}),
    ],
)
def test_entries_of_another_form_are_passed_over(entries: dict[str, Any], lost: set[str]) -> None:
    found = values(exported_hints({**ENTRIES, **entries}, "best"))
    assert set(TRAINED_WITH) - {"channels"} - set(found) == lost
    assert len(found["mean"]) == entries.get("channels", 3)
