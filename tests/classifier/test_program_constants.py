"""Programs run on other devices than they were made on, and in float32 where they were in half."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from factories import SmallNet
from torch import Tensor, fx, nn
from torch.export import Dim, export, save
from toys import TinyViT, seeded

from reportgen.classifier.exported import read_exported
from reportgen.classifier.loading import open_model
from reportgen.classifier.program_constants import on_device
from reportgen.classifier.torchscript import read_torchscript
from reportgen.errors import ModelError

CUDA = b'torch.device("cuda:0")'


class Placed(nn.Module):
    """Makes tensors of its own, on the device of its input, and moves one by name."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SmallNet()

    def forward(self, x: Tensor) -> Tensor:
        scores = self.network(x)
        places = torch.arange(5, device=x.device, dtype=x.dtype)
        return (scores + places).to(torch.device("cpu")) + torch.ones(5, device="cpu")


class Counting(nn.Module):
    """Adds a tensor of its own, on the device of its input, which is written into a trace."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) + torch.arange(3, device=x.device)


def made(how: str, module: nn.Module, batch: Tensor) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(module) if how == "script" else torch.jit.trace(module, batch)


def rewritten(path: Path, to: Path, change: Callable[[str, bytes], bytes]) -> Path:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(to, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))
    return to


def on_a_gpu(name: str, content: bytes) -> bytes:
    """Change a member of an archive as if the program had been made on a GPU."""
    if "/code/" in name and name.endswith(".py"):
        return content.replace(b'torch.device("cpu")', CUDA).replace(b'device="cpu"', CUDA)
    if name.endswith(".json"):
        device = b'{"type": "cpu", "index": null}'
        return content.replace(device, b'{"type": "cuda", "index": 0}')
    return content


BATCH = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("how", ["trace", "script"])
def test_a_script_made_on_another_device_runs_here(how: str, tmp_path: Path) -> None:
    module = seeded(Placed)
    made(how, module, BATCH).save(str(tmp_path / "m.pt"))
    path = rewritten(tmp_path / "m.pt", tmp_path / "gpu.pt", on_a_gpu)
    with zipfile.ZipFile(path) as archive:
        assert any(CUDA in archive.read(name) for name in archive.namelist())
    network = read_torchscript(path).network
    assert torch.allclose(network(BATCH), module(BATCH), atol=1e-6)


@pytest.mark.parametrize("make", [Placed, lambda: TinyViT()])
def test_a_program_exported_on_another_device_runs_here(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    module = seeded(make)
    save(export(module, (BATCH,), dynamic_shapes=({0: Dim.DYNAMIC},)), tmp_path / "m.pt2")
    path = rewritten(tmp_path / "m.pt2", tmp_path / "gpu.pt2", on_a_gpu)
    with zipfile.ZipFile(path) as archive:
        assert sum(archive.read(name).count(b'"cuda"') for name in archive.namelist()) > 9
    network = read_exported(path, trust_pickle=False).network
    assert torch.allclose(network(BATCH), module(BATCH), atol=1e-6)


def test_constants_follow_the_network_and_come_back() -> None:
    module = seeded(Placed)
    program = export(module, (BATCH,)).module(check_guards=False)
    graph = fx.GraphModule(program, program.graph, "ExportedProgram")
    before = graph.code
    with on_device(graph, torch.device("meta")):
        graph.to("meta")
        assert graph(BATCH.to("meta")).device.type == "meta"
    assert graph.code == before
    script = made("trace", module, BATCH)
    before = str(script.graph)
    with on_device(script, torch.device("meta")):
        assert 'value="meta"' in str(script.graph) and 'value="cpu"' not in str(script.graph)
    assert str(script.graph) == before


def test_constants_of_inner_modules_follow_an_archive_that_was_read(tmp_path: Path) -> None:
    made("trace", nn.Sequential(Counting()), BATCH).save(str(tmp_path / "m.pt"))
    network = read_torchscript(tmp_path / "m.pt").network
    with on_device(network, torch.device("meta")):
        assert network(BATCH.to("meta")).device.type == "meta"


class Halved(nn.Module):
    """Computes in half precision inside."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SmallNet().half()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.half()).float()


def test_half_precision_inside_a_script_becomes_float32(tmp_path: Path) -> None:
    module = seeded(Halved)
    for how in ("trace", "script"):
        made(how, module, BATCH).save(str(tmp_path / "m.pt"))
        opened = open_model(tmp_path / "m.pt")
        assert any("Casts to half precision" in note for note in opened.notes)
        assert any("float16 were converted" in note for note in opened.notes)
        exact = seeded(Halved).network.float()
        assert torch.allclose(opened.network(BATCH), exact(BATCH), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("make", [SmallNet, lambda: TinyViT()])
def test_a_program_in_half_precision_becomes_float32(
    dtype: torch.dtype, make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    module = seeded(make).to(dtype)
    save(export(module, (BATCH.to(dtype),)), tmp_path / "m.pt2")
    opened = open_model(tmp_path / "m.pt2")
    assert any("half precision" in note for note in opened.notes)
    found, expected = opened.network(BATCH), module.float()(BATCH)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_program_in_float32_has_no_note(tmp_path: Path) -> None:
    save(export(seeded(Placed), (BATCH,)), tmp_path / "m.pt2")
    assert open_model(tmp_path / "m.pt2").notes == ()


def test_channels_last_and_whole_numbers_are_refused(tmp_path: Path) -> None:
    class Permuting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 3, 1, 2).float().mean((2, 3))

    save(export(Permuting(), (torch.rand(1, 32, 32, 3),)), tmp_path / "m.pt2")
    with pytest.raises(ModelError, match=r"channels last, where .*permute\(0, 3, 1, 2\)"):
        read_exported(tmp_path / "m.pt2", trust_pickle=False)
    save(export(Permuting(), (torch.ones(1, 3, 8, 8, dtype=torch.int64),)), tmp_path / "m.pt2")
    with pytest.raises(ModelError, match=r"takes torch\.int64 \[1, 3, 8, 8\]"):
        read_exported(tmp_path / "m.pt2", trust_pickle=False)


def test_devices_in_notes_and_descriptions_are_left(tmp_path: Path) -> None:
    said = json.dumps({"labels": ["cpu", "cuda"]})
    program = export(seeded(SmallNet), (BATCH,))
    save(program, tmp_path / "m.pt2", extra_files={"reportgen.json": said})
    path = rewritten(tmp_path / "m.pt2", tmp_path / "gpu.pt2", on_a_gpu)
    assert read_exported(path, trust_pickle=False).metadata == said
