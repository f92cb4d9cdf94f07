"""Answers that make an analyzer talk and keep its message: nothing it sends is ever accepted. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from interface.wire import hl7_ack, lis01, mllp
from interface.wire.frames import ACK, NAK

_VT = b"\x0b"


class Hl7Refusal(StrEnum):
    """What an HL7 message is answered with. Some senders drop a message that is answered at all: nothing is safest."""

    NONE = "none"
    AE = "ae"
    AR = "ar"


class Refuser:
    """One connection's host that ACKs an ENQ and NAKs every frame (LIS01-A2: the sender keeps what was not accepted).

    An HL7 block is answered with nothing, or negatively. `clock`: the instant for MSH-7, aware.
    """

    def __init__(self, hl7: Hl7Refusal, clock: Callable[[], datetime]) -> None:
        self._hl7, self._clock = hl7, clock
        self._link = lis01.DataLink(lis01.Station.HOST)
        self._blocks: mllp.Decoder | None = None
        self._begun = False
        self._replies = 0

    @property
    def timer(self) -> lis01.Timer | None:
        """Call `timeout` when it has run out."""
        return self._link.timer

    def timeout(self) -> None:
        """The analyzer fell silent within a session."""
        self._link.timeout()
        self._answer()

    def feed(self, data: bytes) -> bytes:
        """What is to be written now, in answer to `data`."""
        if not self._begun and data.strip(b"\r\n\0 "):
            self._begun = True
            self._blocks = mllp.Decoder() if data.strip(b"\r\n\0 ").startswith(_VT) else None
        if self._blocks is not None:
            events = self._blocks.receive(data)
            return b"".join(self._refusal(event.block) for event in events if isinstance(event, mllp.BlockReceived))
        self._link.receive(data)
        return self._answer()

    def _answer(self) -> bytes:
        """The core's own answers; every frame that it would hand over is refused."""
        sessions = 0
        while (event := self._link.next_event()) is not None:
            sessions += isinstance(event, lis01.SessionStarted)
            if isinstance(event, lis01.FrameReceived):
                self._link.refused()
        return _only_for_enquiries(self._link.data_to_send(), sessions)

    def _refusal(self, block: bytes) -> bytes:
        if self._hl7 is Hl7Refusal.NONE:
            return b""
        outcome = hl7_ack.Outcome.ERROR if self._hl7 is Hl7Refusal.AE else hl7_ack.Outcome.REJECTED
        code = hl7_ack.due(block, outcome).first
        if code is None or code.positive:
            return b""
        self._replies += 1
        control_id, text = f"PROBE{self._replies}", "not stored: a person is looking at this line"
        reply = hl7_ack.acknowledge(block, code, control_id=control_id, now=self._clock(), text=text)
        return mllp.encode(reply)


def _only_for_enquiries(answer: bytes, sessions: int) -> bytes:
    """ACK as often as a session began, whatever the core may do one day: an ACK to a frame would lose a message."""
    out = bytearray()
    for code in answer:
        if code == ACK and not sessions:
            out.append(NAK)
        else:
            sessions -= code == ACK
            out.append(code)
    return bytes(out)
