"""A daemon to which everything happens that a server lives through: it has a PostgreSQL as a system has it, or its own,
both on a small disk where one can be mounted, a clock that can be stepped, a certificate, and somebody who is told of
its alerts.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from interface.cli import run_command
from interface.settings import Address
from interface.store.embedded import EmbeddedPostgres
from interface.store.ids import uuid7
from interface.store.migrate import upgrade
from interface.store.schema import OWNER_ROLE
from tests.e2e.daemon import Process, eventually, free_ports
from tests.e2e.standby import Analyzer, accounted
from tests.link.certificates import Authority
from tests.ops.receivers import WebServer
from tests.ops.system_cluster import ROLES, SUPERUSER, SystemCluster

# What is measured fills some of it; a server of its own is given its options by nobody, and keeps more of its log.
DISK_MB, OWN_SERVERS_DISK_MB = 320, 640
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
PACE_S = 0.05
CONFIG = """
state_dir = "{state}"
[database]
url = "{url}"
folders = {folders}
[api]
listen = "127.0.0.1:{api}"
workers = {workers}
[limits]
commit_wait_s = 2.0
[alerts]
roster = "{roster}"
gather_s = 0.0
apart_s = 0.0
database_after_s = 1.0
[[alerts.channel]]
id = "hook"
type = "webhook"
url = "{hook}"
ca = "{ca}"
[[link]]
id = "hl7"
organization = "main"
driver = "generic_hl7"
transport = {{ type = "mllp-listen", listen = "{hl7}" }}
[[link]]
id = "astm"
organization = "main"
driver = "generic_lis2"
transport = {{ type = "tcp-listen", listen = "{astm}" }}
[[link]]
id = "tls"
organization = "main"
driver = "generic_hl7"
transport = {{ type = "mllp-listen", listen = "{tls}" }}
tls = {{ cert = "{cert}", key = "{key}" }}
"""
ROSTER = """
[[person]]
id = "anna"
contact = [{ channel = "hook", to = "anna" }]
[[shift]]
name = "always"
people = ["anna"]
kinds = ["database", "disk", "clock", "certificate"]
"""
_ALERTS = """
select a.kind, a.subject, a.recovered_at is not null as over,
       coalesce(array_agg(e.note) filter (where e.message_id = any($1::uuid[])), '{}') as told
  from lab.alert a left join lab.alert_event e on e.alert_id = a.id and e.what = 'told'
 where a.kind = any($2) and a.id <> all($3) group by a.id order by a.entered_at
"""
_RESULTS = """
select distinct results from (
    select count(distinct v.result_id) as results from lab.result_version v join lab.message m on m.id = v.message_id
     where m.state = 'complete' group by m.id) as of_each
