from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from metric_toys import context_of, quadrant_mask, uniform
from sklearn.metrics import roc_auc_score
from torch import Tensor

from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import NotApplicable
from reportgen.metrics.localisation import CARD, METRIC
from reportgen.records import Measurement

ensure_torchvision()

from torchmetrics.functional.classification import (  # noqa: E402
    binary_f1_score,
    binary_jaccard_index,
    binary_precision,
    binary_recall,
)

SHAPE = (16, 20)
Found = dict[tuple[str, str], Measurement]
COUNTED = ("relevance_rank_accuracy", "iou_equal_area", "iou_top")
RANKED = (*COUNTED, "pointing_game", "roc_auc")


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape or SHAPE, generator=torch.Generator().manual_seed(seed))


def block() -> Tensor:
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[3:9, 5:12] = True
    return mask


def found(maps: dict[str, Tensor], mask: Tensor | None) -> Found:
    height, width = next(iter(maps.values())).shape
    pixels = noise(99, 1, height, width)
    with context_of(uniform(height, width), pixels, maps, mask=mask, control_draws=2) as context:
        measured = METRIC.measure(context)
        assert context.classifier.evaluator.counter.forward == 0
    return {(m.metric, m.subject): m for m in measured.measurements}


def numbers(values: Tensor, mask: Tensor) -> dict[str, float | None]:
    return {
        key: m.value for (key, subject), m in found({"a": values}, mask).items() if subject == "a"
    }


def value(metric: str, values: Tensor, mask: Tensor) -> float:
    number = numbers(values, mask)[metric]
    assert number is not None
    return number


def test_quad_explains_its_quadrant() -> None:
    quadrant = quadrant_mask(16)
    mask = quadrant > 0
    inside = numbers(quadrant, mask)
    for key in ("relevance_rank_accuracy", "iou_equal_area", "iou_otsu"):
        assert inside[key] == 1
    for key in ("dice_otsu", "precision_otsu", "recall_otsu", "pointing_game", "roc_auc"):
        assert inside[key] == 1
    assert inside["energy_pointing_game"] == 1
    assert inside["iou_top"] == pytest.approx(round(0.2 * 256) / 64)
    outside = numbers(quadrant, ~mask)
    for key in ("pointing_game", "energy_pointing_game", "roc_auc", "precision_otsu"):
        assert outside[key] == 0
    assert outside["signal_to_noise"] == 0


def test_a_uniform_map_has_the_share_of_the_area() -> None:
    mask = block()
    share = float(mask.double().mean())
    flat = numbers(torch.full(SHAPE, 2.0), mask)
    for key in ("relevance_rank_accuracy", "pointing_game"):
        assert flat[key] == pytest.approx(share)
    assert flat["energy_pointing_game"] == pytest.approx(share)
    assert flat["iou_equal_area"] == pytest.approx(share / (2 - share))
    assert flat["iou_top"] == pytest.approx(0.2 * share / (0.2 + share - 0.2 * share))
    assert (flat["roc_auc"], flat["signal_to_noise"]) == (0.5, pytest.approx(1))


def test_random_maps_have_what_is_expected_at_random() -> None:
    mask = block()
    maps = {f"m{seed}": noise(seed) for seed in range(60)}
    result = found(maps, mask)
    for key in ("relevance_rank_accuracy", "pointing_game", "energy_pointing_game", "roc_auc"):
        values = np.array([result[key, name].value for name in maps])
        expected = result[key, "m0"].detail["expected at random"]
        assert abs(values.mean() - expected) < 3 * values.std() / np.sqrt(len(values)), key


def test_three_in_and_one_out() -> None:
    mask = block()
    values = torch.where(mask, 3.0, -1.0)
    measurement = found({"a": values}, mask)["signal_to_noise", "a"]
    assert measurement.value == pytest.approx(3)
    assert measurement.detail["share"] == pytest.approx(0.75)


