"""Memory that is freed after a read is kept for the next one, where the C library is glibc.

Reads of encoded images take and give back a few megabytes each. Beyond 128 kB glibc gives such memory back to the system at
once, to begin with, and the pages that it gets again cost more than reading what goes into them. See mallopt(3).
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt: how much may lie free at the top of a heap; from which size on memory is mapped on its own."""
LARGEST = 32 << 20
"""Bytes of the largest piece that is kept; glibc allows no more."""
KEPT = 128 << 20
"""Bytes that may lie free."""


@cache
def keep() -> bool:
    """Keep freed memory from now on, in this process, and tell whether that is done: not where it is no glibc.

    Not either where the environment sets anything about memory (`MALLOC_TRIM_THRESHOLD_`, say): that goes before.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(M_MMAP_THRESHOLD, LARGEST) and library.mallopt(M_TRIM_THRESHOLD, KEPT))
