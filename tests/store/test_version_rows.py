"""Versions arrive as they were, however many of them say the same, and in their order."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import asyncpg

from interface.domain.model import HoldReason, ItemStatus, Origin, ResultStatus, Step, ValueKind
from interface.domain.views import ActorKind
from interface.store import results
from interface.store.ids import uuid7
from interface.store.results import write_versions
from interface.store.version_rows import Alike, OfMessage, ResultVersion
from tests.flow.laboratory import laboratory

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# What a version says beside what the one before it says, and one after the other: each once more, with another between.
SAID: list[dict[str, Any]] = [
    {},
    {"low": Decimal("4.1"), "high": None},
    {"low": Decimal("4.10")},
    {"number": Decimal("9.50"), "value": "9.50", "raw_value": "9.5"},
    {"flags": ("H",), "raw_flags": "H"},
    {"status": ResultStatus.PRELIMINARY, "held": (HoldReason.DELTA, HoldReason.RULE), "item_status": ""},
    {"code": "K", "comments": ("a", "b\0c"), "note": "\0", "location": "OBX^2"},
    {"code": "", "test_code": "", "test_name": "", "test_id": None, "order_item_id": None, "origin": Origin.MANUAL},
    {"number": None, "value": "µ" * 90, "raw_value": "µ" * 90, "kind": ValueKind.TEXT},
    {"specimen_as_sent": "S-2", "specimen_id": None, "effective_at": AT.astimezone(timezone(timedelta(hours=5)))},
    {"module": "m", "reagent_lot": "L1", "method": "ise", "map_revision": 2, "instrument_at": None},
]


PLAIN: dict[str, Any] = {
    "result_id": None, "order_item_id": None, "location": "", "raw_value": "5.0", "value": "5.0",
    "number": Decimal("5.0"), "steps": (Step("decode", "ok", "read"),), "version": 1, "fresh": True, "pending": False,
    "status": ResultStatus.FINAL, "held": (), "comments": (), "kind": ValueKind.NUMERIC, "actor_kind": ActorKind.LINK,
    "actor_id": uuid7(), "analyzer_id": None, "test_id": None, "code": "GLU", "code_path": "", "raw_unit": "",
    "raw_flags": "", "raw_status": "", "raw_reference": "", "test_code": "GLU", "test_name": "", "loinc": "",
    "comparator": "", "unit": "mmol/L", "low": Decimal("4.1"), "high": Decimal("6.10"), "reference": "", "flags": (),
    "note": "", "module": "", "reagent_lot": "", "calibrator_lot": "", "driver_revision": "", "map_revision": 0,
    "reportable": True, "origin": Origin.ANALYZER, "item_status": ItemStatus.VERIFIED, "method": "",
    "message_id": None, "specimen_id": None, "patient_id": None, "order_id": None, "specimen_as_sent": "",
    "instrument_time": "", "instrument_at": AT, "effective_at": AT,
}  # fmt: skip


def version(said: dict[str, Any], alike: Alike | None = None, message: OfMessage | None = None) -> ResultVersion:
    """A version that says this; what is given, another says too."""
    made = uuid7()
    said = PLAIN | {"id": made, "result_id": made, "natural_key": made.bytes} | said
    own, shared, of = ({one.name: said[one.name] for one in fields(kind) if one.name in said}
                       for kind in (ResultVersion, Alike, OfMessage))  # fmt: skip
    return ResultVersion(**own, alike=alike or Alike(**shared), message=message or OfMessage(**of))


def columns(one: ResultVersion) -> dict[str, Any]:
    """What it says, by the name of the column."""
    said = {name.name: getattr(part, name.name) for part in (one, one.alike, one.message) for name in fields(part)}
    return {name: value for name, value in said.items() if name not in ("alike", "message", "fields", "steps")}


def held(value: Any) -> Any:
    """As PostgreSQL has it: no NUL, arrays as lists."""
    if isinstance(value, tuple):
        return [held(each) for each in value]
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


async def test_what_versions_say_together_and_what_is_their_own_is_there_of_each(database_url: str) -> None:
    messages = [{"message_id": uuid7(), "specimen_id": uuid7(), "patient_id": uuid7(), "order_id": uuid7(),
                 "specimen_as_sent": f"S{n}"} for n in range(3)]  # fmt: skip
    given = [version(of) for of in messages]
    given += [version(of | said) for of in messages for said in SAID + SAID[::-1]]
    first, other, last = given[1], given[2], given[-1]
    given += [version({}, first.alike, first.message), version({"location": "OBX^9"}, other.alike, last.message)]
    given += [version({}, first.alike, last.message), version({"raw_value": "6\0"}, first.alike, first.message)]
    async with laboratory(database_url) as lab, lab.database.by_index(lab.organization_id) as connection:
        await write_versions(connection, lab.organization_id, given)
        ids = [one.id for one in given]
        versions = {row["id"]: row for row in await connection.fetch(
            "select * from lab.result_version where id = any($1)", ids)}  # fmt: skip
        rows = {row["id"]: row for row in await connection.fetch("select * from lab.result where id = any($1)", ids)}
        told = await connection.fetch("select entity_id, versions from lab.outbox where kind = 'order'")
    for one in given:
        for row in (versions[one.id], rows[one.id]):
            said = {name: held(value) for name, value in columns(one).items() if name in row}
            found = {name: row[name] for name in said}
            assert found == said
            numbers = [name for name, value in said.items() if isinstance(value, Decimal)]
            assert [str(found[name]) for name in numbers] == [str(said[name]) for name in numbers]
    in_order = {of["order_id"]: [one.id for one in given if one.message.order_id == of["order_id"]] for of in messages}
    released = {one.id for one in given if one.alike.status is ResultStatus.FINAL}
    for order_id, made in in_order.items():
        (of_order,) = [row["versions"] for row in told if row["entity_id"] == order_id]
        assert of_order == [each for each in made if each in released]


async def test_the_rows_keep_their_order_however_the_session_plans_the_statement(database_url: str) -> None:
    async with laboratory(database_url) as lab, lab.database.by_index(lab.organization_id) as connection:
        await connection.execute(f"prepare writing as {results._NEW}")
        try:
            plan = await connection.fetch("explain execute writing (null, null, null, null, null, null, null)")
        finally:
            await connection.execute("deallocate writing")
    lines = [row[0].strip() for row in plan]
    hashed = [lines[at + 1].split("  (")[0] for at, line in enumerate(lines) if line.startswith("->  Hash  (")]
    assert hashed == [f"->  CTE Scan on {each}" for each in ("alike k", "messages m", "alike k_1", "messages m_1")], (
        lines
    )


async def test_a_daemon_of_before_finds_the_types_that_it_writes_with(
    owner: asyncpg.Connection[asyncpg.Record],
) -> None:
    """A command of this release may bring the database up to date beside it: see migration 0048."""
    for name in ("lab.result_row", "lab.version_row"):
        assert await owner.fetchval("select to_regtype($1)::text", name) == name
