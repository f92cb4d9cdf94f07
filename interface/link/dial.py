"""A link on which we call the analyzer: one connection, made again as long as the link is there."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from random import random

from interface.errors import LinkError
from interface.link.backoff import STABLE_S, BackOff
from interface.link.base import Link, LinkSpec
from interface.link.clock import Clock
from interface.link.stream import ByteStream
from interface.link.tcp import TcpStream, connect
from interface.link.tls import TlsError, call, dial_context
from interface.settings import Address, DialTls

CONNECT_WAIT_S = 10.0  # a host that answers nothing at all, behind a firewall, would keep the kernel trying for 2 min


class DialLink(Link):
    """Dials, serves the connection to its end and dials again, with jittered back-off.

    An analyzer that does not answer never keeps the daemon from starting: it may be switched on later.
    """

    def __init__(self, spec: LinkSpec, clock: Clock, peer: Address, jitter: Callable[[], float] = random) -> None:
        super().__init__(spec, clock)
        self._peer = peer
        self._back_off = BackOff(jitter)
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._tls: ssl.SSLContext | None = None

    @property
    def address(self) -> str:
        return str(self._peer)

    async def start(self) -> None:
        self.refresh()
        self.went_down(f"not yet connected to {self._peer}")
        self._task = asyncio.create_task(self._keep_connected(), name=f"link {self.settings.id}")

    async def stop(self, drain_s: float) -> None:
        self._stopping = True
        await self.end(frozenset({self._task} if self._task else ()), drain_s)

    async def _keep_connected(self) -> None:
        while not self._stopping:
            try:
                stream = await self._connect()
            except LinkError as error:
                self.went_down(str(error))
            else:
                connected_at = self.clock.now()
                self.went_up()
                await self.serve(stream)
                if self._stopping:
                    return
                self.went_down(f"the connection to {self._peer} ended")
                if self.clock.now() - connected_at >= STABLE_S:  # else it hangs up on us: less and less often
                    self._back_off.reset()
            await self.clock.sleep(self._back_off.next_s())

    def refresh(self) -> None:
        if isinstance(self.settings.tls, DialTls):
            try:
                self._tls = dial_context(self.settings.tls)
            except (OSError, ValueError) as error:
                raise LinkError("its certificate or key cannot be used any more") from error

    async def _connect(self) -> ByteStream:
        """Raises LinkError with one sentence."""
        try:
            async with self.clock.timeout_at(self.clock.now() + CONNECT_WAIT_S):
                stream = await connect(self._peer)
                tls = self.settings.tls
                return await self._secured(stream, tls.server_name) if isinstance(tls, DialTls) else stream
        except TimeoutError as error:
            raise LinkError(f"cannot connect to {self._peer}: it does not answer") from error

    async def _secured(self, stream: TcpStream, server_name: str) -> ByteStream:
        """Raises LinkError."""
        try:
            if self._tls is None:
                raise TlsError("handshake", "there is no certificate")
            return await call(stream, self._tls, server_name or self._peer.host)
        except TlsError as error:
            stream.abort()
            raise LinkError(f"cannot connect to {self._peer}: {error}") from error
        except asyncio.CancelledError:
            stream.abort()
            raise
