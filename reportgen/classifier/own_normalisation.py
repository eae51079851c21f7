"""Whether a network normalises its input itself, seen in the first operations that it makes.

Pixels that are normalised twice are a common mistake: a ``Normalize`` layer, a division by 255 or
(x - mean) / std inside the network, and once more before it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reportgen.classifier.normalisation import WHITE
from reportgen.classifier.operations import Operation, watch
from reportgen.records import OwnNormalisation

_KEEPING = {
    "clone", "contiguous", "_to_copy", "detach", "alias", "lift_fresh", "view", "_unsafe_view",
    "reshape", "unsqueeze", "squeeze", "expand", "to",
}  # fmt: skip
_AFFINE = {"add", "sub", "rsub", "mul", "div", "true_divide"}
_RESIZING = "upsample"
_BATCH_NORM = "batch_norm"
_ROUNDING = 1e-4
# A mean that pixels can have, above these, tells a normalisation from another constant.
_DARK, _BLACK = 0.05, 20
_STEEPEST = 256


class _Seen(Exception):
    """All that matters has been seen."""


class _FirstSteps:
    """Follows the input through the operations that only shift and scale its values.

    ``before`` and ``after`` are the values before and after them; ``statistics`` are the mean and
    the variance of a batch normalisation that comes next.
    """

    def __init__(self, batch: Tensor) -> None:
        self.before = self.after = batch.detach().float().clone()
        self.statistics: tuple[Tensor, Tensor] | None = None
        self._current: Tensor | None = batch

    def note(self, operation: Operation) -> None:
        """Follow one operation, or raise where the input goes no further unmixed."""
        if not any(tensor is self._current for tensor in operation.tensors):
            return
        kind, result = operation.name.rstrip("_"), operation.result
        if _BATCH_NORM in kind and len(operation.arguments) > 4:
            self.statistics = (operation.arguments[3], operation.arguments[4])
        self._current = None
        if not isinstance(result, Tensor) or not self._goes_on(kind, result):
            raise _Seen
        self._current = result

    def _goes_on(self, kind: str, result: Tensor) -> bool:
        if _RESIZING in kind and self.after.equal(self.before):
            self.before = self.after = result.detach().float().clone()
            return True
        if kind not in _KEEPING | _AFFINE or result.numel() != self.after.numel():
            return False
        self.after = result.detach().float().reshape(self.after.shape).clone()
        return True


def own_normalisation(network: nn.Module, noise: Tensor) -> OwnNormalisation | None:
    """Return what a network does to its input before anything else, None where that is nothing.

    ``noise`` is a batch (n, C, H, W) that it takes, random in [0, 1]. Only what is a normalisation
    of pixels counts: with a mean inside [0, 1] or [0, 255], which tells what white is.
    """
    # Twice, because a mean over the batch itself is the same as a constant in a single run.
    steps = [_followed(network, batch) for batch in (noise, noise.div(2).to(noise.dtype))]
    found = _fitted(steps)
    if found is None:
        return None
    gain, shift = found
    mean, std = 0 - shift.where(shift.abs() > _ROUNDING * gain, 0) / gain, 1 / gain
    statistics = steps[0].statistics
    if statistics is not None and all(isinstance(part, Tensor) for part in statistics):
        moved = statistics[0].detach().float().cpu(), statistics[1].detach().float().cpu()
        return _of_statistics((moved[0] - shift) / gain, moved[1].sqrt() / gain)
    if bool(((gain - 1).abs() < _ROUNDING).all() and (shift.abs() < _ROUNDING).all()):
        return None
    return _of_constants(mean, std)


def _followed(network: nn.Module, batch: Tensor) -> _FirstSteps:
    steps = _FirstSteps(batch)
    watch(network, batch, steps.note)
    return steps


def _fitted(steps: list[_FirstSteps]) -> tuple[Tensor, Tensor] | None:
    """Return gain and shift of each channel, None where they do not explain the values."""
    if steps[0].before.ndim != 4 or steps[0].before.shape[1:] != steps[1].before.shape[1:]:
        return None
    x, y = (_by_channel([getattr(step, name) for step in steps]) for name in ("before", "after"))
    centred = x - x.mean(1, keepdim=True)
    gain = (centred * y).sum(1) / centred.square().sum(1).clamp_min(1e-12)
    shift = y.mean(1) - gain * x.mean(1)
    off = (y - gain[:, None] * x - shift[:, None]).abs().max()
    exact = bool(off <= _ROUNDING * y.abs().max().clamp_min(1)) and bool((gain > 0).all())
    return (gain.float(), shift.float()) if exact else None


def _by_channel(batches: list[Tensor]) -> Tensor:
    return torch.cat([batch.cpu().double().transpose(0, 1).flatten(1) for batch in batches], dim=1)


def _of_constants(mean: Tensor, std: Tensor) -> OwnNormalisation | None:
    low, high = float(mean.min()), float(mean.max())
    if low >= 0 and high <= 1 and float(std.max()) <= 1 + _ROUNDING and high > _DARK:
        return _record(mean, std, 1)
    bright = high > _BLACK or float(std.min()) > 2 * _BLACK
    if low >= 0 and high <= WHITE and bright and 1 - _ROUNDING <= float(std.min()) <= _STEEPEST:
        return _record(mean, std, WHITE)
    return None


def _of_statistics(mean: Tensor, std: Tensor) -> OwnNormalisation | None:
    """Return the record of statistics that pixels can have: at most sqrt(m (1 - m)) for a mean m.

    The statistics of values that were normalised before lie outside of that.
    """
    white = 1 if float(mean.max()) <= 1 else WHITE
    share, spread = mean / white, std / white
    possible = (share > 0) & (share < 1) & (spread <= (share * (1 - share)).sqrt())
    return _record(mean, std, white) if bool(possible.all()) else None


def _record(mean: Tensor, std: Tensor, white: int) -> OwnNormalisation:
    means, stds = ([float(f"{value:.6g}") for value in part.tolist()] for part in (mean, std))
    return OwnNormalisation(mean=tuple(means), std=tuple(stds), white=white)
