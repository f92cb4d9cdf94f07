"""Whether links send as fast as they are answered, by what the journal has committed in the last moments.

Then a burst is on its way, and what can wait should (`flow.courtesy`, `store.notes`). Analyzers at their ordinary pace
leave most of the time free, and their results are decided at once, however many analyzers there are.
"""

from __future__ import annotations

from typing import Final

MEMORY_S: Final = 0.1  # how far back it looks, about
# Of the time, a commit is under way: about half of it where senders wait for each reply, whatever the machine is.
OCCUPIED: Final = 0.4
APPENDS_PER_S: Final = 250.0  # fewer, though each takes its time: that is the disk's, which leaves the machine free


class Pressure:
    """Of one journal. Instants in seconds on the event loop's clock."""

    def __init__(self) -> None:
        self._began = self._ended = 0.0
        self._occupied = self._appends_per_s = 0.0

    @property
    def high(self) -> bool:
        """Whether it was high when the last commit ended."""
        return self._occupied >= OCCUPIED and self._appends_per_s >= APPENDS_PER_S

    def began(self, now: float) -> None:
        """A commit began, and no other was under way."""
        self._began = now

    def ended(self, now: float, appends: int) -> None:
        """A commit of so many appends ended."""
        since = max(now - self._ended, 1e-6)
        self._ended = now
        weight = since / (since + MEMORY_S)
        self._occupied += (min((now - self._began) / since, 1.0) - self._occupied) * weight
        self._appends_per_s += (appends / since - self._appends_per_s) * weight
