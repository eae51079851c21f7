"""How concentrated the maps are: on few pixels, or spread over all."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from reportgen.metrics.base import HIGHER, LOWER, Context, Measured, Metric, no_work
from reportgen.metrics.rows import Row, Values, measurements, stacked
from reportgen.metrics.yardstick import PLACED
from reportgen.records import Card, Quantity

EPSILON = 0.01
_ZERO = "the map is zero everywhere, and counts as uniform"

CARD = Card(
    key="complexity",
    title="Complexity",
    category="complexity",
    definition="How concentrated the absolute relevance is: its Gini coefficient, the entropy of "
    "its distribution over the pixels in nats, and the share of pixels that hold more than 1% of "
    "its maximum.",
    paper="Chalasani et al., ICML 2020, arXiv 1810.06583 (Gini); Bhatt et al., IJCAI 2020, arXiv "
    "2005.00631 (entropy); Nguyen and Martinez, 2020, arXiv 2007.07584 (effective complexity)",
    needs="maps",
    seeding="none",
    limits="Bound to the resolution: a map upsampled from a coarse feature map can never be "
    "sparse, so compare only methods of the same granularity. Says nothing of whether the map is "
    "right: one arbitrary pixel is the least complex map of all.",
    quantities=(
        Quantity(
            key="gini",
            title="Sparseness (Gini)",
            meaning="0 where all pixels are alike, 1 - k/N where k of N pixels hold everything "
            "in equal parts.",
            direction=HIGHER,
            range=(0, 1),
        ),
        Quantity(
            key="entropy",
            title="Complexity (entropy)",
            meaning="0 where one pixel holds everything, ln N where all N are alike; its share of "
            "ln N stands in the detail.",
            direction=LOWER,
            range=(0, None),
        ),
        Quantity(
            key="effective_complexity",
            title="Effective complexity",
            meaning="Share of pixels whose absolute relevance is above 1% of the map's maximum.",
            direction=LOWER,
            range=(0, 1),
            form="percent",
        ),
    ),
    controls=PLACED,
)


def gini(shares: Tensor) -> Values:
    """Return the Gini coefficient (M,) in [0, 1 - 1/N] of shares (M, N), each row adding up to 1.

    Paper: Chalasani et al., ICML 2020.
    """
    count = shares.shape[1]
    weights = 2 * np.arange(1, count + 1) - count - 1.0
    # Rounding may leave an equal distribution a hair below zero.
    return np.asarray((np.sort(shares.numpy(), axis=1) @ weights / count).clip(0, 1))


def entropy(shares: Tensor) -> Tensor:
    """Return the entropy (M,) in nats, in [0, ln N], of shares (M, N), each row adding up to 1.

    Paper: Bhatt et al., IJCAI 2020.
    """
    return (-torch.xlogy(shares, shares).sum(dim=1)).clamp(0, math.log(shares.shape[1]))


def shares_of(maps: Tensor) -> Tensor:
    """Return the share (M, N) float64 that each pixel has in the absolute relevance of its map.

    ``maps`` are (M, H, W). In a map of zeros all pixels have the same share.
    """
    sizes = maps.flatten(1).double().abs()
    # A whole map may be so small that its sum would lose its digits.
    highest = sizes.amax(dim=1, keepdim=True)
    sizes = torch.where(highest > 0, sizes / highest, 1.0)
    return sizes / sizes.sum(dim=1, keepdim=True)


def _complexity(context: Context) -> Measured:
    maps = context.once(stacked)
    shares = shares_of(maps)
    zero = {_ZERO: (maps.flatten(1) == 0).all(dim=1).numpy()}
    spread = entropy(shares).numpy()
    limit = math.log(shares.shape[1])
    above = shares > EPSILON * shares.amax(dim=1, keepdim=True)
    rows = (
        Row(gini(shares), {"of": "absolute relevance"}, zero),
        Row(
            spread,
            {"of": "absolute relevance", "unit": "nats", "ln N": limit},
            zero,
            {"share of ln N": spread / limit} if limit else {},
        ),
        Row(
            above.double().mean(dim=1).numpy(),
            {"of": "absolute relevance", "above share of the maximum": EPSILON},
            zero,
        ),
    )
    found = zip(CARD.quantities, rows, strict=True)
    return Measured(
        tuple(m for quantity, row in found for m in measurements(context, quantity, row))
    )


METRIC = Metric(CARD, _complexity, no_work)
