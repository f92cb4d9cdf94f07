"""The wire log of a connection to a port that links of several laboratories share: each has its own part of it.

A laboratory's recorder hears what was attributed to its link and nothing else: frames and messages where they are given
to the link's intake, never where they are read, so that no byte of another one can be among them. Beside these it hears
the control characters of its sessions, which say nothing of anybody, and our replies to what it sent. What was refused,
repeated or stray is not heard: who sent it is not known for sure (docs/decisions/wire-log.md).
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from interface.link.clock import Clock
from interface.link.intake import Intake
from interface.link.recorder import Allowance, RecordedIntake, Recorder, WireLog
from interface.wire.frames import ACK, ENQ, EOT, NAK
from interface.wire.wirelog import Came, Left

MOST_HELD = 16  # control characters before it is known whose session it is; of more, the newest
_CONTROLS = bytes((ACK, ENQ, EOT, NAK))


class Owner(Protocol):
    """A link of the port, with its own log, or none."""

    @property
    def intake(self) -> Intake: ...

    @property
    def wire_log(self) -> WireLog | None: ...

    @property
    def allowance(self) -> Allowance: ...


class SharedLog:
    """One connection's. It is the `Ear` of the stream; `of` gives the ear of each link's intake."""

    def __init__(self, peer: str, clock: Clock) -> None:
        self._peer, self._clock, self._opened_at = peer, clock, clock.utc()
        self._intakes: dict[Owner, Intake] = {}
        self._recorders: dict[Owner, Recorder] = {}
        self._session: Recorder | None = None  # whose session it is
        self._held = deque[Came | Left](maxlen=MOST_HELD)  # of a session that is nobody's yet

    def of(self, owner: Owner) -> Intake:
        """The link's intake, which is listened to where the link has a log."""
        if owner not in self._intakes:
            intake = owner.intake
            if owner.wire_log is not None:
                recorder = Recorder(owner.wire_log, self._peer, owner.allowance, self._clock, self._opened_at)
                self._recorders[owner], intake = recorder, _AttributedIntake(intake, recorder)
            self._intakes[owner] = intake
        return self._intakes[owner]

    def begin(self, owner: Owner) -> None:
        """The session is this link's: so is how it began."""
        self.of(owner)
        self._session = self._recorders.get(owner)
        held = tuple(self._held)
        self._held.clear()
        if self._session is not None:
            self._session.replay(held)

    def end(self) -> None:
        """What comes next is nobody's."""
        self._session = None

    def refused(self, reason: str, data: bytes) -> None:
        """How much of a session was refused, and why."""
        if self._session is not None:
            self._session.refused(reason, data)

    # ---- the stream's

    def came(self, data: bytes) -> None:
        for character in data if _only_controls(data) else b"":
            if character == ENQ:  # it begins what is not attributed yet
                self._held.clear()
            if character == ENQ or self._session is None:
                self._held.append(Came(self._clock.utc(), bytes((character,))))
            else:
                self._session.came(bytes((character,)))

    def left(self, data: bytes) -> None:
        if not _only_controls(data):
            for recorder in self._recorders.values():
                recorder.answered(data)
        elif self._session is not None:
            self._session.left(data)
        else:
            self._held.append(Left(self._clock.utc(), data))

    def unsent(self, data: bytes) -> None:
        if self._session is not None:
            self._session.unsent(data)

    def close(self) -> None:
        self._held.clear()
        for recorder in self._recorders.values():
            recorder.close()


class _AttributedIntake(RecordedIntake):
    """What is given to it is heard here, and not where it was read."""

    def _hear(self, raw: bytes) -> None:
        self._recorder.came(raw)


def _only_controls(data: bytes) -> bool:
    return not data.translate(None, _CONTROLS)
