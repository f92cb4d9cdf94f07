"""A connection as a stream of bytes, whatever carries it, and a null modem that connects two ends in memory."""

from __future__ import annotations

import asyncio
from typing import Protocol

from interface.errors import LinkLost

CHUNK_BYTES = 65_536


class ByteStream(Protocol):
    """One connection. Used by one task at a time."""

    @property
    def peer(self) -> str:
        """Who is at the other end, for logs and the journal."""
        ...

    async def read(self) -> bytes:
        """What has come, at most CHUNK_BYTES; waits for at least one byte. b"" when the stream has ended or broken."""
        ...

    async def write(self, data: bytes) -> None:
        """Hand `data` to the peer; returns when the line has room for more. Raises LinkLost."""
        ...

    async def close(self) -> None:
        """End the connection; harmless when it has ended already. Never raises."""
        ...


class _Wire:
    """One direction of a null modem."""

    def __init__(self, capacity_bytes: int) -> None:
        self.data = bytearray()
        self.capacity_bytes = capacity_bytes
        self.closed = False
        self.changed = asyncio.Event()

    def change(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class MemoryStream:
    """One end of a null modem; see `null_modem`."""

    def __init__(self, incoming: _Wire, outgoing: _Wire, peer: str) -> None:
        self._in, self._out, self._peer = incoming, outgoing, peer

    @property
    def peer(self) -> str:
        return self._peer

    async def read(self) -> bytes:
        while not self._in.data and not self._in.closed:
            await self._in.changed.wait()
        chunk = bytes(self._in.data[:CHUNK_BYTES])
        del self._in.data[: len(chunk)]
        self._in.change()
        return chunk

    async def write(self, data: bytes) -> None:
        if self._out.closed:
            raise LinkLost("the null modem is unplugged")
        self._out.data += data
        self._out.change()
        while len(self._out.data) > self._out.capacity_bytes:
            await self._out.changed.wait()
            if self._out.closed:
                raise LinkLost("the null modem is unplugged")

    async def close(self) -> None:
        for wire in (self._in, self._out):
            wire.closed = True
            wire.change()


def null_modem(capacity_bytes: int = CHUNK_BYTES) -> tuple[MemoryStream, MemoryStream]:
    """Two connected ends (the analyzer's, the host's); a writer waits while more than `capacity_bytes` are unread."""
    there, back = _Wire(capacity_bytes), _Wire(capacity_bytes)
    return MemoryStream(back, there, "host"), MemoryStream(there, back, "analyzer")
