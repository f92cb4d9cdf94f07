"""One LIS01-A2 connection's way into the journal: frames become messages, and each is sealed with its last frame."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from uuid import UUID

import structlog

from interface import telemetry
from interface.domain.model import Protocol
from interface.errors import StoreError, StoreUnavailable
from interface.flow.blocks import note_message
from interface.flow.context import LinkContext
from interface.flow.message import storable
from interface.flow.taken import Taken
from interface.link.intake import Receipt, ReceivedFrame
from interface.settings import TransportType
from interface.store.journal import (
    MAX_ATTEMPT,
    MAX_ORDINAL,
    Append,
    FrameRow,
    Journal,
    MessageRow,
    frame_id,
    new_message_id,
)
from interface.wire import hl7, lis02
from interface.wire.datalink_events import Leniency
from interface.wire.hl7_frames import Hl7Splitter
from interface.wire.transmission import MessageSplitter, Piece, begins_header, part_text

log = structlog.get_logger(__name__)

_HEADER_BYTES = 512  # enough of a message to find H-3 or MSH-10 in


class _Open:
    """The message that is being received: what its seal will need. Copied before each frame, kept once committed."""

    def __init__(self, message_id: UUID, received_at: datetime) -> None:
        self.id, self.received_at = message_id, received_at
        self.ordinal = 0
        self.bytes = 0
        self.head = b""
        self.query = self.reports = False
        self.text = blake2b(digest_size=32)
        self.ended = False  # ETX ended its last record
        self._begin = True  # at the begin of a record

    def copy(self) -> _Open:
        twin = _Open.__new__(_Open)
        twin.__dict__.update(self.__dict__)
        twin.text = self.text.copy()
        return twin

    def take(self, text: bytes) -> None:
        """Text that has just been assembled; `text` is what `wire.transmission.assemble` will give."""
        if not text:
            return
        self.text.update(text)
        self.bytes += len(text)
        if len(self.head) < _HEADER_BYTES:
            self.head = (self.head + text)[:_HEADER_BYTES]
        for record in text.replace(b"\n", b"\r").split(b"\r"):
            self.query = self.query or (self._begin and record[:1] in (b"Q", b"q"))
            self.reports = self.reports or (self._begin and record[:1] in (b"R", b"r"))
            self._begin = True
        self._begin = text[-1:] in (b"\r", b"\n")

    @property
    def at_begin(self) -> bool:
        """Whether the next byte begins a record."""
        return self._begin

    @property
    def whole_text(self) -> bytes | None:
        """All of it, where that is no more than its head."""
        return self.head if len(self.head) == self.bytes else None

    @property
    def whole(self) -> bool:
        """Whether it may be complete without an L record: H to the end of a record, and no more was announced."""
        return self.ended and self._begin and bool(self.head) and begins_header(self.head, 0)


@dataclass(frozen=True, slots=True)
class _Change:
    """What one frame does: the rows to commit, and the state to go on with once they are."""

    append: Append
    splitter: MessageSplitter | Hl7Splitter
    open: _Open | None
    sealed: UUID | None
    texts: Mapping[UUID, bytes | None]  # of the queries that it ends, where they are at hand


@dataclass(frozen=True, slots=True)
class _Failed:
    """A frame whose commit failed, or did not and nobody knows. `sealing`: it would have ended a message."""

    raw: bytes
    sealing: bool


class Transmission:
    """`link.intake.FrameIntake` over the journal, for LIS02-A2. `now` gives the receiver's instant, aware UTC."""

    protocol = Protocol.LIS2

    def __init__(
        self,
        context: LinkContext,
        journal: Journal,
        peer: str,
        now: Callable[[], datetime],
        asked: Callable[[UUID, bytes | None], None] | None = None,
    ) -> None:
        """`asked`: told of each query that has been committed, and its text where it is short; None where the link
        answers none."""
        self._context, self._journal, self._peer, self._now, self._asked = context, journal, peer, now, asked
        self._most_bytes = context.settings.max_message_bytes
        self._splitter = self._new_splitter()
        self._open: _Open | None = None
        self._attempt = 0
        self._failed: _Failed | None = None  # the frame's last attempt
        self._taken = Taken(journal)
        # HL7's messages have ids: the same one is the same message, whoever took it. A file is read again where we were
        # killed.
        filed = context.settings.transport.type is TransportType.FOLDER
        self._hears = self.protocol is Protocol.LIS2 and not filed
        self._made: list[UUID] = []  # ids made for this frame; used again when its commit failed, so no orphan is left

    async def frame(self, frame: ReceivedFrame) -> Receipt:
        """See `FrameIntake.frame`. After a failure nobody knows what is stored: the same bytes again are the same rows,
        other bytes of the same ordinal are stored beside the first, and the last count."""
        if self._failed is not None and frame.raw != self._failed.raw:
            # A message that may be sealed, and even decided, can take no other bytes: they would be lost in it.
            if self._failed.sealing or self._attempt == MAX_ATTEMPT:
                raise StoreUnavailable("it is not known what became of other bytes; the session must begin anew")
            self._attempt += 1
        if frame.fn is not None:
            self._went_on()
        change = self._change(frame)
        try:
            duplicates = await self._journal.append(change.append)
        except StoreError:
            self._failed = _Failed(frame.raw, any(row.state != "receiving" for row in change.append.messages))
            raise
        self._splitter, self._open = change.splitter, change.open
        self._attempt, self._failed, self._made = 0, None, []
        telemetry.count_frame(self._context.name)
        self._note_taken(change.append.messages)
        if frame.fn is None:  # it hears no replies, and sends nothing again for want of one
            self._went_on()
        if change.sealed is not None:
            self._note_sealed(change.sealed, duplicates)
        self._tell_of_queries(change.append.messages, change.texts)
        return Receipt(
            message_id=change.sealed,
            frames=tuple(frame_id(row.message_id, row.ordinal, row.attempt) for row in change.append.frames),
        )

    async def end(self, reason: str) -> Receipt:
        """See `FrameIntake.end`."""
        if reason == "eot":
            self._went_on()
        else:
            self._taken.lost()
        opened, self._open, self._splitter = self._open, None, self._new_splitter()
        # Messages of a frame that was refused may be there all the same: sealed, they do not stay open for ever.
        doubtful = [self._sealed(_Open(made, self._now()), "incomplete", reason) for made in self._made]
        self._attempt, self._failed, self._made = 0, None, []
        if doubtful:
            self._journal.seal_later(doubtful)
        if opened is None:
            return Receipt()
        whole = self._ended(opened) if reason == "eot" else None
        row = whole or self._sealed(opened, "incomplete", reason)
        try:
            duplicates = await self._journal.append(Append(messages=(row,)))
        except asyncio.CancelledError:  # the link is stopped, the daemon may go on
            self._journal.seal_later((row,))
            raise
        except StoreError:
            self._journal.seal_later((row,))  # its frames are there: whole, or a person may accept it
            log.warning("transmission not sealed yet", action="message.unsealed", link=self._context.name,
                        message_id=str(opened.id), reason=reason)  # fmt: skip
            return Receipt()
        if whole is not None:
            self._note_taken((whole,))
            self._went_on()  # with this EOT: it had our reply to the last frame before
            self._note_sealed(opened.id, duplicates)
            self._tell_of_queries((whole,), {opened.id: opened.whole_text})
            return Receipt(message_id=opened.id)
        telemetry.count_message(self._context.name, "incomplete")
        log.warning("transmission cut", action="message.incomplete", link=self._context.name,
                    message_id=str(opened.id), reason=reason)  # fmt: skip
        return Receipt()

    def _note_taken(self, rows: Iterable[MessageRow]) -> None:
        """Messages were committed; their sender has our reply once it goes on."""
        if self._hears:
            self._taken.sealed(rows)

    def _went_on(self) -> None:
        """The sender took our replies."""
        if self._hears:
            self._taken.went_on()

    def _asks(self, state: str, kind: str) -> bool:
        return self._asked is not None and state == "complete" and self._is_query(kind)

    def _tell_of_queries(self, rows: Iterable[MessageRow], texts: Mapping[UUID, bytes | None]) -> None:
        if self._asked is not None:
            for row in rows:
                if self._asks(row.state, row.message_type):
                    self._asked(row.id, texts.get(row.id))

    def _note_sealed(self, message_id: UUID, duplicates: frozenset[UUID]) -> None:
        note_message(self._context, message_id, "duplicate" if message_id in duplicates else "complete", self._peer)

    def _change(self, frame: ReceivedFrame) -> _Change:
        splitter = self._splitter.fork()
        opened = self._open.copy() if self._open else None
        texts: dict[UUID, bytes | None] = {}
        messages: dict[UUID, MessageRow] = {}  # one row each: what is opened here may be sealed here as well
        frames: list[FrameRow] = []
        sealed: UUID | None = None
        received_at, made = self._now(), 0
        pieces = splitter.feed(frame.text, frame.last)
        if len(pieces) > 1 and len(pieces) * len(frame.raw) > self._most_bytes:  # each has the whole frame in its row
            raise StoreUnavailable("the frame has parts of more messages than can be stored at once")
        for piece in pieces:
            if piece.breaks and opened is not None:
                row = self._broken(opened)
                sealed = opened.id if row.state == "complete" else sealed
                messages[opened.id] = _not_twice(row, messages.values())
                opened = None
            if opened is None:
                if made == len(self._made):
                    self._made.append(new_message_id())
                opened, made = _Open(self._made[made], received_at), made + 1
                messages[opened.id] = self._receiving(opened)
            frames.append(self._row(frame, piece, opened, received_at, whole=len(pieces) == 1))
            opened.ended = frame.last or frame.fn is None  # a record without frame has its own end
            opened.take(part_text(frame.text, frame.last, piece.start, piece.stop))
            if frame.last and not frame.text and not opened.at_begin:  # ETX alone ends the record that is open
                opened.take(b"\r")
            if piece.seals:
                sealed = opened.id
                if opened.query:
                    texts[sealed] = opened.whole_text
                messages[sealed] = _not_twice(self._sealed(opened, "complete", ""), messages.values())
                opened = None
        if any(row.ordinal > MAX_ORDINAL for row in frames) or (opened and opened.bytes > self._most_bytes):
            raise StoreUnavailable("the message has more frames or bytes than can be decoded")
        return _Change(Append(tuple(messages.values()), tuple(frames)), splitter, opened, sealed, texts)

    def _row(
        self, frame: ReceivedFrame, piece: Piece, opened: _Open, received_at: datetime, *, whole: bool
    ) -> FrameRow:
        part = (None, None) if whole and piece.stop - piece.start == len(frame.text) else (piece.start, piece.stop)
        row = FrameRow(opened.id, opened.ordinal, self._attempt, frame.fn, frame.raw, received_at, *part)
        opened.ordinal += 1
        return row

    def _receiving(self, opened: _Open) -> MessageRow:
        return MessageRow(
            opened.id,
            self._context.link_id,
            self.protocol.value,
            "receiving",
            received_at=opened.received_at,
            peer=self._peer,
        )

    def _sealed(self, opened: _Open, state: str, reason: str) -> MessageRow:
        # A query is answered anew each time (DESIGN §1.2), a cut transmission is resent whole: neither has a digest.
        digest = opened.text.digest() if state == "complete" and not opened.query else None
        kind = storable(self._message_type(opened))
        return self._receiving(opened)._replace(
            state=state,
            sealed_at=self._now(),
            control_id=storable(self._control_id(opened)),
            message_type=kind,
            reason=reason,
            digest=digest,
            bytes=opened.bytes,
            again=self._taken.again(digest),
            # What it reports beside its query is decided in its turn: nothing that comes later may be decided before.
            asks=self._asks(state, kind) and not self._reports(opened),
        )

    # ---- what LIS02-A2 says of messages, and HL7 otherwise ----

    def _new_splitter(self) -> MessageSplitter | Hl7Splitter:
        return MessageSplitter()

    def _broken(self, opened: _Open) -> MessageRow:
        """H while a message is open: that one was never finished."""
        return self._sealed(opened, "incomplete", "header")

    def _ended(self, opened: _Open) -> MessageRow | None:
        """The seal of a message that EOT completes; None where it cuts it.

        LIS01-A2: EOT is also how a sender gives up, so only one that follows an accepted last frame completes.
        """
        if Leniency.NO_TERMINATOR_RECORD in self._context.leniencies and opened.whole:
            return self._sealed(opened, "complete", Leniency.NO_TERMINATOR_RECORD)
        return None

    def _control_id(self, opened: _Open) -> str:
        return lis02.header_control_id(opened.head)

    def _message_type(self, opened: _Open) -> str:
        return "query" if opened.query else "result"

    def _is_query(self, kind: str) -> bool:
        return kind == "query"

    def _reports(self, opened: _Open) -> bool:
        return opened.reports


