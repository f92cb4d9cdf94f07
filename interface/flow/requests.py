"""Messages that are answered by an application reply: queries, and what a hospital orders (DESIGN §1.1, §3).

The message, what is done about it and the reply are one transaction; only when it is committed does the reply leave. It
never waits behind results. A request is answered anew each time it comes: what handles it is idempotent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog

from interface.errors import LaboraError, LocatedError, StoreAmbiguous, StoreError
from interface.flow.context import LinkContext
from interface.settings import LinkRole
from interface.store.db import Connection, Database, translate
from interface.store.journal import Append, FrameRow, MessageRow, append_within, new_message_id
from interface.wire import hl7

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A message that wants an answer, inside the transaction that stores it. Its own row is there already.

    `control_id`: MSH-10 of the answer. `received_at`: aware UTC, which is the answer's time too.
    """

    connection: Connection
    link: LinkContext
    message_id: UUID
    message: hl7.Message
    block: bytes
    control_id: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer, unframed. `then`: messages behind it, each in a block of its own.

    `reason`: why nothing was done, in one sentence; such a message is kept as rejected. What a handler has written is
    kept all the same: raise `Refused` to undo it.
    """

    text: bytes
    then: tuple[bytes, ...] = ()
    reason: str = ""


class Refused(LaboraError):
    """A request of which nothing is done: what its handler wrote is undone, the message is kept, `reply` is sent."""

    slug = "request_refused"

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(reply.reason)


class HandlerFault(LaboraError):
    """A handler of ours failed."""

    slug = "handler_fault"


Handler = Callable[[Request], Awaitable[Reply]]
# By role and message type, `QBP^Q11` or all events of a type, `ADT`; None where this link's driver cannot answer it.
Handlers = Mapping[LinkRole, Mapping[str, Callable[[LinkContext], Handler | None]]]


class Requests:
    """The requests of one link: one is answered after the other, as they came. `reply_s`: the longest it may take."""

    def __init__(self, context: LinkContext, database: Database, handlers: Handlers, reply_s: float) -> None:
        self._context, self._database, self._reply_s = context, database, reply_s
        self._handlers = handlers.get(context.settings.role, {})
        self._turn = asyncio.Lock()

    def handler(self, message: hl7.Message) -> Handler | None:
        """What answers such a message on this link; None where it is no request, or one that is not taken."""
        kind = message.type.partition("^")[0]
        found = self._handlers.get(message.type) or self._handlers.get(kind)
        return found(self._context) if found else None

    def takes(self, kind: str) -> bool:
        """Whether some event of a message type is answered on such a link."""
        return any(each.partition("^")[0] == kind for each in self._handlers)

    async def answer(
        self, handler: Handler, message: hl7.Message, block: bytes, row: MessageRow, control_id: str
    ) -> Reply | LaboraError:
        """Do it and commit; the reply, or why nothing was done. Raises StoreError where that is not stored, not known,
        or took too long: promise nothing."""
        try:
            async with asyncio.timeout(self._reply_s), self._turn:
                return await self._committed(handler, message, block, row, control_id)
        except TimeoutError as error:
            raise StoreAmbiguous("the answer is late") from error

    async def _committed(
        self, handler: Handler, message: hl7.Message, block: bytes, row: MessageRow, control_id: str
    ) -> Reply | LaboraError:
        organization_id = self._context.organization_id
        async with self._database.transaction(organization_id) as connection:
            try:
                async with connection.transaction():
                    await append_within(connection, organization_id, _append(row, block))
                    reply = await handler(
                        Request(connection, self._context, row.id, message, block, control_id, row.received_at)
                    )
                    if reply.reason:
                        await _reject(connection, row.id, reply.reason)
                    return reply
            except StoreError:
                raise
            except Refused as refused:
                answer: Reply | LaboraError = refused.reply
                reason = refused.reply.reason
            except LaboraError as fault:
                answer = fault
                reason = f"{fault.slug}: {fault.text if isinstance(fault, LocatedError) else fault}"
            except Exception as error:  # DESIGN §1.7: the fault is ours, the link goes on
                if translate(error) is not None:
                    raise
                log.exception("request not answered", action="request.fault", link=self._context.name,
                              message_id=str(row.id), error=type(error).__name__)  # fmt: skip
                answer = HandlerFault("this could not be done for a fault of the laboratory's system")
                reason = f"{HandlerFault.slug}: {type(error).__name__}"
            rejected = row._replace(settled="rejected", reason=reason)
            await append_within(connection, organization_id, _append(rejected, block))
        return answer


def request_row(context: LinkContext, block: bytes, now: datetime, peer: str, control_id: str, kind: str) -> MessageRow:
    """The journal's row of a request, done. Without a digest, so that none is taken for a resend."""
    return MessageRow(
        new_message_id(), context.link_id, "hl7", "complete", received_at=now, sealed_at=now, peer=peer,
        settled="released", control_id=control_id, message_type=kind, bytes=len(block),
    )  # fmt: skip


def _append(row: MessageRow, block: bytes) -> Append:
    return Append((row,), (FrameRow(row.id, 0, 0, None, block, row.received_at),))


async def _reject(connection: Connection, message_id: UUID, reason: str) -> None:
    await connection.execute(
        "UPDATE lab.message SET settled = 'rejected', reason = $2 WHERE id = $1", message_id, reason
    )
