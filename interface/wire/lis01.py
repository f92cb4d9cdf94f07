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

from interface.errors import LinkFrameError
from interface.wire.buffer import ByteQueue
from interface.wire.datalink_events import (
    ALWAYS,
    EVIDENCE_BYTES,
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
    Timer,
)  # fmt: skip
from interface.wire.datalink_table import TABLE, Action, Input, State, meanings
from interface.wire.frame_reader import Broken, Cut, FrameReader, RecordReader, Replaced, Whole, bare, departures
from interface.wire.frames import (
    ACK,
    ENQ,
    EOT,
    FRAME_OVERHEAD_BYTES,
    NAK,
    STX,
    build_frame,
    checksum,
    cut,
    parse_frame,
)  # fmt: skip
from interface.wire.transmission import begins_header

__all__ = [
    "ALWAYS", "DataLink", "Delivered", "Event", "FrameReceived", "FrameRejected", "FrameRepeated", "Leniency",
    "LeniencyUsed", "LinkOptions", "SendFailed", "SessionEnded", "SessionRefused", "SessionStarted", "Skipped",
    "State", "Station", "Timer", "build_frame", "checksum", "cut", "parse_frame",
]  # fmt: skip

_READ_AHEAD_BYTES = 65_536
_FRAME_BEGIN = re.compile(b"[\x02\x04\x05]")
_HEADER = b"Hh"
_STORING = (State.STORING, State.BARE_STORING)
# LIS01-A2: restricted characters; text that contains one must not be sent.
_RESTRICTED = re.compile(b"[\x01-\x06\x0a\x10-\x17]")


@dataclass(slots=True)
class _Outgoing:
    ticket: int
    frames: Sequence[bytes]
    at: int = 0
    rejects: int = 0
    attempts: int = 0


