"""The manifest of a report: which files belong to it, with their sizes and SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from pydantic import ValidationError

from reportgen.errors import OutputError
from reportgen.records import SCHEMA_VERSION, Record
from reportgen.render.encoding import encode_json

NAME = "manifest.json"


class FileRecord(Record):
    """One file: the hexadecimal SHA-256 of its content, and its size in bytes."""

    sha256: str
    size: int


class Manifest(Record):
    """All files of a report by name, without the manifest itself."""

    schema_version: str = SCHEMA_VERSION
    files: Mapping[str, FileRecord]

    def encoded(self) -> bytes:
        """Return the manifest as it is written."""
        return encode_json(self.model_dump(mode="json"))

    def check(self, name: str, content: bytes) -> None:
        """Raise OutputError where ``content`` is not what was written under ``name``.

        A file that the manifest does not list is not checked.
        """
        expected = self.files.get(name)
        if expected is not None and expected != described(content):
            raise OutputError(
                f"Expected '{name}' as it was written (SHA-256 {expected.sha256[:12]}…), but it "
                "has changed since; restore it or make the report again."
            )


def described(content: bytes) -> FileRecord:
    """Return the entry of a file with this content."""
    return FileRecord(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def manifest_of(files: Mapping[str, bytes]) -> Manifest:
    """Return the manifest of ``files``, by name."""
    return Manifest(files={name: described(content) for name, content in files.items()})


def parse_manifest(content: bytes) -> Manifest:
    """Return the manifest in ``content``; raise OutputError where it is none."""
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise OutputError(
            f"Expected a manifest in '{NAME}', but {_where(first['loc'])} is wrong "
            f"({first['msg']}); restore it or make the report again."
        ) from None


def _where(place: tuple[int | str, ...]) -> str:
    return f"'{'.'.join(str(part) for part in place)}'" if place else "the file"
