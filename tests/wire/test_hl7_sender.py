"""A sender's shapes: what is known is in order as the whole reading says, and is answered as the long way answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.errors import SegmentError, UnsupportedMessage
from interface.wire import hl7, hl7_ack
from interface.wire.hl7_ack import AckCode, Outcome
from interface.wire.hl7_sender import Sender

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HEAD = b"MSH|^~\\&|LabOne|LAB|Labora|H|20260105||ORU^R01^ORU_R01|ID7|P|2.5.1"
ORU = HEAD + b"\rPID|1||P1^^^LAB||Testa^Anna\rOBR|1||F|GLU^Glucose^L\rOBX|1|NM|2345-7^Glucose^LN||5.10|mmol/L|||||F\r"
OWN = "own1"


def due(header: bytes, message: hl7.Message) -> Sequence[AckCode] | None:
    if message.type != "ORU^R01":
        return None
    found = hl7_ack.due(header, Outcome.STORED)
    return [code for code in (found.first, found.then) if code]


def long_way(block: bytes) -> tuple[str, str, list[bytes]]:
    """Control id, type and replies; raises where the message is not in order."""
    hl7.check_syntax(block)
    found = hl7_ack.due(block, Outcome.STORED)
    replies = [hl7_ack.acknowledge(block, code, control_id=OWN, now=NOW) for code in (found.first, found.then) if code]
    return hl7.control_id(block), hl7.message_type(block), replies


def short_way(sender: Sender, block: bytes) -> tuple[str, str, list[bytes]] | None:
    known = sender.know(block)
    if known is None:
        return None
    return known.control_id, known.shape.message_type, known.replies(lambda: OWN, NOW)


@pytest.mark.parametrize(
    "rest",
    [b"", b"|||AL|NE||UNICODE UTF-8", b"|||AL|AL", b"|||NE|NE", b"|||ER", b"||||||8859/1", b"|||AL|SU|USA|ASCII|EN"],
)
@pytest.mark.parametrize("version", [b"2.3", b"2.4", b"2.5.1", b"2.8"])
def test_what_is_usual_is_known_and_answered_as_the_long_way_answers(rest: bytes, version: bytes) -> None:
    sender = Sender("", due)
    for number in range(3):
        block = ORU.replace(b"|2.5.1", b"|" + version + rest, 1).replace(b"|ID7|", b"|ID-%d|" % number)
        block = block.replace(b"|20260105|", b"|2026010508%02d|" % number)
        assert short_way(sender, block) == long_way(block)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"|ID7|", b"||"), (b"|ID7|", b"|ID^7|"), (b"|ID7|", b"|" + b"9" * 200 + b"|"), (b"|ID7|", b"|\\xe9|"),
        (b"|20260105|", b"|yesterday|"), (b"|P|2.5.1", b"|Z|2.5.1"), (b"|2.5.1", b"|3.0"), (b"ORU^R01", b"ADT^A01"),
        (b"|2.5.1", b"|2.5.1||||||ISO IR87"), (b"|2.5.1", b"|2.5.1||||||what"), (b"^~", b"^\xc2\xa7"),
        (b"\rPID|", b"\rMSH|"),
        (b"\rPID|", b"\rPI|"), (b"\rPID|", b"\rPID^"), (b"\rPID|", b"\r PID|"), (b"MSH|^~", b"MSH|^^"), (ORU, b""),
    ],
)  # fmt: skip
def test_what_is_unusual_or_out_of_order_is_not_known(old: bytes, new: bytes) -> None:
    sender = Sender("", due)
    assert short_way(sender, ORU) is not None
    assert old in ORU
    assert sender.know(ORU.replace(old, new, 1)) is None


_PIECES = [b"\r", b"\n", b"MSH", b"mSh|", b"|", b"\rMSH|", b"\x00", b" ", b"\xff", b"\xe9", b"~", b"\rZZ", b"^", b"\\"]
_CHARSETS = [b"", b"||||||UNICODE UTF-8", b"||||||8859/1", b"||||||UNICODE UTF-16", b"||||||ISO IR87", b"|||AL|NE"]


@given(
    st.sampled_from(_CHARSETS),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.sampled_from(_PIECES) | st.binary(max_size=2)),
             max_size=4),
)  # fmt: skip
def test_nothing_is_known_that_the_whole_reading_judges_otherwise(
    charset: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    sender = Sender("", due)
    block = ORU.replace(b"|P|2.5.1", b"|P|2.5.1" + charset, 1)
    for at, drop, piece in changes:
        sender.know(block)  # a shape more
        block = block[:at] + piece + block[at + drop :]
    found = short_way(sender, block)
    if found is None:
        return
    try:
        wanted = long_way(block)
    except (SegmentError, UnsupportedMessage) as error:
        pytest.fail(f"known, but {error}")
    assert found == wanted


def test_memory_for_shapes_is_bounded_whatever_a_sender_calls_itself() -> None:
    sender = Sender("", due)
    for number in range(1000):
        assert sender.know(ORU.replace(b"LabOne", b"Lab%d" % number, 1)) is not None
    assert len(sender._shapes) == 64
    assert sender.know(ORU.replace(b"LabOne", b"x" * 2000, 1)) is None


def test_a_block_that_would_take_long_to_search_is_judged_at_once() -> None:
    sender = Sender("", due)
    for block in (HEAD + b"\rOBX|" + b"x" * 1_000_000 + b"\r??", HEAD + b"\r" * 1_000_000 + b"?", b"MSH|" * 250_000,
                  ORU + b"A\r" * 2_000_000):  # fmt: skip
        began = process_time()
        assert sender.know(block) is None
        assert process_time() - began < 2.0
