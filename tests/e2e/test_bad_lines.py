"""A whole daemon at the end of bad lines, HL7 and ASTM: each message that was acknowledged is there once, with its 25
results, whatever the line did (F9)."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import asyncpg
import pytest

from interface.settings import Address
from interface.store.embedded import EmbeddedPostgres
from interface.store.ids import uuid7
from interface.store.schema import OWNER_ROLE
from interface.wire.frames import build_frame
from tests.bench.messages import hl7_message, lis2_message
from tests.cluster import new_state_dir
from tests.e2e.daemon import PATIENCE_S, eventually, running
from tests.e2e.standby import ACK, ENQ, Analyzer
from tests.fault.audit import Acked, audit
from tests.fault.bad_line import How, bad_line

SEED = int(os.environ.get("LABORA_FAULT_SEED", "20261127"))
FAR_S = 0.5 if "LABORA_SOAK_CYCLES" in os.environ else 0.25  # the long form has the plan's: a session is 30 answers
CUTS = 10
_KEPT = """
select settled is not distinct from 'duplicate' as again, count(*) as number from lab.message
 where control_id = any($1) and state = 'complete' group by 1
"""


@dataclass(frozen=True, slots=True)
class Bench:
    hl7: Address
    astm: Address
    owner: asyncpg.Connection[asyncpg.Record]

    async def sound(self, *analyzers: Analyzer) -> None:
        """Nothing that was acknowledged to them is lost, doubled, out of order, or decided wrongly."""
        acked = [
            Acked(control_id, one.name, int(control_id.rpartition("-")[2]), one.astm)
            for one in analyzers
            for control_id, _, _ in one.acknowledged
        ]
        assert await audit(self.owner, acked) == []

    async def times(self, analyzer: Analyzer) -> dict[str, int]:
        """How many of its messages came whole for the first time, and again."""
        ids = [control_id for control_id, _, _ in analyzer.acknowledged]
        rows = {row["again"]: row["number"] for row in await self.owner.fetch(_KEPT, ids)}
        return {"first": rows.get(False, 0), "again": rows.get(True, 0)}


@pytest.fixture(scope="module")
async def bench() -> AsyncIterator[Bench]:
    state_dir = new_state_dir()
    server = EmbeddedPostgres(state_dir)
    await server.start()
    (daemon_dir := state_dir / "daemon").mkdir()
    try:
        async with running(daemon_dir, server.url(OWNER_ROLE)) as started:
            owner = await asyncpg.connect(server.url(OWNER_ROLE))
            yield Bench(started.links["hl7"], started.links["astm"], owner)
            await owner.close()
    finally:
        await server.stop()
        shutil.rmtree(state_dir, ignore_errors=True)


def analyzers(hl7: Sequence[Address], astm: Sequence[Address]) -> list[Analyzer]:
    def name() -> str:
        return f"K{uuid7().hex[-12:]}"

    return [*(Analyzer((at,), name()) for at in hl7), *(Analyzer((at,), name(), astm=True) for at in astm)]


async def one_each(*several: Analyzer) -> None:
    await asyncio.gather(*(one.send() for one in several))
    for one in several:
        await one.close()


@pytest.mark.timeout(300)
async def test_a_line_that_is_far_or_slow_costs_time_and_no_message_is_sent_twice(bench: Bench) -> None:
    """960 bytes a second are 9600 baud. All four at once: they wait, and do nothing else."""
    async with AsyncExitStack() as stack:

        async def at_the_end_of(how: How, to: Address) -> Address:
            return (await stack.enter_async_context(bad_line(to, how)))[1]

        far, slow = How(far_s=FAR_S), How(rate=960.0)
        sending = analyzers(
            [await at_the_end_of(far, bench.hl7), await at_the_end_of(slow, bench.hl7)],
            [await at_the_end_of(far, bench.astm), await at_the_end_of(slow, bench.astm)],
        )
        await one_each(*sending)
        await bench.sound(*sending)
        assert [one.refused for one in sending] == [0] * 4
        assert [await bench.times(one) for one in sending] == [{"first": 1, "again": 0}] * 4


async def test_a_line_that_is_reset_wherever_loses_and_doubles_nothing(bench: Bench) -> None:
    chance = random.Random(SEED)  # noqa: S311
    longest = {False: len(hl7_message("S", "K")), True: len(lis2_message("S", "K")) + 29 * 7}
    for number in range(CUTS):
        astm = bool(number % 2)
        how = How(cut_at=chance.randrange(1, longest[astm]))
        async with bad_line(bench.astm if astm else bench.hl7, how) as (line, address):
            [analyzer] = analyzers([], [address]) if astm else analyzers([address], [])
            await analyzer.send()
            await one_each(analyzer)
            assert line.resets == 1 and line.connections == 2, how
            await bench.sound(analyzer)


@pytest.mark.parametrize("astm", [False, True], ids=["hl7", "astm"])
async def test_an_acknowledgement_that_is_lost_doubles_nothing(bench: Bench, astm: bool) -> None:
    """Of a whole block, or of the last frame: it was stored, and comes again."""
    async with bad_line(bench.astm if astm else bench.hl7, How(forgets=30 if astm else 1)) as (line, address):
        [analyzer] = analyzers([], [address]) if astm else analyzers([address], [])
        await one_each(analyzer)
        assert line.resets == 1
        await bench.sound(analyzer)

        async def twice() -> bool:
            return (await bench.times(analyzer)) == {"first": 1, "again": 1}

        if not astm:  # of ASTM the EOT is lost too: what is cut is no duplicate of what comes whole
            await eventually(twice)


async def test_a_second_connection_of_an_analyzer_is_served_at_once_beside_one_that_fell_silent(bench: Bench) -> None:
    """The first is in the middle of a message, and nobody ends it."""
    async with bad_line(bench.astm, How()) as (line, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        for said in (ENQ, build_frame(1, b"H|\\^&|CUT\r", True)):
            writer.write(said)
            async with asyncio.timeout(PATIENCE_S):
                assert await reader.readexactly(1) == ACK
        line.silent = True
        [again] = analyzers([], [bench.astm])
        await one_each(again, *analyzers([bench.hl7], []))
        assert again.refused == 0 and line.resets == 0
        assert not reader.at_eof(), "the first is still there"
        await bench.sound(again)
        writer.close()
        await writer.wait_closed()
