"""The batches that a TorchScript network takes: a trace may keep the size of its example forever.

Tracing turns ``int(x.shape[0])`` into a number. Such a network fails with any other batch, or mixes
the pictures of a larger one.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from reportgen.classifier.inputs import Intake, complete, input_dtype
from reportgen.classifier.metadata import Hints
from reportgen.classifier.normalisation import normalisation_of
from reportgen.classifier.opened import Opened
from reportgen.classifier.outputs import tensors_in
from reportgen.classifier.probing import probe_pictures
from reportgen.errors import ModelError
from reportgen.records import Preprocessing

_ROUNDING = 1e-3
_SHAPED = ("aten::view", "aten::reshape", "aten::expand", "aten::zeros", "aten::ones")
_MOST = 1024


def taken(hints: Hints, opened: Opened, device: torch.device) -> tuple[Opened, Intake]:
    """Return what a network takes, and the network with the only batch size, where it has one.

    Raises ModelError where the network accepts none of the inputs tried.
    """
    try:
        return opened, complete(hints, opened, device)
    except ModelError:
        for size in _written(opened.network) if opened.fixed_batch is None else ():
            fixed = _fixed(opened, size)
            with suppress(ModelError):
                return fixed, complete(hints, fixed, device)
        raise


def settled(opened: Opened, preprocessing: Preprocessing, device: torch.device) -> Opened:
    """Return the network as one for single pictures, where it treats several in another way."""
    if opened.fixed_batch is not None or not isinstance(opened.network, torch.jit.ScriptModule):
        return opened
    made_of = replace(normalisation_of(preprocessing), dtype=input_dtype(opened.network))
    pair = made_of(probe_pictures(preprocessing)[-2:]).to(device)
    return opened if _apart(opened.network, pair) else _fixed(opened, 1)


def _fixed(opened: Opened, size: int) -> Opened:
    note = f"The network was traced with a batch of {size}, and takes no other."
    return replace(opened, fixed_batch=size, notes=(*opened.notes, note))


def _apart(network: nn.Module, pair: Tensor) -> bool:
    """Return whether the second of two pictures gets the same outputs beside the first as alone."""
    try:
        with torch.inference_mode():
            both, alone = tensors_in(network(pair)), tensors_in(network(pair[1:]))
    except Exception:  # any failure of the user's code means that two are too many
        return False
    return all(_same_row(*tensors) for tensors in zip(both, alone, strict=True))


def _same_row(both: Tensor, alone: Tensor) -> bool:
    if both.ndim == 0:  # a squeezed output, or one that is of no picture
        return alone.ndim == 0
    row = both[1:]
    if len(both) != 2 or row.numel() != alone.numel():
        return False
    apart = (row.reshape(-1) - alone.reshape(-1)).abs().max()
    return bool(apart <= _ROUNDING * alone.abs().max())


def _written(network: nn.Module) -> list[int]:
    """Return the numbers that stand first in the shapes written into a TorchScript network."""
    if not isinstance(network, torch.jit.ScriptModule):
        return []
    graph: Any = network.inlined_graph
    nodes = [node for kind in _SHAPED for node in graph.findAllNodes(kind, recurse=True)]
    lists = [value.node() for node in nodes for value in node.inputs()]
    made = [node for node in lists if node.kind() == "prim::ListConstruct"]
    first = [next(node.inputs()).toIValue() for node in made if len(list(node.inputs())) > 1]
    return sorted({size for size in first if isinstance(size, int) and 1 < size <= _MOST})
