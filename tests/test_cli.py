"""The command line: what it writes, what it says, and one sentence for each bad input."""

from __future__ import annotations

import json
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from reportgen.cli import main

SIGNS = Path(__file__).parents[1] / "examples" / "signs"
MODEL = SIGNS / "signs.pt2"
PICTURE = SIGNS / "pictures" / "stop.png"
FAST = ("--profile", "quick", "--methods", "gradcam", "--metrics", "deletion")


@dataclass(frozen=True)
class Outcome:
    """What a run of the command line left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command line in this process."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["reportgen", *map(str, arguments)])
        try:
            main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return Outcome(int(str(code)), printed.out, printed.err)

    return call


def check_refused(outcome: Outcome, code: int, *words: str) -> None:
    """Check for one sentence with ``words`` on standard error, an exit code, and no traceback."""
    last = outcome.err.strip().splitlines()[-1]
    assert outcome.code == code, outcome.err
    assert last.startswith("reportgen: ") and last.endswith("."), last
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in last


def test_the_check_for_a_refusal_can_fail() -> None:
    with pytest.raises(AssertionError):
        check_refused(Outcome(1, "", "Traceback ...\nValueError: nothing"), 2)


def test_explain_writes_a_whole_report(run: Run, tmp_path: Path) -> None:
    outcome = run("explain", MODEL, PICTURE, "-o", tmp_path / "out", *FAST)
    assert outcome.code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "report.html", "report.pdf", "report.json", "table.csv", "maps.npz", "manifest.json",
    }  # fmt: skip
    assert outcome.out.startswith("stop, 0.99")
    assert str(tmp_path / "out" / "report.pdf") in outcome.out
    assert "reportgen: gradcam\n" in outcome.err  # plain lines where there is no terminal


def test_quiet_prints_nothing(run: Run, tmp_path: Path) -> None:
    outcome = run("explain", MODEL, PICTURE, "-o", tmp_path, "--quiet", "--format", "json", *FAST)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert not (tmp_path / "report.html").exists()


def test_a_dry_run_says_what_it_costs_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    outcome = run("explain", MODEL, PICTURE, "-o", tmp_path / "out", "--dry-run", *FAST)
    assert outcome.code == 0
    steps = [text.split() for text in outcome.out.splitlines()]
    assert [step[0] for step in steps] == ["gradcam", "deletion", "about"]
    assert all(step[2::2][:2] == ["forward", "backward"] for step in steps[:2])
    assert "passes" in outcome.out and " on cpu in batches of " in outcome.out
    assert not (tmp_path / "out").exists()


def test_the_cost_is_told_before_the_work(run: Run, tmp_path: Path) -> None:
    outcome = run("explain", MODEL, PICTURE, "-o", tmp_path / "out", "--format", "json", *FAST)
    lines = outcome.err.splitlines()
    told = [number for number, text in enumerate(lines) if " passes, " in text]
    assert told == [lines.index("reportgen: gradcam") - 1]
    pictures = (PICTURE, PICTURE.with_name("yield.png"))
    outcome = run("explain", MODEL, *pictures, "-o", tmp_path / "two", "--format", "json", *FAST)
    assert len([text for text in outcome.err.splitlines() if "2 pictures, about " in text]) == 1


def test_flags_win_over_the_file_and_the_file_over_the_profile(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text('profile = "quick"\nmetrics = "deletion"\ncurve_steps = 4\nseed = 3\n')
    arguments = ("--config", file, "--methods", "gradcam", "--seed", "5", "--format", "json")
    assert run("explain", MODEL, PICTURE, "-o", tmp_path, *arguments).code == 0
    options = json.loads((tmp_path / "report.json").read_text())["provenance"]["config"]
    assert (options["seed"], options["curve_steps"], options["lime_samples"]) == (5, 4, 100)


def test_render_needs_no_model(run: Run, tmp_path: Path) -> None:
    run("explain", MODEL, PICTURE, "-o", tmp_path, "--format", "html", *FAST)
    first = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    assert run("render", tmp_path / "report.json", "--format", "html").code == 0
    assert (tmp_path / "report.html").read_bytes() == first


def test_render_makes_the_table_too(run: Run, tmp_path: Path) -> None:
    run("explain", MODEL, PICTURE, "-o", tmp_path, "--format", "csv", *FAST)
    first = (tmp_path / "table.csv").read_bytes()
    (tmp_path / "table.csv").unlink()
    assert run("render", tmp_path / "report.json", "--format", "csv").code == 0
    assert (tmp_path / "table.csv").read_bytes() == first
    assert first.startswith(b"model,image,metric,subject,value,")


def test_schema_is_json(run: Run) -> None:
    assert json.loads(run("schema").out)["title"] == "Report"
    assert json.loads(run("schema", "--survey").out)["title"] == "Survey"


def test_methods_lists_the_cards(run: Run) -> None:
    listed = run("methods").out
    assert "integrated-gradients: Integrated Gradients" in listed
    assert "arXiv 1703.01365" in listed


class TestSurvey:
    DATA = ("--format", "json,csv", *FAST)

    @pytest.fixture
    def pictures(self, tmp_path: Path) -> Path:
        """Return a folder with one good picture, one bad one, and a file of another kind."""
        folder = tmp_path / "pictures"
        folder.mkdir()
        shutil.copy(PICTURE, folder / "stop.png")
        (folder / "bad.png").write_text("not a picture")
        (folder / "notes.txt").write_text("mine")
        return folder

    def test_a_folder(self, run: Run, tmp_path: Path, pictures: Path) -> None:
        out = tmp_path / "out"
        outcome = run("explain", MODEL, pictures, "-o", out, *self.DATA)
        assert outcome.code == 0
        assert {path.name for path in out.iterdir()} == {
            "report.json", "table.csv", "images", "manifest.json",
        }  # fmt: skip
        assert "\n1 of 2 pictures explained; " in f"\n{outcome.out}"
        assert "1 picture was explained" in outcome.out
        assert "1 of 2 pictures could not be explained" in outcome.out
        assert "1 other file was passed over" in outcome.out
        assert "bad.png: Expected a picture" in outcome.out
        assert "reportgen: 2 of 2: stop.png\n" in outcome.err

    def test_several_models(self, run: Run, tmp_path: Path) -> None:
        out = tmp_path / "out"
        both = ("--model", MODEL, "--model", MODEL)
        assert run("explain", *both, PICTURE, "-o", out, "-q", *self.DATA).code == 0
        folders = {path.name for path in (out / "images" / "0001-stop").iterdir()}
        assert folders == {"signs.pt2", "signs.pt2_2"}

    def test_one_model_by_option_and_one_picture_make_one_report(
        self, run: Run, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        assert run("explain", "--model", MODEL, PICTURE, "-o", out, *self.DATA).code == 0
        assert {path.name for path in out.iterdir()} == {
            "report.json", "maps.npz", "table.csv", "manifest.json",
        }  # fmt: skip

    def test_no_picture_could_be_read(self, run: Run, tmp_path: Path, pictures: Path) -> None:
        out, bad = tmp_path / "out", pictures / "bad.png"
        check_refused(run("explain", MODEL, bad, bad, "-o", out, *FAST), 4, "None of 2")
        assert not out.exists()

    def test_a_folder_without_pictures(self, run: Run, tmp_path: Path) -> None:
        check_refused(run("explain", MODEL, tmp_path, "-o", tmp_path / "out", *FAST), 4, "folder")

    def test_a_bad_second_model(self, run: Run, tmp_path: Path) -> None:
        both = ("--model", MODEL, "--model", PICTURE)
        check_refused(run("explain", *both, PICTURE, "-o", tmp_path / "out", *FAST), 3, "stop.png")

    def test_a_model_alone(self, run: Run) -> None:
        check_refused(run("explain", MODEL), 2, "signs.pt2", "--model")

    def test_no_models_but_pictures_missing(self, run: Run, tmp_path: Path) -> None:
        check_refused(run("explain", MODEL, "a.png", "b.png", "-o", tmp_path / "out"), 4, "a.png")

    def test_render_needs_no_model(self, run: Run, tmp_path: Path, pictures: Path) -> None:
        out = tmp_path / "out"
        run("explain", MODEL, pictures, "-o", out, "--format", "html,csv", *FAST)
        names = ("report.html", "table.csv", "manifest.json")
        before = {name: (out / name).read_bytes() for name in names}
        for name in names[:2]:
            (out / name).unlink()
        assert run("render", out / "report.json", "--format", "html,csv").code == 0
        assert {name: (out / name).read_bytes() for name in names} == before

    def test_render_refuses_a_survey_of_another_version(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "report.json").write_text('{"schema_version": "survey-9"}')
        check_refused(run("render", tmp_path / "report.json"), 5, "survey-1.1")


def huge_png(path: Path) -> Path:
    """Write a small PNG that claims to hold 60000 x 60000 pixels."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


