"""What a report costs: the rows, the arithmetic between them, and the text that shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from bare import Pace, Setup, Setups
from machine import Machine, written

from reportgen.attribution import METHODS
from reportgen.metrics import METRICS
from reportgen.records import Passes

REPORT = "making the report"
HTML = "rendering HTML"
PDF = "rendering PDF"
WRITING = "writing report.json, maps.npz and table.csv"


@dataclass(frozen=True)
class Stage:
    """One row: images forward and backward, the seconds these take bare, and those it took."""

    name: str
    forward: int
    backward: int
    bare: float
    taken: float

    @property
    def efficiency(self) -> float | None:
        """The share of its seconds that the bare passes need; None where it made none."""
        return self.bare / self.taken if self.forward and self.taken else None


@dataclass(frozen=True)
class Memory:
    """Bytes: resident before the report, the host's peak during it, and the device's, if any."""

    host_before: int
    host_peak: int
    device_peak: int | None
    host_peak_is_of_report: bool


@dataclass(frozen=True)
class Cost:
    """All that was measured of one report; seconds and bytes."""

    machine: Machine
    report: str
    precision: str
    setups: Setups
    paces: tuple[Pace, ...]
    through_evaluator: tuple[float, float]
    stages: tuple[Stage, ...]
    totals: tuple[Stage, ...]
    seconds: dict[str, float]
    memory: Memory
    skipped: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return everything by name, with the efficiencies."""
        rows = {
            key: [{**asdict(row), "efficiency": row.efficiency} for row in getattr(self, key)]
            for key in ("stages", "totals")
        }
        return {**asdict(self), **rows}


def bare_seconds(forward: int, backward: int, pace: Pace) -> float:
    """Return the seconds that passes take bare; each pass back belongs to one forward."""
    both = pace.forward if pace.both is None else pace.both
    return (forward - backward) * pace.forward + backward * both


def mean_pace(before: Pace, after: Pace) -> Pace:
    """Return the mean of what was measured before and after."""
    both = None
    if before.both is not None and after.both is not None:
        both = (before.both + after.both) / 2
    return Pace((before.forward + after.forward) / 2, both)


def stages_of(
    passes: Sequence[Passes], seconds: Mapping[str, float], paces: Sequence[Pace]
) -> tuple[Stage, ...]:
    """Return a row for each stage of a report, in its order, by what the report says of itself.

    ``paces`` are those of the bare network before each stage, and after the last.
    """
    around = (mean_pace(before, after) for before, after in pairwise(paces))
    return tuple(
        Stage(
            made.stage,
            made.forward,
            made.backward,
            bare_seconds(made.forward, made.backward, pace),
            seconds[made.stage],
        )
        for made, pace in zip(passes, around, strict=True)
    )


def total_of(title: str, stages: tuple[Stage, ...]) -> Stage:
    """Return the sum of some rows."""
    return Stage(
        title,
        sum(stage.forward for stage in stages),
        sum(stage.backward for stage in stages),
        sum(stage.bare for stage in stages),
        sum(stage.taken for stage in stages),
    )


def totals_of(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Return the sums of the methods, of the metrics, and of all stages."""
    kinds = {"all methods": METHODS, "all metrics": METRICS}
    sums = (
        total_of(title, tuple(stage for stage in stages if stage.name in table))
        for title, table in kinds.items()
    )
    return (*sums, total_of("all stages", stages))


def beside(seconds: Mapping[str, float], stages: Stage) -> dict[str, float]:
    """Return the seconds that follow from others: of a whole report, and without its passes."""
    whole = sum(seconds[name] for name in (REPORT, HTML, PDF, WRITING) if name in seconds)
    return {
        "facts, findings and text": seconds[REPORT] - stages.taken,
        "whole report in a warm process": whole,
        "the same without the bare passes": whole - stages.bare,
    }


def lines(cost: Cost) -> Iterator[str]:
    """Yield the report on the cost as Markdown."""
    yield "# What a report takes beside the network's passes\n"
    yield from cost.machine.lines()
    yield f"\n{cost.report}, precision {cost.precision}.\n"
    yield from _bare_lines(cost)
    yield from _stage_lines(cost)
    yield "\n## Around it\n\n| what | seconds |\n|---|---|"
    yield from (f"| {name} | {taken:.3f} s |" for name, taken in cost.seconds.items())
    yield from _memory_lines(cost.memory)
    if cost.skipped:
        yield f"\nSkipped: {'; '.join(cost.skipped)}"


def _bare_lines(cost: Cost) -> Iterator[str]:
    yield "## The bare network, images a second\n"
    yield "| pass | batch | order in memory | slowest | median | fastest | median, ms an image |"
    yield "|---|---|---|---|---|---|---|"
    yield _pace_row("forward", cost.setups.forward, [pace.forward for pace in cost.paces])
    both = [pace.both for pace in cost.paces if pace.both is not None]
    if both:
        yield _pace_row("forward and back to the picture", cost.setups.both, both)
    yield _pace_row("forward, through the evaluator", None, cost.through_evaluator)
    yield (
        "\nThe first rows are the network as it was opened, at the best batch and order in memory "
        "of those tried; through the evaluator passes without gradients run in a faster copy of "
        "it, where one can be made. Machines are shared: the bare network is measured before and "
        "after every stage, and the stage's efficiency rests on the mean of the two."
    )


def _pace_row(title: str, setup: Setup | None, seconds: Sequence[float]) -> str:
    batch, layout = (f"{setup.batch} images", setup.layout) if setup else ("its own", "its own")
    middle = median(seconds)
    speeds = " | ".join(
        f"{1 / taken:,.1f} images/s" for taken in (max(seconds), middle, min(seconds))
    )
    return f"| {title} | {batch} | {layout} | {speeds} | {1000 * middle:.3f} ms |"


def _stage_lines(cost: Cost) -> Iterator[str]:
    yield "\n## Stages\n"
    yield "| stage | images forward | images back | bare | taken | efficiency |"
    yield "|---|---|---|---|---|---|"
    yield from (_stage_row(stage, stage.name) for stage in cost.stages)
    yield from (_stage_row(stage, f"**{stage.name}**") for stage in cost.totals)
    yield (
        "\nForward and back are images sent through the network; bare is how long these take "
        "bare, and efficiency is bare / taken."
    )


def _stage_row(stage: Stage, title: str) -> str:
    share = "no passes" if stage.efficiency is None else f"{stage.efficiency:.1%}"
    return (
        f"| {title} | {stage.forward:,} | {stage.backward:,} | {stage.bare:.3f} s | "
        f"{stage.taken:.3f} s | {share} |"
    )


def _memory_lines(memory: Memory) -> Iterator[str]:
    yield "\n## Memory\n\n| what | size |\n|---|---|"
    yield f"| host, before the report | {written(memory.host_before)} |"
    report = "a quick report with the same steps, drawn too"
    scope = f"during {report}" if memory.host_peak_is_of_report else "of the whole process"
    yield f"| host, peak {scope} | {written(memory.host_peak)} |"
    if memory.device_peak is not None:
        yield f"| device, peak of tensors during {report} | {written(memory.device_peak)} |"
