"""Pickles run no code unless their author is trusted."""

from __future__ import annotations

import argparse
import collections
import datetime
import fractions
import io
import pickle
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from factories import SmallNet

from reportgen.classifier.checkpoints import Checkpoint, read_checkpoint, read_safetensors
from reportgen.classifier.harmless import UnreadArray
from reportgen.classifier.sniffing import sniff
from reportgen.errors import ModelError


class Evil:
    """Writes a file when unpickled: code of its own that a pickle may run."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


def write(path: Path, content: object, how: str) -> Path:
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    elif how == "pickle of protocol 5":
        path.write_bytes(pickle.dumps(content, protocol=5))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "checkpoint")
    return path


def read(path: Path, trust: bool = False) -> Checkpoint:
    return read_checkpoint(path, sniff(path), trust)


HOW = ["checkpoint", "old checkpoint", "pickle", "pickle of protocol 5"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("place", ["top", "beside weights"])
def test_planted_code_does_not_run(how: str, place: str, tmp_path: Path) -> None:
    evil = Evil(tmp_path / "proof")
    content = evil if place == "top" else {"state_dict": SmallNet().state_dict(), "x": evil}
    path = write(tmp_path / "model.pt", content, how)
    with pytest.raises(ModelError, match=r"can run any code; .*--trust-pickle if you trust"):
        read(path)
    assert not evil.proof.exists()


@pytest.mark.parametrize("how", HOW)
def test_planted_code_runs_where_it_is_trusted(how: str, tmp_path: Path) -> None:
    evil = Evil(tmp_path / "proof")
    path = write(tmp_path / "model.pt", {"x": evil, "y": 3}, how)
    checkpoint = read(path, trust=True)
    assert evil.proof.exists()
    assert checkpoint.trusted
    assert checkpoint.content["y"] == 3


@pytest.mark.parametrize(
    ("neighbour", "name"),
    [
        (datetime.date(2020, 1, 1), "datetime.date"),
        (fractions.Fraction(1, 2), "fractions.Fraction"),
        (SmallNet(), "factories.SmallNet"),
    ],
)
@pytest.mark.parametrize("how", ["checkpoint", "old checkpoint"])
def test_what_is_refused_is_named(neighbour: object, name: str, how: str, tmp_path: Path) -> None:
    content = {"state_dict": SmallNet().state_dict(), "extra": neighbour}
    path = write(tmp_path / "model.pt", content, how)
    with pytest.raises(ModelError, match=f"model.pt' holds '{name}' beside or instead of weights"):
        read(path)


@pytest.mark.parametrize("how", ["checkpoint", "old checkpoint"])
def test_what_training_scripts_save_beside_the_weights_is_read(how: str, tmp_path: Path) -> None:
    options = argparse.Namespace(lr=0.1, out=Path("runs/3"), model="resnet18")
    content = {
        "args": options,
        "best": np.float64(0.91),
        "epoch": np.int32(-7),
        "half": np.float16(0.5),
        "done": np.bool_(True),
        "name": np.str_("text"),
        "rng": np.random.RandomState(0).get_state(),
        "elsewhere": PureWindowsPath("C:/runs"),
    }
    found = read(write(tmp_path / "model.pt", content, how)).content
    assert vars(found["args"]) == {"lr": 0.1, "out": PurePosixPath("runs/3"), "model": "resnet18"}
    numbers = ("best", "epoch", "half", "done", "name")
    assert [found[key] for key in numbers] == [0.91, -7, 0.5, True, None]
    assert isinstance(found["rng"][1], UnreadArray)
    assert vars(found["rng"][1]) == {}
    assert found["elsewhere"] == PureWindowsPath("C:/runs")


def test_numbers_of_the_other_byte_order_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "model.pt", {"x": np.int32(1)}, "old checkpoint")
    little, big = b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00>"
    content = path.read_bytes()
    assert content.count(little) == 1
    path.write_bytes(content.replace(little, big))
    assert read(path).content == {"x": 1 << 24}


class Smuggler:
    """Hands a function that is not allowed to one that is."""

    def __init__(self, through: object, proof: Path) -> None:
        self.through, self.proof = through, proof

    def __reduce__(self) -> tuple[Any, ...]:
        return self.through, (Evil(self.proof),)  # type: ignore[return-value]


@pytest.mark.parametrize(
    "through", [argparse.Namespace, PurePosixPath, np.dtype, np.ndarray, collections.OrderedDict]
)
def test_planted_code_does_not_run_inside_what_is_allowed(through: object, tmp_path: Path) -> None:
    smuggler = Smuggler(through, tmp_path / "proof")
    torch.save({"state_dict": SmallNet().state_dict(), "args": smuggler}, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=r"can run any code; .*--trust-pickle if you trust"):
        read(tmp_path / "model.pt")
    assert not smuggler.proof.exists()


def test_numpy_builds_nothing_and_what_is_allowed_is_so_only_meanwhile(tmp_path: Path) -> None:
    torch.save({"x": np.float64(2.5), "y": np.ones(3, dtype=object)}, tmp_path / "model.pt")
    before = set(torch.serialization.get_safe_globals())
    found = read(tmp_path / "model.pt").content
    assert type(found["x"]) is float
    assert type(found["y"]) is UnreadArray
    assert set(torch.serialization.get_safe_globals()) == before


def test_the_metadata_of_safetensors_is_kept(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = SmallNet().state_dict()
    save_file(tensors, tmp_path / "model.safetensors", {"arch": "resnet18"})
    found = read_safetensors(tmp_path / "model.safetensors")
    assert found.metadata == {"arch": "resnet18"}
    assert torch.equal(found.content["fc.weight"], tensors["fc.weight"])


@pytest.mark.parametrize("how", ["checkpoint", "old checkpoint"])
def test_tensors_need_no_trust_and_are_not_marked_so(how: str, tmp_path: Path) -> None:
    given = SmallNet().state_dict()
    for trust in (False, True):
        checkpoint = read(write(tmp_path / "model.pt", given, how), trust)
        assert not checkpoint.trusted
        assert checkpoint.network() is None
        assert torch.equal(checkpoint.content["fc.weight"], given["fc.weight"])


def test_a_protocol_that_pytorch_cannot_read_as_weights_only_is_said(tmp_path: Path) -> None:
    given = SmallNet().state_dict()
    torch.save(given, tmp_path / "model.pt", pickle_protocol=4)
    with pytest.raises(ModelError, match="is a pickle that PyTorch cannot read as weights only"):
        read(tmp_path / "model.pt")
    assert list(read(tmp_path / "model.pt", trust=True).content) == list(given)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("nested", [False, True])
def test_a_whole_network_is_found(how: str, nested: bool, tmp_path: Path) -> None:
    network = SmallNet().eval()
    path = write(tmp_path / "model.pt", {"epoch": 3, "model": network} if nested else network, how)
    found = read(path, trust=True).network()
    batch = torch.rand(2, 3, 8, 8)
    assert isinstance(found, SmallNet)
    assert torch.equal(found(batch), network(batch))


def test_a_class_that_cannot_be_found_is_said(tmp_path: Path) -> None:
    written = pickle.dumps(SmallNet(), protocol=2).replace(b"SmallNet", b"MissingN")
    (tmp_path / "model.pt").write_bytes(written)
    with pytest.raises(ModelError, match=r"AttributeError: .*MissingN.*install the package"):
        read(tmp_path / "model.pt", trust=True)


def test_classes_in_the_working_directory_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "their_pickled_net.py").write_text(
        "from torch import nn\nclass Net(nn.Flatten): ...\n"
    )
    written = pickle.dumps(torch.nn.Flatten(), protocol=2)
    written = written.replace(b"torch.nn.modules.flatten\nFlatten", b"their_pickled_net\nNet")
    (tmp_path / "model.pt").write_bytes(written)
    network = read(tmp_path / "model.pt", trust=True).network()
    assert type(network).__module__ == "their_pickled_net"


@pytest.mark.parametrize("trust", [False, True])
def test_a_damaged_old_checkpoint_is_said(trust: bool, tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save(SmallNet().state_dict(), file, _use_new_zipfile_serialization=False)
    (tmp_path / "model.pt").write_bytes(file.getvalue()[:700])
    with pytest.raises(ModelError, match=r"model\.pt'"):
        read(tmp_path / "model.pt", trust)


def test_a_damaged_checkpoint_is_said(tmp_path: Path) -> None:
    torch.save(SmallNet().state_dict(), tmp_path / "model.pt")
    content = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(content.replace(b"conv.weight", b"conv\xffweight"))
    with pytest.raises(ModelError, match=r"cannot be read, it may be damaged"):
        read(tmp_path / "model.pt")


def test_damaged_safetensors_are_said(tmp_path: Path) -> None:
    from safetensors.torch import save

    content = save(SmallNet().state_dict())
    (tmp_path / "model.safetensors").write_bytes(content)
    assert list(read_safetensors(tmp_path / "model.safetensors").content)
    (tmp_path / "model.safetensors").write_bytes(content[:-8])
    with pytest.raises(ModelError, match=r"cannot be read, it may be damaged"):
        read_safetensors(tmp_path / "model.safetensors")
