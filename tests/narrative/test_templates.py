from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_reports import OVERLAP, random_report
from told_reports import (
    CHECKED,
    TITLES,
    WHOLE,
    check,
    curve,
    everything,
    layer_of,
    located,
    noise,
    noise_curves,
    pair,
    report_of,
    rotation,
    sensitivity,
    text,
    told,
    verdict,
)

from reportgen.metrics.yardstick import placed
from reportgen.narrative.templates import SECTIONS
from reportgen.records import Box, Measurement, Report, Sentence, Skipped
from reportgen.wording import read_wording

ALL = tuple(TITLES)
PART = Box(left=50, top=0, right=450, bottom=400)
TWO = ("gradcam", "lime")
SHARE = st.floats(0, 1)


def sentences(report: Report) -> list[Sentence]:
    return [sentence for section in report.sections for sentence in section.sentences]


def numbers_without_a_fact(report: Report, sentence: Sentence) -> list[str]:
    """Return the numbers in a sentence that are in none of the facts it rests on."""
    left = sentence.text
    texts = [fact.text for name in sentence.facts if (fact := report.fact(name))]
    for fact_text in sorted(texts, key=len, reverse=True):
        left = left.replace(fact_text, "")
    return re.findall(r"\d+", left)


def assert_sound(report: Report) -> None:
    """Check what holds for every report: full sections, no open place, no number from nowhere."""
    assert all(section.sentences for section in report.sections)
    for sentence in sentences(report):
        assert not re.search(r"[{}@]|\bNone\b(?! of)|\bnan\b|  |\.\.", sentence.text)
        assert sentence.text.endswith(".")
        assert numbers_without_a_fact(report, sentence) == []
        for name in sentence.facts:
            fact = report.fact(name)
            assert fact is not None
            assert fact.text
            # What says that there is nothing rests on counts that it does not show.
            assert fact.text in sentence.text or "{" not in sentence.pattern


def test_a_number_without_a_fact_is_noticed() -> None:
    report = report_of()
    sentence = Sentence(text="It is 0.7000, and 0.3 of it.", facts=("prediction.probability",))
    assert numbers_without_a_fact(report, sentence) == ["0", "3"]


@pytest.mark.parametrize("dropped", range(len(everything(TWO))))
def test_any_one_measurement_may_be_missing(dropped: int) -> None:
    measurements = everything(TWO)
    del measurements[dropped]
    assert_sound(report_of(*measurements, methods=TWO))


FULL = everything()


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(range(len(FULL)))), st.integers(0, len(ALL)))
def test_any_measurements_may_be_missing(kept: set[int], methods: int) -> None:
    assert_sound(report_of(*(FULL[i] for i in sorted(kept)), methods=ALL[:methods]))


def measured(seed: int) -> tuple[list[Measurement], Sequence[str]]:
    """Return random values of everything that is measured, with ties, and some of them none."""
    lot = Random(seed)
    methods = ALL[: lot.randint(1, len(ALL))]

    def share() -> float:
        return lot.choice((lot.random(), lot.random(), round(lot.random(), 1), lot.random() / 999))

    ends = {m: (share(), share()) for m in ("deletion", "insertion")}
    spans = {m: tuple(sorted((share(), share()))) for m in ends}
    found = [curve(m, "smooth-random", sum(spans[m]) / 2, ends[m], spans[m]) for m in spans]
    found += [curve(m, method, share(), ends[m]) for m in ends for method in methods]
    for i, method in enumerate(methods):
        found += located(method, share(), share(), share())
        found.append(sensitivity(method, lot.choice((None, 9 * share()))))
        found += [check(CHECKED[method], method, share())] if method in CHECKED else []
        for other in methods[:i]:
            found += pair(other, method, share(), lot.choice((None, 1 - 2 * share())))
    angles = [lot.choice((None, 0.01 + 179 * share())) for _ in range(2)]
    found += [rotation("positive", angles[0]), rotation("negative", angles[1])]
    for kind in ("gaussian", "shot", "impulse"):
        for severity in range(1, 6):
            found.append(noise("noise_flips", kind, severity, share()))
    return found, methods


