"""The statistics of a survey: on arrays of numbers, and on nothing else."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from reportgen.perturbation.streams import stream

Numbers = NDArray[np.float64]

# What is drawn and multiplied at once, so that memory does not grow with the number of pictures.
_AT_ONCE = 1_000_000


def resampled_means(values: Numbers, resamples: int, seed: int) -> Numbers:
    """Return the means (k, resamples) of bootstrap samples of ``values`` (k, n).

    A sample draws n of the n columns with replacement, the same ones for all k rows.
    Efron, Bootstrap Methods, Annals of Statistics 1979.
    """
    count = values.shape[1]
    generator = stream(seed, "bootstrap", count)
    means = [values @ _weights(count, size, generator).T for size in _portions(resamples, count)]
    return np.concatenate(means, axis=1)


def mean_intervals(values: Numbers, criteria: tuple[int, float], seed: int) -> Numbers:
    """Return the bootstrap percentile interval (k, 2) of the mean of each row of values (k, n).

    ``criteria`` are the number of resamples and the confidence in (0, 1).
    """
    resamples, confidence = criteria
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    rows = max(1, _AT_ONCE // resamples)
    parts = [
        np.quantile(resampled_means(values[start : start + rows], resamples, seed), tails, axis=1).T
        for start in range(0, len(values), rows)
    ]
    return np.concatenate(parts) if parts else np.empty((0, 2))


def signed_rank(differences: Numbers) -> float | None:
    """Return the two-sided p of Wilcoxon's signed-rank test; None where no difference is not zero.

    Zeros are left out. Exact where nothing is tied; Wilcoxon, Biometrics Bulletin 1945.
    """
    # Imported late: scipy.stats is slow to import, and many reports need none of it.
    from scipy.stats import wilcoxon

    if not np.any(differences):
        return None
    with warnings.catch_warnings():
        # Of small samples with ties scipy says that its approximation is one.
        warnings.simplefilter("ignore", UserWarning)
        return float(wilcoxon(differences).pvalue)


def smallest_p(count: int) -> float:
    """Return the smallest two-sided p that the signed-rank test gives for ``count`` differences."""
    return min(1.0, 2.0 ** (1 - count))


def fewest_for(tests: int, significant: float) -> int:
    """Return the fewest differences with which one of ``tests`` can be clear after correction."""
    return next(n for n in itertools.count(1) if tests * smallest_p(n) <= significant)


def holm(ps: Sequence[float]) -> list[float]:
    """Return ``ps`` after the step-down correction of Holm, Scandinavian Journal 1979."""
    order = np.argsort(ps, kind="stable")
    steps = np.asarray(ps, dtype=np.float64)[order] * np.arange(len(ps), 0, -1)
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(ps) else steps
    return [float(p) for p in adjusted]


def _portions(resamples: int, count: int) -> list[int]:
    size = max(1, _AT_ONCE // count)
    return [min(size, resamples - start) for start in range(0, resamples, size)]


def _weights(count: int, size: int, generator: torch.Generator) -> Numbers:
    """Return how often each of ``count`` columns is drawn, over ``count``, for ``size`` samples."""
    drawn = torch.randint(count, (size, count), generator=generator)
    times = torch.zeros(size, count, dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones(size, count, dtype=torch.float64))
    return times.div(count).numpy()
