from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from narration_corpus import FACTS, TRUE, Narration, narrations, templates

from reportgen.narrative import comparing
from reportgen.narrative.checking import Checked, check, read_lexicon
from reportgen.narrative.comparing import readings
from reportgen.narrative.lexicon import FILE, Lexicon, parse_lexicon
from reportgen.narrative.rewriting import MOST_ROWS, reachable, without_nouns
from reportgen.records import Fact, Sentence
from reportgen.resources import text_template

LEXICON = read_lexicon("en")
TEMPLATES = templates()
NAME = r"\{[^{}]+\}"
# More of the true paraphrases than this share may not be refused: the feature would be of no use.
MOST_REFUSED = 0.2
TOLD_BY_MEANING = {"negation", "hedge", "order or sign"}
OPPOSITES = {
    "highest": "lowest", "better": "worse", "first": "last", "at most": "at least", "more": "less",
    "lower": "higher", "below": "above", "from": "to", "supports": "fails", "stable": "unstable",
    "unstable": "stable", "all": "some", "none": "all", "neither": "both", "nothing": "something",
    "no": "any", "only": "mostly", "clearly": "hardly", "another": "same", "most": "least",
    "least": "most", "fails": "passes", "positive": "negative", "up to": "over",
    "disagree": "agree", "mean": "lowest", "on average": "always", "about": "exactly",
    "weak": "firm", "should": "will",
}  # fmt: skip
ANCHORED = sorted(
    " ".join(phrase)
    for phrase, readings in LEXICON.phrases.items()
    if any(set(reading) & LEXICON.anchors for reading in readings)
)


def refusal(draft: str, pattern: str, lexicon: Lexicon = LEXICON) -> str:
    sentence = Sentence(text="", facts=(), pattern=pattern)
    return check(draft, sentence, FACTS, lexicon).refusal


@cache
def outcomes(lexicon: Lexicon) -> list[tuple[Narration, str]]:
    return [(narration, narration.refusal(lexicon)) for narration in narrations()]


def accepted_falsely(lexicon: Lexicon) -> list[str]:
    return [n.draft for n, found in outcomes(lexicon) if not n.holds and not found]


def test_the_corpus_is_large_and_of_many_kinds() -> None:
    kinds = Counter(narration.kind for narration in narrations())
    assert kinds[TRUE] >= 150
    assert kinds.total() - kinds[TRUE] >= 250
    assert len(kinds) >= 15


def test_no_false_narration_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    accepted = accepted_falsely(LEXICON)
    true = [found for narration, found in outcomes(LEXICON) if narration.holds]
    refused = sum(bool(found) for found in true)
    with capsys.disabled():
        false = len(outcomes(LEXICON)) - len(true)
        sys.stdout.write(
            f"\nfalse narrations accepted: {len(accepted)} of {false}; true ones refused: "
            f"{refused} of {len(true)} ({refused / len(true):.0%})\n"
        )
    assert accepted == []
    assert refused / len(true) <= MOST_REFUSED


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("fillers = [", 'fillers = ["not", "no", '),
        ('HIGHEST = ["highest"', 'HIGHEST = ["highest", "lowest"'),
        ('FIRM = ["firm"', 'FIRM = ["firm", "weak"'),
        ("rules = [", 'rules = ["BETTER = WORSE", '),
        ('nouns = ["LABEL", "CLASS"]', 'nouns = ["LABEL", "CLASS", "NOT"]'),
        ('MAP = ["map"', 'MAP = ["map", "maps"'),
        ('active = ["(lie|lying)"', 'active = ["(lie|lies|lying)"'),
        ('articled = ["only", "one"', 'articled = ["one"'),
    ],
    ids=[
        "no negation",
        "one polarity",
        "a hedge",
        "a wrong rule",
        "a negation as a noun",
        "a plural",
        "another referent",
        "an article",
    ],
)
def test_the_corpus_finds_a_hole_in_the_vocabulary(right: str, wrong: str) -> None:
    text = text_template("en", FILE)
    assert right in text
    holed = parse_lexicon("en", text.replace(right, wrong, 1))
    told = [n for n, found in outcomes(LEXICON) if not n.holds and found in TOLD_BY_MEANING]
    assert any(not narration.refusal(holed) for narration in told)


