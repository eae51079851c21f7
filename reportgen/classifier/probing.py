"""What the files and flags do not say about a network: detected by probing it, or assumed.

Everything assumed is marked so, and listed in the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from reportgen.classifier.folding import Forward, folded, reduced
from reportgen.classifier.heads import class_outputs
from reportgen.classifier.metadata import Hints, Known, combine
from reportgen.classifier.opened import Opened
from reportgen.classifier.preprocessing import normalise
from reportgen.errors import ModelError, UsageError
from reportgen.records import Preprocessing

_SIZES = (224, 32, 28, 64, 96, 128, 256, 299, 384, 512, 48, 160, 192, 320, 448)
_IMAGENET = Hints(
    mean=Known((0.485, 0.456, 0.406), "assumed"), std=Known((0.229, 0.224, 0.225), "assumed")
)
_PROBES = 8
_ROUNDING = 1e-3


def complete(hints: Hints, opened: Opened, device: torch.device) -> Hints:
    """Return the hints with every piece about the input filled in.

    Raises ModelError where the network accepts none of the inputs tried.
    """
    channels = hints.channels.value if hints.channels else _first_channels(opened.network)
    sizes = [hints.crop.value] if hints.crop else [(side, side) for side in _SIZES]
    found = _accepted(opened, [channels] if channels else [3, 1], sizes, device)
    if found is None:
        raise ModelError(_no_input(hints))
    detected = Hints(
        channels=Known(found[0], "detected"),
        crop=Known(found[1], "assumed"),
        interpolation=Known("bilinear", "assumed"),
    )
    hints = combine(hints, detected)
    crop = hints.crop or Known(found[1], "assumed")
    resize: Known[int | tuple[int, int]] = Known(min(crop.value), crop.source)
    plain = Hints(
        resize=resize,
        mean=Known((0.0,) * found[0], "assumed"),
        std=Known((1.0,) * found[0], "assumed"),
    )
    return combine(hints, _IMAGENET, plain) if found[0] == 3 else combine(hints, plain)


def _no_input(hints: Hints) -> str:
    if hints.crop:
        height, width = hints.crop.value
        return (
            f"The model does not accept a picture of {height}x{width} pixels; "
            "give the size that it was trained on with --size."
        )
    return (
        f"The model accepts none of the usual square inputs ({', '.join(map(str, _SIZES))} pixels, "
        "1 or 3 channels); give its input with --size."
    )


def _accepted(
    opened: Opened, channels: list[int], sizes: list[tuple[int, int]], device: torch.device
) -> tuple[int, tuple[int, int]] | None:
    for count in channels:
        for size in sizes:
            if _runs(opened, count, size, device):
                return count, size
    return None


def _runs(opened: Opened, channels: int, size: tuple[int, int], device: torch.device) -> bool:
    batch = torch.zeros(opened.fixed_batch or 1, channels, *size, device=device)
    try:
        with torch.inference_mode():
            opened.network(batch.to(_dtype(opened.network)))
    except Exception:  # any failure of the user's code means that this input does not fit
        return False
    return True


def _dtype(network: nn.Module) -> torch.dtype:
    floating = (p.dtype for p in network.parameters() if p.is_floating_point())
    return next(floating, torch.float32)


def _first_channels(network: nn.Module) -> int | None:
    kernels = (p for p in network.parameters() if p.ndim == 4)
    first = next(kernels, None)
    return None if first is None else int(first.shape[1])


def preprocessing_of(hints: Hints) -> Preprocessing:
    """Return complete hints as the preprocessing that they describe.

    Raises UsageError where mean or std do not have one value for each channel.
    """
    values = {
        name: cast(Known[Any], getattr(hints, name)).value
        for name in ("channels", "resize", "crop", "interpolation", "mean", "std")
    }
    for name in ("mean", "std"):
        if len(values[name]) != values["channels"]:
            raise UsageError(
                f"The model takes {values['channels']} channel(s), but {name} has "
                f"{len(values[name])} value(s); give one for each channel."
            )
    return Preprocessing(**values)


@dataclass(frozen=True)
class Probe:
    """Eight pictures that differ much from one another, and what the network says of them.

    ``batch`` (8, C, H, W) is normalised; ``raw`` (8, outputs) is float32.
    """

    batch: Tensor
    raw: Tensor


def probe(opened: Opened, preprocessing: Preprocessing, device: torch.device) -> Probe:
    """Return what the network says of eight pictures; ModelError where it is not finite."""
    batch = normalise(_probe_pictures(preprocessing), preprocessing.mean, preprocessing.std)
    batch = batch.to(device, _dtype(opened.network))
    raw = _raw(opened.network, batch, opened.fixed_batch)
    check_finite(raw)
    return Probe(batch, raw)


def accepts_channels_last(opened: Opened, known: Probe) -> bool:
    """Return whether the network gives the same outputs for batches stored channels last.

    Convolutions are faster in that order, but a network that calls ``view`` on its activations
    fails with it.
    """
    if opened.fixed_batch is not None:
        return False
    last = known.batch.contiguous(memory_format=torch.channels_last)
    return _same(opened.network, last, known.raw, None)


def folded_copy(opened: Opened, known: Probe, layout: torch.memory_format) -> Forward | None:
    """Return a folded copy of the network that gives the same outputs, None where there is none.

    The same are outputs whose largest difference is at most a thousandth of the largest output.
    """
    batch = known.batch.contiguous(memory_format=layout)
    copy = folded(opened.network, _example(batch, opened.fixed_batch))
    return copy if copy and _same(copy, batch, known.raw, opened.fixed_batch) else None


def reduced_copy(opened: Opened, known: Probe, layout: torch.memory_format) -> Forward:
    """Return a copy of the network that computes in bfloat16; NotApplicable where none does."""
    batch = known.batch.contiguous(memory_format=layout)
    return reduced(opened.network, _example(batch, opened.fixed_batch), torch.bfloat16)


def _example(batch: Tensor, fixed_batch: int | None) -> Tensor:
    """Return the smallest batch of different pictures that the network accepts."""
    size = fixed_batch or 2
    return batch.repeat(-(-size // len(batch)), 1, 1, 1)[:size]


def _same(run: Forward, batch: Tensor, expected: Tensor, fixed_batch: int | None) -> bool:
    try:
        found = _raw(run, batch, fixed_batch)
    except Exception:  # any failure of the user's code means that this way does not fit
        return False
    if found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= _ROUNDING * expected.abs().max())


def _raw(run: Forward, batch: Tensor, fixed_batch: int | None) -> Tensor:
    with torch.inference_mode():
        if fixed_batch is None:
            return class_outputs(run(batch), len(batch)).float()
        rows = [row.expand(fixed_batch, *row.shape) for row in batch]
        return torch.cat([class_outputs(run(row), fixed_batch)[:1] for row in rows]).float()


def _probe_pictures(preprocessing: Preprocessing) -> Tensor:
    """Return eight noisy pictures (8, C, H, W) in [0, 1], from dark to bright."""
    shape = (preprocessing.channels, *preprocessing.crop)
    generator = torch.Generator().manual_seed(0)
    levels = torch.linspace(0, 1, _PROBES).view(-1, 1, 1, 1)
    noise = torch.rand(_PROBES, *shape, generator=generator) - 0.5
    return (levels + noise * 0.5).clamp(0, 1)


def check_finite(raw: Tensor) -> None:
    """Raise ModelError where raw outputs hold NaN or infinite values."""
    if not bool(raw.isfinite().all()):
        raise ModelError(
            "The model gives NaN or infinite outputs; check its weights and its normalisation."
        )
