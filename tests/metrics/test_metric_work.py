"""What every entry of METRICS says that it will cost, against what is counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from metric_toys import context_of
from torch import Tensor, nn
from toys import pictures, seeded

from reportgen.attribution import METHODS, Request, layer_finder
from reportgen.config import Config
from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Context
from reportgen.metrics.base import Explain, Plan
from reportgen.metrics.destroyed import COPIES
from reportgen.metrics.planning import planned
from reportgen.metrics.repeats import SAMPLED
from reportgen.metrics.sampling import SEARCH_FACTORS, SEARCH_SEEDS
from reportgen.work import Size, Work

CASES: Mapping[str, Mapping[str, Any]] = {
    "colour": {
        "methods": "gradcam,lime,gradient-shap,scorecam",
        "curve_steps": 4,
        "control_draws": 2,
        "rotation_step": 30.0,
        "noise_draws": 1,
        "fidelity_samples": 20,
        "stability_seeds": 2,
        "sanity_stages": 2,
        "road_shares": "0.3,0.6",
        "lime_samples": 40,
        "sensitivity_samples": 10,
        "gradient_shap_draws": 5,
        "sensitivity_steps": 3,
        "sensitivity_draws": 1,
    },
    "grey": {
        "methods": "smoothgrad,lime,rise",
        "curve_steps": 7,
        "control_draws": 1,
        "rotation_step": 25.0,
        "noise_draws": 2,
        "fidelity_samples": 33,
        "stability_seeds": 3,
        "sanity_stages": 3,
        "road_shares": "0.5",
        "insertion_baseline": "blur",
        "lime_samples": 60,
        "rise_masks": 20,
        "sensitivity_samples": 15,
        "smoothgrad_draws": 3,
        "sensitivity_steps": 2,
        "sensitivity_draws": 3,
        "null_maps": 21,
    },
}
SHAPES = {"colour": (3, 12, 16), "grey": (1, 14, 10)}
# For each direction in which nothing changes: two rounds of sixteen angles, and the new class.
UNTURNED = 2 * 16 + 1
NOTHING = Work()

every_metric = pytest.mark.parametrize("metric", METRICS)
every_case = pytest.mark.parametrize("case", CASES)


class Normalised(nn.Module):
    """Running statistics follow every weight, so that each draw of weights estimates them anew.

    The scores are odd in what is right and left, so that half a turn changes the class.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4))
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6))
        self.scores = nn.Sequential(nn.Linear(6, 3, bias=False), nn.BatchNorm1d(3))

    def forward(self, x: Tensor) -> Tensor:
        features = self.second(self.first(x).relu()).relu()
        across = torch.linspace(-1, 1, features.shape[-1])
        return self.scores((features * across).mean((2, 3)))


class Plain(nn.Module):
    """Has no running statistics."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3, 2, 1)
        self.scores = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.conv(x).relu().mean((2, 3)))


class Sure(Plain):
    """Its mind is made up, whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.tensor([99.0, 0.0, 0.0])


@dataclass(frozen=True)
class Ready:
    """A context, its plan, and what has been counted since it was made."""

    context: Context
    plan: Plan

    def cost(self, metric: str) -> Work:
        """Return what measuring the metric sends through the network."""
        counter = self.context.classifier.evaluator.counter
        before = (counter.forward, counter.backward)
        METRICS[metric].measure(self.context)
        return Work(counter.forward - before[0], counter.backward - before[1])


def explainer(context: Context) -> Explain:
    """Return what explains as the pipeline does, the layer found already."""
    target = context.prediction.target.index
    layer = layer_finder(context.classifier, context.pixels, target)
    layer()

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        index = int(config.target or target)
        segments = context.segments.numpy()
        request = Request(context.classifier, pixels, index, config, config.seed, segments, layer)
        return METHODS[method].explain(request).maps

    return explain


def plan_of(context: Context, layer_channels: int = 6) -> Plan:
    height, width = context.pixels.shape[-2:]
    size = Size(height, width, int(context.segments.max()) + 1, layer_channels)
    return Plan(
        config=context.config,
        methods=tuple(context.maps),
        cards=context.cards,
        size=size,
        explain=lambda method, config: METHODS[method].work(config, size),
        mask=context.mask is not None,
    )


@contextmanager
def ready(
    case: str, model: type[nn.Module] = Normalised, methods: str | None = None, **options: Any
) -> Iterator[Ready]:
    """Yield the context of a case's network and of its methods' own maps, and its plan."""
    shape = SHAPES[case]
    chosen = {**CASES[case], **options}
    names = (chosen["methods"] if methods is None else methods).split(",")
    network = seeded(lambda: model(shape[0]))
    mask = torch.ones(shape[1:], dtype=torch.bool)
    mask[2:5] = False
    with context_of(network, pictures(1, *shape)[0], {}, head="softmax", **chosen) as bare:
        explain = explainer(bare)
        maps = {name: explain(name, bare.pixels[None], bare.config)[0] for name in names if name}
        cards = {name: METHODS[name].card for name in maps}
        full = replace(bare, maps=maps, cards=cards, explain=explain, mask=mask)
        yield Ready(full, plan_of(full))


