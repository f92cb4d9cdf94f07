"""What those who serve one HTTP port say, in memory that all of them see: how many connections each process has that
takes from the listening socket, and when a client last asked for something."""

from __future__ import annotations

import mmap
import os
import time
from array import array
from typing import Final

MOST_PLACES: Final = 64  # processes at a time; one that is replaced is there beside the one that replaces it
NOBODY: Final = 0xFFFFFFFF  # takes none
ASKED_S: Final = 0.02  # so long after a request there may be another, and people who wait
_NEVER: Final = -1e9
_COUNTS: Final = NOBODY.to_bytes(4) * MOST_PLACES
_EMPTY: Final = _COUNTS + array("d", [_NEVER]).tobytes()


class Shares:
    """Each count is written by one process only, and says what was true a moment ago; the instant by any, at once: its
    eight bytes lie on a boundary of eight."""

    def __init__(self, fd: int = -1) -> None:
        """`fd`: of `memory`, in this process or inherited; else it is this process's alone."""
        self._memory = mmap.mmap(fd, len(_EMPTY))
        if fd < 0:
            self._memory[:] = _EMPTY
        whole = memoryview(self._memory)
        self._counts, self._asked = whole[: len(_COUNTS)].cast("I"), whole[len(_COUNTS) :].cast("d")

    def tell(self, place: int, count: int) -> None:
        """How many the process at `place` has; NOBODY when it takes no more, or is gone."""
        self._counts[place] = count

    def least_beside(self, place: int) -> int | None:
        """How few any other has; None where there is no other."""
        others = [count for at, count in enumerate(self._counts) if at != place and count != NOBODY]
        return min(others, default=None)

    def ask(self) -> None:
        """A client has sent something. The clock is the machine's, and the same for all processes."""
        self._asked[0] = time.monotonic()

    @property
    def asked(self) -> bool:
        """Whether clients ask for something at the moment."""
        return time.monotonic() - self._asked[0] < ASKED_S


def memory() -> int:
    """A descriptor of memory for `Shares`, in which nobody takes connections yet. The caller closes it."""
    fd = os.memfd_create("labora-connections")
    os.write(fd, _EMPTY)
    return fd


class Share:
    """One process's place in it."""

    def __init__(self, shares: Shares | None = None, place: int = 0) -> None:
        """Without `shares` it is alone."""
        self._shares, self._place = shares or Shares(), place
        self.ask = self._shares.ask

    def tell(self, count: int) -> None:
        self._shares.tell(self._place, count)

    def others(self) -> int | None:
        return self._shares.least_beside(self._place)
