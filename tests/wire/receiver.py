"""A LIS01-A2 host for tests of the receiver: the core and a pump that stores."""

from __future__ import annotations

from collections import Counter

from interface.wire.lis01 import (
    DataLink,
    Event,
    FrameReceived,
    FrameRejected,
    Leniency,
    LeniencyUsed,
    LinkOptions,
    Station,
    build_frame,
)

ENQ, EOT, ACK, NAK = b"\x05", b"\x04", b"\x06", b"\x15"
H, P, L = build_frame(1, b"H|\\^&\r", True), build_frame(2, b"P|1\r", True), build_frame(3, b"L|1|N\r", True)


class Receiver:
    """A host whose pump stores everything, or what `refuse` does not name by its running number."""

    def __init__(
        self, *leniencies: Leniency, refuse: frozenset[int] = frozenset(), max_frame_bytes: int = 64_000
    ) -> None:
        options = LinkOptions(leniencies=frozenset(leniencies), max_frame_bytes=max_frame_bytes)
        self.link = DataLink(Station.HOST, options)
        self.events = list[Event]()
        self.stored = list[bytes]()
        self._refuse, self._offers = refuse, 0

    def feed(self, *chunks: bytes) -> bytes:
        """Everything answered to the chunks."""
        out = b""
        for chunk in chunks:
            self.link.receive(chunk)
            out += self.drain()
        return out

    def drain(self) -> bytes:
        while (event := self.link.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, FrameReceived):
                self._offers += 1
                if self._offers - 1 in self._refuse:
                    self.link.refused()
                else:
                    self.stored.append(event.text)
                    self.link.stored()
        return self.link.data_to_send()

    def uses(self) -> dict[Leniency, int]:
        return Counter(event.leniency for event in self.events if isinstance(event, LeniencyUsed))

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, FrameRejected)]
