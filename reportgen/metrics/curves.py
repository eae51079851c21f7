"""Perturbation curves: the target probability while pixels go, or come, in the order of a map.

The curves of all maps are run together, and once for all metrics that read them. Insertion with a
baseline is deletion in the reverse order, read backwards, so that two sets of curves with one
baseline give MoRF and LeRF as well. Papers: Petsiuk et al., RISE, BMVC 2018 (arXiv 1806.07421);
Samek et al., TNNLS 2017 (arXiv 1509.06321).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from reportgen.classifier.evaluator import Build
from reportgen.config import Baseline
from reportgen.metrics.base import Context, Plan
from reportgen.metrics.yardstick import NULL, null_maps
from reportgen.perturbation.controls import CONTROLS, control_maps
from reportgen.perturbation.removal import (
    baseline,
    removal_counts,
    removal_ranks,
    removed_rows,
)
from reportgen.work import Work

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """Probabilities at ``fractions`` (n,) of pixels changed, from 0 to 1.

    ``values`` holds (draws, n) for each subject: one row for a method, several for random controls.
    """

    fractions: Values
    values: Mapping[str, Values]

    @property
    def ends(self) -> tuple[float, float]:
        """The probabilities before the first and after the last pixel, which all curves share."""
        first = next(iter(self.values.values()))[0]
        return float(first[0]), float(first[-1])

    def areas(self, subject: str) -> Values:
        """Return the area under each curve (draws,) of a subject, by trapezoid."""
        return np.asarray(np.trapezoid(self.values[subject], self.fractions, axis=1))


def deletion_curves(context: Context, kind: Baseline) -> Curves:
    """Return the curves of pixels giving way to a baseline, the most relevant first (MoRF)."""
    return _curves(context, context.pixels, context.once(filled, kind))


def insertion_curves(context: Context, kind: Baseline) -> Curves:
    """Return the curves of pixels put back onto a baseline, the most relevant first."""
    return _curves(context, context.once(filled, kind), context.pixels)


def filled(context: Context, kind: Baseline) -> Tensor:
    """Return the baseline (C, H, W) of the context's picture."""
    return baseline(context.pixels, kind, context.classifier.mean, context.config.seed)


def subjects(context: Context) -> Mapping[str, Tensor]:
    """Return the maps (draws, H, W) of each method and each control, by name."""
    draws = {"random": context.config.control_draws}
    controls = {
        key: control_maps(key, context.pixels, draws.get(key, 1), context.config.seed)
        for key in CONTROLS
        if key != NULL
    }
    own = {method: found[None] for method, found in context.maps.items()}
    return {**own, NULL: context.once(null_maps), **controls}


def every_map(context: Context) -> Tensor:
    """Return the maps of all subjects in one tensor (M, H, W), in the order of ``subjects``."""
    return torch.cat(list(context.once(subjects).values()))


def ranks(context: Context) -> Tensor:
    """Return the rank (M, N) of each pixel in every map: 0 is the most relevant."""
    return removal_ranks(every_map(context), context.config.seed)


def by_subject(context: Context, values: Values) -> Mapping[str, Values]:
    """Return what of ``values`` (M, ...), one row for every map, belongs to each subject."""
    found, row = {}, 0
    for subject, maps in context.once(subjects).items():
        found[subject] = values[row : row + len(maps)]
        row += len(maps)
    return found


def curve_settings(context: Context, kind: Baseline) -> dict[str, JsonValue]:
    """Return what the curves with a baseline depend on, as a measurement records it."""
    return {
        "score": "probability",
        "baseline": kind,
        "steps": context.config.curve_steps,
        "ties": "one seeded permutation",
        "seed": context.config.seed,
    }


def target_probabilities(context: Context, count: int, build: Build) -> Values:
    """Return the probability (count,) of the class explained on the rows that ``build`` makes."""
    probabilities = context.classifier.evaluator.probabilities(count, build)
    return probabilities[:, context.prediction.target.index].double().cpu().numpy()


def _curves(context: Context, start: Tensor, end: Tensor) -> Curves:
    order = context.once(ranks)
    counts = removal_counts(order.shape[1], context.config.curve_steps)
    maps, gone = _rows(len(order), counts)
    which, limits = maps.to(order.device), gone.to(order.device)
    found = target_probabilities(
        context,
        len(gone),
        lambda i, j: removed_rows(start, end, order, which[i:j], limits[i:j]),
    )
    sides, middle = np.ones((len(order), 1)), found[2:].reshape(len(order), -1)
    values = np.hstack([found[0] * sides, middle, found[1] * sides])
    return Curves(np.asarray(counts) / order.shape[1], by_subject(context, values))


def _rows(maps: int, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the map and the count of each picture to run, both (rows,) on the CPU.

    First come the two ends, which are the same for every map and so are run once.
    """
    every = torch.tensor(counts)
    ends, inner = every[[0, -1]], every[1:-1]
    which = torch.arange(maps).repeat_interleave(len(inner))
    return torch.cat([torch.zeros_like(ends), which]), torch.cat([ends, inner.repeat(maps)])


def map_count(plan: Plan) -> int:
    """Return how many maps ``every_map`` will hold."""
    draws = {NULL: plan.config.null_maps, "random": plan.config.control_draws}
    return len(plan.methods) + sum(draws.get(key, 1) for key in CONTROLS)


def deletion_work(plan: Plan, kind: Baseline) -> Mapping[str, Work]:
    """Return the work of ``deletion_curves``."""
    return {f"deletion curves, {kind}": _curve_work(plan)}


def insertion_work(plan: Plan, kind: Baseline) -> Mapping[str, Work]:
    """Return the work of ``insertion_curves``."""
    return {f"insertion curves, {kind}": _curve_work(plan)}


def _curve_work(plan: Plan) -> Work:
    counts = removal_counts(plan.size.height * plan.size.width, plan.config.curve_steps)
    ends = 2
    return Work(ends + map_count(plan) * (len(counts) - ends))
