"""What goes in and out of the LIS01-A2 data link: options, timer, events."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from interface.wire.frames import FRAME_OVERHEAD_BYTES, LEGACY_TEXT_BYTES, MAX_TEXT_BYTES

EVIDENCE_BYTES = 4096  # of one run of refused bytes, kept for the administrator


class Station(StrEnum):
    """Who we are; in contention the instrument has priority."""

    HOST = "host"
    INSTRUMENT = "instrument"


class Leniency(StrEnum):
    """Departures from LIS01-A2 and LIS02-A2. Each use is an event; all but those in ALWAYS are off unless named."""

    NO_CHECKSUM = "no_checksum"  # the digits are wrong or not sent
    ZERO_CHECKSUM = "zero_checksum"  # 00 stands for any sum
    LOWER_CASE_CHECKSUM = "lower_case_checksum"
    MISSING_CRLF = "missing_crlf"  # a frame ends with its checksum, whatever line end follows
    FN_UNSEQUENCED = "fn_unsequenced"  # any digit; Horiba Yumizen H500 counts 1 2 3 4 5 1 1 1 4
    MISSING_ENQ = "missing_enq"  # STX outside a session begins one
    REPEATED_ENQ = "repeated_enq"  # ENQ in a session is acknowledged and changes nothing
    BARE_RECORDS = "bare_records"  # H to L as text, without ENQ, frames and EOT; nothing is answered
    NO_TERMINATOR_RECORD = "no_terminator_record"  # EOT completes a message without L; Abbott m2000, Hologic Panther
    FN_FROM_ZERO = "fn_from_zero"  # the session's first frame is number 0
    ODD_FIRST_FN = "odd_first_fn"  # it is number 2 to 7
    CRLF_RECORDS = "crlf_records"
    LF_RECORDS = "lf_records"
    MISSING_FINAL_CR = "missing_final_cr"  # ETX ends the record


# Taken from everybody (PROTOCOLS §1.4, §1.5): the text stays what it is, and a frame that is missing is still seen.
ALWAYS = frozenset(
    {
        Leniency.FN_FROM_ZERO, Leniency.ODD_FIRST_FN, Leniency.CRLF_RECORDS, Leniency.LF_RECORDS,
        Leniency.MISSING_FINAL_CR,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Limits and timers; the defaults are LIS01-A2's."""

    leniencies: frozenset[Leniency] = frozenset()
    max_frame_bytes: int = MAX_TEXT_BYTES + FRAME_OVERHEAD_BYTES
    frame_text_bytes: int = LEGACY_TEXT_BYTES  # what we send; every receiver takes it
    reply_wait_s: float = 15.0
    frame_wait_s: float = 30.0
    bare_wait_s: float = 2.0  # silence that ends an L record without frame and record end
    busy_hold_off_s: float = 10.0
    host_hold_off_s: float = 20.0
    instrument_hold_off_s: float = 1.0
    interrupt_hold_off_s: float = 15.0
    max_rejects: int = 6
    max_attempts: int = 6  # sessions asked for per message before it is given up
    honour_interrupt: bool = True
    ack_colliding_enq: bool = False  # host: ACK an ENQ that collides with ours at once, and receive


@dataclass(frozen=True, slots=True)
class Timer:
    """Call `timeout()` in `seconds`. A new object means that the timer was set anew."""

    seconds: float
    serial: int


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """An ENQ was acknowledged."""


@dataclass(frozen=True, slots=True)
class SessionRefused:
    """An ENQ was answered with NAK: nothing can be stored now."""


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """`reason`: eot, aborted (EOT while the last frame stands refused or is not whole), enq, timeout, lost; without
    frames also terminator (the L record is stored) and refused (a record could not be)."""

    reason: str


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """A good frame in sequence. Answer with `stored()` or `refused()`. `raw` ends with what belongs to the frame.

    `fn` None: a piece of a message without frames; `raw` is its text, and `last` says that its record is ended.
    """

    fn: int | None
    raw: bytes
    text: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class FrameRepeated:
    """Our ACK was lost; acknowledged again, not to be stored again."""

    fn: int


@dataclass(frozen=True, slots=True)
class FrameRejected:
    """Answered with NAK (`cut`: with nothing). `reason`: checksum, terminator, frame_number, same_fn, gap, oversize,
    control_character (STX or ENQ within), cut (EOT within)."""

    reason: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Skipped:
    """Bytes that belong to no frame, at most EVIDENCE_BYTES each time."""

    data: bytes


@dataclass(frozen=True, slots=True)
class LeniencyUsed:
    leniency: Leniency


@dataclass(frozen=True, slots=True)
class Delivered:
    ticket: int


@dataclass(frozen=True, slots=True)
class SendFailed:
    ticket: int
    reason: str  # rejected, busy, contention, interrupted, timeout, silent (no answer to ENQ), lost


Event = (
    SessionStarted | SessionRefused | SessionEnded | FrameReceived | FrameRepeated | FrameRejected | Skipped
    | LeniencyUsed | Delivered | SendFailed
)  # fmt: skip
