"""How one analyzer puts its messages on the line, as its vectors show it and its leniencies allow."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from interface.driver.manifest import Driver, LinkFraming
from interface.errors import DriverError
from interface.simulator.source import PlayProtocol, Source
from interface.wire import declared
from interface.wire.datalink_events import Leniency
from interface.wire.frames import ETB, ETX, LEGACY_TEXT_BYTES, MAX_TEXT_BYTES, checksum

_FRAME = re.compile(rb"\x02([0-7])([^\x02\x03\x17]*)([\x03\x17])([0-9A-Fa-f]{0,2})(\r?\n?)")
_BARE = declared.Grammar()  # text that nobody answers: a message is its records, H to L
_RECORD = re.compile(rb"[^\r\n]+(?:\r\n?|\n|$)")


@dataclass(frozen=True, slots=True)
class FrameHabit:
    """LIS01-A2 frames as this analyzer cuts and ends them. `whole`: a message goes into one frame if it fits."""

    whole: bool = False
    text_bytes: int = LEGACY_TEXT_BYTES
    first_fn: int = 1
    digits: str = "upper"  # upper, lower, zero, none
    line_end: bytes = b"\r\n"
    bare: bool = False  # no frames at all

    def frames(self, text: bytes) -> tuple[bytes, ...]:
        """One message as frames."""
        pieces: list[tuple[bytes, bool]] = []
        for record in [text] if self.whole else _RECORD.findall(text):
            parts = [record[at : at + self.text_bytes] for at in range(0, len(record), self.text_bytes)]
            pieces += [(part, number == len(parts)) for number, part in enumerate(parts, start=1)]
        return tuple(self._frame(number, *piece) for number, piece in enumerate(pieces, start=self.first_fn))

    def _frame(self, number: int, text: bytes, last: bool) -> bytes:
        body = b"%d%s%c" % (number % 8, text, ETX if last else ETB)
        digits = {"upper": checksum(body), "lower": checksum(body).lower(), "zero": b"00", "none": b""}[self.digits]
        return b"\x02" + body + digits + self.line_end


def frame_habit(driver: Driver, said: bytes) -> FrameHabit:
    """From everything that the analyzer says in its vectors.

    What the driver's leniencies do not name is by the standard: a damaged frame among the vectors is no habit.
    """
    frames = _FRAME.findall(said)
    if not frames:
        return FrameHabit(bare=Leniency.BARE_RECORDS in driver.leniencies)
    cut = [len(text) for _, text, end, _, _ in frames if end == b"\x17"]
    several = any(len(_RECORD.findall(text)) > 1 for _, text, _, _, _ in frames)
    digits = "upper"
    if Leniency.NO_CHECKSUM in driver.leniencies and not any(sent for *_, sent, _ in frames):
        digits = "none"
    elif Leniency.ZERO_CHECKSUM in driver.leniencies and all(sent == b"00" for *_, sent, _ in frames):
        digits = "zero"
    elif Leniency.LOWER_CASE_CHECKSUM in driver.leniencies:
        digits = "lower"
    line_end = b"\r\n"
    if Leniency.MISSING_CRLF in driver.leniencies:
        line_end = Counter(end for *_, end in frames).most_common(1)[0][0]
    size = max(cut) if cut else MAX_TEXT_BYTES if several else LEGACY_TEXT_BYTES
    return FrameHabit(several, size, 0 if frames[0][0] == b"0" else 1, digits, line_end)


def framed(driver: Driver, habit: FrameHabit, texts: tuple[bytes, ...]) -> Source:
    """What is sent at once, as one transmission. Raises DriverError where the framing would not carry it."""
    if driver.blocks is not None:
        blocks = tuple(_block(driver, driver.blocks, text) for text in texts)
        return Source(PlayProtocol.DECLARED, (blocks,), driver.blocks)
    if driver.link is LinkFraming.MLLP:
        return Source(PlayProtocol.MLLP, tuple((text,) for text in texts))
    if habit.bare:
        return Source(PlayProtocol.DECLARED, (texts,), _BARE)
    return Source(PlayProtocol.ASTM, tuple(habit.frames(text) for text in texts))


def _block(driver: Driver, grammar: declared.Grammar, text: bytes) -> bytes:
    raw = declared.encode(grammar, text)
    decoder = declared.Decoder(grammar, max(len(raw), 1))
    events = decoder.receive(raw) + decoder.eof()
    if [event.text for event in events if isinstance(event, declared.BlockReceived)] != [text]:
        raise DriverError(f"driver {driver.id}: its framing does not carry {len(text)} bytes of this text")
    return raw
