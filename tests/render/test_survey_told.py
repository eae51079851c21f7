"""Each sentence of a survey rests on numbers in its record, and leads to them on its page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from factories import SmallNet
from html_page import parse
from survey_toys import Numbers as Measured
from survey_toys import placed, tally_of
from test_translated_report import english_pieces, seen

import reportgen
from reportgen.phrases import retold, speaking
from reportgen.records import Fact, Run
from reportgen.render import survey_text
from reportgen.render.survey_html import to_survey_html
from reportgen.render.survey_numbers import Numbers, numbers_of
from reportgen.render.survey_reader import parse_survey
from reportgen.render.survey_told import Told
from reportgen.surveys.records import Entry, Survey
from reportgen.surveys.survey import survey_of

METHODS = ("gradcam", "saliency")
RUN = Run(created="2026-01-01T00:00:00+00:00", seconds={"total": 1.0})
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
ROW = re.compile(r'<tr id="(fact-\d+)">(.*?)</tr>', re.DOTALL)
MARKED = re.compile(r'<sup class="marks">(.*?)</sup>', re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """A survey, its sentences, and its page."""

    survey: Survey
    said: tuple[Told, ...]
    html: str


def said(numbers: Numbers, printed: bool) -> Iterator[Told]:
    """Yield every sentence of a survey, in reading order."""
    yield survey_text.verdict(numbers)
    yield from survey_text.summary(numbers)
    for place in range(len(numbers.survey.named)):
        yield survey_text.value_of(numbers, place)
    for part in ("medians", "differences", "doubtful", "making"):
        yield from getattr(survey_text, part)(numbers)
    for place, entry in enumerate(numbers.survey.entries):
        if entry.verdict:
            yield survey_text.verdict_of(numbers, place)
    if printed:
        yield survey_text.pages_note(numbers)


def shown(survey: Survey, printed: bool = False) -> Shown:
    found = tuple(said(numbers_of(survey), printed))
    return Shown(survey, found, to_survey_html(survey, {}, printed))


def complaints(one: Shown) -> list[str]:
    """Return what is wrong with the sentences of a survey, by its record and its page."""
    content = json.loads(one.survey.model_dump_json())
    plain = parse(MARKED.sub("", one.html)).text
    rows = {name: parse(f"<body>{row}</body>").text for name, row in ROW.findall(one.html)}
    return [
        *(wrong for told in one.said for wrong in _unsound(told, content)),
        *(f"not on the page: {t.text}" for t in one.said if " ".join(t.text.split()) not in plain),
        *_unmarked(one, rows),
        *_without_marks(one.html),
    ]


def _unsound(told: Told, content: Any) -> Iterator[str]:
    if not told.facts:
        yield f"rests on nothing: {told.text}"
    for fact in told.facts:
        found, value = _behind(content, fact.source)
        if not found or value != fact.value or not _is_text_of(fact.text, value):
            yield f"not in the record: {fact}"
    known = {number for fact in told.facts for number in NUMBER.findall(fact.text)}
    for number in NUMBER.findall(told.text):
        if number not in known:
            yield f"a number of its own: {number} in {told.text}"


def _behind(content: Any, pointer: str) -> tuple[bool, Any]:
    """Return whether a JSON pointer leads somewhere, and to what."""
    found = content
    for part in pointer.split("/")[1:]:
        key: Any = int(part) if isinstance(found, list) else part.replace("~1", "/")
        try:
            found = found[key]
        except (KeyError, IndexError, TypeError):
            return False, None
    return True, found


def _is_text_of(text: str, value: Any) -> bool:
    """Return whether ``text`` is what is shown of a value: rounded, or cut."""
    if isinstance(value, str):
        return text in (value, retold("note", value)) or (
            text.endswith("…") and value.startswith(text[:-1])
        )
    unit = 10.0 ** -len(text.partition(".")[2])
    return bool(abs(float(text.replace(",", "")) - value) <= unit / 2 + 1e-9)


def _unmarked(one: Shown, rows: dict[str, str]) -> Iterator[str]:
    """Yield each mark that leads to no row, and each fact that no row of the table shows."""
    for anchor in re.findall(r'<sup class="marks">.*?</sup>', one.html):
        for target in re.findall(r'href="#([^"]*)"', anchor):
            if target not in rows:
                yield f"leads nowhere: {target}"
    for fact in (fact for told in one.said for fact in told.facts):
        if not any(row.endswith(f" {fact.source} {fact.text}") for row in rows.values()):
            yield f"in no row: {fact.name}"


def _without_marks(html: str) -> Iterator[str]:
    """Yield each text that stands as a sentence on the page and has no mark."""
    starts = r'<span class="sentence">(.*?)(?=<span class="sentence">|</p>)'
    for line in re.findall(starts, html, re.DOTALL):
        if "<sup" not in line:
            yield f"no mark: {line}"
    for body in re.findall(r'<p class="(?:line|sentences)[^"]*">(.*?)</p>', html, re.DOTALL):
        if not body.strip().startswith('<span class="sentence">'):
            yield f"no sentence: {body}"


def measured(index: int) -> Measured:
    return {
        ("deletion", "gradcam"): placed(0.1 + 0.01 * index, -2.0 + index / 10, 1 / 21),
        ("deletion", "saliency"): placed(0.3 + 0.02 * index, -1.0, 0.5),
        ("iou", "gradcam~saliency"): 0.4 - 0.01 * index,
        ("sensitivity", "gradcam"): 0.1 * index,
    }


def toy(count: int, *models: str) -> Survey:
    tally = tally_of({model: [measured(i) for i in range(count)] for model in models})
    gone = Entry(number=count + 1, image="x 7.png", model=models[0], reason="Picture 8 is broken.")
    tally.fail(gone)
    return survey_of(tally, 2, RUN)


def under_other_settings() -> Survey:
    values = [{("deletion", "gradcam"): {"value": 0.1, "settings": {"steps": i}}} for i in range(3)]
    return survey_of(tally_of({"a": values}), 0, RUN)


def of_unlike_models() -> Survey:
    models = {
        name: [{("deletion", "gradcam"): {"value": 0.1 * i, "settings": {"s": name}}}] * 8
        for i, name in enumerate("ab")
    }
    return survey_of(tally_of(models), 0, RUN)


def without_differences() -> Survey:
    values: list[Measured] = [{("deletion", m): 0.2 for m in ("gradcam", "saliency")}] * 8
    return survey_of(tally_of({"model/of~2026": values}), 0, RUN)


TOYS: dict[str, Callable[[], Survey]] = {
    "few pictures": lambda: toy(3, "a"),
    "eight pictures": lambda: toy(8, "a 2"),
    "many pictures": lambda: toy(21, "a"),
    "equal models": lambda: toy(8, "first", "second-" * 12),
    "other settings": under_other_settings,
    "unlike models": of_unlike_models,
    "no differences": without_differences,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a real survey: two models, two pictures, and one that is broken."""
    place = tmp_path_factory.mktemp("survey")
    (place / "broken.png").write_bytes(b"nothing")
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (20, 24, 3), dtype=np.uint8) for _ in range(2)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models = [SmallNet(), SmallNet()]
    options = {
        "profile": "quick", "size": "16", "methods": "gradcam,saliency", "curve_steps": 3,
        "metrics": "deletion,agreement", "control_draws": 1,
    }  # fmt: skip
    images = [*pictures, place / "broken.png"]
    reportgen.survey(models, images, place / "out", options, ("json",))
    return place / "out"


