"""How alike a method's map is to one that should differ, placed among maps that know no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reportgen.metrics.agreement import spearman
from reportgen.metrics.base import Context
from reportgen.metrics.likeness import WINDOW, ssim
from reportgen.metrics.repeats import own_map
from reportgen.metrics.yardstick import null_maps, placed
from reportgen.records import Measurement, Quantity, Yardstick

Values = NDArray[np.float64]

SPEARMAN, STRENGTH, SSIM = "spearman", "spearman of strength", "ssim"
RESEMBLANCES = (
    "the same number with each of the smooth random maps in place of the map that is compared"
)
_ROUNDING = 1e-6  # ten times the relative precision of float32


@dataclass(frozen=True)
class Compared:
    """A number that compares two maps, or None and the reason in words."""

    value: float | None
    why_not: str = ""


def compare(kind: str, own: Tensor, other: Tensor, name: str) -> Compared:
    """Return the likeness, in [-1, 1], of a method's ``own`` map (H, W) and another, by ``name``.

    ``kind`` is SPEARMAN (of the signed values), STRENGTH (of the absolute ones) or SSIM.
    """
    if kind == SSIM and min(own.shape) < WINDOW:
        return Compared(None, f"the picture is smaller than SSIM's window of {WINDOW} pixels")
    if is_flat(own):
        return Compared(None, "the map is constant")
    if is_flat(other):
        return Compared(None, f"{name} is constant")
    value = float(_KINDS[kind](own, other[None])[0])
    if np.isfinite(value):
        return Compared(value)
    return Compared(None, "one of the two maps is equally strong everywhere")


def is_flat(values: Tensor) -> bool:
    """Return whether a map has one value everywhere, but for the rounding of float32."""
    low, high = float(values.min()), float(values.max())
    return high - low <= _ROUNDING * max(abs(low), abs(high))


def null_resemblances(context: Context, method: str, kind: str) -> Values:
    """Return the likeness of a method's map to each of the smooth random maps, (n,)."""
    return _KINDS[kind](context.once(own_map, method), context.once(null_maps))


def standing(
    context: Context, quantity: Quantity, measurement: Measurement, kind: str
) -> Yardstick | None:
    """Return the place of a method's measurement among the likenesses to the null maps."""
    if measurement.value is None:
        return None
    nulls = context.once(null_resemblances, measurement.subject, kind)
    return placed(quantity, measurement.value, nulls)


def _signed(own: Tensor, others: Tensor) -> Values:
    return spearman(torch.cat([own[None], others]))[0, 1:]


def _strength(own: Tensor, others: Tensor) -> Values:
    return _signed(own.abs(), others.abs())


def _structural(own: Tensor, others: Tensor) -> Values:
    return np.asarray(ssim(own[None].cpu().double().numpy(), others.cpu().double().numpy())[0])


_KINDS: Mapping[str, Callable[[Tensor, Tensor], Values]] = {
    SPEARMAN: _signed,
    STRENGTH: _strength,
    SSIM: _structural,
}
