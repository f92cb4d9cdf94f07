"""`labora run` and its PostgreSQL under load, what can be broken of them, and how long it takes to be mended."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import ClassVar

import asyncpg

from interface.store.embedded import EmbeddedPostgres
from interface.store.schema import OWNER_ROLE
from tests.cluster import new_state_dir
from tests.e2e.daemon import COMMIT_WAIT_S, PATIENCE_S, Process
from tests.e2e.standby import Analyzer
from tests.fault.audit import Acked, Finding, audit
from tests.fault.disk import LoopDisk
from tests.fault.server import Server, damaged_pages, gone, postmaster, signal_all, signal_each
from tests.ops.system_cluster import SUPERUSER

PACE_S = 0.2
FROZEN_S = 1.0
STOP_WITHIN_S = 10.0
_LOCK = "lock table lab.result in access exclusive mode"
_END_ALL = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
 where pid <> pg_backend_pid() and backend_type = 'client backend'
"""


class Where(Enum):
    """Whose the database is."""

    EMBEDDED = "embedded"
    EXTERNAL = "external"


class Fault(Enum):
    """What is broken, and mended again."""

    KILL = "kill"  # SIGKILL to the daemon
    TERM = "term"  # SIGTERM: it ends in order
    RELOAD = "reload"  # SIGHUP
    PG_KILL = "pg-kill"  # SIGKILL to every process of PostgreSQL
    PG_RESTART = "pg-restart"  # its orderly end
    PG_SESSIONS = "pg-sessions"  # pg_terminate_backend of every session
    PG_FREEZE = "pg-freeze"  # SIGSTOP to every process of it, for `Rig.frozen_s`
    PG_LOCK = "pg-lock"  # somebody holds a lock on the results for `Rig.frozen_s`
    POWER_CUT = "power-cut"  # the file system loses what is not synced, everything is killed, all is started again


class Daemon(Process):
    """`lie`: which lie of `tests.fault.liar` it tells."""

    lie: str | None = None
    _starting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def begin(self) -> None:
        """Start it, without waiting for anything."""
        self._starting = asyncio.create_task(self.start())

    @property
    def failed(self) -> bool:
        """Whether it ended before it was ready."""
        return self._starting is not None and self._starting.done() and self._starting.exception() is not None

    async def settled(self) -> None:
        """Once it is ready; raises what it said where it ended before."""
        if self._starting is not None:
            await self._starting

    async def killed(self) -> None:
        """Whether it was ready or not."""
        assert await self.end(signal.SIGKILL) == -signal.SIGKILL
        if self._starting is not None:
            await asyncio.wait([self._starting])
            self._starting.exception()  # that it ended before it was ready
        self._starting = None

    def _command(self) -> list[str]:
        command = super()._command()
        return [sys.executable, "-m", "tests.fault.liar", self.lie, *command[1:]] if self.lie else command


