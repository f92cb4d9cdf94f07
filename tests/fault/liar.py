"""`python -m tests.fault.liar hasty|lazy --config FILE run`: a daemon that does not keep its promise.

Planted before the harness, which must find it: one that is not caught shows that nothing else would be.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from uuid import UUID

from interface.cli import run_command
from interface.store import embedded
from interface.store.journal import Journal

LATE_S = 0.5


def hasty() -> None:
    """It acknowledges what it is still going to commit."""
    real = Journal._enter

    def enter(journal: Journal, *arguments: Any) -> asyncio.Future[frozenset[UUID]]:
        loop = asyncio.get_running_loop()
        loop.call_later(LATE_S, real, journal, *arguments)
        promised: asyncio.Future[frozenset[UUID]] = loop.create_future()
        promised.set_result(frozenset())
        return promised

    Journal._enter = enter  # type: ignore[method-assign, assignment]


def lazy() -> None:
    """Its server says that it has committed before that is on the disk, and it does not mind."""

    async def content(*_: object, **__: object) -> None:
        return None

    # The longest there is: what was committed within it is not on the disk, unless something else has synced it.
    late = {"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"}
    vars(embedded).update(check_server=content, SERVER_OPTIONS={**embedded.SERVER_OPTIONS, **late})


LIES = {"hasty": hasty, "lazy": lazy}

if __name__ == "__main__":
    LIES[sys.argv[1]]()
    sys.exit(run_command(sys.argv[2:]))
