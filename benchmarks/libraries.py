"""The same maps and curves, made with each library as its documentation shows and with reportgen.

    python benchmarks/libraries.py MODEL IMAGE [--device cpu] [--precision bf16] [--random]

One process, one model, one picture, one class, the same sample counts; the calls of the libraries
are in ``library_calls.py``. Each side runs once with the fewest samples before it is timed, and the
sides take turns in going first. MODEL is a file or ``torchvision:NAME``; with ``--random`` the
latter has random weights and needs no network.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import library_calls as calls
import numpy as np
import torch
from library_subject import Array, Subject, subject_of
from machine import synchronise, this_machine
from scipy.stats import spearmanr
from torch import Tensor

from reportgen.attribution import METHODS
from reportgen.classifier.evaluator import Counter
from reportgen.config import Config, load_config
from reportgen.errors import ReportgenError

Side = Callable[[Subject, Config], Array]

ASKED = 0.99
FEWEST = {"lime_samples": 10, "shap_evals": 10, "ig_steps": 2, "curve_steps": 2}


@dataclass(frozen=True)
class Stage:
    """One kind of work, as a library does it and as reportgen does it.

    ``sampled`` is whether a seed decides the library's result, ``compared`` whether both sides
    answer the same question, ``counted`` whether the total has it.
    """

    title: str
    library: Side
    ours: Side
    sampled: bool = False
    compared: bool = True
    counted: bool = True
    compile: Callable[[], None] | None = None


@dataclass(frozen=True)
class Spent:
    """What one side took: by the clock, by the processor (all threads), and in pictures."""

    seconds: float
    cpu_seconds: float
    forward: int
    backward: int

    def __add__(self, other: Spent) -> Spent:
        """Return what both took."""
        return Spent(
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
            self.forward + other.forward,
            self.backward + other.backward,
        )

    def __sub__(self, other: Spent) -> Spent:
        """Return what was taken since ``other`` was read."""
        return self + Spent(-other.seconds, -other.cpu_seconds, -other.forward, -other.backward)


@dataclass(frozen=True)
class Row:
    """One line of the table; None where there is nothing to say, NaN for a constant result."""

    title: str
    counted: bool
    library: Spent
    ours: Spent
    compiling: float | None = None
    agreement: float | None = None
    difference: float | None = None
    itself: float | None = None

    @property
    def falls_short(self) -> bool:
        """Whether both sides agree less than asked, or than the library with itself."""
        if self.agreement is None:
            return False
        asked = ASKED if self.itself is None else min(ASKED, self.itself)
        return not self.agreement >= asked


def agreement(one: Array, other: Array) -> float:
    """Return Spearman's rank correlation of all values; NaN where a side is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(spearmanr(one, other, axis=None).statistic)


def difference(one: Array, other: Array) -> float:
    """Return the largest difference, after each side was divided by its largest magnitude.

    grad-cam's maps reach from 0 to 1, whatever the scores.
    """
    sizes = [float(np.abs(values).max()) or 1.0 for values in (one, other)]
    return float(np.abs(one / sizes[0] - other / sizes[1]).max())


