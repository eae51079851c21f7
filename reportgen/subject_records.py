"""What a report says of its model and its picture, as they were opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import JsonValue

from reportgen.frozen import Record

Source = Literal[
    "file", "weights metadata", "model.toml", "option", "argument", "detected", "assumed"
]


class Sourced(Record):
    """A value together with where it came from; ``source`` "assumed" is listed as such.

    ``evidence`` says what a detected or assumed value rests on.
    """

    value: JsonValue
    source: Source
    evidence: str = ""


class Preprocessing(Record):
    """How a picture becomes the tensor the network sees.

    The short side (``resize`` an int) or both sides (``resize`` = height, width) are resized, then
    the centre ``crop`` (height, width) is cut, values are scaled to [0, 1], and each channel is
    normalised as (value - mean) / std. The colours are in ``channel_order``, in which ``mean`` and
    ``std`` are given as well. ``numbers`` "uint8" are the results as whole numbers from 0 to 255.
    """

    channels: int
    resize: int | tuple[int, int]
    crop: tuple[int, int]
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: Literal["rgb", "bgr"] = "rgb"
    numbers: Literal["float", "uint8"] = "float"


class OwnNormalisation(Record):
    """What the network itself does to its input first: (value - mean) / std of each channel.

    The values are those of pixels with black at 0 and white at ``white`` (1 or 255).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: int


class ModelRecord(Record):
    """The model as it was opened. Hashes are hexadecimal SHA-256.

    ``weights_sha256`` and ``parameters`` are None where nobody can know them, as of a Python
    function. ``predictions_only`` says, to follow "because", why there are neither gradients nor
    feature maps of this model; empty where there are. ``transform_input`` is whether a GoogLeNet or
    an Inception v3 re-normalises its input, None where that is not known or not asked; its source
    is with those of the preprocessing.
    """

    name: str
    format: str
    architecture: str
    file_sha256: str | None
    weights_sha256: str | None
    parameters: int | None
    classes: int
    head: Sourced
    labels: Sourced
    preprocessing: Preprocessing
    preprocessing_sources: Mapping[str, Source]
    own_normalisation: OwnNormalisation | None = None
    transform_input: bool | None = None
    trusted_pickle: bool = False
    predictions_only: str = ""
    notes: tuple[str, ...] = ()


class Box(Record):
    """A rectangle in pixels of the oriented original picture; right and bottom are exclusive."""

    left: float
    top: float
    right: float
    bottom: float


class Mask(Record):
    """Where the user said that the object is: a file by name and SHA-256, or boxes as text.

    ``share`` in [0, 1] is how much of what the network sees is marked.
    """

    name: str
    sha256: str | None
    share: float


class ImageRecord(Record):
    """The picture as it was read. Sizes are of the picture after orientation, in pixels."""

    name: str
    sha256: str
    width: int
    height: int
    mode: str
    crop: Box
    notes: tuple[str, ...] = ()
    mask: Mask | None = None
