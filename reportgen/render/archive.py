"""Named arrays in one ``.npz`` file, with the same bytes for the same arrays."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reportgen.errors import OutputError

# A zip file stores a time for each entry; this is the earliest it can hold.
EPOCH = (1980, 1, 1, 0, 0, 0)
MODE = 0o644 << 16


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return ``arrays`` as a compressed ``.npz``, sorted by name; ``numpy.load`` reads it.

    Raises OutputError for an array of Python objects.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            archive.writestr(_entry(name), _content(name, arrays[name]))
    return stream.getvalue()


def unpack(content: bytes, file: str) -> dict[str, NDArray[Any]]:
    """Return the arrays in ``content``; ``file`` is the name to use in an error.

    Raises OutputError where it is no archive of plain arrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {
                name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()
            }
    except _UNREADABLE as error:
        raise OutputError(
            f"Expected an archive of arrays in '{file}', but it cannot be read ({error}); "
            "make the report again."
        ) from None


# What zipfile and numpy raise for a file that is broken, encrypted, holds objects, or says that it
# holds more than any memory.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    OverflowError,
)


def _array(content: bytes) -> NDArray[Any]:
    return np.asarray(np.lib.format.read_array(io.BytesIO(content), allow_pickle=False))


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(f"{name}.npy", EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3
    entry.external_attr = MODE
    return entry


def _content(name: str, array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    try:
        np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
    except ValueError:
        raise OutputError(
            f"Expected numbers in the array '{name}', but it holds Python objects ({array.dtype})."
        ) from None
    return stream.getvalue()
