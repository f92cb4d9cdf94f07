"""Every row of the transition table, taken by a live data link: what it sends, where it goes, which timer it sets.

Typed from PROTOCOLS 1.3 and 1.4, beside the copy of the table itself in test_datalink_table.
"""

from __future__ import annotations

import pytest

from interface.wire.datalink_table import TABLE, Input, State
from interface.wire.lis01 import (
    DataLink,
    Delivered,
    Event,
    FrameReceived,
    FrameRejected,
    FrameRepeated,
    Leniency,
    LeniencyUsed,
    LinkOptions,
    SendFailed,
    SessionEnded,
    SessionRefused,
    SessionStarted,
    Skipped,
    Station,
    build_frame,
    cut,
)

BYTES = {"-": b"", "ENQ": b"\x05", "EOT": b"\x04", "ACK": b"\x06", "NAK": b"\x15"}
H, P = build_frame(1, b"H|\\^&\r", True), build_frame(2, b"P|1\r", True)
TEXT = b"H|\\^&\rL|1|N\r"
FRAMES = cut(TEXT, 6)

# state, input: what is sent (F1, F2: the frames of our message), the state after it, the timer, what is told.
# A message is queued in hold_off, enquiring and sending, and where the input says that we want the line; so neutral
# goes on to enquiring.
STEPS = """
neutral       enq            ACK     receiving     30  started
neutral       enq_not_ready  NAK     neutral       -   refused
neutral       stx            -       receiving     30  started lenient
neutral       record         -       bare          30  started lenient
neutral       eot            -       neutral       -   -
neutral       junk           -       neutral       -   skipped
neutral       stored         -       neutral       -   -
neutral       refused        -       neutral       -   -
neutral       queued         ENQ     enquiring     15  -
neutral       timeout        -       neutral       -   -
neutral       lost           -       neutral       -   -
hold_off      enq            ACK     receiving     30  started
hold_off      enq_not_ready  NAK     hold_off      10  refused
hold_off      stx            -       receiving     30  started lenient
hold_off      record         -       bare          30  started lenient
hold_off      eot            -       hold_off      10  -
hold_off      junk           -       hold_off      10  skipped
hold_off      stored         -       hold_off      10  -
hold_off      refused        -       hold_off      10  -
hold_off      queued         -       hold_off      10  -
hold_off      timeout        ENQ     enquiring     15  -
hold_off      lost           -       neutral       -   failed
receiving     enq            ACK     receiving     30  ended:enq started
receiving     enq_not_ready  NAK     neutral       -   ended:enq refused
receiving     enq_again      ACK     receiving     30  lenient
receiving     eot            -       neutral       -   ended:eot
receiving     eot_abort      -       neutral       -   ended:aborted
receiving     frame          -       storing       -   frame
receiving     repeat         ACK     receiving     30  repeated
receiving     repeat_wanted  EOT     receiving     30  repeated
receiving     bad_frame      NAK     receiving     30  rejected
receiving     cut_frame      -       neutral       -   rejected ended:aborted
receiving     stored         -       receiving     30  -
receiving     refused        -       receiving     30  -
receiving     queued         -       receiving     30  -
receiving     timeout        -       neutral       -   ended:timeout
receiving     lost           -       neutral       -   ended:lost
storing       stored         ACK     receiving     30  -
storing       stored_wanted  EOT     receiving     30  -
storing       refused        NAK     receiving     30  -
storing       queued         -       storing       -   -
storing       timeout        -       storing       -   -
storing       lost           -       neutral       -   ended:lost
bare          enq            ACK     receiving     30  ended:enq started
bare          enq_not_ready  NAK     neutral       -   ended:enq refused
bare          eot            -       neutral       -   ended:eot
bare          frame          -       bare_storing  -   frame
bare          stored         -       bare          30  -
bare          refused        -       bare          30  -
bare          queued         -       bare          30  -
bare          timeout        -       neutral       -   ended:timeout
bare          lost           -       neutral       -   ended:lost
bare_storing  stored         -       bare          30  -
bare_storing  stored_last    -       neutral       -   ended:terminator
bare_storing  refused        -       neutral       -   rejected ended:refused
bare_storing  queued         -       bare_storing  -   -
bare_storing  timeout        -       bare_storing  -   -
bare_storing  lost           -       neutral       -   ended:lost
enquiring     ack            F1      sending       15  -
enquiring     nak            -       hold_off      10  -
enquiring     eot            -       hold_off      10  -
enquiring     enq            -       hold_off      20  -
enquiring     enq_not_ready  -       hold_off      20  -
enquiring     enq_conceded   ACK     receiving     30  started
enquiring     stx            -       receiving     30  started lenient
enquiring     record         -       bare          30  started lenient
enquiring     junk           -       enquiring     15  skipped
enquiring     stored         -       enquiring     15  -
enquiring     refused        -       enquiring     15  -
enquiring     queued         -       enquiring     15  -
enquiring     timeout        EOT     hold_off      10  -
enquiring     lost           -       neutral       -   failed
sending       ack            F2      sending       15  -
sending       ack_last       EOT     neutral       -   delivered
sending       nak            F1      sending       15  -
sending       nak_last       EOT     neutral       -   failed
sending       interrupt      EOT     hold_off      15  -
sending       stored         -       sending       15  -
sending       refused        -       sending       15  -
sending       queued         -       sending       15  -
sending       timeout        EOT     hold_off      10  -
sending       lost           -       neutral       -   failed
"""
ROWS = [line.split(maxsplit=5) for line in STEPS.strip().splitlines()]
NAMED = {
    Input.STX: Leniency.MISSING_ENQ,
    Input.RECORD: Leniency.BARE_RECORDS,
    Input.ENQ_AGAIN: Leniency.REPEATED_ENQ,
}


