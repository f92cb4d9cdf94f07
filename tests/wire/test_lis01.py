"""The LIS01-A2 receiver: what it answers, hands over, refuses and skips (PROTOCOLS 1.4)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.wire.lis01 import (
    DataLink,
    FrameReceived,
    FrameRejected,
    FrameRepeated,
    Leniency,
    LeniencyUsed,
    LinkOptions,
    SessionEnded,
    SessionRefused,
    SessionStarted,
    Skipped,
    State,
    Station,
    build_frame,
)
from tests.wire.receiver import ACK, ENQ, EOT, NAK, H, L, P, Receiver


def test_a_session_is_acknowledged_frame_by_frame() -> None:
    host = Receiver()
    assert [host.feed(part) for part in (ENQ, H, P, L, EOT)] == [ACK, ACK, ACK, ACK, b""]
    assert host.stored == [b"H|\\^&\r", b"P|1\r", b"L|1|N\r"]
    assert host.events[0] == SessionStarted()
    assert host.events[-1] == SessionEnded("eot")
    assert host.link.idle


def test_bytes_one_at_a_time_and_all_at_once_give_the_same() -> None:
    session = ENQ + H + P + L + EOT
    slow, fast = Receiver(), Receiver()
    assert slow.feed(*(bytes([code]) for code in session)) == fast.feed(session) == ACK * 4
    assert slow.events == fast.events
    assert slow.stored == fast.stored == [b"H|\\^&\r", b"P|1\r", b"L|1|N\r"]


def test_nothing_is_answered_or_read_on_before_the_frame_is_stored() -> None:
    link = DataLink(Station.HOST)
    link.receive(ENQ + H + P)
    assert link.next_event() == SessionStarted()
    assert isinstance(link.next_event(), FrameReceived)
    assert link.data_to_send() == ACK  # the ENQ's
    link.receive(L)
    assert link.next_event() is None
    assert link.data_to_send() == b""
    assert link.timer is None
    link.stored()
    assert link.data_to_send() == ACK
    second = link.next_event()
    assert isinstance(second, FrameReceived)
    assert second.fn == 2


def test_a_frame_keeps_its_raw_bytes() -> None:
    host = Receiver()
    host.feed(ENQ + b"noise" + H)
    assert FrameReceived(1, H, b"H|\\^&\r", True) in host.events
    assert Skipped(b"noise") in host.events


def test_etb_and_etx_are_told_apart() -> None:
    host = Receiver()
    host.feed(ENQ + build_frame(1, b"H|\\", False) + build_frame(2, b"^&\r", True))
    assert [event.last for event in host.events if isinstance(event, FrameReceived)] == [False, True]


def test_a_wrong_checksum_is_refused_and_the_repeat_taken() -> None:
    host = Receiver()
    damaged = P.replace(b"P|1", b"P|2")
    assert host.feed(ENQ, H, damaged, P) == ACK + ACK + NAK + ACK
    assert host.events[2] == FrameRejected("checksum", damaged)
    assert host.stored == [b"H|\\^&\r", b"P|1\r"]


def test_a_repeated_frame_is_acknowledged_and_not_stored_again() -> None:
    host = Receiver()
    assert host.feed(ENQ, H, H, H, P) == ACK * 5
    assert host.stored == [b"H|\\^&\r", b"P|1\r"]
    assert host.events.count(FrameRepeated(1)) == 2


def test_the_same_number_with_other_bytes_is_refused() -> None:
    host = Receiver()
    assert host.feed(ENQ, H, build_frame(1, b"H|\\^&|x\r", True)) == ACK + ACK + NAK
    assert host.reasons() == ["same_fn"]


def test_a_gap_in_the_numbers_is_refused() -> None:
    host = Receiver()
    assert host.feed(ENQ, H, L, P, H) == ACK + ACK + NAK + ACK + NAK
    assert host.reasons() == ["gap", "gap"]


def test_only_the_frame_before_can_be_repeated() -> None:
    """Eight frames on the number is the same again: identity with the last accepted frame decides, not the number."""
    host = Receiver()
    frames = [build_frame(fn, b"C|%d\r" % fn, True) for fn in range(1, 10)]
    assert host.feed(ENQ, *frames) == ACK * 10
    assert len(host.stored) == 9
    assert host.feed(frames[0]) == NAK


def test_a_repeat_is_not_known_across_sessions() -> None:
    host = Receiver()
    host.feed(ENQ + H + EOT + ENQ + H + EOT)
    assert host.stored == [b"H|\\^&\r"] * 2


def test_the_first_number_is_tolerated_and_told() -> None:
    host = Receiver()
    assert host.feed(ENQ, build_frame(0, b"H|\\^&\r", True), build_frame(1, b"P|1\r", True)) == ACK * 3
    assert host.events.count(LeniencyUsed(Leniency.FN_FROM_ZERO)) == 1
    assert host.feed(EOT, ENQ, build_frame(5, b"H|\\^&\r", True), build_frame(6, b"P|1\r", True)) == ACK * 3
    assert host.events.count(LeniencyUsed(Leniency.ODD_FIRST_FN)) == 1


def test_an_empty_session_is_no_error() -> None:
    host = Receiver()
    assert host.feed(ENQ + EOT) == ACK
    assert host.events == [SessionStarted(), SessionEnded("eot")]


def test_eot_and_enq_in_one_read_begin_the_next_session() -> None:
    host = Receiver()
    assert host.feed(ENQ + H, EOT + ENQ, H) == ACK * 4
    assert host.events.count(SessionEnded("eot")) == 1
    assert host.link.in_session


def test_enq_within_a_session_ends_it_and_begins_another() -> None:
    host = Receiver()
    assert host.feed(ENQ, H, ENQ, H, P) == ACK * 5
    assert host.events[2:5] == [SessionEnded("enq"), SessionStarted(), FrameReceived(1, H, b"H|\\^&\r", True)]


def test_noise_that_reads_as_enq_cannot_swallow_a_frame() -> None:
    """STX turned into ENQ: the sender takes our ACK for its frame's; the next number shows that one is missing."""
    host = Receiver()
    assert host.feed(ENQ, H, ENQ + P[1:], L) == ACK * 3 + NAK
    assert b"L|1|N\r" not in host.stored


