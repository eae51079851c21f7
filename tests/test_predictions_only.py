"""Whole reports on models that give predictions only: what is left out says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import reportgen
from reportgen import api
from reportgen.attribution import METHODS
from reportgen.errors import ImageError, UsageError
from reportgen.parameters import parameters_of
from reportgen.records import Report
from reportgen.render.html import to_html
from reportgen.work import Work

OPTIONS = {
    "profile": "quick",
    "lime_samples": 20,
    "shap_evals": 20,
    "segments": 9,
    "rise_masks": 20,
    "occlusion_cells": 4,
    "lime_fill": "black",
    "shap_fill": "black",
}
METRICS = "deletion,confidence,agreement,random-logit,randomisation,noise,sensitivity"


def predict(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how bright a picture is on the left, and on the right."""
    left, right = np.split(pictures, 2, axis=2)
    return np.stack([left.mean((1, 2, 3)), right.mean((1, 2, 3))], axis=1) * 8


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    rows = np.linspace(0, 255, 32).repeat(24).reshape(32, 24).T
    return np.repeat(rows[..., None], 3, axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def explained(picture: NDArray[np.uint8]) -> api.Explanation:
    return reportgen.explain(predict, picture, {**OPTIONS, "methods": "all", "metrics": METRICS})


def skipped(report: Report) -> dict[str, str]:
    return {step.step: step.reason for step in report.skipped}


def test_what_needs_more_than_predictions_is_left_out_with_the_reason(
    explained: api.Explanation,
) -> None:
    possible = [name for name, method in METHODS.items() if method.card.needs == "predictions"]
    assert [a.method for a in explained.report.attributions] == possible
    assert {"shap", "lime", "occlusion", "kernel-shap", "rise"} == set(possible)
    reasons = skipped(explained.report)
    assert reasons.keys() == {*METHODS, "randomisation"} - set(possible)
    assert set(reasons.values()) == {
        "this step needs gradients, or what the network computes inside, and the model gives "
        "predictions only, because it is a Python function"
    }
    measured = {measurement.metric for measurement in explained.report.measurements}
    assert {"deletion", "random_logit_spearman", "noise_flips", "iou", "sensitivity"} <= measured


def test_no_pass_goes_back(explained: api.Explanation) -> None:
    passes = explained.report.provenance.passes
    assert sum(each.backward for each in passes) == 0
    assert sum(each.forward for each in passes) > 100


def test_the_maps_are_those_of_the_function(explained: api.Explanation) -> None:
    # The right half is brighter, and every segment there speaks for it.
    for method in ("shap", "lime"):
        left, right = np.split(explained.arrays[f"map.{method}"], 2, axis=1)
        assert right.mean() > 0 > left.mean()


def test_the_report_says_so_in_words(explained: api.Explanation, tmp_path: Path) -> None:
    said = "The model gives predictions only (it is a Python function"
    page = to_html(explained.report, explained.arrays)
    assert said in page
    assert "unknown" in page  # how many parameters there are
    assert parameters_of(explained.report, "lime").startswith("# LIME")
    files = explained.save(tmp_path / "out", ("html", "json"))
    again = reportgen.load(next(file for file in files if file.name == "report.json"))
    assert again.report == explained.report


def test_a_report_on_a_network_does_not(picture: NDArray[np.uint8]) -> None:
    from torch import nn

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    options = {**OPTIONS, "size": "24x32", "methods": "saliency", "metrics": "confidence"}
    report = reportgen.explain(network, picture, options).report
    assert report.fact("model.predictions_only") is None
    assert skipped(report) == {}


def test_the_forecast_leaves_out_what_will_be_left_out(
    picture: NDArray[np.uint8], explained: api.Explanation
) -> None:
    methods = "gradcam,lime,shap,integrated-gradients"
    asked = {**OPTIONS, "methods": methods, "metrics": METRICS}
    found = api.foresee(predict, picture, asked)
    assert [step.name for step in found.methods] == ["shap", "lime"]
    assert "randomisation" not in {step.name for step in found.metrics}
    assert found.work.backward == 0
    assert found.memory is None
    counted = {p.stage: p.forward for p in explained.report.provenance.passes}
    assert {s.name: s.work for s in found.methods}["lime"] == Work(counted["lime"])


def test_memory_that_cannot_be_measured_cannot_be_bounded(picture: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError, match=r"max_memory cannot be kept .*it is a Python function"):
        reportgen.explain(predict, picture, {**OPTIONS, "max_memory": "1GB"})


@pytest.mark.parametrize("size", ["", "16x24"])
def test_surveys_take_functions_too(size: str, picture: NDArray[np.uint8], tmp_path: Path) -> None:
    options: dict[str, Any] = {**OPTIONS, "size": size, "methods": "lime", "metrics": "confidence"}
    surveyed = api.survey(
        predict, [picture, picture[:, ::-1]], tmp_path / "out", options, ("json",)
    )
    entries = surveyed.survey.entries
    assert [entry.reason for entry in entries] == ["", ""]


def test_no_picture_no_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError):
        api.survey(predict, [tmp_path / "a.png", tmp_path / "a.png"], tmp_path / "out", OPTIONS)
