"""Sealing the audit trail of every organization that the process acts for, again and again, beside its work."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import structlog

from interface.errors import StoreError
from interface.store import audit_chain
from interface.store.audit_chain import Head
from interface.store.db import Database

PAUSE_S, TOLD_EVERY_S = 2.0, 3600.0

_log = structlog.get_logger(__name__)


class Sealer:
    """Seals, and tells the log each organization's head: at first, every hour, and at the end.

    It knows the head that it saw last: a chain that has it no more was cut while the daemon ran.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._heads: dict[UUID, Head] = {}
        self._told: dict[UUID, float] = {}
        self._failing: set[UUID] = set()
        self._last: UUID | None = None  # where the last pass was broken off

    async def run(self) -> None:
        """Until it is cancelled. While the database is away, what is written there waits."""
        while True:
            await self.seal_all()
            await asyncio.sleep(PAUSE_S)

    async def close(self) -> None:
        """Seal what is final now, and tell the heads."""
        await self.seal_all()
        for organization_id, head in self._heads.items():
            self._tell(organization_id, head)

    async def seal_all(self) -> int:
        """Seal what is final, of every organization; how many rows. Never raises: one whose trail is damaged must not
        leave all others unsealed."""
        rows = 0
        served = self._database.served
        begin = served.index(self._last) + 1 if self._last in served else 0
        for organization_id in served[begin:] + served[:begin]:
            try:
                rows += await self._seal(organization_id)
            except StoreError as error:  # of all, it seems; where it is of this one, the next pass begins behind it
                _log.warning("audit rows not sealed", action="audit.seal", error=error.slug)
                self._last = organization_id
                break
            except Exception as error:
                if organization_id not in self._failing:
                    _log.error(
                        "audit rows of a laboratory cannot be sealed", action="audit.seal",
                        organization=str(organization_id), exc_info=error,
                    )  # fmt: skip
                self._failing.add(organization_id)
            else:
                self._failing.discard(organization_id)
        return rows

    async def _seal(self, organization_id: UUID) -> int:
        rows, more = 0, True
        while more:
            began = time.monotonic()
            async with self._database.transaction(organization_id) as connection:
                known = self._heads.get(organization_id)
                if known is None and not await audit_chain.comes_after(connection):
                    _log.error(
                        "the database was moved here: run `labora db upgrade`, or audit rows are not sealed",
                        action="audit.moved", organization=str(organization_id),
                    )  # fmt: skip
                    return rows
                sealed = await audit_chain.seal(connection, organization_id)
                if sealed.head is not None and sealed.head != known:
                    if known is not None and not await audit_chain.has(connection, known):
                        _log.error(
                            "the audit trail was cut", action="audit.cut", organization=str(organization_id),
                            segment=known.number, digest=known.digest.hex(),
                        )  # fmt: skip
                    self._heads[organization_id] = sealed.head
            rows, more = rows + sealed.rows, sealed.more
            if more:  # a backlog must not take the processor from those whose work it is
                await asyncio.sleep(time.monotonic() - began)
        head = self._heads.get(organization_id)
        if head is not None and time.monotonic() - self._told.get(organization_id, -TOLD_EVERY_S) >= TOLD_EVERY_S:
            self._tell(organization_id, head)
        return rows

    def _tell(self, organization_id: UUID, head: Head) -> None:
        self._told[organization_id] = time.monotonic()
        _log.info("audit head", action="audit.head", organization=str(organization_id), head=str(head))
