"""An `Outgoing` for the link tests: says what it is given, and remembers what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

from interface.errors import StoreUnavailable
from interface.link.intake import Outgoing, Sending
from tests.link.bench import PATIENCE_S, RecordingIntake


def sending(number: int, data: bytes, *, expects_reply: bool = False) -> Sending:
    return Sending(UUID(int=number), data, expects_reply)


class Saying(RecordingIntake):
    """An intake with something to say: `todo`, each until it is delivered."""

    def __init__(self, *todo: Sending) -> None:
        super().__init__()
        self.todo = list(todo)
        self.told_of = list[tuple[int, bool, str]]()  # number, delivered, reason
        self.heard = list[bytes | None]()  # replies
        self.answers = list[bytes]()  # to the next replies
        self.refusals = 0  # of the next takes
        self.closed = 0
        self.due: Callable[[], None] = lambda: None
        self.building = asyncio.Event()
        self.building.set()

    def outgoing(self, peer: str, due: Callable[[], None]) -> Outgoing | None:
        self.due = due
        return self

    async def take(self) -> Sending | None:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("not now")
        await self.building.wait()
        return self.todo[0] if self.todo else None

    async def told(self, sending: Sending, delivered: bool, reply: bytes | None, reason: str) -> bytes | None:
        self.told_of.append((sending.id.int, delivered, reason))
        self.heard.append(reply)
        if delivered:
            self.todo.remove(sending)
        self.changed.set()
        return self.answers.pop(0) if self.answers else None

    def close(self) -> None:
        self.closed += 1

    async def told_times(self, count: int) -> None:
        """Wait until it has been told so often."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.told_of) < count:
                self.changed.clear()
                await self.changed.wait()
