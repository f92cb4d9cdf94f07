"""A small laboratory over real PostgreSQL: one organization, one link, its journal, its intake and a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import asyncpg

from interface.domain.model import Sex
from interface.domain.permissions import permissions
from interface.domain.views import Actor, ActorKind, Audience, IdentifierView, OrderView, ResultView
from interface.driver import registry
from interface.flow import actors
from interface.flow.context import LinkContext, register
from interface.flow.intake import LinkIntake
from interface.flow.orders import NewOrder, NewPatient, NewSpecimen, create_order
from interface.flow.results import ResultWorker
from interface.flow.review import release
from interface.link.intake import Receipt, ReceivedFrame
from interface.settings import Address, LimitSettings, LinkSettings, Transport, TransportType, Unsolicited
from interface.store.catalogue import load_code_map
from interface.store.db import Database, prepare
from interface.store.ids import uuid7
from interface.store.journal import Journal
from interface.store.lab import ResultFilter, find_results
from interface.wire.frames import build_frame, parse_frame
from tests.cluster import owner_of
from tests.conftest import FOUNDED
from tests.lasting import Lasting
from tests.recycling import LENDERS

COLLECTED = datetime(2026, 1, 2, tzinfo=UTC)
HEADER = "H|\\^&|{control}||Testmaker^Bench^1||||||||LIS2-A2|20260102030405"


def message(*records: str, control: str = "C1") -> list[str]:
    """A LIS02-A2 message's records with header and terminator."""
    return [HEADER.format(control=control), *records, "L|1|N"]


def frames(records: Sequence[str]) -> list[ReceivedFrame]:
    """One frame per record, as most analyzers send them."""
    made = []
    for at, record in enumerate(records):
        raw = build_frame(at + 1, record.encode("latin-1") + b"\r", True)
        fn, text, last = parse_frame(raw)
        made.append(ReceivedFrame(fn, raw, text, last))
    return made


@dataclass(slots=True)
class Laboratory:
    database: Database
    owner: asyncpg.Connection[asyncpg.Record]
    context: LinkContext
    journal: Journal
    intake: LinkIntake
    worker: ResultWorker
    contexts: dict[UUID, LinkContext] = field(default_factory=dict)

    @property
    def organization_id(self) -> UUID:
        return self.context.organization_id

    async def send(self, records: Sequence[str], *, end: str = "eot") -> Receipt:
        """Send records as one session; the receipt of the last frame."""
        transmission = self.intake.frames("127.0.0.1:1")
        receipt = Receipt()
        for frame in frames(records):
            receipt = await transmission.frame(frame)
        await transmission.end(end)
        return receipt

    async def settle(self) -> None:
        """Work until nothing waits."""
        while await self.worker.work():
            pass

    async def order(
        self, barcode: str, *tests: str, patient_id: str = "P-1", at: datetime = COLLECTED, **facts: object
    ) -> OrderView:
        """Order tests on a specimen taken `at`; the patient is a woman born in 1980 unless `facts` say otherwise."""
        known = {"birth_date": date(1980, 5, 1), "sex": Sex.FEMALE, "family": "Muster", "given": "Maria"} | facts
        patient = NewPatient(identifiers=(IdentifierView("TEST", patient_id),), **known)  # type: ignore[arg-type]
        specimen = NewSpecimen(tests=tests, barcode=barcode, type="", collected_at=at, received_at=at)
        async with self.database.transaction(self.organization_id) as connection:
            return await create_order(connection, self.context.actor, NewOrder((specimen,), patient=patient))

    async def results(self, audience: Audience = Audience.STAFF) -> list[ResultView]:
        """All results, in the order they were first seen."""
        async with self.database.organization(self.organization_id) as connection:
            found = await find_results(connection, ResultFilter(), audience)
        return sorted(found, key=lambda view: view.id)

    @property
    def director(self) -> Actor:
        """Somebody who may decide about results."""
        roles = frozenset({"laboratory_director"})
        return Actor(ActorKind.USER, uuid7(), "director", self.organization_id, permissions(roles), roles)

    async def release(self, result_id: UUID) -> ResultView:
        """Release a result as the laboratory's director."""
        async with self.database.transaction(self.organization_id) as connection:
            return await release(connection, self.director, result_id)

    async def messages(self) -> list[tuple[str, str | None]]:
        """(state, settled) of every message, in the order of receipt."""
        rows = await self.owner.fetch("select state, settled from lab.message order by id")
        return [(row["state"], row["settled"]) for row in rows]


@asynccontextmanager
async def laboratory(
    database_url: str, driver: str = "generic_lis2", *, unsolicited: Unsolicited = Unsolicited.HOLD,
    drivers: Sequence[Path] = (), limits: LimitSettings | None = None,
) -> AsyncIterator[Laboratory]:  # fmt: skip
    """Build it on a database of its own; the worker works when `settle` is called."""
    async with reaching(database_url) as (database, owner):
        async with _built(database, owner, driver, unsolicited, drivers, limits or LimitSettings()) as made:
            yield made


@asynccontextmanager
async def neighbour(lab: Laboratory) -> AsyncIterator[Laboratory]:
    """Another organization on the same server, served by the same daemon."""
    async with _built(lab.database, lab.owner, "generic_lis2", Unsolicited.HOLD, (), LimitSettings()) as made:
        lab.contexts |= made.contexts
        yield replace(made, contexts=lab.contexts, worker=lab.worker)


@asynccontextmanager
async def reaching(database_url: str) -> AsyncIterator[tuple[Database, asyncpg.Connection[asyncpg.Record]]]:
    """The application's and the administrator's ways into a database; over lasting connections where it has them."""
    if (lender := LENDERS.get(database_url)) is not None:
        async with lender.owner() as owner:
            database: Database = Lasting(lender)
            try:
                yield database, owner
            finally:
                await database.close()
        return
    database = await Database.connect(database_url)
    owner = await asyncpg.connect(owner_of(database_url))
    await prepare(owner)
    try:
        yield database, owner
    finally:
        await owner.close()
        await database.close()


@asynccontextmanager
async def _built(
    database: Database, owner: asyncpg.Connection[asyncpg.Record], driver: str, unsolicited: Unsolicited,
    drivers: Sequence[Path], limits: LimitSettings,
) -> AsyncIterator[Laboratory]:  # fmt: skip
    name = f"lab-{uuid7().hex}"
    organization_id = await owner.fetchval(
        "update lab.organization set name = $1 where name = $2 returning id", name, FOUNDED
    ) or (await actors.create_organization(database, name)).id  # fmt: skip
    settings = LinkSettings(
        "bench", name, driver, Transport(TransportType.TCP_LISTEN, Address("127.0.0.1", 0)),
        unsolicited=unsolicited,
    )  # fmt: skip
    loaded = registry.load(driver, drivers)
    async with database.transaction(organization_id) as connection:
        context = await register(connection, organization_id, settings, loaded)
        await load_code_map(connection, organization_id, driver)
    contexts = {context.link_id: context}
    worker = ResultWorker(database, contexts.get, limits)
    journal = Journal(
        database, organization_id, resend_window_s=limits.resend_window_s, commit_wait_s=limits.commit_wait_s,
        wake=worker.wake,
    )  # fmt: skip
    await journal.start()
    try:
        yield Laboratory(database, owner, context, journal, LinkIntake(context, journal), worker, contexts)
    finally:
        await journal.stop()
