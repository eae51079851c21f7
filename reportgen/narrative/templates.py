"""The report's sections, written from templates: which sentences apply, in which order.

A sentence is left out where a fact that it needs was not measured. Nothing here holds a word of
the text: the words are in ``templates/text``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from reportgen.facts import CURVES, DESTROYED, LITTLE_CHANGE, SEEDS, SELF_CHECKS
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

    def number(self, name: str) -> float | None:
        """Return the number behind a fact, or None where there is no such fact or number."""
        value = self.value(name)
        return value if isinstance(value, int | float) else None

    def first(self, keys: Iterable[str], subject: str = "") -> Iterator[Choice]:
        """Return the first of ``keys`` whose facts are all there, if any."""
        yield from [(key, subject) for key in keys if self.wording.has(key, subject)][:1]

    def write(self, choices: Iterable[Choice]) -> tuple[Sentence, ...]:
        """Return the sentences (key, subject) whose facts are all there; never none at all."""
        written = self._written(choices)
        return written or self._written([("empty", ""), ("reasons", "")])

    def _written(self, choices: Iterable[Choice]) -> tuple[Sentence, ...]:
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
    if _several(story):
        yield "labels-held" if story.report.prediction.holding else "no-label-held", ""
    else:
        yield "predicted", ""
        yield "runner-up", ""
    if _explains_another(story):
        yield from story.first(("explained-contrast", "explained-label", "explained-other"))
    yield "seen", ""
    yield "marked", ""
    yield "head", ""
    if story.value("model.assumed"):
        yield "assumed", ""
    yield "predictions-only", ""


def _explains_another(story: _Story) -> bool:
    prediction = story.report.prediction
    return _several(story) or prediction.target.index != prediction.top[0].index


def _several(story: _Story) -> bool:
    """Return whether a picture may have several labels, of which each stands alone."""
    return story.report.prediction.threshold is not None


def _method(story: _Story, method: str) -> Iterator[Choice]:
    yield from story.first((f"made-{method}", "made"), method)
    yield from _layer(story, method)
    yield "located", method
    yield from _curves(story, method)
    yield from _checks(story, method)
    yield "on-mask", method
    yield from _tested(story, method)
    yield "stable", method


def _layer(story: _Story, method: str) -> Iterator[Choice]:
    """Return how the layer was chosen, for the first method that looks at it."""
    looking = [a.method for a in story.report.attributions if "layer" in a.settings]
    choice = story.report.layer
    if choice is None or looking[:1] != [method]:
        return
    if choice.source == "option":
        yield from story.first(("layer-failing", "layer-named"))
    else:
        yield from story.first(("layer-compared", "layer-last"))
        yield "layer-runner-up", ""
    yield "layer-shared", ""


def _curves(story: _Story, method: str) -> Iterator[Choice]:
    outcomes = {metric: story.value(f"{method}.beats_noise.{metric}") for metric in CURVES}
    told = {metric: better for metric, better in outcomes.items() if better is not None}
    for metric, better in told.items():
        key = f"{metric}-{'beats' if better else 'fails'}"
        # "Put back" speaks of the pixels that the sentence on deletion has named.
        yield f"{key}-alone" if list(told) == ["insertion"] else key, method


def _checks(story: _Story, method: str) -> Iterator[Choice]:
    for metric in SELF_CHECKS:
        if story.report.measurement(metric, method):
            yield f"check-{metric}", method


def _tested(story: _Story, method: str) -> Iterator[Choice]:
    """Return what happens under random weights, and under other seeds."""
    destroyed = story.value(f"{method}.{DESTROYED}.verdict")
    if destroyed == "passes":
        yield from story.first(("sanity-passes", "sanity-passes-gone"), method)
    elif destroyed == "fails":
        yield "sanity-fails", method
    seeds = story.value(f"{method}.{SEEDS}.verdict")
    if seeds is not None:
        yield f"seeds-{seeds}", method


def _comparison(story: _Story) -> Iterator[Choice]:
    methods = story.report.attributions
    if not methods:
        yield "no-map", ""
    elif len(methods) == 1:
        yield "one-map", methods[0].method
    closest, farthest = (story.value(f"agreement.{end}") for end in ("closest", "farthest"))
    if closest and closest == farthest:
        yield "pair", str(closest)
        yield "pair-order", str(closest)
    elif closest:
        yield "agreement", ""
    area = story.number("consensus.area")
    if area is not None:
        yield "consensus" if area else "no-consensus", ""
    if closest and closest != farthest:
        yield from _ends(story, str(closest), str(farthest))


def _ends(story: _Story, closest: str, farthest: str) -> Iterator[Choice]:
    yield from story.first(("closest", "closest-area"), closest)
    yield from story.first(("farthest", "farthest-area"), farthest)


def _fidelity(story: _Story) -> Iterator[Choice]:
    yield from story.first(("deletion-curve",))
    yield from _little_signal(story, "deletion")
    both = story.wording.has("deletion-curve")
    yield "insertion-curve" if both else "insertion-curve-alone", ""
    yield from _little_signal(story, "insertion")
    yield from story.first(("controls", "controls-deletion", "controls-insertion"))
    if len(story.report.attributions) > 1:
        yield from ((f"best-{metric}", "") for metric in CURVES if not _little(story, metric))


def _little_signal(story: _Story, metric: str) -> Iterator[Choice]:
    if _little(story, metric):
        yield f"little-signal-{metric}", ""


def _little(story: _Story, metric: str) -> bool:
    change = story.number(f"{metric}.change")
    return change is not None and change <= LITTLE_CHANGE


def _robustness(story: _Story) -> Iterator[Choice]:
    yield from _rotation(story)
    yield "noise", ""
    yield from story.first(("noise-crosses", "noise-flips"))
    measured = [a.method for a in story.report.attributions if _stable(story, a.method)]
    if len(measured) == 1:
        yield "sensitivity", measured[0]
    else:
        yield "sensitivities", ""


def _stable(story: _Story, method: str) -> bool:
    return story.number(f"{method}.sensitivity") is not None


def _rotation(story: _Story) -> Iterator[Choice]:
    if "rotation.first" not in story.wording.facts:
        return
    if story.value("rotation.first") is None:
        yield "rotation-holds", ""
        return
    yield from story.first(("rotation-crosses", "rotation-flips"))
    yield from story.first(("rotation-other", "rotation-one-way"))


def _interpretation(story: _Story) -> Iterator[Choice]:
    yield _said(story), ""
    if story.report.prediction.contrast:
        yield "other-contrast", ""
    elif _explains_another(story) and not _several(story):
        yield "other-class", ""
    yield _judgement(story), ""
    if story.number("report.beating"):
        yield "shared-place", ""
    if "rotation.first" in story.wording.facts:
        turned = story.value("rotation.first") is not None
        yield from story.first(("breaks-label", "breaks") if turned else ("holds",))
    yield "distrust", ""


def _said(story: _Story) -> str:
    """Return the sentence on what the model says of the picture, or of the label explained."""
    prediction = story.report.prediction
    if prediction.threshold is None:
        return "verdict"
    watched = prediction.contrast.first if prediction.contrast else prediction.target
    return "verdict-held" if watched in prediction.holding else "verdict-not-held"


def _judgement(story: _Story) -> str:
    """Return the sentence on which maps are evidence: none, one, some or all of those judged."""
    if not story.report.attributions:
        return "no-evidence"
    judged, beating = story.number("report.judged"), story.number("report.beating")
    if not judged:
        return "not-judged"
    if judged == 1:
        return "single-map" if beating else "no-single-map"
    if beating == judged:
        return "both-maps" if judged == 2 else "all-maps"
    if not beating:
        return "neither-map" if judged == 2 else "no-maps"
    return "one-of-maps" if beating == 1 else "some-maps"


SECTIONS: Mapping[str, tuple[str, Choose]] = {
    "summary": ("Model summary", _summary),
    "comparison": ("Comparison of the methods", _comparison),
    "fidelity": ("Fidelity metrics", _fidelity),
    "robustness": ("Robustness metrics", _robustness),
    "interpretation": ("Combined interpretation", _interpretation),
}
