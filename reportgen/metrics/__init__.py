"""Metrics of maps and of the prediction. The order of METRICS is their order in the report.

A new metric is one file with a card and a function, and one line here; another package names its
own in the entry-point group ``reportgen.metrics``.
"""

from __future__ import annotations

from collections.abc import Mapping

from reportgen.extensions import with_extensions
from reportgen.metrics import (
    agreement,
    aopc,
    baselines,
    complexity,
    confidence,
    correlation,
    fidelity,
    infidelity,
    localisation,
    noise,
    random_logit,
    randomisation,
    road,
    rotation,
    sampling,
    sensitivity,
    stability,
)
from reportgen.metrics.base import Context, Measured, Metric
from reportgen.metrics.shared import Shared

METRICS: Mapping[str, Metric] = with_extensions(
    "reportgen.metrics",
    Metric,
    (
        fidelity.DELETION_METRIC,
        fidelity.INSERTION_METRIC,
        aopc.METRIC,
        baselines.METRIC,
        road.METRIC,
        confidence.METRIC,
        correlation.METRIC,
        infidelity.METRIC,
        localisation.METRIC,
        complexity.METRIC,
        agreement.AGREEMENT_METRIC,
        agreement.LOCATION_METRIC,
        randomisation.RANDOMISATION_METRIC,
        randomisation.CASCADING_METRIC,
        randomisation.EMPRT_METRIC,
        random_logit.METRIC,
        rotation.METRIC,
        noise.METRIC,
        sensitivity.METRIC,
        stability.METRIC,
        sampling.METRIC,
    ),
)

__all__ = ["METRICS", "Context", "Measured", "Metric", "Shared"]
