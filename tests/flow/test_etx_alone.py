"""A record that a frame of ETX alone ends: the analyzer cut its text at a length that fell on the record's end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from interface.link.intake import ReceivedFrame
from interface.wire import lis01
from interface.wire.frames import build_frame
from tests.flow.laboratory import HEADER, Laboratory, laboratory


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "generic_lis2") as made:
        yield made


def through_the_data_link(raws: list[bytes]) -> list[ReceivedFrame]:
    core = lis01.DataLink(lis01.Station.HOST)
    core.receive(b"\x05")
    made: list[ReceivedFrame] = []
    while core.next_event():
        pass
    for raw in raws:
        core.receive(raw)
        while (event := core.next_event()) is not None:
            if isinstance(event, lis01.LeniencyUsed):  # missing_final_cr, which every link takes
                continue
            assert isinstance(event, lis01.FrameReceived), event
            made.append(ReceivedFrame(event.fn, event.raw, event.text, event.last))
            core.stored()
    return made


HEAD = [(HEADER.format(control="C1").encode(), True), (b"P|1", True), (b"O|1|S-1||^^^2345-7", True)]
GLUCOSE, SODIUM = b"R|1|^^^2345-7|5.1|mmol/L||N||F", b"R|2|^^^2951-2|140|mmol/L||N||F"


@pytest.mark.parametrize(
    "open_records",
    [
        [(GLUCOSE, False)],
        [(GLUCOSE, True), (b"C|1|I|measured twice|G", False)],  # the result behind it was lost without a word
    ],
    ids=["result", "comment"],
)
async def test_a_record_that_etx_alone_ends_does_not_begin_the_next(
    lab: Laboratory, open_records: list[tuple[bytes, bool]]
) -> None:
    await lab.order("S-1", "GLU", "NA")
    texts = [*HEAD, *open_records, (b"", True), (SODIUM, True), (b"L|1|N", True)]
    raws = [build_frame((at + 1) % 8, text, last) for at, (text, last) in enumerate(texts)]
    transmission = lab.intake.frames("127.0.0.1:1")
    for frame in through_the_data_link(raws):
        await transmission.frame(frame)
    await transmission.end("eot")
    await lab.settle()
    rows = await lab.owner.fetch("select code, raw_value from lab.result_version order by id")
    assert [(row["code"], row["raw_value"]) for row in rows] == [("2345-7", "5.1"), ("2951-2", "140")]
