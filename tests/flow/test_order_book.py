"""The order book over real PostgreSQL: what an analyzer is given to do, is told, and answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import asyncpg
import pytest

from interface import telemetry
from interface.domain.model import FollowUpKind
from interface.domain.routing import DispatchKind, DispatchState, Missing, NoWork, Query
from interface.domain.specimens import RejectReason
from interface.domain.views import IdentifierView
from interface.driver import registry
from interface.flow import follow_ups, order_book, order_changes, specimens
from interface.flow.context import register
from interface.flow.dispatch_watch import WATCH_S, LinkSeen, look
from interface.flow.order_book import Book
from interface.flow.orders import NewOrder, NewPatient, NewSpecimen, create_order
from interface.flow.speeches import speech_of
from interface.settings import BarcodeRules, LinkRole
from interface.store import leases, surroundings
from interface.store.dispatch_ends import Unconfirmed
from interface.store.ids import uuid7
from interface.store.leases import DaemonRow
from interface.store.worklists import set_worklists
from tests.flow.dispatching import NOW, another, ask, cancel, codes, downloading, owed, result, rows, say, tell, told
from tests.flow.laboratory import Laboratory, laboratory


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "sysmex_xn") as made:
        yield made


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
    assert codes(await owed(lab)) == []
    await downloading(lab)
    for _ in range(2):
        works = await owed(lab)
        assert codes(works) == [("S-1", ("WBC",))]
    await tell(lab, Book(tuple(works)))
    await lab.order("S-2", "HGB", patient_id="P-2")
    assert codes(await owed(lab)) == [("S-2", ("HGB",))]


async def test_who_ends_work_waits_for_it_to_be_told(lab: Laboratory) -> None:
    """Else it would end between the look into the book and the record of the message, and be said all the same."""
    await downloading(lab)
    await lab.order("S-1", "WBC")
    await owed(lab)
    await lab.owner.execute("set lock_timeout = '1ms'")
    async with lab.database.transaction(lab.organization_id) as connection:
        assert len(await order_book.owed(connection, lab.context, NOW)) == 1
        with pytest.raises(asyncpg.LockNotAvailableError):
            await lab.owner.execute("update lab.dispatch set state = 'cancelled'")


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
        ("sent", "", "link", "bench"),
        ("sent", "header only", "link", "bench"),
        ("refused", "no reagent", "link", "bench"),
    ]
    assert await rows(lab) == [("WBC", "refused")]


async def test_what_was_not_delivered_goes_again_as_it_is_and_fails_at_the_last_attempt(lab: Laboratory) -> None:
    await downloading(lab)
    await lab.order("S-1", "WBC", "HGB")
    book, sending = Book(tuple(await owed(lab))), uuid7()
    await tell(lab, book, sending)
    for limit, failed in ((None, 0), (2, 0), (2, 2)):
        async with lab.database.transaction(lab.organization_id) as connection:
            lost = await order_book.not_delivered(
                connection, lab.context, book.works[0].dispatches, "the line was cut", limit, NOW
            )
            again = await order_book.unconfirmed(connection, lab.context)
        same = Unconfirmed(sending, b"H|\\^&\r", book.works[0].dispatches)
        assert again == ([] if failed else [same])
        assert len(lost) == failed
        assert await owed(lab) == []  # it is not told by another message meanwhile
        if not failed:
            await tell(lab, book, sending)
    assert await lab.owner.fetchval("select count(*) from lab.sending") == 1
    assert {state for _, state in await rows(lab)} == {"failed"}


async def test_a_message_of_which_some_is_off_is_not_sent_again(lab: Laboratory) -> None:
    await downloading(lab)
    order = await lab.order("S-1", "WBC", "HGB")
    book = Book(tuple(await owed(lab)))
    await tell(lab, book)
    await cancel(lab, order, "HGB")
    async with lab.database.transaction(lab.organization_id) as connection:
        assert await order_book.unconfirmed(connection, lab.context) == []
    works = await owed(lab)
    assert {(one.cancels, step.code) for one in works for step in one.steps} == {(True, "HGB"), (False, "WBC")}


# ---- how work ends


async def test_a_result_ends_the_work_in_the_transaction_that_decides_it(lab: Laboratory) -> None:
    await lab.order("S-1", "WBC", "HGB")
    book = await ask(lab, "S-1")
    await tell(lab, book)
    await result(lab, "S-1", "WBC")
    assert await rows(lab) == [("WBC", "resulted"), ("HGB", "sent")]
    again = await ask(lab, "S-1")
    assert told(again) == {"S-1": {"HGB": told(book)["S-1"]["HGB"]}}  # held or not, it is not measured twice unasked
    same = await lab.owner.fetchval(
        """select count(*) from lab.dispatch d join lab.result r on r.order_item_id = d.order_item_id
            where d.state = 'resulted' and r.xmin = d.xmin"""
    )
    assert same == 1


async def test_no_message_without_dispatches_pays_for_a_second_statement(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    async def note(*_args: object) -> None:
        called.append(1)

    monkeypatch.setattr("interface.store.results.resulted", note)
    await lab.order("S-1", "WBC")
    await result(lab, "S-1", "WBC")
    assert not called
    await lab.order("S-2", "WBC", patient_id="P-2")
    await ask(lab, "S-2")
    await result(lab, "S-2", "WBC", control="C2")
    assert called


async def test_what_is_cancelled_is_taken_back_from_who_was_told_and_ends_for_who_was_not(lab: Laboratory) -> None:
    order = await lab.order("S-1", "WBC", "HGB")
    book = await ask(lab, "S-1")
    wbc = replace(book, works=(replace(book.works[0], steps=book.works[0].steps[:1]),))
    await tell(lab, wbc)
    await cancel(lab, order, "WBC", "HGB")
    assert await rows(lab) == [("WBC", "queued"), ("HGB", "cancelled")]
    [off] = await owed(lab)  # also by a link that does not download
    assert off.cancels
    assert off.steps[0].work_id == book.works[0].steps[0].work_id
    await say(lab, wbc, DispatchState.ACCEPTED)  # of the work, not of its end
    assert await rows(lab) == [("WBC", "queued"), ("HGB", "cancelled")]
    await tell(lab, Book((off,)))
    await say(lab, Book((off,)), DispatchState.ACCEPTED)
    assert await rows(lab) == [("WBC", "cancelled"), ("HGB", "cancelled")]
    assert (await ask(lab, "S-1")).missing == (Missing("S-1", NoWork.CANCELLED),)


async def test_a_rejected_specimen_is_taken_back(lab: Laboratory) -> None:
    order = await lab.order("S-1", "WBC")
    await tell(lab, await ask(lab, "S-1"))
    async with lab.database.transaction(lab.organization_id) as connection:
        specimen_id = order.items[0].specimen_id
        assert specimen_id is not None
        await specimens.reject(connection, lab.director, specimen_id, RejectReason.CLOTTED)
    assert [one.cancels for one in await owed(lab)] == [True]
    assert (await ask(lab, "S-1")).missing == (Missing("S-1", NoWork.REJECTED),)


async def test_a_rerun_and_a_dilution_go_back_to_who_measured_it(lab: Laboratory) -> None:
    await lab.order("S-1", "WBC")
    first = await ask(lab, "S-1")
    await tell(lab, first)
    await result(lab, "S-1", "WBC")
    assert (await ask(lab, "S-1")).works == ()
    [view] = await lab.results()
    async with lab.database.transaction(lab.organization_id) as connection:
        await follow_ups.request(
            connection, lab.director, view.id, FollowUpKind.DILUTION, dilution=Decimal(5), reason="too high"
        )
    other = await another(lab, "second")
    assert (await ask(other, "S-1")).missing == (Missing("S-1", NoWork.NOT_FOR_THIS_ANALYZER),)
    book = await ask(lab, "S-1")
    [step] = book.works[0].steps
    assert (step.kind, step.dilution, step.code) == (DispatchKind.DILUTION, Decimal(5), "WBC")
    assert step.work_id != first.works[0].steps[0].work_id
    await tell(lab, book)
    assert await lab.owner.fetchval("select state from lab.follow_up") == "sent"


async def test_the_first_result_wins_and_the_others_are_told_so(lab: Laboratory) -> None:
    await lab.order("S-1", "WBC")
    other = await another(lab, "second")
    third = await another(lab, "third")
    mine, theirs = await ask(lab, "S-1"), await ask(other, "S-1")
    await ask(third, "S-1")
    assert mine.works[0].steps[0].work_id != theirs.works[0].steps[0].work_id
    await tell(lab, mine)
    await tell(other, theirs)
    await result(lab, "S-1", "WBC")
    states = await lab.owner.fetch(
        "select a.name, d.kind, d.state from lab.dispatch d join lab.analyzer a on a.id = d.analyzer_id order by a.name"
    )
    item = await lab.owner.fetchval("select status from lab.order_item")
    assert item == "completed"
    assert [tuple(row) for row in states] == [
        ("bench", "new", "resulted"), ("second", "cancel", "queued"), ("third", "new", "cancelled"),
    ]  # fmt: skip


async def test_an_offer_and_the_end_of_its_item_in_one_moment_are_put_right(lab: Laboratory) -> None:
    await lab.order("S-1", "WBC")
    await tell(lab, await ask(lab, "S-1"))
    await lab.owner.execute("update lab.order_item set status = 'verified'")
    await lab.owner.execute("update lab.dispatch set updated_at = now()")
    seen = [LinkSeen(lab.context, True, None)]
    assert (await look(lab.database, seen, NOW))["queued"] == 0  # it may be under way this moment
    await lab.owner.execute("update lab.dispatch set updated_at = now() - interval '1 hour'")
    assert (await look(lab.database, seen, NOW))["queued"] == 1
    assert [one.cancels for one in await owed(lab)] == [True]


async def test_what_an_analyzer_cannot_be_told_is_off_without_its_word(lab: Laboratory) -> None:
    order = await lab.order("S-1", "WBC")
    await tell(lab, await ask(lab, "S-1"))
    await cancel(lab, order, "WBC")
    settings = replace(lab.context.settings, download=True)
    speaks = replace(lab.context, settings=settings, driver=registry.load("generic_lis2"))
    assert speech_of(speaks) is not None
    await look(lab.database, [LinkSeen(speaks, True, None)], NOW)
    assert await rows(lab) == [("WBC", "queued")]  # it is told by its link
    assert speech_of(lab.context) is None  # it asks, and its driver has no words for anything else
    await look(lab.database, [LinkSeen(lab.context, True, None)], NOW)
    assert await rows(lab) == [("WBC", "cancelled")]
    last = await lab.owner.fetchval("select reason from lab.dispatch_event order by id desc limit 1")
    assert last == "the analyzer cannot be told"


@pytest.mark.parametrize("words", [True, False])
async def test_what_another_daemon_may_tell_an_analyzer_is_not_off_without_its_word(
    lab: Laboratory, words: bool
) -> None:
    """Of the analyzer's two links this daemon has the one that only takes what it sends. Where the other has no words
    either, each left it to the other for ever."""
    order = await lab.order("S-1", "WBC")
    await tell(lab, await ask(lab, "S-1"))
    await cancel(lab, order, "WBC")
    analyzer = await lab.owner.fetchval("select name from lab.analyzer where id = $1", lab.context.analyzer_id)
    settings = replace(lab.context.settings, id="theirs", analyzer=analyzer, download=words)
    other = DaemonRow(uuid7(), "lab-b", "", ("links",), "", "", 6.0)
    async with lab.database.transaction(lab.organization_id) as connection:
        link = await register(connection, lab.organization_id, settings, registry.load("generic_lis2"))
        await leases.register(connection, other)
        await leases.take(connection, other.id, lab.organization_id, [link.link_id], False)
    own = replace(lab.context, others={link.link_id: link}.get)
    assert link.analyzer_id == own.analyzer_id and (speech_of(link) is not None) is words
    await look(lab.database, [LinkSeen(own, True, None)], NOW)
    assert await rows(lab) == [("WBC", "queued" if words else "cancelled")]
    await lab.owner.execute("update lab.daemon set ended_at = now(), gone_at = now() where id = $1", other.id)
    await look(lab.database, [LinkSeen(lab.context, True, None)], NOW)
    assert await rows(lab) == [("WBC", "cancelled")]


# ---- two at once


async def test_two_connections_that_ask_at_once_get_the_same_work(lab: Laboratory) -> None:
    await lab.order("S-1", "WBC", "HGB")
    barrier = asyncio.Barrier(4)

    async def at_once() -> Book:
        async with lab.database.transaction(lab.organization_id) as connection:
            await barrier.wait()
            return await order_book.work_for(connection, lab.context, Query(("S-1",)), NOW)

    books = await asyncio.gather(*(at_once() for _ in range(4)))
    assert all(told(book) == told(books[0]) for book in books)
    assert len(await rows(lab)) == 2


async def test_work_ids_are_never_used_again_by_whatever_connection(lab: Laboratory) -> None:
    for at in range(6):
        await lab.order(f"S-{at}", "WBC", "HGB", patient_id=f"P-{at}")
    barrier = asyncio.Barrier(6)

    async def at_once(at: int) -> Book:
        async with lab.database.transaction(lab.organization_id) as connection:
            await barrier.wait()
            return await order_book.work_for(connection, lab.context, Query((f"S-{at}",)), NOW)

    books = await asyncio.gather(*(at_once(at) for at in range(6)))
    with pytest.raises(RuntimeError, match="undone"):
        async with lab.database.transaction(lab.organization_id) as connection:
            gone = await order_book.work_for(connection, lab.context, Query(("S-0",)), NOW, renew=True)
            raise RuntimeError("undone")
    await tell(lab, books[0])
    renewed = []
    for _ in range(2):
        async with lab.database.transaction(lab.organization_id) as connection:
            book = await order_book.work_for(connection, lab.context, Query(("S-0",)), NOW, renew=True)
        await tell(lab, book)
        renewed.append(book)
    ids = [step.work_id for book in (*books, *renewed) for work in book.works for step in work.steps]
    assert len(ids) == len(set(ids)) == 16
    assert gone.works[0].steps == books[0].works[0].steps  # it was not told yet


async def test_asking_waits_for_nobody_who_decides_about_the_specimen_and_he_not_for_it(lab: Laboratory) -> None:
    await lab.order("S-1", "WBC")
    async with lab.database.transaction(lab.organization_id) as deciding:
        await surroundings.lock(deciding, ["S-1"])
        await deciding.execute("update lab.order_item set status = 'in_progress'")
        async with lab.database.transaction(lab.organization_id) as connection:
            await connection.execute("set local lock_timeout = '2s'")
            book = await order_book.work_for(connection, lab.context, Query(("S-1",)), NOW)
            sent = book.works[0].dispatches
            await order_book.record_sent(connection, lab.context, uuid7(), sent, b"x", None, NOW)
            await deciding.execute("set local lock_timeout = '2s'")
            await deciding.execute("update lab.order_item set status = 'received'")
    assert await rows(lab) == [("WBC", "sent")]


async def test_who_cancels_waits_for_the_offer_and_takes_it_back(lab: Laboratory) -> None:
    order = await lab.order("S-1", "WBC")
    async with lab.database.transaction(lab.organization_id) as connection:
        book = await order_book.work_for(connection, lab.context, Query(("S-1",)), NOW)
        await order_book.record_sent(connection, lab.context, uuid7(), book.works[0].dispatches, b"x", None, NOW)
        cancelling = asyncio.create_task(cancel(lab, order, "WBC"))
        await blocked(lab)
    await cancelling
    assert [one.cancels for one in await owed(lab)] == [True]


async def blocked(lab: Laboratory) -> None:
    """Until somebody waits for a lock."""
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    async with asyncio.timeout(10):
        while not await lab.owner.fetchval(waiting):
            await lab.owner.execute("select pg_sleep(0.005)")


async def test_a_query_that_finds_an_item_cancelled_in_the_same_moment_does_not_offer_it(lab: Laboratory) -> None:
    order = await lab.order("S-1", "WBC")
    async with lab.database.transaction(lab.organization_id) as connection:
        await order_changes.cancel(connection, lab.director, order.id, "not needed")
        asking = asyncio.create_task(ask(lab, "S-1"))
        await blocked(lab)
    book = await asking
    assert book.works == ()
    assert book.missing == (Missing("S-1", NoWork.CANCELLED),)


async def test_an_order_that_is_made_while_its_analyzer_begins_to_be_told_is_due(lab: Laboratory) -> None:
    """Its transaction begins first: it reads that nobody is to be told, and who says so waits for it."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    patient = NewPatient(identifiers=(IdentifierView("TEST", "P-1"),), family="Muster", given="Maria")
    specimen = NewSpecimen(tests=("WBC",), barcode="S-1", type="", collected_at=at, received_at=at)
    async with lab.database.transaction(lab.organization_id) as connection:
        await create_order(connection, lab.context.actor, NewOrder((specimen,), patient=patient))
        beginning = asyncio.create_task(downloading(lab))
        await blocked(lab)
    await beginning
    assert codes(await owed(lab)) == [("S-1", ("WBC",))]


