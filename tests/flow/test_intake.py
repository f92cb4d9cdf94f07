"""The way into the journal: what is answered, what is kept, and what a failed commit leaves (DESIGN §1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import pytest

from interface.domain.model import ResultStatus
from interface.errors import StoreAmbiguous, StoreError, StoreUnavailable
from interface.flow.intake import LinkIntake
from interface.flow.message import message_text
from interface.link.intake import Receipt, ReceivedFrame
from interface.settings import AckPolicy, LinkRole, OnStoreFailure
from interface.store import notes
from interface.store.journal import Append, BlockRow
from interface.store.stored_messages import StoredMessage, read_messages
from interface.wire.frames import build_frame
from tests.flow.laboratory import Laboratory, laboratory

_T = TypeVar("_T")

PEER = "127.0.0.1:1"
HEADER = b"H|\\^&|%s||Testmaker^Bench^1||||||||LIS2-A2|20260102030405\r"
RECORDS = b"P|1||P-1||Muster^Maria||19800501|F\rO|1|S1||^^^CBC|R\r"
WBC = b"R|1|^^^WBC|%s|10*3/uL||N||F||||20260102030000\r"
END = b"L|1|N\r"
ORU = (
    b"MSH|^~\\&|BENCH|LAB|L|LAB|20260102030405||ORU^R01^ORU_R01|7|P|2.5.1|||%s|%s\r"
    b"PID|1||P-1^^^TEST||MUSTER^MARIA\rOBR|1|||CBC\rOBX|1|NM|2823-3^K^LN||4.10|mmol/L|||||F\rSPM|1|S1||SER\r"
)
PLAIN = ORU % (b"", b"")


def whole(control: bytes, value: bytes = b"7.35") -> bytes:
    return HEADER % control + RECORDS + WBC % value + END


def frame(number: int, text: bytes, *, last: bool = True) -> ReceivedFrame:
    return ReceivedFrame(number % 8, build_frame(number, text, last), text, last)


def cut(text: bytes, size: int) -> list[ReceivedFrame]:
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    return [frame(at, part, last=at == len(parts)) for at, part in enumerate(parts, 1)]


class Store:
    """Failures of the journal's appends: `lost`, nothing was stored; `doubtful`, it was, and nobody knows."""

    def __init__(self, lab: Laboratory) -> None:
        self.lab, self.fate = lab, list[str]()
        self._append, self._append_block = lab.journal.append, lab.journal.append_block

    async def append(self, append: Append) -> frozenset[UUID]:
        return await self._store(self._append(append))

    async def append_block(self, row: BlockRow) -> bool:
        return await self._store(self._append_block(row))

    async def _store(self, commit: Coroutine[object, None, _T]) -> _T:
        fate = self.fate.pop(0) if self.fate else "stored"
        if fate == "lost":
            commit.close()
            raise StoreUnavailable("the database is away")
        stored = await commit
        if fate == "doubtful":
            raise StoreAmbiguous("the answer was lost")
        return stored

    @contextmanager
    def fails(self, *fate: str) -> Iterator[None]:
        """The next appends end so; `StoreError` is expected of what the block does."""
        self.fate = list(fate)
        with pytest.raises(StoreError):
            yield


@asynccontextmanager
async def bench(
    database_url: str, monkeypatch: pytest.MonkeyPatch, driver: str = "generic_lis2", **settings: object
) -> AsyncIterator[tuple[Laboratory, Store]]:
    # That an answer was taken, noted half a second later, would make of a message that comes again another one.
    monkeypatch.setattr(notes, "FLUSH_S", 3600.0)
    async with laboratory(database_url, driver) as lab:
        store = Store(lab)
        monkeypatch.setattr(lab.journal, "append", store.append)
        monkeypatch.setattr(lab.journal, "append_block", store.append_block)
        changed = replace(lab.context, settings=replace(lab.context.settings, **settings))  # type: ignore[arg-type]
        lab.intake = LinkIntake(changed, lab.journal)
        yield lab, store


