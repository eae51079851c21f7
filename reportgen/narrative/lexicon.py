"""The closed vocabulary of a language: which phrases say the same, and which rewritings keep it.

``templates/text/LANGUAGE/lexicon.toml`` says what each entry is. A phrase stands for a reading, a
short row of concepts; a phrase may have several readings.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from reportgen.errors import UsageError, unknown_name
from reportgen.resources import text_template

FILE = "lexicon.toml"
# Concepts that the code itself knows: the rest is data.
BE, OF, IN, BY, PASSIVE, JOIN, WHICH = "BE", "OF", "IN", "BY", "PASSIVE", "&", "~"
GO, FROM, TO, THEREFORE = "GO", "FROM", "TO", "THEREFORE"
STRUCTURE = frozenset({BE, OF, IN, BY, PASSIVE, JOIN, WHICH, GO, FROM, TO, THEREFORE})
_WORDS = ("articles", "articled", "fillers")
_LISTS = (*_WORDS, "anchors", "leading", "negations", "hedges", "adverbs", "rules")
_TABLES = ("contractions", "concepts", "verbs", "kinds", "comparisons", "courses", "telling")

Reading = tuple[str, ...]
Readings = tuple[Reading, ...]
Phrase = tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """Facts whose ``names`` fit a pattern, and the ``nouns`` that they may be called.

    Of these, the ``kept`` ones say more than the text of the fact, so a draft has to say them
    too. A fact of a kind that ``moves`` may stand elsewhere behind its preposition.
    """

    key: str
    names: tuple[str, ...]
    nouns: frozenset[str]
    kept: frozenset[str]
    moves: bool

    def holds(self, name: str) -> bool:
        """Return whether the fact ``name`` is of this kind."""
        return any(fnmatchcase(name, pattern) for pattern in self.names)


@dataclass(frozen=True)
class Change:
    """A ``form`` that may become the ``other``, which says the same.

    Forms are rows of concepts, ``$kinds`` of facts and runs (``*``, ``%1``). The ``needed`` are the
    concepts and ``$kinds`` that a row must have; a change with a run of anything is about the
    ``whole`` row. One that is made ``once`` has the name of its rule there.
    """

    form: Reading
    other: Reading
    needed: frozenset[str]
    whole: bool
    once: str


@dataclass(frozen=True, eq=False)
class Lexicon:
    """The vocabulary of one ``language``; ``past`` holds the verbs that may be passive."""

    language: str
    articles: frozenset[str]
    articled: re.Pattern[str]
    contractions: Mapping[str, str]
    phrases: Mapping[Phrase, Readings]
    past: frozenset[Phrase]
    longest: int
    anchors: frozenset[str]
    leading: frozenset[str]
    negations: frozenset[str]
    hedges: frozenset[str]
    adverbs: frozenset[str]
    kinds: tuple[Kind, ...]
    comparisons: Mapping[str, int]
    courses: Mapping[str, int]
    changes: tuple[Change, ...]
    telling: Mapping[str, str]

    def kind(self, token: str) -> Kind | None:
        """Return the first kind that the fact of a token ``{name}`` is of; None for a concept."""
        if not token.startswith("{"):
            return None
        return _kind_of(token[1 : token.index("}")], self)


@lru_cache(maxsize=4096)
def _kind_of(name: str, lexicon: Lexicon) -> Kind | None:
    return next((kind for kind in lexicon.kinds if kind.holds(name)), None)


def read_lexicon(language: str) -> Lexicon:
    """Return the vocabulary of ``language``, from ``templates/text/LANGUAGE/lexicon.toml``.

    Raises UsageError for a language without one, and, naming what is wrong, for a file that is no
    such vocabulary.
    """
    return parse_lexicon(language, text_template(language, FILE))


def parse_lexicon(language: str, text: str) -> Lexicon:
    """Return the vocabulary written in ``text``; raises UsageError, naming what is wrong."""
    parsed = _parsed(language, text)
    phrases, past = _phrases(parsed)
    lexicon = Lexicon(
        language=language,
        articles=frozenset(parsed["articles"]),
        articled=_articled(parsed["articles"], parsed["articled"]),
        contractions=parsed["contractions"],
        phrases=phrases,
        past=past,
        longest=max(map(len, phrases)),
        anchors=frozenset(parsed["anchors"]),
        leading=frozenset(parsed["leading"]),
        negations=frozenset(parsed["negations"]),
        hedges=frozenset(parsed["hedges"]),
        adverbs=frozenset(parsed["adverbs"]),
        kinds=tuple(_kind(key, entry) for key, entry in parsed["kinds"].items()),
        comparisons=parsed["comparisons"],
        courses=parsed["courses"],
        changes=tuple(change for rule in parsed["rules"] for change in _changes(rule)),
        telling={word: key for key, words in parsed["telling"].items() for word in words},
    )
    _check_concepts(lexicon, {*parsed["concepts"], *parsed["verbs"]})
    return lexicon


def expanded(phrase: str) -> Iterator[str]:
    """Return the phrases that ``phrase`` stands for: "(a|b) c" for "a c" and "b c"."""
    choice = re.search(r"\(([^()]*)\)", phrase)
    if choice is None:
        yield " ".join(phrase.split())
        return
    before, after = phrase[: choice.start()], phrase[choice.end() :]
    for option in choice[1].split("|"):
        yield from expanded(f"{before}{option}{after}")


def _parsed(language: str, text: str) -> dict[str, Any]:
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"The {FILE} of '{language}' is no valid TOML: {error}; correct it."
        ) from None
    for keys, kind in ((_LISTS, list), (_TABLES, dict)):
        for key in keys:
            if not isinstance(parsed.get(key), kind):
                raise UsageError(f"The {FILE} of '{language}' has no '{key}'; add it.")
    unknown = sorted(set(parsed) - {*_LISTS, *_TABLES})
    if unknown:
        raise unknown_name(f"entry of the {FILE} of '{language}'", unknown[0], (*_LISTS, *_TABLES))
    return parsed


def _phrases(parsed: Mapping[str, Any]) -> tuple[dict[Phrase, Readings], frozenset[Phrase]]:
    articles = set(parsed["articles"])
    phrases: dict[Phrase, Readings] = {}
    past: set[Phrase] = set()
    for written, reading, is_past in _entries(parsed):
        for text in expanded(written):
            phrase = tuple(word for word in text.split() if word not in articles)
            known = phrases.get(phrase, ())
            phrases[phrase] = known if reading in known else (*known, reading)
            past |= {phrase} if is_past else set()
    return phrases, frozenset(past)


def _entries(parsed: Mapping[str, Any]) -> Iterator[tuple[str, Reading, bool]]:
    """Return each phrase as written, its reading, and whether it is a verb's past form."""
    yield from ((written, (), False) for written in parsed["fillers"])
    for concept, written in parsed["concepts"].items():
        yield from ((each, tuple(concept.split()), False) for each in written)
    for concept, forms in parsed["verbs"].items():
        yield from ((each, (concept,), False) for each in forms["active"])
        yield from ((each, (concept,), True) for each in forms["past"])