def test_nothing_around_the_object_has_no_ratio_and_says_so() -> None:
    mask = block()
    result = found({"in": mask * noise(0), "zero": torch.zeros(SHAPE), "b": noise(1)}, mask)
    inside, zero = (result["signal_to_noise", name] for name in ("in", "zero"))
    assert (inside.value, inside.detail["share"]) == (None, 1)
    assert inside.note == zero.note == "the map is zero everywhere around the object"
    assert zero.value is None
    assert "share" not in zero.detail
    assert result["signal_to_noise", "b"].note == ""
    energy = result["energy_pointing_game", "zero"]
    assert (energy.value, energy.note) == (None, "the map has no positive relevance")


def test_a_plateau_of_maxima_counts_by_its_share_inside() -> None:
    values = noise(2) / 2
    values[3, 5] = values[3, 6] = values[0, 0] = 1  # two of them inside; the first is outside
    assert value("pointing_game", values, block()) == pytest.approx(2 / 3)
    assert int(values.argmax()) == 0
    values[0, 0] = 0
    assert value("pointing_game", values, block()) == 1


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (None, "no mask was given"),
        (torch.zeros(SHAPE, dtype=torch.bool), "outside the part of the picture"),
        (torch.ones(SHAPE, dtype=torch.bool), "fills all of the picture"),
    ],
)
def test_no_object_and_nothing_but_object_are_refused(mask: Tensor | None, words: str) -> None:
    with pytest.raises(NotApplicable, match=words):
        found({"a": noise(3)}, mask)


def test_without_maps_there_is_nothing_to_locate() -> None:
    with (
        context_of(uniform(4, 4), torch.ones(1, 4, 4), {}, mask=torch.eye(4) > 0) as context,
        pytest.raises(NotApplicable, match="no map"),
    ):
        METRIC.measure(context)


MAPS = {
    "fine": noise(4) + block() * 0.3,
    "signed": noise(5) - 0.6 + block() * 0.4,
    "tied": ((noise(6) + block() * 0.5) * 4).round(),
}


def check_auc(own: Callable[[Tensor, Tensor], float]) -> None:
    for values in MAPS.values():
        expected = roc_auc_score(block().flatten().numpy(), values.flatten().numpy())
        assert own(values, block()) == pytest.approx(expected, abs=1e-12)


def test_the_area_under_the_curve_is_that_of_scikit_learn() -> None:
    check_auc(lambda values, mask: value("roc_auc", values, mask))


def test_ties_in_raster_order_would_be_seen() -> None:
    def raster(values: Tensor, mask: Tensor) -> float:
        ranks = values.flatten().argsort(stable=True).argsort().double() + 1
        count = int(mask.sum())
        surplus = ranks[mask.flatten()].sum() - count * (count + 1) / 2
        return float(surplus / (count * (mask.numel() - count)))

    with pytest.raises(AssertionError):
        check_auc(raster)
    with pytest.raises(AssertionError):
        check_auc(lambda values, mask: value("roc_auc", -values, mask))


