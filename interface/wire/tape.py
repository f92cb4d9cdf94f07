"""From one connection's bytes to its wire log: what became a frame of the journal is named, the rest is kept. Pure.

Bytes that came wait here until it is known what they are. A frame is found among them by its own bytes, so that this
works for every framing and transport; what stands before it was no frame. Whatever comes, at most PENDING_BYTES wait:
of a longer run the begin and the newest bytes, and of those between their number and their CRC-32, by which a block
that is longer is known all the same.
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

from interface.wire.datalink_events import EVIDENCE_BYTES as RUN_BYTES  # a longer run is reported in such pieces
from interface.wire.mllp import encode
from interface.wire.wirelog import Came, Event, FrameCame, Left, Meaning, Noted, What

PENDING_BYTES = 192 * 1024  # two and more of the largest frames of LIS01-A2
HEAD_BYTES = 4096  # the begin of a run that is longer
EVIDENCE_BYTES = 65_536  # of one frame that was not stored
MOST_READS = 256  # instants kept for the bytes that wait; bytes of further reads have the last one's
MOST_BESIDE = 256  # replies and notes that wait for the bytes before them
ONE_RUN = timedelta(milliseconds=10)  # bytes that come so close together are one event
_PROBE_BYTES = 64
_ENVELOPE_BYTES = len(encode(b""))


class Slot:
    """A frame that is being committed. Its place in the log is taken; what stands there is said when it is known."""

    __slots__ = ("at", "events", "meaning", "raw")

    def __init__(self, at: datetime, raw: bytes, meaning: Meaning) -> None:
        self.at, self.raw, self.meaning = at, raw, meaning
        self.events: tuple[Event, ...] | None = None  # None: not known yet

    def bytes_alone(self) -> tuple[Event, ...]:
        """What was read, as it was read."""
        if self.meaning is Meaning.APART:
            return ()
        read = encode(self.raw) if self.meaning is Meaning.BLOCK else self.raw
        rest = len(read) - EVIDENCE_BYTES
        kept = Came(self.at, read[:EVIDENCE_BYTES])
        return (kept, Noted(self.at, What.MISSING, count=rest)) if rest > 0 else (kept,)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The frame that was stored last, which its sender may repeat."""

    raw: bytes
    ids: tuple[UUID, ...]


