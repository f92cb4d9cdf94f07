"""Acknowledging and answering come before deciding: how much of the machine the deciding of results may take from the
links and from the clients of the API.

An analyzer waits for its acknowledgement (LIS01-A2 gives 15 s, some give up after 10) and sends nothing meanwhile;
nobody waits for a decision that is two seconds later. So while links send as fast as they are answered, results are
decided one at a time, in a fiftieth of the time; a burst is acknowledged first and decided after it. When the oldest
message has waited longer than a burst lasts, the share grows until deciding keeps up with what arrives: the backlog
cannot grow for ever. At an ordinary pace results are decided at once.

A transaction that decides three messages costs hardly less than one that decides ten. So after the queue has been
emptied it is left alone until `TOGETHER_S` after it was looked at: what comes meanwhile is decided together, and what
comes by itself is decided as soon as it comes.

A person or another system waits for what is asked of the API. While much is, results are decided one batch at a time,
with a moment between two: the daemon works on them or the database does, not both. One processor of two remains,
and a backlog drains nearly as fast, for requests take what was saved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

_T = TypeVar("_T")

LEAST_SHARE: Final = 0.02
ASKED_SHARE: Final = 0.99  # of the time, while clients ask: it is one at a time that leaves them a processor
BURST_S, PATIENCE_S = 5.0, 15.0  # the age of the oldest message at which the share begins to grow, and is whole
_TICK_S: Final = 0.01
# How fast links would send is heard only while nothing is decided: who waits for its replies is as slow as they are.
LISTEN_S, LISTEN_AFTER_S = 0.04, 0.8
TOGETHER_S: Final = 0.03


def share_of(waited_s: float) -> float:
    """The part of the time that deciding may take while links deliver, when its oldest message has waited so long."""
    grown = (waited_s - BURST_S) / (PATIENCE_S - BURST_S)
    return min(1.0, max(LEAST_SHARE, LEAST_SHARE + (1 - LEAST_SHARE) * grown))


class Courtesy:
    """Lets work on results go on when others leave room. `busy`: whether links send as fast as they are answered;
    `asked`: whether clients ask for much.

    `now` and `sleep`: seconds on a clock that never goes back; the event loop's unless told otherwise.
    """

    def __init__(
        self,
        busy: Callable[[], bool],
        asked: Callable[[], bool],
        now: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.busy, self.asked = busy, asked
        self._first = ((busy, share_of), (asked, lambda _: ASKED_SHARE))  # who goes first, and what it leaves
        self._now = now or (lambda: asyncio.get_running_loop().time())
        self._sleep = sleep
        self._one = asyncio.Lock()
        self._took_s = self._ended = 0.0  # what was worked on with a share of the time, and until when
        self._running = 0
        self._worked_s = 0.0  # since links were listened to, or heard

    async def turn(self, waited_s: float, work: Callable[[], Awaitable[_T]]) -> _T:
        """Do one piece of work, whose message or an older one has waited for `waited_s`: now, or when it is its turn.

        What the work raises passes; the others are given their time all the same.
        """
        await self._listen(waited_s)
        if self._share(waited_s) == 1.0:
            return await self._work(work)
        async with self._one:
            await self._listen(waited_s)
            while (left := self._ended + self._took_s * (1 / self._share(waited_s) - 1) - self._now()) > 0:
                await self._sleep(min(left, _TICK_S))
            began = self._now()
            try:
                return await self._work(work)
            finally:
                self._ended = self._now()
                self._took_s = self._ended - began

    async def gather(self, since: float) -> None:
        """Let messages come together. `since`: when the queue was looked at that had fewer than were asked of it."""
        if (left := since + TOGETHER_S - self._now()) > 0:
            await self._sleep(left)

    def _share(self, waited_s: float) -> float:
        """The part of the time that deciding may take now."""
        return min((share(waited_s) for there, share in self._first if there()), default=1.0)

    async def _work(self, work: Callable[[], Awaitable[_T]]) -> _T:
        began = self._now()
        self._running += 1
        try:
            return await work()
        finally:
            self._running -= 1
            self._worked_s = 0.0 if self.busy() else self._worked_s + self._now() - began

    async def _listen(self, waited_s: float) -> None:
        """After enough work, and when none is going on, leave the links alone for a moment."""
        courteous = share_of(waited_s) < 1.0 and not self.busy()
        if courteous and self._worked_s >= LISTEN_AFTER_S and not self._running:
            self._worked_s = 0.0
            await self._sleep(LISTEN_S)
