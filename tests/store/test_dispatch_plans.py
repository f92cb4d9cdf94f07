"""No statement of a query, or of what is told and answered, reads a whole table of the order book.

They are planned once for each connection (`plan_cache_mode`), without the values: EXPLAIN EXECUTE with such a plan, of
each statement that the functions really send, in a book with thousands of rows. (What is planned while a table is empty
is planned anew when that has grown: `store.upkeep`.)
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

import orjson
import pytest

from interface.domain.routing import DispatchKind, DispatchState
from interface.domain.views import Actor, ActorKind
from interface.flow.context import LinkContext
from interface.store import dispatch, dispatch_at_once, dispatch_ends
from interface.store.db import Connection
from interface.store.dispatch import NewDispatch
from interface.store.dispatch_at_once import Arrived, Taking, Telling, Told, Waiting
from interface.store.ids import uuid7
from interface.store.journal import MessageRow, new_message_id
from tests.bench.query import fill
from tests.flow.dispatching import NOW
from tests.flow.laboratory import Laboratory, laboratory

ITEMS = 24_000
# Tables that grow with what is ordered and measured; the others hold what a laboratory is.
GROWING = frozenset(
    "dispatch dispatch_event follow_up frame lab_order message order_item patient patient_identifier queue result"
    " sending specimen".split()
)
_DISPATCHES = """
insert into lab.dispatch (id, organization_id, order_item_id, specimen_id, analyzer_id, link_id, work_id, code, state,
                          sending_id, specimen_told)
select gen_random_uuid(), organization_id, id, specimen_id, $1, $2, nextval('lab.dispatch_work_id_seq'), 'X',
       case when row_number() over () % 10 = 0 then 'sent' else 'resulted' end, $3, 'S' from lab.order_item
"""
_EVENTS = """
insert into lab.dispatch_event (id, organization_id, dispatch_id, kind, state, sending_id, actor_kind)
select gen_random_uuid(), organization_id, id, 'new', 'sent', gen_random_uuid(), 'link' from lab.dispatch
"""
_RESULTS = """
insert into lab.result (id, organization_id, natural_key, order_id, order_item_id, specimen_id, patient_id, test_id,
                        version_id, status)
select gen_random_uuid(), i.organization_id, decode(md5(i.id::text), 'hex'), i.order_id, i.id, i.specimen_id,
       o.patient_id, i.test_id, gen_random_uuid(), 'final'
  from lab.order_item i join lab.lab_order o on o.id = i.order_id
"""
_FOLLOW_UPS = """
insert into lab.follow_up (id, organization_id, kind, result_id, order_item_id, state, actor_kind)
select gen_random_uuid(), organization_id, 'rerun', id, order_item_id, 'done', 'user' from lab.result
"""
_SENDINGS = """
insert into lab.sending (id, organization_id, link_id, bytes)
select gen_random_uuid(), $1, $2, 'H' from generate_series(1, 4000)
"""
_MESSAGES = """
insert into lab.message (id, organization_id, link_id, protocol, state, reply, received_at)
select gen_random_uuid(), $1, $2, 'lis2', 'complete', 'sent', now() from generate_series(1, 4000)
"""


class Asked:
    """A connection that keeps what it is asked."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.texts: dict[str, None] = {}

    def __getattr__(self, name: str) -> Any:
        does = getattr(self._connection, name)

        def kept(text: str, *values: object, **more: object) -> Any:
            self.texts[text] = None
            return does(text, *values, **more)

        return kept


async def read_whole(connection: Connection, text: str) -> list[str]:
    """The tables of the book of which the statement's plan, made without its values, reads more than it looks for."""
    values = ", ".join(["null"] * max(map(int, re.findall(r"\$(\d+)", text)), default=0))
    await connection.execute("set local plan_cache_mode = force_generic_plan")
    await connection.execute(f"prepare planned as {text}")
    try:
        plan = await connection.fetchval(f"explain (format json) execute planned({values})" if values else
                                         "explain (format json) execute planned")  # fmt: skip
    finally:
        await connection.execute("deallocate planned")
    found = orjson.loads(plan) if isinstance(plan, str) else plan
    return [f"{node['Node Type']} on {name}" for name, node in _scans(found[0]["Plan"]) if _whole(node)]


def _scans(node: dict[str, Any], of: str = "") -> Iterable[tuple[str, dict[str, Any]]]:
    """Scans by the table that they read; the index of a bitmap by that of its heap."""
    name = re.sub(r"_(default|y\d+.*|p\d+.*)$", "", node.get("Relation Name", of))
    if "Scan" in node["Node Type"] and name in GROWING:
        yield name, node
    for inner in node.get("Plans", ()):
        yield from _scans(inner, name if node["Node Type"] == "Bitmap Heap Scan" else "")


