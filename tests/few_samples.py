"""Options for a report of few samples, and how the numbers of two reports are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reportgen.records import Report

# Few samples: these tests look at how the parts fit together, not at how good the maps are.
TINY: Mapping[str, Any] = {
    "lime_samples": 40,
    "shap_evals": 20,
    "segments": 16,
    "ig_steps": 6,
    "curve_steps": 6,
    "control_draws": 2,
    "rotation_step": 30.0,
    "noise_draws": 1,
    "sensitivity_draws": 1,
    "sensitivity_samples": 12,
    "sensitivity_steps": 3,
}


def numbers(report: Report) -> dict[str, float]:
    """Return every measured number of a report, by metric and subject."""
    values = {
        f"{m.metric} {m.subject}": m.value for m in report.measurements if m.value is not None
    }
    target = report.prediction.target
    return {**values, "probability": target.probability, "score": target.score}


def check_close(first: Mapping[str, float], second: Mapping[str, float], tolerance: float) -> None:
    """Check that two reports hold the same numbers to within ``tolerance``."""
    assert first.keys() == second.keys()
    far = {
        name: (first[name], second[name])
        for name in first
        if abs(first[name] - second[name]) > tolerance
    }
    assert not far
