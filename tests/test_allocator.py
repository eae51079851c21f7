"""The allocator keeps what it is given back: no page is cleared twice."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from reportgen import allocator

# Blocks of 8 MiB, above the size from which glibc asks the system for each by itself.
FAULTS = """
import ctypes, resource, sys
from reportgen.allocator import keep_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
def use():
    block = libc.malloc(8 << 20)
    ctypes.memset(block, 1, 8 << 20)
    libc.free(block)
def faults():
    use()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        libc.mallopt(-3, 1 << 20) if not kept else None
        use()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
kept = len(sys.argv) > 1 and keep_memory()
print(faults())
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


def faults(*arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, *arguments], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@glibc
def test_freed_memory_is_not_cleared_again() -> None:
    pages = 20 * (8 << 20) // 4096
    assert faults() > pages // 2
    assert faults("keep") < pages // 20


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def __init__(self, name: object) -> None: ...

    monkeypatch.setattr(ctypes, "CDLL", Other)
    assert allocator.keep_memory() is False