"""


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path | None]:
    """A file system on a loop device, which everybody may pass through; None where none can be mounted."""
    image, at = folder / "disk.img", folder / "disk"
    at.mkdir()
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    commands = ["mkfs.ext4", "-q", "-m", "0", str(image)], ["mount", "-o", "loop", str(image), str(at)]
    made = os.geteuid() == 0 and all(
        shutil.which(command[0]) and not subprocess.run(command, capture_output=True).returncode for command in commands
    )
    try:
        yield at if made else None
    finally:
        if made:
            subprocess.run(["umount", "--lazy", str(at)], check=True)  # a killed daemon's server ends after it


class On(Enum):
    """What is on the small disk."""

    EVERYTHING = "a server's data and log, and the daemon's folder"
    OWN_SERVER = "the daemon's folder, with its own server in it"
    WAL = "a server's write-ahead log alone"
    STATE = "the daemon's folder alone"


class Site(Process):
    """The daemon, its server, and what its people were told (`hook`)."""

    def __init__(
        self, folder: Path, cluster: SystemCluster | None, hook: WebServer, disk: Path | None, on: On, workers: int
    ) -> None:
        self.folder, self.cluster, self.hook, self.disk, self.on = folder, cluster, hook, disk, on
        self.state_dir = (folder if disk is None or on is On.WAL else disk) / "state"
        url = cluster.url() if cluster else "embedded"
        hl7, astm, tls, api = free_ports(4)
        self.hl7, self.astm, self.tls, self.api = (Address("127.0.0.1", port) for port in (hl7, astm, tls, api))
        self.authority = Authority(folder)
        self.cert = self.certificate()
        self.roster = folder / "roster.toml"
        self.roster.write_text(ROSTER)
        self.config = folder / "config.toml"
        log = [str(disk / "wal")] if disk and on is On.WAL else []
        self.config.write_text(CONFIG.format(
            state=self.state_dir, url=url, folders=json.dumps(log), api=api,
            workers=workers, roster=self.roster, hook=f"{hook.url}/hook",
            ca=hook.ca, hl7=self.hl7, astm=self.astm, tls=self.tls, cert=self.cert, key=self.cert.with_suffix(".key"),
        ))  # fmt: skip
        self._offset = folder / "offset"
        self._process: asyncio.subprocess.Process | None = None
        self._names = count(1)
        self.sent: list[Analyzer] = []
        self.resumed_s: list[float] = []  # after each time that there was room again
        self.step(0)

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "tests.e2e.hurried", "--config", str(self.config), "run"]

    def _environment(self) -> dict[str, str]:
        """The clock of the daemon and of its processes only: not the server's, which is another's child."""
        environment = dict(os.environ)
        if FAKETIME is not None:
            environment |= {
                "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(self._offset), "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
            }  # fmt: skip
        return environment

    # ---- what happens -----------------------------------------------------------------------------------------------

    def certificate(self, left: timedelta = timedelta(days=90)) -> Path:
        """A new certificate for the link `tls`, good for so long."""
        now = datetime.now(UTC)
        return self.authority.pair("ours", not_before=now - timedelta(days=90), not_after=now + left).cert

    def step(self, seconds: int) -> None:
        """From now on the daemon's clock is so far from the true one."""
        beside = self._offset.with_suffix(".new")
        beside.write_text(f"{seconds:+d}\n")
        beside.replace(self._offset)

    def fill(self) -> Path:
        """Write until there is no room; the file, for who frees it."""
        assert self.disk is not None
        path = self.disk / "filler"
        with suppress(OSError), path.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        return path

    async def write_ahead(self) -> None:
        """Have the server begin segments of its log until it finds no room for one: what it has may last for long."""
        with suppress(asyncpg.PostgresError, OSError):
            async with self.owner() as owner:
                await owner.execute("create table if not exists filling (n int)")
                for _ in range(100):
                    await owner.execute("insert into filling values (1)")
                    await owner.execute("select pg_switch_wal()")

    async def serve_again(self) -> None:
        """As who looks after the server would: start it anew, until it serves. The daemon looks after its own."""
        if self.cluster is not None:
            self.cluster.stop(signal.SIGQUIT)
            await self.cluster.start()

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Two analyzers that send meanwhile, each message until it is acknowledged, and once more after it; then all
        that any has had acknowledged is looked for."""
        analyzers = [self.analyzer(self.hl7), self.analyzer(self.astm, astm=True)]
        sending = [asyncio.create_task(self._send(one)) for one in analyzers]
        try:
            yield
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
        for one in analyzers:  # where all went well
            await one.close()  # in the middle of something, it may be
            await one.send()
        for one in self.sent:
            await one.close()
        await self.nothing_lost()

    def analyzer(self, address: Address, **options: Any) -> Analyzer:
        self.sent.append(Analyzer((address,), f"K{next(self._names)}", **options))
        return self.sent[-1]

    async def _send(self, analyzer: Analyzer) -> None:
        while True:
            await analyzer.send()
            await asyncio.sleep(PACE_S)

    @property
    def acknowledged(self) -> int:
        return sum(len(one.acknowledged) for one in self.sent)

    async def next_acknowledged(self) -> float:
        """Seconds until something is acknowledged."""
        loop = asyncio.get_running_loop()
        began, before = loop.time(), self.acknowledged

        async def more() -> bool:
            return self.acknowledged > before

        await eventually(more)
        return loop.time() - began

    def counted(self) -> str:
        """For who reads the output of a long run."""
        return f"{self.acknowledged} messages acknowledged, {sum(one.refused for one in self.sent)} refused, none lost"

    # ---- what is seen -----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        own = EmbeddedPostgres(self.state_dir)
        connection = await asyncpg.connect(self.cluster.url(SUPERUSER) if self.cluster else own.url(OWNER_ROLE))
        try:
            yield connection
        finally:
            await connection.close()

    async def nothing_lost(self) -> None:
        """Every message that was acknowledged is there once, and decided, with each of its results once."""
        async with self.owner() as owner:
            assert await accounted(owner, *self.sent) == []
            assert [row["results"] for row in await owner.fetch(_RESULTS)] == [25]

    async def doctor(self, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
        """What `labora doctor` finds wrong: the texts by kind."""
        capsys.readouterr()
        await asyncio.to_thread(run_command, ["--config", str(self.config), "doctor", "--quiet", "--json"])
        found: dict[str, str] = {}
        for one in json.loads(capsys.readouterr().out):
            found[one["kind"]] = f"{found.get(one['kind'], '')}{one['subject']['name']}: {one['text']}\n"
        return found

    def titles(self, words: str) -> tuple[int, int]:
        """How many messages that have come say that it is so, and that it is over."""
        titles = [json.loads(one.body)["title"] for one in self.hook.got]
        of = [title for title in titles if words in title]
        over = sum("Over: " in title for title in of)
        return len(of) - over, over

    async def told(self, words: str, entered: int, recovered: int) -> None:
        async def said() -> bool:
            return self.titles(words) == (entered, recovered)

        try:
            await eventually(said)
        except TimeoutError:
            raise AssertionError(f"{self.titles(words)} of {words}: {self.said()[-5000:]}") from None

    async def alert_ids(self) -> list[UUID]:
        """Of all alerts that there were."""
        async with self.owner() as owner:
            return [row["id"] for row in await owner.fetch("select id from lab.alert")]

    async def alerts(self, kind: str, subject: str = "", *, but: Collection[UUID] = ()) -> list[Counter[str]]:
        """Of each alert of a kind that there was, all of which are over, what was told how often by messages that have
        come, none of which has come twice; but of those not that are named."""
        ids = [UUID(json.loads(one.body)["id"]) for one in self.hook.got]
        assert len(ids) == len(set(ids))

        async def over() -> list[asyncpg.Record] | None:
            async with self.owner() as owner:
                rows = [row for row in await owner.fetch(_ALERTS, ids, [kind], list(but)) if subject in row["subject"]]
            return rows if all(row["over"] for row in rows) else None

        return [Counter(row["told"]) for row in await eventually(over)]


@asynccontextmanager
async def site(folder: Path, hook: WebServer, *, workers: int = 1, on: On = On.EVERYTHING) -> AsyncIterator[Site]:
    embedded = on is On.OWN_SERVER
    with small_disk(folder, OWN_SERVERS_DISK_MB if embedded else DISK_MB) as disk:
        if disk is not None:
            disk.chmod(0o755)
        async with AsyncExitStack() as stack:
            cluster = None if embedded else await stack.enter_async_context(_served(disk, on))
            made = Site(folder, cluster, hook, disk, on, workers)
            if cluster is not None:
                async with made.owner() as owner:
                    await owner.execute("insert into lab.organization (id, name) values ($1, 'main')", uuid7())
            await stack.enter_async_context(made)
            yield made


@asynccontextmanager
async def _served(disk: Path | None, on: On) -> AsyncIterator[SystemCluster]:
    at = None
    if disk is not None and on is On.EVERYTHING:
        at = disk / "pg"
        at.mkdir()
    # No more of its own than it needs, or its log would have room when nobody else has.
    sizes = ("max_wal_size=32MB", "min_wal_size=32MB", "wal_recycle=off")
    cluster = SystemCluster(at, *(f"--{size}" for size in sizes))
    try:
        if disk is not None and on is On.WAL:
            cluster.wal = disk / "wal"
            cluster.wal.mkdir()
            cluster.account.take(cluster.wal)
        cluster.make()
        await cluster.start()
        await cluster.execute(*ROLES)
        await upgrade(cluster.url())
        yield cluster
    finally:
        cluster.remove()
