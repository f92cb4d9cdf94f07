"""The audit trail: who did what to which record, when and from where. Rows are only ever added (DESIGN §1.6).

State changes: `record` in the caller's own transaction, so that a change without its row cannot be committed.
Reads: `AuditWriter`, one per process, which writes in batches and never waits for the disk; what is in it when the
machine loses power is lost, and nothing else is.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

import asyncpg
import orjson
import structlog

from interface.domain.record import record as record_of
from interface.domain.views import Actor
from interface.store.db import Connection
from interface.store.ids import uuid7

MAX_TEXT_CHARACTERS = 2000  # of one audited text; a search may be as long as a request
WAITED = timedelta(minutes=1)
_RETRY_FIRST_S, _RETRY_LONGEST_S = 0.2, 5.0
_GATHER_S = 0.02  # in which the rows of one batch come together: each batch is a transaction

_INSERT = """
insert into lab.audit_event
    (id, organization_id, at, actor_kind, actor_id, actor_name, action, entity_kind, entity_id, address, outcome,
     detail)
select id, organization_id, at, actor_kind, actor_id, actor_name, action, entity_kind, entity_id, address, outcome,
       detail::jsonb
from {first}unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::uuid[], $6::text[], $7::text[],
            $8::text[], $9::uuid[], $10::text[], $11::text[], $12::text[])
     as row (id, organization_id, at, actor_kind, actor_id, actor_name, action, entity_kind, entity_id, address,
             outcome, detail)
"""
_CHANGED = _INSERT.format(first="")
# A read that was served and then forgotten in a power cut changed nothing; waiting for the disk on every page of
# results would halve the reads (DESIGN §5: never an fsync per read). Said in the statement itself, for its own
# transaction, it costs no round trip; the commit comes after it.
_READ = _INSERT.format(first="set_config('synchronous_commit', 'off', true), ")
# A batch whose commit was in doubt is written again with the same ids. To look for the conflict costs each row a
# quarter more, so only who writes again does.
_AGAIN = _READ + "on conflict (id) do nothing"

_log = structlog.get_logger(__name__)


@record_of
class AuditEvent:
    """One row. `detail` is JSON text without the character NUL, which PostgreSQL cannot store."""

    id: UUID
    organization_id: UUID
    at: datetime
    actor_kind: str
    actor_id: UUID | None
    actor_name: str
    action: str
    entity_kind: str
    entity_id: UUID | None
    address: str
    outcome: str
    detail: str


class Connections(Protocol):
    """The part of `store.db.Database` that the writer needs."""

    def at_once(self, organization_id: UUID) -> AbstractAsyncContextManager[Connection]:
        """A connection that sees one organization's rows; each statement is a transaction."""
        ...


def event(
    actor: Actor,
    action: str,
    entity_kind: str,
    entity_id: UUID | None = None,
    detail: Mapping[str, str] | None = None,
    outcome: str = "ok",
) -> AuditEvent:
    """An audit row of now. Texts are made storable (no NUL, no lone surrogates) and cut at MAX_TEXT_CHARACTERS."""
    return AuditEvent(
        id=uuid7(),
        organization_id=actor.organization_id,
        at=datetime.now(UTC),
        actor_kind=actor.kind.value,
        actor_id=actor.id,
        actor_name=_clean(actor.name),
        action=_clean(action),
        entity_kind=_clean(entity_kind),
        entity_id=entity_id,
        address=_clean(actor.address),
        outcome=_clean(outcome),
        detail=_words(detail or {}),
    )


def _words(detail: Mapping[str, str]) -> str:
    try:
        said = orjson.dumps(detail)
        if len(said) <= MAX_TEXT_CHARACTERS and b"u0000" not in said:  # so written, no text has what `_clean` is for
            return said.decode()
    except orjson.JSONEncodeError:  # a surrogate
        pass
    return orjson.dumps({_clean(key): _clean(text) for key, text in detail.items()}).decode()


async def record(
    connection: Connection,
    actor: Actor,
    action: str,
    entity_kind: str,
    entity_id: UUID | None = None,
    detail: Mapping[str, str] | None = None,
    outcome: str = "ok",
) -> None:
    """Add the audit row of a state change to the transaction that `connection` is in."""
    await _insert(connection, [event(actor, action, entity_kind, entity_id, detail, outcome)], _CHANGED)


async def record_each(
    connection: Connection, actor: Actor, action: str, entity_kind: str, details: Mapping[UUID, Mapping[str, str]]
) -> None:
    """The rows of one change of many, in one statement. `details`: by entity."""
    if details:
        rows = [event(actor, action, entity_kind, entity_id, detail) for entity_id, detail in details.items()]
        await _insert(connection, rows, _CHANGED)


