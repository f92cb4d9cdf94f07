"""What an analyzer may do on the wire: the daemon's answer, and what its journal holds afterwards (PROTOCOLS §1)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeAlias

import asyncpg
import pytest

from interface.flow.message import message_text
from interface.settings import Address
from interface.store.db import Database
from interface.store.embedded import EmbeddedPostgres
from interface.store.schema import OWNER_ROLE
from interface.store.stored_messages import StoredMessage, read_messages
from interface.wire.frames import build_frame
from interface.wire.mllp import encode
from interface.wire.wirelog import Noted, What, decode
from tests.cluster import new_state_dir
from tests.e2e.daemon import PATIENCE_S, eventually, running

ENQ, EOT, ACK, NAK = b"\x05", b"\x04", b"\x06", b"\x15"
Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Bench:
    astm: Address
    hl7: Address
    owner: Owner
    database: Database

    async def mark(self) -> None:
        """Forget what earlier tests left: the journal is read from here on."""
        await self.owner.execute("create table if not exists public.mark (at uuid)")
        await self.owner.execute("delete from public.mark")
        await self.owner.execute("insert into public.mark select (select id from lab.message order by id desc limit 1)")

    async def messages(self) -> list[StoredMessage]:
        """The messages since the mark, sealed, with their frames."""
        rows = await self.owner.fetch(
            """select m.id, m.organization_id from lab.message m, public.mark
               where mark.at is null or m.id > mark.at order by m.id"""
        )
        if not rows:
            return []
        async with self.database.organization(rows[0]["organization_id"]) as connection:
            found = await read_messages(connection, [row["id"] for row in rows])
        return [found[row["id"]] for row in rows]

    async def settled(self, number: int) -> list[tuple[str, bytes]]:
        """(state, text) of the messages since the mark, once there are so many and each is settled."""

        async def probe() -> list[StoredMessage] | None:
            found = await self.messages()
            return found if len(found) == number and all(one.settled for one in found) else None

        return [(one.state, message_text(one)) for one in await eventually(probe)]


@pytest.fixture(scope="module")
async def daemon() -> AsyncIterator[Bench]:
    state_dir = new_state_dir()
    server = EmbeddedPostgres(state_dir)
    await server.start()
    (daemon_dir := state_dir / "daemon").mkdir()
    try:
        async with running(daemon_dir, server.url(OWNER_ROLE)) as started:
            owner = await asyncpg.connect(server.url(OWNER_ROLE))
            database = await Database.connect(server.url(OWNER_ROLE))
            yield Bench(started.links["astm"], started.links["hl7"], owner, database)
            await database.close()
            await owner.close()
    finally:
        await server.stop()
        shutil.rmtree(state_dir, ignore_errors=True)


class Line:
    """The analyzer's end of a connection."""

    def __init__(self, bench: Bench, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.bench, self.reader, self.writer = bench, reader, writer

    async def talk(self, *parts: tuple[bytes, bytes]) -> None:
        """Send and expect in turn."""
        for said, answer in parts:
            self.writer.write(said)
            await self.writer.drain()
            async with asyncio.timeout(PATIENCE_S):
                assert await self.reader.readexactly(len(answer)) == answer

    async def rejects(self, number: int) -> list[str]:
        """Why bytes were refused on this connection, once there are so many reasons in its log."""
        host, port = self.writer.get_extra_info("sockname")

        async def probe() -> list[str] | None:
            rows = await self.bench.owner.fetch(
                "select events from lab.wire_log where peer = $1 order by id", str(Address(host, port))
            )
            events = [event for row in rows for event in decode(row["events"])]
            found = [event.text for event in events if isinstance(event, Noted) and event.what is What.REFUSED]
            return found if len(found) >= number else None

        return await eventually(probe)

    async def silent(self) -> None:
        """The host has said nothing more: its next words answer the ENQ and EOT that are sent now."""
        await self.talk((ENQ, ACK), (EOT, b""))


@pytest.fixture
async def line(daemon: Bench) -> AsyncIterator[Line]:
    await daemon.mark()
    reader, writer = await asyncio.open_connection(daemon.astm.host, daemon.astm.port)
    yield Line(daemon, reader, writer)
    writer.close()


def texts(control: str, end: bytes = b"\r") -> list[bytes]:
    """The records of a message that no other test sends."""
    records = [
        b"H|\\^&|%s||Testmaker^Bench^1||||||||LIS2-A2|20260102030405" % control.encode(), b"P|1||P-1",
        b"O|1|S-%s||^^^CBC|R" % control.encode(), b"R|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030000", b"L|1|N",
    ]  # fmt: skip
    return [record + end for record in records]


def frames(records: list[bytes]) -> list[bytes]:
    return [build_frame(number, text, True) for number, text in enumerate(records, 1)]


async def test_bytes_one_at_a_time(line: Line) -> None:
    records = texts("one")
    for code in ENQ + b"".join(frames(records)) + EOT:
        line.writer.write(bytes([code]))
        await line.writer.drain()
        await asyncio.sleep(0)
    await line.talk((b"", ACK * 6))
    assert await line.bench.settled(1) == [("complete", b"".join(records))]
    await line.silent()


async def test_two_frames_in_one_read(line: Line) -> None:
    records = texts("two")
    h, p, o, r, end = frames(records)
    await line.talk((ENQ, ACK), (h + p, ACK * 2), (o + r + end + EOT + ENQ, ACK * 4), (EOT, b""))
    assert await line.bench.settled(1) == [("complete", b"".join(records))]
    await line.silent()


async def test_a_frame_split_across_reads(line: Line) -> None:
    records = texts("split")
    h, *rest = frames(records)
    await line.talk((ENQ, ACK))
    for piece in (h[:1], h[1:2], h[2:20], h[20:-4], h[-4:-3], h[-3:-1]):
        line.writer.write(piece)
        await line.writer.drain()
        await asyncio.sleep(0)
    assert await line.bench.messages() == [], "nothing is kept of a frame that is not whole"
    await line.talk((h[-1:], ACK), *((one, ACK) for one in rest), (EOT, b""))
    assert await line.bench.settled(1) == [("complete", b"".join(records))]
    await line.silent()


async def test_each_frame_is_in_the_journal_when_its_ack_is_there(line: Line) -> None:
    await line.talk((ENQ, ACK))
    for number, one in enumerate(frames(texts("each")), 1):
        await line.talk((one, ACK))
        (message,) = await line.bench.messages()
        assert message.frames[-1].bytes == one
        assert len(message.frames) == number
        assert (message.state == "complete") is (number == 5)


async def test_a_wrong_checksum(line: Line) -> None:
    records = texts("sum")
    h, *rest = frames(records)
    await line.talk((ENQ, ACK), (h.replace(b"H|", b"H!"), NAK), (h, ACK), *((one, ACK) for one in rest), (EOT, b""))
    assert await line.bench.settled(1) == [("complete", b"".join(records))]
    assert await line.rejects(1) == ["checksum"]
    await line.silent()


async def test_refused_bytes_are_kept_though_nothing_good_ever_comes(line: Line) -> None:
    """The one who looks for the bad cable has nothing else to look at."""
    await line.talk((ENQ, ACK), (frames(texts("bad"))[0].replace(b"H|", b"H!"), NAK))
    assert await line.rejects(1) == ["checksum"]
    assert await line.bench.messages() == []


async def test_a_repeated_frame(line: Line) -> None:
    records = texts("repeat")
    everything = [(one, ACK) for one in frames(records) for _ in range(2)]
    await line.talk((ENQ, ACK), *everything, (EOT, b""))
    assert await line.bench.settled(1) == [("complete", b"".join(records))]
    (message,) = await line.bench.messages()
    assert len(message.frames) == 5
    await line.silent()


async def test_the_same_number_with_other_bytes_and_a_gap(line: Line) -> None:
    records = texts("same")
    h, p, o, r, end = frames(records)
    other = build_frame(2, b"P|1||P-2\r", True)
    await line.talk((ENQ, ACK), (h, ACK), (p, ACK), (other, NAK), (r, NAK), (o, ACK), (r, ACK), (end, ACK), (EOT, b""))
    assert await line.bench.settled(1) == [("complete", b"".join(records))]
    assert await line.rejects(2) == ["same_fn", "gap"]
    await line.silent()


async def test_garbage_before_stx(line: Line) -> None:
    records = texts("garbage")
    await line.talk((b"\x00\xffnoise" + ENQ, ACK), *((b"~\x06\x15#" + one, ACK) for one in frames(records)), (EOT, b""))
    assert await line.bench.settled(1) == [("complete", b"".join(records))]
    assert set(await line.rejects(6)) == {"skipped"}
    await line.silent()


async def test_an_oversize_frame(line: Line) -> None:
    records = texts("oversize")
    h, *rest = frames(records)
    big = build_frame(2, b"C|1|I|" + b"x" * 70_000 + b"|G\r", True)
    await line.talk((ENQ, ACK), (h, ACK), (big, NAK), *((one, ACK) for one in rest), (EOT, b""))
    assert await line.bench.settled(1) == [("complete", b"".join(records))]
    assert await line.rejects(1) == ["oversize"]
    await line.silent()


async def test_an_empty_session(line: Line) -> None:
    await line.talk((ENQ, ACK), (EOT, b""), (ENQ + EOT, ACK), (ENQ + EOT + ENQ + EOT, ACK * 2))
    await line.silent()
    assert await line.bench.messages() == []


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=["LF", "CRLF", "none"])
async def test_other_record_ends(line: Line, end: bytes) -> None:
    records = texts(f"end{end.hex()}", end)
    await line.talk((ENQ, ACK), *((one, ACK) for one in frames(records)), (EOT, b""))
    assembled = b"".join(record + (b"" if end else b"\r") for record in records)
    assert await line.bench.settled(1) == [("complete", assembled)]
    count = await line.bench.owner.fetchval(
        "select count(*) from lab.result_version where message_id = $1", (await line.bench.messages())[0].id
    )
    assert count == 1
    await line.silent()