class TestBadPictures:
    @pytest.fixture
    def refuse(self, run: Run, tmp_path: Path) -> Callable[..., None]:
        def check(picture: Path, *words: str) -> None:
            out = tmp_path / "out"
            check_refused(run("explain", MODEL, picture, "-o", out, *FAST), 4, *words)
            assert not out.exists()

        return check

    def test_no_such_file(self, refuse: Callable[..., None]) -> None:
        refuse(Path("nowhere.png"), "nowhere.png")

    def test_no_picture(self, refuse: Callable[..., None], tmp_path: Path) -> None:
        text = tmp_path / "notes.txt"
        text.write_text("not a picture")
        refuse(text, "notes.txt")

    def test_truncated(self, refuse: Callable[..., None], tmp_path: Path) -> None:
        cut = tmp_path / "cut.png"
        cut.write_bytes(PICTURE.read_bytes()[:9000])
        refuse(cut, "cut.png")

    def test_decompression_bomb(self, refuse: Callable[..., None], tmp_path: Path) -> None:
        refuse(huge_png(tmp_path / "huge.png"), "huge.png")

    def test_one_pixel(self, refuse: Callable[..., None], tmp_path: Path) -> None:
        dot = tmp_path / "dot.png"
        Image.new("RGB", (1, 1)).save(dot)
        refuse(dot, "1x1")


