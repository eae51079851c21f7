"""What every metric is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reportgen.classifier.classifier import Classifier
from reportgen.config import Config
from reportgen.records import Card, Direction, Measurement, Prediction, Skipped

Arrays = Mapping[str, NDArray[np.generic]]
Explain = Callable[[str, Tensor, Config], Tensor]


@dataclass(frozen=True)
class Context:
    """A picture, its prediction and its maps, all on the classifier's device.

    ``pixels`` (C, H, W) are in [0, 1]; ``maps`` hold one (H, W) tensor a method, in report order.
    ``explain(method, pixels (n, C, H, W), config)`` makes maps (n, H, W) of other pictures, with
    the segments of this one.
    """

    classifier: Classifier
    pixels: Tensor
    prediction: Prediction
    maps: Mapping[str, Tensor]
    config: Config
    explain: Explain


@dataclass(frozen=True)
class Measured:
    """What one metric found: measurements, the arrays behind them, and what it left out."""

    measurements: tuple[Measurement, ...]
    arrays: Arrays = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class Metric:
    """A metric's card and the function that measures it.

    The function raises NotApplicable where the metric says nothing about this model or picture.
    """

    card: Card
    measure: Callable[[Context], Measured]


LOWER: Direction = "lower is better"
HIGHER: Direction = "higher is better"
