"""Sentences from templates: text with ``{fact names}``, filled with the texts of those facts.

A template file is TOML: a list ``variables`` of all names it may use, then one ``key = "sentence"``
a line under ``[sentences]``. In a name, ``@`` stands for the subject that the sentence is about.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from reportgen.errors import UsageError
from reportgen.records import Fact, Sentence
from reportgen.resources import text_template

_PLACE = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Wording:
    """The sentences of one template file, and the facts that fill them."""

    sentences: Mapping[str, str]
    facts: Mapping[str, Fact]

    def has(self, key: str, subject: str = "") -> bool:
        """Return whether every fact that the sentence ``key`` needs is there, with a text."""
        names = fact_names(self.sentences[key], subject)
        return all(name in self.facts and self.facts[name].text for name in names)

    def sentence(self, key: str, subject: str = "") -> Sentence:
        """Return the sentence ``key`` about ``subject``, with the names of its facts.

        Raises KeyError for a fact that does not exist: ask ``has`` first.
        """
        template = self.sentences[key]
        names = fact_names(template, subject)
        text = _PLACE.sub(lambda match: self.facts[_named(match[1], subject)].text, template)
        return Sentence(text=text, facts=names)


def read_wording(file: str, facts: Mapping[str, Fact], language: str = "en") -> Wording:
    """Return the sentences of ``templates/text/LANGUAGE/FILE``.

    Raises UsageError, naming it, for a variable that the file uses but does not list.
    """
    parsed = tomllib.loads(text_template(language, file))
    known = set(parsed["variables"])
    sentences: dict[str, str] = parsed["sentences"]
    for key, template in sentences.items():
        for name in _PLACE.findall(template):
            if name not in known:
                raise UsageError(
                    f"The sentence '{key}' in {file} uses the variable '{name}', "
                    "which the file does not list under 'variables'."
                )
    return Wording(sentences, facts)


def fact_names(template: str, subject: str = "") -> tuple[str, ...]:
    """Return the names of the facts that a template uses, each once, in order."""
    return tuple(dict.fromkeys(_named(name, subject) for name in _PLACE.findall(template)))


def _named(name: str, subject: str) -> str:
    return name.replace("@", subject)
