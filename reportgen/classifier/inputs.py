"""What a network takes, as far as files and flags do not say: tried, looked at, or assumed.

Everything assumed is marked so, and listed in the report.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from reportgen.classifier.input_sizes import (
    SMALL_SIDE,
    USUAL_SIDES,
    Size,
    likely_sizes,
    made_for_small,
    stated_sizes,
)
from reportgen.classifier.memory import out_of_memory
from reportgen.classifier.metadata import Hints, Known, combine
from reportgen.classifier.normalisation import WHITE
from reportgen.classifier.opened import Opened
from reportgen.classifier.own_normalisation import own_normalisation
from reportgen.errors import ModelError, UsageError
from reportgen.records import OwnNormalisation, Preprocessing, Source

INPUT = (
    "channels", "resize", "crop", "interpolation", "mean", "std", "channel_order", "numbers",
)  # fmt: skip
"""The hints that are about the input; the last two may be missing."""

_IMAGENET = Hints(
    mean=Known((0.485, 0.456, 0.406), "assumed"), std=Known((0.229, 0.224, 0.225), "assumed")
)
_STATED = ("option", "model.toml")
_STEP = 32


@dataclass(frozen=True)
class Intake:
    """What a network takes: complete hints, its own normalisation, and notes for the reader."""

    hints: Hints
    own: OwnNormalisation | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Trial:
    """A network that is given zeros of one number of channels and one kind of numbers."""

    opened: Opened
    device: torch.device
    channels: int
    numbers: str

    def zeros(self, size: Size) -> Tensor:
        """Return a batch of black pictures of ``size`` (height, width)."""
        dtype = torch.uint8 if self.numbers == "uint8" else input_dtype(self.opened.network)
        shape = (self.opened.fixed_batch or 1, self.channels, *size)
        return torch.zeros(shape, device=self.device, dtype=dtype)

    def noise(self, size: Size) -> Tensor:
        """Return a batch of random pictures in [0, 1], or in [0, 255] as whole numbers."""
        zeros = self.zeros(size)
        noise = torch.rand(zeros.shape, generator=torch.Generator().manual_seed(0))
        return (noise * (1 if zeros.is_floating_point() else WHITE)).to(zeros)

    def runs(self, size: Size) -> bool:
        """Return whether the network takes pictures of ``size``."""
        batch = self.zeros(size)
        try:
            with torch.inference_mode():
                output = self.opened.network(batch)
        except Exception as error:  # any failure of the user's code means that it does not fit
            if out_of_memory(error):
                raise ModelError(
                    f"A picture of {size[0]}x{size[1]} pixels needs more memory than there is; use "
                    "another --device, or a smaller --size."
                ) from None
            return False
        # A view as (-1, features) makes several rows of one picture that is too large.
        rows = output.shape[:1] if isinstance(output, Tensor) and output.ndim > 1 else (len(batch),)
        return rows[0] == len(batch)


@dataclass(frozen=True)
class _Found:
    """An input that the network takes, and where its size comes from."""

    trial: _Trial
    size: Size
    source: Source
    note: str = ""


def complete(hints: Hints, opened: Opened, device: torch.device) -> Intake:
    """Return the hints with every piece about the input filled in.

    Raises ModelError where the network accepts none of the inputs tried.
    """
    found = _accepted(hints, opened, device)
    if found is None:
        raise ModelError(_no_input(hints))
    own = own_normalisation(opened.network, found.trial.noise(found.size))
    channels, numbers = found.trial.channels, found.trial.numbers
    if hints.channels and hints.channels.value != channels:
        hints = replace(hints, channels=None)
    if hints.crop and hints.crop.value != found.size:
        hints = replace(hints, crop=None, resize=None)
    detected = Hints(
        channels=Known(channels, "detected"),
        crop=Known(found.size, found.source),
        interpolation=Known("bilinear", "assumed"),
        numbers=Known(numbers, "detected") if numbers != "float" else None,
    )
    hints = combine(_without_assumed(hints) if own or numbers != "float" else hints, detected)
    hints = combine(hints, _resized(hints), _normalised(own, channels, numbers))
    notes = (found.note, *_own_notes(own, hints))
    return Intake(_ordered(hints), own, tuple(note for note in notes if note))


def expected_normalisation(
    own: OwnNormalisation | None, channels: int, numbers: str = "float"
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the deviation that leave pixels to a network which normalises itself."""
    in_bytes = numbers == "uint8" or (own is not None and own.white == WHITE)
    return (0.0,) * channels, (1 / WHITE if in_bytes else 1.0,) * channels


