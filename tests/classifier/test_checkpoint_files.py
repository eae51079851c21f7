"""Checkpoints as people have them open as files, with what they say of themselves."""

from __future__ import annotations

import warnings
from argparse import Namespace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from factories import SmallNet
from torch import nn

from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import Known
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import ModelError, UsageError

ensure_torchvision()

from torchvision import models  # noqa: E402

SMALL = "factories:small_net"
LABELS = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def squeeze() -> nn.Module:
    torch.manual_seed(0)
    return models.squeezenet1_1(num_classes=3).eval()


def save(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def test_a_checkpoint_of_torchvisions_references_needs_no_flag(
    squeeze: nn.Module, tmp_path: Path
) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(squeeze)
    args = Namespace(model="squeezenet1_1", val_crop_size=176, output_dir=Path("out"))
    content = {"model": squeeze.state_dict(), "model_ema": averaged.state_dict(), "args": args}
    opened = open_model(save({**content, "epoch": 3, "optimizer": {}}, tmp_path / "m.pth"))
    assert opened.architecture == "torchvision:squeezenet1_1"
    assert opened.notes == (
        "The weights were read from the entry 'model_ema' of the file, by its name an average over "
        "training; --weights can name another ('model').",
    )
    assert opened.hints.crop == Known((176, 176), "file")
    assert opened.hints.resize == Known(176, "assumed")
    batch = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(opened.network(batch), squeeze(batch))


def test_a_checkpoint_of_timm_needs_no_flag(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("efficientvit_m0", num_classes=3).eval()
    args = Namespace(model="efficientvit_m0.r224_in1k", input_size=(3, 224, 224), crop_pct=0.7)
    content = {"arch": "efficientvit_m0", "state_dict": network.state_dict(), "args": args}
    content["class_to_idx"] = {name: index for index, name in enumerate(LABELS)}
    opened = open_model(save(content, tmp_path / "best.pth.tar"))
    assert opened.architecture == "timm:efficientvit_m0"
    assert opened.hints.labels == Known(LABELS, "file")
    assert opened.hints.resize == Known(320, "file")
    assert opened.hints.mean is not None
    assert opened.hints.mean.source == "assumed"
    batch = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(opened.network(batch), network(batch))


def test_a_checkpoint_of_lightning_needs_no_flag(squeeze: nn.Module, tmp_path: Path) -> None:
    tensors = {f"net.{key}": tensor for key, tensor in squeeze.state_dict().items()}
    content = {
        "epoch": 1,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {**tensors, "criterion.weight": torch.ones(3)},
        "hyper_parameters": {"class_names": list(LABELS), "mean": [0.5], "std": [0.5], "lr": 0.1},
        "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best_model_path": "x.ckpt"}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(9, 9)}}}],
    }
    opened = open_model(save(content, tmp_path / "last.ckpt"))
    assert opened.architecture == "torchvision:squeezenet1_1"
    assert opened.hints.labels == Known(LABELS, "file")
    assert opened.hints.mean == Known((0.5, 0.5, 0.5), "file")


def test_labels_and_colours_that_do_not_suit_the_network_are_left_out(
    squeeze: nn.Module, tmp_path: Path
) -> None:
    content = {"model": squeeze.state_dict(), "classes": ["a", "b"], "mean": [0, 0], "std": [1, 1]}
    opened = open_model(save(content, tmp_path / "m.pth"))
    assert opened.hints.labels is None
    assert opened.hints.mean is not None
    assert opened.hints.mean.source == "assumed"
    assert opened.notes[1:] == (
        "The file lists 2 labels, but the network has no layer with 2 outputs; they were not used.",
        "The file states mean and standard deviation of 2 channels, but the network takes 3; they "
        "were not used.",
    )


@pytest.mark.parametrize(("classes", "used"), [(3, True), (1, False), (5, False)])
def test_labels_need_a_layer_of_as_many_outputs_in_the_users_own_network(
    classes: int, used: bool, tmp_path: Path
) -> None:
    content = {"model": SmallNet(classes).state_dict(), "classes": list(LABELS)}
    opened = open_model(save(content, tmp_path / "m.pth"), SMALL)
    assert (opened.hints.labels == Known(LABELS, "file")) == used


def test_two_labels_suit_one_output(tmp_path: Path) -> None:
    content = {"model": SmallNet(1).state_dict(), "classes": ["no", "yes"]}
    opened = open_model(save(content, tmp_path / "m.pth"), SMALL)
    assert opened.hints.labels == Known(("no", "yes"), "file")


def test_safetensors_with_prefix_and_metadata_open(squeeze: nn.Module, tmp_path: Path) -> None:
    tensors = {f"model.{key}": tensor for key, tensor in squeeze.state_dict().items()}
    path = tmp_path / "m.safetensors"
    safetensors.torch.save_file(tensors, path, {"classes": '["ant", "bee", "cat"]'})
    opened = open_model(path)
    assert opened.architecture == "torchvision:squeezenet1_1"
    assert opened.hints.labels == Known(LABELS, "file")


def test_the_name_of_the_file_chooses_among_those_that_fit(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    tensors = timm.create_model("tf_efficientnet_lite0", num_classes=3).state_dict()
    plain = open_model(save(tensors, tmp_path / "best.pth"))
    assert plain.architecture == "timm:efficientnet_lite0"
    named = open_model(save(tensors, tmp_path / "tf_efficientnet_lite0.in1k.pth"))
    assert named.architecture == "timm:tf_efficientnet_lite0"


def test_the_entry_to_read_may_be_named(tmp_path: Path) -> None:
    first, second = SmallNet().eval(), SmallNet().eval()
    path = save({"model": first.state_dict(), "ema": second.state_dict()}, tmp_path / "m.pt")
    batch = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        for entry, network in {"": second, "model": first, "ema": second}.items():
            opened = open_model(path, SMALL, weights=entry)
            assert torch.equal(opened.network(batch), network(batch))
    with pytest.raises(UsageError, match=r"Unknown entry of weights in '.*': 'x'; .*: ema, model"):
        open_model(path, SMALL, weights="x")


def test_an_entry_that_is_not_needed_is_noted(tmp_path: Path) -> None:
    path = save(SmallNet(), tmp_path / "m.pt")
    assert open_model(path, trust_pickle=True, weights="ema").notes == (
        "The option weights was not used: the model is no checkpoint of several entries.",
    )


def test_a_quantised_file_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weight = torch.quantize_per_tensor(torch.ones(4, 4), 0.1, 0, torch.qint8)
        path = save({"fc.weight": weight, "fc.scale": torch.ones(1)}, tmp_path / "m.pt")
    with pytest.raises(ModelError, match="holds quantised weights"):
        open_model(path)


@pytest.mark.parametrize(
    ("file", "nearest"),
    [
        ("mnist_cnn.pth", "nor nearly"),
        ("resnet20_cifar10.pth", "nearest is torchvision:resnet"),
        ("densenet_bc100_k12_cifar10.pth", "nearest is torchvision:densenet"),
        ("vit_cifar10.pth", "nor nearly"),
    ],
)
def test_networks_of_nobody_elses_name_what_comes_nearest(
    file: str, nearest: str, assets: Path
) -> None:
    with pytest.raises(ModelError, match=f"fits no known architecture.* {nearest}.*--arch: "):
        open_model(assets / "weights" / file)
