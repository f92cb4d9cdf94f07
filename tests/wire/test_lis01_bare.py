"""Records that come without frames, where a link takes them: LIS02-A2 text on a socket (PROTOCOLS 1.5)."""

from __future__ import annotations

import pytest

from interface.wire.lis01 import (
    FrameReceived,
    Leniency,
    LeniencyUsed,
    SessionEnded,
    SessionStarted,
    Skipped,
)
from tests.wire.receiver import ACK, ENQ, EOT, H, L, P, Receiver

BARE = [b"H|\\^&\r", b"P|1\r", b"R|1|^^^GLU|5.4\r", b"L|1|N\r"]


def test_bare_records_are_handed_over_one_by_one_and_nothing_is_answered() -> None:
    host = Receiver(Leniency.BARE_RECORDS)
    assert host.feed(b"".join(BARE)) == b""
    assert host.stored == BARE
    assert [event for event in host.events if not isinstance(event, FrameReceived)] == [
        SessionStarted(), LeniencyUsed(Leniency.BARE_RECORDS), SessionEnded("terminator"),
    ]  # fmt: skip
    assert all(
        event.fn is None and event.raw == event.text for event in host.events if isinstance(event, FrameReceived)
    )
    assert host.link.idle
    assert host.link.timer is None


def test_bare_records_are_junk_to_everybody_else() -> None:
    host = Receiver()
    assert host.feed(b"".join(BARE), ENQ) == ACK
    assert host.stored == []
    assert host.events[0] == Skipped(b"".join(BARE))


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\r\n\r\n"])
def test_bare_records_may_end_in_any_way_and_keep_their_bytes(end: bytes) -> None:
    text = b"".join(record[:-1] + end for record in BARE)
    for chunks in ([text], [bytes([code]) for code in text]):
        host = Receiver(Leniency.BARE_RECORDS)
        host.feed(*chunks, text)
        assert b"".join(host.stored) == 2 * text[: len(text) - len(end) + 1]  # what follows L is no record
        assert host.events.count(SessionEnded("terminator")) == 2
        assert not [event for event in host.events if isinstance(event, Skipped)]


@pytest.mark.parametrize("ending", ["silence", "lost", "eot", "enq"])
def test_an_l_record_without_record_end_is_ended_by_whatever_comes(ending: str) -> None:
    host = Receiver(Leniency.BARE_RECORDS)
    host.feed(b"".join(BARE)[:-1])
    assert host.link.timer is not None
    assert host.link.timer.seconds == 2.0
    stop(host, ending)
    last = [event for event in host.events if isinstance(event, FrameReceived)][-1]
    assert (last.text, last.last) == (b"L|1|N", True)


@pytest.mark.parametrize("ending", ["silence", "lost", "eot", "enq"])
def test_another_record_without_record_end_may_be_half_of_one_and_is_kept_as_such(ending: str) -> None:
    host = Receiver(Leniency.BARE_RECORDS)
    host.feed(b"".join(BARE[:3])[:-2])
    assert host.link.timer is not None
    assert host.link.timer.seconds == 30.0
    stop(host, ending)
    last = [event for event in host.events if isinstance(event, FrameReceived)][-1]
    assert (last.text, last.last) == (b"R|1|^^^GLU|5.", False)


def stop(host: Receiver, ending: str) -> None:
    if ending == "silence":
        host.link.timeout()
    elif ending == "lost":
        host.link.lost()
    else:
        host.feed({"eot": EOT, "enq": ENQ}[ending])
    host.drain()
    assert SessionEnded({"silence": "timeout"}.get(ending, ending)) in host.events


def test_a_bare_record_longer_than_a_frame_comes_in_pieces_and_nothing_is_lost() -> None:
    text = b"H|\\^&\rM|1|" + b"x" * 1000 + b"\rL|1|N\r"
    host = Receiver(Leniency.BARE_RECORDS, max_frame_bytes=107)
    host.feed(text)
    assert b"".join(host.stored) == text
    assert max(map(len, host.stored)) == 100
    assert host.events[-1] == SessionEnded("terminator")


def test_a_header_within_a_line_begins_no_message() -> None:
    host = Receiver(Leniency.BARE_RECORDS)
    assert host.feed(b"noise H|\\^&\r", b"Hallo\r", b"H") == b""
    assert host.stored == []
    host.feed(b"|\\^&\r")  # the H was at the begin of its line
    assert host.stored == [BARE[0]]


def test_a_bare_record_that_is_refused_ends_the_message_and_the_next_is_taken() -> None:
    host = Receiver(Leniency.BARE_RECORDS, refuse=frozenset({1}))
    host.feed(b"".join(BARE * 2))
    assert SessionEnded("refused") in host.events
    assert host.reasons() == ["refused"]
    assert host.stored == BARE[:1] + BARE


def test_frames_are_still_taken_where_records_may_be_bare() -> None:
    host = Receiver(Leniency.BARE_RECORDS)
    assert host.feed(ENQ, H, P, L, EOT, *BARE, ENQ, H) == ACK * 6
    assert host.stored == [b"H|\\^&\r", b"P|1\r", b"L|1|N\r", *BARE, b"H|\\^&\r"]