def preprocessing_of(hints: Hints) -> Preprocessing:
    """Return complete hints as the preprocessing that they describe.

    Raises UsageError where mean or std do not have one value for each channel.
    """
    known = {name: cast(Known[Any] | None, getattr(hints, name)) for name in INPUT}
    values = {name: piece.value for name, piece in known.items() if piece is not None}
    for name in ("mean", "std"):
        if len(values[name]) != values["channels"]:
            raise UsageError(
                f"The model takes {values['channels']} channel(s), but {name} has "
                f"{len(values[name])} value(s); give one for each channel."
            )
    if values["channels"] != 3 and values.get("channel_order") == "bgr":
        raise UsageError(
            f"The channel order bgr is for networks of 3 channels, but this one takes "
            f"{values['channels']}; leave it out."
        )
    return Preprocessing(**values)


def input_dtype(network: nn.Module) -> torch.dtype:
    """Return the number format of a network's weights, float32 where it has none."""
    floating = (p.dtype for p in network.parameters() if p.is_floating_point())
    return next(floating, torch.float32)


def _accepted(hints: Hints, opened: Opened, device: torch.device) -> _Found | None:
    """Return an input that the network takes: of the size that is known, else, of another.

    A file may describe another network's input, such as the usual one of its kind.
    """
    found = _tried(hints, opened, device)
    if found is not None or hints.crop is None or hints.crop.source in _STATED:
        return found
    other = _tried(replace(hints, crop=None), opened, device)
    return other and replace(other, note=_other_size(hints.crop.value, other))


def _tried(hints: Hints, opened: Opened, device: torch.device) -> _Found | None:
    for numbers in (hints.numbers.value,) if hints.numbers else ("float", "uint8"):
        for channels in _channels(hints, opened.network):
            found = _sized(hints, _Trial(opened, device, channels, numbers))
            if found is not None:
                return found
    return None


def _channels(hints: Hints, network: nn.Module) -> list[int]:
    """Return the numbers of channels to try: what is said, or that of the first convolution.

    The first one registered need not be the first one run.
    """
    if hints.channels and hints.channels.source in _STATED:
        return [hints.channels.value]
    kernels = (int(p.shape[1]) for p in network.parameters() if p.ndim == 4)
    first = hints.channels.value if hints.channels else next(kernels, 3)
    return list(dict.fromkeys((first, 3, 1)))


def _sized(hints: Hints, trial: _Trial) -> _Found | None:
    if hints.crop:
        size, source = hints.crop.value, hints.crop.source
        return _Found(trial, size, source) if trial.runs(size) else None
    network = trial.opened.network
    for size in stated_sizes(network):
        if trial.runs(size):
            return _Found(trial, size, "detected")
    if _takes_small(trial):
        return _Found(trial, (SMALL_SIDE, SMALL_SIDE), "assumed", _SMALL_NOTE)
    usual = ((side, side) for side in USUAL_SIDES)
    first, others = next(usual), usual
    for size in _distinct(iter([first]), likely_sizes(network, trial.zeros), others):
        if trial.runs(size):
            return _Found(trial, size, "assumed" if _takes_others(trial, size) else "detected")
    return None