class Tape:
    """One connection's log, as far as it has not been taken. Instants are aware UTC."""

    def __init__(self) -> None:
        self._pending = _Pending()
        self._beside: deque[tuple[int, Event | Slot]] = deque()  # each with the number of bytes that came before it
        self._done: deque[Event | Slot] = deque()
        self._done_bytes = 0
        self._last: _Frame | None = None

    @property
    def empty(self) -> bool:
        return not (self._pending.waiting or self._beside or self._done)

    @property
    def size(self) -> int:
        """Bytes that can be taken, about."""
        return self._done_bytes

    def came(self, data: bytes, at: datetime) -> None:
        """Bytes were read."""
        self._pending.append(data, at)

    def left(self, data: bytes, at: datetime, answers: UUID | None = None) -> None:
        """Bytes were handed to the peer."""
        self._put(Left(at, data, answers))

    def note(self, what: What, at: datetime, text: str = "", count: int = 0) -> None:
        """Something else happened."""
        if self._beside and what is What.REFUSED:
            before = self._beside[-1][1]
            same = isinstance(before, Noted) and (before.what, before.text) == (what, text)
            if isinstance(before, Noted) and same and before.count % RUN_BYTES == 0:  # the same run, which goes on
                self._beside.pop()
                count += before.count
        self._put(Noted(at, what, text, count))

    def frame(self, raw: bytes, at: datetime) -> Slot:
        """These bytes, the first that came with this content, are a frame whose commit begins now."""
        if (read := self._pending.alone) is not None and (slot := self._frame_alone(raw, *read)) is not None:
            return slot
        found = self._pending.find(raw)
        if found is None:
            slot = Slot(at, raw, Meaning.APART)
            self._put(slot)
            return slot
        start, stop = found
        self._settle(start)
        slot = Slot(self._pending.instant(start), raw, Meaning.STORED)
        self._finish(slot)
        self._pending.drop(stop)
        return slot

    def _frame_alone(self, raw: bytes, data: bytes, at: datetime) -> Slot | None:
        """As nearly always: what waits is one read, `data`, and it is the frame, or the block in its envelope."""
        around = len(data) - len(raw)
        if not around and data == raw:
            slot = Slot(at, raw, Meaning.STORED)
        elif around == _ENVELOPE_BYTES and data == encode(raw):
            slot = Slot(at, raw, Meaning.BLOCK)
        else:
            return None
        self._put_beside(self._pending.start)
        self._finish(slot)
        self._pending.drop_alone()
        return slot

    def stored(self, slot: Slot, ids: tuple[UUID, ...]) -> None:
        """The frame is committed, as these rows; none: it is part of no message."""
        slot.events = (FrameCame(slot.at, ids, slot.meaning),) if ids else slot.bytes_alone()
        if ids and slot.meaning is Meaning.STORED and len(slot.raw) <= EVIDENCE_BYTES:
            self._last = _Frame(slot.raw, ids)

    def not_stored(self, slot: Slot, at: datetime, reason: str) -> None:
        """It is not, or nobody knows."""
        slot.events = (*slot.bytes_alone(), Noted(at, What.NOT_STORED, reason))

    def settle(self) -> None:
        """Nothing that waits will be part of a frame."""
        self._settle(self._pending.stop)
        self._put_beside(self._pending.stop)

    def take(self) -> list[Event]:
        """What is known, in order, each event once."""
        self._put_beside(self._pending.start)
        taken: list[Event] = []
        while self._done:
            first = self._done[0]
            events: tuple[Event, ...] | None = first.events if isinstance(first, Slot) else (first,)
            if events is None:
                break
            taken += events
            self._done.popleft()
        self._done_bytes = sum(map(_size, self._done))
        return taken

    def _put(self, event: Event | Slot) -> None:
        self._beside.append((self._pending.stop, event))
        if len(self._beside) > MOST_BESIDE:
            self.settle()

    def _finish(self, event: Event | Slot) -> None:
        self._done.append(event)
        self._done_bytes += _size(event)

    def _put_beside(self, start: int) -> None:
        """What happened before the byte at `start` came."""
        while self._beside and self._beside[0][0] <= start:
            self._finish(self._beside.popleft()[1])

    def _settle(self, stop: int) -> None:
        """The bytes before `stop` are no new frame; the last one may be among them again."""
        while self._last is not None and (found := self._pending.find(self._last.raw, stop)) is not None:
            self._keep(found[0])
            self._finish(FrameCame(self._pending.instant(found[0]), self._last.ids, Meaning.AGAIN))
            self._pending.drop(found[1])
        self._keep(stop)

    def _keep(self, stop: int) -> None:
        """The bytes before `stop` as they came; what happened between them between them."""
        for start, at, data, missing in self._pending.take(stop):
            self._put_beside(start)
            before = self._done[-1] if self._done else None
            if missing:
                self._finish(Noted(at, What.MISSING, count=missing))
                continue
            if isinstance(before, Came) and at - before.at < ONE_RUN and len(before.data) < HEAD_BYTES:
                self._done.pop()
                self._done_bytes -= _size(before)
                at, data = before.at, before.data + data
            self._finish(Came(at, data))
        self._put_beside(stop)


def _size(event: Event | Slot) -> int:
    return len(event.data) + 8 if isinstance(event, Came | Left) else 24


