"""Messages that EOT completes and messages without frames: complete, resent or cut (DESIGN §1.1, §1.2)."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from interface.flow.message import message_text, whole_records
from interface.link.intake import Receipt, ReceivedFrame
from interface.store.journal import Append, Journal
from interface.store.stored_messages import StoredMessage
from tests.cluster import owner_of
from tests.flow.laboratory import Laboratory
from tests.flow.test_intake import END, HEADER, RECORDS, WBC, bench, cut, frame, give, stored, whole

NO_END = frozenset({"no_terminator_record"})
BARE = frozenset({"bare_records"})
OPEN = HEADER % b"C1" + RECORDS + WBC % b"7.35"  # a message without L


def records(text: bytes) -> list[ReceivedFrame]:
    """One frame per record."""
    return [frame(at, record, last=True) for at, record in enumerate(text.splitlines(keepends=True), 1)]


def bare(text: bytes, last: bool = False) -> list[ReceivedFrame]:
    """One piece per record, as a link hands them over; `last`: the last one's record end is missing and told."""
    pieces = text.splitlines(keepends=True)
    return [ReceivedFrame(None, piece, piece, last and piece is pieces[-1]) for piece in pieces]


async def end(lab: Laboratory, frames: list[ReceivedFrame], reason: str = "eot") -> Receipt:
    """One session; the receipt of its end."""
    transmission = lab.intake.frames("127.0.0.1:1")
    for one in frames:
        assert (await transmission.frame(one)).message_id is None
    return await transmission.end(reason)


async def states(lab: Laboratory) -> list[tuple[str, str | None, str]]:
    return [(one.state, one.settled, one.reason) for one in await stored(lab)]


async def only(lab: Laboratory) -> StoredMessage:
    [message] = await stored(lab)
    return message


# ---- EOT completes ---------------------------------------------------------------------------------------------------


async def test_eot_completes_a_message_without_terminator_and_its_resend_is_a_duplicate(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch, leniencies=NO_END) as (lab, _):
        first = await end(lab, records(OPEN))
        again = await end(lab, cut(OPEN, 100))  # the same text in other frames
        assert await states(lab) == [
            ("complete", None, "no_terminator_record"),
            ("complete", "duplicate", "no_terminator_record"),
        ]
        messages = await stored(lab)
        assert [message_text(one) for one in messages] == [OPEN, OPEN]
        assert [one.message_id for one in (first, again)] == [one.id for one in messages]
        assert messages[1].duplicate_of == messages[0].id
        await lab.settle()
        assert [view.value for view in await lab.results()] == ["7.35"]


@pytest.mark.parametrize("reason", ["timeout", "lost", "enq", "aborted", "stop", "refused"])
async def test_nothing_but_a_clean_eot_completes_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    async with bench(database_url, monkeypatch, leniencies=NO_END) as (lab, _):
        assert await end(lab, records(OPEN), reason) == Receipt()
        assert await states(lab) == [("incomplete", None, reason)]


async def test_eot_completes_nothing_where_the_leniency_is_not_named(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch) as (lab, _):
        assert await end(lab, records(OPEN)) == Receipt()
        assert await states(lab) == [("incomplete", None, "eot")]


@pytest.mark.parametrize(
    "frames",
    [
        [frame(1, OPEN, last=False)],  # ETB: more was announced
        [frame(1, OPEN, last=True), frame(2, WBC[:9], last=False)],  # and cut in mid-record
        [frame(1, RECORDS, last=True)],  # no header
    ],
)
async def test_eot_does_not_complete_what_is_not_whole(
    database_url: str, monkeypatch: pytest.MonkeyPatch, frames: list[ReceivedFrame]
) -> None:
    async with bench(database_url, monkeypatch, leniencies=NO_END) as (lab, _):
        assert await end(lab, frames) == Receipt()
        assert await states(lab) == [("incomplete", None, "eot")]


async def test_of_several_messages_in_a_session_eot_completes_the_last(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch, leniencies=NO_END) as (lab, _):
        await end(lab, [frame(1, OPEN), frame(2, OPEN.replace(b"C1", b"C2"))])
        assert [state for state, *_ in await states(lab)] == ["incomplete", "complete"]


async def test_a_message_with_terminator_is_sealed_by_it_as_ever(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch, leniencies=NO_END) as (lab, _):
        receipts = await give(lab, records(whole(b"C1")))
        assert receipts[-1].message_id is not None
        assert await states(lab) == [("complete", None, "")]


async def test_a_query_without_terminator_is_answered_anew_each_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch, leniencies=NO_END) as (lab, _):
        for _ in range(2):
            await end(lab, records(HEADER % b"C1" + b"Q|1|^S1||ALL\r"))
        assert await states(lab) == [("complete", None, "no_terminator_record")] * 2


