"""The wheel is complete: installed away from the checkout, it makes a real report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from reportgen.records import Report

ROOT = Path(__file__).parents[1]
DATA = ("templates", "prompts")

pytestmark = pytest.mark.slow


def run(*command: str | Path, folder: Path) -> str:
    """Run a program that must succeed; return what it printed. The checkout is not on its path."""
    outcome = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout
    return outcome.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of the checkout with the tools of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--wheel", "--no-isolation", "--outdir", folder)
    run(sys.executable, "-m", "build", *options, folder=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs folder of a new environment that holds the wheel.

    It sees the libraries of this environment, but not the ``.pth`` file that leads to the checkout:
    Python reads such files only in an environment's own folder. They are added after the wheel, so
    that pip takes no notice of the reportgen installed there.
    """
    home = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", home, folder=home)
    python = home / "bin" / "python"
    install = ("install", "--quiet", "--no-index", "--no-deps", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, folder=home)
    (libraries,) = home.glob("lib/python*/site-packages")
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (libraries / "libraries.pth").write_text("\n".join(sorted(here)), encoding="utf-8")
    return home / "bin"


def files_below(folder: Path, parent: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(parent).as_posix() for path in files}


def absent(names: Iterable[str], wheel: Path) -> set[str]:
    """Return the names that are not in the wheel's package."""
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    return {name for name in names if f"reportgen/{name}" not in held}


@pytest.mark.parametrize("folder", DATA)
def test_the_wheel_holds_every_data_file(folder: str, wheel: Path) -> None:
    expected = files_below(ROOT / folder, ROOT)
    assert expected
    assert absent(expected, wheel) == set()


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    expected = files_below(ROOT / "reportgen", ROOT / "reportgen")
    assert {"records.py", "py.typed"} <= expected
    assert absent(expected, wheel) == set()


def test_a_file_that_is_not_in_the_wheel_is_seen(wheel: Path) -> None:
    assert absent(["records.py", "templates/nowhere.html"], wheel) == {"templates/nowhere.html"}


def test_the_wheel_holds_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"reportgen"}


def test_the_installed_package_is_the_wheel(clean: Path, tmp_path: Path) -> None:
    program = "import reportgen; print(reportgen.__file__)"
    printed = run(clean / "python", "-c", program, folder=tmp_path)
    assert Path(printed.strip()).is_relative_to(clean.parent)


def test_the_installed_command_makes_a_report(clean: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "signs", tmp_path / "signs")
    picture = min((tmp_path / "signs" / "pictures").glob("*.png"))
    options = ["--profile", "quick", "-o", "report"]
    run(clean / "reportgen", "explain", "signs/signs.pt2", picture, *options, folder=tmp_path)
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"report.html", "report.pdf", "report.json", "manifest.json"} <= written
    assert (tmp_path / "report" / "report.pdf").read_bytes().startswith(b"%PDF-")
    report = Report.model_validate_json((tmp_path / "report" / "report.json").read_bytes())
    assert report.image.name == picture.name
    assert report.attributions
