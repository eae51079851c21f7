from __future__ import annotations

import numpy as np
import pytest
import torch
from metric_toys import Constant, Weighted, context_of, descending, one, quadrant_mask, uniform
from torch import Tensor, nn

from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Measured
from reportgen.metrics.fidelity import normalised_area
from reportgen.records import Measurement

WHITE = torch.ones(1, 4, 6)
EXACT = 1e-6


def measured(metric: str, network: nn.Module, pixels: Tensor, maps: dict[str, Tensor], **options):
    with context_of(network, pixels, maps, **{"control_draws": 1, **options}) as context:
        return METRICS[metric].measure(context)


def found(result: Measured, subject: str = "map", metric: str = "") -> Measurement:
    """Return the measurement of a subject: the metric's first one, or the one that is named."""
    metric = metric or result.measurements[0].metric
    return next(m for m in result.measurements if (m.metric, m.subject) == (metric, subject))


def auc(metric: str, network: nn.Module, values: Tensor, steps: int, pixels: Tensor = WHITE):
    return found(measured(metric, network, pixels, {"map": values}, curve_steps=steps)).value


def test_one_pixel_deleted_first_leaves_half_a_step() -> None:
    values = torch.zeros(4, 6)
    values[2, 3] = 1
    network, count = one(4, 6, 2, 3), 24
    assert auc("deletion", network, values, count) == pytest.approx(1 / (2 * count), abs=EXACT)
    assert auc("insertion", network, values, count) == pytest.approx(1 - 1 / (2 * count), abs=EXACT)


@pytest.mark.parametrize("seed", range(3))
def test_a_uniform_model_gives_one_half_for_any_order(seed: int) -> None:
    values = torch.rand(4, 6, generator=torch.Generator().manual_seed(seed))
    for metric in ("deletion", "insertion"):
        assert auc(metric, uniform(4, 6), values, 24) == pytest.approx(0.5, abs=EXACT)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (4, 6)])
def test_descending_weights_in_perfect_order(height: int, width: int) -> None:
    weights, count = descending(height, width), height * width
    network, white = Weighted(weights), torch.ones(1, height, width)
    deletion = auc("deletion", network, weights, count, white)
    insertion = auc("insertion", network, weights, count, white)
    assert deletion == pytest.approx((2 * count + 1) / (6 * count), abs=EXACT)
    assert insertion == pytest.approx((4 * count - 1) / (6 * count), abs=EXACT)


def test_four_descending_weights_are_three_eighths_and_five() -> None:
    weights = descending(2, 2)
    white = torch.ones(1, 2, 2)
    assert auc("deletion", Weighted(weights), weights, 4, white) == pytest.approx(0.375, abs=EXACT)
    assert auc("insertion", Weighted(weights), weights, 4, white) == pytest.approx(0.625, abs=EXACT)


@pytest.mark.parametrize("steps", [4, 8, 16])
def test_the_quadrant_is_exact_for_steps_that_divide_it(steps: int) -> None:
    mask, white = quadrant_mask(8), torch.ones(1, 8, 8)
    network = Weighted(mask / mask.sum())
    assert auc("deletion", network, mask, steps, white) == pytest.approx(1 / 8, abs=EXACT)
    assert auc("insertion", network, mask, steps, white) == pytest.approx(7 / 8, abs=EXACT)
    assert auc("deletion", network, -mask, steps, white) == pytest.approx(7 / 8, abs=EXACT)


def test_two_steps_are_too_few_for_the_quadrant() -> None:
    mask, white = quadrant_mask(8), torch.ones(1, 8, 8)
    network = Weighted(mask / mask.sum())
    assert auc("deletion", network, mask, 2, white) == pytest.approx(0.25, abs=EXACT)
    assert auc("insertion", network, mask, 2, white) == pytest.approx(0.75, abs=EXACT)


def test_random_orders_give_one_half_on_average() -> None:
    mask, white = quadrant_mask(8), torch.ones(1, 8, 8)
    maps = {"map": mask}
    result = measured(
        "deletion", Weighted(mask / mask.sum()), white, maps, control_draws=200, curve_steps=8
    )
    control = found(result, "random")
    draws = np.asarray(control.detail["draws"])
    assert len(draws) == 200
    assert abs(draws.mean() - 0.5) < 3 * draws.std() / np.sqrt(200)
    assert control.interval == (draws.min(), draws.max())
    assert control.value == pytest.approx(draws.mean())


def test_a_constant_map_is_no_raster_order() -> None:
    mask, white = quadrant_mask(16), torch.ones(1, 16, 16)
    network = Weighted(mask / mask.sum())
    flat = torch.zeros(16, 16)
    # In raster order it would be 0.25. A random order is 0.5, with a spread of about 0.03 here.
    aucs = [
        found(measured("deletion", network, white, {"map": flat}, seed=seed)).value
        for seed in range(8)
    ]
    assert abs(np.mean(aucs) - 0.5) < 0.05
    assert len(set(aucs)) == 8


def test_scale_and_offset_of_a_map_change_nothing() -> None:
    values = torch.rand(4, 6, generator=torch.Generator().manual_seed(1))
    network = Weighted(descending(4, 6))
    maps = {"map": values, "moved": 5 * values + 3, "reversed": -values}
    result = measured("deletion", network, WHITE, maps, curve_steps=24)
    assert found(result, "moved").value == found(result).value
    assert found(result, "reversed").value != found(result).value


