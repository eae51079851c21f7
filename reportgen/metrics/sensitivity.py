"""How much each map changes when the picture changes by less than can be seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from reportgen.errors import NotApplicable
from reportgen.metrics.base import LOWER, Context, Measured, Metric
from reportgen.metrics.repeats import (
    INDEPENDENT,
    count_setting,
    each_method,
    noisy_controls,
    noisy_map_work,
    noisy_maps,
    null_groups,
    null_rows,
    reduced,
)
from reportgen.metrics.yardstick import NULL, placed
from reportgen.records import Card, Measurement, Quantity

Values = NDArray[np.float64]

MAXIMUM = Quantity(
    key="sensitivity",
    title="Max-sensitivity",
    meaning="The largest change of the map among the copies, as a share of the map's norm.",
    direction=LOWER,
    range=(0, None),
)
AVERAGE = Quantity(
    key="average_sensitivity",
    title="Average sensitivity",
    meaning="The mean change of the map over the copies, as a share of the map's norm.",
    direction=LOWER,
    range=(0, None),
)
SENSITIVITY = Card(
    key="sensitivity",
    title="Max-sensitivity",
    category="robustness of the map",
    definition="The largest, and the mean, relative change of the map (Frobenius norm) over copies "
    "of the picture with uniform noise of at most the radius in each channel value.",
    paper="Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, "
    "arXiv 1901.09392",
    direction=LOWER,
    range=(0, None),
    needs="the method, once for the picture and once a copy",
    seeding="the copies are seeded; methods that draw at random draw the same on all of them",
    limits="The largest of few copies, so a lower bound that grows with their number. A map that "
    "ignores the picture scores perfectly: read it beside fidelity. Smooth random maps are never "
    "negative, so two of them lie nearer together than two unrelated signed maps. Methods with a "
    "count are measured with the reduced count shown, on the picture and on its copies alike.",
    quantities=(MAXIMUM, AVERAGE),
    controls=INDEPENDENT + "; beside it, the edges of the picture and of each copy, and the centre",
)


def relative_changes(maps: Tensor) -> Tensor | None:
    """Return how far maps 1.. of (n, H, W) are from map 0, as a share of its norm.

    None where that norm is 0.
    """
    norm = maps[0].double().norm()
    if norm == 0:
        return None
    changes: Tensor = (maps[1:].double() - maps[0].double()).flatten(1).norm(dim=1)
    return changes.div(norm)


def null_changes(context: Context) -> Values:
    """Return the relative changes (null maps, copies) of an explainer that draws every map anew."""
    found = (_numbers(maps) for maps in null_groups(context))
    return np.stack([changes for changes in found if changes is not None])


def _sensitivity(context: Context) -> Measured:
    if not context.maps:
        raise NotApplicable("there is no map whose stability could be measured")
    methods = each_method(context, SENSITIVITY.key, context.maps, _of_method)
    controls = [
        measurement
        for subject, maps in context.once(noisy_controls).items()
        for measurement in _both(context, subject, maps)
    ]
    settings, nulls = _settings(context, NULL), context.once(null_changes)
    controls += null_rows(MAXIMUM, nulls.max(axis=1), settings)
    controls += null_rows(AVERAGE, nulls.mean(axis=1), settings)
    return Measured((*methods.measurements, *controls), skipped=methods.skipped)


def _of_method(context: Context, method: str) -> Measured:
    return Measured(tuple(_both(context, method, context.once(noisy_maps, method))))


def _both(context: Context, subject: str, maps: Tensor) -> list[Measurement]:
    changes, nulls = _numbers(maps), context.once(null_changes)
    if changes is None:
        return [_found(context, q, subject, None, nulls.max(axis=1)) for q in (MAXIMUM, AVERAGE)]
    largest = _found(context, MAXIMUM, subject, float(changes.max()), nulls.max(axis=1))
    mean = _found(context, AVERAGE, subject, float(changes.mean()), nulls.mean(axis=1))
    copies: list[JsonValue] = [float(change) for change in changes]
    return [
        largest.model_copy(update={"detail": {"copies": copies}}),
        mean.model_copy(update=_interval(changes)),
    ]


def _found(
    context: Context, quantity: Quantity, subject: str, value: float | None, nulls: Values
) -> Measurement:
    return Measurement(
        metric=quantity.key,
        subject=subject,
        value=value,
        direction=quantity.direction,
        range=quantity.range,
        settings=_settings(context, subject),
        note="the map is zero everywhere" if value is None else "",
        yardstick=placed(quantity, value, nulls),
    )


def _interval(changes: Values) -> dict[str, object]:
    """Return the interval of a mean over copies, and its kind; nothing where there is one copy."""
    if len(changes) < 2:
        return {}
    ends = (float(changes.min()), float(changes.max()))
    return {"interval": ends, "interval_kind": f"lowest and highest of {len(changes)} copies"}


def _numbers(maps: Tensor) -> Values | None:
    changes = relative_changes(maps)
    return None if changes is None else changes.cpu().numpy()


def _settings(context: Context, subject: str) -> dict[str, JsonValue]:
    config = context.config
    return {
        "radius": config.sensitivity_radius,
        "draws": config.sensitivity_draws,
        "norm": "Frobenius",
        "seed": config.seed,
        **count_setting(reduced(config), subject),
    }


METRIC = Metric(SENSITIVITY, _sensitivity, noisy_map_work)
