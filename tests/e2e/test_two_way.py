"""Both ways over real sockets: analyzers ask, are told and do it; and what becomes of work that one does not take."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import asyncpg

from interface.daemon import Running, started
from interface.domain.permissions import Role
from interface.settings import LinkSettings, TransportType
from interface.simulator.analyzer import model
from interface.simulator.holding import Holder, Mood, Order
from interface.wire.frames import parse_frame
from tests.e2e.daemon import Process, eventually, link, settings
from tests.e2e.people import EmrAndStaff, register_people
from tests.e2e.test_main_job import owner_fetch

AT = datetime(2026, 1, 2, 8)  # noqa: DTZ001 - an instrument's clock has no zone
GLU = "2345-7"
STATES = "select o.number, d.state, d.kind from lab.dispatch d join lab.order_item i on i.id = d.order_item_id" \
    " join lab.lab_order o on o.id = i.order_id order by d.work_id"  # fmt: skip


@dataclass
class Site:
    daemon: Running
    people: EmrAndStaff
    state_dir: Path

    async def states(self) -> list[str]:
        return [row["state"] for row in await owner_fetch(self.state_dir, STATES)]

    async def until(self, *states: str) -> None:
        async def so() -> bool:
            return await self.states() == list(states)

        await eventually(so)


@asynccontextmanager
async def site(state_dir: Path, *links: LinkSettings) -> AsyncIterator[Site]:
    async with started(replace(settings(state_dir), links=links)) as daemon:
        people = await register_people(state_dir, daemon.api, Role.ADMINISTRATOR, Role.TECHNOLOGIST)
        yield Site(daemon, people, state_dir)


@asynccontextmanager
async def on_line(holder: Holder) -> AsyncIterator[Holder]:
    task = asyncio.create_task(holder.run())
    try:
        yield holder
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def downloading(name: str, attempts: int = 6) -> LinkSettings:
    return replace(link(name, TransportType.TCP_LISTEN, "generic_lis2"), download=True, send_attempts=attempts)


async def test_an_analyzer_asks_is_told_measures_and_its_work_is_done(state_dir: Path) -> None:
    async with site(state_dir, link("asks", TransportType.TCP_LISTEN, "sysmex_xn")) as at:
        await at.people.order("S-1", "WBC", "HGB")
        async with on_line(Holder(model("sysmex_xn"), at.daemon.links["asks"], AT)) as analyzer:
            tests = await analyzer.ask("S-1")
            codes = analyzer.codes_of(tests)
            assert set(codes) == {"WBC", "HGB"}
            await at.until("accepted", "accepted")
            assert await analyzer.ask("NOBODY") == ()
            assert await analyzer.report("S-1", codes)
            await at.until("resulted", "resulted")


async def test_work_is_told_without_asking_and_a_broken_line_in_the_middle_of_it_doubles_nothing(
    state_dir: Path,
) -> None:
    async with site(state_dir, downloading("told")) as at:
        holder = Holder(model("generic_lis2"), at.daemon.links["told"], AT, mood=Mood.DROPPING)
        async with on_line(holder) as analyzer:
            for n in range(3):
                await at.people.order(f"S-{n}", "GLU")
            await at.until("accepted", "accepted", "accepted")
        assert analyzer.connections == 2
        assert analyzer.said_to_it == Counter({Order(f"S-{n}", GLU): 1 for n in range(3)})
        assert max(analyzer.messages.values()) == 1


async def told_after_kill(
    daemon: Process, state_dir: Path, kill_at: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> list[bytes]:
    """The messages that an analyzer was told, of a daemon that is killed at some point of telling it the first."""
    reader, writer = await asyncio.open_connection(daemon.astm.host, daemon.astm.port)
    await kill_at(reader, writer)
    await daemon.end(9)
    writer.close()
    await daemon.start()
    reader, writer = await asyncio.open_connection(daemon.astm.host, daemon.astm.port)
    said = []
    assert await reader.readexactly(1) == b"\x05"
    writer.write(b"\x06")
    while (begin := await reader.readexactly(1)) == b"\x02":
        frame = begin + await reader.readuntil(b"\r\n")
        said.append(parse_frame(frame)[1])
        writer.write(b"\x06")
    assert begin == b"\x04"

    async def accepted() -> bool:
        rows = await owner_fetch(state_dir, STATES)
        return [row["state"] for row in rows] == ["accepted"]

    await eventually(accepted)
    writer.close()
    return said


async def test_killed_between_the_commit_and_the_bytes_the_message_goes_out_after_the_start(
    state_dir: Path, tmp_path: Path
) -> None:
    daemon = Process(state_dir, tmp_path)
    text = daemon.config.read_text().replace('driver = "generic_lis2"\n', 'driver = "generic_lis2"\ndownload = true\n')
    daemon.config.write_text(text)

    async def asked_for_the_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(1) == b"\x05"  # so it is recorded, and no byte of it has left

    async with daemon:
        people = await register_people(state_dir, daemon.api, Role.ADMINISTRATOR, Role.TECHNOLOGIST)
        await people.order("S-1", "GLU")
        said = await told_after_kill(daemon, state_dir, asked_for_the_line)
        recorded: list[asyncpg.Record] = await owner_fetch(state_dir, "select bytes from lab.sending")
        assert [b"".join(said)] == [row["bytes"] for row in recorded], "one message, under one id"


async def test_work_that_an_analyzer_rejects_to_the_last_attempt_has_failed(state_dir: Path) -> None:
    async with site(state_dir, downloading("told", attempts=1)) as at:
        holder = Holder(model("generic_lis2"), at.daemon.links["told"], AT, mood=Mood.REFUSING)
        async with on_line(holder) as analyzer:
            await at.people.order("S-1", "GLU")
            await at.until("failed")
            assert analyzer.refusals == 6, "each rejection of the frame, once"
            assert analyzer.said_to_it == Counter()