class Rig:
    """Made by `rig`."""

    def __init__(self, daemon: Daemon, server: Server | None, disk: LoopDisk | None, senders: int) -> None:
        self.daemon, self.server, self.disk = daemon, server, disk
        self.data = server.data if server is not None else daemon.state_dir / "pg" / "data"
        self.frozen_s = FROZEN_S
        self.analyzers = [
            Analyzer((daemon.astm if number % 2 else daemon.hl7,), f"K{number}", bool(number % 2))
            for number in range(senders)
        ]
        self._audited = [0] * senders
        self._sending: list[asyncio.Task[None]] = []

    def send(self) -> None:
        self._sending = [asyncio.create_task(_send(one)) for one in self.analyzers]

    async def stop_sending(self) -> None:
        """Raises what has ended one of them."""
        for task in self._sending:
            task.cancel()
        ended = await asyncio.gather(*self._sending, return_exceptions=True)
        self._sending = []
        for one in self.analyzers:
            await one.close()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    # ---- what is broken ---------------------------------------------------------------------------------------------

    async def broken(self, fault: Fault) -> float:
        """Break it and mend it. Returns the seconds from the break to the next acknowledgement.

        Who is killed may be killed while it still starts, as soon as it has acknowledged something.
        """
        if fault not in (Fault.KILL, Fault.POWER_CUT):
            await self.daemon.settled()
        began = asyncio.get_running_loop().time()
        since = await self._BREAKS[fault](self)
        async with asyncio.timeout(PATIENCE_S):
            while (last := self._last_ack()) <= since:  # another process answers
                if self.daemon.failed:
                    await self.daemon.settled()
                await asyncio.sleep(0.002)
        first = min(when for one in self.analyzers for _, _, when in one.acknowledged[-200:] if when > since)
        assert last >= first
        return first - began

    def _last_ack(self) -> float:
        return max(one.acknowledged[-1][2] if one.acknowledged else 0.0 for one in self.analyzers)

    async def _now(self) -> float:
        """From now on, once what had been answered before has been read."""
        await asyncio.sleep(0.01)
        return asyncio.get_running_loop().time()

    async def _kill(self) -> float:
        await self.daemon.killed()
        since = await self._now()
        self.daemon.begin()
        return since

    async def _term(self) -> float:
        async with asyncio.timeout(STOP_WITHIN_S):
            status = await self.daemon.end(signal.SIGTERM)
        assert status == 0, f"it ended with {status}"
        since = await self._now()
        await self.daemon.start()
        return since

    async def _reload(self) -> float:
        await self.daemon.reload()
        return await self._now()

    async def _server_ends(self, number: signal.Signals) -> float:
        """Where it is the daemon's own, the daemon starts it again."""
        pid = postmaster(self.data)
        await gone(signal_all(pid, number) if number is signal.SIGKILL else _told(pid, number))
        since = await self._now()
        if self.server is not None:
            self.server.stop()  # nothing is left to stop: it is reaped
            await self.server.start()
        return since

    async def _pg_kill(self) -> float:
        return await self._server_ends(signal.SIGKILL)

    async def _pg_restart(self) -> float:
        return await self._server_ends(signal.SIGINT)

    async def _pg_sessions(self) -> float:
        owner = await asyncpg.connect(self.url)
        await owner.fetchval(_END_ALL)
        await owner.close()
        return await self._now()

    async def _pg_freeze(self) -> float:
        processes = signal_all(postmaster(self.data), signal.SIGSTOP)
        since = await self._now()
        try:
            await asyncio.sleep(self.frozen_s)
        finally:
            signal_each(processes, signal.SIGCONT)  # the one that goes on first may have ended others
        return since

    async def _pg_lock(self) -> float:
        """What is decided waits for it; what is acknowledged does not, so that the next is looked for at once."""
        owner = await asyncpg.connect(self.url)
        async with owner.transaction():
            await owner.execute(_LOCK)
            since = await self._now()
            async with asyncio.timeout(PATIENCE_S):
                while self._last_ack() <= since:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
            await asyncio.sleep(self.frozen_s)
        await owner.close()
        return since

    async def _power_cut(self) -> float:
        assert self.disk is not None
        pid = postmaster(self.data)
        self.disk.cut()
        await self.daemon.killed()
        await gone(signal_all(pid, signal.SIGKILL))
        if self.server is not None:
            self.server.stop()
        since = await self._now()
        await self.disk.unmount()
        self.disk.mount()
        if self.server is not None:
            await self.server.start()
        self.daemon.begin()
        return since

    _BREAKS: ClassVar[Mapping[Fault, Callable[[Rig], Awaitable[float]]]] = {
        Fault.KILL: _kill, Fault.TERM: _term, Fault.RELOAD: _reload, Fault.PG_KILL: _pg_kill,
        Fault.PG_RESTART: _pg_restart, Fault.PG_SESSIONS: _pg_sessions, Fault.PG_FREEZE: _pg_freeze,
        Fault.PG_LOCK: _pg_lock, Fault.POWER_CUT: _power_cut,
    }  # fmt: skip

    # ---- what became of it ------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """For somebody who sees everything."""
        if self.server is not None:
            return self.server.url(SUPERUSER)
        return EmbeddedPostgres(self.daemon.state_dir).url(OWNER_ROLE)

    async def audit(self, everything: bool = False) -> tuple[int, list[Finding]]:
        """How many messages were acknowledged since the audit before, or at any time, and what is wrong with them."""
        await self.daemon.settled()  # only then it decides
        ends = [len(one.acknowledged) for one in self.analyzers]
        acked = [
            Acked(control_id, one.name, int(control_id.rpartition("-")[2]), one.astm)
            for one, begin, end in zip(self.analyzers, self._audited, ends, strict=True)
            for control_id, _, _ in one.acknowledged[0 if everything else begin : end]
        ]
        self._audited = ends
        owner = await asyncpg.connect(self.url)
        try:
            return len(acked), await audit(owner, acked)
        finally:
            await owner.close()

    async def damaged(self) -> str | None:
        """Once everything has been stopped in order: what is wrong with the pages of its data directory."""
        await self.stop_sending()
        assert await self.daemon.end() == 0
        if self.server is not None:
            self.server.stop()
        return await asyncio.to_thread(damaged_pages, self.data)