@pytest.mark.parametrize("subject", ["gradcam", "gradcam~shap", "my method (2)"])
@pytest.mark.parametrize("key", TEMPLATES)
def test_a_template_word_for_word_is_accepted(key: str, subject: str) -> None:
    pattern = re.sub(r"\{gradcam\.", f"{{{subject}.", TEMPLATES[key])
    assert refusal(pattern, pattern) == ""
    assert refusal(pattern.replace("“", '"').replace("”", '"'), pattern) == ""


def is_searched_to_its_end(pattern: str, lexicon: Lexicon) -> bool:
    """Return whether all that a template may become was found before the search was cut off."""
    starts = {without_nouns(row, lexicon) for row in readings(pattern, lexicon)}
    return all(len(reachable(start, lexicon)) < MOST_ROWS for start in starts)


@pytest.mark.parametrize("key", TEMPLATES)
def test_a_template_is_searched_to_its_end(key: str) -> None:
    assert is_searched_to_its_end(TEMPLATES[key], LEXICON)


def test_a_rule_that_feeds_itself_would_be_seen() -> None:
    changes = tuple(replace(change, once="") for change in LEXICON.changes)
    feeding = replace(LEXICON, changes=changes)
    assert not is_searched_to_its_end(TEMPLATES["sections rotation-flips"], feeding)


def test_the_corpus_needs_what_stands_between_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "is_joined_otherwise", lambda *_: False)
    found = [n for n in narrations() if n.kind == "small change" and not n.refusal(LEXICON)]
    assert len(found) > 10


@pytest.mark.parametrize("key", TEMPLATES)
def test_one_change_to_a_fact_is_refused(key: str) -> None:
    pattern = TEMPLATES[key]
    names = sorted(set(re.findall(NAME, pattern)))
    for name in names:
        assert refusal(pattern.replace(name, "0.7", 1), pattern)
        assert refusal(pattern.replace(name, "{made.up.fact}", 1), pattern) == "unknown fact"
        assert refusal(pattern.replace(name, "goldfish", 1), pattern)
        assert refusal(pattern.replace(name, f"{name} {name}", 1), pattern)
    for one, other in combinations(names, 2):
        swapped = pattern.replace(one, "<>").replace(other, one).replace("<>", other)
        assert refusal(swapped, pattern), swapped


@pytest.mark.parametrize("key", TEMPLATES)
def test_the_opposite_is_refused(key: str) -> None:
    pattern = TEMPLATES[key]
    for word, opposite in OPPOSITES.items():
        for found in re.finditer(rf"\b{word}\b", pattern, re.I):
            if not pattern[: found.start()].count("{") > pattern[: found.start()].count("}"):
                turned = pattern[: found.start()] + opposite + pattern[found.end() :]
                assert refusal(turned, pattern), turned


@pytest.mark.parametrize("key", TEMPLATES)
def test_a_negation_can_be_neither_added_nor_dropped(key: str) -> None:
    pattern = TEMPLATES[key]
    words = pattern.split(" ")
    for at in range(1, len(words)):
        added = " ".join([*words[:at], "not", *words[at:]])
        assert refusal(added, pattern), added
    for word in ("not", "no", "none", "neither", "nothing", "cannot"):
        dropped = re.sub(rf"\b{word}\b ?", "", pattern, count=1, flags=re.I)
        if dropped != pattern:
            assert refusal(dropped, pattern), dropped


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(TEMPLATES)), st.sampled_from(ANCHORED), st.integers(0, 99))
def test_no_weighty_phrase_can_be_added(key: str, phrase: str, place: int) -> None:
    pattern = TEMPLATES[key]
    words = pattern.split(" ")
    at = place % len(words)
    added = " ".join([*words[:at], phrase, *words[at:]])
    assert refusal(added, pattern), added


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(TEMPLATES)), st.text("abcdefghijklmnopqrstuvwxyz", min_size=3))
def test_no_word_outside_the_vocabulary_can_be_added(key: str, word: str) -> None:
    pattern = TEMPLATES[key]
    known = {w for phrase in LEXICON.phrases for w in phrase} | LEXICON.articles
    if word not in known and word not in pattern.lower():
        assert refusal(f"{word} {pattern}", pattern)


