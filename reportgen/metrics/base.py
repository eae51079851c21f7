"""What every metric is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reportgen.classifier.classifier import Classifier
from reportgen.config import Config
from reportgen.errors import NotApplicable
from reportgen.metrics.shared import Shared
from reportgen.records import Card, Direction, Measurement, Prediction, Skipped
from reportgen.work import Size, Work

T = TypeVar("T")
Arrays = Mapping[str, NDArray[np.generic]]
Explain = Callable[[str, Tensor, Config], Tensor]


@dataclass(frozen=True)
class Context:
    """A picture, its prediction and its maps, all on the classifier's device.

    ``pixels`` (C, H, W) are in [0, 1]; ``maps`` hold one (H, W) tensor a method, in report order,
    and ``cards`` the card of each. ``explain(method, pixels (n, C, H, W), config)`` makes maps
    (n, H, W) of other pictures, with the ``segments`` (H, W) int64 of this one. ``mask`` (H, W)
    bool is where the user says that the object is, or None.
    """

    classifier: Classifier
    pixels: Tensor
    prediction: Prediction
    maps: Mapping[str, Tensor]
    config: Config
    explain: Explain
    cards: Mapping[str, Card]
    segments: Tensor
    mask: Tensor | None
    shared: Shared

    def once(self, make: Callable[..., T], *arguments: Hashable) -> T:
        """Return ``make(self, *arguments)``, made once for all metrics of this picture.

        ``make`` is a module's function, so that every metric that asks for it asks for the same.
        """
        return self.shared.once(make, self, *arguments)

    def require_maps(self) -> None:
        """Raise NotApplicable where no method has made a map."""
        if not self.maps:
            raise NotApplicable("there is no map to put to the test")


@dataclass(frozen=True)
class Measured:
    """What one metric found: measurements, the arrays behind them, and what it left out."""

    measurements: tuple[Measurement, ...]
    arrays: Arrays = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is known of a report before its metrics are measured.

    ``methods`` are those that will have a map, in report order, and ``cards`` the card of each.
    ``explain(method, config)`` is the work of one map of one picture, as near as the method can
    tell. ``mask`` says whether the user marks the object.
    """

    config: Config
    methods: tuple[str, ...]
    cards: Mapping[str, Card]
    size: Size
    explain: Callable[[str, Config], Work]
    mask: bool


@dataclass(frozen=True)
class Metric:
    """A metric's card, the function that measures it, and the one that says what that will cost.

    ``measure`` raises NotApplicable where the metric says nothing about this model or picture.
    ``work`` names each computation; one made with ``Context.once`` has the same name in all metrics
    that read it.
    """

    card: Card
    measure: Callable[[Context], Measured]
    work: Callable[[Plan], Mapping[str, Work]]


def no_work(plan: Plan) -> Mapping[str, Work]:
    """Return nothing: the metric sends no picture through the network."""
    return {}


LOWER: Direction = "lower is better"
HIGHER: Direction = "higher is better"
NO_MAP = "none: it measures the prediction, not a map"