def shown(number: str) -> float:
    return 0.0004 if number.startswith("<") else float(number)


@pytest.mark.parametrize("seed", range(80))
def test_what_is_said_is_what_was_measured(seed: int) -> None:
    measurements, methods = measured(seed)
    report = report_of(*measurements, methods=methods)
    assert_sound(report)
    overlaps = re.findall(r"agree (?:most|least) \((<?\d\.\d+)", " ".join(_ends(report)))
    assert overlaps == sorted(overlaps, key=shown, reverse=True)


def _ends(report: Report) -> list[str]:
    (comparison,) = [s for s in report.sections if s.key == "comparison"]
    return [
        s.text for s in comparison.sentences if "agree most" in s.text or "agree least" in s.text
    ]


def test_agreement_is_ordered_by_the_numbers_and_not_by_the_methods() -> None:
    overlaps = {("gradcam", "shap"): 0.32, ("gradcam", "lime"): 0.64, ("shap", "lime"): 0.48}
    pairs = [m for (a, b), value in overlaps.items() for m in pair(a, b, value, 0.5)]
    said = text(report_of(*pairs, methods=("gradcam", "shap", "lime")), "comparison")
    assert "By IoU, Grad-CAM and LIME agree most (0.640);" in said
    assert "By IoU, Grad-CAM and SHAP agree least (0.320);" in said
    assert "mean IoU of 0.480" in said


def judged(count: int, beating: int) -> Report:
    own = [
        curve(metric, method, good if i < beating else bad)
        for metric, good, bad in (("deletion", 0.1, 0.9), ("insertion", 0.9, 0.1))
        for i, method in enumerate(ALL[:count])
    ]
    return report_of(*own, *noise_curves(), methods=ALL[:count])


@pytest.mark.parametrize(
    ("count", "beating", "words"),
    [
        (1, 1, "The one map that could be judged, that of Grad-CAM, does better"),
        (1, 0, "The one map that could be judged is not clearly better"),
        (2, 2, "Both maps judged, those of Grad-CAM and SHAP, do better"),
        (2, 0, "Neither of the 2 maps judged does better"),
        (3, 3, "All 3 maps judged do better"),
        (2, 1, "Of 2 maps judged, only that of Grad-CAM does better"),
        (3, 2, "The explanation rests on 2 of 3 maps judged, those that do better than smooth "
               "random ones in both deletion and insertion: Grad-CAM and SHAP."),
        (5, 0, "None of the 5 maps judged does better"),
    ],
)  # fmt: skip
def test_the_judgement_agrees_in_number(count: int, beating: int, words: str) -> None:
    assert words in text(judged(count, beating), "interpretation")


@pytest.mark.parametrize("count", range(len(ALL) + 1))
def test_no_plural_of_one(count: int) -> None:
    for beating in range(count + 1):
        said = " ".join(s.text for s in sentences(judged(count, beating)))
        assert not re.search(r"\b(the|All|Of) 1\b|\b1 (maps|problems|cautions|copies)", said)
        assert not re.search(r"\b0 (maps|problems|cautions)", said)


@pytest.mark.parametrize(
    ("angle", "unstable", "words"),
    [
        (90.0, [], "found no problems and no cautions."),
        (1.0, ["gradcam"], "found 1 problem and 1 caution;"),
        (None, ["gradcam", "lime"], "found no problems and 2 cautions;"),
    ],
)
def test_problems_and_cautions_are_counted(
    angle: float | None, unstable: list[str], words: str
) -> None:
    found = [rotation("positive", angle), *(sensitivity(method, 0.9) for method in unstable)]
    assert words in text(report_of(*found, methods=TWO), "interpretation")