MAPS = {
    "gradcam": Stage("Grad-CAM (grad-cam)", calls.gradcam, partial(calls.own_map, "gradcam")),
    "shap-pixels": Stage(
        "SHAP (shap, single pixels)",
        calls.shap_pixels,
        partial(calls.own_map, "shap"),
        compared=False,
        compile=calls.shap_compiled,
    ),
    "shap": Stage(
        "*SHAP (shap, reportgen's segments)*",
        calls.shap_segments,
        partial(calls.own_map, "shap"),
        sampled=True,
        counted=False,
    ),
    "lime": Stage("LIME (lime)", calls.lime, partial(calls.own_map, "lime"), sampled=True),
    "integrated-gradients": Stage(
        "Integrated Gradients (captum)",
        calls.integrated_gradients,
        calls.own_integrated_gradients,
    ),
}
CURVES = {
    "deletion": Stage(
        "Deletion, four maps (RISE)",
        calls.deletion,
        calls.own_deletion,
    ),
    "insertion": Stage(
        "Insertion, four maps (RISE)",
        calls.insertion,
        calls.own_insertion,
    ),
}
NOTES = (
    "Both sides run in this one process on the same picture, class, segments and fills; each runs "
    "once with the fewest samples before it is timed, and they take turns in going first. Ratio: "
    "the library's seconds over reportgen's. Agreement: Spearman's rank correlation over all "
    "pixels, or over all points of all curves. Difference: the largest, each side divided by its "
    "largest magnitude. Itself: the library's agreement with itself under another seed.",
    "The libraries run the network as it was opened, in float32 (on NVIDIA GPUs without TF32, as "
    "reportgen's float32): lime with ten pictures a batch, shap with fifty, captum with all steps "
    "in one batch, RISE with one picture a pass.",
    "SHAP: shap's own masker for pictures cuts them into ever smaller rectangles of single pixels "
    "and channels, reportgen hides segments. These are different games, so that row compares the "
    "cost of as many evaluations, not the maps. The row below it, which the total leaves out, is "
    "shap's explainer on reportgen's segments, tree and fill, through a custom masker in numpy "
    "that masks one picture at a time: the same game. Compiling: what numba takes, once a process, "
    "to compile shap's loops; it is in no other column.",
    "Integrated Gradients: reportgen's rule that doubles the steps of maps that do not add up is "
    "off. Both sides also run the two ends of the path, to tell how far the map is off.",
    "Grad-CAM: reportgen's passes hold those that find the layer; the library is told it. grad-cam "
    "moves each map to begin at 0, which is the difference.",
    "LIME: both draw the same maskings from the same seed. lime works on bytes, so that the mean "
    "colours of its hidden segments are rounded down to one of 256 levels.",
    "Curves: the order among equal pixels is reportgen's on both sides; RISE has none. reportgen "
    "runs the ends, which all maps share, once.",
)


def measured(subject: Subject, config: Config) -> Iterator[Row]:
    """Yield one row for each stage; the curves are those of reportgen's four maps."""
    found: dict[str, Tensor] = {}
    for index, (key, stage) in enumerate(MAPS.items()):
        row, ours = measure(stage, subject, config, index)
        found[key] = torch.from_numpy(ours).to(subject.pixels.device)
        yield row
    maps = {key: found[key] for key in MAPS if key in METHODS}
    for index, stage in enumerate(CURVES.values()):
        yield measure(stage, replace(subject, maps=maps), config, index)[0]


def measure(stage: Stage, subject: Subject, config: Config, turn: int) -> tuple[Row, Array]:
    """Return the row of one stage, and reportgen's result; at even turns the library goes first."""
    compiling = _seconds(stage.compile) if stage.compile else None
    counters = {"library": subject.plain.counter, "ours": subject.classifier.evaluator.counter}
    results: dict[str, Array] = {}
    spent: dict[str, Spent] = {}
    for name in ("library", "ours") if turn % 2 == 0 else ("ours", "library"):
        side: Side = getattr(stage, name)
        side(subject, config.model_copy(update=FEWEST))
        run = partial(side, subject, config)
        results[name], spent[name] = _timed(run, counters[name], subject.plain.device)
    library, ours = results["library"], results["ours"]
    other = config.model_copy(update={"seed": config.seed + 1})
    row = Row(
        title=stage.title,
        counted=stage.counted,
        library=spent["library"],
        ours=spent["ours"],
        compiling=compiling,
        agreement=agreement(library, ours) if stage.compared else None,
        difference=difference(library, ours) if stage.compared else None,
        itself=agreement(library, stage.library(subject, other)) if stage.sampled else None,
    )
    return row, ours


def _timed(run: Callable[[], Array], counter: Counter, device: torch.device) -> tuple[Array, Spent]:
    gc.collect()
    synchronise(device)
    before = _reading(counter)
    result = run()
    synchronise(device)
    return result, _reading(counter) - before


