"""The same report on two devices, or in two batch sizes, and how far its numbers are apart.

    python benchmarks/devices.py MODEL IMAGE [--devices cpu,cuda] [--batch-size 16,5]
        [--methods all] [--metrics all] [--profile quick] [--config FILE] [--json FILE]
        [--out FILE.md]

Both reports are made in this process, in float32. Counts are small unless a file gives others: the
question is whether two numbers are equal, not whether they are precise.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from machine import this_machine
from numpy.typing import NDArray
from scipy.stats import spearmanr

from reportgen.api import Explanation, explain
from reportgen.config import Config, load_config
from reportgen.records import Report

Array = NDArray[np.floating[Any]]

RANKS_ASKED = 0.999
"""Of the rank correlation of two maps; sampled methods draw the same numbers on all devices."""
CLOSE = 1e-3
"""How far two values may be apart, of areas under curves and shares in [0, 1] as they are, of
values above 1 as a share of them."""
FEW = {
    "lime_samples": 40,
    "shap_evals": 40,
    "ig_steps": 8,
    "smoothgrad_draws": 4,
    "gradient_shap_draws": 8,
    "occlusion_cells": 7,
    "rise_masks": 50,
    "curve_steps": 6,
    "control_draws": 1,
    "road_shares": "0.5",
    "fidelity_samples": 20,
    "stability_seeds": 2,
    "sanity_stages": 2,
    "rotation_step": 15.0,
    "noise_draws": 1,
    "sensitivity_draws": 1,
    "sensitivity_samples": 10,
    "sensitivity_steps": 2,
}
_SYNCHRONISING = "called a synchronizing CUDA operation"


@dataclass(frozen=True)
class Side:
    """One report, its maps by name, and how often the host waited for the device, by stage.

    ``waits`` is None where that cannot be counted: not an NVIDIA GPU.
    """

    title: str
    report: Report
    maps: dict[str, Array]
    waits: dict[str, int] | None


@dataclass(frozen=True)
class Maps:
    """A method's two maps: rank correlation and largest difference, as a share of the largest."""

    method: str
    seeding: str
    ranks: float | None
    difference: float

    @property
    def beyond(self) -> bool:
        """Whether they are further apart than is allowed."""
        return self.difference > CLOSE if self.ranks is None else self.ranks < RANKS_ASKED


@dataclass(frozen=True)
class Values:
    """The same measurement twice; None where it has no number, or was not made."""

    metric: str
    subject: str
    first: float | None
    second: float | None

    @property
    def difference(self) -> float | None:
        """How far they are apart, None without two numbers."""
        if self.first is None or self.second is None:
            return None
        return abs(self.first - self.second)

    @property
    def beyond(self) -> bool:
        """Whether they are further apart than is allowed, or one of them has no number."""
        if self.first is None or self.second is None:
            return self.first is not self.second
        return abs(self.first - self.second) > CLOSE * max(1.0, abs(self.first), abs(self.second))


@dataclass(frozen=True)
class Comparison:
    """All differences between two reports; ``skipped`` is what one of them lacks, and why."""

    maps: tuple[Maps, ...]
    values: tuple[Values, ...]
    skipped: tuple[str, ...]

    @property
    def beyond(self) -> int:
        """How many things are further apart than is allowed."""
        further = (*(m.beyond for m in self.maps), *(v.beyond for v in self.values))
        return sum(further) + len(self.skipped)


def compare(first: Side, second: Side) -> Comparison:
    """Return how far two reports are apart."""
    return Comparison(
        maps=tuple(_maps(first, second)),
        values=tuple(_values(first.report, second.report)),
        skipped=(*_lacking(first, second), *_lacking(second, first)),
    )


def _maps(first: Side, second: Side) -> Iterator[Maps]:
    for found in first.report.attributions:
        one, other = first.maps[found.method], second.maps.get(found.method)
        if other is not None:
            yield Maps(found.method, found.card.seeding, ranks(one, other), apart(one, other))


