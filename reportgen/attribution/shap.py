"""SHAP: the shap library's partition explainer over segments, masked in batches on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from torch import Tensor

from reportgen.attribution.base import Explained, Method, Request
from reportgen.attribution.coalitions import (
    Evaluate,
    additivity_gap,
    evaluator,
    numpy_seeded,
    spread,
)
from reportgen.attribution.segmentation import OPTIONS, segmentation_settings
from reportgen.config import Config
from reportgen.records import Card
from reportgen.work import Size, Work

CARD = Card(
    key="shap",
    title="SHAP",
    category="perturbation, Owen values",
    definition="Each segment's share of the class probability's change from a fully hidden picture "
    "to the whole one, averaged over orders in which a tree of segments is shown.",
    paper="Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017, "
    "arXiv 1705.07874; partition explainer of the shap library",
    needs="predictions",
    seeding="one seed breaks ties of equal splits; the segments and their tree are fixed",
    self_check="additivity gap: how far the map's sum is from the probability's change",
    limits="As coarse as the segments, and coarser where the evaluations did not reach the tree's "
    "leaves; depends on what hidden segments are filled with.",
    granularity="segments",
)
# Fixed: which splits are refined depends on how many are looked at together.
_SPLITS_AT_ONCE = 32
_PLACE_WEIGHT = 2.0
_ENDS = 2


class _SegmentMasker:
    """The extension point of shap: hands masks on as they are, to be applied on the device."""

    fixed_background = False

    def __init__(self, clustering: NDArray[np.float64]) -> None:
        self.clustering = clustering
        self.shape = (1, len(clustering) + 1)

    def __call__(self, mask: NDArray[np.bool_], _: Any) -> tuple[NDArray[np.bool_]]:
        return (mask[None],)

    def mask_shapes(self, _: Any) -> list[tuple[int, ...]]:
        return [self.shape[1:]]


def _explain(request: Request) -> Explained:
    results = [_values(request, pixels) for pixels in request.pixels]
    # Each segment's value is spread over its pixels, so that the map adds up to the change.
    maps = torch.stack([spread(values, request.segments) for values, _ in results])
    config = request.config
    return Explained(
        maps=maps.to(request.pixels.device),
        signed=True,
        resolution=f"{len(results[0][0])} segments",
        settings={
            "score": "probability",
            "evaluations": config.shap_evals,
            "fill": config.shap_fill,
            **segmentation_settings(config),
            "tree": "Ward linkage of mean colour and place",
            "seed": request.seed,
        },
        checks=(additivity_gap(CARD.key, *results[0]),),
        arrays={"segments": request.segments.astype(np.int32)},
    )


def segment_tree(pixels: Tensor, segments: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a binary tree over segments (H, W) of pixels (C, H, W), as scipy's linkage matrix.

    Segments that are near and alike are joined first.
    """
    picture = pixels.detach().cpu().double().numpy()
    height, width = segments.shape
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width) * _PLACE_WEIGHT
    areas = np.bincount(segments.ravel())
    features = [
        np.bincount(segments.ravel(), weights=plane.ravel()) / areas
        for plane in (*picture, rows, columns)
    ]
    return np.asarray(linkage(np.stack(features, axis=1), method="ward"))


def _values(request: Request, pixels: Tensor) -> tuple[NDArray[np.float64], float]:
    """Return each segment's value, and the change of probability that they should add up to."""
    tree = segment_tree(pixels, request.segments)
    evaluate = evaluator(request, pixels)
    ends = evaluate(np.array([[True] * (len(tree) + 1), [False] * (len(tree) + 1)]))
    values = partition_values(evaluate, tree, request.config.shap_evals, request.seed)
    return values, float(ends[0] - ends[1])


def partition_values(
    evaluate: Evaluate, tree: NDArray[np.float64], evaluations: int, seed: int
) -> NDArray[np.float64]:
    """Return shap's partition values (segments,) of ``evaluate``: shown (n, segments) -> (n,)."""
    from shap import links
    from shap.explainers import PartitionExplainer

    with _interpreted(), numpy_seeded(seed):
        # Named, because the default was bound before it could be replaced by plain Python.
        explainer = PartitionExplainer(evaluate, _SegmentMasker(tree), link=links.identity)
        explained = explainer(
            np.zeros((1, len(tree) + 1)),
            max_evals=evaluations,
            batch_size=_SPLITS_AT_ONCE,
            silent=True,
        )
    return np.asarray(explained.values[0], dtype=np.float64)


@contextmanager
def _interpreted() -> Iterator[None]:
    # Compiling shap's loops takes seconds in every process; over tens of segments, running them
    # as plain Python takes hundredths of one. The compiled functions are put back.
    from shap import links
    from shap.explainers import _partition
    from shap.utils import _clustering, _masked_model

    compiled = [
        (module, name, function)
        for module in (_partition, _clustering, _masked_model, links)
        for name, function in vars(module).items()
        if hasattr(function, "py_func")
    ]
    for module, name, function in compiled:
        setattr(module, name, function.py_func)
    try:
        yield
    finally:
        for module, name, function in compiled:
            setattr(module, name, function)


def _work(config: Config, size: Size) -> Work:
    """Return the ends, looked at for the values and for their check, and two images a split.

    Exact unless more than 2/3 (segments^2 - 1) evaluations are asked for: then a tree may be split
    to its leaves before. That takes at least 2/3 of what is planned for it here, by shap's own
    estimate, and at most what is asked for.
    """
    asked = -(-(config.shap_evals - _ENDS) // 2) * 2
    return Work(2 * _ENDS + min(asked, size.segments * (size.segments - 1)))


METHOD = Method(CARD, _explain, _work, ("shap_evals", "shap_fill", *OPTIONS))
