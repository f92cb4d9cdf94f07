"""Whether links send as fast as they are answered, by what the journal has committed in the last moments.

Then a burst is on its way, and what can wait should (`flow.courtesy`, `store.notes`). Analyzers at their ordinary pace
leave most of the time free, and their results are decided at once, however many analyzers there are. Hundreds of
messages a second that come one by one keep the journal at work all the same: who waits for its reply, and nothing else,
has its next message there at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias
from uuid import UUID

Lane: TypeAlias = tuple[UUID, str]  # a link, and who speaks over it

MEMORY_S: Final = 0.1  # how far back it looks, about
# Of the time, a commit is under way: about half of it where senders wait for each reply, whatever the machine is.
OCCUPIED: Final = 0.4
APPENDS_PER_S: Final = 250.0  # fewer, though each takes its time: that is the disk's, which leaves the machine free
AT_ONCE_S: Final = 0.02  # after the commit of what came before on the same connection; from farther away it is no burst
AT_ONCE: Final = 0.5  # of the appends come so soon
_WEIGHT: Final = 1 / 32  # of the last append, beside those before
_MOST_LANES: Final = 4096  # that are remembered


class Pressure:
    """Of one journal. Instants in seconds on the event loop's clock."""

    def __init__(self) -> None:
        self._began = self._ended = 0.0
        self._occupied = self._appends_per_s = self._at_once = 0.0
        self._landed: dict[Lane, float] = {}  # when the last append of each connection was committed
        self.high = False  # whether it was high when the last commit ended; asked for more often than that

    def came(self, now: float, lane: Lane | None) -> None:
        """Something is to be committed; without a `lane` it is part of what its connection is sending. Of a connection
        that is new it counts what came before over its link: there are senders that connect for each message."""
        soon = lane is None or now - self._landed.get(lane, self._landed.get((lane[0], ""), -math.inf)) < AT_ONCE_S
        self._at_once += (soon - self._at_once) * _WEIGHT

    def began(self, now: float) -> None:
        """A commit began, and no other was under way."""
        self._began = now

    def ended(self, now: float, lanes: Sequence[Lane | None]) -> None:
        """A commit ended. `lanes`: of its appends."""
        since = max(now - self._ended, 1e-6)
        self._ended = now
        weight = since / (since + MEMORY_S)
        self._occupied += (min((now - self._began) / since, 1.0) - self._occupied) * weight
        self._appends_per_s += (len(lanes) / since - self._appends_per_s) * weight
        often = self._occupied >= OCCUPIED and self._appends_per_s >= APPENDS_PER_S
        self.high = often and self._at_once >= AT_ONCE
        if len(self._landed) > _MOST_LANES:
            self._landed.clear()
        for lane in lanes:
            if lane is not None:
                self._landed[lane] = self._landed[lane[0], ""] = now
