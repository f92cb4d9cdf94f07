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
    """Departures from LIS01-A2 that a driver may ask for; each use is an event. None is on by default."""

    NO_CHECKSUM = "no_checksum"  # the digits are wrong or not sent
    FN_UNSEQUENCED = "fn_unsequenced"  # any digit; Horiba Yumizen H500 counts 1 2 3 4 5 1 1 1 4
    LOWER_CASE_CHECKSUM = "lower_case_checksum"
    MISSING_CRLF = "missing_crlf"  # a frame ends with its checksum, whatever line end follows


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Limits and timers; the defaults are LIS01-A2's."""

    leniencies: frozenset[Leniency] = frozenset()
    max_frame_bytes: int = MAX_TEXT_BYTES + FRAME_OVERHEAD_BYTES
    frame_text_bytes: int = LEGACY_TEXT_BYTES  # what we send; every receiver takes it
    reply_wait_s: float = 15.0
    frame_wait_s: float = 30.0
    busy_hold_off_s: float = 10.0
    host_hold_off_s: float = 20.0
    instrument_hold_off_s: float = 1.0
    interrupt_hold_off_s: float = 15.0
    max_rejects: int = 6
    max_attempts: int = 6  # sessions asked for per message before it is given up
    honour_interrupt: bool = True


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
    reason: str  # eot, enq, timeout, lost


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """A good frame in sequence. Answer with `stored()` or `refused()`. `raw` ends with what belongs to the frame."""

    fn: int
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
class OddFirstNumber:
    """The session's first frame had another number than 1; taken all the same."""

    fn: int


@dataclass(frozen=True, slots=True)
class Delivered:
    ticket: int


@dataclass(frozen=True, slots=True)
class SendFailed:
    ticket: int
    reason: str  # rejected, busy, contention, interrupted, timeout, lost


Event = (
    SessionStarted | SessionRefused | SessionEnded | FrameReceived | FrameRepeated | FrameRejected | Skipped
    | LeniencyUsed | OddFirstNumber | Delivered | SendFailed
)  # fmt: skip
