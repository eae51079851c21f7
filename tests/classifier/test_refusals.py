"""What cannot be opened or explained is refused in a sentence that names it and says what to do."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from factories import SmallNet
from model_files import archive, arrays, picture
from torch import Tensor, nn
from torch.export import export, save

import reportgen
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import ModelError, ReportgenError, UsageError

ensure_torchvision()

Content = bytes | Callable[[Path], object]
PIXELS = np.random.default_rng(0).random((32, 32, 3), dtype=np.float32)


@dataclass(frozen=True)
class Refused:
    """A file called ``name``: its content, or what writes it, and the words of the refusal."""

    name: str
    content: Content
    words: str
    error: type[ReportgenError] = ModelError
    options: Mapping[str, Any] = field(default_factory=dict)


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def folder(**files: str) -> Callable[[Path], object]:
    """Return what makes a folder with these files; a double underscore stands for a dot."""

    def make(path: Path) -> None:
        path.mkdir()
        for name, text in files.items():
            (path / name.replace("__", ".")).write_text(text, "utf-8")

    return make


def config(**entries: object) -> str:
    return json.dumps(entries)


def transformers_folder(kind: str, settings: str, **sizes: int) -> Callable[[Path], object]:
    """Return what saves a tiny model of transformers, by the names of its class and its config."""

    def make(path: Path) -> None:
        import transformers

        made = getattr(transformers, settings)(**sizes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            getattr(transformers, kind)(made).save_pretrained(path)

    return make


VIT = {
    "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
    "image_size": 32, "patch_size": 16,
}  # fmt: skip
BERT = {
    "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
    "vocab_size": 20, "max_position_embeddings": 8,
}  # fmt: skip


def squeezenet(path: Path, without: str = " ") -> None:
    from torchvision.models import squeezenet1_1

    state = squeezenet1_1(num_classes=4).state_dict()
    torch.save({key: value for key, value in state.items() if not key.startswith(without)}, path)


def without_head(path: Path) -> None:
    squeezenet(path, "classifier.")


def of_a_detector() -> bytes:
    names = ("backbone.body.conv1.weight", "rpn.head.conv.weight", "roi_heads.box_head.fc6.weight")
    return saved({name: torch.ones(4, 4) for name in names})


def quantised() -> bytes:
    return saved({"fc.weight": torch.ones(4, 4, dtype=torch.int8), "fc.scale": torch.ones(4)})


def script(module: nn.Module, **options: Any) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.script(module).save(str(path), **options)

    return make


def trace(module: nn.Module, *batch: Tensor) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.trace(module, batch, check_trace=False).save(str(path))

    return make


def program(module: nn.Module, *batch: Tensor, **options: Any) -> Callable[[Path], object]:
    return lambda path: save(export(module, batch), path, **options)


class NoForward(nn.Module):
    @torch.jit.export
    def other(self, x: Tensor) -> Tensor:
        return x


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x + y).mean((2, 3))


class Features(nn.Module):
    """A backbone: its last feature map is what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Broken(SmallNet):
    """Has a weight that is no number."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.fc.weight[0, 0] = float("nan")


class Boxes(nn.Module):
    """A detector: boxes and labels for each picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"boxes": self.conv(x).flatten(2), "labels": torch.ones(7, dtype=torch.int64)}


def hdf5() -> bytes:
    return b"\x89HDF\r\n\x1a\n" + bytes(64)


def truncated() -> bytes:
    return saved(SmallNet().state_dict())[:900]


def damaged_safetensors() -> bytes:
    return safetensors.torch.save(SmallNet().state_dict())[:-9]


def damaged_script(path: Path) -> None:
    script(SmallNet())(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content if "/code/" not in name else b"fed forward(")


class Estimator:
    """Stands for a fitted model of another library."""


BATCH = torch.rand(2, 3, 16, 16)
ONE = {"size": "16", "mean": "0,0,0", "std": "1,1,1"}

PATHS = {
    "nothing there": Refused("gone.pt", lambda path: None, "There is no model file"),
    "a web address": Refused("", b"", "is a web address; download the file first"),
    "an empty file": Refused("m.pt", b"", "is empty; copy or download it again"),
    "an empty folder": Refused("m", folder(), "holds no model file; give"),
    "a folder of files": Refused("m", folder(weights__pt="x"), "name a file inside it, .*weights"),
    "a SavedModel": Refused("m", folder(saved_model__pb="x"), "TensorFlow; convert it to ONNX"),
    "a Core ML package": Refused("m.mlpackage", folder(Manifest__json="{}"), "Core ML.*; give the"),
}

