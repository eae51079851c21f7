"""Area over the perturbation curve, most and least relevant pixels first, and its difference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reportgen.metrics.base import HIGHER, LOWER, Arrays, Context, Measured, Metric, Plan
from reportgen.metrics.curves import (
    Curves,
    Values,
    curve_settings,
    deletion_curves,
    deletion_work,
    insertion_curves,
    insertion_work,
)
from reportgen.metrics.scores import measurement
from reportgen.metrics.yardstick import PLACED
from reportgen.records import Card, Measurement, Quantity
from reportgen.work import Work

CARD = Card(
    key="aopc",
    title="Area over the perturbation curve",
    category="faithfulness",
    definition="Mean over k = 0, ..., L of p(x) - p(x_k), the fall of the class probability after "
    "k of L steps in which pixels give way to the baseline: the most relevant first (MoRF), the "
    "least relevant first (LeRF), and the first less the second (ABPC).",
    paper="Samek et al., Evaluating the Visualization of What a Deep Neural Network has Learned, "
    "TNNLS 2017, arXiv 1509.06321",
    direction=HIGHER,
    range=(-1, 1),
    needs="predictions",
    seeding="equal values are ordered by one seeded permutation",
    limits="Single pixels go, not the 9 x 9 regions of the paper. MoRF and LeRF each mix the "
    "ranking with the shock of an unusual picture, which the difference leaves out. The mean "
    "counts both ends fully, so it is not one less the area under the curve.",
    quantities=(
        Quantity(
            key="aopc_morf", title="AOPC, most relevant first", direction=HIGHER, range=(-1, 1)
        ),
        Quantity(
            key="aopc_lerf", title="AOPC, least relevant first", direction=LOWER, range=(-1, 1)
        ),
        Quantity(
            key="abpc",
            title="Area between the two curves",
            meaning="AOPC with the most relevant pixels first, less AOPC with the least relevant.",
            direction=HIGHER,
            range=(-1, 1),
        ),
    ),
    controls=PLACED,
)


def area_over(curves: Values) -> Values:
    """Return the AOPC (draws,) of probabilities (draws, L + 1), the whole picture's first.

    The term of the whole picture, 0, is one of the L + 1 terms of the mean.
    """
    return np.asarray((curves[:, :1] - curves).mean(axis=1))


def least_relevant_first(insertion: Curves) -> Curves:
    """Return insertion curves read backwards: pixels go, the least relevant first."""
    return Curves(
        (1 - insertion.fractions)[::-1],
        {subject: values[:, ::-1] for subject, values in insertion.values.items()},
    )


def _measure(context: Context) -> Measured:
    context.require_maps()
    kind = context.config.deletion_baseline
    curves = {
        "aopc_morf": context.once(deletion_curves, kind),
        "aopc_lerf": least_relevant_first(context.once(insertion_curves, kind)),
    }
    morf, lerf = (_areas_over(found) for found in curves.values())
    between = {subject: morf[subject] - lerf[subject] for subject in morf}
    settings = curve_settings(context, kind)
    rows: list[Measurement] = []
    for quantity, found in zip(CARD.quantities, (morf, lerf, between), strict=True):
        for subject in found:
            name = f"curve.{quantity.key}.{subject}" if quantity.key in curves else None
            row = measurement(quantity, subject, found, settings)
            rows.append(row.model_copy(update={"array": name}))
    return Measured(tuple(rows), _arrays(curves))


def _areas_over(curves: Curves) -> Mapping[str, Values]:
    return {subject: area_over(values) for subject, values in curves.values.items()}


def _arrays(curves: Mapping[str, Curves]) -> Arrays:
    return {
        f"curve.{key}.{subject}": np.vstack([found.fractions, values]).astype(np.float32)
        for key, found in curves.items()
        for subject, values in found.values.items()
    }


def _work(plan: Plan) -> Mapping[str, Work]:
    kind = plan.config.deletion_baseline
    return {**deletion_work(plan, kind), **insertion_work(plan, kind)} if plan.methods else {}


METRIC = Metric(CARD, _measure, _work)
