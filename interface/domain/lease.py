"""When a daemon is taken for dead by another that looks at it (docs/standby.md).

Nobody's wall clock is asked: who looks counts, on a clock of its own that never goes back, for how long it has seen the
same beat. Time in which it could not look, because the database was away or it was stopped itself, does not count: the
other one could not beat either. So nothing is taken after an outage, and a clock that is set does nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

BEATS: Final = 6  # in the time after which a silent daemon is taken for dead
WITHOUT_SESSION: Final = 0.5  # of that time is enough where the database has no connection of it: its process has ended
_LONGEST_GAP: Final = 2.0  # beats between two looks that count; a longer pause was ours

_Id = TypeVar("_Id", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Seen(Generic[_Id]):
    """A daemon as the database has it. `lease_s`: its own; `session`: it has a connection."""

    id: _Id
    beat: int
    lease_s: float
    session: bool


@dataclass(slots=True)
class _Still:
    beat: int
    for_s: float = 0.0
    without_s: float = 0.0  # of it, without a connection


class Watch(Generic[_Id]):
    """What one daemon has seen of the others. `pause_s`: between two of its looks."""

    def __init__(self, pause_s: float) -> None:
        self._longest_s = _LONGEST_GAP * pause_s
        self._seen: dict[_Id, _Still] = {}
        self._at: float | None = None

    def look(self, others: Iterable[Seen[_Id]], now: float) -> frozenset[_Id]:
        """All others at this moment, `now` in seconds; who of them is dead."""
        gap = 0.0 if self._at is None else min(now - self._at, self._longest_s)
        self._at = now
        seen: dict[_Id, _Still] = {}
        dead = set()
        for one in others:
            still = self._seen.get(one.id)
            if still is None or still.beat != one.beat:
                still = _Still(one.beat)
            else:
                still.for_s += gap
                still.without_s = 0.0 if one.session else still.without_s + gap
            seen[one.id] = still
            if still.for_s >= one.lease_s or still.without_s >= one.lease_s * WITHOUT_SESSION:
                dead.add(one.id)
        self._seen = seen
        return frozenset(dead)

    def interrupted(self) -> None:
        """A look failed: all begin anew."""
        self._seen.clear()
        self._at = None
