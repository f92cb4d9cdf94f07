"""A whole daemon worn out by everybody at once, beside good analyzers who are served as if nobody were there (F10). The
short form looks at what was promised and at memory; how fast it was is looked at by the long one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from interface.store.ids import uuid7
from tests.bench.crowd import Healthy, Protocol, Report
from tests.bench.soak import memory_mb
from tests.cluster import owner_of
from tests.e2e.daemon import Process, free_ports
from tests.fault.loop import percentile

GOOD, EVERY_S = 4, 0.25  # of each protocol, each with a message every so often
GROWTH_MB, RATIO = 60.0, 2.0  # PERFORMANCE.md F10
LINK = """
[[link]]
id = "{name}"
organization = "main"
driver = "generic_hl7"
transport = {{ type = "mllp-listen", listen = "127.0.0.1:{port}" }}
max_connections = 1024
"""
_STORED = """
select m.control_id, count(distinct m.id) as messages, count(f.id) as frames
  from lab.message m join lab.frame f on f.message_id = m.id
 where m.state = 'complete' and m.settled is distinct from 'duplicate' and m.control_id like 'K%' group by 1
"""


@dataclass(slots=True)
class Worn:
    """What good analyzers saw, alone and beside the others, and the daemon's memory before and at most."""

    alone: Report
    beside: Report
    before_mb: float
    most_mb: float

    def __str__(self) -> str:
        p99 = [percentile(one.every, 99) * 1000 for one in (self.alone, self.beside)]
        memory = f"{self.before_mb:.0f} MB, then {self.most_mb:.0f}"
        took = f"p99 {p99[0]:.1f} ms alone, {p99[1]:.1f} beside ({p99[1] / p99[0]:.2f} x)"
        return f"{took} of {len(self.beside.every)} acknowledgements; {memory}"


@asynccontextmanager
async def mob(port: int, quiet: int, busy: int, idle: int, dribbling: int, connects: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fault.mob", *map(str, (port, quiet, busy, idle, dribbling, connects)),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        assert await process.stdout.readline() == b"%d\n" % (idle + dribbling)
        yield
    finally:
        process.stdin.close()
        await process.wait()


async def worn(folder: Path, url: str, seconds: float, idle: int, dribbling: int, connects: int) -> Worn:
    owner = await asyncpg.connect(owner_of(url))
    await owner.execute("insert into lab.organization (id, name) values ($1, 'main')", uuid7())
    daemon, (quiet, busy) = Process(folder / "state", folder), free_ports(2)
    text = daemon.config.read_text().replace('"embedded"', f'"{url}"')
    daemon.config.write_text(text + "".join(LINK.format(name=f"c{port}", port=port) for port in (quiet, busy)))
    async with daemon:
        assert daemon._process is not None
        pid, messages = daemon._process.pid, int(seconds / EVERY_S)
        analyzers = [
            Healthy(protocol, (daemon.hl7 if protocol is Protocol.MLLP else daemon.astm).port, f"K{number}{protocol}",
                    Report())
            for number in range(GOOD) for protocol in Protocol
        ]  # fmt: skip

        async def served() -> Report:
            report = Report()
            for one in analyzers:
                one._report = report
            await asyncio.gather(*(
                one.run(messages, EVERY_S, number * EVERY_S / len(analyzers)) for number, one in enumerate(analyzers)
            ))  # fmt: skip
            return report

        await served()  # warm
        alone, before = await served(), memory_mb(pid)
        most = [before]
        async with mob(daemon.hl7.port, quiet, busy, idle, dribbling, connects):
            serving = asyncio.create_task(served())
            while not serving.done():
                most.append(memory_mb(pid))
                await asyncio.wait([serving], timeout=0.1)
            beside = await serving
    done = Worn(alone, beside, before, max(most))
    print(done, flush=True)
    assert alone.faults == beside.faults == []
    stored = {row["control_id"]: (row["messages"], row["frames"]) for row in await owner.fetch(_STORED)}
    await owner.close()
    promised = alone.promised | beside.promised
    assert {one: stored[one] for one in promised} == {one: (1, frames) for one, frames in promised.items()}
    return done


@pytest.mark.timeout(180)
async def test_who_is_served_loses_nothing_beside_a_mob_and_the_daemon_does_not_grow(
    tmp_path: Path, database_url: str
) -> None:
    done = await worn(tmp_path, owner_of(database_url), 1.0, idle=200, dribbling=50, connects=50)
    assert done.most_mb - done.before_mb <= GROWTH_MB


async def test_one_peer_takes_no_more_than_its_links_connections(tmp_path: Path, database_url: str) -> None:
    """Forty at a link for 32: who was there first goes on."""
    owner = await asyncpg.connect(owner_of(database_url))
    await owner.execute("insert into lab.organization (id, name) values ($1, 'main')", uuid7())
    await owner.close()
    daemon, report = Process(tmp_path / "state", tmp_path), Report()
    daemon.config.write_text(daemon.config.read_text().replace('"embedded"', f'"{owner_of(database_url)}"'))
    async with daemon:
        good = Healthy(Protocol.MLLP, daemon.hl7.port, "K", report)
        await good.send()
        lines = [await asyncio.open_connection(daemon.hl7.host, daemon.hl7.port) for _ in range(40)]
        for reader, _ in lines[31:]:
            async with asyncio.timeout(30):
                assert await reader.read() == b""
        await good.send()
        assert not any(reader.at_eof() for reader, _ in lines[:31])
        for _, writer in lines:
            writer.close()
            await writer.wait_closed()
        await good.close()
    assert report.faults == [] and len(report.promised) == 2


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_good_analyzers_are_served_as_fast_beside_a_thousand_that_are_not(
    tmp_path: Path, database_url: str
) -> None:
    seconds = float(os.environ.get("LABORA_MOB_S", "30"))
    done = await worn(tmp_path, owner_of(database_url), seconds, idle=1000, dribbling=200, connects=10_000 // 60)
    assert done.most_mb - done.before_mb <= GROWTH_MB, str(done)
    assert percentile(done.beside.every, 99) <= RATIO * percentile(done.alone.every, 99), str(done)
