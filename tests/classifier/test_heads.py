"""Heads: raw outputs become scores and probabilities, and what is no classifier is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from toys import Fixed, as_opened, hints

from reportgen.classifier.classifier import classifier_from
from reportgen.classifier.heads import (
    HEADS,
    Head,
    check_head,
    contrasted,
    detect_head,
    last_operation,
    tempered,
)
from reportgen.config import Config
from reportgen.errors import ModelError, UsageError
from reportgen.records import Prediction, Sourced

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


SPREAD = torch.tensor([[0.1, 2.0, -1.0], [0.3, -2.0, 0.5]])


@pytest.mark.parametrize(
    ("raw", "kind", "source"),
    [
        (torch.tensor([[-6.64], [0.2]]), "sigmoid", "detected"),
        (torch.tensor([[0.4], [0.2]]), "probabilities", "assumed"),
        (torch.tensor([[0.4, 0.6], [0.2, 0.8]]), "probabilities", "detected"),
        (torch.tensor([[0.4, 0.6], [0.2, 1.8]]), "softmax", "detected"),
        (torch.tensor([[-0.1, 0.6], [0.2, 0.8]]), "softmax", "detected"),
        (torch.tensor([[0.4, 0.9], [0.2, 0.1]]), "multilabel-probabilities", "assumed"),
        (SPREAD.log_softmax(1), "log-probabilities", "detected"),
        (SPREAD.log_softmax(1) - 0.1, "softmax", "detected"),
        (torch.zeros(8, 4), "softmax", "assumed"),
    ],
)
def test_detection_looks_at_the_range_and_the_sums(raw: Tensor, kind: str, source: str) -> None:
    found = detect_head(raw)
    assert (found.kind, found.source) == (kind, source)
    assert found.evidence


SMALL = SPREAD * 0.01 + 0.5


@pytest.mark.parametrize(
    ("raw", "last", "kind"),
    [
        (SMALL, "linear layer", "softmax"),
        (SMALL, "sigmoid", "multilabel-probabilities"),
        (SMALL[:, :1], "linear layer", "sigmoid"),
        (SMALL[:, :1], "convolution", "sigmoid"),
        (SMALL[:, :1], "sigmoid", "probabilities"),
        (SMALL.softmax(1), "softmax", "probabilities"),
    ],
)
def test_the_last_operation_settles_what_the_values_leave_open(
    raw: Tensor, last: str, kind: str
) -> None:
    found = detect_head(raw, last)
    assert (found.kind, found.source) == (kind, "detected")
    assert f"the last operation is a {last}" in found.evidence


def test_the_last_operation_is_seen_through_what_only_reshapes() -> None:
    z = torch.zeros(2, 3, 1, 1, requires_grad=True) * 2
    assert last_operation(z.softmax(1).flatten(1)[:, :2].unsqueeze(0).squeeze(0)) == "softmax"
    assert last_operation(z.sigmoid().squeeze(-1)) == "sigmoid"
    assert last_operation(z.log_softmax(1).clone()) == "log-softmax"
    assert last_operation(torch.nn.Linear(3, 2)(torch.zeros(4, 3))) == "linear layer"
    assert last_operation(torch.nn.Conv2d(3, 2, 1)(z).flatten(1)) == "convolution"
    assert last_operation(z.mean((2, 3))) == ""
    assert last_operation(z.detach()) == ""


def found_head(network: torch.nn.Module) -> Sourced:
    with classifier_from(as_opened(network), hints(SHAPE), Config(device="cpu")) as classifier:
        return classifier.record.head


class Ending(torch.nn.Module):
    """A linear layer whose outputs all lie in [0, 1], and what may come behind it."""

    def __init__(self, end: Callable[[Tensor], Tensor], outputs: int) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(SHAPE[0], outputs)
        self.fc.weight.data.fill_(0.1)
        self.fc.bias.data.fill_(0.2)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.fc(x.mean((2, 3))))


@pytest.mark.parametrize(
    ("end", "outputs", "title"),
    [
        (lambda z: z, 1, "sigmoid of one logit, which speaks for the second class"),
        (torch.sigmoid, 1, "probabilities, as the network gives them"),
        (lambda z: z, 4, "softmax of logits"),
        (torch.sigmoid, 4, "one probability for each class, as the network gives them"),
        (lambda z: z.softmax(1), 4, "probabilities, as the network gives them"),
        (lambda z: z.log_softmax(1), 4, "exponential of log-probabilities, as the"),
    ],
)  # fmt: skip
def test_the_head_is_told_by_how_the_network_ends(
    end: Callable[[Tensor], Tensor], outputs: int, title: str
) -> None:
    found = found_head(Ending(end, outputs))
    assert str(found.value).startswith(title)
    assert found.source == "detected"
    assert "for 8 probe pictures" in found.evidence


def test_a_stated_head_needs_no_evidence() -> None:
    network = Ending(torch.sigmoid, 4)
    with classifier_from(as_opened(network), hints(SHAPE, "softmax"), Config()) as classifier:
        assert classifier.record.head == Sourced(value="softmax of logits", source="option")


def test_log_probabilities_are_their_own_scores() -> None:
    found = prediction(torch.tensor([0.7, 0.2, 0.1]).log())
    assert [c.probability for c in found.top] == pytest.approx([0.7, 0.2, 0.1])
    assert [c.score for c in found.top] == pytest.approx(
        torch.tensor([0.7, 0.2, 0.1]).log().tolist()
    )


@pytest.mark.parametrize("kind", ["softmax", "multilabel"])
def test_a_temperature_divides_the_logits(kind: str) -> None:
    head, z = tempered(HEADS[kind], 2.5), torch.tensor([[3.0, -1.0, 2.0]])
    assert torch.equal(head.scores(z), z / 2.5)
    assert torch.equal(head.probabilities(z), HEADS[kind].probabilities(z / 2.5))
    assert "2.5" in head.title
    assert "2.5" in head.score


def test_the_report_says_the_temperature_and_a_head_of_probabilities_refuses_it() -> None:
    opened, config = as_opened(Fixed(torch.tensor([3.0, -1.0]))), Config(temperature=4)
    with classifier_from(opened, hints(SHAPE), config) as classifier:
        found = classifier.predict(torch.zeros(SHAPE))
        assert classifier.record.head.value == "softmax of logits, divided by the temperature 4"
    assert found.target.score == 0.75
    assert found.target.probability == pytest.approx(float(torch.tensor(1.0).sigmoid()))
    opened = as_opened(Fixed(torch.tensor([0.3, 0.7])))
    with (
        pytest.raises(UsageError, match="gives probabilities already; leave it out"),
        classifier_from(opened, hints(SHAPE), config),
    ):
        pass


RAWS = {
    "softmax": torch.tensor([[3.0, -1.0, 2.0], [0.0, 1.0, 4.0]]),
    "sigmoid": torch.tensor([[-2.0], [0.5]]),
    "multilabel": torch.tensor([[3.0, -1.0, 2.0], [0.0, 1.0, 4.0]]),
    "probabilities": torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0]]),
    "multilabel-probabilities": torch.tensor([[0.5, 0.9, 0.2], [0.9, 0.1, 0.0]]),
    "log-probabilities": torch.tensor([[3.0, -1.0], [0.0, 1.0]]).log_softmax(1),
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_contrast_is_the_difference_of_scores_and_the_share_of_probabilities(kind: str) -> None:
    head, raw = HEADS[kind], RAWS[kind]
    made: Head = contrasted(head, 1, 0)
    scores, probabilities = head.scores(raw), head.probabilities(raw)
    assert torch.equal(made.scores(raw)[:, :-1], scores)
    assert torch.equal(made.probabilities(raw)[:, :-1], probabilities)
    assert torch.allclose(made.scores(raw)[:, -1], scores[:, 1] - scores[:, 0])
    share = probabilities[:, 1] / (probabilities[:, 1] + probabilities[:, 0])
    assert torch.allclose(made.probabilities(raw)[:, -1], share)
    assert made.score.startswith(head.score)


def test_a_contrast_of_two_hopeless_classes_keeps_its_probability() -> None:
    raw = torch.tensor([[200.0, 1.0, 0.0]])
    assert float(HEADS["softmax"].probabilities(raw)[0, 1]) == 0
    found = contrasted(HEADS["softmax"], 1, 2).probabilities(raw)[0, -1]
    assert float(found) == pytest.approx(float(torch.tensor(1.0).sigmoid()))


def test_two_classes_come_out_of_every_head_that_makes_two() -> None:
    single = torch.tensor([[0.25]])
    assert HEADS["sigmoid"].scores(single).shape == (1, 2)
    assert HEADS["probabilities"].probabilities(single).tolist() == [[0.75, 0.25]]


@pytest.mark.parametrize(
    ("kind", "outputs", "advice"),
    [
        ("sigmoid", 3, "'multilabel'"),
        ("softmax", 1, "'sigmoid'"),
        ("log-probabilities", 1, "'sigmoid'"),
    ],
)
def test_a_head_that_cannot_fit_is_refused(kind: str, outputs: int, advice: str) -> None:
    with pytest.raises(ModelError, match=f"but this.* has .*use {advice}"):
        check_head(kind, outputs)


@pytest.mark.parametrize("labels", [("a", "b"), ("a", "b", "c", "d"), ("a",)])
def test_wrong_number_of_labels_is_a_sentence(labels: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=f"There are {len(labels)} labels, but the model has 3"):
        prediction(torch.tensor([3.0, -1.0, 2.0]), labels=labels)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers_are_a_model_error(value: float) -> None:
    with pytest.raises(ModelError, match="NaN or infinite outputs; check its weights"):
        prediction(torch.tensor([1.0, value]))


def test_every_head_says_what_its_score_is() -> None:
    for kind, head in HEADS.items():
        assert head.score == ("log-probability" if "probabilities" in kind else "logit")
