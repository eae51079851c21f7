"""What a section is written from: a report with its facts, and the words of its sentences.

A sentence is chosen by its key and the subject it is about, and left out where a fact that it needs
was not measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from reportgen.facts import CURVES, LITTLE_CHANGE, backwards
from reportgen.records import Finding, Report, Sentence
from reportgen.wording import Wording, read_wording

Choice = tuple[str, str]
# What a sentence rests on that names no fact: it says that there is nothing.
_COUNTS = ("report.methods", "report.measurements")


@dataclass(frozen=True)
class Story:
    """A report with facts and findings, and the words of its sections."""

    report: Report
    wording: Wording

    def value(self, name: str) -> object:
        """Return the value behind a fact, or None."""
        fact = self.wording.facts.get(name)
        return fact.value if fact else None

    def number(self, name: str) -> float | None:
        """Return the number behind a fact, or None where there is no such fact or number."""
        value = self.value(name)
        return value if isinstance(value, int | float) else None

    def first(self, keys: Iterable[str], subject: str = "") -> Iterator[Choice]:
        """Return the first of ``keys`` whose facts are all there, if any."""
        yield from [(key, subject) for key in keys if self.wording.has(key, subject)][:1]

    def write(self, choices: Iterable[Choice]) -> tuple[Sentence, ...]:
        """Return the sentences (key, subject) whose facts are all there; never none at all."""
        found = self.written(choices) or self.written([("empty", ""), ("reasons", "")])
        return tuple(_resting(sentence) for sentence in found)

    def written(self, choices: Iterable[Choice]) -> tuple[Sentence, ...]:
        """Return the sentences (key, subject) whose facts are all there."""
        return tuple(
            self.wording.sentence(key, subject)
            for key, subject in choices
            if self.wording.has(key, subject)
        )

    @property
    def several(self) -> bool:
        """Whether a picture may have several labels, of which each stands alone."""
        return self.report.prediction.threshold is not None

    @property
    def explains_another(self) -> bool:
        """Whether something else than the winning class is explained."""
        prediction = self.report.prediction
        return self.several or prediction.target.index != prediction.top[0].index

    def little_signal(self, metric: str) -> bool:
        """Return whether a curve changes the probability too little to judge a map."""
        change = self.number(f"{metric}.change")
        return change is not None and change <= LITTLE_CHANGE

    @property
    def has_curves(self) -> bool:
        """Whether a curve was measured at all."""
        return any(measurement.metric in CURVES for measurement in self.report.measurements)

    def backwards(self, metric: str) -> bool:
        """Return whether a curve has clearly more probability on the baseline than on the picture.

        No AUC of such a curve speaks for a map.
        """
        return backwards(self.report, metric) and not self.little_signal(metric)

    @property
    def sees_all(self) -> bool:
        """Whether the network sees the whole picture."""
        image, crop = self.report.image, self.report.image.crop
        inside = crop.left <= 0 and crop.top <= 0
        return inside and crop.right >= image.width and crop.bottom >= image.height

    def beats(self, method: str) -> dict[str, object]:
        """Return whether a map does better than smooth noise, for each curve that can tell."""
        outcomes = {metric: self.value(f"{method}.beats_noise.{metric}") for metric in CURVES}
        return {metric: better for metric, better in outcomes.items() if better is not None}

    def judgement(self) -> str:
        """Return whether maps are evidence: the key of none, one, some or all of those judged."""
        if not self.report.attributions:
            return "no-evidence"
        judged, beating = self.number("report.judged"), self.number("report.beating")
        if not judged:
            return "not-judged"
        if judged == 1:
            return "single-map" if beating else "no-single-map"
        if beating == judged:
            return "both-maps" if judged == 2 else "all-maps"
        if not beating:
            return "neither-map" if judged == 2 else "no-maps"
        return "one-of-maps" if beating == 1 else "some-maps"

    def weaknesses(self) -> tuple[Finding, ...]:
        """Return one finding of each rule that found a problem or a caution, the gravest first.

        What the judgement says already, whether maps are better than smooth noise, is left out.
        """
        return tuple(
            finding
            for finding in self.report.findings
            if finding.brief is not None
            and finding.severity in ("problem", "caution")
            and not finding.rule.startswith(("beats-noise", "no-better-than-noise"))
        )


def story_of(report: Report) -> Story:
    """Return what the sections of a report with facts and findings are written from."""
    facts = {fact.name: fact for fact in report.facts}
    return Story(report, read_wording("sections.toml", facts))


def _resting(sentence: Sentence) -> Sentence:
    return sentence if sentence.facts else sentence.model_copy(update={"facts": _COUNTS})
