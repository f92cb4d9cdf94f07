"""A message that could not be decided is told to people: what it says is in no list of results."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from asyncpg import Record
from asyncpg.connection import Connection

from interface.domain.alerts import AlertKind, Severity
from interface.flow import alerting
from interface.flow import results as flow
from interface.flow.replay import replay
from interface.ops.alert_center import AlertCenter
from interface.settings import LimitSettings
from interface.store import alerts as store
from interface.store.alerts import AlertView
from tests.flow.laboratory import Laboratory, laboratory, message

RECORDS = ("P|1||P-1", "O|1|S1||^^^CBC|R", "R|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030000")


async def alerts(lab: Laboratory) -> list[AlertView]:
    async with lab.database.transaction(lab.organization_id) as connection:
        return await store.find(connection, standing=False)


def stumble(*_: object) -> None:
    raise RuntimeError("a fault of the driver's")


async def test_each_message_that_could_not_be_decided_is_an_urgent_alert_until_it_is(
    founded_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with laboratory(founded_url, limits=LimitSettings(max_attempts=1)) as lab:
        center = AlertCenter(
            lab.database, tmp_path_factory.mktemp("desk"), lambda: {lab.organization_id: "main"}, lambda: {}
        )
        await lab.order("S1", "WBC")
        with monkeypatch.context() as broken:
            broken.setattr(flow, "decode", stumble)
            for control in ("C1", "C2"):
                await lab.send(message(*RECORDS, control=control))
            await lab.settle()
        assert await lab.messages() == [("complete", "parked")] * 2
        await center.look()
        first, second = sorted(await alerts(lab), key=lambda one: one.subject)
        for one in (first, second):
            assert (one.kind, one.severity, one.recovered_at) == (AlertKind.PARKED, Severity.URGENT, None)
            assert one.note == f"{lab.context.name}: RuntimeError in each of 1 attempts"
        done = await replay(lab.database, lab.director, UUID(first.subject), lab.contexts.get, dry_run=False)
        assert done.changes
        await center.look()
        left = {one.subject: one.recovered_at is None for one in await alerts(lab)}
        assert left == {first.subject: False, second.subject: True}


async def test_a_driver_that_stumbles_over_everything_is_no_flood(
    founded_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerting, "MOST_PARKED", 2)
    monkeypatch.setattr(flow, "decode", stumble)
    async with laboratory(founded_url, limits=LimitSettings(max_attempts=1)) as lab:
        for control in ("C1", "C2", "C3"):
            await lab.send(message(*RECORDS, control=control))
        await lab.settle()
        assert await lab.messages() == [("complete", "parked")] * 3
        assert len(await alerts(lab)) == 2


async def test_who_has_seen_to_those_that_stand_is_told_of_the_next(
    founded_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some stand for ever: of a link that is gone, of frames that are damaged. Nobody was told of another any more."""
    monkeypatch.setattr(alerting, "MOST_PARKED", 2)
    monkeypatch.setattr(flow, "decode", stumble)
    async with laboratory(founded_url, limits=LimitSettings(max_attempts=1)) as lab:
        for control in ("C1", "C2"):
            await lab.send(message(*RECORDS, control=control))
        await lab.settle()
        for one in await alerts(lab):
            async with lab.database.transaction(lab.organization_id) as connection:
                await alerting.acknowledge(connection, lab.director, one.id)
        await lab.send(message(*RECORDS, control="C3"))
        await lab.settle()
        assert len(await alerts(lab)) == 3


async def test_one_that_is_parked_while_it_is_looked_at_others_stands(
    founded_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It was over in the same second, since the look had not seen it yet: the one message of which nobody was told."""
    monkeypatch.setattr(flow, "decode", stumble)
    async with laboratory(founded_url, limits=LimitSettings(max_attempts=1)) as lab:
        center = AlertCenter(
            lab.database, tmp_path_factory.mktemp("desk"), lambda: {lab.organization_id: "main"}, lambda: {}
        )
        fetch = Connection.fetch

        async def parked_meanwhile(self: Connection, query: str, *arguments: object, **named: Any) -> list[Record]:
            found: list[Record] = await fetch(self, query, *arguments, **named)
            if "kind = 'parked'" in query and not await lab.messages():
                await lab.send(message(*RECORDS, control="C1"))
                await lab.settle()
            return found

        monkeypatch.setattr(Connection, "fetch", parked_meanwhile)
        await center.look()
        assert await lab.messages() == [("complete", "parked")]
        assert [one.recovered_at for one in await alerts(lab)] == [None]
