"""Heads: raw outputs become scores and probabilities, and what is no classifier is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toys import Fixed, as_opened, hints

from reportgen.classifier.classifier import classifier_from
from reportgen.classifier.heads import HEADS, check_head, class_outputs, detect_head
from reportgen.config import Config
from reportgen.errors import ModelError, UsageError
from reportgen.records import Prediction

SHAPE = (3, 8, 8)


def prediction(
    outputs: object, head: str | None = None, labels: tuple[str, ...] | None = None
) -> Prediction:
    opened = as_opened(Fixed(outputs))
    with classifier_from(opened, hints(SHAPE, head, labels), Config(device="cpu")) as classifier:
        return classifier.predict(torch.zeros(SHAPE))


def test_single_logit_speaks_for_the_second_class() -> None:
    found = prediction(torch.tensor([-6.64]), labels=("Cat", "Dog"))
    assert (found.target.label, round(found.target.probability, 4)) == ("Cat", 0.9987)
    assert found.target.score == pytest.approx(6.64)
    assert [c.label for c in found.top] == ["Cat", "Dog"]
    assert sum(c.probability for c in found.top) == pytest.approx(1)


def test_squeezed_single_logit_is_understood_at_every_batch_size() -> None:
    assert class_outputs(torch.tensor(-6.64), 1).shape == (1, 1)
    assert class_outputs(torch.tensor([1.0, 2.0]), 2).tolist() == [[1.0], [2.0]]


def test_one_label_for_one_logit_names_the_second_class() -> None:
    found = prediction(torch.tensor([2.0]), labels=("Dog",))
    assert found.target.label == "Dog"
    assert [c.label for c in found.top] == ["Dog", "not Dog"]


def test_multilabel_takes_each_sigmoid_alone() -> None:
    found = prediction(torch.tensor([3.0, -1.0, 2.0]), "multilabel")
    expected = torch.tensor([3.0, 2.0, -1.0]).sigmoid().tolist()
    assert [c.probability for c in found.top] == pytest.approx(expected)
    assert [c.index for c in found.top] == [0, 2, 1]


def test_softmax_scores_are_the_logits() -> None:
    logits = torch.tensor([3.0, -1.0, 2.0])
    found = prediction(logits)
    assert [c.score for c in found.top] == [3.0, 2.0, -1.0]
    assert found.target.probability == pytest.approx(float(logits.softmax(0)[0]))


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [((0.9, 0.02, 0.08), (0.9, 0.02, 0.08)), ((0.3,), (0.7, 0.3))],
    ids=["several outputs", "one output"],
)
def test_probabilities_pass_as_they_are(
    outputs: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    found = prediction(torch.tensor(outputs))
    by_index = sorted(found.top, key=lambda c: c.index)
    assert [c.probability for c in by_index] == pytest.approx(expected)
    logarithms = torch.tensor(expected).log().tolist()
    assert [c.score for c in by_index] == pytest.approx(logarithms)


def test_a_probability_of_zero_has_a_finite_score() -> None:
    found = prediction(torch.tensor([1.0, 0.0]), "probabilities")
    assert found.top[1].probability == 0
    assert -28 < found.top[1].score < -27


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (torch.tensor([[-6.64], [0.2]]), "sigmoid"),
        (torch.tensor([[0.4], [0.2]]), "probabilities"),
        (torch.tensor([[0.4, 0.6], [0.2, 0.8]]), "probabilities"),
        (torch.tensor([[0.4, 0.6], [0.2, 1.8]]), "softmax"),
        (torch.tensor([[-0.1, 0.6], [0.2, 0.8]]), "softmax"),
        (torch.zeros(8, 4), "softmax"),
    ],
)
def test_detection_looks_at_the_range(raw: Tensor, kind: str) -> None:
    assert detect_head(raw) == kind


def test_two_classes_come_out_of_every_head_that_makes_two() -> None:
    single = torch.tensor([[0.25]])
    assert HEADS["sigmoid"].scores(single).shape == (1, 2)
    assert HEADS["probabilities"].probabilities(single).tolist() == [[0.75, 0.25]]


@pytest.mark.parametrize(
    ("kind", "outputs", "advice"), [("sigmoid", 3, "'multilabel'"), ("softmax", 1, "'sigmoid'")]
)
def test_a_head_that_cannot_fit_is_refused(kind: str, outputs: int, advice: str) -> None:
    with pytest.raises(ModelError, match=f"but this.* has .*use {advice}"):
        check_head(kind, outputs)


@pytest.mark.parametrize("labels", [("a", "b"), ("a", "b", "c", "d"), ("a",)])
def test_wrong_number_of_labels_is_a_sentence(labels: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=f"There are {len(labels)} labels, but the model has 3"):
        prediction(torch.tensor([3.0, -1.0, 2.0]), labels=labels)


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ((torch.zeros(1, 3), torch.zeros(1, 3)), "returned a tuple of 2 items; wrap it"),
        ([torch.zeros(1, 3)], "returned a list of 1 items"),
        ({"logits": 1, "aux": 2}, "returned a dict with the keys logits, aux"),
        (None, "returned a NoneType"),
        (torch.zeros(1, 8, 7, 7), r"returned shape \(1, 8, 7, 7\): a feature map"),
        (torch.zeros(2, 3), r"shape \(1, classes\), but it returned shape \(2, 3\)"),
        (torch.zeros(3), r"but it returned shape \(3,\)"),
    ],
)
def test_other_outputs_are_named_in_a_sentence(output: object, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        class_outputs(output, 1)


def test_other_outputs_are_refused_when_the_model_is_opened() -> None:
    with pytest.raises(ModelError, match="returned a dict with the keys logits"):
        prediction({"logits": torch.zeros(1, 3)})


def test_scores_with_places_of_one_pixel_are_flattened() -> None:
    assert class_outputs(torch.zeros(2, 3, 1, 1), 2).shape == (2, 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers_are_a_model_error(value: float) -> None:
    with pytest.raises(ModelError, match="NaN or infinite outputs; check its weights"):
        prediction(torch.tensor([1.0, value]))


def test_every_head_says_what_its_score_is() -> None:
    named = {kind: head.score for kind, head in HEADS.items()}
    assert named.pop("probabilities") == "log-probability"
    assert set(named.values()) == {"logit"}
