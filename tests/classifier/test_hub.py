"""Names on the hub are found in its cache, and nothing is fetched unless that is allowed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from reportgen.classifier.hub import find_folder, is_hub_name
from reportgen.errors import ModelError, UsageError

huggingface_hub = pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill(cache: Path, weights: bool = True) -> Path:
    """Lay out a repository as the hub's cache does, and return its folder."""
    repository = cache / "models--owner--name"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    (snapshot / "config.json").write_text(json.dumps({"model_type": "vit"}), encoding="utf-8")
    if weights:
        save_file({"a": torch.ones(2)}, snapshot / "model.safetensors")
    return snapshot


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the downloads that were asked for, each of which fills the cache."""
    asked: list[dict[str, Any]] = []
    real = huggingface_hub.snapshot_download

    def fetch(repository: str, **options: Any) -> str:
        if options["local_files_only"]:
            return str(real(repository, **options))
        asked.append({"repository": repository, **options})
        return str(fill(cache))

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    return asked


def test_names_are_told_from_files() -> None:
    assert is_hub_name("hf:owner/name")
    assert not is_hub_name("owner/name")


def test_a_folder_here_is_taken(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert find_folder(f"hf:{tmp_path}", False, False).path == tmp_path


@pytest.mark.parametrize("name", ["owner/name", "owner/name@main", f"owner/name@{COMMIT}"])
def test_a_cached_repository_is_taken(cache: Path, hub: list[dict[str, Any]], name: str) -> None:
    snapshot = fill(cache)
    found = find_folder(f"hf:{name}", allow_download=True, trust_pickle=False)
    assert (found.path, found.name, found.revision) == (snapshot, "owner/name", COMMIT)
    assert found.on_hub
    assert hub == []


def test_nothing_is_fetched_unless_allowed(hub: list[dict[str, Any]]) -> None:
    with pytest.raises(ModelError, match=r"'owner/name' is no folder here.*--allow-download"):
        find_folder("hf:owner/name", allow_download=False, trust_pickle=False)
    assert hub == []


def test_what_is_allowed_is_fetched(hub: list[dict[str, Any]]) -> None:
    found = find_folder("hf:owner/name@v1", allow_download=True, trust_pickle=False)
    assert found.revision == COMMIT
    assert (hub[0]["repository"], hub[0]["revision"]) == ("owner/name", "v1")
    assert not any("pytorch_model" in pattern for pattern in hub[0]["allow_patterns"])


def test_pickles_are_fetched_only_where_they_are_trusted(hub: list[dict[str, Any]]) -> None:
    find_folder("hf:owner/name", allow_download=True, trust_pickle=True)
    assert "pytorch_model*.bin" in hub[0]["allow_patterns"]


def test_a_repository_without_its_weights_is_fetched_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, weights=False)
    asked = []

    def fetch(repository: str, **options: Any) -> str:
        asked.append(options["local_files_only"])
        return str(cache / "models--owner--name" / "snapshots" / COMMIT)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    find_folder("hf:owner/name", allow_download=True, trust_pickle=False)
    assert asked == [True, False]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("./gone", ModelError, r"There is no folder '\./gone'; check the path"),
        ("/gone/model", ModelError, "There is no folder '/gone/model'"),
        ("a/b/c", ModelError, "There is no folder 'a/b/c'"),
        ("owner/na me", UsageError, "is no folder and no name on the hub; expected hf:FOLDER"),
        ("", UsageError, "is no folder and no name on the hub"),
    ],
)
def test_other_names_are_told(
    cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        find_folder(f"hf:{name}", allow_download=True, trust_pickle=False)


def test_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"is a file, not a folder; give it without 'hf:'"):
        find_folder(f"hf:{tmp_path / 'model.pt'}", False, False)


def test_a_failed_download_is_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = huggingface_hub.snapshot_download

    def fail(repository: str, **options: Any) -> str:
        if options["local_files_only"]:
            return str(real(repository, **options))
        raise ConnectionError("no network.\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(ModelError, match=r"not be fetched.*\(ConnectionError: no network\)\.$"):
        find_folder("hf:owner/name", allow_download=True, trust_pickle=False)


def test_without_the_library_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"needs huggingface_hub.*pip install 'reportgen\[hf\]'"):
        find_folder("hf:owner/name", allow_download=False, trust_pickle=False)
