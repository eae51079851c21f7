from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from metric_toys import Weighted, context_of, descending

from reportgen.classifier.evaluator import Counter
from reportgen.metrics import METRICS, Context, Shared
from reportgen.metrics.baselines import KINDS

PIXELS = torch.rand(3, 10, 14, generator=torch.Generator().manual_seed(0))
MAPS = {
    "a": torch.rand(10, 14, generator=torch.Generator().manual_seed(1)),
    "b": torch.rand(10, 14, generator=torch.Generator().manual_seed(2)),
}


class Model:
    """Counts passes, as a classifier's evaluator does, and keeps what metrics share."""

    def __init__(self) -> None:
        self.counter = Counter()
        self.shared = Shared(self.counter)
        self.made: list[str] = []

    def spend(self, forward: int, backward: int = 0) -> None:
        self.counter.forward += forward
        self.counter.backward += backward


def leaf(model: Model, size: int = 3) -> int:
    model.spend(size, 1)
    model.made.append(f"leaf {size}")
    return size


def branch(model: Model) -> int:
    model.spend(10)
    return model.shared.once(leaf, model, 3) + 1


def other_branch(model: Model) -> int:
    return model.shared.once(leaf, model, 3) + model.shared.once(leaf, model, 4)


def test_a_result_is_made_once_for_its_arguments() -> None:
    model = Model()
    found = [model.shared.once(leaf, model, size) for size in (3, 4, 3)]
    assert found == [3, 4, 3]
    assert model.made == ["leaf 3", "leaf 4"]


def test_results_are_the_same_object() -> None:
    model = Model()

    def make(context: object) -> list[int]:
        return []

    assert model.shared.once(make, model) is model.shared.once(make, model)


def costs(model: Model, run: Callable[[], object]) -> tuple[int, int, int, int]:
    with model.shared.costing() as cost:
        run()
    found = cost()
    return found.forward, found.backward, found.shared_forward, found.shared_backward


def test_own_passes_are_not_shared() -> None:
    model = Model()
    assert costs(model, lambda: model.spend(5, 2)) == (5, 2, 0, 0)


def test_shared_passes_count_whole_for_all_who_read_them() -> None:
    model = Model()

    def run() -> None:
        model.spend(5)
        model.shared.once(leaf, model, 3)

    assert costs(model, run) == (8, 1, 3, 1)
    assert costs(model, run) == (8, 1, 3, 1)
    assert model.counter.forward == 5 + 3 + 5


def test_what_a_shared_result_needs_counts_once_for_a_reader_of_both() -> None:
    model = Model()

    def run() -> None:
        model.shared.once(branch, model)
        model.shared.once(leaf, model, 3)

    assert costs(model, run) == (13, 1, 13, 1)
    assert costs(model, lambda: model.shared.once(branch, model)) == (13, 1, 13, 1)
    assert costs(model, lambda: model.shared.once(leaf, model, 3)) == (3, 1, 3, 1)


def test_parts_made_earlier_count_for_what_is_built_on_them() -> None:
    model = Model()
    assert costs(model, lambda: model.shared.once(other_branch, model)) == (7, 2, 7, 2)
    assert costs(model, lambda: model.shared.once(branch, model)) == (13, 1, 13, 1)
    assert model.made == ["leaf 3", "leaf 4"]


def test_a_failure_is_not_kept_and_the_next_costs_are_right() -> None:
    model = Model()

    def failing(context: Model) -> int:
        context.spend(2)
        if len(context.made) == 0:
            context.made.append("failed")
            raise ValueError("once")
        return 1

    def run() -> None:
        with pytest.raises(ValueError, match="once"):
            model.shared.once(failing, model)

    assert costs(model, run)[0] == 2
    assert model.shared.once(failing, model) == 1
    assert costs(model, lambda: model.spend(4)) == (4, 0, 0, 0)


FAITHFULNESS = (
    "deletion",
    "insertion",
    "aopc",
    "baselines",
    "road",
    "confidence",
    "correlation",
    "infidelity",
)
STEPS, SHARES, SAMPLES, RANDOM = 4, 2, 30, 2
EVERY_MAP = len(MAPS) + 20 + RANDOM + 2


def run_all(context: Context, metrics: tuple[str, ...]) -> dict[str, int]:
    """Return the forward passes that each metric says it has cost, all run one after another."""
    found = {}
    for metric in metrics:
        with context.shared.costing() as cost:
            METRICS[metric].measure(context)
        found[metric] = cost().forward
    return found


def assert_nothing_is_run_twice(metrics: tuple[str, ...]) -> dict[str, int]:
    options = {
        "deletion_baseline": "mean",
        "insertion_baseline": "blur",
        "curve_steps": STEPS,
        "road_shares": "0.3,0.6",
        "fidelity_samples": SAMPLES,
        "control_draws": RANDOM,
    }
    with context_of(Weighted(descending(10, 14)), PIXELS, MAPS, **options) as context:
        costs_ = run_all(context, metrics)
        total = context.classifier.evaluator.counter.forward
    curves = 2 + EVERY_MAP * (STEPS - 1)
    # Deletion under four baselines, insertion under two, and each set of samples once.
    expected = (len(KINDS) + 2) * curves
    expected += 2 * SHARES * EVERY_MAP + EVERY_MAP + 2 * SAMPLES + SAMPLES
    assert total == expected
    return costs_


def test_the_faithfulness_metrics_share_all_they_can() -> None:
    found = assert_nothing_is_run_twice(FAITHFULNESS)
    curves = 2 + EVERY_MAP * (STEPS - 1)
    assert found == {
        "deletion": curves,
        "insertion": curves,
        "aopc": 2 * curves,
        "baselines": 4 * curves,
        "road": 2 * SHARES * EVERY_MAP,
        "confidence": EVERY_MAP,
        "correlation": 2 * SAMPLES,
        "infidelity": SAMPLES,
    }


def test_the_order_of_metrics_changes_no_cost() -> None:
    found = assert_nothing_is_run_twice(FAITHFULNESS)
    assert assert_nothing_is_run_twice(FAITHFULNESS[::-1]) == found


def test_a_metric_that_runs_its_own_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Context, "once", lambda self, make, *rest: make(self, *rest))
    with pytest.raises(AssertionError):
        assert_nothing_is_run_twice(FAITHFULNESS)
