"""Open exported programs (.pt2): check that they are plain data, load them, read their input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from reportgen.classifier.exported_devices import on_cpu
from reportgen.classifier.exported_safety import unsafe_part
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.program_constants import HALF, widen_graph
from reportgen.classifier.sniffing import read_failure
from reportgen.errors import ModelError
from reportgen.silence import silenced

_METADATA = "reportgen.json"
_INPUTS = (torch.float32, torch.uint8, *HALF)
_CHANNELS = (1, 3, 4)

# The argument of each operator that is True where the program was exported in training mode.
_TRAINING_ARGUMENT = {"aten.batch_norm.default": 5, "aten.dropout.default": 2}
_RUNNING_MEAN = 3


@dataclass(frozen=True)
class Exported:
    """An exported program as a network, what its input tells, and its ``reportgen.json``."""

    network: nn.Module
    name: str
    hints: Hints
    metadata: str
    fixed_batch: int | None
    trusted: bool
    notes: tuple[str, ...] = ()


def read_exported(path: Path, trust_pickle: bool) -> Exported:
    """Return the program in a ``.pt2`` archive as a network on which eval() may be called.

    Raises ModelError for a damaged archive, one that could run code when opened (unless
    ``trust_pickle``), one exported in training mode, and one that takes no float32 NCHW batch.
    """
    try:
        unsafe, contents = _load(path, trust_pickle)
        program = contents.exported_programs["model"]
        network = _as_network(program)
    except ModelError:
        raise
    except Exception as error:
        raise read_failure(path, error) from None
    _check_mode(path, program)
    shape = _input_shape(path, program)
    notes = _widened(network)
    return Exported(
        network=network,
        name=_class_name(program),
        hints=_hints(shape),
        metadata=contents.extra_files.get(_METADATA, ""),
        fixed_batch=_static(shape[0]),
        trusted=bool(unsafe),
        notes=notes,
    )


def _load(path: Path, trust: bool) -> tuple[str, Any]:
    # Imported late: it brings PyTorch's compiler, which opening another format does not need.
    from torch.export.pt2_archive._package import PT2ArchiveReader, load_pt2

    # One open file for both: what is loaded is what was checked.
    with path.open("rb") as file:
        archive: Any = on_cpu(file)
        unsafe = unsafe_part(PT2ArchiveReader(archive))
        if unsafe and not trust:
            raise ModelError(_refusal(path, unsafe))
        archive.seek(0)
        with silenced("torch._export.serde.serialize"):  # on symbols that nothing needs
            return unsafe, load_pt2(archive)


def _widened(network: fx.GraphModule) -> tuple[str, ...]:
    """Turn weights and casts of half precision into float32, and return the note on it."""
    halves = {tensor.dtype for tensor in network.state_dict().values()} & set(HALF)
    if widen_graph(network) or halves:
        network.float()
        return ("The program was exported in half precision; it computes in float32 here.",)
    return ()


def _as_network(program: ExportedProgram) -> fx.GraphModule:
    # Its own module refuses eval() and enforces the declared range of batch sizes; the plain graph
    # module runs the same graph. Guards are Python text from the file, and are not compiled.
    module = program.module(check_guards=False)
    return fx.GraphModule(module, module.graph, "ExportedProgram")


def _check_mode(path: Path, program: ExportedProgram) -> None:
    for node in program.graph.nodes:
        position = _TRAINING_ARGUMENT.get(str(node.target))
        # Without running statistics it is so in eval mode too: weights are standardised by it.
        kept = len(node.args) <= _RUNNING_MEAN or node.args[_RUNNING_MEAN] is not None
        if position is not None and kept and node.args[position : position + 1] == (True,):
            raise ModelError(
                f"The program in '{path}' was exported in training mode (its {node.target} is "
                "active); call model.eval() and export it again."
            )


def _input_shape(path: Path, program: ExportedProgram) -> tuple[Any, ...]:
    names = program.graph_signature.user_inputs
    inputs = [
        n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in names
    ]
    images = [x for x in inputs if isinstance(x, torch.Tensor) and x.ndim == 4]
    if len(inputs) != 1 or len(images) != 1 or images[0].dtype not in _INPUTS:
        shapes = [f"{_type(x)} {list(getattr(x, 'shape', ()))}" for x in inputs]
        raise ModelError(
            f"The program in '{path}' takes {', '.join(shapes) or 'no input'}, where one float32 "
            "batch of pictures (batch, channels, height, width) was expected; export it with one."
        )
    if _is_channels_last(images[0].shape):
        raise ModelError(
            f"The program in '{path}' takes pictures of the shape {list(images[0].shape)}, "
            "channels last, where (batch, channels, height, width) was expected; export it with "
            "x.permute(0, 3, 1, 2) before its first layer."
        )
    return tuple(images[0].shape)


def _is_channels_last(shape: Sequence[Any]) -> bool:
    channels, last = _static(shape[1]), _static(shape[3])
    return last in _CHANNELS and channels is not None and channels > max(_CHANNELS)


def _hints(shape: tuple[Any, ...]) -> Hints:
    channels, height, width = (_static(size) for size in shape[1:])
    size = (height, width) if height is not None and width is not None else None
    return Hints(
        channels=None if channels is None else Known(channels, "file"),
        crop=None if size is None else Known(size, "file"),
    )


def _class_name(program: ExportedProgram) -> str:
    stacks = (node.meta.get("nn_module_stack") or {} for node in program.graph.nodes)
    classes = (str(kind) for stack in stacks for _, kind in stack.values())
    # PyTorch's own placeholder for nodes that come from no module has no module in its name, and
    # the wrapper of a packed network is not what people call it.
    named = (kind for kind in classes if "." in kind and not kind.startswith("reportgen."))
    return next(named, "exported graph").rpartition(".")[2]


def _static(size: object) -> int | None:
    # A dynamic dimension is a symbolic integer, which is no int.
    return size if type(size) is int else None


def _type(value: object) -> str:
    return str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__


def _refusal(path: Path, unsafe: str) -> str:
    return (
        f"The exported program '{path}' holds {unsafe}, with which opening or running it could run "
        "any code; export the plain model again, or give --trust-pickle if you trust its author."
    )
