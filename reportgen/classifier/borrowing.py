"""A network in use: in eval mode, frozen, run as it is written, and left as it was found.

Compiled code hides what it calls from those who watch it; checkpointed parts run without a
gradient, and the older of the two kinds refuses to be asked for the gradient of anything but
parameters. Both compute what the network as it is written computes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils import checkpoint


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network inside ``torch.compile``, ``DataParallel`` and the like."""
    while True:
        inner = getattr(network, "_orig_mod", None)  # a script's modules are no dictionary
        if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = network.module
        if inner is None:
            return network
        network = inner


@contextmanager
def borrowed(network: nn.Module) -> Iterator[None]:
    """Use a network in eval mode, with frozen parameters, as it is written; leave it as it was.

    Modes and requires-grad flags are put back on every exit; gradients are never written, because
    frozen parameters collect none.
    """
    # A frozen TorchScript module has no mode any more.
    found = [m for m in network.modules() if hasattr(m, "training")]
    modes = [(module, module.training) for module in found]
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        if any(training for _, training in modes):
            network.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        with _as_written():
            yield
    finally:
        _put_back(modes, flags)


def _put_back(modes: list[tuple[Any, bool]], flags: list[tuple[Any, bool]]) -> None:
    for parameter, flag in flags:
        parameter.requires_grad_(flag)
    for module, training in modes:
        module.training = training


@contextmanager
def _as_written() -> Iterator[None]:
    """Run networks in Python, with all that they compute recorded for the gradient."""
    recomputed = checkpoint.CheckpointFunction
    checkpoint.CheckpointFunction = _Unchecked  # type: ignore[misc,assignment]
    try:
        with _uncompiled():
            yield
    finally:
        checkpoint.CheckpointFunction = recomputed  # type: ignore[misc]


def _uncompiled() -> Any:
    # Without this module, which takes seconds to import, nothing has been compiled.
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


class _Unchecked:
    """Stands in for the function that runs a part without recording it."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *given: Any) -> Any:
        """Return what the part gives, recorded."""
        return function(*given)
