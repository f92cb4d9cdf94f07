"""LIS01-A2 data link: every legal step, for receiver and sender, as one table (PROTOCOLS §1.3, §1.4)."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    NEUTRAL = "neutral"
    HOLD_OFF = "hold_off"  # neutral, and for a while not allowed to ask for the line
    RECEIVING = "receiving"
    STORING = "storing"  # a frame was handed over and is not answered yet; no byte is read
    ENQUIRING = "enquiring"  # ENQ sent
    SENDING = "sending"  # a frame sent


class Input(StrEnum):
    ENQ = "enq"
    ENQ_NOT_READY = "enq_not_ready"  # ENQ while nothing can be stored
    EOT = "eot"
    ACK = "ack"
    ACK_LAST = "ack_last"  # of the message's last frame (EOT stands for it, LIS01-A2 receiver interrupt)
    NAK = "nak"
    NAK_LAST = "nak_last"  # the rejection that ends the attempt
    INTERRUPT = "interrupt"  # EOT instead of ACK in mid-message, and we honour it
    JUNK = "junk"  # a run of bytes without meaning here
    FRAME = "frame"  # good and in sequence
    REPEAT = "repeat"  # byte-identical to the frame accepted last
    BAD_FRAME = "bad_frame"
    CUT_FRAME = "cut_frame"  # EOT inside a frame
    STORED = "stored"
    REFUSED = "refused"
    QUEUED = "queued"  # there is something to send
    TIMEOUT = "timeout"
    LOST = "lost"  # the byte stream ended


class Action(StrEnum):
    IGNORE = "ignore"
    SKIP = "skip"  # count and keep as evidence
    ACCEPT = "accept"  # ACK the ENQ, a session begins
    DECLINE = "decline"  # NAK the ENQ
    RESTART = "restart"  # ENQ in a session: end it, ACK, begin another
    BREAK_OFF = "break_off"  # ENQ in a session: end it, NAK
    END = "end"
    END_CUT = "end_cut"
    END_TIMEOUT = "end_timeout"
    END_LOST = "end_lost"
    HAND_OVER = "hand_over"
    REPEAT_ACK = "repeat_ack"
    REJECT = "reject"
    ACK_FRAME = "ack_frame"
    NAK_FRAME = "nak_frame"
    ENQUIRE = "enquire"
    FIRST_FRAME = "first_frame"
    NEXT_FRAME = "next_frame"
    RESEND = "resend"
    FINISH = "finish"
    ABORT = "abort"
    WAIT_BUSY = "wait_busy"
    WAIT_CONTENTION = "wait_contention"
    WAIT_SILENCE = "wait_silence"
    YIELD = "yield"
    FAIL_ALL = "fail_all"


_S, _I, _A = State, Input, Action
_IDLE = (
    (_I.ENQ, _A.ACCEPT, _S.RECEIVING),
    (_I.EOT, _A.IGNORE, None),
    (_I.JUNK, _A.SKIP, None),
    (_I.ENQ_NOT_READY, _A.DECLINE, None),
    (_I.STORED, _A.IGNORE, None),  # the answer came after the line was lost
    (_I.REFUSED, _A.IGNORE, None),
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
        (_I.EOT, _A.END, _S.NEUTRAL),
        (_I.FRAME, _A.HAND_OVER, _S.STORING),
        (_I.REPEAT, _A.REPEAT_ACK, None),
        (_I.BAD_FRAME, _A.REJECT, None),
        (_I.CUT_FRAME, _A.END_CUT, _S.NEUTRAL),
        (_I.STORED, _A.IGNORE, None),
        (_I.REFUSED, _A.IGNORE, None),
        (_I.QUEUED, _A.IGNORE, None),
        (_I.TIMEOUT, _A.END_TIMEOUT, _S.NEUTRAL),
        (_I.LOST, _A.END_LOST, _S.NEUTRAL),
    ),
    _S.STORING: (
        (_I.STORED, _A.ACK_FRAME, _S.RECEIVING),
        (_I.REFUSED, _A.NAK_FRAME, _S.RECEIVING),
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
        (_I.JUNK, _A.SKIP, None),
        (_I.STORED, _A.IGNORE, None),
        (_I.REFUSED, _A.IGNORE, None),
        (_I.QUEUED, _A.IGNORE, None),
        (_I.TIMEOUT, _A.WAIT_SILENCE, _S.HOLD_OFF),
        (_I.LOST, _A.FAIL_ALL, _S.NEUTRAL),
    ),
    _S.SENDING: (
        (_I.ACK, _A.NEXT_FRAME, None),
        (_I.ACK_LAST, _A.FINISH, _S.NEUTRAL),
        (_I.NAK, _A.RESEND, None),
        (_I.NAK_LAST, _A.ABORT, _S.NEUTRAL),
        (_I.INTERRUPT, _A.YIELD, _S.HOLD_OFF),
        (_I.STORED, _A.IGNORE, None),
        (_I.REFUSED, _A.IGNORE, None),
        (_I.QUEUED, _A.IGNORE, None),
        (_I.TIMEOUT, _A.WAIT_SILENCE, _S.HOLD_OFF),
        (_I.LOST, _A.FAIL_ALL, _S.NEUTRAL),
    ),
}
TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (state, signal): (action, target or state) for state, rows in _ROWS.items() for signal, action, target in rows
}
"""What is absent cannot happen: the reader gives each state only the inputs that have a meaning there."""
