"""Whether a model's draft says what the template's sentence says, and nothing else.

A draft is accepted only where its row of concepts is one that the template's row can become, by
rules that each keep the meaning. What is not in the vocabulary, or not to be reached, is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reportgen.narrative.comparing import Refusal, becomes, difference, readings
from reportgen.narrative.lexicon import Lexicon as Lexicon
from reportgen.narrative.lexicon import read_lexicon as read_lexicon
from reportgen.narrative.lexing import (
    digits_in,
    is_foreign,
    is_marked_up,
    names_in,
    plain,
    read,
    tokens,
    words_of,
)
from reportgen.narrative.rewriting import MARKS, is_name
from reportgen.records import Fact, Sentence

_LONGER = 1.6
_MORE_WORDS = 3
_RUN = 4
_TOLD: tuple[Refusal, ...] = ("number", "cause", "certainty")
_WORD = re.compile(r"\{[^{}]*\}|[\w'-]+")

# A pronoun that the template has not may point at something else.
_POINTING = frozenset({"they", "them", "their", "it", "its", "among", "amongst"})


@dataclass(frozen=True)
class Checked:
    """A draft with plain spacing and its full stop, and why it is refused; "" where it is not."""

    draft: str
    refusal: Refusal


def check(draft: str, sentence: Sentence, facts: Mapping[str, Fact], lexicon: Lexicon) -> Checked:
    """Return whether ``draft`` says what the template's ``sentence`` says, and nothing else.

    Both hold ``{fact names}``; ``facts`` are by name, and say whether a comparison that the draft
    makes is true.
    """
    tidy = _tidy(draft)
    return Checked(tidy, _refusal(tidy, sentence.pattern, facts, lexicon))


def _tidy(draft: str) -> str:
    single = re.sub(r" +", " ", draft.strip())
    return single if single.endswith((".", "!", "?", ":")) else f"{single}."


def _refusal(draft: str, pattern: str, facts: Mapping[str, Fact], lexicon: Lexicon) -> Refusal:
    own, text = plain(pattern), plain(draft)
    checks = (_numbers, _form, _names, _length, _repetition)
    for found in (each(text, own) for each in checks):
        if found:
            return found
    return _vocabulary(text, own, lexicon) or _meaning(text, own, facts, lexicon)


def _form(text: str, own: str) -> Refusal:
    if is_foreign(text):
        return "language"
    if is_marked_up(text) or (not names_in(text) and not re.search("[a-z]", text)):
        return "format"
    if (
        not re.match(r"[A-Za-z{(]", text)
        or not text.endswith(".")
        or text.count("(") != text.count(")")
    ):
        return "format"
    ends = [len(re.findall(r"[.](?=\s|$)", re.sub(r"\{[^{}]*\}", "x", t))) for t in (text, own)]
    return "several sentences" if ends[0] > max(1, ends[1]) else ""


def _numbers(text: str, own: str) -> Refusal:
    """Refuse digits, but for those that the template itself has, in its order."""
    return "number" if digits_in(text) != digits_in(own) else ""


def _names(text: str, own: str) -> Refusal:
    given, wanted = Counter(names_in(text)), Counter(names_in(own))
    if set(given) - set(wanted):
        return "unknown fact"
    if wanted - given:
        return "missing fact"
    return "repetition" if given != wanted else ""


def _length(text: str, own: str) -> Refusal:
    return "too long" if words_of(text) > _LONGER * words_of(own) + _MORE_WORDS else ""


def _repetition(text: str, own: str) -> Refusal:
    """Refuse a word said twice in a row, or a run of words said again, unless the template does."""
    found, kept = (_WORD.findall(t.lower()) for t in (text, own))
    twice = set(_runs(found, 2)) - set(_runs(kept, 2))
    if any(first == second for first, second in twice):
        return "repetition"
    allowed = Counter(_runs(kept, _RUN))
    again = any(n > max(1, allowed[run]) for run, n in Counter(_runs(found, _RUN)).items())
    return "repetition" if again else ""


def _runs(words: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]


def _vocabulary(text: str, own: str, lexicon: Lexicon) -> Refusal:
    """Refuse words that neither the vocabulary nor the template has."""
    found = tokens(text, lexicon)
    of_template = set(tokens(own, lexicon))
    unknown = [word for word in read(found, lexicon)[1] if word not in of_template]
    unknown += sorted(_POINTING & set(found) - of_template)
    if not unknown:
        return ""
    words = [token for token in found if token not in MARKS and not is_name(token)]
    if 2 * len(unknown) > len(words):
        return "language"
    told = {lexicon.telling.get(word, "") for word in words if word not in of_template}
    return next((refusal for refusal in _TOLD if refusal in told), "unknown word")


def _meaning(text: str, own: str, facts: Mapping[str, Fact], lexicon: Lexicon) -> Refusal:
    template = becomes(own, lexicon)
    refusals = []
    for row in readings(text, lexicon):
        found = difference(row, template, facts, lexicon)
        if not found:
            return ""
        refusals.append(found)
    return refusals[0]
