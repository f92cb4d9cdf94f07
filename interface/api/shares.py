"""How many connections each process has of those that take from one listening socket: memory that all of them see."""

from __future__ import annotations

import mmap
import os
from array import array
from typing import Final

MOST_PLACES: Final = 64  # processes at a time; one that is replaced is there beside the one that replaces it
NOBODY: Final = 0xFFFFFFFF  # takes none
_BYTES: Final = MOST_PLACES * array("I").itemsize


class Shares:
    """Each place is written by one process only, and says what was true a moment ago."""

    def __init__(self, fd: int) -> None:
        """`fd`: of `memory`, in this process or inherited."""
        self._memory = mmap.mmap(fd, _BYTES)
        self._counts = memoryview(self._memory).cast("I")

    def tell(self, place: int, count: int) -> None:
        """How many the process at `place` has; NOBODY when it takes no more, or is gone."""
        self._counts[place] = count

    def least_beside(self, place: int) -> int | None:
        """How few any other has; None where there is no other."""
        others = [count for at, count in enumerate(self._counts) if at != place and count != NOBODY]
        return min(others, default=None)


def memory() -> int:
    """A descriptor of memory for `Shares`, in which nobody takes connections yet. The caller closes it."""
    fd = os.memfd_create("labora-connections")
    os.write(fd, NOBODY.to_bytes(4) * MOST_PLACES)
    return fd


class Share:
    """One process's place in it."""

    def __init__(self, shares: Shares | None = None, place: int = 0) -> None:
        """Without `shares` it is alone."""
        self._shares, self._place = shares, place

    def tell(self, count: int) -> None:
        if self._shares is not None:
            self._shares.tell(self._place, count)

    def others(self) -> int | None:
        return self._shares.least_beside(self._place) if self._shares is not None else None
