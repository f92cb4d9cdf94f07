"""One life of the daemon in the simulated world: the real supervisor, links, intakes, journal and worker.

Of deciding, what is claimed, in which order and company, and how it is settled is the code's own; what a message's
results come to is stood in for by `Worker._decide`, which keeps each natural key's values in the order of deciding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from interface.driver import registry
from interface.driver.manifest import Driver
from interface.errors import StoreUnavailable
from interface.flow.batches import Job
from interface.flow.context import LinkContext
from interface.flow.intake import LinkIntake
from interface.flow.results import ResultWorker
from interface.link.intake import Outgoing, Sending
from interface.link.supervisor import LinkSpec, Supervisor
from interface.settings import Address, LimitSettings, LinkSettings, SerialPort, Transport, TransportType
from interface.store import results as store
from interface.store.db import Database
from interface.store.ids import of_int
from interface.store.journal import Journal
from interface.store.results import Outcome
from tests.simulation.loop import SimClock, utc
from tests.simulation.statements import ORGANIZATION, SPECIMENS, VERSIONS

LIMITS = LimitSettings()
DRAIN_S = 10.0


@dataclass(eq=False, slots=True)
class Speech:
    """What the host has to say on one link, and outlives the daemon: its order book. `told`: delivered, as it knows."""

    todo: list[Sending]
    told: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SimLink:
    """A link as it is configured."""

    name: str
    driver: Driver
    transport: Transport
    number: int
    speech: Speech | None = None

    @property
    def context(self) -> LinkContext:
        settings = LinkSettings(self.name, "simulated", self.driver.id, self.transport)
        link_id, analyzer_id = (of_int(ORGANIZATION.int + self.number * 16 + at) for at in (1, 2))
        return LinkContext(of_int(ORGANIZATION.int), link_id, analyzer_id, settings, self.driver)


def astm(name: str, number: int, speech: Speech | None, *, serial: bool) -> SimLink:
    if serial:
        transport = Transport(TransportType.SERIAL, SerialPort(Path("/dev/simulated") / name))
    else:
        transport = Transport(TransportType.TCP_LISTEN, Address("127.0.0.1", 4000 + number))
    return SimLink(name, registry.load("generic_lis2"), transport, number, speech)


def mllp(name: str, number: int) -> SimLink:
    transport = Transport(TransportType.MLLP_LISTEN, Address("127.0.0.1", 4000 + number))
    return SimLink(name, registry.load("generic_hl7"), transport, number)


class Worker(ResultWorker):
    """The real one, but for what a message comes to."""

    async def _decide(self, organization_id: UUID, jobs: Sequence[Job]) -> list[Outcome]:
        async with self._database.by_index(organization_id) as connection:
            await connection.fetch(SPECIMENS, sorted({barcode for job in jobs for barcode in job.work.barcodes}))
            outcomes = []
            for job in jobs:
                work = job.work
                settled = "held" if work.incomplete else "released"
                outcomes.append(Outcome(work.message.id, settled, work.link.link_id, work.link.name))
            await store.commit(connection, organization_id, outcomes)
            for job in jobs:
                said = [
                    (key, job.work.barcode(specimen), observed.raw_value)
                    for specimen, observed, key in job.work.observations()
                    if not job.work.incomplete
                ]
                await connection.fetch(VERSIONS, job.work.message.id, said)
        return outcomes


class _Outgoing:
    """`link.intake.Outgoing` of one connection over a `Speech`: what was not delivered is due again."""

    def __init__(self, speech: Speech, down: Callable[[], bool]) -> None:
        self._speech, self._down = speech, down

    async def take(self) -> Sending | None:
        if self._down():
            raise StoreUnavailable("the database is away")
        await asyncio.sleep(0.001)
        return self._speech.todo[0] if self._speech.todo else None

    async def told(self, sending: Sending, delivered: bool, reply: bytes | None, reason: str) -> bytes | None:
        await asyncio.sleep(0.001)
        if delivered and sending in self._speech.todo:
            self._speech.todo.remove(sending)
            self._speech.told.append(sending.data)
        return None

    def close(self) -> None:
        return


class Intake(LinkIntake):
    """The real one, with a `Speech` in place of the order book."""

    speech: Speech | None = None
    down: Callable[[], bool] = staticmethod(lambda: False)

    def outgoing(self, peer: str, due: Callable[[], None]) -> Outgoing | None:
        return _Outgoing(self.speech, self.down) if self.speech is not None else None


async def live(
    links: Sequence[SimLink], dice: Random, up: Callable[[], bool], stop: asyncio.Event, begun: Callable[[], None]
) -> None:
    """From start to an orderly stop. Raises what ends the real daemon, which is started again."""
    database = Database("postgresql://simulated")
    contexts: dict[UUID, LinkContext] = {link.context.link_id: link.context for link in links}
    journals: list[Journal] = []
    worker = Worker(database, contexts.get, LIMITS, lambda: any(journal.busy for journal in journals))
    journal = Journal(
        database, of_int(ORGANIZATION.int), resend_window_s=LIMITS.resend_window_s,
        commit_wait_s=LIMITS.commit_wait_s, wake=worker.wake,
    )  # fmt: skip
    await journal.start()
    journals.append(journal)
    await worker.start([of_int(ORGANIZATION.int)])
    specs: list[LinkSpec] = []
    for link in links:
        intake: Any = Intake(link.context, journal, utc)
        intake.speech, intake.down = link.speech, lambda: not up()
        specs.append(LinkSpec(link.context.settings, intake, link.driver))
    supervisor = Supervisor(specs, SimClock(), jitter=dice.random)
    await supervisor.start()
    begun()
    await stop.wait()
    await supervisor.stop(DRAIN_S)
    await worker.stop()
    await journal.stop()
    await database.close()