class AuditWriter:
    """Writes audit rows of reads in batches, one statement per organization and batch, without an fsync per read.

    `read` waits only when the writer is `capacity` rows behind (then the database is the limit, and reads must not
    outrun their audit). A failed batch is kept and tried again. `close` writes what is left.
    """

    def __init__(self, database: Connections, *, capacity: int = 4096, batch: int = 512) -> None:
        self._database = database
        self._batch = batch
        self._queue: asyncio.Queue[AuditEvent | None] = asyncio.Queue(capacity)
        self._task: asyncio.Task[None] | None = None
        self._unwritten = 0  # queued or being written

    def start(self) -> None:
        """Start writing, in the running event loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="audit-writer")

    async def close(self, wait_s: float = 5.0) -> None:
        """Write what is queued, then stop. What is not written after `wait_s` is given up and counted in the log."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._queue.put(None)
                await self._task
        except TimeoutError:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            _log.error("audit rows given up", action="audit_lost", rows=self._unwritten)
        self._task = None

    async def flush(self) -> None:
        """Return when everything that was queued before this call is in the database."""
        await self._queue.join()

    async def read(
        self,
        actor: Actor,
        action: str,
        entity_kind: str,
        entity_id: UUID | None = None,
        detail: Mapping[str, str] | None = None,
        outcome: str = "ok",
    ) -> None:
        """Queue the row of a read; waits while the queue is full."""
        row = event(actor, action, entity_kind, entity_id, detail, outcome)
        if self._queue.full():
            await self._queue.put(row)
        else:
            self._queue.put_nowait(row)
        self._unwritten += 1

    async def _run(self) -> None:
        ended = False
        while not ended:
            rows: list[AuditEvent] = []
            taken = 0
            entry = await self._queue.get()
            if entry is not None:
                await asyncio.sleep(_GATHER_S)
            while True:
                taken += 1
                if entry is None:
                    ended = True
                else:
                    rows.append(entry)
                if ended or len(rows) >= self._batch or self._queue.empty():
                    break
                entry = self._queue.get_nowait()
            by_organization: dict[UUID, list[AuditEvent]] = defaultdict(list)
            for row in rows:
                by_organization[row.organization_id].append(row)
            for organization_id, events in by_organization.items():
                await self._write(organization_id, events)
                self._unwritten -= len(events)
            for _ in range(taken):
                self._queue.task_done()

    async def _write(self, organization_id: UUID, events: Sequence[AuditEvent], *, again: bool = False) -> None:
        """Write until it is done; only cancellation ends it earlier."""
        delay_s, statement = _RETRY_FIRST_S, _AGAIN if again else _READ
        while True:
            events = [_current(each, datetime.now(UTC)) for each in events]
            try:
                async with self._database.at_once(organization_id) as connection:
                    await _insert(connection, events, statement)
                return
            except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
                if len(events) == 1:  # it will never be taken; the others must not wait for it
                    _log.error("audit row refused", action="audit_refused", error=type(error).__name__)
                    return
                for one in events:
                    await self._write(organization_id, [one], again=True)
                return
            except Exception as error:  # whatever it is, the rows are kept
                _log.warning("audit rows wait", action="audit_wait", rows=len(events), error=type(error).__name__)
            statement = _AGAIN
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _RETRY_LONGEST_S)


def _current(event: AuditEvent, now: datetime) -> AuditEvent:
    """A row that waited for the database says when it was written, and beside it when it happened: among the rows of
    its time nobody could tell it from one that somebody made up later (`store.audit_chain`)."""
    if now - event.at < WAITED:
        return event
    detail = {"happened_at": event.at.isoformat(), **orjson.loads(event.detail)}
    return replace(event, at=now, detail=orjson.dumps(detail).decode())


async def _insert(connection: Connection, events: Sequence[AuditEvent], statement: str) -> None:
    await connection.execute(
        statement,
        [e.id for e in events],
        [e.organization_id for e in events],
        [e.at for e in events],
        [e.actor_kind for e in events],
        [e.actor_id for e in events],
        [e.actor_name for e in events],
        [e.action for e in events],
        [e.entity_kind for e in events],
        [e.entity_id for e in events],
        [e.address for e in events],
        [e.outcome for e in events],
        [e.detail for e in events],
    )


def _clean(text: str) -> str:
    if text.isascii() and len(text) <= MAX_TEXT_CHARACTERS and "\0" not in text:  # as nearly all are
        return text
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()[:MAX_TEXT_CHARACTERS]
