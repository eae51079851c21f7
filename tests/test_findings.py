from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from told_reports import (
    blur,
    check,
    curve,
    everything,
    layer_of,
    noise,
    noise_curves,
    on_mask,
    pair,
    report_of,
    rotation,
    rules,
    sensitivity,
    told,
    verdict,
)

from reportgen.facts import CONSTANT_MAP
from reportgen.findings.curves import VERDICTS
from reportgen.records import (
    Measurement,
    OwnNormalisation,
    PrecisionCheck,
    Report,
    Skipped,
    Sourced,
)
from reportgen.wording import read_wording

TWO = ("gradcam", "lime")
JUDGED = ("passes", "cannot tell")


def judged(deletion: float | None, insertion: float | None, **ends: Any) -> Report:
    """Return a report on one map beside smooth noise that reaches 0.4 and 0.6."""
    own = {"deletion": deletion, "insertion": insertion}
    found = [curve(m, "gradcam", v, **ends) for m, v in own.items() if v is not None]
    return report_of(*found, *noise_curves())


def beside(control: str, deletion: float, insertion: float, method: str = "gradcam") -> Report:
    own = [curve("deletion", method, deletion), curve("insertion", method, insertion)]
    other = [curve("deletion", control, 0.3), curve("insertion", control, 0.7)]
    return report_of(*own, *other, *noise_curves(), methods=(method,))


def alone(metric: str, control: str, value: float, method: str = "gradcam") -> Report:
    """Return a report on a map beside a control that reaches 0.3, by one curve."""
    own, other = curve(metric, method, value), curve(metric, control, 0.3)
    return report_of(own, other, *noise_curves(), methods=(method,))


def by_one_curve(control: str, metric: str, method: str) -> tuple[list[Report], list[Report]]:
    """Return reports on a map that is no better than a control by one curve, and that is better."""
    sign = 1 if metric == "deletion" else -1
    other = "insertion" if metric == "deletion" else "deletion"
    own = [curve(m, method, 0.3) for m in (metric, other)]
    silent = curve(other, method, 0.3, (0.5, 0.5)), curve(other, control, 0.3, (0.5, 0.5))
    beside = curve(metric, control, 0.3)
    holding = [
        alone(metric, control, 0.3, method),
        alone(metric, control, 0.3 + sign * 0.01, method),
        report_of(own[0], beside, *silent, *noise_curves(), methods=(method,)),
        report_of(*own, beside, *noise_curves(), methods=(method,)),
    ]
    return holding, [
        alone(metric, control, 0.3 - sign * 0.01, method),
        alone(other, control, 0.3, method),
        report_of(*own, beside, curve(other, control, 0.3), *noise_curves(), methods=(method,)),
        report_of(silent[0], *silent, *noise_curves(), methods=(method,)),
    ]


def signal(metric: str, *ends: float) -> Report:
    return report_of(curve(metric, "gradcam", 0.5, (ends[0], ends[1])))


def flips(*angles: float | None) -> Report:
    sides = zip(("positive", "negative"), angles, strict=False)
    return report_of(*(rotation(side, angle) for side, angle in sides))


def noisy(severity: int, share: float) -> Report:
    return report_of(noise("noise_flips", "shot", severity, share))


def checked(metric: str, method: str, value: float) -> Report:
    return report_of(check(metric, method, value), methods=(method,))


def top(first: float, second: float, target: int = 0) -> Report:
    return report_of(top=(("newt", first), ("toad", second)), target=target)


# For each rule: its finding's severity, reports in which it holds, and reports in which not.
def in_bfloat16(rank: float | None) -> Report:
    """Return a report for which bfloat16 was asked, with this rank correlation."""
    check = PrecisionCheck(
        precision="bfloat16",
        used=rank is not None and rank >= 0.99,
        pictures=32,
        least=0.99,
        rank_correlation=rank,
        largest_difference=0.04,
        mean_difference=0.005,
    )
    report = report_of()
    provenance = report.provenance.model_copy(update={"precision_check": check})
    return told(report.model_copy(update={"provenance": provenance}))


