"""What a simulated analyzer says is what was meant: composed, framed, received and decoded, for every driver."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from interface.cli.loopback import MemoryIntake, loop_back
from interface.domain.model import Protocol, SpecimenRole
from interface.domain.values import numeric
from interface.driver import registry
from interface.driver.compose import compose, compose_query
from interface.driver.manifest import LinkFraming
from interface.driver.planned import Run, Stamp, again, flagged, timed
from interface.driver.repertoire import repertoire
from interface.errors import DriverError
from interface.link.base import LinkSpec
from interface.settings import TransportType
from interface.simulator.analyzer import Model
from interface.simulator.framing import frame_habit, framed
from interface.simulator.invent import Dice, control_id, measure, specimen_ids
from interface.simulator.source import PlayProtocol, Source
from interface.wire import declared, lis01, mllp
from interface.wire.datalink_events import Leniency
from interface.wire.hl7_frames import Hl7Splitter
from interface.wire.transmission import MessageSplitter, part_text
from tests.analyzers import modelled
from tests.link.bench import HastyClock, settings

AT = datetime(2026, 2, 3, 4, 5, 6)  # noqa: DTZ001 - an instrument's clock has no zone
HOSPITALS = {"generic_hospital"}  # it orders, and measures nothing
DRIVERS = [driver.id for driver in registry.find_all() if driver.id not in HOSPITALS]


def received(one: Model, source: Source) -> list[bytes]:
    """The messages that a host makes of what is sent, with no more leniencies than the driver has."""
    driver = one.driver
    if source.protocol is PlayProtocol.MLLP:
        decoder = mllp.Decoder()
        events = decoder.receive(b"".join(mllp.encode(part) for parts in source.transmissions for part in parts))
        return [event.block for event in events if isinstance(event, mllp.BlockReceived)]
    if source.grammar is not None and driver.blocks is not None:
        blocks: list[bytes] = []
        for part in (part for parts in source.transmissions for part in parts):
            reader = declared.Decoder(source.grammar)
            heard = reader.receive(part) + reader.silence()
            blocks += [event.text for event in heard if isinstance(event, declared.BlockReceived)]
        return blocks
    options = lis01.LinkOptions(leniencies=frozenset(map(Leniency, driver.leniencies)))
    made: list[bytearray] = []
    for parts in source.transmissions:
        link = lis01.DataLink(lis01.Station.HOST, options)
        splitter = Hl7Splitter() if driver.protocol is Protocol.HL7 else MessageSplitter()
        for data in parts if one.habit.bare else (b"\x05", *parts, b"\x04"):
            link.receive(data)
            while (event := link.next_event()) is not None:
                assert not isinstance(event, lis01.FrameRejected | lis01.Skipped), event
                if isinstance(event, lis01.FrameReceived):
                    link.stored()
                    for piece in splitter.feed(event.text, event.last):
                        if piece.opens:
                            made.append(bytearray())
                        made[-1] += part_text(event.text, event.last, piece.start, piece.stop)
    return [bytes(text) for text in made]


Said = list[tuple[object, ...]]


def meant(run: Run) -> Said:
    return sorted(
        (run.specimen_id, run.role, one.code, one.value.kind, one.value.text, one.value.comparator, one.unit, one.flags)
        for one in run.results
    )


def heard(one: Model, texts: list[bytes], run: Run) -> Said:
    decoded = [registry.decode(one.driver, text) for text in texts]
    return sorted(
        (specimen.specimen_id, specimen.role, result.code, result.value.kind, result.value.text,
         result.value.comparator, result.unit, result.flags)
        for message in decoded for specimen in message.specimens for result in specimen.results
        if result.code in run.codes
    )  # fmt: skip


@pytest.mark.parametrize("driver_id", DRIVERS)
def test_a_driver_shows_what_its_analyzer_says(driver_id: str) -> None:
    """Without this the next test would prove nothing of a driver whose vectors show no result."""
    known = modelled(driver_id).known
    assert known.panel(SpecimenRole.PATIENT), "no vector with results that nothing is said against"


@pytest.mark.parametrize("driver_id", DRIVERS)
@examples(max_examples=15)
@given(seed=st.integers(0, 2**32), run=st.integers(0, 3))
def test_what_is_rendered_framed_received_and_decoded_is_what_was_meant(driver_id: str, seed: int, run: int) -> None:
    one, dice = modelled(driver_id), Dice(seed)
    for specimen in specimen_ids(one.known, 2, dice):
        made = measure(one.known, specimen, dice, run=run)
        assert made.results
        texts = compose(one.known, made, Stamp(AT, f"C{seed}"))
        assert heard(one, received(one, framed(one.driver, one.habit, texts)), made) == meant(made)


@pytest.mark.parametrize("driver_id", [each for each in DRIVERS if SpecimenRole.QC in modelled(each).known.shapes])
@examples(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_a_control_is_a_control_again(driver_id: str, seed: int) -> None:
    one = modelled(driver_id)
    made = measure(one.known, control_id(one.known), Dice(seed), role=SpecimenRole.QC)
    texts = compose(one.known, made, Stamp(AT, "C1"))
    assert heard(one, received(one, framed(one.driver, one.habit, texts)), made) == meant(made)


@pytest.mark.parametrize("driver_id", [each for each in DRIVERS if modelled(each).known.asking])
@examples(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_a_query_asks_for_its_specimen(driver_id: str, seed: int) -> None:
    one = modelled(driver_id)
    (specimen,) = specimen_ids(one.known, 1, Dice(seed))
    text = compose_query(one.known, specimen, Stamp(AT, "C1"))
    (again_,) = received(one, framed(one.driver, one.habit, (text,)))
    assert [query.specimen_ids for query in registry.decode(one.driver, again_).queries] == [(specimen,)]


@pytest.mark.parametrize("driver_id", DRIVERS)
async def test_its_links_own_receiver_takes_what_it_says(driver_id: str) -> None:
    """The real session on a line in memory, with no leniency but the driver's."""
    one = modelled(driver_id)
    driver = one.driver
    intake = MemoryIntake(hl7_in_frames=driver.protocol is Protocol.HL7 and driver.link is LinkFraming.LIS01)
    (specimen,) = specimen_ids(one.known, 1, Dice(7))
    made = measure(one.known, specimen, Dice(7))
    source = framed(driver, one.habit, compose(one.known, made, Stamp(AT, "C7")))
    kind = TransportType.MLLP_LISTEN if source.protocol is PlayProtocol.MLLP else TransportType.TCP_LISTEN
    report = await loop_back(LinkSpec(settings(kind), intake, driver), intake, source, HastyClock())
    assert report.complete, report.faults
    assert heard(one, intake.messages, made) == meant(made)


