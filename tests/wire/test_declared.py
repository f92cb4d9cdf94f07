"""Declared framings: what they take, what they refuse, and that no bytes wedge them."""

from __future__ import annotations

from functools import reduce
from operator import xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.wire.declared import (
    EVIDENCE_BYTES,
    BlockReceived,
    BlockRejected,
    Check,
    CheckRule,
    Closed,
    Decoder,
    Event,
    Grammar,
    Length,
    Number,
    Opened,
    Place,
    Skipped,
    Written,
)

ENQ, ACK, NAK, EOT = b"\x05", b"\x06", b"\x15", b"\x04"
# In the shape of bioMerieux' BCI: RS-led fields, GS, the sum of all behind STX up to GS, in two digits.
TAGGED = Grammar(
    start=b"\x02", end=b"\x03", opens=ENQ, ready=ACK, busy=NAK, closes=EOT, good=ACK, bad=NAK, max_bytes=1000,
    check=Check(CheckRule.SUM, Written.HEX, Place.BEFORE_END, skip=1, mark=b"\x1d", pad=b"\r\n"),
)  # fmt: skip
BCC = Grammar(
    start=b"\x02", end=b"\x03", good=ACK, bad=NAK,
    check=Check(CheckRule.XOR, Written.BYTE, Place.AFTER_END, skip=1, covers_end=True),
)  # fmt: skip
# As the Diesse Mini-Cube's manual has it (Rev 1.3 06/2018, page 53): STX and ETX are covered, two digits follow.
ALL_COVERED = Grammar(
    start=b"\x02", end=b"\x03",
    check=Check(CheckRule.XOR, Written.HEX, Place.AFTER_END, skip=0, covers_end=True),
)  # fmt: skip
FIXED = Grammar(
    start=b"\xff\x24\xff\x24", end=b"\r\n", size=17,
    check=Check(CheckRule.SUM, Written.BYTE, Place.BEFORE_END, skip=3),
)  # fmt: skip
COUNTED = Grammar(start=b"$", end=b"\r", length=Length(1, 2, Number.DECIMAL, plus=4), good=ACK, bad=NAK)
LINES = Grammar(end=b"\r\n", max_bytes=100)
BURST = Grammar(silence_s=2.0, max_bytes=100)
ALL = {
    "tagged": TAGGED, "bcc": BCC, "all_covered": ALL_COVERED, "fixed": FIXED, "counted": COUNTED, "lines": LINES,
    "burst": BURST,
}  # fmt: skip


def tagged(text: bytes) -> bytes:
    covered = text + b"\x1d"
    return b"\x02" + covered + b"%02x" % (sum(covered) & 0xFF) + b"\x03"


def bcc(text: bytes) -> bytes:
    return b"\x02" + text + b"\x03" + bytes([reduce(xor, text + b"\x03", 0)])


def fixed(text: bytes) -> bytes:
    return b"\xff\x24\xff\x24" + text + bytes([(0x24 + sum(text)) & 0xFF]) + b"\r\n"


GOOD = {
    "tagged": tagged(b"\x1emtrsl|\x1eqn0.5|"),
    "bcc": bcc(b"R1 5.1"),
    "all_covered": b"\x02AB\x030" + b"2",
    "fixed": fixed(b"\x00\x02\x03ABCD\r\n\xff"),
    "counted": b"$05Hallo\r",
    "lines": b"A,B,1\r\n",
    "burst": b"A,B\r\n1,2",
}


def told(grammar: Grammar, *parts: bytes) -> list[Event]:
    decoder = Decoder(grammar)
    return [event for part in parts for event in decoder.receive(part)] + decoder.eof()


def texts(events: list[Event]) -> list[bytes]:
    return [event.text for event in events if isinstance(event, BlockReceived)]


def test_a_block_is_its_text_and_its_bytes_as_sent() -> None:
    raw = GOOD["tagged"]
    assert told(TAGGED, ENQ + raw + EOT) == [Opened(), BlockReceived(raw, 1, len(raw) - 4), Closed()]
    assert texts(told(TAGGED, raw)) == [b"\x1emtrsl|\x1eqn0.5|"]
    assert texts(told(BCC, GOOD["bcc"])) == [b"R1 5.1"]
    assert texts(told(ALL_COVERED, GOOD["all_covered"])) == [b"AB"]
    assert texts(told(FIXED, GOOD["fixed"])) == [b"\x00\x02\x03ABCD\r\n\xff"]
    assert texts(told(COUNTED, GOOD["counted"])) == [b"05Hallo"]
    assert texts(told(LINES, b"A,B,1\r\n\r\nC,D,2\r\n")) == [b"A,B,1", b"C,D,2"]
    assert texts(told(BURST, GOOD["burst"])) == [b"A,B\r\n1,2"]


@pytest.mark.parametrize("name", ALL)
def test_any_cut_gives_the_same(name: str) -> None:
    data = b"?" + GOOD[name] * 2 + b"\r\n" + GOOD[name][:-3] + GOOD[name] if name != "burst" else GOOD[name]
    whole = told(ALL[name], data)
    assert texts(whole)
    assert told(ALL[name], *(data[at : at + 1] for at in range(len(data)))) == whole
    for at in range(1, len(data)):
        assert told(ALL[name], data[:at], data[at:]) == whole, at