def test_little_signal_is_said_and_judges_nothing() -> None:
    own = [curve("insertion", "gradcam", 0.9, (0.97, 0.99)), curve("deletion", "gradcam", 0.2)]
    report = report_of(*own, *noise_curves())
    assert "too small to tell a good map from a random one by insertion" in text(report, "fidelity")
    assert "insertion" not in text(report, "gradcam")
    assert "smooth random ones in deletion." in text(report, "interpretation")
    silent = report_of(curve("deletion", "gradcam", 0.2, (0.3, 0.3)), *noise_curves())
    assert "No map (of 1) could be judged" in text(silent, "interpretation")
    assert "No curve can tell the map of Grad-CAM" in text(silent, "gradcam")


@pytest.mark.parametrize(
    ("deletion", "insertion", "words"),
    [
        (0.3, 0.7, "better than smooth random ones in deletion (AUC 0.300, better than 20 of 20, "
                   "z -3.2) and in insertion (AUC 0.700,"),
        (0.3, 0.5, "not clearly so in insertion (AUC 0.500, better than 10 of 20, z +0.0), so it "
                   "is weak evidence."),
        (0.5, 0.7, "not clearly so in deletion"),
        (0.5, 0.5, "neither in deletion (AUC 0.500, better than 10 of 20, z +0.0) nor in"),
        (0.3, None, "in deletion (AUC 0.300, better than 20 of 20, z -3.2), the only curve"),
        (None, 0.5, "so nothing can be concluded from where it points."),
    ],
)  # fmt: skip
def test_a_map_is_told_with_its_evidence_first(
    deletion: float | None, insertion: float | None, words: str
) -> None:
    own = [("deletion", deletion), ("insertion", insertion)]
    found = [curve(metric, "gradcam", value) for metric, value in own if value is not None]
    report = report_of(*found, *noise_curves())
    (section,) = [section for section in report.sections if section.key == "gradcam"]
    assert words in section.sentences[0].text


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
def test_a_curve_is_the_only_one_for_what_reason_it_is(metric: str) -> None:
    other = "insertion" if metric == "deletion" else "deletion"
    own = [curve(metric, subject, 0.3, interval=(0.3, 0.3)) for subject in ("gradcam", "edges")]
    alone = report_of(*own)
    assert "the only curve measured" in text(alone, "gradcam")
    assert "the only curve measured" in " ".join(f.statement for f in alone.findings)
    assert "can tell" not in text(alone, "gradcam")
    silent = report_of(*own, curve(other, "gradcam", 0.5, ends=(0.5, 0.5)))
    assert "the only curve that can tell" in text(silent, "gradcam")
    assert "the only curve that can tell" in " ".join(f.statement for f in silent.findings)


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
def test_no_area_is_good_under_a_curve_that_goes_the_wrong_way(metric: str) -> None:
    ends = (0.1, 0.9) if metric == "deletion" else (0.9, 0.1)
    subjects = ("gradcam", "lime", "smooth-random")
    wrong = [curve(metric, s, 0.1 + 0.1 * i, ends) for i, s in enumerate(subjects)]
    said = text(report_of(*wrong, methods=TWO), "fidelity")
    assert {"deletion": "rises from 0.1000 to 0.9000", "insertion": "falls from 0.9000"}[
        metric
    ] in said
    assert not re.search(r"supports|best|(lowest|highest) \w+ AUC is|is better", said)
    both = text(report_of(*wrong, *_right(metric), methods=TWO), "fidelity")
    assert "is better" in both
    assert both.count("is better") == 1


def _right(wrong: str) -> list[Measurement]:
    """Return the other curve, which goes the right way."""
    metric = "insertion" if wrong == "deletion" else "deletion"
    return [curve(metric, subject, 0.5) for subject in ("gradcam", "lime", "smooth-random")]