def test_the_same_seed_invents_the_same_and_another_does_not() -> None:
    known = modelled("sysmex_xn").known
    (one,), (same,), (other,) = (specimen_ids(known, 1, Dice(seed)) for seed in (1, 1, 2))
    assert one == same != other
    assert measure(known, one, Dice(1)) == measure(known, one, Dice(1)) != measure(known, one, Dice(2))
    assert measure(known, one, Dice(1), run=1) != measure(known, one, Dice(1))


def test_values_are_plausible_and_say_when_they_are_high() -> None:
    known = modelled("mindray_bc5380").known
    flags = set()
    for seed in range(40):
        for result in measure(known, "S-1", Dice(seed)).results:
            low, _, high = result.like.reference.partition("-")
            if result.value.number is not None and high and result.flags:
                says = "L" if result.value.number < float(low) else "H" if result.value.number > float(high) else "N"
                assert result.flags == (says,), (result.code, result.value.text, result.like.reference)
                flags.add(says)
    assert flags >= {"N", "H"}


def test_a_patient_is_not_measured_in_the_form_of_a_control() -> None:
    known = modelled("mindray_bc5380").known
    for role in (SpecimenRole.PATIENT, SpecimenRole.QC):
        for one in (known.said(role, code) for code in ("6690-2", "789-8", "718-7")):
            assert {bool(saying.seen.flags) for saying in one} == {role is SpecimenRole.PATIENT}


def test_what_no_vector_shows_is_not_said() -> None:
    one = modelled("sysmex_xn")
    with pytest.raises(DriverError, match="'NOPE'"):
        measure(one.known, "S-1", Dice(1), codes=["NOPE"])
    with pytest.raises(DriverError, match="no vector with a query"):
        compose_query(modelled("hipro_crp").known, "S-1", Stamp(AT))
    with pytest.raises(DriverError, match="no vector with results"):
        compose(repertoire(one.driver, []), Run("S-1"), Stamp(AT))


def test_a_message_that_would_read_back_as_another_is_never_given_out() -> None:
    known = modelled("mindray_bc5380").known
    (result, *_) = (one for one in measure(known, "S-1", Dice(1)).results if one.value.number is not None)
    with pytest.raises(DriverError, match="reads back as"):
        compose(known, Run("S-1", results=(replace(result, value=numeric(Decimal(1))),)), Stamp(AT))
    assert compose(known, Run("S|1", results=(flagged(again(result.like), "A|B"),)), Stamp(AT))
    with pytest.raises(DriverError, match="reads back as"):
        compose(modelled("sysmex_xn").known, Run("QC-1", results=()), Stamp(AT))  # the driver takes QC- for a control


def test_a_time_keeps_its_form() -> None:
    assert timed("20200101", AT) == "20260203"
    assert timed(" 202001010101+0100 ", AT) == " 202602030405+0100 "
    assert timed("20200101010101.123", AT) == "20260203040506.123"
    assert timed("01/01/20", AT) == "01/01/20"


def test_frames_are_as_the_vectors_show_and_the_leniencies_allow() -> None:
    xn, lis2 = modelled("sysmex_xn"), modelled("generic_lis2")
    assert xn.habit.whole
    assert not lis2.habit.whole
    odd = b"\x021H|\\^&\r\x03\r\n\x022L|1\r\x03\r\n"
    assert frame_habit(lis2.driver, odd).digits == "upper"
    lenient = replace(lis2.driver, leniencies=frozenset({Leniency.NO_CHECKSUM}))
    habit = frame_habit(lenient, odd)
    assert habit.frames(b"H|\\^&\rL|1\r") == (b"\x021H|\\^&\r\x03\r\n", b"\x022L|1\r\x03\r\n")
    zero = replace(lis2.driver, leniencies=frozenset({Leniency.ZERO_CHECKSUM, Leniency.MISSING_CRLF}))
    assert frame_habit(zero, b"\x020H|\\^&\r\x0300").frames(b"H\r") == (b"\x020H\r\x0300",)
