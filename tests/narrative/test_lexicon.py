from __future__ import annotations

import pytest

from reportgen.errors import UsageError
from reportgen.narrative.lexicon import FILE, expanded, parse_lexicon, read_lexicon
from reportgen.resources import text_template

TEXT = text_template("en", FILE)


def test_alternatives_are_written_out() -> None:
    assert list(expanded("(a|b) c(d|)")) == ["a cd", "a c", "b cd", "b c"]


def test_a_phrase_may_have_several_readings() -> None:
    phrases = read_lexicon("en").phrases
    assert phrases[("highest", "ranked")] == (("TOP",),)
    assert set(phrases[("as",)]) == {("IN",), ("BECAUSE",)}


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("articles = [", "articles = ", "no valid TOML"),
        ("articles =", "particles =", "has no 'articles'"),
        ("articles =", "more = []\narticles =", "Unknown entry"),
        ("rules = [", 'rules = ["BETTER = FINER", ', "uses 'FINER'"),
        ("rules = [", 'rules = ["BETTER = BETTER MAP", ', "never ends"),
        ('adverbs = ["AVERAGE"', 'adverbs = ["SOMEHOW"', "uses 'SOMEHOW'"),
    ],
)
def test_a_vocabulary_that_cannot_be_used_says_why(right: str, wrong: str, said: str) -> None:
    assert right in TEXT
    with pytest.raises(UsageError, match=said):
        parse_lexicon("en", TEXT.replace(right, wrong, 1))


def test_a_language_without_a_vocabulary_is_named() -> None:
    with pytest.raises(UsageError, match="xx"):
        read_lexicon("xx")
