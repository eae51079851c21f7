"""A packed model is one safe file that explains itself, or there is none."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import SmallNet
from PIL import Image
from test_cli import Run, check_refused
from test_cli import run as run
from torch import Tensor, nn
from toys import TinyViT, seeded, traced

import reportgen
from reportgen import packing
from reportgen.classifier.black_box import BlackBox
from reportgen.classifier.loading import open_model
from reportgen.errors import ModelError, OutputError
from reportgen.packing import Packed

SAID = {"size": "16x20", "mean": "0.5,0.4,0.3", "std": "0.2,0.3,0.4"}
PICTURE = Image.effect_noise((30, 24), 80).convert("RGB")


def network() -> SmallNet:
    return seeded(SmallNet)


def description(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("/extra/reportgen.json"))
        return json.loads(archive.read(name))


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "labels.txt"
    path.write_text("cat\ndog\nÄffchen\nowl\nrat\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def packed(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    out = tmp_path_factory.mktemp("packed") / "small.pt2"
    said = {**SAID, "labels": str(labels), "temperature": 1.5}
    return reportgen.pack(network(), out, said, PICTURE)


def test_a_graph_with_nodes_called_after_paths_is_packed(tmp_path: Path) -> None:
    onnx_toys = pytest.importorskip("onnx_toys")
    path = onnx_toys.exported(network(), torch.rand(1, 3, 16, 20), tmp_path / "small.onnx")
    parts = [name for name, _ in open_model(path).network.named_children()]
    assert "conv/Conv" in parts
    out = reportgen.pack(path, tmp_path / "small.pt2", SAID, PICTURE).path
    batch = torch.rand(2, 3, 16, 20)
    assert torch.allclose(open_model(out).network(batch), network()(batch), atol=1e-5)


def test_what_was_written_is_told(packed: Packed) -> None:
    assert packed.size == packed.path.stat().st_size
    assert packed.sha256 == open_model(packed.path).file_sha256
    assert packed.fixed_batch is None
    assert "interpolation" in packed.assumed
    assert not {"mean", "std", "crop", "head"} & set(packed.assumed)
    assert packed.pictures == 9
    assert packed.difference <= packing.TOLERANCE
    assert [path.name for path in packed.path.parent.iterdir()] == ["small.pt2"]


def test_the_file_says_what_is_known_and_how_well(packed: Packed) -> None:
    found = description(packed.path)
    sources = found.pop("sources")
    assert (sources["head"], sources["interpolation"]) == ("detected", "assumed")
    assert not {"labels", "mean", "std", "crop"} & set(sources)
    assert found == {
        "labels": ["cat", "dog", "Äffchen", "owl", "rat"],
        "head": "softmax",
        "temperature": 1.5,
        "preprocessing": {
            "channels": 3,
            "resize": [16, 20],
            "crop": [16, 20],
            "interpolation": "bilinear",
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.3, 0.4],
            "channel_order": "rgb",
            "numbers": "float",
        },
    }


def test_the_file_claims_no_more_than_was_known(packed: Packed) -> None:
    record = reportgen.explain(packed.path, PICTURE, {"methods": "saliency", "metrics": ""})
    model = record.report.model
    assert model.architecture == "SmallNet"
    assert not model.trusted_pickle
    assert model.labels.source == "file"
    assert model.head.source == "detected"
    assert model.preprocessing_sources["mean"] == "file"
    assert model.preprocessing_sources["interpolation"] == "assumed"


def test_nothing_of_the_makers_machine_is_inside(packed: Packed) -> None:
    with zipfile.ZipFile(packed.path) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert str(Path(__file__).parent).encode() not in content


QUICK = {
    "methods": "gradcam,saliency,integrated-gradients",
    "metrics": "",
    "ig_steps": 8,
    "target": "1",
}


@pytest.mark.parametrize("make", [SmallNet, TinyViT])
def test_what_it_explains_equals_the_original(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    said = {"size": "16", "mean": "0,0,0", "std": "1,1,1"}
    before = seeded(make)
    state = copy.deepcopy(before.state_dict())
    path = reportgen.pack(before, tmp_path / "m.pt2", said).path
    original = reportgen.explain(before, PICTURE, {**said, **QUICK})
    found = reportgen.explain(path, PICTURE, QUICK)
    for one, other in zip(original.report.prediction.top, found.report.prediction.top, strict=True):
        assert one.index == other.index
        assert abs(one.probability - other.probability) <= 1e-4
    assert {"map.gradcam", "map.saliency", "map.integrated-gradients"} <= set(found.arrays)
    for name in found.arrays:
        if name.startswith("map."):
            scale = abs(original.arrays[name]).max()
            assert scale > 0
            assert abs(original.arrays[name] - found.arrays[name]).max() <= 1e-4 * scale
    assert all(torch.equal(before.state_dict()[key], state[key]) for key in state)
    assert not before.training


class Named(nn.Module):
    """Returns its scores in a dictionary, behind features."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SmallNet()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"features": x.mean((2, 3)), "logits": self.network(x)}


def test_of_several_outputs_the_class_scores_are_packed(tmp_path: Path) -> None:
    path = reportgen.pack(seeded(Named), tmp_path / "m.pt2", SAID).path
    batch = torch.rand(2, 3, 16, 20)
    opened = open_model(path)
    assert opened.architecture == "Named"
    found = opened.network(batch)
    assert torch.allclose(found, seeded(Named)(batch)["logits"], atol=1e-6)