def test_rotation_is_told_both_ways() -> None:
    both = text(report_of(rotation("positive", 40.0), rotation("negative", 12.5)), "robustness")
    assert "Turned clockwise by 12.50 degrees, the picture is given another class" in both
    assert "The other way, counter-clockwise, it takes 40.00 degrees." in both
    one = text(report_of(rotation("positive", 40.0), rotation("negative", None)), "robustness")
    assert "The other way, clockwise, there is no change up to 180 degrees on that grid." in one
    none = text(report_of(rotation("positive", None), rotation("negative", None)), "robustness")
    assert (
        none == "No rotation up to 180 degrees changes the prediction, on a grid of 3.00 degrees."
    )


def test_stability_is_one_sentence_for_all_maps() -> None:
    several = report_of(sensitivity("gradcam", 0.4), sensitivity("lime", 0.1), methods=TWO)
    assert text(several, "robustness").endswith("of their norm: Grad-CAM 0.400 and LIME 0.100.")
    one = report_of(sensitivity("gradcam", 0.4), methods=TWO)
    assert text(one, "robustness").endswith("changes the map of Grad-CAM by 0.400 of its norm.")


def spread(method: str, low: float, high: float) -> Measurement:
    found = sensitivity(method, (low + high) / 2)
    return found.model_copy(update={"metric": "average_sensitivity", "interval": (low, high)})


@pytest.mark.parametrize(
    ("intervals", "words"),
    [
        ([(0.1, 0.3), (0.4, 0.5)], "this noise changes least: SHAP (0.300, segments)."),
        ([(0.1, 0.3), (0.3, 0.5)], "it cannot be told which map changes least"),
    ],
)
def test_maps_are_ranked_only_where_intervals_separate(
    intervals: list[tuple[float, float]], words: str
) -> None:
    pairs = list(zip(("shap", "lime"), intervals, strict=True))
    copies = [spread(method, *ends) for method, ends in pairs]
    report = report_of(
        *copies, *(sensitivity(m, high) for m, (_, high) in pairs), methods=("shap", "lime")
    )
    assert words in text(report, "robustness")


def test_only_maps_of_one_granularity_that_are_not_drawn_at_random_are_ranked_by_auc() -> None:
    own = [curve("deletion", method, 0.1 + 0.02 * i) for i, method in enumerate(ALL)]
    said = text(report_of(*own, *noise_curves(), methods=ALL), "fidelity")
    assert "the lowest deletion AUC is that of Integrated Gradients (0.160, pixels)." in said
    assert "Within the granularity of segments, it cannot be told which map has the lowest" in said
    tied = [curve("deletion", method, 0.1) for method in ALL]
    said = text(report_of(*tied, *noise_curves(), methods=ALL), "fidelity")
    assert "Within the granularity of segments and pixels, it cannot be told" in said
    lost = [curve("deletion", method, 0.5 + 0.02 * i) for i, method in enumerate(ALL)]
    assert "lowest deletion AUC is that" not in text(
        report_of(*lost, *noise_curves(), methods=ALL), "fidelity"
    )


def test_a_layer_is_told_with_what_random_maps_reach_and_the_next_in_line() -> None:
    said = text(report_of(layer=layer_of("passes")), "gradcam")
    assert "differ by 2.500, clearly more than for smooth random maps, 0.000 ± 0.200." in said
    assert "Next in line is layer3 (7x7), where they differ by 1.500." in said
    said = text(report_of(layer=layer_of("undecided")), "gradcam")
    assert "differ by 2.500, not clearly more than for smooth random maps" in said
    said = text(report_of(layer=layer_of("undecided", scored=False)), "gradcam")
    assert "removing pixels changes the prediction too little to compare them." in said


def test_what_was_left_out_is_told_once_for_each_reason() -> None:
    skipped = [Skipped(step=s, reason="It has no gradients.") for s in ("saliency", "gradcam")]
    skipped += [Skipped(step=f"step{i}", reason=f"reason {i}") for i in range(5)]
    said = text(report_of(skipped=skipped), "interpretation")
    assert "Not done (saliency and gradcam), for this reason: It has no gradients." in said
    assert "Not done (step2), for this reason: reason 2." in said
    assert "Further steps not done: 2;" in said


