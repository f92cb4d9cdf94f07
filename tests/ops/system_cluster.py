"""A PostgreSQL as `scripts/install` finds it on a server: a superuser `postgres`, roles without special rights."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

import asyncpg

from interface.store.programs import Programs, reachable, server_account, server_at_least
from tests.cluster import new_state_dir

SUPERUSER: Final = "postgres"
ROLES: Final = (  # what scripts/install makes
    "create role labora_app login",
    "create role labora_owner login createdb",
    "grant labora_app to labora_owner",
    "create role labora_backup nologin bypassrls",
    "grant pg_read_all_data to labora_backup",
    "grant labora_backup to labora_owner",
    "create database labora owner labora_owner",
)


class SystemCluster:
    """One server in a folder of its own, or in one that is given; everybody may log in as anybody over its socket."""

    def __init__(self, folder: Path | None = None, *options: str) -> None:
        self.folder, self._options = folder or new_state_dir(), options
        self.account = server_account(self.folder / "none")
        found = server_at_least(14, None)
        assert found is not None
        self.programs: Programs = reachable(found, self.folder / "programs", self.account)
        self.data = self.folder / "data"
        self.wal: Path | None = None  # where its log is to be, if not beside its data
        self.run = self.folder / "run"
        self.run.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self.account.take(self.folder)
        self.account.take(self.run)

    def url(self, user: str = "labora_owner", database: str = "labora") -> str:
        return f"postgresql:///{database}?host={self.run}&user={user}"

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run something as the server's account."""
        return subprocess.run(
            arguments,
            **self.account.popen(),
            env=self.environment,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC", "PG_BIN": str(self.programs.bin_dir),
                "PGHOST": str(self.run), "PGUSER": SUPERUSER}  # fmt: skip

    def make(self) -> None:
        made = self.command(
            self.programs.path("initdb"), "-D", str(self.data), "-U", SUPERUSER, "-E", "UTF8", "--locale=C",
            "--auth=trust", "--no-sync", *(() if self.wal is None else ("-X", str(self.wal))),
        )  # fmt: skip
        assert made.returncode == 0, made.stderr

    def _spawn(self, data: Path) -> subprocess.Popen[bytes]:
        with open(self.folder / "log", "ab") as output:
            return subprocess.Popen(
                [self.programs.path("postgres"), "-D", str(data), "-c", "listen_addresses=",
                 "-c", f"unix_socket_directories={self.run}", *self._options],
                **self.account.popen(), env=self.environment, cwd="/", stdout=output, stderr=output,
            )  # fmt: skip

    async def start(self, data: Path | None = None) -> None:
        self._process = self._spawn(data or self.data)
        deadline = time.monotonic() + 30
        while True:
            try:
                connection = await asyncpg.connect(self.url(SUPERUSER, "postgres"))
            except (OSError, asyncpg.PostgresError):
                assert time.monotonic() < deadline and self._process.poll() is None, (self.folder / "log").read_text()
                await asyncio.sleep(0.02)
            else:
                await connection.close()
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait()
        self._process = None

    async def execute(self, *statements: str, database: str = "postgres") -> object:
        """As the superuser; what the last statement gives."""
        connection = await asyncpg.connect(self.url(SUPERUSER, database))
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
