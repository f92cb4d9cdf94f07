"""One connection's own messages: which is next, which is on the line, and who is told what became of it.

What is committed of a message is committed beside the session, which reads on meanwhile: an analyzer's frames never
wait for a download. At any moment there is one message at most, being asked for, on the line, or being told of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from interface.errors import StoreError
from interface.link.backoff import BackOff
from interface.link.clock import Clock
from interface.link.intake import Intake, Outgoing, Sending

STORE_RETRY_S = 1.0
AGAIN_S = 10.0  # after a message that the peer did not take; LIS01-A2 has the same time for one that is busy

log = structlog.get_logger(__name__)


class Speaker:
    """Asks the intake's `Outgoing` for messages; the session puts them on the line.

    `wake` is called when the session should look again: something may be `taken`, or there is an `answer`.
    """

    def __init__(self, link: str, intake: Intake, peer: str, clock: Clock, wake: Callable[[], None]) -> None:
        self._link, self._clock, self._wake = link, clock, wake
        self._due, self._not_before = True, 0.0
        self._back_off = BackOff()
        self._heard = 0  # how often the peer has spoken
        self._task: asyncio.Task[None] | None = None
        self.taken: Sending | None = None  # and not on the line yet
        self.on_line: Sending | None = None
        self.answer: bytes | None = None  # to the reply that came to our last message
        self._outgoing: Outgoing | None = intake.outgoing(peer, self.due)

    def due(self) -> None:
        """Something may have to be said."""
        self._due = True
        self._wake()

    @property
    def quiet(self) -> bool:
        """Whether nothing is on the line, about to be, or being told of."""
        return self._task is None and self.taken is None and self.on_line is None and self.answer is None

    @property
    def look_at(self) -> float | None:
        """When to look again though nobody calls; None: not at all."""
        return self._not_before if self._outgoing is not None and self._due and self.quiet else None

    @property
    def idle(self) -> bool:
        """Whether the connection could be cut now: what is only about to be said stays due."""
        return self._task is None and self.on_line is None and self.answer is None

    def look(self) -> None:
        """The line is free: have the next message built, unless it is too early for one."""
        if self._outgoing is None or not (self._due and self.quiet) or self._clock.now() < self._not_before:
            return
        self._due = False
        self._start(self._take(self._outgoing))

    def begin(self) -> Sending | None:
        """The message that goes on the line now."""
        self.on_line, self.taken = self.taken, None
        return self.on_line

    def heard(self) -> None:
        """The peer has spoken: what it may be owed is not held back any longer, and what was built before is looked at
        again. It may have taken its question back, or the order be off; an answer may have become too old."""
        self._heard += 1
        if self.taken is not None:
            self.on_line, self.taken = self.taken, None
            self.told(False, reason="overtaken")
        self._back_off.reset()
        self._not_before = 0.0

    def told(self, delivered: bool, reply: bytes | None = None, reason: str = "") -> None:
        """What became of the message on the line."""
        sending, self.on_line = self.on_line, None
        if sending is None or self._outgoing is None:
            return
        if delivered:
            self.heard()
        else:
            self._not_before = self._clock.now() + max(AGAIN_S, self._back_off.next_s())
        self._due = True
        self._start(self._tell(self._outgoing, sending, delivered, reply, reason))

    async def close(self, reason: str) -> None:
        """The connection is over. What is on the line, or about to be, was not delivered as far as anybody knows."""
        if self._outgoing is None:
            return
        outgoing, self._outgoing = self._outgoing, None
        try:
            if self._task is not None:
                await asyncio.wait({self._task})  # it commits, which has its own end
            for sending in (self.taken, self.on_line):
                if sending is not None:
                    await outgoing.told(sending, False, None, reason)
            self.taken = self.on_line = None
        finally:
            outgoing.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.create_task(self._run(work), name=f"speaker {self._link}")

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except StoreError as error:
            log.warning("message not taken yet", link=self._link, action="link.waiting", reason=error.slug)
            self._due, self._not_before = True, self._clock.now() + STORE_RETRY_S
        except Exception as error:  # a fault of ours must not silence the link, nor end it
            log.error("message not taken", link=self._link, action="link.fault", exc_info=error)
            self._due, self._not_before = True, self._clock.now() + AGAIN_S
        finally:
            self._task = None
            self._wake()

    async def _take(self, outgoing: Outgoing) -> None:
        heard, sending = self._heard, await outgoing.take()
        if sending is None or heard == self._heard:
            self.taken = sending
        else:
            self._due = True
            await outgoing.told(sending, False, None, "overtaken")

    async def _tell(
        self, outgoing: Outgoing, sending: Sending, delivered: bool, reply: bytes | None, reason: str
    ) -> None:
        self.answer = await outgoing.told(sending, delivered, reply, reason)
