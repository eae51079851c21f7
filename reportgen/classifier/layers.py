"""Which activation class activation maps look at: candidates are found, and each proves itself.

A candidate has one entry for each picture and places that lie over it. Its own Grad-CAM map must be
finite, varied, somewhere positive, and another one for another class; spots planted in the picture
must show at their places; and its highest places must matter to the score clearly more than those
of smooth random maps. Of those that pass the last is taken, the nearest to the score as in
Grad-CAM's paper; where none passes, the last of those whose highest places matter at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

import torch
from torch import Tensor

from reportgen.classifier.evaluator import Evaluator, Resume
from reportgen.classifier.grids import Grid
from reportgen.classifier.layer_candidates import (
    Reading,
    lies_nowhere,
    list_activations,
    read_last,
    read_named,
    read_spotted,
)
from reportgen.classifier.layer_tests import (
    Removal,
    locate,
    look,
    removal,
    untold,
)
from reportgen.classifier.taps import Taps, taps_of
from reportgen.errors import NotApplicable, UsageError, unknown_name
from reportgen.layer_records import LayerCandidate, LayerCheck, LayerChoice, Outcome

# How many candidates are compared; each resolution has the same share of them.
_COMPARED = 4
_LISTED = 20
_NONE = "no layer gives a feature map that lies over the picture and receives a gradient"
_WITHOUT_LAYER = "; attention-rollout and attention-relevance need no layer"
_FAILINGS = {
    "finite": "holds NaN or infinite values",
    "varied": "is the same at every place",
    "positive": "is nowhere positive",
    "class": "is the same for another class",
    "place": "does not follow spots planted in the picture",
    "removal": "does no better than smooth random maps when its highest places are removed",
}


@dataclass(frozen=True)
class FeatureLayer:
    """A layer chosen for class activation maps, how to read it, and how to run what follows it."""

    name: str
    grid: Grid
    read: Callable[[Tensor], tuple[object, Tensor]]
    resume: Resume

    def __call__(self, batch: Tensor) -> tuple[object, Tensor]:
        """Return the network's output and the activation in its own layout."""
        return self.read(batch)


@dataclass(frozen=True)
class Search:
    """What came of looking for the layer: the layer, None where there is none, and the choice."""

    layer: FeatureLayer | None
    choice: LayerChoice

    def found(self) -> FeatureLayer:
        """Return the layer; raise NotApplicable with the reason where there is none."""
        if self.layer is None:
            raise NotApplicable(self.choice.reason)
        return self.layer


@dataclass(frozen=True)
class _Tried:
    """A reading under the grid that fits it best, and the checks made of it so far."""

    reading: Reading
    grid: Grid
    checks: tuple[LayerCheck, ...]

    @property
    def name(self) -> str:
        return self.reading.name

    @property
    def features(self) -> Tensor:
        return self.grid.spatial(self.reading.activation)

    @property
    def sums(self) -> Tensor:
        return self.reading.sums(self.grid)[0]

    @property
    def cells(self) -> int:
        return self.grid.height * self.grid.width

    @property
    def passes(self) -> bool:
        return all(check.outcome != "fails" for check in self.checks)

    def outcome(self, key: str) -> Outcome | None:
        return next((check.outcome for check in self.checks if check.key == key), None)

    def record(self) -> LayerCandidate:
        return LayerCandidate(
            name=self.name,
            height=self.grid.height,
            width=self.grid.width,
            layout=self.grid.kind,
            prefix=self.grid.prefix,
            channels=self.features.shape[1],
            checks=self.checks,
        )


