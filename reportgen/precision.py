"""Whether a coarser number format is good enough for the picture at hand.

Maps, curves and their places among control maps rest on the order of probabilities, so the order is
what is compared: that of masked copies of the picture, in both formats.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reportgen.classifier.classifier import Classifier
from reportgen.classifier.evaluator import Build
from reportgen.errors import NotApplicable
from reportgen.perturbation.removal import baseline, masked
from reportgen.perturbation.streams import stream
from reportgen.records import PrecisionCheck

PICTURES = 32
LEAST_RANK_CORRELATION = 0.99


def choose_precision(
    classifier: Classifier, pixels: Tensor, segments: Tensor, target: int, seed: int
) -> PrecisionCheck | None:
    """Let the classifier stream pixels (C, H, W) in its reduced precision if that ranks alike.

    The target's probabilities of 32 copies, in each of which a random share of the ``segments``
    (H, W) int is grey, are compared between the network's own precision and the reduced one. None
    where no reduced precision was asked for.
    """
    evaluator = classifier.evaluator
    evaluator.reducing = False
    if evaluator.copies.reduced is None:
        return None
    build = _copies(classifier, pixels, segments, seed)
    own = _probabilities(classifier, build, target)
    evaluator.reducing = True
    reduced = _probabilities(classifier, build, target)
    check = compared(evaluator.copies.precision, own, reduced)
    evaluator.reducing = check.used
    return check


def compared(
    precision: str, own: NDArray[np.float64], reduced: NDArray[np.float64]
) -> PrecisionCheck:
    """Return how far probabilities (n,) in a reduced ``precision`` are from the network's ``own``.

    Where one of the two has no order, because all its probabilities are equal, or some are not
    finite, there is no rank correlation, and the reduced precision is not used.
    """
    # Imported late: scipy.stats is slow to import, and many reports need none of it.
    from scipy.stats import spearmanr

    differences = np.abs(own - reduced)
    finite = bool(np.isfinite(differences).all())
    ordered = finite and min(np.ptp(own), np.ptp(reduced)) > 0
    rank = float(spearmanr(own, reduced).statistic) if ordered else None
    return PrecisionCheck(
        precision=precision,
        used=rank is not None and rank >= LEAST_RANK_CORRELATION,
        pictures=len(own),
        least=LEAST_RANK_CORRELATION,
        rank_correlation=rank,
        largest_difference=float(differences.max()) if finite else None,
        mean_difference=float(differences.mean()) if finite else None,
    )


def _copies(classifier: Classifier, pixels: Tensor, segments: Tensor, seed: int) -> Build:
    draws, count = stream(seed, "precision"), int(segments.max()) + 1
    share = torch.rand(PICTURES, 1, generator=draws)
    keep = (torch.rand(PICTURES, count, generator=draws) < share).to(pixels.device)
    fill = baseline(pixels, "mean", classifier.mean, seed)
    return lambda start, stop: masked(pixels, fill, segments, keep[start:stop])


def _probabilities(classifier: Classifier, build: Build, target: int) -> NDArray[np.float64]:
    try:
        found = classifier.evaluator.probabilities(PICTURES, build)[:, target]
    except NotApplicable:  # some are NaN or infinite
        return np.full(PICTURES, math.nan)
    values: NDArray[np.float64] = found.double().cpu().numpy()
    return values
