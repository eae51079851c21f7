"""Integrated Gradients, by captum, with more steps where the map does not add up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import JsonValue
from torch import Tensor

from reportgen.attribution.base import Explained, Method, Request
from reportgen.attribution.gradients import differentiable
from reportgen.attribution.postprocessing import NOTE, smooth_equalise_otsu
from reportgen.config import Config
from reportgen.perturbation.removal import baseline
from reportgen.records import Card, Measurement
from reportgen.work import Size, Work

# The paper's rule: a map whose sum is off by more is no approximation; take more steps.
ACCEPTED_GAP = 0.05
_STANDSTILL = 0.01
# "Somewhere between 20 and 300 steps", says the paper, bring a sum to within 5%.
_PAPERS_FEWEST = 20

CARD = Card(
    key="integrated-gradients",
    title="Integrated Gradients",
    category="gradient, along a path",
    definition="Each pixel's difference from a baseline picture, times the mean gradient of the "
    "class score on the straight line between the two; summed over channels. Where the map's sum "
    "is off by more than 5%, the steps are doubled, as often as ig_doublings says at most.",
    paper="Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, "
    "arXiv 1703.01365",
    needs="gradients of the input",
    seeding="deterministic; a noise baseline is drawn with the run's seed",
    self_check="completeness gap: how far the map's sum is from the score's change between "
    "baseline and picture, as a share of that change",
    limits="Depends on the baseline: parts of the picture that look like the baseline get nothing.",
    granularity="pixels",
)


@dataclass
class _Paths:
    """Signed maps (n, H, W), the steps (n,) behind each, and each map's gap (n,) on the CPU.

    ``going`` (n,) are those for which more steps may help; ``tried`` is the largest number of steps
    that was tried on the first.
    """

    maps: Tensor
    steps: Tensor
    gaps: Tensor
    going: Tensor
    tried: int


def _explain(request: Request) -> Explained:
    starts = _starts(request)
    changes = _changes(request, starts)
    paths = _refined(request, starts, changes)
    raw = request.config.ig_postprocessing == "none"
    return Explained(
        maps=paths.maps if raw else smooth_equalise_otsu(paths.maps),
        signed=raw,
        resolution="pixels",
        settings=_settings(request, paths),
        checks=(_completeness_gap(request, paths, float(changes[0])),),
        notes=() if raw else (NOTE,),
    )


def _settings(request: Request, paths: _Paths) -> dict[str, JsonValue]:
    return {
        "score": request.classifier.evaluator.head.score,
        "steps asked for": request.config.ig_steps,
        "steps": int(paths.steps[0]),
        "rule": "Gauss-Legendre",
        "baseline": request.config.ig_baseline,
        "channels": "sum",
        "post-processing": request.config.ig_postprocessing,
    }


def _starts(request: Request) -> Tensor:
    kind, mean = request.config.ig_baseline, request.classifier.mean
    return torch.stack([baseline(p, kind, mean, request.seed) for p in request.pixels])


def _changes(request: Request, starts: Tensor) -> Tensor:
    """Return the change of the score (n,) float64 on the CPU from each baseline to its picture."""
    evaluator = request.classifier.evaluator
    ends = torch.cat([request.pixels, starts])
    raw = evaluator.stream(len(ends), lambda start, stop: ends[start:stop])
    scores = evaluator.head.scores(raw)[:, request.target].cpu().double()
    return scores[: len(starts)] - scores[len(starts) :]


def _refined(request: Request, starts: Tensor, changes: Tensor) -> _Paths:
    """Return the maps, each with as many steps as its own sum asks for."""
    asked = request.config.ig_steps
    maps = _maps(request, request.pixels, starts, asked)
    gaps = _gaps(maps, changes)
    paths = _Paths(maps, torch.full((len(maps),), asked), gaps, gaps > ACCEPTED_GAP, asked)
    for doubling in range(1, request.config.ig_doublings + 1):
        _improve(request, starts, changes, paths, asked * 2**doubling)
    return paths


def _improve(request: Request, starts: Tensor, changes: Tensor, paths: _Paths, steps: int) -> None:
    """Try ``steps`` on the maps that are still going, and keep what has the smaller gap."""
    rows = paths.going.nonzero()[:, 0]
    if len(rows) == 0:
        return
    at = rows.to(starts.device)
    maps = _maps(request, request.pixels[at], starts[at], steps)
    before, after = paths.gaps[rows], _gaps(maps, changes[rows])
    # A gap that stays where it is comes from the model (a step, coarse numbers), not the sum.
    moving = (after - before).abs() > _STANDSTILL * before
    paths.going[rows] = (after > ACCEPTED_GAP) & moving
    if int(rows[0]) == 0:
        paths.tried = steps
    better = after < before
    paths.maps[at[better.to(at.device)]] = maps[better.to(at.device)]
    paths.steps[rows[better]] = steps
    paths.gaps[rows[better]] = after[better]


def _gaps(maps: Tensor, changes: Tensor) -> Tensor:
    """Return how far each map's sum is from the change, as a share of it; 0 where there is none."""
    off = (maps.cpu().double().sum((1, 2)) - changes).abs()
    return torch.where(changes == 0, 0.0, off / changes.abs())


def _maps(request: Request, pixels: Tensor, starts: Tensor, steps: int) -> Tensor:
    """Return the signed maps (n, H, W) of ``pixels`` from ``starts``, in ``steps`` steps."""

    def run(size: int) -> Tensor:
        pairs = zip(torch.split(pixels, size), torch.split(starts, size), strict=True)
        return torch.cat([_path(request, part, start, steps, size) for part, start in pairs])

    return request.classifier.evaluator.within_memory(run)


def _path(request: Request, pixels: Tensor, starts: Tensor, steps: int, size: int) -> Tensor:
    # Imported late: captum brings matplotlib's pyplot.
    from captum.attr import IntegratedGradients

    found: Tensor = IntegratedGradients(differentiable(request)).attribute(
        pixels,
        baselines=starts,
        target=request.target,
        n_steps=steps,
        method="gausslegendre",
        internal_batch_size=size,
    )
    return found.detach().sum(dim=1).float()


def _completeness_gap(request: Request, paths: _Paths, change: float) -> Measurement:
    gap = float(paths.gaps[0])
    return Measurement(
        metric="completeness_gap",
        subject=CARD.key,
        value=gap if change else None,
        direction="lower is better",
        range=(0, None),
        settings={
            "score": request.classifier.evaluator.head.score,
            "steps asked for": request.config.ig_steps,
            "of": "the map before any post-processing",
        },
        detail={
            "steps": int(paths.steps[0]),
            "absolute gap": gap * abs(change),
            "score change": change,
            "most steps tried": paths.tried,
        },
        note="" if change else "the score is the same on the baseline as on the picture",
    )


def _work(config: Config, size: Size) -> Work:
    """Return the two ends of the path, its steps, and their doublings up to the paper's fewest.

    Whether a map adds up is seen when it is made: one that does at once takes the steps asked for
    and no more, one that never does seven times as many.
    """
    tried = [config.ig_steps]
    while len(tried) <= config.ig_doublings and tried[-1] < _PAPERS_FEWEST:
        tried.append(2 * tried[-1])
    return Work(2) + Work(1, 1) * sum(tried)


METHOD = Method(
    CARD, _explain, _work, ("ig_steps", "ig_doublings", "ig_baseline", "ig_postprocessing")
)
