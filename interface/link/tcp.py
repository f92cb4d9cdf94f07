"""TCP: a listener that admits whom it may, and connections as byte streams."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

from interface.errors import LinkError, LinkLost
from interface.link.stream import CHUNK_BYTES, ByteStream
from interface.link.tls import TlsError
from interface.settings import Address
from interface.systemd import Sockets, can_be_kept

# A peer that lost its power is noticed after a minute; analyzers are silent for hours otherwise. While something of
# ours is under way nobody is asked: without a time for that the kernel repeats it for a quarter of an hour (tcp(7)).
_VANISHED = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 60_000))
MOST_HANDSHAKES = 64  # under way at the same time on one listener
_BACKLOG = 128
_CLOSE_WAIT_S = 2.0  # for the peer to take what is still unsent

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TcpStream(asyncio.Protocol):
    """One TCP connection as a `ByteStream`; `made` is told of it when it is there.

    A protocol of its own and no pair of asyncio's streams, which cost a message more than its codec does.
    """

    def __init__(self, made: Callable[[TcpStream], None] = lambda stream: None) -> None:
        self._made = made
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unread = bytearray()
        self._held = False  # we take nothing for the moment
        self._full = False  # the peer takes nothing for the moment
        self._ended = False  # nothing more comes
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self.host, self._peer = "", "unknown"

    @property
    def peer(self) -> str:
        return self._peer

    async def read(self) -> bytes:
        if not (self._unread or self._ended):
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        if len(self._unread) <= CHUNK_BYTES:
            data = bytes(self._unread)
            self._unread.clear()
        else:
            data = bytes(memoryview(self._unread)[:CHUNK_BYTES])
            del self._unread[:CHUNK_BYTES]
        if self._held and len(self._unread) <= CHUNK_BYTES:
            self._held = False
            if self._transport is not None and not self._ended:
                self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        if self._transport is None or self._lost.done():
            raise LinkLost(f"the connection to {self._peer} broke")
        self._transport.write(data)
        if self._full:
            self._writer = self._loop.create_future()
            try:
                await self._writer
            finally:
                self._writer = None
        if self._lost.done():
            raise LinkLost(f"the connection to {self._peer} broke")
        if self._transport.is_closing():
            raise LinkLost(f"the connection to {self._peer} is closed")

    async def close(self) -> None:
        if self._transport is None:
            return
        self._transport.close()
        try:
            async with asyncio.timeout(_CLOSE_WAIT_S):
                await asyncio.shield(self._lost)
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Cut the connection without waiting for what is unsent."""
        if self._transport is not None:
            self._transport.abort()

    # ---- the event loop's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        if name := transport.get_extra_info("peername"):
            self.host = str(name[0])
            self._peer = str(Address(self.host, name[1]))
        _keep_alive(transport.get_extra_info("socket"))
        self._made(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._unread += data
        _wake(self._reader)
        if len(self._unread) > 2 * CHUNK_BYTES and not self._held and self._transport is not None:
            self._held = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`. What we still have to say may be heard."""
        self._ended = True
        _wake(self._reader)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._ended, self._full = True, False
        for waiting in (self._reader, self._writer, self._lost):
            _wake(waiting)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._full = True

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._full = False
        _wake(self._writer)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


def _keep_alive(sock: socket.socket | None) -> None:
    if sock is None:
        return
    with suppress(OSError):  # gone already: the first read says so
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _VANISHED:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def connect(address: Address) -> TcpStream:
    """Dial; raises LinkError with one sentence when nobody answers."""
    try:
        _, stream = await asyncio.get_running_loop().create_connection(TcpStream, address.host, address.port)
    except OSError as error:
        raise LinkError(f"cannot connect to {address}: {_reason(error)}") from error
    return stream


class TcpListener:
    """Accepts connections and runs `serve(stream)` for each as a task.

    `allow`: networks that may connect, empty for all. `secure` makes a TLS stream of a connection or raises TlsError;
    only what has passed it counts for `max_connections`. `stale(tasks)`: which of the tasks that serve connections from
    the newcomer's address may be cut to make room for it. `refused(reason, peer)` is told of those that were not
    admitted (`address`, `limit`, `busy`, or the reason of a TlsError). `sockets` has the listening socket of a former
    life, and keeps ours under `name` for the next.
    """

    def __init__(
        self,
        address: Address,
        serve: Callable[[ByteStream], Coroutine[Any, Any, None]],
        *,
        allow: tuple[str, ...] = (),
        max_connections: int = 32,
        secure: Callable[[TcpStream], Awaitable[ByteStream]] | None = None,
        stale: Callable[[list[asyncio.Task[None]]], asyncio.Task[None] | None] = lambda tasks: None,
        refused: Callable[[str, str], None] = lambda reason, peer: None,
        sockets: Sockets | None = None,
        name: str = "",
    ) -> None:
        self._address, self._serve = address, serve
        self._secure, self._stale, self._refused = secure, stale, refused
        self._allow: tuple[Network, ...] = tuple(ipaddress.ip_network(text, strict=False) for text in allow)
        self._max_connections = max_connections
        self._sockets, self._name = sockets or Sockets(), name.replace(":", "-")  # which separates names
        self._server: asyncio.Server | None = None
        self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._admitted: dict[asyncio.Task[None], str] = {}  # and from where

    @property
    def address(self) -> Address:
        """Where it listens; the port is the real one once `start` has returned."""
        return self._address

    @property
    def serving(self) -> bool:
        return self._server is not None and self._server.is_serving()

    @property
    def connections(self) -> frozenset[asyncio.Task[None]]:
        """The tasks of all connections: those that are served, and those that are not admitted yet."""
        return frozenset(self._tasks)

    async def start(self) -> None:
        """Listen; raises LinkError with one sentence when the address cannot be had."""
        self._stopped = False
        self._sockets.drop(self._name)  # one that failed, where it listens again
        loop, host, port = asyncio.get_running_loop(), self._address.host, self._address.port
        try:
            if (sock := self._sockets.take(self._name, self._address)) is not None:
                self._server = await loop.create_server(self._stream, sock=sock, backlog=_BACKLOG)
            else:
                self._server = await loop.create_server(self._stream, host, port, backlog=_BACKLOG)
        except (OSError, OverflowError) as error:
            raise LinkError(f"cannot listen on {self._address}: {_reason(error)}") from error
        self._address = Address(host, self._server.sockets[0].getsockname()[1])
        if can_be_kept(self._address):
            self._sockets.keep(self._name, self._server.sockets[0].fileno())

    async def stop(self) -> None:
        """Accept no more, not even who is on his way in; connections that are open go on."""
        self._stopped = True
        if self._server is not None:
            self._server.close()
            self._server = None
            self._sockets.drop(self._name)

    def _stream(self) -> TcpStream:
        return TcpStream(self._connected)

    def _connected(self, stream: TcpStream) -> None:
        if self._stopped:
            stream.abort()
            return
        if self._allow and not self._allowed(stream.host):
            self._refuse(stream, "address")
            return
        # A peer that never finishes its handshake takes no place from those that do.
        if self._secure is not None and len(self._tasks) - len(self._admitted) >= MOST_HANDSHAKES:
            self._refuse(stream, "busy")
            return
        if self._secure is None and not self._has_room(stream.host):
            self._refuse(stream, "limit")
            return
        task = asyncio.get_running_loop().create_task(self._run(stream))
        self._tasks.add(task)
        if self._secure is None:
            self._admitted[task] = stream.host

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._admitted.pop(task, None)
            stream.abort()  # of use only where the task was cancelled before it began

        task.add_done_callback(done)

    async def _run(self, stream: TcpStream) -> None:
        task = asyncio.current_task()
        if self._secure is None or task is None:
            await self._serve(stream)
            return
        try:
            secured = await self._secure(stream)
        except TlsError as error:
            self._refuse(stream, error.reason)
            return
        if not self._has_room(stream.host):
            self._refuse(stream, "limit")
            return
        self._admitted[task] = stream.host
        await self._serve(secured)

    def _refuse(self, stream: TcpStream, reason: str) -> None:
        stream.abort()
        self._refused(reason, stream.peer)

    def _has_room(self, host: str) -> bool:
        """Whether one more may be admitted; at the limit, a stale connection from the same address gives way."""
        if len(self._admitted) < self._max_connections:
            return True
        stale = self._stale([task for task, where in self._admitted.items() if where == host])
        if stale is None:
            return False
        del self._admitted[stale]
        stale.cancel()
        return True

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
