"""Real links, flow and PostgreSQL, and analyzers that speak IHE LAW with them over two real MLLP connections each.

Whatever fails inside a bench prints what was said, both ways.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from interface.domain.model import Priority, Sex
from interface.domain.permissions import permissions
from interface.domain.views import Actor, ActorKind, Audience, IdentifierView, OrderView, ResultView
from interface.driver.law_analyzer import Heard
from interface.flow.order_changes import cancel
from interface.flow.orders import NewOrder, NewPatient, NewSpecimen, create_order
from interface.flow.outgoing import watch_work
from interface.flow.waking import wake
from interface.links import Links
from interface.settings import (
    Address,
    DatabaseSettings,
    LimitSettings,
    LinkSettings,
    Settings,
    Transport,
    TransportType,
)
from interface.simulator.law import LawAnalyzer, Policy, law_analyzer, takes_all
from interface.store.db import Database, prepare
from interface.store.ids import uuid7
from interface.store.lab import ResultFilter, find_results
from tests.cluster import owner_of
from tests.conftest import FOUNDED

ANY = Address("127.0.0.1", 0)
PATIENCE_S = 10.0
CODES = {"GLU": "GLU", "CREA": "CREA", "K": "K", "TSH": "TSH"}  # the analyzer's to the laboratory's tests
AT = datetime(2026, 1, 2, tzinfo=UTC)
_T = TypeVar("_T")


@dataclass(slots=True)
class LawBench:
    """A laboratory with its links, and its analyzers by name."""

    settings: Settings
    database: Database
    owner: asyncpg.Connection[asyncpg.Record]
    organization_id: UUID
    analyzers: dict[str, LawAnalyzer]
    links: Links | None = None
    watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """As the daemon starts its links."""
        self.links = links = Links(self.database, self.settings)
        specs = await links.prepare(self.settings)
        await links.set_worklists()
        await links.worker.start(sorted(links.journals))
        await links.wire_log.start()
        await links.supervisor.start(specs)
        self.watching = asyncio.create_task(watch_work(self.database))
        for name, analyzer in self.analyzers.items():
            analyzer.reach(links.supervisor.addresses()[f"{name}-in"])

    async def stop(self) -> None:
        links, self.links = self.links, None
        if self.watching is not None:
            self.watching.cancel()
            await asyncio.wait({self.watching})
        if links is not None:
            await links.supervisor.stop(5.0)
            await links.wire_log.stop()
            await links.worker.stop()
            await links.close()

    async def restart(self) -> None:
        """What is in memory is gone."""
        await self.stop()
        await self.start()

    @property
    def analyzer(self) -> LawAnalyzer:
        """The first, often the only one."""
        return next(iter(self.analyzers.values()))

    @property
    def director(self) -> Actor:
        """Somebody who may decide and order."""
        roles = frozenset({"laboratory_director"})
        return Actor(ActorKind.USER, uuid7(), "director", self.organization_id, permissions(roles), roles)

    async def order(
        self, barcode: str, *tests: str, patient_id: str = "", priority: Priority = Priority.ROUTINE, there: bool = True
    ) -> OrderView:
        """Order tests on a specimen, `there` or not yet; the patient is a woman born in 1980."""
        person = NewPatient(
            identifiers=(IdentifierView("TEST", patient_id or f"P-{barcode}"),), birth_date=datetime(1980, 5, 1).date(),  # noqa: DTZ001
            sex=Sex.FEMALE, family="Muster", given="Maria",
        )  # fmt: skip
        at = AT if there else None
        specimen = NewSpecimen(tests=tests, barcode=barcode, type="SER", collected_at=at, received_at=at)
        async with self.database.transaction(self.organization_id) as connection:
            made = await create_order(
                connection, self.director, NewOrder((specimen,), patient=person, priority=priority)
            )
        wake(self.organization_id)
        return made

    async def dispatches(self, *columns: str) -> list[tuple[Any, ...]]:
        """Of everything that an analyzer was given to do, in that order."""
        rows = await self.owner.fetch(
            "select d.*, a.name as analyzer, d.work_id::text as id_told from lab.dispatch d"
            " join lab.analyzer a on a.id = d.analyzer_id order by d.id"
        )
        return [tuple(row[column] for column in columns) for row in rows]

    async def become(self, *wanted: str) -> None:
        """Until the states of everything that was given to do are these."""
        found: list[str] = []

        async def probe() -> bool:
            found[:] = [state for (state,) in await self.dispatches("state")]
            return found == list(wanted)

        try:
            await eventually(probe)
        except TimeoutError:
            raise AssertionError(f"the states are {found}, not {list(wanted)}") from None

    async def results(self, number: int) -> list[ResultView]:
        """As many results as there should be, in the order they were first seen."""

        async def probe() -> list[ResultView]:
            async with self.database.organization(self.organization_id) as connection:
                found = await find_results(connection, ResultFilter(), Audience.STAFF)
            return sorted(found, key=lambda view: view.id) if len(found) == number else []

        return await eventually(probe)

    async def cancel(self, order: OrderView) -> None:
        """Cancel an order as a person does."""
        async with self.database.transaction(self.organization_id) as connection:
            await cancel(connection, self.director, order.id, "not wanted any more", in_progress=True)
        wake(self.organization_id)


async def eventually(probe: Callable[[], Awaitable[_T]]) -> _T:
    """What `probe` gives as soon as it gives anything true; what it waits for happens in another task."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if found := await probe():
                return found
            await asyncio.sleep(0.02)