async def give(lab: Laboratory, frames: Sequence[ReceivedFrame], end: str = "eot") -> list[Receipt]:
    transmission = lab.intake.frames(PEER)
    receipts = [await transmission.frame(one) for one in frames]
    await transmission.end(end)
    return receipts


async def stored(lab: Laboratory) -> list[StoredMessage]:
    """Every message in the journal, in the order of receipt, with its frames."""
    async with lab.database.organization(lab.organization_id) as connection:
        ids = [row["id"] for row in await connection.fetch("select id from lab.message order by id")]
        found = await read_messages(connection, ids)
    return [found[one] for one in ids]


async def states(lab: Laboratory) -> list[tuple[str, str | None, str]]:
    return [(one.state, one.settled, one.control_id) for one in await stored(lab)]


# ---- LIS01-A2 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 60, 240, 5000])
async def test_a_message_is_the_same_however_it_is_cut_into_frames(
    database_url: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    text = whole(b"C1")
    async with bench(database_url, monkeypatch) as (lab, _):
        await give(lab, cut(text, 100))
        await give(lab, cut(text, size))
        first, second = await stored(lab)
        assert message_text(first) == message_text(second) == text
        assert (second.settled, second.duplicate_of) == ("duplicate", first.id)


async def test_two_messages_in_one_frame_are_two(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(database_url, monkeypatch) as (lab, _):
        await give(lab, [frame(1, whole(b"C1") + whole(b"C2", b"8.1"))])
        one, two = await stored(lab)
        assert [message_text(one), message_text(two)] == [whole(b"C1"), whole(b"C2", b"8.1")]
        assert await states(lab) == [("complete", None, "C1"), ("complete", None, "C2")]


async def test_the_end_of_one_message_and_the_begin_of_the_next_share_a_frame(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = whole(b"C1"), whole(b"C2", b"8.1")
    async with bench(database_url, monkeypatch) as (lab, _):
        parts = (first[:-4], first[-4:] + second[:9], second[9:])
        receipts = await give(lab, [frame(at, part, last=at == 3) for at, part in enumerate(parts, 1)])
        assert [message_text(one) for one in await stored(lab)] == [first, second]
        assert [receipt.message_id is not None for receipt in receipts] == [False, True, True]


async def test_the_same_message_twice_in_one_frame_is_one_and_a_resend(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch) as (lab, _):
        await give(lab, [frame(1, whole(b"C1") * 2)])
        assert await states(lab) == [("complete", None, "C1"), ("complete", "duplicate", "C1")]
        await give(lab, [frame(1, whole(b"C1"))])
        assert (await states(lab))[2] == ("complete", "duplicate", "C1")


async def test_a_header_before_the_terminator_leaves_the_message_before_incomplete(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch) as (lab, _):
        await give(lab, [frame(1, HEADER % b"C1" + RECORDS), frame(2, whole(b"C2"))])
        assert await states(lab) == [("incomplete", None, "C1"), ("complete", None, "C2")]
        assert (await stored(lab))[0].reason == "header"


async def test_two_headers_in_one_frame_do_not_stop_the_link(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch) as (lab, _):
        await give(lab, [frame(1, HEADER % b"C1" + HEADER % b"C2" + HEADER % b"C3" + END)])
        assert await states(lab) == [("incomplete", None, "C1"), ("incomplete", None, "C2"), ("complete", None, "C3")]


async def test_a_nul_in_the_control_id_does_not_stop_the_link(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch) as (lab, _):
        await give(lab, [frame(1, whole(b"C\x001"))])
        assert await states(lab) == [("complete", None, "C\N{REPLACEMENT CHARACTER}1")]
        assert message_text((await stored(lab))[0]) == whole(b"C\x001")


@pytest.mark.parametrize("text", [b"R|1|^^^WBC|1\r", b"\x00\xff\xfe\r", b"x", b"L", b"H", b"HH\rHL|\r", b"\x80" * 300])
async def test_what_is_no_message_is_kept_and_decided(
    database_url: str, monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    async with bench(database_url, monkeypatch) as (lab, _):
        await give(lab, [frame(1, text), frame(2, whole(b"C2"))])
        assert b"".join(b"".join(f.bytes for f in one.frames[:1]) for one in await stored(lab)).count(text) >= 1
        await lab.settle()
        assert all(settled in ("held", "released") for _, settled, _ in await states(lab))


async def test_a_nul_in_a_specimens_id_is_held_for_a_person(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(database_url, monkeypatch) as (lab, _):
        await lab.order("S1", "WBC")
        await give(lab, [frame(1, whole(b"C1").replace(b"|S1|", b"|S\x001|"))])
        await lab.settle()
        assert await states(lab) == [("complete", "held", "C1")]
        assert len(await lab.results()) == 1


@pytest.mark.parametrize("fate", ["lost", "doubtful"])
@pytest.mark.parametrize("size", [40, 5000])
async def test_a_frame_repeated_after_a_failed_commit_is_stored_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch, fate: str, size: int
) -> None:
    async with bench(database_url, monkeypatch) as (lab, store):
        transmission = lab.intake.frames(PEER)
        for one in cut(whole(b"C1"), size):
            for _ in range(20):  # an analyzer that does not give up
                with store.fails(fate):
                    await transmission.frame(one)
            await transmission.frame(one)
        await transmission.end("eot")
        (message,) = await stored(lab)
        assert (message.state, message.settled, message_text(message)) == ("complete", None, whole(b"C1"))
        assert await lab.owner.fetchval("select count(*) from lab.frame") == len(message.frames)


@pytest.mark.parametrize("fate", ["lost", "doubtful"])
async def test_after_a_failed_commit_other_bytes_of_the_same_number_count(
    database_url: str, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    async with bench(database_url, monkeypatch) as (lab, store):
        transmission = lab.intake.frames(PEER)
        await transmission.frame(frame(1, HEADER % b"C1" + RECORDS))
        with store.fails(fate):
            await transmission.frame(frame(2, WBC % b"1.11"))
        await transmission.frame(frame(2, WBC % b"7.35"))
        await transmission.frame(frame(3, END))
        await transmission.end("eot")
        assert [message_text(one) for one in await stored(lab)] == [whole(b"C1")]


async def test_what_is_acknowledged_after_a_doubtful_end_of_a_message_is_never_lost(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The L frame was stored and nobody knew; the worker decides; the analyzer goes on with other bytes."""
    async with bench(database_url, monkeypatch) as (lab, store):
        await lab.order("S1", "WBC", "HGB")
        transmission = lab.intake.frames(PEER)
        await transmission.frame(frame(1, HEADER % b"C1" + RECORDS + WBC % b"7.35"))
        with store.fails("doubtful"):
            await transmission.frame(frame(2, END))
        await lab.settle()
        hgb = b"R|2|^^^HGB|12|g/dL||N||F||||20260102030000\r"
        taken = False
        for one in (frame(2, hgb), frame(3, END)):
            try:
                await transmission.frame(one)
                taken = True
            except StoreError:
                break
        await transmission.end("eot")
        if not taken:  # then the analyzer sends the whole message again
            await give(lab, [frame(1, HEADER % b"C1" + RECORDS + WBC % b"7.35" + hgb + END)])
        await lab.settle()
        assert [(view.code, view.status) for view in await lab.results()] == [
            ("WBC", ResultStatus.PRELIMINARY),
            ("HGB", ResultStatus.PRELIMINARY),
        ]


async def test_a_doubtful_message_that_is_sent_again_is_applied_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch) as (lab, store):
        transmission = lab.intake.frames(PEER)
        with store.fails("doubtful"):
            await transmission.frame(frame(1, whole(b"C1")))
        await transmission.end("eot")
        await give(lab, [frame(1, whole(b"C1"))])
        assert await states(lab) == [("complete", None, "C1"), ("complete", "duplicate", "C1")]


async def sealed(lab: Laboratory, number: int) -> list[tuple[str, str]]:
    """(state, reason) of every message, once none is open; the journal seals in a task of its own."""
    async with asyncio.timeout(20):
        while True:
            rows = await lab.owner.fetch("select state, reason from lab.message order by id")
            if len(rows) == number and all(row["state"] != "receiving" for row in rows):
                return [(row["state"], row["reason"]) for row in rows]
            await asyncio.sleep(0.01)


async def test_a_transmission_cut_while_the_store_is_away_is_sealed_when_it_is_back(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the next start of the daemon: what was acknowledged waits for a person."""
    async with bench(database_url, monkeypatch) as (lab, store):
        transmission = lab.intake.frames(PEER)
        await transmission.frame(frame(1, HEADER % b"C1" + RECORDS + WBC % b"7.35"))
        store.fate = ["lost"]
        await transmission.end("lost")
        assert await sealed(lab, 1) == [("incomplete", "lost")]
        assert await states(lab) == [("incomplete", None, "C1")]
        await lab.settle()
        assert len(await lab.results()) == 1


async def test_a_doubtful_first_frame_leaves_no_message_open(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch) as (lab, store):
        transmission = lab.intake.frames(PEER)
        with store.fails("doubtful"):
            await transmission.frame(frame(1, HEADER % b"C1"))
        await transmission.end("eot")
        assert await sealed(lab, 1) == [("incomplete", "eot")]


async def test_a_message_that_never_ends_is_refused_at_the_links_limit_and_the_link_goes_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch, max_message_bytes=1000) as (lab, _):
        transmission = lab.intake.frames(PEER)
        await transmission.frame(frame(1, HEADER % b"C1" + RECORDS))
        with pytest.raises(StoreError):
            for number in range(2, 30):
                await transmission.frame(frame(number, b"C|1|I|" + b"x" * 100 + b"|G\r"))
        await transmission.end("eot")
        await give(lab, [frame(1, whole(b"C2"))])
        assert await states(lab) == [("incomplete", None, "C1"), ("complete", None, "C2")]
        assert (await stored(lab))[0].bytes <= 1000


async def test_a_frame_of_many_headers_is_not_stored_whole_for_each_of_them(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row has its whole frame: 64 kB of `H|` would be 21,000 of them and more than a gigabyte in one statement."""
    async with bench(database_url, monkeypatch, max_message_bytes=1_000_000) as (lab, _):
        transmission = lab.intake.frames(PEER)
        with pytest.raises(StoreError):
            await transmission.frame(frame(1, b"H|\r" * 200 + b"C|1|I|" + b"x" * 60_000 + b"|G\r"))
        await transmission.end("aborted")
        await give(lab, [frame(1, whole(b"C1") + whole(b"C2"))])
        assert await states(lab) == [("complete", None, "C1"), ("complete", None, "C2")]


async def test_an_empty_frame_does_not_hide_a_query(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query is answered anew each time: it must not be taken for a resend."""
    async with bench(database_url, monkeypatch) as (lab, _):
        for _ in range(2):
            frames = [
                frame(1, HEADER % b"C1", last=False),
                frame(2, b"", last=False),
                frame(3, b"Q|1|^S1||ALL\r" + END),
            ]
            await give(lab, frames)
        assert [(one.message_type, one.settled) for one in await stored(lab)] == [("query", None)] * 2


# ---- HL7 -------------------------------------------------------------------------------------------------------------


def code(receipt: Receipt) -> bytes | None:
    """MSA-1 of the reply."""
    return code_of(receipt.reply)


def code_of(reply: bytes | None) -> bytes | None:
    if reply is None:
        return None
    return next(line for line in reply.split(b"\r") if line.startswith(b"MSA")).split(b"|")[1]


@pytest.mark.parametrize(
    ("accept", "application", "said"),
    [
        (b"", b"", b"AA"),
        (b"AL", b"NE", b"CA"),
        (b"NE", b"AL", b"AA"),
        (b"NE", b"NE", None),
        (b"ER", b"NE", None),
        (b"ER", b"AL", b"AA"),
    ],
)
async def test_a_stored_message_is_answered_as_its_sender_asks(
    database_url: str, monkeypatch: pytest.MonkeyPatch, accept: bytes, application: bytes, said: bytes | None
) -> None:
    block = ORU % (accept, application)
    async with bench(database_url, monkeypatch, "generic_hl7") as (lab, _):
        receipt = await lab.intake.block(block, PEER)
        assert code(receipt) == said
        (message,) = await stored(lab)
        assert receipt.message_id == message.id
        assert message_text(message) == block


async def test_a_sender_that_asks_for_both_acknowledgements_gets_both(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch, "generic_hl7") as (lab, _):
        receipt = await lab.intake.block(ORU % (b"AL", b"AL"), PEER)
        assert (code_of(receipt.reply), *map(code_of, receipt.then)) == (b"CA", b"AA")
        assert receipt.reply is not None
        assert receipt.reply.split(b"|")[9] != receipt.then[0].split(b"|")[9], "each has a control id of its own"


@pytest.mark.parametrize(
    ("ack", "said", "refused", "lost"),
    [
        (AckPolicy.ORIGINAL, b"AA", b"AE", b"AR"),
        (AckPolicy.ACCEPT, b"CA", b"CE", b"CE"),
        (AckPolicy.NONE, None, None, None),
    ],
)
@pytest.mark.parametrize("accept", [b"", b"AL", b"NE"])
async def test_a_links_ack_policy_stands_above_what_the_message_asks(
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    ack: AckPolicy,
    said: bytes | None,
    refused: bytes | None,
    lost: bytes | None,
    accept: bytes,
) -> None:
    block = ORU % (accept, b"")
    async with bench(database_url, monkeypatch, "generic_hl7", ack=ack) as (lab, store):
        store.fate = ["lost"]
        failed = await lab.intake.block(block, PEER)
        assert (code(failed), failed.message_id) == (lost, None)
        assert failed.close is (ack is AckPolicy.NONE), "nothing else would tell the sender"
        assert code(await lab.intake.block(block, PEER)) == said
        assert code(await lab.intake.block(block.replace(b"OBX|", b"O!X|"), PEER)) == refused
        assert [settled for _, settled, _ in await states(lab)] == [None, "rejected"]


async def test_an_acknowledgement_is_kept_and_not_answered(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block = PLAIN.replace(b"ORU^R01^ORU_R01", b"ACK^R01^ACK")
    async with bench(database_url, monkeypatch, "generic_hl7") as (lab, store):
        receipt = await lab.intake.block(block, PEER)
        assert (receipt.reply, receipt.then, receipt.close) == (None, (), False)
        assert await states(lab) == [("complete", "rejected", "7")]
        store.fate = ["lost"]
        assert await lab.intake.block(block, PEER) == Receipt()


@pytest.mark.parametrize(
    ("block", "said", "error"),
    [
        (PLAIN.replace(b"OBX|", b"O!X|"), b"AE", b"100"),
        (PLAIN.replace(b"|7|P|", b"||P|"), b"AE", b"101"),
        (b"garbage", b"AE", b"100"),
        (b"\x00\xff" * 40, b"AE", b"100"),
        (PLAIN.replace(b"ORU^R01^ORU_R01", b"ADT^A01"), b"AR", b"200"),
        (PLAIN.replace(b"ORU^R01^ORU_R01", b"ORU^R99"), b"AR", b"201"),
        (PLAIN.replace(b"|7|P|2", b"|7|X|2"), b"AR", b"202"),
        (PLAIN.replace(b"2.5.1", b"3.0"), b"AR", b"203"),
        (PLAIN.replace(b"2.5.1", b"\xb2.5"), b"AR", b"203"),
        ((ORU % (b"AL", b"NE")).replace(b"ORU^R01^ORU_R01", b"ADT^A01"), b"CR", b"200"),
        ((ORU % (b"AL", b"NE")).replace(b"OBX|", b"O!X|"), b"CE", b"100"),
    ],
)
async def test_what_is_refused_is_told_why_and_kept(
    database_url: str, monkeypatch: pytest.MonkeyPatch, block: bytes, said: bytes, error: bytes
) -> None:
    async with bench(database_url, monkeypatch, "generic_hl7") as (lab, _):
        receipt = await lab.intake.block(block, PEER)
        assert code(receipt) == said
        assert receipt.reply is not None
        assert b"\rERR|" in receipt.reply
        assert error in receipt.reply.split(b"\rERR|")[1]
        (message,) = await stored(lab)
        assert (message.settled, message_text(message)) == ("rejected", block)
        await lab.settle()
        assert await lab.results() == []
        assert code(await lab.intake.block(block, PEER)) == said, "a refusal is no message to be resent"


async def test_a_hospital_link_takes_no_results(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(database_url, monkeypatch, "generic_hl7", role=LinkRole.HOSPITAL) as (lab, _):
        assert code(await lab.intake.block(PLAIN, PEER)) == b"AR"
        assert await states(lab) == [("complete", "rejected", "7")]


@pytest.mark.parametrize("fate", ["lost", "doubtful"])
@pytest.mark.parametrize(
    ("policy", "accept", "said"),
    [
        (OnStoreFailure.AR, b"", b"AR"),
        (OnStoreFailure.AR, b"AL", b"CE"),
        (OnStoreFailure.AE, b"", b"AE"),
        (OnStoreFailure.AE, b"AL", b"CE"),
        (OnStoreFailure.CLOSE, b"", None),
    ],
)
async def test_a_failed_commit_is_never_answered_positively_and_the_resend_is_applied_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch, fate: str, policy: OnStoreFailure, accept: bytes, said: bytes
) -> None:
    block = ORU % (accept, b"")
    async with bench(database_url, monkeypatch, "generic_hl7", on_store_failure=policy) as (lab, store):
        store.fate = [fate]
        receipt = await lab.intake.block(block, PEER)
        assert code(receipt) == said
        assert receipt.message_id is None
        assert receipt.close is (policy is OnStoreFailure.CLOSE)
        if receipt.reply is not None:
            assert b"207" in receipt.reply
        assert code(await lab.intake.block(block, PEER)) == (b"CA" if accept else b"AA")
        await lab.settle()
        applied = [settled for _, settled, _ in await states(lab) if settled != "duplicate"]
        assert len(applied) == 1
        assert len(await lab.results()) == 1


async def test_a_refusal_does_not_need_the_store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(database_url, monkeypatch, "generic_hl7") as (lab, store):
        store.fate = ["lost"]
        assert code(await lab.intake.block(b"garbage", PEER)) == b"AE"
        assert await states(lab) == []


async def test_of_blocks_that_come_together_only_the_broken_one_is_refused(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [PLAIN.replace(b"|7|P|", b"|%d|P|" % number) for number in range(1, 6)]
    blocks[2] = blocks[2].replace(b"OBX|", b"O!X|")
    async with bench(database_url, monkeypatch, "generic_hl7") as (lab, _):
        receipts = await asyncio.gather(*(lab.intake.block(block, PEER) for block in blocks))
        assert [code(receipt) for receipt in receipts] == [b"AA", b"AA", b"AE", b"AA", b"AA"]
        assert [settled for _, settled, _ in await states(lab)] == [None, None, "rejected", None, None]


async def test_two_connections_of_one_analyzer_do_not_mix(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(database_url, monkeypatch) as (lab, _):
        one, other = lab.intake.frames("127.0.0.1:1"), lab.intake.frames("127.0.0.1:2")
        for left, right in zip(cut(whole(b"C1"), 30), cut(whole(b"C2", b"8.1"), 30), strict=True):
            await asyncio.gather(one.frame(left), other.frame(right))
        assert {message_text(message) for message in await stored(lab)} == {whole(b"C1"), whole(b"C2", b"8.1")}


async def test_a_clock_that_goes_back_neither_loses_nor_doubles(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database_url, monkeypatch) as (lab, _):
        now = iter(["2026-05-05T12:00:00+00:00"] * 3 + ["2026-05-03T00:00:00+00:00"] * 6)
        lab.intake = LinkIntake(lab.context, lab.journal, lambda: datetime.fromisoformat(next(now)))
        await give(lab, [frame(1, whole(b"C1"))])
        await give(lab, [frame(1, whole(b"C1"))])
        await give(lab, [frame(1, whole(b"C2", b"8.1"))])
        assert await states(lab) == [
            ("complete", None, "C1"),
            ("complete", "duplicate", "C1"),
            ("complete", None, "C2"),
        ]
