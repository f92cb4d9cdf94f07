"""An alert is entered once and recovered once, whoever says so how often; people see to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from interface.domain.alerts import AlertKind, Severity, Subject, Told
from interface.domain.permissions import Role
from interface.domain.review import Refusal, ReviewError
from interface.flow import alerting
from interface.flow.link_watch import START_LOOKS, LinkUp, LinkWatch
from interface.store import alerts as store
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from tests.conftest import Organization
from tests.records import user

Transaction = Callable[[], AbstractAsyncContextManager[Connection]]
HEMA, CHEM = Subject("link", "hema-1"), Subject("link", "chem-1")


@pytest.fixture
def transaction(database: Database, organization: Organization) -> Transaction:
    @asynccontextmanager
    async def begun() -> AsyncIterator[Connection]:
        async with database.transaction(organization.id) as connection:
            yield connection

    return begun


async def feed(connection: Connection) -> list[str]:
    rows = await connection.fetch("select note from lab.outbox where kind = 'alert' order by place")
    return [row["note"] for row in rows]


async def test_it_is_entered_once_and_recovered_once(transaction: Transaction, organization: Organization) -> None:
    kind = AlertKind.LINK_DOWN
    async with transaction() as connection:
        id = await alerting.enter(connection, organization.id, kind, HEMA, "no\0 carrier\n at all")
        assert id is not None
        assert await alerting.enter(connection, organization.id, kind, HEMA, "still not") is None
        assert await alerting.enter(connection, organization.id, AlertKind.LINK_SILENT, HEMA) is not None
        assert await alerting.recover(connection, organization.id, kind, HEMA, "it answers") == id
        assert await alerting.recover(connection, organization.id, kind, HEMA) is None
        again = await alerting.enter(connection, organization.id, kind, HEMA)
        assert again not in (None, id), "another time is another alert"
        one, events = await alerting.shown(connection, user(organization.id), id)
        assert (one.severity, one.note, one.recovery) == (Severity.WARNING, "no carrier at all", "it answers")
        assert [event.what for event in events] == ["entered", "recovered"]
        told = [Told.read(note) for note in await feed(connection)]
    assert [(said.phase.value, said.kind) for said in told] == [
        ("entered", "link_down"), ("entered", "link_silent"), ("recovered", "link_down"), ("entered", "link_down"),
    ]  # fmt: skip
    assert {said.subject for said in told} == {HEMA}


async def test_two_that_find_it_at_once_enter_one(transaction: Transaction, organization: Organization) -> None:
    gate = asyncio.Barrier(2)

    async def find() -> bool:
        async with transaction() as connection:
            await gate.wait()
            return await alerting.enter(connection, organization.id, AlertKind.DATABASE, Subject("", "")) is not None

    assert sorted(await asyncio.gather(find(), find())) == [False, True]


async def test_what_is_found_settles_what_stands(transaction: Transaction, organization: Organization) -> None:
    kind = AlertKind.CERTIFICATE
    async with transaction() as connection:
        for found, changed, stands in (
            ({HEMA: "a", CHEM: "b"}, 2, {HEMA, CHEM}), ({CHEM: "c"}, 1, {CHEM}), ({CHEM: "c"}, 0, {CHEM}),
            ({}, 1, set()),
        ):  # fmt: skip
            assert await alerting.settle(connection, organization.id, kind, found) == changed
            assert await store.standing(connection, kind) == stands


async def test_people_see_to_it(transaction: Transaction, organization: Organization) -> None:
    anna, viewer = user(organization.id), user(organization.id, Role.VIEWER)
    async with transaction() as connection:
        id = await alerting.enter(connection, organization.id, AlertKind.DISK, Subject("disk", "/var"))
        assert id is not None
        for refused in (alerting.acknowledge(connection, viewer, id), alerting.shown(connection, viewer, id)):
            with pytest.raises(ReviewError, match="permission alert:"):
                await refused
        with pytest.raises(ReviewError) as missing:
            await alerting.acknowledge(connection, anna, uuid7())
        assert missing.value.refusal is Refusal.NOT_FOUND
        seen = await alerting.acknowledge(connection, anna, id, "deleting old dumps")
        assert (seen.acknowledged_name, seen.acknowledged_at is not None, seen.version) == (anna.name, True, 2)
        assert await alerting.acknowledge(connection, anna, id, "again") == seen
        _, events = await alerting.shown(connection, anna, id)
        assert [(event.what, event.note) for event in events][1:] == [("acknowledged", "deleting old dumps")]
        audited = await connection.fetchval("select count(*) from lab.audit_event where action = 'acknowledge'")
    assert audited == 1


async def test_a_link_that_goes_down_is_one_alert_until_it_is_up_or_gone(
    database: Database, organization: Organization, transaction: Transaction
) -> None:
    links = [LinkUp(organization.id, "hema-1", up=False), LinkUp(organization.id, "chem-1", up=True)]
    watch = LinkWatch(database, lambda: links)

    async def stands() -> list[str]:
        await watch.look()
        async with transaction() as connection:
            return sorted(one.name for one in await store.standing(connection, AlertKind.LINK_DOWN))

    assert await stands() == [], "a link may take its time to come up at the start"
    links[1] = LinkUp(organization.id, "chem-1", up=False, fault="cannot listen")
    assert await stands() == ["chem-1"]
    links[0] = LinkUp(organization.id, "hema-1", up=True)
    links[1] = LinkUp(organization.id, "chem-1", up=True)
    assert await stands() == []
    links[0] = LinkUp(organization.id, "hema-1", up=False)
    assert await stands() == ["hema-1"]
    links.append(LinkUp(organization.id, "late-1", up=False))
    assert await stands() == ["hema-1"]
    watch = LinkWatch(database, lambda: links[:1])  # another daemon, without the others
    for _ in range(START_LOOKS):
        await watch.look()
    assert await stands() == ["hema-1"]
    links.clear()
    assert await stands() == [], "nobody configures it any more"
