"""`labora doctor`: what is wrong or will be, each with the command that mends it.

The machine's findings (`ops.machine`) need no database; what is found in it is turned into findings here, by functions
of the facts alone. The daemon looks at the machine every minute (`ops.machine_watch`), so that what a person would find
by asking becomes an alert without being asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

from interface.domain.alerts import AlertKind, Severity, Subject
from interface.domain.roster import Roster
from interface.errors import BackupError, ConfigError, LaboraError
from interface.flow import alerting, qc_plans, qc_targets, rules
from interface.flow.qc_plans import StreamStatus
from interface.ops import backup as backups
from interface.ops import machine
from interface.ops.alert_sender import AlertSender
from interface.ops.alert_teller import tell
from interface.ops.findings import Finding
from interface.ops.looks import HANGS, Looks
from interface.ops.machine import Room
from interface.settings import Settings
from interface.store import alerts, catalogue_rows, conditions, criticals, migrate, routes
from interface.store import rules as rule_rows
from interface.store.alerts import AlertView
from interface.store.catalogue import read_tests
from interface.store.conditions import Laboratory, Server
from interface.store.db import Connection, Database, open_connection
from interface.store.dispatch_views import RouteView, find_routes
from interface.store.embedded import EmbeddedPostgres
from interface.store.schema import APP_ROLE
from interface.store.server_checks import check_server

_BACKLOG: Final = ((Severity.URGENT, timedelta(hours=1)), (Severity.WARNING, timedelta(minutes=5)))
_BACKUP: Final = ((Severity.URGENT, timedelta(days=3)), (Severity.WARNING, timedelta(hours=26)))  # one is made daily
_UNARCHIVED: Final = ((Severity.URGENT, 86_400.0), (Severity.WARNING, 600.0))  # seconds
_LONG_TRANSACTION_S: Final = 900.0
_FROZEN: Final = ((Severity.URGENT, 1_500_000_000), (Severity.WARNING, 1_000_000_000))  # of 2^31
_CONNECTIONS: Final = 0.85
_HELD: Final = timedelta(days=1)
CONNECT_WAIT_S: Final = 5.0
_DATABASE: Final = Subject("database", "")
_DEBIAN: Final = Path("/var/lib/postgresql")
_T = TypeVar("_T")


# ---- the machine ----------------------------------------------------------------------------------------------------


def folders(settings: Settings) -> Iterator[tuple[Path, str]]:
    """Where room is needed, each with what below it is looked at too. A server's log may be on a file system of its
    own, by a link from its data: the daemon's account sees it of the embedded server, root of Debian's, and whoever it
    is what is named."""
    yield settings.state_dir, ""
    yield Path("/var/log"), ""
    if settings.database.url == "embedded":
        yield settings.state_dir / "pg" / "data" / "pg_wal", ""
    else:
        yield _DEBIAN, "*/*/pg_wal"
    yield from ((folder, "") for folder in settings.database.folders)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a machine. `taken_at`: of the newest backup; `ends`: of certificates, by file or address;
    `files`: of all that ends in files."""

    findings: list[Finding]
    rooms: list[Room]
    ends: dict[str, datetime]
    files: dict[Subject, datetime]
    taken_at: datetime | None


async def of_machine(settings: Settings, now: datetime, looks: Looks) -> Seen:
    """What may be looked at every minute: nothing of it takes long or asks the database. What hangs, or cannot be
    read, is a finding, and keeps nothing else from being seen."""
    missed: list[Finding] = []

    async def seen(kind: AlertKind, subject: Subject, look: Callable[[], _T]) -> _T | None:
        try:
            return await looks.at(f"{kind} {subject}", look)
        except OSError as error:
            text = HANGS if isinstance(error, TimeoutError) else f"cannot be looked at: {error.strerror or error}"
            missed.append(Finding(kind, subject, Severity.WARNING, text, "findmnt   # and whether its server answers"))
        return None

    places = [
        partial(_of_disk, path, below, settings.database.folders) for path, below in dict.fromkeys(folders(settings))
    ]
    disks, certificates, proxy, newest = await asyncio.gather(
        asyncio.gather(*(seen(AlertKind.DISK, Subject("disk", str(one.args[0])), one) for one in places)),
        seen(AlertKind.CERTIFICATE, Subject("certificate", "files"), partial(_certificates, settings, now)),
        seen(AlertKind.CERTIFICATE, Subject("certificate", "proxy"), partial(machine.shown_by_proxy, settings.api)),
        seen(AlertKind.BACKUP_AGE, Subject("backup", ""), partial(backup, settings, now)),
    )
    rooms = {room.device: room for found in reversed(disks) for room in (found[0] if found else ())}
    findings = [*map(machine.disk, reversed(rooms.values())), *(one for found in disks if found for one in found[1])]
    findings += [machine.time_server(machine.synchronized()), *(certificates[0] if certificates else ())]
    findings += machine.of_proxy(settings.api, now, proxy)
    if newest is not None:
        findings.append(newest[0])
    ends = (certificates[1] if certificates else {}) | ({settings.api.base_url: proxy} if proxy else {})
    files = certificates[2] if certificates else {}
    return Seen([*findings, *missed], list(rooms.values()), ends, files, newest[1] if newest else None)


