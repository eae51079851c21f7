"""Several targets of one picture: a report each, in Python, on the command line, and in surveys."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from factories import SmallNet
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from toys import scripted

import reportgen
from reportgen.cli import main
from reportgen.config import load_config
from reportgen.errors import OutputError, UsageError
from reportgen.parameters import parameters_of
from reportgen.preflight import Forecast
from reportgen.records import Report
from reportgen.render.target_folders import write_reports

TINY: Mapping[str, Any] = {
    "profile": "quick",
    "size": "16",
    "methods": "saliency",
    "metrics": "rotation",
    "rotation_step": 45.0,
    "device": "cpu",
}


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallNet()


def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (20, 24, 3), dtype=np.uint8)


def each(**options: Any) -> list[reportgen.Explanation]:
    return list(reportgen.explain_each(network(), picture(), {**TINY, **options}))


def labels(found: list[reportgen.Explanation]) -> list[str]:
    return [explanation.report.prediction.target.label for explanation in found]


def ranking(**options: Any) -> list[str]:
    report = reportgen.explain(network(), picture(), {**TINY, **options}).report
    return [score.label for score in report.prediction.top]


def test_each_of_the_top_has_a_whole_report_of_its_own() -> None:
    found = each(target="top:3")
    assert labels(found) == ranking()[:3]
    alone = [
        reportgen.explain(network(), picture(), {**TINY, "target": label.split()[1]})
        for label in labels(found)
    ]
    for one, other in zip(found, alone, strict=True):
        assert np.array_equal(one.arrays["map.saliency"], other.arrays["map.saliency"])
        assert one.report.sections == other.report.sections
    maps = [explanation.arrays["map.saliency"] for explanation in found]
    assert not np.array_equal(maps[0], maps[1])


def test_the_model_is_made_ready_once_and_left_as_it_was_found() -> None:
    model = network().train()
    told: list[Forecast] = []
    found = reportgen.explain_each(
        model, picture(), {**TINY, "target": "top:2"}, foreseen=told.append
    )
    first = next(found)
    assert not model.training
    second = next(found)
    assert next(found, None) is None
    assert model.training
    (forecast,) = told
    assert forecast.targets == 2
    passes = [p for p in second.report.provenance.passes if p.stage == "prediction"]
    # Made ready again, the model would be probed again; here one picture is predicted.
    assert [(p.forward, p.backward) for p in passes] == [(1, 0)]
    assert first.report.provenance.config["target"] == "top:2"


def test_one_report_is_refused_where_several_are_asked_for() -> None:
    with pytest.raises(UsageError, match=r"asks for 2 reports.*reportgen\.explain_each"):
        reportgen.explain(network(), picture(), {**TINY, "target": "top:2"})
    one = reportgen.explain(network(), picture(), {**TINY, "target": "top:1"})
    assert one.report.prediction.target.label == ranking()[0]


def test_every_label_that_holds_is_explained_the_likeliest_alone_by_explain() -> None:
    options = {"head": "multilabel", "threshold": 0.01}
    found = each(**options)
    held = [score.label for score in found[0].report.prediction.holding]
    assert len(held) > 1
    assert labels(found) == held
    assert {e.report.prediction.target_source for e in found} == {"threshold"}
    single = reportgen.explain(network(), picture(), {**TINY, **options})
    assert single.report.prediction.target.label == held[0]
    none = each(head="multilabel", threshold=0.999)
    assert labels(none) == held[:1]
    assert "none of 5 labels" in none[0].report.sections[0].sentences[0].text


def test_a_contrast_is_one_report_whose_parameters_make_its_map_again(tmp_path: Path) -> None:
    top = ranking()
    (found,) = each(target=f"contrast:{top[1]},{top[0]}")
    assert labels([found]) == [f"{top[1]} rather than {top[0]}"]
    file = tmp_path / "parameters.toml"
    file.write_text(parameters_of(found.report, "saliency"), encoding="utf-8")
    config = load_config(file, {**TINY, "metrics": "rotation"})
    assert config.target == f"contrast:{top[1].split()[1]},{top[0].split()[1]}"
    again = reportgen.explain(network(), picture(), config)
    assert np.array_equal(again.arrays["map.saliency"], found.arrays["map.saliency"])


def test_a_metric_of_another_class_is_left_out_of_a_contrast_with_its_reason() -> None:
    (found,) = each(target="contrast:0,1", metrics="random-logit,rotation")
    (skipped,) = found.report.skipped
    assert skipped.step == "random-logit"
    assert "a contrast of two classes is explained" in skipped.reason


def test_the_dry_run_counts_the_targets() -> None:
    one = reportgen.foresee(network(), picture(), TINY)
    three = reportgen.foresee(network(), picture(), {**TINY, "target": "top:3"})
    assert (one.targets, three.targets) == (1, 3)
    assert three.work.forward == 3 * one.work.forward


def test_a_survey_refuses_several_targets_and_takes_a_contrast(tmp_path: Path) -> None:
    pictures = [picture(), picture()[::-1].copy()]
    asked = {**TINY, "metrics": "rotation", "target": "top:2"}
    with pytest.raises(UsageError, match="asks for 2 reports, where there is room for one"):
        reportgen.survey(network(), pictures, tmp_path / "no", asked, ("json",))
    assert not (tmp_path / "no").exists()
    asked["target"] = "contrast:1,0"
    made = reportgen.survey(network(), pictures, tmp_path / "yes", asked, ("json",))
    assert [e.label for e in made.survey.entries] == ["class 1 rather than class 0"] * 2


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["reportgen", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code


def test_the_command_line_writes_a_folder_each_and_a_page_to_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted(network().eval(), (3, 16, 16)).save(tmp_path / "model.pt")
    Image.fromarray(picture()).save(tmp_path / "picture.png")
    (tmp_path / "names.txt").write_text("<b>a/b</b>\nb\nc\nd\ne\n", encoding="utf-8")
    out = tmp_path / "out"
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    run(
        monkeypatch, "explain", tmp_path / "model.pt", tmp_path / "picture.png", "--out", out,
        "--target", "top:5", "--labels", tmp_path / "names.txt", "--format", "json,html", *flags,
    )  # fmt: skip
    page = (out / "index.html").read_text(encoding="utf-8")
    folders = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert [name[:3] for name in folders] == ["01-", "02-", "03-", "04-", "05-"]
    assert [name for name in folders if "a_b" in name]
    assert re.findall(r'href="([^"]+)"', page) == [f"{name}/report.html" for name in folders]
    assert "&lt;b&gt;a/b&lt;/b&gt;" in page
    for name in folders:
        assert (out / name / "manifest.json").exists()
    printed = capsys.readouterr().out
    assert printed.count("Explained: ") == 5
    assert str(out / "index.html") in printed


def written(found: list[reportgen.Explanation], out: Path) -> set[str]:
    pairs = ((explanation.report, explanation.arrays) for explanation in found)
    write_reports(pairs, out, ("json",))
    return {path.name for path in out.iterdir()}


def test_one_report_stands_in_the_folder_itself(tmp_path: Path) -> None:
    names = written(each(target="top:1"), tmp_path / "out")
    assert names == {"report.json", "maps.npz", "manifest.json"}


def test_what_stood_there_is_replaced_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    found, out = each(target="top:3"), tmp_path / "out"
    written(found[:1], out)
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    (out / "04-mine").mkdir()
    first = written(found, out)
    assert "report.json" not in first
    assert {"index.html", "notes.txt", "04-mine"} < first
    assert len(first) == 6
    assert written(found[:2], out) == {name for name in first if not name.startswith("03-")}


def test_a_single_report_takes_the_place_of_several(tmp_path: Path) -> None:
    found, out = each(target="top:3"), tmp_path / "out"
    folders = sorted(name for name in written(found, out) if name != "index.html")
    kept, gone = folders[1], {folders[0], folders[2], "index.html"}
    (out / kept / "notes.txt").write_text("mine", encoding="utf-8")
    shutil.copytree(out / folders[0], out / "07-mine")
    (out / "08-mine").symlink_to(out / "07-mine")
    page = (out / "index.html").read_text(encoding="utf-8")
    more = '<a href="08-mine/report.json"></a><a href="../07-mine/report.json"></a>'
    (out / "index.html").write_text(page.replace("</body>", f"{more}</body>"), encoding="utf-8")
    before = {path.name for path in out.iterdir()}
    files = found[0].save(out, ("json",))
    after = {path.name for path in out.iterdir()}
    assert before - after == gone
    assert {path.name for path in files} == after - before
    assert reportgen.load(out / "report.json").report == found[0].report
    assert (out / kept / "notes.txt").exists()


def test_a_page_of_another_kind_stays_beside_a_single_report(tmp_path: Path) -> None:
    found, out = each(target="top:2"), tmp_path / "out"
    before = written(found, out)
    page = out / "index.html"
    page.write_text(page.read_text(encoding="utf-8").replace("generator", "author"), "utf-8")
    assert before < written(found[:1], out)


def test_all_reports_are_written_or_none(tmp_path: Path) -> None:
    found, out = each(target="top:2"), tmp_path / "deep" / "out"
    pairs = [(explanation.report, explanation.arrays) for explanation in found]

    def breaking() -> Any:
        yield from pairs
        raise RuntimeError("the third one fails")

    with pytest.raises(RuntimeError, match="third"):
        write_reports(breaking(), out, ("json",))
    assert not (tmp_path / "deep").exists()
    before = written(found, out)
    content = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(RuntimeError, match="third"):
        write_reports(breaking(), out, ("json",))
    assert {path.name for path in out.iterdir()} == before
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == content


def test_a_page_that_is_somebody_elses_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<h1>Mine</h1>", encoding="utf-8")
    with pytest.raises(OutputError, match=r"index\.html', but it is something else"):
        written(each(target="top:2"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_old_reports_without_the_new_fields_can_be_read() -> None:
    (found,) = each(target="top:1")
    old = found.report.model_dump(mode="json")
    for name in ("contrast", "threshold"):
        del old["prediction"][name]
    del old["model"]["head"]["evidence"]
    assert Report.model_validate(old).prediction == found.report.prediction
