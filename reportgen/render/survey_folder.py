"""A folder that is filled file by file, and appears whole or not at all.

A survey writes the report of each picture while it goes on, so its files cannot wait in memory; nor
can those of reports on several targets.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from reportgen.errors import OutputError
from reportgen.render import manifest
from reportgen.render.reader import ARRAYS
from reportgen.render.staging import PREFIX, remove_empty
from reportgen.render.table import NAME as TABLE
from reportgen.render.writer import DATA, PAGES, check_directory, refused

PICTURES = "images"
INDEX = "index.html"
OWN = (DATA, TABLE, ARRAYS, *PAGES.values(), PICTURES, manifest.NAME)

_NUMBERED = re.compile(r"\d{4,}-")


@contextmanager
def staged(directory: Path, own: Collection[str] = OWN) -> Iterator[Path]:
    """Yield an empty folder whose files stand in ``directory`` afterwards, if all went well.

    What is there already under the names ``own`` is replaced; other files are left alone. After any
    failure, an interrupt included, everything is as it was before. Raises OutputError where the
    file system refuses, or where ``images`` in ``directory`` is somebody else's.
    """
    check_directory(directory)
    _check_pictures(directory / PICTURES)
    missing = [parent for parent in directory.parents if not parent.exists()]
    try:
        with _temporary(directory) as temporary:
            stage = temporary / "stage"
            stage.mkdir()
            yield stage
            _move(stage, directory, temporary / "kept", own)
    except OSError as error:
        remove_empty(missing)
        raise refused(directory, error) from None
    except BaseException:
        remove_empty(missing)
        raise


def _check_pictures(folder: Path) -> None:
    """Refuse to replace what a survey did not write."""
    if not folder.exists():
        return
    if not folder.is_dir() or any(not _NUMBERED.match(path.name) for path in folder.iterdir()):
        raise OutputError(
            f"Expected the reports of a survey in '{folder}', but there is something else; name "
            "another place for this survey."
        )


@contextmanager
def _temporary(directory: Path) -> Iterator[Path]:
    # Inside a directory that exists, because its parent may be another file system.
    home = directory if directory.is_dir() else directory.parent
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=home) as temporary:
        yield Path(temporary)


def _move(stage: Path, directory: Path, kept: Path, own: Collection[str]) -> None:
    if not directory.exists():
        stage.rename(directory)
        return
    kept.mkdir()
    # The manifest, or the page to all, is moved last: where it stands, all else does.
    last = (manifest.NAME, INDEX)
    names = sorted((path.name for path in stage.iterdir()), key=lambda name: name in last)
    try:
        for name in own:
            if (directory / name).exists():
                (directory / name).rename(kept / name)
        for name in names:
            (stage / name).rename(directory / name)
    except BaseException:
        _put_back(stage, directory, kept, names)
        raise


def _put_back(stage: Path, directory: Path, kept: Path, names: list[str]) -> None:
    for name in names:
        if not (stage / name).exists() and (directory / name).exists():
            (directory / name).rename(stage / name)
    for path in kept.iterdir():
        path.rename(directory / path.name)
