"""Grad-CAM and LIME of a real network agree as far as the two libraries alone do."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import reportgen
from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import Hints
from reportgen.config import load_config
from reportgen.image import open_image
from reportgen.pipeline import made_ready, report_on

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "seeds.py"
# Mean overlap over the ten pictures with the libraries alone: with Otsu's threshold on Grad-CAM,
# and with as many of its pixels as LIME's mask has.
LIBRARIES = {"otsu": 0.46, "equal area": 0.49}
TOLERANCE = 0.08
# Two fifths of what the libraries took; with these the means are 0.41 and 0.45.
SAMPLES = 200


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the benchmark that measures the overlap."""
    spec = importlib.util.spec_from_file_location("seeds", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "seeds", module)
    spec.loader.exec_module(module)
    return module


def test_the_measure_can_fail(seeds: ModuleType) -> None:
    a = np.eye(4, dtype=bool)
    assert seeds.overlap(a, a) == 1
    assert seeds.overlap(a, ~a) == 0


@pytest.mark.slow
def test_grad_cam_and_lime_agree_as_the_libraries_do(
    seeds: ModuleType, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = assets / "weights" / "mobilenet_v2_imagenet.pth"
    pictures = sorted((assets / "images" / "imagenet").iterdir())
    config = load_config(flags={**seeds.OVERLAP_OPTIONS, "lime_samples": SAMPLES})
    with made_ready(open_model(model), Hints(), config) as classifier:

        def explain(_: Path, picture: Path, __: Mapping[str, Any]) -> reportgen.Explanation:
            return reportgen.Explanation(*report_on(classifier, open_image(picture), config))

        # The model is made ready once for all pictures.
        monkeypatch.setattr(reportgen, "explain", explain, raising=False)
        found = [seeds.lime_overlap(model, picture) for picture in pictures]
    assert len(found) == len(seeds.PUBLISHED_OVERLAPS) == 10
    means = {key: float(np.mean([each[key] for each in found])) for key in LIBRARIES}
    assert means == pytest.approx(LIBRARIES, abs=TOLERANCE)
