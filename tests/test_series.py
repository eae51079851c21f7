"""Many pictures and many models: what is written, what fails, and what is left behind."""

from __future__ import annotations

import csv
import gc
import hashlib
import json
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from factories import SmallNet
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import reportgen
from reportgen import provenance, series
from reportgen.errors import ImageError, ModelError, OutputError, UsageError
from reportgen.records import Report
from reportgen.render.reader import read_report
from reportgen.render.table import COLUMNS, FAILED
from reportgen.surveys.records import Survey

TINY: Mapping[str, Any] = {
    "profile": "quick",
    "size": "16",
    "methods": "gradcam,saliency",
    "metrics": "deletion,agreement",
    "curve_steps": 3,
    "control_draws": 1,
}
DATA = ("json", "csv")


@pytest.fixture(autouse=True)
def versions_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_version", cache(provenance._version))


def network(seed: int = 0) -> SmallNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SmallNet()


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)


def saved(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for seed, name in enumerate(names):
        Image.fromarray(picture(seed)).save(folder / name, "PNG")
    return [folder / name for name in names]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Return everything below ``folder``: the content of files, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def run(images: Any, out: Path, models: Any = None, **changed: Any) -> Survey:
    """Return the survey of small pictures with a small network, written as data alone."""
    options = {**TINY, **changed}
    return reportgen.survey(models or network(), images, out, options, DATA).survey


class TestFiles:
    def test_the_layout_of_one_model(self, tmp_path: Path) -> None:
        images = saved(tmp_path / "in", "b.png", "a.png")
        found = reportgen.survey(network(), images, tmp_path / "out", TINY, DATA)
        names = {path.relative_to(tmp_path / "out").as_posix() for path in found.files}
        assert names == {"report.json", "table.csv", "manifest.json"}
        assert [entry.folder for entry in found.survey.entries] == [
            "images/0001-b",
            "images/0002-a",
        ]
        inside = {path.name for path in (tmp_path / "out" / "images" / "0001-b").iterdir()}
        assert inside == {"report.json", "maps.npz", "manifest.json"}

    def test_several_models_have_folders_of_their_own(self, tmp_path: Path) -> None:
        found = run([picture(0)], tmp_path / "out", [network(0), network(1)])
        assert [entry.model for entry in found.entries] == ["SmallNet", "SmallNet (2)"]
        assert [entry.folder for entry in found.entries] == [
            "images/0001-image/SmallNet",
            "images/0001-image/SmallNet_2",
        ]
        assert all((tmp_path / "out" / e.folder / "report.json").exists() for e in found.entries)

    def test_a_folder_is_sorted_and_other_files_are_counted(self, tmp_path: Path) -> None:
        saved(tmp_path / "in", "b.png", "a.PNG", "c.jpg")
        (tmp_path / "in" / "notes.txt").write_text("mine")
        (tmp_path / "in" / "deeper").mkdir()
        found = run(tmp_path / "in", tmp_path / "out")
        assert [entry.image for entry in found.entries] == ["a.PNG", "b.png", "c.jpg"]
        assert found.passed_over == 1

    def test_the_record_is_what_was_written(self, tmp_path: Path) -> None:
        found = run([picture(0), picture(1)], tmp_path)
        text = (tmp_path / "report.json").read_text("utf-8")
        assert Survey.model_validate_json(text) == found
        data = json.loads(text)
        assert data["schema_version"] == "survey-1.1"
        assert text == json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def test_the_manifest_leads_to_every_file(self, tmp_path: Path) -> None:
        run([picture(0), picture(1)], tmp_path)
        listed = json.loads((tmp_path / "manifest.json").read_text())["files"]
        assert set(listed) == {
            "report.json", "table.csv",
            "images/0001-image/manifest.json", "images/0002-image/manifest.json",
        }  # fmt: skip
        for name, entry in listed.items():
            content = (tmp_path / name).read_bytes()
            assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}

    def test_a_report_is_the_one_that_explain_makes(self, tmp_path: Path) -> None:
        model = network()
        run([picture(0), picture(1)], tmp_path, model)
        written, arrays = read_report(tmp_path / "images" / "0001-image" / "report.json")
        alone = reportgen.explain(model, picture(0), TINY)
        same = {"run": written.run}
        assert written == Report.model_validate_json(
            alone.report.model_copy(update=same).model_dump_json()
        )
        assert arrays.keys() == alone.arrays.keys()
        assert all((arrays[name] == alone.arrays[name]).all() for name in arrays)

    def test_all_pictures_share_the_layer_of_the_first_and_say_so(self, tmp_path: Path) -> None:
        run([picture(0), picture(1)], tmp_path, network())
        first, second = (
            read_report(tmp_path / "images" / f"000{n}-image" / "report.json")[0] for n in (1, 2)
        )
        assert first.layer is not None and second.layer is not None
        assert not first.layer.shared
        assert second.layer == first.layer.model_copy(update={"shared": True})

    def test_the_same_survey_twice(self, tmp_path: Path) -> None:
        one, other = (run([picture(0), picture(1)], tmp_path / name) for name in "ab")
        assert one.model_copy(update={"run": other.run}) == other
        tables = [(tmp_path / name / "table.csv").read_bytes() for name in "ab"]
        assert tables[0] == tables[1]