def test_long_lists_are_shortened() -> None:
    names = [f"m{i}" for i in range(9)]
    own = [curve("deletion", method, 0.1) for method in names]
    said = text(report_of(*own, *noise_curves(), methods=names), "fidelity")
    assert "Deletion supports m0, m1, m2, m3, m4 and 4 more over" in said


def test_the_last_section_names_the_weakest_points() -> None:
    found = [sensitivity("gradcam", 0.9), rotation("positive", 2.0)]
    report = report_of(*found, top=(("newt", 0.5), ("toad", 0.45)))
    assert [s.text for s in report.sections[-1].sentences[-4:]] == [
        "A rotation of 2.00 degrees is enough to change the prediction to “newt positive”.",
        "The rules found 1 problem and 2 cautions; the findings state each with its threshold.",
        "The top class leads by only 0.0500.",
        "Noise of at most 4 of 255 levels changes Grad-CAM much.",
    ]


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_the_last_section_tells_a_rotation_once(threshold: float | None) -> None:
    said = text(report_of(rotation("positive", 2.0), threshold=threshold), "interpretation")
    assert said.count("2.00 degrees") == 1


def test_what_was_not_measured_is_not_told() -> None:
    report = report_of(methods=TWO)
    for key in ("fidelity", "robustness", "comparison"):
        assert text(report, key) == "Nothing was measured for this section."
    skipped = report_of(skipped=[Skipped(step="rotation", reason="x")])
    assert text(skipped, "robustness").endswith(
        "What was left out (rotation) is listed with the reasons."
    )


@pytest.mark.parametrize(
    ("methods", "words"),
    [((), "No method gave a map"), (("lime",), "Only LIME gave a map")],
)
def test_few_maps_are_not_compared(methods: tuple[str, ...], words: str) -> None:
    report = report_of(methods=methods)
    assert words in text(report, "comparison")
    assert [s.key for s in report.sections] == ["summary", *methods, *list(SECTIONS)[1:]]


def test_two_maps_are_one_pair() -> None:
    said = text(report_of(*pair("gradcam", "lime", 0.3, 0.4), methods=TWO), "comparison")
    assert "that Grad-CAM and LIME rank highest overlap with an IoU of 0.300" in said
    assert "agree most" not in said
    flat = text(report_of(*pair("gradcam", "lime", 0.3, None), methods=TWO), "comparison")
    assert "constant" not in flat


def test_settings_are_told_in_words() -> None:
    report = report_of(methods=ALL)
    assert "by a regular grid" in text(report, "lime")
    assert "filled with their own mean colour" in text(report, "lime")
    assert "filled with a blurred copy of the picture" in text(report, "shap")
    assert "on the way from a black picture to this picture" in text(report, "integrated-gradients")
    assert text(report_of(methods=("new",)), "new") == (
        "No curve was measured that could tell the map of new from a random one, so nothing can be "
        "concluded from where it points. The map is made of pixels."
    )


def test_the_network_sees_a_part_or_all_of_the_picture() -> None:
    whole = "The network sees the whole picture (500 x 400 px), at 256 x 224 px."
    assert whole in text(report_of(), "summary")
    padded = Box(left=-1, top=-50, right=501, bottom=450)
    assert whole in text(report_of(crop=padded), "summary")
    for side, at in (("left", 1), ("top", 1), ("right", 499), ("bottom", 399)):
        part = text(report_of(crop=WHOLE.model_copy(update={side: at})), "summary")
        assert "sees a part of the picture (500 x 400 px), at 256 x 224 px; the frame" in part


@pytest.mark.parametrize("method", ["gradcam", "eigencam", "my-own-cam"])
def test_a_map_of_a_layer_says_which(method: str) -> None:
    report = report_of(methods=("gradcam",))
    (map_,) = report.attributions
    other = map_.model_copy(update={"method": method})
    report = told(report.model_copy(update={"attributions": (other,)}))
    assert "from the 7x7 feature map of layer layer4.2, enlarged" in text(report, method)


