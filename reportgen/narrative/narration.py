"""A language model puts the sections' sentences into its own words, as far as they prove right.

Each sentence of the templates is offered once, and stands as it is where nothing came, or where
what came does not provably say the same. Whatever goes wrong costs its sentences and nothing else.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial

from reportgen.config import Config
from reportgen.errors import NotApplicable, UsageError
from reportgen.facts import seconds
from reportgen.narrative.checking import Lexicon, check, read_lexicon
from reportgen.narrative.prompting import lines_of, may_be_told, prompt_of
from reportgen.narrators import find_narrator
from reportgen.narrators.base import Narrator, Question, Ready
from reportgen.records import Fact, Narration, Report, Run, Section, Sentence

STAGE = "narration"
NO_SENTENCE = "no sentence came"
Started = Callable[[str], None]
Narrate = Callable[[Report, Started], Report]

_NAME = re.compile(r"\{([^{}]+)\}")
_PATIENCE = 2
_LEAST = 0.05  # of all the time; with less than that left, no section is begun


@dataclass(frozen=True)
class Limits:
    """How long a language model may take for a report, and how long a sentence of it may be."""

    seconds: float
    tokens: int
    seed: int


@dataclass
class _Course:
    """One report on its way through a language model: when its time is up, and what failed."""

    opened: Callable[[], Ready]
    limits: Limits
    end: float
    ready: Ready | None = None
    offered: int = 0
    in_a_row: int = 0
    ended: str = ""
    failures: list[str] = field(default_factory=list)

    def goes_on(self) -> bool:
        """Return whether to ask for another section; where not, say why, once."""
        if self.ended:
            return False
        if self.in_a_row == _PATIENCE:
            self.ended = "After two failures in a row it was asked no more."
        elif self.end - time.monotonic() <= _LEAST * self.limits.seconds:
            limit = seconds(self.limits.seconds)
            self.ended = f"Its time, {limit}, was up before all sections were asked for."
        return not self.ended

    def answer(self, system: str, user: str, sentences: int) -> str:
        """Return the answer to a prompt for so many sentences; nothing where none came."""
        self.offered += sentences
        try:
            self.ready = self.opened()
            # Half of what is left, so that one question does not take the time of all others.
            left = max(self.end - time.monotonic(), 0.0) / 2
            tokens = sentences * self.limits.tokens
            found = self.ready.ask(Question(system, user, self.limits.seed, tokens, left))
        except NotApplicable as error:
            return self._failed(str(error))
        except Exception as error:  # its message may say anything, also a key or a folder
            return self._failed(f"The language model failed ({type(error).__name__}).")
        self.in_a_row = 0
        return found

    def _failed(self, sentence: str) -> str:
        self.failures.append(sentence)
        self.in_a_row += 1
        return ""

    def digest(self) -> str:
        """Return what says which weights answered; nothing where none did."""
        try:
            return self.ready.digest() if self.ready else ""
        except Exception:  # what a server says of itself may be anything
            return ""


@contextmanager
def narrating(config: Config) -> Iterator[Narrate]:
    """Yield what lets the language model of ``config`` word a report; without one, nothing changes.

    The model is loaded for the first report, and its memory freed behind the block. Raises
    UsageError or ModelError, before anything is explained, for a language model that cannot be
    used, and for a language in which its sentences cannot be checked.
    """
    narrator = find_narrator(config)
    if narrator is None:
        yield lambda report, started: report
        return
    _lexicon(config.language)  # so that a language without one is refused at once
    limits = Limits(config.narrator_seconds, config.narrator_tokens, config.seed)
    with ExitStack() as stack:
        opened = cache(lambda: stack.enter_context(narrator.opened()))

        def told(report: Report, started: Started) -> Report:
            started(STAGE)
            return narrate(report, narrator, opened, limits)

        yield told


@cache
def _lexicon(language: str) -> Lexicon:
    """Return the vocabulary of a language, the same each time: the checker's caches go by it."""
    try:
        return read_lexicon(language)
    except UsageError:
        raise UsageError(
            f"No language model can word a report in '{language}', as its sentences could not be "
            "checked: that language has no lexicon.toml; leave out --narrator, or choose "
            "--language en."
        ) from None


def narrate(
    report: Report, narrator: Narrator, opened: Callable[[], Ready], limits: Limits
) -> Report:
    """Return the report with those sentences in the narrator's words that prove right.

    ``opened`` returns the model in memory. The time it takes is in the report's ``run``.
    """
    start = time.monotonic()
    course = _Course(opened, limits, end=start + limits.seconds)
    facts = {fact.name: fact for fact in report.facts}
    rewrite = partial(_section, facts=facts, lexicon=_lexicon(report.language), course=course)
    sections = tuple(rewrite(section, report.language) for section in report.sections)
    record = _record(narrator, course, sections)
    return report.model_copy(
        update={
            "sections": sections,
            "narration": record,
            "run": _run(report.run, time.monotonic() - start),
        }
    )


def _section(
    section: Section,
    language: str,
    facts: Mapping[str, Fact],
    lexicon: Lexicon,
    course: _Course,
) -> Section:
    offered = [sentence for sentence in section.sentences if may_be_told(sentence, facts)]
    if not offered or not course.goes_on():
        return section
    lines = lines_of(course.answer(*prompt_of(offered, facts, language), len(offered)))
    drafts = iter([lines.get(number, "") for number, _ in enumerate(offered, start=1)])
    sentences = tuple(
        _checked(sentence, next(drafts), facts, lexicon) if sentence in offered else sentence
        for sentence in section.sentences
    )
    return section.model_copy(update={"sentences": sentences})


def _checked(
    sentence: Sentence, draft: str, facts: Mapping[str, Fact], lexicon: Lexicon
) -> Sentence:
    """Return the sentence in the draft's words where they prove right, else why they do not."""
    if not draft:
        return sentence.model_copy(update={"refusal": NO_SENTENCE})
    found = check(draft, sentence, facts, lexicon)
    if found.refusal:
        return sentence.model_copy(update={"refusal": found.refusal})
    # Once, from left to right: what a label says is not looked at again.
    text = _NAME.sub(lambda match: facts[match[1]].text, found.draft)
    return sentence.model_copy(update={"text": text, "author": "model", "draft": found.draft})


def _record(narrator: Narrator, course: _Course, sections: Sequence[Section]) -> Narration:
    sentences = [sentence for section in sections for sentence in section.sentences]
    reasons = Counter(sentence.refusal for sentence in sentences if sentence.refusal)
    ended = [course.ended] if course.ended else []
    return Narration(
        narrator=narrator.asked,
        model=narrator.model,
        digest=course.digest(),
        address=narrator.address,
        remote=narrator.remote,
        precision=course.ready.precision if course.ready else "",
        seed=course.limits.seed,
        offered=course.offered,
        written=sum(sentence.author == "model" for sentence in sentences),
        refused=reasons.total(),
        reasons=dict(sorted(reasons.items())),
        failures=tuple(dict.fromkeys([*course.failures, *ended])),
    )


def _run(run: Run, spent: float) -> Run:
    total = run.seconds.get("total", 0.0) + spent
    return run.model_copy(update={"seconds": {**run.seconds, STAGE: spent, "total": total}})
