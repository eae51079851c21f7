"""LIME: the lime library's solver, fed with pictures masked in batches on the device."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reportgen.attribution.base import Explained, Method, Request
from reportgen.attribution.segmentation import OPTIONS, segmentation_settings
from reportgen.config import Config
from reportgen.perturbation.removal import baseline, masked, segment_mean
from reportgen.records import Card, Measurement
from reportgen.work import Size, Work

CARD = Card(
    key="lime",
    title="LIME",
    category="perturbation, local surrogate",
    definition="The weights of a linear model that predicts the class probability from which "
    "segments of the picture are shown; fitted to random maskings, near ones counting more.",
    paper="Ribeiro et al., Why Should I Trust You?, KDD 2016, arXiv 1602.04938",
    needs="predictions",
    seeding="one seed draws the maskings; the segments are fixed",
    self_check="R2 of the linear model, weighted as in its fit",
    limits="As coarse as the segments; depends on what hidden segments are filled with.",
    granularity="segments",
)
_KERNEL_WIDTH = 0.25


def _explain(request: Request) -> Explained:
    shown = _maskings(request)
    fits = [_fit(request, pixels, shown) for pixels in request.pixels]
    segments = torch.from_numpy(request.segments)
    maps = torch.stack([weights[segments] for weights, _ in fits]).float()
    config = request.config
    return Explained(
        maps=maps.to(request.pixels.device),
        signed=True,
        resolution=f"{shown.shape[1]} segments",
        settings={
            "score": "probability",
            "samples": config.lime_samples,
            "features": config.lime_features or "all",
            "fill": config.lime_fill,
            **segmentation_settings(config),
            "kernel width": _KERNEL_WIDTH,
            "distance": "cosine, from the whole picture",
            "surrogate": "ridge regression, alpha 1, with an intercept",
            "seed": request.seed,
        },
        checks=(_surrogate_r2(fits[0][1]),),
        arrays={"segments": request.segments.astype(np.int32)},
    )


def _maskings(request: Request) -> NDArray[np.int64]:
    """Return which segments are shown, (samples, segments) of 0 and 1; the first shows all."""
    shape = (request.config.lime_samples, int(request.segments.max()) + 1)
    # The library's own order of draws, so that the same seed gives the library's map.
    shown = np.random.RandomState(request.seed).randint(0, 2, shape[0] * shape[1]).reshape(shape)
    shown[0] = 1
    return shown


def _fit(request: Request, pixels: Tensor, shown: NDArray[np.int64]) -> tuple[Tensor, float | None]:
    """Return the weight of each segment, and the R2 of the linear model.

    R2 is None where all probabilities are equal: there is nothing to explain.
    """
    # Imported late: they bring scikit-learn, scipy.stats and pandas.
    from lime.lime_base import LimeBase
    from sklearn.metrics import pairwise_distances

    probabilities = _probabilities(request, pixels, shown)
    weights = torch.zeros(shown.shape[1], dtype=torch.float64)
    if np.ptp(probabilities) == 0:
        return weights, None
    distances = pairwise_distances(shown, shown[:1], metric="cosine").ravel()
    solver = LimeBase(partial(_kernel, width=_KERNEL_WIDTH), random_state=request.seed)
    features = request.config.lime_features or shown.shape[1]
    _, pairs, r2, _ = solver.explain_instance_with_data(
        shown, probabilities[:, None], distances, 0, features
    )
    for index, weight in pairs:
        weights[int(index)] = float(weight)
    return weights, float(r2)


def _probabilities(
    request: Request, pixels: Tensor, shown: NDArray[np.int64]
) -> NDArray[np.float64]:
    segments = torch.from_numpy(request.segments).to(pixels.device)
    keep = torch.from_numpy(shown.astype(bool)).to(pixels.device)
    fill = _fill(request, pixels, segments)
    probabilities = request.classifier.evaluator.probabilities(
        len(keep), lambda start, stop: masked(pixels, fill, segments, keep[start:stop])
    )
    return probabilities[:, request.target].double().cpu().numpy()


def _fill(request: Request, pixels: Tensor, segments: Tensor) -> Tensor:
    if request.config.lime_fill == "segment-mean":
        return segment_mean(pixels, segments)
    return baseline(pixels, request.config.lime_fill, request.classifier.mean, request.seed)


def _kernel(distance: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.exp(-(distance**2) / width**2)))


def _surrogate_r2(value: float | None) -> Measurement:
    return Measurement(
        metric="surrogate_r2",
        subject=CARD.key,
        value=value,
        direction="higher is better",
        range=(None, 1),
        settings={"weighting": "the kernel of the fit"},
        note="the probability is the same under every masking" if value is None else "",
    )


def _work(config: Config, size: Size) -> Work:
    return Work(config.lime_samples)


METHOD = Method(CARD, _explain, _work, ("lime_samples", "lime_features", "lime_fill", *OPTIONS))
