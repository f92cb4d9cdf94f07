"""What is known of a specimen: its items in the order of their ids, each with the follow-ups that it answers."""

from __future__ import annotations

import asyncpg

from interface.store.db import Database
from interface.store.ids import uuid7, uuid7s
from interface.store.surroundings import lock
from tests.conftest import Organization


async def test_items_of_several_orders_come_in_their_order_and_follow_ups_with_their_item(
    database: Database, owner: asyncpg.Connection[asyncpg.Record], organization: Organization
) -> None:
    specimen_id, other_id, orders, items, tests = uuid7(), uuid7(), uuid7s(2), uuid7s(6), uuid7s(6)
    led = uuid7s(3)
    await owner.execute("set session_replication_role = replica")
    await owner.executemany(
        "insert into lab.specimen (id, organization_id, barcode, type) values ($1, $2, $3, 'SER')",
        [(specimen_id, organization.id, "B-1"), (other_id, organization.id, "B-2")],
    )
    await owner.executemany(
        "insert into lab.order_item (id, organization_id, order_id, test_id, specimen_id, status)"
        " values ($1, $2, $3, $4, $5, 'received')",
        [
            (items[at], organization.id, orders[at % 2], tests[at], other_id if at == 5 else specimen_id)
            for at in (4, 1, 3, 0, 2, 5)
        ],
    )
    await owner.executemany(
        "insert into lab.follow_up (id, organization_id, kind, result_id, rule, depth, order_item_id, state,"
        " actor_kind) values ($1, $2, 'rerun', $3, $4, 1, $5, $6, 'user')",
        [
            (led[0], organization.id, uuid7(), "a", items[2], "requested"),
            (led[1], organization.id, uuid7(), "b", items[2], "sent"),
            (led[2], organization.id, uuid7(), "c", items[3], "cancelled"),  # of which nobody was told
        ],
    )
    await owner.execute("set session_replication_role = origin")
    async with database.transaction(organization.id) as connection:
        locked = await lock(connection, ["B-1", "B-2", "B-3"])
    (facts,), (other,) = locked.specimens["B-1"], locked.specimens["B-2"]
    assert [(one.id, one.test_id, one.order_id) for one in facts.items] == [
        (str(items[at]), str(tests[at]), str(orders[at % 2])) for at in range(5)
    ]
    assert [one.id for one in other.items] == [str(items[5])]
    assert {item: [(one.id, one.item_id, one.by_person) for one in found] for item, found in locked.led.items()} == {
        str(items[2]): [(led[0], str(items[2]), True), (led[1], str(items[2]), True)]
    }
