"""What went over the wire, put together again from the wire log and the journal's frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from interface.errors import LinkFrameError
from interface.store import wire_log
from interface.store.db import Connection
from interface.store.journal import message_of, ordinal_of
from interface.store.stored_messages import StoredMessage
from interface.store.wire_log import WireLogRow
from interface.wire import mllp
from interface.wire.conversation import of_block, of_frames
from interface.wire.trace import Direction
from interface.wire.wirelog import Came, Event, FrameCame, Left, Meaning, Noted, What, decode

# How far around a message its conversation is looked for: a session falls silent for 30 s at most, and a frame that
# was refused is sent six times; what was said is in the log some seconds after the message is sealed.
BEFORE, AFTER = timedelta(minutes=5), timedelta(minutes=2)

# Why a transmission was cut (docs/configuration.md).
INCOMPLETE = {
    "eot": "the analyzer ended the session (EOT) before its message was whole",
    "aborted": "the analyzer ended the session (EOT) after a frame that was refused, or acknowledged too late",
    "timeout": "the analyzer fell silent in the middle of its message",
    "lost": "the connection or the cable was lost in the middle of the message",
    "enq": "the analyzer began a new session (ENQ) in the middle of its message",
    "header": "a new message began (H record) before this one had ended",
    "refused": "without frames: a record could not be stored, and there is no reply to say so",
    "terminator": "without frames: the terminator record (L) came, and belongs to another message",
    "stop": "the daemon was stopped in the middle of the message",
    "restart": "the daemon or the machine ended in the middle of the message, which was found at the next start",
}
_NOTES = {
    What.OPENED: "connected: {text}",
    What.CLOSED: "disconnected",
    What.REFUSED: "refused: {text}, {count} bytes",
    What.NOT_STORED: "refused: not stored ({text})",
    What.ENDED: "session ended: {text}",
    What.UNSENT: "not sent: {count} bytes, the peer did not take them",
    What.MISSING: "{count} bytes not logged",
}


@dataclass(frozen=True, slots=True)
class WireLine:
    """One line of a conversation, in the order of the wire.

    `direction` None: nothing was on the wire, `note` says what happened. `frame`: the bytes are a frame's of the
    message `message_id`; `again`: they were sent once more. `data` b"" where `note` says why they are not shown.
    """

    at: datetime
    direction: Direction | None
    data: bytes = b""
    note: str = ""
    message_id: UUID | None = None
    frame: int | None = None
    again: bool = False
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """`logged`: the wire log had it; else the lines are the message's frames alone."""

    lines: tuple[WireLine, ...]
    logged: bool


async def conversation_of(connection: Connection, stored: StoredMessage) -> Conversation:
    """Everything that was said about a message, in both directions. Its frames are there whatever the log has."""

    def mine(frame_id: UUID) -> bool:
        return message_of(frame_id) == stored.id

    chosen: list[Event] = []
    for row in await wire_log.rows_at(connection, stored.link_id, stored.received_at):
        if any(mine(one) for one in _ids(_events(row))):
            since, until = stored.received_at - BEFORE, (stored.sealed_at or stored.received_at) + AFTER
            rows = await wire_log.rows_between(connection, row.link_id, row.connection_id, since, until)
            events = [event for each in rows for event in _events(each)]
            chosen = of_block(events, mine) if stored.protocol == "hl7" else of_frames(events, mine)
            break
    frames = await wire_log.read_frame_bytes(connection, {one for one in _ids(chosen) if mine(one)})
    lines = _with_all_frames([_line(event, frames, stored.id) for event in chosen], stored)
    if stored.state == "incomplete":
        why = INCOMPLETE.get(stored.reason, "")
        text = f"incomplete: {stored.reason}" + (f", {why}" if why else "")
        lines.append(WireLine(stored.sealed_at or lines[-1].at, None, note=text))
    return Conversation(tuple(lines), bool(chosen))


async def traffic(connection: Connection, rows: Sequence[WireLogRow]) -> list[WireLine]:
    """All that rows of one link say, in the order of time, with the frames' bytes."""
    events = [(row.peer, event) for row in rows for event in _events(row)]
    frames = await wire_log.read_frame_bytes(connection, _ids(event for _, event in events))
    lines = [_line(event, frames, None, peer) for peer, event in events]
    return sorted(lines, key=lambda line: line.at)


def _events(row: WireLogRow) -> list[Event]:
    try:
        return decode(row.events)
    except LinkFrameError:  # one damaged row hides no other
        return [Noted(row.began_at, What.MISSING, count=len(row.events))]


def _ids(events: Iterable[Event]) -> set[UUID]:
    return {one for event in events if isinstance(event, FrameCame) for one in event.ids}


def _line(event: Event, frames: Mapping[UUID, bytes], message_id: UUID | None, peer: str = "") -> WireLine:
    """`message_id`: show no other message's frames; None: show all."""
    match event:
        case Came(at, data):
            return WireLine(at, Direction.ANALYZER, data, peer=peer)
        case Left(at, data, _):
            return WireLine(at, Direction.HOST, data, peer=peer)
        case Noted(at, what, text, count):
            return WireLine(at, None, note=_NOTES[what].format(text=text, count=count), peer=peer)
        case FrameCame(at, ids, meaning):
            frame_id = next((one for one in ids if message_of(one) == message_id), ids[0])
            of, ordinal, data = message_of(frame_id), ordinal_of(frame_id), frames.get(frame_id, b"")
            again = meaning is Meaning.AGAIN
            if meaning is Meaning.APART:  # its bytes stand before it, as they came
                return WireLine(at, None, b"", f"stored as frame {ordinal + 1} of {of}", of, ordinal, peer=peer)
            note = "" if data else f"frame {ordinal + 1} of {of}" + (", once more" if again else "")
            if data and meaning is Meaning.BLOCK:
                data = mllp.encode(data)
            return WireLine(at, Direction.ANALYZER, data, note, of, ordinal, again, peer)


def _with_all_frames(lines: list[WireLine], stored: StoredMessage) -> list[WireLine]:
    """Put what the log lacks, since it is bounded and may end before the journal does, at its time."""
    known = {line.frame for line in lines if line.message_id == stored.id}
    merged = list(lines)
    for frame in stored.frames:
        if frame.ordinal not in known:
            line = WireLine(frame.received_at, Direction.ANALYZER, frame.bytes, "", stored.id, frame.ordinal)
            at = next((place for place, other in enumerate(merged) if other.at > line.at), len(merged))
            merged.insert(at, line)
    return merged
