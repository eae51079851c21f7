"""The rank check of a coarser number format: when it is used, and what the report says."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import Normalised, Shape, as_opened, classified, hints, pictures, seeded, squares

from reportgen.classifier.classifier import Classifier
from reportgen.classifier.evaluator import Copies
from reportgen.config import Config
from reportgen.image import open_image
from reportgen.pipeline import make_report
from reportgen.precision import PICTURES, choose_precision, compared
from reportgen.records import PrecisionCheck, Report

SHAPE: Shape = (3, 16, 16)
OWN = np.linspace(0.1, 0.9, 20)
BF16 = Config(device="cpu", precision="bf16")


def test_differences_and_rank_correlation_are_those_of_the_probabilities() -> None:
    moved = OWN.copy()
    moved[3] += 0.02
    check = compared("bfloat16", OWN, moved)
    assert check.rank_correlation == 1.0
    assert check.largest_difference == pytest.approx(0.02)
    assert check.mean_difference == pytest.approx(0.001)
    assert (check.used, check.pictures, check.precision) == (True, 20, "bfloat16")


def test_another_order_is_refused() -> None:
    swapped = OWN.copy()
    swapped[[0, 19]] = swapped[[19, 0]]
    check = compared("bfloat16", OWN, swapped)
    # Spearman: 1 - 6 sum(d^2) / (n (n^2 - 1)), with d = 19 twice.
    assert check.rank_correlation == pytest.approx(1 - 6 * 2 * 19**2 / (20 * 399))
    assert not check.used
    neighbours = OWN.copy()
    neighbours[[0, 1]] = neighbours[[1, 0]]
    assert compared("bfloat16", OWN, neighbours).used


@pytest.mark.parametrize("reduced", [np.full(20, 0.5), np.where(OWN > 0.8, math.nan, OWN)])
def test_without_an_order_the_full_precision_stays(reduced: np.ndarray) -> None:
    check = compared("bfloat16", OWN, reduced)
    assert check.rank_correlation is None
    assert not check.used
    assert not compared("bfloat16", np.full(20, 0.5), OWN).used


def checked(classifier: Classifier, pixels: Tensor) -> PrecisionCheck | None:
    places = torch.from_numpy(squares(16, 16))
    return choose_precision(classifier, pixels, places, 0, 0)


def test_bfloat16_is_used_where_it_ranks_alike() -> None:
    pixels = pictures(1)[0]
    with classified(seeded(Normalised), SHAPE, config=BF16) as classifier:
        full = classifier.probabilities(pixels[None])
        classifier.evaluator.counter.forward = 0
        check = checked(classifier, pixels)
        assert check is not None
        assert check.used
        assert classifier.evaluator.counter.forward == 2 * PICTURES
        assert not torch.equal(classifier.probabilities(pixels[None]), full)
        assert checked(classifier, pixels) == check


def test_a_copy_that_ranks_otherwise_is_not_used() -> None:
    pixels = pictures(1)[0]
    with classified(seeded(Normalised), SHAPE) as classifier:
        network, full = classifier.evaluator.network, classifier.probabilities(pixels[None])
        classifier.evaluator.copies = dataclasses.replace(
            classifier.evaluator.copies,
            reduced=lambda batch: -network(batch),
            precision="upside down",
        )
        check = checked(classifier, pixels)
        assert check is not None
        assert not check.used
        assert torch.equal(classifier.probabilities(pixels[None]), full)
        classifier.evaluator.copies = Copies(reduced=lambda batch: network(batch) * math.nan)
        check = checked(classifier, pixels)
        assert check is not None
        assert check.rank_correlation is None


def test_nothing_is_checked_unless_asked_for() -> None:
    with classified(seeded(Normalised), SHAPE) as classifier:
        classifier.evaluator.counter.forward = 0
        assert checked(classifier, pictures(1)[0]) is None
        assert classifier.evaluator.counter.forward == 0


def told(config: Config) -> Report:
    picture = open_image(pictures(1)[0].permute(1, 2, 0).numpy())
    network = as_opened(seeded(Normalised))
    return make_report(network, hints(SHAPE, "softmax"), picture, config)[0]


def test_the_report_says_which_precision_was_used() -> None:
    options = {"methods": "saliency", "metrics": "deletion", "device": "cpu", "segments": 16}
    report = told(Config(precision="bf16", **options))  # type: ignore[arg-type]
    check = report.provenance.precision_check
    assert check is not None
    assert check.used == report.provenance.precision.startswith("bfloat16")
    rules = [finding.rule for finding in report.findings]
    assert ("precision-reduced" if check.used else "precision-kept") in rules
    assert report.provenance.folded
    plain = told(Config(**options))  # type: ignore[arg-type]
    assert plain.provenance.precision == "float32"
    assert plain.provenance.precision_check is None
    assert not [f for f in plain.findings if f.rule.startswith("precision")]


def test_folding_changes_no_number_of_a_report() -> None:
    options = {"metrics": "deletion,insertion,rotation", "device": "cpu", "segments": 16}
    with_folding, without = (
        told(Config(folding=folding, **options))  # type: ignore[arg-type]
        for folding in (True, False)
    )
    assert with_folding.provenance.folded
    assert not without.provenance.folded
    pairs = list(zip(with_folding.measurements, without.measurements, strict=True))
    for a, b in pairs:
        assert (a.metric, a.subject) == (b.metric, b.subject)
        # Probabilities in float32; the largest difference measured is 6e-8.
        assert a.value == pytest.approx(b.value, abs=1e-5)
    assert len(pairs) > 30
