"""Which part of a connection's log is about one message. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from interface.wire.frames import ENQ
from interface.wire.mllp import CR, FS, VT
from interface.wire.wirelog import Came, Event, FrameCame, Left, Meaning, Noted, What


def of_frames(events: Sequence[Event], mine: Callable[[UUID], bool]) -> list[Event]:
    """The part about a LIS2 message, whose frames `mine` knows; none where none of them is there.

    It reaches from the session's begin, or from the reply to the message before, to the session's end, or to the
    message after. Where an analyzer did not wait for our replies, other messages' frames can be in between.
    """
    places = [at for at, event in enumerate(events) if _is_of(event, mine)]
    return list(events[_begin(events, places[0]) : _end(events, places[-1], mine)]) if places else []


def _is_of(event: Event, mine: Callable[[UUID], bool]) -> bool:
    return isinstance(event, FrameCame) and any(map(mine, event.ids))


def _begin(events: Sequence[Event], first: int) -> int:
    for at in range(first - 1, -1, -1):
        event = events[at]
        if isinstance(event, Noted) and event.what is What.OPENED:
            return at
        if isinstance(event, Noted) and event.what is What.ENDED:
            before = events[at - 1] if at else None  # the ENQ that ended a session also began the next
            return at - 1 if isinstance(before, Came) and before.data[-1:] == bytes([ENQ]) else at + 1
        if isinstance(event, FrameCame):
            at += 1
            while at < first and isinstance(events[at], Left):
                at += 1
            return at
    return 0


def _end(events: Sequence[Event], last: int, mine: Callable[[UUID], bool]) -> int:
    answered = False
    for at in range(last + 1, len(events)):
        event = events[at]
        answered = answered or isinstance(event, Left)
        if isinstance(event, Noted) and event.what in (What.ENDED, What.CLOSED):
            return at + 1
        if isinstance(event, FrameCame) and answered and not _is_of(event, mine):
            return at
    return len(events)


def of_block(events: Sequence[Event], mine: Callable[[UUID], bool]) -> list[Event]:
    """The part about an HL7 message: its block in its envelope, and what was answered to it; see `of_frames`."""
    at = next((at for at, event in enumerate(events) if _is_of(event, mine)), None)
    if at is None:
        return []
    chosen: list[Event] = []
    before, block, after = events[at - 1] if at else None, events[at], events[at + 1] if at + 1 < len(events) else None
    enveloped = isinstance(block, FrameCame) and block.meaning is Meaning.BLOCK
    if isinstance(before, Came) and not enveloped:
        chosen.append(Came(before.at, before.data[max(before.data.rfind(VT), 0) :]))
    chosen.append(block)
    if isinstance(after, Came) and not enveloped:
        mark = after.data.find(FS) + 1
        stop = mark + (after.data[mark : mark + 1] == bytes([CR])) if mark else len(after.data)
        chosen.append(Came(after.at, after.data[:stop]))
    for event in events[at + 1 :]:
        if isinstance(event, Left) and event.answers is not None and mine(event.answers):
            chosen.append(event)
    return chosen
