"""Blocks of a framing that a driver declares: what begins and ends one, and how it is checked. Pure.

For analyzers that speak neither LIS01-A2 nor MLLP: tagged blocks with a checksum of their own, blocks of a fixed size
that nobody answers, lines, bursts without any envelope. No input raises anything; memory is bounded by the block limit;
any cut of the same bytes into reads gives the same blocks (but for silences, which are part of some framings).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from operator import xor

EVIDENCE_BYTES = 4096  # of refused or skipped bytes, kept for the administrator
DEFAULT_MAX_BLOCK_BYTES = 65_536
LARGEST_SIZED_BLOCK_BYTES = 4096  # a damaged one is searched for the next start again and again
_LINE_ENDS = b"\r\n"
_HEX = re.compile(rb"[0-9A-Fa-f]{2}")


class CheckRule(StrEnum):
    SUM = "sum"  # modulo 256
    XOR = "xor"


class Written(StrEnum):
    HEX = "hex"  # two digits, of either case
    BYTE = "byte"


class Place(StrEnum):
    BEFORE_END = "before_end"
    AFTER_END = "after_end"


class Number(StrEnum):
    """How a length is written."""

    DECIMAL = "decimal"
    HEX = "hex"
    BIG = "big"  # bytes, the most significant first
    LITTLE = "little"


@dataclass(frozen=True, slots=True)
class Check:
    """A block's checksum. `skip`: bytes at the block's begin that it does not cover. `mark`: bytes that stand at the
    text's end, are covered and are no text. `pad`: bytes that may stand between a checksum and the end behind it."""

    rule: CheckRule
    written: Written
    place: Place
    skip: int
    covers_end: bool = False
    mark: bytes = b""
    pad: bytes = b""

    @property
    def width(self) -> int:
        return 2 if self.written is Written.HEX else 1

    def fits(self, covered: bytes, sent: bytes) -> bool:
        if self.written is Written.BYTE:
            return sent == self.of(covered)
        return _HEX.fullmatch(sent) is not None and int(sent, 16) == self._value(covered)

    def of(self, covered: bytes) -> bytes:
        """The checksum as it is sent."""
        value = self._value(covered)
        return bytes([value]) if self.written is Written.BYTE else b"%02X" % value

    def _value(self, covered: bytes) -> int:
        return sum(covered) & 0xFF if self.rule is CheckRule.SUM else reduce(xor, covered, 0)


@dataclass(frozen=True, slots=True)
class Length:
    """A length inside the block: `width` bytes at offset `at`; the whole block has `plus` bytes more than it says."""

    at: int
    width: int
    written: Number
    plus: int = 0

    def read(self, field: bytes) -> int | None:
        """The block's size; None when the field is no number."""
        if self.written in (Number.BIG, Number.LITTLE):
            return int.from_bytes(field, "big" if self.written is Number.BIG else "little") + self.plus
        base = 10 if self.written is Number.DECIMAL else 16
        if not re.fullmatch(rb" *[0-9]+" if base == 10 else rb" *[0-9A-Fa-f]+", field):
            return None
        return int(field, base) + self.plus


@dataclass(frozen=True, slots=True)
class Grammar:
    """One framing. A block ends with `end`, after `size` bytes, as `length` says, or where none is declared with
    `silence_s` without a byte. `good` and `bad` answer a block (empty: the device hears nothing); `opens` and `closes`
    are single characters around blocks, answered with `ready` or `busy`, and not at all."""

    start: bytes = b""
    end: bytes = b""
    size: int = 0
    length: Length | None = None
    check: Check | None = None
    good: bytes = b""
    bad: bytes = b""
    opens: bytes = b""
    ready: bytes = b""
    busy: bytes = b""
    closes: bytes = b""
    silence_s: float = 0.0
    wait_s: float = 15.0  # silence inside a block that ends it as damaged
    max_bytes: int = DEFAULT_MAX_BLOCK_BYTES

    @property
    def one_way(self) -> bool:
        """Nothing is ever said to the device, so it will not send anything again."""
        return not self.good

    @property
    def sized(self) -> bool:
        return bool(self.size or self.length)

    @property
    def ends_in_silence(self) -> bool:
        return not self.end and not self.sized