@asynccontextmanager
async def law_bench(
    database_url: str,
    state_dir: Path,
    *names: str,
    driver: str = "ihe_law",
    policy: Policy = takes_all,
    download: bool = False,
    racks: bool = False,
    answer_wait_s: float = 30.0,
    structure: str = "ORL_O42",
    accept: str = "NE",
) -> AsyncIterator[LawBench]:
    """`names`: of the analyzers, each with two links; `policy`, `structure`, `accept`: theirs (see `law_analyzer`)."""
    names = names or ("law-1",)
    async with AsyncExitStack() as stack:
        database = await Database.connect(database_url)
        stack.push_async_callback(database.close)
        owner = await asyncpg.connect(owner_of(database_url))
        stack.push_async_callback(owner.close)
        await prepare(owner)
        organization_id = await owner.fetchval("select id from lab.organization where name = $1", FOUNDED)
        await _map_codes(owner, organization_id, driver)
        analyzers = {
            name: await stack.enter_async_context(
                law_analyzer(ANY, name=name, policy=policy, structure=structure, accept=accept)
            )
            for name in names
        }
        settings = Settings(
            state_dir,
            DatabaseSettings(database_url),
            limits=LimitSettings(commit_wait_s=14.0),
            links=tuple(
                replace(one, download=download, racks=racks, answer_wait_s=answer_wait_s)
                for name, analyzer in analyzers.items()
                for one in _pair(name, driver, analyzer.address)
            ),
        )
        bench = LawBench(settings, database, owner, organization_id, analyzers)
        stack.push_async_callback(bench.stop)
        try:
            await bench.start()
            yield bench
        except BaseException:
            for name, analyzer in analyzers.items():
                print(f"---- {name}", *analyzer.trace, sep="\n", file=sys.stderr)
            raise


def _pair(name: str, driver: str, address: Address) -> tuple[LinkSettings, LinkSettings]:
    listen, dial = Transport(TransportType.MLLP_LISTEN, ANY), Transport(TransportType.MLLP_DIAL, address)
    return (
        LinkSettings(f"{name}-in", FOUNDED, driver, listen, analyzer=name),
        LinkSettings(f"{name}-out", FOUNDED, driver, dial, analyzer=name),
    )


async def _map_codes(owner: asyncpg.Connection[asyncpg.Record], organization_id: UUID, driver: str) -> None:
    for code, test in CODES.items():
        await owner.execute(
            """insert into lab.code_map (id, organization_id, driver, code, test_id, unit, origin)
               select $1, $2, $3, $4, id, '', 'site' from lab.test where organization_id = $2 and code = $5""",
            uuid7(), organization_id, driver, code, test,
        )  # fmt: skip


def codes(steps: tuple[Heard, ...]) -> list[str]:
    return [step.code for step in steps]
