"""GoogLeNet and Inception v3: whether the weights want their input re-normalised is assumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reportgen.classifier.architectures import Recognised
from reportgen.classifier.classifier import Classifier, classifier_from
from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import Hints, Known, combine
from reportgen.classifier.published import find_published, published_hints
from reportgen.classifier.sidecar import described, embedded_hints, flag_hints, sidecar_hints
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.config import Config
from reportgen.errors import UsageError

ensure_torchvision()

from torchvision import models  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONFIG = Config(size="64", folding=False, device="cpu")
PIXELS = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Return a GoogLeNet as torchvision builds it for training: it does not re-normalise."""
    torch.manual_seed(0)
    found: nn.Module = models.googlenet(num_classes=4, aux_logits=False, init_weights=False)
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of these pictures, or all scores come out alike
    with torch.no_grad():
        found((PIXELS - 0.5) * 4)
    return found.eval()


@pytest.fixture
def file(network: nn.Module, tmp_path: Path) -> Path:
    torch.save(network.state_dict(), tmp_path / "net.pt")
    return tmp_path / "net.pt"


def expected(network: nn.Module, pixels: Tensor) -> Tensor:
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    with torch.inference_mode():
        found: Tensor = network((pixels - mean) / std).softmax(1)
    return found


@contextmanager
def ready(file: Path) -> Iterator[Classifier]:
    given = combine(flag_hints(CONFIG), sidecar_hints(file))
    with classifier_from(open_model(file), given, CONFIG) as classifier:
        yield classifier


def test_a_state_dict_does_not_tell_which_is_listed_as_assumed(
    file: Path, network: nn.Module
) -> None:
    with ready(file) as classifier:
        record, found = classifier.record, classifier.probabilities(PIXELS)
    assert record.transform_input is True
    assert record.preprocessing_sources["transform_input"] == "assumed"
    (note,) = (note for note in record.notes if "transform_input" in note)
    assert "was assumed. If they were trained without it, write transform_input = false" in note
    assert (found - expected(network, PIXELS)).abs().max() > 1e-3


def test_model_toml_says_otherwise(file: Path, network: nn.Module) -> None:
    file.with_name("model.toml").write_text("transform_input = false\n", encoding="utf-8")
    with ready(file) as classifier:
        record, found = classifier.record, classifier.probabilities(PIXELS)
    assert record.transform_input is False
    assert record.preprocessing_sources["transform_input"] == "model.toml"
    assert not any("transform_input" in note for note in record.notes)
    assert (found - expected(network, PIXELS)).abs().max() < 1e-5


def test_model_toml_confirms(file: Path) -> None:
    file.with_name("model.toml").write_text("transform_input = true\n", encoding="utf-8")
    with ready(file) as classifier:
        assert classifier.record.preprocessing_sources["transform_input"] == "model.toml"
        assert not any("transform_input" in note for note in classifier.record.notes)


def test_a_network_without_the_switch_cannot_be_told(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(models.mobilenet_v3_small(num_classes=4).state_dict(), path)
    path.with_name("model.toml").write_text("transform_input = false\n", encoding="utf-8")
    with pytest.raises(UsageError, match="only GoogLeNet and Inception v3"), ready(path):
        pass


def test_a_packed_file_keeps_the_assumption(file: Path) -> None:
    with ready(file) as classifier:
        text = json.dumps(described(classifier.record, classifier.evaluator.head))
    assert embedded_hints(text, "m.pt2").transform_input == Known(True, "assumed")


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_of_published_weights_it_is_known(name: str) -> None:
    _, weights = find_published(f"torchvision:{name}")
    found = published_hints(weights, Recognised(name), "weights metadata")
    assert found.transform_input == Known(True, "weights metadata")
    assert published_hints(weights, Recognised(name, 4, 1), "assumed").transform_input is None


def test_of_other_networks_nothing_is_said() -> None:
    _, weights = find_published("torchvision:resnet18")
    assert published_hints(weights, Recognised("resnet18"), "assumed").transform_input is None
    assert Hints().transform_input is None
