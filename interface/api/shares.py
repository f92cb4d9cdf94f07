"""What those who serve one HTTP port say, in memory that all of them see: how many connections each process has that
takes from the listening socket, and how much clients have asked for lately."""

from __future__ import annotations

import mmap
import os
import time
from array import array
from typing import Final

MOST_PLACES: Final = 64  # processes at a time; one that is replaced is there beside the one that replaces it
NOBODY: Final = 0xFFFFFFFF  # takes none
# Each request fills a vessel by as much as runs out in EACH_S. While much is in it, clients ask for more than 500
# things a second, and others do well to leave them a processor; a person's clicks hardly fill it, nor does polling.
EACH_S, MUCH_S, FULL_S = 0.002, 0.015, 0.03
_NEVER: Final = -1e9
_COUNTS: Final = NOBODY.to_bytes(4) * MOST_PLACES
_EMPTY: Final = _COUNTS + array("d", [_NEVER]).tobytes()


class Shares:
    """Each count is written by one process only, and says what was true a moment ago; when the vessel will be empty by
    any, at once: its eight bytes lie on a boundary of eight. That one of two who write at the same time is lost does no
    harm."""

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
        now = time.monotonic()
        self._asked[0] = min(max(self._asked[0], now) + EACH_S, now + FULL_S)

    @property
    def asked(self) -> bool:
        """Whether clients ask for much at the moment."""
        return self._asked[0] - time.monotonic() >= MUCH_S


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