def search_layer(evaluator: Evaluator, pixels: Tensor, target: int, name: str = "") -> Search:
    """Return what comes of looking for the layer for Grad-CAM on pixels (1, C, H, W).

    A ``name`` is kept, whatever its self-test says; without one, candidates are found and tested.
    Where the score is constant, the layer is the last that it depends on, and nothing can be told.
    Raises UsageError for a name that the network does not have, and NotApplicable for one whose
    activation does not lie over the picture.
    """
    taps = taps_of(evaluator.network)
    listed = list_activations(evaluator, taps, pixels)
    if name:
        _check_name(name, taps)
        classes = _two_classes(evaluator, pixels, target)
        given = read_named(evaluator, taps, name, pixels, classes)
        tried = _located(evaluator, taps, [given], pixels)
        if not tried:
            raise lies_nowhere(name, tuple(given.activation.shape))
        return _kept(taps, *_removed(evaluator, pixels, target, tried))
    classes = _two_classes(evaluator, pixels, target)
    readings = read_last(evaluator, taps, listed, pixels, classes)
    if not any(reading.reached for reading in readings):
        return _last_of_all(taps, readings)
    tried = _reached(_located(evaluator, taps, readings, pixels))
    return _chosen(taps, *_removed(evaluator, pixels, target, _shortlist(_distinct(tried))))


def _check_name(name: str, taps: Taps) -> None:
    names = taps.names()
    if name in names:
        return
    if len(names) <= _LISTED:
        raise unknown_name("layer", name, names)
    close = get_close_matches(name, names, n=5, cutoff=0.4) or names[-5:]
    raise UsageError(
        f"Unknown layer '{name}'; of {len(names)} the nearest are: {', '.join(close)}; `reportgen "
        "layers` lists those that class activation maps can look at."
    )


def _two_classes(evaluator: Evaluator, pixels: Tensor, target: int) -> tuple[int, ...]:
    """Return the class explained, and that with the highest score of the others, if any."""
    with torch.no_grad():
        scores = evaluator.scores(pixels)[0].tolist()
    others = [index for index in range(len(scores)) if index != target]
    return (target, max(others, key=lambda index: scores[index])) if others else (target,)


def _located(
    evaluator: Evaluator, taps: Taps, readings: Sequence[Reading], pixels: Tensor
) -> list[_Tried]:
    """Return the readings, each under the grid that planted spots fit best, with its checks."""
    planted = zip(readings, read_spotted(evaluator, taps, readings, pixels), strict=True)
    return [_best_grid(reading, spots) for reading, spots in planted if spots is not None]


def _best_grid(reading: Reading, spots: Tensor) -> _Tried:
    found = {grid: locate(reading.activation, spots, grid) for grid in reading.grids}
    right = [grid for grid in found if found[grid].check(grid).outcome == "passes"]
    # Where the spots show nowhere, the grid with the fewest prefix tokens is the likeliest.
    grid = min(right, key=lambda each: found[each].distance, default=reading.grids[0])
    return _Tried(reading, grid, (*look(reading, grid), found[grid].check(grid)))


def _reached(tried: Sequence[_Tried]) -> list[_Tried]:
    """Return what the score depends on, without what a finer grid follows if anything else passes.

    Keys and values of attention may lie on a coarser grid than its queries, and a gate than what it
    weights: there the network goes on from the finer grid, also where only its class token does.
    """
    finest, outer = 0, []
    for each in tried:
        if each.cells >= finest:
            outer.append(each)
        if each.outcome("place") == "passes":
            finest = max(finest, each.cells)
    reached = [each for each in tried if each.reading.reached]
    kept = [each for each in outer if each.reading.reached]
    return kept if any(each.passes for each in kept) else reached


def _distinct(tried: Sequence[_Tried]) -> list[_Tried]:
    """Return each map once: by what passes, no bare projection, and the last such activation."""
    groups: list[list[_Tried]] = []
    for each in tried:
        group = next((group for group in groups if _same_map(each, group[0])), None)
        if group is None:
            groups.append([each])
        elif torch.equal(each.features, group[-1].features):
            # What is only passed on is called after what made it.
            group[-1] = each
        else:
            group.append(each)
    # What is linear in the places, as a convolution of 1x1 and a projection without bias, has the
    # map of what it reads.
    return [min(group, key=lambda e: (not e.passes, e.reading.projection)) for group in groups]


def _same_map(one: _Tried, other: _Tried) -> bool:
    if one.sums.shape != other.sums.shape:
        return False
    return bool((one.sums - other.sums).abs().amax() <= 1e-5 * one.sums.abs().amax())


