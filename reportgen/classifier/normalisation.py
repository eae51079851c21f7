"""What is done to pixels just before the network sees them, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from reportgen.errors import ModelError
from reportgen.records import Preprocessing

WHITE = 255


@dataclass(frozen=True)
class Normalisation:
    """(pixels - mean) / std, of channels in the order in which the network takes them.

    Pixels are (..., C, H, W) in [0, 1], their colours red, green, blue; ``mean`` and ``std`` hold
    one value for each of the network's channels. Gradients come back in the order of the pixels.
    ``numbers`` "uint8" rounds the result to whole numbers from 0 to 255, through which no gradient
    passes. ``dtype`` is that of the network's input, None for the pixels' own. Raises ModelError
    where there is not one mean and one deviation other than zero for each channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: Literal["rgb", "bgr"] = "rgb"
    numbers: Literal["float", "uint8"] = "float"
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(self.std):
            raise ModelError(
                "Expected a mean and a deviation other than 0 for each channel, not a mean of "
                f"{self.mean} and a deviation of {self.std}."
            )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return pixels (..., C, H, W) as the network wants them."""
        ordered = pixels.flip(-3) if self.channel_order == "bgr" else pixels
        shift, scale = (
            _column(values, pixels.dtype, pixels.device) for values in (self.mean, self.std)
        )
        normalised = (ordered - shift).div_(scale)
        if self.numbers == "uint8":
            return normalised.detach().round().clamp(0, WHITE).to(torch.uint8)
        return normalised.to(self.dtype or pixels.dtype)


def normalisation_of(preprocessing: Preprocessing) -> Normalisation:
    """Return the normalisation that a preprocessing describes."""
    return Normalisation(
        preprocessing.mean,
        preprocessing.std,
        preprocessing.channel_order,
        preprocessing.numbers,
    )


@lru_cache(maxsize=32)
def _column(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return one value a channel, to be spread over places; made once for all batches."""
    with torch.inference_mode(False):  # what is made there is of no use to gradients
        return torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1)