def within(found: Work, plan: Work, more: Work = NOTHING) -> bool:
    """Return whether the passes found are those planned, or up to as many ``more``."""
    most = plan + more
    forward = plan.forward <= found.forward <= most.forward
    return forward and plan.backward <= found.backward <= most.backward


def alone(metric: str, plan: Plan) -> Work:
    return planned({metric: METRICS[metric]}, plan)[metric]


def more(metric: str, plan: Plan) -> Work:
    """Return what may come on top: the search for the counts of methods that are unstable."""
    if metric != "sampling-stability":
        return NOTHING
    return sum((search(plan, SAMPLED[m], m) for m in plan.methods if m in SAMPLED), NOTHING)


def search(plan: Plan, option: str, method: str) -> Work:
    counts = (getattr(plan.config, option) * factor for factor in SEARCH_FACTORS)
    configs = (plan.config.model_copy(update={option: count}) for count in counts)
    return sum((plan.explain(method, config) * SEARCH_SEEDS for config in configs), NOTHING)


@every_metric
@every_case
def test_it_costs_what_was_planned(metric: str, case: str) -> None:
    with ready(case) as found:
        plan = alone(metric, found.plan)
        assert within(found.cost(metric), plan, more(metric, found.plan))


@every_case
def test_together_each_costs_what_was_planned(case: str) -> None:
    with ready(case) as found:
        plans = planned(METRICS, found.plan)
        for metric, plan in plans.items():
            assert within(found.cost(metric), plan, more(metric, found.plan)), metric
        saved = sum((alone(metric, found.plan) for metric in METRICS), NOTHING)
        assert sum(plans.values(), NOTHING).forward < saved.forward


def test_a_wrong_plan_is_seen() -> None:
    with ready("colour") as found:
        plan, cost = alone("deletion", found.plan), found.cost("deletion")
        assert within(cost, plan)
        assert not within(cost, plan + Work(1))
        assert not within(cost, plan + Work(0, 1))
        assert within(cost + Work(2, 1), plan, Work(2, 1))
        assert not within(cost + Work(3, 1), plan, Work(2, 1))
        assert not within(cost + Work(2, 2), plan, Work(2, 1))


def test_a_wrong_name_is_seen() -> None:
    def misnamed(plan: Plan) -> Mapping[str, Work]:
        return {f"my {name}": work for name, work in METRICS["aopc"].work(plan).items()}

    with ready("colour") as found:
        wrong = {**METRICS, "aopc": replace(METRICS["aopc"], work=misnamed)}
        plans = planned(wrong, found.plan)
        costs = {metric: found.cost(metric) for metric in ("deletion", "insertion", "aopc")}
        assert costs["aopc"] == planned(METRICS, found.plan)["aopc"] == NOTHING
        assert costs["aopc"] != plans["aopc"]


@every_case
def test_a_computation_of_one_name_costs_the_same_in_all_metrics(case: str) -> None:
    with ready(case) as found:
        works: dict[str, Work] = {}
        for metric in METRICS.values():
            for name, work in metric.work(found.plan).items():
                assert works.setdefault(name, work) == work


@every_metric
def test_without_maps_only_the_prediction_costs_anything(metric: str) -> None:
    with ready("grey", methods="") as found:
        plan = alone(metric, found.plan)
        if metric in {"rotation", "noise"}:
            assert within(found.cost(metric), plan, more(metric, found.plan))
            return
        with pytest.raises(NotApplicable):
            METRICS[metric].measure(found.context)
        assert plan == NOTHING


@pytest.mark.parametrize(("metric", "states"), [("randomisation", 1), ("cascading", 3)])
def test_without_running_statistics_the_copies_are_saved(metric: str, states: int) -> None:
    with ready("colour", Plain) as found:
        plan = alone(metric, found.plan)
        assert found.cost(metric) == Work(plan.forward - states * COPIES, plan.backward)


def test_a_picture_that_never_changes_class_is_not_turned_further() -> None:
    with ready("grey", Sure) as found:
        plan = alone("rotation", found.plan)
        assert found.cost("rotation") == Work(plan.forward - 2 * UNTURNED)


def test_a_picture_of_few_pixels_has_short_curves() -> None:
    with ready("grey", methods="smoothgrad", curve_steps=500) as found:
        height, width = SHAPES["grey"][1:]
        plan = alone("deletion", found.plan)
        assert plan.forward < height * width * 30
        assert found.cost("deletion") == plan
