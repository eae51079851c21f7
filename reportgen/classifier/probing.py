"""What the files and flags do not say about a network: detected by probing it, or assumed.

Everything assumed is marked so, and listed in the report.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

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


def probe_outputs(opened: Opened, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """Return raw outputs (8, outputs) for eight pictures that differ much from one another."""
    batch = normalise(_probe_pictures(preprocessing), preprocessing.mean, preprocessing.std)
    batch = batch.to(device, _dtype(opened.network))
    size = opened.fixed_batch
    with torch.inference_mode():
        if size is None:
            raw = class_outputs(opened.network(batch), _PROBES)
        else:
            rows = [row.expand(size, *row.shape) for row in batch]
            raw = torch.cat([class_outputs(opened.network(row), size)[:1] for row in rows])
    check_finite(raw)
    return raw.float()


def accepts_channels_last(
    opened: Opened, preprocessing: Preprocessing, device: torch.device
) -> bool:
    """Return whether the network gives the same outputs for batches stored channels last.

    Convolutions are faster in that order, but a network that calls ``view`` on its activations
    fails with it.
    """
    if opened.fixed_batch is not None:
        return False
    batch = normalise(_probe_pictures(preprocessing), preprocessing.mean, preprocessing.std)
    batch = batch.to(device, _dtype(opened.network))
    try:
        with torch.inference_mode():
            plain = class_outputs(opened.network(batch), _PROBES)
            last = opened.network(batch.contiguous(memory_format=torch.channels_last))
            return torch.allclose(class_outputs(last, _PROBES), plain, rtol=1e-3, atol=1e-4)
    except Exception:  # any failure of the user's code means that this order does not fit
        return False


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
