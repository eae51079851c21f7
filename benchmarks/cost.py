"""What a report takes beside the passes of the user's own network, stage by stage.

    python benchmarks/cost.py MODEL IMAGE [--random] [--device DEVICE] [--precision PRECISION]
        [--profile PROFILE] [--config FILE] [--least SECONDS] [--json FILE] [--out FILE.md]

MODEL is a file or ``torchvision:NAME``; with ``--random`` the latter has random weights and needs
no network. The bare network is timed before and after the report, because machines are shared;
efficiency is the seconds that a stage's passes take bare, by the mean of both, over the seconds
that the stage took.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from bare import Inputs, Pace, find_setups, inputs_of, pace_of, random_network, seconds_a_picture
from ledger import (
    HTML,
    PDF,
    REPORT,
    WRITING,
    Cost,
    Memory,
    beside,
    lines,
    stages_of,
    totals_of,
)
from machine import (
    device_peak,
    host_memory,
    host_peak,
    restart_peaks,
    synchronise,
    this_machine,
)
from startup import start_up
from torch import Tensor, nn

from reportgen.allocator import keep_memory
from reportgen.classifier.classifier import Classifier, classifier_from
from reportgen.classifier.device import choose_device
from reportgen.classifier.evaluator import Evaluator
from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import combine
from reportgen.classifier.opened import Opened
from reportgen.classifier.sidecar import flag_hints, sidecar_hints
from reportgen.config import PROFILES, Config, load_config
from reportgen.image import Picture, open_image
from reportgen.pipeline import report_on
from reportgen.records import Report
from reportgen.render.encoding import encode_json
from reportgen.render.html import to_html
from reportgen.render.pdf import pdf_obstacle, to_pdf
from reportgen.render.writer import write_report

T = TypeVar("T")
_BATCHES = 4


@dataclass
class Watch:
    """Measures seconds by name, the device's work included."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    def __call__(self, name: str, made: Callable[[], T]) -> T:
        """Return what was made, and remember how long that took."""
        synchronise(self.device)
        start = time.perf_counter()
        result = made()
        synchronise(self.device)
        self.seconds[name] = time.perf_counter() - start
        return result


@dataclass(frozen=True)
class Case:
    """What is measured: a model that is ready, a picture, and how."""

    options: argparse.Namespace
    config: Config
    classifier: Classifier
    picture: Picture

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.classifier.device


def measure(options: argparse.Namespace) -> Cost:
    """Make a report and time it, its passes bare, and all else around it."""
    config = config_of(options)
    watch = Watch(torch.device(config.device))
    picture = open_image(options.image)
    with ExitStack() as stack:
        source, opened = watch("opening the model", lambda: opened_of(options, config))
        given = combine(flag_hints(config), sidecar_hints(source))
        ready = classifier_from(opened, given, config)
        classifier = watch("making it ready", lambda: stack.enter_context(ready))
        case = Case(options, config, classifier, picture)
        later, memory = warmed_up(case, watch)
        watch.seconds.update(start_up(later))
        return measured(case, watch, memory)


def config_of(options: argparse.Namespace) -> Config:
    """Return the options of the report; the device is named, also where none was asked for."""
    flags = {"profile": options.profile, "device": choose_device(options.device).type}
    if options.precision:
        flags["precision"] = options.precision
    return load_config(options.config, flags)


def opened_of(options: argparse.Namespace, config: Config) -> tuple[str | nn.Module, Opened]:
    """Return the model, opened afresh, and what it was opened from."""
    source = random_network(options.model) if options.random else options.model
    return source, open_model(source, config.arch, config.trust_pickle)


