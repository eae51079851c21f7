"""Folders as Hugging Face and timm write them: ``config.json``, and weights in one or more files.

Only JSON and safetensors are read. Weights in a pickle are of use only where the caller trusts
them, and code that a folder brings along is never run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from reportgen.classifier.checkpoints import read_safetensors
from reportgen.classifier.sniffing import read_failure, sniff
from reportgen.errors import ModelError

CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLED = "pytorch_model.bin"
_PICKLED_INDEX = "pytorch_model.bin.index.json"
_DESCRIPTIONS = (CONFIG, "preprocessor_config.json", "processor_config.json")
_DESCRIBING = {"model_type", "architectures", "architecture"}
_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F64": "float64"}
_FOREIGN = {
    "tf_model.h5": "TensorFlow",
    "flax_model.msgpack": "Flax",
    "adapter_model.safetensors": "an adapter",
}


@dataclass(frozen=True)
class ModelFolder:
    """A folder that holds a model; ``revision`` is its commit on the hub, where it came from there.

    ``config`` is what stands in config.json.
    """

    path: Path
    name: str
    config: Mapping[str, Any]
    revision: str = ""

    @property
    def on_hub(self) -> bool:
        """Whether the folder is a copy of a repository on the hub."""
        return bool(self.revision)

    def commit_note(self) -> tuple[str, ...]:
        """Return a note that says which commit on the hub this is, if it is one."""
        return (f"Commit {self.revision} on the hub.",) if self.on_hub else ()

    def has(self, name: str) -> bool:
        """Return whether a file of this name lies in the folder."""
        return (self.path / name).is_file()


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold a model's weights, and whether they are pickles that the user trusts."""

    paths: tuple[Path, ...]
    pickled: bool = False

    def notes(self) -> tuple[str, ...]:
        """Return the usual note for each number format in the files that is not float32."""
        found: set[str] = set()
        for path in () if self.pickled else self.paths:
            with safe_open(path, framework="pt") as file:
                found |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        names = sorted(_DTYPES[kind] for kind in found if kind in _DTYPES)
        return tuple(f"Weights in {name} were converted to float32." for name in names)

    def sha256(self) -> str:
        """Return the SHA-256 of the files' bytes, one after the other in the order of names."""
        digest = hashlib.sha256()
        for path in self.paths:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def is_model_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder with a config.json."""
    return (path / CONFIG).is_file()


def holds_model(path: Path) -> bool:
    """Return whether ``path`` is a folder with a config.json and with weights."""
    names = (_WEIGHTS, _INDEX, _PICKLED, _PICKLED_INDEX)
    return is_model_folder(path) and any((path / name).is_file() for name in names)


def folder_of(path: Path) -> Path | None:
    """Return the model folder of which the file ``path`` is the weights, None where it is not.

    A config.json that is neither transformers' nor timm's makes no model folder. Raises ModelError
    for one that is damaged.
    """
    named = path.name in (_WEIGHTS, _INDEX)
    if not named or not path.is_file() or not is_model_folder(path.parent):
        return None
    described = _read_json(path.parent / CONFIG).keys() & _DESCRIBING
    return path.parent if described else None


def read_folder(path: Path, name: str, revision: str = "") -> ModelFolder:
    """Return the folder ``path``, which the user calls ``name``.

    Raises ModelError for a folder without a readable config.json, one that brings code along or
    is an adapter, and one with quantised weights.
    """
    if not is_model_folder(path):
        raise ModelError(
            f"'{name}' is a folder without {CONFIG}, and so no model in Hugging Face's or timm's "
            "form; name a model file instead, or a folder written by save_pretrained."
        )
    descriptions = {
        file: _read_json(path / file) for file in _DESCRIPTIONS if (path / file).is_file()
    }
    folder = ModelFolder(path, name, descriptions[CONFIG], revision)
    _refuse_code(name, descriptions)
    _refuse_parts(folder)
    return folder


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"'{path}' cannot be read as JSON, it may be damaged; copy or download it again "
            f"({error})."
        ) from None
    if not isinstance(content, dict):
        raise ModelError(f"'{path}' holds no JSON object; copy or download it again.")
    return content


def _refuse_code(name: str, descriptions: Mapping[str, Mapping[str, Any]]) -> None:
    for file, description in descriptions.items():
        if description.get("auto_map"):
            raise ModelError(
                f"'{name}' brings its own code along (auto_map in {file}), which is never run; "
                "build the network in Python and give it to reportgen.explain, or export it with "
                "torch.export.save (.pt2)."
            )


def _refuse_parts(folder: ModelFolder) -> None:
    if folder.has("adapter_config.json"):
        raise ModelError(
            f"'{folder.name}' holds an adapter, and not a whole network; merge it into its model "
            "(merge_and_unload), save that with save_pretrained, and give that folder."
        )
    if folder.config.get("quantization_config"):
        raise ModelError(
            f"'{folder.name}' holds quantised weights, through which no gradient passes; give the "
            "model that was not quantised."
        )


def weight_files(folder: ModelFolder, trust_pickle: bool) -> WeightFiles:
    """Return the files with the weights: safetensors, or where they are trusted pickles.

    Raises ModelError where there are none that may be read, or where they are damaged.
    """
    if folder.has(_WEIGHTS):
        return WeightFiles(_checked([folder.path / _WEIGHTS]))
    if folder.has(_INDEX):
        return WeightFiles(_checked(shards(folder.path / _INDEX)))
    pickled = next((name for name in (_PICKLED, _PICKLED_INDEX) if folder.has(name)), None)
    if pickled is None:
        raise ModelError(_no_weights(folder))
    if not trust_pickle:
        raise ModelError(
            f"'{folder.name}' holds its weights as a pickle ({pickled}) alone, which can run any "
            "code; save it again with save_pretrained, which writes model.safetensors, or give "
            "--trust-pickle if you trust its author."
        )
    path = folder.path / pickled
    return WeightFiles((path,) if pickled == _PICKLED else shards(path), pickled=True)


def _checked(paths: Iterable[Path]) -> tuple[Path, ...]:
    for path in paths:
        if sniff(path) != "safetensors":
            raise ModelError(f"'{path}' is not in the format safetensors; download it again.")
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise read_failure(path, error) from None
    return tuple(paths)


def _no_weights(folder: ModelFolder) -> str:
    foreign = next((kind for name, kind in _FOREIGN.items() if folder.has(name)), None)
    found = f" but those of {foreign}" if foreign else ""
    return (
        f"The folder '{folder.name}' holds no weights{found}; expected {_WEIGHTS}, or {_INDEX} "
        "with the files that it names."
    )


def shards(index: Path) -> tuple[Path, ...]:
    """Return the files among which the weights are divided, by name, from their ``index``.

    Raises ModelError for an index that is damaged, names files outside its folder, or files that
    are not there.
    """
    places = _read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ModelError(f"'{index}' has no 'weight_map' from tensors to files; download it again.")
    names = sorted(set(places.values()))
    for name in names:
        if Path(name).name != name:
            raise ModelError(f"'{index}' names a file outside its folder ('{name}').")
        if not (index.parent / name).is_file():
            raise ModelError(
                f"'{index}' names '{name}', which is not beside it; copy or download it too."
            )
    return tuple(index.parent / name for name in names)


def read_shards(index: Path) -> dict[str, Tensor]:
    """Return the tensors of all the files that an ``index`` of safetensors names.

    Raises ModelError as ``shards``, and where a file is damaged.
    """
    tensors: dict[str, Tensor] = {}
    for path in _checked(shards(index)):
        tensors.update(read_safetensors(path).content)  # type: ignore[call-overload]
    return tensors