@pytest.fixture(scope="module")
def real(folder: Path) -> Shown:
    content = (folder / "report.json").read_bytes()
    survey = parse_survey(content, "report.json")
    return shown(survey)


def test_a_real_survey_says_what_was_measured(real: Shown) -> None:
    assert complaints(real) == []
    assert len(real.said) >= 10


def test_its_pictures_stand_with_the_verdict_of_their_report(real: Shown, folder: Path) -> None:
    texts = [element.text for element in parse(MARKED.sub("", real.html)).of_class("said")]
    for entry in real.survey.reported:
        report = json.loads((folder / entry.folder / "report.json").read_bytes())
        assert entry.verdict == report["verdict"]["text"]
        assert [fact.name for fact in entry.facts] == report["verdict"]["facts"]
        assert all(fact.model_dump(mode="json") in report["facts"] for fact in entry.facts)
    assert [text.strip() for text in texts] == [e.verdict for e in real.survey.reported]


@pytest.mark.parametrize("printed", [False, True], ids=["screen", "print"])
@pytest.mark.parametrize("kind", TOYS)
def test_surveys_of_every_kind_say_what_was_measured(kind: str, printed: bool) -> None:
    assert complaints(shown(TOYS[kind](), printed)) == []


def test_what_no_data_could_show_is_said_beside_the_tests() -> None:
    keys = ("deletion", "insertion", "drop")
    values: list[Measured] = [
        {(key, m): 0.1 * i * (m == "saliency") + 0.01 for key in keys for m in METHODS}
        for i in range(1, 7)
    ]
    found = shown(survey_of(tally_of({"a": values}), 0, RUN))
    assert complaints(found) == []
    first, second, *_ = survey_text.differences(numbers_of(found.survey))
    assert first.text.startswith(
        "3 of 3 paired comparisons between methods could be tested; in 0 of"
    )
    assert second.text.startswith("3 of 3 comparisons between methods could not show a difference")
    assert "at least 7 are needed" in second.text


def in_portuguese(survey: Survey) -> Shown:
    config = {**survey.provenance.config, "language": "pt"}
    provenance = survey.provenance.model_copy(update={"config": config})
    with speaking("pt"):
        return shown(survey.model_copy(update={"provenance": provenance}), printed=True)


