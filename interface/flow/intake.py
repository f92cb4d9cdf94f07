"""One link's way into the journal: commit, then return a receipt (DESIGN §1.1). Implements `link.intake.Intake`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from uuid import UUID

import structlog

from interface import telemetry
from interface.domain.model import Protocol
from interface.errors import LaboraError, LocatedError, SegmentError, StoreError, UnsupportedMessage
from interface.flow import waking
from interface.flow.blocks import BlockJournal, note_message, note_sealed
from interface.flow.context import LinkContext
from interface.flow.frames import Hl7Transmission, Transmission
from interface.flow.message import storable
from interface.flow.outgoing import LinkOutgoing
from interface.flow.requests import Handler, Reply, Requests, request_row
from interface.flow.speech import control_id as control_id_of
from interface.link.intake import Outgoing, Receipt
from interface.settings import AckPolicy, LinkRole, OnStoreFailure
from interface.store.ids import uuid7
from interface.store.journal import Append, BlockRow, FrameRow, Journal, MessageRow, new_message_id
from interface.wire import hl7, hl7_ack
from interface.wire.hl7_ack import AckCode, Outcome
from interface.wire.hl7_sender import Known, Sender

log = structlog.get_logger(__name__)

# Each role has a closed list of message types; trigger events by type. Others are refused with ERR-3 200 or 201.
ACCEPTED: dict[LinkRole, dict[str, frozenset[str]]] = {
    LinkRole.ANALYZER: {
        "ORU": frozenset({"", "R01", "R30", "R31", "R32"}),
        "OUL": frozenset({"R21", "R22", "R23", "R24"}),
    },
    LinkRole.HOSPITAL: {},
}
_UNSUPPORTED_TYPE, _UNSUPPORTED_EVENT = 200, 201


def utc_now() -> datetime:
    return datetime.now(UTC)


class LinkIntake:
    """The intake of one link. `now` gives the instant of receipt, aware UTC."""

    def __init__(
        self,
        context: LinkContext,
        journal: Journal,
        now: Callable[[], datetime] = utc_now,
        requests: Requests | None = None,
        outgoing: LinkOutgoing | None = None,
    ) -> None:
        self._context, self._journal, self._now, self._requests = context, journal, now, requests
        self._outgoing = outgoing
        self._sender = Sender(context.settings.encoding, self._judge)

    @property
    def ready(self) -> bool:
        return self._journal.available

    def frames(self, peer: str) -> Transmission:
        kind = Hl7Transmission if self._context.driver.protocol is Protocol.HL7 else Transmission
        return kind(self._context, self._journal, peer, self._now, self._asked(peer))

    def declared(self, peer: str) -> BlockJournal:
        return BlockJournal(self._context, self._journal, peer, self._now, self._asked(peer))

    def _asked(self, peer: str) -> Callable[[UUID, bytes | None], None] | None:
        """Who is to hear of a connection's queries; None where the worker says that they are not answered."""
        if self._outgoing is None or not self._outgoing.answers:
            return None
        return partial(self._outgoing.asked, peer)

    def outgoing(self, peer: str, due: Callable[[], None]) -> Outgoing | None:
        return self._outgoing.of(peer, due) if self._outgoing is not None else None

    def replied(self, receipt: Receipt, sent: bool) -> None:
        if receipt.message_id is not None:
            self._journal.replied(receipt.message_id, sent)

    def rejected(self, reason: str, data: bytes, peer: str) -> None:
        telemetry.count_rejected(self._context.name, reason)

    async def block(self, block: bytes, peer: str) -> Receipt:
        """See `Intake.block`. A message that is refused is kept as well, but its refusal does not wait for that."""
        known = self._sender.know(block)
        if known is None:
            read = self._read(block)
            if isinstance(read, LocatedError):
                return await self._refused(block, peer, read)
            if self._requests is not None and (handler := self._requests.handler(read)) is not None:
                return await self._answered(self._requests, handler, read, block, peer)
        control_id = known.control_id if known else storable(hl7.control_id(block))
        kind = known.shape.message_type if known else storable(hl7.message_type(block))
        digest, now = blake2b(block, digest_size=32).digest(), self._now()
        row = BlockRow(new_message_id(), self._context.link_id, control_id, kind, digest, now, peer, block)
        try:
            resent = await self._journal.append_block(row)
        except StoreError as error:
            return self._not_stored(block, error)
        telemetry.count_frame(self._context.name)
        note_message(self._context, row.id, "duplicate" if resent else "complete", peer)
        return _receipt(row.id, self._replies(known, row.id) if known else self._due(block, Outcome.STORED))

    async def _refused(self, block: bytes, peer: str, fault: LocatedError) -> Receipt:
        row = self._rejected_row(block, peer, fault)
        append = Append((row,), (FrameRow(row.id, 0, 0, None, block, row.received_at),))
        try:
            duplicates = await self._journal.append(append)
        except StoreError:
            return Receipt(reply=self._negative(block, fault))
        note_sealed(self._context, row, duplicates)
        return Receipt(row.id, self._negative(block, fault), frames=(row.id,), refused=str(fault))

    def _due(self, block: bytes, outcome: Outcome, fault: LocatedError | None = None) -> list[bytes]:
        """The replies that are due, in their order."""
        return [self._acknowledge(block, code, fault) for code in self._codes(block, outcome)]

    def _codes(self, block: bytes, outcome: Outcome) -> list[AckCode]:
        due = hl7_ack.due(block, outcome, self._context.settings.ack)
        return [code for code in (due.first, due.then) if code]

    def _replies(self, known: Known, message_id: UUID) -> list[bytes]:
        """As `_due`, for a stored message of a known shape. The first reply's control id is of the message's own."""
        own = [message_id]
        return known.replies(lambda: control_id_of(own.pop() if own else uuid7()), self._now())

    def _judge(self, header: bytes, message: hl7.Message) -> list[AckCode] | None:
        """See `Sender`."""
        if self._refusal(message) is not None or message.type.partition("^")[0] not in hl7_ack.INITIATIVES:
            return None
        due = hl7_ack.due(header, Outcome.STORED, self._context.settings.ack)
        return [code for code in (due.first, due.then) if code]

    async def _answered(
        self, requests: Requests, handler: Handler, message: hl7.Message, block: bytes, peer: str
    ) -> Receipt:
        """A request and its answer. The accept acknowledgement goes before it, where the sender wants one."""
        kind, control_id = storable(hl7.message_type(block)), control_id_of(uuid7())
        row = request_row(self._context, block, self._now(), peer, storable(hl7.control_id(block)), kind)
        try:
            answered = await requests.answer(handler, message, block, row, control_id)
        except StoreError as error:
            return self._not_stored(block, error)
        analyzer = self._context.settings.role is LinkRole.ANALYZER
        waking.wake(self._context.organization_id, self._context.analyzer_id if analyzer else None)
        telemetry.count_frame(self._context.name)
        note_message(self._context, row.id, "complete", peer)
        replies: list[bytes] = []
        reason = answered.reason if isinstance(answered, Reply) else str(answered)
        due = hl7_ack.due_of_request(block, bool(reason), self._context.settings.ack)
        for code in (code for code in (due.first, due.then) if code):
            if code in hl7_ack.ACCEPTING:
                replies.append(self._acknowledge(block, code, text="" if code.positive else reason))
            elif isinstance(answered, Reply):
                replies += [answered.text, *answered.then]
            else:
                telemetry.count_nak(self._context.name, answered.slug)
                replies.append(self._not_done(block, answered))
        return _receipt(row.id, replies, refused=reason)

    def _not_done(self, block: bytes, fault: LaboraError) -> bytes:
        """The application's no, where a request's handler has no reply of its own."""
        code = AckCode.AR if isinstance(fault, UnsupportedMessage) else AckCode.AE
        located = fault if isinstance(fault, LocatedError) else None
        return self._acknowledge(block, code, located, text="" if located else str(fault))

    def _read(self, block: bytes) -> hl7.Message | LocatedError:
        """The message, or what must be said at once: a broken MSH or segment (AE), one that is not taken (AR)."""
        try:
            message = hl7.check_syntax(block, self._context.settings.encoding)
        except (SegmentError, UnsupportedMessage) as error:
            return error
        return self._refusal(message) or message

    def _refusal(self, message: hl7.Message) -> UnsupportedMessage | None:
        """Why this link does not take such a message."""
        requests = self._requests
        if requests is not None and requests.handler(message) is not None:
            return None
        kind, _, event = message.type.partition("^")
        events = ACCEPTED[self._context.settings.role].get(kind)
        if events is None and not (requests is not None and requests.takes(kind)):
            return UnsupportedMessage("this link does not take messages of this type", "MSH^1^9^1^1", _UNSUPPORTED_TYPE)
        if events is None or event.partition("^")[0] not in events:
            return UnsupportedMessage("this link does not take this event", "MSH^1^9^1^2", _UNSUPPORTED_EVENT)
        return None

    def _rejected_row(self, block: bytes, peer: str, fault: LocatedError) -> MessageRow:
        now = self._now()
        return MessageRow(
            new_message_id(),
            self._context.link_id,
            "hl7",
            "complete",
            received_at=now,
            sealed_at=now,
            peer=peer,
            settled="rejected",
            control_id=storable(hl7.control_id(block)),
            message_type=storable(hl7.message_type(block)),
            reason=f"{fault.slug}: {fault.text}",
            bytes=len(block),
        )

    def _negative(self, block: bytes, fault: LocatedError) -> bytes | None:
        telemetry.count_nak(self._context.name, fault.slug)
        refused = isinstance(fault, UnsupportedMessage)
        return next(iter(self._due(block, Outcome.REJECTED if refused else Outcome.ERROR, fault)), None)

    def _not_stored(self, block: bytes, error: StoreError) -> Receipt:
        """Nothing positive, in the words the driver's analyzer understands (DESIGN §1.1)."""
        telemetry.count_nak(self._context.name, error.slug)
        policy = self._context.settings.on_store_failure
        ack = self._context.settings.ack
        if policy is OnStoreFailure.CLOSE or ack is AckPolicy.NONE:
            return Receipt(close=True)
        code = hl7_ack.store_failure(block, ack)
        if code is None:
            return Receipt()
        if policy is OnStoreFailure.AE and code is AckCode.AR:
            code = AckCode.AE
        return Receipt(reply=self._acknowledge(block, code, text="not stored; please send it again"))

    def _acknowledge(self, block: bytes, code: AckCode, fault: LocatedError | None = None, text: str = "") -> bytes:
        return hl7_ack.acknowledge(
            block, code, control_id=control_id_of(uuid7()), now=self._now(), error=fault, text=text
        )


def _receipt(message_id: UUID, replies: Sequence[bytes], refused: str = "") -> Receipt:
    first = replies[0] if replies else None
    return Receipt(message_id, first, tuple(replies[1:]), frames=(message_id,), refused=refused)
