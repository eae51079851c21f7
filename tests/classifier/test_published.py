"""Published weights come from torch.hub's cache, and what torchvision says about them is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch

from reportgen.classifier import published
from reportgen.classifier.architectures import Recognised, known_architectures
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.published import (
    cached_file,
    download,
    find_published,
    is_published,
    published_hints,
    torchvision_hints,
)
from reportgen.errors import ModelError, UsageError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
NO_HASH = "0" * 64


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def test_published_weights_are_told_from_files() -> None:
    assert is_published("torchvision:resnet18")
    assert not is_published("resnet18.pt")


@pytest.mark.parametrize(
    ("source", "version"),
    [
        ("torchvision:resnet50", "IMAGENET1K_V2"),
        ("torchvision:resnet50:IMAGENET1K_V1", "IMAGENET1K_V1"),
        ("torchvision:vit_b_16:IMAGENET1K_SWAG_E2E_V1", "IMAGENET1K_SWAG_E2E_V1"),
    ],
)
def test_a_name_finds_its_weights(source: str, version: str) -> None:
    name, weights = find_published(source)
    assert name == source.split(":")[1]
    assert weights.name == version


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("torchvision:resnet19", "Unknown torchvision classifier 'resnet19'; .*resnet18"),
        ("torchvision:resnet18:V9", "Unknown weights of resnet18 'V9'; .*IMAGENET1K_V1"),
    ],
)
def test_an_unknown_name_is_told(source: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_published(source)


def test_weights_in_the_cache_are_read(cache: Path) -> None:
    _, weights = find_published("torchvision:squeezenet1_1")
    assert cached_file(weights).parent == cache
    torch.save({"a": torch.ones(2)}, cached_file(weights))
    assert torch.equal(download(weights, allow_download=False)["a"], torch.ones(2))


class Evil:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


def test_a_planted_file_in_the_cache_runs_no_code(cache: Path) -> None:
    _, weights = find_published("torchvision:squeezenet1_1")
    torch.save({"a": Evil(cache / "proof")}, cached_file(weights))
    with pytest.raises(ModelError):
        download(weights, allow_download=False)
    assert not (cache / "proof").exists()


def test_nothing_is_downloaded_unless_allowed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        pytest.fail("a download was started")

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    _, weights = find_published("torchvision:squeezenet1_1")
    with pytest.raises(ModelError, match=r"SqueezeNet1_1.*not in the cache.*--allow-download"):
        download(weights, allow_download=False)


def test_a_failed_download_is_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    _, weights = find_published("torchvision:squeezenet1_1")
    with pytest.raises(ModelError, match=r"SqueezeNet1_1_Weights.*not in the cache.*no network"):
        download(weights, allow_download=True)


def assumed(recognised: Recognised) -> Hints:
    return torchvision_hints(recognised, NO_HASH)


def test_hints_are_of_the_first_imagenet_weights_and_assumed() -> None:
    hints = assumed(Recognised("resnet50"))
    assert hints.labels is not None
    assert hints.labels.source == "assumed"
    assert (len(hints.labels.value), hints.labels.value[1]) == (1000, "goldfish")
    assert hints == Hints(
        labels=hints.labels,
        resize=Known(256, "assumed"),
        crop=Known((224, 224), "assumed"),
        interpolation=Known("bilinear", "assumed"),
        mean=Known(MEAN, "assumed"),
        std=Known(STD, "assumed"),
    )


@pytest.mark.parametrize("classes", [7, 999, 1001])
def test_other_numbers_of_classes_have_no_labels(classes: int) -> None:
    hints = assumed(Recognised("resnet50", classes))
    assert hints.labels is None
    assert hints.mean == Known(MEAN, "assumed")


def test_other_channels_have_no_mean() -> None:
    hints = assumed(Recognised("resnet50", 1000, 1))
    assert (hints.mean, hints.std) == (None, None)
    assert hints.crop == Known((224, 224), "assumed")


@pytest.mark.parametrize(
    ("recognised", "resize", "crop", "interpolation"),
    [
        (Recognised("inception_v3"), 342, 299, "bilinear"),
        (Recognised("swin_t"), 232, 224, "bicubic"),
        (Recognised("vit_b_16", 1000, 3, 224), 256, 224, "bilinear"),
        (Recognised("vit_b_16", 1000, 3, 384), 384, 384, "bicubic"),
        (Recognised("vit_b_16", 1000, 3, 64), 64, 64, "bilinear"),
        (Recognised("vit_h_14", 1000, 3, 224), 224, 224, "bicubic"),
    ],
)
def test_sizes_suit_the_architecture(
    recognised: Recognised, resize: int, crop: int, interpolation: str
) -> None:
    hints = assumed(recognised)
    assert hints.resize == Known(resize, "assumed")
    assert hints.crop == Known((crop, crop), "assumed")
    assert hints.interpolation == Known(interpolation, "assumed")


@pytest.mark.parametrize("name", known_architectures())
def test_every_classifier_has_hints(name: str) -> None:
    hints = assumed(Recognised(name))
    assert all(getattr(hints, part) for part in ("labels", "resize", "crop", "mean", "std"))


def test_a_published_file_is_known_by_its_hash() -> None:
    _, weights = find_published("torchvision:resnet50:IMAGENET1K_V2")
    digits = re.findall(r"-([0-9a-f]{8})\.pth$", weights.url)[0]
    hints = torchvision_hints(Recognised("resnet50"), digits + NO_HASH[8:])
    assert hints == published_hints(weights, Recognised("resnet50"), "weights metadata")
    assert hints.resize == Known(232, "weights metadata")
    assert assumed(Recognised("resnet50")).resize == Known(256, "assumed")


@pytest.mark.parametrize("name", known_architectures())
def test_every_published_file_has_a_hash_in_its_name(name: str) -> None:
    for weights in published._versions(name):
        assert re.search(r"-[0-9a-f]{8,10}\.pth$", weights.url)


def test_other_architectures_have_no_hints() -> None:
    _, weights = find_published("torchvision:resnet18")
    assert torchvision_hints(None, NO_HASH) == Hints()
    assert published_hints(weights, None, "weights metadata") == Hints()