CALLS = "The model calls the picture “{a.label}” with a probability of {a.probability}."


@pytest.mark.parametrize(
    ("draft", "reason"),
    [
        ("", "format"),
        ("...", "format"),
        (CALLS.replace("calls", "ca\u200blls"), "format"),
        (CALLS.replace("model", "m\u043edel"), "language"),
        (CALLS.replace(" with", "\nwith"), "format"),
        (CALLS.replace("{a.label}", "{{a.label}}"), "format"),
        (f"- {CALLS}", "format"),
        (f"{CALLS[:-1]}?", "format"),
        (f"<i>{CALLS}</i>", "format"),
        (CALLS.replace("The", "“The”"), "format"),
        (CALLS.replace("calls", "4 calls"), "number"),
        (CALLS.replace("calls", "५ calls"), "number"),
        (CALLS.replace("calls", "½ calls"), "number"),
        (CALLS.replace("{a.label}", "{b.label}"), "unknown fact"),
        ("The model calls the picture “{a.label}”.", "missing fact"),
        (f"{CALLS} The model calls.", "several sentences"),
        (CALLS.replace("picture", "twice"), "number"),
        (CALLS[:-1] + " because of ears.", "cause"),
        (CALLS.replace("calls", "reliably calls"), "certainty"),
        (CALLS.replace("calls", "whiskers calls"), "unknown word"),
        (CALLS.replace("calls", "not calls"), "negation"),
        (CALLS.replace("calls", "only calls"), "hedge"),
        (CALLS.replace("calls", "calls calls"), "repetition"),
        (
            "Das Modell nennt das Bild “{a.label}” mit Wahrscheinlichkeit {a.probability}.",
            "language",
        ),
        (CALLS[:-1] + " in the model" * 9 + ".", "too long"),
    ],
)
def test_a_refusal_says_why(draft: str, reason: str) -> None:
    assert refusal(draft, CALLS) == reason


def test_an_accepted_draft_is_given_back_as_one_tidy_line() -> None:
    sentence = Sentence(text="", facts=(), pattern=CALLS)
    draft = ' The model  predicts "{a.label}" with a probability of {a.probability} '
    assert check(draft, sentence, {}, LEXICON) == Checked(
        'The model predicts "{a.label}" with a probability of {a.probability}.', ""
    )


GOES = "The probability goes from {deletion.first} to {deletion.last}."


@pytest.mark.parametrize(
    ("first", "last", "interval", "refused"),
    [
        (0.9, 0.1, None, False),
        (0.1, 0.9, None, True),
        (0.5, 0.5, None, True),
        (0.90001, 0.9, None, True),
        (0.9, 0.1, (0.05, 0.95), True),
        (0.9, 0.1, (0.05, 0.15), False),
        ("0.9", "0.1", None, True),
    ],
)
def test_a_comparison_of_the_draft_must_be_true(
    first: float | str, last: float | str, interval: tuple[float, float] | None, refused: bool
) -> None:
    facts = {
        "deletion.first": Fact(name="deletion.first", value=first, text=f"{first:.4}", source=""),
        "deletion.last": Fact(
            name="deletion.last", value=last, text=f"{last:.4}", source="", interval=interval
        ),
    }
    sentence = Sentence(text="", facts=(), pattern=GOES)
    found = check(GOES.replace("goes", "falls"), sentence, facts, LEXICON).refusal
    assert bool(found) == refused
