"""Grad-CAM and LIME of a real network agree as far as the two libraries alone do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

import reportgen

Mask = NDArray[np.bool_]
OPTIONS = {
    "methods": "gradcam,lime",
    "metrics": "",
    "segmentation": "quickshift",
    "lime_samples": 500,
    "lime_fill": "black",
}
SHOWN = 15
# Mean overlap over the ten pictures with the libraries alone: with Otsu's threshold on Grad-CAM,
# and with as many of its pixels as LIME's mask has.
LIBRARIES = {"otsu": 0.46, "equal area": 0.49}
TOLERANCE = 0.08


def overlaps(model: Path, picture: Path) -> dict[str, float]:
    """Return how far Grad-CAM and the fifteen segments for the class overlap, both ways."""
    arrays = reportgen.explain(model, picture, OPTIONS).arrays
    cam, lime = (arrays[f"map.{key}"].astype(float) for key in ("gradcam", "lime"))
    shown = lime >= np.unique(lime[lime > 0])[-SHOWN:][0]
    largest = cam >= np.sort(cam, axis=None)[-int(shown.sum())]
    return {
        "otsu": overlap(cam > threshold_otsu(cam), shown),
        "equal area": overlap(largest, shown),
    }


def overlap(a: Mask, b: Mask) -> float:
    """Return intersection over union."""
    return float((a & b).sum() / (a | b).sum())


def test_the_measure_can_fail() -> None:
    a = np.eye(4, dtype=bool)
    assert overlap(a, a) == 1
    assert overlap(a, ~a) == 0


@pytest.mark.slow
def test_grad_cam_and_lime_agree_as_the_libraries_do(assets: Path) -> None:
    model = assets / "weights" / "mobilenet_v2_imagenet.pth"
    pictures = sorted((assets / "images" / "imagenet").iterdir())
    found = [overlaps(model, picture) for picture in pictures]
    assert len(found) == 10
    means = {key: float(np.mean([each[key] for each in found])) for key in LIBRARIES}
    assert means == pytest.approx(LIBRARIES, abs=TOLERANCE)
