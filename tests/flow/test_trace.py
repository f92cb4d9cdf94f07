from __future__ import annotations

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.driver import registry
from interface.flow import review
from interface.flow.trace import Trace, TracedRecord, trace
from interface.link.intake import ReceivedFrame
from interface.store.db import Database
from interface.store.ids import uuid7
from interface.wire.frames import parse_frame
from interface.wire.trace import Direction, parse_trace
from tests.conftest import Organization
from tests.flow.laboratory import laboratory as pipeline
from tests.records import Laboratory, found, order, store_message

# A record cut by ETB, record ends of both kinds, and a record that ETX ends.
FRAMES = (
    (1, b"\x021H|\\^&|||x\r\nP|1\rO|1|S1\rR|1|^^^HB|13\x1700\r\n"),
    (2, b"\x022.5|g/dL\r\x1700\r\n"),
    (3, b"\x023R|2|^^^WBC|7.0\x0300\r\n"),
    (4, b"\x024L|1|N\r\x0300\r\n"),
)


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


async def traced(laboratory: Laboratory, barcode: str) -> Trace:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        return await trace(connection, barcode)


async def test_a_trace_leads_from_the_bytes_to_the_release(laboratory: Laboratory) -> None:
    of = await laboratory.order(order(barcode="S1"))
    message_id = await store_message(laboratory, *FRAMES)
    result_id = await laboratory.result(of, "13.5", message_id=message_id, location="R 1")
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await review.release(connection, laboratory.technologist, result_id, "seen")
    found = await traced(laboratory, "S1")
    assert [one.order_id for one in found.specimens] == [of.id]
    [message] = found.messages
    assert (message.id, message.link, message.settled, message.reply) == (message_id, "hema-1", "released", "sent")
    assert [(frame.ordinal, frame.fn, frame.size_bytes) for frame in message.frames] == [
        (ordinal, fn, len(data)) for ordinal, (fn, data) in enumerate(FRAMES)
    ]
    [result] = found.results
    first, final = result.versions
    assert first.record == TracedRecord("R 1", "R|1|^^^HB|13.5|g/dL", 22, 41, (0, 1))
    assert (first.made_by, first.driver_revision, first.map_revision) == ("link hema-1", "test 1", 1)
    assert [step.step for step in first.steps] == ["decode", "map"]
    assert (final.status, final.made_by) == (ResultStatus.FINAL, "user")
    assert [(step.step, step.verdict) for step in final.steps][-1] == ("release", "ok")
    assert [(owed.version, owed.position, owed.sealed_at) for owed in result.owed] == [(2, None, None)]


async def test_a_record_is_found_in_the_frame_that_carries_it(laboratory: Laboratory) -> None:
    of = await laboratory.order(order(barcode="S1"))
    message_id = await store_message(laboratory, *FRAMES)
    await laboratory.result(of, message_id=message_id, location="R 2")
    [version] = (await traced(laboratory, "S1")).results[0].versions
    assert version.record is not None
    assert (version.record.text, version.record.frames) == ("R|2|^^^WBC|7.0", (2,))


async def test_a_segment_is_found_in_its_block(laboratory: Laboratory) -> None:
    of = await laboratory.order(order(barcode="S1"))
    block = b"MSH|^~\\&|A\rPID|1\rOBX|1|NM|HB||13.5\rOBX|2|NM|WBC||7\r"
    message_id = await store_message(laboratory, (None, block))
    await laboratory.result(of, message_id=message_id, location="OBX^2")
    [version] = (await traced(laboratory, "S1")).results[0].versions
    assert version.record is not None
    assert (version.record.text, version.record.frames) == ("OBX|2|NM|WBC||7", (0,))
    assert block[version.record.start : version.record.stop] == b"OBX|2|NM|WBC||7"


@pytest.mark.parametrize("location", ["R 9", "OBX^1", "", "nowhere"])
async def test_a_record_that_is_not_there_is_not_guessed(laboratory: Laboratory, location: str) -> None:
    of = await laboratory.order(order(barcode="S1"))
    message_id = await store_message(laboratory, *FRAMES)
    await laboratory.result(of, message_id=message_id, location=location)
    assert (await traced(laboratory, "S1")).results[0].versions[0].record is None


async def test_a_held_result_of_a_specimen_nobody_ordered_is_traced_too(laboratory: Laboratory) -> None:
    held = (HoldReason.NO_SUCH_SPECIMEN,)
    result_id = await laboratory.result(None, status=ResultStatus.REGISTERED, held=held, barcode="stray")
    found = await traced(laboratory, "stray")
    assert found.specimens == ()
    assert [(one.current.id, one.current.held) for one in found.results] == [(result_id, held)]


async def test_nothing_is_known_of_an_unknown_or_anothers_specimen(
    laboratory: Laboratory, other_organization: Organization
) -> None:
    other = await found(laboratory.database, other_organization.id)
    await other.result(await other.order(order(barcode="S1")), message_id=uuid7())
    assert await traced(laboratory, "S1") == Trace("S1", (), (), ())


def sent(driver: str, name: str) -> list[bytes]:
    """What the analyzer sends in a vector: its frames, or its block."""
    text = (registry.packaged_path() / driver / "vectors" / f"{name}.trace").read_text()
    data = parse_trace(text).bytes_of(Direction.ANALYZER)
    if driver == "mindray_bc5380":
        return [data.strip(b"\x0b\x1c\r") + b"\r"]
    return [part for part in data.replace(b"\x04", b"\x05").split(b"\x05") if part]


@pytest.mark.parametrize("driver", ["sysmex_xn", "roche_cobas_c311", "mindray_bc5380"])
async def test_every_result_of_a_real_message_is_followed_to_its_own_record(database_url: str, driver: str) -> None:
    async with pipeline(database_url, driver) as lab:
        for part in sent(driver, "result-1"):
            if driver == "mindray_bc5380":
                await lab.intake.block(part, "127.0.0.1:1")
            else:
                transmission = lab.intake.frames("127.0.0.1:1")
                fn, text, last = parse_frame(part)
                await transmission.frame(ReceivedFrame(fn, part, text, last))
                await transmission.end("eot")
        await lab.settle()
        results = await lab.results()
        assert len(results) > 4
        async with lab.database.transaction(lab.organization_id) as connection:
            found = await trace(connection, results[0].barcode)
        assert len(found.results) == len(results)
        for result in found.results:
            (version,) = result.versions
            assert version.record is not None
            assert result.current.raw_value in version.record.text
            assert f"^{result.current.code}" in version.record.text or f"|{result.current.code}^" in version.record.text
            assert version.driver_revision == f"{driver} {lab.context.driver.revision}"
            assert [step.step for step in version.steps][:4] == ["receive", "decode", "map", "match"]
            received, decoded = version.steps[:2]
            assert received.inputs == {"message": str(found.messages[0].id), "location": version.record.location}
            assert (decoded.inputs["code"], decoded.inputs["value"]) == (result.current.code, result.current.raw_value)
