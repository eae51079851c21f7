"""ROAD: the class probability after pixels were removed and imputed from those that are left."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from reportgen.config import split_names
from reportgen.metrics.base import HIGHER, LOWER, Arrays, Context, Measured, Metric, Plan
from reportgen.metrics.curves import Values, by_subject, map_count, ranks, target_probabilities
from reportgen.metrics.scores import measurement
from reportgen.metrics.yardstick import PLACED
from reportgen.perturbation.imputation import NOISE, imputed
from reportgen.records import Card, Measurement, Quantity
from reportgen.work import Work

CARD = Card(
    key="road",
    title="Remove and debias (ROAD)",
    category="faithfulness",
    definition="Class probability after a share of the pixels was removed and filled in from its "
    "neighbours by noisy linear imputation, so that no edge of a hole tells what was removed; mean "
    "over the shares. Most relevant first (MoRF), least relevant first (LeRF), and half of LeRF "
    "less MoRF.",
    paper="Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, "
    "ICML 2022, arXiv 2202.00449",
    direction=HIGHER,
    range=(-0.5, 0.5),
    needs="predictions",
    seeding="equal values are ordered by one seeded permutation; the imputation's noise is seeded "
    "and the same at a place in all pictures",
    limits="The paper counts correct predictions over a data set; this is the probability of one "
    "picture. Blurred maps do well, because compact holes are filled in with less than scattered "
    "ones.",
    quantities=(
        Quantity(key="road_morf", title="ROAD, most relevant first", direction=LOWER, range=(0, 1)),
        Quantity(
            key="road_lerf", title="ROAD, least relevant first", direction=HIGHER, range=(0, 1)
        ),
        Quantity(
            key="road",
            title="ROAD, combined",
            meaning="Half of the LeRF probability less the MoRF probability.",
            direction=HIGHER,
            range=(-0.5, 0.5),
        ),
    ),
    controls=PLACED,
)


def shares_of(text: str) -> tuple[float, ...]:
    """Return the shares in a comma-separated list, ascending, each once."""
    return tuple(sorted({float(part) for part in split_names(text)}))


def _measure(context: Context) -> Measured:
    context.require_maps()
    shares = shares_of(context.config.road_shares)
    order = context.once(ranks)
    last = order.shape[1] - 1
    morf, lerf = (_after(context, first, shares) for first in (order, last - order))
    curves = {"road_morf": by_subject(context, morf), "road_lerf": by_subject(context, lerf)}
    numbers = (morf.mean(axis=1), lerf.mean(axis=1), (lerf - morf).mean(axis=1) / 2)
    settings = _settings(context, shares)
    rows: list[Measurement] = []
    for quantity, values in zip(CARD.quantities, numbers, strict=True):
        found = by_subject(context, values)
        for subject in found:
            name = f"curve.{quantity.key}.{subject}" if quantity.key in curves else None
            row = measurement(quantity, subject, found, settings)
            rows.append(row.model_copy(update={"array": name}))
    return Measured(tuple(rows), _arrays(shares, curves))


def _after(context: Context, order: Tensor, shares: tuple[float, ...]) -> Values:
    """Return the probability (M, shares) after each share of each map's pixels was imputed.

    The pixels of rank 0, 1, ... in ``order`` (M, N) go first, by count: a threshold would remove
    none or all of the pixels that share a value.
    """
    counts = torch.tensor([round(share * order.shape[1]) for share in shares]).to(order)

    def build(start: int, stop: int) -> Tensor:
        rows = torch.arange(start, stop, device=order.device)
        missing = order[rows // len(counts)] < counts[rows % len(counts), None]
        holes = missing.view(-1, *context.pixels.shape[-2:])
        return imputed(context.pixels, holes, NOISE, context.config.seed)

    found = target_probabilities(context, len(order) * len(counts), build)
    return found.reshape(len(order), len(counts))


def _arrays(shares: tuple[float, ...], curves: Mapping[str, Mapping[str, Values]]) -> Arrays:
    return {
        f"curve.{key}.{subject}": np.vstack([shares, values]).astype(np.float32)
        for key, found in curves.items()
        for subject, values in found.items()
    }


def _settings(context: Context, shares: tuple[float, ...]) -> Mapping[str, JsonValue]:
    return {
        "score": "probability",
        "shares": list(shares),
        "imputation": f"linear, with noise of standard deviation {NOISE:g}",
        "removed by": "pixel count",
        "ties": "one seeded permutation",
        "seed": context.config.seed,
    }


def _work(plan: Plan) -> Mapping[str, Work]:
    if not plan.methods:
        return {}
    orders, shares = 2, shares_of(plan.config.road_shares)
    return {"imputed pictures": Work(orders * map_count(plan) * len(shares))}


METRIC = Metric(CARD, _measure, _work)