class Dead(nn.Module):
    """Returns NaN for every class."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.mean(dim=(2, 3)) * float("nan")


class Many(nn.Module):
    """Returns feature maps inside a dictionary, and no class scores."""

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        return {"features": pictures * 2, "smaller": pictures[..., ::2] * 2}


class Map(nn.Module):
    """Returns a feature map."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures * 2


def exported(network: nn.Module, path: Path) -> Path:
    """Export a network as a .pt2 file for two or more pictures of 32 x 32."""
    example = (torch.rand(2, 3, 32, 32),)
    program = torch.export.export(
        network, example, dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, path)
    return path


class TestBadModels:
    @pytest.fixture
    def refuse(self, run: Run, tmp_path: Path) -> Callable[..., None]:
        def check(model: Path, code: int, *words: str) -> None:
            out = tmp_path / "out"
            check_refused(run("explain", model, PICTURE, "-o", out, *FAST), code, *words)
            assert not out.exists()

        return check

    def test_no_such_file(self, refuse: Callable[..., None]) -> None:
        refuse(Path("nowhere.pt"), 3, "nowhere.pt")

    def test_no_model(self, refuse: Callable[..., None]) -> None:
        refuse(PICTURE, 3, "stop.png")

    def test_unknown_state_dict(self, refuse: Callable[..., None], tmp_path: Path) -> None:
        path = tmp_path / "odd.pth"
        torch.save(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).state_dict(), path)
        refuse(path, 3, "--arch")

    def test_pickle(self, refuse: Callable[..., None], tmp_path: Path) -> None:
        path = tmp_path / "whole.pt"
        torch.save(nn.Linear(3, 2), path)
        refuse(path, 3, "--trust-pickle")

    @pytest.mark.parametrize(
        ("network", "word"), [(Dead(), "NaN"), (Many(), "features"), (Map(), "shape")]
    )
    def test_outputs_that_are_no_class_scores(
        self, refuse: Callable[..., None], tmp_path: Path, network: nn.Module, word: str
    ) -> None:
        refuse(exported(network, tmp_path / "model.pt2"), 3, word)

    def test_labels_that_do_not_match(self, run: Run, tmp_path: Path) -> None:
        labels = tmp_path / "labels.txt"
        labels.write_text("cat\ndog\n")
        outcome = run("explain", MODEL, PICTURE, "-o", tmp_path / "out", "--labels", labels, *FAST)
        check_refused(outcome, 2, "2 labels", "8")


