"""A sentence as tokens: its words, marks and ``{fact names}``, and how its phrases can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from reportgen.narrative.lexicon import BE, BY, PASSIVE, THEREFORE, Lexicon, Phrase
from reportgen.narrative.rewriting import MARKS, Row, is_name

Item = tuple[Row, ...]

_NAME = re.compile(r"\{[^{}\n]+\}")
_TOKEN = re.compile(r"\{[^{}\n]+\}|\d+|[a-z]+(?:['_][a-z]+)*|[,;:().]")
_QUOTED = re.compile(r"\"(\{[^{}\n]+\})\"|'(\{[^{}\n]+\})'")
_MINUS = re.compile(r"[\N{EN DASH}\N{EM DASH}](?=\W*\{)")
# A name in or beside a word, beside another name, or behind a hyphen: "-{x}", "{x}{y}", "un{x}".
_JOINED = re.compile(r"[^\s(]\{|-[\s(]*\{|\}[^\s,;:.)]")
_PLAIN = {
    "\N{LEFT DOUBLE QUOTATION MARK}": '"',
    "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
    "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{EN DASH}": " , ",
    "\N{EM DASH}": " , ",
    "\N{NON-BREAKING HYPHEN}": "-",
    "\N{NO-BREAK SPACE}": " ",
    "\N{NARROW NO-BREAK SPACE}": " ",
}
_OF_ITS_OWN = re.compile(r"[\"'<>\[\]*_`#|/\\@=+~^&%$!?{}]|https?:|\bwww\b|\.\s*\.")


def names_in(text: str) -> list[str]:
    """Return the names between braces, in order and as often as they stand there."""
    return [found[1:-1] for found in _NAME.findall(text)]


def plain(text: str) -> str:
    """Return the text with plain quotes, dashes and spaces.

    What stands between braces is left as it is, and quotes around a name are dropped; a dash before
    a name stays, as it could be read as a minus.
    """
    parts = re.split(r"(\{[^{}\n]+\})", _MINUS.sub("-", text))
    parts[::2] = ["".join(_PLAIN.get(c, c) for c in part) for part in parts[::2]]
    return _QUOTED.sub(lambda match: match[1] or match[2], "".join(parts)).strip()


def is_foreign(text: str) -> bool:
    """Return whether a plain text holds letters of another alphabet."""
    return any(c.isalpha() and not c.isascii() for c in _NAME.sub("", text))


def digits_in(text: str) -> list[str]:
    """Return the digits and other signs for numbers in a plain text, in any script, in order."""
    return [c for c in _NAME.sub("", text) if c.isnumeric()]


def is_marked_up(text: str) -> bool:
    """Return whether a plain text holds more than words, names and the marks of one sentence."""
    left = re.sub(r"(?<=[a-z])'(?=[a-z])|(?<=s)'(?= )", "", _NAME.sub("", text).lower())
    unseen = any(c not in " " and not c.isprintable() for c in left)
    told = _OF_ITS_OWN.search(left) or _JOINED.search(text)
    return unseen or not left.isascii() or bool(told)


def tokens(text: str, lexicon: Lexicon) -> list[str]:
    """Return the words, marks and names of a plain text, without articles and contractions.

    What says something else behind an article is one word with it: "the only" is no "only".
    """
    parts = re.split(r"(\{[^{}\n]+\})", text)
    parts[::2] = [part.lower().replace("-", " ") for part in parts[::2]]
    parts[::2] = [lexicon.articled.sub(r"the_\1", part) for part in parts[::2]]
    found = _TOKEN.findall("".join(parts))
    opened = (lexicon.contractions.get(token, "").split() or [token] for token in found)
    return [token for words in opened for token in words if token not in lexicon.articles]


def words_of(text: str) -> int:
    """Return how many words and names a text has."""
    return sum(token not in MARKS for token in _TOKEN.findall(text.lower()))


def read(found: Sequence[str], lexicon: Lexicon) -> tuple[list[Item], list[str]]:
    """Return how the phrases of some tokens can be read, and the words that are in no phrase.

    The longest phrase is taken first. A word in no phrase is read as itself, in small letters,
    which no concept is.
    """
    phrases = list(_split(found, lexicon))
    unknown = [p[0] for p in phrases if p not in lexicon.phrases and not _stands_alone(p)]
    return [_readings(phrases, at, lexicon) for at in range(len(phrases))], unknown


def _split(found: Sequence[str], lexicon: Lexicon) -> Iterator[Phrase]:
    at = 0
    while at < len(found):
        ends = range(min(at + lexicon.longest, len(found)), at + 1, -1)
        end = next((e for e in ends if tuple(found[at:e]) in lexicon.phrases), at + 1)
        yield tuple(found[at:end])
        at = end


def _stands_alone(phrase: Phrase) -> bool:
    return phrase[0] in MARKS or is_name(phrase[0])


def _readings(phrases: Sequence[Phrase], at: int, lexicon: Lexicon) -> Item:
    phrase = phrases[at]
    readings = lexicon.phrases.get(phrase, (phrase,))
    if phrase not in lexicon.past:
        return readings
    passive = tuple((PASSIVE, *reading) for reading in readings)
    if _is_passive(phrases, at, lexicon):
        return passive
    return (*readings, *passive)


def _is_passive(phrases: Sequence[Phrase], at: int, lexicon: Lexicon) -> bool:
    """Return whether a form of "to be" stands before a participle, or "by" behind it."""
    between = lexicon.negations | lexicon.hedges | {THEREFORE}
    before = at - 1
    while before >= 0 and _first(phrases[before], lexicon) in between:
        before -= 1
    is_by = at + 1 < len(phrases) and _first(phrases[at + 1], lexicon) == BY
    return is_by or (before >= 0 and _first(phrases[before], lexicon) == BE)


def _first(phrase: Phrase, lexicon: Lexicon) -> str:
    readings = lexicon.phrases.get(phrase, ((),))
    return readings[0][0] if readings[0] else ""