def _reading(counter: Counter) -> Spent:
    return Spent(time.perf_counter(), time.process_time(), counter.forward, counter.backward)


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def total(rows: Sequence[Row]) -> Row:
    """Return the sums of all rows that count."""
    counted = [row for row in rows if row.counted]
    nothing = Spent(0.0, 0.0, 0, 0)
    return Row(
        title="**all**",
        counted=True,
        library=sum((row.library for row in counted), nothing),
        ours=sum((row.ours for row in counted), nothing),
        compiling=sum(row.compiling or 0.0 for row in counted),
    )


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table, a row for each stage and the total, and what falls short."""
    heads = (
        "stage", "passes, library", "passes, reportgen", "library, s", "reportgen, s", "ratio",
        "compiling, s", "agreement", "difference", "itself",
    )  # fmt: skip
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    whole = total(rows)
    yield from (f"| {' | '.join(_cells(row))} |" for row in (*rows, whole))
    yield f"\nIn seconds of the processor, all threads together, the ratio of all is {_cpu(whole)}."
    short = [row.title.strip("*") for row in rows if row.falls_short]
    asked = f"the agreement asked for ({ASKED}, or the library's with itself where that is less)"
    yield f"\nBelow {asked}: {'; '.join(short) or 'none'}."


def _cells(row: Row) -> Iterator[str]:
    yield row.title
    yield from (_passes(spent) for spent in (row.library, row.ours))
    yield from (f"{spent.seconds:.2f}" for spent in (row.library, row.ours))
    yield f"{row.library.seconds / row.ours.seconds:.2f}"
    yield "" if row.compiling is None else f"{row.compiling:.1f}"
    for value, form in ((row.agreement, ".5f"), (row.difference, ".1e"), (row.itself, ".5f")):
        yield "" if value is None else "constant" if math.isnan(value) else format(value, form)


def _passes(spent: Spent) -> str:
    back = f", {spent.backward:,} back" if spent.backward else ""
    return f"{spent.forward:,}{back}"


def _cpu(row: Row) -> str:
    return f"{row.library.cpu_seconds / max(row.ours.cpu_seconds, 1e-9):.2f}"


def as_json(row: Row) -> dict[str, object]:
    """Return a row by name, with its ratio; NaN, which JSON has not, becomes None."""
    values = {**asdict(row), "ratio": row.library.seconds / row.ours.seconds}
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def heading(subject: Subject, image: Path, config: Config) -> Iterator[str]:
    """Yield the title, what made the figures, and of what they are."""
    classifier, target = subject.classifier, subject.prediction.target
    yield "# reportgen beside the libraries\n"
    yield from this_machine(subject.plain.device).lines()
    used = ("grad-cam", "shap", "lime", "captum", "numba", "numpy")
    yield f"\nLibraries: {', '.join(f'{name} {version(name)}' for name in used)}."
    yield (
        f"\n{classifier.record.architecture} ({classifier.record.name}), {image.name}, class "
        f"{target.index}, {int(subject.segments.max()) + 1} segments, Grad-CAM at "
        f"'{subject.module.removeprefix('network.')}'; LIME {config.lime_samples} samples, SHAP "
        f"{config.shap_evals} evaluations, Integrated Gradients {config.ig_steps} steps, curves "
        f"{config.curve_steps} steps. reportgen: {classifier.evaluator.precision}, "
        f"{classifier.evaluator.batch_size} pictures a batch.\n"
    )


def main() -> None:
    """Measure both sides, print the table as it grows, and write it."""
    given = _arguments()
    flags = {name: getattr(given, name) for name in OPTIONS if getattr(given, name) is not None}
    config = load_config(flags=flags)
    with subject_of(given.model, given.random, given.image, config) as subject:
        head = list(heading(subject, given.image, config))
        rows = []
        for row in measured(subject, config):
            rows.append(row)
            print(" | ".join(_cells(row)), flush=True)
        machine = this_machine(subject.plain.device).as_json()
    text = "\n".join([*head, *table(rows), *(f"\n{note}" for note in NOTES)]) + "\n"
    print(text)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(text, encoding="utf-8")
    if given.json:
        content = {
            "machine": machine,
            "options": flags,
            "rows": [as_json(row) for row in rows],
            "total": as_json(total(rows)),
        }
        given.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


OPTIONS = {
    "lime_samples": 500,
    "shap_evals": 500,
    "ig_steps": 50,
    "curve_steps": 56,
    "device": "auto",
    "seed": 0,
    "target": None,
    "layer": None,
    "precision": None,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("image", type=Path)
    parser.add_argument(
        "--random", action="store_true", help="random weights, for torchvision:NAME"
    )
    for name, default in OPTIONS.items():
        kind = int if isinstance(default, int) else str
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/libraries.md"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.random and not given.model.startswith("torchvision:"):
        parser.error("--random makes weights for torchvision:NAME, not for a file")
    return given


if __name__ == "__main__":
    try:
        main()
    except ReportgenError as error:
        raise SystemExit(str(error)) from None
