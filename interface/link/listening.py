"""A link that is connected to: a listener, and a task for each connection."""

from __future__ import annotations

import asyncio

import structlog

from interface.errors import LinkError
from interface.link.backoff import BackOff
from interface.link.base import Link, LinkSpec, LinkState
from interface.link.clock import Clock
from interface.link.tcp import TcpListener
from interface.settings import Address

CHECK_S = 5.0  # how often a listener is looked after

log = structlog.get_logger(__name__)


class ListeningLink(Link):
    """A link that is connected to: a listener, and a task for each connection."""

    def __init__(self, spec: LinkSpec, clock: Clock, address: Address) -> None:
        super().__init__(spec, clock)
        self.listener = TcpListener(
            address,
            self.serve,
            allow=self.settings.allow,
            max_connections=self.settings.max_connections,
            refused=self._refused,
        )
        self._watch: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return str(self.listener.address)

    async def start(self) -> None:
        try:
            await self._listen()
        except LinkError as error:
            raise LinkError(f"link {self.settings.id}: {error}") from error
        self._watch = asyncio.create_task(self._look_after(), name=f"link {self.settings.id}")

    async def stop(self, drain_s: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self.listener.stop()
        await self.end(self.listener.connections, drain_s)

    async def _listen(self) -> None:
        try:
            await self.listener.start()
        except LinkError as error:
            self.went_down(str(error))
            raise
        self.went_up()

    async def _look_after(self) -> None:
        """Put a listener that failed back, with back-off; connections that are open are not touched."""
        back_off = BackOff()
        while True:
            await self.clock.sleep(CHECK_S)
            if self.listener.serving:
                back_off.reset()
                continue
            if self.state is LinkState.UP:
                self.went_down("the listener failed")
            try:
                await self._listen()
            except LinkError:
                await self.clock.sleep(back_off.next_s())

    def _refused(self, reason: str, peer: str) -> None:
        self.counters.connections_refused += 1
        log.warning("connection refused", link=self.settings.id, action="link.refused", reason=reason, peer=peer)
