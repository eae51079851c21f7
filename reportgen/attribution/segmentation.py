"""Cutting a picture into the segments that LIME and SHAP hide and show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from skimage.color import gray2rgb
from skimage.segmentation import quickshift, relabel_sequential, slic
from torch import Tensor
from torch.nn import functional as F

from reportgen.config import Config

Segments = NDArray[np.int64]
FEWEST = 4
"""The fewest segments that say anything."""

_PIXELS_EACH = 16  # four by four
# What takes seconds on 1024 pixels finds the same segments on fewer; a grid costs nothing.
_LARGEST_SIDES: Mapping[str, int] = {"slic": 512, "quickshift": 384}


# Of quickshift, those of the lime library; of SLIC, scikit-image's default.
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "slic": {"compactness": 10},
    "quickshift": {"kernel_size": 4, "max_dist": 200, "ratio": 0.2},
    "grid": {},
}
# The options that decide the segments.
OPTIONS = ("segmentation", "segments")


def segmentation_settings(config: Config) -> dict[str, JsonValue]:
    """Return how the segments of a run were made, for the settings of a method that uses them."""
    kind = config.segmentation
    return {
        "segmentation": kind,
        "segments asked for": config.segments if kind != "quickshift" else None,
        **{f"segmentation {name}": value for name, value in PARAMETERS[kind].items()},
    }


def segment(pixels: Tensor, config: Config) -> tuple[Segments, str]:
    """Return the segments (H, W) of pixels (C, H, W), numbered from 0, and how they were found.

    The number asked for shrinks on small pictures, so that a segment keeps about 4x4 pixels; where
    an algorithm finds fewer than four segments, a grid takes its place. In pictures of more than
    512 pixels (384 for quickshift) each of them is a square of several pixels to the algorithm.
    """
    height, width = pixels.shape[-2:]
    count = max(FEWEST, min(config.segments, height * width // _PIXELS_EACH))
    kind: str = config.segmentation
    step = -(-max(height, width) // _LARGEST_SIDES.get(kind, max(height, width)))
    reduced = F.avg_pool2d(pixels.detach().cpu()[None], step, ceil_mode=True)[0]
    picture = reduced.permute(1, 2, 0).double().numpy()
    small = SEGMENTATIONS[kind](picture, count, config.seed)
    found = small.repeat(step, axis=0).repeat(step, axis=1)[:height, :width]
    if len(np.unique(found)) < FEWEST:
        kind, found = "grid", _grid(found, count, config.seed)
    return relabel_sequential(found + 1)[0].astype(np.int64) - 1, kind


def _slic(picture: NDArray[np.float64], count: int, seed: int) -> Segments:
    return np.asarray(slic(picture, n_segments=count, start_label=0, **PARAMETERS["slic"]))


def _quickshift(picture: NDArray[np.float64], count: int, seed: int) -> Segments:
    rgb = gray2rgb(picture[..., 0]) if picture.shape[2] == 1 else picture
    colours = rgb.shape[2] == 3
    return np.asarray(quickshift(rgb, rng=seed, convert2lab=colours, **PARAMETERS["quickshift"]))


def _grid(picture: NDArray[Any], count: int, seed: int) -> Segments:
    height, width = picture.shape[:2]
    rows = max(2, round((count * height / width) ** 0.5))
    columns = max(2, round(count / rows))
    down = np.arange(height) * rows // height
    across = np.arange(width) * columns // width
    return np.asarray(down[:, None] * columns + across[None, :])


SEGMENTATIONS: Mapping[str, Callable[[NDArray[np.float64], int, int], Segments]] = {
    "slic": _slic,
    "quickshift": _quickshift,
    "grid": _grid,
}
