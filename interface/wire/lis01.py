"""LIS01-A2 (ASTM E1381) data link, receiver and sender, without input or output of its own.

The pump feeds `receive`, `timeout` and `lost`, takes events with `next_event` until None, writes what `data_to_send`
gives, and watches `timer`. Every step is a row of `datalink_table.TABLE`. After a `FrameReceived` nothing is answered
or read on until the pump says `stored` or `refused`: the ACK is the promise that the frame is committed.
No input raises anything; memory is bounded by the frame limit.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from interface.errors import LinkFrameError
from interface.wire.buffer import ByteQueue
from interface.wire.datalink_events import (
    EVIDENCE_BYTES,
    Delivered,
    Event,
    FrameReceived,
    FrameRejected,
    FrameRepeated,
    Leniency,
    LeniencyUsed,
    LinkOptions,
    OddFirstNumber,
    SendFailed,
    SessionEnded,
    SessionRefused,
    SessionStarted,
    Skipped,
    Station,
    Timer,
)  # fmt: skip
from interface.wire.datalink_table import TABLE, Action, Input, State
from interface.wire.frames import (
    ACK,
    CR,
    ENQ,
    EOT,
    ETX,
    FRAME_OVERHEAD_BYTES,
    LF,
    NAK,
    STX,
    build_frame,
    checksum,
    parse_frame,
)  # fmt: skip

__all__ = [
    "DataLink", "Delivered", "Event", "FrameReceived", "FrameRejected", "FrameRepeated", "Leniency", "LeniencyUsed",
    "LinkOptions", "OddFirstNumber", "SendFailed", "SessionEnded", "SessionRefused", "SessionStarted", "Skipped",
    "State", "Station", "Timer", "build_frame", "checksum", "cut", "parse_frame",
]  # fmt: skip

_READ_AHEAD_BYTES = 65_536
_FRAME_BEGIN = re.compile(b"[\x02\x04\x05]")
_NOT_STX = re.compile(b"[^\x02]")
_FRAME_END = re.compile(b"[\x02\x03\x04\x05\x17]")
_MEANING = {  # bytes with a meaning where no frame is expected
    State.NEUTRAL: re.compile(b"[\x04\x05]"),
    State.HOLD_OFF: re.compile(b"[\x04\x05]"),
    State.ENQUIRING: re.compile(b"[\x04\x05\x06\x15]"),
    State.SENDING: re.compile(b"[\x04\x06\x15]"),
}
# LIS01-A2: restricted characters; text that contains one must not be sent.
_RESTRICTED = re.compile(b"[\x01-\x06\x0a\x10-\x17]")
_UPPER, _LOWER = b"0123456789ABCDEF", b"abcdef"


@dataclass(slots=True)
class _Outgoing:
    ticket: int
    frames: Sequence[bytes]
    at: int = 0
    rejects: int = 0
    attempts: int = 0


class _Phase(StrEnum):
    """Where in a frame the receiver is."""

    HUNT = "hunt"
    TEXT = "text"
    CHECK = "check"


def cut(text: bytes, size: int) -> tuple[bytes, ...]:
    """Frames for one message: ETB between pieces of at most `size` bytes, ETX at the end, numbers from 1."""
    parts = [text[at : at + size] for at in range(0, len(text), size)] or [b""]
    return tuple(build_frame(number, part, number == len(parts)) for number, part in enumerate(parts, start=1))


class DataLink:
    """One half-duplex line. Not for use by two tasks at once."""

    def __init__(self, station: Station, options: LinkOptions | None = None) -> None:
        self.options = options or LinkOptions()
        self.ready = True  # whether an ENQ may be acknowledged now; the pump sets it
        self._station = station
        self._state = State.NEUTRAL
        self._timer: Timer | None = None
        self._serial = 0
        self._events: deque[Event] = deque()
        self._out = bytearray()
        self._in = ByteQueue()
        self._junk = bytearray()  # the current run of bytes without meaning
        self._junk_seen = False  # this run has been counted as a reply already
        self._phase = _Phase.HUNT
        self._frame = bytearray()  # STX to ETB or ETX
        self._trailer = bytearray()
        self._damage = ""  # why the frame under way cannot be taken
        self._tail_due = False  # after a frame under MISSING_CRLF
        self._last_fn: int | None = None
        self._last_raw = b""
        self._from_one = False  # the session's first frame must be number 1
        self._offered: FrameReceived | None = None
        self._queue: deque[_Outgoing] = deque()
        self._tickets = 0
        self._actions: dict[Action, Callable[[], None]] = {
            Action.IGNORE: lambda: None,
            Action.SKIP: lambda: None,
            Action.ACCEPT: self._accept,
            Action.DECLINE: self._decline,
            Action.RESTART: self._restart,
            Action.BREAK_OFF: self._break_off,
            Action.END: lambda: self._end("eot"),
            Action.END_CUT: self._end_cut,
            Action.END_TIMEOUT: lambda: self._end("timeout"),
            Action.END_LOST: self._end_lost,
            Action.HAND_OVER: self._hand_over,
            Action.REPEAT_ACK: self._repeat_ack,
            Action.REJECT: self._reject,
            Action.ACK_FRAME: self._ack_frame,
            Action.NAK_FRAME: self._nak_frame,
            Action.ENQUIRE: self._enquire,
            Action.FIRST_FRAME: self._first_frame,
            Action.NEXT_FRAME: self._next_frame,
            Action.RESEND: self._resend,
            Action.FINISH: self._finish,
            Action.ABORT: lambda: self._give_up("rejected"),
            Action.WAIT_BUSY: lambda: self._hold_off("busy", self.options.busy_hold_off_s),
            Action.WAIT_CONTENTION: self._wait_contention,
            Action.WAIT_SILENCE: self._wait_silence,
            Action.YIELD: self._yield,
            Action.FAIL_ALL: self._fail_all,
        }

    # ---- the pump's side ------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self._state

    @property
    def timer(self) -> Timer | None:
        """The timer that is running; compare by identity to see that it was set anew."""
        return self._timer

    @property
    def in_session(self) -> bool:
        """Whether we are receiving."""
        return self._state in (State.RECEIVING, State.STORING)

    @property
    def idle(self) -> bool:
        return self._state in (State.NEUTRAL, State.HOLD_OFF) and not self._queue

    def receive(self, data: bytes) -> None:
        """Bytes from the line. What exceeds the read-ahead while a frame waits for its answer is dropped."""
        room = self.options.max_frame_bytes + _READ_AHEAD_BYTES - len(self._in)
        if self._state is State.STORING and len(data) > room:
            self._events.append(Skipped(data[max(room, 0) :][:EVIDENCE_BYTES]))
            data = data[: max(room, 0)]
        self._in.append(data)
        if self._state is State.RECEIVING and self._phase is not _Phase.HUNT and self._damage != "oversize":
            # LIS01-A2 counts 30 s from the last reply; 64 kB at 9600 baud take 67 s, so a frame that goes on may go on.
            self._arm(self.options.frame_wait_s)

    def next_event(self) -> Event | None:
        """The next event, in the order of the bytes; None when more bytes, an answer or time are needed."""
        while not self._events:
            if not len(self._in) or self._state is State.STORING:
                return None
            if self._state is not State.RECEIVING:
                self._read_reply()
            elif self._phase is _Phase.HUNT:
                self._read_begin()
            elif self._phase is _Phase.TEXT:
                self._read_text()
            else:
                self._read_trailer()
        return self._events.popleft()

    def data_to_send(self) -> bytes:
        """What is to be written now; given once."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def stored(self) -> None:
        """The frame handed over is committed: ACK."""
        self._step(Input.STORED)

    def refused(self) -> None:
        """The frame handed over is not stored, or nobody knows: NAK; the sender repeats it."""
        self._step(Input.REFUSED)

    def timeout(self) -> None:
        """The timer ran out."""
        self._timer = None
        self._flush_line()
        self._step(Input.TIMEOUT)

    def lost(self) -> None:
        """The byte stream ended. Unread bytes are dropped; messages that were not delivered are reported failed."""
        self._in.clear()
        self._flush_line()
        self._step(Input.LOST)

    def send(self, text: bytes) -> int:
        """Queue a message; its ticket comes back in `Delivered` or `SendFailed`.

        Raises LinkFrameError (`restricted`) for characters that LIS01-A2 forbids in a frame.
        """
        if found := _RESTRICTED.search(text):
            raise LinkFrameError("restricted", f"character {found[0][0]:#04x} must not be sent in a frame")
        return self.send_frames(cut(text, self.options.frame_text_bytes))

    def send_frames(self, frames: Sequence[bytes]) -> int:
        """Queue a message that is framed already; the bytes go out as they are."""
        self._tickets += 1
        self._queue.append(_Outgoing(self._tickets, tuple(frames)))
        self._step(Input.QUEUED)
        return self._tickets

    # ---- reading --------------------------------------------------------------------------------------------------

    def _read_reply(self) -> None:
        count = self._in.find(_MEANING[self._state])
        if count:
            self._skip(self._in.take(count))
            if not self._junk_seen:
                self._junk_seen = (
                    True  # LIS01-A2: any byte other than ACK and EOT rejects the frame; a burst does so once
                )
                self._step(self._rejection() if self._state is State.SENDING else Input.JUNK)
            return
        self._flush_junk()
        code = self._in.take(1)[0]
        if code == ENQ:
            self._step(Input.ENQ if self.ready else Input.ENQ_NOT_READY)
        elif self._state is not State.SENDING:
            self._step({EOT: Input.EOT, ACK: Input.ACK, NAK: Input.NAK}[code])
        elif code == NAK:
            self._step(self._rejection())
        elif self._queue[0].at + 1 == len(self._queue[0].frames):
            self._step(Input.ACK_LAST)
        else:
            self._step(Input.INTERRUPT if code == EOT and self.options.honour_interrupt else Input.ACK)

    def _rejection(self) -> Input:
        self._queue[0].rejects += 1
        return Input.NAK_LAST if self._queue[0].rejects >= self.options.max_rejects else Input.NAK

    def _read_begin(self) -> None:
        count = self._in.find(_FRAME_BEGIN)
        if count:
            self._skip(self._in.take(count))  # LIS01-A2: what comes before STX is discarded
            return
        self._flush_junk()
        code = self._in.take(1)[0]
        if code == STX:
            self._begin_frame("")
            self._arm(self.options.frame_wait_s)
        elif code == EOT:
            self._step(Input.EOT)
        else:
            self._step(Input.ENQ if self.ready else Input.ENQ_NOT_READY)

    def _begin_frame(self, damage: str) -> None:
        self._phase, self._damage = _Phase.TEXT, damage
        self._frame[:] = b"\x02"
        self._trailer.clear()

    def _read_text(self) -> None:
        text = self._in.take(self._in.find(_FRAME_END))
        if self._damage != "oversize":
            self._frame += text
            limit = self.options.max_frame_bytes - FRAME_OVERHEAD_BYTES + 2  # STX and FN count, the end has not come
            if len(self._frame) > limit:
                self._damage = "oversize"
                del self._frame[min(EVIDENCE_BYTES, limit) :]
        if not len(self._in):
            return
        code = self._in.take(1)[0]
        if code == STX:
            # The frame before it was cut, or noise made an STX: what follows is not taken, and answered once.
            self._skip(bytes(self._frame) + self._in.take(self._in.find(_NOT_STX)))
            self._begin_frame("control_character")
        elif code == EOT:
            self._step(Input.CUT_FRAME)
        elif code == ENQ:
            # An ACK could be taken for the frame's; NAK is right for a sender that restarts and for one that does not.
            self._damaged("control_character")
        else:
            self._frame.append(code)
            self._phase = _Phase.CHECK

    def _read_trailer(self) -> None:
        lenient, place = self.options.leniencies, len(self._trailer)
        code = self._in.first()
        if place == 0 and Leniency.NO_CHECKSUM in lenient and chr(code) not in "0123456789ABCDEFabcdef":
            if code != CR and Leniency.MISSING_CRLF in lenient:
                self._complete()  # the byte is not the frame's
                return
            if code == CR:
                self._trailer += b"\0\0"  # no digits were sent
                place = 2
        if code == EOT:
            self._in.take(1)
            self._step(Input.CUT_FRAME)
            return
        self._trailer += self._in.take(1)
        if place < 2:
            if code not in _UPPER and code not in _LOWER:
                self._damaged("checksum")
            elif place == 1 and Leniency.MISSING_CRLF in lenient:
                self._complete()
        elif code != (CR, LF)[place - 2]:
            self._damaged("terminator")
        elif place == 3 or Leniency.MISSING_CRLF in lenient:
            self._complete()

    def _complete(self) -> None:
        """A whole frame is there: take it, know it again, or refuse it."""
        digits, wanted = bytes(self._trailer[:2]).replace(b"\0", b""), checksum(bytes(self._frame[1:]))
        tail_due = Leniency.MISSING_CRLF in self.options.leniencies and len(self._trailer) == 2
        if self._damage:
            self._damaged(self._damage)
        elif not self._sum_accepted(digits, wanted):
            self._damaged("checksum")
        elif not 0x30 <= self._frame[1] <= 0x39:
            self._damaged("frame_number")
        else:
            self._offer(self._frame[1] - 0x30, bytes(self._frame) + digits + bytes(self._trailer[2:]))
        self._tail_due = tail_due

    def _sum_accepted(self, digits: bytes, wanted: bytes) -> bool:
        if digits == wanted:
            return True
        used = Leniency.LOWER_CASE_CHECKSUM if digits.upper() == wanted else Leniency.NO_CHECKSUM
        if used not in self.options.leniencies and Leniency.NO_CHECKSUM not in self.options.leniencies:
            return False
        self._events.append(LeniencyUsed(used))
        return True

    def _offer(self, fn: int, raw: bytes) -> None:
        """A frame with good bytes: its number decides."""
        unsequenced = Leniency.FN_UNSEQUENCED in self.options.leniencies
        self._phase = _Phase.HUNT
        self._offered = FrameReceived(fn, raw, bytes(self._frame[2:-1]), self._frame[-1] == ETX)
        if self._last_fn is not None and raw == self._last_raw:
            self._step(Input.REPEAT)
        elif self._last_fn is None and (fn == 1 or (fn < 8 and not self._from_one)):
            if fn != 1:
                self._events.append(OddFirstNumber(fn))
            self._step(Input.FRAME)
        elif self._last_fn is not None and fn == (self._last_fn + 1) % 8:
            self._step(Input.FRAME)
        elif unsequenced:
            self._events.append(LeniencyUsed(Leniency.FN_UNSEQUENCED))
            self._step(Input.FRAME)
        else:
            self._damaged("same_fn" if fn == self._last_fn else "gap")

    def _damaged(self, reason: str) -> None:
        self._damage = reason
        self._step(Input.BAD_FRAME)

    def _skip(self, data: bytes) -> None:
        self._junk += data
        while len(self._junk) >= EVIDENCE_BYTES:
            self._note_tail()
            self._events.append(Skipped(bytes(self._junk[:EVIDENCE_BYTES])))
            del self._junk[:EVIDENCE_BYTES]

    def _note_tail(self) -> None:
        if self._tail_due and not self._junk.startswith(b"\r\n"):
            self._events.append(LeniencyUsed(Leniency.MISSING_CRLF))
        self._tail_due = False

    def _flush_junk(self) -> None:
        """The run of meaningless bytes is over. Line ends alone are not worth a word."""
        self._note_tail()
        if self._junk.strip(b"\r\n"):
            self._events.append(Skipped(bytes(self._junk)))
        self._junk.clear()
        self._junk_seen = False

    def _flush_line(self) -> None:
        """The line fell silent or ended: what was under way is no frame any more."""
        if self._state is State.RECEIVING and self._phase is not _Phase.HUNT:
            self._skip(bytes(self._frame + self._trailer))
            self._phase = _Phase.HUNT
        self._flush_junk()

    # ---- steps ----------------------------------------------------------------------------------------------------

    def _step(self, signal: Input) -> None:
        action, target = TABLE[self._state, signal]
        before, self._state = self._state, target
        if target is not before and target in (State.NEUTRAL, State.STORING):
            self._timer = None
        self._actions[action]()
        if target is State.NEUTRAL and self._queue:
            self._step(Input.QUEUED)

    def _arm(self, seconds: float) -> None:
        self._serial += 1
        self._timer = Timer(seconds, self._serial)

    def _reply(self, code: int) -> None:
        self._out.append(code)
        self._arm(self.options.frame_wait_s)

    def _accept(self) -> None:
        self._last_fn, self._last_raw, self._from_one = None, b"", False
        self._phase = _Phase.HUNT
        self._events.append(SessionStarted())
        self._reply(ACK)

    def _decline(self) -> None:
        self._out.append(NAK)
        self._events.append(SessionRefused())

    def _restart(self) -> None:
        self._end("enq")
        self._accept()
        # Should noise have turned an STX into this ENQ, our ACK would swallow a frame: then the next is not number 1.
        self._from_one = True

    def _break_off(self) -> None:
        self._end("enq")
        self._decline()

    def _end(self, reason: str) -> None:
        self._phase = _Phase.HUNT
        self._offered = None
        self._events.append(SessionEnded(reason))

    def _end_cut(self) -> None:
        self._flush_junk()
        self._events.append(FrameRejected("cut", bytes(self._frame + self._trailer)))
        self._end("eot")

    def _end_lost(self) -> None:
        self._end("lost")
        self._fail_all()

    def _hand_over(self) -> None:
        if self._offered is not None:
            self._events.append(self._offered)

    def _repeat_ack(self) -> None:
        if self._offered is not None:
            self._events.append(FrameRepeated(self._offered.fn))
        self._reply(ACK)

    def _reject(self) -> None:
        self._flush_junk()
        self._phase = _Phase.HUNT
        self._events.append(FrameRejected(self._damage, bytes(self._frame + self._trailer)))
        self._reply(NAK)

    def _ack_frame(self) -> None:
        if self._offered is not None:
            self._last_fn, self._last_raw = self._offered.fn, self._offered.raw
        self._reply(ACK)

    def _nak_frame(self) -> None:
        self._reply(NAK)

    def _enquire(self) -> None:
        self._queue[0].attempts += 1
        self._out.append(ENQ)
        self._arm(self.options.reply_wait_s)

    def _first_frame(self) -> None:
        self._queue[0].at = 0
        self._queue[0].rejects = 0
        self._resend()

    def _next_frame(self) -> None:
        self._queue[0].at += 1
        self._queue[0].rejects = 0
        self._resend()

    def _resend(self) -> None:
        self._out += self._queue[0].frames[self._queue[0].at]
        self._arm(self.options.reply_wait_s)

    def _finish(self) -> None:
        self._out.append(EOT)
        self._events.append(Delivered(self._queue.popleft().ticket))

    def _give_up(self, reason: str) -> None:
        self._out.append(EOT)
        self._events.append(SendFailed(self._queue.popleft().ticket, reason))

    def _hold_off(self, reason: str, seconds: float) -> None:
        """The message stays queued, from its first frame, unless its attempts are used up."""
        if self._queue[0].attempts >= self.options.max_attempts:
            self._events.append(SendFailed(self._queue.popleft().ticket, reason))
        self._arm(seconds)

    def _wait_contention(self) -> None:
        host = self._station is Station.HOST
        self._hold_off("contention", self.options.host_hold_off_s if host else self.options.instrument_hold_off_s)

    def _wait_silence(self) -> None:
        self._out.append(EOT)
        self._hold_off("timeout", self.options.busy_hold_off_s)

    def _yield(self) -> None:
        self._out.append(EOT)
        self._hold_off("interrupted", self.options.interrupt_hold_off_s)

    def _fail_all(self) -> None:
        while self._queue:
            self._events.append(SendFailed(self._queue.popleft().ticket, "lost"))
