"""What waits or does not go on, counted, for `labora doctor`: of one organization, and of the server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from interface.store.db import Connection
from interface.store.ids import instant_of
from interface.store.routes import AHEAD

PARKED_DAYS = 7  # so far back messages are looked at


@dataclass(frozen=True, slots=True)
class Laboratory:
    """Of one organization. `held`: results that wait for a person; `parked`: messages that crashed their decoding in
    the last days; `refused`: works that an analyzer refused or could not be told; `off`: EMRs' subscriptions that are
    not told."""

    held: int
    oldest_held_at: datetime | None
    unmapped: int
    parked: int
    refused: int
    off: int


_OF_LABORATORY = f"""
select (select count(*) from lab.result where held <> '{{}}') as held,
       (select min(created_at) from lab.result where held <> '{{}}') as oldest_held_at,
       (select count(*) from lab.result where held <> '{{}}' and 'unmapped_code' = any(held)) as unmapped,
       (select count(*) from lab.message
         where settled = 'parked' and received_at > now() - interval '{PARKED_DAYS} days') as parked,
       (select count(*) from lab.dispatch where state in ('refused', 'failed')) as refused,
       (select count(*) from lab.subscription where status in ('error', 'off') and error <> '') as off
"""  # noqa: S608 - our own words


async def of_laboratory(connection: Connection) -> Laboratory:
    """The connection is the organization's."""
    row = await connection.fetchrow(_OF_LABORATORY)
    assert row is not None  # noqa: S101 - a query without from has one
    return Laboratory(**dict(row.items()))


@dataclass(frozen=True, slots=True)
class Server:
    """Of the database server. `longest_s`: the longest transaction under way; `frozen_age`: transactions since the
    oldest that is not frozen, of two thousand million; `waiting`: messages that nothing was decided about yet;
    `partitioned`: the coming month has its partition, which is made months before;
    `unarchived_s`: for how long no WAL went to the archive where it should have, None where all did."""

    version: str
    now: datetime
    size: int
    connections: int
    most_connections: int
    longest_s: float
    frozen_age: int
    waiting: int
    oldest_waiting_at: datetime | None
    unarchived_s: float | None = None
    partitioned: bool = True


_OF_SERVER = """
select current_setting('server_version') as version, clock_timestamp() as now,
       pg_database_size(current_database()) as size,
       (select count(*) from pg_stat_activity where backend_type = 'client backend')::int as connections,
       current_setting('max_connections')::int as most_connections,
       coalesce((select extract(epoch from max(clock_timestamp() - xact_start)) from pg_stat_activity
                  where xact_start is not null and backend_type = 'client backend'), 0)::float8 as longest_s,
       (select age(datfrozenxid) from pg_database where datname = current_database())::bigint as frozen_age,
       (select count(*) from lab.queue) as waiting,
       to_regclass('lab.frame_' || to_char(now() + interval '1 month', 'YYYY_MM')) is not null as partitioned,
       -- An archive that hangs fails nothing: it is late. A daemon writes each second, so a segment is always to come.
       (select a.age_s from (
            select extract(epoch from clock_timestamp()
                       - greatest(last_archived_time, stats_reset, pg_postmaster_start_time()))::float8 as age_s,
                   coalesce(last_failed_time > last_archived_time, last_failed_time is not null) as failing,
                   (select setting::int from pg_settings where name = 'archive_timeout') as every_s
              from pg_stat_archiver) a
         where current_setting('archive_mode') <> 'off'
           and (a.failing or a.every_s > 0 and a.age_s > 2 * a.every_s)) as unarchived_s,
       oldest.message_id as oldest, oldest.not_before as due
from (select) as one left join lateral (select * from lab.queue order by message_id limit 1) as oldest on true
"""


async def of_server(system: Connection) -> Server:
    """The connection is the system's: it sees the queue, and no organization's rows. Ids go on after those of a clock
    that was ahead: then since when the message is due tells how long it waits."""
    row = await system.fetchrow(_OF_SERVER)
    assert row is not None  # noqa: S101
    fields = dict(row.items())
    oldest, due = fields.pop("oldest"), fields.pop("due")
    since = instant_of(oldest) if oldest else None
    if since is not None and since > row["now"] + AHEAD:
        since = min(due, row["now"])
    return Server(**fields, oldest_waiting_at=since)
