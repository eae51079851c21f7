"""The game of segments: which of them are shown decides the probability."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reportgen.attribution.base import Request
from reportgen.perturbation.removal import baseline, masked
from reportgen.records import Measurement

Evaluate = Callable[[NDArray[np.bool_]], NDArray[np.float64]]


def evaluator(request: Request, pixels: Tensor) -> Evaluate:
    """Return the function from shown segments (n, segments) to the target's probability (n,).

    Hidden segments of pixels (C, H, W) show ``shap_fill``; the masks are applied on the device.
    """
    segments = torch.from_numpy(request.segments).to(pixels.device)
    config, classifier = request.config, request.classifier
    fill = baseline(pixels, config.shap_fill, classifier.mean, request.seed)

    def evaluate(shown: NDArray[np.bool_]) -> NDArray[np.float64]:
        keep = torch.from_numpy(np.asarray(shown, dtype=bool)).to(pixels.device)
        probabilities = classifier.evaluator.probabilities(
            len(keep), lambda start, stop: masked(pixels, fill, segments, keep[start:stop])
        )
        return probabilities[:, request.target].double().cpu().numpy()

    return evaluate


def spread(values: NDArray[np.float64], segments: NDArray[np.int64]) -> Tensor:
    """Return the map (H, W) float32 that adds up to ``values`` (segments,).

    Each segment's value is shared equally by its pixels.
    """
    areas = np.bincount(segments.ravel(), minlength=len(values))
    return torch.from_numpy((values / areas)[segments]).float()


@contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which some libraries draw from, and put it back as found."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def additivity_gap(method: str, values: NDArray[np.float64], change: float) -> Measurement:
    """Return how far ``values`` (segments,) are from adding up to the probability's ``change``."""
    return Measurement(
        metric="additivity_gap",
        subject=method,
        value=abs(float(values.sum()) - change),
        direction="lower is better",
        range=(0, None),
        settings={"score": "probability"},
        detail={"probability change": change},
        note="" if change else "the probability is the same with everything hidden",
    )
