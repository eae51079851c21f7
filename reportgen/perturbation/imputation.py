"""Missing pixels filled in from their neighbours: the noisy linear imputation of ROAD.

Paper: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML
2022 (arXiv 2202.00449). They solve one sparse system a picture; here all systems are solved at
once, by conjugate gradients on the pixels' device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reportgen.errors import NotApplicable
from reportgen.perturbation.streams import stream

NOISE = 0.01
TOLERANCE = 3e-5
NOTHING_KNOWN = 0.5
_ITERATIONS_UNSEEN = 8
_MOST_ITERATIONS = 2000
_SMALLEST_LEVEL = 2
# What fits into a CPU's cache together; a GPU is faster the more it is given.
_VALUES_TOGETHER = {"cpu": 2**18}
_MANY_VALUES = 2**27


def imputed(pixels: Tensor, missing: Tensor, noise: float, seed: int) -> Tensor:
    """Return pixels (C, H, W) once for each mask of ``missing`` (n, H, W) bool, filled in there.

    The result (n, C, H, W) is in [0, 1]. A missing pixel is the mean of its neighbours, known or
    missing: weight 1/6 for those beside it and 1/12 for the diagonal ones, over the weights inside
    the picture. No residual is left above 3e-5. Then Gaussian noise of standard deviation
    ``noise`` is added, at each place the same for all masks, and the values are clamped. Where no
    pixel is known, all are 0.5 before the noise. Raises NotApplicable where no solution is found.
    """
    together = max(1, _VALUES_TOGETHER.get(pixels.device.type, _MANY_VALUES) // pixels.numel())
    fills = torch.cat([_fill(pixels, part[:, None]) for part in torch.split(missing, together)])
    drawn = torch.randn(pixels.shape, generator=stream(seed, "imputation")).to(pixels)
    return torch.where(missing[:, None], (fills + noise * drawn).clamp(0, 1), pixels)


@dataclass(frozen=True)
class _System:
    """The equations of the missing pixels: own weight times value, less the neighbours' values.

    ``missing`` (n, 1, H, W) is 1 where a value is sought, else 0; ``own`` (H, W) is the sum of the
    neighbours' weights inside the picture. ``levels`` (n, 1, h, w) hold for blocks of 2, 4, 8, ...
    pixels what 1 / ``own`` is for one pixel; any positive numbers lead to the same solution.
    """

    missing: Tensor
    own: Tensor
    levels: tuple[Tensor, ...]

    def applied(self, values: Tensor) -> Tensor:
        """Return the left-hand side for values (n, C, H, W) that are 0 where nothing is sought."""
        return (self.own * values).sub_(_neighbours(values)).mul_(self.missing)

    def corrected(self, residual: Tensor) -> Tensor:
        """Return about what must be added to the values for the residual to vanish.

        Corrections of single pixels (Jacobi) spread by one pixel an iteration; those of whole
        blocks reach the middle of a large hole at once (Bramble, Pasciak and Xu, 1990).
        """
        sums, corrections = residual, [residual / self.own]
        for level in self.levels:
            sums = _block_sums(sums)
            corrections.append(sums * level)
        total = corrections.pop()
        while corrections:
            finer = corrections.pop()
            total = finer.add_(_spread(total, finer))
        return total.mul_(self.missing)


def _fill(pixels: Tensor, missing: Tensor) -> Tensor:
    """Return what belongs into the missing (n, 1, H, W) bool pixels, as pictures (n, C, H, W)."""
    known = (~missing).to(pixels)
    count = known.sum((-2, -1), keepdim=True)
    mean = (pixels * known).sum((-2, -1), keepdim=True) / count.clamp_min(1)
    start = torch.where(count > 0, mean, NOTHING_KNOWN)
    system = _system(known)
    # Sought is the difference from the mean of the known: small, and 0 in a constant picture.
    right = _neighbours((pixels - start) * known).mul_(system.missing)
    return start + _solved(system, right)


def _system(known: Tensor) -> _System:
    missing = 1 - known
    ties = _neighbours(known) * missing
    levels = []
    while min(ties.shape[-2:]) > _SMALLEST_LEVEL:
        ties = _block_sums(ties)
        levels.append(1 / (1 + ties))
    return _System(missing, _neighbours(torch.ones_like(known[0, 0])), tuple(levels))


def _solved(system: _System, right: Tensor) -> Tensor:
    """Return the solution (n, C, H, W) of all systems, by conjugate gradients.

    A system that has converged stays as it is, so that its solution depends on no other.
    """
    found, direction = torch.zeros_like(right), torch.zeros_like(right)
    residual, before = right.clone(), torch.ones_like(right[..., :1, :1])
    # Looking whether all are done makes a GPU wait; what is done already stays as it is.
    every = 1 if right.device.type == "cpu" else _ITERATIONS_UNSEEN
    for iteration in range(_MOST_ITERATIONS):
        active = residual.abs().amax((-2, -1), keepdim=True) > TOLERANCE
        if iteration % every == 0 and not bool(active.any()):
            return found
        corrected = system.corrected(residual)
        product = _dot(residual, corrected)
        direction.mul_(torch.where(active, product / before, 0)).add_(corrected)
        image = system.applied(direction)
        length = torch.where(active, product / _dot(direction, image), 0)
        found.addcmul_(length, direction)
        residual.addcmul_(length, image, value=-1)
        before = product
    raise NotApplicable(
        f"the imputation left residuals above {TOLERANCE:g} after {_MOST_ITERATIONS} iterations"
    )


def _neighbours(values: Tensor) -> Tensor:
    """Return the weighted sum of the eight neighbours inside the picture, over the last two axes.

    The weights are the product of 1, 2, 1 in both directions without its middle. Sums instead of a
    convolution, which is rounded where TF32 is allowed, and slower on a CPU.
    """
    wide = F.pad(values, (1, 1))
    rows = wide[..., :-2].add(values, alpha=2).add_(wide[..., 2:])
    tall = F.pad(rows, (0, 0, 1, 1))
    both = tall[..., :-2, :].add(rows, alpha=2).add_(tall[..., 2:, :])
    return both.sub_(values, alpha=4).div_(12)


def _block_sums(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, 2, ceil_mode=True, divisor_override=1)


def _spread(blocks: Tensor, finer: Tensor) -> Tensor:
    """Return the value of each block of 2 x 2 at its pixels, in the size of ``finer``."""
    height, width = finer.shape[-2:]
    return F.interpolate(blocks, scale_factor=2, mode="nearest")[..., :height, :width]


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((-2, -1), keepdim=True)
