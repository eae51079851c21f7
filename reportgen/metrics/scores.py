"""The record of one number for one subject, beside the same number for the smooth random maps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import JsonValue

from reportgen.metrics.curves import Values
from reportgen.metrics.yardstick import NULL, placed
from reportgen.records import Measurement, Quantity


def measurement(
    quantity: Quantity,
    subject: str,
    found: Mapping[str, Values],
    settings: Mapping[str, JsonValue],
    detail: Mapping[str, JsonValue] | None = None,
    note: str = "",
) -> Measurement:
    """Return the measurement of ``subject``, whose draws' numbers are ``found[subject]`` (draws,).

    The value is their mean; NaN stands for no number, which ``note`` explains.
    """
    numbers = found[subject][np.isfinite(found[subject])]
    draws, value = len(found[subject]), float(numbers.mean()) if len(numbers) else None
    several = draws > 1 and value is not None
    listed: list[JsonValue] = [float(number) for number in numbers]
    return Measurement(
        metric=quantity.key,
        subject=subject,
        value=value,
        direction=quantity.direction,
        range=quantity.range,
        interval=(float(numbers.min()), float(numbers.max())) if several else None,
        interval_kind=f"lowest and highest of {len(numbers)} draws" if several else "",
        settings=settings,
        detail={**(detail or {}), "draws": listed} if draws > 1 else detail or {},
        note=note if value is None else "",
        yardstick=None if subject == NULL else placed(quantity, value, found[NULL]),
    )