class DataLink:
    """One half-duplex line. Not for use by two tasks at once."""

    def __init__(self, station: Station, options: LinkOptions | None = None) -> None:
        self.options = options or LinkOptions()
        self.ready = True  # whether an ENQ may be acknowledged now; the pump sets it
        self._station = station
        self._lenient = self.options.leniencies
        self._state = State.NEUTRAL
        self._timer: Timer | None = None
        self._serial = 0
        self._events: deque[Event] = deque()
        self._out = bytearray()
        self._in = ByteQueue()
        self._junk = bytearray()  # the current run of bytes without meaning
        self._junk_seen = self._talking = False  # this run has counted as a reply; one has come since our ENQ
        self._fresh = True  # what comes next is at the begin of a line of text
        self._frames = FrameReader(self.options)
        self._records = RecordReader(self.options.max_frame_bytes - FRAME_OVERHEAD_BYTES)
        self._meaning = meanings(self._lenient)
        self._tail_due = False  # after a frame under MISSING_CRLF
        self._last_fn: int | None = None
        self._last_raw = b""
        self._from_one = False  # the session's first frame must be number 1
        self._asked_again = False  # ENQ came within the session, and no frame since
        self._greeted = False  # the last that we said is the ACK of an ENQ
        self._crossed = False  # that ENQ and ours crossed: who sent it hears no ACK, and asks again
        self._unanswered = False  # the last frame stands refused
        self._broken = Broken("", b"")
        self._offered: FrameReceived | None = None
        self._closes = False  # the piece handed over ends its message
        self._wanted = False
        self._queue: deque[_Outgoing] = deque()
        self._tickets = 0

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
        return self._state in (State.RECEIVING, State.STORING, State.BARE, State.BARE_STORING)

    @property
    def idle(self) -> bool:
        return self._state in (State.NEUTRAL, State.HOLD_OFF) and not self._queue

    def receive(self, data: bytes) -> None:
        """Bytes from the line. What exceeds the read-ahead while a frame waits for its answer is dropped."""
        if self._state is State.RECEIVING and not len(self._in) and not self._frames.inside:
            if (frame := self._frames.alone(data)) is not None:
                self._flush_junk()
                self._offer(frame)
                return
        room = self.options.max_frame_bytes + _READ_AHEAD_BYTES - len(self._in)
        if self._state in _STORING and len(data) > room:
            self._events.append(Skipped(data[max(room, 0) :][:EVIDENCE_BYTES]))
            data = data[: max(room, 0)]
        self._in.append(data)
        if self._state is State.RECEIVING and self._frames.growing:
            # LIS01-A2 counts 30 s from the last reply; 64 kB at 9600 baud take 67 s, so a frame that goes on may go on.
            self._arm(self.options.frame_wait_s)

    def next_event(self) -> Event | None:
        """The next event, in the order of the bytes; None when more bytes, an answer or time are needed."""
        while not self._events:
            if not len(self._in) or self._state in _STORING or not self._read():
                return None
        return self._events.popleft()

    def data_to_send(self) -> bytes:
        """What is to be written now; given once."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def stored(self) -> None:
        """The frame handed over is committed: ACK, or EOT where we want the line. Without frames nothing is said."""
        if self._state is State.STORING and self._wants_line:
            self._step(Input.STORED_WANTED)
        elif self._state is State.BARE_STORING and self._closes:
            self._step(Input.STORED_LAST)
        else:
            self._step(Input.STORED)

    def refused(self) -> None:
        """The frame handed over is not stored, or nobody knows: NAK, and the sender repeats it. Without frames the
        message is broken off."""
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

    def want_line(self) -> None:
        """Interrupt a sender for what is queued: each of its frames, once committed, is answered with EOT instead of
        ACK, until we have asked for the line or nothing is queued any more.

        Of no effect under no_terminator_record: there the sender's EOT means that its message is whole.
        """
        self._wanted = True

    # ---- reading --------------------------------------------------------------------------------------------------

    def _read(self) -> bool:
        """Take bytes, of which there are some; False when more are needed before any can be taken."""
        if self._state is State.BARE:
            self._read_record()
        elif self._state is not State.RECEIVING:
            return self._read_reply()
        elif self._frames.inside:
            self._read_frame()
        else:
            self._read_begin()
        return True

    def _read_reply(self) -> bool:
        count = self._in.find(self._meaning[self._state])
        if count:
            self._take_junk(count)
            return True
        code = self._in.first()
        if code in _HEADER:
            return self._read_header()
        if code == STX and not self.ready:
            self._take_junk(1)
            return True
        self._flush_junk()
        self._in.take(1)
        if code == STX:
            self._step(Input.STX)
        elif code == ENQ:
            self._step(self._asked())
        elif self._state is not State.SENDING:
            self._step({EOT: Input.EOT, ACK: Input.ACK, NAK: Input.NAK}[code])
        elif code == NAK:
            self._step(self._rejection())
        elif self._queue[0].at + 1 == len(self._queue[0].frames):
            self._step(Input.ACK_LAST)
        else:
            self._step(Input.INTERRUPT if code == EOT and self.options.honour_interrupt else Input.ACK)
        return True

    def _read_header(self) -> bool:
        """An H where bare records are taken: a header at the begin of a line, junk elsewhere."""
        start = self._in.peek(2)
        if self._fresh and len(start) < 2:
            return False
        if self._fresh and begins_header(start, 0):  # ready or not: its sender could not be told to come again
            self._flush_junk()
            self._step(Input.RECORD)
        else:
            self._take_junk(1)
        return True

    def _take_junk(self, count: int) -> None:
        self._skip(self._in.take(count))
        self._talking = True
        if not self._junk_seen:
            # LIS01-A2: any byte other than ACK and EOT rejects the frame; a burst does so once
            self._junk_seen = True
            self._step(self._rejection() if self._state is State.SENDING else Input.JUNK)

    def _asked(self) -> Input:
        """What an ENQ means here."""
        if not self.ready:
            return Input.ENQ_NOT_READY
        conceding = self.options.ack_colliding_enq and self._station is Station.HOST
        self._crossed = self._state is State.ENQUIRING and conceding
        if self._crossed:
            return Input.ENQ_CONCEDED
        # Numbers that tell nothing cannot show that noise made an ENQ of a frame's STX and our ACK swallowed the frame.
        told = Leniency.FN_UNSEQUENCED not in self._lenient or self._last_fn is None
        if self._state is State.RECEIVING and Leniency.REPEATED_ENQ in self._lenient and told:
            return Input.ENQ_AGAIN
        return Input.ENQ

    def _rejection(self) -> Input:
        self._queue[0].rejects += 1
        return Input.NAK_LAST if self._queue[0].rejects >= self.options.max_rejects else Input.NAK

    def _read_begin(self) -> None:
        count = self._in.find(_FRAME_BEGIN)
        if count:
            self._skip(self._in.take(count))  # LIS01-A2: what comes before STX is discarded
            return
        self._flush_junk()
        if (frame := self._frames.next(self._in)) is not None:
            self._offer(frame)
            return
        code = self._in.take(1)[0]
        if code == STX:
            self._frames.begin()
            self._arm(self.options.frame_wait_s)
        elif code == EOT:
            self._step(Input.EOT_ABORT if self._unanswered else Input.EOT)
        elif self._greeted and self.ready and Leniency.REPEATED_ENQ not in self._lenient:
            # Our ACK of the first is the answer. Another would be taken for the ACK of the first frame, which is on its
            # way where noise made an ENQ of an EOT, or ENQs waited in a buffer. Who did not hear it says EOT, or waits.
            self._skip(bytes([code]))
        else:
            self._step(self._asked())

    def _read_frame(self) -> None:
        match self._frames.read(self._in):
            case Whole() as whole:
                self._offer(whole)
                self._tail_due = whole.tail_due
            case Broken() as broken:
                self._refuse(broken)
                self._tail_due = broken.tail_due
            case Cut(data):
                self._flush_junk()
                self._events.append(FrameRejected("cut", data))
                self._step(Input.CUT_FRAME)
            case Replaced(data):
                self._skip(data)

    def _read_record(self) -> None:
        piece = self._records.read(self._in)
        if piece is not None:
            self._offered, self._closes = bare(piece), piece.closes
            self._step(Input.FRAME)
        elif not len(self._in):
            self._arm(self.options.bare_wait_s if self._records.ending else self.options.frame_wait_s)
        elif self._in.take(1)[0] == EOT:
            self._step(Input.EOT)
        else:
            self._step(self._asked())

    def _offer(self, frame: Whole) -> None:
        """A frame with good bytes: its number decides."""
        fn, first = frame.fn, self._last_fn is None
        self._offered = FrameReceived(fn, frame.raw, frame.text, frame.last)
        used = [frame.used] if frame.used else []
        if not first and frame.raw == self._last_raw:
            self._note(used)
            self._step(Input.REPEAT_WANTED if self._wants_line else Input.REPEAT)
            return
        if first and fn == 0 and not self._from_one:
            used.append(Leniency.FN_FROM_ZERO)
        elif first and 1 < fn < 8 and not self._from_one:
            used.append(Leniency.ODD_FIRST_FN)
        elif not self._in_sequence(frame):
            if Leniency.FN_UNSEQUENCED not in self._lenient:
                self._refuse(Broken("same_fn" if fn == self._last_fn else "gap", frame.raw, frame.tail_due))
                return
            used.append(Leniency.FN_UNSEQUENCED)
        self._note([*used, *departures(frame)])
        self._step(Input.FRAME)

    def _in_sequence(self, frame: Whole) -> bool:
        if self._last_fn is None:
            return frame.fn == 1
        # After ENQ within the session the peer may begin anew; then it does so with a header.
        anew = self._asked_again and frame.fn == 1 and begins_header(frame.text + b" ", 0)
        return frame.fn == (self._last_fn + 1) % 8 or anew

    def _note(self, used: Sequence[Leniency]) -> None:
        self._events.extend(map(LeniencyUsed, used))

    def _refuse(self, broken: Broken) -> None:
        self._broken = broken
        self._step(Input.BAD_FRAME)

    def _skip(self, data: bytes) -> None:
        self._fresh = data[-1] in b"\r\n"
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
        self._junk_seen, self._fresh = False, True

    def _flush_line(self) -> None:
        """The line fell silent or ended: what was under way is no frame any more."""
        if data := self._frames.drop():
            self._skip(data)
        self._flush_junk()

    # ---- steps ----------------------------------------------------------------------------------------------------

    def _step(self, signal: Input) -> None:
        action, target = TABLE[self._state, signal]
        before, self._state = self._state, target
        if target is not before and (target is State.NEUTRAL or self._state in _STORING):
            self._timer = None
        _ACTIONS[action](self)
        if target is State.NEUTRAL and self._queue:
            self._step(Input.QUEUED)

    @property
    def _wants_line(self) -> bool:
        return self._wanted and bool(self._queue) and Leniency.NO_TERMINATOR_RECORD not in self._lenient

    def _arm(self, seconds: float) -> None:
        self._serial += 1
        self._timer = Timer(seconds, self._serial)

    def _reply(self, code: int) -> None:
        self._out.append(code)
        self._greeted = False
        self._arm(self.options.frame_wait_s)

    def _accept(self) -> None:
        self._open_session()
        self._reply(ACK)
        self._greeted = not self._crossed

    def _open_session(self) -> None:
        self._last_fn, self._last_raw, self._from_one = None, b"", False
        self._asked_again = self._unanswered = False
        self._frames.drop()
        self._end_attempt("contention")  # the peer has the line that we had asked for
        self._events.append(SessionStarted())

    def _open(self) -> None:
        self._open_session()
        self._note([Leniency.MISSING_ENQ])
        self._frames.begin()
        self._arm(self.options.frame_wait_s)

    def _open_bare(self) -> None:
        self._open_session()
        self._note([Leniency.BARE_RECORDS])
        self._records.begin()
        self._arm(self.options.frame_wait_s)

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

    def _ack_again(self) -> None:
        self._note([Leniency.REPEATED_ENQ])
        self._asked_again = True
        self._from_one = True  # for the reason that `_restart` gives
        self._reply(ACK)

    def _end(self, reason: str) -> None:
        if piece := self._records.flush():  # without frames there is no CR, EOT or reply to wait for
            self._events.append(bare(piece))
        self._frames.drop()
        self._offered = None
        self._events.append(SessionEnded(reason))

    def _end_lost(self) -> None:
        self._end("lost")
        self._fail_all()

    def _end_refused(self) -> None:
        if self._offered is not None:
            self._events.append(FrameRejected("refused", self._offered.raw[:EVIDENCE_BYTES]))
        self._end("refused")

    def _hand_over(self) -> None:
        if self._offered is not None:
            self._events.append(self._offered)

    def _repeat(self, reply: int) -> None:
        self._unanswered = False
        if self._offered is not None and self._offered.fn is not None:
            self._events.append(FrameRepeated(self._offered.fn))
        self._reply(reply)

    def _reject(self) -> None:
        self._flush_junk()
        self._unanswered = True
        self._events.append(FrameRejected(self._broken.reason, self._broken.data))
        self._reply(NAK)

    def _take_frame(self, reply: int) -> None:
        self._unanswered = self._asked_again = False
        if self._offered is not None:
            self._last_fn, self._last_raw = self._offered.fn, self._offered.raw
        self._reply(reply)

    def _nak_frame(self) -> None:
        self._unanswered = True
        self._reply(NAK)

    def _enquire(self) -> None:
        self._wanted = self._talking = False
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

    def _end_attempt(self, reason: str) -> None:
        """The message stays queued, from its first frame, unless its attempts are used up."""
        if self._queue and self._queue[0].attempts >= self.options.max_attempts:
            self._events.append(SendFailed(self._queue.popleft().ticket, reason))

    def _hold_off(self, reason: str, seconds: float) -> None:
        self._end_attempt(reason)
        self._arm(seconds)

    def _wait_contention(self) -> None:
        host = self._station is Station.HOST
        self._hold_off("contention", self.options.host_hold_off_s if host else self.options.instrument_hold_off_s)

    def _leave(self, reason: str, seconds: float) -> None:
        # Who talks and does not answer ENQ may be in mid-message: EOT would be the ACK of a frame that nobody stored.
        if reason != "silent" or not self._talking:
            self._out.append(EOT)
        self._hold_off(reason, seconds)

    def _fail_all(self) -> None:
        self._wanted = False
        while self._queue:
            self._events.append(SendFailed(self._queue.popleft().ticket, "lost"))


_ACTIONS: dict[Action, Callable[[DataLink], None]] = {
    Action.IGNORE: lambda link: None,
    Action.SKIP: lambda link: None,
    Action.ACCEPT: DataLink._accept,
    Action.DECLINE: DataLink._decline,
    Action.RESTART: DataLink._restart,
    Action.BREAK_OFF: DataLink._break_off,
    Action.ACK_AGAIN: DataLink._ack_again,
    Action.OPEN: DataLink._open,
    Action.OPEN_BARE: DataLink._open_bare,
    Action.END: lambda link: link._end("eot"),
    Action.END_ABORTED: lambda link: link._end("aborted"),
    Action.END_TIMEOUT: lambda link: link._end("timeout"),
    Action.END_LOST: DataLink._end_lost,
    Action.END_BARE: lambda link: link._end("terminator"),
    Action.END_REFUSED: DataLink._end_refused,
    Action.HAND_OVER: DataLink._hand_over,
    Action.REPEAT_ACK: lambda link: link._repeat(ACK),
    Action.REPEAT_EOT: lambda link: link._repeat(EOT),
    Action.REJECT: DataLink._reject,
    Action.ACK_FRAME: lambda link: link._take_frame(ACK),
    Action.EOT_FRAME: lambda link: link._take_frame(EOT),
    Action.NAK_FRAME: DataLink._nak_frame,
    Action.KEEP: lambda link: link._arm(link.options.frame_wait_s),
    Action.ENQUIRE: DataLink._enquire,
    Action.FIRST_FRAME: DataLink._first_frame,
    Action.NEXT_FRAME: DataLink._next_frame,
    Action.RESEND: DataLink._resend,
    Action.FINISH: DataLink._finish,
    Action.ABORT: lambda link: link._give_up("rejected"),
    Action.WAIT_BUSY: lambda link: link._hold_off("busy", link.options.busy_hold_off_s),
    Action.WAIT_CONTENTION: DataLink._wait_contention,
    Action.WAIT_SILENCE: lambda link: link._leave("timeout", link.options.busy_hold_off_s),
    Action.WAIT_NOBODY: lambda link: link._leave("silent", link.options.busy_hold_off_s),
    Action.YIELD: lambda link: link._leave("interrupted", link.options.interrupt_hold_off_s),
    Action.FAIL_ALL: DataLink._fail_all,
}
