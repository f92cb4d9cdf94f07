"""A link over a serial cable."""

from __future__ import annotations

import asyncio

from interface.errors import LinkError
from interface.link.backoff import STABLE_S, BackOff
from interface.link.base import Link, LinkSpec
from interface.link.clock import Clock
from interface.link.serial import SerialStream, open_port
from interface.settings import SerialPort


class SerialLink(Link):
    """A cable: one session for as long as its port is there, opened again by name when it is back.

    A port that cannot be opened never keeps the daemon from starting: the cable may come later.
    """

    def __init__(self, spec: LinkSpec, clock: Clock, port: SerialPort) -> None:
        super().__init__(spec, clock)
        self._port = port
        self._stream: SerialStream | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def address(self) -> str:
        return str(self._port)

    async def start(self) -> None:
        self._open()
        self._task = asyncio.create_task(self._keep_open(), name=f"link {self.settings.id}")

    async def stop(self, drain_s: float) -> None:
        self._stopping = True
        await self.end(frozenset({self._task} if self._task else ()), drain_s)
        if self._stream is not None:  # of use only where the task was cancelled before it began
            await self._stream.close()

    def _open(self) -> None:
        try:
            self._stream = open_port(self._port)
        except LinkError as error:
            self.went_down(str(error))
        else:
            self.went_up()

    async def _keep_open(self) -> None:
        back_off = BackOff()
        while True:
            if self._stream is not None:
                opened_at, stream = self.clock.now(), self._stream
                await self.serve(stream)
                self._stream = None
                if self._stopping:
                    return
                if self.clock.now() - opened_at >= STABLE_S:  # else its contact is loose: less and less often
                    back_off.reset()
                    if not stream.fault:  # silent for a day, which says nothing about the port
                        self._open()
                        continue
                self.went_down(stream.fault or "the session ended")
            await self.clock.sleep(back_off.next_s())
            self._open()
