from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from metric_toys import Compared, Constant, Weighted, context_of, descending, quadrant_mask
from torch import Tensor, nn

from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Measured
from reportgen.metrics.confidence import ROUNDING, changes, highlighted
from reportgen.records import Measurement

KEYS = ("average_drop", "increase_in_confidence", "average_gain")
PIXELS = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
MAP = torch.rand(8, 8, generator=torch.Generator().manual_seed(1))
EXACT = 1e-6

Changes = Callable[[float, np.ndarray], Mapping[str, np.ndarray]]


def measured(network: nn.Module, pixels: Tensor, maps: dict[str, Tensor], **options) -> Measured:
    with context_of(network, pixels, maps, **options) as context:
        return METRICS["confidence"].measure(context)


def found(result: Measured, metric: str, subject: str = "map") -> Measurement:
    return next(m for m in result.measurements if (m.metric, m.subject) == (metric, subject))


def values_of(result: Measured, subject: str = "map") -> list[float | None]:
    return [found(result, key, subject).value for key in KEYS]


def assert_definition(of: Changes) -> None:
    result = of(0.8, np.array([0.4, 0.8, 0.9, 0.0, 1.0]))
    assert result["average_drop"] == pytest.approx([0.5, 0, 0, 1, 0])
    assert result["increase_in_confidence"].tolist() == [0, 0, 1, 0, 1]
    assert result["average_gain"] == pytest.approx([0, 0, 0.5, 0, 1])


def test_the_numbers_are_those_of_the_papers() -> None:
    assert_definition(changes)


def absolute(whole: float, shown: np.ndarray) -> Mapping[str, np.ndarray]:
    """Fall short of dividing by Y, as the grad-cam library does."""
    return {**changes(whole, shown), "average_drop": np.maximum(0, whole - shown)}


def signed(whole: float, shown: np.ndarray) -> Mapping[str, np.ndarray]:
    """Take an increase that can be negative for the increase in confidence."""
    return {**changes(whole, shown), "increase_in_confidence": (shown - whole) / whole}


def undivided(whole: float, shown: np.ndarray) -> Mapping[str, np.ndarray]:
    return {**changes(whole, shown), "average_gain": np.maximum(0, shown - whole)}


@pytest.mark.parametrize("wrong", [absolute, signed, undivided])
def test_other_definitions_would_be_noticed(wrong: Changes) -> None:
    with pytest.raises(AssertionError):
        assert_definition(wrong)


def test_an_increase_is_zero_or_one_whatever_happens() -> None:
    shown = np.linspace(0, 1, 11)
    for whole in (0.0, 0.3, 1.0):
        assert set(changes(whole, shown)["increase_in_confidence"]) <= {0.0, 1.0}


def test_rounding_is_no_increase() -> None:
    result = changes(0.5, np.array([0.5 + ROUNDING / 2, 0.5 + 2 * ROUNDING]))
    assert result["increase_in_confidence"].tolist() == [0, 1]


def test_the_quadrants_own_map_loses_nothing() -> None:
    mask = quadrant_mask(8)
    maps = {"map": mask, "anti": 1 - mask}
    result = measured(Weighted(mask / mask.sum()), torch.full((1, 8, 8), 0.8), maps)
    assert values_of(result) == pytest.approx([0, 0, 0], abs=EXACT)
    assert values_of(result, "anti") == pytest.approx([1, 0, 0], abs=EXACT)
    detail = found(result, "average_drop").detail
    assert detail["probability on the highlighted picture"] == pytest.approx(0.8)
    assert detail["share of the picture shown"] == pytest.approx(0.25)
    # A smooth random map may show the quadrant, but never all of it fully.
    assert found(result, "average_drop").yardstick.percentile == 1


def half_shown() -> tuple[Tensor, Tensor]:
    """Return a map of 1/2 but for two pixels, 0 and 1, and weights that do not look at those."""
    values, weights = torch.full((8, 8), 0.5), torch.ones(8, 8)
    values[0, 0], values[0, 1] = 0, 1
    weights[0, :2] = 0
    return values, weights / weights.sum()


def test_half_of_the_light_is_half_of_a_linear_probability() -> None:
    values, weights = half_shown()
    result = measured(Weighted(weights), torch.full((1, 8, 8), 0.6), {"map": values})
    assert values_of(result) == pytest.approx([0.5, 0, 0], abs=EXACT)


