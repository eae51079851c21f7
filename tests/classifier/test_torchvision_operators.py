"""torchvision can be imported after ensure_torchvision, which otherwise stays out of the way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import MappingProxyType

import pytest
import torch

from reportgen.classifier import torchvision_operators
from reportgen.classifier.torchvision_operators import ensure_torchvision

AFTER_A_FAILED_IMPORT = """
try:
    import torchvision
except RuntimeError as error:
    assert "torchvision::nms" in str(error), error
from reportgen.classifier.torchvision_operators import ensure_torchvision
ensure_torchvision()
ensure_torchvision()
from torchvision import models
assert models.squeezenet1_1(num_classes=3).num_classes == 3
"""


def test_torchvision_can_be_imported_even_after_it_failed() -> None:
    command = [sys.executable, "-c", AFTER_A_FAILED_IMPORT]
    root = Path(__file__).parents[2]
    outcome = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return where each declaration is counted, in a process that has not imported torchvision."""
    calls: list[str] = []
    monkeypatch.setattr(torchvision_operators, "_declared_operators", lambda: calls.append("x"))
    monkeypatch.setattr(torchvision_operators, "sys", FakeSys)
    monkeypatch.setattr(torch.ops, "torchvision", object())
    return calls


class FakeSys:
    modules: Mapping[str, object] = MappingProxyType({})


def found(origin: str | None) -> Callable[[str], ModuleSpec | None]:
    return lambda name: ModuleSpec(name, None, origin=origin) if origin else None


def package(folder: Path, library: bytes | None) -> str:
    if library is not None:
        (folder / "_C.so").write_bytes(library)
    return str(folder / "__init__.py")


@pytest.mark.parametrize("library", [None, b"no library"])
def test_operators_are_declared_where_the_compiled_part_does_not_load(
    library: bytes | None, declared: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_operators, "find_spec", found(package(tmp_path, library)))
    ensure_torchvision()
    assert declared == ["x"]


def test_a_healthy_torchvision_is_left_alone(
    declared: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    monkeypatch.setattr(torchvision_operators, "find_spec", found(package(tmp_path, b"")))
    ensure_torchvision()
    assert loaded == [str(tmp_path / "_C.so")]
    assert declared == []


def test_a_missing_torchvision_is_left_alone(
    declared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_operators, "find_spec", found(None))
    ensure_torchvision()
    assert declared == []


def test_an_imported_torchvision_is_left_alone(
    declared: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_operators, "find_spec", found(package(tmp_path, None)))
    monkeypatch.setattr(FakeSys, "modules", {"torchvision": object()})
    ensure_torchvision()
    assert declared == []


def test_operators_that_exist_are_left_alone(
    declared: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Operators:
        nms = object()

    monkeypatch.setattr(torchvision_operators, "find_spec", found(package(tmp_path, None)))
    monkeypatch.setattr(torch.ops, "torchvision", Operators)
    ensure_torchvision()
    assert declared == []
