"""Whether PyTorch's gradient of one picture is the derivative: every architecture of coverage.py.

    python benchmarks/gradients.py [GROUPS...] [--largest MILLIONS] [--out FILE.md]

A gradient that is wrong without an error makes every map of it wrong. In float64, the derivative of
the highest score along a random direction is taken from the gradient, as PyTorch gives it and as
reportgen takes it, and from differences of scores at three distances; the nearest counts, as kinks
and rounding spoil some.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from coverage_cases import SEED, Case, Scores, calibrated, cases, input_shape
from coverage_run import GROUPS, group, pictures, words
from machine import this_machine
from torch import Tensor, nn

from reportgen.classifier.lone_pictures import LonePictures

_STEPS = (1e-7, 1e-8, 1e-9)
_RIGHT = 0.01
_NOISE = 0.01


@dataclass(frozen=True)
class Row:
    """One network: relative errors of both gradients along the direction, or why there is none."""

    group: str
    name: str
    plain: float = float("nan")
    ours: float = float("nan")
    reason: str = ""

    @property
    def cells(self) -> str:
        """The row of the table."""
        if self.reason:
            return f"| {self.group} | {self.name} | | | {self.reason} |"
        return f"| {self.group} | {self.name} | {self.plain:.0e} | {self.ours:.0e} | |"


def row(case: Case, largest: float) -> Row:
    """Return what comes of one network."""
    torch.manual_seed(SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            network = case.make()
            millions = sum(p.numel() for p in network.parameters()) / 1e6
            if millions > largest:
                return Row(case.group, case.name, reason=f"{millions:.0f} million parameters")
            shape = input_shape(case, network)
            ready = Scores(calibrated(network, pictures(shape))).eval().double()
            picture = pictures(shape)[:1].double()
            # Where a picture is flat, pooling finds several largest values, and has no derivative.
            noisy = picture + _NOISE * torch.randn_like(picture)
            return Row(case.group, case.name, *errors(ready, noisy))
        except Exception as error:
            return Row(case.group, case.name, reason=words(error))


def errors(network: nn.Module, picture: Tensor) -> tuple[float, float]:
    """Return how far both gradients of a picture (1, C, H, W) are off, relatively."""
    with torch.no_grad():
        target = int(network(picture)[0].argmax())
    direction = torch.randn_like(picture)
    known = [_slope(network, picture, direction, target, step) for step in _STEPS]
    plain, ours = (
        _error(network, picture, direction, target, known, lone) for lone in (False, True)
    )
    return plain, ours


def _slope(
    network: nn.Module, picture: Tensor, direction: Tensor, target: int, step: float
) -> float:
    with torch.no_grad():
        ahead, behind = (network(picture + s * direction)[0, target] for s in (step, -step))
    return float(ahead - behind) / (2 * step)


def _error(
    network: nn.Module,
    picture: Tensor,
    direction: Tensor,
    target: int,
    known: Sequence[float],
    lone: bool,
) -> float:
    leaf = picture.clone().requires_grad_()
    with LonePictures() if lone else nullcontext():
        score = network(leaf)[0, target]
    found = float((torch.autograd.grad(score, leaf)[0] * direction).sum())
    return min(abs(found - each) / max(abs(each), 1e-12) for each in known)


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the result as Markdown."""
    made = [each for each in rows if not each.reason]
    wrong = [each.name for each in made if each.plain > _RIGHT]
    left = [each.name for each in made if each.ours > _RIGHT]
    yield (
        "Random weights (those of the assets are real), batch statistics of four parts of a "
        "photograph, one of these with a little noise, float64, CPU. The error is that of the "
        "derivative along a random direction, relative to the nearest of three differences of "
        f"scores. Of {len(made)} networks PyTorch's own gradient is off by "
        f"more than {_RIGHT:.0%} for {len(wrong)} ({', '.join(wrong) or 'none'}), the gradient as "
        f"reportgen takes it for {len(left)} ({', '.join(left) or 'none'})."
    )
    yield ""
    yield "| group | architecture | error of PyTorch's gradient | of reportgen's | left out |"
    yield "|---|---|---|---|---|"
    yield from (each.cells for each in rows)


def main() -> None:
    """Run all networks, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("groups", nargs="*", type=group, help=", ".join(GROUPS))
    parser.add_argument("--largest", type=float, default=100, help="millions of parameters")
    parser.add_argument("--assets", type=Path, default=os.environ.get("REPORTGEN_ASSETS"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gradients.md"))
    given = parser.parse_args()
    rows = []
    for name in given.groups or GROUPS:
        for case in cases(name, given.assets):
            started = time.perf_counter()
            rows.append(row(case, given.largest))
            print(rows[-1].cells, f"{time.perf_counter() - started:.0f} s", flush=True)
    machine = this_machine(torch.device("cpu")).lines()
    head = ["# Is the gradient of one picture the derivative?", "", *machine, ""]
    given.out.write_text("\n".join([*head, *table(rows)]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
