"""Find the weights among whatever else a checkpoint holds.

A checkpoint may hold several copies of the weights. An average over training comes before the
weights that it is an average of: those who train with one evaluate and publish it, and timm's own
loader reads it first.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from reportgen.classifier.fitting import StateDict
from reportgen.classifier.harmless import UnreadArray
from reportgen.classifier.prefixes import copy_versions, is_average, large_parts, under
from reportgen.errors import ModelError, unknown_name

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
_NO_WEIGHTS = re.compile(r"optim|sched|scaler|^amp$|^loops$", re.IGNORECASE)
_DEPTH = 3

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
    """The tensors of one network by name; ``origin`` is for messages.

    ``wanted`` is set where the user named these tensors, so that what lies beside them is known to
    be of no use.
    """

    tensors: StateDict
    origin: str
    notes: tuple[str, ...] = ()
    wanted: bool = False


def find_weights(content: object, origin: str, wanted: str = "") -> tuple[Weights, ...]:
    """Return every copy of the weights in the ``content`` of a checkpoint, the best first.

    Averages come first, then entries of the usual names, the top of the file, and others by size;
    everything else (optimiser, epoch) is left out. With ``wanted`` (see ``Config.weights``) only
    the entry of that name, or the tensors under that prefix. Raises ModelError where there are
    none or they are quantised; UsageError for a ``wanted`` that is not there.
    """
    entries = dict(sorted(_entries(content), key=_rank))
    if not entries:
        raise ModelError(_without_weights(content, origin))
    _refuse_quantised(entries, origin)
    if wanted:
        return (_wanted(entries, origin, wanted),)
    return tuple(
        Weights(tensors, origin, _place(name, tuple(entries))) for name, tensors in entries.items()
    )


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


def in_float32(tensors: StateDict) -> tuple[StateDict, tuple[str, ...]]:
    """Return the tensors with all floating ones in float32, and a note on each other type."""
    names = sorted({str(t.dtype).removeprefix("torch.") for t in tensors.values() if _is_other(t)})
    converted: StateDict = OrderedDict(
        (key, tensor.float() if _is_other(tensor) else tensor) for key, tensor in tensors.items()
    )
    copy_versions(tensors, converted)
    return converted, tuple(f"Weights in {name} were converted to float32." for name in names)


def _entries(content: object, name: str = "", depth: int = 0) -> Iterator[tuple[str, StateDict]]:
    """Yield every mapping with a matrix in it, by the names on the way to it, joined by points."""
    if isinstance(content, Mapping):
        tensors = _tensors(content)
        if any(t.ndim >= 2 or _is_quantised(key, t) for key, t in tensors.items()):
            yield name, tensors
    if depth < _DEPTH:
        for key, inner in _inner(content):
            yield from _entries(inner, f"{name}.{key}" if name else key, depth + 1)


def _inner(content: object) -> Iterator[tuple[str, object]]:
    if isinstance(content, Mapping):
        items = [(key, value) for key, value in content.items() if isinstance(key, str)]
        yield from ((key, value) for key, value in items if not _NO_WEIGHTS.search(key))
    elif isinstance(content, list | tuple):
        yield from ((str(number), value) for number, value in enumerate(content))


def _rank(entry: tuple[str, StateDict]) -> tuple[int, int]:
    name, tensors = entry
    if is_average(name):
        place = 0
    elif name in _NESTED:
        place = 1 + _NESTED.index(name)
    else:
        place = 1 + len(_NESTED) + bool(name)
    return place, -len(tensors)


def _place(name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if not name:
        return ()
    average = ", by its name an average over training" if is_average(name) else ""
    others = ", ".join(f"'{other}'" for other in known if other not in (name, ""))
    more = f"; --weights can name another ({others})" if others else ""
    return (f"The weights were read from the entry '{name}' of the file{average}{more}.",)


def _wanted(entries: Mapping[str, StateDict], origin: str, wanted: str) -> Weights:
    note = (f"The weights were read from '{wanted}' of the file, as --weights says.",)
    if wanted in entries:
        return Weights(entries[wanted], origin, note, wanted=True)
    found = (under(tensors, f"{wanted}.") for tensors in entries.values())
    tensors = next((inner for inner in found if inner), None)
    if tensors is None:
        known = [name for name in entries if name]
        known += [name for tensors in entries.values() for name in large_parts(tensors)]
        raise unknown_name(f"entry of weights in '{origin}':", wanted, dict.fromkeys(known))
    return Weights(tensors, origin, note, wanted=True)


def _refuse_quantised(entries: Mapping[str, StateDict], origin: str) -> None:
    tensors = (item for tensors in entries.values() for item in tensors.items())
    if any(_is_quantised(key, tensor) for key, tensor in tensors):
        raise ModelError(
            f"'{origin}' holds quantised weights, through which no gradients flow; save the state "
            "dict of the model before its quantisation."
        )


def _is_quantised(key: str, tensor: torch.Tensor) -> bool:
    in_bytes = tensor.dtype in (torch.int8, torch.uint8) and tensor.ndim >= 2
    named = key.endswith("zero_point") or (in_bytes and key.endswith("weight"))
    return tensor.is_quantized or named


def _tensors(candidate: Mapping[object, object]) -> StateDict:
    tensors: StateDict = OrderedDict(
        (key, value)
        for key, value in candidate.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    )
    copy_versions(candidate, tensors)
    return tensors


def _is_other(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dtype != torch.float32


def _modern(key: str) -> str:
    for old, new in _OLD_NAMES:
        key = old.sub(new, key)
    return key


def _without_weights(content: object, origin: str) -> str:
    what = _kind(content)
    values = list(content.values()) if isinstance(content, Mapping) else []
    if any(isinstance(value, UnreadArray | np.ndarray) for value in values):
        return (
            f"'{origin}' holds {what} of NumPy arrays, where tensors were expected; save the state "
            "dict itself with torch.save(model.state_dict(), ...)."
        )
    return (
        f"'{origin}' holds {what} without weights, where a state dict was expected; "
        "save one with torch.save(model.state_dict(), ...)."
    )


def _kind(content: object) -> str:
    if isinstance(content, Mapping):
        names = ", ".join(repr(str(key)) for key in list(content)[:3])
        return f"a dictionary ({names})" if names else "an empty dictionary"
    return f"an object of type {type(content).__name__}"
