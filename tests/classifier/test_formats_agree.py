"""The same network says and explains the same, whatever form it is opened from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.export import Dim, export, save
from toys import Normalised, hints, pictures, request, seeded

import reportgen
from reportgen.attribution import METHODS
from reportgen.classifier.classifier import classifier_from
from reportgen.classifier.loading import open_model
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.config import load_config

ensure_torchvision()

SHAPE = (3, 32, 32)
TARGET = 1
LEAST = 0.999
MOST = 1e-4
CHOSEN = load_config(
    flags={"device": "cpu", "ig_steps": 8, "ig_doublings": 0, "lime_samples": 40, "shap_evals": 40}
)
EXPLAINED = ("gradcam", "integrated-gradients", "saliency", "shap", "lime")

Maps = Mapping[str, Tensor]
Write = Callable[[nn.Module, Path], Path]


def cnn() -> nn.Module:
    return Normalised()


def vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    network = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3)
    nn.init.normal_(network.heads.head.weight)  # zeros, before training
    return network


def convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]
    return ConvNeXt(blocks, layer_scale=1.0, num_classes=3)


def hf_vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=32, patch_size=8, num_labels=3, initializer_range=0.3,
    )  # fmt: skip
    return ViTForImageClassification(config)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cnn": cnn,
    "vit": vit,
    "convnext": convnext,
    "hf_vit": hf_vit,
}
# Weights with which the layer that proves itself exists in every form: ONNX has no place between a
# convolution and its batch normalisation, and some random networks pass at no layer.
SEEDS = {"cnn": 1, "vit": 5, "convnext": 0, "hf_vit": 5}


def made(name: str) -> nn.Module:
    return seeded(NETWORKS[name], SEEDS[name])


def state_dict(network: nn.Module, path: Path) -> Path:
    torch.save(network.state_dict(), path)
    return path


def tensors(network: nn.Module, path: Path) -> Path:
    safetensors.torch.save_file(network.state_dict(), path)
    return path


def trace(network: nn.Module, path: Path) -> Path:
    example = torch.rand(1, *SHAPE)
    torch.jit.trace(network, example, check_trace=False, strict=False).save(str(path))
    return path


def script(network: nn.Module, path: Path) -> Path:
    torch.jit.script(network).save(str(path))
    return path


def dynamic(network: nn.Module, path: Path) -> Path:
    program = export(network, (torch.rand(2, *SHAPE),), dynamic_shapes=({0: Dim.DYNAMIC},))
    save(program, path.with_suffix(".pt2"))
    return path.with_suffix(".pt2")


def fixed(network: nn.Module, path: Path) -> Path:
    save(export(network, (torch.rand(2, *SHAPE),)), path.with_suffix(".pt2"))
    return path.with_suffix(".pt2")


def onnx(network: nn.Module, path: Path) -> Path:
    torch.onnx.export(
        network, (torch.rand(2, *SHAPE),), path.with_suffix(".onnx"), dynamo=True, verbose=False,
        external_data=False, dynamic_shapes=({0: Dim("batch", min=1)},),
    )  # fmt: skip
    return path.with_suffix(".onnx")


def packed(network: nn.Module, path: Path) -> Path:
    said = {"size": "32", "mean": "0,0,0", "std": "1,1,1"}
    return reportgen.pack(network, path.with_suffix(".pt2"), said).path


def folder(network: nn.Module, path: Path) -> Path:
    network.save_pretrained(path.with_suffix(""))  # type: ignore[operator]
    return path.with_suffix("")


class Scores(nn.Module):
    """A network of transformers that returns the logits alone, as scripts of people do."""

    def __init__(self) -> None:
        super().__init__()
        self.network = hf_vit()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x).logits
        return logits


WRITERS: dict[str, Write] = {
    "state dict": state_dict,
    "safetensors": tensors,
    "TorchScript traced": trace,
    "TorchScript scripted": script,
    "program, any batch": dynamic,
    "program, fixed batch": fixed,
    "ONNX": onnx,
    "packed": packed,
}
# Networks of transformers cannot be scripted, and return no tensor.
OF_TRANSFORMERS: dict[str, Write] = {
    "folder": folder,
    "TorchScript traced": lambda _, path: trace(seeded(Scores, SEEDS["hf_vit"]), path),
    "program, any batch": lambda _, path: dynamic(seeded(Scores, SEEDS["hf_vit"]), path),
    "packed": packed,
}
PAIRS = [
    *((name, form) for name in ("cnn", "vit", "convnext") for form in WRITERS),
    *(("hf_vit", form) for form in OF_TRANSFORMERS),
]
# To export a transformer takes seconds.
SLOW = {("vit", "ONNX"), ("vit", "packed"), ("convnext", "ONNX"), ("convnext", "packed")}
CASES = [pytest.param(*pair, marks=[pytest.mark.slow] * (pair in SLOW)) for pair in PAIRS]


def explained(source: Path | nn.Module, arch: str = "") -> tuple[Tensor, Maps]:
    """Return probabilities, and the map of each method, of a model as it is opened."""
    pixels = pictures(2, *SHAPE)
    opened = open_model(source, arch)
    with classifier_from(opened, hints(SHAPE, "softmax"), CHOSEN) as classifier:
        asked = request(classifier, pixels[:1], TARGET, CHOSEN)
        maps = {name: METHODS[name].explain(asked).maps[0].detach() for name in EXPLAINED}
        return classifier.probabilities(pixels), maps


@cache
def original(name: str) -> tuple[Tensor, Maps]:
    return explained(made(name))


def check_agrees(found: tuple[Tensor, Maps], expected: tuple[Tensor, Maps]) -> None:
    apart = (found[0] - expected[0]).abs().max()
    assert apart <= MOST, f"predictions differ by {apart:.2g}"
    for name in EXPLAINED:
        correlation = spearmanr(found[1][name].flatten(), expected[1][name].flatten()).statistic
        assert correlation >= LEAST, f"{name}: rank correlation {correlation:.4f}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_form_agrees_with_the_network(name: str, form: str, tmp_path: Path) -> None:
    network = made(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters
        writer = OF_TRANSFORMERS[form] if name == "hf_vit" else WRITERS[form]
        path = writer(network, tmp_path / "model.pt")
    arch = f"{__name__}:{name}" if form in ("state dict", "safetensors") else ""
    check_agrees(explained(path, arch), original(name))


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_a_network_that_differs_is_seen(name: str) -> None:
    network = made(name)
    with torch.no_grad():
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        last.bias[TARGET] += 1
    with pytest.raises(AssertionError, match="predictions differ by"):
        check_agrees(explained(network), original(name))


def test_another_map_is_seen() -> None:
    probabilities, maps = original("cnn")
    for name in EXPLAINED:
        with pytest.raises(AssertionError, match=f"{name}: rank correlation"):
            turned = {**maps, name: maps[name].flip(0)}
            check_agrees((probabilities, turned), original("cnn"))
