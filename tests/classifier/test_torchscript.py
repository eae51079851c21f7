"""TorchScript archives are opened, traced and scripted."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import SmallNet
from torch import nn
from toys import StandardisedWeights

from reportgen.classifier.torchscript import read_torchscript
from reportgen.errors import ModelError


def network() -> SmallNet:
    torch.manual_seed(0)
    return SmallNet().eval()


def write(path: Path, module: nn.Module, how: str = "script", **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        example = torch.rand(2, 3, 8, 8)
        made = torch.jit.script(module) if how == "script" else torch.jit.trace(module, example)
    made.save(str(path), **options)
    return path


@pytest.mark.parametrize("how", ["script", "trace"])
def test_the_network_equals_the_one_saved(how: str, tmp_path: Path) -> None:
    script = read_torchscript(write(tmp_path / "m.pt", network(), how))
    batch = torch.rand(3, 3, 8, 8)
    assert torch.allclose(script.network(batch), network()(batch), atol=1e-6)
    assert not torch.allclose(script.network(batch + 1), network()(batch), atol=1e-6)
    assert (script.name, script.metadata) == ("SmallNet", "")


def test_a_network_saved_in_training_mode_is_put_in_eval_mode(tmp_path: Path) -> None:
    script = read_torchscript(write(tmp_path / "m.pt", network().train()))
    batch = torch.rand(3, 3, 8, 8)
    assert not script.network.training
    assert torch.allclose(script.network(batch), network()(batch), atol=1e-6)


def test_weights_standardised_by_a_batch_norm_are_no_training_mode(tmp_path: Path) -> None:
    network, batch = StandardisedWeights().eval(), torch.rand(2, 3, 8, 8)
    script = read_torchscript(write(tmp_path / "m.pt", network, "trace"))
    assert torch.equal(script.network(batch), network(batch))


def test_metadata_in_the_archive_is_read(tmp_path: Path) -> None:
    extra = {"reportgen.json": '{"labels": ["Käfer"]}'}
    script = read_torchscript(write(tmp_path / "m.pt", network(), _extra_files=extra))
    assert script.metadata == extra["reportgen.json"]


class NoForward(nn.Module):
    @torch.jit.export
    def other(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_a_script_without_forward_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no forward method"):
        read_torchscript(write(tmp_path / "m.pt", NoForward()))


def test_a_damaged_archive_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(write(path, network())) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content if "/code/" not in name else b"fed forward(")
    with pytest.raises(ModelError, match="cannot be read, it may be damaged"):
        read_torchscript(path)
