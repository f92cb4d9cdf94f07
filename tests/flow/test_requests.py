"""A request and its application reply are one transaction (DESIGN §1.1, §3), whatever its handler does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import pytest

from interface.errors import SegmentError, StoreAmbiguous, StoreUnavailable, UnsupportedMessage
from interface.flow.intake import LinkIntake
from interface.flow.requests import Refused, Reply, Request, Requests
from interface.link.intake import Receipt
from interface.settings import LinkRole
from interface.store.db import Connection
from interface.store.ids import uuid7
from tests.flow.laboratory import Laboratory, laboratory

PEER = "127.0.0.1:1"
QUERY = b"MSH|^~\\&|BENCH|LAB|L|LAB|20260102030405||QBP^Q11^QBP_Q11|%s|P|2.5.1|||%s|%s\rQPD|WOS|1|S1\rRCP|I\r"
PLAIN = QUERY % (b"7", b"", b"")


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "generic_hl7") as made:
        yield made


async def note(request: Request) -> None:
    """Something that a handler writes."""
    await request.connection.execute(
        "insert into lab.practitioner (id, organization_id, family, given) values ($1, $2, 'Noted', 'Nora')",
        uuid7(), request.link.organization_id,
    )  # fmt: skip


async def found(request: Request) -> Reply:
    await note(request)
    return Reply(b"RSP " + request.message.control_id.encode())


async def two(request: Request) -> Reply:
    return Reply(b"QCK", (b"DSR",))


async def refuses(request: Request) -> Reply:
    await note(request)
    raise Refused(Reply(b"RSP no", reason="nobody knows this specimen"))


async def faulty(request: Request) -> Reply:
    await note(request)
    raise SegmentError("the query has no tag", "QPD^1^2", 101)


async def breaks(request: Request) -> Reply:
    await note(request)
    raise ZeroDivisionError


async def unsupported(request: Request) -> Reply:
    raise UnsupportedMessage("this cannot be asked", "QPD^1^1", 200)


async def database_gone(request: Request) -> Reply:
    await note(request)
    raise StoreUnavailable("gone")


async def never(request: Request) -> Reply:
    await note(request)
    await asyncio.Event().wait()
    raise AssertionError


async def nul(request: Request) -> Reply:
    raise SegmentError("the id A\0B is none", "QPD^1^3", 102)


async def not_to_be_committed(request: Request) -> Reply:
    """What nobody sees to be wrong before COMMIT."""
    await note(request)
    await request.connection.execute("create temp table twice (n int unique deferrable initially deferred)")
    await request.connection.execute("insert into twice values (1), (1)")
    return Reply(b"RSP")


async def noted(request: Request) -> Reply:
    return Reply(b"RSP", note="nothing\0to do")


HANDLERS = {
    handler.__name__: handler
    for handler in (
        found, two, refuses, faulty, breaks, unsupported, database_gone, never, nul, not_to_be_committed, noted,
    )
}  # fmt: skip


async def ask(lab: Laboratory, name: str, block: bytes = PLAIN, reply_s: float = 5.0) -> Receipt:
    requests = Requests(
        lab.context, lab.database, {LinkRole.ANALYZER: {"QBP": lambda _: HANDLERS[name]}}, reply_s
    )  # fmt: skip
    return await LinkIntake(lab.context, lab.journal, requests=requests).block(block, PEER)


async def kept(lab: Laboratory) -> list[tuple[str, str, int]]:
    """How each message was settled, why, and its bytes that are kept; then how often a handler's note is there."""
    rows = await lab.owner.fetch(
        "select settled, reason, (select sum(length(bytes)) from lab.frame where message_id = m.id) as bytes"
        " from lab.message m order by id"
    )
    return [(row["settled"], row["reason"], row["bytes"]) for row in rows]


async def notes(lab: Laboratory) -> int:
    return int(await lab.owner.fetchval("select count(*) from lab.practitioner where family = 'Noted'"))


@pytest.mark.parametrize(
    ("name", "reply", "settled", "written"),
    [
        ("found", b"RSP 7", ("released", ""), 1),
        ("refuses", b"RSP no", ("rejected", "nobody knows this specimen"), 0),
        ("faulty", b"MSA|AE|7", ("rejected", "segment: the query has no tag"), 0),
        ("unsupported", b"MSA|AR|7", ("rejected", "unsupported: this cannot be asked"), 0),
        ("breaks", b"MSA|AE|7", ("rejected", "handler_fault: ZeroDivisionError"), 0),
        ("nul", b"MSA|AE|7", ("rejected", "segment: the id A\N{REPLACEMENT CHARACTER}B is none"), 0),
        ("noted", b"RSP", ("released", "nothing\N{REPLACEMENT CHARACTER}to do"), 0),
    ],
)
async def test_answered(lab: Laboratory, name: str, reply: bytes, settled: tuple[str, str], written: int) -> None:
    receipt = await ask(lab, name)
    assert receipt.reply is not None and reply in receipt.reply
    assert receipt.then == () and isinstance(receipt.message_id, UUID)
    assert await kept(lab) == [(*settled, len(PLAIN))]
    assert await notes(lab) == written


async def test_nothing_is_promised_of_what_is_not_committed(lab: Laboratory) -> None:
    for name in ("database_gone", "never", "not_to_be_committed"):
        receipt = await ask(lab, name, reply_s=0.2 if name == "never" else 5.0)
        assert receipt.message_id is None
        assert receipt.reply is not None and b"MSA|AR|7" in receipt.reply and b"207" in receipt.reply
    assert (await kept(lab), await notes(lab)) == ([], 0)