class TestTable:
    def test_every_measurement_is_a_row_with_its_numbers(self, tmp_path: Path) -> None:
        found = run([picture(0), picture(1)], tmp_path)
        table = rows(tmp_path)
        assert tuple(table[0]) == COLUMNS
        expected = []
        for entry in found.entries:
            report, _ = read_report(tmp_path / entry.folder / "report.json")
            expected += [(m.metric, m.subject, m.value) for m in report.measurements]
        assert expected == [
            (row["metric"], row["subject"], float(row["value"]) if row["value"] else None)
            for row in table
        ]
        assert any(row["percentile"] and row["p"] for row in table)

    def test_the_medians_are_those_of_the_table(self, tmp_path: Path) -> None:
        found = run([picture(seed) for seed in range(4)], tmp_path)
        table = rows(tmp_path)
        for summary in found.summaries:
            if summary.median is not None:
                values = [
                    float(row["value"])
                    for row in table
                    if (row["metric"], row["subject"]) == (summary.metric, summary.subject)
                    and row["value"]
                ]
                assert np.median(values) == pytest.approx(summary.median)
        assert len(found.summaries) > 4

    def test_passes_of_all_reports_are_added_up(self, tmp_path: Path) -> None:
        one = run([picture(0)], tmp_path / "one").provenance.passes
        three = run([picture(0)] * 3, tmp_path / "three").provenance.passes
        for alone, together in zip(one, three, strict=True):
            if alone.stage == "gradcam":  # the layer is looked for once, for all pictures
                assert alone.forward < together.forward < 3 * alone.forward
            else:
                assert 3 * alone.forward == together.forward


