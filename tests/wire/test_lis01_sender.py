"""The LIS01-A2 sender: ENQ, frames, rejections, contention, hold-off, giving up (PROTOCOLS 1.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.errors import LinkFrameError
from interface.wire.lis01 import (
    DataLink,
    Delivered,
    Event,
    FrameReceived,
    Leniency,
    LinkOptions,
    SendFailed,
    SessionEnded,
    State,
    Station,
    build_frame,
    cut,
    parse_frame,
)

ENQ, EOT, ACK, NAK = b"\x05", b"\x04", b"\x06", b"\x15"
TEXT = b"H|\\^&\rP|1\rL|1|N\r"
FIRST, SECOND, THIRD = cut(TEXT, 6)


class Sender:
    def __init__(self, station: Station = Station.INSTRUMENT, options: LinkOptions | None = None) -> None:
        self.link = DataLink(station, options or LinkOptions(frame_text_bytes=6))
        self.events = list[Event]()
        self.ticket = self.link.send(TEXT)

    def say(self, *replies: bytes) -> bytes:
        """What is written after the replies, one after the other."""
        out = self.link.data_to_send()
        for reply in replies:
            self.link.receive(reply)
            out += self.drain()
        return out

    def drain(self) -> bytes:
        while (event := self.link.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, FrameReceived):
                self.link.stored()
        return self.link.data_to_send()

    def wait(self) -> bytes:
        self.link.timeout()
        return self.drain()

    @property
    def timer_s(self) -> float | None:
        return self.link.timer.seconds if self.link.timer else None


def test_text_is_cut_at_the_limit_with_etb_between() -> None:
    assert [parse_frame(frame) for frame in (FIRST, SECOND, THIRD)] == [
        (1, b"H|\\^&\r", False),
        (2, b"P|1\rL|", False),
        (3, b"1|N\r", True),
    ]
    assert [parse_frame(frame)[0] for frame in cut(b"x" * 90, 10)] == [1, 2, 3, 4, 5, 6, 7, 0, 1]


def test_a_message_is_sent_frame_by_frame() -> None:
    sender = Sender()
    assert [sender.say(reply) for reply in (b"", ACK, ACK, ACK, ACK)] == [ENQ, FIRST, SECOND, THIRD, EOT]
    assert sender.events == [Delivered(sender.ticket)]
    assert sender.link.idle
    assert sender.timer_s is None


def test_a_rejected_frame_is_sent_again_with_its_number() -> None:
    sender = Sender()
    assert sender.say(ACK, ACK, NAK, NAK, ACK) == ENQ + FIRST + SECOND + SECOND + SECOND + THIRD


def test_the_sixth_rejection_ends_the_attempt() -> None:
    sender = Sender()
    assert sender.say(ACK, ACK, *[NAK] * 5) == ENQ + FIRST + SECOND * 6
    assert sender.say(NAK) == EOT
    assert sender.events == [SendFailed(sender.ticket, "rejected")]


def test_rejections_are_counted_per_frame() -> None:
    sender = Sender()
    sender.say(ACK, *[NAK] * 5, ACK, *[NAK] * 5, ACK, ACK)
    assert sender.events == [Delivered(sender.ticket)]


def test_a_burst_of_junk_rejects_the_frame_once() -> None:
    sender = Sender()
    assert sender.say(ACK, b"~~", b"~~~", ACK) == ENQ + FIRST + FIRST + SECOND


def test_a_busy_receiver_is_asked_again_after_ten_seconds() -> None:
    sender = Sender()
    assert sender.say(NAK) == ENQ
    assert sender.timer_s == 10.0
    assert sender.wait() == ENQ
    assert sender.say(ACK) == FIRST


def test_a_receiver_that_stays_busy_is_given_up() -> None:
    sender = Sender(options=LinkOptions(max_attempts=2))
    sender.say(NAK)
    sender.wait()
    sender.say(NAK)
    assert sender.events == [SendFailed(sender.ticket, "busy")]
    assert sender.wait() == b""
    assert sender.link.idle


def test_no_reply_to_enq_or_frame_is_eot_and_a_new_attempt_from_the_first_frame() -> None:
    sender = Sender()
    sender.say(b"")
    assert sender.timer_s == 15.0
    assert sender.wait() == EOT
    assert sender.wait() == ENQ
    assert sender.say(ACK, ACK) == FIRST + SECOND
    assert sender.timer_s == 15.0
    assert sender.wait() == EOT
    assert sender.wait() == ENQ
    assert sender.say(ACK) == FIRST


@pytest.mark.parametrize(("station", "hold_off_s"), [(Station.HOST, 20.0), (Station.INSTRUMENT, 1.0)])
def test_in_contention_both_wait_and_the_instrument_less(station: Station, hold_off_s: float) -> None:
    sender = Sender(station)
    assert sender.say(ENQ) == ENQ
    assert sender.timer_s == hold_off_s
    assert sender.wait() == ENQ


def test_the_one_that_waits_receives_and_then_sends() -> None:
    host = Sender(Station.HOST)
    frame = build_frame(1, b"H|\\^&\r", True)
    assert host.say(ENQ, ENQ, frame, EOT) == ENQ + ACK + ACK + ENQ
    assert host.events[-1] == SessionEnded("eot")
    assert host.say(ACK, ACK, ACK, ACK) == FIRST + SECOND + THIRD + EOT


def test_a_receiver_interrupt_is_honoured_or_taken_for_ack() -> None:
    sender = Sender()
    assert sender.say(ACK, EOT) == ENQ + FIRST + EOT
    assert sender.timer_s == 15.0
    assert sender.wait() == ENQ
    assert sender.say(ACK) == FIRST
    other = Sender(options=LinkOptions(frame_text_bytes=6, honour_interrupt=False))
    assert other.say(ACK, EOT) == ENQ + FIRST + SECOND


def take(link: DataLink, chunk: bytes) -> tuple[list[Event], bytes]:
    """A host that stores everything."""
    link.receive(chunk)
    events = list[Event]()
    while (event := link.next_event()) is not None:
        events.append(event)
        if isinstance(event, FrameReceived):
            assert link.data_to_send() == b""  # nothing before the commit, be it ACK or EOT
            link.stored()
    return events, link.data_to_send()


def test_a_receiver_that_wants_the_line_accepts_with_eot_until_it_has_it() -> None:
    host = DataLink(Station.HOST)
    take(host, ENQ)
    frames = [build_frame(fn, b"C|%d\r" % fn, True) for fn in (1, 2, 3, 4)]
    assert take(host, frames[0])[1] == ACK
    host.want_line()
    assert take(host, frames[1])[1] == ACK  # there is nothing to send, so nothing that it could want the line for
    host.send(TEXT)
    assert take(host, frames[2])[1] == EOT
    assert take(host, frames[2])[1] == EOT  # a repeat: the first EOT was lost
    assert take(host, frames[3])[1] == EOT  # the sender does not honour it
    assert take(host, EOT)[1] == ENQ
    assert host.state is State.ENQUIRING
    assert take(host, ACK)[1] == cut(TEXT, 240)[0]
    assert take(host, ACK)[1] == EOT
    take(host, ENQ)
    assert take(host, frames[0])[1] == ACK  # it is content


def test_a_frame_that_is_not_stored_is_never_interrupted_for() -> None:
    host = DataLink(Station.HOST)
    take(host, ENQ)
    host.send(TEXT)
    host.want_line()
    host.receive(build_frame(1, b"H|\\^&\r", True))
    assert isinstance(host.next_event(), FrameReceived)
    host.refused()
    assert host.data_to_send() == NAK


def test_where_eot_completes_a_message_no_sender_is_interrupted() -> None:
    host = DataLink(Station.HOST, LinkOptions(leniencies=frozenset({Leniency.NO_TERMINATOR_RECORD})))
    take(host, ENQ)
    host.send(TEXT)
    host.want_line()
    assert take(host, build_frame(1, b"H|\\^&\r", True))[1] == ACK


def test_an_interrupted_sender_gives_the_line_and_sends_its_message_whole_afterwards() -> None:
    instrument, host = Sender(), DataLink(Station.HOST)
    host_text = b"H|\\^&\rQ|1\rL|1|N\r"
    assert take(host, instrument.say(b""))[1] == ACK
    host.send(host_text)
    host.want_line()
    interrupt = take(host, instrument.say(ACK))[1]
    assert interrupt == EOT
    asked = take(host, instrument.say(interrupt))[1]
    assert asked == ENQ
    assert instrument.timer_s == 15.0
    answer = instrument.say(asked)
    assert answer == ACK  # during its hold-off
    for _ in range(3):
        answer = instrument.say(take(host, answer)[1])
    assert instrument.link.state in (State.ENQUIRING, State.SENDING)  # the line is neutral again: no need to wait
    assert [event.text for event in instrument.events if isinstance(event, FrameReceived)] == [host_text]
    while not instrument.link.idle:
        answer = instrument.say(take(host, answer)[1])
    assert instrument.events[-1] == Delivered(instrument.ticket)


@pytest.mark.parametrize("ready", [True, False])
def test_a_colliding_enq_may_be_acknowledged_at_once(ready: bool) -> None:
    host = Sender(Station.HOST, LinkOptions(frame_text_bytes=6, ack_colliding_enq=True))
    host.link.ready = ready
    assert host.say(ENQ) == (ENQ + ACK if ready else ENQ)
    assert host.link.in_session is ready
    if ready:
        assert host.say(build_frame(1, b"H|\\^&\r", True), EOT) == ACK + ENQ
        assert host.say(ACK, ACK, ACK, ACK) == FIRST + SECOND + THIRD + EOT
    else:
        assert host.timer_s == 20.0


@pytest.mark.parametrize("size", [1, 240, 63_993])
def test_frames_are_as_long_as_the_option_says(size: int) -> None:
    link = DataLink(Station.HOST, LinkOptions(frame_text_bytes=size))
    text = b"x" * (2 * size + 1)
    link.send(text)
    sent = b""
    for _ in range(5):
        sent += link.data_to_send()
        link.receive(ACK)
        while link.next_event() is not None:
            pass
    frames = cut(text, size)
    assert sent == ENQ + b"".join(frames) + EOT
    assert [len(frame) for frame in frames] == [size + 7, size + 7, 8]


def test_eot_after_the_last_frame_delivers() -> None:
    sender = Sender()
    assert sender.say(ACK, ACK, ACK, EOT) == ENQ + FIRST + SECOND + THIRD + EOT
    assert sender.events == [Delivered(sender.ticket)]


def test_a_lost_line_reports_every_message_as_failed() -> None:
    sender = Sender()
    second = sender.link.send(TEXT)
    sender.say(ACK)
    sender.link.lost()
    sender.drain()
    assert sender.events == [SendFailed(sender.ticket, "lost"), SendFailed(second, "lost")]


def test_messages_go_out_one_session_each_in_order() -> None:
    sender = Sender()
    sender.link.send_frames([THIRD])
    assert sender.say(ACK, ACK, ACK, ACK) == ENQ + FIRST + SECOND + THIRD + EOT + ENQ
    assert sender.say(ACK, ACK) == THIRD + EOT


@pytest.mark.parametrize("code", [0x02, 0x03, 0x04, 0x05, 0x0A, 0x15, 0x17])
def test_restricted_characters_are_not_sent(code: int) -> None:
    with pytest.raises(LinkFrameError):
        DataLink(Station.HOST).send(b"R|1|%c\r" % code)


@given(st.binary(min_size=1, max_size=60).filter(lambda text: not set(text) & {*range(1, 7), 10, *range(16, 24)}))
def test_sender_and_receiver_understand_each_other(text: bytes) -> None:
    instrument, host = DataLink(Station.INSTRUMENT, LinkOptions(frame_text_bytes=7)), DataLink(Station.HOST)
    instrument.send(text)
    received = b""
    while not instrument.idle:
        host.receive(instrument.data_to_send())
        while (event := host.next_event()) is not None:
            if isinstance(event, FrameReceived):
                received += event.text
                host.stored()
        instrument.receive(host.data_to_send())
        while instrument.next_event() is not None:
            assert instrument.state in (State.SENDING, State.NEUTRAL)
    assert received == text


@given(st.lists(st.sampled_from([ENQ, EOT, ACK, NAK, b"~", FIRST, b"\x02", b"timer"]), max_size=40))
def test_no_reply_wedges_the_sender(replies: list[bytes]) -> None:
    sender = Sender(options=LinkOptions(frame_text_bytes=6, max_attempts=100))
    for reply in replies:
        if reply == b"timer" and sender.link.timer is not None:
            sender.wait()
        elif reply != b"timer":
            sender.say(reply)
    for _ in range(20):
        if sender.link.timer is None:
            break
        sender.wait()
        sender.say(*[ACK] * 5)
    assert sender.link.idle
    assert [event for event in sender.events if isinstance(event, Delivered | SendFailed)]


def test_who_talks_and_does_not_answer_our_enq_is_not_sent_an_eot_that_would_acknowledge_its_frame() -> None:
    """LIS01-A2: EOT stands for ACK to a sender. We were started anew in the middle of its message."""
    sender = Sender(Station.HOST)
    assert sender.say(build_frame(4, b"R|1|^^^WBC|7.3\r", True)) == ENQ
    assert (sender.wait(), sender.link.state, sender.timer_s) == (b"", State.HOLD_OFF, 10.0)
    assert sender.wait() == ENQ
    assert sender.wait() == EOT  # nobody was heard any more