def _takes_small(trial: _Trial) -> bool:
    """Return whether the network takes any small size, and was made for such."""
    free = trial.runs((SMALL_SIDE, SMALL_SIDE)) and trial.runs((2 * SMALL_SIDE, 2 * SMALL_SIDE))
    return free and made_for_small(
        trial.opened.network, trial.zeros((2 * SMALL_SIDE, 2 * SMALL_SIDE))
    )


def _takes_others(trial: _Trial, size: Size) -> bool:
    """Return whether the network takes a size next to this one, or another multiple of 32."""
    step = -_STEP if min(size) > 2 * _STEP else _STEP
    return any(trial.runs((size[0] + more, size[1] + more)) for more in (1, step))


_SMALL_NOTE = (
    "The network takes pictures of any size; 32x32 pixels were assumed, because it keeps the full "
    "size over several convolutions, as networks for small pictures do (another: --size)."
)


def _distinct(*places: Iterator[Size]) -> Iterator[Size]:
    tried: set[Size] = set()
    for sizes in places:
        for size in sizes:
            if size not in tried:
                tried.add(size)
                yield size


def _resized(hints: Hints) -> Hints:
    """Return the resize that goes with the crop where nobody states one.

    A network of one size that is not square is given the whole picture, as most of them are.
    """
    crop = cast(Known[Size], hints.crop)
    tried = crop.source in ("detected", "assumed")
    square = crop.value[0] == crop.value[1]
    source: Source = "assumed" if tried else crop.source
    return Hints(resize=Known(crop.value if tried and not square else min(crop.value), source))


def _without_assumed(hints: Hints) -> Hints:
    """Return the hints without a mean and deviation that nobody stated for this very network."""
    assumed = [hints.mean, hints.std]
    if any(piece is not None and piece.source != "assumed" for piece in assumed):
        return hints
    return replace(hints, mean=None, std=None)


def _normalised(own: OwnNormalisation | None, channels: int, numbers: str) -> Hints:
    source: Source = "detected" if own or numbers != "float" else "assumed"
    mean, std = expected_normalisation(own, channels, numbers)
    if channels == 3 and source == "assumed":
        return _IMAGENET
    return Hints(mean=Known(mean, source), std=Known(std, source))


def _ordered(hints: Hints) -> Hints:
    """Return the hints with red first where nobody says otherwise; what is assumed is in RGB."""
    order, mean, std = hints.channel_order, hints.mean, hints.std
    if order is None:
        colours = hints.channels is not None and hints.channels.value == 3
        assumed = colours and mean is not None and mean.source in ("assumed", "detected")
        return replace(hints, channel_order=Known("rgb", "assumed")) if assumed else hints
    if order.value == "bgr" and mean and std and mean.source == "assumed":
        turned = Known(mean.value[::-1], mean.source), Known(std.value[::-1], std.source)
        return replace(hints, mean=turned[0], std=turned[1])
    return hints


def _own_notes(own: OwnNormalisation | None, hints: Hints) -> tuple[str, ...]:
    mean = cast(Known[Any], hints.mean)
    if own is None or mean.source != "detected":
        return ()
    values = ", ".join(f"{value:g}" for value in own.mean)
    spread = ", ".join(f"{value:g}" for value in own.std)
    return (
        f"The network normalises its input itself (mean {values}; standard deviation {spread}; "
        f"white at {own.white}), so reportgen does not.",
    )


def _other_size(stated: Size, found: _Found) -> str:
    sizes = (f"{size[0]}x{size[1]}" for size in (stated, found.size))
    note = "The network does not accept pictures of {} pixels, as its files say; {} was taken."
    return " ".join(filter(None, (note.format(*sizes), found.note)))


def _no_input(hints: Hints) -> str:
    if hints.crop:
        height, width = hints.crop.value
        return (
            f"The model does not accept a picture of {height}x{width} pixels; "
            "give the size that it was trained on with --size."
        )
    return (
        f"The model accepts none of the usual square inputs ({', '.join(map(str, USUAL_SIDES))} "
        "pixels, 1 or 3 channels), nor one that its weights suggest; give its input with --size."
    )
