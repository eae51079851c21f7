"""Reading a report back, and refusing what is not one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import Drawn

from reportgen.errors import OutputError
from reportgen.render.reader import read_report
from reportgen.render.writer import write_report


@pytest.fixture
def folder(small: Drawn, tmp_path: Path) -> Path:
    """Return a folder that holds a report without pages."""
    write_report(small.report, small.arrays, tmp_path / "report", ["json"])
    return tmp_path / "report"


def change(path: Path, **values: Any) -> None:
    data = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**data, **values}), "utf-8")


def test_a_report_comes_back_as_it_was(small: Drawn, folder: Path) -> None:
    report, arrays = read_report(folder / "report.json")
    assert report == small.report
    assert set(arrays) == set(small.arrays)
    for name, array in small.arrays.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_a_report_without_a_manifest_is_read_unchecked(small: Drawn, folder: Path) -> None:
    (folder / "manifest.json").unlink()
    change(folder / "report.json", findings=[])
    assert read_report(folder / "report.json")[0].findings == ()


@pytest.mark.parametrize("name", ["report.json", "maps.npz"])
def test_a_file_that_was_changed_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(
        OutputError, match=rf"^Expected '{name}' as it was written \(SHA-256 \w{{12}}…\)"
    ):
        read_report(folder / "report.json")


@pytest.mark.parametrize("name", ["report.json", "maps.npz"])
def test_a_file_that_is_missing_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(OutputError, match=rf"^Expected the file '{name}' in .*No such file"):
        read_report(folder / "report.json")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\xfe\x00", "but it is no JSON"),
        (b"{", "but it is no JSON"),
        (b"[1]", "schema version 1.0 or 1.1 or 1.2 or 1.3 or 1.4 in 'report.json', but found None"),
        (b'{"schema_version": "0.9"}', "but found '0.9'; use the version of reportgen"),
        (b'{"schema_version": "1.0"}', "but 'model' is wrong: Field required"),
    ],
)
def test_what_is_no_report_is_refused(folder: Path, content: bytes, sentence: str) -> None:
    (folder / "manifest.json").unlink()
    (folder / "report.json").write_bytes(content)
    with pytest.raises(OutputError) as caught:
        read_report(folder / "report.json")
    assert sentence in str(caught.value)


def test_a_field_too_many_is_refused(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    change(folder / "report.json", surprise=1)
    with pytest.raises(OutputError, match=r"'surprise' is wrong: Extra inputs are not permitted"):
        read_report(folder / "report.json")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "but the file is wrong"),
        ('{"files": {"a": {"size": 1}}}', "'files.a.sha256' is wrong"),
    ],
)
def test_a_broken_manifest_is_refused(folder: Path, content: str, sentence: str) -> None:
    (folder / "manifest.json").write_text(content, "utf-8")
    with pytest.raises(OutputError, match=r"^Expected a manifest in 'manifest.json'") as caught:
        read_report(folder / "report.json")
    assert sentence in str(caught.value)


def test_a_folder_is_no_report(folder: Path) -> None:
    with pytest.raises(OutputError, match=r"name the report.json in a complete report\.$"):
        read_report(folder)
