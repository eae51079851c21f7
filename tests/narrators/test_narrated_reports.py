"""Whole reports in a language model's words: through the real loading, and through a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from language_models import save_language_model
from stub_server import saying, send, serving

import reportgen
from reportgen.cli import main
from reportgen.narrative.prompting import lines_of
from reportgen.records import Report, Section

SIGNS = Path(__file__).parents[2] / "examples" / "signs"
MODEL = SIGNS / "signs.pt2"
PICTURE = SIGNS / "pictures" / "stop.png"
TINY: Mapping[str, Any] = {
    "profile": "quick",
    "methods": "saliency",
    "metrics": "complexity",
    "device": "cpu",
}


def explained(**options: Any) -> Report:
    return reportgen.explain(MODEL, PICTURE, {**TINY, **options}).report


@pytest.fixture(scope="module")
def plain() -> Report:
    """Return the report that the templates write alone."""
    return explained()


def texts(sections: tuple[Section, ...]) -> list[str]:
    return [sentence.text for section in sections for sentence in section.sentences]


def echo(question: str) -> str:
    return "\n".join(f"{number}. {line}" for number, line in lines_of(question).items())


@pytest.mark.slow
def test_a_local_model_of_random_weights_is_refused_and_named(
    plain: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_language_model(tmp_path / "models" / "tiny-llama")
    options = {"narrator": f"llm:{folder}", "narrator_tokens": 16}
    first, second = explained(**options), explained(**options)
    assert first.model_dump(exclude={"run"}) == second.model_dump(exclude={"run"})
    assert texts(first.sections) == texts(plain.sections)
    narration = first.narration
    assert narration is not None
    assert (narration.narrator, narration.model) == ("llm:tiny-llama", "tiny-llama")
    assert len(narration.digest) == 64
    assert (narration.written, narration.failures) == (0, ())
    assert narration.refused == narration.offered == len(texts(plain.sections))
    assert first.provenance.config["narrator"] == "llm:tiny-llama"
    assert str(tmp_path) not in first.model_dump_json()


def test_a_good_server_writes_the_report(plain: Report) -> None:
    with serving(saying(echo), {"models": [{"name": "toy", "digest": "ab12"}]}) as stub:
        found = explained(narrator=stub.narrator)
    assert found.narration is not None
    assert found.narration.digest == "ab12"
    assert found.narration.written == found.narration.offered == len(texts(plain.sections))
    assert texts(found.sections) == texts(plain.sections)
    assert found.run.seconds["narration"] <= found.run.seconds["total"]


def test_each_target_and_each_picture_is_worded(tmp_path: Path) -> None:
    with serving(saying(echo)) as stub:
        options = {**TINY, "narrator": stub.narrator}
        each = list(reportgen.explain_each(MODEL, PICTURE, {**options, "target": "top:2"}))
        pictures = [PICTURE, PICTURE.with_name("give-way.png")]
        reportgen.survey(
            MODEL, [p for p in pictures if p.exists()] * 2, tmp_path, options, ("json",)
        )
    assert [e.report.narration is not None for e in each] == [True, True]
    written = [
        json.loads(path.read_text(encoding="utf-8"))["narration"]["written"]
        for path in sorted(tmp_path.glob("images/*/report.json"))
    ]
    assert len(written) == 2 and all(written)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["reportgen", "explain", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(str(stop.code or 0))
    return 0


def test_the_command_line_says_who_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--{name}={value}" for name, value in TINY.items()]
    with serving(lambda handler, body: send(handler, b"", 500)) as stub:
        arguments = (MODEL, PICTURE, "-o", tmp_path / "out", "--format", "json,html", *flags)
        code = run(monkeypatch, *arguments, f"--narrator={stub.narrator}")
    printed = capsys.readouterr().out
    assert code == 0
    assert "The text is that of the templates: the language model toy was asked" in printed
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "The text is that of the templates" in page
    assert "The server answered with the status 500." in page


@pytest.mark.parametrize(
    ("narrator", "code", "sentence"),
    [
        ("gpt", 2, "expected llm:PATH_OR_ID"),
        ("openai:http://127.0.0.1/v1", 2, "does not say which model"),
        ("openai:https://api.example.org/v1#m", 2, "give --allow-remote"),
        ("llm:/nowhere", 3, "Expected a folder with a language model"),
    ],
)
def test_a_bad_narrator_is_refused_before_anything_is_explained(
    narrator: str,
    code: int,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert run(monkeypatch, MODEL, PICTURE, "-o", out, f"--narrator={narrator}") == code
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and sentence in told[0]
    assert not out.exists()
