"""The HTML: complete, inert, accessible, and made of facts only."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from html_page import Drawn, offences, parse
from jinja2 import UndefinedError
from numpy.typing import NDArray
from sample_report import FIVE, TWELVE, sample, written
from sample_sentences import Words

from reportgen.metrics import METRICS
from reportgen.records import Report, Section, Sentence, Skipped
from reportgen.render.html import environment, to_html
from reportgen.render.sections import STEPS
from reportgen.resources import html_template

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='alert(1)",
    "]]></style><style>body{display:none}</style><!--",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "$\\alpha_{1}$ & &lt; \\<b>",
)
TEMPLATES = (
    "report.html.j2", "verdict.html.j2", "blocks.html.j2", "report.css", "print.css",
)  # fmt: skip


def test_the_page_loads_and_runs_nothing(five: Drawn) -> None:
    assert offences(five.html) == []


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ("<script>1</script>", ["element script"]),
        ("<img src='https://example.org/x.png'>", ["img src"]),
        ("<a href='javascript:1'>x</a>", ["a href"]),
        ("<p onclick='1'>x</p>", ["p onclick"]),
        ("<style>p { background: url(x.png) }</style>", ["url("]),
    ],
)
def test_an_offence_is_found(html: str, found: list[str]) -> None:
    assert offences(html) == found


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text(text: str) -> None:
    report, arrays = sample(("gradcam",), (48, 48), words=Words(text, text, text, text))
    card = report.attributions[0].card.model_copy(update={"title": text, "limits": text})
    attribution = report.attributions[0].model_copy(update={"card": card, "notes": (text,)})
    skipped = (Skipped(step=text, subject=text, reason=text),)
    report = report.model_copy(update={"attributions": (attribution,), "skipped": skipped})
    html = to_html(report, arrays)
    assert offences(html) == []
    page = parse(html)
    assert len(page.all("style", "script")) == 1
    assert page.text.count(" ".join(text.split())) >= 8


def test_characters_that_hide_or_reorder_text_are_replaced() -> None:
    report, arrays = sample((), (48, 48), words=Words(label="cat\u202egnp.exe\x00\x1b[2J"))
    html = to_html(report, arrays)
    assert "cat\ufffdgnp.exe\ufffd\ufffd[2J" in html
    assert not re.search("[\x00\x1b\u202e]", html)


def test_every_fact_of_a_sentence_has_its_anchor(five: Drawn) -> None:
    page = parse(five.html)
    ids = page.having("id")
    assert len(ids) == len(set(ids))
    assert {href.removeprefix("#") for href in page.having("href")} <= set(ids)
    named = {
        name for section in five.report.sections for s in section.sentences for name in s.facts
    }
    tips = {
        e.attributes["title"].partition(" = ")[0] for e in page.all("a") if "title" in e.attributes
    }
    assert named <= tips


def test_a_mark_shows_the_name_and_text_of_its_fact(five: Drawn) -> None:
    page = parse(five.html)
    fact = five.report.fact("gradcam.deletion_auc")
    assert fact is not None
    (link, *_) = [e for e in page.all("a") if e.attributes["href"] == f"#fact-{fact.name}"]
    assert link.attributes["title"] == f"{fact.name} = {fact.text}"
    (row,) = [e for e in page.all("tr") if e.attributes.get("id") == f"fact-{fact.name}"]
    assert row.text.split()[:3] == [link.text, fact.name, fact.text]


def test_two_facts_never_share_an_anchor() -> None:
    report, arrays = sample((), (48, 48))
    facts = [
        report.facts[0].model_copy(update={"name": name}) for name in ("a~b", "a b", "a_b", "a_b-2")
    ]
    cited = Sentence(text="All four.", facts=tuple(fact.name for fact in facts))
    section = report.sections[0].model_copy(update={"sentences": (cited,)})
    changed = {"facts": tuple(facts), "sections": (section,), "findings": ()}
    page = parse(to_html(report.model_copy(update=changed), arrays))
    ids = page.having("id")
    assert len([i for i in ids if i.startswith("fact-")]) == 4
    assert len(ids) == len(set(ids))


def test_a_fact_that_is_missing_leads_nowhere() -> None:
    report, arrays = sample((), (48, 48))
    page = parse(to_html(report.model_copy(update={"facts": ()}), arrays))
    assert "prediction.probability: not in this report" in page.having("title")
    assert [href for href in page.having("href") if "fact" in href] == []
    assert page.of_class("probability")[0].text.split()[0] == "–"


def test_every_number_in_a_table_is_the_text_of_a_fact(five: Drawn) -> None:
    facts = tuple(f.model_copy(update={"text": f"[{f.name}]"}) for f in five.report.facts)
    changed = {"facts": facts, "sections": _emptied(five.report), "findings": ()}
    text = parse(to_html(five.report.model_copy(update=changed), five.arrays)).text
    # Short texts ("0", "50%", "yes") occur in captions and settings too.
    measured = [f.text for f in five.report.facts if re.fullmatch(r"-?0\.\d{3,}", f.text)]
    assert len(measured) > 40
    assert [number for number in measured if number in text] == []
    assert text.count("[gradcam.deletion_auc]") == 2  # under the figure, in the table


def _emptied(report: Report) -> tuple[Section, ...]:
    return tuple(section.model_copy(update={"sentences": ()}) for section in report.sections)


def test_headings_go_down_one_level_at_a_time(five: Drawn) -> None:
    page = parse(five.html)
    levels = [int(e.tag[1]) for e in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_sections_are_numbered_in_their_order(five: Drawn) -> None:
    headings = [" ".join(e.text.split()) for e in parse(five.html).all("h2")]
    titles = [f"{i} {s.title}" for i, s in enumerate(five.report.sections, start=1)]
    assert [h for h in headings if h[0].isdigit()] == titles
    assert headings[-4:] == [
        "A Methods and metric dictionary", "B Provenance", "C Findings and thresholds", "D Facts",
    ]  # fmt: skip


@pytest.mark.parametrize(("tag", "word"), [("figcaption", "Figure"), ("caption", "Table")])
def test_figures_and_tables_are_numbered(five: Drawn, tag: str, word: str) -> None:
    captions = [" ".join(e.text.split()) for e in parse(five.html).all(tag)]
    numbers = [int(m[1]) for c in captions if (m := re.match(rf"{word} (\d+)\. \S", c))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 7


def test_a_reader_without_sight_gets_the_page(five: Drawn) -> None:
    page = parse(five.html)
    assert page.all("html")[0].attributes["lang"] == "en"
    assert [e for e in page.all("img") if len(e.attributes["alt"]) < 10] == []
    assert [e for e in page.all("th") if e.attributes["scope"] not in ("row", "col")] == []
    assert len(page.all("table")) == len(page.all("caption")) == len(page.all("thead"))
    assert {e.attributes["aria-hidden"] for e in page.all("svg")} == {"true"}


def test_findings_stand_with_the_gravest_first(five: Drawn) -> None:
    page = parse(five.html)
    words = [e.text.split()[0] for e in page.of_class("severity")]
    first_page = words[: len(five.report.findings)]
    assert first_page == ["Problem", "Caution", "Caution", "Note", "Pass"]
    assert words[len(first_page) :] == first_page
    assert "Threshold: max-sensitivity above 0.500." in page.text


def test_more_findings_and_maps_than_fit_are_counted() -> None:
    report, arrays = sample(TWELVE, (32, 32))
    finding = report.findings[0].model_copy(update={"statement": "Word " * 100})
    report = report.model_copy(update={"findings": (finding,) * 9})
    page = parse(to_html(report, arrays))
    assert [" ".join(e.text.split()) for e in page.of_class("more")] == [
        "6 more maps in the sections.", "7 more findings in appendix C.",
    ]  # fmt: skip
    assert not any("…" in e.text for e in page.of_class("statement"))


def test_the_first_page_has_the_verdict_and_one_short_sentence_for_a_rule() -> None:
    report, arrays = sample(TWELVE, (32, 32))
    fact = report.facts[0].name
    brief = Sentence(text="It is short.", facts=(fact,), pattern="It is short.")
    first = report.findings[0].model_copy(update={"brief": brief, "rule": "one"})
    again = first.model_copy(update={"brief": None, "statement": "Told at length."})
    line = Sentence(text="All in a line.", facts=(fact,))
    report = report.model_copy(update={"findings": (first, again), "verdict": line})
    page = parse(to_html(report, arrays))
    assert page.text.count("It is short.") == 1
    assert [" ".join(e.text.split()) for e in page.of_class("more")] == [
        "6 more maps in the sections."
    ]
    (shown,) = page.of_class("line")
    assert shown.text.strip().startswith("All in a line.")
    assert f"{fact} = " in to_html(report, arrays).split('class="line"')[1].split("</p>")[0]


def test_what_is_assumed_and_skipped_is_said(five: Drawn) -> None:
    page = parse(five.html)
    rows = [" ".join(e.text.split()) for e in page.all("tr")]
    assert "resize 256 assumed" in rows
    assert [e.text for e in page.of_class("assumed")] == ["assumed"] * 3
    assert (
        page.text.count("Not made (sensitivity of LIME), for this reason: One copy takes longer")
        == 3
    )
    assert page.text.count("Not made (hirescam), for this reason:") == 1


def test_every_metric_has_a_section_that_tells_of_it_where_it_was_not_made() -> None:
    assert sorted(step for steps in STEPS.values() for step in steps) == sorted(METRICS)


def test_hashes_versions_and_cost_are_said(five: Drawn) -> None:
    rows = [" ".join(e.text.split()) for e in parse(five.html).all("tr")]
    assert f"Weights {five.report.model.weights_sha256}" in rows
    assert f"Picture: chelsea.png {five.report.image.sha256}" in rows
    assert "attribution 552 52 9.4 s" in rows
    assert "total 1,423 52 31.2 s" in rows
    assert "Determinism bitwise repeatable on this machine" in rows


def test_a_class_chosen_by_option_is_said() -> None:
    report, arrays = sample(("gradcam",), (48, 48))
    chosen = {"target": report.prediction.top[2], "target_source": "option"}
    report = report.model_copy(update={"prediction": report.prediction.model_copy(update=chosen)})
    page = parse(to_html(written(report), arrays))
    assert page.of_class("kicker")[0].text == "Explained class, chosen by option"
    assert page.of_class("label")[0].text == "tiger cat"
    assert "Top class tabby cat, 0.6238" in page.text
    assert "3 tiger cat explained class 0.1431" in page.text


def test_a_report_without_maps_is_drawn() -> None:
    report, arrays = sample((), (48, 48))
    text = parse(to_html(report, arrays)).text
    assert "There are not two maps to compare." in text
    assert "Rotation" in text


def test_a_skipped_method_says_why() -> None:
    report, arrays = sample(("gradcam",), (48, 48))
    section = Section(key="shap", title="SHAP", sentences=())
    skipped = Skipped(step="shap", reason="The picture is one segment.")
    changed = {"sections": (*report.sections, section), "skipped": (skipped,)}
    text = parse(to_html(report.model_copy(update=changed), arrays)).text
    assert text.count("Not made (shap), for this reason: The picture is one segment.") == 2


def test_a_report_without_rotation_and_noise_has_no_empty_headings() -> None:
    report, arrays = sample(("gradcam",), (48, 48))
    kept = [m for m in report.measurements if not m.metric.startswith(("rotation", "noise"))]
    arrays = {name: a for name, a in arrays.items() if not name.startswith(("rot", "noise"))}
    del arrays["curve.rotation"]
    report = written(report.model_copy(update={"measurements": tuple(kept)}))
    headings = [e.text for e in parse(to_html(report, arrays)).all("h3")]
    assert headings == [
        "Methods",
        "Metric dictionary",
        "What was read",
        "How it was computed",
        "What was skipped",
    ]


def test_a_report_without_arrays_has_all_its_tables(five: Drawn) -> None:
    html = to_html(five.report, {})
    page = parse(html)
    assert page.all("img") == []
    assert len(page.all("table")) == len(parse(five.html).all("table")) - 2  # the two matrices


@pytest.mark.parametrize(
    ("methods", "size", "channels"),
    [(TWELVE, (32, 32), 3), (FIVE, (28, 28), 1), (FIVE, (64, 96), 3), (("shap",), (150, 40), 1)],
)
def test_other_shapes_are_drawn(
    methods: tuple[str, ...], size: tuple[int, int], channels: int
) -> None:
    report, arrays = sample(methods, size, channels)
    page = parse(to_html(report, arrays))
    panels = [e for e in page.of_class("panel-label") if e.text == "On the whole picture"]
    assert len(panels) == len(methods)


def test_a_constant_map_is_named_as_such(five: Drawn) -> None:
    arrays = {**five.arrays, "map.shap": np.zeros((224, 224), np.float32)}
    page = parse(to_html(five.report, arrays))
    captions = [e.text for e in page.all("figcaption")]
    assert any("SHAP: constant map; there is nothing to colour." in c for c in captions)
    assert len(page.of_class("bar")) == 4


def test_words_that_are_very_long_are_kept_in_full_once() -> None:
    label = "Felis" + "-catus" * 60
    report, arrays = sample(("gradcam",), (48, 48), words=Words(label=label, image=label))
    page = parse(to_html(report, arrays))
    assert page.of_class("label")[0].text == label[:89] + "…"
    assert f"1 {label} explained class 0.6238" in page.text


def test_a_page_is_small_enough_to_send(five: Drawn) -> None:
    # The noise of the synthetic maps compresses worse than maps of a real model.
    assert len(five.html) < 1_250_000


def test_the_same_report_gives_the_same_page(five: Drawn) -> None:
    assert to_html(five.report, dict(reversed(five.arrays.items()))) == five.html


def test_arrays_are_left_as_they_are(small: Drawn) -> None:
    before = {name: array.copy() for name, array in small.arrays.items()}
    to_html(small.report, small.arrays)
    assert _differing(before, small.arrays) == []


def _differing(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> list[str]:
    return [name for name in one if not np.array_equal(one[name], other[name])]


def test_the_comparison_of_arrays_can_fail(small: Drawn) -> None:
    assert _differing(small.arrays, {**small.arrays, "crop": np.zeros(4)}) == ["crop"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_template_starts_with_its_variables(name: str) -> None:
    assert re.match(r"(\{#|/\*) (Variables: |Macros for )", html_template(name))


def test_a_variable_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'document' is undefined"):
        environment().get_template("report.html.j2").render()
