"""Blocks on their way into the journal: each is a message, and what is committed is counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from uuid import UUID

import structlog

from interface import telemetry
from interface.domain.model import Protocol
from interface.flow.context import LinkContext
from interface.flow.message import storable
from interface.flow.taken import Taken
from interface.link.intake import Receipt, ReceivedBlock
from interface.settings import TransportType
from interface.store.journal import Append, FrameRow, Journal, MessageRow, frame_id, new_message_id
from interface.wire import hl7, lis02

log = structlog.get_logger(__name__)

_LIS2_QUERY = re.compile(rb"(?:\A|[\r\n])[Qq](?![A-Za-z0-9])")
_LIS2_RESULT = re.compile(rb"(?:\A|[\r\n])[Rr](?![A-Za-z0-9])")
_HL7_QUERY = frozenset({"QBP", "QRY"})


class BlockJournal:
    """`link.intake.BlockIntake` over the journal. `now` gives the instant of receipt, aware UTC."""

    def __init__(
        self,
        context: LinkContext,
        journal: Journal,
        peer: str,
        now: Callable[[], datetime],
        asked: Callable[[UUID, bytes | None], None] | None = None,
    ) -> None:
        """`asked`: as of `flow.frames.Transmission`."""
        self._context, self._journal, self._peer, self._now, self._asked = context, journal, peer, now, asked
        self._taken, self._last = Taken(journal), b""
        # HL7's messages have ids of their own, and a file is read again when we were killed before it was moved.
        filed = context.settings.transport.type is TransportType.FOLDER
        self._hears = context.driver.protocol is not Protocol.HL7 and not filed
        self._unsure: Append | None = None  # of the last attempt, which failed or did not and nobody knows

    async def block(self, block: ReceivedBlock) -> Receipt:
        """See `BlockIntake.block`: the same bytes after a failure are the same rows, so that none is stored twice."""
        if self._hears and block.raw != self._last:  # other bytes: the device took the reply to those before
            self._taken.went_on()
        append = self._unsure
        if append is None or append.frames[0].bytes != block.raw:
            append = self._append(block)
        self._unsure = append
        (row,) = append.messages
        note_sealed(self._context, row, await self._journal.append(append))
        self._unsure, self._last = None, block.raw
        self._taken.sealed((row,))
        if self._asked is not None and _asks(row):
            self._asked(row.id, None)
        return Receipt(row.id, frames=(frame_id(row.id, 0, 0),))

    def _append(self, block: ReceivedBlock) -> Append:
        """The block's rows: its bytes with their envelope, and where in them its text lies."""
        text, now, protocol = block.text, self._now(), self._context.driver.protocol
        control_id, kind, query, reports = "", "result", False, False
        if protocol is Protocol.HL7:
            control_id, kind = hl7.control_id(text), hl7.message_type(text)
            query = kind.partition("^")[0] in _HL7_QUERY
        elif protocol is Protocol.LIS2:
            control_id, query = lis02.header_control_id(text), _LIS2_QUERY.search(text) is not None
            kind, reports = "query" if query else "result", _LIS2_RESULT.search(text) is not None
        # A query is answered anew each time (DESIGN §1.2). A device that hears nothing resends nothing: what looks like
        # it may be the same value of tomorrow's specimen with that number. Its results are told apart by their keys.
        # A file, though, is read again when we were killed before it was moved.
        grammar = self._context.driver.blocks
        filed = self._context.settings.transport.type is TransportType.FOLDER
        resent = not query and grammar is not None and (filed or not grammar.one_way)
        digest = blake2b(text, digest_size=32).digest() if resent else None
        row = MessageRow(
            new_message_id(),
            self._context.link_id,
            protocol.value,
            "complete",
            received_at=now,
            sealed_at=now,
            peer=self._peer,
            control_id=storable(control_id),
            message_type=storable(kind),
            digest=digest,
            bytes=len(text),
            again=self._taken.again(digest),
            # What it reports beside its query is decided in its turn: nothing that comes later may be decided before.
            asks=query and not reports and self._asked is not None,
        )
        return Append((row,), (FrameRow(row.id, 0, 0, None, block.raw, now, block.start, block.stop),))


def _asks(row: MessageRow) -> bool:
    """Whether it is a query, of whatever protocol; it may report results as well."""
    return row.message_type == "query" or row.message_type.partition("^")[0] in _HL7_QUERY


def note_sealed(context: LinkContext, row: MessageRow, duplicates: frozenset[UUID]) -> None:
    """Count a message that has been committed whole."""
    telemetry.count_frame(context.name)
    note_message(context, row.id, row.settled or ("duplicate" if row.id in duplicates else "complete"), row.peer)


def note_message(context: LinkContext, message_id: UUID, state: str, peer: str) -> None:
    """Count and say a message that is whole and committed. Its id leads on to its decision, the audit and FHIR."""
    telemetry.count_message(context.name, state)
    log.info("message sealed", action="message.sealed", link=context.name, message_id=str(message_id), state=state,
             peer=peer)  # fmt: skip
