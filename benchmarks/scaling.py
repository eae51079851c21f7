"""What a survey takes as its pictures become many: seconds a picture, memory, files.

    python benchmarks/scaling.py MODEL IMAGES... [--random] [--counts 1,10,100,1000]
        [--methods METHODS] [--metrics METRICS] [--profile quick] [--formats FORMATS]
        [--device DEVICE] [--json FILE] [--out FILE.md]

The pictures are cut from those given, each another one. Whether memory grows is read from samples
inside one run, after 1, 10, 100 pictures and so on: separate runs say nothing about growth.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from bare import random_network
from machine import (
    Machine,
    device_peak,
    host_memory,
    host_peak,
    restart_peaks,
    this_machine,
    written,
)
from PIL import Image
from torch import nn

import reportgen
from reportgen.classifier.device import choose_device
from reportgen.config import Config, load_config, split_names
from reportgen.render.survey_folder import PICTURES
from reportgen.render.writer import FORMATS

FIRST = 10
"""Growth is counted from here: by then everything that is made once has been made."""
_CUT = 0.2
_PLACES = 40
_SUMMARY = "summary"


@dataclass(frozen=True)
class Sample:
    """After so many pictures: seconds since the first began, and bytes of memory in use."""

    pictures: int
    seconds: float
    host: int
    device: int | None


@dataclass(frozen=True)
class Sizes:
    """Bytes of the files of a survey: its own, by name, and those of all its pictures."""

    own: dict[str, int]
    pictures: int


@dataclass(frozen=True)
class Run:
    """One survey of ``count`` pictures: seconds, bytes, and what was seen on the way.

    ``ready`` is before the first picture, ``summary`` after the last: comparing and drawing.
    """

    count: int
    ready: float
    pictures: float
    summary: float
    host_peak: int
    device_peak: int | None
    sizes: Sizes
    samples: tuple[Sample, ...]


@dataclass
class Watcher:
    """Hears of each picture as a survey begins it, and takes a sample after some of them."""

    device: torch.device
    clock: Callable[[], float] = time.perf_counter
    memory: Callable[[], int] = host_memory
    begun: int = 0
    moments: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def __call__(self, stage: str) -> None:
        """Book that ``stage`` begins: the next picture, or the summary after the last one."""
        done, now = self.begun, self.clock()
        self.begun += 1
        if done == 0 or stage == _SUMMARY:
            self.moments.append(now)
        if is_marked(done) or (stage == _SUMMARY and done > 0):
            self.samples.append(self._sample(done, now - self.moments[0]))

    def _sample(self, done: int, seconds: float) -> Sample:
        cuda = self.device.type == "cuda"
        return Sample(
            pictures=done,
            seconds=seconds,
            host=self.memory(),
            device=torch.cuda.memory_allocated(self.device) if cuda else None,
        )


def is_marked(pictures: int) -> bool:
    """Return whether a sample is taken after so many pictures: 1, 2, 5, 10, 20, 50, 100, ..."""
    return pictures > 0 and str(pictures).rstrip("0") in ("1", "2", "5")


def growth(samples: Sequence[Sample], first: int = FIRST) -> float | None:
    """Return by what share the host's memory grew from ``first`` pictures on to the last sample.

    None where no sample was taken at ``first``, or none after it.
    """
    start = next((sample for sample in samples if sample.pictures == first), None)
    if start is None or samples[-1].pictures <= first:
        return None
    return samples[-1].host / start.host - 1


def cut_pictures(sources: Sequence[Path], count: int, folder: Path) -> list[Path]:
    """Write ``count`` pictures to ``folder``, no two alike, and return their paths.

    The sources take turns; each time another part of them is shown, at their own size.
    """
    paths = []
    for number in range(count):
        source = sources[number % len(sources)]
        path = folder / f"{number:05d}.png"
        _part(source, number // len(sources)).save(path)
        paths.append(path)
    return paths


def _part(source: Path, turn: int) -> Image.Image:
    """Return the picture without an edge that depends on ``turn``, resampled to its own size."""
    with Image.open(source) as image:
        picture = image.convert("RGB")
    width, height = picture.size
    left = width * _CUT * (turn % _PLACES) / _PLACES
    top = height * _CUT * (turn // _PLACES % _PLACES) / _PLACES
    box = (left, top, left + width * (1 - _CUT), top + height * (1 - _CUT))
    return picture.resize(picture.size, Image.Resampling.BILINEAR, box=box)


def run_of(
    model: str | nn.Module, pictures: Sequence[Path], config: Config, formats: tuple[str, ...]
) -> Run:
    """Return what a survey of these pictures took."""
    device = torch.device(config.device)
    watcher = Watcher(device)
    restart_peaks(device)
    with TemporaryDirectory() as place:
        start, out = time.perf_counter(), Path(place) / "survey"
        reportgen.survey(model, pictures, out, config, formats, watcher)
        end = time.perf_counter()
        sizes = sizes_of(out)
    first, last = watcher.moments
    return Run(
        count=len(pictures),
        ready=first - start,
        pictures=last - first,
        summary=end - last,
        host_peak=host_peak(),
        device_peak=device_peak(device),
        sizes=sizes,
        samples=tuple(watcher.samples),
    )


def sizes_of(folder: Path) -> Sizes:
    """Return the sizes of the files of a survey."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    inside = [path for path in files if path.is_relative_to(folder / PICTURES)]
    own = {path.name: path.stat().st_size for path in files if path.parent == folder}
    return Sizes(own, sum(path.stat().st_size for path in inside))


