"""Labels are read from every form in which people keep them, in the order of the classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reportgen.classifier.labels import read_labels
from reportgen.errors import UsageError


def labels(folder: Path, text: str) -> tuple[str, ...]:
    (folder / "labels").write_text(text, encoding="utf-8")
    return read_labels(folder / "labels")


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\nowl\n",
        "cat\r\n dog \r\nowl",
        "\ufeffcat\ndog\nowl\n\n",
        '["cat", "dog", "owl"]',
        '{"0": "cat", "1": "dog", "2": "owl"}',
        '{"2": "owl", "0": "cat", "1": "dog"}',
        '{"0": ["n01", "cat"], "1": ["n02", "dog"], "2": ["n03", "owl"]}',
        '{"owl": 2, "cat": 0, "dog": 1}',
    ],
)
def test_each_form_gives_the_same_labels(tmp_path: Path, text: str) -> None:
    assert labels(tmp_path, text) == ("cat", "dog", "owl")


def test_more_than_ten_indices_are_ordered_as_numbers(tmp_path: Path) -> None:
    names = [f"class {index}" for index in range(12)]
    shuffled = {str(index): names[index] for index in sorted(range(12), key=str)}
    assert labels(tmp_path, json.dumps(shuffled)) == tuple(names)


def test_a_label_may_stand_twice_and_in_any_script(tmp_path: Path) -> None:
    assert labels(tmp_path, "crane\ncrane\nKäfer\n猫\n") == ("crane", "crane", "Käfer", "猫")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty label"),
        ("cat\n\ndog", "an empty label"),
        ('["cat", " "]', "an empty label"),
        ('["cat", ', "not valid JSON"),
        ("[]", "expected a list of labels"),
        ("{}", "expected a list of labels"),
        ('["cat", 3]', "expected a list of labels"),
        ('[["n01", 3]]', "expected a list of labels"),
        ('{"0": "cat", "2": "owl"}', "every index from 0 on"),
        ('{"1": "cat", "2": "owl"}', "every index from 0 on"),
        ('{"cat": 0, "dog": 0}', "every index from 0 on"),
        ('{"cat": true, "dog": false}', "every index from 0 on"),
    ],
)
def test_labels_that_cannot_be_used_are_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        labels(tmp_path, text)


def test_missing_labels_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot read the labels '.*gone': No such file"):
        read_labels(tmp_path / "gone")


def test_labels_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not text in UTF-8"):
        read_labels(tmp_path / "labels")


@pytest.mark.parametrize("name", ["imagenet_classes.txt", "imagenet_class_index.json"])
def test_the_labels_of_imagenet_are_read(assets: Path, name: str) -> None:
    names = read_labels(assets / "labels" / name)
    assert len(names) == 1000
    assert names[1] == "goldfish"
