"""How much of the prediction is left under Gaussian, shot and impulse noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reportgen.errors import NotApplicable
from reportgen.metrics.base import HIGHER, LOWER, NO_MAP, Context, Measured, Metric, Plan
from reportgen.metrics.decision import decisions, followed, made
from reportgen.perturbation.corruption import (
    CORRUPTIONS,
    SEVERITIES,
    constants_for,
    corrupted,
    severity_constant,
)
from reportgen.records import Card, Measurement, Quantity
from reportgen.work import Work

NOISE = Card(
    key="noise",
    title="Prediction under noise",
    category="robustness of the prediction",
    definition="The top class's probability on noisy copies as a share of that on the picture, "
    "and the share of copies whose top class is another (with several labels a picture: the "
    "explained label's probability, and its crossings of the threshold); three noises, five "
    "severities.",
    paper="Hendrycks and Dietterich, ImageNet-C, ICLR 2019, arXiv 1903.12261",
    direction=HIGHER,
    range=(0, None),
    needs="predictions",
    seeding="each noise, severity and copy has its own seeded stream",
    limits="Noise is one way in which pictures get worse, of many.",
    quantities=(
        Quantity(
            key="noise_retention",
            title="Probability kept under noise",
            meaning="Mean over the copies, as a share of the probability on the picture.",
            direction=HIGHER,
            range=(0, None),
            form="percent",
        ),
        Quantity(
            key="noise_flips",
            title="Copies whose prediction is another",
            direction=LOWER,
            range=(0, 1),
            form="percent",
        ),
    ),
    controls=NO_MAP,
)
_SHOWN_SEVERITY = 3


def _noise(context: Context) -> Measured:
    if not followed(context).probability:
        raise NotApplicable("the class has the probability 0, of which nothing can be kept")
    measurements: list[Measurement] = []
    kept = np.zeros((len(CORRUPTIONS), len(SEVERITIES)))
    examples = []
    for row, kind in enumerate(CORRUPTIONS):
        copies = _copies(context, kind)
        shares, changed = _outcome(context, copies)
        examples.append(_example(copies, context.config.noise_draws))
        kept[row] = shares.mean(axis=1)
        for column, severity in enumerate(SEVERITIES):
            subject = f"{kind} {severity}"
            measurements.append(_retention(context, subject, shares[column]))
            measurements.append(_flips(context, subject, changed[column]))
    arrays: dict[str, NDArray[np.generic]] = {
        "noise.retention": kept.astype(np.float32),
        "noise.examples": np.stack(examples),
    }
    return Measured(tuple(measurements), arrays)


def _copies(context: Context, kind: str) -> Tensor:
    """Return the noisy copies (severities * draws, C, H, W), all of one severity together."""
    draws, seed = context.config.noise_draws, context.config.seed
    return torch.cat([corrupted(context.pixels, kind, level, draws, seed) for level in SEVERITIES])


def _outcome(context: Context, copies: Tensor) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return, (severities, draws), the share of probability kept and whether the answer changed."""
    watched = followed(context)
    outputs = context.classifier.probabilities(copies)
    kept = outputs[:, watched.index].double().cpu().numpy() / watched.probability
    changed = (decisions(context, outputs) != made(context)).cpu().numpy()
    shape = (len(SEVERITIES), context.config.noise_draws)
    return kept.reshape(shape), changed.reshape(shape)


def _retention(context: Context, subject: str, shares: NDArray[np.float64]) -> Measurement:
    several = len(shares) > 1
    return Measurement(
        metric="noise_retention",
        subject=subject,
        value=float(shares.mean()),
        direction=HIGHER,
        range=(0, None),
        interval=(float(shares.min()), float(shares.max())) if several else None,
        interval_kind=f"lowest and highest of {len(shares)} copies" if several else "",
        settings=_settings(context, subject),
        array="noise.retention",
    )


def _flips(context: Context, subject: str, changed: NDArray[np.bool_]) -> Measurement:
    return Measurement(
        metric="noise_flips",
        subject=subject,
        value=float(changed.mean()),
        direction=LOWER,
        range=(0, 1),
        settings=_settings(context, subject),
        detail={"copies": len(changed)},
    )


def _settings(context: Context, subject: str) -> dict[str, str | int | float]:
    kind, severity = subject.split()
    height, width = context.pixels.shape[-2:]
    return {
        "constants": constants_for((height, width)),
        CORRUPTIONS[kind].constant: severity_constant((height, width), kind, int(severity)),
        "draws": context.config.noise_draws,
        "seed": context.config.seed,
    }


def _example(copies: Tensor, draws: int) -> NDArray[np.uint8]:
    noisy = copies[SEVERITIES.index(_SHOWN_SEVERITY) * draws]
    return (noisy.permute(1, 2, 0) * 255).round().byte().cpu().numpy()


def _work(plan: Plan) -> Mapping[str, Work]:
    copies = len(CORRUPTIONS) * len(SEVERITIES) * plan.config.noise_draws
    return {"corrupted copies": Work(copies)}


METRIC = Metric(NOISE, _noise, _work)
