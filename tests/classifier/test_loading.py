"""Whatever a user calls a model is opened: real files, with all that they say about themselves."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import safetensors.torch
import torch
from factories import MnistCNN, SmallNet
from torch import nn
from torch.export import Dim

from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.opened import Opened
from reportgen.classifier.published import cached_file, find_published
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import ModelError, UsageError

ensure_torchvision()

from torchvision import models  # noqa: E402

SMALL = "factories:small_net"
MEAN = (0.485, 0.456, 0.406)


@pytest.fixture(scope="module")
def mobile() -> nn.Module:
    torch.manual_seed(0)
    return models.mobilenet_v3_small(num_classes=7).eval()


@pytest.fixture(scope="module")
def small() -> SmallNet:
    torch.manual_seed(0)
    return SmallNet(7).eval()


def save(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def save_module(module: nn.Module, path: Path) -> Path:
    return save(module, path)


def script(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made = torch.jit.script(module)
    made.save(str(path), _extra_files={"reportgen.json": '{"labels": ["cat", "dog"]}'})
    return path


def export(module: nn.Module, path: Path) -> Path:
    program = torch.export.export(
        module, (torch.rand(2, 3, 16, 16),), dynamic_shapes=({0: Dim("n", min=1)},)
    )
    metadata = {
        "reportgen.json": '{"preprocessing": {"crop": [12, 12], "resize": 18}, "head": "softmax"}'
    }
    torch.export.save(program, path, extra_files=metadata)
    return path


def same_outputs(opened: Opened, network: nn.Module, side: int = 32) -> bool:
    batch = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.equal(opened.network(batch), network(batch))


def test_the_comparison_of_outputs_sees_another_network(mobile: nn.Module, small: SmallNet) -> None:
    other = copy.deepcopy(small)
    with torch.no_grad():
        other.fc.bias[0] += 1e-3
    assert same_outputs(open_model(small), small)
    assert not same_outputs(open_model(other), small)


def test_a_state_dict_of_torchvision_needs_nothing_else(mobile: nn.Module, tmp_path: Path) -> None:
    path = save(mobile.state_dict(), tmp_path / "anything.bin")
    opened = open_model(path)
    assert opened.name == "anything.bin"
    assert opened.format == "state dict"
    assert opened.architecture == "torchvision:mobilenet_v3_small"
    assert opened.file_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not opened.network.training
    assert not opened.trusted_pickle
    assert (opened.notes, opened.fixed_batch) == ((), None)
    assert same_outputs(opened, mobile)
    assert opened.hints.channels == Known(3, "file")
    assert opened.hints.mean == Known(MEAN, "assumed")
    assert opened.hints.labels is None


def in_safetensors(network: nn.Module, path: Path) -> Path:
    safetensors.torch.save_file(network.state_dict(), path)
    return path


def without_counters(network: nn.Module, path: Path) -> Path:
    state = network.state_dict()
    return save({k: v for k, v in state.items() if not k.endswith("tracked")}, path)


FORMS: dict[str, Callable[[nn.Module, Path], Path]] = {
    "safetensors": in_safetensors,
    "without batch counters": without_counters,
    "in a checkpoint": lambda net, path: save({"epoch": 3, "state_dict": net.state_dict()}, path),
    "of DataParallel": lambda net, path: save(nn.DataParallel(net).state_dict(), path),
    "compiled": lambda net, path: save(
        {f"_orig_mod.{key}": value for key, value in net.state_dict().items()}, path
    ),
    "of Lightning": lambda net, path: save(
        {"state_dict": {f"model.{k}": v for k, v in net.state_dict().items()}, "epoch": 1}, path
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_state_dict_opens(form: str, mobile: nn.Module, tmp_path: Path) -> None:
    opened = open_model(FORMS[form](mobile, tmp_path / "m.pt"))
    assert opened.architecture == "torchvision:mobilenet_v3_small"
    assert same_outputs(opened, mobile)


def test_the_right_architecture_may_be_named(mobile: nn.Module, tmp_path: Path) -> None:
    path = save(mobile.state_dict(), tmp_path / "m.pt")
    opened = open_model(path, "torchvision:mobilenet_v3_small")
    assert opened.notes == ()
    assert same_outputs(opened, mobile)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_opens_through_a_factory(form: str, small: SmallNet, tmp_path: Path) -> None:
    opened = open_model(FORMS[form](small, tmp_path / "m.pt"), SMALL)
    assert (opened.format, opened.architecture) == ("state dict", SMALL)
    assert same_outputs(opened, small)
    assert opened.hints == Hints(channels=Known(3, "file"))


def test_a_prefix_that_belongs_to_the_network_stays(tmp_path: Path) -> None:
    network = nn.Sequential(OrderedDict(model=SmallNet())).eval()
    path = save(network.state_dict(), tmp_path / "m.pt")
    assert same_outputs(open_model(path, "factories:wrapped"), network)
    seven = nn.Sequential(OrderedDict(model=SmallNet(7))).eval()
    path = save(nn.DataParallel(seven).state_dict(), tmp_path / "m.pt")
    assert same_outputs(open_model(path, "factories:wrapped"), seven)


def test_half_precision_is_converted_and_noted(mobile: nn.Module, tmp_path: Path) -> None:
    half = copy.deepcopy(mobile).half()
    opened = open_model(save(half.state_dict(), tmp_path / "m.pt"))
    assert opened.notes == ("Weights in float16 were converted to float32.",)
    assert same_outputs(opened, half.float())


@pytest.mark.parametrize("write", [script, save_module])
def test_whole_networks_in_half_precision_are_converted_and_noted(
    write: Callable[[nn.Module, Path], Path], small: SmallNet, tmp_path: Path
) -> None:
    half = copy.deepcopy(small).half()
    opened = open_model(write(half, tmp_path / "m.pt"), trust_pickle=True)
    assert opened.notes == ("Weights in float16 were converted to float32.",)
    assert same_outputs(opened, half.float())


def old_densenet(key: str) -> str:
    for part in ("norm1", "norm2", "conv1", "conv2"):
        key = key.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.") if "denselayer" in key else key
    return key


def test_the_old_names_of_densenet_are_accepted(tmp_path: Path) -> None:
    network = models.densenet121(num_classes=3).eval()
    old = {old_densenet(key): value for key, value in network.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    opened = open_model(save(old, tmp_path / "m.pt"))
    assert same_outputs(opened, network)


@pytest.mark.parametrize(
    ("name", "auxiliary"), [("googlenet", False), ("googlenet", True), ("inception_v3", True)]
)
def test_inception_opens_with_and_without_auxiliary_heads(
    name: str, auxiliary: bool, tmp_path: Path
) -> None:
    options = {"aux_logits": auxiliary, "transform_input": True, "init_weights": False}
    network = models.get_model(name, weights=None, num_classes=4, **options).eval()
    opened = open_model(save(network.state_dict(), tmp_path / "m.pt"))
    assert opened.architecture == f"torchvision:{name}"
    assert same_outputs(opened, network, 80)
    assert any("auxiliary heads were left out" in note for note in opened.notes) == auxiliary
    assert opened.hints.transform_input == Known(True, "assumed")


def test_mnasnet_opens_although_safetensors_drop_its_version(tmp_path: Path) -> None:
    network = models.mnasnet0_5(num_classes=4).eval()
    opened = open_model(in_safetensors(network, tmp_path / "m.safetensors"))
    assert same_outputs(opened, network)


def test_regnet_opens_although_it_computes_its_widths_with_tensors(tmp_path: Path) -> None:
    network = models.regnet_x_400mf(num_classes=4).eval()
    opened = open_model(save(network.state_dict(), tmp_path / "m.pt"))
    assert same_outputs(opened, network)


def test_a_grey_variant_opens(mobile: nn.Module, tmp_path: Path) -> None:
    network = models.resnet18(num_classes=10)
    network.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    opened = open_model(save(network.eval().state_dict(), tmp_path / "m.pt"))
    batch = torch.rand(2, 1, 32, 32)
    assert torch.equal(opened.network(batch), network(batch))
    assert opened.hints.channels == Known(1, "file")
    assert opened.hints.mean is None


def test_an_unknown_state_dict_names_what_comes_nearest(tmp_path: Path) -> None:
    network = models.resnet18(num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    path = save(network.state_dict(), tmp_path / "m.pt")
    with pytest.raises(ModelError) as caught:
        open_model(path)
    assert str(caught.value) == (
        f"'{path}' holds a state dict of 102 tensors that fits no known architecture; nearest is "
        "torchvision:resnet18, with 1 of another shape (conv1.weight is 64x3x3x3, not 64x3x7x7); "
        "name its architecture with --arch: torchvision:NAME, timm:NAME, or package.module:factory "
        "for a function of your own code that returns the network."
    )


def test_a_state_dict_unlike_any_names_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"fits no known architecture, nor nearly .*; .*--arch"):
        open_model(save({"blocks.0": torch.ones(2, 2)}, tmp_path / "m.pt"))


def test_a_named_architecture_that_does_not_fit_is_told(mobile: nn.Module, tmp_path: Path) -> None:
    path = save(mobile.state_dict(), tmp_path / "m.pt")
    with pytest.raises(ModelError, match=r"does not fit torchvision:resnet18, with 102 .*\(conv1"):
        open_model(path, "torchvision:resnet18")
    with pytest.raises(ModelError, match="does not fit 'factories:mnist_cnn', with 8 of its"):
        open_model(path, "factories:mnist_cnn")
    with pytest.raises(UsageError, match="Unknown torchvision classifier 'resnet19'"):
        open_model(path, "torchvision:resnet19")


def test_timm_says_how_it_prepares_pictures(
    small: SmallNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm, data = ModuleType("timm"), ModuleType("timm.data")
    timm.create_model = lambda name, pretrained, num_classes=5: SmallNet(num_classes)
    data.resolve_data_config = lambda model: {
        "input_size": (3, 160, 224),
        "crop_pct": 0.9,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.4, 0.4, 0.4],
    }
    data.infer_imagenet_subset = lambda model: None
    data.ImageNetInfo = None
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "timm.data", data)
    opened = open_model(save(small.state_dict(), tmp_path / "m.pt"), "timm:small")
    assert opened.architecture == "timm:small"
    assert same_outputs(opened, small)
    assert opened.hints == Hints(
        channels=Known(3, "file"),
        resize=Known(248, "assumed"),
        crop=Known((160, 224), "assumed"),
        interpolation=Known("bicubic", "assumed"),
        mean=Known((0.5, 0.5, 0.5), "assumed"),
        std=Known((0.4, 0.4, 0.4), "assumed"),
    )


def test_torchscript_opens(small: SmallNet, tmp_path: Path) -> None:
    opened = open_model(script(small, tmp_path / "m.pt"))
    assert (opened.format, opened.architecture) == ("TorchScript", "SmallNet")
    assert opened.hints == Hints(labels=Known(("cat", "dog"), "file"), channels=Known(3, "file"))
    assert same_outputs(opened, small)


def test_an_exported_program_opens(small: SmallNet, tmp_path: Path) -> None:
    opened = open_model(export(small, tmp_path / "m.pt2"))
    assert (opened.format, opened.architecture) == ("exported program", "SmallNet")
    assert opened.fixed_batch is None
    assert opened.hints == Hints(
        head=Known("softmax", "file"),
        channels=Known(3, "file"),
        crop=Known((16, 16), "file"),
        resize=Known(18, "file"),
    )
    assert same_outputs(opened, small, 16)


def test_a_pickled_module_needs_trust(small: SmallNet, tmp_path: Path) -> None:
    path = save(small, tmp_path / "m.pt")
    with pytest.raises(ModelError, match=r"m\.pt' holds 'factories\.SmallNet'.*--trust-pickle"):
        open_model(path)
    opened = open_model(path, trust_pickle=True)
    assert (opened.format, opened.architecture) == ("pickled module", "SmallNet")
    assert opened.trusted_pickle
    assert opened.name == "m.pt"
    assert opened.file_sha256 is not None
    assert opened.hints.channels == Known(3, "file")
    assert same_outputs(opened, small)


class Halved(nn.Module):
    """Pickled without its parts, as PyTorch pickles quantised layers."""

    def __reduce__(self) -> tuple[object, ...]:
        return Halved.__new__, (Halved,)


def test_a_pickle_without_its_parts_is_told(tmp_path: Path) -> None:
    torch.save(Halved(), tmp_path / "model.pt")
    told = r"lacks what its classes need \(AttributeError: .*; save it as TorchScript"
    with pytest.raises(ModelError, match=told):
        open_model(tmp_path / "model.pt", trust_pickle=True)


def test_a_trusted_checkpoint_of_weights_is_a_state_dict(small: SmallNet, tmp_path: Path) -> None:
    path = save({"state_dict": small.state_dict(), "best": {1, 2}.union}, tmp_path / "m.pt")
    opened = open_model(path, SMALL, trust_pickle=True)
    assert (opened.format, opened.trusted_pickle) == ("state dict", True)
    assert same_outputs(opened, small)


def test_trust_is_not_recorded_where_it_was_not_needed(small: SmallNet, tmp_path: Path) -> None:
    paths = save(small.state_dict(), tmp_path / "m.pt"), script(small, tmp_path / "s.pt")
    for path in paths:
        assert not open_model(path, SMALL, trust_pickle=True).trusted_pickle


def test_a_module_is_used_as_it_is(small: SmallNet) -> None:
    network = copy.deepcopy(small).train()
    before = copy.deepcopy(network.state_dict())
    opened = open_model(network)
    assert opened.network is network
    assert network.training
    assert all(torch.equal(network.state_dict()[key], before[key]) for key in before)
    assert (opened.format, opened.name, opened.architecture) == ("module", "SmallNet", "SmallNet")
    assert opened.file_sha256 is None
    assert opened.hints == Hints(channels=Known(3, "argument"))
    assert open_model(MnistCNN()).hints == Hints(channels=Known(1, "argument"))
    assert open_model(nn.Flatten()).hints == Hints()


def test_an_architecture_that_is_not_needed_is_noted(small: SmallNet, tmp_path: Path) -> None:
    for source in (small, script(small, tmp_path / "m.pt")):
        assert open_model(source, SMALL).notes == (
            "The option arch was not used: the model brings its own architecture.",
        )


def test_published_weights_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    network = models.squeezenet1_1().eval()
    _, weights = find_published("torchvision:squeezenet1_1")
    cached_file(weights).parent.mkdir(parents=True)
    path = save(network.state_dict(), cached_file(weights))
    opened = open_model("torchvision:squeezenet1_1")
    assert opened.name == "torchvision:squeezenet1_1:IMAGENET1K_V1"
    assert (opened.format, opened.architecture) == (
        "published weights",
        "torchvision:squeezenet1_1",
    )
    assert opened.file_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert opened.hints.mean == Known(MEAN, "weights metadata")
    assert opened.hints.labels is not None
    assert opened.hints.labels.source == "weights metadata"
    assert same_outputs(opened, network, 64)


def old_form(module: nn.Module, path: Path) -> Path:
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize(
    "write", [FORMS["in a checkpoint"], in_safetensors, old_form, save_module, script, export]
)
def test_a_file_cut_short_anywhere_is_told(
    write: Callable[[nn.Module, Path], Path], small: SmallNet, tmp_path: Path
) -> None:
    path = write(small, tmp_path / "m.pt")
    content = path.read_bytes()
    for kept in range(0, len(content) - 1, len(content) // 16):
        path.write_bytes(content[:kept])
        with pytest.raises(ModelError, match=r"m\.pt'"):
            open_model(path, SMALL, trust_pickle=True)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_missing_file_is_told(kind: type, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no model file"):
        open_model(kind(tmp_path / "gone.pt"))


def test_opening_leaves_the_file_as_it_was(mobile: nn.Module, tmp_path: Path) -> None:
    path = save(mobile.state_dict(), tmp_path / "m.pt")
    before = path.read_bytes()
    opened = open_model(path)
    with torch.no_grad():
        for parameter in opened.network.parameters():
            parameter.zero_()
    assert path.read_bytes() == before


def test_opened_parameters_can_be_trained_and_none_is_left_without_data(
    mobile: nn.Module, tmp_path: Path
) -> None:
    network = open_model(save(mobile.state_dict(), tmp_path / "m.pt")).network
    tensors = [*network.parameters(), *network.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    network(torch.rand(1, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


REAL = {
    "mobilenet_v2_imagenet.pth": "mobilenet_v2",
    "squeezenet1_1_imagenet.pth": "squeezenet1_1",
}


@pytest.mark.parametrize("file", REAL)
def test_real_weights_are_recognised_and_right(file: str, assets: Path) -> None:
    from PIL import Image
    from torchvision.transforms import functional as T

    opened = open_model(assets / "weights" / file)
    assert opened.architecture == f"torchvision:{REAL[file]}"
    assert opened.notes == ()
    labels, mean, std = opened.hints.labels, opened.hints.mean, opened.hints.std
    assert labels is not None
    assert mean is not None
    assert std is not None
    assert (labels.source, len(labels.value)) == ("assumed", 1000)
    with Image.open(assets / "images" / "imagenet" / "n01443537_goldfish.JPEG") as picture:
        pixels = T.to_tensor(T.center_crop(T.resize(picture.convert("RGB"), 256), 224))
    with torch.no_grad():
        scores = opened.network(T.normalize(pixels, mean.value, std.value)[None])
    expected = json.loads((assets / "labels" / "expected_top5.json").read_text())
    best = expected[REAL[file]]["images/imagenet/n01443537_goldfish.JPEG"][0]
    assert int(scores.argmax()) == best[0]
    assert labels.value[best[0]] == "goldfish"


COUNT = 100


def cifar(assets: Path) -> tuple[torch.Tensor, torch.Tensor]:
    with np.load(assets / "cifar10" / "cifar10_jpeg_test_2000.npz") as content:
        images, labels = content["images"][:COUNT], content["labels"][:COUNT]
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 255, torch.from_numpy(labels)


def mnist(assets: Path) -> tuple[torch.Tensor, torch.Tensor]:
    with gzip.open(assets / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, COUNT * 784, offset=16)
    with gzip.open(assets / "mnist" / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, COUNT, offset=8)
    return torch.tensor(images).reshape(-1, 1, 28, 28) / 255, torch.tensor(labels)


IMAGENET = (MEAN, (0.229, 0.224, 0.225))
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


# The accuracy measured on these pictures is 0.68, 0.79, 0.70, 0.63 and 1.00; by chance, 0.1.
@pytest.mark.parametrize(
    ("file", "factory", "pictures", "statistics", "least"),
    [
        ("resnet20_cifar10.pth", "resnet20", cifar, IMAGENET, 0.66),
        ("resnet56_cifar10.pth", "resnet56", cifar, IMAGENET, 0.77),
        ("densenet_bc100_k12_cifar10.pth", "densenet_bc100", cifar, CIFAR, 0.68),
        ("vit_cifar10.pth", "vit_cifar10", cifar, CIFAR, 0.61),
        ("mnist_cnn.pth", "mnist_cnn", mnist, ((0.1307,), (0.3081,)), 0.98),
    ],
)
def test_real_weights_open_through_factories(
    file: str,
    factory: str,
    pictures: Callable[[Path], tuple[torch.Tensor, torch.Tensor]],
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
    least: float,
    assets: Path,
) -> None:
    path = assets / "weights" / file
    with pytest.raises(ModelError, match="fits no known architecture"):
        open_model(path)
    opened = open_model(path, f"factories:{factory}")
    images, labels = pictures(assets)
    mean, std = (torch.tensor(values)[:, None, None] for values in statistics)
    with torch.no_grad():
        found = opened.network((images - mean) / std).argmax(1)
    assert (found == labels).float().mean() > least
    assert opened.hints == Hints(channels=Known(images.shape[1], "file"))
