"""Pictures turned about their centre."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rotated(pixels: Tensor, angles: Tensor, fill: Tensor) -> Tensor:
    """Return the picture (C, H, W) turned by each of ``angles`` (A,), as (A, C, H, W) in [0, 1].

    Angles are degrees, counter-clockwise as seen on screen; multiples of 360 return the picture
    exactly. Interpolation is bilinear, the size stays, and non-square pictures turn without
    shear. The picture lies on a ground of the colour ``fill`` (C,): pixels at its border blend
    into that colour, and are not darkened.
    """
    turns = angles.cpu().double() % 360
    colour = fill.to(pixels).view(-1, 1, 1)
    # Outside the picture grid_sample gives 0. Measured from the fill colour, 0 is that colour.
    offsets = (pixels - colour).expand(len(turns), *pixels.shape)
    turned = F.grid_sample(offsets, _grid(pixels, turns), align_corners=False)
    turned.add_(colour).clamp_(0, 1)
    for still in (turns == 0).nonzero().flatten().tolist():
        turned[still] = pixels
    return turned


def _grid(pixels: Tensor, turns: Tensor) -> Tensor:
    """Return where each turned pixel comes from, (A, H, W, 2), x and y in [-1, 1].

    Element by element instead of ``affine_grid``, whose matrix product is rounded where TF32 is
    allowed: by up to 0.08 pixels in a picture of 224.
    """
    height, width = pixels.shape[-2:]
    x = _centres(width).to(pixels)
    y = _centres(height).to(pixels)[:, None]
    radians = torch.deg2rad(turns).view(-1, 1, 1)
    cos, sin = radians.cos().to(pixels), radians.sin().to(pixels)
    grid = pixels.new_empty(len(turns), height, width, 2)
    torch.sub(cos * x, sin * (height / width) * y, out=grid[..., 0])
    torch.add(sin * (width / height) * x, cos * y, out=grid[..., 1])
    return grid


def _centres(side: int) -> Tensor:
    return (2 * torch.arange(side, dtype=torch.float64) + 1) / side - 1