def warmed_up(case: Case, watch: Watch) -> tuple[list[str], Memory]:
    """Make one quick report with the same steps; return the modules that it loaded, and its memory.

    It is drawn too. Later the bare network runs between the stages, and takes memory of its own.
    """
    before = set(sys.modules)
    restarted, resident = restart_peaks(case.device), host_memory()
    names = {"methods": case.config.methods, "metrics": case.config.metrics}
    quick = case.config.model_copy(update={**PROFILES["quick"], **names})
    report, arrays = report_on(case.classifier, case.picture, quick)
    html = watch("rendering HTML, the first time", lambda: to_html(report, arrays))
    if pdf_obstacle() is None:
        watch("rendering PDF, the first time", lambda: to_pdf(html, report.run.created, b"{}"))
    memory = Memory(resident, host_peak(), device_peak(case.device), restarted)
    return [name for name in sys.modules if name not in before], memory


def measured(case: Case, watch: Watch, memory: Memory) -> Cost:
    """Return what the report costs in this process, which is warm by now."""
    evaluator, least = case.classifier.evaluator, case.options.least
    fed = inputs_of(case.classifier, case.config.precision)

    def again() -> Opened:
        return opened_of(case.options, case.config)[1]

    setups = find_setups(again(), fed, least / 4)
    bare = again()
    pace_of(bare, fed, setups, least / 4)
    through_before = _through(evaluator, fed, least)
    report, paces = _reported(case, watch, lambda: pace_of(bare, fed, setups, 0))
    through_after = _through(evaluator, fed, least)
    stages = stages_of(report.provenance.passes, report.run.seconds, paces)
    totals = totals_of(stages)
    watch.seconds.update(beside(watch.seconds, totals[-1]))
    return Cost(
        machine=this_machine(case.device),
        report=f"{report.model.architecture}, {report.image.name}, profile {case.config.profile}",
        precision=evaluator.precision,
        setups=setups,
        paces=tuple(paces),
        through_evaluator=(through_before, through_after),
        stages=stages,
        totals=totals,
        seconds=watch.seconds,
        memory=memory,
        skipped=tuple(f"{skip.step} {skip.subject}: {skip.reason}" for skip in report.skipped),
    )


def _reported(case: Case, watch: Watch, pace: Callable[[], Pace]) -> tuple[Report, Sequence[Pace]]:
    """Make, draw and write the report; measure the bare network before each stage and at the end.

    A machine that others use is not equally fast all the time, so each stage is compared with what
    the bare network did just before and just after it.
    """
    paces: list[Pace] = []
    pauses = 0.0

    def started(stage: str) -> None:
        nonlocal pauses
        synchronise(case.device)  # what is still under way belongs to the stage before
        start = time.perf_counter()
        paces.append(pace())
        pauses += time.perf_counter() - start

    report, arrays = watch(
        REPORT, lambda: report_on(case.classifier, case.picture, case.config, started)
    )
    watch.seconds[REPORT] -= pauses
    paces.append(pace())
    html = watch(HTML, lambda: to_html(report, arrays))
    if pdf_obstacle() is None:
        data = encode_json(report.model_dump(mode="json"))
        watch(PDF, lambda: to_pdf(html, report.run.created, data))
    with TemporaryDirectory() as folder:
        watch(WRITING, lambda: write_report(report, arrays, Path(folder), ("json", "csv")))
    return report, paces


def _through(evaluator: Evaluator, fed: Inputs, least: float) -> float:
    """Return the seconds a picture of passes without gradients, by the evaluator's own way."""
    rows = fed.both.batch(evaluator.batch_size, "channels first").repeat(_BATCHES, 1, 1, 1)

    def run(pixels: Tensor) -> Tensor:
        return evaluator.stream(len(pixels), lambda start, stop: pixels[start:stop])

    return seconds_a_picture(run, rows, least)


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("image")
    parser.add_argument("--random", action="store_true", help="random weights, no network")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="")
    parser.add_argument("--profile", default="standard")
    parser.add_argument("--config", type=Path, help="a TOML file with options of the report")
    parser.add_argument("--least", type=float, default=2.0, help="seconds of each bare measurement")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path)
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    """Measure what a report costs; print it and write it."""
    options = parsed(words)
    keep_memory()  # as the command line does; the bare network has the benefit too
    cost = measure(options)
    text = "\n".join(lines(cost)) + "\n"
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(cost.as_json(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
