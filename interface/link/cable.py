"""A link over a serial cable."""

from __future__ import annotations

import asyncio

import structlog

from interface import telemetry
from interface.errors import LinkError
from interface.link.backoff import STABLE_S, BackOff
from interface.link.base import Link, LinkSpec
from interface.link.clock import Clock
from interface.link.listening import Refusals
from interface.link.serial import LineFault, SerialStream, open_port
from interface.settings import SerialPort

log = structlog.get_logger(__name__)


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
        self._faults = Refusals(clock)

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
            self._stream = open_port(self._port, self._noted)
        except LinkError as error:
            self.went_down(str(error))
        else:
            self.went_up()

    def _noted(self, fault: LineFault) -> None:
        """A break or a damaged character: counted, and logged once in a while."""
        self.counters.line_faults[fault] += 1
        telemetry.count_line_fault(self.settings.id, fault)
        before = self._faults.note(fault)
        if before is not None:
            log.warning("line fault", link=self.settings.id, action="link.line_fault", fault=str(fault),
                        not_logged_before=before)  # fmt: skip

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
