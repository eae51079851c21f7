from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from metric_toys import Compared, Weighted, context_of, descending
from sklearn.metrics import auc
from torch import Tensor

from reportgen.metrics import Context
from reportgen.metrics.curves import (
    Curves,
    Values,
    by_subject,
    deletion_curves,
    every_map,
    insertion_curves,
    ranks,
    subjects,
    target_probabilities,
)
from reportgen.perturbation.controls import CONTROLS
from reportgen.perturbation.removal import removed_rows

PIXELS = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0))
MAPS = {
    "a": torch.rand(4, 6, generator=torch.Generator().manual_seed(1)),
    "b": torch.rand(4, 6, generator=torch.Generator().manual_seed(2)) - 0.5,
}
MASKS = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(3))

Areas = Callable[[Curves, str], Values]


def curves_of(run: Callable[[Context, str], Curves], kind: str = "black", **options) -> Curves:
    with context_of(Weighted(descending(4, 6)), PIXELS, MAPS, **options) as context:
        return context.once(run, kind)


def slowly_deleted(values: Tensor, fill: float, steps: int) -> list[float]:
    """Delete pixel by pixel in a loop, and read the probability of LIN after each of the steps."""
    picture, weights = PIXELS.mean(0).flatten().tolist(), descending(4, 6).flatten().tolist()
    order = sorted(range(24), key=lambda place: -values.flatten()[place].item())
    probabilities = []
    for step in range(steps + 1):
        gone = set(order[: round(step * 24 / steps)])
        seen = [fill if place in gone else picture[place] for place in range(24)]
        probabilities.append(sum(w * x for w, x in zip(weights, seen, strict=True)))
    return probabilities


@pytest.mark.parametrize("steps", [3, 8, 24])
def test_deletion_is_what_a_loop_over_pixels_gives(steps: int) -> None:
    found = curves_of(deletion_curves, curve_steps=steps)
    for name, values in MAPS.items():
        expected = slowly_deleted(values, 0, steps)
        np.testing.assert_allclose(found.values[name], [expected], rtol=1e-5)


def assert_trapezoid(areas: Areas) -> None:
    fractions = np.array([0, 0.2, 1])
    curves = Curves(fractions, {"map": np.array([[1.0, 0.5, 0.0], [0.0, 0.0, 1.0]])})
    assert areas(curves, "map") == pytest.approx([0.15 + 0.2, 0.4])
    for row, area in zip(curves.values["map"], areas(curves, "map"), strict=True):
        assert area == pytest.approx(auc(fractions, row))


def test_the_area_is_the_trapezoid_rule_on_uneven_steps() -> None:
    assert_trapezoid(Curves.areas)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda curves, subject: curves.values[subject].mean(axis=1),
        lambda curves, subject: np.trapezoid(curves.values[subject], dx=1, axis=1),
        lambda curves, subject: np.trapezoid(
            curves.values[subject][:, 1:], curves.fractions[1:], axis=1
        ),
    ],
    ids=["a plain mean", "steps of one", "the first point left out"],
)
def test_a_wrong_area_would_be_noticed(wrong: Areas) -> None:
    with pytest.raises(AssertionError):
        assert_trapezoid(wrong)


def assert_reversible(order_of: Callable[[Tensor], Tensor]) -> None:
    """Hold insertion against deletion of the same pixels in ``order_of`` (ranks), read backwards.

    It holds picture by picture, so that it says the same of every model.
    """
    with context_of(Weighted(descending(4, 6)), PIXELS, MAPS) as context:
        order = context.once(ranks)
    black, counts = torch.zeros_like(PIXELS), torch.tensor([0, 1, 5, 12, 24])
    for row in range(len(order)):
        maps = torch.full_like(counts, row)
        inserted = removed_rows(black, PIXELS, order, maps, counts)
        deleted = removed_rows(PIXELS, black, order_of(order), maps, 24 - counts)
        assert torch.equal(inserted, deleted)


def test_insertion_is_deletion_of_the_least_relevant_read_backwards() -> None:
    assert_reversible(lambda order: 23 - order)


def test_deletion_of_the_most_relevant_would_be_noticed() -> None:
    with pytest.raises(AssertionError):
        assert_reversible(lambda order: order)


def test_subjects_are_the_methods_and_all_controls() -> None:
    with context_of(Weighted(descending(4, 6)), PIXELS, MAPS, control_draws=5) as context:
        found = context.once(subjects)
        assert list(found)[:2] == ["a", "b"]
        assert set(found) == {"a", "b", *CONTROLS}
        draws = {name: len(maps) for name, maps in found.items()}
        assert draws == {
            "a": 1,
            "b": 1,
            "smooth-random": 20,
            "random": 5,
            "edges": 1,
            "centre": 1,
        }
        together = every_map(context)
        assert together.shape == (29, 4, 6)
        apart = by_subject(context, together.numpy())
    assert all(np.array_equal(apart[name], found[name].numpy()) for name in found)


def test_probabilities_are_of_the_class_explained() -> None:
    pixels = torch.rand(2, 3, 4, 6)
    with context_of(Compared(MASKS), PIXELS, MAPS, head="softmax") as context:
        found = target_probabilities(context, 2, lambda start, stop: pixels[start:stop])
        expected = context.classifier.probabilities(pixels)[:, 0]
    assert found.tolist() == pytest.approx(expected.tolist())
    assert found.dtype == np.float64


def test_curves_of_one_baseline_are_run_once() -> None:
    with context_of(Weighted(descending(4, 6)), PIXELS, MAPS) as context:
        counter = context.classifier.evaluator.counter
        first = context.once(deletion_curves, "black")
        spent = counter.forward
        assert context.once(deletion_curves, "black") is first
        assert counter.forward == spent
        context.once(deletion_curves, "mean")
        assert counter.forward == 2 * spent


def test_all_curves_share_both_ends() -> None:
    found = curves_of(insertion_curves, "image-mean")
    ends = {(float(row[0]), float(row[-1])) for rows in found.values.values() for row in rows}
    assert ends == {found.ends}
    assert found.fractions[[0, -1]].tolist() == [0, 1]
