"""Several processes for one HTTP port (`[api] workers`): the daemon's own keeps the links and what must be once, the
others serve. All accept from one listening socket that the daemon made and they inherit.

Over a socket pair each: the daemon sends the settings, then once a second how its links are; a server sends that it is
ready, for whom links are to look for work, and what it has counted. A server ends when the daemon does.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import struct
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final
from uuid import UUID

import structlog

from interface import telemetry
from interface.api import shares
from interface.api.context import LinkStatus, Readiness
from interface.api.shares import MOST_PLACES, NOBODY, Shares
from interface.errors import LaboraError
from interface.flow import waking
from interface.settings import Settings
from interface.telemetry import Counted

READY_WAIT_S: Final = 30.0
STATE_PAUSE_S: Final = 1.0
PROGRAM: Final = "interface.server"
MOST_UNREAD: Final = 4 << 20  # bytes
_AGAIN_FIRST_S, _AGAIN_LONGEST_S = 0.5, 30.0
_LENGTH: Final = struct.Struct(">I")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """How the daemon is, for a server to show."""

    ready: Readiness
    links: tuple[LinkStatus, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """The first a server is told. `fd`: the listening socket; `shares_fd`, `place`: where it says how many connections
    it has."""

    settings: Settings
    fd: int
    shares_fd: int
    place: int
    state: State


@dataclass(frozen=True, slots=True)
class Started:
    """A server serves."""


@dataclass(frozen=True, slots=True)
class AskMetrics:
    """A server wants to show what the daemon and all its processes have counted."""


@dataclass(frozen=True, slots=True)
class Metrics:
    page: bytes
    media: str


@dataclass(frozen=True, slots=True)
class Wake:
    """There may be work for the links of an organization."""

    organization_id: UUID


Said = State | Begin | Started | Wake | AskMetrics | Metrics | Counted


class Channel:
    """Both ends' way to talk: what one process of ours says to another, pickled, each with its length before it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end))

    def say(self, said: Said) -> None:
        """Returns at once. What the other end does not read is lost with it, and more than MOST_UNREAD is not kept:
        all that is said often replaces what was said before."""
        if not self._writer.is_closing() and self._writer.transport.get_write_buffer_size() <= MOST_UNREAD:
            data = pickle.dumps(said)
            self._writer.write(_LENGTH.pack(len(data)) + data)

    async def hear(self) -> Said | None:
        """The next thing said; None at the end."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            said: Said = pickle.loads(await self._reader.readexactly(length))  # noqa: S301  our own process wrote it
        except (asyncio.IncompleteReadError, OSError):
            return None
        return said

    def close(self) -> None:
        self._writer.close()

    async def closed(self) -> None:
        """Close when what was said has left."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


@dataclass(slots=True)
class _Server:
    process: asyncio.subprocess.Process
    channel: Channel
    place: int
    started: asyncio.Event = field(default_factory=asyncio.Event)
    counted: Counted = field(default_factory=Counted)
    wanted: bool = True  # False: it was told to end
    hearing: asyncio.Task[None] | None = None


class Servers:
    """The server processes of a daemon. `woken`: told for which organization there may be work."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        state: Callable[[], State],
        drain_s: float,
        woken: Callable[[UUID], None],
    ) -> None:
        self._settings, self._listener, self._state, self._drain_s = settings, listener, state, drain_s
        self._woken = woken
        self._servers: list[_Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()
        self._shares_fd = shares.memory()
        self._shares, self._places = Shares(self._shares_fd), cycle(range(MOST_PLACES))

    @property
    def asked(self) -> bool:
        """Whether clients ask for much at the moment."""
        return self._shares.asked

    @property
    def pids(self) -> Sequence[int]:
        return [server.process.pid for server in self._servers]

    async def start(self, number: int) -> None:
        """Return when all serve. Raises LaboraError when one ends instead, or does not in time."""
        begun = await asyncio.gather(*(self._begin() for _ in range(number)), return_exceptions=True)
        self._servers += [one for one in begun if isinstance(one, _Server)]
        if failed := next((one for one in begun if isinstance(one, BaseException)), None):
            raise failed  # `stop` ends those that began
        self._do(self._tell())

    async def restart(self) -> None:
        """Put a new process in the place of each, one after the other; nobody who asks meanwhile notices."""
        async with self._changing:
            for place, old in enumerate(list(self._servers)):
                self._servers[place] = await self._begin()
                await self._end(old)

    async def stop(self) -> None:
        async with self._changing:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*map(self._end, self._servers))
            self._servers = []
            if self._shares_fd >= 0:
                os.close(self._shares_fd)
                self._shares_fd = -1

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="api-servers")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin(self) -> _Server:
        ours, theirs = socket.socketpair()
        command = (sys.executable, "-m", PROGRAM, str(theirs.fileno()))
        # In a session of its own, as PostgreSQL's processes are: where no control group does, Linux shares the machine
        # out between sessions (sched(7), autogroup), and in the daemon's a request would wait for what it decides.
        process = await asyncio.create_subprocess_exec(
            *command, pass_fds=(theirs.fileno(), self._listener.fileno(), self._shares_fd),
            stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        theirs.close()
        server = _Server(process, await Channel.over(ours), next(self._places))
        begin = Begin(self._settings, self._listener.fileno(), self._shares_fd, server.place, self._state())
        server.channel.say(begin)
        server.hearing = asyncio.create_task(self._hear(server), name="api-server")
        serves = asyncio.create_task(server.started.wait())
        await asyncio.wait((serves, server.hearing), timeout=READY_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        serves.cancel()
        if not server.started.is_set():
            ended = "ended" if server.hearing.done() else f"did not serve within {READY_WAIT_S:.0f} s"
            await self._end(server)
            raise LaboraError(f"api.workers: a process of the API {ended} (status {process.returncode}); see the log")
        return server

    async def _hear(self, server: _Server) -> None:
        """Until it has ended; one that was not told to is replaced."""
        while (said := await server.channel.hear()) is not None:
            match said:
                case Started():
                    server.started.set()
                case Wake(organization_id):
                    waking.wake(organization_id)
                    self._woken(organization_id)
                case AskMetrics():
                    server.channel.say(Metrics(*telemetry.metrics_page()))
                case Counted():
                    telemetry.count_apart(server.counted, said)
                    server.counted = said
        server.channel.close()
        status = await server.process.wait()
        self._shares.tell(server.place, NOBODY)  # also where it could not say so itself
        if server.wanted and server.started.is_set():
            log.error("an API process ended", action="api.process", pid=server.process.pid, status=status)
            self._do(self._replace(server))

    async def _replace(self, lost: _Server) -> None:
        delay_s = _AGAIN_FIRST_S
        while lost in self._servers:
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _AGAIN_LONGEST_S)
            try:
                async with self._changing:
                    if lost in self._servers:
                        self._servers[self._servers.index(lost)] = await self._begin()
            except (OSError, LaboraError) as error:
                log.error("an API process does not start", action="api.process", error=type(error).__name__)

    async def _end(self, server: _Server) -> None:
        server.wanted = False
        with suppress(ProcessLookupError):
            server.process.terminate()
        try:
            async with asyncio.timeout(self._drain_s + 5.0):
                await server.process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                server.process.kill()
        if server.hearing is not None:
            await asyncio.gather(server.hearing, return_exceptions=True)

    async def _tell(self) -> None:
        while True:
            state = self._state()
            for server in self._servers:
                server.channel.say(state)
            await asyncio.sleep(STATE_PAUSE_S)