@given(st.sampled_from(sorted(ALL)), st.data())
def test_arbitrary_bytes_give_the_same_however_they_are_cut(name: str, data: st.DataObject) -> None:
    grammar = ALL[name]
    pieces = st.sampled_from([GOOD[name], GOOD[name][:-1], grammar.start, grammar.end, ENQ, EOT, b"\r\n", b"x" * 90])
    sent = b"".join(data.draw(st.lists(st.one_of(pieces, st.binary(max_size=12)), max_size=12)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    parts = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert told(grammar, *parts) == told(grammar, sent)


@given(st.sampled_from(sorted(ALL)), st.binary(max_size=200))
def test_behind_any_garbage_a_good_block_is_found(name: str, garbage: bytes) -> None:
    decoder = Decoder(ALL[name])
    decoder.receive(garbage)
    decoder.silence()
    assert texts(decoder.receive(GOOD[name]) + decoder.silence()) == texts(told(ALL[name], GOOD[name]))


@pytest.mark.parametrize("name", ["tagged", "bcc", "all_covered", "fixed"])
def test_no_altered_byte_of_a_text_is_taken(name: str) -> None:
    raw, grammar = GOOD[name], ALL[name]
    (good,) = [event for event in told(grammar, raw) if isinstance(event, BlockReceived)]
    for at in range(good.start, good.stop):
        damaged = raw[:at] + bytes([raw[at] ^ 0x40]) + raw[at + 1 :]
        events = told(grammar, damaged)
        assert not texts(events), at
        assert any(isinstance(event, BlockRejected) for event in events)


def test_a_wrong_checksum_is_refused_and_kept() -> None:
    damaged = GOOD["tagged"].replace(b"0.5", b"0.6")
    assert told(TAGGED, damaged) == [BlockRejected("checksum", damaged, True)]


def test_a_checksum_may_be_written_in_either_case_and_padded() -> None:
    raw = tagged(b"\x1emtrsl|\x1eqn7.6|")
    digits = raw[-3:-1]
    assert digits != digits.upper()
    assert texts(told(TAGGED, raw[:-3] + digits.upper() + b"\r\n\x03\r\n")) == [b"\x1emtrsl|\x1eqn7.6|"]


def test_a_block_that_lost_a_byte_does_not_take_the_next_with_it() -> None:
    raw = GOOD["fixed"]
    assert texts(told(FIXED, raw[:8] + raw[9:] + raw)) == texts(told(FIXED, raw))
    assert texts(told(TAGGED, GOOD["tagged"][:9] + GOOD["tagged"])) == texts(told(TAGGED, GOOD["tagged"]))


def test_a_length_that_cannot_be_is_refused() -> None:
    for field in (b"xx", b"99"):
        events = told(Grammar(start=b"$", length=Length(1, 2, Number.DECIMAL, plus=4), max_bytes=50), b"$" + field)
        assert [event.reason for event in events if isinstance(event, BlockRejected)] == ["length"]
    assert texts(told(COUNTED, b"$  " + GOOD["counted"])) == [b"05Hallo"]


@pytest.mark.parametrize(
    ("written", "field"), [(Number.BIG, b"\0\x05"), (Number.LITTLE, b"\x05\0"), (Number.HEX, b"05")]
)
def test_a_length_is_read_as_declared(written: Number, field: bytes) -> None:
    grammar = Grammar(start=b"$", length=Length(1, 2, written, plus=3))
    assert texts(told(grammar, b"$" + field + b"Hallo$")) == [field + b"Hallo"]


def test_memory_is_bounded() -> None:
    for grammar in ALL.values():
        decoder = Decoder(grammar, 1000)
        events: list[Event] = []
        for _ in range(200):
            events += decoder.receive(grammar.start + b"x" * 5000)
        assert len(decoder._buffer) + len(decoder._junk) < 3 * EVIDENCE_BYTES
        assert all(len(e.data) <= EVIDENCE_BYTES for e in events if isinstance(e, BlockRejected | Skipped))
        decoder.silence()
        assert not decoder.inside


def test_an_oversize_block_is_answered_at_its_end() -> None:
    decoder = Decoder(TAGGED)
    assert decoder.receive(b"\x02" + b"x" * 5000) == []
    (event,) = decoder.receive(b"\x03")
    assert event == BlockRejected("oversize", b"\x02" + b"x" * 999, True)


def test_silence_ends_what_is_under_way() -> None:
    decoder = Decoder(TAGGED)
    decoder.receive(b"\x02abc")
    assert decoder.wait_s == 15.0
    assert decoder.silence() == [BlockRejected("timeout", b"\x02abc", False)]
    assert not decoder.inside
    burst = Decoder(BURST)
    burst.receive(b"A,B\r\n")
    assert burst.wait_s == 2.0
    assert texts(burst.silence()) == [b"A,B\r\n"]


def test_the_sessions_end_within_a_block_cuts_it() -> None:
    assert told(TAGGED, b"\x02abc" + EOT) == [BlockRejected("cut", b"\x02abc", False), Closed()]


def test_an_enquiry_behind_stray_bytes_is_heard() -> None:
    assert told(TAGGED, b"\x00\xff" + ENQ + b"??" + EOT) == [
        Skipped(b"\x00\xff"), Opened(), Skipped(b"??"), Closed(),
    ]  # fmt: skip


def test_stray_bytes_are_kept_and_line_ends_are_not() -> None:
    assert told(TAGGED, b"\r\nstray" + GOOD["tagged"] + b"\r\n")[0] == Skipped(b"\r\nstray")
    assert told(TAGGED, b"\r\n\r\n") == []