class ByTheBatch(nn.Module):
    """Goes through the pictures one by one in Python, so that their number is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SmallNet()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.network(picture[None]) for picture in x])


def test_a_network_that_fixes_the_batch_is_packed_for_single_pictures(tmp_path: Path) -> None:
    packed = reportgen.pack(seeded(ByTheBatch), tmp_path / "m.pt2", SAID)
    assert packed.fixed_batch == 1
    assert open_model(packed.path).fixed_batch == 1


@pytest.mark.parametrize("form", ["TorchScript", "packed", "state dict"])
def test_files_are_packed_as_modules_are(form: str, packed: Packed, tmp_path: Path) -> None:
    path, said = tmp_path / "m.pt", SAID
    if form == "TorchScript":
        traced(network(), (3, 16, 20)).save(str(path))
    elif form == "packed":
        path, said = packed.path, {}
    else:
        torch.save(network().state_dict(), path)
        said = {**SAID, "arch": "factories:small_net"}
    again = reportgen.pack(path, tmp_path / "again.pt2", said)
    assert again.fixed_batch is None
    opened, batch = open_model(again.path), torch.rand(3, 3, 16, 20)
    assert torch.allclose(opened.network(batch), network()(batch), atol=1e-6)
    assert len(list(opened.network.parameters())) == len(list(network().parameters()))
    if form == "packed":
        assert description(again.path) == description(packed.path)


def test_a_file_of_another_kind_is_not_replaced(packed: Packed, tmp_path: Path) -> None:
    for content in (b"my thesis", b"PK\x03\x04 half an archive"):
        (tmp_path / "m.pt2").write_bytes(content)
        with pytest.raises(OutputError, match=r"m\.pt2' exists and is no packed model"):
            reportgen.pack(network(), tmp_path / "m.pt2", SAID)
        assert (tmp_path / "m.pt2").read_bytes() == content
    with pytest.raises(OutputError, match="exists and is no packed model"):
        reportgen.pack(network(), tmp_path, SAID)


def test_a_packed_file_is_replaced_and_folders_are_made(packed: Packed, tmp_path: Path) -> None:
    out = tmp_path / "new" / "m.pt2"
    out.parent.mkdir()
    out.write_bytes(packed.path.read_bytes())
    reportgen.pack(network(), out, SAID)
    assert "temperature" not in description(out)
    reportgen.pack(network(), tmp_path / "deep" / "er" / "m.pt2", SAID)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot be written to .*name another place"):
        reportgen.pack(network(), tmp_path / "file" / "m.pt2", SAID)


def changed(opened: Any) -> Any:
    with torch.no_grad():
        opened.network.get_parameter("fc.bias")[2] += 1e-2
    return opened


def relabelled(opened: Any) -> Any:
    hints = opened.hints
    return replace(opened, hints=replace(hints, mean=replace(hints.mean, value=(0.5, 0.4, 0.2))))


@pytest.mark.parametrize(
    ("plant", "by"), [(changed, r"0\.0"), (relabelled, "inf")], ids=["weight", "mean"]
)
def test_nothing_is_written_where_the_file_differs(
    plant: Callable[[Any], Any], by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "open_model", lambda path: plant(open_model(path)))
    with pytest.raises(ModelError, match=rf"differ from the original's by {by}.*nothing was"):
        reportgen.pack(network(), tmp_path / "m.pt2", SAID)
    assert list(tmp_path.iterdir()) == []


class Undecided(nn.Module):
    """Looks at numbers to decide which code runs, which no program records."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SmallNet()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) if float(x.mean()) > -99 else self.network(-x)


def test_code_that_cannot_be_exported_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be packed, as torch\.export does not take"):
        reportgen.pack(seeded(Undecided), tmp_path / "m.pt2", SAID)
    assert list(tmp_path.iterdir()) == []


def test_half_precision_and_black_boxes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"weights in bfloat16, .*model\.float\(\)"):
        reportgen.pack(network().bfloat16(), tmp_path / "m.pt2", SAID)
    box = BlackBox(network(), "it is a Python function")
    with pytest.raises(ModelError, match="A Python function cannot be packed"):
        reportgen.pack(lambda batch: batch, tmp_path / "m.pt2")
    with pytest.raises(ModelError, match="cannot be packed, because it is a Python function"):
        reportgen.pack(box, tmp_path / "m.pt2", {**SAID, "head": "softmax"})


def test_the_command_packs_and_says_so(run: Run, labels: Path, tmp_path: Path) -> None:
    traced(network(), (3, 16, 20)).save(str(tmp_path / "m.pt"))
    PICTURE.save(tmp_path / "p.png")
    flags = [f"--{name}={value}" for name, value in {**SAID, "labels": labels}.items()]
    out = tmp_path / "packed.pt2"
    outcome = run("pack", tmp_path / "m.pt", tmp_path / "p.png", "-o", out, *flags)
    assert outcome.code == 0, outcome.err
    first, second, third = outcome.out.splitlines()
    sha256 = open_model(out).file_sha256
    assert first == f"{out}: {out.stat().st_size} bytes, SHA-256 {sha256}"
    assert second.startswith("Opened again without trust: on 9 pictures its predictions differ")
    assert third.startswith("Assumed, not known: interpolation")


def test_the_command_refuses_in_one_sentence(run: Run, tmp_path: Path) -> None:
    check_refused(run("pack", tmp_path / "gone.pt"), 3, "There is no model file")
    assert run("pack", "m.pt", "--ig-steps", "3").code == 2
