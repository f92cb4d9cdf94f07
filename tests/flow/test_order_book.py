"""The order book over real PostgreSQL: what an analyzer is given to do, is told, and answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from interface.domain.routing import DispatchState, Missing, NoWork, Query
from interface.flow import order_book
from interface.flow.order_book import Book
from interface.store.ids import uuid7
from tests.flow.laboratory import Laboratory, laboratory

NOW = datetime(2026, 1, 2, 8, tzinfo=UTC)


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "sysmex_xn") as made:
        yield made


async def ask(lab: Laboratory, *ids: str, now: datetime = NOW) -> Book:
    async with lab.database.transaction(lab.organization_id) as connection:
        return await order_book.work_for(connection, lab.context, Query(ids), now)


async def tell(lab: Laboratory, book: Book, sending: UUID | None = None) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        told = [one for work in book.works for one in work.dispatches]
        await order_book.record_sent(connection, lab.context, sending or uuid7(), told, b"H|\\^&\r", None, NOW)


async def say(lab: Laboratory, book: Book, state: DispatchState | None, words: str = "") -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        told = [one for work in book.works for one in work.dispatches]
        await order_book.answered(connection, lab.context, told, state, words, NOW)


async def rows(lab: Laboratory) -> list[tuple[str, str]]:
    found = await lab.owner.fetch("select code, state from lab.dispatch order by work_id")
    return [(row["code"], row["state"]) for row in found]


def told(book: Book) -> dict[str, dict[str, str]]:
    """By specimen: the work ids by code."""
    return {one.work.specimen_id: {test.code: test.item_id for test in one.work.tests} for one in book.works}


async def test_an_analyzer_is_given_what_is_ordered_by_its_own_codes_and_the_same_again(lab: Laboratory) -> None:
    await lab.order("S-1", "WBC", "HGB", "GLU")
    book = await ask(lab, "S-1")
    [work] = book.works
    assert (work.work.patient.patient_id, work.work.patient.name) == ("P-1", "Muster^Maria")
    assert work.work.collected is not None
    assert set(told(book)["S-1"]) == {"WBC", "HGB"}  # it measures no glucose
    await tell(lab, book)
    again = await ask(lab, "S-1")
    assert told(again) == told(book)
    assert await rows(lab) == [("WBC", "sent"), ("HGB", "sent")]


async def test_owed_work_is_told_once(lab: Laboratory) -> None:
    await lab.order("S-1", "WBC", "GLU")  # before anybody knew that it is told
    for _ in range(2):
        async with lab.database.transaction(lab.organization_id) as connection:
            works = await order_book.owed(connection, lab.context, NOW)
        assert [(one.work.specimen_id, [test.code for test in one.work.tests]) for one in works] == [("S-1", ["WBC"])]
    await tell(lab, Book(tuple(works)))
    await lab.order("S-2", "HGB", patient_id="P-2")
    async with lab.database.transaction(lab.organization_id) as connection:
        works = await order_book.owed(connection, lab.context, NOW)
    assert [one.work.specimen_id for one in works] == ["S-2"]


async def test_what_is_not_there_is_said_with_its_reason(lab: Laboratory) -> None:
    await lab.order("CHEM", "GLU")
    book = await ask(lab, "NOBODY", "CHEM", "A\0B")
    assert book.works == ()
    assert book.missing == (
        Missing("NOBODY", NoWork.UNKNOWN_SPECIMEN),
        Missing("CHEM", NoWork.NOT_FOR_THIS_ANALYZER),
        Missing("A\0B", NoWork.UNKNOWN_SPECIMEN),
    )


async def test_what_an_analyzer_answers_is_kept_with_each_step(lab: Laboratory) -> None:
    await lab.order("S-1", "WBC")
    book = await ask(lab, "S-1")
    await tell(lab, book)
    await say(lab, book, None, "header only")
    await say(lab, book, DispatchState.REFUSED, "no reagent")
    steps = await lab.owner.fetch("select state, answer, actor_kind, actor_name from lab.dispatch_event order by id")
    assert [tuple(row) for row in steps] == [
        ("queued", "", "link", "bench"),
        ("sent", "", "link", "bench"),
        ("sent", "header only", "link", "bench"),
        ("refused", "no reagent", "link", "bench"),
    ]
    assert await rows(lab) == [("WBC", "refused")]


async def test_a_sending_is_kept_once_and_each_attempt_counted(lab: Laboratory) -> None:
    await lab.order("S-1", "WBC")
    book, sending = await ask(lab, "S-1"), uuid7()
    await tell(lab, book, sending)
    await say(lab, book, DispatchState.QUEUED, "the line was lost")
    await tell(lab, book, sending)
    assert await lab.owner.fetchval("select count(*) from lab.sending") == 1
    assert await lab.owner.fetchval("select attempts from lab.dispatch") == 2
