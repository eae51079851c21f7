"""Attribution methods. The order of METHODS is their order in the report.

A new method is one file with a card and a function, and one line here; another package names its
own in the entry-point group ``reportgen.methods``.
"""

from __future__ import annotations

from collections.abc import Mapping

from reportgen.attribution import (
    ablationcam,
    attention_relevance,
    attention_rollout,
    eigencam,
    gradcam,
    gradient_shap,
    gradients,
    guided,
    integrated_gradients,
    kernel_shap,
    lime,
    occlusion,
    rise,
    scorecam,
    shap,
    smoothgrad,
)
from reportgen.attribution.base import (
    Explained,
    Method,
    Request,
    failing_in_words,
    layer_finder,
)
from reportgen.extensions import with_extensions

_METHODS = with_extensions(
    "reportgen.methods",
    Method,
    (
        gradcam.METHOD,
        gradcam.PLUS_PLUS_METHOD,
        gradcam.LAYERCAM_METHOD,
        eigencam.METHOD,
        scorecam.METHOD,
        ablationcam.METHOD,
        attention_rollout.METHOD,
        attention_relevance.METHOD,
        shap.METHOD,
        lime.METHOD,
        integrated_gradients.METHOD,
        gradients.SALIENCY_METHOD,
        smoothgrad.METHOD,
        guided.METHOD,
        gradients.INPUT_X_GRADIENT_METHOD,
        gradient_shap.METHOD,
        occlusion.METHOD,
        kernel_shap.METHOD,
        rise.METHOD,
    ),
)

METHODS: Mapping[str, Method] = {key: failing_in_words(method) for key, method in _METHODS.items()}

__all__ = ["METHODS", "Explained", "Method", "Request", "layer_finder"]
