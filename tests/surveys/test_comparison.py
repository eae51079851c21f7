"""Paired differences between methods and between models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from scipy.stats import wilcoxon
from survey_toys import Numbers, column, report_of, tally_of

from reportgen.surveys.comparison import NO_DIFFERENCE, TOO_FEW, comparisons, same_classes
from reportgen.surveys.records import Comparison, Criteria, Entry
from reportgen.surveys.tally import Tally

DEFAULT = Criteria()
FIRST = [0.10, 0.25, 0.31, 0.42, 0.05, 0.60, 0.33]
SECOND = [0.20, 0.22, 0.50, 0.55, 0.30, 0.64, 0.40]


def two_methods(first: Sequence[float | None], second: Sequence[float | None]) -> list[Numbers]:
    return [
        {("deletion", "gradcam"): a, ("deletion", "saliency"): b}
        for a, b in zip(first, second, strict=True)
    ]


def compared(models: Mapping[str, Sequence[Numbers]]) -> tuple[Comparison, ...]:
    return comparisons(tally_of(models), DEFAULT, seed=0)


class TestMethods:
    def test_by_hand(self) -> None:
        (one,) = compared({"a": two_methods(FIRST, SECOND)})
        differences = np.subtract(FIRST, SECOND)
        assert (one.between, one.first, one.second) == ("methods", "gradcam", "saliency")
        assert (one.within, one.pictures) == ("a", 7)
        assert one.mean == pytest.approx(differences.mean())
        assert one.median == pytest.approx(-0.10)
        assert one.better == 6  # lower is better
        assert one.p == one.p_adjusted == pytest.approx(wilcoxon(FIRST, SECOND).pvalue)
        assert one.interval is not None and one.mean is not None
        assert differences.min() < one.interval[0] < one.mean < one.interval[1] < 0

    def test_higher_is_better_counts_the_other_way(self) -> None:
        pictures: list[Numbers] = [
            {("insertion", "gradcam"): a, ("insertion", "saliency"): b}
            for a, b in zip(FIRST, SECOND, strict=True)
        ]
        (one,) = compared({"a": pictures})
        assert one.better == 1

    def test_adding_a_constant_to_both_changes_nothing(self) -> None:
        shifted = [[v + 0.3 for v in values] for values in (FIRST, SECOND)]
        (one,), (other,) = (
            compared({"a": two_methods(FIRST, SECOND)}),
            compared({"a": two_methods(*shifted)}),
        )
        assert other.mean == pytest.approx(one.mean)
        assert other.interval == pytest.approx(one.interval)

    def test_only_pictures_that_have_both_are_paired(self) -> None:
        (one,) = compared({"a": two_methods([*FIRST, 0.9, None], [*SECOND, None, 0.1])})
        assert one.pictures == 7
        assert one.mean == pytest.approx(np.subtract(FIRST, SECOND).mean())

    def test_five_pictures_are_too_few(self) -> None:
        (one,) = compared({"a": two_methods(FIRST[:5], SECOND[:5])})
        assert (one.p, one.interval, one.note) == (None, None, TOO_FEW)
        assert one.mean is not None

    def test_no_difference(self) -> None:
        (one,) = compared({"a": two_methods(FIRST, FIRST)})
        assert (one.p, one.interval, one.note) == (None, (0, 0), NO_DIFFERENCE)

    def test_holm_corrects_the_methods_of_a_model_together(self) -> None:
        pictures: list[Numbers] = [
            {
                ("deletion", "gradcam"): a,
                ("deletion", "saliency"): b,
                ("insertion", "gradcam"): b,
                ("insertion", "saliency"): b + 0.01 * (i + 1),
            }
            for i, (a, b) in enumerate(zip(FIRST, SECOND, strict=True))
        ]
        larger, smaller = compared({"a": pictures})
        assert smaller.p == pytest.approx(2 / 2**7)
        assert smaller.p_adjusted == pytest.approx(4 / 2**7)
        assert larger.p_adjusted == pytest.approx(max(larger.p or 0, 4 / 2**7))

    def test_descriptions_and_controls_are_not_compared(self) -> None:
        pictures: list[Numbers] = [
            {("area", "gradcam"): a, ("area", "saliency"): a + 1, ("deletion", "edges"): a}
            for a in FIRST
        ]
        assert compared({"a": pictures}) == ()


class TestModels:
    def test_by_hand(self) -> None:
        models = {"a": column("deletion", "gradcam", FIRST)}
        models["b"] = column("deletion", "gradcam", SECOND)
        (one,) = compared(models)
        assert (one.between, one.first, one.second, one.within) == ("models", "a", "b", "gradcam")
        assert one.mean == pytest.approx(np.subtract(FIRST, SECOND).mean())

    def test_other_settings_are_not_subtracted(self) -> None:
        def under(baseline: str) -> list[Numbers]:
            fields = [{"value": v, "settings": {"baseline": baseline}} for v in FIRST]
            return column("deletion", "gradcam", fields)

        (one,) = compared({"a": under("mean"), "b": under("blur")})
        assert (one.mean, one.pictures) == (None, 0)
        assert one.note == "not compared: the settings differ"

    def test_other_input_sizes_are_not_subtracted(self) -> None:
        tally = Tally()
        for model, crop in (("a", (32, 32)), ("b", (64, 64))):
            for number, value in enumerate(FIRST, start=1):
                report = report_of({("deletion", "gradcam"): value})
                preprocessing = report.model.preprocessing.model_copy(update={"crop": crop})
                changed = report.model.model_copy(update={"preprocessing": preprocessing})
                place = Entry(number=number, image="", model=model, folder="x")
                tally.add(place, report.model_copy(update={"model": changed}))
        (one,) = comparisons(tally, DEFAULT, seed=0)
        assert (one.mean, one.note) == (None, "not compared: the input sizes differ")

    def test_the_same_class(self) -> None:
        tally = Tally()
        labels = {"a": ["cat", "dog", "cow"], "b": ["cat", "cat", "cow"]}
        for model, named in labels.items():
            for number, label in enumerate(named, start=1):
                place = Entry(number=number, image="", model=model, folder="x", label=label)
                tally.add(place, report_of({}))
        tally.fail(Entry(number=4, image="", model="b", reason="broken"))
        (one,) = same_classes(tally)
        assert (one.first, one.second, one.pictures, one.same) == ("a", "b", 3, 2)