def _of_disk(path: Path, below: str, named: Collection[Path]) -> tuple[list[Room], list[Finding]]:
    found = list(machine.rooms([path, *(path.glob(below) if below else ())]))
    return found, list(machine.unseen([path] if path in named else []))


def _certificates(
    settings: Settings, now: datetime
) -> tuple[list[Finding], dict[str, datetime], dict[Subject, datetime]]:
    ends: dict[str, datetime] = {}
    for path in {path for _, path, authorities in machine.certificate_files(settings) if not authorities}:
        with suppress(OSError, ValueError):  # a finding says so
            ends[str(path)] = machine.ends_at(path, authorities=False)
    return machine.certificates(settings, now), ends, machine.ends(settings)


def backup(settings: Settings, now: datetime) -> tuple[Finding, datetime | None]:
    """How old the newest whole backup is, and of when."""
    subject, command = Subject("backup", ""), "labora backup create"
    try:
        newest = backups.newest(settings, now)
    except BackupError as error:  # root's, and who asks is not root
        return Finding(AlertKind.BACKUP_AGE, subject, None, f"not known: {error}"), None
    if newest is None:
        text = f"there is no backup in {backups.directory(settings)}"
        return Finding(AlertKind.BACKUP_AGE, subject, Severity.WARNING, text, command), None
    if backups.dated_ahead(newest.taken_at, now):
        text = f"the only ones are dated ahead, as {newest.name}: a clock was or is wrong, and their age is not known"
        return Finding(AlertKind.BACKUP_AGE, subject, Severity.WARNING, text, command), None
    age = now - newest.taken_at
    text = f"the newest, {newest.name}, is {_long(age)} old"
    severity = next((severity for severity, most in _BACKUP if age > most), None)
    return Finding(AlertKind.BACKUP_AGE, subject, severity, text, command if severity else ""), newest.taken_at


# ---- the database ---------------------------------------------------------------------------------------------------


def archive(server: Server) -> list[Finding]:
    """Whether its WAL goes where a restore to any moment takes it from (docs/backup.md), where it is to."""
    for severity, most in _UNARCHIVED:
        if server.unarchived_s is not None and server.unarchived_s > most:
            text = (
                f"the database server's log has not been archived for {_long(timedelta(seconds=server.unarchived_s))}"
            )
            text += ": so much is lost with the machine, and its disk fills up"
            command = "runuser -u postgres -- scripts/pitr status ARCHIVE   # and what the server's own log says of it"
            return [Finding(AlertKind.BACKUP_AGE, Subject("backup", "archive"), severity, text, command)]
    return []


def server_findings(server: Server, now: datetime) -> list[Finding]:
    """What the server tells of itself; `now`: this machine's clock at the same moment."""
    found = [
        Finding(AlertKind.DATABASE, _DATABASE, None,
                f"PostgreSQL {server.version}, {server.size / machine.GIB:.1f} GiB,"
                f" {server.connections} of {server.most_connections} connections"),
        machine.apart((now - server.now).total_seconds()),
        _backlog(server),
        *archive(server),
    ]  # fmt: skip
    if server.longest_s > _LONG_TRANSACTION_S:
        text = f"a transaction has been open for {server.longest_s / 60:.0f} minutes: tables grow meanwhile"
        command = "psql: select pid, usename, xact_start, state from pg_stat_activity order by xact_start"
        found.append(Finding(AlertKind.DATABASE, Subject("database", "transaction"), Severity.WARNING, text, command))
    if not server.partitioned:
        text = (
            "nobody tidies it up: the coming month has no partition, and nothing that was kept long enough is deleted"
        )
        command = "labora db maintain   # as the schema's owner, each night: docs/retention.md"
        found.append(Finding(AlertKind.DATABASE, Subject("database", "upkeep"), Severity.WARNING, text, command))
    return [*found, *exhausted(server)]


