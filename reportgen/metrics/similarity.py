"""How alike a method's map is to one that should differ, placed among maps that know no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reportgen.metrics.base import Context
from reportgen.metrics.likeness import WINDOW, Windows, ranked, spearman, ssim, windows
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
class Traits:
    """Maps (M, H, W), and what their likenesses are made of: each made once, when first asked for.

    ``ranks`` and ``strengths`` are those of ``ranked``, of the signed and the absolute values.
    """

    maps: Tensor

    @cached_property
    def flat(self) -> bool:
        """Whether the first map has one value everywhere, but for the rounding of float32."""
        return is_flat(self.maps[0])

    @cached_property
    def ranks(self) -> Values:
        """The ranks (M, N) of the signed values."""
        return ranked(self.maps)

    @cached_property
    def strengths(self) -> Values:
        """The ranks (M, N) of the absolute values."""
        return ranked(self.maps.abs()) if bool((self.maps < 0).any()) else self.ranks

    @cached_property
    def windows(self) -> Windows:
        """The windows that structural similarity compares."""
        return windows(self.maps.cpu().float().numpy())  # half the time; 4e-8 away from doubles


@dataclass(frozen=True)
class Compared:
    """A number that compares two maps, or None and the reason in words."""

    value: float | None
    why_not: str = ""


def compare(kind: str, own: Traits, other: Traits, name: str) -> Compared:
    """Return the likeness, in [-1, 1], of a method's ``own`` map and another, called ``name``.

    ``kind`` is SPEARMAN (of the signed values), STRENGTH (of the absolute ones) or SSIM.
    """
    if kind == SSIM and min(own.maps.shape[1:]) < WINDOW:
        return Compared(None, f"the picture is smaller than SSIM's window of {WINDOW} pixels")
    if own.flat:
        return Compared(None, "the map is constant")
    if other.flat:
        return Compared(None, f"{name} is constant")
    value = float(_KINDS[kind](own, other)[0, 0])
    if np.isfinite(value):
        return Compared(value)
    return Compared(None, "one of the two maps is equally strong everywhere")


def is_flat(values: Tensor) -> bool:
    """Return whether a map, of any shape, has one value everywhere, but for float32's rounding."""
    low, high = float(values.min()), float(values.max())
    return high - low <= _ROUNDING * max(abs(low), abs(high))


def own_traits(context: Context, method: str) -> Traits:
    """Return the traits of the map that ``own_map`` makes."""
    return Traits(context.once(own_map, method)[None])


def null_traits(context: Context) -> Traits:
    """Return the traits of the smooth random maps."""
    return Traits(context.once(null_maps))


def null_resemblances(context: Context, method: str, kind: str) -> Values:
    """Return the likeness of a method's map to each of the smooth random maps, (n,)."""
    found = _KINDS[kind](context.once(own_traits, method), context.once(null_traits))
    return np.asarray(found[0])


def standing(
    context: Context, quantity: Quantity, measurement: Measurement, kind: str
) -> Yardstick | None:
    """Return the place of a method's measurement among the likenesses to the null maps."""
    if measurement.value is None:
        return None
    nulls = context.once(null_resemblances, measurement.subject, kind)
    return placed(quantity, measurement.value, nulls)


_KINDS: Mapping[str, Callable[[Traits, Traits], Values]] = {
    SPEARMAN: lambda own, other: spearman(own.ranks, other.ranks),
    STRENGTH: lambda own, other: spearman(own.strengths, other.strengths),
    SSIM: lambda own, other: ssim(own.windows, other.windows),
}