def ranks(one: Array, other: Array) -> float | None:
    """Return Spearman's rank correlation of all pixels; None where a map is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(spearmanr(one, other, axis=None).statistic)


def apart(one: Array, other: Array) -> float:
    """Return the largest difference as a share of the largest magnitude; 0 where both are 0."""
    largest = max(float(np.abs(one).max()), float(np.abs(other).max()))
    return float(np.abs(one.astype(float) - other).max()) / largest if largest else 0.0


def _values(first: Report, second: Report) -> Iterator[Values]:
    ones, others = _by_key(first), _by_key(second)
    for key in dict.fromkeys((*ones, *others)):
        yield Values(*key, ones.get(key), others.get(key))


def _by_key(report: Report) -> dict[tuple[str, str], float | None]:
    """Return all values, those of the prediction first."""
    target = report.prediction.target
    found: dict[tuple[str, str], float | None] = {
        ("class explained", "prediction"): float(target.index),
        ("probability", "prediction"): target.probability,
    }
    return found | {(m.metric, m.subject): m.value for m in report.measurements}


def _lacking(side: Side, other: Side) -> Iterator[str]:
    """Yield what was skipped here and not there."""
    there = {(skip.step, skip.subject) for skip in other.report.skipped}
    for skip in side.report.skipped:
        if (skip.step, skip.subject) not in there:
            yield f"{side.title}: {' '.join((skip.step, skip.subject)).strip()}: {skip.reason}"


def side_of(title: str, model: Any, image: Any, config: Config) -> Side:
    """Make the report under ``config``; on an NVIDIA GPU, count where the host waits for it."""
    if config.device != "cuda":
        return _side(title, explain(model, image, config), None)
    stage = ["making ready"]
    with synchronisations(stage) as waits:
        made = explain(model, image, config, stage.append)
    return _side(title, made, dict(waits))


def _side(title: str, made: Explanation, waits: dict[str, int] | None) -> Side:
    maps = {a.method: np.asarray(made.arrays[a.array]) for a in made.report.attributions}
    return Side(title, made.report, maps, waits)


@contextmanager
def synchronisations(stages: Sequence[str]) -> Iterator[Counter[str]]:
    """Count PyTorch's warnings of synchronisations, under the last of ``stages`` at that moment."""
    found: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", _SYNCHRONISING)
        warnings.showwarning = _counting(found, stages, warnings.showwarning)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")


def _counting(
    found: Counter[str], stages: Sequence[str], show: Callable[..., None]
) -> Callable[..., None]:
    def showwarning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if _SYNCHRONISING in str(message):
            found[stages[-1]] += 1
        else:
            show(message, category, filename, lineno, file, line)

    return showwarning


def lines(sides: tuple[Side, Side], found: Comparison) -> Iterator[str]:
    """Yield the comparison as Markdown, the verdict first."""
    first, second = sides
    yield f"{verdict(sides, found)}\n"
    yield "| | batch | precision | class explained | probability |\n|---|---|---|---|---|"
    yield from map(_side_row, sides)
    yield from _map_lines(found.maps)
    yield from _value_lines(found.values, first.title, second.title)
    yield "\n## Skipped by one of them only\n"
    yield from [f"- {text}" for text in found.skipped] or ["Nothing."]
    for side in sides:
        yield from _wait_lines(side)


def verdict(sides: tuple[Side, Side], found: Comparison) -> str:
    """Return the outcome in one line."""
    titles = " and ".join(side.title for side in sides)
    outcome = f"{found.beyond} beyond what is allowed" if found.beyond else "all within"
    return (
        f"**Verdict, {titles}: {outcome}** ({len(found.maps)} maps, {len(found.values):,} values). "
        f"Asked: rank correlation of maps at least {RANKS_ASKED}, of constant maps a difference of "
        f"at most {CLOSE:g} of their largest value; values at most {CLOSE:g} apart, above 1 as a "
        "share of them; nothing skipped by one alone. What is beyond is bold."
    )


def _side_row(side: Side) -> str:
    target, made = side.report.prediction.target, side.report.provenance
    return (
        f"| {made.device} | {made.batch_size} | {made.precision} | {target.index} | "
        f"{target.probability:.6f} |"
    )


def _map_lines(maps: Sequence[Maps]) -> Iterator[str]:
    yield "\n## Maps\n\n| method | random numbers | rank correlation | largest difference |"
    yield "|---|---|---|---|"
    for row in maps:
        rank = "constant" if row.ranks is None else f"{row.ranks:.6f}"
        drawn = "none" if row.seeding.startswith("deterministic") else "seeded"
        yield f"| {row.method} | {drawn} | {_marked(rank, row.beyond)} | {row.difference:.1e} |"


