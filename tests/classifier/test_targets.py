"""Targets: indices, labels, the top K, contrasts, and the labels that hold."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
import torch
from toys import Fixed, as_opened, hints

from reportgen.classifier.classifier import Classifier, classifier_from
from reportgen.classifier.targets import (
    Classes,
    Target,
    check_single,
    find_target,
    one_target,
    targets_of,
)
from reportgen.config import Config
from reportgen.errors import UsageError
from reportgen.records import Prediction

LABELS = ("cat", "Dog", "newt, red", "toad", "7", "top:2", "red", "newt")
PROBABILITIES = (0.1, 0.3, 0.05, 0.25, 0.2, 0.04, 0.03, 0.03)
ONE = Classes(LABELS, PROBABILITIES)
SEVERAL = Classes(LABELS, PROBABILITIES, 0.25)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", Target(3)),
        ("dog", Target(1)),
        (" toad ", Target(3)),
        ("newt, red", Target(2)),
        ("7", Target(7)),
        ("top:2", Target(5)),
        ("contrast:cat,dog", Target(0, 1)),
        ("contrast: 3 , 0", Target(3, 0)),
        ("CONTRAST:newt, red,toad", Target(2, 3)),
        ("contrast:toad,newt, red", Target(3, 2)),
    ],
)
def test_a_text_names_a_class_or_two(text: str, expected: Target) -> None:
    assert find_target(text, LABELS) == expected
    assert targets_of(text, ONE) == targets_of(text, SEVERAL) == (expected,)
    check_single(text, LABELS)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("8", "Target 8 is out of range; the model has the classes 0 to 7"),
        ("-1", "Target -1 is out of range"),
        ("frog", "Unknown target 'frog'; the known ones are: cat, Dog"),
        ("contrast:cat,frog", "Unknown target 'frog'; the known ones are"),
        ("contrast:9,cat", "Target 9 is out of range"),
        ("contrast:cat", "should be contrast:A,B with two classes"),
        ("contrast:cat,frog,toad", "should be contrast:A,B with two classes"),
        ("contrast:cat,CAT", "contrasts a class with itself"),
        ("top:0", "should be top:K with a number K from 1 to 8"),
        ("top:9", "should be top:K with a number K from 1 to 8"),
        ("top:few", "should be top:K with a number K from 1 to 8"),
    ],
)
def test_what_the_model_does_not_have_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        targets_of(text, ONE)
    with pytest.raises(UsageError, match=sentence):
        check_single(text, LABELS)


def test_labels_with_commas_may_leave_a_contrast_open() -> None:
    labels = ("a", "b", "a,b", "b,a")
    with pytest.raises(UsageError, match=r"can be read in 2 ways.*by their indices"):
        find_target("contrast:a,b,a", labels)
    assert find_target("contrast:0,3", labels) == Target(0, 3)


def test_an_unknown_label_of_many_lists_the_nearest() -> None:
    labels = [f"kind {number}" for number in range(30)]
    for text in ("kint 12", "contrast:1,kint 12"):
        with pytest.raises(UsageError, match="of 30 classes the nearest are: kind 12"):
            find_target(text, labels)


def test_the_top_are_in_the_order_of_probability() -> None:
    assert targets_of("top:3", Classes(LABELS[:4], PROBABILITIES[:4])) == (
        Target(1), Target(3), Target(0),
    )  # fmt: skip
    assert targets_of("top:1", Classes(LABELS[:4], PROBABILITIES[:4])) == (Target(1),)


def test_without_a_text_the_top_class_or_the_labels_that_hold_are_explained() -> None:
    assert targets_of("", ONE) == (Target(1, source="top class"),)
    held = (Target(1, source="threshold"), Target(3, source="threshold"))
    assert targets_of("", SEVERAL) == held
    assert one_target("", SEVERAL) == held[0]
    none = Classes(LABELS, PROBABILITIES, 0.31)
    assert targets_of("", none) == (Target(1, source="top class"),)


def test_where_there_is_room_for_one_several_are_refused() -> None:
    with pytest.raises(UsageError, match=r"asks for 3 reports.*reportgen\.explain_each"):
        one_target("top:3", ONE)
    with pytest.raises(UsageError, match=r"reportgen\.explain_each"):
        check_single("top:2", LABELS[:4])
    assert one_target("top:1", ONE) == Target(1)


LOGITS = torch.tensor([2.0, -1.0, 0.5, 3.0])


def predicted(target: str | Target, head: str = "softmax", threshold: float = 0.5) -> Prediction:
    with made(head, threshold) as classifier:
        return classifier.predict(torch.zeros(3, 8, 8), target, top=2)


def made(head: str, threshold: float = 0.5) -> AbstractContextManager[Classifier]:
    labels = ("a", "b", "c", "d")
    opened, given = as_opened(Fixed(LOGITS)), hints((3, 8, 8), head, labels)
    return classifier_from(opened, given, Config(device="cpu", threshold=threshold))


def test_a_contrast_is_predicted_as_one_more_class() -> None:
    found = predicted("contrast:c,a")
    shares = LOGITS.softmax(0)
    assert found.contrast is not None
    assert (found.contrast.first.label, found.contrast.second.label) == ("c", "a")
    assert found.contrast.first.probability == pytest.approx(float(shares[2]))
    assert found.target.label == "c rather than a"
    assert (found.target.index, found.target.score) == (4, -1.5)
    assert found.target.probability == pytest.approx(float(shares[2] / (shares[2] + shares[0])))
    assert [c.label for c in found.top] == ["d", "a"]
    assert (found.target_source, found.threshold) == ("option", None)


def test_what_is_explained_is_the_last_column_of_scores_and_probabilities() -> None:
    pixels = torch.zeros(2, 3, 8, 8)
    with made("softmax") as plain:
        found = plain.predict(pixels[0], "contrast:c,a")
        classifier = plain.explaining(found.contrast)
        assert plain.explaining(None) is plain
        before = plain.evaluator.counter.forward
        assert classifier.probabilities(pixels).shape == (2, 5)
        assert plain.evaluator.counter.forward == before + 2
        assert plain.probabilities(pixels).shape == (2, 4)
        scores = classifier.evaluator.scores(pixels)
    assert scores[:, found.target.index].tolist() == [found.target.score] * 2


def test_all_labels_that_hold_are_in_the_prediction() -> None:
    found = predicted("", "multilabel")
    assert [c.label for c in found.top] == ["d", "a", "c"]
    assert found.holding == found.top
    assert (found.target.label, found.target_source, found.threshold) == ("d", "threshold", 0.5)
    strict = predicted("", "multilabel", threshold=0.9)
    assert [c.label for c in strict.top] == ["d", "a"]
    assert [c.label for c in strict.holding] == ["d"]
    none = predicted("", "multilabel", threshold=0.96)
    assert (none.holding, none.target.label, none.target_source) == ((), "d", "top class")


def test_where_one_class_wins_no_label_holds() -> None:
    found = predicted("")
    assert (found.holding, found.threshold, found.target_source) == ((), None, "top class")
