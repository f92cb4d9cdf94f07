"""PostgreSQL as it is broken: all its processes killed or frozen at once, whoever started it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from interface.store.ids import uuid7
from interface.store.migrate import upgrade
from interface.store.programs import server_account, server_at_least
from tests.ops.system_cluster import ROLES, SUPERUSER, SystemCluster

PATIENCE_S = 30.0


class Server(SystemCluster):
    """One that is not the daemon's own, with what a production server has: checksums, and everything synced."""

    def make(self) -> None:
        made = self.command(
            self.programs.path("initdb"), "-D", str(self.data), "-U", SUPERUSER, "-E", "UTF8", "--locale=C",
            "--auth=trust", "--data-checksums",
        )  # fmt: skip
        assert made.returncode == 0, made.stderr

    async def found(self) -> None:
        """Make it, with the roles that scripts/install makes, the schema, and a laboratory."""
        self.make()
        await self.start()
        await self.execute(*ROLES)
        await upgrade(self.url())
        text = "insert into lab.organization (id, name) values ('{}', 'main')"
        await self.execute(text.format(uuid7()), "select 1", database="labora")


def postmaster(data: Path) -> int:
    """The process id of the server on a data directory."""
    return int((data / "postmaster.pid").read_text().split()[0])


def _processes(pid: int) -> Iterator[int]:
    """It and its children: each leads a session of its own, so that no process group has them all."""
    yield pid
    with suppress(FileNotFoundError):
        yield from map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def signal_all(pid: int, number: signal.Signals) -> list[int]:
    """Send a signal to a server's processes, its own first, so that it starts no others. Returns who they were."""
    processes = list(_processes(pid))
    signal_each(processes, number)
    return processes


def signal_each(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes, but to those that have ended, as a server's helpers do by themselves."""
    for each in pids:
        with suppress(ProcessLookupError):
            os.kill(each, number)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


async def gone(pids: list[int]) -> None:
    """Wait until none of them runs: a server does not start beside what is left of the one before."""
    async with asyncio.timeout(PATIENCE_S):
        while any(map(_runs, pids)):  # noqa: ASYNC110  processes that are not ours to wait for
            await asyncio.sleep(0.002)


def damaged_pages(data: Path) -> str | None:
    """What pg_checksums says of a data directory whose server has been stopped, where it is not content."""
    account, programs = server_account(data), server_at_least(int((data / "PG_VERSION").read_text()), None)
    assert programs is not None
    done = subprocess.run(
        [programs.path("pg_checksums"), "--check", "-D", str(data)], **account.popen(), cwd="/", capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip()