def test_enq_inside_a_frame_is_never_acknowledged() -> None:
    host = Receiver()
    assert host.feed(ENQ, H[:4] + ENQ + H[4:], H) == ACK + NAK + ACK
    assert host.reasons() == ["control_character"]


def test_eot_inside_a_frame_ends_the_session() -> None:
    host = Receiver()
    assert host.feed(ENQ, H, P[:4], EOT) == ACK + ACK
    assert host.events[-2:] == [FrameRejected("cut", P[:4]), SessionEnded("aborted")]


def test_stx_inside_a_frame_is_answered_once_with_nak() -> None:
    host = Receiver()
    assert host.feed(ENQ, H[:4] + H, H) == ACK + NAK + ACK
    assert host.reasons() == ["control_character"]
    assert host.stored == [b"H|\\^&\r"]


@pytest.mark.parametrize(
    "bad", [b"\x021H|\r\x03ZZ\r\n", b"\x021H|\r\x035\r\n", b"\x02\x0303\r\n", b"\x02H|\r\x0304\r\n"]
)
def test_a_frame_without_number_or_digits_is_refused_once(bad: bytes) -> None:
    host = Receiver()
    assert host.feed(ENQ, bad, H) == ACK + NAK + ACK


@pytest.mark.parametrize("end", [b"\n", b"\r\r", b"xx"])
def test_a_frame_without_cr_lf_is_refused(end: bytes) -> None:
    host = Receiver()
    assert host.feed(ENQ, H[:-2] + end, H) == ACK + NAK + ACK
    assert host.reasons() == ["terminator"]


def test_an_oversize_frame_is_refused_at_its_end_and_never_kept() -> None:
    host = Receiver(max_frame_bytes=100_000)
    assert host.feed(ENQ, build_frame(1, b"x" * 99_993, True)) == ACK + ACK
    chunks = [b"\x022", *[b"y" * 1000] * 500]
    assert host.feed(*chunks) == b""
    assert host.feed(b"\x0300\r\n") == NAK
    assert host.reasons() == ["oversize"]
    assert all(len(event.data) < 5000 for event in host.events if isinstance(event, FrameRejected))
    assert host.feed(P) == ACK


def test_text_may_hold_line_feeds_and_any_high_byte() -> None:
    host = Receiver()
    text = b"P|1|\n" + bytes(range(0x80, 0x100)) + b"\r"
    assert host.feed(ENQ, build_frame(1, text, True)) == ACK + ACK
    assert host.stored == [text]


