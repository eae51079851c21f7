"""Read what torch.save and pickle have written, without running any code unless that is allowed."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from reportgen.classifier.factories import importable_working_directory
from reportgen.classifier.harmless import harmless_types
from reportgen.classifier.sniffing import FileKind, read_failure
from reportgen.errors import ModelError

_UNREADABLE = "is a pickle that PyTorch cannot read as weights only"
_REFUSED = re.compile(r"GLOBAL (\S+) was not an allowed global")


@dataclass(frozen=True)
class Checkpoint:
    """What a file held; ``trusted`` is set where reading it could have run any code.

    ``metadata`` is the text that a safetensors file carries beside its tensors.
    """

    content: object
    trusted: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    def network(self) -> nn.Module | None:
        """Return the whole network, if the file held one at its top or one level down."""
        inner = self.content.values() if isinstance(self.content, Mapping) else ()
        return next((x for x in (self.content, *inner) if isinstance(x, nn.Module)), None)


def read_safetensors(path: Path) -> Checkpoint:
    """Return tensors and metadata of a safetensors file; ModelError where it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Checkpoint(tensors, metadata=file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise read_failure(path, error) from None


def read_checkpoint(path: Path, kind: FileKind, trust_pickle: bool) -> Checkpoint:
    """Return the content of a file by torch.save or pickle, at first only tensors and plain values.

    Plain are also the types in ``harmless``. Where the file holds more, ModelError, or with
    ``trust_pickle`` the whole pickle, which can run any code. Raises ModelError also where the file
    is damaged.
    """
    refused = _UNREADABLE
    if kind != "pickle":
        try:
            return Checkpoint(_read_tensors(path, kind))
        except pickle.UnpicklingError as error:
            refused = _refused(error)
        except Exception as error:
            raise read_failure(path, error) from None
    if not trust_pickle:
        raise ModelError(_refusal(path, refused))
    return Checkpoint(_unpickle(path, kind), trusted=True)


def _read_tensors(path: Path, kind: FileKind) -> Any:
    with warnings.catch_warnings(), harmless_types():
        # Newer pickle protocols than PyTorch's own are read all the same, or refused.
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        # PyTorch's own ways to read quantised weights, which are refused afterwards.
        warnings.filterwarnings("ignore", message="TypedStorage is deprecated")
        warnings.filterwarnings("ignore", message="torch.quantize_per_tensor")
        mapped = kind == "checkpoint"
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _unpickle(path: Path, kind: FileKind) -> Any:
    try:
        with importable_working_directory():
            if kind != "pickle":
                return torch.load(path, map_location="cpu", weights_only=False)
            with path.open("rb") as file:
                return pickle.load(file)
    except Exception as error:
        raise ModelError(
            f"The pickled model '{path}' cannot be opened ({type(error).__name__}: {error}); "
            "install the package that its classes come from, or run where they can be imported "
            "under the names used in saving."
        ) from None


def _refused(error: Exception) -> str:
    found = _REFUSED.search(str(error))
    return f"holds '{found.group(1)}' beside or instead of weights" if found else _UNREADABLE


def _refusal(path: Path, refused: str) -> str:
    return (
        f"'{path}' {refused}, and opening it in full can run any code; save its state dict, "
        "TorchScript or an exported program (.pt2) instead, or give --trust-pickle if you trust "
        "its author."
    )
