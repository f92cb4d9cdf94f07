"""The feed of changes: nothing comes before what was read, whatever order transactions end in."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

import asyncpg
import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.flow import review
from interface.store import changes
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from tests.conftest import Organization
from tests.records import Laboratory, found


async def sealed(database: Database, organization_id: UUID) -> int:
    """Every row has a position; returns how many got one."""
    total = 0
    while True:
        async with database.transaction(organization_id) as connection:
            count = await changes.seal(connection, organization_id, 2)
        total += count
        if not count:
            return total


async def note(connection: Connection, organization: Organization, id: UUID) -> None:
    await connection.execute(
        "insert into lab.outbox (id, organization_id, kind, entity_id) values ($1, $2, 'patient', $1)",
        id,
        organization.id,
    )


async def read(database: Database, organization: Organization, position: int) -> list[changes.Change]:
    async with database.organization(organization.id) as connection:
        return await changes.after(connection, position, 100, changes.PRELIMINARY)


async def test_asking_since_the_beginning_of_time_works_also_after_rows_have_gone(
    database: Database, organization: Organization, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    for _ in range(3):
        async with database.transaction(organization.id) as connection:
            await changes.note_alert(connection, organization.id, "alert", uuid7(), "")
    await sealed(database, organization.id)
    await owner.execute("delete from lab.outbox where organization_id = $1 and seq < 3", organization.id)
    first = datetime.min.replace(tzinfo=UTC)
    async with database.organization(organization.id) as connection:
        for since in (first, first + changes.LONGEST, first + 2 * changes.LONGEST):
            assert await changes.changed_since(connection, since) == since - min(changes.LONGEST, since - first)


async def test_what_commits_late_under_an_earlier_id_comes_after_what_was_read(
    database: Database, organization: Organization
) -> None:
    early, late = uuid7(), uuid7()
    async with database.transaction(organization.id) as slow:
        await note(slow, organization, early)
        async with database.transaction(organization.id) as quick:
            await note(quick, organization, late)
        assert await sealed(database, organization.id) == 1
        assert [one.entity_id for one in await read(database, organization, 0)] == [late]
        assert await sealed(database, organization.id) == 0
    assert await sealed(database, organization.id) == 1
    [one] = await read(database, organization, 1)
    assert (one.entity_id, one.position) == (early, 2), "early < late, and yet nothing was missed"


async def test_two_passes_at_once_give_each_row_one_position(database: Database, organization: Organization) -> None:
    ids = [uuid7() for _ in range(9)]
    async with database.transaction(organization.id) as connection:
        for id in ids:
            await note(connection, organization, id)
    assert sum(await asyncio.gather(*(sealed(database, organization.id) for _ in range(4)))) == 9
    found = await read(database, organization, 0)
    assert [(one.position, one.entity_id) for one in found] == list(enumerate(ids, 1))


async def test_a_pass_that_is_undone_leaves_no_position_behind(database: Database, organization: Organization) -> None:
    async with database.transaction(organization.id) as connection:
        await note(connection, organization, uuid7())
    with pytest.raises(ZeroDivisionError):
        async with database.transaction(organization.id) as connection:
            await changes.seal(connection, organization.id)
            raise ZeroDivisionError
    assert await sealed(database, organization.id) == 1
    assert [one.position for one in await read(database, organization, 0)] == [1]


async def test_what_changed_during_an_export_is_found_by_the_next(
    database: Database, organization: Organization
) -> None:
    async with database.transaction(organization.id) as slow:
        began = await slow.fetchval("select now()")
        await note(slow, organization, uuid7())
        async with database.organization(organization.id) as connection:
            exported_at = await connection.fetchval("select clock_timestamp()")
    await sealed(database, organization.id)
    async with database.organization(organization.id) as connection:
        assert began < exported_at
        assert await changes.changed_since(connection, exported_at) == began
        later = await connection.fetchval("select clock_timestamp()")
        assert await changes.changed_since(connection, later) == later


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


async def meant(laboratory: Laboratory, after: int = 0) -> list[tuple[str, UUID]]:
    await sealed(laboratory.database, laboratory.organization_id)
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        last = await changes.last_position(connection)
        found = await changes.all_resources(connection, changes.FOLLOWED, after, last)
    return [(one.type, one.id) for one in found]


async def position(laboratory: Laboratory) -> int:
    await sealed(laboratory.database, laboratory.organization_id)
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        return await changes.last_position(connection)


async def test_an_order_its_patient_and_its_specimen_say_that_they_are_new(laboratory: Laboratory) -> None:
    order = await laboratory.order()
    [item] = order.items
    assert order.patient_id is not None and item.specimen_id is not None
    assert sorted(await meant(laboratory)) == sorted(
        [
            ("Patient", order.patient_id),
            ("Specimen", item.specimen_id),
            ("ServiceRequest", item.id),
            ("DiagnosticReport", order.id),
        ]
    )


async def test_a_release_tells_the_result_its_report_and_its_request(laboratory: Laboratory) -> None:
    order = await laboratory.order()
    result_id = await laboratory.result(order)
    before = await position(laboratory)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await review.release(connection, laboratory.technologist, result_id)
    found = await meant(laboratory, before)
    assert set(found) == {
        ("Observation", result_id), ("DiagnosticReport", order.id), ("ServiceRequest", order.items[0].id)
    }  # fmt: skip


async def test_a_change_that_waits_is_not_in_the_feed_until_it_is_decided(laboratory: Laboratory) -> None:
    order = await laboratory.order()
    result_id = await laboratory.result(order, status=ResultStatus.FINAL)
    await laboratory.result(order, status=ResultStatus.REGISTERED, held=(HoldReason.QUESTIONABLE,))
    before = await position(laboratory)
    await laboratory.change(result_id, "14.0")
    assert await meant(laboratory, before) == []
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await review.accept_change(connection, laboratory.technologist, result_id, "seen", accept_hold=True)
    assert ("Observation", result_id) in await meant(laboratory, before)


async def test_an_order_that_changes_twice_in_a_transaction_says_so_once(laboratory: Laboratory) -> None:
    order = await laboratory.order()
    before = await position(laboratory)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        for _ in range(3):
            await connection.execute(
                "update lab.lab_order set version = version + 1, updated_at = now() where id = $1", order.id
            )
        await connection.execute("update lab.lab_order set waiting = false where id = $1", order.id)
    assert await position(laboratory) == before + 1
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute("update lab.lab_order set waiting = true where id = $1", order.id)
    assert await position(laboratory) == before + 1, "nothing that an EMR sees"


async def test_orders_that_change_in_one_statement_say_so_each_once(laboratory: Laboratory) -> None:
    """But for one of which nothing changes that an EMR sees, and one that said so before in the same transaction."""
    counted, told, still = [await laboratory.order() for _ in range(3)]
    before = await position(laboratory)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute("update lab.lab_order set updated_at = now() where id = $1", told.id)
        await connection.execute(
            "update lab.lab_order set version = version + (id <> $1)::int, waiting = false where id = any($2)",
            still.id, [counted.id, told.id, still.id],
        )  # fmt: skip
    await position(laboratory)
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        rows = await connection.fetch(
            "select entity_id, entity_version from lab.outbox where seq > $1 and kind = 'order' order by seq", before
        )
    assert [tuple(row) for row in rows] == [(told.id, told.version), (counted.id, counted.version + 1)]


async def test_a_result_that_is_not_released_does_not_keep_its_order_from_saying_that_it_changed(
    laboratory: Laboratory,
) -> None:
    """An EMR that may not see what is preliminary is told of a test that was added with it all the same."""
    order = await laboratory.order()
    before = await position(laboratory)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await changes.note_preliminary(connection, laboratory.organization_id, order.id, uuid7())
        await connection.execute(
            "update lab.lab_order set version = version + 1, updated_at = now() where id = $1", order.id
        )
    await position(laboratory)
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        rows = await changes.after(connection, before, 9, changes.RELEASED)
    assert [(row.kind, row.entity_id) for row in rows] == [("order", order.id)]


async def test_alerts_are_rows_of_the_same_feed_and_mean_no_resource(laboratory: Laboratory) -> None:
    before = await position(laboratory)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await changes.note_alert(connection, laboratory.organization_id, "critical", laboratory.link_id, "opened")
    assert await meant(laboratory, before) == []
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        [one] = await changes.after(connection, before, 10, changes.ALERTS)
        made = await connection.fetchval("select id from lab.outbox where seq = $1", one.position)
    assert (one.kind, one.entity_id, one.note) == ("critical", laboratory.link_id, "opened")
    assert (made.version, made.variant) == (7, "specified in RFC 4122")


async def test_the_feed_is_read_by_its_indexes(
    database: Database, owner: asyncpg.Connection[asyncpg.Record], organization: Organization
) -> None:
    """Every process asks twice a second whether there is something new; a feed has millions of rows."""
    async with database.transaction(organization.id) as connection:
        await connection.execute(
            "insert into lab.outbox (id, organization_id, kind, entity_id, seq, sealed_at)"
            " select lab.new_id(), $1, 'patient', lab.new_id(), n, now() from generate_series(1, 20000) n",
            organization.id,
        )
    await owner.execute("analyze lab.outbox")
    plans: dict[str, str] = {}

    class Explained:
        """A connection that explains what it is asked, for any values."""

        def __init__(self, connection: Connection) -> None:
            self._connection = connection

        async def _plan(self, text: str, *values: object) -> None:
            name = f"p{len(plans)}"
            await self._connection.execute(f"prepare {name} as {text}")
            given = f"({', '.join(map(_literal, values))})" if values else ""
            rows = await self._connection.fetch(f"explain execute {name}{given}")
            plans[text] = "\n".join(row[0] for row in rows)

        async def fetch(self, text: str, *values: object) -> list[object]:
            await self._plan(text, *values)
            return []

        async def fetchval(self, text: str, *values: object) -> None:
            await self._plan(text, *values)

    async with database.transaction(organization.id) as connection:
        await connection.execute("set local plan_cache_mode = force_generic_plan")
        asking = cast(Connection, Explained(connection))
        await changes.unsealed(asking)
        await changes.last_position(asking)
        await changes.last_position(asking, changes.RELEASED)
        await changes.after(asking, 19_990, 100, changes.RELEASED)
        for type in changes.FOLLOWED:
            await changes.resources(asking, type, 19_990, 20_000)
        with suppress(TypeError):
            await changes.changed_since(asking, datetime.now(UTC), 19_990)
    assert len(plans) == 7 + len(changes.FOLLOWED)
    for text, plan in plans.items():
        assert "Seq Scan on outbox" not in plan, (text, plan)


def _literal(value: object) -> str:
    if isinstance(value, list):
        return "array[" + ", ".join(f"'{one}'" for one in value) + "]::text[]"
    if isinstance(value, str):
        return f"'{value}'"
    return f"'{value.isoformat()}'" if isinstance(value, datetime) else str(value)


async def test_a_changed_order_does_not_look_through_what_waits_for_its_position(
    laboratory: Laboratory, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    """However little the planner knows of: it takes what waits for none while nothing did when it last counted."""
    order = await laboratory.order()
    await sealed(laboratory.database, laboratory.organization_id)
    await owner.execute("analyze lab.outbox")
    async with laboratory.database.by_index(laboratory.organization_id) as connection:
        await connection.execute(
            "insert into lab.outbox (id, organization_id, kind, entity_id)"
            " select lab.new_id(), $1, 'patient', lab.new_id() from generate_series(1, 500)",
            laboratory.organization_id,
        )
        read = (
            "select coalesce(sum(idx_tup_fetch + seq_tup_read), 0)::int from pg_stat_xact_all_tables"
            " where relid = 'lab.outbox'::regclass"
        )
        before = await connection.fetchval(read)
        await connection.execute("update lab.lab_order set version = version + 1 where id = $1", order.id)
        assert await connection.fetchval(read) - before < 10