def test_store_failure_is_nak_and_the_same_frame_is_then_stored() -> None:
    host = Receiver(refuse=frozenset({1}))
    assert host.feed(ENQ, H, P, P, L) == ACK + ACK + NAK + ACK + ACK
    assert host.stored == [b"H|\\^&\r", b"P|1\r", b"L|1|N\r"]


def test_a_host_that_cannot_store_refuses_the_enq() -> None:
    host = Receiver()
    host.link.ready = False
    assert host.feed(ENQ, H) == NAK
    assert host.events == [SessionRefused()]
    host.link.ready = True
    assert host.feed(ENQ, H) == ACK + ACK


def test_enq_within_a_session_while_not_ready_ends_it_with_nak() -> None:
    host = Receiver()
    host.feed(ENQ + H)
    host.link.ready = False
    assert host.feed(ENQ) == NAK
    assert host.events[-2:] == [SessionEnded("enq"), SessionRefused()]


def test_silence_ends_the_session() -> None:
    host = Receiver()
    host.feed(ENQ + H + P[:5])
    assert host.link.timer is not None
    assert host.link.timer.seconds == 30.0
    host.link.timeout()
    assert host.drain() == b""
    assert host.events[-2:] == [Skipped(P[:5]), SessionEnded("timeout")]
    assert host.link.timer is None
    assert host.feed(ENQ, H) == ACK + ACK


def test_every_answer_sets_the_timer_anew() -> None:
    host = Receiver()
    host.feed(ENQ)
    first = host.link.timer
    host.feed(b"noise")
    assert host.link.timer is first
    host.feed(H)
    assert host.link.timer is not None
    assert host.link.timer is not first


def test_a_lost_line_ends_the_session() -> None:
    host = Receiver()
    host.feed(ENQ + H)
    host.link.lost()
    host.drain()
    assert host.events[-1] == SessionEnded("lost")
    host.link.stored()  # a late answer harms nothing
    assert host.link.data_to_send() == b""


def test_a_line_lost_while_storing_is_never_acknowledged() -> None:
    link = DataLink(Station.HOST)
    link.receive(ENQ + H)
    while not isinstance(link.next_event(), FrameReceived):
        pass
    link.data_to_send()
    link.lost()
    link.stored()
    assert link.next_event() == SessionEnded("lost")
    assert link.data_to_send() == b""


def test_bytes_that_pour_in_while_storing_are_bounded() -> None:
    link = DataLink(Station.HOST, LinkOptions(max_frame_bytes=1000))
    link.receive(ENQ + H)
    while not isinstance(link.next_event(), FrameReceived):
        pass
    for _ in range(100):
        link.receive(b"z" * 10_000)
        dropped = link.next_event()
    assert isinstance(dropped, Skipped)
    assert link.state is State.STORING


@pytest.mark.parametrize(
    ("leniency", "frame"),
    [
        (Leniency.NO_CHECKSUM, H[:-4] + b"00\r\n"),
        (Leniency.NO_CHECKSUM, H[:-4] + b"\r\n"),
        (Leniency.ZERO_CHECKSUM, H[:-4] + b"00\r\n"),
        (Leniency.LOWER_CASE_CHECKSUM, H[:-4] + H[-4:-2].lower() + b"\r\n"),
        (Leniency.MISSING_CRLF, H[:-2]),
        (Leniency.MISSING_CRLF, H[:-1]),
        (Leniency.MISSING_CRLF, H[:-2] + b"\n"),
    ],
)
def test_a_departure_is_taken_only_where_the_driver_says_so_and_is_counted(leniency: Leniency, frame: bytes) -> None:
    strict, lenient = Receiver(), Receiver(leniency)
    strict.feed(ENQ, frame, EOT)
    assert strict.stored == []
    assert lenient.feed(ENQ, frame, P, EOT) == ACK * 3
    assert lenient.stored == [b"H|\\^&\r", b"P|1\r"]
    assert lenient.events.count(LeniencyUsed(leniency)) == 1


def test_frames_that_keep_the_rule_use_no_leniency() -> None:
    host = Receiver(*Leniency)
    assert host.feed(ENQ + H + P + L + EOT) == ACK * 4
    assert not [event for event in host.events if isinstance(event, LeniencyUsed)]


def test_unsequenced_numbers_are_taken_by_checksum_alone() -> None:
    host = Receiver(Leniency.FN_UNSEQUENCED)
    frames = [build_frame(fn, b"R|%d\r" % at, True) for at, fn in enumerate((1, 2, 3, 1, 1, 1, 4))]
    assert host.feed(ENQ, *frames, frames[-1]) == ACK * 9
    assert len(host.stored) == 7
    assert host.events.count(LeniencyUsed(Leniency.FN_UNSEQUENCED)) == 4