@dataclass(frozen=True, slots=True)
class BlockReceived:
    """One good block as it was on the wire; `raw[start:stop]` is its text."""

    raw: bytes
    start: int
    stop: int

    @property
    def text(self) -> bytes:
        return self.raw[self.start : self.stop]


@dataclass(frozen=True, slots=True)
class BlockRejected:
    """`reason`: checksum, end, length, empty, oversize, restarted, cut, timeout. `answer`: the device awaits a word."""

    reason: str
    data: bytes
    answer: bool


@dataclass(frozen=True, slots=True)
class Skipped:
    """Bytes outside any block, at most EVIDENCE_BYTES each time. Line ends alone are not reported."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """The device asks whether it may send."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The device has sent all."""


Event = BlockReceived | BlockRejected | Skipped | Opened | Closed


def encode(grammar: Grammar, text: bytes) -> bytes:
    """A text in its block, with the checksum that fits. A field for the block's length is the text's own."""
    check, body = grammar.check, grammar.start + text
    if check is None:
        return body + grammar.end
    body += check.mark
    if check.place is Place.BEFORE_END:
        return body + check.of(body[check.skip :]) + grammar.end
    whole = body + grammar.end
    return whole + check.of(whole[check.skip :] if check.covers_end else body[check.skip :])


def may_send(grammar: Grammar) -> bool:
    """Whether we can say something ourselves: there are sessions, whose marks are single characters that are answered,
    and a block's end is known to whoever receives it."""
    marks = (grammar.opens, grammar.closes, grammar.ready, grammar.good, grammar.bad)
    return all(len(mark) == 1 for mark in marks) and bool(grammar.start and grammar.end) and not grammar.sized


def sendable(grammar: Grammar, text: bytes) -> bool:
    """Whether a text has nothing in it that would be taken for a mark."""
    marks = (grammar.start, grammar.end, grammar.opens, grammar.closes)
    return bool(text) and len(text) <= grammar.max_bytes and not any(mark in text for mark in marks)


