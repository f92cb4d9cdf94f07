"""What a link asks of whoever stores: `flow.intake` implements it, a test may. The link never sees the store.

The receipt guarantee (DESIGN §1.1) is split here: a link sends a positive reply only after the awaited call returned,
and the implementation returns only after the bytes are committed. Any `StoreError` means NAK, AR, CE or nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """One good LIS01-A2 frame. `raw`: STX to the end, as sent; `text`: between frame number and ETB/ETX.

    `fn` None: a piece of a message without frames; `raw` and `text` are the same, `last`: its record is ended.
    """

    fn: int | None
    raw: bytes
    text: bytes
    last: bool  # ETX


@dataclass(frozen=True, slots=True)
class ReceivedBlock:
    """One good block of a framing that a driver declares, as sent; `raw[start:stop]` is its text."""

    raw: bytes
    start: int
    stop: int

    @property
    def text(self) -> bytes:
        return self.raw[self.start : self.stop]


class Receipt(NamedTuple):
    """The bytes are committed, or `reply` says that they are not.

    `message_id`: the message whose reply is now owed; None where none was completed (mid-message, a refusal).
    `reply`: HL7 only, the acknowledgement to put on the wire, unframed; None for no reply. `then`: what follows it,
    each in a block of its own. `close`: cut the connection.
    `frames`: the rows that hold the bytes, for the wire log; none where nothing was committed, or needed to be.
    `refused`: HL7 only, why the message was stored as rejected, in one sentence.
    """

    message_id: UUID | None = None
    reply: bytes | None = None
    then: tuple[bytes, ...] = ()
    close: bool = False
    frames: tuple[UUID, ...] = ()
    refused: str = ""


class FrameIntake(Protocol):
    """One LIS01-A2 connection's way into the journal. Calls are made one after the other."""

    async def frame(self, frame: ReceivedFrame) -> Receipt:
        """Commit a frame; raises StoreError when that did not happen (or is unknown): answer NAK."""
        ...

    async def end(self, reason: str) -> Receipt:
        """The session is over: what has no L record is sealed incomplete.

        `eot`, `aborted` (EOT, and the last frame had no ACK that the sender can have heard), `enq`, `timeout`, `lost`,
        `stop`; without frames also `terminator` and `refused`. A link with the leniency no_terminator_record completes
        the message on `eot`, and only then; the receipt names it. Never raises; what cannot be sealed now is sealed at
        the next start.
        """
        ...


class BlockIntake(Protocol):
    """One connection's way into the journal, for a framing that the driver declares. Calls come one after the other."""

    async def block(self, block: ReceivedBlock) -> Receipt:
        """Commit one block, which is a message. Raises StoreError when that did not happen (or is unknown): answer as
        the framing refuses, or try again where it has no answers. The same block again is then the same message."""
        ...


class Sending(NamedTuple):
    """One message that we begin, without envelope: LIS02-A2 records, or an HL7 message.

    `id` names it for ever: sent again it is the same bytes under the same id. `expects_reply`: HL7 only, it is
    delivered when its acknowledgement has come, not when its bytes have gone.
    """

    id: UUID
    data: bytes
    expects_reply: bool = False


class Outgoing(Protocol):
    """What is to be said on one connection without being asked, or once the peer has ended its query.

    Calls come one after the other, and a message that was taken is told of before the next is.
    """

    async def take(self) -> Sending | None:
        """The next message, None when nothing is due; what is recorded of it is committed before it is given.

        Raises StoreError: nothing was taken, ask again.
        """
        ...

    async def told(self, sending: Sending, delivered: bool, reply: bytes | None, reason: str) -> bytes | None:
        """What became of it; returns what to answer to `reply`, unframed.

        Not delivered: it is due again, or given up. `reason`: then why, one of `refused` (every repetition of a frame
        was rejected, or the reply says no), `timeout` (the peer had begun to take it and fell silent), `interrupted`,
        `busy`, `contention`, `overtaken` (the peer spoke before it was on the line), `silent` (no answer to ENQ),
        `lost`, `stop`. Never raises: what cannot be committed now is kept and committed later.
        """
        ...

    def close(self) -> None:
        """The connection is over: what it was asked and has not answered is not answered any more. Returns at once."""
        ...


class Intake(Protocol):
    """One link's way into the journal, shared by its connections."""

    @property
    def ready(self) -> bool:
        """Whether a commit can be expected to succeed now; when not, an ENQ is answered with NAK."""
        ...

    def frames(self, peer: str) -> FrameIntake:
        """A LIS01-A2 connection has been made; `peer` is its address for the journal."""
        ...

    async def block(self, block: bytes, peer: str) -> Receipt:
        """Commit one HL7 message (an MLLP block without envelope) and say what to answer. Never raises StoreError."""
        ...

    def declared(self, peer: str) -> BlockIntake:
        """A connection of a framing that the driver declares has been made; `peer` is its address for the journal."""
        ...

    def outgoing(self, peer: str, due: Callable[[], None]) -> Outgoing | None:
        """What there is to say on a connection that has been made; None where this link never begins.

        `due` is called whenever something may be; at once it is asked once.
        """
        ...

    def replied(self, receipt: Receipt, sent: bool) -> None:
        """The reply for `receipt` was handed to the peer's socket, or could not be. Returns at once."""
        ...

    def rejected(self, reason: str, data: bytes, peer: str) -> None:
        """Bytes that were refused or skipped. They are kept by the wire log, which hears of them too."""
        ...
