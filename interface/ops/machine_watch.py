"""The daemon's look at its machine, every minute: what is found becomes alerts and metrics.

An alert is entered at the first look that finds something, and recovers when it was not found for five minutes: what
swings about a limit is told once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog

from interface.domain.alerts import AlertKind, Severity, Subject
from interface.errors import StoreError
from interface.flow import alerting
from interface.ops import doctor, machine
from interface.ops.doctor import Seen
from interface.ops.findings import Finding
from interface.ops.looks import Looks
from interface.settings import Settings
from interface.store import alerts, conditions
from interface.store.db import Database
from interface.telemetry import Reading

Settle = Callable[[UUID, AlertKind, Mapping[Subject, str]], Awaitable[None]]
WATCH_S: Final = 60.0
STANDS_S: Final = 300.0
WATCHED: Final = (AlertKind.DISK, AlertKind.CLOCK, AlertKind.CERTIFICATE, AlertKind.BACKUP_AGE)

log = structlog.get_logger(__name__)


class MachineWatch:
    """`organizations`: those whose people are told. `settle`: enters and recovers, also where the database does not
    serve; by default in the database alone. `wall`, `monotonic`: the clocks that are compared, in seconds. `unusable`:
    what is wrong with the configuration as it is on the disk."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        database: Database,
        organizations: Callable[[], Iterable[UUID]],
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        settle: Settle | None = None,
        looks: Looks | None = None,
        unusable: Callable[[], str] = str,
    ) -> None:
        self._settings, self._database, self._organizations = settings, database, organizations
        self._wall, self._monotonic = wall, monotonic
        self._settle_one, self._looks = settle or self._store, looks or Looks()
        self._unusable, self._configuration = unusable, dict[Subject, str]()
        self._steps = machine.Steps(wall(), monotonic())
        self._seen: dict[tuple[AlertKind, Subject], tuple[float, Finding]] = {}
        self._findings: list[Finding] = []
        self._blind: set[AlertKind] = set()  # kinds that this process cannot see: another settles them
        self._readings: list[Reading] = []
        self._read_with: Settings | None = None
        self._used: dict[Subject, datetime] = {}  # when what the daemon has read of files ends
        self._shown: dict[str, datetime] = {}

    async def look(self) -> list[Finding]:
        """What is found, stored as alerts. Raises StoreError: then it is stored at the next look."""
        settings, now = self._settings(), datetime.fromtimestamp(self._wall(), UTC)
        seen = await doctor.of_machine(settings, now, self._looks)
        found = seen.findings
        self._blind = {
            one.kind for one in found if one.kind is AlertKind.BACKUP_AGE and not (seen.taken_at or one.severity)
        }
        if machine.name(settings):  # each machine's timer tells of its own
            self._blind.add(AlertKind.BACKUP_AGE)
        if settings is not self._read_with:  # files are read at a start and at each reload, which makes them anew
            self._read_with, self._used = settings, seen.files
            self._shown = {of: end for of, end in seen.ends.items() if of != settings.api.base_url}
        self._readings = _readings(seen, self._shown)
        found += machine.not_read_again(self._used, seen.files, now)
        found.append(self._steps.look(self._wall(), self._monotonic()))
        found += await self._of_configuration(machine.named(machine.CONFIGURATION, machine.name(settings)))
        self._note(found)
        answers = False
        try:
            of_server, readings = await self._of_database()
            found += of_server
            self._readings += readings
            self._note(of_server)
            answers = True
        finally:
            self._findings = found
            await self._settle(answers)
        return found

    async def _of_configuration(self, subject: Subject) -> list[Finding]:
        """Whether the daemon could start with what its files say by now. That a reload of them changed nothing stands
        in the log alone, and once it does not start, at night after a power cut, nobody is there to tell."""
        try:
            said = await self._looks.at("configuration", self._unusable)
        except Exception as error:  # a fault of ours must not keep anything else from being told
            log.error("the configuration was not looked at", action="machine.watch", exc_info=error)
            return []
        self._configuration = {}
        if not said:
            return []
        text = f"the daemon goes on with what it read before, and will not start again with: {said}"
        self._configuration[subject] = text
        return [Finding(AlertKind.SERVICE, subject, Severity.WARNING, text, "labora check")]

    def _note(self, found: list[Finding]) -> None:
        at = self._monotonic()
        for one in found:
            watched = one.kind in WATCHED or one.kind is AlertKind.DATABASE
            if one.severity is not None and one.severity.rank >= Severity.WARNING.rank and watched:
                self._seen[one.kind, one.subject] = at, one
        for key in [key for key, (last, _) in self._seen.items() if at - last >= STANDS_S]:
            del self._seen[key]

    async def _of_database(self) -> tuple[list[Finding], list[Reading]]:
        async with self._database.system() as system:
            before = self._wall()
            server = await conditions.of_server(system)
            apart = machine.apart((before + self._wall()) / 2 - server.now.timestamp())
        readings = []
        if server.oldest_waiting_at is not None:
            readings.append(Reading("queue_age", (), (server.now - server.oldest_waiting_at).total_seconds()))
        held = unmapped = 0
        standing: Counter[str] = Counter()
        for organization_id in self._organizations():
            async with self._database.organization(organization_id) as connection:
                of = await conditions.of_laboratory(connection)
                standing.update(one.kind for one in await alerts.find(connection))
            held, unmapped = held + of.held, unmapped + of.unmapped
        readings += [Reading("alerts", (kind,), number) for kind, number in standing.items()]
        return [apart, *doctor.archive(server), *doctor.exhausted(server)], [
            *readings,
            Reading("held", (), held),
            Reading("unmapped", (), unmapped),
        ]

    async def _settle(self, answers: bool) -> None:
        for organization_id in self._organizations():
            for kind in (one for one in WATCHED if one not in self._blind):
                await self._settle_one(organization_id, kind, self._standing(kind))
            if answers:  # else that it does not serve is the alert of its kind, and is another's to settle
                async with self._database.transaction(organization_id) as connection:
                    found = self._standing(AlertKind.DATABASE)
                    await alerting.settle(connection, organization_id, AlertKind.DATABASE, found, mine=_has_name)
                    mine = machine.named(machine.CONFIGURATION, machine.name(self._settings())).__eq__
                    found = self._configuration
                    await alerting.settle(connection, organization_id, AlertKind.SERVICE, found, mine=mine)

    def _standing(self, kind: AlertKind) -> dict[Subject, str]:
        return {subject: one.text for (of, subject), (_, one) in self._seen.items() if of is kind}

    async def _store(self, organization_id: UUID, kind: AlertKind, found: Mapping[Subject, str]) -> None:
        async with self._database.transaction(organization_id) as connection:
            await alerting.settle(connection, organization_id, kind, found)

    def readings(self) -> Iterator[Reading]:
        """For `telemetry.Asked`: as of the last look."""
        yield from self._readings
        counted: dict[tuple[str, str], int] = {}
        for one in self._findings:
            if one.severity is not None:
                counted[one.kind, one.severity] = counted.get((one.kind, one.severity), 0) + 1
        for labels, number in counted.items():
            yield Reading("findings", labels, number)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except StoreError as error:
                log.warning("what is found of the machine is not stored yet", action="machine.watch", error=error.slug)
            except Exception as error:  # nobody would be told of a full disk, until the next start
                log.error("what is found of the machine is not stored yet", action="machine.watch", exc_info=error)
            await asyncio.sleep(WATCH_S)


def _has_name(subject: Subject) -> bool:
    return bool(subject.name)


def _readings(seen: Seen, shown: Mapping[str, datetime]) -> list[Reading]:
    found = [Reading("disk_free", (str(room.path),), room.free) for room in seen.rooms]
    ends = {of: min(end, shown.get(of, end)) for of, end in seen.ends.items()}
    found += [Reading("certificate", (of,), end.timestamp()) for of, end in ends.items()]
    return [*found, *([Reading("backup", (), seen.taken_at.timestamp())] if seen.taken_at else [])]
