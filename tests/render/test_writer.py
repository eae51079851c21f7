"""Writing a report: whole or not at all, whatever goes wrong on the way."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from html_page import Drawn

from reportgen.errors import OutputError, UsageError
from reportgen.render import pdf, writer
from reportgen.render.html import to_html
from reportgen.render.reader import read_report
from reportgen.render.staging import publish
from reportgen.render.writer import check_directory, render_files, write_report

Snapshot = dict[str, bytes | None]


def snapshot(folder: Path) -> Snapshot:
    """Return everything below ``folder``: the content of files, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def write(drawn: Drawn, directory: Path, *formats: str) -> tuple[Path, ...]:
    return write_report(drawn.report, drawn.arrays, directory, formats or ("json", "html"))


def test_all_files_are_written_the_manifest_last(small: Drawn, tmp_path: Path) -> None:
    written = write_report(small.report, small.arrays, tmp_path / "a" / "b")
    names = [path.name for path in written]
    assert names == [
        "report.json", "maps.npz", "table.csv", "report.html", "report.pdf", "manifest.json",
    ]  # fmt: skip
    assert set(snapshot(tmp_path)) == {"a", "a/b", *(f"a/b/{name}" for name in names)}
    assert (tmp_path / "a/b/report.html").read_text("utf-8") == small.html
    assert (tmp_path / "a/b/report.pdf").read_bytes().startswith(b"%PDF-1.7")


def test_the_manifest_describes_every_other_file(small: Drawn, tmp_path: Path) -> None:
    *files, last = write(small, tmp_path / "report")
    manifest = json.loads(last.read_text("utf-8"))
    assert manifest["schema_version"] == "1.4"
    assert manifest["files"] == {
        path.name: {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }
        for path in files
    }


def test_the_json_is_sorted_readable_and_ends_with_a_newline(small: Drawn, tmp_path: Path) -> None:
    text = write(small, tmp_path / "report")[0].read_text("utf-8")
    data = json.loads(text)
    assert text == json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert list(data)[:3] == ["attributions", "facts", "findings"]


def test_the_same_report_gives_the_same_files(small: Drawn, tmp_path: Path) -> None:
    for name in ("one", "other"):
        write(small, tmp_path / name)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "other")


def test_a_new_folder_can_be_read_by_others(small: Drawn, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    write(small, tmp_path / "report")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "report")}
    assert len(modes) == 1


def test_other_files_stay_and_pages_of_the_old_report_go(small: Drawn, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", "utf-8")
    for name in ("report.pdf", "report.html", "maps.npz"):
        (tmp_path / name).write_bytes(b"old")
    write(small, tmp_path, "json")
    assert set(snapshot(tmp_path)) == {"notes.txt", "report.json", "maps.npz", "manifest.json"}
    assert (tmp_path / "notes.txt").read_text("utf-8") == "mine"
    assert (tmp_path / "maps.npz").read_bytes() != b"old"


def failing(error: BaseException, after: int, real: Callable[..., object]) -> Callable[..., object]:
    """Return ``real``, which raises ``error`` instead at the call number ``after``."""
    calls = iter(range(after, -1, -1))

    def call(*arguments: object, **options: object) -> object:
        if next(calls, -1) == 0:
            raise error
        return real(*arguments, **options)

    return call


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
STEPS = [
    *[(os, "fsync", after) for after in range(4)],
    *[(Path, "replace", after) for after in range(4)],
    (Path, "unlink", 0),
    (Path, "mkdir", 0),
]


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt(), MemoryError()], ids=type)
@pytest.mark.parametrize(("owner", "name", "after"), STEPS)
def test_a_failure_leaves_the_old_report(
    small: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    error: BaseException, owner: object, name: str, after: int,
) -> None:  # fmt: skip
    files = {
        "report.json": b"new",
        "maps.npz": b"new",
        "report.html": b"new",
        "manifest.json": b"n",
    }
    old = {"report.json": b"old", "maps.npz": b"old", "report.pdf": b"old", "notes.txt": b"mine"}
    publish(tmp_path / "report", old)
    before = snapshot(tmp_path)
    monkeypatch.setattr(owner, name, failing(error, after, getattr(owner, name)))
    with pytest.raises(type(error)):
        publish(tmp_path / "report", files, ["report.pdf"])
    monkeypatch.undo()
    assert snapshot(tmp_path) == before
    publish(tmp_path / "report", files, ["report.pdf"])
    assert snapshot(tmp_path / "report") == {**files, "notes.txt": b"mine"}


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=type)
@pytest.mark.parametrize(
    ("owner", "name", "after"), [(os, "fsync", 0), (os, "fsync", 1), (Path, "rename", 0)]
)
def test_a_failure_leaves_no_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    error: BaseException, owner: object, name: str, after: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(owner, name, failing(error, after, getattr(owner, name)))
    with pytest.raises(type(error)):
        publish(tmp_path / "a" / "b" / "report", {"report.json": b"1", "manifest.json": b"2"})
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OutputError("no")], ids=type)
@pytest.mark.parametrize("step", ["to_html", "to_pdf"])
def test_a_failure_while_drawing_leaves_the_old_report(
    small: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, step: str
) -> None:
    write(small, tmp_path / "report")
    before = snapshot(tmp_path)
    module = {"to_html": "reportgen.render.html", "to_pdf": "reportgen.render.pdf"}[step]
    monkeypatch.setattr(f"{module}.{step}", failing(error, 0, to_html))
    with pytest.raises(type(error)):
        write(small, tmp_path / "report", "html", "pdf")
    assert snapshot(tmp_path) == before


