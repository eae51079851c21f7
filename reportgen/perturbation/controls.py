"""Control maps: maps that know nothing of the model, for every score to stand beside.

A method that explains the model scores better than chance (random, smooth random), than the edges
of the picture, and than its centre. Papers: Adebayo et al., Sanity Checks for Saliency Maps,
NeurIPS 2018 (arXiv 1810.03292); Tomsett et al., Sanity Checks for Saliency Metrics, AAAI 2020
(arXiv 1912.01451).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reportgen.errors import unknown_name
from reportgen.perturbation.streams import stream

Size = tuple[int, int]


@dataclass(frozen=True)
class Control:
    """One kind of control map; ``random`` ones are drawn many times, the others exist once.

    ``maps`` takes a picture (C, H, W), the number of draws, and the seed.
    """

    title: str
    description: str
    random: bool
    maps: Callable[[Tensor, int, int], Tensor]


def control_maps(key: str, pixels: Tensor, draws: int, seed: int) -> Tensor:
    """Return the maps of control ``key`` for a picture (C, H, W), float32 on its device.

    Shape (draws, H, W) for a random control, (1, H, W) for the others; higher is more relevant.
    Raises UsageError for an unknown key.
    """
    if key not in CONTROLS:
        raise unknown_name("control map", key, CONTROLS)
    return CONTROLS[key].maps(pixels, draws, seed).float().to(pixels.device)


def random_maps(draws: int, size: Size, seed: int) -> Tensor:
    """Return maps (draws, H, W) on the CPU, uniform in [0, 1], each pixel drawn by itself."""
    streams = (stream(seed, "random map", draw) for draw in range(draws))
    return torch.stack([torch.rand(size, generator=generator) for generator in streams])


def smooth_random_maps(draws: int, size: Size, seed: int, grid: int = 7) -> Tensor:
    """Return maps (draws, H, W) on the CPU in [0, 1]: noise as coarse as a class activation map.

    Uniform noise of grid x grid, upsampled bilinearly (``align_corners=False``), as Grad-CAM's 7 x
    7 map of a picture of 224 pixels is.
    """
    streams = (stream(seed, "smooth random map", draw) for draw in range(draws))
    coarse = torch.stack([torch.rand((grid, grid), generator=g) for g in streams])
    return F.interpolate(coarse[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def sobel_map(pixels: Tensor) -> Tensor:
    """Return the strength of the edges (H, W), at least 0, of a picture (C, H, W).

    Sobel's gradient magnitude of the grey picture (the mean of the channels), without smoothing
    beyond Sobel's own, reflected at the border.
    """
    from skimage.filters import sobel

    edges = sobel(pixels.cpu().mean(0).numpy())
    return torch.from_numpy(edges).to(pixels)


def centre_map(size: Size) -> Tensor:
    """Return a Gaussian (H, W) on the CPU in (0, 1], highest in the centre of the picture.

    Its standard deviation is a quarter of the height downwards, a quarter of the width across.
    """
    down, across = _bell(size[0]), _bell(size[1])
    return (down[:, None] * across).float()


def _bell(side: int) -> Tensor:
    offsets = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    return torch.exp(-0.5 * (offsets / (side / 4)) ** 2)


def _size(pixels: Tensor) -> Size:
    return pixels.shape[-2], pixels.shape[-1]


def _random(pixels: Tensor, draws: int, seed: int) -> Tensor:
    return random_maps(draws, _size(pixels), seed)


def _smooth(pixels: Tensor, draws: int, seed: int) -> Tensor:
    return smooth_random_maps(draws, _size(pixels), seed)


def _edges(pixels: Tensor, draws: int, seed: int) -> Tensor:
    return sobel_map(pixels)[None]


def _centre(pixels: Tensor, draws: int, seed: int) -> Tensor:
    return centre_map(_size(pixels))[None]


CONTROLS: Mapping[str, Control] = {
    "random": Control("Random pixels", "uniform noise, each pixel by itself", True, _random),
    "smooth-random": Control(
        "Smooth random", "uniform noise of 7 x 7, upsampled bilinearly", True, _smooth
    ),
    "edges": Control("Edges", "Sobel gradient magnitude of the grey picture", False, _edges),
    "centre": Control(
        "Centre", "centred Gaussian, its sigma a quarter of each side", False, _centre
    ),
}