def _articled(articles: Iterable[str], words: Iterable[str]) -> re.Pattern[str]:
    both = ("|".join(map(re.escape, each)) for each in (articles, words))
    return re.compile(r"\b(?:{})\s+({})\b".format(*both))


def _kind(key: str, entry: Mapping[str, Any]) -> Kind:
    nouns, kept = (frozenset(entry.get(name, ())) for name in ("nouns", "kept"))
    return Kind(key, tuple(entry["names"]), nouns, kept, bool(entry.get("moves", False)))


def _changes(rule: str) -> Iterator[Change]:
    """Return each way of a rule: from each form to each other, or from the first form alone."""
    weakening = "=>" in rule
    forms = [tuple(form.split()) for form in rule.split("=>" if weakening else " = ")]
    if not weakening and any(_within(a, b) for a in forms for b in forms if a != b):
        raise UsageError(
            f"A form of the rule '{rule}' holds another, so it never ends; write '=>'."
        )
    for form in forms[:1] if weakening else forms:
        needed = frozenset(part.rstrip("123") for part in form if part[0] not in "*%")
        whole = any(part.startswith("%") for part in form)
        # A form that is weakened may stand in what it becomes, so it would grow for ever.
        once = rule if weakening else ""
        yield from (Change(form, other, needed, whole, once) for other in forms if other != form)


def _within(form: Reading, other: Reading) -> bool:
    return any(other[i : i + len(form)] == form for i in range(len(other)))


def _check_concepts(lexicon: Lexicon, listed: Iterable[str]) -> None:
    """Refuse a rule, a kind or a list with a concept that no phrase has."""
    known = {part for concept in listed for part in concept.split()} | STRUCTURE
    kinds = {f"${kind.key}{number}" for kind in lexicon.kinds for number in ("", 1, 2, 3)}
    used = {part for change in lexicon.changes for part in (*change.form, *change.other)}
    used |= {noun for kind in lexicon.kinds for noun in kind.nouns}
    used |= lexicon.anchors | lexicon.negations | lexicon.hedges
    used |= lexicon.adverbs | lexicon.leading
    used |= {*lexicon.comparisons, *lexicon.courses}
    runs = {part for part in used if re.fullmatch(r"\*|%\d", part)}
    unknown = sorted(used - known - kinds - runs)
    if unknown:
        raise UsageError(
            f"The {FILE} of '{lexicon.language}' uses '{unknown[0]}', which it does not list "
            "under 'concepts', 'verbs' or 'kinds'; add it, or correct the name."
        )
