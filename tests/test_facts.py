from __future__ import annotations

from typing import Any

import pytest
from told_reports import (
    attribution,
    curve,
    everything,
    fact,
    located,
    noise,
    noise_curves,
    pair,
    report_of,
    rotation,
    sensitivity,
)

from reportgen.config import Config
from reportgen.facts import CONSTANT_MAP, facts_of
from reportgen.facts import formats as f
from reportgen.facts.fidelity import CURVES, better
from reportgen.facts.sources import pointer
from reportgen.metrics.yardstick import placed
from reportgen.phrases import spoken_sheet
from reportgen.records import Quantity, Report, Skipped

FULL = report_of(*everything(), methods=("gradcam", "shap", "lime", "saliency"))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (f.percent(0), "0%"),
        (f.percent(0.0004), "<0.1%"),
        (f.percent(0.0005), "0.1%"),
        (f.percent(0.099), "9.9%"),
        (f.percent(0.0996), "10%"),
        (f.percent(0.5), "50%"),
        (f.percent(0.996), "99.6%"),
        (f.percent(0.9996), ">99.9%"),
        (f.percent(1), "100%"),
        (f.percent(1.12), "112%"),
        (f.probability(0.99996), ">0.9999"),
        (f.probability(0.9998), "0.9998"),
        (f.probability(1), "1.0000"),
        (f.probability(0.00004), "<0.0001"),
        (f.probability(0), "0.0000"),
        (f.decimal(0.0004), "<0.001"),
        (f.decimal(-0.0004), ">-0.001"),
        (f.decimal(0), "0.000"),
        (f.decimal(-1.25), "-1.250"),
        (f.degrees(9.456), "9.46 degrees"),
        (f.seconds(1.24), "1.2 s"),
        (f.count(1234567), "1,234,567"),
        (f.counted(0, "problem"), "no problems"),
        (f.counted(1, "problem"), "1 problem"),
        (f.counted(2000, "problem"), "2,000 problems"),
        (f.levels(4 / 255), "4 of 255 levels"),
        (f.levels(0.05), "12.8 of 255 levels"),
        (f.size(224, 320), "320 x 224 px"),
        (f.listed([]), ""),
        (f.listed(["a"]), "a"),
        (f.listed(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_are_written(written: str, expected: str) -> None:
    assert written == expected


@pytest.mark.parametrize(
    ("across", "down", "expected"),
    [
        (0, 0, "upper left"),
        (0.5, 0.5, "centre"),
        (0.99, 0.5, "middle right"),
        (0.5, 1, "lower centre"),
        (0.34, 0.33, "upper centre"),
    ],
)
def test_a_place_is_one_of_nine(across: float, down: float, expected: str) -> None:
    assert f.place(across, down) == expected


def test_a_pointer_escapes_tilde_then_slash() -> None:
    assert pointer("a/b", 0, "c~d", "e~1") == "/a~1b/0/c~0d/e~01"


def resolved(document: Any, where: str) -> Any:
    for part in where.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def test_pointers_are_resolved_as_the_standard_says() -> None:
    document = {"a/b": [{"c~d": 5}]}
    assert resolved(document, pointer("a/b", 0, "c~d")) == 5
    with pytest.raises(KeyError):
        resolved(document, "/a/b")


@pytest.mark.parametrize("entry", FULL.facts, ids=lambda entry: entry.name)
def test_the_source_states_the_value_or_is_what_it_derives_from(entry: Any) -> None:
    found = resolved(FULL.model_dump(mode="json"), entry.source)
    if not isinstance(found, list | dict):
        assert found == entry.value


def test_most_sources_are_the_number_itself() -> None:
    document = FULL.model_dump(mode="json")
    direct = [e for e in FULL.facts if not isinstance(resolved(document, e.source), list | dict)]
    assert len(direct) > 0.6 * len(FULL.facts)


def test_a_setting_with_a_slash_can_be_pointed_at() -> None:
    strange = attribution("lime").model_copy(update={"settings": {"fill": "black", "a/b": 1}})
    report = FULL.model_copy(update={"attributions": (strange,)})
    names = {entry.name for entry in facts_of(report)}
    assert "lime.fill" in names
    assert "lime.a/b" not in names


def test_each_name_stands_once() -> None:
    names = [entry.name for entry in FULL.facts]
    assert len(names) == len(set(names)) > 100


def test_facts_do_not_depend_on_run_times() -> None:
    fast, slow = (report_of(*everything(), seconds=seconds) for seconds in (0.1, 99.0))
    assert fast.run != slow.run
    assert fast.facts == slow.facts
    assert fast.sections == slow.sections


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model.parameters", "11,689,512"),
        ("model.head_source", "detected from the outputs"),
        ("model.assumed", "nothing"),
        ("image.size", "500 x 400 px"),
        ("image.marked", "25%"),
        ("image.input_size", "256 x 224 px"),
        ("passes.forward", "1,201"),
        ("prediction.probability", "0.7000"),
        ("prediction.margin", "0.5000"),
        ("prediction.runner_up", "toad"),
        ("gradcam.layer", "layer4.2"),
        ("lime.fill", "their own mean colour"),
        ("lime.segmentation", "a regular grid"),
        ("shap.fill", "a blurred copy of the picture"),
        ("gradcam.deletion_auc", "0.300"),
        ("smooth-random.deletion_auc", "0.500 (0.400 to 0.600)"),
        ("smooth-random.maps", "20 smooth random maps"),
        ("gradcam.deletion_auc.place", "better than all 20 smooth random maps (z -3.2)"),
        ("edges.deletion_auc.place", "better than 10 of 20 smooth random maps (z +0.0)"),
        ("deletion.baseline", "a picture of the data set's mean colour"),
        ("deletion.change", "0.800"),
        ("deletion.supported", "Grad-CAM, SHAP and LIME"),
        ("deletion.unsupported", "Saliency"),
        ("insertion.best.alike", "segments"),
        ("report.judged_in", "both deletion and insertion"),
        ("report.beating", "3"),
        ("gradcam.location", "middle left"),
        ("location.area", "20%"),
        ("agreement.iou_floor", "0.111"),
        ("rotation.first", "41.17 degrees"),
        ("rotation.positive", "41.17 degrees (41.16 to 41.17)"),
        ("rotation.negative", "no change up to 180 degrees"),
        ("rotation.first_way", "counter-clockwise"),
        ("rotation.other_way", "clockwise"),
        ("noise.gaussian.first", "severity 4"),
        ("noise.constants", "ImageNet-C"),
        ("noise.shot.3", "55%"),
        ("sensitivity.radius", "4 of 255 levels"),
        ("gradcam.self_check", "1.0% of places below zero"),
    ],
)
def test_what_a_full_report_says(name: str, text: str) -> None:
    assert fact(FULL, name).text == text


