"""`labora doctor` against a real database: what waits is found, each thing with the command that mends it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import asyncpg
import click
import pytest

from interface.cli import labora
from interface.domain import alert_words
from interface.domain.alerts import AlertKind, Severity, Subject
from interface.domain.model import HoldReason, Interval, ResultStatus
from interface.domain.permissions import permissions
from interface.domain.views import Actor, ActorKind, PanelView
from interface.flow import alerting, dispatches
from interface.flow.dispatches import RouteEntry
from interface.ops import doctor, machine
from interface.ops.findings import Finding, worst
from interface.settings import Address, ApiSettings, DatabaseSettings, Settings, StandbySettings, TransportType
from interface.store import catalogue_rows, conditions
from interface.store.conditions import Laboratory, Server
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.cli.desk import Shell, open_shell
from tests.cluster import owner_of
from tests.conftest import Organization
from tests.e2e.daemon import free_ports, link
from tests.flow.rulebook import put_text_in_force
from tests.ops.telling import Telling
from tests.qc_records import director

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SERVER = Server("15.1", NOW, 1 << 30, 9, 100, 0.0, 1, 0, None)
MLLP = TransportType.MLLP_LISTEN
ADDS_MG = """
name = "default"
autoverification = "on"

[[reflex]]
name = "magnesium"
test = "K"
kind = "reflex"
add = ["MG"]
below = "3.0"
reason = "so"
"""
EMPTY = Laboratory(0, None, 0, 0, 0, 0)


@pytest.fixture
async def shell(
    database: Database, shared_database_url: str, organization: Organization, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> Shell:  # fmt: skip
    return await open_shell(database, shared_database_url, organization, tmp_path, monkeypatch, capsys)


def grave(findings: list[Finding]) -> dict[str, tuple[Severity, str]]:
    return {f"{one.kind} {one.subject}": (one.severity, one.text) for one in findings if one.severity is not None}


def test_a_server_that_is_well() -> None:
    found = doctor.server_findings(SERVER, NOW)
    assert worst(found) is None
    assert not any(one.command for one in found)


@pytest.mark.parametrize(
    ("changed", "what", "severity"),
    [
        ({"connections": 86}, "database database connections", Severity.WARNING),
        ({"longest_s": 901.0}, "database database transaction", Severity.WARNING),
        ({"frozen_age": 1_000_000_001}, "database database freeze", Severity.WARNING),
        ({"frozen_age": 1_500_000_001}, "database database freeze", Severity.URGENT),
        ({"unarchived_s": 601.0}, "backup_age backup archive", Severity.WARNING),
        ({"unarchived_s": 86_401.0}, "backup_age backup archive", Severity.URGENT),
        ({"partitioned": False}, "database database upkeep", Severity.WARNING),
        ({"now": NOW - timedelta(hours=1)}, "clock machine clock", Severity.URGENT),
        ({"waiting": 3, "oldest_waiting_at": NOW - timedelta(minutes=6)}, "backlog queue", Severity.WARNING),
        ({"waiting": 3, "oldest_waiting_at": NOW - timedelta(minutes=61)}, "backlog queue", Severity.URGENT),
    ],
)
def test_what_is_wrong_with_a_server(changed: dict[str, object], what: str, severity: Severity) -> None:
    found = grave(doctor.server_findings(replace(SERVER, **changed), NOW))  # type: ignore[arg-type]
    assert {name: gravity for name, (gravity, _) in found.items()} == {what: severity}


def test_messages_that_wait_for_less_than_minutes_are_no_backlog() -> None:
    at_work = replace(SERVER, waiting=900, oldest_waiting_at=NOW - timedelta(seconds=30))
    assert worst(doctor.server_findings(at_work, NOW)) is None


def test_every_count_has_its_command() -> None:
    found = doctor.laboratory_findings("main", Laboratory(4, NOW - timedelta(days=3), 1, 2, 3, 4), NOW)
    assert all(one.command.endswith("--organization main") for one in found)
    assert grave(found) == {
        "unmapped organization main": (Severity.WARNING, "1 results wait for their code to be mapped"),
        "parked organization main": (Severity.URGENT, "2 messages ended their decoding three times and are parked"),
        "held_age organization main": (Severity.NOTICE, "4 results are held, the oldest for 3 days"),
        "dispatch organization main": (
            Severity.WARNING,
            "3 works were refused by an analyzer, or could not be told it",
        ),
        "delivery organization main": (Severity.WARNING, "4 subscriptions of EMRs are not told"),
    }
    assert worst(doctor.laboratory_findings("main", EMPTY, NOW)) is None


def test_the_commands_that_are_named_can_be_run_as_they_are_said() -> None:
    found = doctor.laboratory_findings("main", Laboratory(4, NOW - timedelta(days=3), 1, 2, 3, 4), NOW)
    said = {one.command for one in found if one.command} | {words[-1] for words in alert_words._WORDS.values()}
    for command in sorted(said - {"labora alert test"}):  # which wants to know what to send by
        name, *arguments = command.split()
        at: click.Command = labora
        while isinstance(at, click.Group):
            name = arguments.pop(0)
            below = at.get_command(click.Context(at), name)
            assert below is not None, command
            at = below
        at.make_context(name, arguments)  # raises for what is no usage


async def test_that_nobody_makes_the_coming_months_partitions_is_found(database_url: str) -> None:
    database, owner = await Database.connect(database_url), await asyncpg.connect(owner_of(database_url))
    async with database.system() as system:
        assert (await conditions.of_server(system)).partitioned
        name = await system.fetchval("select to_char(now() + interval '1 month', 'YYYY_MM')")
        await owner.execute(f"drop table lab.frame_{name}")
        assert not (await conditions.of_server(system)).partitioned
    await database.close()
    await owner.close()


async def test_the_facts_are_the_databases(shell: Shell, database: Database) -> None:
    laboratory = shell.laboratory
    order = await laboratory.order()
    await laboratory.result(order, held=(HoldReason.UNMAPPED_CODE,), status=ResultStatus.REGISTERED)
    async with database.organization(shell.organization.id) as connection:
        found = await conditions.of_laboratory(connection)
    assert (found.held, found.unmapped, found.parked, found.refused, found.off) == (1, 1, 0, 0, 0)
    assert found.oldest_held_at is not None
    async with database.system() as system:
        server = await conditions.of_server(system)
    assert server.waiting >= 0 and server.most_connections > server.connections > 0
    assert abs((server.now - datetime.now(UTC)).total_seconds()) < 60


async def test_rules_that_release_nothing_and_panels_that_are_not_whole_are_found(
    shell: Shell, database: Database, shared_database_url: str
) -> None:
    """As after an upgrade to a program that refuses both: nothing else would say it to whoever looks at no list."""
    name, of = shell.organization.name, shell.organization.id
    roles = frozenset({"laboratory_director"})
    director = Actor(ActorKind.USER, uuid7(), "director", of, permissions(roles), roles)
    async with database.transaction(of) as connection:
        ids = {code: uuid7() for code in ("K", "MG")}
        await connection.executemany(
            "insert into lab.test (id, organization_id, code, name, unit, decimals) values ($1, $2, $3, $3, $4, 1)",
            [(id_, of, code, "mmol/L") for code, id_ in ids.items()],
        )
        panel = PanelView(uuid7(), 1, "P", "a panel", tests=("K", "MG"))
        await catalogue_rows.put_panel(connection, of, panel, ids.values())
        await put_text_in_force(connection, director, ADDS_MG)
    before = (await shell.run("doctor", "--json")).json
    assert not [one for one in before if "the rules default" in one["text"] or "the panel" in one["text"]]
    owner = await asyncpg.connect(owner_of(shared_database_url))
    await owner.execute("update lab.test set active = false where id = $1", ids["MG"])
    await owner.close()
    found = {one["text"]: one for one in (await shell.run("doctor", "--json")).json}
    why = "a test that it names has another unit, decimals, kind or substance now, or is not in use any more"
    said = found[f"no result is released by the rules default@1: {why}"]
    assert (said["severity"], said["command"]) == ("warning", f"labora rule list --organization {name}")
    said = found["the panel P is ordered without MG, which is not in use"]
    assert (said["severity"], said["command"]) == ("warning", f"labora panel list --organization {name}")


async def test_an_interval_of_an_analyzer_that_there_is_not_is_found(shell: Shell, database: Database) -> None:
    """From before that was refused: a critical value of the analyzer that was meant is ordinary."""
    name, of = shell.organization.name, shell.organization.id
    async with database.transaction(of) as connection:
        test = uuid7()
        await connection.execute(
            "insert into lab.test (id, organization_id, code, name, unit) values ($1, $2, 'K', 'K', 'mmol/L')", test, of
        )
        limits = Interval(str(uuid7()), str(test), "mmol/L", critical_high=Decimal("6.5"), analyzer="xn1")
        await catalogue_rows.insert_interval(connection, of, limits)
    answer = await shell.run("doctor", "--json")
    [found] = [one for one in answer.json if "xn1" in one["text"]]
    assert found["text"].startswith("intervals of K are of the analyzer 'xn1', which there is not")
    assert (found["severity"], found["command"]) == ("warning", f"labora interval list --organization {name}")
    async with database.transaction(of) as connection:
        await connection.execute(
            "insert into lab.analyzer (id, organization_id, name, driver) values ($1, $2, 'xn1', 'sysmex_xn')",
            uuid7(), of,
        )  # fmt: skip
    assert not [one for one in (await shell.run("doctor", "--json")).json if "xn1" in one["text"]]


async def test_the_command_finds_what_waits_and_the_alerts_that_stand(shell: Shell, database: Database) -> None:
    laboratory = shell.laboratory
    await laboratory.result(await laboratory.order(), held=(HoldReason.UNMAPPED_CODE,), status=ResultStatus.REGISTERED)
    async with database.transaction(shell.organization.id) as connection:
        await alerting.enter(
            connection, shell.organization.id, AlertKind.CERTIFICATE, Subject("certificate", "ours.pem"), "expired"
        )
    answer = await shell.run("doctor", "--json")
    assert answer.status == 1, answer.err
    found = {(one["kind"], one["subject"]["thing"]): one for one in answer.json}
    assert found["unmapped", "organization"]["text"] == "1 results wait for their code to be mapped"
    assert found["certificate", "certificate"]["text"].startswith("expired (since ")
    assert found["certificate", "certificate"]["command"].startswith("labora alert show ")
    assert found["database", "database"]["severity"] is None
    quiet = await shell.run("doctor", "--quiet")
    assert "labora map unmapped --organization" in quiet.out
    assert not [line for line in quiet.out.splitlines() if line.startswith("ok")]


async def test_two_machines_of_one_laboratory_each_tell_of_themselves(
    shell: Shell, database: Database, shared_database_url: str, tmp_path: Path
) -> None:
    """What one finds the other does not take for over, or people would be told of both every five minutes."""
    name = shell.organization.name
    one = Settings(tmp_path, DatabaseSettings(shared_database_url), links=(link("hl7", MLLP, "generic_hl7", name),))
    a, b = (replace(one, standby=StandbySettings(True, machine)) for machine in ("lab-a", "lab-b"))
    failed = Finding(AlertKind.SERVICE, Subject("unit", "labora-backup.service"), Severity.URGENT, "failed", "x")
    old = Finding(AlertKind.BACKUP_AGE, Subject("backup", ""), Severity.WARNING, "there is no backup", "x")

    async def seen() -> list[tuple[str, str, bool]]:
        async with database.organization(shell.organization.id) as connection:
            rows = await connection.fetch("select kind, subject, recovered_at from lab.alert order by kind, subject")
        return [(row["kind"], row["subject"], row["recovered_at"] is not None) for row in rows]

    for _ in range(2):
        await doctor.enter_alerts(a, [failed])
        await doctor.enter_alerts(b, [failed, old])
    assert await seen() == [
        ("backup_age", "on lab-b", False),
        ("service", "labora-backup.service on lab-a", False),
        ("service", "labora-backup.service on lab-b", False),
    ]
    await doctor.enter_alerts(a, [])
    assert [over for _, _, over in await seen()] == [False, True, False]
    await doctor.enter_alerts(one, [])  # there is one machine only from now on
    assert [over for _, _, over in await seen()] == [True, True, True]


async def test_in_the_place_of_a_daemon_that_is_dead_the_check_tells_once(
    database: Database, organization: Organization, telling: Telling, shared_database_url: str, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    settings = Settings(
        tmp_path, DatabaseSettings(shared_database_url), ApiSettings(Address("127.0.0.1", port)),
        links=(link("hl7", MLLP, "generic_hl7", organization.name),), alerts=telling.settings,
    )  # fmt: skip
    found = [machine.daemon(settings.api)]
    assert doctor.unanswered(found)
    for _ in range(2):
        await doctor.enter_alerts(settings, found)
        await doctor.tell_alerts(settings, telling.roster)
    (mail,) = telling.post.got
    assert str(mail["To"]) == "anna@lab.example" and f"127.0.0.1:{port}" in mail.get_content()
    await doctor.enter_alerts(settings, [])  # it runs again, and tells that this is over
    assert [title for to, title in await telling.told(120) if to != "sms" and title.startswith("Over: ")]


async def test_a_database_that_is_away_is_a_finding_like_others(shell: Shell) -> None:
    shell.environment.setenv("LABORA_DATABASE_URL", f"postgresql://nobody@127.0.0.1:1/{uuid7().hex}")
    shell.environment.setattr(doctor, "CONNECT_WAIT_S", 0.0)
    answer = await shell.run("doctor", "--json")
    assert answer.status == 1
    [found] = [one for one in answer.json if one["kind"] == "database"]
    assert found["severity"] == "urgent" and "cannot be reached" in found["text"]
    assert found["command"] == "systemctl status 'postgresql*'"


async def test_a_route_that_leads_nowhere_is_found(shell: Shell, database: Database) -> None:
    """Work waited in silence for an analyzer whose link was taken out of the configuration, and that nobody said is
    down; a mistyped type of specimen had no route."""
    laboratory = shell.laboratory
    await laboratory.order()
    async with database.transaction(shell.organization.id) as connection:
        test = await connection.fetchval("select code from lab.test where active order by code limit 1")
        for name in ("left", "hema-1"):
            await connection.execute(
                """with made as (insert into lab.analyzer (id, organization_id, name, driver)
                                 values ($1, $2, $3, 'generic_lis2') returning id)
                   insert into lab.link (id, organization_id, name, analyzer_id, driver, role)
                   select $4, $2, $3 || ' line', id, 'generic_lis2', 'analyzer' from made""",
                uuid7(), shell.organization.id, name, uuid7(),
            )  # fmt: skip
        entries = [RouteEntry("left"), RouteEntry("hema-1")]
        await dispatches.set_routes(connection, director(laboratory), test, entries, "r")
        await dispatches.set_routes(connection, director(laboratory), test, [RouteEntry("hema-1")], "r", "SERUN")

    async def said() -> list[str]:
        found = (await shell.run("doctor", "--json")).json
        return [one["text"] for one in found if "dispatch routes" in (one["command"] or "")]

    left = f"{test} is routed to left, of which the configuration has no link: what is for it waits"
    mistyped = f"{test} has a route for specimen type SERUN, which there is not: it is of no specimen"
    assert await said() == [left, mistyped]
    state = (
        "insert into lab.link_state (link_id, organization_id, connected, changed_at, looked_at)"
        " select id, organization_id, true, now(), now() from lab.link where name = 'left line'"
    )
    async with database.transaction(shell.organization.id) as connection:
        await connection.execute(state)
    assert await said() == [mistyped], "another daemon has the link"
    async with database.transaction(shell.organization.id) as connection:
        await connection.execute("update lab.link_state set looked_at = now() - interval '1 hour'")
        await dispatches.set_down(connection, director(laboratory), "left", "it was sold", is_down=True)
    assert await said() == [mistyped], "its work goes to the next"
