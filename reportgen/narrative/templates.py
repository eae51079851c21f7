"""The report's sections, written from templates: which sentences apply, in which order.

A sentence is left out where a fact that it needs was not measured. Nothing here holds a word of
the text: the words are in ``templates/text``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from reportgen.records import Report, Section, Sentence
from reportgen.wording import Wording, read_wording

Choice = tuple[str, str]


@dataclass(frozen=True)
class _Story:
    """A report with facts and findings, and the words of its sections."""

    report: Report
    wording: Wording

    def value(self, name: str) -> object:
        """Return the value behind a fact, or None."""
        fact = self.wording.facts.get(name)
        return fact.value if fact else None

    def write(self, choices: Iterable[Choice]) -> tuple[Sentence, ...]:
        """Return the sentences (key, subject) whose facts are all there."""
        return tuple(
            self.wording.sentence(key, subject)
            for key, subject in choices
            if self.wording.has(key, subject)
        )


Choose = Callable[[_Story], Iterator[Choice]]


def sections_of(report: Report) -> tuple[Section, ...]:
    """Return the numbered sections of a report that has its facts and findings."""
    facts = {fact.name: fact for fact in report.facts}
    story = _Story(report, read_wording("sections.toml", facts))
    methods = [
        Section(key=a.method, title=a.card.title, sentences=story.write(_method(story, a.method)))
        for a in report.attributions
    ]
    first, *rest = [
        Section(key=key, title=title, sentences=story.write(choose(story)))
        for key, (title, choose) in SECTIONS.items()
    ]
    return (first, *methods, *rest)


def _summary(story: _Story) -> Iterator[Choice]:
    prediction = story.report.prediction
    yield "predicted", ""
    yield "runner-up", ""
    if prediction.target.index != prediction.top[0].index:
        yield "explained-other", ""
    yield "seen", ""
    yield "head", ""
    if story.value("model.assumed"):
        yield "assumed", ""


def _method(story: _Story, method: str) -> Iterator[Choice]:
    yield from (
        (key, method)
        for key in ("layer", f"perturbed-{method}", "path")
        if key in story.wording.sentences
    )
    yield "located", method
    for metric in ("deletion", "insertion"):
        beats = story.value(f"{method}.beats_noise.{metric}")
        if beats is not None:
            yield f"{metric}-{'beats' if beats else 'fails'}", method
    yield "self-check", method
    yield "stable", method


def _comparison(story: _Story) -> Iterator[Choice]:
    if len(story.report.attributions) == 1:
        yield "one-method", ""
    yield "agreement", ""
    closest, farthest = (story.value(f"agreement.{end}") for end in ("closest", "farthest"))
    if closest and closest != farthest:
        yield "closest", str(closest)
        yield "farthest", str(farthest)
    elif closest:
        yield "closest", str(closest)
    yield "consensus" if story.value("consensus.area") else "no-consensus", ""


def _fidelity(story: _Story) -> Iterator[Choice]:
    yield from ((key, "") for key in ("curves", "change", "controls"))
    if len(story.report.attributions) > 1:
        yield "best-deletion", ""
        yield "best-insertion", ""


def _robustness(story: _Story) -> Iterator[Choice]:
    yield "rotation-flips" if story.value("rotation.first") else "rotation-holds", ""
    yield "noise", ""
    yield "noise-flips", ""
    yield from (("sensitivities", a.method) for a in story.report.attributions)


def _interpretation(story: _Story) -> Iterator[Choice]:
    yield "verdict", ""
    beating = story.value("report.beating")
    if beating is not None:
        yield "trusted-maps" if beating else "no-trusted-map", ""
    yield "shared-place", ""
    if "rotation.first" in story.wording.facts:
        yield "breaks" if story.value("rotation.first") else "holds", ""
    yield "distrust", ""


SECTIONS: Mapping[str, tuple[str, Choose]] = {
    "summary": ("Model summary", _summary),
    "comparison": ("Comparison of the methods", _comparison),
    "fidelity": ("Fidelity metrics", _fidelity),
    "robustness": ("Robustness metrics", _robustness),
    "interpretation": ("Combined interpretation", _interpretation),
}
