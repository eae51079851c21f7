"""Metrics of maps and of the prediction. The order of METRICS is their order in the report.

A new metric is one file with a card and a function, and one line here; another package names its
own in the entry-point group ``reportgen.metrics``.
"""

from __future__ import annotations

from collections.abc import Mapping

from reportgen.extensions import with_extensions
from reportgen.metrics import agreement, fidelity, noise, rotation, sensitivity
from reportgen.metrics.base import Context, Measured, Metric

METRICS: Mapping[str, Metric] = with_extensions(
    "reportgen.metrics",
    Metric,
    (
        fidelity.DELETION_METRIC,
        fidelity.INSERTION_METRIC,
        agreement.AGREEMENT_METRIC,
        agreement.LOCATION_METRIC,
        rotation.METRIC,
        noise.METRIC,
        sensitivity.METRIC,
    ),
)

__all__ = ["METRICS", "Context", "Measured", "Metric"]
