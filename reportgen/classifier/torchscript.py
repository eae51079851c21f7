"""Open TorchScript archives, traced or scripted."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.stateless import _reparametrize_module

from reportgen.classifier.fast_path import write_out
from reportgen.classifier.program_constants import move_script, script_graphs, widen_script
from reportgen.classifier.sniffing import read_failure
from reportgen.errors import ModelError

_METADATA = "reportgen.json"
_ULTRALYTICS = "config.txt"
_UNREADABLE = "required keyword attribute 'value' is undefined"
_WRITTEN_OUT = (
    "Transformer layers traced in PyTorch's fast path were written out in plain operators, through "
    "which gradients pass."
)
_WIDENED = "Casts to half precision inside the program were turned into casts to float32."

# The argument of each operator that is True where the network was traced in training mode.
_TRAINING_ARGUMENT = {"aten::batch_norm": 5, "aten::dropout": 2, "aten::feature_dropout": 2}
_RUNNING_MEAN = 3


@dataclass(frozen=True)
class Script:
    """A TorchScript network, its class, and the text of its ``reportgen.json`` ("" without).

    ``entries`` are those of the description that Ultralytics puts there.
    """

    network: nn.Module
    name: str
    metadata: str
    entries: Mapping[str, Any]
    notes: tuple[str, ...] = ()


class _Script(nn.Module):
    """A TorchScript network with parameters that torch.export takes for such."""

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        # In a tuple it is no submodule, whose own tensors the exporter would take instead.
        self._script = (script,)
        self._names: dict[str, str] = {}
        parameters = {name for name, _ in script.named_parameters()}
        for name, tensor in script.state_dict().items():
            own = self._names[name] = name.replace(".", "_")
            if name in parameters:
                self.register_parameter(own, nn.Parameter(tensor, requires_grad=False))
            else:
                self.register_buffer(own, tensor)

    def forward(self, batch: torch.Tensor) -> Any:
        tensors = {name: getattr(self, own) for name, own in self._names.items()}
        with (
            torch.jit.optimized_execution(False),  # type: ignore[attr-defined]
            _reparametrize_module(self._script[0], tensors),
        ):
            return self._script[0](batch)


def as_module(script: torch.jit.ScriptModule) -> nn.Module:
    """Return a TorchScript network as a module that torch.export takes."""
    return _Script(script)


def read_torchscript(path: Path) -> Script:
    """Return the network in a TorchScript archive, on the CPU and in eval mode.

    TorchScript is a program of its own that cannot call Python, but may use all of PyTorch's own
    operators. Raises ModelError for a damaged archive, unknown operators, and an archive without a
    forward method.
    """
    extra: dict[str, str | bytes] = {_METADATA: "", _ULTRALYTICS: ""}
    try:
        with warnings.catch_warnings():
            # Whoever explains a model cannot change how it was saved.
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
            network = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location="cpu", _extra_files=extra
            )
    except Exception as error:
        if _UNREADABLE in str(error):
            raise ModelError(
                f"The TorchScript file '{path}' was optimised for inference before it was saved, "
                "and PyTorch cannot read that again; save it without optimize_for_inference."
            ) from None
        raise read_failure(path, error) from None
    if not hasattr(network, "forward"):
        raise ModelError(f"The TorchScript file '{path}' has no forward method; save it with one.")
    metadata, description = (_text(extra[name]) for name in (_METADATA, _ULTRALYTICS))
    network.eval()
    _check_inputs(path, network)
    _check_mode(path, network)
    move_script(network, "cpu")
    notes = {_WIDENED: widen_script(network), _WRITTEN_OUT: write_out(network)}
    told, name = tuple(filter(notes.get, notes)), str(network.original_name)
    return Script(network, name, metadata, _entries(description), told)


def _text(content: str | bytes) -> str:
    return content.decode(errors="replace") if isinstance(content, bytes) else content


def _entries(text: str) -> Mapping[str, Any]:
    """Return the entries of a description in JSON; none where it is of another form."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _check_inputs(path: Path, network: Any) -> None:
    """Raise ModelError for a forward method that wants more than one input, or takes none."""
    arguments = network.forward.schema.arguments[1:]
    wanted = [each.name for each in arguments if not each.has_default_value()]
    if len(wanted) > 1 or not arguments:
        raise ModelError(
            f"The TorchScript file '{path}' takes the inputs {', '.join(wanted) or 'none'}, where "
            "one batch of pictures was expected; save it with a forward method that takes one."
        )


def _check_mode(path: Path, network: torch.jit.ScriptModule) -> None:
    """Raise ModelError for a trace of a network in training mode, which it keeps forever."""
    for graph in script_graphs(network):
        for kind in _TRAINING_ARGUMENT:
            if any(map(_trains, graph.findAllNodes(kind, recurse=True))):
                raise ModelError(
                    f"The TorchScript file '{path}' was traced in training mode (its {kind} is "
                    "active); call model.eval() and trace it again."
                )


def _trains(node: Any) -> bool:
    inputs = list(node.inputs())
    if inputs[_TRAINING_ARGUMENT[node.kind()]].toIValue() is not True:
        return False
    # Without running statistics it is so in eval mode too: weights are standardised by it.
    return len(inputs) <= _RUNNING_MEAN or inputs[_RUNNING_MEAN].type().kind() != "NoneType"
