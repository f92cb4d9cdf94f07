"""LIS01-A2 data link: every legal step, for receiver and sender, as one table (PROTOCOLS §1.3, §1.4).

`docs/datalink.md` is made from it by `wire.datalink_doc`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache

from interface.wire.datalink_events import Leniency
from interface.wire.frames import STX


class _Name(StrEnum):
    """A name that is looked up at every step: hashed as the text it is, not by the slower way of enumerations."""

    __hash__ = str.__hash__


class State(_Name):
    NEUTRAL = "neutral"
    HOLD_OFF = "hold_off"  # neutral, and for a while not allowed to ask for the line
    RECEIVING = "receiving"
    STORING = "storing"  # a frame was handed over and is not answered yet; no byte is read
    BARE = "bare"  # records without frames are received (leniency bare_records)
    BARE_STORING = "bare_storing"  # one of them was handed over
    ENQUIRING = "enquiring"  # ENQ sent
    SENDING = "sending"  # a frame sent


class Input(_Name):
    ENQ = "enq"
    ENQ_NOT_READY = "enq_not_ready"  # ENQ while nothing can be stored
    ENQ_AGAIN = "enq_again"  # in a session, under the leniency repeated_enq
    ENQ_CONCEDED = "enq_conceded"  # it collides with ours, and the link acknowledges it at once (ack_colliding_enq)
    STX = "stx"  # outside a session, under the leniency missing_enq
    RECORD = "record"  # an H record outside a session, under the leniency bare_records
    EOT = "eot"
    EOT_ABORT = "eot_abort"  # while the frame before it stands refused: the sender has given up
    ACK = "ack"
    ACK_LAST = "ack_last"  # of the message's last frame (EOT stands for it, LIS01-A2 receiver interrupt)
    NAK = "nak"
    NAK_LAST = "nak_last"  # the rejection that ends the attempt
    INTERRUPT = "interrupt"  # EOT instead of ACK in mid-message, and we honour it
    JUNK = "junk"  # a run of bytes without meaning here
    FRAME = "frame"  # good and in sequence; a piece of a message without frames
    REPEAT = "repeat"  # byte-identical to the frame accepted last
    REPEAT_WANTED = "repeat_wanted"  # the same, and we want the line
    BAD_FRAME = "bad_frame"
    CUT_FRAME = "cut_frame"  # EOT inside a frame
    STORED = "stored"
    STORED_WANTED = "stored_wanted"  # committed, and we want the line
    STORED_LAST = "stored_last"  # the L record of a message without frames is committed
    REFUSED = "refused"
    QUEUED = "queued"  # there is something to send
    TIMEOUT = "timeout"
    LOST = "lost"  # the byte stream ended


class Action(_Name):
    IGNORE = "ignore"
    SKIP = "skip"  # count and keep as evidence
    ACCEPT = "accept"  # ACK the ENQ, a session begins
    DECLINE = "decline"  # NAK the ENQ
    RESTART = "restart"  # ENQ in a session: end it, ACK, begin another
    BREAK_OFF = "break_off"  # ENQ in a session: end it, NAK
    ACK_AGAIN = "ack_again"  # ENQ in a session: ACK, the session goes on
    OPEN = "open"  # a session begins without ENQ, nothing is answered
    OPEN_BARE = "open_bare"
    END = "end"
    END_ABORTED = "end_aborted"
    END_TIMEOUT = "end_timeout"
    END_LOST = "end_lost"
    END_BARE = "end_bare"
    END_REFUSED = "end_refused"
    HAND_OVER = "hand_over"
    REPEAT_ACK = "repeat_ack"
    REPEAT_EOT = "repeat_eot"  # acknowledged by the receiver interrupt
    REJECT = "reject"
    ACK_FRAME = "ack_frame"
    EOT_FRAME = "eot_frame"  # receiver interrupt: an acceptance, and the line is asked for
    NAK_FRAME = "nak_frame"
    KEEP = "keep"  # nothing is answered, the records go on
    ENQUIRE = "enquire"
    FIRST_FRAME = "first_frame"
    NEXT_FRAME = "next_frame"
    RESEND = "resend"
    FINISH = "finish"
    ABORT = "abort"
    WAIT_BUSY = "wait_busy"
    WAIT_CONTENTION = "wait_contention"
    WAIT_SILENCE = "wait_silence"
    WAIT_NOBODY = "wait_nobody"  # the same, and nobody had answered our ENQ
    YIELD = "yield"
    FAIL_ALL = "fail_all"


_S, _I, _A = State, Input, Action
_LATE = (  # the answer came after the line was lost or the session was over
    (_I.STORED, _A.IGNORE, None),
    (_I.REFUSED, _A.IGNORE, None),
)
_IDLE = (
    (_I.ENQ, _A.ACCEPT, _S.RECEIVING),
    (_I.ENQ_NOT_READY, _A.DECLINE, None),
    (_I.STX, _A.OPEN, _S.RECEIVING),
    (_I.RECORD, _A.OPEN_BARE, _S.BARE),
    (_I.EOT, _A.IGNORE, None),
    (_I.JUNK, _A.SKIP, None),
    *_LATE,
)
_ROWS: dict[State, tuple[tuple[Input, Action, State | None], ...]] = {  # None: stay
    _S.NEUTRAL: (
        *_IDLE,
        (_I.QUEUED, _A.ENQUIRE, _S.ENQUIRING),
        (_I.TIMEOUT, _A.IGNORE, None),
        (_I.LOST, _A.IGNORE, None),
    ),
    _S.HOLD_OFF: (
        *_IDLE,
        (_I.QUEUED, _A.IGNORE, None),
        (_I.TIMEOUT, _A.IGNORE, _S.NEUTRAL),
        (_I.LOST, _A.FAIL_ALL, _S.NEUTRAL),
    ),
    _S.RECEIVING: (
        (_I.ENQ, _A.RESTART, None),
        (_I.ENQ_NOT_READY, _A.BREAK_OFF, _S.NEUTRAL),
        (_I.ENQ_AGAIN, _A.ACK_AGAIN, None),
        (_I.EOT, _A.END, _S.NEUTRAL),
        (_I.EOT_ABORT, _A.END_ABORTED, _S.NEUTRAL),
        (_I.FRAME, _A.HAND_OVER, _S.STORING),
        (_I.REPEAT, _A.REPEAT_ACK, None),
        (_I.REPEAT_WANTED, _A.REPEAT_EOT, None),
        (_I.BAD_FRAME, _A.REJECT, None),
        (_I.CUT_FRAME, _A.END_ABORTED, _S.NEUTRAL),
        *_LATE,
        (_I.QUEUED, _A.IGNORE, None),
        (_I.TIMEOUT, _A.END_TIMEOUT, _S.NEUTRAL),
        (_I.LOST, _A.END_LOST, _S.NEUTRAL),
    ),
    _S.STORING: (
        (_I.STORED, _A.ACK_FRAME, _S.RECEIVING),
        (_I.STORED_WANTED, _A.EOT_FRAME, _S.RECEIVING),
        (_I.REFUSED, _A.NAK_FRAME, _S.RECEIVING),
        (_I.QUEUED, _A.IGNORE, None),
        (_I.TIMEOUT, _A.IGNORE, None),
        (_I.LOST, _A.END_LOST, _S.NEUTRAL),
    ),
    _S.BARE: (
        (_I.ENQ, _A.RESTART, _S.RECEIVING),
        (_I.ENQ_NOT_READY, _A.BREAK_OFF, _S.NEUTRAL),
        (_I.EOT, _A.END, _S.NEUTRAL),
        (_I.FRAME, _A.HAND_OVER, _S.BARE_STORING),
        *_LATE,
        (_I.QUEUED, _A.IGNORE, None),
        (_I.TIMEOUT, _A.END_TIMEOUT, _S.NEUTRAL),
        (_I.LOST, _A.END_LOST, _S.NEUTRAL),
    ),
    _S.BARE_STORING: (
        (_I.STORED, _A.KEEP, _S.BARE),
        (_I.STORED_LAST, _A.END_BARE, _S.NEUTRAL),
        (_I.REFUSED, _A.END_REFUSED, _S.NEUTRAL),
        (_I.QUEUED, _A.IGNORE, None),
        (_I.TIMEOUT, _A.IGNORE, None),
        (_I.LOST, _A.END_LOST, _S.NEUTRAL),
    ),
    _S.ENQUIRING: (
        (_I.ACK, _A.FIRST_FRAME, _S.SENDING),
        (_I.NAK, _A.WAIT_BUSY, _S.HOLD_OFF),
        (_I.EOT, _A.WAIT_BUSY, _S.HOLD_OFF),
        (_I.ENQ, _A.WAIT_CONTENTION, _S.HOLD_OFF),
        (_I.ENQ_NOT_READY, _A.WAIT_CONTENTION, _S.HOLD_OFF),
        (_I.ENQ_CONCEDED, _A.ACCEPT, _S.RECEIVING),
        (_I.STX, _A.OPEN, _S.RECEIVING),
        (_I.RECORD, _A.OPEN_BARE, _S.BARE),
        (_I.JUNK, _A.SKIP, None),
        *_LATE,
        (_I.QUEUED, _A.IGNORE, None),
        (_I.TIMEOUT, _A.WAIT_NOBODY, _S.HOLD_OFF),
        (_I.LOST, _A.FAIL_ALL, _S.NEUTRAL),
    ),
    _S.SENDING: (
        (_I.ACK, _A.NEXT_FRAME, None),
        (_I.ACK_LAST, _A.FINISH, _S.NEUTRAL),
        (_I.NAK, _A.RESEND, None),
        (_I.NAK_LAST, _A.ABORT, _S.NEUTRAL),
        (_I.INTERRUPT, _A.YIELD, _S.HOLD_OFF),
        *_LATE,
        (_I.QUEUED, _A.IGNORE, None),
        (_I.TIMEOUT, _A.WAIT_SILENCE, _S.HOLD_OFF),
        (_I.LOST, _A.FAIL_ALL, _S.NEUTRAL),
    ),
}
TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (state, signal): (action, target or state) for state, rows in _ROWS.items() for signal, action, target in rows
}
"""What is absent cannot happen: the reader gives each state only the inputs that have a meaning there."""

# LIS01-A2: bytes with a meaning where no frame is expected.
_MEANING = {
    State.NEUTRAL: b"\x04\x05", State.HOLD_OFF: b"\x04\x05", State.ENQUIRING: b"\x04\x05\x06\x15",
    State.SENDING: b"\x04\x06\x15",
}  # fmt: skip


@cache
def meanings(lenient: frozenset[Leniency]) -> dict[State, re.Pattern[bytes]]:
    """What is looked for in each state of `_MEANING`."""
    more = bytes([STX]) * (Leniency.MISSING_ENQ in lenient) + b"Hh" * (Leniency.BARE_RECORDS in lenient)
    codes = {state: found + more * (state is not State.SENDING) for state, found in _MEANING.items()}
    return {state: re.compile(b"[" + re.escape(found) + b"]") for state, found in codes.items()}
