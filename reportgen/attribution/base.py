"""What every attribution method is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from reportgen.classifier.classifier import Classifier
from reportgen.classifier.derivatives import in_words
from reportgen.classifier.layers import FeatureLayer
from reportgen.config import Config
from reportgen.records import Card, Measurement
from reportgen.work import Size, Work


@dataclass(frozen=True)
class Request:
    """Pictures to explain: pixels (n, C, H, W) in [0, 1] on the classifier's device.

    ``segments`` (H, W) int64, numbered from 0, are those of the clean picture; all pictures of one
    request share them. The same ``seed`` gives the same maps. ``layer`` finds the layer that class
    activation maps look at, once for all methods; it raises NotApplicable where there is none.
    """

    classifier: Classifier
    pixels: Tensor
    target: int
    config: Config
    seed: int
    segments: NDArray[np.int64]
    layer: Callable[[], FeatureLayer]


def layer_finder(
    classifier: Classifier, pixels: Tensor, target: int, name: str = ""
) -> Callable[[], FeatureLayer]:
    """Return what finds the layer for pixels (C, H, W), which the classifier remembers."""
    return partial(classifier.feature_layer, pixels, target, name)


def in_batches(request: Request, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what ``run`` makes of the request's pixels, in batches that fit into memory."""

    def batches(size: int) -> Tensor:
        return torch.cat([run(part) for part in torch.split(request.pixels, size)])

    return request.classifier.evaluator.within_memory(batches)


@dataclass(frozen=True)
class Explained:
    """Maps (n, H, W) float32, one a picture, and how they came about.

    ``checks`` are the method's own self-checks, of the first picture. ``arrays`` are further
    results worth keeping, by name.
    """

    maps: Tensor
    signed: bool
    resolution: str
    settings: Mapping[str, JsonValue]
    checks: tuple[Measurement, ...] = ()
    arrays: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """A method's card, the function that makes its maps, their cost, and what they depend on.

    ``explain`` raises NotApplicable where the method cannot explain this model. ``work`` says how
    many images one map of one picture sends through the network, as the evaluator will count them;
    finding the layer is not part of it, nor what is run again when memory runs out. ``options`` are
    names of Config; seed and target, on which every map may depend, are not among them.
    """

    card: Card
    explain: Callable[[Request], Explained]
    work: Callable[[Config, Size], Work]
    options: tuple[str, ...] = ()


def failing_in_words(method: Method) -> Method:
    """Return the method that says in words why it fails, where it needs more than predictions."""
    if method.card.needs == "predictions":
        return method

    def explain(request: Request) -> Explained:
        with in_words():
            return method.explain(request)

    return replace(method, explain=explain)