async def test_a_daemon_that_dies_before_eot_leaves_it_incomplete(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch, leniencies=NO_END) as (lab, _):
        transmission = lab.intake.frames("127.0.0.1:1")
        for one in records(OPEN):
            await transmission.frame(one)
        next_life = Journal(
            lab.database, lab.organization_id, resend_window_s=60.0, commit_wait_s=5.0, wake=lambda: None
        )
        await next_life.start()
        await next_life.stop()
        assert await states(lab) == [("incomplete", None, "restart")]
        assert message_text(await only(lab)) == OPEN


@pytest.mark.parametrize("fate", ["lost", "doubtful"])
async def test_a_seal_that_fails_loses_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch, fate: str) -> None:
    """What was acknowledged is there, and as whole as EOT made it."""
    async with bench(database_url, monkeypatch, leniencies=NO_END) as (lab, store):
        transmission = lab.intake.frames("127.0.0.1:1")
        for one in records(OPEN):
            await transmission.frame(one)
        store.fate = [fate]
        assert await transmission.end("eot") == Receipt()
        await lab.journal.stop()  # which seals what waits for it
        message = await only(lab)
        assert (message.state, message_text(message)) == ("complete", OPEN)


async def test_a_link_that_is_stopped_while_it_seals_leaves_no_message_open(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload stops links, not the daemon: nobody would seal what was acknowledged until the next start."""
    async with bench(database_url, monkeypatch, leniencies=NO_END) as (lab, _):
        owner = await asyncpg.connect(owner_of(database_url))
        first, second = lab.intake.frames("127.0.0.1:1"), lab.intake.frames("127.0.0.1:2")
        for one in records(OPEN):
            await first.frame(one)
        async with owner.transaction():
            await owner.execute("lock table lab.frame in access exclusive mode")
            other = asyncio.create_task(second.frame(frame(1, HEADER % b"C2")))
            await asyncio.sleep(0)  # the writer is busy with it, and the seal waits
            sealing = asyncio.create_task(first.end("eot"))
            await asyncio.sleep(0)
            sealing.cancel()
            await asyncio.gather(sealing, return_exceptions=True)
            assert sealing.cancelled()
        await owner.close()
        await other
        await lab.journal.append(Append())  # in order: what was to be sealed is
        assert (await states(lab))[0] == ("complete", None, "no_terminator_record")
        await second.end("eot")


# ---- records without frames ------------------------------------------------------------------------------------------


async def test_bare_records_make_a_message_and_its_resend_a_duplicate(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = whole(b"C1")
    async with bench(database_url, monkeypatch, leniencies=BARE) as (lab, _):
        receipts = await give(lab, bare(text), "terminator")
        await give(lab, bare(text[:-1], last=True), "lost")  # the same, and its L record has no end
        assert [receipt.message_id is not None for receipt in receipts] == [False] * (len(receipts) - 1) + [True]
        assert [(state, settled) for state, settled, _ in await states(lab)] == [
            ("complete", None),
            ("complete", "duplicate"),
        ]
        first, second = await stored(lab)
        assert message_text(first) == message_text(second) == text
        assert b"".join(one.bytes for one in second.frames) == text[:-1]
        assert {one.fn for one in first.frames} == {None}


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
async def test_bare_records_are_kept_as_sent_and_decided(
    database_url: str, monkeypatch: pytest.MonkeyPatch, line_end: bytes
) -> None:
    text = whole(b"C1").replace(b"\r", line_end)
    async with bench(database_url, monkeypatch, leniencies=BARE) as (lab, _):
        await give(lab, bare(text), "terminator")
        assert message_text(await only(lab)) == text
        await lab.settle()
        assert [view.value for view in await lab.results()] == ["7.35"]


async def test_a_bare_message_that_is_cut_is_incomplete_without_its_half_record(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off = OPEN[: OPEN.index(b"7.35") + 2]
    async with bench(database_url, monkeypatch, leniencies=BARE) as (lab, _):
        assert await end(lab, bare(cut_off), "timeout") == Receipt()
        message = await only(lab)
        assert (message.state, message.reason, message_text(message)) == ("incomplete", "timeout", cut_off)
        assert whole_records(message) == HEADER % b"C1" + RECORDS


async def test_an_empty_line_before_a_new_bare_header_stays_with_the_message_before(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = HEADER % b"C1" + b"P|1\r", b"\n" + whole(b"C2")
    async with bench(database_url, monkeypatch, leniencies=BARE) as (lab, _):
        await give(lab, [ReceivedFrame(None, part, part, False) for part in (first, second)], "terminator")
        assert [(one.state, message_text(one)) for one in await stored(lab)] == [
            ("incomplete", first + b"\n"),
            ("complete", whole(b"C2")),
        ]


def test_the_l_record_is_what_completes() -> None:
    assert OPEN + END == whole(b"C1")