async def test_an_order_that_is_made_after_its_analyzer_began_to_be_told_is_due(lab: Laboratory) -> None:
    """The other way round: what the configuration says is not committed yet, and the order waits for it."""
    async with lab.database.transaction(lab.organization_id) as connection:
        await set_worklists(connection, lab.organization_id, {lab.context.analyzer_id})
        ordering = asyncio.create_task(lab.order("S-1", "WBC"))
        await blocked(lab)
    await ordering
    await downloading(lab)
    assert codes(await owed(lab)) == [("S-1", ("WBC",))]


async def test_an_analyzer_that_is_told_no_more_has_nothing_due_and_what_waits_is_due_when_it_is_again(
    lab: Laboratory,
) -> None:
    await downloading(lab)
    await lab.order("S-1", "WBC")
    other = await another(lab, "b")
    due = "select count(*) from lab.work_due"
    assert await lab.owner.fetchval(due) == 1
    async with lab.database.transaction(lab.organization_id) as connection:
        await set_worklists(connection, lab.organization_id, {other.context.analyzer_id})
    assert await lab.owner.fetchval(f"{due} where analyzer_id = $1", lab.context.analyzer_id) == 0
    await lab.order("S-2", "WBC", patient_id="P-2")
    assert await lab.owner.fetchval(f"{due} where analyzer_id = $1", lab.context.analyzer_id) == 0
    assert await lab.owner.fetchval(f"{due} where analyzer_id = $1", other.context.analyzer_id) == 2
    await downloading(lab)
    assert [specimen for specimen, _ in codes(await owed(lab))] == ["S-1", "S-2"]


