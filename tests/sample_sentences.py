"""What the synthetic report says: words from outside, sentences and findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reportgen.records import Attribution, Fact, Finding, Report, Section, Sentence, Severity


@dataclass(frozen=True)
class Words:
    """What comes from outside: names, labels, and written text."""

    model: str = "resnet50-11ad3fa6.pth"
    image: str = "chelsea.png"
    label: str = "tabby cat"
    sentence: str = ""


def _say(text: str, *facts: str) -> Sentence:
    return Sentence(text=text, facts=facts)


def sample_sections(report: Report, facts: Mapping[str, Fact], words: Words) -> tuple[Section, ...]:
    """Return the sections of a report, each sentence with the facts it rests on."""

    def text(name: str) -> str:
        return facts[name].text if name in facts else "unknown"

    summary = _say(
        f"The model gives {text('prediction.label')} a probability of "
        f"{text('prediction.probability')}, which is {text('prediction.margin')} more than the "
        f"next class, {text('prediction.runner_up')}.",
        "prediction.label", "prediction.probability", "prediction.margin", "prediction.runner_up",
    )  # fmt: skip
    extra = (_say(words.sentence, "prediction.label"),) if words.sentence else ()
    sections = {
        "summary": ("Summary", (summary, *extra)),
        **{a.method: (a.card.title, _method(a, text)) for a in report.attributions},
        "comparison": ("Comparison", _compared(text, facts)),
        "fidelity": ("Fidelity", (_curve_sentence(text, facts),)),
        "robustness": ("Robustness", (_rotation_sentence(text), _noise_sentence(text))),
        "interpretation": ("Interpretation", (summary, _rotation_sentence(text))),
    }
    return tuple(Section(key=k, title=t, sentences=s) for k, (t, s) in sections.items())


def _method(attribution: Attribution, text: Any) -> tuple[Sentence, ...]:
    key, title = attribution.method, attribution.card.title
    place = _say(
        f"{title} places its relevance in the {text(f'{key}.location')} of the picture; "
        f"{text(f'{key}.area_share')} of it lies in the pixels ranked highest.",
        f"{key}.location", f"{key}.area_share",
    )  # fmt: skip
    control = _say(
        f"Its deletion AUC is {text(f'{key}.deletion_auc')}, against "
        f"{text('random.deletion_auc')} for random pixels.",
        f"{key}.deletion_auc", "random.deletion_auc",
    )  # fmt: skip
    return place, control


def _compared(text: Any, facts: Mapping[str, Fact]) -> tuple[Sentence, ...]:
    if "agreement.mean_iou" not in facts:
        return (_say("There are not two maps to compare."),)
    return (
        _say(
            f"More than half of the methods share {text('consensus.area')} of the picture, in the "
            f"{text('consensus.location')}.",
            "consensus.area", "consensus.location",
        ),
        _say(
            f"The mean overlap of two methods is {text('agreement.mean_iou')}; random maps would "
            f"reach {text('agreement.iou_floor')}.",
            "agreement.mean_iou", "agreement.iou_floor",
        ),
    )  # fmt: skip


def _curve_sentence(text: Any, facts: Mapping[str, Fact]) -> Sentence:
    names = [name for name in facts if name.endswith(".deletion_auc")]
    values = ", ".join(text(name) for name in names)
    return _say(f"The deletion AUC of the maps and controls is {values}.", *names)


def _rotation_sentence(text: Any) -> Sentence:
    return _say(
        f"The top class first changes when the picture is rotated by {text('rotation.first')}, to "
        f"{text('rotation.first_class')}.",
        "rotation.first", "rotation.first_class",
    )  # fmt: skip


def _noise_sentence(text: Any) -> Sentence:
    return _say(
        f"At severity 3, Gaussian noise keeps {text('noise.gaussian.3')} of the probability.",
        "noise.gaussian.3",
    )


def sample_findings(facts: Mapping[str, Fact]) -> tuple[Finding, ...]:
    """Return findings of every severity, not in their order."""
    found: list[tuple[Severity, str, str, str, str]] = [
        ("pass", "beats-noise", "gradcam", "gradcam.deletion_auc",
         "Grad-CAM beats every draw of smooth noise in deletion and in insertion."),
        ("problem", "sensitive-map", "saliency", "saliency.sensitivity",
         "Saliency changes by more than half when the picture changes by less than can be seen."),
        ("note", "skipped", "", "model.assumed",
         "Two steps were not made; appendix B says which and why."),
        ("caution", "assumed", "", "model.assumed",
         "The resize, the mean and the standard deviation of the preprocessing are assumed: the "
         "file does not state them, and a wrong guess changes the prediction and every map."),
        ("caution", "noise-flips", "impulse", "noise.impulse.3",
         "Impulse noise of severity 3 already changes the top class in every noisy copy."),
    ]  # fmt: skip
    return tuple(
        Finding(
            rule=rule, severity=severity, subject=subject, statement=statement,
            facts=(fact,) if fact in facts else (), threshold="max-sensitivity above 0.500",
        )
        for severity, rule, subject, fact, statement in found
    )  # fmt: skip
