"""Results are found by what an analyzer called their specimen, whether the key has all of it or only its beginning."""

from __future__ import annotations

import re
from uuid import UUID

from interface.domain.identity import natural_key
from interface.domain.model import Observed, ObservedSpecimen
from interface.domain.values import parse_value
from interface.domain.views import Audience, IdentifierView
from interface.flow.entry import Entry, enter
from interface.flow.orders import NewOrder, NewPatient, NewSpecimen, create_order
from interface.store import placing
from interface.store.as_sent import results_called
from interface.store.ids import uuid7
from interface.store.lab import ResultFilter, find_results
from tests.flow.laboratory import Laboratory, laboratory

SHORT = ("S1", "S1x", "S", "B-2026-00017", "\N{GREEK SMALL LETTER MU}" * 6)
LONG = ("B-2026-000171", "B-2026-000172", "\N{GREEK SMALL LETTER MU}" * 7)
_FILL = """
with v as (
    insert into lab.result_version (id, organization_id, result_id, status, kind, actor_kind, specimen_as_sent)
    select made.id, $1, made.id, 'final', 'text', 'link', 'F' || k
    from (select gen_random_uuid() as id, k from generate_series(1, 10000) k) made returning *
)
insert into lab.result (id, organization_id, natural_key, version_id, status, specimen_id)
select id, organization_id, specimen_as_sent::bytea || uuid_send(id), id, 'final', gen_random_uuid() from v
"""


async def _add(found: Laboratory, sent: str) -> UUID:
    """A result whose specimen nobody knows."""
    result_id, analyzer = uuid7(), str(uuid7())
    key = natural_key(analyzer, ObservedSpecimen(specimen_id=sent), Observed("K", parse_value("4")))
    await found.owner.execute(
        """with v as (insert into lab.result_version (id, organization_id, result_id, status, kind, actor_kind,
                                                      specimen_as_sent)
                      values ($1, $2, $1, 'registered', 'numeric', 'link', $3))
           insert into lab.result (id, organization_id, natural_key, version_id, status)
           values ($1, $2, $4, $1, 'registered')""",
        result_id, found.organization_id, sent, key,
    )  # fmt: skip
    return result_id


async def test_each_is_found_by_its_own_id_by_an_index(founded_url: str) -> None:
    async with laboratory(founded_url) as found:
        async with found.owner.transaction():
            await found.owner.execute("set local session_replication_role = replica")
            await found.owner.execute(_FILL, found.organization_id)
        made = {sent: await _add(found, sent) for sent in (*SHORT, *LONG)}
        await found.owner.execute("analyze lab.result, lab.result_version, lab.specimen")
        called = results_called("$1")
        async with found.database.organization(found.organization_id) as connection:
            for sent, result_id in made.items():
                assert [row["id"] for row in await connection.fetch(called, [sent])] == [result_id], sent
            both = [row["id"] for row in await connection.fetch(called, ["S1", LONG[0], "S2"])]
            assert sorted(both) == sorted([made["S1"], made[LONG[0]]])
            await connection.execute("set plan_cache_mode = force_generic_plan")
            await connection.execute(f"prepare called (text[]) as {called}")
            rows = await connection.fetch("explain execute called (array['S1'])")
            await connection.execute("deallocate called")
    plan = "\n".join(row[0] for row in rows)
    assert not re.search(r"Seq Scan on result(_version_default)? ", plan), plan
    assert "result_organization_id_natural_key" in plan, plan


async def test_what_was_typed_is_found_by_the_barcode_that_its_tube_had_then(founded_url: str) -> None:
    async with laboratory(founded_url) as found:
        patient = NewPatient(identifiers=(IdentifierView("TEST", "P-1"),))
        order = NewOrder((NewSpecimen(tests=("NA",), barcode="OLD-1"),), patient=patient)
        async with found.database.transaction(found.organization_id) as connection:
            made = await create_order(connection, found.context.actor, order)
        item = await found.owner.fetchrow("select id, specimen_id from lab.order_item where order_id = $1", made.id)
        assert item is not None
        async with found.database.transaction(found.organization_id) as connection:
            (view,) = await enter(connection, found.director, [Entry(item["id"], "140", "mmol/L")])
            await placing.relabel(connection, item["specimen_id"], "NEW-1")
            for barcode in ("OLD-1", "NEW-1"):
                called = await connection.fetch(results_called("$1"), [barcode])
                assert [row["id"] for row in called] == [view.id], barcode
            (shown,) = await find_results(connection, ResultFilter(barcodes=("OLD-1",)), Audience.STAFF)
            assert shown.id == view.id
