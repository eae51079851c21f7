"""Runs networks through file formats, and compares each with the network itself."""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from coverage_cases import (
    FORMATS,
    SEED,
    Case,
    Scores,
    calibrated,
    cases,
    input_shape,
    of_pictures,
    save,
)
from coverage_table import ALIKE, CLOSE, table
from machine import this_machine
from scipy.stats import spearmanr
from torch import Tensor, nn

import reportgen
from reportgen.api import Explanation
from reportgen.records import Preprocessing, Report

GROUPS = ("torchvision", "timm", "transformers", "assets")
QUICK: Mapping[str, Any] = {"profile": "quick"}
BRIEF: Mapping[str, Any] = {
    "profile": "quick",
    "methods": "gradcam,saliency,shap",
    "metrics": "agreement",
    "shap_evals": 30,
}
ALONE: Mapping[str, Any] = {"profile": "quick", "methods": "gradcam", "metrics": ""}
_EXAMPLES = 2
_LAST_DIGIT = 2.0**-23


@dataclass(frozen=True)
class Row:
    """One network in one format: what ran, or the ``reason`` why it did not.

    ``stage`` is "saving" where the format itself could not be made, which says nothing of
    reportgen;
    ``difference`` is that of the probabilities of the first classes from the network's own,
    and ``rounding``, where that is large, how much those change in float64; ``rank`` is the rank
    correlation of both Grad-CAM maps, and ``own_rank``, where that is low, that of the network's
    own map and the one it gives when its weights are rounded otherwise.
    """

    group: str
    name: str
    format: str
    stage: str
    seconds: float
    reason: str = ""
    methods: tuple[str, ...] = ()
    skipped: Mapping[str, str] | None = None
    layer: str = ""
    grid: str = ""
    layer_test: str = ""
    difference: float | None = None
    rounding: float | None = None
    rank: float | None = None
    own_rank: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What to do with each network: further ``formats``, and the options of the first."""

    formats: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=lambda: QUICK)
    image: str | None = None
    assets: Path | None = None


class Reference:
    """What the network itself gives, as a module, under the same preprocessing as a format."""

    def __init__(self, network: nn.Module, image: Any) -> None:
        self._network = network
        self._image = image
        self._known: dict[str, Explanation] = {}

    def under(self, found: Explanation, shaken: bool = False) -> Explanation:
        """Return the report on the network, given what the other report says of its input.

        With its weights ``shaken``, where asked.
        """
        used, target = found.report.model.preprocessing, found.report.prediction.target.index
        key = f"{used} {target} {shaken}"
        if key not in self._known:
            self._known[key] = reportgen.explain(
                _shaken(self._network) if shaken else self._network,
                self._image,
                {**ALONE, **_input(used), "target": str(target)},
            )
        return self._known[key]


def _shaken(network: nn.Module) -> nn.Module:
    """Return a copy with each weight moved by at most its last digit, as rounding would."""
    copy = deepcopy(network)
    torch.manual_seed(SEED)
    with torch.no_grad():
        for weight in copy.parameters():
            weight.mul_(1 + (2 * torch.rand_like(weight) - 1) * _LAST_DIGIT)
    return copy


def _input(used: Preprocessing) -> dict[str, object]:
    short = used.resize if isinstance(used.resize, int) else None
    return {
        "size": f"{used.crop[0]}x{used.crop[1]}",
        "resize": short,
        "interpolation": used.interpolation,
        "mean": ",".join(map(repr, used.mean)),
        "std": ",".join(map(repr, used.std)),
        "channel_order": used.channel_order,
    }


def run(case: Case, asked: Asked) -> list[Row]:
    """Return one row for each format of a network."""
    torch.manual_seed(SEED)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            network = case.make()
            shape = input_shape(case, network)
            made = Made(case, calibrated(network, pictures(shape)), shape, Path(folder))
        except Exception as error:
            return [Row(case.group, case.name, case.first, "building", 0, words(error))]
        reference = Reference(of_pictures(made.network), picture(asked.image))
        return [_row(made, format, reference, asked) for format in (case.first, *asked.formats)]


@dataclass(frozen=True)
class Made:
    """A network that was built, the (channels, height, width) of its input, and a folder."""

    case: Case
    network: nn.Module
    shape: tuple[int, int, int]
    folder: Path


def _row(made: Made, format: str, reference: Reference, asked: Asked) -> Row:
    case = made.case
    row = Row(case.group, case.name, format, "saving", 0)
    started = time.perf_counter()
    try:
        example = pictures(made.shape)[:_EXAMPLES]
        path = save(case, made.network, format, example, made.folder)
        row, started = replace(row, stage="explaining"), time.perf_counter()
        options = asked.options if format == case.first else ALONE
        found = reportgen.explain(path, picture(asked.image), options)
        found.save(made.folder / "out", ("html", "json"))
        row = _filled(replace(row, seconds=time.perf_counter() - started), found)
    except Exception as error:
        reason = words(error).replace(f"{made.folder}/", "")
        return replace(row, seconds=time.perf_counter() - started, reason=reason)
    return _compared(row, found, made, reference)


def _filled(row: Row, found: Explanation) -> Row:
    report = found.report
    cam = [a for a in report.attributions if a.method == "gradcam"]
    return replace(
        row,
        stage="done",
        methods=tuple(a.method for a in report.attributions),
        skipped={s.step: s.reason for s in report.skipped},
        layer=str(cam[0].settings["layer"]) if cam else "",
        grid=cam[0].resolution.removesuffix(" feature map") if cam else "",
        layer_test=_self_test(report),
        notes=report.model.notes,
    )


def _self_test(report: Report) -> str:
    chosen = report.layer.candidate(report.layer.chosen) if report.layer else None
    if chosen is None:
        return report.layer.reason if report.layer else ""
    said = {c.key: c.outcome for c in chosen.checks}
    odd = [f"{key} {outcome}" for key, outcome in said.items() if outcome != "passes"]
    return f"{len(said) - len(odd)} of {len(said)} pass" + "".join(f"; {each}" for each in odd)


def _compared(row: Row, found: Explanation, made: Made, reference: Reference) -> Row:
    apart, rounding = differences(found, made.network)
    row = replace(row, difference=apart, rounding=rounding)
    if row.format == made.case.first:
        return row
    try:
        rank = _rank(found, reference.under(found))
        own = None
        if rank is not None and rank < ALIKE:
            own = _rank(reference.under(found, shaken=True), reference.under(found))
    except Exception as error:
        return replace(row, notes=(*row.notes, f"no reference: {words(error)}"))
    return replace(row, rank=rank, own_rank=own)


def _rank(*found: Explanation) -> float | None:
    """Return the rank correlation of two Grad-CAM maps, None where there are not two that vary."""
    maps = [each.arrays.get("map.gradcam") for each in found]
    if maps[0] is None or maps[1] is None:
        return None
    rank = float(spearmanr(maps[0].ravel(), maps[1].ravel())[0])
    return None if np.isnan(rank) else rank


def differences(found: Explanation, network: nn.Module) -> tuple[float, float | None]:
    """Return how far the first classes' probabilities are from the network's own, at most.

    And, where that is far, how far its own in float32 are from those in float64.
    """
    model = found.report.model
    used = model.preprocessing
    seen = torch.from_numpy(found.arrays["input"].copy()).permute(2, 0, 1)[None] / 255
    seen = seen.flip(1) if used.channel_order == "bgr" else seen
    mean, std = used.mean, used.std
    if model.transform_input and not getattr(network, "transform_input", False):
        # The network that was opened turns its normalisation into the one that this is fed.
        mean = std = (0.5, 0.5, 0.5)
    pixels = (seen - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    with torch.no_grad():
        known = Scores(network)(pixels).softmax(1)[0]
        first = found.report.prediction.top
        apart = max(abs(c.probability - float(known[c.index])) for c in first)
        if apart <= CLOSE:
            return apart, None
        exact = Scores(deepcopy(network).double())(pixels.double()).softmax(1)[0]
    return apart, max(abs(float(exact[c.index] - known[c.index])) for c in first)


def pictures(shape: tuple[int, int, int]) -> Tensor:
    """Return four parts of a photograph (4, channels, height, width), roughly normalised."""
    from skimage.data import astronaut
    from skimage.transform import resize

    whole = torch.from_numpy(resize(astronaut(), (512, 512))).permute(2, 0, 1).float()
    parts = [whole[:, y : y + 320, x : x + 320] for y in (0, 192) for x in (0, 192)]
    batch = torch.nn.functional.interpolate(torch.stack(parts), shape[1:], mode="bilinear")
    if shape[0] != 3:
        batch = batch.mean(1, keepdim=True).expand(-1, shape[0], -1, -1).contiguous()
    return (batch - 0.45) / 0.25


def picture(path: str | None) -> Any:
    if path is not None:
        return path
    from skimage.data import astronaut

    return astronaut()


def words(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    named = isinstance(error, reportgen.errors.ReportgenError)
    return first if named else f"{type(error).__name__}: {first}"[:300]


def _known(rows: Path) -> list[Row]:
    if not rows.exists():
        return []
    return [Row(**json.loads(line)) for line in rows.read_text().splitlines() if line]


def _chosen(options: argparse.Namespace) -> Iterator[Case]:
    names = set(filter(None, options.names.split(",")))
    for group in options.groups or GROUPS:
        for case in cases(group, options.assets):
            if not names or case.name in names:
                yield case


class Worker:
    """A process of its own, so that what one network brings down costs no other."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._pool: ProcessPoolExecutor | None = None

    def rows(self, case: Case, asked: Asked) -> list[Row]:
        """Return the rows of a network, or one that says that there was no time, or a crash."""
        self._pool = self._pool or ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        job = self._pool.submit(_one, case.group, case.name, asked)
        try:
            return job.result(self._limit)
        except TimeoutError:
            reason = f"more than {self._limit:.0f} s"
        except BrokenProcessPool:
            reason = "the process ended"
        self.stop()
        return [Row(case.group, case.name, case.first, "explaining", self._limit, reason)]

    def stop(self) -> None:
        """End the process."""
        if self._pool is not None:
            for process in list(self._pool._processes.values()):
                process.kill()
            self._pool.shutdown()
            self._pool = None


