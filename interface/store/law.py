"""Queries of analyzers that speak IHE LAW, each kept until LAB-28 has answered it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from interface.store.db import Connection
from interface.store.ids import uuid7, uuid7_floor


@dataclass(frozen=True, slots=True)
class LawParties:
    """MSH-3 to MSH-6 of what is said to the analyzer, as they stand there."""

    application: str = ""
    facility: str = ""
    peer_application: str = ""
    peer_facility: str = ""


@dataclass(frozen=True, slots=True)
class LawAsked:
    """What one LAB-27 asks for: a specimen, all there is, or what stands in a place."""

    asking: str
    specimen_id: str = ""
    rack: str = ""
    rack_position: str = ""
    tray: str = ""
    tray_position: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True)
class LawOwed:
    """A query that is to be answered. `link_id`: the link it came by; `message_id`: it; `asked_at`: when it came."""

    id: UUID
    link_id: UUID
    message_id: UUID
    asked_at: datetime
    asked: LawAsked
    parties: LawParties


_ASKED = tuple(field.name for field in fields(LawAsked))
_PARTIES = tuple(field.name for field in fields(LawParties))
_COLUMNS = ", ".join((*_ASKED, *_PARTIES))


async def add(
    connection: Connection,
    organization_id: UUID,
    analyzer_id: UUID,
    link_id: UUID,
    message_id: UUID,
    asked: Sequence[LawAsked],
    parties: LawParties,
) -> None:
    """Keep what a query asks for. What is asked for already, and was not begun to be answered, is answered once."""
    known = " and ".join(f"q.{name} = i.{name}" for name in _ASKED)
    columns = [[getattr(one, name) for one in asked] for name in _ASKED]
    same = [[getattr(parties, name)] * len(asked) for name in _PARTIES]
    names = [*_ASKED, *_PARTIES]
    arrays = ", ".join(f"${at}::text[]" for at in range(6, 6 + len(names)))
    await connection.execute(
        f"""
        with i as (select * from unnest($5::uuid[], {arrays}) as t (id, {", ".join(names)}))
        insert into lab.law_query (id, organization_id, analyzer_id, link_id, message_id, {_COLUMNS})
        select i.id, $1, $2, $3, $4, {", ".join(f"i.{name}" for name in names)} from i
         where not exists (select from lab.law_query q
                            where q.analyzer_id = $2 and q.told_at is null and q.sending_id is null
                              and {known})
        """,  # noqa: S608 - names of ours
        organization_id,
        analyzer_id,
        link_id,
        message_id,
        [uuid7() for _ in asked],
        *columns,
        *same,
    )


async def oldest(connection: Connection, analyzer_id: UUID) -> LawOwed | None:
    """The query that is to be answered next, locked; one that another connection is about to answer is left to it."""
    row = await connection.fetchrow(
        f"""select q.id, q.link_id, q.message_id, m.received_at, {_COLUMNS}
              from lab.law_query q join lab.message m on m.id = q.message_id
             where q.analyzer_id = $1 and q.told_at is null order by q.id limit 1 for update of q skip locked""",  # noqa: S608
        analyzer_id,
    )
    if row is None:
        return None
    asked = LawAsked(**{name: row[name] for name in _ASKED})
    parties = LawParties(**{name: row[name] for name in _PARTIES})
    return LawOwed(row["id"], row["link_id"], row["message_id"], row["received_at"], asked, parties)


async def set_sending(connection: Connection, query_id: UUID, sending_id: UUID) -> None:
    """It is about to be answered by this message; that it was is said once the analyzer has answered in its turn."""
    await connection.execute("update lab.law_query set sending_id = $2 where id = $1", query_id, sending_id)


async def set_told(connection: Connection, sending_id: UUID, now: datetime) -> None:
    """The query that this message answers, if it does, is answered."""
    await connection.execute(
        "update lab.law_query set told_at = $2 where sending_id = $1 and told_at is null", sending_id, now
    )


async def set_spread(connection: Connection, query_id: UUID, now: datetime) -> None:
    """Others took its place."""
    await connection.execute("update lab.law_query set told_at = $2 where id = $1", query_id, now)


async def last_parties(connection: Connection, analyzer_id: UUID) -> LawParties:
    """What the analyzer called us and itself when it asked last."""
    row = await connection.fetchrow(
        f"""select {", ".join(_PARTIES)} from lab.law_query where analyzer_id = $1 order by id desc limit 1""",  # noqa: S608
        analyzer_id,
    )
    return LawParties(**{name: row[name] for name in _PARTIES}) if row else LawParties()


async def has_other_link(connection: Connection, analyzer_id: UUID, link_id: UUID) -> bool:
    """Whether the analyzer has a link beside this one."""
    return bool(
        await connection.fetchval(
            "select exists (select from lab.link where analyzer_id = $1 and id <> $2)", analyzer_id, link_id
        )
    )


async def said_to_queries(
    connection: Connection, link_id: UUID, control_id: str, since: datetime
) -> list[tuple[UUID, bytes]]:
    """The messages that answered queries by a link, the last first, in whose bytes the id stands somewhere."""
    rows = await connection.fetch(
        """select id, bytes from lab.sending where id > $1 and link_id = $2 and query_id is not null
              and position($3::bytea in bytes) > 0 order by id desc""",
        uuid7_floor(since), link_id, control_id.encode("utf-8", "replace"),
    )  # fmt: skip
    return [(row["id"], row["bytes"]) for row in rows]