class TestBadOptions:
    @pytest.mark.parametrize(
        ("flag", "value", "word"),
        [
            ("--methods", "gradcamm", "gradcam"),
            ("--metrics", "deletions", "insertion"),
            ("--target", "no such sign", "stop"),
            ("--target", "99", "0 to 7"),
            ("--layer", "nowhere", "features"),
            ("--format", "docx", "html"),
            ("--profile", "slow", "quick"),
            ("--lime-samples", "1", "lime_samples"),
            ("--mean", "0.5", "3"),
            ("--size", "big", "224"),
        ],
    )
    def test_unknown_names_list_those_that_exist(
        self, run: Run, tmp_path: Path, flag: str, value: str, word: str
    ) -> None:
        outcome = run("explain", MODEL, PICTURE, "-o", tmp_path / "out", *FAST, flag, value)
        check_refused(outcome, 2, word)
        assert not (tmp_path / "out").exists()

    def test_unknown_names_in_the_file(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "options.toml"
        file.write_text("lime_sample = 100\n")
        outcome = run("explain", MODEL, PICTURE, "-o", tmp_path / "out", "--config", file)
        check_refused(outcome, 2, "lime_sample", "lime_samples")

    def test_a_report_that_is_no_report(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "report.json"
        file.write_text("{}")
        check_refused(run("render", file), 5)


class TestWithoutPango:
    @pytest.fixture(autouse=True)
    def no_pango(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make WeasyPrint fail as it does where Pango is missing."""
        for name in [name for name in sys.modules if name.split(".")[0] == "weasyprint"]:
            monkeypatch.delitem(sys.modules, name)

        class Finder:
            def find_spec(self, name: str, path: object, target: object = None) -> None:
                if name == "weasyprint":
                    raise OSError("cannot load library 'libpango-1.0-0'")

        monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])

    def test_the_others_are_written_and_the_package_is_named(
        self, run: Run, tmp_path: Path
    ) -> None:
        outcome = run("explain", MODEL, PICTURE, "-o", tmp_path / "out", *FAST)
        assert outcome.code == 0
        assert "libpango-1.0-0" in outcome.err
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert names == {"report.html", "report.json", "table.csv", "maps.npz", "manifest.json"}

    def test_an_explicit_request_fails(self, run: Run, tmp_path: Path) -> None:
        outcome = run("explain", MODEL, PICTURE, "-o", tmp_path / "o", "--format", "pdf", *FAST)
        check_refused(outcome, 5, "libpango-1.0-0")
        assert not (tmp_path / "o").exists()


class TestOutput:
    def test_a_file_stands_in_the_way(self, run: Run, tmp_path: Path) -> None:
        taken = tmp_path / "out"
        taken.write_text("mine")
        check_refused(run("explain", MODEL, PICTURE, "-o", taken, *FAST), 5, "out")
        assert taken.read_text() == "mine"

    def test_a_failed_run_keeps_the_report_that_is_there(self, run: Run, tmp_path: Path) -> None:
        run("explain", MODEL, PICTURE, "-o", tmp_path, "--format", "json", *FAST)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert run("explain", MODEL, PICTURE, "-o", tmp_path, *FAST, "--target", "x").code == 2
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_interrupted(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*arguments: object, **named: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("reportgen.render.target_folders.write_reports", interrupted)
        outcome = run("explain", MODEL, PICTURE, "-o", tmp_path / "out", *FAST)
        check_refused(outcome, 130, "interrupted")
        assert not (tmp_path / "out").exists()

    @pytest.mark.slow
    def test_interrupted_for_real(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "reportgen", "explain", MODEL, PICTURE, "-o", "out"]
        process = subprocess.Popen(
            [*map(str, command), "--methods", "lime", "--lime-samples", "50000"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            # Whoever runs the tests in the background may have told them to ignore interrupts.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stderr is not None
        for line in process.stderr:  # wait until it is at work
            if "lime" in line:
                break
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        process.stderr.close()
        assert process.wait(60) == 130, rest
        assert "Traceback" not in rest
        assert not (tmp_path / "out").exists()


def test_a_mistyped_path_is_refused_without_torch(tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv = ['reportgen', 'explain', 'nowhere.pt', 'x.png']\n"
        "from reportgen.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: print(stop.code, 'torch' in sys.modules)\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert outcome.stdout.strip() == "3 False"