def _one(group: str, name: str, asked: Asked) -> list[Row]:
    case = next(case for case in cases(group, asked.assets) if case.name == name)
    formats = tuple(f for f in asked.formats if f != case.first)
    return run(case, replace(asked, formats=formats))


def group(name: str) -> str:
    """Return the name of a group; with ``choices``, argparse takes no empty list."""
    if name not in GROUPS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(GROUPS)}")
    return name


def main() -> None:
    """Run what the rows lack, and write the table of all rows."""
    parser = argparse.ArgumentParser(description="What opens, with no flag.")
    parser.add_argument("groups", nargs="*", type=group, help=", ".join(GROUPS))
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--names", default="", help="only these networks")
    parser.add_argument("--image")
    parser.add_argument("--assets", type=Path, default=os.environ.get("REPORTGEN_ASSETS"))
    parser.add_argument("--limit", type=float, default=1800)
    parser.add_argument("--brief", action="store_true")
    parser.add_argument("--rows", type=Path, default=Path("coverage.jsonl"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    known = {(row.group, row.name) for row in _known(options.rows)}
    asked = Asked(
        tuple(filter(None, options.formats.split(","))),
        BRIEF if options.brief else QUICK,
        options.image,
        options.assets,
    )
    worker = Worker(options.limit)
    for case in _chosen(options):
        if (case.group, case.name) not in known:
            _keep(worker.rows(case, asked), options.rows)
    worker.stop()
    if options.out:
        machine = "\n".join(this_machine(torch.device("cpu")).lines())
        options.out.write_text(table(_known(options.rows), machine), encoding="utf-8")


def _keep(rows: list[Row], file: Path) -> None:
    with file.open("a") as lines:
        lines.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
    for row in rows:
        told = row.layer or row.reason
        print(f"{row.name} | {row.format} | {row.stage} | {told}", flush=True)


if __name__ == "__main__":
    main()
