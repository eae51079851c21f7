"""What a language model is told: the template's sentences, and what kind each fact in them is.

Only a number that reportgen itself has written is told. Every other text, such as a label or a file
name, may come from outside, so it is withheld: whatever it says, the prompt is the same.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from reportgen.errors import UsageError
from reportgen.records import Fact, Sentence
from reportgen.resources import prompt

FILE = "rephrase.en.toml"

_VARIABLE = re.compile(r"\{(\w+)\}")
_NAME = re.compile(r"\{([^{}]+)\}")
_PLAIN_NAME = re.compile(r"[\w.~-]+", re.ASCII)
# What `facts.formats` makes of one number, without any word.
_NUMBER = re.compile(r"[<>]?[+-]?\d[\d.,]*(e[+-]?\d+)?%?", re.ASCII)
_TELLING = ("higher is better", "lower is better")
_LINE = re.compile(r"(\d{1,3})[.):]\s+(.+)")
_LONGEST = 2000  # characters of a line that are looked at; no sentence has as many
_THOUGHTS = "</think>"


@dataclass(frozen=True)
class Prompt:
    """A prompt's texts, and the words for what a fact is."""

    system: str
    user: str
    kinds: Mapping[str, str]
    other: Mapping[str, str]
    languages: Mapping[str, str]


def prompt_of(
    sentences: Sequence[Sentence], facts: Mapping[str, Fact], language: str
) -> tuple[str, str]:
    """Return what is told and what is asked, for the ``sentences`` of one section."""
    words = read_prompt(prompt(FILE))
    names = dict.fromkeys(name for s in sentences for name in _NAME.findall(s.pattern))
    lines = [f"{number}. {s.pattern}" for number, s in enumerate(sentences, start=1)]
    values = {
        "language": words.languages.get(language, language),
        "facts": "\n".join(_told(facts[name], words) for name in names),
        "sentences": "\n".join(lines),
    }
    return _filled(words.system, values), _filled(words.user, values)


def may_be_told(sentence: Sentence, facts: Mapping[str, Fact]) -> bool:
    """Return whether a sentence has a pattern of which each name is a fact, of plain letters."""
    names = _NAME.findall(sentence.pattern)
    return bool(sentence.pattern) and all(n in facts and _PLAIN_NAME.fullmatch(n) for n in names)


def lines_of(answer: str) -> dict[int, str]:
    """Return the numbered lines of an answer; of two with one number the first, and no others."""
    found: dict[int, str] = {}
    for line in answer.rpartition(_THOUGHTS)[2].splitlines():
        match = _LINE.fullmatch(line.strip()[:_LONGEST])
        if match:
            found.setdefault(int(match[1]), match[2])
    return found


@cache
def read_prompt(text: str) -> Prompt:
    """Return the prompt in ``text``; raises UsageError, naming it, for an unknown variable."""
    parsed = tomllib.loads(text)
    known = set(parsed["variables"])
    for part in ("system", "user"):
        for name in _VARIABLE.findall(parsed[part]):
            if name not in known:
                raise UsageError(
                    f"The prompt {FILE} uses the variable '{name}' in '{part}', which it does not "
                    "list under 'variables'; add it there, or correct the prompt."
                )
    return Prompt(**{name: _stripped(parsed[name]) for name in Prompt.__dataclass_fields__})


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: values[match[1]], text)


def _told(fact: Fact, words: Prompt) -> str:
    return f"{{{fact.name}}}: {', '.join(_said(fact, words))}"


def _said(fact: Fact, words: Prompt) -> Iterator[str]:
    """Yield the kind of a fact, which way is better, and its text if that is a mere number."""
    kind = next((kind for form, kind in words.kinds.items() if fnmatchcase(fact.name, form)), "")
    number = isinstance(fact.value, int | float) and not isinstance(fact.value, bool)
    told = number and not kind and _NUMBER.fullmatch(fact.text)
    other = "number" if told else "number_withheld" if number else "text"
    yield kind or words.other[other]
    if fact.direction in _TELLING:
        yield fact.direction
    if told:
        yield fact.text
