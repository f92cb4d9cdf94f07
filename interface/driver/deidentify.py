"""A conversation without the people in it: what was said, with other names, ids, dates and words. Pure.

Every byte stays where it was: what is replaced has its own length, so frames, padding and columns keep their shape and
only checksums are made anew. What is in no frame, block or record that could be read is blotted out. Nothing is given
out that does not read as before, or in which something is left of what was replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from interface.domain.model import DecodedMessage, Problem, Protocol, SpecimenRole, ValueKind
from interface.driver.capture import CaptureError
from interface.driver.leaves import Marks
from interface.driver.manifest import Driver
from interface.driver.pseudonyms import Pseudonyms, date_order
from interface.driver.registry import decode, read
from interface.driver.scrub_rows import scrub_rows
from interface.driver.scrubber import Scrubber
from interface.errors import DriverError, RecordError, SegmentError
from interface.wire import charsets, declared, hl7, lis02
from interface.wire.datalink_events import Leniency
from interface.wire.frames import checksum
from interface.wire.trace import Direction, TraceStep

_FRAME = re.compile(rb"\x02([0-7])([^\x02\x03\x17]*)([\x03\x17])([0-9A-Fa-f]{0,2})")
_SESSION_MARK = re.compile(rb"[\x04\x05]")
_MLLP = re.compile(rb"\x0b([^\x0b\x1c]*)")
_LINE_END = re.compile(r"([\r\n]+)")
_WORD = re.compile(rb"[A-Za-z0-9\x80-\xff]")
_MARKS = re.compile(r"[\^~&\\]")
_SHORT = 3
_ODD_BYTES = "surrogateescape"


def deidentified(
    steps: Sequence[TraceStep], driver: Driver, key: bytes, keep: frozenset[str] = frozenset()
) -> tuple[TraceStep, ...]:
    """The conversation with every person replaced, the same one by the same under the same key.

    `keep`: words that tell nobody, although they stand where names do. Raises DriverError where that cannot be done
    without changing what was measured, or where something would be left; it never says what.
    """
    return _Conversation(steps, driver, key, keep).made()


class _Conversation:
    def __init__(self, steps: Sequence[TraceStep], driver: Driver, key: bytes, keep: frozenset[str]) -> None:
        self._steps, self._driver = steps, driver
        self._said = {side: b"".join(one.data for one in steps if one.direction is side) for side in Direction}
        texts = [data.decode("latin-1") for data in self._said.values()]
        self._before = [message for data in self._said.values() for message in _messages(driver, data)]
        others = frozenset(
            specimen.specimen_id
            for message, _ in self._before
            for specimen in message.specimens
            if specimen.specimen_id and specimen.role is not SpecimenRole.PATIENT
        )
        # What names a test tells nobody, though a comment may name it too.
        tests = {word for message, _ in self._before for one in message.specimens for r in one.results
                 for word in (r.code, r.name, r.unit, *_MARKS.split(r.code_path))}  # fmt: skip
        self._scrubber = Scrubber(driver, Pseudonyms(key, date_order(texts)), others, keep | tests)

    def made(self) -> tuple[TraceStep, ...]:
        for data in self._said.values():  # once to learn what there is to be replaced, wherever it stands
            self._stream(data)
        made = {side: self._stream(data) for side, data in self._said.items()}
        self._check(made)
        out, at = [], dict.fromkeys(Direction, 0)
        for step in self._steps:
            begin = at[step.direction]
            at[step.direction] = begin + len(step.data)
            out.append(TraceStep(step.direction, made[step.direction][begin : at[step.direction]]))
        return tuple(out)

    def _check(self, made: dict[Direction, bytes]) -> None:
        after = [message for data in made.values() for message in _messages(self._driver, data)]
        if list(map(_measured, self._before)) != list(map(_measured, after)):
            raise DriverError("without its people the conversation would say something else; nothing was written")
        told = self._scrubber.told
        new = frozenset(told.values())
        text = b"\n".join(made.values()).decode("utf-8", "replace") + b"\n".join(made.values()).decode("latin-1")
        left = sorted(len(one) for one in told if one not in new and _stands(one, text))
        if left:
            raise DriverError(
                f"{len(left)} of the names, ids and words that were replaced still stand in a result's own fields "
                f"({', '.join(map(str, left[:5]))} characters); nothing was written. Words that tell nobody can be kept"
            )

    # ---- one side's bytes --------------------------------------------------------------------------------------------

    def _stream(self, data: bytes) -> bytes:
        out = bytearray(_blotted(data))
        if (grammar := self._driver.blocks) is not None:
            for mark in (re.escape(one) for one in (grammar.start, grammar.end) if one):
                for match in re.finditer(mark, data):
                    out[match.start() : match.end()] = match[0]
            self._blocks(data, out, grammar)
        elif b"\x0b" in data:
            for match in _MLLP.finditer(data):
                out[match.start(1) : match.end(1)] = self._text(match[1])
        elif _FRAME.search(data):
            self._frames(data, out)
        elif data.strip(b"\x04\x05\x06\x15"):
            out[:] = self._text(data)
        return bytes(out)

    def _frames(self, data: bytes, out: bytearray) -> None:
        session: list[re.Match[bytes]] = []
        end = 0
        for match in _FRAME.finditer(data):
            if _SESSION_MARK.search(data, end, match.start()):
                self._session(session, out)
                session = []
            session.append(match)
            end = match.end()
        self._session(session, out)

    def _session(self, frames: Sequence[re.Match[bytes]], out: bytearray) -> None:
        """The frames' texts as one, though records are cut; then their checksums. A damaged frame stays damaged."""
        text, places = bytearray(), list[int]()
        before = b""
        lenient = Leniency.NO_CHECKSUM in self._driver.leniencies or Leniency.ZERO_CHECKSUM in self._driver.leniencies
        taken: list[re.Match[bytes]] = []
        repeats: list[tuple[re.Match[bytes], re.Match[bytes]]] = []
        for frame in frames:
            content = frame[1] + frame[2] + frame[3]
            good = checksum(content) == frame[4].upper()
            if not good and not lenient:
                self._sum(frame, out, good=False)
            elif content == before and taken:
                repeats.append((frame, taken[-1]))
            else:
                taken.append(frame)
                text += frame[2]
                places += range(frame.start(2), frame.end(2))
                if frame[3] == b"\x03" and not frame[2].endswith((b"\r", b"\n")):
                    text += b"\r"
                    places.append(-1)
                before = content
        for place, byte in zip(places, self._text(bytes(text)), strict=True):
            if place >= 0:
                out[place] = byte
        for frame, first in repeats:
            out[frame.start(2) : frame.end(2)] = out[first.start(2) : first.end(2)]
        for frame in (*taken, *(frame for frame, _ in repeats)):
            self._sum(frame, out, good=checksum(frame[1] + frame[2] + frame[3]) == frame[4].upper())

    def _sum(self, frame: re.Match[bytes], out: bytearray, *, good: bool) -> None:
        sent = frame[4]
        out[frame.start(1) : frame.end(1)] = frame[1]
        right = checksum(bytes(out[frame.start(1) : frame.end(3)]))
        if good:
            sent = right.lower() if sent != sent.upper() else right
        elif sent.upper() == right:
            sent = b"%02X" % ((int(sent, 16) + 1) & 0xFF)
        out[frame.start(4) : frame.end(4)] = sent

    def _blocks(self, data: bytes, out: bytearray, grammar: declared.Grammar) -> None:
        whole = _ended(data, grammar)
        decoder, at, size = declared.Decoder(grammar, max(len(whole), 1)), 0, len(out)
        out += whole[size:]
        for event in (*decoder.receive(whole), *decoder.eof()):
            if not isinstance(event, declared.BlockReceived):
                continue
            begin = whole.index(event.raw, at)
            at = begin + len(event.raw)
            out[begin:at] = event.raw
            out[begin + event.start : begin + event.stop] = self._text(event.text)
            if grammar.check is not None:
                _check_anew(out, begin, at, begin + event.stop, grammar, grammar.check)
        del out[size:]

    # ---- texts -------------------------------------------------------------------------------------------------------

    def _text(self, text: bytes) -> bytes:
        if self._driver.protocol is Protocol.DECLARED:
            return scrub_rows(self._driver, self._scrubber, text)
        encoding = self._encoding(text)
        marks: Marks | None = None
        parts = _LINE_END.split(text.decode(encoding, _ODD_BYTES))
        for at, line in enumerate(parts):
            if at % 2 or not line.strip():
                continue
            marks = self._marks(line) or marks
            if marks is None:
                parts[at] = _blotted(line.encode(encoding, _ODD_BYTES)).decode(encoding, _ODD_BYTES)
            else:
                lead = line[: len(line) - len(line.lstrip("\ufeff\x00 "))]
                parts[at] = lead + self._scrubber.line(line[len(lead) :], self._driver.protocol, marks, encoding)
        made = "".join(parts).encode(encoding, _ODD_BYTES)
        if len(made) != len(text):
            raise DriverError("a text could not be replaced by one of its own length; nothing was written")
        return made

    def _encoding(self, text: bytes) -> str:
        if self._driver.protocol is Protocol.HL7:
            return charsets.decode(text, self._driver.encoding).encoding
        return self._driver.encoding or lis02.DEFAULT_ENCODING

    def _marks(self, line: str) -> Marks | None:
        try:
            if self._driver.protocol is Protocol.HL7:
                head = line.lstrip("\ufeff\x00 ")
                return hl7.parse(f"MSH{head[3:]}\r").delimiters if head[:3] in ("MSH", "FHS", "BHS") else None
            return lis02.parse(line + "\r").delimiters if line[:1] in "Hh" else None
        except (RecordError, SegmentError):
            return None


