"""Folders that timm wrote, and its published weights, are opened as timm opens them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from reportgen.classifier.inputs import preprocessing_of
from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.normalisation import normalisation_of
from reportgen.classifier.opened import Opened
from reportgen.classifier.preprocessing import prepare
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import ModelError, UsageError

ensure_torchvision()

timm = pytest.importorskip("timm")

SMALL = "test_resnet"
DATA: dict[str, Any] = {"input_size": (3, 64, 64), "crop_pct": 0.875}


def saved(
    path: Path, name: str = SMALL, data: Mapping[str, Any] = DATA, **options: Any
) -> nn.Module:
    """Save a small network as timm does, and return it."""
    from timm.models import save_for_hf

    torch.manual_seed(0)
    network: nn.Module = timm.create_model(name, **{"num_classes": 3, **options}).eval()
    network.pretrained_cfg.update(data)  # type: ignore[union-attr, operator]
    save_for_hf(network, path, model_config={}, safe_serialization=True)
    return network


def edit(path: Path, **entries: object) -> dict[str, Any]:
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config.update(entries)
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return dict(config)


def same(opened: Opened, network: nn.Module, channels: int = 3) -> bool:
    batch = torch.rand(2, channels, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.equal(opened.network(batch), network(batch))


def picture(width: int, height: int) -> Image.Image:
    cells = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(cells)


@pytest.mark.parametrize("name", [SMALL, "test_vit", "test_efficientnet", "test_convnext"])
def test_a_folder_is_opened(tmp_path: Path, name: str) -> None:
    options = {"img_size": 64} if name == "test_vit" else {}
    network = saved(tmp_path / "mine", name, **options)
    opened = open_model(tmp_path / "mine")
    assert (opened.name, opened.format) == ("mine", "Hugging Face folder")
    assert opened.architecture == f"timm:{name}"
    assert not opened.network.training
    assert opened.notes == ()
    assert same(opened, network)
    assert same(open_model(f"hf:{tmp_path / 'mine'}"), network)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("mode", "crop_pct", "resize"),
    [("center", 0.875, 73), ("center", 1.0, 64), ("squash", 0.9, (71, 71))],
)
def test_pictures_are_prepared_as_by_timm(
    tmp_path: Path, interpolation: str, mode: str, crop_pct: float, resize: object
) -> None:
    data = {**DATA, "interpolation": interpolation, "crop_mode": mode, "crop_pct": crop_pct}
    network = saved(tmp_path, data=data)
    opened = open_model(tmp_path)
    assert opened.hints.resize == Known(resize, "file")  # type: ignore[arg-type]
    from timm.data import create_transform, resolve_data_config

    transform = create_transform(**resolve_data_config(model=network))
    preprocessing = preprocessing_of(opened.hints)
    for shown in (picture(120, 80), picture(80, 131), picture(50, 50)):
        found = normalisation_of(preprocessing)(prepare(shown, preprocessing).pixels)
        assert torch.equal(found, transform(shown))


@pytest.mark.parametrize(
    "data",
    [
        {"crop_mode": "border"},
        {"input_size": (3, 64, 96)},
        {"interpolation": "lanczos"},
    ],
)
def test_what_is_approximated_is_told(tmp_path: Path, data: Mapping[str, Any]) -> None:
    saved(tmp_path, data={**DATA, **data})
    assert "which is approximated" in open_model(tmp_path).notes[0]


def test_labels_are_read(tmp_path: Path) -> None:
    saved(tmp_path)
    assert open_model(tmp_path).hints.labels is None
    edit(tmp_path, label_names=["n1", "n2", "n3"])
    assert open_model(tmp_path).hints.labels == Known(("n1", "n2", "n3"), "file")
    edit(tmp_path, label_descriptions={"n1": "cat", "n3": "owl"})
    assert open_model(tmp_path).hints.labels == Known(("cat", "n2", "owl"), "file")


def test_a_thousand_classes_are_assumed_to_be_imagenets(tmp_path: Path) -> None:
    saved(tmp_path, num_classes=1000)
    labels = open_model(tmp_path).hints.labels
    assert labels is not None
    assert (labels.value[1], labels.source) == ("goldfish, Carassius auratus", "assumed")


def test_a_grey_network_keeps_its_channel(tmp_path: Path) -> None:
    network = saved(tmp_path, in_chans=1)
    opened = open_model(tmp_path)
    assert opened.hints.channels == Known(1, "file")
    assert same(opened, network, channels=1)


def test_no_weight_is_random(tmp_path: Path) -> None:
    saved(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if "fc" not in k}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"cannot be opened; check that its files.*\(timm says: "):
        open_model(tmp_path)


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    edit(tmp_path, num_classes=5, model_args={"num_classes": 5})
    with pytest.raises(ModelError, match="cannot be opened; check that its files belong together"):
        open_model(tmp_path)


@pytest.mark.parametrize(
    "name", ["hf-hub:test_resnet", "local-dir:/somewhere", "unheard_of", "unheard_of.tag"]
)
def test_an_architecture_cannot_lead_elsewhere(tmp_path: Path, name: str) -> None:
    saved(tmp_path)
    edit(tmp_path, architecture=name)
    with pytest.raises(ModelError, match=f"of the architecture '{name}', which the installed timm"):
        open_model(tmp_path)


def test_a_configuration_cannot_name_other_weights(tmp_path: Path) -> None:
    network = saved(tmp_path)
    other = {name: torch.zeros_like(t) for name, t in network.state_dict().items()}
    torch.save(other, tmp_path / "other.bin")
    places = {"file": str(tmp_path / "other.bin"), "hf_hub_id": "owner/name", "source": "hf-hub",
              "url": "https://example.org/x.pth", "custom_load": True}  # fmt: skip
    config = edit(tmp_path, model_args={"num_classes": 3, "checkpoint_path": places["file"],
                                        "pretrained_cfg": places})  # fmt: skip
    edit(tmp_path, pretrained_cfg={**config["pretrained_cfg"], **places})
    assert same(open_model(tmp_path), network)


def test_pickles_need_trust(tmp_path: Path) -> None:
    network = saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"as a pickle \(pytorch_model.bin\) alone"):
        open_model(tmp_path)
    opened = open_model(tmp_path, trust_pickle=True)
    assert opened.trusted_pickle
    assert same(opened, network)


def test_coarser_weights_become_float32(tmp_path: Path) -> None:
    network = saved(tmp_path)
    tensors = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    save_file(tensors, tmp_path / "model.safetensors")
    opened = open_model(tmp_path)
    assert opened.notes == ("Weights in float16 were converted to float32.",)
    assert same(opened, network.half().float())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_published_weights_are_opened_from_the_cache(cache: Path) -> None:
    published = timm.get_pretrained_cfg(SMALL)
    repository = cache / f"models--{published.hf_hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123", encoding="utf-8")
    network = saved(repository / "snapshots" / "abc123", data={}, num_classes=1000)
    opened = open_model(f"timm:{SMALL}")
    assert (opened.name, opened.format) == (f"timm:{SMALL}.{published.tag}", "published weights")
    assert opened.notes == ("Commit abc123 on the hub.",)
    assert opened.hints.labels is not None
    assert opened.hints.labels.source == "weights metadata"
    assert same(opened, network)
    assert opened.hints == open_model(f"timm:{SMALL}.{published.tag}").hints


def test_published_weights_are_not_fetched_unasked(cache: Path) -> None:
    with pytest.raises(ModelError, match=r"not in the cache of the Hugging Face hub.*--allow-down"):
        open_model(f"timm:{SMALL}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnt18", "timm has no classifier 'resnt18'; the nearest are: .*resnet18"),
        ("resnet18.nothing_in1k", r"no classifier 'resnet18.nothing_in1k'; .*resnet18\.a"),
    ],
)
def test_an_unknown_name_is_told(cache: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_model(f"timm:{name}")


def test_without_timm_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path)
    monkeypatch.setitem(sys.modules, "timm", None)
    for source in (str(tmp_path), "timm:resnet18"):
        with pytest.raises(ModelError, match=r"needs timm.*pip install 'reportgen\[timm\]'"):
            open_model(source)


def test_the_hints_are_complete(tmp_path: Path) -> None:
    saved(tmp_path)
    hints = open_model(tmp_path).hints
    left = {name for name in ("channels", "resize", "crop", "interpolation", "mean", "std")
            if getattr(hints, name) is None}  # fmt: skip
    assert left == set()
    assert isinstance(hints, Hints)
