"""Gradient SHAP: gradients at random points on the way from several baselines to the picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reportgen.attribution.base import Explained, Method, Request
from reportgen.attribution.gradients import gradients
from reportgen.config import Baseline, Config
from reportgen.perturbation.removal import baseline
from reportgen.perturbation.streams import stream
from reportgen.records import Card, Measurement
from reportgen.work import Size, Work

BASELINES: tuple[Baseline, ...] = ("black", "mean", "blur", "noise")
# Steps of the golden ratio, from a random start, are spread more evenly than independent draws.
_STEP = (5**0.5 - 1) / 2
_KEY = "gradient shap"

CARD = Card(
    key="gradient-shap",
    title="Gradient SHAP",
    category="gradient, expected over paths",
    definition="Each pixel's difference from a baseline picture, times the gradient of the class "
    "score at a random point on the straight line between the two; averaged over draws of the "
    "point, with four baselines in turn (black, the data set's mean colour, the blurred picture, "
    "noise), and summed over channels.",
    paper="Erion et al., Improving Performance of Deep Learning Models with Axiomatic Attribution "
    "Priors and Expected Gradients, Nature Machine Intelligence 2021, arXiv 1906.10670; Lundberg "
    "and Lee, NeurIPS 2017, arXiv 1705.07874",
    needs="gradients of the input, once a draw",
    seeding="one stream a baseline for the points, which are the same for every picture and are "
    "kept when more are drawn; one noise picture",
    self_check="completeness gap: how far the map's sum is from the score's mean change between "
    "the draws' baselines and the picture, as a share of that change",
    limits="Sampled: few draws leave a completeness gap. Depends on the baselines, whose mean it "
    "explains against.",
    granularity="pixels",
)


@dataclass(frozen=True)
class _Expected:
    """A signed map (H, W) in float64 on the CPU, and the change that it should add up to."""

    map: Tensor
    change: float


def _explain(request: Request) -> Explained:
    found = [_expected(request, pixels) for pixels in request.pixels]
    return Explained(
        maps=torch.stack([each.map for each in found]).float().to(request.pixels.device),
        signed=True,
        resolution="pixels",
        settings={
            "score": request.classifier.evaluator.head.score,
            "draws": request.config.gradient_shap_draws,
            "baselines": list(BASELINES),
            "points": "uniform, spread by steps of the golden ratio from a random start",
            "channels": "sum",
            "seed": request.seed,
        },
        checks=(_completeness_gap(request, found[0]),),
    )


def shares(draws: int, seed: int) -> Tensor:
    """Return where on its line each draw lies (draws,), in [0, 1); 0 is the baseline.

    Draw d belongs to baseline d modulo their number. Each share is uniform; those of a baseline
    are spread evenly.
    """
    starts = torch.stack([torch.rand((), generator=stream(seed, _KEY, k)) for k in BASELINES])
    places = torch.arange(draws)
    turns = places // len(BASELINES)
    return (starts[places % len(BASELINES)].double() + turns * _STEP).remainder(1).float()


def _expected(request: Request, pixels: Tensor) -> _Expected:
    draws, mean = request.config.gradient_shap_draws, request.classifier.mean
    kinds = torch.arange(draws) % len(BASELINES)
    starts = torch.stack([baseline(pixels, kind, mean, request.seed) for kind in BASELINES])
    places = shares(draws, request.seed).to(pixels.device)

    def part(start: int, stop: int) -> Tensor:
        origin = starts[kinds[start:stop].to(starts.device)]
        way = pixels - origin
        points = origin + places[start:stop].to(pixels).view(-1, 1, 1, 1) * way
        return (gradients(request, points) * way).sum(1).cpu().double().sum(0)

    def run(size: int) -> Tensor:
        rows = range(0, draws, size)
        return torch.stack([part(row, min(row + size, draws)) for row in rows]).sum(0)

    total = request.classifier.evaluator.within_memory(run)
    return _Expected(total / draws, _change(request, pixels, starts, kinds))


def _change(request: Request, pixels: Tensor, starts: Tensor, kinds: Tensor) -> float:
    """Return the mean change of the score from each draw's baseline to the picture."""
    evaluator = request.classifier.evaluator
    ends = torch.cat([starts, pixels[None]])
    raw = evaluator.stream(len(ends), lambda start, stop: ends[start:stop])
    scores = evaluator.head.scores(raw)[:, request.target].cpu().double()
    return float((scores[-1] - scores[kinds]).mean())


def _completeness_gap(request: Request, found: _Expected) -> Measurement:
    gap = abs(float(found.map.sum()) - found.change)
    return Measurement(
        metric="completeness_gap",
        subject=CARD.key,
        value=gap / abs(found.change) if found.change else None,
        direction="lower is better",
        range=(0, None),
        settings={
            "score": request.classifier.evaluator.head.score,
            "draws": request.config.gradient_shap_draws,
        },
        detail={"absolute gap": gap, "score change": found.change},
        note="what the draws leave open"
        if found.change
        else "the score is the same, on average, on the baselines as on the picture",
    )


def _work(config: Config, size: Size) -> Work:
    ends = Work(len(BASELINES) + 1)
    return ends + Work(1, 1) * config.gradient_shap_draws


METHOD = Method(CARD, _explain, _work, ("gradient_shap_draws",))
