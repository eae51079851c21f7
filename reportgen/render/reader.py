"""Reading a report back: ``report.json`` with the arrays beside it, checked by the manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError

from reportgen.errors import OutputError
from reportgen.records import READABLE_VERSIONS, Report
from reportgen.render import manifest
from reportgen.render.archive import unpack

ARRAYS = "maps.npz"


def read_report(path: Path) -> tuple[Report, dict[str, NDArray[Any]]]:
    """Return the report in the file ``path`` and the arrays of the ``maps.npz`` beside it.

    Where there is a manifest beside it, both must be as they were written. Raises OutputError for a
    file that is missing, changed, of another schema version, or no report.
    """
    content, arrays = read_file(path), read_file(path.with_name(ARRAYS))
    listed = read_manifest(path.parent)
    if listed:
        listed.check(path.name, content)
        listed.check(ARRAYS, arrays)
    return parse_report(content, path.name), unpack(arrays, ARRAYS)


def read_manifest(directory: Path) -> manifest.Manifest | None:
    """Return the manifest in ``directory``, or None where there is none.

    Raises OutputError for a file that is no manifest.
    """
    path = directory / manifest.NAME
    return manifest.parse_manifest(read_file(path)) if path.exists() else None


def parse_report(content: bytes, name: str) -> Report:
    """Return the report in ``content``; ``name`` is the file's name for an error.

    Raises OutputError for another schema version, or where ``content`` is no report.
    """
    _check_version(content, name)
    try:
        return Report.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = "/".join(str(part) for part in first["loc"])
        raise OutputError(
            f"Expected a report in '{name}', but '{place}' is wrong: {first['msg']}; make the "
            "report again."
        ) from None


def _check_version(content: bytes, name: str) -> None:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise OutputError(
            f"Expected a report in '{name}', but it is no JSON ({error}); name the report.json "
            "that reportgen wrote."
        ) from None
    version = found.get("schema_version") if isinstance(found, dict) else None
    if version not in READABLE_VERSIONS:
        known = " or ".join(READABLE_VERSIONS)
        raise OutputError(
            f"Expected schema version {known} in '{name}', but found {version!r}; use the "
            "version of reportgen that wrote it."
        )


def read_file(path: Path) -> bytes:
    """Return the content of a file of a report; raises OutputError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise OutputError(
            f"Expected the file '{path.name}' in '{path.parent}', but it cannot be read "
            f"({error.strerror}); name the report.json in a complete report."
        ) from None