def test_no_rotation_says_on_which_angles() -> None:
    report = report_of(rotation("positive", None), rotation("negative", None))
    for key in ("robustness", "interpretation"):
        assert "on a grid of 3.00 degrees" in text(report, key).lower()
    late = report_of(rotation("positive", 40.0), rotation("negative", None))
    (held,) = [f for f in late.findings if f.rule == "rotation-holds"]
    assert held.brief is not None
    assert "3.00 degrees" in held.statement
    assert "every 3.00 degrees below 40.00 degrees" in held.brief.text


def test_a_bracket_of_draws_is_explained() -> None:
    said = text(report_of(curve("deletion", "gradcam", 0.3), *noise_curves()), "fidelity")
    assert "(0.400 to 0.600)" in said
    assert "In brackets stand the lowest and the highest AUC among these 20 smooth" in said
    assert "In brackets" not in text(report_of(), "fidelity")


def test_another_class_is_named_beside_the_top_class() -> None:
    said = text(report_of(target=1), "summary")
    assert "explains another class, “toad”, which has a probability of 0.2000" in said
    assert "The maps explain “toad”" in text(report_of(target=1), "interpretation")


def test_sentences_do_not_all_begin_alike() -> None:
    for section in report_of(*FULL, methods=ALL).sections:
        openings = [" ".join(s.text.split()[:3]) for s in section.sentences]
        assert max(openings.count(opening) for opening in openings) <= 2


def placed_pair(value: float) -> Measurement:
    """Return the overlap of two maps beside that of random maps, which reach 0.05 to 0.3."""
    overlap, _ = pair(*TWO, value, None)
    nulls = placed(OVERLAP, value, np.linspace(0.05, 0.3, 40))
    return overlap.model_copy(update={"yardstick": nulls})


def test_agreement_is_told_from_chance() -> None:
    beyond = text(report_of(placed_pair(0.5), methods=TWO), "comparison")
    assert "The overlap of Grad-CAM and LIME is more than smooth random maps reach" in beyond
    chance = text(report_of(placed_pair(0.2), methods=TWO), "comparison")
    assert "is not clearly more than smooth random maps reach" in chance


def shapes() -> list[Report]:
    """Return reports that between them give every sentence a reason to be said."""
    alone = [curve("insertion", "gradcam", v) for v in (0.9, 0.1)]
    three, flat = ("gradcam", "lime", "shap"), pair("gradcam", "lime", 0.3, None)
    apart = located("consensus", 0.0, 0.5, 0.5)[:1]
    return [
        *(judged(count, beating) for count in range(6) for beating in range(count + 1)),
        report_of(*FULL, methods=ALL, target=1, preprocessing_sources={"mean": "assumed"}),
        *(report_of(one, *noise_curves()) for one in alone),
        report_of(curve("deletion", "gradcam", 0.2, (0.5, 0.5)), *noise_curves()[:1]),
        report_of(curve("insertion", "gradcam", 0.2, (0.5, 0.5)), *noise_curves()[1:]),
        report_of(*flat, *pair("gradcam", "shap", 0.4, None), *apart, methods=three),
        report_of(*pair("gradcam", "lime", 0.3, 0.2), sensitivity("lime", 0.2), methods=TWO),
        report_of(curve("deletion", "gradcam", 0.2, (0.1, 0.9)), crop=PART),
        report_of(curve("insertion", "gradcam", 0.2, (0.9, 0.1))),
        report_of(rotation("positive", 40.0), rotation("negative", 12.5)),
        report_of(rotation("positive", None), methods=("gradcam", "new")),
        report_of(methods=TWO, skipped=[Skipped(step="noise", reason="x")]),
        report_of(verdict("randomised_spearman", "gradcam", "fails")),
        report_of(verdict("randomised_spearman", "gradcam", "passes", None)),
        report_of(verdict("seed_jaccard_5", "lime", "stable", 0.95), methods=("lime",)),
        *(
            report_of(check(metric, "gradcam", 0.2))
            for metric in ("sampling_error", "component_share", "largest_weight", "placeless_share")
        ),
        report_of(*FULL, threshold=0.15),
        report_of(rotation("positive", 40.0), threshold=0.15, target=1),
        report_of(threshold=0.9),
        *(report_of(layer=layer_of(outcome)) for outcome in ("passes", "undecided")),
        *(report_of(layer=layer_of(outcome, "option")) for outcome in ("passes", "fails")),
        report_of(layer=layer_of("passes").model_copy(update={"shared": True})),
        report_of(layer=layer_of("undecided", scored=False)),
        *(report_of(placed_pair(value), methods=TWO) for value in (0.1, 0.5)),
        report_of(contrast=(1, 2)),
        report_of(predictions_only="it is a function"),
    ]