def _value_lines(values: Sequence[Values], first: str, second: str) -> Iterator[str]:
    """Yield a row for each quantity with its worst subject, then each value that is beyond."""
    rows: defaultdict[str, list[Values]] = defaultdict(list)
    for value in values:
        rows[value.metric].append(value)
    yield f"\n## Values\n\n| quantity | values | beyond | worst | {first} | {second} | difference |"
    yield "|---|---|---|---|---|---|---|"
    for metric, found in rows.items():
        worst = max(found, key=_badness)
        count = sum(value.beyond for value in found)
        shown = _marked(str(count), count > 0)
        yield f"| {metric} | {len(found)} | {shown} | {worst.subject} | {_numbers(worst)} |"
    beyond = [value for value in values if value.beyond]
    if beyond:
        yield f"\n### Beyond\n\n| quantity | subject | {first} | {second} | difference |"
        yield "|---|---|---|---|---|"
        yield from (f"| {v.metric} | {v.subject} | {_numbers(v)} |" for v in beyond)


def _badness(value: Values) -> float:
    if value.difference is None:
        return math.inf if value.beyond else -1.0
    return value.difference


def _numbers(value: Values) -> str:
    numbers = ("none" if v is None else f"{v:.6g}" for v in (value.first, value.second))
    difference = "" if value.difference is None else f"{value.difference:.1e}"
    return " | ".join((*numbers, difference))


def _wait_lines(side: Side) -> Iterator[str]:
    if side.waits is None:
        return
    yield f"\n## Synchronisations per stage, {side.title}\n"
    yield "How often the host waited for the device, as PyTorch counts it.\n"
    yield "| stage | images forward | images back | synchronisations |\n|---|---|---|---|"
    made = {p.stage: (p.forward, p.backward) for p in side.report.provenance.passes}
    for stage in dict.fromkeys((*side.waits, *made)):
        forward, backward = made.get(stage, (0, 0))
        yield f"| {stage} | {forward:,} | {backward:,} | {side.waits.get(stage, 0):,} |"
    yield f"| **all** | | | {sum(side.waits.values()):,} |"


def _marked(text: str, beyond: bool) -> str:
    return f"**{text}**" if beyond else text


def as_json(sides: tuple[Side, Side], found: Comparison) -> dict[str, Any]:
    """Return everything by name."""
    return {
        "asked": {"rank correlation": RANKS_ASKED, "difference": CLOSE},
        "beyond": found.beyond,
        "sides": [
            {"title": side.title, "device": side.report.provenance.device, "waits": side.waits}
            for side in sides
        ],
        "maps": [{**asdict(row), "beyond": row.beyond} for row in found.maps],
        "values": [
            {**asdict(v), "difference": v.difference, "beyond": v.beyond} for v in found.values
        ],
        "skipped": list(found.skipped),
    }


def sides_of(options: argparse.Namespace) -> tuple[Side, Side]:
    """Make both reports; raises UsageError for a device that does not work here."""
    sizes = options.batch_size or (None, None)
    chosen = {"profile": options.profile, "methods": options.methods, "metrics": options.metrics}
    made = []
    for device, size in zip(options.devices, sizes, strict=True):
        flags = {**(FEW if options.config is None else {}), **chosen, "device": device}
        config = load_config(options.config, {**flags, "batch_size": size})
        title = device if size is None else f"{device} in batches of {size}"
        made.append(side_of(title, options.model, options.image, config))
    return made[0], made[1]


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("image", type=Path)
    parser.add_argument("--devices", type=_devices, default=("cpu", "cuda"))
    parser.add_argument("--batch-size", type=_sizes, help="two, with a comma")
    parser.add_argument("--methods", default="all")
    parser.add_argument("--metrics", default="all")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--config", type=Path, help="a TOML file with the counts of the report")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path)
    return parser.parse_args(words)


def _devices(text: str) -> tuple[str, str]:
    first, second = text.split(",")
    return first, second


def _sizes(text: str) -> tuple[int, int]:
    first, second = text.split(",")
    return int(first), int(second)


def main(words: list[str] | None = None) -> None:
    """Compare two reports; print the comparison and write it."""
    options = parsed(words)
    sides = sides_of(options)
    found = compare(*sides)
    machine = this_machine(torch.device(options.devices[1]))
    of = sides[0].report
    title = f"# {' and '.join(side.title for side in sides)}\n"
    about = f"\n{of.model.architecture} ({of.model.name}), {of.image.name}.\n"
    text = "\n".join((title, *machine.lines(), about, *lines(sides, found))) + "\n"
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    if options.json:
        content = {"machine": machine.as_json(), **as_json(sides, found)}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
