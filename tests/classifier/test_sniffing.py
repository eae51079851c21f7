"""The kind of a file is told by its content, and a file of no use by a sentence that helps."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from factories import SmallNet
from hypothesis import example, given
from hypothesis import strategies as st
from model_files import archive, arrays, picture

from reportgen.classifier.sniffing import read_failure, sniff
from reportgen.errors import ModelError


def state_dict(**options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(SmallNet().state_dict(), file, **options)
    return file.getvalue()


KINDS = {
    "checkpoint": state_dict(),
    "old checkpoint": state_dict(_use_new_zipfile_serialization=False),
    "pickle": pickle.dumps({"a": 1}),
    "safetensors": safetensors.torch.save(SmallNet().state_dict()),
    "TorchScript": archive("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py", "m/data/0"),
    "exported program": archive("m/archive_format", "m/models/model.json"),
    "ONNX": b"\x08\x07\x12\x07pytorch",
}

USELESS = {
    "a PNG picture, .*the model comes first": picture("PNG"),
    "a JPEG picture, .*the model comes first": picture("JPEG"),
    "a GIF picture": picture("GIF"),
    "a BMP picture": picture("BMP"),
    "a TIFF picture": picture("TIFF"),
    "a WebP picture": picture("WEBP"),
    "a PDF document": b"%PDF-1.7\n",
    "an HDF5 file .Keras or TensorFlow., .*tf2onnx.convert --keras": b"\x89HDF\r\n\x1a\n\0\0",
    "a TensorFlow Lite model, .*tf2onnx.convert --tflite": b"\x1c\0\0\0TFL3\0\0",
    "an ExecuTorch program": b"\x1c\0\0\0ET12\0\0",
    "a GGUF file": b"GGUF\x03\0\0\0",
    "a NumPy array": b"\x93NUMPY\x01\0",
    "compressed with gzip, .*unpack it first": b"\x1f\x8b\x08\0\0\0",
    "a Git LFS pointer, .*git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid",
    "a web page, .*download the file again": b"\n<!DOCTYPE html>\n<html><body>Not found",
    "an OpenVINO model, .*ONNX model that it was made from": b'<?xml?>\n<net name="n">',
    "a frozen TensorFlow graph, .*--graphdef": b"\n\x10\n\x01x\x12\x0bPlaceholder\xff",
    "a model in onnxruntime's own format": b"\x20\0\0\0ORTM\0\0",
    "a text file": "Gewichte für das Netz\n".encode(),
    "of an unknown format": bytes(range(256)),
    "a Keras model, .*tf2onnx.convert --saved-model": archive(
        "config.json", "metadata.json", "model.weights.h5"
    ),
    "an archive of NumPy arrays": arrays(),
    "an archive of compiled code": archive("m/archive_format", "m/data/aotinductor/model/a.so"),
    "an exported program in the format of PyTorch 2.7 and before": archive(
        "serialized_exported_program.json", "version"
    ),
    "a zip archive that holds no PyTorch model": archive("word/document.xml"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["model.pt", "model.jpg", "model"])
def test_a_model_file_is_told_by_its_content(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(KINDS[kind])
    assert sniff(tmp_path / name) == kind


@pytest.mark.parametrize("what", USELESS)
def test_a_file_of_no_use_is_named(what: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(USELESS[what])
    with pytest.raises(ModelError, match=f"model.pt' is {what}"):
        sniff(tmp_path / "model.pt")


@example(content=b"\x08")
@example(content=b"\x80")
@given(content=st.binary(min_size=1, max_size=80))
def test_no_content_breaks_the_telling(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    try:
        assert sniff(path) in KINDS
    except ModelError as error:
        assert str(path) in str(error)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"There is no model file '.*gone\.pt'"):
        sniff(tmp_path / "gone.pt")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    with pytest.raises(ModelError, match=r"model\.pt' is empty"):
        sniff(tmp_path / "model.pt")


def test_an_unreadable_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"cannot be read: Not a directory"):
        sniff(tmp_path / "file" / "model.pt")


def test_a_folder_names_the_models_inside(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelError, match=r"is a folder, .*for example model\.safetensors\.$"):
        sniff(tmp_path)


def test_folders_of_other_frameworks_are_named(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(ModelError, match="a model of TensorFlow; convert it to ONNX"):
        sniff(tmp_path)
    (tmp_path / "net.mlpackage").mkdir()
    with pytest.raises(ModelError, match="a Core ML model; give the ONNX model"):
        sniff(tmp_path / "net.mlpackage")


def test_a_folder_without_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a folder, .*it holds no model file"):
        sniff(tmp_path)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.95])
def test_an_incomplete_archive(kept: float, tmp_path: Path) -> None:
    whole = KINDS["checkpoint"]
    (tmp_path / "model.pt").write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ModelError, match=r"incomplete or damaged: .*copy or download it again"):
        sniff(tmp_path / "model.pt")


def test_a_name_that_is_no_text_in_an_archive_is_damage(tmp_path: Path) -> None:
    content = archive("m/däta.pkl").replace("ä".encode(), b"\xff\xff")
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(ModelError, match="incomplete or damaged"):
        sniff(tmp_path / "model.pt")


def test_text_cut_within_a_character_is_still_text(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes("ü".encode() * 3000 + b"a")
    (tmp_path / "odd.pt").write_bytes(b"a" + "ü".encode() * 3000)
    for name in ("model.pt", "odd.pt"):
        with pytest.raises(ModelError, match="is a text file"):
            sniff(tmp_path / name)


def test_a_failure_is_told_in_one_line() -> None:
    failure = read_failure(Path("m.pt"), RuntimeError("bad record.\nstack trace"))
    assert str(failure).endswith("(PyTorch says: bad record).")
    assert "KeyError" in str(read_failure(Path("m.pt"), KeyError()))
