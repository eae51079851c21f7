"""Deletion and insertion curves of every map, beside the same curves of control maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from reportgen.classifier.evaluator import Build
from reportgen.config import Baseline
from reportgen.errors import NotApplicable
from reportgen.facts import LITTLE_CHANGE
from reportgen.metrics.base import HIGHER, LOWER, Context, Measured, Metric
from reportgen.perturbation.controls import CONTROLS, control_maps
from reportgen.perturbation.removal import (
    baseline,
    removal_counts,
    removal_ranks,
    removed_rows,
)
from reportgen.records import Card, Measurement

DELETION = Card(
    key="deletion",
    title="Deletion AUC",
    category="faithfulness",
    definition="Area under the class probability while pixels are replaced by the baseline, the "
    "most relevant first; trapezoid over the share of pixels replaced.",
    paper="Petsiuk et al., RISE, BMVC 2018, arXiv 1806.07421",
    direction=LOWER,
    range=(0, 1),
    needs="predictions",
    seeding="equal values are ordered by one seeded permutation",
    limits="Pictures with replaced pixels are unlike any the model was trained on. The same area "
    "for control maps says how much of the value is the map's.",
)
INSERTION = Card(
    key="insertion",
    title="Insertion AUC",
    category="faithfulness",
    definition="Area under the class probability while pixels of the picture are put back onto "
    "the baseline, the most relevant first; trapezoid over the share of pixels put back.",
    paper="Petsiuk et al., RISE, BMVC 2018, arXiv 1806.07421",
    direction=HIGHER,
    range=(0, 1),
    needs="predictions",
    seeding="equal values are ordered by one seeded permutation",
    limits="A blurred baseline still shows some of the picture, so the curve need not start near "
    "zero; coarse maps do well.",
)


@dataclass(frozen=True)
class _Curve:
    """One experiment: which picture it starts from, which it ends with, and what it is called."""

    card: Card
    start: Tensor
    end: Tensor
    baseline: str


def _deletion(context: Context) -> Measured:
    kind = context.config.deletion_baseline
    return _measure(context, _Curve(DELETION, context.pixels, _filled(context, kind), kind))


def _insertion(context: Context) -> Measured:
    kind = context.config.insertion_baseline
    return _measure(context, _Curve(INSERTION, _filled(context, kind), context.pixels, kind))


def _filled(context: Context, kind: Baseline) -> Tensor:
    return baseline(context.pixels, kind, context.classifier.mean, context.config.seed)


def _measure(context: Context, curve: _Curve) -> Measured:
    if not context.maps:
        raise NotApplicable("there is no map to put to the test")
    groups = _groups(context)
    fractions, values = _probabilities(context, curve, torch.cat(list(groups.values())))
    areas = area(values, fractions)
    measurements, arrays, row = [], {}, 0
    for subject, maps in groups.items():
        rows = slice(row, row + len(maps))
        row += len(maps)
        name = f"curve.{curve.card.key}.{subject}"
        arrays[name] = np.vstack([fractions, values[rows]]).astype(np.float32)
        ends = (float(values[0, 0]), float(values[0, -1]))
        measurements.append(_measurement(context, curve, subject, areas[rows], ends))
    return Measured(tuple(measurements), arrays)


def _groups(context: Context) -> Mapping[str, Tensor]:
    """Return the maps (n, H, W) of each subject: one for a method, several for random controls."""
    config = context.config
    controls = {
        key: control_maps(key, context.pixels, config.control_draws, config.seed)
        for key in CONTROLS
    }
    return {**{key: found[None] for key, found in context.maps.items()}, **controls}


def _probabilities(
    context: Context, curve: _Curve, maps: Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shares of pixels changed (n,), and each map's target probability there (M, n)."""
    ranks = removal_ranks(maps, context.config.seed)
    counts = removal_counts(ranks.shape[1], context.config.curve_steps)
    inner = counts[1:-1]
    # The two ends are the same for every map, so they are run once.
    first, last = _target(context, 2, lambda i, j: torch.stack([curve.start, curve.end])[i:j])
    middle = _target(
        context,
        len(maps) * len(inner),
        lambda i, j: removed_rows(curve.start, curve.end, ranks, inner, i, j),
    ).reshape(len(maps), len(inner))
    sides = np.ones((len(maps), 1))
    fractions = np.asarray(counts) / ranks.shape[1]
    return fractions, np.hstack([first * sides, middle, last * sides])


def _target(context: Context, count: int, build: Build) -> NDArray[np.float64]:
    probabilities = context.classifier.evaluator.probabilities(count, build)
    return probabilities[:, context.prediction.target.index].double().cpu().numpy()


def area(values: NDArray[np.float64], fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area under each curve (M, n) over ``fractions`` (n,) from 0 to 1, by trapezoid."""
    return np.asarray(np.trapezoid(values, fractions, axis=1))


def normalised_area(auc: float, first: float, last: float) -> float | None:
    """Return (AUC - p_N) / (p_0 - p_N), or None where the ends differ by 0.05 or less.

    ``first`` and ``last`` are the probabilities on the whole picture and on the baseline; what is
    left is the map's own share, comparable between pictures.
    """
    change = first - last
    return (auc - last) / change if abs(change) > LITTLE_CHANGE else None


def _measurement(
    context: Context,
    curve: _Curve,
    subject: str,
    areas: NDArray[np.float64],
    ends: tuple[float, float],
) -> Measurement:
    draws = len(areas)
    return Measurement(
        metric=curve.card.key,
        subject=subject,
        value=float(areas.mean()),
        direction=curve.card.direction,
        range=curve.card.range,
        interval=(float(areas.min()), float(areas.max())) if draws > 1 else None,
        interval_kind=f"lowest and highest of {draws} draws" if draws > 1 else "",
        settings=_settings(context, curve),
        detail={
            "draws": [float(value) for value in areas],
            "first probability": ends[0],
            "last probability": ends[1],
            "normalised": normalised_area(float(areas.mean()), *ends),
        },
        array=f"curve.{curve.card.key}.{subject}",
    )


def _settings(context: Context, curve: _Curve) -> dict[str, JsonValue]:
    return {
        "score": "probability",
        "baseline": curve.baseline,
        "steps": context.config.curve_steps,
        "ties": "one seeded permutation",
        "seed": context.config.seed,
    }


DELETION_METRIC = Metric(DELETION, _deletion)
INSERTION_METRIC = Metric(INSERTION, _insertion)