def _shortlist(tried: Sequence[_Tried]) -> list[_Tried]:
    """Return the last that pass, of each of the last resolutions, and the last of the others."""
    groups: dict[tuple[int, int], list[_Tried]] = {}
    for each in tried:
        groups.setdefault((each.grid.height, each.grid.width), []).append(each)
    last = list(groups.values())[:_COMPARED]
    usable = [group for group in map(_usable, groups.values()) if group][:_COMPARED]
    chosen = [each for group in usable for each in group[: _COMPARED // len(usable)]]
    chosen += [group[0] for group in last if not _usable(group)]
    return [each for each in tried if any(each is other for other in chosen)]


def _usable(group: Sequence[_Tried]) -> list[_Tried]:
    """Return what passes, without bare projections where there is anything else."""
    passing = [each for each in group if each.passes]
    return [each for each in passing if not each.reading.projection] or passing


def _removed(
    evaluator: Evaluator, pixels: Tensor, target: int, tried: Sequence[_Tried]
) -> tuple[list[_Tried], Removal | None]:
    """Return the candidates with the last check, made of those that pass all others.

    With what it rests on, None where it was not made or tells nothing.
    """
    passing = [each for each in tried if each.passes]
    if not passing:
        return list(tried), None
    found = removal(evaluator, pixels, target, [each.sums for each in passing])
    checks = {id(each): found.check(index) for index, each in enumerate(passing)}
    return [
        replace(each, checks=(*each.checks, checks[id(each)])) if id(each) in checks else each
        for each in tried
    ], found if found.tells else None


def _kept(taps: Taps, tried: Sequence[_Tried], found: Removal | None) -> Search:
    """Return the layer that was named, with its self-test."""
    return Search(_layer(taps, tried[0]), _choice("option", tried, found, chosen=tried[0].name))


def _last_of_all(taps: Taps, readings: Sequence[Reading]) -> Search:
    """Return the last layer that a constant score depends on; nothing can be told about its map."""
    if not readings:
        return Search(None, _choice("detected", (), None, reason=_NONE))
    last = _Tried(readings[0], readings[0].grids[0], untold(readings[0]))
    return Search(_layer(taps, last), _choice("detected", [last], None, chosen=last.name))


def _chosen(taps: Taps, tried: Sequence[_Tried], found: Removal | None) -> Search:
    """Return the last layer that passes, or else the last of which removal cannot tell."""
    passing = [each for each in tried if each.passes]
    if not passing:
        return Search(None, _choice("detected", tried, found, reason=_reason(tried)))
    first, *others = sorted(passing, key=lambda each: each.outcome("removal") != "passes")
    runner_up = others[0].name if others else ""
    choice = _choice("detected", tried, found, chosen=first.name, runner_up=runner_up)
    return Search(_layer(taps, first), choice)


def _layer(taps: Taps, tried: _Tried) -> FeatureLayer:
    return FeatureLayer(tried.name, tried.grid, taps.tap(tried.name), taps.resume(tried.name))


def _choice(
    source: Literal["option", "detected"],
    tried: Sequence[_Tried],
    found: Removal | None,
    chosen: str = "",
    runner_up: str = "",
    reason: str = "",
) -> LayerChoice:
    return LayerChoice(
        source=source,
        chosen=chosen,
        runner_up=runner_up,
        reason=reason,
        candidates=tuple(each.record() for each in tried),
        noise_maps=2 * len(found.noise) if found else 0,
        noise_mean=0.0 if found else None,
        noise_sd=found.sd if found else None,
    )


def _reason(tried: Sequence[_Tried]) -> str:
    if not tried:
        return _NONE
    last = tried[0]
    failing = next(check.key for check in last.checks if check.outcome == "fails")
    return (
        f"none of {len(tried)} layer(s) passes its self-test; the map of the last, '{last.name}', "
        f"{_FAILINGS[failing]}{_WITHOUT_LAYER * (last.grid.prefix > 0)}"
    )
