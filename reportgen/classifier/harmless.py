"""The types that a checkpoint may hold beside tensors, and the plain values that stand for them.

``torch.load(weights_only=True)`` calls nothing but PyTorch's own functions that rebuild tensors.
Training scripts also save their options, paths and NumPy's numbers, which it refuses. They are few,
and listed here. Nothing in this list runs code from the file: a namespace is a bag of attributes, a
pure path never touches the disk, and NumPy's own functions, which trust the bytes that they are
given, are not called: numbers are read by ``struct``, and arrays (states of random generators) are
left unread.
"""

from __future__ import annotations

import argparse
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import PurePosixPath, PureWindowsPath

from torch.serialization import safe_globals

_FORMATS = {
    "b1": "?",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
}


class PlainType:
    """What stands for a ``numpy.dtype``: its code, such as f8, and its byte order."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code
        self.order = "<"

    def __setstate__(self, state: tuple[object, ...]) -> None:
        """Take the byte order from the state that NumPy pickles."""
        self.order = ">" if state[1] == ">" else "<"


class UnreadArray:
    """What stands for a ``numpy.ndarray``; it keeps nothing of it."""

    def __setstate__(self, state: object) -> None:
        """Leave out shape, type and bytes."""


def _number(kind: object, data: object = b"") -> object:
    """Return the value of a NumPy number; None for one of another kind (text, dates, objects)."""
    if not isinstance(kind, PlainType) or not isinstance(data, bytes):
        return None
    form = _FORMATS.get(kind.code)
    return None if form is None else struct.unpack(f"{kind.order}{form}", data)[0]


def _array(*_: object) -> UnreadArray:
    return UnreadArray()


_HARMLESS: tuple[tuple[Callable[..., object], str], ...] = (
    (argparse.Namespace, "argparse.Namespace"),
    (PurePosixPath, "pathlib.PosixPath"),
    (PurePosixPath, "pathlib.PurePosixPath"),
    (PurePosixPath, "pathlib._local.PosixPath"),
    (PureWindowsPath, "pathlib.WindowsPath"),
    (PureWindowsPath, "pathlib.PureWindowsPath"),
    (PureWindowsPath, "pathlib._local.WindowsPath"),
    (PlainType, "numpy.dtype"),
    (UnreadArray, "numpy.ndarray"),
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
    (_array, "numpy.core.multiarray._reconstruct"),
    (_array, "numpy._core.multiarray._reconstruct"),
)


def harmless_types() -> AbstractContextManager[None]:
    """Let ``torch.load(weights_only=True)`` read the types of this module inside the block."""
    return safe_globals(list(_HARMLESS))
