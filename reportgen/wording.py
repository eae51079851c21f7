"""Sentences from templates: text with ``{fact names}``, filled with the texts of those facts.

A template file is TOML: a list ``variables`` of all names it may use, then one ``key = "sentence"``
a line under ``[sentences]``. In a name, ``@`` stands for the subject that the sentence is about. A
sentence needs the value of each of its facts; ``{name?}`` is also content with a fact that has a
text and no value, such as "no change up to 180 degrees".
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reportgen.errors import UsageError
from reportgen.records import Fact, Sentence
from reportgen.resources import text_template

_PLACE = re.compile(r"\{([^{}?]+)(\??)\}")


@dataclass(frozen=True)
class Wording:
    """The sentences of one template ``file``, and the facts that fill them."""

    file: str
    sentences: Mapping[str, str]
    facts: Mapping[str, Fact]

    def has(self, key: str, subject: str = "") -> bool:
        """Return whether the file has the sentence ``key``, and the report every fact it needs."""
        template = self.sentences.get(key)
        if template is None:
            return False
        places = _PLACE.findall(template)
        return all(self._filled(_named(name, subject), bool(mark)) for name, mark in places)

    def sentence(self, key: str, subject: str = "") -> Sentence:
        """Return the sentence ``key`` about ``subject``, with the names of its facts.

        Raises UsageError, naming it, for a fact that the report does not have: ask ``has`` first.
        """
        template = self.sentences[key]
        names = fact_names(template, subject)
        for name in names:
            if name not in self.facts:
                raise UsageError(
                    f"The sentence '{key}' in {self.file} needs the fact '{name}', which this "
                    "report does not have; take it out of the sentence."
                )
        text = _PLACE.sub(lambda match: self.facts[_named(match[1], subject)].text, template)
        pattern = _PLACE.sub(lambda match: f"{{{_named(match[1], subject)}}}", template)
        return Sentence(text=text, facts=names, pattern=pattern)

    def _filled(self, name: str, text_alone: bool) -> bool:
        fact = self.facts.get(name)
        return fact is not None and bool(fact.text) and (text_alone or fact.value is not None)


def read_wording(file: str, facts: Mapping[str, Fact], language: str = "en") -> Wording:
    """Return the sentences of ``templates/text/LANGUAGE/FILE``.

    Raises UsageError for a file that is no such template, and, naming it, for a variable that a
    sentence uses but the file does not list.
    """
    parsed = _parsed(file, text_template(language, file))
    known, sentences = set(parsed["variables"]), parsed["sentences"]
    for key, template in sentences.items():
        for name, _ in _PLACE.findall(template):
            if name not in known:
                raise UsageError(
                    f"The sentence '{key}' in {file} uses the variable '{name}', which the file "
                    "does not list under 'variables'; add it there, or correct the sentence."
                )
    return Wording(file, sentences, facts)


def fact_names(template: str, subject: str = "") -> tuple[str, ...]:
    """Return the names of the facts that a template uses, each once, in order."""
    return tuple(dict.fromkeys(_named(name, subject) for name, _ in _PLACE.findall(template)))


def _parsed(file: str, text: str) -> dict[str, Any]:
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"The text template {file} is not valid TOML: {error}; correct it."
        ) from None
    for name, kind in (("variables", list), ("sentences", dict)):
        if not isinstance(parsed.get(name), kind):
            raise UsageError(f"The text template {file} has no '{name}'; add them.")
    return parsed


def _named(name: str, subject: str) -> str:
    return name.replace("@", subject)