def test_half_of_the_light_under_a_softmax_is_known() -> None:
    values, weights = half_shown()
    network = Compared(torch.stack([4 * weights, 0 * weights]))
    result = measured(network, torch.ones(1, 8, 8), {"map": values}, head="softmax")
    high, low = (1 / (1 + math.exp(-z)) for z in (4, 2))
    assert high - low == pytest.approx(0.1012, abs=1e-4)
    assert found(result, "average_drop").value == pytest.approx((high - low) / high, abs=EXACT)


def test_hiding_what_speaks_against_the_class_is_a_gain() -> None:
    mask = quadrant_mask(8)
    network = Weighted(mask / mask.sum() - (1 - mask) / 96)
    result = measured(network, torch.ones(1, 8, 8), {"map": mask})
    # The probability is 1 - 48 / 96 on the picture, and 1 where only the quadrant is left.
    assert values_of(result) == pytest.approx([0, 1, 1], abs=EXACT)


def assert_stretched(stretch: Callable[[Tensor], Tensor]) -> None:
    maps = torch.tensor([[[0.5, 1.0], [2.5, 1.5]], [[-3.0, 0.0], [1.0, 4.0]]])
    expected = torch.tensor([[[0, 0.25], [1, 0.5]], [[0, 0], [0.25, 1]]])
    torch.testing.assert_close(stretch(maps), expected)


def test_the_positive_part_is_stretched() -> None:
    assert_stretched(highlighted)


def test_showing_what_a_signed_map_holds_against_the_class_would_be_noticed() -> None:
    def whole_range(maps: Tensor) -> Tensor:
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        return (maps - low) / (high - low)

    with pytest.raises(AssertionError):
        assert_stretched(whole_range)


@pytest.mark.parametrize("value", [0.0, 2.0, -1.0])
def test_a_constant_map_highlights_nothing(value: float) -> None:
    maps = {"map": torch.full((8, 8), value)}
    result = measured(Weighted(descending(8, 8)), PIXELS, maps)
    assert values_of(result) == [None, None, None]
    assert "highlights nothing" in found(result, "average_drop").note


def test_it_is_what_the_library_measures_once_divided() -> None:
    ensure_torchvision()
    from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence, IncreaseInConfidence
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = Weighted(descending(8, 8))
    maps = torch.stack([highlighted(MAP[None])[0], quadrant_mask(8)])
    result = measured(network, PIXELS, {"a": maps[0], "b": maps[1]})
    batch, targets = PIXELS.expand(2, -1, -1, -1), [ClassifierOutputTarget(0)] * 2
    whole = float(network(PIXELS[None]).detach()[0, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drops, rises = (
            metric(batch, maps.numpy(), targets, network)
            for metric in (DropInConfidence(), IncreaseInConfidence())
        )
    for row, subject in enumerate("ab"):
        drop, rise, _ = values_of(result, subject)
        assert drop == pytest.approx(drops[row] / whole, abs=EXACT)
        assert rise == rises[row]
        with pytest.raises(AssertionError):
            assert drop == pytest.approx(drops[row], abs=EXACT)


def test_one_pass_is_spent_on_each_map() -> None:
    maps = {"a": MAP, "b": -MAP}
    with context_of(Constant(), PIXELS, maps, control_draws=3) as context:
        METRICS["confidence"].measure(context)
        assert context.classifier.evaluator.counter.forward == 2 + 20 + 3 + 2


def test_a_constant_model_neither_drops_nor_grows() -> None:
    assert values_of(measured(Constant(), PIXELS, {"map": MAP})) == [0, 0, 0]


@pytest.mark.parametrize(("light", "missing"), [(0.0, "average_drop"), (1.0, "average_gain")])
def test_a_share_of_nothing_is_no_number(light: float, missing: str) -> None:
    result = measured(Weighted(quadrant_mask(8) / 16), torch.full((1, 8, 8), light), {"map": MAP})
    rows = {key: found(result, key) for key in KEYS}
    assert [key for key, row in rows.items() if row.value is None] == [missing]
    assert rows[missing].note.startswith("the class has the probability")
    assert rows[missing].yardstick is None


def test_picture_and_map_may_be_flipped_together() -> None:
    weights = descending(8, 8)
    symmetric = Weighted((weights + weights.flip(-1)) / 2)
    plain = values_of(measured(symmetric, PIXELS, {"map": MAP}))
    flipped = values_of(measured(symmetric, PIXELS.flip(-1), {"map": MAP.flip(-1)}))
    assert flipped == pytest.approx(plain, abs=EXACT)


def test_without_maps_no_pass_is_spent() -> None:
    with context_of(Constant(), PIXELS, {}) as context:
        with pytest.raises(NotApplicable, match="no map"):
            METRICS["confidence"].measure(context)
        assert context.classifier.evaluator.counter.forward == 0
