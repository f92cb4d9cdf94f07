"""What the doctor says of planted departures: each yields exactly its leniency or its advice, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interface.driver.diagnose import diagnose, examine
from interface.driver.diagnosis import ChecksumVerdict, Cut, Diagnosis, Framing, Heard, SymptomKind
from interface.settings import LineFormat, Parity
from interface.wire.datalink_events import Leniency
from interface.wire.frames import build_frame
from interface.wire.lis01 import cut
from interface.wire.mllp import encode
from interface.wire.trace import Direction
from tests.driver.uart import heard as as_heard

RECORDS = (
    rb"H|\^&|||ACME^Tester^1.2||||||||LIS2-A2|20260102030405",
    b"P|1||PAT-1",
    b"O|1|S-1||^^^GLU|R",
    b"R|1|^^^GLU|5.4|mmol/L|3.9 to 5.8|N||F",
    b"R|2|^^^UREA|6.1|mmol/L|2.5 to 7.8|N||F",
    b"L|1|N",
)
ENQ, EOT = b"\x05", b"\x04"
HL7 = b"\r".join(
    (
        rb"MSH|^~\&|ACME|LAB|||20260102030405||ORU^R01|77|P|2.5.1|||||||",
        b"PID|1||PAT-1",
        b"OBR|1||S-1|GLU",
        b"OBX|1|NM|GLU||5.4|mmol/L|||||F",
        b"",
    )
)


def frames(records: tuple[bytes, ...] = RECORDS, end: bytes = b"\r") -> list[bytes]:
    return [build_frame(number, record + end, True) for number, record in enumerate(records, start=1)]


def session(*parts: bytes) -> bytes:
    return ENQ + b"".join(parts) + EOT


def said(found: Diagnosis) -> frozenset[Leniency]:
    """What is needed, of a proof that succeeded."""
    assert found.proof is not None
    assert found.proof.proven, found.proof.obstacles
    return found.proof.needed


def kinds(found: Diagnosis) -> list[SymptomKind]:
    return [symptom.kind for symptom in found.symptoms]


def test_a_session_by_the_standard_needs_nothing() -> None:
    found = examine(session(*frames()), whole=True)
    assert found.framing is Framing.LIS01
    assert found.frames is not None
    assert (found.frames.count, found.frames.cut, found.frames.numbering) == (6, Cut.RECORD, "")
    assert found.frames.checksums == ((ChecksumVerdict.RIGHT, 6),)
    assert (found.handshake.enq, found.handshake.eot, found.stray_bytes) == (1, 1, 0)
    assert found.records is not None
    assert found.records.senders == ("ACME^Tester^1.2",)
    assert found.records.types == (("H", 1), ("P", 1), ("O", 1), ("R", 2), ("L", 1))
    assert found.records.record_ends == (("CR", 6),)
    assert said(found) == frozenset()
    assert found.driver is not None
    assert (found.driver.driver, found.driver.results) == ("generic_lis2", 2)
    assert found.symptoms == ()


@pytest.mark.parametrize(
    ("size", "how"), [(40, Cut.PIECES), (240, Cut.MESSAGE)], ids=["pieces of 40 bytes", "one frame holds it"]
)
def test_the_way_of_cutting_is_seen(size: int, how: Cut) -> None:
    found = examine(session(*cut(b"\r".join(RECORDS) + b"\r", size)))
    assert found.frames is not None
    assert found.frames.cut is how
    assert found.records is not None
    assert found.records.messages == found.records.terminated == 1
    assert said(found) == frozenset()


def test_records_that_end_with_etb_are_records_all_the_same() -> None:
    """cobas c 111: a whole record in each frame, ETB on all but the last."""
    sent = [build_frame(number, record + b"\r", number == 6) for number, record in enumerate(RECORDS, start=1)]
    found = examine(session(*sent))
    assert found.frames is not None
    assert (found.frames.cut, found.frames.etb, found.frames.etx) == (Cut.RECORD, 5, 1)


def changed_sums(change: dict[int, bytes]) -> bytes:
    out = frames()
    for place, digits in change.items():
        out[place] = out[place][:-4] + digits + out[place][-2:]
    return session(*out)


def lower(data: bytes) -> bytes:
    return data[:-4] + data[-4:-2].lower() + data[-2:]


def test_lower_case_sums_need_their_leniency() -> None:
    sent = [lower(frame) for frame in frames()]
    assert any(one != other for one, other in zip(sent, frames(), strict=True))
    found = examine(session(*sent))
    assert found.frames is not None
    assert found.frames.with_checksum(ChecksumVerdict.LOWER_CASE) > 0
    assert said(found) == {Leniency.LOWER_CASE_CHECKSUM}


def test_sums_that_are_not_sent_need_no_checksum() -> None:
    found = examine(session(*(frame[:-4] + frame[-2:] for frame in frames())))
    assert found.frames is not None
    assert found.frames.checksums == ((ChecksumVerdict.ABSENT, 6),)
    assert said(found) == {Leniency.NO_CHECKSUM}


@pytest.mark.parametrize(
    ("words", "add"),
    [
        ("without the ETX", lambda body: sum(body[:-1])),
        ("with the STX", lambda body: sum(body) + 2),
        ("without the frame number", lambda body: sum(body[1:])),
        ("exclusive-or", lambda body: __import__("functools").reduce(int.__xor__, body)),
        ("two's complement", lambda body: -sum(body)),
    ],
)
def test_a_wrong_sum_is_explained(words: str, add: object) -> None:
    assert callable(add)
    sent = [frame[:-4] + b"%02X" % (add(frame[1:-4]) & 0xFF) + frame[-2:] for frame in frames()]
    found = examine(session(*sent))
    assert found.frames is not None
    assert words in found.frames.checksum_hint
    assert said(found) == {Leniency.NO_CHECKSUM}


def test_sums_made_over_seven_bits_are_explained() -> None:
    records = (RECORDS[0], "R|1|^^^CRP|5|µg/l".encode("latin-1"), RECORDS[-1])
    sent = [
        frame[:-4] + b"%02X" % (sum(code & 0x7F for code in frame[1:-4]) & 0xFF) + frame[-2:]
        for frame in frames(records)
    ]
    found = examine(session(*sent))
    assert found.frames is not None
    assert "seven bits" in found.frames.checksum_hint


def test_a_damaged_frame_that_was_sent_again_needs_nothing() -> None:
    """Noise is no habit: the receiver refused the frame and got it whole."""
    good = frames()
    damaged = good[3].replace(b"5.4", b"9.4")
    found = examine(session(*good[:3], damaged, *good[3:]))
    assert found.frames is not None
    assert found.frames.with_checksum(ChecksumVerdict.WRONG) == 1
    assert said(found) == frozenset()


def test_a_repeated_frame_is_counted_and_needs_nothing() -> None:
    good = frames()
    found = examine(session(*good[:3], good[2], *good[3:]))
    assert found.frames is not None
    assert (found.frames.count, found.frames.repeated) == (7, 1)
    assert said(found) == frozenset()


def test_odd_numbers_need_fn_unsequenced() -> None:
    sent = [
        build_frame(number, record + b"\r", True) for number, record in zip((1, 2, 2, 5, 1, 1), RECORDS, strict=True)
    ]
    found = examine(session(*sent))
    assert found.frames is not None
    assert "(1 2 2 5 1 1)" in found.frames.numbering
    assert said(found) == {Leniency.FN_UNSEQUENCED}


def test_frames_without_crlf_need_missing_crlf() -> None:
    found = examine(session(*(frame[:-2] for frame in frames())))
    assert found.frames is not None
    assert found.frames.line_ends == (("none", 6),)
    assert said(found) == {Leniency.MISSING_CRLF}


def test_two_departures_need_two_leniencies() -> None:
    sent = [lower(frame)[:-2] for frame in frames()]
    assert said(examine(session(*sent))) == {Leniency.LOWER_CASE_CHECKSUM, Leniency.MISSING_CRLF}


def test_sums_of_zeros_need_zero_checksum() -> None:
    found = examine(session(*(frame[:-4] + b"00" + frame[-2:] for frame in frames())))
    assert found.frames is not None
    assert found.frames.with_checksum(ChecksumVerdict.ZERO) == 6
    assert said(found) == {Leniency.ZERO_CHECKSUM}


def test_a_session_without_enq_needs_missing_enq() -> None:
    assert said(examine(b"".join(frames()) + EOT, whole=True)) == {Leniency.MISSING_ENQ}


def test_an_enq_before_each_frame_needs_repeated_enq() -> None:
    found = examine(b"".join(ENQ + frame for frame in frames()) + EOT, whole=True)
    assert said(found) == {Leniency.REPEATED_ENQ}
    assert found.records is not None
    assert found.records.messages == 1


def test_a_message_without_l_needs_no_terminator_record() -> None:
    found = examine(session(*frames(RECORDS[:-1])), whole=True)
    assert found.records is not None
    assert found.records.terminated == 0
    assert said(found) == {Leniency.NO_TERMINATOR_RECORD}


def test_records_without_frames_need_bare_records() -> None:
    assert said(examine(b"\r".join(RECORDS) + b"\r", whole=True)) == {Leniency.BARE_RECORDS}
    assert said(examine(b"\n".join(RECORDS), whole=True)) == {Leniency.BARE_RECORDS}


def test_without_frames_a_missing_l_cannot_be_helped() -> None:
    found = examine(b"\r".join(RECORDS[:-1]) + b"\r", whole=True)
    assert found.proof is not None
    assert not found.proof.proven
    assert found.proof.obstacles == (
        "1 message has no terminator record (L), and without frames nothing else ends one",
    )


@pytest.mark.parametrize(
    ("sent", "used"),
    [
        (
            session(*(build_frame(number, text + b"\r", True) for number, text in enumerate(RECORDS))),
            Leniency.FN_FROM_ZERO,
        ),
        (
            session(*(build_frame(number, text + b"\r", True) for number, text in enumerate(RECORDS, 3))),
            Leniency.ODD_FIRST_FN,
        ),
        (session(*frames(end=b"\n")), Leniency.LF_RECORDS),
        (session(*frames(end=b"\r\n")), Leniency.CRLF_RECORDS),
        (session(*frames(end=b"")), Leniency.MISSING_FINAL_CR),
    ],
    ids=str,
)
def test_what_is_taken_from_everybody_is_named_and_not_asked_for(sent: bytes, used: Leniency) -> None:
    found = examine(sent, whole=True)
    assert said(found) == frozenset()
    assert found.proof is not None
    assert found.proof.always == {used}


@pytest.mark.parametrize(("end", "name"), [(b"\n", "LF"), (b"\r\n", "CRLF"), (b"", "none")])
def test_record_ends_are_named(end: bytes, name: str) -> None:
    found = examine(session(*frames(end=end)))
    assert found.records is not None
    assert found.records.record_ends == ((name, 6),)
    assert found.records.messages == found.records.terminated == 1


def test_several_messages_in_a_session_are_counted() -> None:
    sent = [build_frame(number, record + b"\r", True) for number, record in enumerate(RECORDS * 3, start=1)]
    found = examine(session(*sent))
    assert found.records is not None
    assert (found.records.messages, found.records.terminated) == (3, 3)
    assert found.proof is not None
    assert found.proof.judged == 3


def test_a_recording_without_handshake_is_judged_with_one_supplied() -> None:
    found = examine(b"".join(frames()))
    assert found.proof is not None
    assert found.proof.handshake_supplied
    assert said(found) == frozenset()


def test_a_transmission_that_breaks_off_says_nothing_of_its_end() -> None:
    found = examine(ENQ + b"".join(frames()[:4]), whole=True)
    assert found.proof is not None
    assert found.proof.terminator_unknown
    assert said(found) == frozenset()


def test_what_a_probe_hears_is_judged_by_its_frames() -> None:
    """Every frame refused: the first one six times, then EOT. Nothing is known of a terminator."""
    first = frames()[0]
    heard = [Heard(Direction.ANALYZER, ENQ), Heard(Direction.HOST, b"\x06")]
    heard += [Heard(Direction.ANALYZER, first), Heard(Direction.HOST, b"\x15")] * 6 + [Heard(Direction.ANALYZER, EOT)]
    found = diagnose(heard, whole=True)
    assert found.proof is not None
    assert (found.proof.judged, found.proof.by_frame, found.proof.terminator_unknown) == (1, True, True)
    assert said(found) == frozenset()
    assert found.frames is not None
    assert found.frames.repeated == 5


# ---- HL7 ------------------------------------------------------------------------------------------------------------


def test_mllp_is_described() -> None:
    found = examine(encode(HL7))
    assert found.framing is Framing.MLLP
    assert found.hl7 is not None
    assert found.hl7.types == (("ORU^R01", 1),)
    assert (found.hl7.versions, found.hl7.senders) == (("2.5.1",), ("ACME LAB",))
    assert (found.hl7.acknowledgement, found.hl7.wants) == ("original", ("AA",))
    assert found.hl7.segment_ends == (("CR", 4),)
    assert found.hl7.refusals == ()
    assert found.driver is not None
    assert (found.driver.driver, found.driver.results) == ("generic_hl7", 1)


def test_enhanced_mode_is_told_by_msh_15_and_16() -> None:
    found = examine(encode(HL7.replace(b"2.5.1|||", b"2.5.1|||AL|NE")))
    assert found.hl7 is not None
    assert (found.hl7.acknowledgement, found.hl7.wants) == ("enhanced", ("CA",))


def test_what_would_be_refused_is_said() -> None:
    found = examine(encode(HL7.replace(b"|77|", b"||")))
    assert found.hl7 is not None
    assert found.hl7.refusals == ("AE: no message control id (MSH^1^10)",)


def test_hl7_in_frames_is_neither_records_nor_mllp() -> None:
    found = examine(session(*cut(HL7, 100)))
    assert found.framing is Framing.LIS01_HL7
    assert found.hl7 is not None
    assert found.hl7.messages == 1
    assert said(found) == frozenset()


def test_bare_segments_and_records_are_told_apart() -> None:
    assert examine(HL7).framing is Framing.BARE_HL7
    bare = examine(b"\n".join(RECORDS) + b"\n")
    assert bare.framing is Framing.BARE_RECORDS
    assert bare.records is not None
    assert bare.records.record_ends == (("LF", 6),)


@pytest.mark.parametrize(
    ("name", "declared", "codec", "contradicts"),
    [
        ("Müller", b"ASCII", "utf-8", True),
        ("Müller", b"UNICODE UTF-8", "utf-8", False),
        ("Müller", b"", "utf-8", False),
        ("Müller", b"8859/1", "latin-1", False),
        ("Müller", b"UNICODE UTF-8", "latin-1", True),
        ("王小明检验", b"", "gb18030", False),
        ("王小明检验", b"ASCII", "gb18030", True),
        ("Иванович Пётр", b"", "cp1251", False),
        ("検査値テスト", b"", "shift_jis", False),
        ("Žluťoučký €", b"", "utf-8", False),
        ("Smith ™ €", b"", "cp1252", False),
    ],
)
def test_the_charset_is_told_from_the_bytes(name: str, declared: bytes, codec: str, contradicts: bool) -> None:
    message = HL7.replace(b"|||||||\r", b"||||||" + declared + b"\r", 1).replace(
        b"PAT-1", b"PAT-1||" + name.encode(codec)
    )
    found = examine(encode(message))
    assert found.text is not None
    assert "".join(found.text.best.split("-")) in (codec.replace("-", ""), "iso88591" if codec == "latin-1" else codec)
    assert bool(found.text.contradiction) is contradicts


def test_ascii_asks_for_no_encoding() -> None:
    found = examine(encode(HL7))
    assert found.text is not None
    assert (found.text.ascii_only, found.text.best) == (True, "")


# ---- the line -------------------------------------------------------------------------------------------------------

_8N1 = LineFormat()
SESSION = session(*frames())


@pytest.mark.parametrize(
    ("sent", "line_format"),
    [
        (LineFormat(7, Parity.EVEN, 1), "7E1"),
        (LineFormat(7, Parity.ODD, 1), "7O1"),
        (LineFormat(7, Parity.NONE, 2), "7N2"),
        (LineFormat(8, Parity.EVEN, 1), "8E1"),
        (LineFormat(8, Parity.ODD, 1), "8O1"),
    ],
    ids=str,
)
def test_a_format_that_is_read_as_8n1_is_named_and_read_through(sent: LineFormat, line_format: str) -> None:
    found = examine(as_heard(SESSION, sent, _8N1, gap_bits=20), whole=True)
    assert found.line_format == line_format
    assert len(found.symptoms) == 1
    assert line_format in found.symptoms[0].advice
    assert found.framing is Framing.LIS01  # below the parity bit it is the session that was sent
    assert said(found) == frozenset()


def test_a_single_enq_with_odd_parity_is_known() -> None:
    found = examine(as_heard(ENQ, LineFormat(7, Parity.ODD, 1), _8N1))
    assert (found.framing, found.line_format) == (Framing.HANDSHAKE, "7O1")


@pytest.mark.parametrize("gap_bits", [0, 5])
@pytest.mark.parametrize("factor", [2, 4, 6, 12])
def test_a_port_that_reads_too_fast_is_told_so(factor: int, gap_bits: int) -> None:
    heard = as_heard(SESSION, _8N1, _8N1, sent_baud=9600, read_baud=9600 * factor, gap_bits=gap_bits)
    found = examine(heard)
    assert found.framing is Framing.UNKNOWN
    assert kinds(found) == [SymptomKind.BAUD_TOO_HIGH]
    words = {2: "about twice", 4: "about four times"}.get(factor, "six times or more")
    assert words in found.symptoms[0].text
    assert found.driver is None


@pytest.mark.parametrize("gap_bits", [0, 5])
@pytest.mark.parametrize("factor", [2, 4, 12])
def test_a_port_that_reads_too_slowly_is_told_so(factor: int, gap_bits: int) -> None:
    heard = as_heard(SESSION, _8N1, _8N1, sent_baud=9600 * factor, read_baud=9600, gap_bits=gap_bits)
    found = examine(heard)
    assert found.framing is Framing.UNKNOWN
    assert kinds(found) == [SymptomKind.LINE_MISMATCH]
    assert "Raise the baud rate" in found.symptoms[0].advice


def test_a_held_line_is_a_break() -> None:
    assert kinds(examine(b"\0" * 40)) == [SymptomKind.BREAK]


def test_an_honest_port_has_no_symptom() -> None:
    assert as_heard(SESSION, _8N1, _8N1) == SESSION
    assert examine(SESSION).symptoms == ()
    umlauts = session(*frames((RECORDS[0], "P|1|||Bérénice Müller çà et là".encode("latin-1"), RECORDS[-1])))
    assert examine(umlauts).symptoms == ()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP"),
        (b"\xff\xfd\x01\xff\xfb\x03", "Telnet"),
        (b"<HEL.R01><HDR/></HEL.R01>", "POCT1-A"),
        (b'{"result": 5}', "JSON"),
    ],
)
def test_another_protocol_is_named(data: bytes, word: str) -> None:
    found = examine(data)
    assert (found.framing, kinds(found)) == (Framing.FOREIGN, [SymptomKind.FOREIGN_PROTOCOL])
    assert word in found.symptoms[0].text


def test_an_analyzer_that_waits_in_vain_is_known_by_its_rhythm() -> None:
    heard = [Heard(Direction.ANALYZER, ENQ, at * 15.0) for at in range(4)]
    found = diagnose(heard, whole=True)
    assert found.framing is Framing.HANDSHAKE
    assert found.notes == ("It asks for the line 4 times, every 15 s, and nobody answers.",)


def test_an_echo_is_known() -> None:
    heard = [Heard(Direction.HOST, b"\x05"), Heard(Direction.ANALYZER, b"\x05")] * 5
    assert kinds(diagnose(heard)) == [SymptomKind.ECHO]


def test_a_tap_hears_both_sides() -> None:
    heard = [Heard(Direction.ANALYZER, ENQ), Heard(Direction.HOST, b"\x06")]
    for frame in frames():
        heard += [Heard(Direction.ANALYZER, frame), Heard(Direction.HOST, b"\x06")]
    heard += [Heard(Direction.ANALYZER, EOT), Heard(Direction.HOST, session(*frames(RECORDS[:3] + RECORDS[-1:])))]
    found = diagnose(heard)
    assert found.host is not None
    assert (found.host.framing, found.host.handshake.ack, found.host.handshake.nak) == (Framing.LIS01, 7, 0)
    assert found.host.records is not None
    assert dict(found.host.records.types) == {"H": 1, "P": 1, "O": 1, "L": 1}
    assert found.proof is not None
    assert not found.proof.terminator_unknown


def test_a_long_recording_is_judged_whole_by_what_its_begin_needs() -> None:
    sent = [lower(frame) for frame in frames()]
    found = examine(session(*sent) * 1000, whole=True)
    assert found.proof is not None
    assert (found.proof.judged, said(found)) == (1000, frozenset({Leniency.LOWER_CASE_CHECKSUM}))
    worse = examine(session(*sent) * 999 + session(*(frame[:-4] + b"!!\r\n" for frame in frames())), whole=True)
    assert worse.proof is not None
    assert not worse.proof.proven  # what its begin needs is not enough, and that is not hidden


def test_of_an_endless_recording_only_the_begin_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interface.driver.diagnose.MAX_EXAMINED_BYTES", len(SESSION))
    found = examine(SESSION * 3, whole=True)
    assert found.byte_count == 3 * len(SESSION)
    assert found.handshake.enq == 1
    assert found.notes == (f"Only the first {len(SESSION)} bytes were looked at.",)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=400))
def test_no_bytes_are_too_much(data: bytes) -> None:
    found = examine(data)
    assert found.byte_count == len(data)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.sampled_from([*frames(), ENQ, EOT, b"\x0b", b"\x1c\r", HL7, b"\x80", b"H|", b"\x02", b"\r"]), max_size=12
    )
)
def test_no_mixture_is_too_much(parts: list[bytes]) -> None:
    examine(b"".join(parts), whole=True)