async def test_the_same_query_is_answered_anew(lab: Laboratory) -> None:
    assert [(await ask(lab, "found")).reply for _ in range(2)] == [b"RSP 7", b"RSP 7"]
    assert [settled for settled, _, _ in await kept(lab)] == ["released", "released"]


async def test_the_sender_says_which_replies_it_wants(lab: Laboratory) -> None:
    both = await ask(lab, "two", QUERY % (b"8", b"AL", b"AL"))
    assert both.reply is not None and b"MSA|CA|8" in both.reply
    assert both.then == (b"QCK", b"DSR")
    first = await ask(lab, "two", QUERY % (b"9", b"AL", b"NE"))
    assert first.reply is not None and b"MSA|CA|9" in first.reply and first.then == ()
    alone = await ask(lab, "two", QUERY % (b"10", b"NE", b"AL"))
    assert (alone.reply, alone.then) == (b"QCK", (b"DSR",))


async def test_requests_of_a_link_are_done_one_after_the_other(lab: Laboratory) -> None:
    done: list[str] = []
    first_may_end = asyncio.Event()

    async def slow(request: Request) -> Reply:
        if request.message.control_id == "1":
            await first_may_end.wait()
        done.append(request.message.control_id)
        return Reply(b"RSP")

    requests = Requests(lab.context, lab.database, {LinkRole.ANALYZER: {"QBP^Q11": lambda _: slow}}, 5.0)
    intake = LinkIntake(lab.context, lab.journal, requests=requests)
    asked = [asyncio.create_task(intake.block(QUERY % (str(at).encode(), b"", b""), PEER)) for at in (1, 2, 3)]
    await asyncio.sleep(0)
    first_may_end.set()
    await asyncio.gather(*asked)
    assert done == ["1", "2", "3"]


async def test_what_is_no_request_of_this_link_is_refused(lab: Laboratory) -> None:
    requests = Requests(lab.context, lab.database, {LinkRole.HOSPITAL: {"QBP": lambda _: found}}, 5.0)
    receipt = await LinkIntake(lab.context, lab.journal, requests=requests).block(PLAIN, PEER)
    assert receipt.reply is not None and b"MSA|AR|7" in receipt.reply and b"|200" in receipt.reply
    one_event = Requests(lab.context, lab.database, {LinkRole.ANALYZER: {"QBP^Q13": lambda _: found}}, 5.0)
    receipt = await LinkIntake(lab.context, lab.journal, requests=one_event).block(PLAIN, PEER)
    assert receipt.reply is not None and b"|201" in receipt.reply
    hospital = replace(lab.context, settings=replace(lab.context.settings, role=LinkRole.HOSPITAL))
    receipt = await LinkIntake(hospital, lab.journal, requests=Requests(
        hospital, lab.database, {LinkRole.HOSPITAL: {"QBP": lambda _: found}}, 5.0)).block(PLAIN, PEER)  # fmt: skip
    assert receipt.reply == b"RSP 7"


async def test_nobody_waits_for_what_was_late_to_be_undone(lab: Laboratory) -> None:
    undone = asyncio.Event()

    async def stubborn(request: Request) -> Reply:
        await note(request)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await undone.wait()  # as a database that does not answer
            raise
        raise AssertionError

    async def other(request: Request) -> Reply:
        return Reply(b"RSP other")

    handlers = {LinkRole.ANALYZER: {"QBP": lambda _: stubborn, "QRY": lambda _: other}}
    requests = Requests(lab.context, lab.database, handlers, 0.2)
    intake = LinkIntake(lab.context, lab.journal, requests=requests)
    receipt = await asyncio.wait_for(intake.block(PLAIN, PEER), 5.0)
    assert receipt.reply is not None and b"207" in receipt.reply
    # One at a time still: what comes now is late as well, and undone without having begun.
    later = PLAIN.replace(b"QBP^Q11^QBP_Q11|7", b"QRY^Q02|8")
    assert b"207" in ((await intake.block(later, PEER)).reply or b"")
    undone.set()
    while b"RSP other" not in ((await intake.block(later, PEER)).reply or b""):
        pass
    assert (await kept(lab), await notes(lab)) == ([("released", "", len(later))], 0)


async def test_a_link_that_is_stopped_leaves_nothing_half_done(lab: Laboratory) -> None:
    begun = asyncio.Event()

    async def slow(request: Request) -> Reply:
        await note(request)
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    requests = Requests(lab.context, lab.database, {LinkRole.ANALYZER: {"QBP": lambda _: slow}}, 60.0)
    intake = LinkIntake(lab.context, lab.journal, requests=requests)
    asked = [asyncio.create_task(intake.block(PLAIN, PEER)) for _ in range(3)]
    await begun.wait()
    for one in asked:
        one.cancel()
    assert all(isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*asked, return_exceptions=True))
    requests = Requests(lab.context, lab.database, {LinkRole.ANALYZER: {"QBP": lambda _: found}}, 5.0)
    assert (await LinkIntake(lab.context, lab.journal, requests=requests).block(PLAIN, PEER)).reply == b"RSP 7"
    assert await notes(lab) == 1


async def test_an_answer_whose_commit_is_not_known_is_given_anew(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work is there, and nobody was told: the sender asks again and is told the same."""
    committed = lab.database.transaction

    @asynccontextmanager
    async def lost(organization_id: UUID) -> AsyncIterator[Connection]:
        async with committed(organization_id) as connection:
            yield connection
        raise StoreAmbiguous("the connection was lost during a commit")

    with monkeypatch.context() as patch:
        patch.setattr(lab.database, "transaction", lost)
        receipt = await ask(lab, "found")
        assert receipt.message_id is None and b"207" in (receipt.reply or b"")
    assert (await ask(lab, "found")).reply == b"RSP 7"
    assert [settled for settled, _, _ in await kept(lab)] == ["released", "released"]