async def test_a_message_with_no_terminator_is_kept_incomplete(line: Line) -> None:
    records = texts("noend")[:-1]
    await line.talk((ENQ, ACK), *((one, ACK) for one in frames(records)), (EOT, b""))
    assert await line.bench.settled(1) == [("incomplete", b"".join(records))]
    held = await line.bench.owner.fetch(
        "select held from lab.result_version where message_id = $1", (await line.bench.messages())[0].id
    )
    assert ["incomplete_transmission" in row["held"] for row in held] == [True]
    await line.silent()


async def test_a_line_cut_in_a_frame_keeps_what_was_acknowledged(line: Line) -> None:
    records = texts("cut")
    h, p, o, r, _ = frames(records)
    await line.talk((ENQ, ACK), (h, ACK), (p, ACK), (o, ACK), (r[:9], b""))
    line.writer.close()
    assert await line.bench.settled(1) == [("incomplete", b"".join(records[:3]))]


async def test_enq_in_a_session_begins_anew_and_nothing_acknowledged_is_lost(line: Line) -> None:
    records = texts("anew")
    h, p, *rest = frames(records)
    await line.talk((ENQ, ACK), (h, ACK), (p, ACK), (ENQ, ACK), (h, ACK), (p, ACK), *((one, ACK) for one in rest))
    found = await line.bench.settled(2)
    assert found == [("incomplete", b"".join(records[:2])), ("complete", b"".join(records))]


