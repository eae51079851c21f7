"""Two reports are compared number by number, and what is planted in one of them is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import devices
import live
import numpy as np
import pytest
import torch
from devices import Side, Values
from torch import nn
from toys import FunctionalRelu, pictures, seeded

from reportgen.config import Config
from reportgen.records import Skipped

ROOT = Path(__file__).parents[2]
SIGNS = ROOT / "examples" / "signs"
CONFIG = Config(
    device="cpu",
    size="16",
    methods="gradcam,rise",
    metrics="deletion,complexity",
    rise_masks=20,
    curve_steps=4,
)


def side(**changes: object) -> Side:
    """Return a toy's report with some options changed."""
    picture = pictures(1)[0].permute(1, 2, 0).numpy()
    config = CONFIG.model_copy(update=changes)
    return devices.side_of("toy", seeded(FunctionalRelu), picture, config)


@pytest.fixture(scope="module")
def toy() -> Side:
    return side()


def test_batches_change_nothing(toy: Side) -> None:
    found = devices.compare(toy, side(batch_size=3))
    assert found.beyond == 0
    assert [row.method for row in found.maps] == ["gradcam", "rise"]
    assert len(found.values) == len(toy.report.measurements) + 2
    worst = max(value.difference or 0.0 for value in found.values)
    assert worst < 1e-5


def test_another_seed_is_beyond(toy: Side) -> None:
    found = devices.compare(toy, side(seed=1))
    assert [row.method for row in found.maps if row.beyond] == ["rise"]
    assert any(value.beyond for value in found.values)
    text = "\n".join(devices.lines((toy, toy), found))
    assert f"{found.beyond} beyond what is allowed" in text
    assert "### Beyond" in text
    assert "| rise | seeded | **" in text


def shifted(found: Side) -> Side:
    return replace(found, maps={key: np.roll(m, 1) for key, m in found.maps.items()})


def scaled(found: Side) -> Side:
    """Return the side with one value further off than is allowed."""
    first, *others = found.report.measurements
    moved = first.model_copy(update={"value": 0.5 + 1.01 * (first.value or 0.0)})
    report = found.report.model_copy(update={"measurements": (moved, *others)})
    return replace(found, report=report)


def unmeasured(found: Side) -> Side:
    """Return the side without its last measurement."""
    fewer = found.report.measurements[:-1]
    return replace(found, report=found.report.model_copy(update={"measurements": fewer}))


def skipping(found: Side) -> Side:
    """Return the side with a step that was skipped there alone."""
    skip = Skipped(step="lime", reason="it has no colour")
    return replace(found, report=found.report.model_copy(update={"skipped": (skip,)}))


@pytest.mark.parametrize(
    ("plant", "count"), [(shifted, 2), (scaled, 1), (unmeasured, 1), (skipping, 1)]
)
def test_a_planted_error_is_beyond(toy: Side, plant: Callable[[Side], Side], count: int) -> None:
    assert devices.compare(toy, plant(toy)).beyond == count
    assert devices.compare(plant(toy), toy).beyond == count
    assert devices.compare(plant(toy), plant(toy)).beyond == 0


def test_what_one_side_skips_is_named(toy: Side) -> None:
    text = "\n".join(devices.lines((toy, toy), devices.compare(toy, skipping(toy))))
    assert "- toy: lime: it has no colour" in text


def test_the_measures_of_maps_can_fail() -> None:
    one = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    assert devices.ranks(one, 3 * one) == pytest.approx(1)
    assert devices.apart(one, 3 * one) == pytest.approx(2 / 3)
    assert devices.apart(one, one) == 0
    assert (devices.ranks(one, one.T) or 0) < 0.5
    assert devices.ranks(one, np.zeros_like(one)) is None
    assert devices.apart(np.zeros_like(one), np.zeros_like(one)) == 0
    assert devices.Maps("toy", "deterministic", None, 0.5).beyond


@pytest.mark.parametrize(
    ("first", "second", "beyond"),
    [
        (0.5, 0.5009, False),
        (0.5, 0.5011, True),
        (2000.0, 2001.0, False),
        (2000.0, 2003.0, True),
        (None, None, False),
        (None, 0.0, True),
        (0.0, None, True),
    ],
)
def test_values_are_held_to_what_is_asked(
    first: float | None, second: float | None, beyond: bool
) -> None:
    assert Values("deletion", "toy", first, second).beyond is beyond


def test_synchronisations_are_counted_by_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    stages = ["making ready"]
    with pytest.warns(UserWarning) as others, devices.synchronisations(stages) as waits:
        for stage, times in (("deletion", 2), ("rise", 1)):
            stages.append(stage)
            for _ in range(times):
                warnings.warn("called a synchronizing CUDA operation (here)", stacklevel=1)
        warnings.warn("another", stacklevel=1)
    assert waits == {"deletion": 2, "rise": 1}
    assert modes == ["warn", "default"]
    assert [str(other.message) for other in others] == ["another"]


def test_the_row_of_a_stage_says_how_often_the_host_waited(toy: Side) -> None:
    text = "\n".join(devices._wait_lines(replace(toy, waits={"making ready": 4, "rise": 3})))
    assert "| making ready | 0 | 0 | 4 |" in text
    assert "| rise | 20 | 0 | 3 |" in text
    assert "| **all** | | | 7 |" in text


def test_the_script_writes_text_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["devices.py"])
    text, data = tmp_path / "devices.md", tmp_path / "devices.json"
    signs = [str(SIGNS / "signs.pt2"), str(SIGNS / "pictures" / "stop.png")]
    few = ["--methods", "saliency,lime", "--metrics", "complexity"]
    both = ["--devices", "cpu,cpu", "--batch-size", "16,5"]
    devices.main([*signs, *few, *both, "--json", str(data), "--out", str(text)])
    found = json.loads(data.read_text())
    assert found["beyond"] == 0
    assert [row["method"] for row in found["maps"]] == ["lime", "saliency"]
    assert found["sides"][1] == {"title": "cpu in batches of 5", "device": "cpu", "waits": None}
    assert text.read_text() == capsys.readouterr().out.removesuffix("\n")
    assert "cpu in batches of 16 and cpu in batches of 5: all within" in text.read_text()


def test_a_live_network_tells_pictures_apart() -> None:
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 5)).eval()
    batch = pictures(8)
    before = network(batch).std(0).mean()
    live.wake(network, batch)
    scores = network(batch)
    assert not network[1].training
    torch.testing.assert_close(scores.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        scores.std(correction=0), torch.tensor(live.SPREAD), atol=0.1, rtol=0
    )
    assert before < live.SPREAD / 10


@pytest.mark.slow
def test_without_time_all_is_left_out_and_said_so(tmp_path: Path) -> None:
    given = {"BUDGET": "0", "DEVICE": "cpu", "PYTHON": sys.executable, "MODEL": "none.pth"}
    done = subprocess.run(
        [str(ROOT / "benchmarks" / "gpu.sh"), str(tmp_path / "out")],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    text = (tmp_path / "out" / "summary.md").read_text()
    assert done.returncode == 1, done.stderr
    for name in ("devices", "cost-float32", "libraries", "cost-bf16", "scaling"):
        assert f"| {name} | **left out: no time left** | 0 |" in text
    assert "Small counts" in text
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == {}
