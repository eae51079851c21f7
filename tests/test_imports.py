"""What is imported when: nothing heavy before the options are read, no library before its use."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "reportgen"
# What a wrong command line is refused without.
HEAVY = {
    "captum", "cv2", "lime", "matplotlib", "numpy", "pandas", "pytorch_grad_cam", "scipy", "shap",
    "skimage", "sklearn", "torch", "torchvision", "weasyprint",
}  # fmt: skip
# What a report may do without: libraries of single methods, metrics, models and formats.
LATE = {
    "captum", "cv2", "lime", "matplotlib", "numba", "pandas", "pytorch_grad_cam", "scipy.stats",
    "shap", "sklearn", "sympy", "torch._dynamo", "torchvision", "weasyprint",
}  # fmt: skip
REFUSED = {
    "no such model": (["explain", "nowhere.pt", "x.png"], 3),
    "no such picture": (["explain", "model.pt", "nowhere.png"], 4),
    "an impossible value": (["explain", "model.pt", "x.png", "--ig-steps=-1"], 2),
    "an unknown value": (["explain", "model.pt", "x.png", "--profile=slow"], 2),
    "no picture": (["explain", "model.pt"], 2),
    "an unknown option": (["explain", "model.pt", "x.png", "--nothing"], 2),
    "an unknown command": (["explian"], 2),
}


def imported_by(folder: Path, *arguments: str, code: int = 0) -> set[str]:
    """Run Python in ``folder``, where it looks first for packages; return what it imported."""
    outcome = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == code, outcome.stderr[-1000:]
    return set(re.findall(r"^import time:.*\| +(\S+)$", outcome.stderr, re.M))


def planted(folder: Path, file: str, names: set[str]) -> Path:
    """Return ``folder`` with a copy of the package whose ``file`` imports ``names``, all empty."""
    shutil.copytree(PACKAGE, folder / "reportgen")
    victim = folder / "reportgen" / file
    first = "from __future__ import annotations\n"
    source = victim.read_text("utf-8")
    assert first in source
    imports = "".join(f"import {name}\n" for name in sorted(names))
    victim.write_text(source.replace(first, first + imports, 1), "utf-8")
    for name in names:
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.pt").touch()
    return tmp_path


@pytest.mark.parametrize(("arguments", "code"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_command_line_is_refused_without_heavy_imports(
    arguments: list[str], code: int, folder: Path
) -> None:
    imported = imported_by(folder, "-m", "reportgen", *arguments, code=code)
    assert "reportgen.cli" in imported
    assert imported & HEAVY == set()


@pytest.mark.parametrize("arguments", [["--help"], ["explain", "--help"], []], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str], folder: Path) -> None:
    code = 0 if arguments else 2
    imported = imported_by(folder, "-m", "reportgen", *arguments, code=code)
    assert imported & HEAVY == set()


@pytest.mark.parametrize("file", ["__init__.py", "cli.py", "config.py", "errors.py"])
def test_a_heavy_import_is_seen(file: str, folder: Path) -> None:
    names = {"torch", "numpy", "matplotlib"}
    arguments, code = REFUSED["no such model"]
    imported = imported_by(planted(folder, file, names), "-m", "reportgen", *arguments, code=code)
    assert imported & HEAVY == names


def test_the_pipeline_imports_no_library_of_a_single_step(folder: Path) -> None:
    code = "import reportgen.pipeline, reportgen.classifier.loading, reportgen.surveys.survey"
    imported = imported_by(folder, "-c", code)
    assert {"reportgen.attribution.lime", "reportgen.metrics.localisation"} < imported
    assert {"reportgen.classifier.exported", "reportgen.surveys.statistics"} < imported
    assert imported & LATE == set()


def test_a_library_imported_early_is_seen(folder: Path) -> None:
    names = {"captum", "lime", "matplotlib", "shap", "weasyprint"}
    where = planted(folder, "attribution/lime.py", names)
    assert imported_by(where, "-c", "import reportgen.pipeline") & LATE == names


def test_scipys_statistics_and_the_compiler_are_seen(folder: Path) -> None:
    code = "import reportgen.pipeline, scipy.stats, torch.export.pt2_archive"
    assert imported_by(folder, "-c", code) & LATE == {"scipy.stats", "sympy", "torch._dynamo"}
