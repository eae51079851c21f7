"""Grad-CAM and LIME of a real network agree as far as the two libraries alone do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.filters import threshold_otsu
from torch import Tensor, nn
from toys import as_opened

from reportgen.attribution import METHODS
from reportgen.attribution.base import Request
from reportgen.attribution.segmentation import segment
from reportgen.classifier.classifier import Classifier, classifier_from
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.config import Config

Mask = NDArray[np.bool_]
# With 100 samples instead of 500, LIME's map of MobileNet is mostly sampling noise.
SAMPLES = 500
SHOWN = 15
# Ten pictures would take ten minutes on a slow core.
PICTURES = 4
# Mean overlap over ten pictures with the libraries alone: with Otsu's threshold on Grad-CAM, and
# with as many of its pixels as LIME's mask has. The mean of these four is 0.46 and 0.45.
LIBRARIES = {"otsu": 0.46, "equal area": 0.49}
TOLERANCE = 0.08


def mobilenet(assets: Path) -> nn.Module:
    ensure_torchvision()
    from torchvision.models import mobilenet_v2

    network = mobilenet_v2().eval()
    weights = assets / "weights" / "mobilenet_v2_imagenet.pth"
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network


def picture(path: Path) -> Tensor:
    """Return the centre (3, 224, 224) of a picture whose short side was made 256 pixels."""
    with Image.open(path) as file:
        rgb = file.convert("RGB")
    scale = 256 / min(rgb.size)
    rgb = rgb.resize(
        (round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.BILINEAR
    )
    left, top = (rgb.width - 224) // 2, (rgb.height - 224) // 2
    cut = np.asarray(rgb.crop((left, top, left + 224, top + 224)), dtype=np.float32)
    return torch.from_numpy(cut / 255).permute(2, 0, 1).contiguous()


def overlaps(classifier: Classifier, pixels: Tensor) -> dict[str, float]:
    config = Config(segmentation="quickshift", lime_samples=SAMPLES, lime_fill="black")
    target = classifier.predict(pixels).target.index
    asked = Request(classifier, pixels[None], target, config, 0, segment(pixels, config)[0])
    cam, lime = (METHODS[key].explain(asked).maps[0].numpy() for key in ("gradcam", "lime"))
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
    paths = sorted((assets / "images" / "imagenet").iterdir())[:PICTURES]
    given = Hints(crop=Known((224, 224), "option"), head=Known("softmax", "option"))
    opened = as_opened(mobilenet(assets))
    with classifier_from(opened, given, Config(device="cpu")) as classifier:
        found = [overlaps(classifier, picture(path)) for path in paths]
    assert len(found) == PICTURES
    for measure, expected in LIBRARIES.items():
        mean = float(np.mean([each[measure] for each in found]))
        assert mean == pytest.approx(expected, abs=TOLERANCE), measure
