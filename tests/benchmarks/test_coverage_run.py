"""Coverage counts what was explained, names what was not, and compares with the network itself."""

from __future__ import annotations

import importlib
from dataclasses import replace

import coverage_cases
import coverage_run
import pytest
import torch
from coverage_cases import Case
from coverage_run import Asked, Row
from coverage_table import table
from torch import nn

OPTIONS = {"profile": "quick", "methods": "gradcam", "metrics": "", "size": "32"}
DONE = Row("g", "net", "ONNX", "done", 3.2, methods=("gradcam",), layer="a|b", difference=1e-7)


class Toy(nn.Module):
    """Two convolutions and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, 2, 1)
        self.norm = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.fc(x.mean((2, 3)))


def toy() -> Case:
    return Case("toys", "toy", lambda: Toy().eval(), "TorchScript")


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BRIEF", "ALONE"):
        monkeypatch.setattr(coverage_run, name, OPTIONS)
    monkeypatch.setattr(coverage_run, "input_shape", lambda case, network: (3, 32, 32))


@pytest.mark.usefixtures("brief")
def test_a_format_is_compared_with_the_network_itself() -> None:
    rows = coverage_run.run(toy(), Asked(("exported program", "state dict"), OPTIONS))
    script, program, weights = rows
    for row in (script, program):
        assert row.stage == "done" and row.methods == ("gradcam",)
        assert row.difference is not None and row.difference < 1e-5
    assert script.rank is None and program.rank is not None and program.rank > 0.999
    assert weights.stage == "explaining" and "state dict" in weights.reason


@pytest.mark.usefixtures("brief")
def test_another_network_is_seen_to_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = coverage_cases.save

    def other(case: Case, network: nn.Module, *rest: object) -> object:
        network.get_submodule("conv").weight.data.neg_()
        try:
            return saved(case, network, *rest)  # type: ignore[arg-type]
        finally:
            network.get_submodule("conv").weight.data.neg_()

    monkeypatch.setattr(coverage_run, "save", other)
    (row,) = coverage_run.run(toy(), Asked(options=OPTIONS))
    assert row.difference is not None and row.difference > 1e-5


def test_the_table_counts_what_was_saved_and_explained() -> None:
    rows = [
        DONE,
        replace(DONE, name="b", methods=(), difference=1e-3, rank=0.5),
        replace(DONE, name="c", stage="explaining", reason="no such thing"),
        replace(DONE, name="d", stage="saving", reason="cannot be exported"),
    ]
    text = table(rows, "a machine")
    assert "| g | ONNX | 3 | 2 | 66.7% | 1 | 1 of 2 | 0 of 1 |" in text
    assert "- 1 x no such thing" in text
    assert "a/b" in text and "not made (saving): cannot be exported" in text


def test_the_script_does_not_pass_for_the_package_of_its_name() -> None:
    # numba imports that package where there is one, and uses it.
    with pytest.raises(ImportError, match="script"):
        importlib.import_module("coverage")
