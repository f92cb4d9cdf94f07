"""What a process of ours weighs, and what looking after its memory costs: how the C library keeps what was freed
(glibc's mallopt(3)), how often cycles are looked for."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

# <malloc.h>
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
# One heap: each thread would have its own, and what one frees another cannot use; the interpreter lets one run at a
# time anyway. What is larger than this is the system's again when it is freed, and so is the heap's end: glibc's own
# figures to begin with, which it raises up to 32 and 64 MiB by the blocks that are freed, unless they are set.
_GIVE_BACK: Final = 128 * 1024
# What a message or a request leaves is small and without cycles. Messages that are decided together keep some 40,000
# objects until they are committed, records not counted, searches that share a statement some 5,000 until they are
# answered: to look through those for cycles again and again cost 4 % of the messages' rate, and a sixth of the
# searches'. So it begins beyond them.
_GC_THRESHOLDS: Final = (60_000, 20, 20)


def give_back() -> None:
    """To be called before threads are made. Where the C library knows nothing of it, nothing changes."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for what, value in ((_ARENA_MAX, 1), (_TRIM_THRESHOLD, _GIVE_BACK), (_MMAP_THRESHOLD, _GIVE_BACK)):
        mallopt(what, value)


def settle() -> None:
    """To be called when everything is there that stays: the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    gc.enable()  # `labora run` did without it
