"""Find the weights among whatever else a checkpoint holds, and bring their names into order."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from reportgen.classifier.fitting import StateDict
from reportgen.errors import ModelError

_NESTED = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "model_state",
)
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")

# Written beside the weights by torch.optim.swa_utils.AveragedModel.
_AVERAGING_COUNTER = "n_averaged"

_OLD_NAMES = (
    # torchvision's densenet before version 0.3.
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2."),
    # torchvision's vision transformer before version 0.14; its published weights still use these.
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)
_AUXILIARY = re.compile(r"AuxLogits\.|aux[12]\.")


@dataclass(frozen=True)
class Weights:
    """The tensors of one network by name, floating ones in float32; ``origin`` is for messages."""

    tensors: StateDict
    origin: str
    notes: tuple[str, ...] = ()


def find_weights(content: object, origin: str) -> Weights:
    """Return the weights in the ``content`` of a checkpoint, at its top or one level down.

    Everything beside them (optimiser, epoch) is left out. Raises ModelError where there are none.
    """
    for name, candidate in _candidates(content):
        tensors = _tensors(candidate)
        if any(tensor.ndim >= 2 for tensor in tensors.values()):
            place = (f"The weights were read from the entry '{name}' of the file.",) if name else ()
            converted, note = _in_float32(tensors)
            return Weights(converted, origin, (*place, *note))
    raise ModelError(
        f"'{origin}' holds {_kind(content)} without weights, where a state dict was expected; "
        "save one with torch.save(model.state_dict(), ...)."
    )


def prefix_variants(tensors: StateDict) -> Iterator[StateDict]:
    """Yield the state dict as it is, then without each prefix that wrapping a network has added."""
    current = OrderedDict(item for item in tensors.items() if item[0] != _AVERAGING_COUNTER)
    _copy_versions(tensors, current)
    yield current
    while prefix := next((p for p in _PREFIXES if all(k.startswith(p) for k in current)), None):
        current = current.copy()
        _copy_versions(tensors, current)
        consume_prefix_in_state_dict_if_present(current, prefix)
        yield current


def torchvision_names(tensors: StateDict) -> tuple[StateDict, tuple[str, ...]]:
    """Return the state dict under today's names and without auxiliary heads, and notes on it."""
    renamed: StateDict = OrderedDict(
        (_modern(key), tensor) for key, tensor in tensors.items() if not _AUXILIARY.match(key)
    )
    # Tells MNASNet, which refuses to load without a version, that these are today's shapes.
    renamed._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]
    if len(renamed) == len(tensors):
        return renamed, ()
    return renamed, ("The auxiliary heads were left out; they take no part in a prediction.",)


def _candidates(content: object) -> Iterator[tuple[str, Mapping[object, object]]]:
    if not isinstance(content, Mapping):
        return
    nested = [(str(k), v) for k, v in content.items() if isinstance(v, Mapping) and k in _NESTED]
    yield from sorted(nested, key=lambda item: _NESTED.index(item[0]))
    yield "", content
    yield from ((str(k), v) for k, v in content.items() if isinstance(v, Mapping))


def _tensors(candidate: Mapping[object, object]) -> StateDict:
    tensors: StateDict = OrderedDict(
        (key, value)
        for key, value in candidate.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    )
    _copy_versions(candidate, tensors)
    return tensors


def _copy_versions(source: Mapping[object, object] | StateDict, target: StateDict) -> None:
    # PyTorch keeps the version of each module's format in this attribute of a state dict.
    versions = getattr(source, "_metadata", None)
    if isinstance(versions, Mapping):
        target._metadata = OrderedDict(versions)  # type: ignore[attr-defined]


def _in_float32(tensors: StateDict) -> tuple[StateDict, tuple[str, ...]]:
    others = {
        k: t for k, t in tensors.items() if t.is_floating_point() and t.dtype != torch.float32
    }
    names = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in others.values()})
    for key, tensor in others.items():
        tensors[key] = tensor.float()
    return tensors, tuple(f"Weights in {name} were converted to float32." for name in names)


def _modern(key: str) -> str:
    for old, new in _OLD_NAMES:
        key = old.sub(new, key)
    return key


def _kind(content: object) -> str:
    if isinstance(content, Mapping):
        names = ", ".join(repr(str(key)) for key in list(content)[:3])
        return f"a dictionary ({names})" if names else "an empty dictionary"
    return f"an object of type {type(content).__name__}"
