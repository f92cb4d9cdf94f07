"""HL7 in LIS01-A2 frames, from the frames to decided results: a message to the next MSH or to EOT."""

from __future__ import annotations

from interface.flow.message import message_text
from interface.link.intake import ReceivedFrame
from interface.store.stored_messages import read_messages
from interface.wire.frames import build_frame, parse_frame
from tests.flow.laboratory import Laboratory, laboratory

DRIVER = "generic_hl7_lis01"


def oru(control_id: str, specimen: str, value: str = "5.10") -> bytes:
    return (
        f"MSH|^~\\&|LabOne|LAB|||20260105121500||ORU^R01^ORU_R01|{control_id}|P|2.5.1\r"
        f"PID|1||P-1\rOBR|1|||GLU\rOBX|1|NM|2345-7^Glucose^LN||{value}|mg/dL|||||F\rSPM|1|{specimen}\r"
    ).encode()


async def send(lab: Laboratory, text: bytes, *, at: int = 60, end: str = "eot") -> None:
    """A session: the text cut into frames of `at` bytes, ETX at the last."""
    transmission = lab.intake.frames("127.0.0.1:1")
    parts = [text[start : start + at] for start in range(0, len(text), at)]
    for number, part in enumerate(parts, start=1):
        raw = build_frame(number, part, number == len(parts))
        fn, body, last = parse_frame(raw)
        await transmission.frame(ReceivedFrame(fn, raw, body, last))
    await transmission.end(end)


async def told(lab: Laboratory) -> list[tuple[str, str, str | None, str, bytes]]:
    """(protocol, state, settled, control id, text) of every message."""
    ids = [row["id"] for row in await lab.owner.fetch("select id from lab.message order by id")]
    async with lab.database.organization(lab.organization_id) as connection:
        found = await read_messages(connection, ids)
    return [(m.protocol, m.state, m.settled, m.control_id, message_text(m)) for m in map(found.__getitem__, ids)]


async def test_eot_ends_a_message(database_url: str) -> None:
    async with laboratory(database_url, DRIVER) as lab:
        await lab.order("S-1", "GLU")
        await send(lab, oru("C1", "S-1"))
        assert await told(lab) == [("hl7", "complete", None, "C1", oru("C1", "S-1"))]
        await lab.settle()
        (result,) = await lab.results()
        assert (result.code, result.raw_value, result.held) == ("2345-7", "5.10", ())
        assert result.specimen_id is not None


async def test_the_next_header_ends_a_message_and_a_resend_is_not_doubled(database_url: str) -> None:
    async with laboratory(database_url, DRIVER) as lab:
        both = oru("C1", "S-1") + oru("C2", "S-2")
        for at in (40, 240, 10_000):
            await send(lab, both, at=at)
        await lab.settle()
        found = await told(lab)
        assert [(state, control_id) for _, state, _, control_id, _ in found] == [
            ("complete", "C1"),
            ("complete", "C2"),
        ] * 3
        assert [settled for _, _, settled, _, _ in found] == ["held", "held"] + ["duplicate"] * 4
        assert len(await lab.results()) == 2


async def test_a_session_that_is_cut_leaves_its_last_message_incomplete(database_url: str) -> None:
    async with laboratory(database_url, DRIVER) as lab:
        await send(lab, oru("C1", "S-1") + oru("C2", "S-2")[:-20], end="lost")
        await send(lab, oru("C3", "S-3"), end="timeout")
        assert [(state, control_id) for _, state, _, control_id, _ in await told(lab)] == [
            ("complete", "C1"), ("incomplete", "C2"), ("incomplete", "C3"),
        ]  # fmt: skip


async def test_the_same_message_twice_in_one_frame_counts_once(database_url: str) -> None:
    async with laboratory(database_url, DRIVER) as lab:
        await send(lab, oru("C1", "S-1") * 2 + oru("C2", "S-2"), at=10_000)
        await lab.settle()
        assert [settled for _, _, settled, _, _ in await told(lab)] == ["held", "duplicate", "held"]
