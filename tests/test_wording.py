from __future__ import annotations

import re
import tomllib

import pytest

from reportgen import wording
from reportgen.errors import UsageError
from reportgen.phrases import parse_sheet
from reportgen.records import Fact
from reportgen.resources import text_template
from reportgen.wording import Wording, fact_names, read_wording

FILES = ("findings.toml", "sections.toml")
GOOD = 'variables = ["@.title", "b"]\n[sentences]\nk = "{@.title} has {b}, {b}."\n'


def facts(**texts: str | None) -> dict[str, Fact]:
    """Return facts by name; "__" stands for a dot, a text with "?" has no value."""
    made = {}
    for name, text in texts.items():
        plain = (text or "").removesuffix("?")
        value = None if (text or "").endswith("?") else plain
        dotted = name.replace("__", ".")
        made[dotted] = Fact(name=dotted, value=value, text=plain, source="")
    return made


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch):
    def use(text: str) -> None:
        monkeypatch.setattr(wording, "spoken_sheet", lambda file: parse_sheet(file, text))

    return use


def test_a_sentence_is_filled_with_the_facts_of_its_subject(template) -> None:
    template(GOOD)
    words = read_wording("x.toml", facts(cat__title="Cat", dog__title="Dog", b="4"))
    sentence = words.sentence("k", "cat")
    assert sentence.text == "Cat has 4, 4."
    assert sentence.facts == ("cat.title", "b")
    assert words.sentence("k", "dog").text == "Dog has 4, 4."


def test_what_a_fact_says_is_not_filled_in_again(template) -> None:
    template(GOOD)
    words = read_wording("x.toml", facts(cat__title="{b} \\1 {@.title}", b="4"))
    assert words.sentence("k", "cat").text == "{b} \\1 {@.title} has 4, 4."


def test_a_sentence_needs_a_value_for_each_fact(template) -> None:
    template('variables = ["a"]\n[sentences]\nk = "{a}."\nloose = "{a?}."\n')
    for given, strict, loose in (
        (facts(a="4"), True, True),
        (facts(a="none so far?"), False, True),
        (facts(a=""), False, False),
        (facts(), False, False),
    ):
        words = read_wording("x.toml", given)
        assert (words.has("k"), words.has("loose"), words.has("other")) == (strict, loose, False)
    assert read_wording("x.toml", facts(a="no?")).sentence("loose").text == "no."


def test_a_variable_that_the_file_does_not_list_is_named(template) -> None:
    template(GOOD.replace('"b"]', '"c"]'))
    with pytest.raises(UsageError, match=r"'k' in x\.toml uses the variable 'b'"):
        read_wording("x.toml", {})


def test_a_fact_that_the_report_does_not_have_is_named() -> None:
    words = Wording("x.toml", {"k": "{a.b}"}, {})
    with pytest.raises(UsageError, match=r"'k' in x\.toml needs the fact 'a\.b'"):
        words.sentence("k")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variables = [", "not valid TOML"),
        ("[sentences]", "no 'variables'"),
        ("variables = []", "no 'sentences'"),
        ("variables = 3\n[sentences]", "no 'variables'"),
    ],
)
def test_a_file_that_is_no_template_is_refused(template, text: str, message: str) -> None:
    template(text)
    with pytest.raises(UsageError, match=message):
        read_wording("x.toml", {})


def test_names_stand_once_and_in_order() -> None:
    assert fact_names("{b} {@.a?} {b} {@.a}", "s") == ("b", "s.a")


@pytest.mark.parametrize("file", FILES)
def test_a_file_lists_the_variables_it_uses_and_no_others(file: str) -> None:
    parsed = tomllib.loads(text_template("en", file))
    used = {name for text in parsed["sentences"].values() for name in fact_names(text, "@")}
    assert sorted(parsed["variables"]) == sorted(used)


@pytest.mark.parametrize("file", FILES)
def test_sentences_are_sentences(file: str) -> None:
    for key, text in read_wording(file, {}).sentences.items():
        clause = key.startswith("line-")  # part of the verdict's line
        assert clause or re.match(r"[A-Z{]", text)
        assert text.endswith(".") != clause
        assert "  " not in text
        assert text.count("“") == text.count("”")
