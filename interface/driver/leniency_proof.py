"""Which leniencies an analyzer needs, proven: the real receiver is run over its bytes with small sets of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from interface.driver.diagnosis import LeniencyProof
from interface.driver.frame_findings import SeenFrame, meant
from interface.wire.datalink_events import (
    ALWAYS,
    FrameReceived,
    FrameRejected,
    Leniency,
    LeniencyUsed,
    LinkOptions,
    SessionEnded,
    SessionStarted,
    Skipped,
    Station,
)
from interface.wire.frames import ENQ, EOT
from interface.wire.lis01 import DataLink
from interface.wire.transmission import MessageSplitter, part_text

_SLICE_BYTES = 4096
_ENDS = b"\r\n"  # behind the last record they belong to nothing
_MAX_FRAME_BYTES = 16 * 1024 * 1024
SEARCHED_BYTES = 131_072  # sets are tried on so much; the one that is found is then tried on everything
_WIDEST = 2  # all sets up to this size are tried; a larger one is found by leaving out what is not needed
# Left out first where several sets would do: what they let through is worst.
_GRAVE = (Leniency.NO_CHECKSUM, Leniency.FN_UNSEQUENCED)
_OPTIONAL = tuple(sorted(frozenset(Leniency) - ALWAYS, key=lambda one: (one in _GRAVE, list(Leniency).index(one))))


@dataclass(frozen=True, slots=True)
class Taken:
    """What the receiver made of the bytes. `messages`: text and whether it was complete."""

    texts: tuple[bytes, ...]
    messages: tuple[tuple[bytes, bool], ...]
    refused: tuple[tuple[str, int], ...]
    skipped_bytes: int
    used: frozenset[Leniency]  # departures that were taken

    @property
    def complete(self) -> tuple[bytes, ...]:
        return tuple(text for text, complete in self.messages if complete)


def replay(data: bytes, leniencies: frozenset[Leniency]) -> Taken:
    """Run the receiver over an analyzer's bytes, with a host that stores everything."""
    core = DataLink(Station.HOST, LinkOptions(leniencies=leniencies, max_frame_bytes=_MAX_FRAME_BYTES))
    messages = _Messages(Leniency.NO_TERMINATOR_RECORD in leniencies)
    used: set[Leniency] = set()
    texts: list[bytes] = []
    refused: Counter[str] = Counter()
    skipped = 0
    for event in _events(core, data):
        match event:
            case SessionStarted():
                messages.begin()
            case SessionEnded(reason):
                messages.end(reason)
            case FrameReceived():
                texts.append(event.text)
                messages.frame(event.text, event.last)
            case FrameRejected(reason):
                refused[reason] += 1
            case Skipped(junk):
                skipped += len(junk)
            case LeniencyUsed(leniency):
                used.add(leniency)
            case _:
                pass
    return Taken(tuple(texts), messages.made(), tuple(refused.items()), skipped, frozenset(used))


def _events(core: DataLink, data: bytes) -> Iterator[object]:
    for at in range(0, len(data), _SLICE_BYTES):
        core.receive(data[at : at + _SLICE_BYTES])
        yield from _drained(core)
    if core.timer is not None:  # the end of a recording is a silence, which ends records without frames
        core.timeout()
        yield from _drained(core)
    core.lost()
    yield from _drained(core)


def _drained(core: DataLink) -> Iterator[object]:
    while (event := core.next_event()) is not None:
        yield event
        if isinstance(event, FrameReceived):
            core.stored()
        core.data_to_send()