def _whole(node: dict[str, Any]) -> bool:
    if node["Node Type"] == "Seq Scan":
        return True
    if node["Node Type"] == "Bitmap Heap Scan" or node.get("Alias", "").startswith("pg_"):
        return False
    condition = node.get("Index Cond", "")  # one organization's is all there is, in most databases
    return not re.sub(r"\(?\w*\.?organization_id = [^)]*\)+(::uuid\))?", "", condition).strip("() AND")


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "sysmex_xn") as made:
        yield made


async def fill_book(lab: Laboratory) -> None:
    link = lab.context
    await fill(lab.owner, lab.organization_id, ITEMS)
    async with lab.owner.transaction():
        await lab.owner.execute("set local session_replication_role = replica")
        await lab.owner.execute(_DISPATCHES, link.analyzer_id, link.link_id, uuid7())
        for statement in (_EVENTS, _RESULTS, _FOLLOW_UPS):
            await lab.owner.execute(statement)
        for statement in (_MESSAGES, _SENDINGS):
            await lab.owner.execute(statement, lab.organization_id, link.link_id)
    await lab.owner.execute("analyze")


def actor_of(link: LinkContext) -> Actor:
    return Actor(ActorKind.LINK, link.link_id, link.name, link.organization_id)


async def everything(lab: Laboratory, asked: Connection) -> None:
    """What a query in a transaction may need, what is told and what is answered."""
    link, actor = lab.context, actor_of(lab.context)
    await dispatch.by_id(asked, [uuid7()])
    specimens = await dispatch.by_barcode(asked, ["B1", "B2"])
    items = [
        item for several in (await dispatch.items_of(asked, [one.id for one in specimens])).values() for item in several
    ]
    assert len(items) == 16
    await dispatch.open_of(asked, [one.id for one in items])
    await dispatch.still_open(asked, [one.id for one in items])
    new = [NewDispatch(one.id, one.specimen_id, DispatchKind.NEW, "NEW", "B1") for one in items]
    made = [row.id for row in await dispatch.add(asked, link.organization_id, link.analyzer_id, new)]
    assert len(made) == len(items)
    sending = uuid7()
    assert await dispatch.tell(asked, actor, link.link_id, sending, made, b"x", None, NOW) == len(items)
    assert len(await dispatch.of_sending(asked, sending)) == len(items)
    await dispatch.times_sent(asked, made, sending)
    await dispatch.lock(asked, made)
    await dispatch.by_ids(asked, made)
    await dispatch.by_work_ids(asked, link.analyzer_id, ["1"])
    await dispatch.specimens_of(asked, [one.id for one in items])
    await dispatch.is_waiting(asked, link.analyzer_id, link.link_id)
    await dispatch_ends.withdraw(asked, actor, [items[0].id], "off", but=link.analyzer_id)
    await dispatch.set_state(asked, actor, made, DispatchState.ACCEPTED, NOW, answer="AA")
    await dispatch_ends.not_delivered(asked, actor, made, "busy", 3, NOW)


async def at_once(lab: Laboratory, asked: Connection) -> None:
    link, actor = lab.context, actor_of(lab.context)
    await dispatch_at_once._look(asked, [{"B1"}])
    told = (Told(uuid7(), b"x", (), (uuid7(),)),)
    row = MessageRow(new_message_id(), link.link_id, "hl7", "complete", NOW)
    for query in (Arrived(row, b"MSH"), Waiting(uuid7())):
        telling = Telling(actor, link.analyzer_id, told, frozenset({uuid7()}), query, NOW)
        assert not await dispatch_at_once._tell(asked, [telling])
    assert not await dispatch_at_once._taken(asked, [Taking(actor, uuid7(), frozenset({uuid7()}), "", None, NOW)])


async def test_no_statement_of_the_order_book_reads_a_whole_table(lab: Laboratory) -> None:
    await fill_book(lab)
    async with lab.database.transaction(lab.organization_id) as connection:
        asked = Asked(connection)
        await everything(lab, cast(Connection, asked))
        assert len(asked.texts) > 15
        assert {text: read for text in asked.texts if (read := await read_whole(connection, text))} == {}
    async with lab.database.at_once(lab.organization_id) as connection, connection.transaction():
        asked = Asked(connection)
        await at_once(lab, cast(Connection, asked))
        assert len(asked.texts) == 3
        assert {text: read for text in asked.texts if (read := await read_whole(connection, text))} == {}


async def test_a_statement_that_does_is_found(lab: Laboratory) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        for text in (
            "select * from lab.dispatch where answer = $1",
            "select * from lab.dispatch d join lab.order_item i on i.id = d.order_item_id where i.status = $1",
            "select count(*) from lab.order_item",
        ):
            assert await read_whole(connection, text)