def exhausted(server: Server) -> list[Finding]:
    """What of it will soon be used up, and then nothing is stored any more: also an alert."""
    found = []
    if server.connections > server.most_connections * _CONNECTIONS:
        text = f"{server.connections} of {server.most_connections} connections are taken"
        command = "labora db url --role owner   # psql: select * from pg_stat_activity"
        found.append(Finding(AlertKind.DATABASE, Subject("database", "connections"), Severity.WARNING, text, command))
    for severity, age in _FROZEN:
        if server.frozen_age > age:
            text = f"transaction ids: {server.frozen_age / 2**31:.0%} used since the last freeze; at the end it stops"
            command = (
                "runuser -u postgres -- vacuumdb --freeze labora   # where it does not help, psql: pg_prepared_xacts,"
                " pg_replication_slots, pg_stat_activity (xact_start): something of long ago holds it up"
            )
            found.append(Finding(AlertKind.DATABASE, Subject("database", "freeze"), severity, text, command))
            break
    return found


def _backlog(server: Server) -> Finding:
    subject = Subject("queue", "")
    if server.oldest_waiting_at is None:
        return Finding(AlertKind.BACKLOG, subject, None, "no message waits to be decided")
    age = server.now - server.oldest_waiting_at
    text = f"{server.waiting} messages wait to be decided, the oldest for {_long(age)}"
    for severity, most in _BACKLOG:
        if age > most:
            return Finding(AlertKind.BACKLOG, subject, severity, text, "journalctl -u labora -n 100   # is it at work?")
    return Finding(AlertKind.BACKLOG, subject, None, text)