class _Messages:
    """Frame texts into messages, as the intake makes them."""

    def __init__(self, ends_with_session: bool) -> None:
        self._ends_with_session = ends_with_session
        self._ended = False  # ETX ended the last record
        self._splitter = MessageSplitter()
        self._made: list[tuple[bytearray, bool]] = []

    def begin(self) -> None:
        self._splitter = MessageSplitter()

    def frame(self, text: bytes, last: bool) -> None:
        self._ended = last
        for piece in self._splitter.feed(text, last):
            if piece.opens or not self._made:
                self._made.append((bytearray(), False))
            so_far = self._made[-1][0]
            so_far += part_text(text, last, piece.start, piece.stop)
            self._made[-1] = (so_far, piece.seals)

    def end(self, reason: str) -> None:
        """A message that is open at EOT is complete where no terminator is sent."""
        open_ended = self._splitter.open and self._made and self._ended
        if self._ends_with_session and open_ended and reason == "eot":
            self._made[-1] = (self._made[-1][0], True)
        self._splitter = MessageSplitter()

    def made(self) -> tuple[tuple[bytes, bool], ...]:
        return tuple((bytes(text), complete) for text, complete in self._made)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What must come through: whole messages, or where their ends are not known the texts of frames."""

    texts: tuple[bytes, ...]
    messages: tuple[bytes, ...] | None

    def met_by(self, taken: Taken) -> bool:
        if self.messages is None:
            return taken.texts == self.texts
        return [text.rstrip(_ENDS) for text in taken.complete] == [text.rstrip(_ENDS) for text in self.messages]


def wanted_of(sessions: Sequence[Sequence[SeenFrame]], *, by_frame: bool, cut_off: bool) -> Wanted:
    """From the frames as they were sent. `cut_off`: the recording ends within the last session."""
    texts = tuple(frame.text for session in sessions for frame in meant(session))
    made = _messages_of(sessions)
    if cut_off and made and not made[-1][1]:
        made = made[:-1]
    return Wanted(texts, None if by_frame or not made else tuple(text for text, _ in made))


def _messages_of(sessions: Sequence[Sequence[SeenFrame]]) -> tuple[tuple[bytes, bool], ...]:
    messages = _Messages(False)
    for session in sessions:
        messages.begin()
        for frame in meant(session):
            messages.frame(frame.text, frame.last)
    return messages.made()


def all_whole(sessions: Sequence[Sequence[SeenFrame]]) -> bool:
    """Whether each message of these sessions runs from H to L."""
    made = _messages_of(sessions)
    return bool(made) and all(complete for _, complete in made)


def wanted_of_messages(messages: Sequence[bytes]) -> Wanted:
    """Of records without frames."""
    return Wanted((), tuple(messages))


def prove(
    data: bytes,
    wanted: Wanted,
    sample: tuple[bytes, Wanted] | None = None,
    *,
    supply_handshake: bool = False,
    broken_off: bool = False,
) -> LeniencyProof:
    """The smallest set of leniencies under which all that is wanted comes through.

    `sample`: the begin of `data` and what is wanted of it, where `data` is too long for a hundred runs.
    """
    tried = sample or (data, wanted)
    before, after = (bytes([ENQ]), bytes([EOT])) if supply_handshake else (b"", b"")
    data = before + data + after
    by_frame = wanted.messages is None
    judged = len(wanted.texts if wanted.messages is None else wanted.messages)
    found = _smallest(before + tried[0] + after, tried[1])
    if found is not None:
        taken = replay(data, found)
        if wanted.met_by(taken):
            always = taken.used & ALWAYS
            return LeniencyProof(judged, by_frame, found, True, (), supply_handshake, broken_off, always)
    obstacles = _obstacles(replay(data, frozenset(_OPTIONAL)), wanted)
    return LeniencyProof(judged, by_frame, frozenset(), False, obstacles, supply_handshake, broken_off)


def _smallest(data: bytes, wanted: Wanted) -> frozenset[Leniency] | None:
    """Small sets first, then the full one with all left out that is not needed; None when that does not do."""
    for size in range(_WIDEST + 1):
        for few in combinations(_OPTIONAL, size):
            if wanted.met_by(replay(data, frozenset(few))):
                return frozenset(few)
    return _left_out(data, wanted)


def _left_out(data: bytes, wanted: Wanted) -> frozenset[Leniency] | None:
    kept = frozenset(_OPTIONAL)
    if not wanted.met_by(replay(data, kept)):
        return None
    for leniency in reversed(_OPTIONAL):
        if wanted.met_by(replay(data, kept - {leniency})):
            kept -= {leniency}
    return kept


def _obstacles(taken: Taken, wanted: Wanted) -> tuple[str, ...]:
    """Why not everything came through, with all leniencies allowed."""
    said = [f"{count} frame{'s are' if count > 1 else ' is'} refused: {reason}" for reason, count in taken.refused]
    if taken.skipped_bytes:
        said.append(f"{taken.skipped_bytes} bytes belong to no frame")
    open_ended = sum(not complete for _, complete in taken.messages)
    if wanted.messages is not None and open_ended:
        bare = "" if wanted.texts else ", and without frames nothing else ends one"
        said.append(f"{open_ended} message{'s have' if open_ended > 1 else ' has'} no terminator record (L){bare}")
    return tuple(said) or ("other messages come out than were sent",)
