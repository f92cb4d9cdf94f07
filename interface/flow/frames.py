"""One LIS01-A2 connection's way into the journal: frames become messages, and each is sealed with its last frame."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from uuid import UUID

import structlog

from interface import telemetry
from interface.errors import StoreError, StoreUnavailable
from interface.flow.context import LinkContext
from interface.link.intake import Receipt, ReceivedFrame
from interface.store.journal import MAX_ATTEMPT, MAX_ORDINAL, Append, FrameRow, Journal, MessageRow, new_message_id
from interface.wire import lis02
from interface.wire.transmission import MessageSplitter, Piece

log = structlog.get_logger(__name__)

_HEADER_BYTES = 512  # enough of a message to find H-3 in
_RECORD_END = b"\r\n"


class _Open:
    """The message that is being received: what its seal will need. Copied before each frame, kept once committed."""

    def __init__(self, message_id: UUID, received_at: datetime) -> None:
        self.id, self.received_at = message_id, received_at
        self.ordinal = 0
        self.bytes = 0
        self.head = b""
        self.query = False
        self.text = blake2b(digest_size=32)
        self._begin = True  # at the begin of a record

    def copy(self) -> _Open:
        twin = copy.copy(self)
        twin.text = self.text.copy()
        return twin

    def take(self, text: bytes) -> None:
        """Text that has just been assembled; `text` is what `wire.transmission.assemble` will give."""
        self.text.update(text)
        self.bytes += len(text)
        if len(self.head) < _HEADER_BYTES:
            self.head = (self.head + text)[:_HEADER_BYTES]
        for record in text.replace(b"\n", b"\r").split(b"\r"):
            self.query = self.query or (self._begin and record[:1] in (b"Q", b"q"))
            self._begin = True
        self._begin = text[-1:] in (b"\r", b"\n")


@dataclass(frozen=True, slots=True)
class _Change:
    """What one frame does: the rows to commit, and the state to go on with once they are."""

    append: Append
    splitter: MessageSplitter
    open: _Open | None
    sealed: UUID | None


class Transmission:
    """`link.intake.FrameIntake` over the journal. `now` gives the receiver's instant, aware UTC."""

    def __init__(self, context: LinkContext, journal: Journal, peer: str, now: Callable[[], datetime]) -> None:
        self._context, self._journal, self._peer, self._now = context, journal, peer, now
        self._splitter = MessageSplitter()
        self._open: _Open | None = None
        self._attempt = 0
        self._made: list[UUID] = []  # ids made for this frame; used again when its commit failed, so no orphan is left

    async def frame(self, frame: ReceivedFrame) -> Receipt:
        """See `FrameIntake.frame`. A repeated try of the same ordinal is stored beside the first: both may be there."""
        if self._attempt > MAX_ATTEMPT:
            raise StoreUnavailable("the frame could not be stored in any of its attempts")
        change = self._change(frame)
        try:
            duplicates = await self._journal.append(change.append)
        except StoreError:
            self._attempt += 1
            raise
        self._splitter, self._open, self._attempt, self._made = change.splitter, change.open, 0, []
        telemetry.count_frame(self._context.name)
        if change.sealed is not None:
            state = "duplicate" if change.sealed in duplicates else "complete"
            telemetry.count_message(self._context.name, state)
            log.info("message sealed", action="message.sealed", link=self._context.name, message_id=str(change.sealed),
                     state=state)  # fmt: skip
        return Receipt(message_id=change.sealed)

    async def end(self, reason: str) -> None:
        """See `FrameIntake.end`."""
        opened, self._open, self._splitter = self._open, None, MessageSplitter()
        self._attempt, self._made = 0, []
        if opened is None:
            return
        try:
            await self._journal.append(Append(messages=(self._sealed(opened, "incomplete", reason),)))
        except StoreError:  # the message stays `receiving`; the journal seals it at its next start
            log.warning("cut transmission not sealed yet", action="message.unsealed", link=self._context.name,
                        message_id=str(opened.id), reason=reason)  # fmt: skip
            return
        telemetry.count_message(self._context.name, "incomplete")
        log.warning("transmission cut", action="message.incomplete", link=self._context.name,
                    message_id=str(opened.id), reason=reason)  # fmt: skip

    def _change(self, frame: ReceivedFrame) -> _Change:
        splitter = copy.copy(self._splitter)
        opened = self._open.copy() if self._open else None
        messages: list[MessageRow] = []
        frames: list[FrameRow] = []
        sealed: UUID | None = None
        received_at, made = self._now(), 0
        pieces = splitter.feed(frame.text, frame.last)
        for piece in pieces:
            if piece.breaks and opened is not None:  # H while a message is open: that one was never finished
                messages.append(self._sealed(opened, "incomplete", "header"))
                opened = None
            if opened is None:
                if made == len(self._made):
                    self._made.append(new_message_id())
                opened, made = _Open(self._made[made], received_at), made + 1
                messages.append(self._receiving(opened))
            frames.append(self._row(frame, piece, opened, received_at, whole=len(pieces) == 1))
            opened.take(_assembled(frame, piece))
            if piece.seals:
                sealed = opened.id
                messages = [row for row in messages if row.id != sealed]
                messages.append(self._sealed(opened, "complete", ""))
                opened = None
        if opened is not None and opened.ordinal > MAX_ORDINAL:
            raise StoreUnavailable("the message has more frames than can be kept")
        return _Change(Append(tuple(messages), tuple(frames)), splitter, opened, sealed)

    def _row(
        self, frame: ReceivedFrame, piece: Piece, opened: _Open, received_at: datetime, *, whole: bool
    ) -> FrameRow:
        part = (None, None) if whole and piece.stop - piece.start == len(frame.text) else (piece.start, piece.stop)
        row = FrameRow(opened.id, opened.ordinal, self._attempt, frame.fn, frame.raw, received_at, *part)
        opened.ordinal += 1
        return row

    def _receiving(self, opened: _Open) -> MessageRow:
        return MessageRow(
            opened.id, self._context.link_id, "lis2", "receiving", received_at=opened.received_at, peer=self._peer
        )

    def _sealed(self, opened: _Open, state: str, reason: str) -> MessageRow:
        # A query is answered anew each time (DESIGN §1.2), a cut transmission is resent whole: neither has a digest.
        whole = state == "complete" and not opened.query
        return replace(
            self._receiving(opened),
            state=state,
            sealed_at=self._now(),
            control_id=lis02.header_control_id(opened.head),
            message_type="query" if opened.query else "result",
            reason=reason,
            digest=opened.text.digest() if whole else None,
            bytes=opened.bytes,
        )


def _assembled(frame: ReceivedFrame, piece: Piece) -> bytes:
    """The piece as `wire.transmission.assemble` gives it: ETX ends a record that has no end of its own."""
    text = frame.text[piece.start : piece.stop]
    if frame.last and piece.stop == len(frame.text) and text and text[-1] not in _RECORD_END:
        text += b"\r"
    return text
