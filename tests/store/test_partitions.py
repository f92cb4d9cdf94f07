"""Partitions by ranges of UUIDv7."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest

from interface.store import partitions
from interface.store.db import Connection, prepare
from interface.store.ids import uuid7
from interface.store.partitions import ensure
from tests.cluster import owner_of
from tests.conftest import make_organization

LATER = datetime(2031, 11, 30, 23, 59, tzinfo=UTC)  # no migration's own partitions reach it


@pytest.fixture
async def own(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(owner_of(database_url))
    await prepare(connection)
    yield connection
    await connection.close()


async def _frame(connection: Connection, organization: UUID, at: datetime) -> UUID:
    identifier = uuid7(int(at.timestamp() * 1000))
    await connection.execute(
        "insert into lab.frame (id, organization_id, message_id, ordinal, attempt, bytes, digest, received_at)"
        " values ($1, $2, $1, 1, 0, 'x', 'x', $3)",
        identifier,
        organization,
        at,
    )
    return identifier


async def _home(connection: Connection, identifier: UUID) -> str:
    return str(await connection.fetchval("select tableoid::regclass::text from lab.frame where id = $1", identifier))


async def test_a_migrated_database_has_partitions_for_now_and_the_months_ahead(own: Connection) -> None:
    organization = (await make_organization(own)).id  # type: ignore[arg-type]
    now = datetime.now(UTC)
    assert await _home(own, await _frame(own, organization, now)) == f"lab.frame_{now:%Y_%m}"
    years = await own.fetchval("select count(*) from pg_inherits where inhparent = 'lab.result_version'::regclass")
    assert years == 6  # last year to three ahead, and the default one


async def test_the_year_turns_between_two_partitions(own: Connection) -> None:
    organization = (await make_organization(own)).id  # type: ignore[arg-type]
    made = await ensure(own, LATER)
    assert [name for name in made if name.startswith("frame")] == [
        "frame_2031_10", "frame_2031_11", "frame_2031_12", "frame_2032_01", "frame_2032_02",
    ]  # fmt: skip
    assert "result_version_2030" in made and "result_version_2034" in made
    last = await _frame(own, organization, datetime(2031, 12, 31, 23, 59, 59, 999000, tzinfo=UTC))
    first = await _frame(own, organization, datetime(2032, 1, 1, tzinfo=UTC))
    assert (await _home(own, last), await _home(own, first)) == ("lab.frame_2031_12", "lab.frame_2032_01")


async def test_making_partitions_again_makes_none(own: Connection) -> None:
    assert await ensure(own, LATER) != []
    assert await ensure(own, LATER) == []


async def test_rows_that_came_before_their_partition_move_into_it(own: Connection) -> None:
    organization = (await make_organization(own)).id  # type: ignore[arg-type]
    early = await _frame(own, organization, LATER)
    never = await _frame(own, organization, datetime(2040, 1, 1, tzinfo=UTC))
    assert await _home(own, early) == "lab.frame_default"
    await ensure(own, LATER)
    assert await _home(own, early) == "lab.frame_2031_11"
    assert await _home(own, never) == "lab.frame_default"


async def test_where_nobody_made_any_for_long_nobody_waits_for_what_came_meanwhile_to_be_moved(
    own: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that links receive in this month goes there: they were refused until all of it was moved."""
    monkeypatch.setattr(partitions, "MOST_MOVED", 1)
    organization = (await make_organization(own)).id  # type: ignore[arg-type]
    there = [await _frame(own, organization, LATER) for _ in range(2)]
    made = await ensure(own, LATER)
    assert "frame_2031_11" not in made and {"frame_2031_10", "frame_2031_12"} <= set(made)
    assert [await _home(own, one) for one in there] == ["lab.frame_default"] * 2


async def test_a_new_partition_is_reached_through_its_parent_only(own: Connection) -> None:
    await ensure(own, LATER)
    found = await own.fetchrow(
        "select relrowsecurity as protected, has_table_privilege('labora_app', oid, 'select') as readable,"
        " relowner::regrole::text as owner from pg_class where relname = 'frame_2031_11'"
    )
    assert found is not None
    assert dict(found) == {"protected": True, "readable": False, "owner": "labora_owner"}
