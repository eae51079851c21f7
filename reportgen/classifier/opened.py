"""The result of opening a model: a network that can be called, and what its file says about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from reportgen.classifier.metadata import Hints

Format = Literal[
    "state dict",
    "TorchScript",
    "exported program",
    "pickled module",
    "published weights",
    "module",
    "ONNX",
    "Hugging Face folder",
    "Hugging Face hub",
    "function",
]


@dataclass(frozen=True)
class Opened:
    """A network in eval mode, from normalised NCHW float batches to whatever it returns.

    ``fixed_batch`` is the only batch size the network accepts, or None where it takes any.
    """

    network: nn.Module
    name: str
    format: Format
    architecture: str
    hints: Hints = field(default_factory=Hints)
    file_sha256: str | None = None
    trusted_pickle: bool = False
    fixed_batch: int | None = None
    notes: tuple[str, ...] = ()