def english_in(html: str) -> set[str]:
    """Return the English texts of which a piece stands on a page, in none of its pointers."""
    text = seen(re.sub(r"<td>/[^<]*</td>", "", html))
    pieces = english_pieces("pt").items()
    return {k for k, p in pieces if re.search(rf"(?<![\w.-]){re.escape(p)}(?![\w-])", text)}


@pytest.mark.parametrize("kind", TOYS)
def test_in_another_language_too(kind: str) -> None:
    found = in_portuguese(TOYS[kind]())
    with speaking("pt"):
        assert complaints(found) == []
    assert english_in(found.html) == set()


def test_english_is_seen() -> None:
    assert {"survey.reading", "survey.facts"} <= english_in(shown(toy(8, "a")).html)


def changed(one: Shown, **update: Any) -> Shown:
    """Return the same with its first sentence's first fact changed."""
    first, *others = one.said
    fact, *facts = first.facts
    wrong = Fact.model_validate({**fact.model_dump(), **update})
    return replace(one, said=(replace(first, facts=(wrong, *facts)), *others))


def resaid(one: Shown, text: str, facts: Sequence[Fact]) -> Shown:
    return replace(one, said=(Told(text, tuple(facts)), *one.said))


PLANTED: dict[str, tuple[str, Callable[[Shown], Shown]]] = {
    "no facts": ("rests on nothing", lambda one: resaid(one, "All is well.", ())),
    "no place": ("not in the record", lambda one: changed(one, source="/totals/imagined")),
    "another place": ("not in the record", lambda one: changed(one, source="/totals/forward")),
    "another value": ("not in the record", lambda one: changed(one, value=77)),
    "another text": ("not in the record", lambda one: changed(one, text="77")),
    "another number": (
        "a number of its own",
        lambda one: resaid(one, "It is 77.", one.said[0].facts),
    ),
    "another sentence": ("not on the page", lambda one: resaid(one, "Ah.", one.said[0].facts)),
    "no row": ("leads nowhere", lambda one: replace(one, html=one.html.replace('id="fact-1"', ""))),
    "a row of something else": (
        "in no row",
        lambda one: replace(one, html=one.html.replace("<td>/totals/explained<", "<td>/else<")),
    ),
    "no mark": (
        "no mark",
        lambda one: replace(one, html=re.sub(r"<sup.*?</sup>", "", one.html, count=1)),
    ),
    "a bare text": (
        "no sentence",
        lambda one: replace(one, html=one.html.replace('<p class="line">', '<p class="line">No. ')),
    ),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_error_is_found(kind: str) -> None:
    message, plant = PLANTED[kind]
    sound = shown(toy(3, "a"))
    assert complaints(sound) == []
    assert any(found.startswith(message) for found in complaints(plant(sound)))


def judged(*counts: tuple[int | None, int | None], problems: Sequence[int] = ()) -> str:
    """Return the verdict on reports of which so many maps were judged, and were better."""
    found = survey_of(tally_of({"a": [measured(i) for i in range(len(counts))]}), 0, RUN)
    entries = [
        entry.model_copy(update={"judged": a, "beating": b, "problems": c, "cautions": 0})
        for entry, (a, b), c in zip(found.entries, counts, problems or [0] * 9, strict=False)
    ]
    update = {"entries": tuple(entries), "totals": None}
    return survey_text.verdict(numbers_of(found.model_copy(update=update))).text


class TestVerdict:
    def test_maps_that_are_evidence(self) -> None:
        assert judged((2, 2), (2, 0), (1, 1), problems=(2, 0, 1)) == (
            "3 of 3 pictures explained; better than smooth random maps: 3 of 5 maps judged, at "
            "least one in 2 of 3 reports; 3 problems in 2 of 3 reports, and no cautions."
        )

    def test_maps_that_are_none(self) -> None:
        assert "no map does better than smooth random ones, of 4 judged" in judged((2, 0), (2, 0))

    def test_maps_that_could_not_be_judged(self) -> None:
        assert "no map could be judged, so none is evidence" in judged((0, 0))

    def test_nothing_is_said_of_maps_that_are_not_recorded(self) -> None:
        assert judged((None, None)) == "1 of 1 pictures explained; no problems and no cautions."

    def test_several_models_count_reports(self) -> None:
        line = survey_text.verdict(numbers_of(toy(3, "a", "b"))).text
        assert line.startswith("6 of 7 reports made, of 4 pictures under 2 models; ")


def test_a_survey_of_the_first_version_is_read_and_drawn() -> None:
    data = json.loads(toy(3, "a").model_dump_json())
    data["schema_version"] = "survey-1.0"
    del data["totals"], data["criteria"]["compared_most"]
    for entry in data["entries"]:
        del entry["verdict"], entry["judged"], entry["beating"]
    old = parse_survey(json.dumps(data).encode(), "report.json")
    page = parse(to_survey_html(old, {}, printed=False))
    assert "3 of 4 pictures explained; " in page.text
    assert "maps judged" not in page.text and not page.of_class("said")
