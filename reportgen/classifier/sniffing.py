"""Tell by its content what kind of file a user gave, and in a sentence why it is of no use.

Endings are ignored: ``.pt`` may be any of these kinds, and often is none of them.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from reportgen.errors import ModelError

FileKind = Literal[
    "checkpoint",
    "old checkpoint",
    "pickle",
    "safetensors",
    "safetensors index",
    "TorchScript",
    "exported program",
    "ONNX",
]

_HEAD = 4096
_MODEL_ENDINGS = (".pt", ".pth", ".pt2", ".safetensors", ".ckpt", ".bin", ".onnx")

# torch.save before version 1.6 wrote this number first, whatever the pickle protocol.
_OLD_MAGIC = b"l\xfc\x9cF\xf9 j\xa8P\x19"

_ADVICE = (
    "give a state dict (.pt, .safetensors), TorchScript, an exported program (.pt2) or ONNX (.onnx)"
)
_CONVERT = "convert it to ONNX: python -m tf2onnx.convert --{} {} --output model.onnx"
_FROM_SAVED = _CONVERT.format("saved-model", "FOLDER")
_FROM_ONNX = "give the ONNX model that it was made from, or export the original model to ONNX"
_EXPORT = "export the PyTorch model itself with torch.export.save (.pt2) or torch.jit.save"
_ORDER = "the model comes first and the picture second: reportgen explain MODEL IMAGE"

_FOREIGN: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x89PNG\r\n", "a PNG picture", _ORDER),
    (0, b"\xff\xd8\xff", "a JPEG picture", _ORDER),
    (0, b"GIF8", "a GIF picture", _ORDER),
    (0, b"BM", "a BMP picture", _ORDER),
    (0, b"II*\x00", "a TIFF picture", _ORDER),
    (0, b"MM\x00*", "a TIFF picture", _ORDER),
    (8, b"WEBP", "a WebP picture", _ORDER),
    (0, b"%PDF", "a PDF document", _ADVICE),
    (0, b"\x89HDF", "an HDF5 file (Keras or TensorFlow)", _CONVERT.format("keras", "MODEL.h5")),
    (4, b"TFL3", "a TensorFlow Lite model", _CONVERT.format("tflite", "MODEL.tflite")),
    (4, b"ORTM", "a model in onnxruntime's own format (.ort)", _FROM_ONNX),
    (4, b"ET12", "an ExecuTorch program", _EXPORT),
    (0, b"ftrt", "a TensorRT engine", _EXPORT),
    (0, b"ptrt", "a TensorRT engine", _EXPORT),
    (0, b"GGUF", "a GGUF file", _ADVICE),
    (0, b"\x93NUMPY", "a NumPy array", _ADVICE),
    (0, b"\x1f\x8b", "compressed with gzip", "unpack it first"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file", "run 'git lfs pull' first"),
)

# These begin like others, and hold a word of their own near the start.
_MARKED: tuple[tuple[bytes, bytes, str, str], ...] = (
    (b"\n", b"feed", "a PaddlePaddle program", "convert it to ONNX with paddle2onnx"),
    (b"\n", b"Placeholder", "a frozen TensorFlow graph", _CONVERT.format("graphdef", "GRAPH.pb")),
    (b"<", b"<net name=", "an OpenVINO model", _FROM_ONNX),
)

# An ONNX ModelProto starts with its version (8, then a small number); one of these follows.
_ONNX_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42"


def sniff(path: Path) -> FileKind:
    """Return what kind of model file ``path`` is.

    Raises ModelError for a path that is no file, an incomplete file, and a file that is no model.
    """
    head = _read_head(path)
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return "old checkpoint" if _OLD_MAGIC in head[:64] else "pickle"
    if _is_safetensors(head):
        return "safetensors"
    if _is_onnx(head):
        return "ONNX"
    if head.lstrip()[:1] == b"{" and b'"weight_map"' in head:
        return "safetensors index"
    what, advice = _foreign(head)
    raise ModelError(f"'{path}' is {what}, and no PyTorch model; {advice}.")


def _read_head(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(f"'{path}' is a folder, not a model file; {_inside(path)}.")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        if path.parts[0] in ("http:", "https:"):
            address = str(path).replace(":/", "://")
            raise ModelError(f"'{address}' is a web address; download the file first.") from None
        raise ModelError(f"There is no model file '{path}'; check the path.") from None
    except OSError as error:
        raise ModelError(f"The model file '{path}' cannot be read: {error.strerror}.") from None
    if not head:
        raise ModelError(f"The model file '{path}' is empty; copy or download it again.")
    return head


def _inside(folder: Path) -> str:
    if (folder / "saved_model.pb").is_file():
        return f"a model of TensorFlow; {_FROM_SAVED}"
    if folder.suffix == ".mlpackage":
        return f"a Core ML model; {_FROM_ONNX}"
    names = sorted(file.name for file in folder.iterdir() if file.suffix in _MODEL_ENDINGS)[:3]
    if names:
        return f"name a file inside it, for example {', '.join(names)}"
    return f"it holds no model file; {_ADVICE}"


def _zip_kind(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:
        # A damaged directory also makes zipfile raise errors of decoding and of arithmetic.
        raise ModelError(
            f"The model file '{path}' is incomplete or damaged: the directory at the end of its "
            "archive cannot be read; copy or download it again."
        ) from None
    members = {name.partition("/")[2] for name in names}
    if "constants.pkl" in members and any(name.startswith("code/") for name in members):
        return "TorchScript"
    if {"archive_format", "models/model.json"} <= members:
        return "exported program"
    if "data.pkl" in members:
        return "checkpoint"
    raise ModelError(f"'{path}' is {_foreign_zip({*names, *members})}.")


def _foreign_zip(names: set[str]) -> str:
    if "serialized_exported_program.json" in names:
        return "an exported program in the format of PyTorch 2.7 and before; export it again"
    if "archive_format" in names:
        return f"an archive of compiled code, which cannot be differentiated; {_EXPORT}"
    if "model.weights.h5" in names:
        return (
            "a Keras model, and no PyTorch model; save it with model.export('FOLDER') and "
            f"{_FROM_SAVED}"
        )
    if any(name.endswith(".npy") for name in names):
        return f"an archive of NumPy arrays, and no PyTorch model; {_ADVICE}"
    return f"a zip archive that holds no PyTorch model; {_ADVICE}"


def _is_safetensors(head: bytes) -> bool:
    # The file starts with the length of a JSON header in eight bytes, then that header.
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < 100_000_000


def _foreign(head: bytes) -> tuple[str, str]:
    for offset, magic, what, advice in _FOREIGN:
        if head[offset:].startswith(magic):
            return what, advice
    for start, mark, what, advice in _MARKED:
        if head.startswith(start) and mark in head:
            return what, advice
    if b"\x81" <= head[:1] <= b"\x8f" and b"\xa1" <= head[1:2] <= b"\xbf":
        return "a MessagePack file (Flax or JAX)", _FROM_ONNX
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "a web page, probably saved in place of a download", "download the file again"
    return ("a text file" if _is_text(head) else "of an unknown format"), _ADVICE


def _is_onnx(head: bytes) -> bool:
    return len(head) > 2 and head[0] == 8 and 0 < head[1] < 0x20 and head[2] in _ONNX_FIELDS


def _is_text(head: bytes) -> bool:
    try:
        # A character cut in two at the end of the head is still text.
        text = head.decode("utf-8", errors="strict" if len(head) < _HEAD else "ignore")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\r\n" for character in text)


def read_failure(path: Path, error: Exception, library: str = "PyTorch") -> ModelError:
    """Return the error for a file of a known kind that its ``library`` could not read."""
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return ModelError(
        f"The model file '{path}' cannot be read, it may be damaged; copy or download it again "
        f"({library} says: {first.strip().rstrip('.')})."
    )