def _check_anew(
    out: bytearray, begin: int, end: int, stop: int, grammar: declared.Grammar, check: declared.Check
) -> None:
    """The block's checksum for its new text."""
    last = check.place is declared.Place.AFTER_END
    at = end - check.width if last else stop + len(check.mark)
    covered_to = at if not last or check.covers_end else at - len(grammar.end)
    sent = bytes(out[at : at + check.width])
    made = check.of(bytes(out[begin + check.skip : covered_to]))
    if check.written is declared.Written.HEX and sent != sent.upper():
        made = made.lower()
    out[at : at + check.width] = made


def _ended(data: bytes, grammar: declared.Grammar) -> bytes:
    """With the end that a capture lacks behind its last block."""
    decoder = declared.Decoder(grammar, max(len(data), 1))
    events = [*decoder.receive(data), *decoder.eof()]
    last = events[-1] if events else None
    return data + grammar.end if isinstance(last, declared.BlockRejected) and last.reason == "cut" else data


def _blotted(data: bytes) -> bytes:
    """Bytes of which nobody knows what they say, without what they say."""
    return _WORD.sub(lambda match: b"0" if match[0].isdigit() else b"x", data)


def _messages(driver: Driver, data: bytes) -> list[tuple[DecodedMessage, tuple[Problem, ...]]]:
    try:
        return [(decode(driver, one.text), one.problems) for one in read(data, driver)]
    except CaptureError:
        return []


def _stands(word: str, text: str) -> bool:
    """Whether a word is in a text by itself; of a short one, only as a whole leaf."""
    if len(word) > _SHORT:
        return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None
    return re.search(rf"(?<![^|^~\\&\r\n]){re.escape(word)}(?![^|^~\\&\r\n])", text) is not None


def _measured(read_: tuple[DecodedMessage, tuple[Problem, ...]]) -> Iterator[object] | tuple[object, ...]:
    """What a message says but for its people, times and words."""
    message, problems = read_
    return (
        problems,
        message.problems,
        len(message.patients),
        tuple(
            (one.patient, bool(one.specimen_id), one.type, one.role, one.order_code,
             tuple((r.code, r.unit, r.name, r.reference, r.flags, r.status, r.holds, r.detail, r.value.kind,
                    *(() if r.value.kind is ValueKind.IMAGE else (r.value, r.raw_value))) for r in one.results))
            for one in message.specimens
        ),
        tuple((len(query.specimen_ids), query.all, query.tests) for query in message.queries),
    )  # fmt: skip