class _Pending:
    """Bytes that came, by their number since the connection's begin."""

    def __init__(self) -> None:
        self.start = self.stop = 0
        self._data = bytearray()  # all of them, but for those in the gap
        self._head = 0  # how many of them stand before the gap, where there is one
        self._gap = 0
        self._sum = 0  # CRC-32 of the bytes in the gap
        self._reads: deque[tuple[int, datetime]] = deque()  # (first byte, when), the first one's not after `start`
        self.alone: tuple[bytes, datetime] | None = None  # all that waits, where it is one read and nowhere else

    @property
    def waiting(self) -> int:
        return self.stop - self.start - self._gap

    def append(self, data: bytes, at: datetime) -> None:
        if self.start == self.stop and len(data) <= PENDING_BYTES:
            self.alone = (data, at)
            self.stop += len(data)
            return
        self._join()
        if len(self._reads) < MOST_READS:
            self._reads.append((self.stop, at))
        self._data += data
        self.stop += len(data)
        if len(self._data) > PENDING_BYTES:
            self._widen()

    def drop_alone(self) -> None:
        """The one read that waits is done with."""
        self.alone, self.start = None, self.stop

    def _join(self) -> None:
        """What waits alone will not stay so."""
        if self.alone is not None:
            data, at = self.alone
            self._data += data
            self._reads.append((self.start, at))
            self.alone = None

    def _widen(self) -> None:
        """Let the middle go, down to half of what may wait."""
        if not self._gap:
            self._head = HEAD_BYTES
        end = len(self._data) - PENDING_BYTES // 2
        self._sum = zlib.crc32(self._data[self._head : end], self._sum)
        self._gap += end - self._head
        del self._data[self._head : end]
        head, tail = self.start + self._head, self.start + self._head + self._gap
        gone = [at for begin, at in self._reads if head <= begin <= tail]
        reads = [read for read in self._reads if read[0] < head]
        reads += [(tail, gone[-1])] if gone else []
        self._reads = deque([*reads, *(read for read in self._reads if read[0] > tail)])

    def find(self, raw: bytes, stop: int | None = None) -> tuple[int, int] | None:
        """Where `raw` is, the first time; None where it is not, or not whole before `stop`."""
        if not raw or self.stop - self.start < len(raw) or (stop is not None and stop - self.start < len(raw)):
            return None
        self._join()
        at = self._find(raw)
        if at is None or (stop is not None and at + len(raw) > stop):
            return None
        return at, at + len(raw)

    def _find(self, raw: bytes) -> int | None:
        if not self._gap:
            at = self._data.find(raw)
            return None if at < 0 else self.start + at
        at = self._data.find(raw, 0, self._head)
        if at < 0:
            at = self._over_the_gap(raw)
        if at >= 0:
            return self.start + at
        at = self._data.find(raw, self._head)
        return None if at < 0 else self.start + at + self._gap

    def _over_the_gap(self, raw: bytes) -> int:
        """The place in the head where a frame begins that ends after the gap."""
        at = -1
        while (at := self._data.find(raw[:_PROBE_BYTES], at + 1, self._head)) >= 0:
            head = self._head - at
            rest = raw[head + self._gap :]
            if (
                rest
                and self._data.startswith(raw[:head], at)
                and self._data.startswith(rest, self._head)
                and zlib.crc32(raw[head : head + self._gap]) == self._sum
            ):
                return at
        return -1

    def instant(self, at: int) -> datetime:
        """When a byte that waits was read."""
        self._join()
        return next(when for begin, when in reversed(self._reads) if begin <= at)

    def take(self, stop: int) -> list[tuple[int, datetime, bytes, int]]:
        """(first byte, when, bytes, 0) of each read before `stop`, and (…, b"", their number) of those in the gap."""
        if stop == self.start:
            return []
        self._join()
        if not self._gap and (len(self._reads) == 1 or self._reads[1][0] >= stop):  # nearly always: one read
            whole = [(self.start, self._reads[0][1], bytes(self._data[: stop - self.start]), 0)]
            self.drop(stop)
            return whole
        head, tail = self.start + self._head, self.start + self._head + self._gap
        cuts = {begin for begin, _ in self._reads} | ({head, tail} if self._gap else set()) | {self.start, stop}
        places = sorted(at for at in cuts if self.start <= at <= stop)
        taken: list[tuple[int, datetime, bytes, int]] = []
        for begin, end in pairwise(places):
            if self._gap and begin == head:
                taken.append((begin, self.instant(begin), b"", end - begin))
                continue
            base = self.start + (self._gap if self._gap and begin >= tail else 0)
            taken.append((begin, self.instant(begin), bytes(self._data[begin - base : end - base]), 0))
        self.drop(stop)
        return taken

    def drop(self, stop: int) -> None:
        """The bytes before `stop`, which is not in the gap, are done with."""
        self._join()
        gone = stop - self.start
        if self._gap and gone > self._head:
            gone -= self._gap
            self._gap = self._sum = 0
        elif self._gap:
            self._head -= gone
        del self._data[:gone]
        self.start = stop
        while len(self._reads) > 1 and self._reads[1][0] <= stop:
            self._reads.popleft()
        if self.start == self.stop:
            self._reads.clear()