def _long(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h" if minutes < 2880 else f"{minutes // 1440} days"


# ---- a laboratory ---------------------------------------------------------------------------------------------------

# What is counted, by the field of `Laboratory`: its kind, how grave it is, in words, and what to run.
_COUNTED: Final = (
    ("unmapped", AlertKind.UNMAPPED, Severity.WARNING, "results wait for their code to be mapped",
     "labora map unmapped"),
    ("parked", AlertKind.PARKED, Severity.URGENT, "messages ended their decoding three times and are parked",
     "labora message list --settled parked"),
    ("refused", AlertKind.DISPATCH, Severity.WARNING, "works were refused by an analyzer, or could not be told it",
     "labora dispatch list --state refused --state failed"),
    ("off", AlertKind.DELIVERY, Severity.WARNING, "subscriptions of EMRs are not told", "labora subscription list"),
)  # fmt: skip


def laboratory_findings(name: str, found: Laboratory, now: datetime) -> list[Finding]:
    """What waits in one laboratory."""
    subject = Subject("organization", name)
    told = [
        Finding(kind, subject, severity, f"{number} {words}", f"{command} --organization {name}")
        for field, kind, severity, words, command in _COUNTED
        if (number := getattr(found, field))
    ]
    text = f"{found.held} results are held"
    age = now - found.oldest_held_at if found.oldest_held_at is not None else timedelta(0)
    if age > _HELD:
        command = f"labora result list --held --organization {name}"
        text += f", the oldest for {_long(age)}"
        return [*told, Finding(AlertKind.HELD_AGE, subject, Severity.NOTICE, text, command)]
    return [*told, Finding(AlertKind.HELD_AGE, subject, None, text)]


def control_findings(name: str, due: Sequence[StreamStatus]) -> list[Finding]:
    """Controls that are wanted: what they gate is held until they come."""
    subject = Subject("organization", name)
    overdue = [one for one in due if one.due == "overdue" or one.action_due]
    if not due:
        return [Finding(AlertKind.QC_DUE, subject, None, "no control is due")]
    severity = Severity.WARNING if overdue else Severity.NOTICE
    text = f"{len(due)} tests want a control or an action, {len(overdue)} of them overdue"
    return [Finding(AlertKind.QC_DUE, subject, severity, text, f"labora qc status --due --organization {name}")]


def level_findings(name: str, sharing: Sequence[str]) -> list[Finding]:
    """Levels with one number: a run of one of them vouches for both."""
    if not sharing:
        return []
    text = f"{len(sharing)} pairs of levels have one number, and one of each is enough of a run, such as {sharing[0]}"
    command = f"labora qc target list --organization {name}"
    return [Finding(AlertKind.QC_PROBLEM, Subject("organization", name), Severity.WARNING, text, command)]


def route_findings(
    name: str, found: Sequence[RouteView], analyzers: Collection[str], types: Collection[str]
) -> list[Finding]:
    """Routes to analyzers that no link is of (`analyzers`: those that one is of), and nobody said are down; and those
    of a type of specimen that there is not."""
    nowhere = [
        f"{one.test_code} is routed to {one.analyzer}, of which the configuration has no link: what is for it waits"
        for one in found if one.analyzer not in analyzers and not one.down
    ] + [
        f"{code} has a route for specimen type {kind}, which there is not: it is of no specimen"
        for code, kind in sorted({(one.test_code, one.specimen_type) for one in found})
        if kind and kind not in types
    ]  # fmt: skip
    return _warnings(name, AlertKind.DISPATCH, f"labora dispatch routes --organization {name}", nowhere)


def unknown_findings(name: str, said: Sequence[str]) -> list[Finding]:
    """Rules in force that say something of an analyzer or a type of specimen which there is not."""
    return _warnings(name, AlertKind.UNMAPPED, f"labora rule list --organization {name}", said)


def critical_findings(name: str, levels: dict[int, int]) -> list[Finding]:
    late = sum(tasks for level, tasks in levels.items() if level)
    if not late:
        return []
    text = f"{late} critical results are not confirmed as known, past their time"
    command = f"labora critical list --organization {name}"
    return [Finding(AlertKind.CRITICAL_UNTOLD, Subject("organization", name), Severity.URGENT, text, command)]


def void_findings(name: str, void: Mapping[str, str]) -> list[Finding]:
    """Active rules that release nothing, as after an upgrade by which their validation is void, and why."""
    said = [f"no result is released by the rules {version}: {why}" for version, why in void.items()]
    return _warnings(name, AlertKind.HELD_AGE, f"labora rule list --organization {name}", said)


def panel_findings(name: str, retired: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Panels with tests that were taken out of use while that was not refused."""
    said = [
        f"the panel {code} is ordered without {', '.join(tests)}, which is not in use"
        for code, tests in retired.items()
    ]  # fmt: skip
    return _warnings(name, AlertKind.DISPATCH, f"labora panel list --organization {name}", said)


def interval_findings(name: str, strange: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Intervals of analyzers that there are not, as of a name that was mistyped while that was not refused."""
    said = [
        f"intervals of {', '.join(tests)} are of the analyzer {analyzer!r}, which there is not: they, and their"
        " critical limits, apply to no result"
        for analyzer, tests in strange.items()
    ]
    return _warnings(name, AlertKind.CRITICAL_UNTOLD, f"labora interval list --organization {name}", said)


def _warnings(name: str, kind: AlertKind, command: str, said: Sequence[str]) -> list[Finding]:
    """Of one laboratory, each with the command that shows it."""
    return [Finding(kind, Subject("organization", name), Severity.WARNING, text, command) for text in said]


def standing_findings(name: str, standing: Sequence[AlertView]) -> list[Finding]:
    """Alerts that stand, as the daemon entered them."""
    return [
        Finding(AlertKind(one.kind), Subject(one.thing, one.subject), one.severity,
                f"{one.note or 'stands'} (since {one.entered_at:%Y-%m-%d %H:%M} UTC)",
                f"labora alert show {one.id} --organization {name}")
        for one in standing
    ]  # fmt: skip


# ---- all of it ------------------------------------------------------------------------------------------------------


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Look at everything, one after the other; what cannot be looked at is a finding. Changes nothing."""
    here = await of_machine(settings, datetime.now(UTC), Looks())
    for finding in (*here.findings, *machine.services(machine.units()), machine.daemon(settings.api)):
        yield finding
    try:
        database = await _opened(settings)
    except (LaboraError, OSError) as error:
        yield _unreachable(settings, error)
        return
    try:
        async for finding in _database(settings, database):
            yield finding
    except (LaboraError, OSError) as error:
        yield _unreachable(settings, error)
    finally:
        await database.close()


def _unreachable(settings: Settings, error: Exception) -> Finding:
    embedded = settings.database.url == "embedded"
    command = "systemctl status labora" if embedded else "systemctl status 'postgresql*'"
    if isinstance(error, ConfigError):
        command = "labora db status"
    text = str(error) if isinstance(error, LaboraError) else (getattr(error, "strerror", "") or type(error).__name__)
    return Finding(AlertKind.DATABASE, _DATABASE, Severity.URGENT, text, command)


async def _opened(settings: Settings) -> Database:
    """The database as it is: nothing is started or upgraded. Raises LaboraError, OSError."""
    embedded = settings.database.url == "embedded"
    url = settings.database.url
    if embedded:
        server = EmbeddedPostgres(settings.state_dir, settings.database.bin_dir)
        url = server.url(APP_ROLE)
    connection = await open_connection(url, role=APP_ROLE, wait_s=CONNECT_WAIT_S)
    try:
        await migrate.gate(connection)
        await check_server(connection, embedded=embedded)
    finally:
        await connection.close()
    return Database(url)


async def _database(settings: Settings, database: Database) -> AsyncIterator[Finding]:
    async with database.system() as system:
        started = time.time()
        server = await conditions.of_server(system)
        now = datetime.fromtimestamp((started + time.time()) / 2, UTC)
    for finding in server_findings(server, now):
        yield finding
    for name, organization_id in await _laboratories(settings, database):
        async with database.organization(organization_id) as connection:
            for finding in await _laboratory(settings, connection, name, server.now):
                yield finding


async def _laboratory(settings: Settings, connection: Connection, name: str, now: datetime) -> list[Finding]:
    revisions = await rule_rows.read_revisions(connection, "")
    void = await rules.why_void(connection, revisions)
    known = {one.code for one in await read_tests(connection)}
    panels = await catalogue_rows.read_panels(connection, active=True)
    retired = {one.code: gone for one in panels if (gone := [code for code in one.tests if code not in known])}
    # Another daemon may have links that are in its configuration alone (docs/standby.md).
    analyzers = {one.analyzer or one.id for one in settings.links if one.organization == name}
    analyzers |= await routes.looked_at(connection)
    return [
        *laboratory_findings(name, await conditions.of_laboratory(connection), now),
        *void_findings(name, {one.version: void[one.id] for one in revisions if one.id in void}),
        *panel_findings(name, retired),
        *interval_findings(name, await catalogue_rows.of_no_analyzer(connection)),
        *control_findings(name, await qc_plans.status(connection, only_due=True)),
        *level_findings(name, await qc_targets.sharing(connection)),
        *route_findings(name, await find_routes(connection), analyzers, await rule_rows.specimen_types(connection)),
        *unknown_findings(name, await rules.unknown_said(connection)),
        *critical_findings(name, await criticals.levels(connection)),
        *standing_findings(name, await alerts.find(connection, standing=True)),
    ]


# What is seen by whoever may ask systemd and read root's folders, and not by the daemon.
ALERTED: Final = (AlertKind.SERVICE, AlertKind.BACKUP_AGE)


def _is_mine(here: str, subject: Subject) -> bool:
    return subject.thing != machine.CONFIGURATION.thing and machine.is_of(subject, here)


async def enter_alerts(settings: Settings, findings: Sequence[Finding]) -> None:
    """Settle the alerts of ALERTED kinds by what was found, in every laboratory of the configuration. Where another
    machine does the same, each settles its own. Raises LaboraError, OSError where the database is not to be had: then
    the daemon says that."""
    here = machine.name(settings)
    database = await _opened(settings)
    try:
        for _, organization_id in await _laboratories(settings, database):
            async with database.transaction(organization_id) as connection:
                for kind in ALERTED:
                    found = {
                        machine.named(one.subject, here): one.text
                        for one in findings
                        if one.kind is kind and one.severity and one.severity.rank >= Severity.WARNING.rank
                    }
                    mine = partial(_is_mine, here)
                    await alerting.settle(connection, organization_id, kind, found, mine=mine)
    finally:
        await database.close()


def unanswered(findings: Sequence[Finding]) -> bool:
    """Whether the daemon of this machine says nothing."""
    return any(one.subject.thing == "daemon" and one.severity is Severity.URGENT for one in findings)


async def tell_alerts(settings: Settings, roster: Roster) -> None:
    """Tell people of what stands, in the place of a daemon that does not; each message is sent by one of both. Raises
    LaboraError, OSError."""
    at_once = replace(settings.alerts, gather_s=0.0)  # the next look is minutes away
    channels = {channel.id: channel for channel in settings.alerts.channels}
    database = await _opened(settings)
    sender = AlertSender(database, lambda: channels)
    try:
        for name, organization_id in await _laboratories(settings, database):
            async with database.transaction(organization_id) as connection:
                await tell(connection, organization_id, name, at_once, roster, datetime.now(UTC))
            while await sender.serve(organization_id):
                pass
    finally:
        await database.close()


async def _laboratories(settings: Settings, database: Database) -> list[tuple[str, UUID]]:
    """Those of the configuration that there are, by name."""
    found = [(name, await database.find_organization(name)) for name in settings.laboratories]
    return [(name, id) for name, id in found if id is not None]
