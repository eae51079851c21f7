"""What a method's work is planned to be, against what the evaluator counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from attending import explained_by
from torch import nn
from toys import (
    FORMATS,
    FunctionalRelu,
    Linear,
    OnlyBatchesOf,
    Pointwise,
    Shape,
    TinyViT,
    classified,
    eager,
    pictures,
    request,
    seeded,
    squares,
)

import reportgen
from reportgen.attribution import METHODS
from reportgen.attribution.base import Explained, Request
from reportgen.classifier.classifier import Classifier
from reportgen.config import Config, load_config
from reportgen.records import Measurement
from reportgen.work import Size, Work

FEW = {
    "lime_samples": 30,
    "shap_evals": 30,
    "ig_steps": 20,
    "smoothgrad_draws": 3,
    "gradient_shap_draws": 6,
    "occlusion_cells": 4,
    "rise_masks": 30,
    "batch_size": 32,
    "device": "cpu",
}
# Odd numbers, small batches, and more evaluations and positions than small pictures have room for.
MORE = {
    "lime_samples": 41,
    "shap_evals": 163,
    "ig_steps": 23,
    "smoothgrad_draws": 7,
    "gradient_shap_draws": 11,
    "occlusion_cells": 15,
    "rise_masks": 33,
    "batch_size": 5,
    "device": "cpu",
}
# Two pictures list the layers, one gives the scores, one the gradients of two classes, four have
# spots; each map is compared by four, beside two of all and nothing; five maps are random, and four
# layers at most have one.
MOST_FOR_A_LAYER = Work(2 + 1 + 1 + 4 + 2 + 4 * (5 + 4), 2)
# Two more give its shape, and one layer is all there is to compare.
FOR_A_NAMED_LAYER = Work(4 + 1 + 1 + 4 + 2 + 4 * (5 + 1), 2)
SHAPES: dict[str, Shape] = {
    "tiny": (3, 8, 8),
    "colour": (3, 16, 16),
    "grey": (1, 16, 16),
    "wide": (3, 12, 20),
    "large": (3, 24, 32),
}

every_method = pytest.mark.parametrize("method", METHODS)
every_setting = pytest.mark.parametrize("options", [FEW, MORE], ids=["few", "more"])
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def size_of(asked: Request) -> Size:
    """Return what the work depends on, and have the layer found."""
    height, width = asked.pixels.shape[-2:]
    layer = asked.layer()
    activation = asked.classifier.evaluator.features(asked.pixels[:1], layer)
    channels = layer.grid.spatial(activation).shape[1]
    return Size(height, width, int(asked.segments.max()) + 1, channels)


def explained(method: str, asked: Request) -> tuple[Work, Explained]:
    """Return what the evaluator counts while the maps are made, and the maps."""
    counter = asked.classifier.evaluator.counter
    before = (counter.forward, counter.backward)
    found = METHODS[method].explain(asked)
    return Work(counter.forward - before[0], counter.backward - before[1]), found


def doublings(checks: Iterable[Measurement], steps: int) -> Work:
    """Return what Integrated Gradients added because the first map did not add up."""
    tried = (int(check.detail.get("most steps tried", steps)) for check in checks)
    return Work(1, 1) * (2 * (max(tried, default=steps) - steps))


def counted(method: str, asked: Request) -> Work:
    """Return what is counted for one picture, without doublings, which nobody can foresee.

    None are planned from 20 steps on.
    """
    found, maps = explained(method, asked)
    return found + doublings(maps.checks, asked.config.ig_steps) * -1


def bounds(method: str, planned: Work, config: Config, size: Size) -> tuple[Work, Work]:
    """Return the least and the most that may be counted by what the method's docstring says."""
    if method == "shap":
        most = config.shap_evals + config.shap_evals % 2 - 2
        # A tree whose halves are all alike has the fewest splits.
        balanced = -(-2 * (size.segments**2 - 1) // 3)
        return Work(4 + min(most, balanced)), Work(4 + most)
    return planned, planned


def between(least: Work, found: Work, most: Work) -> bool:
    return (
        least.forward <= found.forward <= most.forward
        and least.backward <= found.backward <= most.backward
    )


def check(method: str, planned: Work, found: Work, config: Config, size: Size) -> None:
    least, most = bounds(method, planned, config, size)
    assert between(least, planned, most)
    assert between(least, found, most)


def asked_of(classifier: Classifier, config: Config, shape: Shape, count: int = 1) -> Request:
    return request(classifier, pictures(count, *shape), 1, config)


@every_method
@every_setting
@every_shape
def test_what_is_planned_is_counted(method: str, options: dict[str, int], shape: Shape) -> None:
    config = load_config(flags=options)
    network = explained_by(method, shape[0])
    with classified(network, shape, batch_size=options["batch_size"]) as classifier:
        asked = asked_of(classifier, config, shape)
        size = size_of(asked)
        found = counted(method, asked)
    check(method, METHODS[method].work(config, size), found, config, size)


@every_method
@pytest.mark.parametrize("wrong", [Work(1), Work(0, 1)], ids=["forward", "backward"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_wrong_plan_is_found_out(method: str, wrong: Work, sign: int) -> None:
    config, shape = load_config(flags=FEW), SHAPES["colour"]
    with classified(explained_by(method), shape) as classifier:
        asked = asked_of(classifier, config, shape)
        size = size_of(asked)
        found = counted(method, asked)
    planned = METHODS[method].work(config, size) + wrong * sign
    with pytest.raises(AssertionError):
        check(method, planned, found, config, size)


@every_method
def test_two_pictures_are_twice_the_work(method: str) -> None:
    config, shape = load_config(flags=FEW), SHAPES["wide"]
    with classified(explained_by(method), shape) as classifier:
        asked = asked_of(classifier, config, shape, count=2)
        size = size_of(asked)
        both, _ = explained(method, asked)
        alone = [replace(asked, pixels=pixels[None]) for pixels in asked.pixels]
        assert both == explained(method, alone[0])[0] + explained(method, alone[1])[0]
        found = counted(method, alone[1])
    check(method, METHODS[method].work(config, size), found, config, size)


@every_method
@pytest.mark.parametrize("segments", [2, 6, 11])
def test_any_number_of_segments(method: str, segments: int) -> None:
    config, shape = load_config(flags={**FEW, "shap_evals": 64}), (3, 16, segments * 4)
    with classified(explained_by(method), shape) as classifier:
        asked = replace(asked_of(classifier, config, shape), segments=squares(*shape[1:], 4)[:1])
        asked = replace(asked, segments=np.repeat(asked.segments, shape[1], axis=0))
        size = size_of(asked)
        found = counted(method, asked)
    assert size.segments == segments
    check(method, METHODS[method].work(config, size), found, config, size)


@every_method
@pytest.mark.parametrize("batch", [1, 4])
def test_what_fills_up_a_fixed_batch_is_not_planned(method: str, batch: int) -> None:
    config, shape = load_config(flags={**FEW, "batch_size": batch}), SHAPES["colour"]
    network = OnlyBatchesOf(explained_by(method), batch)
    with classified(network, shape, fixed_batch=batch, batch_size=batch) as classifier:
        asked = asked_of(classifier, config, shape)
        size = size_of(asked)
        found = counted(method, asked)
    planned = METHODS[method].work(config, size)
    if method == "ablationcam":
        assert between(planned + Work(3 * batch) * -1, found, planned)
        return
    check(method, planned, found, config, size)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("batch", [1, 2, 16])
def test_ablation_differs_by_batches_between_formats(form: str, batch: int) -> None:
    config, shape = load_config(flags={**FEW, "batch_size": batch}), SHAPES["colour"]
    network = FORMATS[form](seeded(FunctionalRelu), shape)
    with classified(network, shape, batch_size=batch) as classifier:
        asked = asked_of(classifier, config, shape)
        size = size_of(asked)
        found = counted("ablationcam", asked)
    planned = METHODS["ablationcam"].work(config, size)
    assert between(planned + Work(3 * batch) * -1, found, planned)
    assert form != eager.__name__ or batch == 1 or found == planned


def test_a_path_that_adds_up_at_once_has_the_steps_asked_for() -> None:
    config, shape = load_config(flags=MORE), SHAPES["colour"]
    with classified(Linear(torch.ones(shape) / 768), shape) as classifier:
        found, _ = explained("integrated-gradients", asked_of(classifier, config, shape))
    assert found == METHODS["integrated-gradients"].work(config, Size(16, 16, 16, 1))
    assert found == Work(25, 23)


def test_a_path_that_never_adds_up_has_seven_times_as_many() -> None:
    config, shape = load_config(flags={**FEW, "ig_steps": 3}), SHAPES["colour"]
    with classified(Pointwise(lambda x: torch.sin(40 * x)), shape) as classifier:
        asked = asked_of(classifier, config, shape)
        found, maps = explained("integrated-gradients", asked)
    assert found == Work(2 + 7 * 3, 7 * 3)
    assert doublings(maps.checks, 3) == Work(6 * 3, 6 * 3)
    assert found == METHODS["integrated-gradients"].work(config, Size(16, 16, 16, 1))


@pytest.mark.parametrize(("steps", "planned"), [(2, 14), (8, 56), (9, 63), (10, 30), (20, 20)])
def test_steps_are_doubled_to_the_papers_fewest(steps: int, planned: int) -> None:
    config = Config(ig_steps=steps)
    found = METHODS["integrated-gradients"].work(config, Size(16, 16, 16, 1))
    assert found == Work(2 + planned, planned)


@pytest.mark.parametrize("make", [FunctionalRelu, TinyViT])
@pytest.mark.parametrize("form", FORMATS)
def test_finding_the_layer_costs_no_more_than_is_known(
    form: str, make: Callable[[], nn.Module]
) -> None:
    shape = SHAPES["colour"]
    with classified(FORMATS[form](seeded(make), shape), shape) as classifier:
        counter, config = classifier.evaluator.counter, Config()
        name = asked_of(classifier, config, shape).layer().name
        found = Work(counter.forward, counter.backward)
        assert between(Work(30, 2), found, MOST_FOR_A_LAYER)
        asked_of(classifier, config, shape).layer()
        assert Work(counter.forward, counter.backward) == found
        named = Config(layer=name)
        asked_of(classifier, named, shape).layer()
    spent = Work(counter.forward, counter.backward) + found * -1
    assert spent == FOR_A_NAMED_LAYER


@pytest.mark.parametrize("options", [FEW, MORE], ids=["few", "more"])
def test_a_report_makes_the_passes_that_are_planned(options: dict[str, int]) -> None:
    flags = {**options, "methods": "all", "metrics": "", "size": "24x32", "segments": 16}
    config = load_config(flags=flags)
    picture = (pictures(1, 3, 24, 32)[0].permute(1, 2, 0) * 255).byte().numpy()
    explanation = reportgen.explain(seeded(FunctionalRelu), picture, flags)
    report = explanation.report
    size = Size(24, 32, int(explanation.arrays["segments.lime"].max()) + 1, 6)
    skipped = {skipped.step for skipped in report.skipped}
    assert skipped == {"attention-rollout", "attention-relevance"}  # this is no transformer
    passes = {p.stage: Work(p.forward, p.backward) for p in report.provenance.passes}
    passes["integrated-gradients"] += doublings(report.measurements, config.ig_steps) * -1
    for name, method in METHODS.items():
        if name in skipped:
            continue
        planned = method.work(config, size)
        if name == next(iter(METHODS)):  # it looks for the layer
            assert between(planned, passes[name], planned + MOST_FOR_A_LAYER)
            continue
        check(name, planned, passes[name], config, size)
