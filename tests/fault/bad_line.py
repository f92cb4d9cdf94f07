"""A bad line between an analyzer and the daemon: one that is far, slow, cut, forgets an answer, or falls silent."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from interface.settings import Address

PIECE = 64  # bytes that a slow line passes on together


@dataclass(frozen=True, slots=True)
class How:
    """What is wrong with it. `far_s`: how long each byte is under way, in each direction; `rate`: bytes a second, in
    each; `cut_at`: of the first connection, the byte of the analyzer's after which it is reset; `forgets`: the answer,
    counted over all connections, that is lost together with its connection."""

    far_s: float = 0.0
    rate: float = 0.0
    cut_at: int = 0
    forgets: int = 0


class BadLine:
    """Made by `bad_line`. `silent`: nothing is passed on any more, and nothing is ended."""

    def __init__(self, to: Address, how: How) -> None:
        self._to, self._how = to, how
        self._said = self._answered = 0
        self.connections = self.resets = 0
        self.silent = False
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)  # however it ends: `close` takes the line away at any moment
        self.connections += 1
        ends, ways = [writer], list[asyncio.Task[None]]()
        try:
            up_reader, up_writer = await asyncio.open_connection(self._to.host, self._to.port)
            ends.append(up_writer)
            ways += [asyncio.create_task(self._pass(reader, up_writer, ends, said=True)),
                     asyncio.create_task(self._pass(up_reader, writer, ends, said=False))]  # fmt: skip
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for one in ends:
                one.close()
        await asyncio.gather(*ways, return_exceptions=True)
        for one in ends:
            with suppress(OSError):
                await one.wait_closed()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: Sequence[asyncio.StreamWriter],
        *, said: bool,
    ) -> None:  # fmt: skip
        """What comes is under way for as long, however much is; then it goes out as fast as the line is."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arriving = asyncio.create_task(self._arrive(under_way, writer))
        try:
            while (data := await reader.read(1 << 16)) or not reader.at_eof():
                cut = self._cut(data, said)
                if cut is not None:
                    writer.write(data[:cut])
                    await asyncio.sleep(0)
                    self._reset(*ends)
                    return
                under_way.put_nowait((loop.time() + self._how.far_s, data))
            under_way.put_nowait((loop.time() + self._how.far_s, b""))
            await arriving
        except ConnectionError:
            return
        finally:
            arriving.cancel()

    async def _arrive(self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while True:
                due, data = await under_way.get()
                if self.silent:
                    continue
                await asyncio.sleep(due - loop.time())
                if not data:
                    return
                step = PIECE if self._how.rate else len(data)
                for at in range(0, len(data), step):
                    piece = data[at : at + step]
                    if self._how.rate:
                        await asyncio.sleep(len(piece) / self._how.rate)
                    writer.write(piece)
                    await writer.drain()

    def _cut(self, data: bytes, said: bool) -> int | None:
        """How much of this still arrives before the line is reset; None: it is not."""
        if said:
            before, self._said = self._said, self._said + len(data)
            return self._how.cut_at - before if before < self._how.cut_at <= self._said else None
        self._answered += 1
        return 0 if self._answered == self._how.forgets else None

    def _reset(self, *writers: asyncio.StreamWriter) -> None:
        """RST, not FIN."""
        self.resets += 1
        for writer in writers:
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def close(self) -> None:
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


@asynccontextmanager
async def bad_line(to: Address, how: How) -> AsyncIterator[tuple[BadLine, Address]]:
    """The line, and the address at which it takes analyzers."""
    line = BadLine(to, how)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        try:
            yield line, Address(host, port)
        finally:
            server.close()  # or somebody would still come in
            await asyncio.sleep(0)  # whoever did has a task now
            await line.close()
