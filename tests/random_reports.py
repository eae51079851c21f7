"""Random reports: any of the measurements, with ties, extremes, intervals, and steps left out."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
from told_reports import (
    CHECKED,
    TITLES,
    blur,
    check,
    curve,
    layer_of,
    located,
    noise,
    on_mask,
    pair,
    report_of,
    rotation,
    sensitivity,
    verdict,
)

from reportgen.facts import CONSTANT_MAP
from reportgen.layer_records import Outcome
from reportgen.metrics.yardstick import placed
from reportgen.records import Measurement, Quantity, Report, Skipped

METHODS = (*TITLES, "rise", "occlusion", "scorecam", "deconvolution", "plugin")
REASONS = ("It has no gradients.", "too slow", "ValueError: no", "off", "never", "asked for")
OVERLAP = Quantity(key="iou", title="", direction="higher is better", range=(0, 1))


def random_report(seed: int) -> Report:
    """Return the report of a seed, told as the pipeline tells it."""
    lot = Random(seed)
    methods = lot.sample(METHODS, lot.randint(0, 10))
    found = [
        *_curves(lot, methods),
        *_maps(lot, methods),
        *(_pairs(lot, methods) if lot.random() < 0.8 else ()),
        *(_turned(lot) if lot.random() < 0.8 else ()),
        *(_noisy(lot) if lot.random() < 0.8 else ()),
    ]
    flat = [m for m in methods if lot.random() < 0.08]
    skipped = [_skipped(lot, methods) for _ in range(lot.choice((0, 0, 1, 3, 9)))]
    return report_of(
        *found,
        methods=methods,
        skipped=skipped,
        notes_of={method: [CONSTANT_MAP] for method in flat},
        **_asked(lot),
    )


def share(lot: Random) -> float:
    """Return a number in [0, 1], often one of few, or next to another, or at an end."""
    few = lot.choice((0.0, 1.0, 0.0004, 0.5, 0.1004, 0.1006, 0.9996))
    return lot.choice((lot.random(), lot.random(), round(lot.random(), 1), few))


def interval(lot: Random, value: float) -> tuple[float, float]:
    width = lot.choice((0.001, 0.02, 0.2))
    return max(0.0, value - width * lot.random()), min(1.0, value + width * lot.random())


def _curves(lot: Random, methods: list[str]) -> Iterator[Measurement]:
    # Some runs make clear maps and some poor ones, so that all, some, one and none do better.
    skill = lot.choice((0.0, 0.3, 0.8, 1.0))
    for metric in ("deletion", "insertion"):
        if lot.random() < 0.15:
            continue
        picture, baseline = lot.choice(
            ((0.9, 0.1), (0.9, 0.1), (0.5, 0.46), (0.1, 0.9), (1.0, 0.0))
        )
        ends = (picture, baseline) if metric == "deletion" else (baseline, picture)
        for subject in (*methods, "smooth-random", "edges", "centre", "random"):
            value = share(lot)
            if lot.random() < skill:
                value *= 0.39
                value = value if metric == "deletion" else 1 - value
            drawn = subject in ("smooth-random", "random") or lot.random() < 0.2
            spread = interval(lot, value) if drawn else None
            if lot.random() > 0.1:
                yield curve(metric, subject, value, ends, spread)


def _maps(lot: Random, methods: list[str]) -> Iterator[Measurement]:
    together = lot.random() < 0.2
    for method in methods:
        if lot.random() < 0.9:
            yield from located(method, share(lot), 0.5 if together else share(lot), share(lot) / 3)
        if lot.random() < 0.8:
            yield sensitivity(method, lot.choice((None, share(lot), 3 * share(lot))))
            value = share(lot)
            copies = sensitivity(method, value).model_copy(
                update={"metric": "average_sensitivity", "interval": interval(lot, value)}
            )
            yield from [copies] if lot.random() < 0.7 else []
        if lot.random() < 0.3:
            yield on_mask(method, share(lot))
        if lot.random() < 0.5:
            yield verdict("randomised_spearman", method, lot.choice(("passes", "fails")))
        if lot.random() < 0.3:
            yield verdict("seed_jaccard_5", method, lot.choice(("stable", "unstable")), share(lot))
        if method in CHECKED and lot.random() < 0.8:
            yield check(CHECKED[method], method, lot.choice((None, share(lot))))


def _pairs(lot: Random, methods: list[str]) -> Iterator[Measurement]:
    chance = lot.random() < 0.3
    for i, method in enumerate(methods):
        for other in methods[:i]:
            value = share(lot) / (9 if chance else 1)
            overlap, order = pair(other, method, value, lot.choice((None, 1 - 2 * share(lot))))
            nulls = placed(OVERLAP, value, np.linspace(0.05, 0.3, 40))
            yield overlap.model_copy(update={"yardstick": nulls})
            yield order
    if len(methods) > 1:
        yield from located("consensus", lot.choice((0.0, share(lot))), share(lot), share(lot))


def _turned(lot: Random) -> Iterator[Measurement]:
    for side in ("positive", "negative"):
        yield rotation(side, lot.choice((None, 0.01 + 179 * share(lot), 12.5)))
    yield blur(lot.random() < 0.3)


def _noisy(lot: Random) -> Iterator[Measurement]:
    weak = lot.random()
    for kind in ("gaussian", "shot", "impulse"):
        for severity in range(1, 6):
            yield noise("noise_retention", kind, severity, 1.2 * share(lot))
            yield noise("noise_flips", kind, severity, weak * share(lot))


def _skipped(lot: Random, methods: list[str]) -> Skipped:
    step = lot.choice(("rotation", "noise", "sensitivity", "ablationcam", "localisation"))
    subject = lot.choice(["", *methods, "gone"]) if step == "sensitivity" else ""
    return Skipped(step=step, subject=subject, reason=lot.choice(REASONS))


def _asked(lot: Random) -> dict[str, Any]:
    """Return what is explained of which prediction, and how the model was read."""
    scores = sorted((share(lot) for _ in range(3)), reverse=True)
    asked: dict[str, Any] = {
        "top": [(f"label {'abc'[i]}", score) for i, score in enumerate(scores)],
        "target": lot.choice((0, 0, 1)),
        "threshold": lot.choice((None, None, 0.5, 0.15)),
        "trusted_pickle": lot.random() < 0.2,
    }
    if lot.random() < 0.2 and scores[2] > 0:
        asked["contrast"] = lot.choice(((0, 1), (1, 2)))
    if lot.random() < 0.3:
        asked["preprocessing_sources"] = {"mean": "assumed", "std": "assumed"}
    if lot.random() < 0.5:
        asked["layer"] = _layer(lot)
    return asked


def _layer(lot: Random) -> Any:
    outcome: Outcome = lot.choice(("passes", "fails", "undecided"))
    # One that fails is never chosen by itself.
    found = layer_of(
        outcome, lot.choice(("option", "option" if outcome == "fails" else "detected"))
    )
    if lot.random() < 0.5:
        found = found.model_copy(update={"chosen": "layer3", "runner_up": "layer4.2"})
    return found
