"""TCP: a listener that admits whom it may, and connections as byte streams."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from interface.errors import LinkError, LinkLost
from interface.link.stream import CHUNK_BYTES, ByteStream
from interface.settings import Address

# A peer that lost its power is noticed after 60 + 4 * 15 s; analyzers are silent for hours otherwise.
_KEEP_ALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
_BACKLOG = 128
_CLOSE_WAIT_S = 2.0  # for the peer to take what is still unsent

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TcpStream:
    """One TCP connection as a `ByteStream`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        name = writer.get_extra_info("peername")
        self.host = str(name[0]) if name else ""
        self._peer = str(Address(self.host, name[1])) if name else "unknown"
        self._keep_alive()

    @property
    def peer(self) -> str:
        return self._peer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(CHUNK_BYTES)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise LinkLost(f"the connection to {self._peer} broke") from error
        if self._writer.is_closing():
            raise LinkLost(f"the connection to {self._peer} is closed")

    async def close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(_CLOSE_WAIT_S):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self.abort()

    def abort(self) -> None:
        """Cut the connection without waiting for what is unsent."""
        self._writer.transport.abort()

    def _keep_alive(self) -> None:
        sock: socket.socket | None = self._writer.get_extra_info("socket")
        if sock is None:
            return
        with suppress(OSError):  # gone already: the first read says so
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEP_ALIVE:
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def connect(address: Address) -> TcpStream:
    """Dial; raises LinkError with one sentence when nobody answers."""
    try:
        return TcpStream(*await asyncio.open_connection(address.host, address.port))
    except OSError as error:
        raise LinkError(f"cannot connect to {address}: {_reason(error)}") from error


class TcpListener:
    """Accepts connections and runs `serve(stream)` for each as a task.

    `allow`: networks that may connect, empty for all. `refused(reason, peer)` is told of those that were not admitted
    (`address`, `limit`).
    """

    def __init__(
        self,
        address: Address,
        serve: Callable[[ByteStream], Coroutine[Any, Any, None]],
        *,
        allow: tuple[str, ...] = (),
        max_connections: int = 32,
        refused: Callable[[str, str], None] = lambda reason, peer: None,
    ) -> None:
        self._address, self._serve, self._refused = address, serve, refused
        self._allow: tuple[Network, ...] = tuple(ipaddress.ip_network(text, strict=False) for text in allow)
        self._max_connections = max_connections
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> Address:
        """Where it listens; the port is the real one once `start` has returned."""
        return self._address

    @property
    def serving(self) -> bool:
        return self._server is not None and self._server.is_serving()

    @property
    def connections(self) -> frozenset[asyncio.Task[None]]:
        """The tasks that serve connections now."""
        return frozenset(self._tasks)

    async def start(self) -> None:
        """Listen; raises LinkError with one sentence when the address cannot be had."""
        try:
            self._server = await asyncio.start_server(
                self._connected, self._address.host, self._address.port, backlog=_BACKLOG
            )
        except (OSError, OverflowError) as error:
            raise LinkError(f"cannot listen on {self._address}: {_reason(error)}") from error
        self._address = Address(self._address.host, self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Accept no more; connections that are open go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = TcpStream(reader, writer)
        reason = self._objection(stream.host)
        if reason:
            stream.abort()
            self._refused(reason, stream.peer)
            return
        task = asyncio.get_running_loop().create_task(self._serve(stream))
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            stream.abort()  # of use only where the task was cancelled before it began

        task.add_done_callback(done)

    def _objection(self, host: str) -> str:
        """Why the peer is not admitted; "" when it is."""
        if self._allow and not self._allowed(host):
            return "address"
        return "limit" if len(self._tasks) >= self._max_connections else ""

    def _allowed(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._allow)


def _reason(error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return "another program uses this address"
    if isinstance(error, socket.gaierror):
        return "the host name is not known"
    return os.strerror(code).lower() if code else str(error).lower()
