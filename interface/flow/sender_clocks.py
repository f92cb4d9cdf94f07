"""The clocks of those who send, as their messages show them."""

from __future__ import annotations

from collections.abc import Sequence

from interface import telemetry
from interface.driver.sent_at import sent_at
from interface.flow.message import frame_text
from interface.flow.work import Work
from interface.settings import TransportType


def note_clocks(works: Sequence[Work]) -> None:
    """A clock that goes astray is told before results are dated by it: by the last message of each link that says its
    time. What is read from a file came at any time."""
    told: set[str] = set()
    for work in reversed(works):
        message, settings, name = work.message, work.link.settings, work.link.name
        if name in told or message.duplicate_of is not None or not message.frames:
            continue
        if settings.transport.type is not TransportType.FOLDER:
            text, came_at = frame_text(message.frames[0]), message.received_at
            sent = sent_at(message.protocol, text, work.zone, work.by_rote, came_at)
            if sent is not None:
                told.add(name)
                telemetry.set_clock(name, (sent - came_at).total_seconds())
