"""The smallest rotation that changes the prediction, searched on a dense grid both ways."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from reportgen.metrics.base import HIGHER, NO_MAP, Context, Measured, Metric, Plan
from reportgen.metrics.decision import decisions, followed, made, named
from reportgen.perturbation.geometry import rotated
from reportgen.records import Card, Measurement, Quantity
from reportgen.work import Work

ROTATION = Card(
    key="rotation",
    title="Rotation that flips the prediction",
    category="robustness of the prediction",
    definition="The smallest angle, in each direction, at which the top class changes (with "
    "several labels a picture: at which the explained label crosses the threshold): the first "
    "changed angle of a regular grid up to 180 degrees, refined inside its cell.",
    paper="own definition, after the minimal parameter perturbation of captum",
    direction=HIGHER,
    range=(0, 180),
    needs="predictions",
    seeding="deterministic",
    limits="A change that lasts less than one grid cell can be missed. Corners that turn into the "
    "picture are filled with its mean colour, and interpolation blurs a little.",
    quantities=(
        Quantity(
            key="rotation_flip",
            title="Smallest rotation that changes the prediction",
            meaning="In degrees, for each direction.",
            direction=HIGHER,
            range=(0, 180),
        ),
        Quantity(
            key="interpolation_blur_flip",
            title="Change by the blur of interpolation alone",
            meaning="1 where the mean of 2 x 2 pixels changes the prediction, else 0.",
            range=(0, 1),
        ),
    ),
    controls=NO_MAP,
)
_LIMIT = 180.0
_ROUNDS = 2
_INSIDE = 16


@dataclass(frozen=True)
class _Outcome:
    """The decision and the probability of the class followed, at some angles (degrees)."""

    angles: NDArray[np.float64]
    classes: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def _rotation(context: Context) -> Measured:
    top = made(context)
    grid = _grid(context.config.rotation_step)
    outcome = _turn(context, np.concatenate([-grid[::-1], [0.0], grid]))
    middle = len(grid)
    sides = {
        "positive": (outcome.angles[middle:], outcome.classes[middle:]),
        "negative": (outcome.angles[middle::-1], outcome.classes[middle::-1]),
    }
    measurements, arrays = [], {}
    for side, (angles, classes) in sides.items():
        found = first_change(angles, classes, top)
        bracket = _refined(context, found, top) if found else None
        measurements.append(_flip(context, side, bracket))
        if bracket:
            arrays[f"rotation.flipped.{side}"] = _picture(context, bracket[1])
    measurements.append(_blur(context))
    arrays["curve.rotation"] = np.stack([outcome.angles, outcome.probabilities]).astype(np.float32)
    return Measured(tuple(measurements), arrays)


def _grid(step: float) -> NDArray[np.float64]:
    count = math.ceil(_LIMIT / step)
    return np.asarray(np.minimum(step * np.arange(1, count + 1), _LIMIT))


def _turn(context: Context, angles: NDArray[np.float64]) -> _Outcome:
    fill = context.pixels.mean(dim=(1, 2))
    turns = torch.from_numpy(angles)
    outputs = context.classifier.evaluator.probabilities(
        len(angles), lambda start, stop: rotated(context.pixels, turns[start:stop], fill)
    )
    return _Outcome(
        angles,
        decisions(context, outputs).cpu().numpy(),
        outputs[:, followed(context).index].double().cpu().numpy(),
    )


def first_change(
    angles: NDArray[np.float64], classes: NDArray[np.int64], top: int
) -> tuple[float, float] | None:
    """Return (last unchanged, first changed) of ``angles``, or None; the first is unchanged."""
    changed = np.flatnonzero(classes[1:] != top)
    if not len(changed):
        return None
    return float(angles[changed[0]]), float(angles[changed[0] + 1])


def _refined(context: Context, bracket: tuple[float, float], top: int) -> tuple[float, float]:
    """Return a narrower bracket: two rounds of sixteen angles inside the last cell."""
    for _ in range(_ROUNDS):
        inside = np.linspace(*bracket, _INSIDE + 2)
        classes = _turn(context, inside[1:-1]).classes
        # The ends are known: unchanged at the first, changed at the last.
        known = np.concatenate([[top], classes, [-1]])
        bracket = first_change(inside, known, top) or bracket
    return bracket


def _flip(context: Context, side: str, bracket: tuple[float, float] | None) -> Measurement:
    step = context.config.rotation_step
    return Measurement(
        metric="rotation_flip",
        subject=side,
        value=abs(bracket[1]) if bracket else None,
        unit="degrees",
        direction=HIGHER,
        range=(0, _LIMIT),
        interval=(abs(bracket[0]), abs(bracket[1])) if bracket else None,
        interval_kind="last unchanged and first changed angle" if bracket else "",
        settings={"grid": step, "limit": _LIMIT, "corners": "mean colour of the picture"},
        detail={"new class": _new_class(context, bracket[1])} if bracket else {},
        array="curve.rotation",
        note="" if bracket else f"no change up to {_LIMIT:g} degrees",
    )


def _new_class(context: Context, angle: float) -> str:
    return named(context, int(_turn(context, np.array([angle])).classes[0]))


def _blur(context: Context) -> Measurement:
    """Return whether the blur of interpolation alone, at its strongest, changes the prediction."""
    padded = pad(context.pixels[None], (0, 1, 0, 1), mode="replicate")
    probabilities = context.classifier.probabilities(avg_pool2d(padded, 2, stride=1))
    return Measurement(
        metric="interpolation_blur_flip",
        subject="prediction",
        value=float(decisions(context, probabilities).item() != made(context)),
        range=(0, 1),
        settings={"blur": "mean of 2x2 pixels, as half a pixel's shift makes it"},
        detail={"probability kept": float(probabilities[0, followed(context).index])},
    )


def _picture(context: Context, angle: float) -> NDArray[np.uint8]:
    fill = context.pixels.mean(dim=(1, 2))
    turned: Tensor = rotated(context.pixels, torch.tensor([angle]), fill)[0]
    return (turned.permute(1, 2, 0) * 255).round().byte().cpu().numpy()


def _work(plan: Plan) -> Mapping[str, Work]:
    """Return the work where the prediction changes both ways.

    For each direction in which it never does, the angles inside the last cell and the look at the
    new class are saved.
    """
    directions, upright, blur, new_class = 2, 1, 1, 1
    grid = len(_grid(plan.config.rotation_step))
    inside = _ROUNDS * _INSIDE + new_class
    return {"turned pictures": Work(directions * (grid + inside) + upright + blur)}


METRIC = Metric(ROTATION, _rotation, _work)