def test_picture_and_map_may_be_flipped_together() -> None:
    generator = torch.Generator().manual_seed(2)
    pixels, values = torch.rand(1, 4, 6, generator=generator), torch.rand(4, 6, generator=generator)
    weights = descending(4, 6)
    symmetric = Weighted((weights + weights.flip(-1)) / 2)
    plain = auc("deletion", symmetric, values, 24, pixels)
    flipped = auc("deletion", symmetric, values.flip(-1), 24, pixels.flip(-1))
    assert flipped == pytest.approx(plain, abs=EXACT)
    assert auc("deletion", symmetric, values.flip(0), 24, pixels) != pytest.approx(plain, abs=1e-3)


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
def test_the_batch_size_changes_nothing(metric: str) -> None:
    values = torch.rand(4, 6, generator=torch.Generator().manual_seed(3))
    results = [
        measured(metric, Weighted(descending(4, 6)), WHITE, {"map": values}, batch_size=size)
        for size in (1, 7, 64)
    ]
    first = [m.value for m in results[0].measurements]
    for result in results[1:]:
        assert [m.value for m in result.measurements] == pytest.approx(first, abs=EXACT)


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
def test_passes_are_two_ends_and_the_inner_steps_of_each_map(metric: str) -> None:
    maps = {"a": torch.rand(4, 6), "b": torch.rand(4, 6)}
    with context_of(uniform(4, 6), WHITE, maps, curve_steps=6, control_draws=3) as context:
        METRICS[metric].measure(context)
        # Two methods, twenty smooth random maps, three random ones, edges and centre.
        assert context.classifier.evaluator.counter.forward == 2 + (2 + 20 + 3 + 2) * (6 - 1)


def test_curves_start_and_end_where_the_detail_says() -> None:
    pixels, values = torch.full((1, 4, 6), 0.8), descending(4, 6)
    result = measured("deletion", uniform(4, 6), pixels, {"map": values}, curve_steps=5)
    curve = result.arrays["curve.deletion.map"]
    assert curve.shape == (2, 6)
    assert (curve[0, 0], curve[0, -1]) == (0, 1)
    detail = found(result).detail
    assert detail["first probability"] == pytest.approx(0.8)
    assert detail["last probability"] == 0
    assert found(result).value == pytest.approx(0.4, abs=EXACT)
    normalised = found(result, metric="deletion_normalised")
    assert normalised.value == pytest.approx(0.5, abs=EXACT)
    assert not normalised.note


@pytest.mark.parametrize(
    ("whole", "baseline", "expected"),
    [
        (0.9, 0.1, 0.5),
        (0.1, 0.9, 0.5),
        (0.9, 0.3, 1 / 3),
        (0.05, 0.0, None),
        (0.0, 0.05, None),
        (0.0625, 0.0, 8.0),
    ],
)
def test_the_normalised_area_needs_ends_that_differ(
    whole: float, baseline: float, expected: float | None
) -> None:
    assert normalised_area(0.5, whole, baseline) == (
        None if expected is None else pytest.approx(expected)
    )


@pytest.mark.parametrize(("metric", "best"), [("deletion", 1 / 8), ("insertion", 7 / 8)])
def test_a_dim_picture_on_a_grey_baseline_is_normalised_to_the_same_area(
    metric: str, best: float
) -> None:
    mask, kind = quadrant_mask(8), "image-mean"
    pixels = torch.where(mask > 0, 0.9, 0.1)[None]
    options = {"deletion_baseline": kind, "insertion_baseline": kind, "curve_steps": 8}
    result = measured(metric, Weighted(mask / mask.sum()), pixels, {"map": mask}, **options)
    # The probability is 0.9 on the picture and 0.3 on its mean colour.
    assert found(result).value == pytest.approx(0.3 + best * 0.6, abs=EXACT)
    normalised = found(result, metric=f"{metric}_normalised")
    assert normalised.value == pytest.approx(best, abs=EXACT)


def test_a_baseline_that_the_model_prefers_has_no_normalised_area() -> None:
    dark = torch.zeros(1, 4, 6)
    maps = {"map": descending(4, 6)}
    result = measured("deletion", uniform(4, 6), dark, maps, deletion_baseline="noise")
    assert found(result).value is not None
    normalised = found(result, metric="deletion_normalised")
    assert normalised.value is None
    assert "higher on the baseline" in normalised.note


def test_a_constant_model_has_no_normalised_area() -> None:
    result = measured("deletion", Constant(), WHITE, {"map": torch.rand(4, 6)})
    areas = [m for m in result.measurements if m.metric == "deletion"]
    normalised = [m for m in result.measurements if m.metric == "deletion_normalised"]
    assert {m.value for m in areas} == {0.75}
    assert {m.value for m in normalised} == {None}
    assert all("0.05 or less" in m.note for m in normalised)
    assert {m.yardstick for m in normalised} == {None}


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
def test_the_perfect_map_is_placed_above_every_smooth_random_one(metric: str) -> None:
    mask, white = quadrant_mask(8), torch.ones(1, 8, 8)
    maps = {"map": mask, "anti": -mask}
    result = measured(metric, Weighted(mask / mask.sum()), white, maps, curve_steps=8)
    for key in (metric, f"{metric}_normalised"):
        best, worst = found(result, "map", key).yardstick, found(result, "anti", key).yardstick
        assert best is not None
        assert worst is not None
        assert (best.maps, best.percentile, best.p) == (20, 1, 1 / 21)
        assert (worst.percentile, worst.p) == (0, 1)
    nulls = found(result, "smooth-random")
    assert nulls.yardstick is None
    draws = np.asarray(nulls.detail["draws"])
    assert best.mean == pytest.approx(draws.mean())
    assert best.sd == pytest.approx(draws.std(ddof=1))


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
def test_without_maps_no_pass_is_spent(metric: str) -> None:
    with context_of(uniform(4, 6), WHITE, {}) as context:
        with pytest.raises(NotApplicable, match="no map"):
            METRICS[metric].measure(context)
        assert context.classifier.evaluator.counter.forward == 0
