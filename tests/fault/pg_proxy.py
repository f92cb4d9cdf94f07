"""A PostgreSQL whose n-th call fails: it passes the protocol on to a real server, and counts.

A call is what a client ends with Query or Sync and then waits for. Protocol 3.0: a message is a letter, its length with
itself, and its body; the first of a connection has no letter (PostgreSQL documentation, "Message Formats").
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

SOCKET = ".s.PGSQL.5432"


class How(Enum):
    """What becomes of a call. All but the first two are refused by the server's own words, as SQLSTATE has them."""

    UNSENT = "the connection ends before the server has it"
    UNANSWERED = "the server does it, and the connection ends before its answer"
    DISK_FULL = "53100"
    DEADLOCK = "40P01"
    SERIALIZATION = "40001"
    READ_ERROR = "58030"  # as EIO becomes
    INTERRUPTED = "57014"  # a statement that was cancelled


class Proxy:
    """Made by `failing`. Only the calls of the application's role are counted."""

    def __init__(self, url: str, folder: Path, role: str) -> None:
        query = dict(parse_qsl(urlsplit(url).query))
        self._real, self._role = f"{query['host']}/{SOCKET}", role
        self.path = str(folder / SOCKET)
        self.url = f"postgresql://{urlsplit(url).path}?{urlencode({**query, 'host': str(folder)}, safe='/')}"
        self.calls, self._at, self._how = 0, 0, How.UNSENT
        self.failed = 0

    def fail(self, at: int, how: How) -> None:
        """Count anew from here; the call of this number fails, and no other."""
        self.calls, self._at, self._how = 0, at, how

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self._real)
        try:
            await _Session(self, reader, writer, up_reader, up_writer).run()
        finally:
            for one in (writer, up_writer):
                one.close()

    def next_call(self) -> How | None:
        self.calls += 1
        if self.calls != self._at:
            return None
        self.failed += 1
        return self._how


class _Session:
    def __init__(
        self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._up_reader, self._up_writer = up_reader, up_writer
        self._counted, self._in_transaction, self._deaf = False, False, False

    async def run(self) -> None:
        first = await self._start()
        self._counted = f"user\0{self._proxy._role}\0".encode() in first
        ways = {asyncio.create_task(self._down()), asyncio.create_task(self._up())}
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for task in ways:
            task.cancel()
        await asyncio.gather(*ways, return_exceptions=True)

    async def _start(self) -> bytes:
        size = await self._reader.readexactly(4)
        body = await self._reader.readexactly(struct.unpack(">I", size)[0] - 4)
        self._up_writer.write(size + body)
        return body

    async def _message(self, reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
        head = await reader.readexactly(5)
        return head[:1], head + await reader.readexactly(struct.unpack(">I", head[1:])[0] - 4)

    async def _up(self) -> None:
        """What the client says, a call at a time."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            call = b""
            while True:
                kind, message = await self._message(self._reader)
                call += message
                if kind in b"QS":
                    how = self._proxy.next_call() if self._counted else None
                    if how is How.UNSENT:
                        return
                    if how is None or how is How.UNANSWERED:
                        self._deaf = how is not None
                        self._up_writer.write(call)
                    else:
                        self._refuse(how)
                    call = b""
                elif kind in b"HX":  # Flush, Terminate
                    self._up_writer.write(call)
                    call = b""

    async def _down(self) -> None:
        """What the server answers."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, message = await self._message(self._up_reader)
                if kind == b"Z":  # ReadyForQuery
                    self._in_transaction = message[5:6] != b"I"
                    if self._deaf:
                        return
                if not self._deaf:
                    self._writer.write(message)

    def _refuse(self, how: How) -> None:
        fields = f"SERROR\0VERROR\0C{how.value}\0Mthis call fails\0\0".encode()
        state = b"E" if self._in_transaction else b"I"
        self._writer.write(b"E" + struct.pack(">I", len(fields) + 4) + fields + b"Z" + struct.pack(">I", 5) + state)


@asynccontextmanager
async def failing(url: str, folder: Path, role: str) -> AsyncIterator[Proxy]:
    """In front of the server of a URL, which is reached by a socket in a folder."""
    proxy = Proxy(url, folder, role)
    server = await asyncio.start_unix_server(proxy.serve, proxy.path)
    async with server:
        yield proxy
