"""Tells the links that they may have something to say, once what makes it so is committed.

Only a shorter way: what nobody is woken for is found a little later, by whoever looks at the order book now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

_sleepers: dict[UUID, dict[Callable[[], None], UUID]] = {}  # by organization: who is to be woken, and whose it is


_elsewhere: Callable[[UUID], None] | None = None


def elsewhere(wake: Callable[[UUID], None] | None) -> None:
    """The links are, or may be, another process's, which `wake` tells; None: not any more."""
    global _elsewhere
    _elsewhere = wake


def sleep(organization_id: UUID, analyzer_id: UUID, wake: Callable[[], None]) -> None:
    """Have `wake` called from now on, until `leave`."""
    _sleepers.setdefault(organization_id, {})[wake] = analyzer_id


def leave(organization_id: UUID, wake: Callable[[], None]) -> None:
    """Not any more. Harmless when it was not."""
    sleepers = _sleepers.get(organization_id, {})
    sleepers.pop(wake, None)
    if not sleepers:
        _sleepers.pop(organization_id, None)


def sleeping() -> dict[UUID, set[UUID]]:
    """The analyzers whose links may have to be woken, by organization."""
    return {organization_id: set(sleepers.values()) for organization_id, sleepers in _sleepers.items()}


def wake(organization_id: UUID, analyzer_id: UUID | None = None) -> None:
    """There may be work for the links of an analyzer, or for all of the organization. Returns at once."""
    if _elsewhere is not None:
        _elsewhere(organization_id)
    here(organization_id, analyzer_id)


def here(organization_id: UUID, analyzer_id: UUID | None = None) -> None:
    """The same for links of this process alone."""
    for call, whose in list(_sleepers.get(organization_id, {}).items()):
        if analyzer_id is None or whose == analyzer_id:
            call()
