"""What every metric of one report costs, and what the metrics share.

    python benchmarks/passes.py MODEL IMAGE [--mask MASK] [--labels FILE] [--out FILE]

Runs the standard report with all metrics, and writes a table: the passes behind each metric, those
of them that other metrics read too, the passes that its stage made, and the seconds.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

import reportgen
from reportgen.records import Report


def lines(report: Report) -> Iterator[str]:
    """Yield the table of one report, a row for each metric and a total."""
    made = {stage.stage: stage for stage in report.provenance.passes}
    yield "| metric | forward passes behind it | shared | made by its stage | backward | seconds |"
    yield "|---|---|---|---|---|---|"
    behind = 0
    for card in report.metrics:
        keys = {quantity.key for quantity in card.quantities}
        costs = [m.cost for m in report.measurements if m.metric in keys and m.cost]
        stage, seconds = made[card.key], report.run.seconds[card.key]
        forward, shared = (costs[0].forward, costs[0].shared_forward) if costs else (0, 0)
        behind += forward
        yield (
            f"| {card.key} | {forward:,} | {shared:,} | {stage.forward:,} | {stage.backward:,} | "
            f"{seconds:.1f} |"
        )
    metrics = [made[card.key] for card in report.metrics]
    total = sum(stage.forward for stage in metrics)
    yield (
        f"| **all metrics** | {behind:,} | | {total:,} | "
        f"{sum(stage.backward for stage in metrics):,} | "
        f"{sum(report.run.seconds[card.key] for card in report.metrics):.1f} |"
    )
    yield f"\nWithout sharing they would have made {behind:,} forward passes; they made {total:,}."
    if report.skipped:
        left_out = (f"{skip.step} {skip.subject}: {skip.reason}" for skip in report.skipped)
        yield f"\nSkipped: {'; '.join(left_out)}"


def main() -> None:
    """Run one report with all metrics and write what it cost."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("image")
    parser.add_argument("--mask", default="")
    parser.add_argument("--labels", default="")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/passes.md"))
    given = parser.parse_args()
    options = {"metrics": "all", "mask": given.mask, "labels": given.labels}
    report = reportgen.explain(given.model, given.image, options).report
    heading = (
        f"# The cost of every metric\n\nMade by `python benchmarks/passes.py` with reportgen "
        f"{reportgen.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"on {os.cpu_count()} cores ({platform.machine()}), device {report.provenance.device}: "
        f"{report.model.architecture}, {report.image.name}, {len(report.attributions)} methods, "
        f"profile standard, {len(report.measurements):,} measurements.\n"
    )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join([heading, *lines(report)]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
