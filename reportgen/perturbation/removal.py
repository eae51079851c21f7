"""Pixels taken away: what takes their place, in which order they go, and the batches that result.

``pixels`` is a picture (C, H, W) in [0, 1]; ``fill`` is a second picture of the same shape, whose
pixels take the place of the removed ones. With N = H * W, one rank belongs to each pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reportgen.config import Baseline
from reportgen.errors import NotApplicable, UsageError, unknown_name
from reportgen.perturbation.streams import stream

RISE_SIDE = 224
RISE_KERNEL = 11
RISE_SIGMA = 5.0
SMALLEST_KERNEL = 3


def baseline(pixels: Tensor, kind: Baseline, mean: Sequence[float], seed: int) -> Tensor:
    """Return the picture (C, H, W) in [0, 1] that stands for "nothing to see here".

    ``black`` is 0; ``mean`` is the data set's mean colour, which normalisation maps to 0;
    ``image-mean`` is the picture's own mean colour; ``blur`` is the picture under the blur of RISE
    (Petsiuk, Das and Saenko, BMVC 2018, arXiv 1806.07421), scaled to the picture's size; ``noise``
    is uniform in [0, 1], each channel value by itself, and alone uses ``seed``. ``mean`` holds one
    value in [0, 1] a channel. All are made on the CPU, where convolutions are not rounded to TF32,
    so that every device gets the same fill.

    Raises UsageError for an unknown kind or a mean of the wrong length, and NotApplicable for the
    blur of a picture with a side of one pixel.
    """
    if kind not in BASELINES:
        raise unknown_name("baseline", kind, BASELINES)
    if len(mean) != len(pixels):
        raise UsageError(
            f"Expected a mean of {len(pixels)} values, one a channel, and got {len(mean)}; "
            "give as many as the picture has channels."
        )
    return BASELINES[kind](pixels.cpu(), mean, seed).to(pixels.device)


def removal_ranks(maps: Tensor, seed: int) -> Tensor:
    """Return the rank (M, N) int32 of each pixel of finite ``maps`` (M, H, W): 0 goes first.

    The highest signed value has rank 0. Equal values are ordered by one random permutation, the
    same for all maps: equal maps get equal ranks, and no map profits from the raster order.
    """
    values = maps.flatten(1)
    shuffle = torch.randperm(values.shape[1], generator=stream(seed, "ties")).to(maps.device)
    order = shuffle.take(_descending(values.index_select(1, shuffle)))
    places = torch.arange(values.shape[1], dtype=torch.int32, device=maps.device)
    return torch.empty_like(order, dtype=torch.int32).scatter_(1, order, places.expand_as(order))


def _descending(values: Tensor) -> Tensor:
    """Return the places (M, N) int64 of the values in each row, the highest first, ties in order.

    On a CPU numpy's sort, which is vectorised but not stable, is several times as fast as a stable
    one. It is given whole numbers, no two alike: a float32 value above, and its place below.
    """
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return values.argsort(dim=1, descending=True, stable=True)
    bits = (0 - values).view(torch.int32)  # from 0, so that -0 is 0
    # Of negative numbers the bits grow with the size; turned round, all are in the numbers' order.
    rising = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    keys = (rising << 32) | torch.arange(values.shape[1])
    return torch.from_numpy(np.sort(keys.numpy(), axis=1)) & 0xFFFFFFFF


def removal_counts(pixels: int, steps: int) -> list[int]:
    """Return how many of ``pixels`` are gone at each fraction 0, 1/steps, ..., 1.

    Counts are rounded (halves up), strictly increasing, and include 0 and ``pixels``: steps + 1
    of them, or fewer where there are fewer pixels than steps. Raises UsageError for less than one
    pixel or one step.
    """
    if pixels < 1 or steps < 1:
        raise UsageError(
            f"Expected at least one pixel and one step and got {pixels} and {steps}; "
            "give a larger picture or more curve_steps."
        )
    halves_up = ((2 * step * pixels + steps) // (2 * steps) for step in range(steps + 1))
    return list(dict.fromkeys(halves_up))


def removed(pixels: Tensor, fill: Tensor, ranks: Tensor, counts: Sequence[int]) -> Tensor:
    """Return one picture (K, C, H, W) for each of K ``counts``: that many pixels are from ``fill``.

    ``ranks`` (N,) says which go first. Deletion is ``removed(picture, baseline, ...)``, insertion
    ``removed(baseline, picture, ...)``. Paper: Petsiuk, Das and Saenko, RISE, BMVC 2018.
    """
    limits = torch.tensor(counts, device=ranks.device)
    return removed_rows(pixels, fill, ranks[None], torch.zeros_like(limits), limits)


def removed_rows(
    pixels: Tensor, fill: Tensor, ranks: Tensor, maps: Tensor, counts: Tensor
) -> Tensor:
    """Return one picture (B, C, H, W) a row: ``counts`` (B,) pixels are gone, of ``maps`` (B,).

    ``ranks`` is (M, N); ``maps`` int says whose order each row follows. All are on one device, so
    that slices of one long list of rows can be streamed in batches of any size.
    """
    gone = ranks.index_select(0, maps).lt_(counts.to(ranks.dtype)[:, None])
    return _chosen(pixels, fill, gone.to(pixels.dtype))


def masked(pixels: Tensor, fill: Tensor, segments: Tensor, keep: Tensor) -> Tensor:
    """Return one picture (B, C, H, W) for each row of ``keep`` (B, S) bool: the rest is ``fill``.

    ``segments`` (H, W) int holds the segment of each pixel, numbered from 0 to at most S - 1.
    Papers: Ribeiro, Singh and Guestrin, LIME, KDD 2016; Lundberg and Lee, SHAP, NeurIPS 2017.
    """
    shown = keep.to(pixels.dtype).index_select(1, segments.flatten().long())
    return _chosen(fill, pixels, shown)


def _chosen(first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    """Return pictures (B, C, H, W): ``first`` where weights (B, N) are 0, ``second`` where 1.

    Exactly the one or the other, as ``where`` would, which takes several times as long on a CPU.
    """
    return torch.lerp(first, second, weights.view(-1, 1, *first.shape[-2:]))


def segment_mean(pixels: Tensor, segments: Tensor) -> Tensor:
    """Return the picture (C, H, W) in which each segment of (H, W) int has its own mean colour.

    Summed on the CPU in float64: on a GPU the order of such sums, and their last digits, change
    from run to run. Paper: Ribeiro, Singh and Guestrin, LIME, KDD 2016.
    """
    labels = segments.cpu().long().flatten()
    values = pixels.cpu().double().flatten(1)
    sizes = labels.bincount()
    sums = values.new_zeros(len(values), len(sizes)).index_add_(1, labels, values)
    return (sums / sizes)[:, labels].view(pixels.shape).to(pixels)


def _black(pixels: Tensor, mean: Sequence[float], seed: int) -> Tensor:
    return torch.zeros_like(pixels)


def _dataset_mean(pixels: Tensor, mean: Sequence[float], seed: int) -> Tensor:
    return pixels.new_tensor(mean)[:, None, None].repeat(1, *pixels.shape[1:])


def _image_mean(pixels: Tensor, mean: Sequence[float], seed: int) -> Tensor:
    return pixels.mean((1, 2), keepdim=True).repeat(1, *pixels.shape[1:])


def _blur(pixels: Tensor, mean: Sequence[float], seed: int) -> Tensor:
    """Return the picture under the Gaussian blur of RISE, scaled to the picture's size.

    RISE blurs 224 x 224 pixels with a kernel of 11 and a sigma of 5 pixels. Both grow in
    proportion to the short side, the kernel to the nearest odd number; below a short side of 62
    pixels both stay as they are there (kernel 3, sigma 1.36), because a smaller kernel blurs
    nothing. RISE pads with zeros; here the picture is reflected at its border, because zeros are
    black in pixel space, and a dark frame is a new edge instead of an absence.
    """
    height, width = pixels.shape[-2:]
    if min(height, width) < 2:
        raise NotApplicable(
            f"The blur baseline expects sides of at least 2 pixels and got {height}x{width}; "
            "choose another baseline."
        )
    kernel = _gaussian_kernel(min(height, width)).to(pixels)
    radius = len(kernel) // 2
    padded = F.pad(pixels[:, None], (radius, radius, radius, radius), mode="reflect")
    across = F.conv2d(padded, kernel.view(1, 1, 1, -1))
    return F.conv2d(across, kernel.view(1, 1, -1, 1))[:, 0].clamp(0, 1)


def _gaussian_kernel(short_side: int) -> Tensor:
    scale = max(short_side / RISE_SIDE, SMALLEST_KERNEL / RISE_KERNEL)
    radius = round((RISE_KERNEL * scale - 1) / 2)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / (RISE_SIGMA * scale)) ** 2)
    return weights / weights.sum()


def _noise(pixels: Tensor, mean: Sequence[float], seed: int) -> Tensor:
    return torch.rand(pixels.shape, generator=stream(seed, "baseline"), dtype=pixels.dtype)


BASELINES: Mapping[Baseline, Callable[[Tensor, Sequence[float], int], Tensor]] = {
    "black": _black,
    "mean": _dataset_mean,
    "image-mean": _image_mean,
    "blur": _blur,
    "noise": _noise,
}
