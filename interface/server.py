"""One process that serves the HTTP interface for a daemon that keeps the links: `python -m interface.server FD`.

`FD`: our end of a socket pair with `interface.servers`, which says everything else.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

import uvloop

from interface import telemetry
from interface.api.app import build_app
from interface.api.context import Readiness
from interface.api.shares import Share, Shares
from interface.flow import waking
from interface.flow.feed import Feed
from interface.footprint import give_back, settle
from interface.servers import AskMetrics, Begin, Channel, Metrics, Started, State, Wake
from interface.serving import LINGER_S, serving
from interface.store.audit import AuditWriter
from interface.store.audit_sealer import Sealer
from interface.store.db import Database

COUNTED_PAUSE_S: Final = 1.0


STANDSTILL_S: Final = 5.0  # it says how it is each second: who is silent for so long answers no analyzer either


class _Server:
    def __init__(self, channel: Channel, begin: Begin) -> None:
        self._channel, self._begin = channel, begin
        self._hear_state(begin.state)
        self._metrics: list[asyncio.Future[tuple[bytes, str]]] = []
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Until the daemon says so, or is no more."""
        settings = self._begin.settings
        waking.elsewhere(lambda organization_id: self._channel.say(Wake(organization_id)))
        async with AsyncExitStack() as stack:
            database = Database(settings.database.url)
            stack.push_async_callback(database.close)
            sealer = Sealer(database)
            stack.push_async_callback(sealer.close)  # when the last row is written
            audit = AuditWriter(database)
            audit.start()
            stack.push_async_callback(audit.close)
            feed = Feed(database)
            app = build_app(
                database, settings, audit,
                ready=lambda: self._state.ready, link_status=lambda: self._state.links, feed=feed, metrics=self._page,
            )  # fmt: skip
            listener = socket.socket(fileno=self._begin.fd)
            share = Share(Shares(self._begin.shares_fd), self._begin.place)
            drain_s = settings.limits.drain_s
            await stack.enter_async_context(serving(app, listener, drain_s=drain_s, linger_s=LINGER_S, share=share))
            for work in (self._hear(), self._count(), feed.run(tuple), sealer.run()):
                stack.push_async_callback(_cancelled, asyncio.create_task(work, name="server"))
            self._channel.say(Started())
            settle()
            await self.ended.wait()
        self._channel.say(telemetry.counted())

    def _hear_state(self, state: State) -> None:
        self._said, self._said_at = state, time.monotonic()

    @property
    def _state(self) -> State:
        """How the daemon is; not as it was, where it is stopped or hangs: another may have its links by now."""
        if time.monotonic() - self._said_at < STANDSTILL_S:
            return self._said
        text = "the daemon stands still: it does not say how it is"
        links = tuple(replace(one, up=False, text=text) for one in self._said.links)
        return State(Readiness(False, False, text, active=False), links)

    async def _hear(self) -> None:
        while (said := await self._channel.hear()) is not None:
            match said:
                case State():
                    self._hear_state(said)
                case Metrics(page, media):
                    waiting, self._metrics = self._metrics, []
                    for one in waiting:
                        if not one.done():
                            one.set_result((page, media))
        self.ended.set()  # the daemon is no more

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(COUNTED_PAUSE_S)
            self._channel.say(telemetry.counted())

    async def _page(self) -> tuple[bytes, str]:
        """What the daemon and all its processes have counted."""
        self._channel.say(telemetry.counted())
        answer: asyncio.Future[tuple[bytes, str]] = asyncio.get_running_loop().create_future()
        self._metrics.append(answer)
        self._channel.say(AskMetrics())
        return await answer


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def main(fd: int) -> None:
    channel = await Channel.over(socket.socket(fileno=fd))
    begin = await channel.hear()
    if not isinstance(begin, Begin):
        return
    server = _Server(channel, begin)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.ended.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # the daemon ends us, whoever is asked to stop
    await server.run()
    await channel.closed()


if __name__ == "__main__":
    give_back()
    telemetry.configure_logs(for_good=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
