"""No statement of what a hospital cancels, or of whom it moves, reads a whole table: planned without the values, in a
book with thousands of rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import cast

import pytest

from interface.store import order_changes, placing
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.placing import PlacerNumber
from tests.flow.laboratory import Laboratory, laboratory
from tests.store import test_dispatch_plans
from tests.store.test_dispatch_plans import GROWING, Asked, fill_book, read_whole

_PLACED = """
insert into lab.placer_order (id, organization_id, authority, number, order_id, filler_number)
select gen_random_uuid(), organization_id, 'HIS', number, id, number from lab.lab_order
"""
_CALLS = """
insert into lab.critical_notification (id, organization_id, result_id, subject_id, result_version_id, state)
select gen_random_uuid(), organization_id, id, id, version_id, 'withdrawn' from lab.result
"""


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "sysmex_xn") as made:
        yield made


async def test_no_statement_of_a_hospital_reads_a_whole_table(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cancellation looked for the laboratory's own number in all that were ever placed."""
    monkeypatch.setattr(test_dispatch_plans, "GROWING", GROWING | {"placer_order"})
    await fill_book(lab)
    async with lab.owner.transaction():
        await lab.owner.execute("set local session_replication_role = replica")
        for statement in (_PLACED, _CALLS):
            await lab.owner.execute(statement)
    await lab.owner.execute("analyze")
    number = await lab.owner.fetchval("select number from lab.lab_order limit 1")
    async with lab.database.transaction(lab.organization_id) as connection:
        asked = Asked(connection)
        found = await placing.find_filler(cast(Connection, asked), number)
        assert found is not None
        other = PlacerNumber("second", "HIS")
        filler = await placing.next_filler(connection, found.order_id)
        second = await placing.insert(connection, lab.organization_id, other, found.order_id, filler)
        again = await placing.find_filler(cast(Connection, asked), filler)
        assert again is not None
        assert again.id == second
        assert await placing.find(cast(Connection, asked), other) == again
        await order_changes.move(cast(Connection, asked), [uuid7()], "3A", datetime.now(UTC))
        assert {text: read for text in asked.texts if (read := await read_whole(connection, text))} == {}
