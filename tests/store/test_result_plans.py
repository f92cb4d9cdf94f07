"""What settles messages and decides results finds them by their keys also where the session planned it while there were
none.

Statistics follow soon after (`store.upkeep`); until then each batch would read every message there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from interface.store import results, surroundings
from interface.store.ids import uuid7
from tests.flow.laboratory import laboratory


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