def _told(pid: int, number: signal.Signals) -> list[int]:
    os.kill(pid, number)
    return [pid]


async def _send(analyzer: Analyzer) -> None:
    while True:
        await analyzer.send()
        await asyncio.sleep(PACE_S)


@asynccontextmanager
async def rig(
    where: Where,
    *,
    power: bool = False,
    senders: int = 4,
    lie: str | None = None,
    state: Path | None = None,
    commit_wait_s: float = COMMIT_WAIT_S,
) -> AsyncIterator[Rig]:
    """All of it, with analyzers that send, half of them HL7 and half ASTM, each message until it is acknowledged.

    `power`: on a disk whose power can be cut (`disk.obstacle` says whether there can be one). `state`: the directory of
    an embedded server that was started once, to begin from.
    """
    folder = new_state_dir()
    disk = LoopDisk(folder) if power else None
    made: Rig | None = None
    server: Server | None = None
    base = disk.path if disk else folder
    try:
        if where is Where.EXTERNAL:
            (base / "pg").mkdir()
            server = Server(base / "pg", "-c", "max_wal_size=128MB")
            await server.found()
        elif state is not None:
            await asyncio.to_thread(_copy, state, base / "state")
        daemon = Daemon(base / "state", folder)
        daemon.lie = lie
        waits = (f"commit_wait_s = {COMMIT_WAIT_S}", f"commit_wait_s = {commit_wait_s}")
        daemon.config.write_text(daemon.config.read_text().replace(*waits))
        if server is not None:
            daemon.config.write_text(daemon.config.read_text().replace('"embedded"', f'"{server.url()}"'))
        made = Rig(daemon, server, disk, senders)
        await daemon.start()
        made.send()
        yield made
    finally:
        await _undo(made, server, disk)
        shutil.rmtree(folder, ignore_errors=True)


def _copy(state: Path, to: Path) -> None:
    subprocess.run(["cp", "-a", str(state), str(to)], check=True)  # -a: the server's account
    subprocess.run(["sync", "-f", str(to)], check=True)  # as initdb leaves it


async def _undo(made: Rig | None, server: Server | None, disk: LoopDisk | None) -> None:
    """Whatever has failed, nothing is left running or mounted."""
    if made is not None:
        with suppress(Exception):
            await made.stop_sending()
        with suppress(ProcessLookupError, AssertionError):
            await made.daemon.end(signal.SIGKILL)
        with suppress(OSError, ValueError):  # no server, or a disk whose power was cut
            await gone(signal_all(postmaster(made.data), signal.SIGKILL))
    if server is not None:
        server.stop(signal.SIGKILL)
    if disk is not None:
        await disk.unmount()


def moment(chance: random.Random) -> float:
    """How long until something breaks, in seconds: any moment of what is sent."""
    return chance.uniform(0.05, 0.5)