async def test_an_offer_and_a_result_that_are_committed_in_one_moment_are_put_right_by_the_next_look(
    lab: Laboratory,
) -> None:
    """Neither sees the other. What is told of for nothing is taken back by the first look that is 30 s after it."""
    other = await another(lab, "b")
    await lab.order("S-1", "WBC")
    offered, decided = asyncio.Event(), asyncio.Event()

    async def offer() -> None:
        async with lab.database.transaction(lab.organization_id) as connection:
            book = await order_book.work_for(connection, other.context, Query(("S-1",)), NOW)
            sent = book.works[0].dispatches
            await order_book.record_sent(connection, other.context, uuid7(), sent, b"x", None, datetime.now(UTC))
            offered.set()
            await decided.wait()

    async def decide() -> None:
        await offered.wait()
        await result(lab, "S-1", "WBC")
        decided.set()

    async with asyncio.timeout(10):
        await asyncio.gather(offer(), decide())
    assert await lab.owner.fetchval("select status from lab.order_item") in ("completed", "verified")
    assert await rows(lab) == [("WBC", "sent")]  # it measures for nothing
    assert (await ask(other, "S-1")).works == ()  # and is not told again
    assert WATCH_S == 10  # so that 40 s are the most
    seen = [LinkSeen(other.context, True, None)]
    for age, queued in ((29, 0), (31, 1)):
        await lab.owner.execute("update lab.dispatch set updated_at = now() - make_interval(secs => $1)", age)
        assert (await look(lab.database, seen, NOW))["queued"] == queued
    assert [one.cancels for one in await owed(other)] == [True]


