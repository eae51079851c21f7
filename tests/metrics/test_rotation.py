from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from metric_toys import Compared, Constant, context_of, disc_places
from torch import Tensor

from reportgen.metrics import METRICS, Measured
from reportgen.metrics.rotation import first_change
from reportgen.perturbation.geometry import rotated
from reportgen.records import Measurement

SIDE = 33
MEASURE = METRICS["rotation"].measure
X, Y, DISC = disc_places(SIDE)
HALF = torch.stack([DISC & (Y > 0), DISC & (Y < 0)]).float()
CHECK = torch.stack([DISC & (X * Y > 0), DISC & (X * Y < 0)]).float()


def picture_of(mask: Tensor) -> Tensor:
    return mask[None] * 0.8 + 0.1


def found(result: Measured, side: str) -> Measurement:
    return next(m for m in result.measurements if (m.metric, m.subject) == ("rotation_flip", side))


def turned(masks: Tensor, step: float) -> Measured:
    options = {"head": "softmax", "rotation_step": step}
    with context_of(Compared(masks), picture_of(masks[0]), {}, **options) as context:
        return MEASURE(context)


# The exact 90 and 45 degrees are blurred by interpolation: measured, the change comes within 1.
@pytest.mark.parametrize(
    ("masks", "angle"), [(HALF, 90), (CHECK, 45)], ids=["half", "check, unchanged at 180"]
)
@pytest.mark.parametrize("side", ["positive", "negative"])
@pytest.mark.parametrize("step", [3.0, 7.0])
def test_the_angle_known_by_hand_is_found(
    masks: Tensor, angle: float, side: str, step: float
) -> None:
    measurement = found(turned(masks, step), side)
    assert measurement.value == pytest.approx(angle, abs=1)
    assert measurement.detail["new class"] == "class 1"


def test_the_check_is_itself_again_at_180() -> None:
    fill = picture_of(CHECK[0]).mean(dim=(1, 2))
    whole = rotated(picture_of(CHECK[0]), torch.tensor([180.0]), fill)
    scores = Compared(CHECK)(whole)[0]
    assert scores[0] > scores[1]


@pytest.mark.parametrize("step", [3.0, 11.0])
@pytest.mark.parametrize("side", ["positive", "negative"])
def test_the_bracket_is_narrow_and_its_ends_are_what_they_say(step: float, side: str) -> None:
    measurement = found(turned(HALF, step), side)
    assert measurement.interval is not None
    low, high = measurement.interval
    assert measurement.value == high
    assert 0 < high - low <= step / 17**2 + 1e-9
    picture, sign = picture_of(HALF[0]), 1 if side == "positive" else -1
    ends = rotated(picture, sign * torch.tensor([low, high]).double(), picture.mean(dim=(1, 2)))
    assert Compared(HALF)(ends).argmax(dim=1).tolist() == [0, 1]


def test_a_grid_that_does_not_divide_180_ends_there() -> None:
    angles = turned(HALF, 7.0).arrays["curve.rotation"][0]
    assert (angles[0], angles[-1]) == (-180, 180)
    assert len(angles) == 2 * math.ceil(180 / 7) + 1
    assert np.diff(angles).max() == pytest.approx(7)
    assert (np.diff(angles) > 0).all()


def test_a_model_that_rotation_does_not_touch_is_not_flipped() -> None:
    # The sum over the disc against the constant 0: no turning of the picture reverses it.
    masks = torch.stack([DISC.float(), torch.zeros(SIDE, SIDE)])
    result = turned(masks, 10.0)
    for side in ("positive", "negative"):
        measurement = found(result, side)
        assert measurement.value is None
        assert measurement.interval is None
        assert measurement.note == "no change up to 180 degrees"
    assert not [name for name in result.arrays if "flipped" in name]


def test_passes_are_the_grid_the_refinement_and_the_blur() -> None:
    options = {"head": "softmax", "rotation_step": 9.0}
    for masks, sides in ((HALF, 2), (torch.stack([DISC.float(), DISC * 0.0]), 0)):
        with context_of(Compared(masks), picture_of(masks[0]), {}, **options) as context:
            MEASURE(context)
            refined = sides * (2 * 16 + 1)
            assert context.classifier.evaluator.counter.forward == 2 * 20 + 1 + refined + 1


def blur_flip(network: torch.nn.Module, pixels: Tensor) -> float | None:
    with context_of(network, pixels, {}, head="softmax", rotation_step=45.0) as context:
        result = MEASURE(context)
    return next(m.value for m in result.measurements if m.metric == "interpolation_blur_flip")


class Contrast(torch.nn.Module):
    """Class 0 while neighbouring pixels differ by more than 0.7 on average."""

    def forward(self, x: Tensor) -> Tensor:
        contrast = x.diff(dim=-1).abs().mean(dim=(1, 2, 3))
        return torch.stack([contrast, torch.full_like(contrast, 0.7)], dim=1)


def test_a_flip_by_blur_alone_is_seen() -> None:
    stripes = (torch.arange(16) % 2).float().expand(1, 16, 16).contiguous()
    assert blur_flip(Contrast(), stripes) == 1
    assert blur_flip(Constant(), stripes) == 0


def test_the_first_change_is_the_nearest_to_zero() -> None:
    angles = np.array([0.0, 1.0, 2.0, 3.0])
    assert first_change(angles, np.array([5, 5, 7, 5]), 5) == (1.0, 2.0)
    assert first_change(angles, np.array([5, 8, 7, 5]), 5) == (0.0, 1.0)
    assert first_change(angles, np.array([5, 5, 5, 5]), 5) is None
