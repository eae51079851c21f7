"""Folders of a model: what is read of them, and a sentence for each that cannot be used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from factories import SmallNet
from safetensors.torch import save_file

from reportgen.classifier.loading import open_model
from reportgen.classifier.model_folders import (
    folder_of,
    holds_model,
    read_folder,
    read_shards,
    shards,
    weight_files,
)
from reportgen.errors import ModelError

SMALL = "factories:small_net"


def folder(path: Path, config: object, **files: object) -> Path:
    """Write a folder with config.json and other files, whose names have _ for a dot."""
    path.mkdir(exist_ok=True)
    for name, content in {"config_json": config, **files}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (path / name.replace("_json", ".json")).write_text(text, encoding="utf-8")
    return path


def divided(path: Path, tensors: Mapping[str, torch.Tensor], **metadata: object) -> Path:
    """Write tensors among two files, and return the index."""
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors":
             names[1::2]}  # fmt: skip
    for file, inside in parts.items():
        save_file({name: tensors[name].contiguous() for name in inside}, path / file)
    places = {name: file for file, inside in parts.items() for name in inside}
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": metadata, "weight_map": places}), encoding="utf-8")
    return index


def test_a_folder_is_read(tmp_path: Path) -> None:
    found = read_folder(folder(tmp_path, {"model_type": "vit"}), "mine")
    assert (found.name, found.config["model_type"], found.on_hub) == ("mine", "vit", False)
    assert found.commit_note() == ()
    assert read_folder(tmp_path, "o/n", "abc").commit_note() == ("Commit abc on the hub.",)


@pytest.mark.parametrize(
    ("config", "files", "message"),
    [
        (
            {"auto_map": {"AutoModel": "m.Net"}},
            {},
            r"own code along \(auto_map in config.json\)",
        ),
        (
            {},
            {"preprocessor_config_json": {"auto_map": {"AutoImageProcessor": "p.P"}}},
            r"auto_map in preprocessor_config.json\), which is never run",
        ),
        ({}, {"adapter_config_json": {}}, "holds an adapter, and not a whole network; merge"),
        ({"quantization_config": {"bits": 4}}, {}, "holds quantised weights"),
        ("{not json", {}, "config.json' cannot be read as JSON, it may be damaged"),
        ("[]", {}, "config.json' holds no JSON object"),
    ],
)
def test_what_cannot_be_used_is_told(
    tmp_path: Path, config: object, files: Mapping[str, object], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        read_folder(folder(tmp_path, config, **files), "mine")


def test_a_folder_without_a_configuration_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'mine' is a folder without config\.json"):
        read_folder(tmp_path, "mine")


def test_the_weights_are_found_and_hashed(tmp_path: Path) -> None:
    found = read_folder(folder(tmp_path, {}), "mine")
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    files = weight_files(found, trust_pickle=False)
    assert files.paths == (tmp_path / "model.safetensors",)
    assert files.sha256() == hashlib.sha256(files.paths[0].read_bytes()).hexdigest()
    assert files.notes() == ()


def test_the_number_format_of_the_weights_is_told(tmp_path: Path) -> None:
    found = read_folder(folder(tmp_path, {}), "mine")
    tensors = {"a": torch.ones(2).half(), "b": torch.ones(2), "c": torch.ones(2).bfloat16()}
    save_file(tensors, tmp_path / "model.safetensors")
    assert weight_files(found, trust_pickle=False).notes() == (
        "Weights in bfloat16 were converted to float32.",
        "Weights in float16 were converted to float32.",
    )


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("", b"", r"holds no weights; expected model\.safetensors, or model\.safetensors\.index"),
        ("tf_model.h5", b"x", "holds no weights but those of TensorFlow"),
        ("flax_model.msgpack", b"x", "holds no weights but those of Flax"),
        ("pytorch_model.bin", b"x", r"as a pickle \(pytorch_model\.bin\) alone.*--trust-pickle"),
        ("pytorch_model.bin.index.json", b"{}", r"as a pickle \(pytorch_model\.bin\.index\.json\)"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        ("model.safetensors", b"<!doctype html>", "a web page"),
        ("model.safetensors", b"PK\x03\x04 broken", "is incomplete or damaged"),
        ("model.safetensors.index.json", b"{}", "has no 'weight_map' from tensors to files"),
    ],
)
def test_missing_and_foreign_weights_are_told(
    tmp_path: Path, file: str, content: bytes, message: str
) -> None:
    found = read_folder(folder(tmp_path, {}), "mine")
    if file:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        weight_files(found, trust_pickle=False)


def test_trusted_pickles_are_marked(tmp_path: Path) -> None:
    found = read_folder(folder(tmp_path, {}), "mine")
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    files = weight_files(found, trust_pickle=True)
    assert (files.pickled, len(files.paths), files.notes()) == (True, 1, ())


def test_safetensors_come_before_pickles(tmp_path: Path) -> None:
    found = read_folder(folder(tmp_path, {}), "mine")
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    assert not weight_files(found, trust_pickle=True).pickled


def test_divided_weights_are_read_as_one(tmp_path: Path) -> None:
    tensors = SmallNet(7).state_dict()
    index = divided(tmp_path, tensors, total_size=1)
    found = read_shards(index)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert len(shards(index)) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../elsewhere.safetensors", r"names a file outside its folder \('\.\./elsewhere"),
        ("/etc/passwd", r"names a file outside its folder \('/etc/passwd'\)"),
        ("gone.safetensors", r"names 'gone\.safetensors', which is not beside it"),
    ],
)
def test_an_index_cannot_lead_elsewhere(tmp_path: Path, name: str, message: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}), encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        shards(index)


def test_an_index_is_opened_with_an_architecture(tmp_path: Path) -> None:
    network = SmallNet(7).eval()
    opened = open_model(divided(tmp_path, network.state_dict()), SMALL)
    assert opened.name == "model.safetensors.index.json"
    batch = torch.rand(2, 3, 32, 32)
    assert torch.equal(opened.network(batch), network(batch))
    both = b"".join(path.read_bytes() for path in sorted(tmp_path.glob("*.safetensors")))
    assert opened.file_sha256 == hashlib.sha256(both).hexdigest()


def test_weights_stand_for_their_folder(tmp_path: Path) -> None:
    path = folder(tmp_path, {"model_type": "vit"})
    assert not holds_model(path)
    save_file({"a": torch.ones(2)}, path / "model.safetensors")
    save_file({"a": torch.ones(2)}, path / "other.safetensors")
    assert holds_model(path)
    assert folder_of(path / "model.safetensors") == path
    assert folder_of(path / "other.safetensors") is None
    folder(tmp_path, {"learning_rate": 0.1})
    assert folder_of(path / "model.safetensors") is None
    (path / "config.json").unlink()
    assert folder_of(path / "model.safetensors") is None
