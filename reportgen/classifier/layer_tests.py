"""The self-test of a layer: is its class activation map a map of this class and this picture?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from reportgen.classifier.evaluator import Evaluator
from reportgen.classifier.grids import Grid
from reportgen.classifier.layer_candidates import HALF_SPOT, SPOTS, Reading
from reportgen.layer_records import LayerCheck, Outcome
from reportgen.perturbation.controls import smooth_random_maps
from reportgen.perturbation.removal import baseline, removal_ranks, removed_rows

_VARIED = 1e-4
_DIFFERENT = 1e-3
_FINEST = 14
_PLACE = 0.15
_SHIFT = 0.75
_LEAST_SHIFT = 0.05
_FINE = 4
_SHARES = (0.25, 0.5)
_ROWS = 2 * len(_SHARES)
NOISE_MAPS = 5
# Of scores with a normal distribution around zero, 5% exceed so many standard deviations where
# these are measured on five.
_CLEARLY = 2.0
_LITTLE_CHANGE = 0.05
KEYS = ("finite", "varied", "positive", "class", "place", "removal")


def _outcome(passes: bool) -> Outcome:
    return "passes" if passes else "fails"


def look(reading: Reading, grid: Grid) -> tuple[LayerCheck, ...]:
    """Return the checks that the picture alone allows: finite, varied, positive, class."""
    # In float64, as sums of random weights may be so large that their squares are not finite.
    own, *others = sums = [each.double() for each in reading.sums(grid)]
    finite = all(bool(each.isfinite().all()) for each in sums)
    first = LayerCheck(key="finite", outcome=_outcome(finite))
    if not finite:
        return (first,)
    return (first, _varied(own), _positive(own), _class(own, others))


def untold(reading: Reading) -> tuple[LayerCheck, ...]:
    """Return the checks of a layer whose score is constant: nothing but the numbers can be told."""
    finite = bool(reading.activation.isfinite().all())
    others = (LayerCheck(key=key, outcome="undecided") for key in KEYS[1:])
    return (LayerCheck(key="finite", outcome=_outcome(finite)), *others)


def _varied(sums: Tensor) -> LayerCheck:
    largest = float(sums.abs().amax())
    value = float(sums.amax() - sums.amin()) / largest if largest else 0.0
    return LayerCheck(key="varied", outcome=_outcome(value > _VARIED), value=value)


def _positive(sums: Tensor) -> LayerCheck:
    value = float((sums > 0).float().mean())
    return LayerCheck(key="positive", outcome=_outcome(value > 0), value=value)


def _class(own: Tensor, others: Sequence[Tensor]) -> LayerCheck:
    """Return whether the maps of two classes differ: half the distance of their directions."""
    maps = [own, *others]
    if len(maps) < 2 or not all(bool(each.any()) for each in maps):
        return LayerCheck(key="class", outcome="undecided")
    first, second = (each / each.norm() for each in maps)
    value = float((first - second).norm()) / 2
    return LayerCheck(key="class", outcome=_outcome(value > _DIFFERENT), value=value)


@dataclass(frozen=True)
class Places:
    """Where planted spots show: how many at their own places, and how far off they are."""

    right: int
    distance: float
    shift: tuple[float, float]

    def check(self, grid: Grid) -> LayerCheck:
        """Return whether the spots show where they were planted.

        One may be off, where places are not so coarse that chance finds them. Tokens behind a wrong
        prefix are shifted together; strided convolutions, by half a place, always are.
        """
        sides = (grid.height, grid.width)
        least = len(SPOTS) - (min(sides) >= _FINE)
        allowed = [max(_SHIFT / side, _LEAST_SHIFT) for side in sides]
        straight = all(abs(s) <= most for s, most in zip(self.shift, allowed, strict=True))
        passes = self.right >= least and (straight or grid.kind != "tokens")
        return LayerCheck(key="place", outcome=_outcome(passes), value=self.right)


def locate(clean: Tensor, spotted: Tensor, grid: Grid) -> Places:
    """Return where an activation changes most as spots are planted in the picture.

    ``clean`` (1, ...) and ``spotted`` (4, ...) are the activation without and with each of SPOTS.
    """
    changes = grid.spatial(spotted).float() - grid.spatial(clean).float()
    # What changes everywhere alike, as by squeeze-and-excitation, says nothing of the place.
    strength = (changes - changes.mean((2, 3), keepdim=True)).square().sum(1)
    size = min(grid.height, _FINEST), min(grid.width, _FINEST)
    coarse = adaptive_avg_pool2d(strength[:, None], size)[:, 0]
    # Some places change whatever is planted; what they do for the other spots is taken away.
    own = coarse - (coarse.sum(0) - coarse) / (len(coarse) - 1)
    found = [_centre(each) for each in own]
    offsets = torch.tensor(found, dtype=torch.float64) - torch.tensor(SPOTS, dtype=torch.float64)
    sides = torch.tensor([grid.height, grid.width], dtype=torch.float64)
    near = (offsets.abs() <= (0.5 / sides + HALF_SPOT).clamp_min(_PLACE)).all(1)
    shift = offsets[near].mean(0) if bool(near.any()) else offsets.mean(0)
    down, across = shift.tolist()
    return Places(int(near.sum()), float(offsets.norm(dim=1).mean()), (down, across))


def _centre(strength: Tensor) -> tuple[float, float]:
    """Return the centre of gravity, (down, across) in [0, 1], around the strongest place."""
    height, width = strength.shape
    row, column = divmod(int(strength.argmax()), width)
    rows, columns = _near(row, height), _near(column, width)
    weights = strength[rows, columns].double().clamp_min(0)
    if not bool(weights.sum() > 0):
        return (row + 0.5) / height, (column + 0.5) / width
    weights = weights / weights.sum()
    down = torch.arange(rows.start, rows.stop, dtype=torch.float64, device=weights.device) + 0.5
    over = torch.arange(columns.start, columns.stop, dtype=torch.float64, device=weights.device)
    centre = float((weights.sum(1) * down).sum()), float((weights.sum(0) * (over + 0.5)).sum())
    return centre[0] / height, centre[1] / width


def _near(place: int, side: int) -> slice:
    return slice(max(0, place - 1), min(side, place + 2))


@dataclass(frozen=True)
class Removal:
    """Removal scores of maps, and those of the smooth random maps beside them.

    A score is how much more of the class's margin over the mean of all classes is left where the
    lowest-ranked pixels are removed than where the highest-ranked are, in the score's own unit. The
    opposite of a map scores the opposite, and is as likely among random maps: each of ``noise``
    stands for two, and their mean is zero.
    """

    scores: tuple[float, ...]
    noise: tuple[float, ...]
    tells: bool

    @property
    def sd(self) -> float:
        """The standard deviation of the random maps and their opposites."""
        return float(torch.tensor(self.noise, dtype=torch.float64).square().mean().sqrt())

    def check(self, index: int) -> LayerCheck:
        """Return whether a map does clearly better than random ones; at or below zero it fails."""
        if not self.tells:
            return LayerCheck(key="removal", outcome="undecided")
        score = self.scores[index]
        clear = score > _CLEARLY * self.sd
        outcome = _outcome(clear) if clear or score <= 0 else "undecided"
        return LayerCheck(key="removal", outcome=outcome, value=score)


def removal(evaluator: Evaluator, pixels: Tensor, target: int, maps: Sequence[Tensor]) -> Removal:
    """Return the removal scores of the target's maps (h, w) for pixels (1, C, H, W).

    At 25% and 50% of the pixels; what is removed gives way to the colour that normalisation turns
    into zero. It tells nothing where no removal, nor that of the whole picture, changes the
    probability of the class by more than 0.05.
    """
    size = pixels.shape[-2:]
    ranks = removal_ranks(torch.cat([_noise(size, pixels), _enlarged(maps, size)]), seed=0)
    raw = evaluator.stream(2 + len(ranks) * _ROWS, _Rows(evaluator, pixels, ranks).build)
    gaps = _gaps(evaluator.head.scores(raw).double(), target).tolist()
    chances = evaluator.head.probabilities(raw)[:, target]
    tells = bool((chances - chances[0]).abs().max() > _LITTLE_CHANGE)
    return Removal(tuple(gaps[NOISE_MAPS:]), tuple(gaps[:NOISE_MAPS]), tells)


def _gaps(scores: Tensor, target: int) -> Tensor:
    """Return for each map what is left without its lowest places over that without its highest."""
    margins = scores[:, target] - scores.mean(1)
    high, low = margins[2:].view(-1, len(_SHARES), 2).mean(1).unbind(1)
    return low - high


def _enlarged(maps: Sequence[Tensor], size: torch.Size) -> Tensor:
    each = [interpolate(m[None, None].float(), size, mode="bilinear")[0] for m in maps]
    return torch.cat(each)


def _noise(size: torch.Size, pixels: Tensor) -> Tensor:
    return smooth_random_maps(NOISE_MAPS, (size[0], size[1]), seed=0).to(pixels.device)


class _Rows:
    """The picture, nothing of it, and for each map and share what is left of it.

    ``ranks`` (n, H * W) say in which order the pixels of each map go.
    """

    def __init__(self, evaluator: Evaluator, pixels: Tensor, ranks: Tensor) -> None:
        self.pixels = pixels[0]
        self.ranks = torch.cat([ranks, ranks.shape[1] - 1 - ranks])
        known = evaluator.normalisation
        mean = known.mean[::-1] if known.channel_order == "bgr" else known.mean
        self.fill = baseline(pixels[0], "mean", mean, 0)
        self.maps, self.counts = _order(len(ranks), ranks.shape[1], ranks.device)

    def build(self, start: int, stop: int) -> Tensor:
        """Return those rows of pixels (n, C, H, W)."""
        maps, counts = self.maps[start:stop], self.counts[start:stop]
        return removed_rows(self.pixels, self.fill, self.ranks, maps, counts)


def _order(maps: int, pixels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return for each row whose order it follows, and how many pixels are gone."""
    rows = [(0, 0), (0, pixels)]
    for each in range(maps):
        for share in _SHARES:
            rows += [(each, round(share * pixels)), (each + maps, round(share * pixels))]
    order, counts = torch.tensor(rows, device=device).unbind(1)
    return order, counts