def drain(link: DataLink) -> tuple[list[Event], bytes]:
    events = list[Event]()
    while (event := link.next_event()) is not None:
        events.append(event)
    return events, link.data_to_send()


def feed(link: DataLink, *chunks: bytes) -> None:
    for chunk in chunks:
        link.receive(chunk)
        drain(link)


def bring(link: DataLink, state: State) -> None:
    """The usual way into a state."""
    if state in (State.HOLD_OFF, State.ENQUIRING, State.SENDING):
        link.send_frames(FRAMES)
        feed(link, *{State.HOLD_OFF: [BYTES["NAK"]], State.SENDING: [BYTES["ACK"]]}.get(state, []))
    elif state in (State.RECEIVING, State.STORING):
        feed(link, BYTES["ENQ"], H)
        if state is State.RECEIVING:
            link.stored()
    elif state in (State.BARE, State.BARE_STORING):
        feed(link, b"H|\\^&\r")
        if state is State.BARE:
            link.stored()
    drain(link)
    assert link.state is state


def give(link: DataLink, state: State, signal: Input) -> None:
    """One input, as bytes, an answer or time."""
    stream = {
        Input.ENQ: BYTES["ENQ"], Input.ENQ_NOT_READY: BYTES["ENQ"], Input.ENQ_AGAIN: BYTES["ENQ"],
        Input.ENQ_CONCEDED: BYTES["ENQ"], Input.STX: b"\x02", Input.RECORD: b"H|", Input.EOT: BYTES["EOT"],
        Input.EOT_ABORT: BYTES["EOT"], Input.ACK: BYTES["ACK"], Input.ACK_LAST: BYTES["ACK"], Input.NAK: BYTES["NAK"],
        Input.NAK_LAST: BYTES["NAK"], Input.INTERRUPT: BYTES["EOT"], Input.JUNK: b"~" * 4096,
        Input.FRAME: b"P|1\r" if state is State.BARE else P, Input.REPEAT: H, Input.REPEAT_WANTED: H,
        Input.BAD_FRAME: P.replace(b"P", b"Q"), Input.CUT_FRAME: P[:4] + BYTES["EOT"],
    }  # fmt: skip
    if signal in stream:
        link.receive(stream[signal])
    elif signal is Input.REFUSED:
        link.refused()
    elif signal is Input.QUEUED:
        link.send_frames(FRAMES)
    elif signal is Input.TIMEOUT:
        link.timeout()
    elif signal is Input.LOST:
        link.lost()
    else:
        link.stored()


def prepare(link: DataLink, signal: Input) -> None:
    """What makes of the same bytes this input."""
    if signal is Input.ENQ_NOT_READY:
        link.ready = False
    elif signal in (Input.STORED_WANTED, Input.REPEAT_WANTED):
        link.want_line()
        link.send_frames(FRAMES)
    elif signal is Input.EOT_ABORT:
        feed(link, P.replace(b"P", b"Q"))
    elif signal is Input.STORED_LAST:
        link.stored()
        feed(link, b"L|1|N\r")
    elif signal is Input.ACK_LAST:
        feed(link, BYTES["ACK"])
    elif signal is Input.NAK_LAST:
        feed(link, *[BYTES["NAK"]] * 5)


def told(events: list[Event]) -> str:
    words = []
    for event in events:
        match event:
            case SessionStarted():
                words.append("started")
            case SessionRefused():
                words.append("refused")
            case SessionEnded(reason):
                words.append(f"ended:{reason}")
            case FrameReceived():
                words.append("frame")
            case FrameRepeated():
                words.append("repeated")
            case FrameRejected():
                words.append("rejected")
            case Skipped():
                words.append("skipped")
            case LeniencyUsed():
                words.append("lenient")
            case Delivered():
                words.append("delivered")
            case SendFailed():
                words.append("failed")
    return " ".join(words) or "-"


def test_the_steps_are_those_of_the_table() -> None:
    named = [(State(state), Input(signal)) for state, signal, *_ in ROWS]
    assert len(named) == len(set(named))
    assert set(named) == set(TABLE)


@pytest.mark.parametrize(("state", "signal", "sent", "after", "timer", "events"), ROWS, ids=lambda word: word)
def test_a_step(state: str, signal: str, sent: str, after: str, timer: str, events: str) -> None:
    given = Input(signal)
    leniencies = {NAMED[given]} if given in NAMED else set()
    if state.startswith("bare"):
        leniencies.add(Leniency.BARE_RECORDS)
    options = LinkOptions(leniencies=frozenset(leniencies), ack_colliding_enq=given is Input.ENQ_CONCEDED)
    link = DataLink(Station.HOST, options)
    bring(link, State(state))
    prepare(link, given)
    give(link, State(state), given)
    seen, out = drain(link)
    expected = {"F1": FRAMES[0], "F2": FRAMES[1]}.get(sent, BYTES.get(sent))
    assert (out, link.state, told(seen)) == (expected, State(after), events)
    assert (f"{link.timer.seconds:g}" if link.timer else "-") == timer


def test_as_instrument_the_line_is_asked_for_again_after_a_second() -> None:
    link = DataLink(Station.INSTRUMENT, LinkOptions(ack_colliding_enq=True))  # which is the host's alone
    bring(link, State.ENQUIRING)
    give(link, State.ENQUIRING, Input.ENQ)
    assert drain(link) == ([], b"")
    assert link.state is State.HOLD_OFF
    assert link.timer is not None
    assert link.timer.seconds == 1.0
