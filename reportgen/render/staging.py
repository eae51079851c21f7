"""A folder of files that appears whole or not at all.

Files are written into a temporary folder first. A new folder is then renamed into place; in a
folder that exists already, each file replaces its namesake, and everything is put back where one
step fails.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

PREFIX = ".reportgen-"


def publish(directory: Path, files: Mapping[str, bytes], obsolete: Collection[str] = ()) -> None:
    """Put ``files`` into ``directory``, the last one last, and remove the ``obsolete`` ones.

    Other files there are left alone. After any failure, an interrupt included, the directory is as
    it was before. Raises OSError where the file system refuses.
    """
    if directory.is_dir():
        _into(directory, files, obsolete)
    else:
        _as_new(directory, files)


def _as_new(directory: Path, files: Mapping[str, bytes]) -> None:
    missing = [parent for parent in directory.parents if not parent.exists()]
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=directory.parent) as temporary:
            # The temporary folder is private to this user; a folder of its own is not.
            stage = _filled(Path(temporary) / "stage", files)
            stage.rename(directory)
    except BaseException:
        remove_empty(missing)
        raise


def _into(directory: Path, files: Mapping[str, bytes], obsolete: Collection[str]) -> None:
    # Inside the directory, because its parent may be another file system or not writable.
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=directory) as temporary:
        stage = _filled(Path(temporary) / "stage", files)
        kept = _copies(directory, (*files, *obsolete), Path(temporary) / "kept")
        try:
            for name in files:
                (stage / name).replace(directory / name)
            for name in obsolete:
                (directory / name).unlink(missing_ok=True)
        except BaseException:
            _put_back(directory, files, stage, kept)
            raise


def _filled(stage: Path, files: Mapping[str, bytes]) -> Path:
    stage.mkdir()
    for name, content in files.items():
        with (stage / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    return stage


def _copies(directory: Path, names: Iterable[str], kept: Path) -> Path:
    """Return a folder with copies of those of ``names`` that exist in ``directory``."""
    kept.mkdir()
    for name in names:
        if (directory / name).exists():
            shutil.copy2(directory / name, kept / name)
    return kept


def _put_back(directory: Path, files: Iterable[str], stage: Path, kept: Path) -> None:
    for name in files:
        moved = not (stage / name).exists()
        if moved and not (kept / name).exists():
            (directory / name).unlink(missing_ok=True)
    for copy in kept.iterdir():
        copy.replace(directory / copy.name)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove the folders that were made on the way, the innermost first."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
