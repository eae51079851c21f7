"""A real report in Portuguese: no English is left in it but names and errors."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path

import pytest
from test_languages import OTHERS, cards, sheet

import reportgen
from reportgen.phrases import CARDS, FILES, speaking
from reportgen.records import Report
from reportgen.render.html import to_html
from reportgen.render.reader import read_report
from reportgen.render.writer import render_files

SIGNS = Path(__file__).parents[1] / "examples" / "signs"
MODEL, PICTURE = SIGNS / "signs.pt2", SIGNS / "pictures" / "stop.png"
QUICK = {
    "methods": "gradcam,saliency",
    "metrics": "deletion,insertion,agreement,location,rotation,noise,complexity",
    "curve_steps": 4,
    "control_draws": 2,
    "rotation_step": 30.0,
    "noise_draws": 1,
}
SVG = re.compile(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)")
SHOWN = re.compile(r'(?:alt|title|aria-label)="([^"]*)"')


@pytest.fixture(scope="module")
def spoken() -> reportgen.Explanation:
    return reportgen.explain(MODEL, PICTURE, {**QUICK, "language": "pt"})


def seen(page: str) -> str:
    """Return what a reader sees or hears of a page, without what is marked as English."""
    drawings = " ".join(base64.b64decode(found).decode() for found in SVG.findall(page))
    page = re.sub(r"<style>.*?</style>", " ", page, flags=re.DOTALL)
    page = re.sub(r'<(span|dd) lang="en">.*?</\1>', " ", page, flags=re.DOTALL)
    shown = " ".join(SHOWN.findall(page))
    text = re.sub(r"<[^>]*>", " ", f"{page} {shown} {drawings}")
    return re.sub(r"\s+", " ", html.unescape(text))


def english_pieces(language: str) -> dict[str, str]:
    """Return the longest piece of each English text that no text of ``language`` has."""
    sheets = [sheet(language, file).texts for file in (*FILES, CARDS)]
    theirs = "\n".join(text for texts in sheets for text in texts.values())
    english = {key: text for file in FILES for key, text in sheet("en", file).texts.items()}
    found = {}
    for key, text in {**english, **cards()}.items():
        piece = max((part.strip(" .,:;()“”") for part in re.split(r"\{[^}]*\}", text)), key=len)
        if len(piece) > 3 and piece not in theirs:
            found[key] = piece
    return found


def names_in(report: Report) -> str:
    """Return what is English in every language: options, names of facts, papers."""
    papers = [a.card.paper for a in report.attributions] + [card.paper for card in report.metrics]
    facts = [fact.name for fact in report.facts]
    return " ".join([json.dumps(report.provenance.config), *facts, *papers])


def left_over(report: Report, page: str, language: str) -> dict[str, str]:
    """Return the English pieces that stand on a page as words of their own, and are no names."""
    text, names = seen(page), names_in(report)
    pieces = english_pieces(language).items()
    shown = {k: p for k, p in pieces if re.search(rf"(?<![\w.-]){re.escape(p)}(?![\w-])", text)}
    return {key: piece for key, piece in shown.items() if piece not in names}


def test_no_english_is_left(spoken: reportgen.Explanation) -> None:
    page = to_html(spoken.report, spoken.arrays)
    assert left_over(spoken.report, page, "pt") == {}
    assert '<html lang="pt">' in page


def test_english_that_is_left_is_found(spoken: reportgen.Explanation) -> None:
    english = spoken.report.model_copy(update={"language": "en"})
    found = left_over(english, to_html(english, spoken.arrays), "pt")
    assert {"table.fidelity", "axis.kept", "gradcam.definition", "map.alternative"} <= set(found)


@pytest.mark.parametrize("language", OTHERS)
def test_nearly_every_english_text_is_looked_for(language: str) -> None:
    english = sum(len(sheet("en", file).texts) for file in FILES) + len(cards())
    assert len(english_pieces(language)) > 0.85 * english


def test_what_stands_in_the_report_is_english_where_a_program_reads_it(
    spoken: reportgen.Explanation,
) -> None:
    report = spoken.report
    assert report.language == "pt"
    assert {finding.severity for finding in report.findings} <= {
        "problem",
        "caution",
        "note",
        "pass",
    }
    assert report.attributions[0].card.category == "class activation map, gradient-weighted"
    place = report.fact("gradcam.location")
    assert place is not None
    assert (place.value, place.text) == ("centre", "central")
    assert report.sections[0].title == "Resumo do modelo"


def test_drawing_a_saved_report_again_gives_the_same_page(
    spoken: reportgen.Explanation, tmp_path: Path
) -> None:
    spoken.save(tmp_path, ("json", "html"))
    first = (tmp_path / "report.html").read_bytes()
    with speaking("en"):
        render_files(tmp_path / "report.json", ("html",))
    assert (tmp_path / "report.html").read_bytes() == first


def test_own_templates_are_in_the_report_and_on_its_page(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "page.toml").write_text('[sentences]\nremark.limits = "Mind."\n', encoding="utf-8")
    (own / "sections.toml").write_text(
        '[sentences]\nhead = "Rule {model.head} ({model.head_source})."\n', encoding="utf-8"
    )
    asked = {**QUICK, "methods": "saliency", "metrics": "location", "templates": str(own)}
    made = reportgen.explain(MODEL, PICTURE, asked)
    made.save(tmp_path / "out", ("json", "html"))
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Mind." in page
    assert "Rule softmax of logits (stated in the " in page
    stored = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert stored["provenance"]["config"]["templates"] == "own"
    assert len(stored["provenance"]["templates"]) == 64
    again, arrays = read_report(tmp_path / "out" / "report.json")
    assert "Mind." not in to_html(again, arrays)
