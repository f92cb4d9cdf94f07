"""What a database that was restored from an earlier moment must not do again: hand out what was handed out since.

Between that moment and its end the old one gave numbers to orders, specimens and worksheets (they are on labels), work
ids to analyzers, and positions of the feed to EMRs; it issued tokens, and revoked some. Nobody may be able to say
which. So each counter goes on beyond anything that can have been issued: by what a day can bring at most for every day
that was begun, and beyond what the replaced database says, where it can still be asked. A position that the feed does
not have is answered with 410 (`store.changes.has`); tokens and page links are no longer taken.

Nor may it call people about what was so then: messages about alerts that waited are not sent. What EMRs follow goes on
from where it was: to be told the same version of a resource twice changes nothing (docs/changes.md).

Ids of rows are UUIDv7 and repeat by no restore.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from interface.domain.views import Actor, ActorKind
from interface.store import alert_messages, audit, changes, notices
from interface.store.db import Connection
from interface.store.lab_changes import NUMBERED
from interface.store.schema import OWNER_ROLE

NUMBERS_A_DAY: Final = 100_000  # more than one a second, day and night, of what a person sticks on a tube
POSITIONS_A_DAY: Final = 10_000_000
_WORK_IDS: Final = "lab.dispatch_work_id_seq"


@dataclass(frozen=True, slots=True)
class Issued:
    """How far the counters of a database are, by organization and name, and its work ids."""

    counters: Mapping[tuple[UUID, str], int] = field(default_factory=dict)
    work_id: int = 0


async def issued(connection: Connection) -> Issued:
    """What a database that is about to be replaced has handed out; nothing where it cannot say."""
    try:
        async with connection.transaction():
            await connection.execute(f"set local role {OWNER_ROLE}")
            counters = {}
            for organization_id in await _organizations(connection):
                await _act_for(connection, organization_id)
                for row in await connection.fetch(
                    "select name, value from lab.counter where organization_id = $1", organization_id
                ):
                    counters[organization_id, row["name"]] = row["value"]
            return Issued(counters, await connection.fetchval(f"select last_value from {_WORK_IDS}"))  # noqa: S608
    except asyncpg.PostgresError:  # damaged, or not ours
        return Issued()


async def go_on(connection: Connection, taken_at: datetime, now: datetime, replaced: Issued, backup: str) -> None:
    """Make a database of `taken_at` one that can be worked with, in one transaction, and say so in every audit trail.

    The login must be the owner or a member of it.
    """
    days = max(now - taken_at, timedelta()) // timedelta(days=1) + 1
    async with connection.transaction():
        await connection.execute(f"set local role {OWNER_ROLE}")
        last = max(replaced.work_id, await connection.fetchval(f"select last_value from {_WORK_IDS}"))  # noqa: S608
        await connection.execute("select setval($1::regclass, $2)", _WORK_IDS, last + days * POSITIONS_A_DAY)
        for organization_id in await _organizations(connection):
            await _act_for(connection, organization_id)
            await _count_on(connection, organization_id, taken_at, now, days, replaced)
            await connection.execute(
                "update lab.access_token set revoked_at = now() where revoked_at is null and organization_id = $1",
                organization_id,
            )
            await connection.execute("delete from lab.page_key where organization_id = $1", organization_id)
            actor = Actor(ActorKind.SETUP, None, "command line", organization_id)
            reason = f"not sent: it waited at {taken_at:%Y-%m-%d %H:%M} UTC, and the database was restored of then"
            unsent = await alert_messages.tell_nothing_old(connection, actor, reason)
            detail = {
                "backup": backup, "taken_at": taken_at.isoformat(), "days": str(days), "messages_not_sent": str(unsent)
            }  # fmt: skip
            await audit.record(connection, actor, "restore", "database", None, detail)


async def _organizations(connection: Connection) -> list[UUID]:
    return [row["id"] for row in await connection.fetch("select id from lab.organization order by id")]


async def _act_for(connection: Connection, organization_id: UUID) -> None:
    """The owner too is held to the policies."""
    await connection.execute("select set_config('labora.org', $1, true)", str(organization_id))


async def _count_on(
    connection: Connection, organization_id: UUID, taken_at: datetime, now: datetime, days: int, replaced: Issued
) -> None:
    """Numbers of a year begin anew with it, and a counter is there from its first number on: so also those that the
    backup does not have."""
    years = range(taken_at.year, now.year + 1)
    names = {changes.COUNTER, *(f"{stem}.{year}" for stem in NUMBERED for year in years)}
    names |= {name for owner, name in replaced.counters if owner == organization_id}
    for row in await connection.fetch("select name from lab.counter where organization_id = $1", organization_id):
        names.add(row["name"])
    names.discard(notices.COUNTER)  # nothing of it was handed out: wards are told what nobody had come to tell them
    for name in sorted(names):
        step = (POSITIONS_A_DAY if name == changes.COUNTER else NUMBERS_A_DAY) * days
        await connection.execute(
            """insert into lab.counter as c (organization_id, name, value) values ($1, $2, $3::bigint + $4)
               on conflict (organization_id, name) do update set value = greatest(c.value, $3::bigint) + $4""",
            organization_id, name, replaced.counters.get((organization_id, name), 0), step,
        )  # fmt: skip