def test_zero_stands_for_any_sum_and_nothing_else_does() -> None:
    host = Receiver(Leniency.ZERO_CHECKSUM)
    assert host.feed(ENQ, H[:-4] + b"01\r\n", H[:-4] + b"00\r\n", P) == ACK + NAK + ACK + ACK
    assert host.uses() == {Leniency.ZERO_CHECKSUM: 1}


def test_the_narrowest_leniency_that_was_named_is_counted() -> None:
    lower = H[:-4] + H[-4:-2].lower() + b"\r\n"
    for named, frame, counted in (
        ({Leniency.NO_CHECKSUM, Leniency.ZERO_CHECKSUM}, H[:-4] + b"00\r\n", Leniency.ZERO_CHECKSUM),
        ({Leniency.NO_CHECKSUM, Leniency.LOWER_CASE_CHECKSUM}, lower, Leniency.LOWER_CASE_CHECKSUM),
        ({Leniency.NO_CHECKSUM}, lower, Leniency.NO_CHECKSUM),
    ):
        host = Receiver(*named)
        assert host.feed(ENQ, frame) == ACK + ACK
        assert host.uses() == {counted: 1}


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        (b"H|\\^&\r\nP|1\r\n", {Leniency.CRLF_RECORDS: 1}),
        (b"H|\\^&\nP|1\n", {Leniency.LF_RECORDS: 1}),
        (b"H|\\^&\r\nP|1\n", {Leniency.CRLF_RECORDS: 1, Leniency.LF_RECORDS: 1}),
        (b"H|\\^&\rP|1", {Leniency.MISSING_FINAL_CR: 1}),
        (b"H|\\^&\rP|1\r", {}),
        (b"", {}),
    ],
)
def test_any_record_end_is_taken_from_everybody_and_counted(text: bytes, counted: dict[Leniency, int]) -> None:
    host = Receiver()
    assert host.feed(ENQ, build_frame(1, text, True)) == ACK + ACK
    assert host.stored == [text]
    assert host.uses() == counted


def test_etb_leaves_a_record_open_and_that_is_no_departure() -> None:
    host = Receiver()
    host.feed(ENQ, build_frame(1, b"H|\\^", False), build_frame(2, b"&\r", True))
    assert host.uses() == {}


def test_stx_begins_a_session_only_where_enq_may_be_missing() -> None:
    strict, host = Receiver(), Receiver(Leniency.MISSING_ENQ)
    assert strict.feed(H, P, L, EOT) == b""
    assert host.feed(H, P, L, EOT) == ACK * 3
    assert host.stored == [b"H|\\^&\r", b"P|1\r", b"L|1|N\r"]
    assert host.events[0] == SessionStarted()
    assert host.events[-1] == SessionEnded("eot")
    assert host.uses() == {Leniency.MISSING_ENQ: 1}
    assert host.feed(ENQ, H, EOT) == ACK + ACK  # and a session with ENQ is none the worse
    assert host.uses() == {Leniency.MISSING_ENQ: 1}


def test_a_host_that_cannot_store_begins_no_session_without_enq() -> None:
    host = Receiver(Leniency.MISSING_ENQ)
    host.link.ready = False
    assert host.feed(H) == b""
    assert not host.link.in_session


def test_of_two_enqs_without_a_frame_between_them_one_is_acknowledged() -> None:
    """The other ACK would be taken for that of the first frame: seed 40116 of the simulation."""
    host = Receiver()
    assert host.feed(ENQ, H, P, L, ENQ, ENQ, H) == ACK * 6, "noise made an ENQ of the EOT"
    assert host.feed(EOT, ENQ, ENQ) == ACK
    host.link.timeout()
    assert host.feed(ENQ, H) == ACK * 2, "who has not heard it is waited for"


def test_a_repeated_enq_is_acknowledged_and_the_session_goes_on() -> None:
    host = Receiver(Leniency.REPEATED_ENQ)
    assert host.feed(ENQ, ENQ, H, ENQ, P, ENQ, P, L, EOT) == ACK * 8
    assert host.stored == [b"H|\\^&\r", b"P|1\r", b"L|1|N\r"]
    assert host.uses() == {Leniency.REPEATED_ENQ: 3}
    assert [event for event in host.events if isinstance(event, SessionEnded)] == [SessionEnded("eot")]


