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

from interface.errors import LaboraError, LocatedError, StoreAmbiguous, StoreError, StoreUnavailable
from interface.flow.context import LinkContext
from interface.flow.message import storable
from interface.settings import LinkRole
from interface.store.db import Connection, Database
from interface.store.driver_errors import translate
from interface.store.journal import Append, FrameRow, MessageRow, append_within, new_message_id
from interface.wire import hl7

log = structlog.get_logger(__name__)

_MOST_REASON = 1000  # characters


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
    kept all the same: raise `Refused` to undo it. `note`: what is to be known of one that was done.
    """

    text: bytes
    then: tuple[bytes, ...] = ()
    reason: str = ""
    note: str = ""


class Refused(LaboraError):
    """A request of which nothing is done: what its handler wrote is undone, the message is kept, `reply` is sent."""

    slug = "request_refused"

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(reply.reason)


class HandlerFault(LaboraError):
    """A handler of ours failed."""

    slug = "handler_fault"


@dataclass(frozen=True, slots=True)
class Unstored:
    """A message that wants an answer, of which nothing is stored yet. `row`: its own, as it is to be."""

    database: Database
    link: LinkContext
    row: MessageRow
    message: hl7.Message
    block: bytes
    control_id: str


@dataclass(frozen=True, slots=True)
class AtOnce:
    """A handler that may do without a transaction of several statements. `alone`: it, what it does and the message are
    committed by one statement, and here is the reply; None: nothing is, and it is to be done `within` a transaction."""

    alone: Callable[[Unstored], Awaitable[Reply | None]]
    within: Callable[[Request], Awaitable[Reply]]

    async def __call__(self, request: Request) -> Reply:
        return await self.within(request)


Handler = Callable[[Request], Awaitable[Reply]]
# By role and message type, `QBP^Q11` or all events of a type, `ADT`; None where this link's driver cannot answer it.
Handlers = Mapping[LinkRole, Mapping[str, Callable[[LinkContext], Handler | None]]]


class Requests:
    """The requests of one link: one is answered after the other, as they came. `reply_s`: the longest it may take."""

    def __init__(self, context: LinkContext, database: Database, handlers: Handlers, reply_s: float) -> None:
        self._context, self._database, self._reply_s = context, database, reply_s
        self._handlers = handlers.get(context.settings.role, {})
        self._turn = asyncio.Lock()
        self._abandoned: set[asyncio.Future[Reply | LaboraError]] = set()  # kept until they have ended

    def handler(self, message: hl7.Message) -> Handler | None:
        """What answers such a message on this link; None where it is no request, or one that is not taken."""
        for kind in (message.type, message.type.partition("^")[0]):
            if (found := self._handlers.get(kind)) is not None and (handler := found(self._context)) is not None:
                return handler
        return None

    def takes(self, kind: str) -> bool:
        """Whether some event of a message type is answered on such a link."""
        return any(each.partition("^")[0] == kind and found(self._context) for each, found in self._handlers.items())

    async def answer(
        self, handler: Handler, message: hl7.Message, block: bytes, row: MessageRow, control_id: str
    ) -> Reply | LaboraError:
        """Do it and commit; the reply, or why nothing was done. Raises StoreError where that is not stored, not known,
        or took too long: promise nothing."""
        work = asyncio.ensure_future(self._in_turn(handler, message, block, row, control_id))
        try:
            done, _ = await asyncio.wait({work}, timeout=self._reply_s)
        except asyncio.CancelledError:  # the link is stopped
            self._abandon(work)
            raise
        if done:
            return work.result()
        # A database that does not answer does not answer a rollback either: nobody waits for that.
        self._abandon(work)
        log.warning("a request was not answered in time", action="request.late", link=self._context.name,
                    message_id=str(row.id), reply_s=self._reply_s)  # fmt: skip
        raise StoreAmbiguous("the answer is late")

    def _abandon(self, work: asyncio.Future[Reply | LaboraError]) -> None:
        """Undo what is being done, unless it is done already; the sender asks again."""
        work.cancel()
        self._abandoned.add(work)
        work.add_done_callback(self._undone)

    def _undone(self, work: asyncio.Future[Reply | LaboraError]) -> None:
        self._abandoned.discard(work)
        if not work.cancelled():
            work.exception()  # it has been reported as late

    async def _in_turn(
        self, handler: Handler, message: hl7.Message, block: bytes, row: MessageRow, control_id: str
    ) -> Reply | LaboraError:
        async with self._turn:
            try:
                return await self._committed(handler, message, block, row, control_id)
            except StoreError:
                raise
            except Exception as error:  # not of the handler but of what it wrote, when that was to be committed
                log.exception("request not stored", action="request.fault", link=self._context.name,
                              message_id=str(row.id), error=type(error).__name__)  # fmt: skip
                raise StoreUnavailable("it could not be committed") from error

    async def _committed(
        self, handler: Handler, message: hl7.Message, block: bytes, row: MessageRow, control_id: str
    ) -> Reply | LaboraError:
        organization_id = self._context.organization_id
        done = False
        try:
            if isinstance(handler, AtOnce):
                unstored = Unstored(self._database, self._context, row, message, block, control_id)
                if (done_at_once := await handler.alone(unstored)) is not None:
                    return done_at_once
            async with self._database.transaction(organization_id) as connection:
                await append_within(connection, organization_id, append_of(row, block))
                reply = await handler(
                    Request(connection, self._context, row.id, message, block, control_id, row.received_at)
                )
                if reply.reason:
                    await _note(connection, row.id, "rejected", reply.reason)
                elif reply.note:
                    await _note(connection, row.id, "released", reply.note)
                done = True
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
            if done or translate(error) is not None:
                raise
            log.exception("request not answered", action="request.fault", link=self._context.name,
                          message_id=str(row.id), error=type(error).__name__)  # fmt: skip
            answer = HandlerFault("this could not be done for a fault of the laboratory's system")
            reason = f"{HandlerFault.slug}: {type(error).__name__}"
        # All that was written is undone; that it came, and why nothing was done, is kept.
        rejected = row._replace(settled="rejected", reason=storable(reason, _MOST_REASON))
        async with self._database.transaction(organization_id) as connection:
            await append_within(connection, organization_id, append_of(rejected, block))
        return answer


def request_row(context: LinkContext, block: bytes, now: datetime, peer: str, control_id: str, kind: str) -> MessageRow:
    """The journal's row of a message that is settled with it. Without a digest, so that none is taken for a resend."""
    return MessageRow(
        new_message_id(), context.link_id, "hl7", "complete", received_at=now, sealed_at=now, peer=peer,
        settled="released", control_id=control_id, message_type=kind, bytes=len(block),
    )  # fmt: skip


def append_of(row: MessageRow, block: bytes) -> Append:
    """The rows of a message in one block."""
    return Append((row,), (FrameRow(row.id, 0, 0, None, block, row.received_at),))


async def _note(connection: Connection, message_id: UUID, settled: str, reason: str) -> None:
    await connection.execute(
        "UPDATE lab.message SET settled = $2, reason = $3 WHERE id = $1",
        message_id,
        settled,
        storable(reason, _MOST_REASON),
    )