async def test_no_frame_stops_the_link(line: Line) -> None:
    """Two headers, the same message twice, a NUL where a text column is: each in one frame."""
    message = b"".join(texts("twice"))
    odd = [b"H|\\^&|a\rH|\\^&|b\rL|1\r", message * 2, message.replace(b"twice", b"tw\x00ce"), b"\x00\r", b"L|1\r"]
    await line.talk((ENQ, ACK), *((build_frame(number, text, True), ACK) for number, text in enumerate(odd, 1)))
    await line.talk((EOT, b""))
    found = await line.bench.settled(6)
    assert b"".join(text for _, text in found) == b"".join(odd)
    await line.silent()


async def test_hl7_blocks_that_come_together_are_each_answered_and_kept(daemon: Bench) -> None:
    await daemon.mark()
    head = b"MSH|^~\\&|BENCH|LAB|L|LAB|20260102||%s|W%d|P|2.5.1\rPID|1\rOBR|1||S-W|CBC\rOBX|1|NM|1^K||4|m||N|||F\r"
    blocks = [head % (b"ADT^A01" if number == 2 else b"ORU^R01^ORU_R01", number) for number in range(5)]
    reader, writer = await asyncio.open_connection(daemon.hl7.host, daemon.hl7.port)
    writer.write(b"".join(map(encode, blocks)))
    said = [await reader.readuntil(b"\x1c\r") for _ in blocks]
    writer.close()
    codes = [b"MSA|AR|W2" if number == 2 else b"MSA|AA|W%d" % number for number in range(5)]
    assert all(code in one for code, one in zip(codes, said, strict=True))
    assert [text for _, text in await daemon.settled(5)] == blocks