# ---- other ways to ask, other reasons


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("expected", NoWork.NOT_RECEIVED), ("collected", NoWork.NOT_RECEIVED), ("exhausted", NoWork.DONE),
        ("rejected", NoWork.REJECTED), ("disposed", NoWork.DONE), ("cancelled", NoWork.CANCELLED),
    ],
)  # fmt: skip
async def test_a_specimen_that_cannot_be_measured_says_why(lab: Laboratory, state: str, reason: NoWork) -> None:
    await lab.order("S-1", "WBC")
    status = {"exhausted": "unavailable", "disposed": "unavailable", "cancelled": "unavailable",
              "rejected": "unsatisfactory"}.get(state, "available")  # fmt: skip
    await lab.owner.execute("update lab.specimen set state = $1, status = $2", state, status)
    assert (await ask(lab, "S-1")).missing == (Missing("S-1", reason),)


async def test_all_ranges_racks_and_places(lab: Laboratory) -> None:
    for at in (1, 2, 3):
        await lab.order(f"S-{at}", "WBC", patient_id=f"P-{at}")
    await lab.order("CHEM", "GLU", patient_id="P-9")
    await lab.owner.execute("update lab.specimen set rack = 'R1', position = '3' where barcode = 'S-2'")
    await lab.owner.execute(
        "update lab.lab_order set priority = 'stat' from lab.specimen s where s.order_id = lab_order.id"
        " and s.barcode = 'S-3'"
    )
    for query, found in (
        (Query(all_=True), ["S-3", "S-1", "S-2"]),
        (Query(ranges=(("S-1", "S-2"),)), ["S-1", "S-2"]),
        (Query(racks=("R1",)), ["S-2"]),
        (Query(places=(("R1", "3"),)), ["S-2"]),
        (Query(places=(("R1", "4"),)), []),
    ):
        async with lab.database.transaction(lab.organization_id) as connection:
            book = await order_book.work_for(connection, lab.context, query, NOW)
        assert [one.work.specimen_id for one in book.works] == found
        assert (book.missing, book.more) == ((), False)


