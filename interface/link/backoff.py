"""How long to wait before a port, an address or a folder is tried again."""

from __future__ import annotations

from collections.abc import Callable

FIRST_S, LONGEST_S = 1.0, 60.0
STABLE_S = LONGEST_S  # what has worked for so long is taken for sound: the next wait is short again


class BackOff:
    """Waits that double, from FIRST_S to LONGEST_S.

    `jitter` gives a number between 0 and 1 and shortens a wait by up to half, so that the links to a rack of analyzers
    that came back together are not all dialled at the same moment.
    """

    def __init__(self, jitter: Callable[[], float] = lambda: 0.0) -> None:
        self._jitter, self._next_s = jitter, FIRST_S

    def next_s(self) -> float:
        """Seconds to wait now."""
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, LONGEST_S)
        return wait_s * (1 - self._jitter() / 2)

    def reset(self) -> None:
        """It works: begin again at FIRST_S."""
        self._next_s = FIRST_S
