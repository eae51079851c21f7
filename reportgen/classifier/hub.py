"""Models by name on the Hugging Face hub: found in its local cache, or fetched where allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reportgen.classifier.model_folders import ModelFolder, holds_model, read_folder
from reportgen.errors import ModelError, UsageError

_PLACE = "hf:"
_ID = re.compile(r"(?P<repository>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?", re.ASCII)
_FILES = ["config.json", "*processor_config.json", "model*.safetensors", "model*.index.json"]
_PICKLES = ["pytorch_model*.bin", "pytorch_model*.index.json"]


def is_hub_name(source: str) -> bool:
    """Return whether ``source`` is of the form ``hf:PATH_OR_ID``."""
    return source.startswith(_PLACE)


def local_path(source: str) -> Path:
    """Return the path of the folder that ``hf:PATH`` names, if there is one."""
    return Path(source.removeprefix(_PLACE)).expanduser()


def find_folder(source: str, allow_download: bool, trust_pickle: bool) -> ModelFolder:
    """Return the folder behind ``hf:PATH``, ``hf:OWNER/NAME`` or ``hf:OWNER/NAME@REVISION``.

    Raises UsageError for another form; ModelError for a path that does not exist, a repository that
    is neither in the local cache nor allowed to be fetched, and a folder that cannot be used.
    """
    name, path = source.removeprefix(_PLACE), local_path(source)
    if name and path.is_dir():
        return read_folder(path, name)
    if name and path.exists():
        raise ModelError(f"'{name}' is a file, not a folder; give it without '{_PLACE}'.")
    if name.startswith((".", "/", "~")) or (name.count("/") > 1 and "@" not in name):
        raise ModelError(f"There is no folder '{name}'; check the path.")
    return find_repository(name, allow_download, trust_pickle)


def find_repository(name: str, allow_download: bool, trust_pickle: bool) -> ModelFolder:
    """Return the local copy of a repository on the hub, ``OWNER/NAME`` or ``OWNER/NAME@REVISION``.

    Raises as ``find_folder``.
    """
    patterns = [*_FILES, *(_PICKLES if trust_pickle else [])]
    return find_copy(name, patterns, holds_model, allow_download)


def find_copy(
    name: str, patterns: list[str], complete: Callable[[Path], bool], allow_download: bool
) -> ModelFolder:
    """Return the local copy of the files of a repository whose names fit one of ``patterns``.

    A copy that is not ``complete`` is fetched again, where that is allowed. Raises as
    ``find_folder``.
    """
    form = _ID.fullmatch(name)
    if form is None:
        raise UsageError(
            f"'{name}' is no folder and no name on the hub; expected hf:FOLDER, hf:OWNER/NAME or "
            "hf:OWNER/NAME@REVISION."
        )
    repository, revision = form["repository"], form["revision"]
    path = _snapshot(repository, revision, patterns, offline=True)
    if (path is None or not complete(path)) and allow_download:
        path = _snapshot(repository, revision, patterns, offline=False)
    if path is None:
        raise ModelError(
            f"'{repository}' is no folder here, and not in the cache of the Hugging Face hub; "
            "fetch it with --allow-download, or check the name."
        )
    # The cache keeps each commit in a folder of that name.
    return read_folder(path, repository, revision=path.name)


def _snapshot(
    repository: str, revision: str | None, patterns: list[str], offline: bool
) -> Path | None:
    """Return the folder of a repository in the cache, None where it is not there while offline."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        raise missing_library(f"hf:{repository}", "huggingface_hub", "hf") from None
    try:
        with _no_bars():
            found = snapshot_download(
                repository, revision=revision, allow_patterns=patterns, local_files_only=offline
            )
    except Exception as error:
        if offline and isinstance(error, LocalEntryNotFoundError):
            return None
        raise ModelError(_failure(repository, error)) from None
    return Path(found)


@contextmanager
def _no_bars() -> Iterator[None]:
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()


def _failure(repository: str, error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    return (
        f"'{repository}' could not be fetched from the Hugging Face hub; check its name, your "
        f"access to it, and the network ({type(error).__name__}: {first})."
    )


def missing_library(source: str, library: str, extra: str) -> ModelError:
    """Return the error for a model that needs an optional library which is not installed."""
    return ModelError(
        f"'{source}' needs {library}, which is not installed; install it with: "
        f"pip install 'reportgen[{extra}]'."
    )
