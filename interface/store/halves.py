"""How much of what waits a group takes, when all senders wait for the journal at the same time.

Senders that wait for each reply fall into step: all are committed in one group, then all are answered, and all have
their next message ready. The server waits while we answer and we wait while it writes. In two halves, one is committed
while the other is answered, and nobody waits; but each half has its own fsync. So that is done only where an answer
takes its time and a commit does not. On a slow disk a group is as large as it can be.
"""

from __future__ import annotations

import math
from typing import Final

LEAST: Final = 8  # fewer are not halved: a statement costs more than its rows
IN_STEP: Final = 0.75  # so much of what senders have under way waits at once
LONGEST_TURN_S: Final = 0.02  # after a longer pause nobody was being answered
WEIGHT: Final = 1 / 16  # of the last commit, and of the last turn, beside those before


class Halves:
    """Of one journal. Instants in seconds on the event loop's clock."""

    def __init__(self) -> None:
        self._landed = -math.inf
        self._commit_s = self._turn_s = 0.0

    def most(self, waiting: int, under_way: float, now: float) -> int:
        """How many of those that wait the next group takes; nothing else is being committed."""
        if waiting < LEAST or waiting < under_way * IN_STEP:
            return waiting
        if (turn_s := now - self._landed) <= LONGEST_TURN_S:
            self._turn_s += (turn_s - self._turn_s) * WEIGHT
        # About half of a commit is its fsync and what else a second statement costs once more.
        return (waiting + 1) // 2 if self._commit_s < 2 * self._turn_s else waiting

    def landed(self, began: float, now: float) -> None:
        """A group was committed."""
        self._landed = now
        self._commit_s += (now - began - self._commit_s) * WEIGHT
