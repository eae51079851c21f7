"""What is known about a model beside its weights, and where each piece of it came from.

Hints come from several places (flags, a sidecar, the file, published weights). ``combine`` takes
each piece from the first place that has it, and remembers the place.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Generic, TypeVar

from reportgen.records import Source

T = TypeVar("T")


@dataclass(frozen=True)
class Known(Generic[T]):
    """A piece of knowledge and its source."""

    value: T
    source: Source


@dataclass(frozen=True)
class Hints:
    """What one place says about a model; None where it says nothing.

    ``crop`` is the (height, width) that the network sees; ``resize`` the short side before the
    crop, or (height, width). ``mean`` and ``std`` hold one value a channel, of pixels in [0, 1],
    in ``channel_order`` ("rgb" or "bgr"). Logits are divided by ``temperature``.
    ``numbers`` are "float", or "uint8" from 0 to 255. ``transform_input`` is whether a network that
    can re-normalise its input does.
    """

    labels: Known[tuple[str, ...]] | None = None
    head: Known[str] | None = None
    temperature: Known[float] | None = None
    channels: Known[int] | None = None
    resize: Known[int | tuple[int, int]] | None = None
    crop: Known[tuple[int, int]] | None = None
    interpolation: Known[str] | None = None
    mean: Known[tuple[float, ...]] | None = None
    std: Known[tuple[float, ...]] | None = None
    channel_order: Known[str] | None = None
    numbers: Known[str] | None = None
    transform_input: Known[bool] | None = None


def combine(*places: Hints) -> Hints:
    """Return each hint from the first of ``places`` that has it."""
    names = [field.name for field in fields(Hints)]
    chosen = {
        name: next((h for place in places if (h := getattr(place, name)) is not None), None)
        for name in names
    }
    return Hints(**chosen)
