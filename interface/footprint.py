"""What a process of ours weighs: how the C library keeps what was freed (glibc's mallopt(3))."""

from __future__ import annotations

import ctypes
from typing import Final

# <malloc.h>
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
# One heap: each thread would have its own, and what one frees another cannot use; the interpreter lets one run at a
# time anyway. What is larger than this is the system's again when it is freed, and so is the heap's end: glibc's own
# figures to begin with, which it raises up to 32 and 64 MiB by the blocks that are freed, unless they are set.
_GIVE_BACK: Final = 128 * 1024


def give_back() -> None:
    """To be called before threads are made. Where the C library knows nothing of it, nothing changes."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for what, value in ((_ARENA_MAX, 1), (_TRIM_THRESHOLD, _GIVE_BACK), (_MMAP_THRESHOLD, _GIVE_BACK)):
        mallopt(what, value)
