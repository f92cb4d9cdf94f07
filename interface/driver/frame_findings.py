"""LIS01-A2 frames as they are found in bytes, without the receiver's rules: sums, numbers, cuts, record ends. Pure.

The receiver refuses what is not right; this says what was there instead.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from interface.driver.diagnosis import ChecksumVerdict, Cut, FrameFindings, Handshake, counted
from interface.wire.frames import ACK, ENQ, EOT, ETX, NAK, checksum

_FRAME = re.compile(rb"\x02([^\x02\x03\x04\x05\x17]*)([\x03\x17])([0-9A-Fa-f]{2})?(\r\n|\r|\n)?")
_DIGIT = re.compile(rb"[0-9]")
_RECORD_END = re.compile(rb"\r\n|\r|\n")
_RECORD = re.compile(rb"[A-Za-z][^A-Za-z0-9\s]")
_LEAST_PIECE_BYTES = 32  # frames shorter than this are no pieces of a cut text
END_NAMES = {b"\r\n": "CRLF", b"\r": "CR", b"\n": "LF", b"": "none"}


def _xor(body: bytes) -> int:
    value = 0
    for code in body:
        value ^= code
    return value


# What else the digits may be the sum of, `frame` being STX to ETX and `body` what LIS01-A2 adds up.
_OTHER_SUMS: tuple[tuple[str, Callable[[bytes], int]], ...] = (
    ("it is right without the ETX or ETB", lambda body: sum(body[:-1])),
    ("it is right with the STX", lambda body: sum(body) + 2),
    ("it is right without the frame number", lambda body: sum(body[1:])),
    ("it is right over the text alone, without frame number and ETX", lambda body: sum(body[1:-1])),
    ("it is right over seven bits of each byte: the sums were made before an 8th bit was added",
     lambda body: sum(code & 0x7F for code in body)),
    ("it is the exclusive-or, not the sum", _xor),
    ("it is the exclusive-or without ETX, not the sum", lambda body: _xor(body[:-1])),
    ("it is the two's complement of the sum", lambda body: -sum(body)),
    ("its two digits are exchanged", lambda body: (sum(body) & 0x0F) << 4 | (sum(body) & 0xF0) >> 4),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """One frame in the bytes. `text` is without its number where it has one; `raw`: from STX to the end."""

    start: int
    stop: int
    raw: bytes
    number: int | None
    text: bytes
    last: bool  # ETX
    digits: bytes
    line_end: bytes
    verdict: ChecksumVerdict

    @property
    def body(self) -> bytes:
        """What the sum is made over: number to ETX or ETB."""
        end = self.raw.rfind(b"\x03" if self.last else b"\x17")
        return self.raw[1 : end + 1]


def find_frames(data: bytes) -> tuple[SeenFrame, ...]:
    """Everything from an STX to an ETX or ETB, in order."""
    found = []
    for match in _FRAME.finditer(data):
        body, digits, end = match[1] + match[2], match[3] or b"", match[4] or b""
        numbered = bool(_DIGIT.match(body))
        number = body[0] - 0x30 if numbered else None
        text = match[1][1:] if numbered else match[1]
        last = match[2][0] == ETX
        found.append(SeenFrame(*match.span(), match[0], number, text, last, digits, end, _verdict(body, digits)))
    return tuple(found)


def _verdict(body: bytes, digits: bytes) -> ChecksumVerdict:
    if not digits:
        return ChecksumVerdict.ABSENT
    wanted = checksum(body)
    if digits == wanted:
        return ChecksumVerdict.RIGHT
    if digits.upper() == wanted:
        return ChecksumVerdict.LOWER_CASE
    return ChecksumVerdict.ZERO if digits == b"00" else ChecksumVerdict.WRONG


def sessions_of(
    data: bytes, frames: Sequence[SeenFrame], edges: frozenset[int] = frozenset((ENQ, EOT))
) -> list[list[SeenFrame]]:
    """The frames between two of `edges`. A session without frames is none."""
    sessions: list[list[SeenFrame]] = []
    before = -1
    for frame in frames:
        gap = data[max(before, 0) : frame.start]
        if before < 0 or not edges.isdisjoint(gap):
            sessions.append([])
        sessions[-1].append(frame)
        before = frame.stop
    return sessions


def is_repeat(frame: SeenFrame, before: SeenFrame | None) -> bool:
    """Byte-identical to the one before it: its answer was lost, or refused it."""
    return before is not None and frame.raw == before.raw


def meant(session: Sequence[SeenFrame]) -> list[SeenFrame]:
    """The frames that the sender wants taken: not those that it sent again after they were damaged, and no repeats."""
    kept: list[SeenFrame] = []
    for place, frame in enumerate(session):
        after = session[place + 1] if place + 1 < len(session) else None
        damaged = frame.verdict is ChecksumVerdict.WRONG and after is not None and after.number == frame.number
        if damaged and after is not None and after.verdict is not ChecksumVerdict.WRONG:
            continue
        if not is_repeat(frame, session[place - 1] if place else None):
            kept.append(frame)
    return kept


def text_of(session: Sequence[SeenFrame]) -> bytes:
    """The text of a session's frames; an ETX ends the record that is open, an ETB does not (LIS01-A2 6.2)."""
    out = bytearray()
    for frame in session:
        out += frame.text
        if frame.last and not out.endswith((b"\r", b"\n")):
            out += b"\r"
    return bytes(out)


