"""Kernel SHAP: the shap library's solver over segments, masked in batches on the device."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
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
from reportgen.errors import NotApplicable
from reportgen.records import Card
from reportgen.work import Size, Work

# The library draws maskings in opposite pairs, which say the same twice: with two a segment the
# equations hardly have one answer, and it is mostly noise (on a photograph of 44 segments, r = 0.1
# with the values from 36 a segment, and five times their size); with four, r = 0.8.
FEWEST_EACH = 4
_ENDS = 2

CARD = Card(
    key="kernel-shap",
    title="Kernel SHAP",
    category="perturbation, Shapley values",
    definition="Each segment's share of the class probability's change from a fully hidden picture "
    "to the whole one, averaged over all orders in which segments are shown: Shapley values, "
    "estimated by a weighted linear fit to random maskings.",
    paper="Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017, "
    "arXiv 1705.07874; kernel explainer of the shap library",
    needs="predictions",
    seeding="one seed draws the maskings; the segments are fixed",
    self_check="additivity gap: how far the map's sum is from the probability's change; the fit "
    "is made to add up, so what is left is rounding",
    limits="As coarse as the segments; sampled, unless there are few segments; depends on what "
    "hidden segments are filled with. At least four masked pictures a segment are looked at, "
    "also where fewer are asked for.",
    granularity="segments",
)


def _explain(request: Request) -> Explained:
    results = [_values(request, pixels) for pixels in request.pixels]
    values, evaluations, change = results[0]
    maps = torch.stack([spread(each, request.segments) for each, _, _ in results])
    config = request.config
    return Explained(
        maps=maps.to(request.pixels.device),
        signed=True,
        resolution=f"{len(values)} segments",
        settings={
            "score": "probability",
            "evaluations asked for": config.shap_evals,
            "evaluations": evaluations,
            "fill": config.shap_fill,
            **segmentation_settings(config),
            "regularisation": "none",
            "seed": request.seed,
        },
        checks=(additivity_gap(CARD.key, values, change),),
        arrays={"segments": request.segments.astype(np.int32)},
    )


def _values(request: Request, pixels: Tensor) -> tuple[NDArray[np.float64], int, float]:
    """Return each segment's value, the pictures looked at, and the probability's change."""
    game = evaluator(request, pixels)
    segments = int(request.segments.max()) + 1
    seen: list[NDArray[np.float64]] = []

    def counted(shown: NDArray[np.bool_]) -> NDArray[np.float64]:
        seen.append(game(shown))
        return seen[-1]

    maskings = _maskings(request.config, segments)
    values = kernel_values(counted, segments, maskings, request.seed)
    # The library looks first at the hidden picture, then at the whole one.
    return values, sum(map(len, seen)), float(seen[1][0] - seen[0][0])


def _maskings(config: Config, segments: int) -> int:
    return max(config.shap_evals - _ENDS, FEWEST_EACH * segments)


def kernel_values(
    evaluate: Evaluate, segments: int, maskings: int, seed: int
) -> NDArray[np.float64]:
    """Return shap's kernel values (segments,) of ``evaluate``: shown (n, segments) -> (n,).

    Exact Shapley values where ``maskings`` are enough for every masking but the two ends. Raises
    NotApplicable where the maskings drawn do not tell the segments apart.
    """
    from shap.explainers import KernelExplainer

    with numpy_seeded(seed), warnings.catch_warnings():
        warnings.filterwarnings("error", "Linear regression equation is singular", UserWarning)
        explainer = KernelExplainer(evaluate, np.zeros((1, segments)))
        try:
            found = explainer.shap_values(
                np.ones((1, segments)), nsamples=maskings, l1_reg=False, silent=True
            )
        except UserWarning:
            raise NotApplicable(
                f"{maskings} maskings do not tell {segments} segments apart; raise shap_evals"
            ) from None
    return np.asarray(found, dtype=np.float64).reshape(segments)


def _work(config: Config, size: Size) -> Work:
    """Return the ends and the maskings, of which there are no more than exist."""
    return Work(_ENDS + min(_maskings(config, size.segments), 2**size.segments - _ENDS))


METHOD = Method(CARD, _explain, _work, ("shap_evals", "shap_fill", *OPTIONS))
