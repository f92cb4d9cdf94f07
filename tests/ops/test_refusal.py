"""A probe never accepts anything: whatever an analyzer sends, no answer to it is one that lets it drop its message."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interface.ops.refusal import Hl7Refusal, Refuser
from interface.wire.mllp import encode
from tests.driver.test_diagnose import ENQ, EOT, HL7, frames

ACK, NAK = b"\x06", b"\x15"


def refuser(hl7: Hl7Refusal = Hl7Refusal.NONE) -> Refuser:
    return Refuser(hl7, lambda: datetime(2026, 1, 2, tzinfo=UTC))


def test_an_enq_is_acknowledged_and_every_frame_refused() -> None:
    host = refuser()
    assert host.feed(ENQ) == ACK
    for frame in frames() + [frames()[0]] * 5:
        assert host.feed(frame) == NAK
    assert host.feed(EOT) == b""
    assert host.feed(ENQ) == ACK  # it asks again, with the same message
    assert host.feed(frames()[0]) == NAK


def test_a_restart_within_a_session_is_acknowledged_once() -> None:
    assert refuser().feed(ENQ + frames()[0] + ENQ + frames()[0]) == ACK + NAK + ACK + NAK


def test_silence_within_a_frame_ends_the_session() -> None:
    host = refuser()
    assert host.feed(ENQ + frames()[0][:7]) == ACK
    assert host.timer is not None
    host.timeout()
    assert host.timer is None
    assert host.feed(ENQ) == ACK


def test_hl7_is_answered_with_nothing_unless_asked_for() -> None:
    assert refuser().feed(encode(HL7)) == b""


@pytest.mark.parametrize(("hl7", "code"), [(Hl7Refusal.AE, b"MSA|AE|77"), (Hl7Refusal.AR, b"MSA|AR|77")])
def test_hl7_is_refused_where_asked_for(hl7: Hl7Refusal, code: bytes) -> None:
    reply = refuser(hl7).feed(encode(HL7))
    assert code in reply
    assert reply.startswith(b"\x0bMSH|")


def test_an_enhanced_sender_is_refused_in_its_mode() -> None:
    enhanced = HL7.replace(b"2.5.1|||", b"2.5.1|||AL|NE")
    assert b"MSA|CR|77" in refuser(Hl7Refusal.AR).feed(encode(enhanced))


_PARTS = [
    *frames(),
    ENQ,
    EOT,
    ACK,
    NAK,
    b"\x02",
    b"\x03",
    b"\r\n",
    b"H|\\^&\r",
    encode(HL7),
    b"\x0b",
    b"\x1c\r",
    b"\x85",
]


@settings(deadline=None)
@given(st.lists(st.one_of(st.sampled_from(_PARTS), st.binary(max_size=9)), max_size=30), st.sampled_from(Hl7Refusal))
def test_no_more_acks_than_enquiries_and_no_positive_reply(parts: list[bytes], hl7: Hl7Refusal) -> None:
    host, answers = refuser(hl7), b""
    for part in parts:
        answer = host.feed(part)
        if not part.count(ENQ):
            assert ACK not in answer  # nothing but an ENQ is ever acknowledged
        answers += answer
    assert answers.count(ACK) <= b"".join(parts).count(ENQ)
    assert b"|AA|" not in answers
    assert b"|CA|" not in answers
    assert EOT not in answers  # the receiver interrupt is an acceptance
