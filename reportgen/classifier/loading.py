"""Open what a user calls a model: tell what it is, and open it without running code from the file.

State dicts and safetensors are read as tensors only. TorchScript and exported programs are programs
that PyTorch runs with its own operators; an exported program is checked first, in
``exported_safety``. A pickle is opened only where the caller trusts it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from reportgen.classifier.borrowing import unwrapped
from reportgen.classifier.checkpoints import Checkpoint, read_checkpoint, read_safetensors
from reportgen.classifier.construction import Constructed, construct
from reportgen.classifier.exported import read_exported
from reportgen.classifier.hub import find_folder, is_hub_name
from reportgen.classifier.huggingface import open_transformers
from reportgen.classifier.metadata import Hints, Known, combine
from reportgen.classifier.model_folders import (
    ModelFolder,
    WeightFiles,
    folder_of,
    is_model_folder,
    read_folder,
    read_shards,
    shards,
)
from reportgen.classifier.onnx_models import open_onnx
from reportgen.classifier.opened import Opened
from reportgen.classifier.published import (
    cached_file,
    download,
    find_published,
    is_published,
    published_hints,
)
from reportgen.classifier.sidecar import embedded_hints
from reportgen.classifier.sniffing import sniff
from reportgen.classifier.state_dicts import find_weights
from reportgen.classifier.timm_models import (
    is_timm_folder,
    is_timm_name,
    open_timm,
    open_timm_name,
)
from reportgen.classifier.torchscript import read_torchscript
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.classifier.training import training_of
from reportgen.classifier.ultralytics import exported_hints, network_hints
from reportgen.classifier.weights_hints import weights_hints
from reportgen.errors import ModelError
from reportgen.records import Source

_ARCH_UNUSED = "The option arch was not used: the model brings its own architecture."
_FOLDER_NOTE = "The file is the weights of its folder, whose config.json was used with it."
_WEIGHTS_UNUSED = "The option weights was not used: the model is no checkpoint of several entries."


@dataclass(frozen=True)
class _Request:
    """A file to open, and how."""

    path: Path
    arch: str
    trust_pickle: bool
    weights: str
    sha256: str


def open_model(
    source: str | os.PathLike[str] | nn.Module,
    arch: str = "",
    trust_pickle: bool = False,
    allow_download: bool = False,
    weights: str = "",
) -> Opened:
    """Return the network that ``source`` stands for, and what it says about itself.

    ``source`` is a model file (a state dict, TorchScript, an exported program, ONNX, a pickled
    module),
    a folder of transformers or timm (also as ``hf:PATH_OR_ID``), the name of published weights
    (``torchvision:NAME``, ``torchvision:NAME:WEIGHTS`` or ``timm:NAME``), or a network, which is
    used as it is. What is not in a local cache is fetched only with ``allow_download``. ``arch``
    names the architecture of a state dict (see ``Config.arch``); without it, the classifiers of
    torchvision and timm are recognised. ``weights`` names the entry of a checkpoint (see
    ``Config.weights``). Networks from files are on the CPU, in float32 and in eval mode.

    Raises ModelError for a file that cannot be opened or recognised, or that is a pickle while
    ``trust_pickle`` is not set; UsageError for a name that does not exist.
    """
    ensure_torchvision()
    if isinstance(source, nn.Module):
        return _with_arch_note(_given(source), arch)
    named = _named(os.fspath(source), trust_pickle, allow_download)
    if named is not None:
        return _with_arch_note(named, arch)
    opened = _open_file(Path(source), arch, trust_pickle, weights)
    unused = weights and opened.format != "state dict"
    return replace(opened, notes=(*opened.notes, _WEIGHTS_UNUSED)) if unused else opened


def _named(source: str, trust_pickle: bool, allow_download: bool) -> Opened | None:
    """Return the network of a name or of a folder, None where ``source`` is neither."""
    if is_published(source):
        return _published(source, allow_download)
    if is_timm_name(source):
        return open_timm_name(source, allow_download, trust_pickle)
    if is_hub_name(source):
        return _folder(find_folder(source, allow_download, trust_pickle), trust_pickle)
    if is_model_folder(Path(source)):
        return _folder(read_folder(Path(source), source), trust_pickle)
    return None


def _folder(folder: ModelFolder, trust_pickle: bool) -> Opened:
    opener = open_timm if is_timm_folder(folder) else open_transformers
    return opener(folder, trust_pickle)


def _open_file(path: Path, arch: str, trust_pickle: bool, weights: str) -> Opened:
    folder = None if arch else folder_of(path)
    if folder is not None:
        opened = _folder(read_folder(folder, str(folder)), trust_pickle)
        return replace(opened, notes=(*opened.notes, _FOLDER_NOTE))
    kind = sniff(path)
    divided = kind == "safetensors index"
    sha256 = WeightFiles(shards(path)).sha256() if divided else _sha256(path)
    request = _Request(path, arch, trust_pickle, weights, sha256)
    if kind == "TorchScript":
        opened = _with_arch_note(_script(request), arch)
    elif kind == "exported program":
        opened = _with_arch_note(_program(request), arch)
    elif kind == "ONNX":
        opened = _with_arch_note(open_onnx(path), arch)
    elif kind == "safetensors":
        opened = _tensors(request, read_safetensors(path))
    elif divided:
        opened = _tensors(request, Checkpoint(read_shards(path)))
    else:
        opened = _checkpoint(request, read_checkpoint(path, kind, trust_pickle))
    return replace(opened, name=path.name, file_sha256=request.sha256)


def _checkpoint(request: _Request, checkpoint: Checkpoint) -> Opened:
    network = checkpoint.network()
    if network is None:
        return _tensors(request, checkpoint)
    notes = _convert_to_float32(_in_eval_mode(network, request.path))
    opened = _given(network, "file", str(request.path))
    opened = replace(opened, format="pickled module", trusted_pickle=True, notes=notes)
    return _with_arch_note(opened, request.arch)


def _in_eval_mode(network: nn.Module, path: Path) -> nn.Module:
    """Return an unpickled network; raises ModelError where pickling has lost a part of it."""
    try:
        return network.eval()
    except Exception as error:  # such as quantised layers, of which PyTorch pickles half
        raise ModelError(
            f"The pickled model '{path}' lacks what its classes need ({type(error).__name__}: "
            f"{error}); save it as TorchScript or an exported program (.pt2) instead."
        ) from None


def _tensors(request: _Request, checkpoint: Checkpoint) -> Opened:
    copies = find_weights(checkpoint.content, str(request.path), request.weights)
    training = training_of(checkpoint.content, checkpoint.metadata)
    made = construct(copies, request.arch, training.architecture or request.path.stem)
    known = _channels(made.network, "file").channels
    channels = known.value if known else None
    hints, notes = weights_hints(made, training.hints, channels, request.sha256)
    opened = _constructed(made, hints)
    notes = (*opened.notes, *notes)
    return replace(opened, trusted_pickle=checkpoint.trusted, notes=notes)


def _constructed(made: Constructed, published: Hints) -> Opened:
    network = made.network.eval()
    return Opened(
        network=network,
        name="",
        format="state dict",
        architecture=made.architecture,
        hints=combine(_channels(network, "file"), published),
        notes=made.notes,
    )


def _published(source: str, allow_download: bool) -> Opened:
    name, weights = find_published(source)
    made = construct(find_weights(download(weights, allow_download), source), f"torchvision:{name}")
    hints = published_hints(weights, made.recognised, "weights metadata")
    return replace(
        _constructed(made, hints),
        name=f"torchvision:{name}:{weights.name}",
        format="published weights",
        file_sha256=_sha256(cached_file(weights)),
    )


def _script(request: _Request) -> Opened:
    script = read_torchscript(request.path)
    return Opened(
        network=script.network,
        name="",
        format="TorchScript",
        architecture=script.name,
        hints=combine(
            embedded_hints(script.metadata, str(request.path)),
            exported_hints(script.entries, str(request.path)),
            _channels(script.network, "file"),
        ),
        notes=(*script.notes, *_convert_to_float32(script.network)),
    )


def _program(request: _Request) -> Opened:
    exported = read_exported(request.path, request.trust_pickle)
    return Opened(
        network=exported.network,
        name="",
        format="exported program",
        architecture=exported.name,
        hints=combine(exported.hints, embedded_hints(exported.metadata, str(request.path))),
        trusted_pickle=exported.trusted,
        fixed_batch=exported.fixed_batch,
        notes=exported.notes,
    )


def _given(network: nn.Module, source: Source = "argument", path: str = "") -> Opened:
    network = unwrapped(network)
    name = type(network).__name__
    hints = combine(_channels(network, source), network_hints(network, path or name, source))
    return Opened(network, name, "module", name, hints)


def _channels(network: nn.Module, source: Source) -> Hints:
    """Return the input channels of the first convolution, in the order of registration."""
    for module in network.modules():
        kind = getattr(module, "original_name", type(module).__name__)
        weight = getattr(module, "weight", None)
        if kind == "Conv2d" and weight is not None:
            return Hints(channels=Known(weight.shape[1] * getattr(module, "groups", 1), source))
    return Hints()


def _convert_to_float32(network: nn.Module) -> tuple[str, ...]:
    dtypes = {tensor.dtype for tensor in network.parameters() if tensor.is_floating_point()}
    names = sorted(str(dtype).removeprefix("torch.") for dtype in dtypes - {torch.float32})
    if names:
        network.float()
    return tuple(f"Weights in {name} were converted to float32." for name in names)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _with_arch_note(opened: Opened, arch: str) -> Opened:
    return replace(opened, notes=(*opened.notes, _ARCH_UNUSED)) if arch else opened
