"""`scripts/bench settle`: what it costs to settle a message of 25 mapped results, ordered and unsolicited.

CPU of this process and of PostgreSQL's, and time, per message; beside a bare INSERT of the same rows, one transaction
each. The database is a server of its own that is removed at the end.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import asyncpg

from interface.settings import Unsolicited
from interface.store.ids import uuid7
from interface.store.journal import new_message_id
from interface.store.migrate import upgrade
from interface.store.schema import APP_ROLE, OWNER_ROLE
from interface.telemetry import configure_logs
from tests.bench.messages import ANALYTES, hl7_message
from tests.bench.timing import line
from tests.cluster import new_state_dir, with_database
from tests.flow.laboratory import Laboratory, laboratory

MESSAGES, ROUNDS = 100, 3
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@contextmanager
def _folder() -> Iterator[Path]:
    path = new_state_dir(on_disk=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _server_cpu_s(postmaster: int) -> float:
    """CPU that the server and its children have used so far, those that ended included."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        own = int(entry.parent.name) == postmaster
        if own or int(fields[1]) == postmaster:
            total += sum(map(int, fields[11:15] if own else fields[11:13]))
    return total * _TICK_S


async def _least(
    postmaster: int, prepare: Callable[[], Awaitable[None]], work: Callable[[], Awaitable[None]]
) -> tuple[float, float, float]:
    """Milliseconds per message: CPU here, CPU of the server, time; of the cheapest round."""
    rounds = []
    for _ in range(ROUNDS):
        await prepare()
        here, there, began = time.process_time(), _server_cpu_s(postmaster), time.perf_counter()
        await work()
        used = time.process_time() - here, _server_cpu_s(postmaster) - there, time.perf_counter() - began
        rounds.append(tuple(each * 1000 / MESSAGES for each in used))
    cpu_here, cpu_there, taken = min(rounds, key=lambda one: one[0] + one[1])
    return cpu_here, cpu_there, taken


async def _bare(lab: Laboratory) -> None:
    """The least: the same rows as they are, 25 to a transaction, with nothing decided."""
    async with lab.database.organization(lab.organization_id) as connection:
        for _ in range(MESSAGES):
            async with connection.transaction():
                await _insert(connection, lab.organization_id, new_message_id())


async def _insert(connection: object, organization_id: UUID, message_id: UUID) -> None:
    assert isinstance(connection, asyncpg.pool.PoolConnectionProxy)
    await connection.executemany(
        """INSERT INTO lab.result_version (id, organization_id, result_id, version, status, held, message_id, location,
               specimen_as_sent, code, code_path, raw_value, raw_unit, value, unit, kind, actor_kind)
           VALUES ($1, $2, $3, 1, 'registered', '{}', $4, 'OBX^1', 'S1', $5, $5, $6, $7, $6, $7, 'numeric', 'link')""",
        [(uuid7(), organization_id, uuid7(), message_id, code, value, unit) for code, unit, value in ANALYTES],
    )


async def _measure(lab: Laboratory, postmaster: int, *, ordered: bool) -> tuple[float, float, float]:
    async def send() -> None:
        for _ in range(MESSAGES):
            barcode = f"B{uuid7().hex}"
            if ordered:
                await lab.order(barcode, *tests, patient_id=f"P{barcode}")
            await lab.intake.block(hl7_message(barcode, uuid7().hex[:20]), "127.0.0.1:1")

    tests = await _tests(lab) if ordered else ()
    return await _least(postmaster, send, lab.settle)


async def _tests(lab: Laboratory) -> tuple[str, ...]:
    """The laboratory's tests for the message's codes."""
    async with lab.database.organization(lab.organization_id) as connection:
        rows = await connection.fetch(
            "SELECT DISTINCT t.code FROM lab.code_map m JOIN lab.test t ON t.id = m.test_id WHERE m.code = ANY($1)",
            [code for code, _, _ in ANALYTES],
        )
    return tuple(row["code"] for row in rows)


async def _run(folder: Path) -> None:
    from interface.store.embedded import EmbeddedPostgres

    server = EmbeddedPostgres(folder)
    await server.start()
    try:
        owner_url = server.url(OWNER_ROLE)
        await upgrade(owner_url)
        postmaster = server.pid
        assert postmaster is not None
        async with laboratory(
            with_database(owner_url, "labora", APP_ROLE), "generic_hl7", unsolicited=Unsolicited.REGISTER
        ) as lab:

            async def nothing() -> None:
                return

            bare = await _least(postmaster, nothing, lambda: _bare(lab))
            least = bare[0] + bare[1]
            for name, figures in (
                ("bare INSERT", bare),
                ("settle, ordered", await _measure(lab, postmaster, ordered=True)),
                ("settle, unsolicited", await _measure(lab, postmaster, ordered=False)),
            ):
                here, there, taken = figures
                print(line(name, here + there, "ms CPU", least), end="")
                print(f"   ({here:.1f} here, {there:.1f} PostgreSQL; {taken:.1f} ms)")
            print("settled", await lab.owner.fetchval("select count(*) from lab.result"), "results", end=", held ")
            print(await lab.owner.fetchval("select count(*) from lab.result where held <> '{}'"))
    finally:
        await server.stop()


def main() -> None:
    """Print the table."""
    configure_logs(40)
    with _folder() as folder:
        asyncio.run(_run(folder))


if __name__ == "__main__":
    main()
