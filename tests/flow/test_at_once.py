"""An analyzer's query is read by one statement and its answer committed by another, for several analyzers together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from interface.domain.routing import DispatchState, NoWork
from interface.flow import order_book
from interface.flow.context import LinkContext
from interface.flow.handlers import HANDLERS
from interface.flow.intake import LinkIntake
from interface.flow.order_book import Draft
from interface.flow.requests import Requests
from interface.flow.speech import Sent
from interface.link.intake import Receipt
from interface.store.db import Connection
from interface.store.dispatch_at_once import Waiting, desk_of
from interface.store.ids import uuid7
from interface.store.journal import new_message_id
from tests.flow.dispatching import NOW, another, ask, cancel, rows, say, told
from tests.flow.laboratory import Laboratory, laboratory

PEER = "127.0.0.1:1"
ASKS = (
    "MSH|^~\\&|Mindray|BS-480|||20260102080000||QRY^Q02|%s|P|2.3.1||||||ASCII|||\r"
    "QRD|20260102080000|R|D|%s|||RD|%s|OTH|||T|\rQRF|BS-480|20260102080000|20260102080000|||RCT|COR|ALL||\r"
)
TAKES = "MSH|^~\\&|Mindray|BS-480|||20260102080000||ACK^Q03|%s|P|2.3.1||||||ASCII|||\rMSA|%s|%s|Message accepted|||0|\r"


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "mindray_bs") as made:
        await made.owner.execute(
            "insert into lab.code_map (id, organization_id, driver, code, test_id, origin, valid_from)"
            " select gen_random_uuid(), organization_id, 'mindray_bs', code, id, 'site', '2020-01-01' from lab.test"
            " where code in ('GLU', 'AST') and organization_id = $1", made.organization_id,
        )  # fmt: skip
        yield made


def intake_of(lab: Laboratory, link: LinkContext | None = None) -> LinkIntake:
    link = link or lab.context
    return LinkIntake(link, lab.journal, requests=Requests(link, lab.database, HANDLERS, 20.0))


async def query(lab: Laboratory, specimen: str, control: str = "7", link: LinkContext | None = None) -> Receipt:
    return await intake_of(lab, link).block((ASKS % (control, control, specimen)).encode(), PEER)


class Counted:
    """How many transactions and single statements somebody needed of the database."""

    def __init__(self, lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements: list[str] = []
        self.transactions = 0
        driver: Any = asyncpg.Connection
        transaction, fetch = lab.database.transaction, driver._execute

        def counted(organization_id: object) -> object:
            self.transactions += 1
            return transaction(organization_id)  # type: ignore[arg-type]

        async def executed(connection: Connection, text: str, *rest: object, **more: object) -> object:
            self.statements.append(text)
            return await fetch(connection, text, *rest, **more)

        monkeypatch.setattr(lab.database, "transaction", counted)
        monkeypatch.setattr(driver, "_execute", executed)


async def test_a_query_is_two_statements_and_its_acknowledgement_one(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.order("S-1", "GLU", "AST")
    await lab.order("S-2", "GLU", "AST", patient_id="P-2")
    await query(lab, "S-1", "1")  # makes connections, reads the menu, reserves work ids
    counted = Counted(lab, monkeypatch)
    answer = await query(lab, "S-2", "2")
    assert answer.then and b"S-2" in answer.then[0]
    assert (len(counted.statements), counted.transactions) == (2, 0)
    await intake_of(lab).block((TAKES % ("2", "AA", "2")).encode(), PEER)
    assert (len(counted.statements), counted.transactions) == (3, 0)
    states = await lab.owner.fetch(
        "select d.state, d.answer, s.query_id, array_agg(e.state order by e.id) as told from lab.dispatch d"
        " join lab.dispatch_event e on e.dispatch_id = d.id join lab.sending s on s.id = d.sending_id"
        " join lab.specimen c on c.id = d.specimen_id where c.barcode = 'S-2' group by d.id, s.query_id"
    )
    assert len(states) == 2
    for row in states:
        assert (row["state"], row["answer"], row["told"]) == ("accepted", "AA 0", ["sent", "accepted"])
        assert row["query_id"] == answer.message_id
    messages = await lab.owner.fetch(
        "select m.settled, m.reply, m.message_type,"
        " (select count(*) from lab.frame f where f.message_id = m.id) as frames,"
        " (select count(*) from lab.audit_event a where a.entity_id = m.id and a.action = 'message.settle') as audited"
        " from lab.message m order by m.id desc limit 2"
    )
    assert [tuple(row) for row in messages] == [
        ("released", "owed", "ACK^Q03", 1, 1), ("released", "owed", "QRY^Q02", 1, 1),
    ]  # fmt: skip


async def test_many_links_that_ask_for_one_specimen_at_once_get_each_its_own_work(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU", "AST")
    links = [lab.context, *[(await another(lab, f"bench-{at}")).context for at in range(15)]]
    for _ in range(2):  # the second time as before
        answers = await asyncio.gather(*(query(lab, "S-1", str(at), link) for at, link in enumerate(links)))
        assert all(answer.then and b"S-1" in answer.then[0] for answer in answers)
        found = await lab.owner.fetch(
            "select analyzer_id, code, count(*), min(state) as state from lab.dispatch group by 1, 2"
        )
        assert len(found) == 2 * len(links)
        assert {(row["count"], row["state"]) for row in found} == {(1, "sent")}
    work_ids = await lab.owner.fetch("select work_id from lab.dispatch")
    assert len({row["work_id"] for row in work_ids}) == len(work_ids)


async def test_one_link_that_asks_by_many_connections_at_once_gets_the_same_work(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU", "AST")
    answers = await asyncio.gather(*(query(lab, "S-1", "7") for _ in range(8)))
    assert all(answer.then and b"S-1" in answer.then[0] for answer in answers)
    assert [state for _, state in await rows(lab)] == ["sent", "sent"]
    assert await lab.owner.fetchval("select count(*) from lab.sending") == 8
    assert await lab.owner.fetchval("select count(*) from lab.message where settled = 'released'") == 8


async def _draft(lab: Laboratory, *specimens: str, link: LinkContext | None = None) -> Draft:
    found = await order_book.draft(lab.database, link or lab.context, specimens, NOW)
    assert found is not None
    return found


def _said(draft: Draft) -> list[Sent]:
    return [Sent(uuid7(), b"x", tuple(one for work in draft.book.works for one in work.dispatches))]


async def _queued(lab: Laboratory) -> Waiting:
    """A stored query that waits."""
    made = new_message_id()
    await lab.owner.execute(
        "insert into lab.message (id, organization_id, link_id, protocol, state, reply, received_at, sealed_at)"
        " values ($1, $2, $3, 'lis2', 'complete', 'owed', now(), now())",
        made, lab.organization_id, lab.context.link_id,
    )  # fmt: skip
    await lab.owner.execute(
        "insert into lab.queue (message_id, organization_id, lane) values ($1, $2, $3)",
        made, lab.organization_id, lab.context.link_id,
    )  # fmt: skip
    return Waiting(made)


async def test_of_what_is_told_together_only_what_has_changed_is_not(lab: Laboratory) -> None:
    """One item is cancelled and one message settled after their drafts were made; the rest is told."""
    orders = [await lab.order(f"S-{at}", "GLU", patient_id=f"P-{at}") for at in range(4)]
    drafts = [await _draft(lab, f"S-{at}") for at in range(4)]
    queries = [await _queued(lab) for _ in range(4)]
    await cancel(lab, orders[1], "GLU")
    await lab.owner.execute("delete from lab.queue where message_id = $1", queries[2].id)
    done = await asyncio.gather(
        *(
            order_book.tell_at_once(lab.database, lab.context, draft, _said(draft), waiting, NOW)
            for draft, waiting in zip(drafts, queries, strict=True)
        )
    )
    assert done == [True, False, False, True]
    there = await lab.owner.fetch("select specimen_told, state from lab.dispatch order by specimen_told")
    assert [tuple(row) for row in there] == [("S-0", "sent"), ("S-3", "sent")]
    settled = await lab.owner.fetch("select settled from lab.message order by id")
    assert [row["settled"] for row in settled] == ["released", None, None, "released"]
    assert await lab.owner.fetchval("select count(*) from lab.sending") == 2
    assert await lab.owner.fetchval("select count(*) from lab.dispatch_event") == 2


async def test_what_another_made_meanwhile_is_not_made_twice(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU")
    draft = await _draft(lab, "S-1")
    await ask(lab, "S-1")  # makes it, in a transaction
    query_ = await _queued(lab)
    assert not await order_book.tell_at_once(lab.database, lab.context, draft, _said(draft), query_, NOW)
    assert len(await rows(lab)) == 1
    again = await _draft(lab, "S-1")
    assert not again.new
    assert await order_book.tell_at_once(lab.database, lab.context, again, _said(again), query_, NOW)
    assert [state for _, state in await rows(lab)] == ["sent"]


async def test_what_is_taken_is_taken_of_the_message_that_told_it(lab: Laboratory) -> None:
    """An answer to a message that another has followed, or whose work has ended, changes nothing at once."""
    await lab.order("S-1", "GLU")
    draft = await _draft(lab, "S-1")
    [first] = _said(draft)
    assert await order_book.tell_at_once(lab.database, lab.context, draft, [first], await _queued(lab), NOW)
    stale = replace(first, id=uuid7())
    assert not await order_book.taken_at_once(lab.database, lab.context, stale, "AA", None, NOW)
    both = await asyncio.gather(
        order_book.taken_at_once(lab.database, lab.context, stale, "AA", None, NOW),
        order_book.taken_at_once(lab.database, lab.context, first, "AA", None, NOW),
    )
    assert list(both) == [False, True]
    assert [state for _, state in await rows(lab)] == ["accepted"]
    assert not await order_book.taken_at_once(lab.database, lab.context, first, "AA", None, NOW)


async def test_there_is_the_same_to_say_at_once_and_in_a_transaction(lab: Laboratory) -> None:
    """Of each kind of specimen, and of several at once."""
    await lab.order("S-1", "GLU", "AST")
    order = await lab.order("S-2", "GLU", patient_id="P-2")
    await cancel(lab, order, "GLU")
    await lab.order("S-3", "WBC", patient_id="P-3")
    await lab.order("S-4", "GLU", patient_id="P-4")
    await say(lab, await ask(lab, "S-4"), DispatchState.REFUSED, "no reagent")
    for asked in (("S-1",), ("S-2",), ("S-3",), ("S-4",), ("S-5",), ("S-3", "S-1", "S-9", "S-2")):
        draft = await order_book.draft(lab.database, lab.context, asked, NOW)
        book = await ask(lab, *asked)
        assert draft is not None
        assert [(one.specimen_id, one.reason) for one in draft.book.missing] == [
            (one.specimen_id, one.reason) for one in book.missing
        ]
        assert {key: set(tests) for key, tests in told(draft.book).items()} == {
            key: set(tests) for key, tests in told(book).items()
        }
        if asked == ("S-1",):
            assert NoWork.UNKNOWN_SPECIMEN not in [one.reason for one in book.missing]


async def test_specimens_that_are_looked_up_together_come_to_who_asked(lab: Laboratory) -> None:
    for at in range(3):
        await lab.order(f"S-{at}", "GLU", patient_id=f"P-{at}")
    desk = desk_of(lab.database, lab.organization_id)
    asked = [{"S-0"}, {"S-1", "S-2"}, {"none"}, {"S-0", "bad\0"}, set[str]()]
    found = await asyncio.gather(*(desk.look(one) for one in asked))
    assert [sorted(one.barcode for one in specimens) for specimens, _ in found] == [
        ["S-0"], ["S-1", "S-2"], [], ["S-0"], [],
    ]  # fmt: skip
    for specimens, items in found:
        assert set(items) == {one.id for one in specimens}
        assert all(item.specimen_id == key for key, several in items.items() for item in several)