def handshake_of(data: bytes, frames: Sequence[SeenFrame]) -> Handshake:
    """The control characters outside frames."""
    outside = bytearray()
    at = 0
    for frame in frames:
        outside += data[at : frame.start]
        at = frame.stop
    outside += data[at:]
    return Handshake(outside.count(ENQ), outside.count(EOT), outside.count(ACK), outside.count(NAK))


def frame_findings(sessions: Sequence[Sequence[SeenFrame]]) -> FrameFindings:
    """What the frames have in common. There must be one."""
    frames = [frame for session in sessions for frame in session]
    wanted = [meant(session) for session in sessions]
    repeated = sum(
        is_repeat(frame, session[place - 1] if place else None)
        for session in sessions
        for place, frame in enumerate(session)
    )
    return FrameFindings(
        count=len(frames),
        sessions=len(sessions),
        repeated=repeated,
        cut=_cut(wanted),
        largest_text_bytes=max(len(frame.text) for frame in frames),
        etb=sum(not frame.last for frame in frames),
        etx=sum(frame.last for frame in frames),
        numbering=_numbering(wanted),
        checksums=_verdicts(frames),
        checksum_hint=_checksum_hint([frame for frame in frames if frame.verdict is ChecksumVerdict.WRONG]),
        line_ends=counted(END_NAMES[frame.line_end] for frame in frames),
    )


def _verdicts(frames: Sequence[SeenFrame]) -> tuple[tuple[ChecksumVerdict, int], ...]:
    counts = {verdict: sum(frame.verdict is verdict for frame in frames) for verdict in ChecksumVerdict}
    return tuple((verdict, count) for verdict, count in counts.items() if count)


def _checksum_hint(wrong: Sequence[SeenFrame]) -> str:
    """Over what else every one of the wrong sums would be right."""
    if not wrong:
        return ""
    for words, add in _OTHER_SUMS:
        if all(b"%02X" % (add(frame.body) & 0xFF) == frame.digits.upper() for frame in wrong):
            return words
    return ""


def _numbering(sessions: Sequence[Sequence[SeenFrame]]) -> str:
    numbers = [[frame.number for frame in session] for session in sessions if session]
    if any(number is None for session in numbers for number in session):
        return "there are frames without a number"
    whole = [[number for number in session if number is not None] for session in numbers]
    gaps = sum((after - before) % 8 != 1 for one in whole for before, after in itertools.pairwise(one))
    if gaps:
        shown = " ".join(map(str, whole[0][:10]))
        steps = sum(len(one) - 1 for one in whole)
        return f"{gaps} of {steps} steps are not to the next number ({shown}{' …' if len(whole[0]) > 10 else ''})"
    firsts = sorted({one[0] for one in whole if one[0] != 1})
    return f"a session begins with number {', '.join(map(str, firsts))}" if firsts else ""


def _cut(sessions: Sequence[Sequence[SeenFrame]]) -> Cut:
    frames = [frame for session in sessions for frame in session]
    per_frame = [_records(frame.text) for frame in frames]
    whole = [begins and ends for begins, ends, _ in per_frame]
    open_ended = [len(frame.text) for frame, fits in zip(frames, whole, strict=True) if not frame.last and not fits]
    if open_ended and max(open_ended) >= _LEAST_PIECE_BYTES:
        return Cut.PIECES
    if all(count <= 1 for _, _, count in per_frame):
        return Cut.RECORD
    if all(frame.text[:1] in b"HhM" and frame.last for frame in frames):
        return Cut.MESSAGE
    return Cut.RECORDS if all(begins for begins, _, _ in per_frame) else Cut.PIECES


def _records(text: bytes) -> tuple[bool, bool, int]:
    """Whether the text begins with a record, whether it ends one, and how many it has."""
    parts = [part for part in _RECORD_END.split(text) if part]
    return bool(_RECORD.match(text)) or not parts, text.endswith((b"\r", b"\n")), len(parts)


def record_ends(sessions: Sequence[Sequence[SeenFrame]]) -> tuple[tuple[str, int], ...]:
    """What ends the records; `none` where only the ETX does."""
    names: list[str] = []
    for session in sessions:
        open_record = False
        for frame in session:
            names += [END_NAMES[end] for end in _RECORD_END.findall(frame.text)]
            if frame.text:
                open_record = not frame.text.endswith((b"\r", b"\n"))
            if frame.last and open_record:
                names.append("none")
                open_record = False
    return counted(names)
