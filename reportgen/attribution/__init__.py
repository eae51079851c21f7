"""Attribution methods. The order of METHODS is their order in the report.

A new method is one file with a card and a function, and one line here; another package names its
own in the entry-point group ``reportgen.methods``.
"""

from __future__ import annotations

from collections.abc import Mapping

from reportgen.attribution import gradcam, gradients, lime, shap
from reportgen.attribution.base import Explained, Method, Request
from reportgen.extensions import with_extensions

METHODS: Mapping[str, Method] = with_extensions(
    "reportgen.methods",
    Method,
    (
        gradcam.METHOD,
        shap.METHOD,
        lime.METHOD,
        gradients.INTEGRATED_GRADIENTS_METHOD,
        gradients.SALIENCY_METHOD,
    ),
)

__all__ = ["METHODS", "Explained", "Method", "Request"]
