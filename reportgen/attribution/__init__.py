"""Attribution methods. The order of METHODS is their order in the report.

A new method is one file with a card and a function, and one line here.
"""

from __future__ import annotations

from collections.abc import Mapping

from reportgen.attribution import gradcam, gradients, lime, shap
from reportgen.attribution.base import Explained, Method, Request

METHODS: Mapping[str, Method] = {
    method.card.key: method
    for method in (
        gradcam.METHOD,
        shap.METHOD,
        lime.METHOD,
        gradients.INTEGRATED_GRADIENTS_METHOD,
        gradients.SALIENCY_METHOD,
    )
}

__all__ = ["METHODS", "Explained", "Method", "Request"]
