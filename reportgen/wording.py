"""Sentences from templates: text with ``{fact names}``, filled with the texts of those facts.

The files are those that ``phrases`` reads. In a name, ``@`` stands for the subject that the
sentence is about. A sentence needs the value of each of its facts; ``{name?}`` is also content with
a fact that has a text and no value, such as "no change up to 180 degrees".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from reportgen.errors import UsageError
from reportgen.phrases import spoken_sheet
from reportgen.records import Fact, Sentence

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


def read_wording(file: str, facts: Mapping[str, Fact]) -> Wording:
    """Return the sentences of the template ``file`` in the language spoken now.

    Raises UsageError for a file that the language does not have.
    """
    return Wording(file, spoken_sheet(file).texts, facts)


def fact_names(template: str, subject: str = "") -> tuple[str, ...]:
    """Return the names of the facts that a template uses, each once, in order."""
    return tuple(dict.fromkeys(_named(name, subject) for name, _ in _PLACE.findall(template)))


def _named(name: str, subject: str) -> str:
    return name.replace("@", subject)
