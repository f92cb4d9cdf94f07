"""Daemons and their leases, as statements; who runs them, and when, is `store.membership`.

A daemon is one life of a process. It has a row, which it beats; a link is served, and an organization's messages are
decided, by the daemon whose lease that is, and `epoch` counts how often it was taken. When a daemon is dead, or nobody
can tell, another ends it (`end`): from then on whatever it would store is refused by the statement that would store
it (`FENCE`). Statements that were under way then had an older view: its connections are cut, and only when none is left
(`gone`) may others take what it had. So the hot statements read one row of a small table and lock nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from interface.store.db import Connection, application_name
from interface.store.place import machine_of

_ME: Final = "nullif(current_setting('labora.daemon', true), '')::uuid"
# True, or an error that is LeaseLost. It is a sub-select, so that it is asked once for each statement. What runs
# without a daemon (a command) is refused nothing; a daemon without a row is.
FENCE: Final = (
    f"(SELECT CASE WHEN coalesce((SELECT d.ended_at IS NULL FROM lab.daemon d WHERE d.id = {_ME}), {_ME} IS NULL)"  # noqa: S608
    " THEN true ELSE lab.refuse_ended() END)"
)


@dataclass(frozen=True, slots=True)
class DaemonRow:
    """One life of a daemon, as it says of itself. `place`: see `store.place`; `configuration`: a digest."""

    id: UUID
    name: str
    place: str
    roles: tuple[str, ...]
    version: str
    configuration: str
    lease_s: float


@dataclass(frozen=True, slots=True)
class Other:
    """Another daemon that is not gone. `session`: the database has a connection of it."""

    id: UUID
    name: str
    beat: int
    lease_s: float
    ended: bool
    session: bool
    configuration: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has a link (`link`), or decides for the organization (""). `daemon` "": nobody at the moment."""

    id: UUID
    link: str
    daemon: str
    daemon_id: UUID | None
    since: datetime | None
    epoch: int
    status: Mapping[str, object]


async def register(connection: Connection, row: DaemonRow) -> None:
    """A life begins."""
    await connection.execute(
        """insert into lab.daemon (id, name, place, roles, version, configuration, lease_ms)
           values ($1, $2, $3, $4, $5, $6, $7)""",
        row.id, row.name, row.place, list(row.roles), row.version, row.configuration, round(row.lease_s * 1000),
    )  # fmt: skip


async def beat(connection: Connection, id: UUID) -> tuple[bool, list[Other]]:
    """Say that this daemon lives; whether it does, or was ended, and who else is not gone. Nobody waits for the disk:
    a beat that is lost with the server is followed by the next."""
    rows = await connection.fetch(
        """with mine as (
               update lab.daemon set beat = beat + 1 where id = $1 and ended_at is null returning id
           )
           select set_config('synchronous_commit', 'off', true), exists (select from mine) as alive,
                  d.id, d.name, d.beat, d.lease_ms, d.ended_at is not null as ended, d.configuration, d.roles,
                  exists (select from pg_stat_activity a
                           where a.application_name = 'labora ' || d.id and a.datname = current_database()) as session
             from (values (1)) one left join lab.daemon d on d.gone_at is null and d.id <> $1""",
        id,
    )
    others = [
        Other(
            row["id"], row["name"], row["beat"], row["lease_ms"] / 1000, row["ended"], row["session"],
            row["configuration"], tuple(row["roles"]),
        )
        for row in rows if row["id"] is not None
    ]  # fmt: skip
    return bool(rows[0]["alive"]), others


async def end(connection: Connection, id: UUID, by: UUID, seen: int | None = None) -> bool:
    """Refuse whatever a daemon would store from now on; False where it has beaten since it was `seen` to. The place
    where it ran being ours, as `seen` None says, there is nothing to be seen."""
    done = await connection.fetchval(
        """update lab.daemon set ended_at = coalesce(ended_at, now()), ended_by = coalesce(ended_by, $2)
            where id = $1 and gone_at is null and (beat = $3 or $3 is null) returning id""",
        id, by, seen,
    )  # fmt: skip
    return done is not None


async def cut(connection: Connection, id: UUID) -> int:
    """Cut every connection of a daemon; how many there still are. As the login itself, whose connections they are."""
    async with connection.transaction():
        await connection.execute("set local role none")
        rows = await connection.fetch(
            """select pg_terminate_backend(pid) from pg_stat_activity
                where application_name = $1 and datname = current_database()""",
            application_name(id),
        )
    return len(rows)


async def gone(connection: Connection, id: UUID) -> None:
    """Nothing of an ended daemon is under way any more: what it had is free."""
    await connection.execute("update lab.daemon set gone_at = now() where id = $1 and ended_at is not null", id)


async def lead(connection: Connection) -> bool:
    """Ask to do what one daemon does for the whole database; yes for as long as the connection is there."""
    return bool(await connection.fetchval("select pg_try_advisory_lock(hashtextextended('labora leads', 0))"))


