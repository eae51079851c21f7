"""What many pictures add up to: quartiles, places among null maps, names and doubts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from survey_toys import Number, Numbers, column, placed, tally_of

from reportgen.surveys.doubts import doubts
from reportgen.surveys.naming import RULES, named, ranked_by
from reportgen.surveys.records import Criteria, Doubt, Summary
from reportgen.surveys.summary import comparable, summaries

DEFAULT = Criteria()


def only(values: Sequence[Number]) -> Summary:
    (found,) = summaries(tally_of({"a": column("deletion", "gradcam", values)}), DEFAULT)
    return found


class TestQuartiles:
    def test_by_hand(self) -> None:
        found = only([0.5, 0.1, 0.4, 0.2, 0.3])
        assert (found.pictures, found.median) == (5, 0.3)
        assert found.quartiles == pytest.approx((0.2, 0.4))
        assert found.extremes == (0.1, 0.5)

    def test_pictures_without_a_value_are_counted_and_left_out(self) -> None:
        found = only([0.1, None, 0.3])
        assert (found.pictures, found.without, found.median) == (2, 1, 0.2)

    def test_no_value_at_all(self) -> None:
        found = only([None, None])
        assert (found.median, found.quartiles, found.note) == (None, None, "no picture has a value")

    def test_one_picture(self) -> None:
        assert only([0.25]).quartiles == (0.25, 0.25)

    def test_infinity_never_enters(self) -> None:
        with pytest.raises(ValueError, match="finite"):
            only([float("inf")])


class TestPlacement:
    def test_by_hand(self) -> None:
        values = [
            placed(0.1, -4.0, 1 / 21, 1.0),
            placed(0.4, -1.0, 3 / 21, 0.9),
            placed(0.3, None, 2 / 21, 0.95),
        ]
        found = only(values).placement
        assert found is not None
        assert (found.pictures, found.tested, found.better) == (3, 3, 1)
        assert (found.percentile, found.z) == (0.95, -2.5)

    def test_a_limit_of_five_percent_counts(self) -> None:
        found = only([placed(0.1, -4.0, 0.05), placed(0.1, -4.0, 0.0501)]).placement
        assert found is not None and found.better == 1

    def test_without_null_maps_there_is_none(self) -> None:
        assert only([0.1, 0.2]).placement is None


class TestSettings:
    def test_other_settings_are_never_added_up(self) -> None:
        pictures = [
            {("deletion", "gradcam"): {"value": 0.1, "settings": {"baseline": "mean"}}},
            {("deletion", "gradcam"): {"value": 0.3, "settings": {"baseline": "blur"}}},
        ]
        (found,) = summaries(tally_of({"a": pictures}), DEFAULT)
        assert found.median is None
        assert "2 different settings" in found.note
        assert comparable(tally_of({"a": pictures})) == {}

    def test_the_order_of_settings_is_nothing(self) -> None:
        pictures = [
            {("deletion", "gradcam"): {"value": 0.1, "settings": {"a": 1, "b": 2}}},
            {("deletion", "gradcam"): {"value": 0.3, "settings": {"b": 2, "a": 1}}},
        ]
        (found,) = summaries(tally_of({"a": pictures}), DEFAULT)
        assert (found.median, found.settings) == (0.2, {"a": 1, "b": 2})

    def test_a_number_under_two_settings_on_every_picture_is_two_numbers(self) -> None:
        tally, other = (
            tally_of({"a": column("deletion", "gradcam", [{"value": v, "settings": {"s": v}}])})
            for v in (0.1, 0.5)
        )
        tally.columns.update(other.columns)
        assert [found.median for found in summaries(tally, DEFAULT)] == [0.1, 0.5]


def test_titles_come_from_the_cards_else_from_the_measurement() -> None:
    tally = tally_of({"a": [{("deletion", "gradcam"): 0.1, ("own_number", "x"): 2.0}]})
    titles = {key: quantity.title for key, quantity in tally.quantities.items()}
    assert titles == {"deletion": "Deletion AUC", "own_number": "Own number"}


class TestNaming:
    PICTURES: Sequence[Numbers] = [
        {
            ("iou", "gradcam~saliency"): overlap,
            ("deletion", "gradcam"): placed(0.2, z, 0.5),
            ("deletion", "saliency"): placed(0.2, z - 1, 0.5),
            ("deletion", "edges"): placed(0.9, 9.0, 0.5),
            ("sensitivity", "gradcam"): change,
            ("sensitivity", "saliency"): 0.01,
        }
        for overlap, z, change in ((0.4, -2.0, 0.2), (0.1, -3.0, 0.9), (0.3, 1.0, 0.1))
    ]

    def test_each_rule_by_hand(self) -> None:
        found = named(tally_of({"a": self.PICTURES}), DEFAULT)
        assert [(one.rule, one.number, one.value) for one in found] == [
            ("disagreement", 2, 0.1),
            ("fidelity", 3, 0.5),
            ("stability", 2, 0.9),
        ]

    def test_control_maps_are_no_methods(self) -> None:
        tally = tally_of({"a": self.PICTURES})
        assert ranked_by(RULES[1], "a", tally) == {1: -2.5, 2: -3.5, 3: 0.5}

    @pytest.mark.parametrize(
        ("pictures", "count"), [(1, 0), (2, 1), (3, 1), (4, 2), (9, 3), (40, 3)]
    )
    def test_how_many(self, pictures: int, count: int) -> None:
        values = [0.01 * number for number in range(pictures)]
        found = named(tally_of({"a": column("sensitivity", "gradcam", values)}), DEFAULT)
        assert [one.number for one in found] == list(range(pictures, pictures - count, -1))
        assert [one.rank for one in found] == list(range(1, count + 1))

    def test_equal_pictures_keep_their_order(self) -> None:
        found = named(tally_of({"a": column("sensitivity", "gradcam", [0.5] * 6)}), DEFAULT)
        assert [one.number for one in found] == [1, 2]

    def test_what_was_not_measured_names_nothing(self) -> None:
        assert named(tally_of({"a": column("insertion", "gradcam", [0.1, 0.2])}), DEFAULT) == ()


class TestDoubts:
    @staticmethod
    def found(models: dict[str, list[Numbers]]) -> list[tuple[str, str, str]]:
        return [(one.kind, one.metric, one.other) for one in doubts(tally_of(models))]

    def test_the_table_of_two_networks_with_equal_scores(self) -> None:
        """The fourth source document: deletion 9.28 and insertion 0.94 on both networks."""
        both = [{("deletion", "gradcam"): 9.28, ("insertion", "gradcam"): 0.94}] * 2
        assert self.found({"vgg": both, "resnet": both}) == [
            ("outside its range", "deletion", ""),
            ("outside its range", "deletion", ""),
            ("same in all models", "deletion", ""),
            ("same in all models", "insertion", ""),
        ]

    def test_the_increase_that_is_the_negative_of_the_drop(self) -> None:
        pictures: list[Numbers] = [
            {("drop", "gradcam"): drop, ("rise", "gradcam"): -drop} for drop in (0.1, 0.2, 0.3)
        ]
        assert self.found({"a": pictures}) == [("derived", "rise", "drop")]

    @pytest.mark.parametrize(
        ("make", "relation"),
        [(lambda a: a, "the same number"), (lambda a: 1 - a, "1 minus it")],
        ids=["equal", "complement"],
    )
    def test_other_relations(self, make: object, relation: str) -> None:
        assert callable(make)
        pictures: list[Numbers] = [
            {("drop", "gradcam"): drop, ("rise", "gradcam"): make(drop)} for drop in (0.1, 0.2, 0.3)
        ]
        (one,) = doubts(tally_of({"a": pictures}))
        assert (one.relation, one.count) == (relation, 3)

    def test_the_same_on_every_picture(self) -> None:
        models = {"a": column("deletion", "gradcam", [0.5] * 3)}
        assert self.found(models) == [("same in all pictures", "deletion", "")]

    def test_honest_numbers_are_not_doubted(self) -> None:
        random = np.random.default_rng(0)
        models: dict[str, list[Numbers]] = {
            model: [
                {(metric, "gradcam"): float(random.uniform()) for metric in ("drop", "insertion")}
                for _ in range(4)
            ]
            for model in "ab"
        }
        assert self.found(models) == []

    def test_controls_and_descriptions_may_be_constant(self) -> None:
        same: list[Numbers] = [{("deletion", "centre"): 0.4, ("area", "gradcam"): 0.2}] * 4
        assert self.found({"a": same, "b": same}) == []

    @pytest.mark.parametrize("end", [0.0, 1.0])
    def test_the_end_of_a_range_is_a_result(self, end: float) -> None:
        same = column("deletion", "gradcam", [end] * 4)
        assert self.found({"a": same, "b": same}) == []

    def test_rounding_is_no_excess(self) -> None:
        assert self.found({"a": column("deletion", "gradcam", [1 + 1e-7, -1e-7])}) == []
        (one,) = doubts(tally_of({"a": column("deletion", "gradcam", [1.01, -0.01, 0.5])}))
        assert one == Doubt(
            kind="outside its range", metric="deletion", subject="gradcam", models=("a",), count=2
        )
