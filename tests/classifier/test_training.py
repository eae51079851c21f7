"""What checkpoints say of themselves is read as plain values, and nothing else is."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import pytest
import torch

from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.training import Training, training_of

MEAN, STD = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)


def hints(content: Any, metadata: dict[str, str] | None = None) -> Hints:
    return training_of(content, metadata or {}).hints


def test_a_file_that_says_nothing_gives_nothing() -> None:
    for content in ({}, [1], torch.ones(2), {"state_dict": {}, "args": 3, "config": "x = 1"}):
        assert training_of(content, {}) == Training()


def test_the_arguments_of_timm_are_read() -> None:
    args = Namespace(
        model="resnet50.a1_in1k", img_size=None, input_size=(3, 160, 192), crop_pct=0.8
    )
    args.mean, args.std, args.interpolation = [0.5], (0.25,), "bicubic"
    found = training_of({"arch": "resnet50", "args": args, "state_dict": {}}, {})
    assert found.architecture == "resnet50"
    assert found.hints == Hints(
        resize=Known(200, "file"),
        crop=Known((160, 192), "file"),
        interpolation=Known("bicubic", "file"),
        mean=Known((0.5,), "file"),
        std=Known((0.25,), "file"),
    )
    assert training_of({"args": args}, {}).architecture == "resnet50.a1_in1k"


def test_the_arguments_of_torchvisions_references_are_read() -> None:
    args = Namespace(model="resnet18", val_crop_size=224, val_resize_size=232, train_crop_size=176)
    found = training_of({"model": {"fc.weight": torch.ones(2, 2)}, "args": args}, {})
    assert found.architecture == "resnet18"
    assert found.hints == Hints(crop=Known((224, 224), "file"), resize=Known(232, "file"))


@pytest.mark.parametrize(
    "place", ["hyper_parameters", "hparams", "config", "cfg", "opt", "meta", "args"]
)
def test_options_are_found_in_the_usual_places(place: str) -> None:
    found = training_of({place: {"model_name": "timm/levit_128s", "image_size": 96}}, {})
    assert (found.architecture, found.hints.crop) == ("levit_128s", Known((96, 96), "file"))


def test_nested_options_are_found_and_the_outer_ones_come_first() -> None:
    content = {"hyper_parameters": {"config": {"arch": "inner", "img_size": 64}, "arch": "outer"}}
    found = training_of(content, {})
    assert (found.architecture, found.hints.crop) == ("outer", Known((64, 64), "file"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", ["cat", " dog "]),
        ("class_names", ("cat", "dog")),
        ("class_to_idx", {"dog": 1, "cat": 0}),
        ("idx_to_class", {1: "dog", 0: "cat"}),
        ("id2label", {"0": "cat", "1": "dog"}),
        ("CLASSES", ("cat", "dog")),
    ],
)
@pytest.mark.parametrize("place", ["", "meta"])
def test_labels_are_read_in_every_form(name: str, value: object, place: str) -> None:
    content = {place: {name: value}} if place else {name: value}
    assert hints(content).labels == Known(("cat", "dog"), "file")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", 10),
        ("classes", []),
        ("classes", ["cat", 3]),
        ("classes", ["cat", ""]),
        ("class_to_idx", {"cat": 0, "dog": 2}),
        ("img_size", 0),
        ("img_size", True),
        ("img_size", "224"),
        ("img_size", 10**9),
        ("input_size", (3, None, 224)),
        ("crop_pct", 0.9),
        ("interpolation", "random"),
        ("mean", MEAN),
        ("std", STD),
        ("arch", {"type": "ResNet"}),
        ("resize", "yes"),
    ],
)
def test_what_is_of_another_form_is_passed_over(name: str, value: object) -> None:
    assert training_of({name: value}, {}) == Training()


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        (MEAN, STD, (MEAN, STD)),
        (torch.tensor([0.5]), torch.tensor([[[0.25]]]), ((0.5,), (0.25,))),
        ([102, 127.5, 153], [51, 51, 51], ((0.4, 0.5, 0.6), (0.2, 0.2, 0.2))),
        ([0, 0, 0], [255, 255, 255], ((0, 0, 0), (1, 1, 1))),
        (MEAN, (0.0, 0.1, 0.1), None),
        (MEAN, (0.1, 0.1), None),
        ([float("nan")], [1.0], None),
        ([300.0], [1.0], None),
        (["a"], ["b"], None),
    ],
)
def test_mean_and_deviation_are_of_pixels_in_0_to_1(mean: Any, std: Any, expected: Any) -> None:
    found = hints({"mean": mean, "std": std})
    if expected is None:
        assert (found.mean, found.std) == (None, None)
    else:
        assert found.mean == Known(expected[0], "file")
        assert found.std == Known(expected[1], "file")


def test_the_metadata_of_safetensors_is_read() -> None:
    said = {"format": "pt", "arch": "resnet18", "classes": '["cat", "dog"]', "mean": "[broken"}
    found = training_of({}, said)
    assert found.architecture == "resnet18"
    assert found.hints == Hints(labels=Known(("cat", "dog"), "file"))
