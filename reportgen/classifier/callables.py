"""Python functions as classifiers: arrays of pictures in, one row of class scores a picture out.

This is the form that LIME and SHAP know: ``predict`` takes float32 (n, height, width, channels) in
[0, 1] and returns (n, classes), logits or probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reportgen.classifier.black_box import BlackBox
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.opened import Opened
from reportgen.errors import ModelError

Predict = Callable[[Any], Any]

_LONGEST = 512
_CHANNELS = (3, 1)
_TRIED = 2


def open_function(predict: Predict, size: tuple[int, int], stated: bool) -> Opened:
    """Return a Python function as a model that sees pictures of ``size`` (height, width).

    ``stated`` says that the user gave the size; a picture's own is reduced to 512 pixels a side.
    Pixels are not normalised. The function is asked about two pictures, in colour or else in grey.
    Raises ModelError where it fails on both, with its error.
    """
    if isinstance(predict, type):
        raise ModelError(
            f"'{predict.__name__}' is a class, not a model; give a path, a network or a function."
        )
    seen = size if stated else _reduced(size)
    network = BlackBox(partial(_outputs, predict), "it is a Python function")
    channels = _accepted(network, seen)
    hints = Hints(
        channels=Known(channels, "detected"),
        resize=Known(seen, "argument"),
        crop=Known(seen, "argument"),
        interpolation=Known("bilinear", "argument" if seen == size else "assumed"),
        mean=Known((0.0,) * channels, "argument"),
        std=Known((1.0,) * channels, "argument"),
    )
    notes = () if stated else (_size_note(size, seen),)
    return Opened(network, _name(predict), "function", "Python function", hints, notes=notes)


def _outputs(predict: Predict, batch: Tensor) -> Tensor:
    # A copy in any case: what the function writes into its argument must not change the batch.
    pictures = np.array(batch.permute(0, 2, 3, 1).cpu().numpy(), order="C")
    try:
        return _tensor(predict(pictures)).to(batch.device)
    except (MemoryError, torch.OutOfMemoryError):
        raise  # smaller batches may fit
    except Exception as error:
        raise ModelError(_failure(predict, pictures.shape, error)) from error


def _tensor(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output.detach().float()
    return torch.from_numpy(np.array(output, dtype=np.float32))


def _accepted(network: BlackBox, size: tuple[int, int]) -> int:
    """Return the channels of the pictures that the function takes."""
    errors = []
    for channels in _CHANNELS:
        try:
            network(torch.full((_TRIED, channels, *size), 0.5))
            return channels
        except ModelError as error:
            errors.append(error)
    raise errors[0]


def _reduced(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, _LONGEST / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _size_note(size: tuple[int, int], seen: tuple[int, int]) -> str:
    given, used = (f"{width}x{height}" for height, width in (size, seen))
    reduced = f", reduced from {given}" if seen != size else ""
    return (
        f"The function was shown pictures of {used} pixels, the size of the picture{reduced}; "
        "another can be given with the option size."
    )


def _name(predict: Predict) -> str:
    inner = predict.func if isinstance(predict, partial) else predict
    return str(getattr(inner, "__name__", type(inner).__name__))


def _failure(predict: Predict, shape: tuple[int, ...], error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    reason = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return (
        f"The function '{_name(predict)}' failed on a float32 array of pictures of shape {shape}, "
        "values in [0, 1]; correct it, or give the size that it expects as the option size "
        f"({reason})."
    )
