"""What settles messages and decides results finds them by their keys also where the session planned it while there were
none.

Statistics follow soon after (`store.upkeep`); until then each batch would read every message there is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, cast
from uuid import UUID

import orjson
import pytest

from interface.store import judged_for, look_again, replay, results, surroundings
from interface.store.db import Connection
from interface.store.ids import uuid7
from tests.flow.laboratory import laboratory
from tests.store.test_dispatch_plans import Asked

_VERSIONS = """
insert into lab.result_version (id, organization_id, result_id, version, status, kind, actor_kind)
select r.id, $1, r.id, 1, 'final', 'numeric', 'link'
  from (select gen_random_uuid() as id from generate_series(1, 20000)) r
"""


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


async def test_messages_are_settled_by_their_keys_however_few_there_were(database_url: str) -> None:
    async with laboratory(database_url) as lab, lab.database.by_index(lab.organization_id) as connection:
        await connection.execute(f"prepare settling as {results._SETTLE}")
        nulls = ", ".join(["null"] * 13)
        try:
            plan = await connection.fetchval(f"explain (format json) execute settling ({nulls})")
        finally:
            await connection.execute("deallocate settling")
        found = orjson.loads(plan) if isinstance(plan, str) else plan
        read = [node for node in _nodes(found[0]["Plan"]) if "Scan" in node["Node Type"]]
        tables = {node["Relation Name"]: node.get("Index Cond", "") for node in read if "Relation Name" in node}
        assert "message" not in tables
        assert "message_id" in tables["queue"]


async def test_whether_a_specimen_was_measured_before_is_one_walk(database_url: str) -> None:
    async with laboratory(database_url) as lab, lab.database.by_index(lab.organization_id) as connection:
        plan = await connection.fetch(f"explain (costs off) {results._BEGUN}", [b"S-1"], [b"S-2"])
        text = "\n".join(row[0] for row in plan)
    assert "Index Only Scan using result_organization_id_natural_key_key" in text, text
    assert "natural_key >= b.low) AND (natural_key < b.high" in text


async def test_whether_any_item_of_a_specimen_has_a_follow_up_is_one_walk(database_url: str) -> None:
    async with laboratory(database_url) as lab, lab.database.by_index(lab.organization_id) as connection:
        plan = await connection.fetch(f"explain (costs off) {surroundings._ANY_LED}", [uuid7()], [uuid7()], [uuid7()])
        text = "\n".join(row[0] for row in plan)
    assert "Index Scan using follow_up_order_item_id_idx" in text, text
    assert "order_item_id >= s.first) AND (order_item_id <= s.last" in text


async def _compared_with(connection: Connection, result_ids: Sequence[UUID]) -> object:
    return await look_again.compared_with(connection, result_ids[0])


@pytest.mark.parametrize("read", [judged_for.held_before, replay.held_ever, _compared_with])
async def test_for_what_a_result_was_held_is_found_without_reading_the_versions_of_all(
    database_url: str, read: Callable[[Connection, Sequence[UUID]], Awaitable[object]]
) -> None:
    """A person who releases a result waits for it, and whoever waits for its specimen."""
    async with laboratory(database_url) as lab:
        async with lab.owner.transaction():
            await lab.owner.execute("set local session_replication_role = replica")
            await lab.owner.execute(_VERSIONS, lab.organization_id)
        await lab.owner.execute("analyze lab.result_version")
        async with lab.database.transaction(lab.organization_id) as connection:
            asked = Asked(connection)
            of = uuid7()
            await read(cast(Connection, asked), [of])
            text, argument = next(iter(asked.texts)), of if read is _compared_with else [of]
            plan = "\n".join(row[0] for row in await connection.fetch(f"explain (costs off) {text}", argument))
    assert "Seq Scan on result_version_default" not in plan, plan