def test_assumptions_are_listed_in_words() -> None:
    sources = {"mean": "assumed", "std": "assumed", "resize": "file"}
    report = report_of(preprocessing_sources=sources)
    assert fact(report, "model.assumed").text == "the mean and the standard deviation"
    report = report_of(preprocessing_sources={"transform_input": "assumed"})
    said = "whether the network re-normalises its input (transform_input)"
    assert fact(report, "model.assumed").text == said


def test_every_option_has_its_words() -> None:
    options = Config.model_json_schema()["properties"]
    words = spoken_sheet("words.toml").texts
    groups = {"picture": "deletion_baseline", "fill": "lime_fill", "segmentation": "segmentation"}
    for group, option in groups.items():
        known = {key.removeprefix(f"{group}.") for key in words if key.startswith(f"{group}.")}
        assert known == set(options[option]["enum"])


def beats(report: Report) -> dict[str, Any]:
    return {
        e.name.removeprefix("gradcam.beats_noise."): e.value
        for e in report.facts
        if "beats_noise" in e.name
    }


@pytest.mark.parametrize(
    ("deletion", "insertion", "expected"),
    [
        (0.399, 0.601, {"deletion": True, "insertion": True}),
        (0.4, 0.6, {"deletion": False, "insertion": False}),
        (0.401, 0.601, {"deletion": False, "insertion": True}),
    ],
)
def test_of_twenty_random_maps_none_may_do_as_well(
    deletion: float, insertion: float, expected: dict[str, bool]
) -> None:
    own = [curve("deletion", "gradcam", deletion), curve("insertion", "gradcam", insertion)]
    report = report_of(*own, *noise_curves())
    assert beats(report) == expected
    assert fact(report, "report.beating").value == all(expected.values())


def test_of_many_random_maps_a_twentieth_may_do_as_well() -> None:
    quantity = Quantity(key="deletion", title="", direction="lower is better")
    own = curve("deletion", "gradcam", 0.3)
    for as_good, expected in ((2, True), (3, False)):
        nulls = [0.2] * as_good + [0.5] * (59 - as_good)
        measured = own.model_copy(update={"yardstick": placed(quantity, 0.3, nulls)})
        assert beats(report_of(measured)) == {"deletion": expected}


