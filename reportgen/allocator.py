"""The C library's allocator, told to keep the memory that it is given back."""

from __future__ import annotations

import ctypes

# From malloc.h of glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1


def keep_memory() -> bool:
    """Let this process keep freed memory for its next allocation; return whether that worked.

    By default glibc hands large blocks back to the system at every free, and the system clears
    them, page by page, at the next allocation: every batch pays for that again. A process that does
    one thing and ends, as the command line does, has no use for it. Nothing happens where the C
    library is another one.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    # Both are set: a block above the first threshold would not fall under the second.
    kept = [mallopt(_MMAP_THRESHOLD, _LARGEST // 2), mallopt(_TRIM_THRESHOLD, _LARGEST)]
    return kept == [1, 1]
