"""The place of a value among the same values of control maps that know nothing of the model.

Smooth random maps are as coarse as a class activation map; Tomsett et al., Sanity Checks for
Saliency Metrics, AAAI 2020 (arXiv 1912.01451) show why a score means little without such a null.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from reportgen.metrics.base import Context
from reportgen.perturbation.controls import control_maps
from reportgen.records import Direction, Quantity, Yardstick

NULL = "smooth-random"
NULLS = "smooth random maps"
PLACED = "the same number for the smooth random maps"


def null_maps(context: Context) -> Tensor:
    """Return the smooth random maps (``null_maps``, H, W), on the picture's device."""
    config = context.config
    return control_maps(NULL, context.pixels, config.null_maps, config.seed)


def placed(
    quantity: Quantity, value: float | None, nulls: ArrayLike, controls: str = NULLS
) -> Yardstick | None:
    """Return the place of ``value`` among the numbers ``nulls`` (n,) of control maps.

    NaN among them is left out. None where there is no value, or fewer than two numbers are left.
    """
    numbers = np.asarray(nulls, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if value is None or len(numbers) < 2:
        return None
    mean, sd = float(numbers.mean()), float(numbers.std(ddof=1))
    # Rounding alone makes equal numbers differ in their last digits.
    spread = sd > 1e-12 * max(1.0, abs(mean))
    better, equal = _compared(quantity.direction, value, numbers)
    as_good = len(numbers) - better
    return Yardstick(
        controls=controls,
        maps=len(numbers),
        mean=mean,
        sd=sd,
        z=(value - mean) / sd if spread else None,
        percentile=(better + equal / 2) / len(numbers),
        p=None if quantity.direction == "descriptive" else (1 + as_good) / (1 + len(numbers)),
    )


def _compared(direction: Direction, value: float, numbers: np.ndarray) -> tuple[int, int]:
    """Return how many of ``numbers`` the value is better than, and how many it equals."""
    equal = np.isclose(numbers, value, rtol=1e-9, atol=1e-12)
    beaten = numbers > value if direction == "lower is better" else numbers < value
    return int((beaten & ~equal).sum()), int(equal.sum())