def test_a_score_without_a_yardstick_is_not_judged() -> None:
    own = curve("deletion", "gradcam", 0.1).model_copy(update={"yardstick": None})
    assert beats(report_of(own)) == {}


@pytest.mark.parametrize(
    ("ends", "expected"), [((0.05, 0.0), {}), ((0.0, 0.05), {}), ((0.051, 0.0), {"deletion": True})]
)
def test_a_curve_with_little_signal_judges_no_map(
    ends: tuple[float, float], expected: dict[str, bool]
) -> None:
    report = report_of(curve("deletion", "gradcam", 0.01, ends), *noise_curves())
    assert beats(report) == expected
    assert (report.fact("report.judged") is not None) == bool(expected)


def test_a_constant_map_is_judged_by_no_curve() -> None:
    own = curve("deletion", "gradcam", 0.1)
    report = report_of(own, *noise_curves(), notes_of={"gradcam": [CONSTANT_MAP]})
    assert beats(report) == {}


def test_a_map_that_one_curve_misses_is_not_judged_with_the_others() -> None:
    own = [curve("deletion", m, 0.1) for m in ("gradcam", "lime")]
    report = report_of(
        *own, curve("insertion", "lime", 0.9), *noise_curves(), methods=("gradcam", "lime")
    )
    assert fact(report, "report.judged").value == 1
    assert fact(report, "report.beating_titles").text == "LIME"


@pytest.mark.parametrize("metric", CURVES)
def test_the_better_end_of_a_curve_is_the_metrics_own(metric: str) -> None:
    from reportgen.metrics import METRICS

    lower = METRICS[metric].card.direction == "lower is better"
    one, other = curve(metric, "gradcam", 0.1), curve(metric, "lime", 0.2)
    assert better(metric, one, other) == lower
    assert better(metric, other, one) != lower
    same = curve(metric, "lime", 0.1004)
    assert not better(metric, one, same)
    assert not better(metric, same, one)
    wide = curve(metric, "lime", 0.2, interval=(0.1, 0.3))
    assert not better(metric, one, wide)
    assert not better(metric, wide, one)


def test_pairs_of_constant_maps_count_for_nothing() -> None:
    report = report_of(
        *pair("gradcam", "lime", None, None),
        *pair("gradcam", "shap", 0.4, 0.1),
        methods=("gradcam", "lime", "shap"),
    )
    assert fact(report, "agreement.mean_iou").value == 0.4
    alone = report_of(*pair("gradcam", "lime", None, None), methods=("gradcam", "lime"))
    assert alone.fact("agreement.mean_iou") is None


def test_the_nearer_rotation_comes_first() -> None:
    report = report_of(rotation("positive", 40.0), rotation("negative", 12.5))
    assert fact(report, "rotation.first").value == 12.5
    assert fact(report, "rotation.first_way").text == "clockwise"
    assert fact(report, "rotation.first_class").text == "newt negative"
    assert fact(report, "rotation.other").text == "40.00 degrees"


def test_half_of_the_copies_is_enough() -> None:
    levels = [noise("noise_flips", "shot", level, share) for level, share in ((2, 0.49), (3, 0.5))]
    assert fact(report_of(*levels), "noise.shot.first").value == 3
    assert fact(report_of(levels[0]), "noise.shot.first").text == "no severity"


def test_the_stability_of_each_map_is_listed() -> None:
    methods = ("gradcam", "lime", "shap")
    values = zip(methods, (0.5, 0.1, None), strict=True)
    report = report_of(*(sensitivity(m, v) for m, v in values), methods=methods)
    assert fact(report, "sensitivity.each").text == "Grad-CAM 0.500 and LIME 0.100"
    assert fact(report, "shap.sensitivity").text == "the map is zero everywhere"


def test_what_was_skipped_is_listed() -> None:
    skipped = [
        Skipped(step="rotation", reason="x"),
        Skipped(step="sensitivity", subject="lime", reason="y"),
    ]
    assert (
        fact(report_of(skipped=skipped), "report.skipped").text
        == "rotation and sensitivity of lime"  # it gave no map, and so has no title here
    )
    assert report_of().fact("report.skipped") is None


def test_a_map_without_a_centre_has_no_place() -> None:
    share, across, _ = located("gradcam", 0.5, 0.1, 0.1)
    assert report_of(share, across).fact("gradcam.location") is None