class Decoder:
    """Finds the blocks of a grammar in a byte stream. `max_bytes`: the link's own limit, the lower one counts."""

    def __init__(self, grammar: Grammar, max_bytes: int = DEFAULT_MAX_BLOCK_BYTES) -> None:
        self.grammar = grammar
        self._limit = min(grammar.max_bytes, max_bytes)
        self._buffer = bytearray()
        self._junk = bytearray()
        self._inside = False
        self._oversize = False
        self._scanned = 0  # of the block, without its end in it
        self._edge, self._stop = _edge(grammar), _stop(grammar)
        self._kept = min(EVIDENCE_BYTES, self._limit)
        self._longest = max(len(grammar.start), len(grammar.end), 1)

    @property
    def inside(self) -> bool:
        """Whether a block has begun and not ended."""
        return self._inside

    @property
    def wait_s(self) -> float | None:
        """How long a silence is to be waited for before `silence` is called; None while nothing is under way."""
        if not self._inside:
            return None
        return self.grammar.silence_s if self.grammar.ends_in_silence else self.grammar.wait_s

    def receive(self, data: bytes) -> list[Event]:
        """What the bytes complete, in order."""
        events: list[Event] = []
        self._buffer += data
        while self._buffer and (self._continue(events) if self._inside else self._hunt(events)):
            pass
        return events

    def silence(self) -> list[Event]:
        """Nothing has come for `wait_s`."""
        return self._quiet("timeout")

    def eof(self) -> list[Event]:
        """The stream has ended."""
        return self._quiet("cut")

    # ---- between blocks ----------------------------------------------------------------------------------------------

    def _hunt(self, events: list[Event]) -> bool:
        match = self._edge.search(self._buffer)
        if match is None:
            self._skip(len(self._buffer) - _begun(self._buffer, self.grammar.start), events)
            return False
        found = match[0]  # a match reads the buffer it was made on, which is about to change
        self._skip(match.start(), events)
        self._flush(events)
        if found and found == self.grammar.opens:
            del self._buffer[:1]
            events.append(Opened())
        elif found and found == self.grammar.closes:
            del self._buffer[:1]
            events.append(Closed())
        else:
            self._inside, self._oversize, self._scanned = True, False, len(self.grammar.start)
        return True

    def _skip(self, count: int, events: list[Event]) -> None:
        self._junk += self._buffer[:count]
        del self._buffer[:count]
        while len(self._junk) >= EVIDENCE_BYTES:
            events.append(Skipped(bytes(self._junk[:EVIDENCE_BYTES])))
            del self._junk[:EVIDENCE_BYTES]

    def _flush(self, events: list[Event]) -> None:
        if self._junk.strip(_LINE_ENDS):
            events.append(Skipped(bytes(self._junk)))
        self._junk.clear()

    # ---- in a block --------------------------------------------------------------------------------------------------

    def _continue(self, events: list[Event]) -> bool:
        return self._sized(events) if self.grammar.sized else self._open_ended(events)

    def _sized(self, events: list[Event]) -> bool:
        """A block whose size is known: its bytes may be any, so a damaged one hides no more than itself."""
        size = self._size()
        if size is None:
            return False
        if size < 0 and self.grammar.length:
            return self._search_again("length", self.grammar.length.at + self.grammar.length.width, events)
        if len(self._buffer) < size:
            return False
        raw = bytes(self._buffer[:size])
        behind = self.grammar.check.width if self._check_is_last() and self.grammar.check else 0
        end_at = size - behind - len(self.grammar.end)
        if end_at < len(self.grammar.start) or not raw[end_at:].startswith(self.grammar.end):
            return self._search_again("end", size, events)
        reason, stop = self._judged(raw, end_at)
        if reason:
            return self._search_again(reason, size, events)
        self._done(size)
        events.append(BlockReceived(raw, len(self.grammar.start), stop))
        return True

    def _size(self) -> int | None:
        """The block's size, None while unknown, -1 when it cannot be."""
        length = self.grammar.length
        if length is None:
            return self.grammar.size
        if len(self._buffer) < length.at + length.width:
            return None
        size = length.read(bytes(self._buffer[length.at : length.at + length.width]))
        least = length.at + length.width
        return size if size is not None and least <= size <= min(self._limit, LARGEST_SIZED_BLOCK_BYTES) else -1

    def _search_again(self, reason: str, size: int, events: list[Event]) -> bool:
        """The next block may have begun within this one, where a byte was lost."""
        dropped = self._buffer.find(self.grammar.start, 1, size)
        if dropped < 0:  # what may be the begin of a start at its end is not lost
            dropped = max(size - _begun(self._buffer[:size], self.grammar.start), 1)
        events.append(BlockRejected(reason, bytes(self._buffer[: min(dropped, EVIDENCE_BYTES)]), True))
        self._done(dropped)
        return True

    def _open_ended(self, events: list[Event]) -> bool:
        match = self._stop.search(self._buffer, self._scanned) if self._stop else None
        if match is None:
            # Of what may be the begin of an end, nothing counts as seen.
            self._scanned = max(self._scanned, len(self._buffer) - self._longest + 1)
            self._bound()
            return False
        if match[0] != self.grammar.end:
            self._restart(match.start(), match[0] == self.grammar.closes, events)
            return True
        behind = self.grammar.check.width if self._check_is_last() and self.grammar.check else 0
        total = match.end() + behind
        if len(self._buffer) < total:
            self._scanned = match.start()
            return False
        raw = bytes(self._buffer[:total])
        reason, stop = ("oversize", 0) if self._oversize or total > self._limit else self._judged(raw, match.start())
        if reason:
            kept = self._kept if reason == "oversize" else EVIDENCE_BYTES
            events.append(BlockRejected(reason, raw[:kept], True))
        else:
            events.append(BlockReceived(raw, len(self.grammar.start), stop))
        self._done(total)
        return True

    def _bound(self) -> None:
        """A block that is too long is kept as far as it is evidence, and looked at for its end only."""
        self._oversize = self._oversize or self._scanned > self._limit
        if self._oversize and self._scanned > self._kept:
            del self._buffer[self._kept : self._scanned]
            self._scanned = self._kept

    def _restart(self, at: int, closed: bool, events: list[Event]) -> None:
        """Another begin, or the end of the session, within a block."""
        if self._oversize or at > self._limit:
            events.append(BlockRejected("oversize", bytes(self._buffer[: self._kept]), False))
        elif at > len(self.grammar.start):
            data = bytes(self._buffer[: min(at, EVIDENCE_BYTES)])
            events.append(BlockRejected("cut" if closed else "restarted", data, False))
        self._done(at)

    def _judged(self, raw: bytes, end_at: int) -> tuple[str, int]:
        """("", where the text stops), or the fault. `end_at`: where `end` begins."""
        begin, stop, check = len(self.grammar.start), end_at, self.grammar.check
        if check is not None:
            if check.place is Place.BEFORE_END:
                at = end_at
                while at > begin and raw[at - 1] in check.pad:
                    at -= 1
                at = stop = at - check.width
                covered = raw[check.skip : max(at, 0)]
            else:
                at = end_at + len(self.grammar.end)
                covered = raw[check.skip : at if check.covers_end else end_at]
            if stop < begin or not check.fits(covered, raw[at : at + check.width]):
                return "checksum", 0
            if not raw[begin:stop].endswith(check.mark):
                return "end", 0
            stop -= len(check.mark)
        return ("", stop) if stop > begin else ("empty", 0)

    def _check_is_last(self) -> bool:
        return self.grammar.check is not None and self.grammar.check.place is Place.AFTER_END

    def _done(self, count: int) -> None:
        del self._buffer[:count]
        self._inside = self._oversize = False
        self._scanned = 0

    def _quiet(self, reason: str) -> list[Event]:
        events: list[Event] = []
        if self._inside:
            raw = bytes(self._buffer)
            if self._oversize:
                events.append(BlockRejected("oversize", raw[: self._kept], False))
            elif self.grammar.ends_in_silence and len(raw) > len(self.grammar.start):
                events.append(BlockReceived(raw, len(self.grammar.start), len(raw)))
            else:
                events.append(BlockRejected(reason, raw[:EVIDENCE_BYTES], False))
            self._done(len(raw))
        self._skip(len(self._buffer), events)
        self._flush(events)
        return events


def _begun(data: bytearray, start: bytes) -> int:
    """How many of the last bytes may be the begin of a start."""
    return next((n for n in range(len(start) - 1, 0, -1) if data.endswith(start[:n])), 0)


def _edge(grammar: Grammar) -> re.Pattern[bytes]:
    """What ends a run of bytes between blocks."""
    marks = [re.escape(mark) for mark in (grammar.opens, grammar.closes, grammar.start) if mark]
    if not grammar.start:
        marks.append(rb"[^\r\n]")
    return re.compile(b"|".join(marks))


def _stop(grammar: Grammar) -> re.Pattern[bytes] | None:
    """What may end a block of unknown size: its end, or a control character that no text has."""
    marks = [mark for mark in (grammar.end, grammar.opens, grammar.closes) if mark]
    if grammar.start[:1] and grammar.start[0] < 0x20:
        marks.append(grammar.start)
    return re.compile(b"|".join(map(re.escape, marks))) if marks else None
