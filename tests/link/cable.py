"""Serial cables made of pseudo-terminals: real descriptors and a real kernel buffer, no speed and no parity."""

from __future__ import annotations

import asyncio
import os
import tty
from pathlib import Path

from interface.errors import LinkLost
from interface.link.stream import CHUNK_BYTES
from interface.settings import SerialPort


class Cable:
    """A cable whose one plug is a port with a name of ours; the other end, a `ByteStream`, is in our hand."""

    def __init__(self, name: Path) -> None:
        self.name = name
        self.port = SerialPort(name)
        self._end = self._adapter = -1
        self.plug()

    @property
    def adapter(self) -> int:
        """The port's own descriptor, to see what it is set to."""
        return self._adapter

    def plug(self) -> None:
        """Put the adapter in: another device, with the same name, as udev would give it."""
        # The slave is kept open: an adapter stays where it is when the program that used it goes.
        self._end, self._adapter = os.openpty()
        tty.setraw(self._adapter)
        self.name.symlink_to(os.ttyname(self._adapter))
        os.set_blocking(self._end, False)

    def unplug(self) -> None:
        """Pull the adapter out: its name is gone, and who has it open sees the line hung up."""
        if self._end >= 0:
            self.name.unlink()
            os.close(self._end)
            os.close(self._adapter)
            self._end = self._adapter = -1

    @property
    def peer(self) -> str:
        return "the other end"

    async def read(self) -> bytes:
        while True:
            try:
                return os.read(self._end, CHUNK_BYTES)
            except BlockingIOError:
                await self._ready(False)
            except OSError:  # it was unplugged
                return b""

    async def write(self, data: bytes) -> None:
        unsent = memoryview(data)
        while unsent:
            try:
                unsent = unsent[os.write(self._end, unsent) :]
            except BlockingIOError:
                await self._ready(True)
            except OSError as error:
                raise LinkLost("the cable was unplugged") from error

    async def close(self) -> None:
        self.unplug()

    async def _ready(self, writing: bool) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        add(self._end, wake)
        try:
            await ready
        finally:
            remove(self._end)


async def splice(one: Cable, other: Cable) -> None:
    """Join two cables in the middle: what is said into one port is heard at the other, until it is cancelled."""

    async def carry(source: Cable, sink: Cable) -> None:
        while data := await source.read():
            await sink.write(data)

    await asyncio.gather(carry(one, other), carry(other, one))
