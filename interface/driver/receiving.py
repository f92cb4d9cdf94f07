"""What a link makes of an analyzer's bytes, without the link: messages as they will be decoded. Pure.

For vectors and their proof. It is the real data link, MLLP decoder or declared framing with the driver's leniencies.
"""

from __future__ import annotations

from collections.abc import Iterable

from interface.domain.model import Protocol
from interface.driver.manifest import Driver, LinkFraming
from interface.wire import declared, mllp
from interface.wire.datalink_events import Leniency
from interface.wire.hl7_frames import Hl7Splitter
from interface.wire.lis01 import DataLink, FrameReceived, LinkOptions, SessionEnded, Station
from interface.wire.transmission import MessageSplitter, part_text

ALL_SPLITS_BYTES = 4096
SPREAD_SPLITS = 200
_CONTROLS = frozenset(b"\x02\x03\x04\x05\x0b\x0d\x1c\x17")


def split_places(data: bytes) -> list[int]:
    """Where a stream is cut to show that it reads the same: everywhere to 4 kB (DESIGN §7).

    Above, two bytes around each control character and at 200 places that depend on the length alone.
    """
    if len(data) <= ALL_SPLITS_BYTES:
        return list(range(1, len(data)))
    near = {at + step for at, code in enumerate(data) if code in _CONTROLS for step in range(-2, 3)}
    spread = {1 + number * 1_000_003 % (len(data) - 1) for number in range(1, SPREAD_SPLITS + 1)}
    return sorted(place for place in near | spread if 0 < place < len(data))


class Receiver:
    """One connection. `messages`: what has been received; one that its session cut off is decoded like any other."""

    def __init__(self, driver: Driver) -> None:
        self.messages: list[bytes] = []
        self._mllp = mllp.Decoder() if driver.link is LinkFraming.MLLP else None
        self._blocks = declared.Decoder(driver.blocks) if driver.blocks else None
        self._hl7 = driver.protocol is Protocol.HL7  # in frames: the next MSH or EOT ends a message
        leniencies = frozenset(Leniency(name) for name in driver.leniencies)
        self._link = DataLink(Station.HOST, LinkOptions(leniencies=leniencies))
        self._begin()

    def feed(self, data: bytes) -> None:
        if self._blocks is not None:
            self.messages += (e.text for e in self._blocks.receive(data) if isinstance(e, declared.BlockReceived))
            return
        if self._mllp is not None:
            self.messages += (e.block for e in self._mllp.receive(data) if isinstance(e, mllp.BlockReceived))
            return
        self._link.receive(data)
        while (event := self._link.next_event()) is not None:
            if isinstance(event, FrameReceived):
                self._link.stored()
                self._frame(event)
            elif isinstance(event, SessionEnded):
                if self._open:
                    self._seal()
                self._begin()
        self._link.data_to_send()

    def silence(self) -> None:
        """Nothing more comes, which ends a burst."""
        if self._blocks is not None:
            self.messages += (e.text for e in self._blocks.silence() if isinstance(e, declared.BlockReceived))

    def _begin(self) -> None:
        self._splitter = Hl7Splitter() if self._hl7 else MessageSplitter()
        self._open = bytearray()

    def _seal(self) -> None:
        self.messages.append(bytes(self._open))
        self._open = bytearray()

    def _frame(self, frame: FrameReceived) -> None:
        for piece in self._splitter.feed(frame.text, frame.last):
            if piece.breaks and self._hl7:
                self._seal()
            self._open += part_text(frame.text, frame.last, piece.start, piece.stop)
            if frame.last and not frame.text and self._open and self._open[-1] not in b"\r\n":
                self._open.append(0x0D)  # as `wire.transmission.assemble` has it
            if piece.seals:
                self._seal()


def received(driver: Driver, chunks: Iterable[bytes]) -> list[bytes]:
    """The messages of an analyzer's bytes as they arrive in `chunks`."""
    receiver = Receiver(driver)
    for chunk in chunks:
        receiver.feed(chunk)
    receiver.silence()
    return receiver.messages