def test_after_a_repeated_enq_the_numbers_may_begin_anew_with_a_header_alone() -> None:
    host = Receiver(Leniency.REPEATED_ENQ)
    second = build_frame(1, b"H|\\^&|2\r", True)
    assert host.feed(ENQ, H, P, ENQ, second, P) == ACK * 6
    frames = [build_frame(fn, b"C|%d\r" % fn, True) for fn in range(3, 8)]
    assert host.feed(*frames) == ACK * 5
    # Frame 0 is lost to noise that reads as ENQ, so frame 1, which is no header, must not be taken.
    assert host.feed(ENQ, build_frame(1, b"C|9\r", True)) == ACK + NAK
    assert host.reasons() == ["gap"]


def test_noise_that_reads_as_enq_cannot_swallow_a_frame_under_any_leniency() -> None:
    for named in ({Leniency.REPEATED_ENQ}, {Leniency.REPEATED_ENQ, Leniency.FN_UNSEQUENCED}):
        host = Receiver(*named)
        host.feed(ENQ, H, ENQ + P[1:], L)
        # Either the next frame is refused, or the session has ended and the message with it.
        assert host.reasons() == ["gap"] or SessionEnded("enq") in host.events
        swallowed = Receiver(*named)
        swallowed.feed(ENQ, ENQ + H[1:], P)
        assert swallowed.reasons() == ["gap"] or Leniency.FN_UNSEQUENCED in named  # then there is no header


def test_eot_after_a_refused_frame_is_not_the_end_of_a_message() -> None:
    damaged = P.replace(b"P|1", b"P|2")
    for frames, reason in (
        ((H, P), "eot"),
        ((H, damaged), "aborted"),
        ((H, damaged, P), "eot"),
        ((H, P, damaged, P), "eot"),  # the repeat was acknowledged
        ((H, P[:5]), "aborted"),
    ):
        host = Receiver()
        host.feed(ENQ, *frames, EOT)
        assert host.events[-1] == SessionEnded(reason)
    unstored = Receiver(refuse=frozenset({1}))
    unstored.feed(ENQ, H, P, EOT)
    assert unstored.events[-1] == SessionEnded("aborted")


PARTS = [
    ENQ,
    EOT,
    ACK,
    NAK,
    b"\x02",
    b"\x03",
    b"\x17",
    b"\r",
    b"\n",
    b"1",
    H,
    P,
    L,
    H[:5],
    P[3:],
    b"H|\\^&\r",
    b"L|1|N\r\n",
    b"H|\\^&\nL|1",
    b"\r\n",
    b"~",
    b"x" * 50,
]


@given(
    st.lists(st.one_of(st.sampled_from(PARTS), st.binary(max_size=20)), max_size=30).map(b"".join),
    st.lists(st.integers(1, 50), max_size=40),
    st.frozensets(st.sampled_from(list(Leniency))),
    st.frozensets(st.integers(0, 5)),
)
def test_any_bytes_in_any_chunks_give_the_same_events(
    data: bytes, sizes: list[int], leniencies: frozenset[Leniency], refuse: frozenset[int]
) -> None:
    edges = [0, *(edge for edge in itertools.accumulate(sizes) if edge < len(data)), len(data)]
    whole = Receiver(*leniencies, refuse=refuse, max_frame_bytes=40)
    cut = Receiver(*leniencies, refuse=refuse, max_frame_bytes=40)
    single = Receiver(*leniencies, refuse=refuse, max_frame_bytes=40)
    answers = whole.feed(data)
    assert cut.feed(*(data[a:b] for a, b in itertools.pairwise(edges))) == answers
    assert single.feed(*(bytes([code]) for code in data)) == answers
    assert whole.events == cut.events == single.events
    for host in (whole, cut):
        host.link.lost()
        host.drain()
        assert host.link.state is State.NEUTRAL
        assert host.feed(ENQ, H, EOT)[-2:] in (ACK + ACK, ACK + NAK)  # no input wedges the line


def test_a_long_stream_in_single_bytes_costs_what_it_should() -> None:
    """Amortised linear: a 60 kB frame byte by byte next to none of the work of reading it anew each time."""
    host = Receiver()
    frame = build_frame(1, b"x" * 60_000, True)
    assert host.feed(ENQ, *(bytes([code]) for code in frame)) == ACK + ACK