def several() -> list[Report]:
    """Return reports on labels that stand each alone, with all that is measured."""
    return [
        report_of(*FULL, methods=ALL, threshold=threshold, **target)
        for threshold in (0.15, 0.75)
        for target in ({}, {"target": 1}, {"contrast": (1, 0)})
    ]


def test_where_several_labels_hold_no_class_wins() -> None:
    for report in several():
        said = " ".join(s.text for s in sentences(report))
        said += " ".join(finding.statement for finding in report.findings)
        assert not re.search(r"top class|another class|calls the picture|given another", said)
        assert not re.search(r"Next comes|leads the next", said)
        for sentence in sentences(report):
            assert numbers_without_a_fact(report, sentence) == []


def test_the_labels_that_hold_are_counted_and_listed() -> None:
    held = text(report_of(threshold=0.15), "summary")
    assert "gives the picture pond.jpg 2 of 1,000 labels" in held
    assert "“newt” (0.7000) and “toad” (0.2000)." in held
    assert "This report explains the label “newt”, which has a probability of 0.7000." in held
    none = text(report_of(threshold=0.75), "summary")
    assert "none of 1,000 labels: the likeliest, “newt”, has a probability of 0.7000" in none
    below = text(report_of(threshold=0.5, target=1), "interpretation")
    assert "does not give the picture the label “toad”: its probability of 0.2000" in below


def test_a_contrast_says_both_classes_and_how_it_is_measured() -> None:
    report = report_of(contrast=(1, 2), threshold=None)
    assert (
        "explains why “toad” (probability 0.2000) and not “frog” (0.1000): the score is the "
        "difference of their scores, and the probability is the share that the first has of both "
        "probabilities, 0.6667."
    ) in text(report, "summary")
    assert "why “toad” and not “frog”" in text(report, "interpretation")
    assert "calls the picture “newt”" in text(report, "interpretation")
    assert "explains another class" not in text(report, "summary")


def test_every_sentence_is_said_by_some_report() -> None:
    reports = [*shapes(), *map(random_report, range(40))]
    said = {sentence.text for report in reports for sentence in sentences(report)}
    verdicts = [report.verdict.text for report in reports if report.verdict]
    templates = read_wording("sections.toml", {}).sentences
    parts = {key: re.split(r"\{[^{}]+\}", template) for key, template in templates.items()}
    patterns = {key: ".+".join(map(re.escape, pieces)) for key, pieces in parts.items()}
    silent = {
        key
        for key, pattern in patterns.items()
        if not any(re.fullmatch(pattern, words) for words in said)
        and not (key.startswith("line-") and any(re.search(pattern, line) for line in verdicts))
    }
    assert silent == set()


def test_nothing_is_said_of_objects_or_causes() -> None:
    words = " ".join(read_wording("sections.toml", {}).sentences.values()).lower()
    assert not re.search(r"\b(because|causes?|object|ears?|eyes?|whiskers|focus\w*)\b", words)