async def test_what_no_result_would_be_filed_under_is_nobodys_work(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tubes that were never measured gather for years; the oldest come first, and there is room for so many."""
    monkeypatch.setattr(order_book, "MOST_SPECIMENS", 2)
    for at in (1, 2, 3):
        await lab.order(f"OLD-{at}", "WBC", patient_id=f"P-{at}")
    await lab.owner.execute("update lab.specimen set received_at = $1, created_at = $1", NOW - timedelta(days=100))
    await lab.order("S-1", "WBC")
    for query in (Query(all_=True), Query(ranges=(("OLD-1", "OLD-3"), ("S-1", "S-2")))):
        async with lab.database.transaction(lab.organization_id) as connection:
            book = await order_book.work_for(connection, lab.context, query, NOW)
        assert ([one.work.specimen_id for one in book.works], book.more) == (["S-1"], False)


async def test_nor_is_it_told_when_a_worklist_begins(lab: Laboratory) -> None:
    await lab.order("OLD", "WBC")
    await lab.owner.execute("update lab.specimen set received_at = $1, created_at = $1", NOW - timedelta(days=100))
    await lab.order("S-1", "WBC", patient_id="P-2")
    await downloading(lab)
    assert [one.work.specimen_id for one in await owed(lab)] == ["S-1"]


async def test_all_is_bounded_and_says_so(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_book, "MOST_SPECIMENS", 2)
    for at in (1, 2, 3):
        await lab.order(f"S-{at}", "WBC", patient_id=f"P-{at}")
    seen = []
    for more in (True, True):
        async with lab.database.transaction(lab.organization_id) as connection:
            book = await order_book.work_for(connection, lab.context, Query(all_=True), NOW)
        assert book.more is more
        await tell(lab, book)
        seen += [one.work.specimen_id for one in book.works]
    assert seen == ["S-1", "S-2", "S-3", "S-1"]  # what it was not told yet comes first


async def test_the_id_is_read_by_the_links_rules_and_told_as_it_was_asked(lab: Laboratory) -> None:
    await lab.order("0042", "WBC")
    rules = BarcodeRules(strip_prefix="X", pad=4)
    lab.context = replace(lab.context, settings=replace(lab.context.settings, barcode=rules, control_ids=("Q.*",)))
    assert list(told(await ask(lab, "X42"))) == ["X42"]
    assert (await ask(lab, "QC42")).missing == (Missing("QC42", NoWork.UNKNOWN_SPECIMEN),)


async def test_a_barcode_that_is_used_again_means_the_new_specimen_and_of_two_neither(lab: Laboratory) -> None:
    await lab.order("S-1", "WBC")
    await lab.owner.execute("update lab.specimen set received_at = $1, created_at = $1", NOW - timedelta(days=100))
    assert (await ask(lab, "S-1")).missing == (Missing("S-1", NoWork.UNKNOWN_SPECIMEN),)
    await lab.owner.execute("update lab.specimen set barcode = 'OLD'")
    await lab.order("S-1", "HGB", patient_id="P-2")
    await lab.owner.execute("update lab.specimen set barcode = 'S-1'")
    assert told(await ask(lab, "S-1"))["S-1"].keys() == {"HGB"}
    await lab.owner.execute("update lab.specimen set received_at = $1, created_at = $1", NOW)
    assert (await ask(lab, "S-1")).missing == (Missing("S-1", NoWork.UNKNOWN_SPECIMEN),)


async def test_a_silent_hospital_is_said_of_the_answer(lab: Laboratory) -> None:
    def with_limit(seconds: float) -> None:
        lab.context = replace(lab.context, settings=replace(lab.context.settings, orders_stale_after_s=seconds))

    with_limit(600)
    assert (await ask(lab, "S-1")).stale == ""  # there is no link of a hospital
    hospital = await another(lab, "his", role=LinkRole.HOSPITAL)
    heard = NOW - timedelta(minutes=30)
    await look(lab.database, [LinkSeen(hospital.context, True, heard), LinkSeen(lab.context, True, NOW)], NOW)
    await look(lab.database, [LinkSeen(hospital.context, True, None)], NOW)  # after a restart
    assert "nothing from the hospital since 2026-01-02 07:30 UTC" in (await ask(lab, "S-1")).stale
    with_limit(3600)
    assert (await ask(lab, "S-1")).stale == ""
    with_limit(0)
    assert (await ask(lab, "S-1")).stale == ""
    value = telemetry.REGISTRY.get_sample_value("labora_link_heard_timestamp_seconds", {"link": "his"})
    assert value == heard.timestamp()


async def test_a_hospital_that_was_heard_while_the_clock_was_ahead_is_silent_from_when_it_was_put_right(
    lab: Laboratory,
) -> None:
    """Else nothing would say until that time came that orders may be missing."""
    lab.context = replace(lab.context, settings=replace(lab.context.settings, orders_stale_after_s=600))
    hospital = await another(lab, "his", role=LinkRole.HOSPITAL)
    ahead = LinkSeen(hospital.context, True, NOW + timedelta(days=300))
    await look(lab.database, [ahead], NOW + timedelta(days=300))
    await look(lab.database, [ahead], NOW - timedelta(minutes=20))  # and the same daemon goes on
    await look(lab.database, [ahead], NOW)
    assert "nothing from the hospital since 2026-01-02 07:40 UTC" in (await ask(lab, "S-1")).stale
    await look(lab.database, [replace(ahead, heard_at=NOW - timedelta(minutes=1))], NOW)
    assert (await ask(lab, "S-1")).stale == ""