async def lives_at(connection: Connection, place: str) -> list[tuple[UUID, int | None]]:
    """The daemons that were at a place and are not gone; with their beat where they were there before another boot, of
    which the database has no connection: one that beats nevertheless is a copy's original."""
    rows = await connection.fetch(
        """select d.id, case when d.place <> $1 then d.beat end as beat from lab.daemon d
            where d.gone_at is null and $1 <> ''
              and (d.place = $1
                   or $2 <> '' and starts_with(d.place, $2 || '.')
                  and not exists (select from pg_stat_activity a
                                   where a.application_name = 'labora ' || d.id and a.datname = current_database()))""",
        place, machine_of(place),
    )  # fmt: skip
    return [(row["id"], row["beat"]) for row in rows]


async def leave(connection: Connection, id: UUID) -> None:
    """A life ends in order, with nothing under way."""
    await connection.execute(
        "update lab.daemon set ended_at = now(), gone_at = now() where id = $1 and ended_at is null", id
    )


async def take(
    connection: Connection, daemon_id: UUID, organization_id: UUID, link_ids: Sequence[UUID], work: bool
) -> dict[UUID, int]:
    """Take what is free of these links and, with `work`, of deciding for their organization; the new epochs, by link or
    organization. In a transaction, which then acts for the organization: two that take at the same time do not share.
    """
    await connection.execute("select set_config('labora.org', $1, true)", str(organization_id))
    ids = [*link_ids, organization_id] if work else list(link_ids)
    rows = await connection.fetch(
        f"""insert into lab.lease as l (organization_id, id, link_id, daemon_id, epoch, since)
            select $1, id, nullif(id, $1), $2, 1, now()
              from unnest($3::uuid[]) as id where {FENCE} order by id
            on conflict (organization_id, id) do update
               set daemon_id = excluded.daemon_id, epoch = l.epoch + 1, since = excluded.since, status = '{{}}'
             where l.daemon_id is null
                or exists (select from lab.daemon d where d.id = l.daemon_id and d.gone_at is not null)
            returning id, epoch""",  # noqa: S608 - a constant
        organization_id, daemon_id, ids,
    )  # fmt: skip
    return {row["id"]: row["epoch"] for row in rows}


async def give_back(connection: Connection, daemon_id: UUID, organization_id: UUID, ids: Sequence[UUID]) -> None:
    """Let others take these. In a transaction, which then acts for the organization."""
    await connection.execute("select set_config('labora.org', $1, true)", str(organization_id))
    await connection.execute(
        "update lab.lease set daemon_id = null, status = '{}' where id = any($1) and daemon_id = $2",
        list(ids), daemon_id,
    )  # fmt: skip


async def tell(connection: Connection, daemon_id: UUID, statuses: Mapping[UUID, Mapping[str, object]]) -> None:
    """Say how the links are that a daemon has, for processes that serve the API for others."""
    await connection.executemany(
        "update lab.lease set status = $3 where id = $1 and daemon_id = $2 and status is distinct from $3",
        [(id, daemon_id, status) for id, status in statuses.items()],
    )


async def elsewhere(connection: Connection) -> dict[UUID, str]:
    """The links, of the connection's organization, that another daemon has than the connection's: id and name."""
    rows = await connection.fetch(
        f"""select k.id, k.name from lab.lease l join lab.link k on k.id = l.link_id
              join lab.daemon d on d.id = l.daemon_id and d.gone_at is null
             where d.id is distinct from {_ME}"""  # noqa: S608 - a constant
    )
    return {row["id"]: row["name"] for row in rows}


async def links_elsewhere(connection: Connection, link_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """The links, of the connection's organization, that another daemon has and that are none of these, each with its
    analyzer."""
    rows = await connection.fetch(
        f"""select k.id, k.analyzer_id from lab.lease l join lab.link k on k.id = l.link_id
              join lab.daemon d on d.id = l.daemon_id and d.gone_at is null
             where d.id is distinct from {_ME} and k.id <> all($1::uuid[])""",  # noqa: S608 - a constant
        list(link_ids),
    )
    return {row["id"]: row["analyzer_id"] for row in rows}


async def owners(connection: Connection) -> list[Owner]:
    """Who has what, of the connection's organization: its links by name, then who decides for it."""
    rows = await connection.fetch(
        """select l.id, coalesce(k.name, '') as link, d.id as daemon_id, coalesce(d.name, '') as daemon, l.since,
                  l.epoch, l.status
             from lab.lease l left join lab.link k on k.id = l.link_id
             left join lab.daemon d on d.id = l.daemon_id and d.gone_at is null
            order by k.name nulls last"""
    )
    return [
        Owner(
            row["id"], row["link"], row["daemon"], row["daemon_id"], row["since"] if row["daemon_id"] else None,
            row["epoch"], row["status"],
        )
        for row in rows
    ]  # fmt: skip