def runs_of(options: argparse.Namespace, config: Config) -> Iterator[Run]:
    """Yield a run for each count; one of one picture before them makes the process warm."""
    formats = split_names(options.formats)
    model = random_network(options.model) if options.random else options.model
    with TemporaryDirectory() as place:
        pictures = cut_pictures(options.images, max(options.counts), Path(place))
        run_of(model, pictures[:1], config, formats)
        for count in options.counts:
            yield run_of(model, pictures[:count], config, formats)


def lines(machine: Machine, setting: str, runs: Sequence[Run]) -> Iterator[str]:
    """Yield the runs as Markdown."""
    yield "# What a survey takes as its pictures become many\n"
    yield from machine.lines()
    yield f"\n{setting}\n\n## Seconds and files\n"
    yield (
        "| pictures | making ready | a picture | comparing and drawing | host, peak | device, peak "
        "| files of a picture | files of the survey |\n|---|---|---|---|---|---|---|---|"
    )
    yield from (_run_row(run) for run in runs)
    longest = max(runs, key=lambda run: run.count)
    yield "\nThe files of the longest run, beside those of its pictures: " + ", ".join(
        f"{name} {written(size)}" for name, size in longest.sizes.own.items()
    )
    yield f"\n## Memory inside the run of {longest.count:,} pictures\n"
    yield "| pictures made | seconds since the first | host | device |\n|---|---|---|---|"
    yield from (_sample_row(sample) for sample in longest.samples)
    yield f"\n{_growth_sentence(longest)}"


def _run_row(run: Run) -> str:
    own = sum(run.sizes.own.values())
    return (
        f"| {run.count:,} | {run.ready:.2f} s | {run.pictures / run.count:.3f} s | "
        f"{run.summary:.2f} s | {written(run.host_peak)} | {written(run.device_peak)} | "
        f"{written(run.sizes.pictures // run.count)} | {written(own)} |"
    )


def _sample_row(sample: Sample) -> str:
    return (
        f"| {sample.pictures:,} | {sample.seconds:.1f} s | {written(sample.host)} | "
        f"{written(sample.device)} |"
    )


def _growth_sentence(run: Run) -> str:
    share = growth(run.samples)
    if share is None:
        return f"The run is too short to show growth, which is counted from picture {FIRST} on."
    return (
        f"From picture {FIRST} to picture {run.count:,} the host's memory, garbage collected, "
        f"changed by {share:+.2%}."
    )


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--random", action="store_true", help="random weights, no network")
    parser.add_argument("--counts", type=_counts, default=(1, 10, 100, 1000))
    parser.add_argument("--methods", help="those of a report if not given")
    parser.add_argument("--metrics", help="those of the profile if not given")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path)
    return parser.parse_args(words)


def config_of(options: argparse.Namespace) -> Config:
    """Return the options of the reports; the device is named, also where none was asked for."""
    asked = {"methods": options.methods, "metrics": options.metrics}
    flags = {name: value for name, value in asked.items() if value is not None}
    device = choose_device(options.device).type
    return load_config(flags={"profile": options.profile, "device": device, **flags})


def main(words: list[str] | None = None) -> None:
    """Run the surveys; print what they took and write it."""
    options = parsed(words)
    config = config_of(options)
    runs = list(runs_of(options, config))
    machine = this_machine(torch.device(config.device))
    setting = f"Methods {config.methods}; metrics {config.metrics or 'none'}; profile "
    text = "\n".join(lines(machine, f"{setting}{config.profile}; {options.formats}.", runs)) + "\n"
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    if options.json:
        found = {"machine": machine.as_json(), "runs": [asdict(run) for run in runs]}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
