"""The report's sections, written from templates: which sentences apply, in which order.

A sentence is left out where a fact that it needs was not measured. Nothing here holds a word of
the text: the words are in ``templates/text``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from reportgen.facts import CURVES, TOLD_REASONS
from reportgen.narrative.maps import method_section
from reportgen.narrative.story import Choice, Story, story_of
from reportgen.phrases import phrase
from reportgen.records import Report, Section, Sentence

Choose = Callable[[Story], Iterator[Choice]]

# Weaknesses that the last section names; the findings have all of them.
_NAMED = 3


def sections_of(report: Report) -> tuple[Section, ...]:
    """Return the numbered sections of a report that has its facts and findings."""
    story = story_of(report)
    methods = [
        Section(
            key=a.method,
            title=a.card.title,
            sentences=story.write(method_section(story, a.method)),
        )
        for a in report.attributions
    ]
    first, *rest = [
        Section(key=key, title=phrase(f"section.{key}"), sentences=story.write(choose(story)))
        for key, choose in SECTIONS.items()
    ]
    last = rest[-1].model_copy(update={"sentences": _concluded(story, rest[-1].sentences)})
    return (first, *methods, *rest[:-1], last)


def _concluded(story: Story, sentences: tuple[Sentence, ...]) -> tuple[Sentence, ...]:
    """Return the last section with its weakest points named, and with what was left out."""
    rotation = ("rotation-flips", "rotation-crosses")  # told by the section itself
    weakest = [f.brief for f in story.weaknesses() if f.brief and f.rule not in rotation]
    return (*sentences, *weakest[:_NAMED], *story.written(_left_out()))


def _left_out() -> Iterator[Choice]:
    yield from (("left-out", f"skipped.{place}") for place in range(1, TOLD_REASONS + 1))
    yield "left-out-more", ""


def _summary(story: Story) -> Iterator[Choice]:
    if story.several:
        yield "labels-held" if story.report.prediction.holding else "no-label-held", ""
    else:
        yield "predicted", ""
        yield "runner-up", ""
    if story.explains_another:
        yield from story.first(("explained-contrast", "explained-label", "explained-other"))
    if story.value("model.assumed"):
        yield "assumed", ""
    yield "predictions-only", ""
    yield "seen-whole" if story.sees_all else "seen", ""
    yield "marked", ""
    yield "head", ""


def _comparison(story: Story) -> Iterator[Choice]:
    methods = story.report.attributions
    if not methods:
        yield "no-map", ""
    elif len(methods) == 1:
        yield "one-map", methods[0].method
    pairs = [m.subject for m in story.report.measurements if m.metric == "iou"]
    if len(pairs) == 1:
        yield from _pair(story, pairs[0])
    else:
        yield from _agreement(story)
    yield "same-place", ""
    area = story.number("consensus.area")
    if area is not None:
        yield "consensus" if area else "no-consensus", ""
    if len(pairs) > 1:
        yield from _ends(story)


def _pair(story: Story, pair: str) -> Iterator[Choice]:
    yield "pair", pair
    beyond = story.number("agreement.beyond")
    if beyond is not None:
        yield "pair-beyond" if beyond else "pair-chance", pair
    yield "pair-order", pair


def _agreement(story: Story) -> Iterator[Choice]:
    yield "agreement", ""
    beyond, tested = story.number("agreement.beyond"), story.number("agreement.tested")
    if beyond is not None:
        all_or_some = "agreement-beyond" if beyond == tested else "agreement-some"
        yield all_or_some if beyond else "agreement-chance", ""


def _ends(story: Story) -> Iterator[Choice]:
    """Return the pairs at both ends, unless no pair overlaps more than random maps."""
    if story.number("agreement.beyond") == 0:
        return
    for end in ("closest", "farthest"):
        pair = story.value(f"agreement.{end}")
        if pair:
            yield from story.first((end, f"{end}-area"), str(pair))


def _fidelity(story: Story) -> Iterator[Choice]:
    for metric in CURVES:
        yield f"supported-{metric}", ""
        yield f"unsupported-{metric}", ""
        if story.little_signal(metric):
            yield f"little-signal-{metric}", ""
    yield from _controls(story)
    yield "sanity-failing", ""
    yield "sanity-passing", ""
    for metric in CURVES:
        yield f"best-{metric}", ""
        yield f"alike-{metric}", ""
    yield from _curves(story)


def _controls(story: Story) -> Iterator[Choice]:
    """Return what smooth random maps reach on the curves on which an AUC can be good."""
    metrics = [metric for metric in CURVES if not story.backwards(metric)]
    both = ("controls",) if len(metrics) == len(CURVES) else ()
    found = [*story.first((*both, *(f"controls-{metric}" for metric in metrics)))]
    yield from found
    if found:
        yield "controls-range", ""


def _curves(story: Story) -> Iterator[Choice]:
    """Return how the curves were made, and from where to where they go."""
    both = story.wording.has("deletion-curve")
    yield "deletion-rises" if story.backwards("deletion") else "deletion-curve", ""
    if story.backwards("insertion"):
        yield "insertion-falls", ""
    else:
        yield "insertion-curve" if both else "insertion-curve-alone", ""


def _robustness(story: Story) -> Iterator[Choice]:
    yield from _rotation(story)
    yield from story.first(("noise-watched", "noise"))
    yield from _noise(story)
    measured = [a.method for a in story.report.attributions if _stable(story, a.method)]
    if len(measured) == 1:
        yield "sensitivity", measured[0]
    else:
        yield "sensitivities", ""
    yield "sensitivity-least", ""
    yield "sensitivity-alike", ""


def _noise(story: Story) -> Iterator[Choice]:
    """Return at which severity noise changes the prediction."""
    firsts = (fact for name, fact in story.wording.facts.items() if _is_first_noise(name))
    if any(fact.value is not None for fact in firsts):
        yield from story.first(("noise-crosses", "noise-flips"))
    else:
        yield from story.first(("noise-never-crosses", "noise-never-flips"))


def _is_first_noise(name: str) -> bool:
    return name.startswith("noise.") and name.endswith(".first")


def _stable(story: Story, method: str) -> bool:
    return story.number(f"{method}.sensitivity") is not None


def _rotation(story: Story) -> Iterator[Choice]:
    if "rotation.first" not in story.wording.facts:
        return
    if story.value("rotation.first") is None:
        yield "rotation-holds", ""
        return
    yield from story.first(("rotation-crosses", "rotation-flips"))
    yield from story.first(("rotation-other", "rotation-one-way"))


def _interpretation(story: Story) -> Iterator[Choice]:
    yield _said(story), ""
    if story.report.prediction.contrast:
        yield "other-contrast", ""
    elif story.explains_another and not story.several:
        yield "other-class", ""
    yield story.judgement(), ""
    if story.number("report.judged"):
        yield "some-unjudged", ""
    yield from _place(story)
    if "rotation.first" in story.wording.facts:
        turned = story.value("rotation.first") is not None
        yield from story.first(("breaks-label", "breaks") if turned else ("holds",))
    doubted = story.number("report.problems") or story.number("report.cautions")
    yield "distrust" if doubted else "distrust-nothing", ""


def _place(story: Story) -> Iterator[Choice]:
    """Return where the maps point that do better than random ones, one or most of all maps."""
    beating = story.number("report.beating") or 0
    methods = story.report.attributions
    if beating == 1:
        named = story.value("report.beating_titles")
        yield from (("evidence-place", a.method) for a in methods if [a.card.title] == named)
    elif 2 * beating > len(methods) and story.number("consensus.area"):
        yield "shared-place", ""


def _said(story: Story) -> str:
    """Return the sentence on what the model says of the picture, or of the label explained."""
    prediction = story.report.prediction
    if prediction.threshold is None:
        return "verdict"
    watched = prediction.contrast.first if prediction.contrast else prediction.target
    return "verdict-held" if watched in prediction.holding else "verdict-not-held"


SECTIONS: Mapping[str, Choose] = {
    "summary": _summary,
    "comparison": _comparison,
    "fidelity": _fidelity,
    "robustness": _robustness,
    "interpretation": _interpretation,
}