FORMATS = {
    "a PNG picture": Refused("m.png", picture("PNG"), "PNG picture, .*the model comes first"),
    "a JPEG picture": Refused("m.pt", picture("JPEG"), "JPEG picture, .*the model comes first"),
    "a PDF": Refused("m.pdf", b"%PDF-1.7\n", "a PDF document, .*; give"),
    "a web page": Refused("m.pt", b"<!DOCTYPE html>\n<html>", "a web page, .*download the file"),
    "a JSON answer": Refused("m.pt", b'{"error": "not found"}', "a text file, .*; give"),
    "a Git LFS pointer": Refused("m.pt", b"version https://git-lfs.x\n", "run 'git lfs pull'"),
    "gzip": Refused("m.pt.gz", gzip.compress(b"weights"), "compressed with gzip, .*unpack it"),
    "a zip of pictures": Refused("m.zip", archive("a.png"), "zip archive that holds no PyTorch"),
    "Keras in HDF5": Refused("m.h5", hdf5(), "HDF5 file .Keras.*convert it to ONNX"),
    "Keras": Refused("m.keras", archive("config.json", "model.weights.h5"), "Keras .*ONNX"),
    "TensorFlow Lite": Refused("m.tflite", b"\x1c\0\0\0TFL3\0\0", "Lite model, .*ONNX"),
    "Core ML": Refused("m.mlmodel", b"\x08\x04\x12\x1a\x0a\x04data" + bytes(9), "Core ML"),
    "OpenVINO": Refused("m.xml", b'<?xml version="1.0"?>\n<net name="m">', "OpenVINO.*ONNX"),
    "PaddlePaddle": Refused(
        "m.pdmodel", b"\n\x9d\x01\x08\0\x10\xff" + b"feed", "Paddle.*paddle2onnx"
    ),
    "Flax": Refused("m.msgpack", b"\x81\xa6params\x82", "MessagePack.*Flax.*; "),
    "TensorRT": Refused("m.engine", b"ftrt\0\0\0\0", "TensorRT engine, .*; export the PyTorch"),
    "ExecuTorch": Refused("m.pte", b"\x1c\0\0\0ET12\0\0", "ExecuTorch program, .*; export the"),
    "GGUF": Refused("m.gguf", b"GGUF\x03\0\0\0", "a GGUF file, .*; give"),
    "a NumPy array": Refused("m.npy", b"\x93NUMPY\x01\0", "NumPy array, .*; give"),
    "NumPy arrays": Refused("m.npz", arrays(), "archive of NumPy arrays, .*; give"),
    "noise": Refused("m.bin", bytes(range(200, 256)), "unknown format, .*; give"),
    "compiled code": Refused(
        "m.pt2", archive("m/archive_format", "m/data/aotinductor/model/a.so"), "compiled .*; export"
    ),
    "a program of old": Refused(
        "m.pt2", archive("serialized_exported_program.json", "version"), "2.7 and before; export it"
    ),
}

CHECKPOINTS = {
    "a truncated download": Refused("m.pt", truncated(), "incomplete or damaged.*download it"),
    "truncated tensors": Refused("m.safetensors", damaged_safetensors(), "damaged.*download"),
    "a pickled object": Refused("m.pkl", pickle.dumps(Estimator()), "a pickle .*--trust-pickle"),
    "a pickled network": Refused("m.pt", saved(SmallNet()), "SmallNet.*--trust-pickle"),
    "arrays in a pickle": Refused("m.pkl", pickle.dumps({"w": np.ones(3)}), "a pickle .*; save"),
    "an optimizer alone": Refused(
        "m.pt", saved({"optimizer": {"state": {}, "param_groups": []}}), "weights|state dict"
    ),
    "numbers alone": Refused("m.pt", saved({"epoch": 3, "loss": 0.1}), "; "),
    "an adapter": Refused(
        "adapter_model.safetensors",
        safetensors.torch.save({"base_model.model.q.lora_A.weight": torch.ones(2, 4)}),
        "adapter|LoRA|architecture",
    ),
    "no head": Refused("m.pt", without_head, "head|classif"),
    "a detector's weights": Refused("m.pt", of_a_detector(), "no known architecture.*--arch"),
    "quantised weights": Refused("m.pt", quantised(), "quantised weights, .*; save"),
    "another architecture": Refused(
        "m.pt", squeezenet, "does not fit torchvision:vgg11.*--arch",
        options={"arch": "torchvision:vgg11"},
    ),
    "an architecture that is none": Refused(
        "m.pt", squeezenet, "Unknown torchvision classifier 'resnet19'", UsageError,
        options={"arch": "torchvision:resnet19"},
    ),
}  # fmt: skip


def optimised(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).eval())
        torch.jit.optimize_for_inference(module).save(str(path))


PROGRAMS = {
    "optimised for inference": Refused("m.pt", optimised, "save it without optimize_for"),
    "a damaged script": Refused("m.pt", damaged_script, "damaged; copy or download it again"),
    "no forward": Refused("m.pt", script(NoForward()), "no forward method; save it with one"),
    "a trace in training": Refused("m.pt", trace(SmallNet().train(), BATCH), "eval.. and trace"),
    "two inputs": Refused("m.pt2", program(Two(), BATCH, BATCH), "takes .*; export it with one"),
    "two inputs of a script": Refused("m.pt", script(Two()), "inputs x, y, .*; save it"),
    "channels last": Refused(
        "m.pt2", program(nn.Flatten(), torch.rand(1, 32, 32, 3)), "channels last, .*; export it"
    ),
    "whole numbers": Refused(
        "m.pt2", program(nn.Flatten(), torch.ones(1, 3, 8, 8, dtype=torch.int64)), "int64.*export"
    ),
    "a program in training": Refused(
        "m.pt2", program(SmallNet().train(), BATCH), "training mode.*model.eval.. and export"
    ),
    "a description that is none": Refused(
        "m.pt2",
        program(SmallNet().eval(), BATCH, extra_files={"reportgen.json": '{"head": "soft"}'}),
        "reportgen.json in .* cannot be used: 'head'",
    ),
}

