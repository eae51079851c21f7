"""Each language says all that English says, with the same variables and the same numbers."""

from __future__ import annotations

import re

import pytest

from reportgen.attribution import METHODS
from reportgen.facts.cards import NUMBERS, TEXTS
from reportgen.metrics import METRICS
from reportgen.phrases import CARDS, FILES, PHRASES, Sheet, parse_sheet, places
from reportgen.records import Card
from reportgen.resources import languages, text_template

OTHERS = [name for name in languages() if name != "en"]
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def sheet(language: str, file: str) -> Sheet:
    return parse_sheet(file, text_template(language, file))


def cards() -> dict[str, str]:
    """Return the English texts of all cards by key, as they stand in the code."""
    every: list[Card] = [entry.card for table in (METHODS, METRICS) for entry in table.values()]
    texts = {f"{card.key}.{name}": getattr(card, name) for card in every for name in TEXTS}
    for method in METHODS:
        texts.pop(f"{method}.title")  # a name, such as Grad-CAM
    for quantity in (quantity for card in every for quantity in card.quantities):
        texts |= {f"number.{quantity.key}.{name}": getattr(quantity, name) for name in NUMBERS}
    return {key: text for key, text in texts.items() if text}


def numbers(text: str) -> list[str]:
    return sorted(NUMBER.findall(text))


@pytest.mark.parametrize("file", FILES)
def test_the_english_file_lists_the_variables_it_uses_and_no_others(file: str) -> None:
    found = sheet("en", file)
    used = {name for text in found.texts.values() for name in places(text)}
    assert found.variables == used


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("language", OTHERS)
def test_a_language_has_the_same_sentences_with_the_same_variables(
    language: str, file: str
) -> None:
    english, other = sheet("en", file), sheet(language, file)
    assert list(other.texts) == list(english.texts)
    assert other.variables == english.variables
    for key, text in english.texts.items():
        assert places(other.texts[key]) == places(text), key
        assert re.findall(r"\{[^{}]*\?\}", text) == re.findall(r"\{[^{}]*\?\}", other.texts[key])


@pytest.mark.parametrize("language", OTHERS)
def test_a_language_has_every_card_with_the_same_numbers(language: str) -> None:
    english, other = cards(), sheet(language, CARDS).texts
    assert sorted(other) == sorted(english)
    for key, text in english.items():
        assert numbers(other[key]) == numbers(text), key


@pytest.mark.parametrize("language", OTHERS)
def test_a_sentence_ends_as_the_english_one_does(language: str) -> None:
    for file in FILES:
        other = sheet(language, file).texts
        for key, text in sheet("en", file).texts.items():
            ends = len(text) > len("No.") and text[-1] in ".:"  # a stop, and no abbreviation
            assert not ends or other[key][-1] == text[-1], key
            assert "  " not in other[key], key


def test_no_phrase_stands_in_two_files() -> None:
    words, page = (sheet("en", file).texts for file in PHRASES)
    assert not set(words) & set(page)