def label(probability: float, threshold: float | None = 0.5, **changes: Any) -> Report:
    """Return a report on the label "toad", beside one that holds."""
    top = (("newt", 0.9), ("toad", probability))
    return report_of(top=top, threshold=threshold, **{"target": 1, **changes})


def label_flips(*angles: float | None) -> Report:
    sides = zip(("positive", "negative"), angles, strict=False)
    return report_of(*(rotation(side, angle) for side, angle in sides), threshold=0.5)


def label_noisy(severity: int, share: float) -> Report:
    return report_of(noise("noise_flips", "shot", severity, share), threshold=0.5)


def normalising(
    mean: tuple[float, ...] = (0.0,) * 3, std: tuple[float, ...] = (1.0,) * 3, white: int = 1
) -> Report:
    """Return a report on a network that normalises by itself, after what is given."""
    own = OwnNormalisation(mean=(0.5 * white,) * 3, std=(0.25 * white,) * 3, white=white)
    stated = report_of().model.preprocessing.model_copy(update={"mean": mean, "std": std})
    return report_of(own_normalisation=own, preprocessing=stated)


CASES: Mapping[str, tuple[str, Sequence[Report], Sequence[Report]]] = {
    "low-margin": (
        "caution",
        [top(0.5, 0.41)],
        [top(0.5, 0.375), top(0.5, 0.25), label(0.85), label(0.85, target=0)],
    ),
    "other-target": (
        "note",
        [top(0.6, 0.4, target=1)],
        [top(0.6, 0.4), label(0.6), label(0.2, None, target=0, contrast=(1, 0))],
    ),
    "contrast": ("note", [label(0.2, None, contrast=(1, 0))], [label(0.2), top(0.6, 0.4)]),
    "label-not-held": (
        "note",
        [label(0.49), label(0.1), label(0.1, target=0, contrast=(1, 0))],
        [label(0.5), label(0.2, None), label(0.1, target=0, contrast=(0, 1))],
    ),
    "near-threshold": (
        "caution",
        [label(0.41), label(0.59), label(0.41, target=0, contrast=(1, 0))],
        [label(0.39), label(0.61), label(0.41, None), label(0.41, target=0)],
    ),
    "rotation-crosses-late": (
        "pass",
        [label_flips(None, 15.0), label_flips(15.01)],
        [label_flips(20, 14.99), label_flips(None), flips(None, 15.0)],
    ),
    "rotation-crosses": ("caution", [label_flips(5.0)], [label_flips(15.0), flips(5.0)]),
    "noise-crosses shot": ("caution", [label_noisy(2, 0.5)], [label_noisy(3, 1.0), noisy(2, 0.5)]),
    "assumed": (
        "caution",
        [
            report_of(preprocessing_sources={"mean": "assumed"}),
            report_of(head=Sourced(value="probabilities", source="assumed")),
        ],
        [report_of(preprocessing_sources={"mean": "option"}), report_of()],
    ),
    "normalised-twice": (
        "caution",
        [
            normalising((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            normalising(std=(1 / 255,) * 3),
        ],
        [normalising(), normalising(std=(1 / 255,) * 3, white=255), report_of()],
    ),
    "trusted-pickle": ("note", [report_of(trusted_pickle=True)], [report_of()]),
    "precision-reduced": ("note", [in_bfloat16(0.99)], [in_bfloat16(0.98), report_of()]),
    "precision-kept": ("note", [in_bfloat16(0.98), in_bfloat16(None)], [in_bfloat16(0.99)]),
    "skipped": ("note", [report_of(skipped=[Skipped(step="noise", reason="x")])], [report_of()]),
    "constant-map gradcam": (
        "problem",
        [report_of(notes_of={"gradcam": [CONSTANT_MAP]})],
        [report_of(), report_of(notes_of={"gradcam": ["another note"]})],
    ),
    "little-signal-deletion": (
        "caution",
        [signal("deletion", 0.05, 0), signal("deletion", 0, 0.04)],
        [signal("deletion", 0.051, 0), signal("insertion", 0, 0.01), report_of()],
    ),
    "little-signal-insertion": (
        "caution",
        [signal("insertion", 0.05, 0), signal("insertion", 0, 0.04)],
        [signal("insertion", 0, 0.051), signal("deletion", 0, 0.01), report_of()],
    ),
    "deletion-rises": (
        "caution",
        [signal("deletion", 0, 0.051), signal("deletion", 0.1, 0.9)],
        [signal("deletion", 0, 0.05), signal("deletion", 0.9, 0.1), signal("insertion", 0, 0.9)],
    ),
    "insertion-falls": (
        "caution",
        [signal("insertion", 0.051, 0), signal("insertion", 0.9, 0.1)],
        [signal("insertion", 0.05, 0), signal("insertion", 0.1, 0.9), signal("deletion", 0.9, 0)],
    ),
    "beats-noise gradcam": (
        "pass",
        [judged(0.399, 0.601)],
        [judged(0.4, 0.601), judged(0.399, 0.6), judged(0.3, None)],
    ),
    "beats-noise-in-deletion gradcam": (
        "caution",
        [judged(0.399, 0.6)],
        [judged(0.399, 0.601), judged(0.4, 0.6), judged(0.3, None)],
    ),
    "beats-noise-in-insertion gradcam": (
        "caution",
        [judged(0.4, 0.601)],
        [judged(0.399, 0.601), judged(0.4, 0.6), judged(None, 0.7)],
    ),
    "no-better-than-noise gradcam": (
        "problem",
        [judged(0.4, 0.6), judged(0.5, 0.5)],
        [judged(0.399, 0.6), judged(0.4, 0.601), judged(0.4, None)],
    ),
    "beats-noise-by-deletion-alone gradcam": (
        "pass",
        [judged(0.399, None)],
        [judged(0.4, None), judged(0.399, 0.601)],
    ),
    "no-better-than-noise-by-deletion-alone gradcam": (
        "problem",
        [judged(0.4, None)],
        [judged(0.399, None), judged(0.4, 0.6)],
    ),
    "beats-noise-by-insertion-alone gradcam": (
        "pass",
        [judged(None, 0.601)],
        [judged(None, 0.6), judged(0.399, 0.601)],
    ),
    "no-better-than-noise-by-insertion-alone gradcam": (
        "problem",
        [judged(None, 0.6)],
        [judged(None, 0.601), judged(0.4, 0.6)],
    ),
    "no-better-than-centre gradcam": (
        "caution",
        [beside("centre", 0.3, 0.7), beside("centre", 0.31, 0.69)],
        [beside("centre", 0.299, 0.7), beside("centre", 0.3, 0.701), beside("edges", 0.4, 0.6)],
    ),
    "no-better-than-edges gradcam": (
        "caution",
        [beside("edges", 0.3, 0.7), beside("edges", 0.31, 0.69)],
        [beside("edges", 0.299, 0.7), beside("edges", 0.3, 0.701), beside("centre", 0.4, 0.6)],
    ),
    "no-better-than-random saliency": (
        "caution",
        [beside("random", 0.3, 0.7, "saliency")],
        [beside("random", 0.299, 0.7, "saliency"), beside("random", 0.4, 0.6)],
    ),
    **{
        f"no-better-than-{control}-by-{metric}-alone {method}": (
            "caution",
            *by_one_curve(control, metric, method),
        )
        for control, method in (("centre", "gradcam"), ("edges", "gradcam"), ("random", "saliency"))
        for metric in ("deletion", "insertion")
    },
    "ignores-model gradcam": (
        "problem",
        [report_of(verdict("randomised_spearman", "gradcam", "fails"))],
        [report_of(verdict("randomised_spearman", "gradcam", said, None)) for said in JUDGED],
    ),
    "notices-model": (
        "pass",
        [report_of(verdict("randomised_spearman", "gradcam", "passes", 0.1))],
        [
            report_of(verdict("randomised_spearman", "gradcam", "cannot tell", None)),
            report_of(
                verdict("randomised_spearman", "gradcam", "passes", 0.1),
                verdict("randomised_spearman", "lime", "fails"),
                methods=TWO,
            ),
        ],
    ),
    "unstable-seeds lime": (
        "caution",
        [report_of(verdict("seed_jaccard_5", "lime", "unstable"), methods=("lime",))],
        [report_of(verdict("seed_jaccard_5", "lime", "stable", 0.95), methods=("lime",))],
    ),
    "off-mask gradcam": (
        "caution",
        [report_of(on_mask("gradcam", 0.4)), report_of(on_mask("gradcam", 0.2))],
        [report_of(on_mask("gradcam", 0.41)), report_of()],
    ),
    "class-agnostic eigencam": (
        "note",
        [report_of(methods=("eigencam",))],
        [report_of()],
    ),
    "methods-disagree": (
        "caution",
        [report_of(*pair(*TWO, 0.222, 0.1), methods=TWO)],
        [
            report_of(*pair(*TWO, 2 / 9, 0.1), methods=TWO),
            report_of(*pair(*TWO, 0.23, 0.1), methods=TWO),
            report_of(*pair(*TWO, None, None), methods=TWO),
        ],
    ),
    "completeness_gap-fails integrated-gradients": (
        "caution",
        [checked("completeness_gap", "integrated-gradients", 0.051)],
        [checked("completeness_gap", "integrated-gradients", g) for g in (0.05, 0.049)],
    ),
    "surrogate_r2-fails lime": (
        "caution",
        [checked("surrogate_r2", "lime", 0.499)],
        [checked("surrogate_r2", "lime", r2) for r2 in (0.5, 0.501)],
    ),
    "additivity_gap-fails shap": (
        "problem",
        [checked("additivity_gap", "shap", 0.011)],
        [checked("additivity_gap", "shap", gap) for gap in (0.01, 0.009)],
    ),
    "negative_share-fails gradcam": (
        "problem",
        [checked("negative_share", "gradcam", 1.0)],
        [checked("negative_share", "gradcam", 0.999)],
    ),
    "no-rotation-flips": ("pass", [flips(None, None)], [flips(None, 170), report_of()]),
    "rotation-holds": ("pass", [flips(None, 15.0), flips(15.01)], [flips(20, 14.99), flips(None)]),
    "blur-flips": ("caution", [report_of(blur(True))], [report_of(blur(False)), report_of()]),
    "noise-flips shot": (
        "caution",
        [noisy(2, 0.5), noisy(1, 1.0)],
        [noisy(3, 1.0), noisy(2, 0.49), report_of()],
    ),
    "layer-fails": (
        "caution",
        [report_of(layer=layer_of("fails", "option"))],
        [report_of(), *(report_of(layer=layer_of(o, "option")) for o in ("passes", "undecided"))],
    ),
    "layer-unclear": (
        "caution",
        [report_of(layer=layer_of("undecided")), report_of(layer=layer_of("undecided", "option"))],
        [report_of(), *(report_of(layer=layer_of(o)) for o in ("passes", "fails"))],
    ),
    "sensitive-map gradcam": (
        "caution",
        [report_of(sensitivity("gradcam", 0.501))],
        [report_of(sensitivity("gradcam", v)) for v in (0.5, 0.499, None)],
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_holds_beyond_its_threshold_only(rule: str) -> None:
    severity, holding, others = CASES[rule]
    for report in holding:
        assert rules(report)[rule].severity == severity
        assert rules(report)[rule].threshold
    for report in others:
        assert rule not in rules(report)


@pytest.mark.parametrize(
    ("angle", "severity"),
    [(4.99, "problem"), (5.0, "caution"), (14.99, "caution"), (15.0, None), (16.0, None)],
)
def test_a_small_rotation_is_graver(angle: float, severity: str | None) -> None:
    found = rules(flips(None, angle)).get("rotation-flips")
    assert (found and found.severity) == severity


def test_a_small_rotation_is_graver_for_a_label_too() -> None:
    assert rules(label_flips(4.99))["rotation-crosses"].severity == "problem"
    assert not [rule for rule in rules(label_flips(4.99)) if rule.startswith("rotation-flips")]
    assert "noise-flips shot" not in rules(label_noisy(1, 1.0))


def test_every_sentence_is_of_a_rule_tested_here_and_every_rule_has_one() -> None:
    tested = {rule.split()[0] for rule in CASES} | {"rotation-flips"}
    sentences = set(read_wording("findings.toml", {}).sentences)
    assert sentences == tested | {f"{rule}-brief" for rule in tested}


def test_a_control_that_is_drawn_is_beaten_beyond_its_draws_only() -> None:
    def report(low: float, high: float) -> Report:
        own = [curve("deletion", "saliency", 0.3), curve("insertion", "saliency", 0.3)]
        other = [curve("deletion", "random", 0.4, interval=(low, high), draws=3)]
        other.append(curve("insertion", "random", 0.4))
        return report_of(*own, *other, *noise_curves(), methods=("saliency",))

    assert "no-better-than-random saliency" in rules(report(0.29, 0.5))
    assert "no-better-than-random saliency" not in rules(report(0.31, 0.5))


def test_the_first_finding_of_a_rule_has_a_sentence_on_all_of_them() -> None:
    unstable = [sensitivity(method, 0.9) for method in TWO]
    report = report_of(*unstable, rotation("positive", 3.0), methods=TWO)
    briefs = [(f.rule, f.brief and f.brief.text) for f in report.findings]
    assert briefs == [
        (
            "rotation-flips",
            "Turning the picture by 3.00 degrees changes the prediction to “newt positive”.",
        ),
        ("sensitive-map", "Noise of at most 4 of 255 levels changes Grad-CAM and LIME much."),
        ("sensitive-map", None),
    ]


def test_every_rule_has_its_short_sentence() -> None:
    for _, holding, _ in CASES.values():
        for finding in (f for report in holding for f in report.findings):
            if finding.brief is not None:
                assert len(finding.brief.text.split()) <= 25
                assert finding.brief.facts
                assert not re.search(r"[{}@]|\bNone\b", finding.brief.text)


def test_the_verdicts_cover_what_two_curves_can_say() -> None:
    states = (True, False, None)
    possible = {(a, b) for a in states for b in states} - {(None, None)}
    assert set(VERDICTS) == possible


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
def test_no_map_is_judged_by_a_curve_that_goes_the_wrong_way(metric: str) -> None:
    ends = (0.1, 0.9) if metric == "deletion" else (0.9, 0.1)
    own = [curve(metric, subject, 0.3, ends) for subject in ("gradcam", "centre")]
    found = rules(report_of(*own, *noise_curves()))
    assert not [rule for rule in found if rule.startswith(("beats", "no-better"))]


def test_little_signal_leaves_the_verdict_to_the_other_curve() -> None:
    silent = curve("insertion", "gradcam", 0.1, ends=(0.88, 0.9))
    report = report_of(curve("deletion", "gradcam", 0.3), silent, *noise_curves())
    found = rules(report)
    assert "beats-noise-by-deletion-alone gradcam" in found
    assert "0.020" in found["little-signal-insertion"].statement
    assert not [rule for rule in found if rule.startswith("no-better")]


def test_the_gravest_come_first() -> None:
    report = report_of(
        rotation("positive", 3.0),
        sensitivity("gradcam", 0.9),
        *noise_curves(),
        curve("deletion", "gradcam", 0.1),
        trusted_pickle=True,
    )
    assert [f.severity for f in report.findings] == ["problem", "caution", "note", "pass"]


def test_statements_show_the_facts_they_rest_on() -> None:
    report = report_of(*everything(), methods=TWO, preprocessing_sources={"mean": "assumed"})
    assert len(report.findings) > 3
    for finding in report.findings:
        for name in finding.facts:
            entry = report.fact(name)
            assert entry is not None
            assert entry.text in finding.statement


def test_statements_have_no_place_left_open() -> None:
    for _, holding, _ in CASES.values():
        for finding in (f for report in holding for f in report.findings):
            assert not re.search(r"[{}@]|\bNone\b", finding.statement)
            assert finding.statement.endswith(".")


def test_a_check_of_a_method_that_gave_no_map_is_left_alone() -> None:
    stray: Measurement = check("surrogate_r2", "lime", 0.1)
    assert "surrogate_r2-fails lime" not in rules(report_of(stray, methods=("gradcam",)))