class TestFailures:
    def test_bad_pictures_are_rows_and_the_rest_goes_on(self, tmp_path: Path) -> None:
        (good,) = saved(tmp_path / "in", "good.png")
        broken = tmp_path / "in" / "broken.png"
        broken.write_bytes(good.read_bytes()[:300])
        text = tmp_path / "in" / "notes.txt"
        text.write_text("no picture")
        found = run([tmp_path / "gone.png", broken, good, text], tmp_path / "out")
        assert [bool(entry.folder) for entry in found.entries] == [False, False, True, False]
        assert [entry.number for entry in found.reported] == [3]
        assert "There is no picture" in found.entries[0].reason
        failed = [row for row in rows(tmp_path / "out") if row["metric"] == FAILED]
        assert [row["image"] for row in failed] == ["gone.png", "broken.png", "notes.txt"]
        assert [row["note"] for row in failed] == [entry.reason for entry in found.failed]
        assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["0003-good"]

    def test_no_picture_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"None of 2 pictures .* 'gone.png'"):
            run(["gone.png", "lost.png"], tmp_path / "new" / "out")
        assert list(tmp_path.iterdir()) == []

    def test_an_empty_list_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="no picture to explain"):
            run([], tmp_path / "out")
        with pytest.raises(ImageError, match="no picture to explain"):
            reportgen.foresee(network(), [], TINY)
        with pytest.raises(UsageError, match="no model to explain"):
            reportgen.survey([], picture(0), tmp_path / "out", TINY, DATA)
        assert not (tmp_path / "out").exists()

    def test_a_model_that_fails_on_one_picture(self, tmp_path: Path) -> None:
        class Fussy(SmallNet):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                dark = x.flatten(1).amax(dim=1) <= 0
                return super().forward(x).masked_fill(dark[:, None], float("nan"))

        images = [picture(0), np.zeros((20, 24, 3), np.uint8)]
        options = {"mean": "0,0,0", "std": "1,1,1", "deletion_baseline": "image-mean"}
        found = run(images, tmp_path, Fussy(), **options)
        assert [bool(entry.folder) for entry in found.entries] == [True, False]
        assert "NaN" in found.entries[1].reason

    def test_a_bad_model_stops_before_any_picture(self, tmp_path: Path) -> None:
        class Dead(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x.mean((2, 3)) * float("nan")

        heard: list[str] = []
        with pytest.raises(ModelError, match="NaN"):
            reportgen.survey(
                [network(), Dead()], [picture(0)], tmp_path / "out", TINY, DATA, heard.append
            )
        assert heard == []
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("option", "value"),
        [("target", "nobody"), ("methods", "gradcamm"), ("metrics", "deletions")],
    )
    def test_bad_options_stop(self, tmp_path: Path, option: str, value: str) -> None:
        with pytest.raises(UsageError, match=value):
            run([picture(0)], tmp_path / "out", **{option: value})
        assert not (tmp_path / "out").exists()

    def test_a_folder_without_pictures(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(ImageError, match="no picture in the folder"):
            run(tmp_path, tmp_path / "out")

    def test_models_are_left_as_found(self, tmp_path: Path) -> None:
        model = network().train()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        run([picture(0), "gone.png", picture(1)], tmp_path, model)
        assert model.training
        assert all((model.state_dict()[name] == tensor).all() for name, tensor in before.items())
        assert not any(module._forward_hooks for module in model.modules())
        assert all(parameter.grad is None for parameter in model.parameters())


class TestMasks:
    def test_a_folder_has_one_for_each_picture(self, tmp_path: Path) -> None:
        images = saved(tmp_path / "in", "a.png", "b.png")
        (tmp_path / "masks").mkdir()
        mask = np.zeros((20, 24), np.uint8)
        mask[4:12, 6:16] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
        found = run(images, tmp_path / "out", mask=str(tmp_path / "masks"))
        assert [bool(entry.folder) for entry in found.entries] == [True, False]
        assert "b.png" in found.entries[1].reason

    def test_boxes_that_misfit_one_picture_fail_it_alone(self, tmp_path: Path) -> None:
        images = saved(tmp_path / "in", "a.png", "b.png")
        Image.open(images[1]).crop((0, 0, 12, 12)).save(images[1])
        found = run(images, tmp_path / "out", mask="6,4,16,12")
        assert [bool(entry.folder) for entry in found.entries] == [True, False]
        assert "inside the picture of 12x12 pixels" in found.entries[1].reason
        with pytest.raises(UsageError, match="has 3 numbers"):
            run(images, tmp_path / "other", mask="6,4,16")
        assert not (tmp_path / "other").exists()


class TestNames:
    def test_hostile_names_make_plain_folders_and_no_formulas(self, tmp_path: Path) -> None:
        names = ["=1+1.png", "..png", "a b\u202egnp.png", "x" * 200 + ".png", "-.png"]
        found = run(saved(tmp_path / "in", *names), tmp_path / "out")
        folders = [entry.folder.removeprefix("images/") for entry in found.entries]
        assert folders == [
            "0001-1_1", "0002-picture", "0003-a_b_gnp", "0004-" + "x" * 40, "0005--",
        ]  # fmt: skip
        assert {row["image"][0] for row in rows(tmp_path / "out")}.isdisjoint("=-+@")
        assert rows(tmp_path / "out")[0]["image"] == "'=1+1.png"

    def test_equal_names_stay_apart(self, tmp_path: Path) -> None:
        images = [*saved(tmp_path / "in", "a.png"), *saved(tmp_path / "other", "a.png")]
        folders = [entry.folder for entry in run(images, tmp_path / "out").entries]
        assert folders == ["images/0001-a", "images/0002-a"]

    def test_models_of_equal_names_stay_apart(self, tmp_path: Path) -> None:
        found = run([picture(0)], tmp_path, [network(seed) for seed in range(3)])
        assert [m.key for m in found.models] == ["SmallNet", "SmallNet (2)", "SmallNet (3)"]
        assert len({entry.folder for entry in found.entries}) == 3


class TestWhole:
    @pytest.fixture
    def before(self, tmp_path: Path) -> dict[str, bytes | None]:
        """Return what a first survey left beside a file of somebody's own."""
        run([picture(0), picture(1)], tmp_path)
        (tmp_path / "mine.txt").write_text("mine")
        return snapshot(tmp_path)

    def test_a_new_survey_replaces_the_old(
        self, tmp_path: Path, before: dict[str, bytes | None]
    ) -> None:
        (tmp_path / "report.html").write_text("old")
        run([picture(2)], tmp_path)
        after = snapshot(tmp_path)
        assert after["mine.txt"] == b"mine"
        assert "report.html" not in after
        assert "images/0002-image" not in after
        assert after["report.json"] != before["report.json"]

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left")], ids=type)
    @pytest.mark.parametrize(("owner", "name", "after"), [
        (series, "write_report", 1), (series, "fill_survey", 0),
        *[(Path, "rename", after) for after in (0, 2, 4, 6)],
    ])  # fmt: skip
    def test_a_failure_leaves_the_old(
        self, tmp_path: Path, before: dict[str, bytes | None], monkeypatch: pytest.MonkeyPatch,
        error: BaseException, owner: object, name: str, after: int,
    ) -> None:  # fmt: skip
        real, calls = getattr(owner, name), iter(range(after, -1, -1))

        def call(*arguments: object, **options: object) -> object:
            # The reports of pictures are renamed into place as well, inside the stage.
            inside = name == "rename" and "images/" in str(arguments[0])
            if not inside and next(calls, -1) == 0:
                raise error
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, call)
        with pytest.raises((KeyboardInterrupt, OutputError)):
            run([picture(2), picture(3)], tmp_path)
        assert snapshot(tmp_path) == before

    def test_an_interrupt_while_a_picture_is_explained(
        self, tmp_path: Path, before: dict[str, bytes | None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*arguments: object, **options: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(series, "report_on", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run([picture(2)], tmp_path)
        assert snapshot(tmp_path) == before

    def test_a_fault_in_one_picture_is_an_entry(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, calls = series.report_on, iter(range(3))

        def faulty(*arguments: Any, **options: Any) -> Any:
            if next(calls) == 1:
                raise RuntimeError("a fault")
            return real(*arguments, **options)

        monkeypatch.setattr(series, "report_on", faulty)
        found = run([picture(0), picture(1), picture(2)], tmp_path)
        assert [entry.reason for entry in found.entries] == ["", "RuntimeError: a fault", ""]

    def test_an_interrupt_leaves_no_new_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*arguments: object, **options: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(series, "write_report", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run([picture(0)], tmp_path / "a" / "b")
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_of_somebodys_own_is_not_replaced(self, tmp_path: Path) -> None:
        saved(tmp_path / "images", "holiday.png")
        before = snapshot(tmp_path)
        with pytest.raises(OutputError, match="something else"):
            run([picture(0)], tmp_path)
        assert snapshot(tmp_path) == before


class TestMemory:
    PICTURES = 30
    EVERY = 5
    MOST = 12_000

    @staticmethod
    def check_flat(sizes: Sequence[int]) -> None:
        """Check that memory grows by less than ``MOST`` bytes a picture, once all is warm."""
        slope = np.polyfit(np.arange(len(sizes)) * TestMemory.EVERY, sizes, 1)[0]
        assert slope < TestMemory.MOST, f"{slope:.0f} bytes a picture"

    @pytest.fixture
    def traced(self) -> Iterator[None]:
        tracemalloc.start()
        yield
        tracemalloc.stop()

    def test_it_does_not_grow_with_the_pictures(self, tmp_path: Path, traced: None) -> None:
        """Measured: 7 to 8 KB a picture: the row of numbers kept of it, and its verdict's facts."""
        sizes: list[int] = []
        calls = iter(range(self.PICTURES + 1))

        def measured(stage: str) -> None:
            number = next(calls)
            if number and number % self.EVERY == 0:
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
            if number == self.PICTURES:
                kept = sum(type(each) is Report for each in gc.get_objects())
                assert kept == before

        images = [picture(seed) for seed in range(self.PICTURES)]
        options = {**TINY, "methods": "saliency", "metrics": "deletion"}
        before = sum(type(each) is Report for each in gc.get_objects())
        reportgen.survey(network(), images, tmp_path, options, ("json",), measured)
        assert len(sizes) == self.PICTURES // self.EVERY
        self.check_flat(sizes[1:])

    def test_a_leak_is_seen(self) -> None:
        with pytest.raises(AssertionError, match="bytes a picture"):
            self.check_flat([1_000_000 + 100_000 * number for number in range(8)])
        self.check_flat([1_000_000 + 20_000 * number for number in range(8)])