def test_a_snapshot_sees_a_difference(tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    (tmp_path / "x").write_bytes(b"")
    assert snapshot(tmp_path) != before


def test_a_full_disk_is_one_sentence(
    small: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing(FULL, 0, os.fsync))
    with pytest.raises(OutputError) as caught:
        write(small, tmp_path / "report")
    assert str(caught.value) == (
        f"The report cannot be written to '{tmp_path / 'report'}' (No space left on device); name "
        "a directory that can be written and has room."
    )
    assert snapshot(tmp_path) == {}


def test_a_file_in_the_way_is_refused_before_anything_is_drawn(
    small: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report").write_bytes(b"mine")
    monkeypatch.setattr("reportgen.render.html.to_html", failing(AssertionError(), 0, to_html))
    with pytest.raises(
        OutputError, match=r"^Expected a directory for the report, but '.*' is a file"
    ):
        write(small, tmp_path / "report")
    assert snapshot(tmp_path) == {"report": b"mine"}


def test_a_place_below_a_file_is_refused(small: Drawn, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"^The report cannot be written to .*; name a directory"):
        write(small, tmp_path / "file" / "report")


def test_a_folder_under_the_name_of_a_file_is_refused(small: Drawn, tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputError, match=r"^The report cannot be written to"):
        write(small, tmp_path)
    assert snapshot(tmp_path) == {"report.html": None}


def test_a_place_where_nobody_may_look_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    monkeypatch.setattr(Path, "exists", failing(denied, 0, Path.exists))
    with pytest.raises(OutputError, match=r"\(Permission denied\)"):
        check_directory(tmp_path)


def test_an_unknown_format_lists_the_known_ones(small: Drawn, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^Unknown format 'docx'; the known ones are: json, csv, html, pdf"
    ):
        write(small, tmp_path / "report", "docx")
    assert snapshot(tmp_path) == {}


def test_nan_is_refused(small: Drawn, tmp_path: Path) -> None:
    fact = small.report.facts[0].model_copy(update={"value": float("nan")})
    report = small.report.model_copy(update={"facts": (fact,)})
    with pytest.raises(OutputError, match=r"^Expected finite numbers and Unicode text"):
        write_report(report, small.arrays, tmp_path / "report", ["json"])
    assert snapshot(tmp_path) == {}


def test_an_array_of_objects_is_refused(small: Drawn, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^Expected numbers in the array 'x'"):
        write_report(small.report, {"x": np.array([{}])}, tmp_path / "report", ["json"])
    assert snapshot(tmp_path) == {}


def no_pdf() -> str:
    return "No Pango here."


def test_without_pango_the_other_files_are_written(
    small: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "pdf_obstacle", no_pdf)
    names = [path.name for path in write(small, tmp_path / "report", "html", "pdf")]
    assert names == ["report.json", "maps.npz", "report.html", "manifest.json"]
    with pytest.raises(OutputError, match=r"^No Pango here\.$"):
        write_report(small.report, small.arrays, tmp_path / "other", ["pdf"], require_pdf=True)
    assert not (tmp_path / "other").exists()


def test_a_page_is_drawn_again_from_the_files(small: Drawn, tmp_path: Path) -> None:
    write(small, tmp_path / "report", "json")
    (tmp_path / "report" / "report.pdf").write_bytes(b"kept")
    before = snapshot(tmp_path)
    written = render_files(tmp_path / "report" / "report.json", ["html"])
    assert [path.name for path in written] == ["report.html", "manifest.json"]
    after = snapshot(tmp_path)
    assert after["report/report.html"] == small.html.encode()
    assert {n for n in after if after[n] != before.get(n)} == {
        "report/report.html", "report/manifest.json",
    }  # fmt: skip
    listed = json.loads(written[-1].read_text("utf-8"))["files"]
    assert set(listed) == {"report.json", "maps.npz", "report.html"}
    assert read_report(tmp_path / "report" / "report.json")[0] == small.report


def test_a_page_drawn_beside_a_report_without_a_manifest_makes_one(
    small: Drawn, tmp_path: Path
) -> None:
    write(small, tmp_path, "json")
    whole = (tmp_path / "manifest.json").read_bytes()
    (tmp_path / "manifest.json").unlink()
    render_files(tmp_path / "report.json", ["json"])
    assert (tmp_path / "manifest.json").read_bytes() == whole


def test_a_changed_report_is_not_drawn(small: Drawn, tmp_path: Path) -> None:
    write(small, tmp_path, "json")
    (tmp_path / "report.json").write_bytes(b"{}")
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="has changed since"):
        render_files(tmp_path / "report.json")
    assert snapshot(tmp_path) == before


def test_names_of_files_are_listed_once() -> None:
    assert set(writer.PAGES) < set(writer.FORMATS)
    assert len(set(writer.OWN)) == 5
