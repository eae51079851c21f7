"""Which device to compute on, and how many pictures it takes at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from reportgen.errors import UsageError

# On CPUs larger batches fall out of the caches: 16 was the fastest of 4 to 32 for MobileNetV2 and
# ResNet-50 at 224 px on two cores.
_BATCH = {"cpu": 16, "mps": 64, "cuda": 256}


def choose_device(name: str) -> torch.device:
    """Return the device called ``name``; "auto" takes the first of cuda, mps and cpu that works.

    Raises UsageError where the named device does not work here.
    """
    if name == "auto":
        return next(torch.device(kind) for kind in ("cuda", "mps", "cpu") if _works(kind))
    if not _works(name):
        raise UsageError(
            f"The device '{name}' does not work here; use --device auto, which takes one that does."
        )
    return torch.device(name)


def batch_size(device: torch.device) -> int:
    """Return how many pictures to send through a network at once on this kind of device."""
    return _BATCH.get(device.type, 32)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow TF32 on NVIDIA GPUs, or forbid it, and put back what was set before.

    Convolutions use it there unless it is forbidden, and round their inputs to 11 bits. Nothing is
    changed where the caller has set it for single operators.
    """
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    try:
        before = (convolutions.allow_tf32, products.allow_tf32)
    except RuntimeError:
        yield
        return
    convolutions.allow_tf32, products.allow_tf32 = allowed, allowed
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before


def describe(device: torch.device) -> str:
    """Return the device in words, with the model of the GPU where there is one."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return device.type


def _works(kind: str) -> bool:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if not available[kind]:
        return False
    try:
        return float(torch.ones(2, device=kind).sum()) == 2.0
    except (RuntimeError, AssertionError):
        return False