def check_regions(own: Callable[[Tensor], dict[str, float | None]]) -> None:
    """The regions' numbers are torchmetrics', of maps without ties."""
    truth = block().flatten().int()
    for values in (MAPS["fine"], MAPS["signed"]):
        result, flat = own(values), values.flatten()
        threshold = found({"a": values}, block())["iou_otsu", "a"].detail["threshold"]
        regions = {
            "otsu": flat.clamp_min(0) > threshold,
            "equal_area": flat >= flat.sort(descending=True).values[truth.sum() - 1],
            "top": flat >= flat.sort(descending=True).values[round(0.2 * len(flat)) - 1],
        }
        for name, score in (
            ("iou", binary_jaccard_index),
            ("dice", binary_f1_score),
            ("precision", binary_precision),
            ("recall", binary_recall),
        ):
            for region, marked in regions.items():
                if (key := f"{name}_{region}") in result:
                    expected = float(score(marked.int(), truth))
                    assert result[key] == pytest.approx(expected, abs=1e-6), key
        accuracy = float(binary_recall(regions["equal_area"].int(), truth))
        assert result["relevance_rank_accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_regions_are_scored_as_torchmetrics_does() -> None:
    check_regions(lambda values: numbers(values, block()))


@pytest.mark.parametrize(
    "planted",
    [
        lambda values: numbers(values.abs(), block()),
        lambda values: numbers(-values, block()),
        lambda values: numbers(values, block().roll(1, 0)),
    ],
    ids=["absolute values", "wrong sign", "a mask one pixel off"],
)
def test_planted_errors_are_seen(planted: Callable[[Tensor], dict[str, float | None]]) -> None:
    with pytest.raises(AssertionError):
        check_regions(planted)


@pytest.mark.parametrize("name", MAPS)
def test_the_four_numbers_of_a_region_hang_together(name: str) -> None:
    result = numbers(MAPS[name], block())
    precision, recall, iou = (result[f"{key}_otsu"] for key in ("precision", "recall", "iou"))
    assert precision and recall and iou
    assert iou == pytest.approx(precision * recall / (precision + recall - precision * recall))
    assert result["dice_otsu"] == pytest.approx(2 * iou / (1 + iou))
    equal = result["iou_equal_area"]
    # At equal area precision, recall and Dice are one number.
    assert equal and result["relevance_rank_accuracy"] == pytest.approx(2 * equal / (1 + equal))


def test_quantus_agrees() -> None:
    quantus = pytest.importorskip("quantus", reason="Quantus is no dependency; compared by hand")
    values, mask = MAPS["fine"].double().numpy().ravel(), block().numpy().ravel()
    for key, kind in (
        ("relevance_rank_accuracy", quantus.RelevanceRankAccuracy),
        ("energy_pointing_game", quantus.RelevanceMassAccuracy),
        ("roc_auc", quantus.AUC),
    ):
        judge = kind(normalise=False, abs=False, disable_warnings=True)
        (expected,) = judge.evaluate_batch(a_batch=values[None], s_batch=mask[None])
        assert value(key, MAPS["fine"], block()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", MAPS)
def test_ranks_alone_matter_where_they_should(name: str) -> None:
    values = MAPS[name]
    one, other = numbers(values, block()), numbers(4 * values + 1, block())
    assert [one[key] for key in RANKED] == pytest.approx([other[key] for key in RANKED])
    scaled = numbers(4 * values, block())
    assert list(one.values()) == pytest.approx(list(scaled.values()), abs=1e-6)


@pytest.mark.parametrize("name", MAPS)
def test_turning_map_and_mask_together_changes_nothing(name: str) -> None:
    one = numbers(MAPS[name], block())
    other = numbers(MAPS[name].flip(0, 1), block().flip(0, 1))
    assert list(one.values()) == pytest.approx(list(other.values()), abs=1e-9)


def test_where_otsu_says_nothing_it_is_told() -> None:
    sparse = torch.zeros(SHAPE)
    sparse[4, 6:10] = 1
    result = found({"sparse": sparse, "fine": MAPS["fine"]}, block())
    told = result["iou_otsu", "sparse"]
    assert told.note.startswith("without Otsu's threshold")
    assert "threshold" not in told.detail
    assert told.detail["area"] == pytest.approx(0.2)
    assert told.value == pytest.approx(result["iou_top", "sparse"].value)
    assert result["iou_otsu", "fine"].note == ""


def test_every_number_stands_beside_the_same_of_controls() -> None:
    result = found({"a": block() + noise(7) * 0.1}, block())
    keys = [quantity.key for quantity in CARD.quantities]
    subjects = ["a", "smooth-random", "random", "edges", "centre"]
    assert set(result) == {(key, subject) for key in keys for subject in subjects}
    for key in keys:
        place = result[key, "a"].yardstick
        assert place is not None
        assert place.maps == 20
        assert place.p is not None
        drawn = result[key, "smooth-random"]
        assert (drawn.value, drawn.yardstick) == (pytest.approx(place.mean), None)
        low, high = result[key, "a"].range
        assert all(low <= v and (high is None or v <= high) for v in drawn.detail["draws"])
    assert result["iou_equal_area", "a"].yardstick.percentile == 1
