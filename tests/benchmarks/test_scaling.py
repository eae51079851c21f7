"""Growth is reckoned inside one run, and the script writes what a survey took."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scaling
import torch
from PIL import Image
from scaling import Sample, Watcher

SIGNS = Path(__file__).parents[2] / "examples" / "signs"


def samples(*pairs: tuple[int, int]) -> list[Sample]:
    return [Sample(pictures, float(pictures), host, None) for pictures, host in pairs]


def from_the_first(seen: Sequence[Sample]) -> float:
    """Return the growth with a mistake: what is made once, by the first picture, counts too."""
    return seen[-1].host / seen[0].host - 1


def test_growth_is_counted_from_the_tenth_picture_on() -> None:
    seen = samples((1, 500), (2, 700), (5, 790), (10, 800), (100, 808))
    assert scaling.growth(seen) == pytest.approx(0.01)
    assert from_the_first(seen) != pytest.approx(scaling.growth(seen))


def test_memory_that_shrinks_is_no_growth() -> None:
    assert scaling.growth(samples((10, 800), (1000, 780))) == pytest.approx(-0.025)


@pytest.mark.parametrize("seen", [samples((1, 5), (10, 8)), samples((1, 5), (5, 8))])
def test_a_short_run_shows_no_growth(seen: Sequence[Sample]) -> None:
    assert scaling.growth(seen) is None


def test_samples_are_taken_ever_more_rarely() -> None:
    marked = [number for number in range(1001) if scaling.is_marked(number)]
    assert marked == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]


def test_a_sample_holds_what_is_done_when_the_next_begins() -> None:
    begun: list[str] = []

    def memory() -> int:
        return 100 * len(begun)

    watcher = Watcher(torch.device("cpu"), clock=lambda: 2.0 * len(begun), memory=memory)
    for stage in ("1 of 3: a", "2 of 3: b", "3 of 3: c", "summary"):
        begun.append(stage)
        watcher(stage)
    assert watcher.moments == [2.0, 8.0]
    assert watcher.samples == [
        Sample(1, 2.0, 200, None),
        Sample(2, 4.0, 300, None),
        Sample(3, 6.0, 400, None),
    ]


@pytest.mark.parametrize("side", [8, 64])
def test_no_two_pictures_are_alike(tmp_path: Path, side: int) -> None:
    sources = [tmp_path / "a.png", tmp_path / "b.png"]
    noise = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    for path, pixels in zip(sources, noise, strict=True):
        Image.fromarray(pixels).save(path)
    (tmp_path / "cut").mkdir()
    cut = scaling.cut_pictures(sources, 100, tmp_path / "cut")
    found = [Image.open(path) for path in cut]
    assert {image.size for image in found} == {(side, side)}
    assert len({image.tobytes() for image in found}) == len(set(cut)) == 100


def test_sizes_are_those_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "images" / "0001-a").mkdir(parents=True)
    (tmp_path / "images" / "0001-a" / "report.json").write_bytes(b"12345")
    (tmp_path / "images" / "0001-a" / "maps.npz").write_bytes(b"123")
    (tmp_path / "report.json").write_bytes(b"12")
    assert scaling.sizes_of(tmp_path) == scaling.Sizes({"report.json": 2}, 8)


@pytest.mark.slow
def test_the_script_writes_text_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["scaling.py"])
    text, data = tmp_path / "scaling.md", tmp_path / "scaling.json"
    pictures = [str(SIGNS / "pictures" / name) for name in ("stop.png", "yield.png")]
    few = ["--counts", "2", "--methods", "saliency", "--metrics", "", "--formats", "json,csv"]
    files = ["--device", "cpu", "--json", str(data), "--out", str(text)]
    scaling.main([str(SIGNS / "signs.pt2"), *pictures, *few, *files])
    (run,) = json.loads(data.read_text())["runs"]
    assert [sample["pictures"] for sample in run["samples"]] == [1, 2]
    assert run["host_peak"] >= max(sample["host"] for sample in run["samples"]) > 0
    assert set(run["sizes"]["own"]) == {"report.json", "table.csv", "manifest.json"}
    assert run["pictures"] == run["samples"][-1]["seconds"]
    assert text.read_text() == capsys.readouterr().out.removesuffix("\n")
    assert "The run is too short to show growth" in text.read_text()
