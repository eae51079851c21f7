"""Open TorchScript archives, traced or scripted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from reportgen.classifier.sniffing import read_failure
from reportgen.errors import ModelError

_METADATA = "reportgen.json"


@dataclass(frozen=True)
class Script:
    """A TorchScript network, its class, and the text of its ``reportgen.json`` ("" without)."""

    network: nn.Module
    name: str
    metadata: str


def read_torchscript(path: Path) -> Script:
    """Return the network in a TorchScript archive, on the CPU and in eval mode.

    TorchScript is a program of its own that cannot call Python, but may use all of PyTorch's own
    operators. Raises ModelError for a damaged archive, unknown operators, and an archive without a
    forward method.
    """
    extra: dict[str, str | bytes] = {_METADATA: ""}
    try:
        with warnings.catch_warnings():
            # Whoever explains a model cannot change how it was saved.
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
            network = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location="cpu", _extra_files=extra
            )
    except Exception as error:
        raise read_failure(path, error) from None
    if not hasattr(network, "forward"):
        raise ModelError(f"The TorchScript file '{path}' has no forward method; save it with one.")
    text = extra[_METADATA]
    metadata = text.decode(errors="replace") if isinstance(text, bytes) else text
    return Script(network.eval(), str(network.original_name), metadata)
