"""The narrations made for the tests: each with its template's sentence, and what is wrong with it.

``narrations/*.toml`` holds them by the sentence they are about: its ``key`` in sections.toml, or
its ``pattern`` where it is not, or no longer, one of ours. "@" stands for a method or a pair.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reportgen.narrative.checking import Refusal, check
from reportgen.narrative.lexicon import Lexicon
from reportgen.records import Fact, Sentence
from reportgen.resources import text_template

FOLDER = Path(__file__).parent / "narrations"
TRUE = "true paraphrase"
_NUMBERS = {
    "deletion.first": 0.9,
    "deletion.last": 0.1,
    "insertion.first": 0.1,
    "insertion.last": 0.9,
    "gradcam.iou": 0.5,
    "agreement.mean_iou": 0.4,
    "agreement.iou_floor": 0.1,
}
FACTS = {
    name: Fact(name=name, value=value, text=str(value), source="")
    for name, value in _NUMBERS.items()
}


@dataclass(frozen=True)
class Narration:
    """A draft about a pattern; ``kind`` says what is wrong with it, if anything is."""

    about: str
    pattern: str
    draft: str
    kind: str

    @property
    def holds(self) -> bool:
        """Return whether the draft says what the pattern says."""
        return self.kind == TRUE

    def refusal(self, lexicon: Lexicon) -> Refusal:
        """Return why the checker refuses the draft; "" where it does not."""
        sentence = Sentence(text="", facts=(), pattern=self.pattern)
        return check(self.draft, sentence, FACTS, lexicon).refusal


def templates() -> dict[str, str]:
    """Return the patterns of all whole sentences of our templates, by file and key."""
    return {
        f"{file} {key}": named(text)
        for file in ("sections", "findings")
        for key, text in _sentences(file).items()
        if text.endswith(".")
    }


def narrations() -> list[Narration]:
    """Return all narrations; raises KeyError, naming it, where the key of one has vanished."""
    sentences = _sentences("sections")
    return [
        narration
        for file in sorted(FOLDER.glob("*.toml"))
        for entry in tomllib.loads(file.read_text(encoding="utf-8"))["about"]
        for narration in _of(entry, sentences)
    ]


def named(text: str) -> str:
    """Return a template's sentence with the names of facts about one method."""
    return re.sub(r"\{([^{}?]+)\??\}", lambda m: "{" + m[1].replace("@", "gradcam") + "}", text)


def _of(entry: Mapping[str, Any], sentences: Mapping[str, str]) -> Iterator[Narration]:
    about = entry.get("key", "a sentence of its own")
    pattern = named(entry["pattern"] if "pattern" in entry else sentences[entry["key"]])
    for kind, drafts in {TRUE: entry.get("true", []), **entry.get("false", {})}.items():
        yield from (Narration(about, pattern, named(draft), kind) for draft in drafts)


def _sentences(file: str) -> dict[str, str]:
    return dict(tomllib.loads(text_template("en", f"{file}.toml"))["sentences"])
