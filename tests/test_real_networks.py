"""The whole line on real networks: the formats of one agree, and weights predict as recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from few_samples import TINY, check_close, numbers

import reportgen
from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import Hints
from reportgen.config import load_config
from reportgen.image import open_image
from reportgen.pipeline import made_ready, report_on


def test_the_check_for_closeness_can_fail() -> None:
    with pytest.raises(AssertionError):
        check_close({"a": 0.1}, {"a": 0.2}, 0.01)
    with pytest.raises(AssertionError):
        check_close({"a": 0.1}, {"b": 0.1}, 0.01)


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory, assets: Path) -> Path:
    """Return a folder with MobileNetV2 as state dict, TorchScript and exported program."""
    from reportgen.classifier.torchvision_operators import ensure_torchvision

    ensure_torchvision()
    from torchvision.models import mobilenet_v2

    folder = tmp_path_factory.mktemp("formats")
    weights = torch.load(assets / "weights" / "mobilenet_v2_imagenet.pth", weights_only=True)
    network = mobilenet_v2()
    network.load_state_dict(weights)
    network.eval()
    torch.save(weights, folder / "weights.pth")
    example = torch.rand(2, 3, 96, 96)
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.trace(network, example), folder / "script.pt")
    program = torch.export.export(
        network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, folder / "program.pt2")
    return folder


@pytest.mark.slow
def test_one_network_gives_one_report(formats: Path, assets: Path) -> None:
    picture = assets / "images" / "imagenet" / "n02098286_West_Highland_white_terrier.JPEG"
    same = {
        "size": "96", "resize": 110, "mean": "0.485,0.456,0.406", "std": "0.229,0.224,0.225",
    }  # fmt: skip
    explained = {
        name: reportgen.explain(formats / name, picture, {**TINY, **same})
        for name in ("weights.pth", "script.pt", "program.pt2")
    }
    first = explained.pop("weights.pth")
    assert first.report.model.architecture == "torchvision:mobilenet_v2"
    assert first.report.skipped == ()
    for other in explained.values():
        assert other.report.skipped == ()
        check_close(numbers(first.report), numbers(other.report), 1e-4)


@pytest.mark.parametrize("weights", ["mobilenet_v2", "squeezenet1_1"])
def test_real_weights_are_recognised_and_predict_as_recorded(assets: Path, weights: str) -> None:
    recorded = json.loads((assets / "labels" / "expected_top5.json").read_text())[weights]
    expected = {k: top for k, (top, *_) in recorded.items() if k.startswith("images/imagenet/")}
    opened = open_model(assets / "weights" / f"{weights}_imagenet.pth")
    config = load_config(flags={"methods": "", "metrics": ""})
    with made_ready(opened, Hints(), config) as classifier:
        for name, (_, label, probability, _) in expected.items():
            report, _ = report_on(classifier, open_image(assets / name), config)
            assert report.model.architecture == f"torchvision:{weights}"
            assert report.prediction.top[0].label == label
            assert report.prediction.top[0].probability == pytest.approx(probability, abs=1e-4)


@pytest.mark.parametrize(
    ("file", "factory", "options"),
    [
        ("vit_cifar10.pth", "vit_cifar10", {"size": "32"}),
        ("densenet_bc100_k12_cifar10.pth", "densenet_bc100", {"size": "32"}),
        ("resnet20_cifar10.pth", "resnet20", {"size": "32"}),
        ("mnist_cnn.pth", "mnist_cnn", {"mean": "0.1307", "std": "0.3081"}),
    ],
)
def test_networks_from_a_factory(
    assets: Path, monkeypatch: pytest.MonkeyPatch, file: str, factory: str, options: dict[str, str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    given = {**TINY, **options, "arch": f"factories:{factory}"}
    picture = assets / "images" / "extra" / "horses.jpg"
    report = reportgen.explain(assets / "weights" / file, picture, given).report
    assert report.skipped == ()
    assert report.model.preprocessing.channels == (1 if "mnist" in file else 3)
    assert report.model.preprocessing.crop == ((28, 28) if "mnist" in file else (32, 32))
