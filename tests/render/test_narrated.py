"""What a language model wrote is marked, and the report says who it was and what came of it."""

from __future__ import annotations

import re

import pytest
from html_page import offences, parse
from sample_report import sample

from reportgen.records import Narration, Report
from reportgen.render.html import to_html
from reportgen.render.narrated import narration_lines

MODEL = "tiny <b>llama</b>"
NARRATION = Narration(
    narrator=f"openai:http://127.0.0.1:1/v1#{MODEL}",
    model=MODEL,
    digest="ab12",
    address="http://127.0.0.1:1/v1",
    precision="",
    seed=7,
    offered=12,
    written=1,
    refused=11,
    reasons={"number": 8, "unknown word": 3},
    failures=("The server answered with the status 500.",),
)


def narrated(**changes: object) -> Report:
    """Return a report whose first sentence is a language model's."""
    report = sample(("gradcam",), (48, 48))[0]
    first, *rest = report.sections
    sentence, *others = first.sentences
    written = sentence.model_copy(update={"author": "model", "draft": "d"})
    sections = (first.model_copy(update={"sentences": (written, *others)}), *rest)
    narration = NARRATION.model_copy(update=changes)
    return report.model_copy(update={"sections": sections, "narration": narration})


def drawn(report: Report) -> str:
    return to_html(report, sample(("gradcam",), (48, 48))[1])


def test_a_models_sentence_alone_is_marked() -> None:
    page = parse(drawn(narrated()))
    sentences = [e for e in page.elements if e.attributes.get("class", "").startswith("sentence")]
    written = [e for e in sentences if "written" in e.attributes["class"].split()]
    assert len(written) == 1 < len(sentences)
    assert written[0].attributes["title"] == (
        f"Written by the language model {MODEL}, checked against the facts."
    )
    marks = [e for e in page.elements if e.tag == "a" and e.text == "LM"]
    assert [mark.attributes["href"] for mark in marks] == ["#narration"]
    assert sum(e.attributes.get("id") == "narration" for e in page.elements) == 1


def test_the_first_page_says_so_and_the_appendix_says_all() -> None:
    html = drawn(narrated())
    assert offences(html) == []
    assert MODEL not in html
    first = html[: html.index("<nav")]
    assert "1 of 12 sentences, each marked LM, were written by the language model" in first
    text = re.sub(r"<[^>]+>|\s+", " ", html[html.index('id="appendix-b"') :])
    for said in (
        "ab12",
        "http://127.0.0.1:1/v1",
        "11 (number 8, unknown word 3)",
        "the status 500",
    ):
        assert said in text


def test_with_all_refused_the_first_page_says_whose_text_it_is() -> None:
    report = narrated(written=0, refused=12)
    assert "The text is that of the templates: the language model" in drawn(report)


def test_facts_that_left_this_machine_are_said_to() -> None:
    remote = {"remote": True, "address": "https://api.example.org:443/v1"}
    html = drawn(narrated(**remote))
    assert "left this machine: numbers were sent to api.example.org." in html[: html.index("<nav")]
    assert "left this machine" not in drawn(narrated())


@pytest.mark.parametrize("digest", ["", "ab12"])
def test_a_digest_that_is_not_stated_is_said_to_be(digest: str) -> None:
    html = drawn(narrated(digest=digest))
    assert ("<td>not stated</td>" in html) == (digest == "")


def test_without_a_language_model_nothing_is_said() -> None:
    html = drawn(sample(("gradcam",), (48, 48))[0])
    assert narration_lines(None) == ()
    assert "language model" not in html and 'class="sentence written' not in html