OUTPUTS = {
    "a backbone": Refused("m.pt", script(Features()), "feature map", options=ONE),
    "a detector": Refused("m.pt", script(Boxes()), "'boxes' of shape", options=ONE),
    "no numbers": Refused("m.pt", script(Broken().eval()), "NaN.*check its weights", options=ONE),
    "labels of another model": Refused(
        "m.pt", script(SmallNet().eval()), "2 labels, but the model has 5", UsageError,
        options={**ONE, "labels": "LABELS"},
    ),
    "a size that does not fit": Refused(
        "m.pt", trace(nn.Sequential(nn.Conv2d(3, 2, 9), nn.Flatten(), nn.Linear(128, 3)), BATCH),
        "does not accept a picture of 8x8 pixels; give the size", options={"size": "8"},
    ),
    "means of another model": Refused(
        "m.pt", script(SmallNet().eval()), "takes 3 channel.s., but mean has 1", UsageError,
        options={"size": "16", "mean": "0.5", "std": "0.5"},
    ),
}  # fmt: skip

FOLDERS = {
    "no config": Refused("hf:m", folder(model__safetensors="x"), "without config.json"),
    "not in the cache": Refused("hf:owner/name", lambda path: None, "not in the cache.*--allow"),
    "a config alone": Refused("m", folder(config__json=config(model_type="vit")), "no weights"),
    "code of its own": Refused(
        "m", folder(config__json=config(auto_map={"AutoModel": "a.B"})), "its own code.*never run"
    ),
    "an unknown type": Refused(
        "m", folder(config__json=config(model_type="my"), model__safetensors=""), "'my'.*; "
    ),
    "a text model": Refused(
        "m", transformers_folder("BertForSequenceClassification", "BertConfig", **BERT), "Bert"
    ),
    "a base model": Refused("m", transformers_folder("ViTModel", "ViTConfig", **VIT), "ViTModel"),
    "a masked model": Refused(
        "m", transformers_folder("ViTForMaskedImageModeling", "ViTConfig", **VIT), "Masked"
    ),
}

REFUSED = {**PATHS, **FORMATS, **CHECKPOINTS, **PROGRAMS, **OUTPUTS, **FOLDERS}


def written(refused: Refused, where: Path) -> str:
    """Write what is refused into a folder, and return what a user would call it."""
    place, _, name = refused.name.rpartition(":")
    path = where / name
    if isinstance(refused.content, bytes):
        if name:
            path.write_bytes(refused.content)
    else:
        refused.content(path)
    if place:
        return f"{place}:{path}" if path.exists() else refused.name
    return str(path) if name else "https://example.org/model.pt"


def refusal(source: str, options: Mapping[str, Any]) -> ReportgenError:
    """Return the error for a model, after checking that it is one for a reader."""
    chosen = {"methods": "saliency", "metrics": "", **options}
    with pytest.raises(ReportgenError) as caught:
        reportgen.explain(source, PIXELS, chosen)
    check_sentence(str(caught.value))
    return caught.value


def check_sentence(text: str) -> None:
    """Check that a text is one sentence, or two, for a reader who never saw the code."""
    assert text[0].isupper() or text[0] in "'\"" or text.startswith("reportgen.json"), text
    assert text.endswith("."), text
    assert "\n" not in text and "Traceback" not in text, text
    assert len(re.findall(r"\.\s+[A-Z]", text)) <= 1, text
    assert len(text) < 1300, text  # a list of the known names is long


@pytest.mark.filterwarnings("ignore:.*TypedStorage is deprecated")
@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_in_a_sentence(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused = REFUSED[what]
    source = written(refused, tmp_path)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    options = {
        name: str(tmp_path / "labels.txt") if value == "LABELS" else value
        for name, value in refused.options.items()
    }
    error = refusal(source, options)
    assert type(error) is refused.error
    assert error.exit_code == (3 if refused.error is ModelError else 2)
    assert re.search(refused.words, str(error), re.S), str(error)
    if what not in OUTPUTS and refused.error is ModelError:
        assert Path(source.removeprefix("hf:")).name in str(error), str(error)


def test_what_can_be_opened_is_not_refused(tmp_path: Path) -> None:
    script(SmallNet().eval())(tmp_path / "m.pt")
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        refusal(str(tmp_path / "m.pt"), ONE)


@pytest.mark.parametrize(
    "text",
    ["no capital.", "No end", "Two\nlines.", "One. Two. Three. Four.", "Traceback (most)."],
)
def test_a_text_that_is_no_sentence_is_seen(text: str) -> None:
    with pytest.raises(AssertionError):
        check_sentence(text)