class Hl7Transmission(Transmission):
    """The same for HL7 in LIS01-A2 frames: nothing ends a message but the next MSH, or EOT behind a last frame."""

    protocol = Protocol.HL7

    def _new_splitter(self) -> MessageSplitter | Hl7Splitter:
        return Hl7Splitter()

    def _broken(self, opened: _Open) -> MessageRow:
        return self._sealed(opened, "complete", "")

    def _ended(self, opened: _Open) -> MessageRow | None:
        return self._sealed(opened, "complete", "") if opened.ended else None

    def _control_id(self, opened: _Open) -> str:
        return hl7.control_id(opened.head)

    def _message_type(self, opened: _Open) -> str:
        return hl7.message_type(opened.head)

    def _is_query(self, kind: str) -> bool:
        return kind in self._context.driver.query.message_types

    def _reports(self, opened: _Open) -> bool:
        return False  # its queries are messages of their own; RCP is no result


def _not_twice(row: MessageRow, before: Iterable[MessageRow]) -> MessageRow:
    """The same message twice in one frame: the second is a resend that the journal cannot see within one statement."""
    first = next((other for other in before if other.digest is not None and other.digest == row.digest), None)
    if first is None:
        return row
    return row._replace(digest=None, settled="duplicate", reason=f"as {first.id} in the same frame")
