"""Whether a state dict fits a network, and in words what differs where it does not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from reportgen.errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]
StateDict = OrderedDict[str, torch.Tensor]

_COUNTER = "num_batches_tracked"
_SHOWN = 3


@dataclass(frozen=True)
class Misfit:
    """The keys in which a state dict differs from a network's; batch counters are left out.

    ``reshaped`` holds (key, shape in the file, shape in the network).
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def __bool__(self) -> bool:
        """Return whether anything differs."""
        return bool(self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        """Return the counts of the differences, each with a few examples."""
        shapes = [
            f"{k} is {_dims(given)}, not {_dims(wanted)}" for k, given, wanted in self.reshaped
        ]
        parts = (
            _counted(self.missing, "of its tensors missing from the file"),
            _counted(self.unexpected, "in the file that it does not have"),
            _counted(shapes, "of another shape"),
        )
        return ", ".join(part for part in parts if part)


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor by its key, without the counters of batch normalisation."""
    return {
        key: tuple(tensors[key].shape)
        for key in _without_counters(tensors)
        if isinstance(tensors[key], torch.Tensor)
    }


def compare(wanted: Shapes, given: Shapes) -> Misfit:
    """Return how the shapes ``given`` by a file differ from those ``wanted`` by a network."""
    return Misfit(
        missing=tuple(key for key in wanted if key not in given),
        unexpected=tuple(key for key in given if key not in wanted),
        reshaped=tuple(
            (key, given[key], wanted[key])
            for key in wanted
            if key in given and given[key] != wanted[key]
        ),
    )


def likeness(wanted: Shapes, given: Shapes) -> float:
    """Return the share of all tensors that are the same in both; equal only in name counts half."""
    misfit = compare(wanted, given)
    same_name = len(wanted) - len(misfit.missing)
    return (same_name - len(misfit.reshaped) / 2) / max(len(wanted), len(given))


def load_weights(network: nn.Module, weights: StateDict, *, assign: bool = False) -> None:
    """Load ``weights`` into ``network``, all of them and nothing else, or raise ModelError.

    Only the counters of batch normalisation, which no prediction uses, may be missing. With
    ``assign`` the tensors themselves become the network's parameters, without a copy.
    """
    try:
        left = network.load_state_dict(weights, strict=False, assign=assign)
    except Exception as error:
        misfit = compare(shapes_of(network.state_dict()), shapes_of(weights))
        raise ModelError(str(misfit) or str(error)) from None
    misfit = Misfit(
        _without_counters(left.missing_keys), _without_counters(left.unexpected_keys), ()
    )
    if misfit:
        raise ModelError(str(misfit))


def _without_counters(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(key for key in keys if key.rpartition(".")[2] != _COUNTER)


def _counted(items: Iterable[str], what: str) -> str:
    items = tuple(items)
    if not items:
        return ""
    more = ", ..." if len(items) > _SHOWN else ""
    return f"{len(items)} {what} ({', '.join(items[:_SHOWN])}{more})"


def _dims(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
