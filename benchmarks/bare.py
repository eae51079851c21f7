"""How fast the user's own network is: eager, as it was opened, with nothing around it.

It is given the best batch and the best order in memory, so that it is a bound to be near to, not
one that is easily passed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import TypeVar

import torch
from machine import synchronise
from torch import Tensor, nn

from reportgen.classifier.borrowing import borrowed
from reportgen.classifier.classifier import Classifier
from reportgen.classifier.device import tf32
from reportgen.classifier.opened import Opened
from reportgen.classifier.outputs import class_outputs
from reportgen.classifier.torchvision_operators import ensure_torchvision

CPU_SIZES = (1, 2, 4, 8, 16, 32)
DEVICE_SIZES = (*CPU_SIZES, 64, 128, 256, 512)
LAYOUTS = {
    "channels first": torch.contiguous_format,
    "channels last": torch.channels_last,
}
_PREFIX = "torchvision:"
_COARSE = {"bf16": torch.bfloat16}
_TF32 = "tf32"
_SLOWER = 2
_FEWEST = 3

T = TypeVar("T")
Run = Callable[[Tensor], object]


@dataclass(frozen=True)
class Input:
    """What the network is fed: (channels, height, width), where, and in which precision.

    ``rounded`` allows TF32 on NVIDIA GPUs.
    """

    shape: tuple[int, int, int]
    device: torch.device
    dtype: torch.dtype
    rounded: bool = False

    def batch(self, size: int, layout: str) -> Tensor:
        """Return noise (size, C, H, W) in that order in memory; speed does not depend on it."""
        made = torch.rand(size, *self.shape, generator=torch.Generator().manual_seed(0))
        return made.to(self.device, self.dtype).contiguous(memory_format=LAYOUTS[layout])


@dataclass(frozen=True)
class Inputs:
    """What a pass forward is fed, and one forward and back: the precision may differ."""

    forward: Input
    both: Input


@dataclass(frozen=True)
class Setup:
    """How the network is fastest: pictures in a batch, and their order in memory."""

    batch: int
    layout: str


@dataclass(frozen=True)
class Setups:
    """The best for a pass forward, and for one forward and back; None where none can be made."""

    forward: Setup
    both: Setup | None


@dataclass(frozen=True)
class Pace:
    """Seconds a picture: of a pass forward, and of one forward and back to the picture."""

    forward: float
    both: float | None


def inputs_of(classifier: Classifier, precision: str) -> Inputs:
    """Return the input that suits a model; without gradients in ``precision``, where that is used.

    ``precision`` is that of the options; the evaluator says whether it suits the last picture.
    """
    preprocessing, evaluator = classifier.record.preprocessing, classifier.evaluator
    floating = (p.dtype for p in evaluator.network.parameters() if p.is_floating_point())
    shape = (preprocessing.channels, *preprocessing.crop)
    own = Input(shape, classifier.device, next(floating, torch.float32))
    if not evaluator.reducing:
        return Inputs(own, own)
    coarse = replace(own, dtype=_COARSE.get(precision, own.dtype), rounded=precision == _TF32)
    return Inputs(coarse, own)


def find_setups(opened: Opened, fed: Inputs, least: float) -> Setups:
    """Return the fastest setups, each tried for ``least`` seconds.

    Raises RuntimeError where the network cannot be run at all.
    """
    network, sizes = opened.network.to(fed.forward.device), _sizes(opened, fed.forward.device)
    with borrowed(network):
        forward = _best_setup(
            partial(_paced, network, _forward(network), fed.forward, least), sizes
        )
        both = _best_setup(partial(_paced, network, _both(network), fed.both, least), sizes)
    if forward is None:
        raise RuntimeError(f"the network cannot be run on its own in {fed.forward.dtype}")
    return Setups(forward, both)


def pace_of(opened: Opened, fed: Inputs, setups: Setups, least: float) -> Pace:
    """Return the seconds a picture in the setups that were found, over ``least`` seconds each."""
    network = opened.network.to(fed.forward.device)
    with borrowed(network):
        forward = _paced(network, _forward(network), fed.forward, least, setups.forward)
        if setups.both is None:
            return Pace(forward, None)
        return Pace(forward, _paced(network, _both(network), fed.both, least, setups.both))


def random_network(name: str) -> nn.Module:
    """Return ``torchvision:NAME`` with random weights, the same every time and without a network.

    Raises ValueError for a name that torchvision does not know.
    """
    ensure_torchvision()
    from torchvision import models

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = models.get_model(name.removeprefix(_PREFIX), weights=None)
    return network.eval()


def seconds_a_picture(run: Run, batch: Tensor, least: float) -> float:
    """Return the mean seconds a picture of ``run`` on a batch, over ``least`` seconds of it.

    The mean, not the best: what it is compared with is a mean over all that the machine does too.
    With no seconds it is run once, which is for what has run before.
    """
    if least == 0:
        return _clocked(run, batch, 1) / len(batch)
    run(batch)
    times = max(_FEWEST, math.ceil(least / _clocked(run, batch, 1)))
    return _clocked(run, batch, times) / (times * len(batch))


def fastest(setups: Iterable[T], seconds: Callable[[T], float]) -> tuple[T, float] | None:
    """Return the setup of the fewest seconds a picture, and these; None where none can be run.

    They are tried in order, until two in turn are slower than the best or one does not run.
    """
    best: tuple[T, float] | None = None
    slower = 0
    for setup in setups:
        try:
            taken = seconds(setup)
        except (RuntimeError, MemoryError):  # no room, an order it refuses, no gradient
            break
        slower = slower + 1 if best is not None and taken >= best[1] else 0
        if slower == 0:
            best = setup, taken
        if slower == _SLOWER:
            break
    return best


def _best_setup(seconds: Callable[[Setup], float], sizes: tuple[int, ...]) -> Setup | None:
    found: list[tuple[Setup, float]] = []
    for layout in LAYOUTS:
        best = fastest((Setup(size, layout) for size in sizes), seconds)
        if best is not None:
            found.append(best)
    return min(found, key=itemgetter(1))[0] if found else None


def _sizes(opened: Opened, device: torch.device) -> tuple[int, ...]:
    if opened.fixed_batch is not None:
        return (opened.fixed_batch,)
    return CPU_SIZES if device.type == "cpu" else DEVICE_SIZES


def _paced(network: nn.Module, run: Run, given: Input, least: float, setup: Setup) -> float:
    network.to(dtype=given.dtype, memory_format=LAYOUTS[setup.layout])  # type: ignore[call-overload]
    with tf32(given.rounded):
        return seconds_a_picture(run, given.batch(setup.batch, setup.layout), least)


def _clocked(run: Run, batch: Tensor, times: int) -> float:
    synchronise(batch.device)
    start = time.perf_counter()
    for _ in range(times):
        run(batch)
    synchronise(batch.device)
    return time.perf_counter() - start


def _forward(network: nn.Module) -> Run:
    def run(batch: Tensor) -> None:
        with torch.inference_mode():
            network(batch)

    return run


def _both(network: nn.Module) -> Run:
    def run(batch: Tensor) -> None:
        pixels = batch.detach().requires_grad_()
        score = class_outputs(network(pixels), len(pixels))[:, 0].sum()
        torch.autograd.grad(score, pixels)

    return run
