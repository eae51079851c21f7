"""What a change of the prediction is: another top class, or a label that crosses the threshold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from metric_toys import context_of
from torch import Tensor, nn

from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Context, Measured
from reportgen.metrics.decision import decisions, followed, made, named
from reportgen.metrics.random_logit import other_class
from reportgen.metrics.repeats import noisy_scores
from reportgen.metrics.stability import moves
from reportgen.perturbation.corruption import corrupted


class Half(nn.Module):
    """Logits of three labels: a bright upper half for the first, a bright picture for the last.

    The second holds for every picture, and is always the likeliest.
    """

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2, 3))
        upper, lower = x[:, :, : x.shape[2] // 2].mean((1, 2, 3)), x[:, :, x.shape[2] // 2 :]
        tilt = upper - lower.mean((1, 2, 3))
        return torch.stack([8 * tilt, torch.full_like(mean, 9.0), mean], dim=1)


PICTURE = torch.cat([torch.full((3, 16, 33), 0.8), torch.full((3, 17, 33), 0.2)], dim=1)


@contextmanager
def context(target: str, head: str = "multilabel", **options: Any) -> Iterator[Context]:
    """Yield the context in which ``target`` is explained."""
    with context_of(Half(), PICTURE, {}, head=head, **options) as plain:
        prediction = plain.classifier.predict(PICTURE, target)
        classifier = plain.classifier.explaining(prediction.contrast)
        yield replace(plain, prediction=prediction, classifier=classifier)


def flips(result: Measured, metric: str) -> dict[str, float | None]:
    return {m.subject: m.value for m in result.measurements if m.metric == metric}


ROWS = torch.tensor([[0.9, 0.99, 0.1, 0.5], [0.2, 0.1, 0.3, 0.9]])


def test_one_class_wins_and_a_contrast_is_no_class() -> None:
    with context("contrast:0,2", "softmax") as found:
        assert decisions(found, ROWS).tolist() == [1, 2]
        assert (made(found), followed(found).label) == (1, "class 1")
        assert named(found, 2) == "class 2"


def test_a_label_holds_or_not_whatever_the_others_do() -> None:
    with context("0", threshold=0.3) as found:
        assert decisions(found, ROWS).tolist() == [1, 0]
        assert (made(found), followed(found).label) == (1, "class 0")
        assert [named(found, decision) for decision in (1, 0)] == ["class 0", "not class 0"]
    with context("2", threshold=0.9) as found:
        assert decisions(found, ROWS).tolist() == [0, 0]
        assert made(found) == 0


def test_a_contrast_of_labels_follows_the_first() -> None:
    with context("contrast:0,2") as found:
        assert followed(found).label == "class 0"
        assert decisions(found, ROWS).tolist() == [1, 0]


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_a_turn_that_takes_the_label_below_the_threshold_is_found(side: str) -> None:
    # The halves weigh the same at 90 degrees, where the logit is 0 and the probability a half; the
    # second label stays the likeliest all the way.
    with context("0", rotation_step=7.0) as found:
        result = METRICS["rotation"].measure(found)
        curve = result.arrays["curve.rotation"]
    assert flips(result, "rotation_flip")[side] == pytest.approx(90, abs=2)
    (flip,) = [m for m in result.measurements if m.subject == side]
    assert flip.detail["new class"] == "not class 0"
    assert curve[1].max() == pytest.approx(found.prediction.target.probability)


def test_a_label_that_nothing_moves_is_not_flipped() -> None:
    with context("1", rotation_step=45.0) as found:
        result = METRICS["rotation"].measure(found)
    assert flips(result, "rotation_flip") == {"positive": None, "negative": None}
    assert flips(result, "interpolation_blur_flip") == {"prediction": 0.0}


def test_noise_counts_the_crossings_of_the_label_and_keeps_its_probability() -> None:
    with context("0", threshold=0.988, noise_draws=4) as found:
        tight = METRICS["noise"].measure(found)
        first = found.prediction.target.probability
    assert first == pytest.approx(float(torch.tensor(4.8).sigmoid()), abs=0.003)
    with context("0", noise_draws=4) as found:
        loose = METRICS["noise"].measure(found)
    copies = corrupted(PICTURE, "impulse", 5, 4, 0)
    below = float((Half()(copies)[:, 0].sigmoid() < 0.988).double().mean())
    assert 0 < below < 1
    assert flips(tight, "noise_flips")["impulse 5"] == below
    assert set(flips(loose, "noise_flips").values()) == {0}
    kept = flips(loose, "noise_retention")["impulse 5"]
    assert kept is not None
    assert 0.5 < kept < 1


def test_relative_stability_leaves_out_the_copies_that_cross() -> None:
    threshold = float(torch.tensor(4.8).sigmoid())  # that of the picture itself
    with context("0", threshold=threshold, sensitivity_draws=8) as found:
        crossed = found.once(moves).flipped
        scores = found.once(noisy_scores)
    holds = scores[:, 0].sigmoid() >= threshold
    assert crossed.tolist() == (holds[1:] != holds[0]).tolist()
    assert crossed.any()
    assert not crossed.all()


def test_the_scores_of_noisy_copies_are_those_of_the_classes() -> None:
    with context("contrast:0,2", "softmax") as found:
        assert found.once(noisy_scores).shape[1] == 3


def test_no_class_is_another_to_a_contrast() -> None:
    with (
        context("contrast:0,2", "softmax") as found,
        pytest.raises(NotApplicable, match="contrast"),
    ):
        other_class(found)
    with context("2", "softmax") as found:
        assert other_class(found) in (0, 1)
