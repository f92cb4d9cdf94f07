"""A database that is as new for each test, without being made anew: what the last test wrote is taken out of it.

A copy of a template costs 60 ms to make and drop, and as much again until new backends know its tables. One that has
been used costs a few to put back: its tables, its sequences and its sessions. Whatever else a test changed of it (a
trigger, a column, a partition) shows in the catalogue, and then it is dropped and another made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg

from interface.store.schema import APP_ROLE, OWNER_ROLE
from tests.cluster import administer, with_database
from tests.lasting import Lender

LENDERS: dict[str, Lender] = {}  # of the databases that are recycled, by their URL

# What the template's tables hold is kept; a row of them that was written since has another xmin.
_KEEP = """
create schema kept;
create table kept.filled (name text primary key, signature text);
create table kept.sequence as
    select schemaname, sequencename, start_value, last_value from pg_sequences where schemaname = 'lab';
do $do$
declare each text; filled boolean; body text := '';
begin
    for each in
        select relname from pg_class where relnamespace = 'lab'::regnamespace and relkind = 'r' order by relname
    loop
        execute format('select exists (select from lab.%I)', each) into filled;
        if filled then
            execute format('create table kept.%I as table lab.%I', 'of_' || each, each);
        end if;
        body := body || case when filled then format($of$
            select count(*) || ' ' || coalesce(sum(xmin::text::bigint), 0) into found from lab.%1$I;
            if found is distinct from (select signature from kept.filled where name = %1$L) then
                delete from lab.%1$I;
                insert into lab.%1$I overriding system value select * from kept.%2$I;
                insert into kept.filled
                    select %1$L, count(*) || ' ' || coalesce(sum(xmin::text::bigint), 0) from lab.%1$I
                    on conflict (name) do update set signature = excluded.signature;
            end if;$of$, each, 'of_' || each)
        else format($of$
            if pg_relation_size('lab.%1$I') > 0 then delete from lab.%1$I; end if;$of$, each)
        end;
    end loop;
    execute format($fn$
        create function kept.restore() returns void language plpgsql as $body$
        declare found text;
        begin
            set local session_replication_role = replica;  -- no trigger forbids it, and no reference is checked
            %s
            perform setval(format('%%I.%%I', schemaname, sequencename)::regclass, coalesce(last_value, start_value),
                           last_value is not null) from kept.sequence;
        end $body$ $fn$, body);
end $do$;
"""
_CATALOGUE = """
select string_agg(part, ' ') from (
    select count(*) || ':' || coalesce(sum(xmin::text::bigint), 0) as part from pg_class
        where relnamespace = 'lab'::regnamespace
    union all select count(*) || ':' || coalesce(sum(xmin::text::bigint), 0) from pg_trigger
    union all select count(*) || ':' || coalesce(sum(xmin::text::bigint), 0) from pg_constraint
    union all select count(*) || ':' || coalesce(sum(xmin::text::bigint), 0) from pg_policy
    union all select count(*) || ':' || coalesce(sum(xmin::text::bigint), 0) from pg_proc
        where pronamespace = 'lab'::regnamespace
    union all select count(*) || ':' || coalesce(sum(xmin::text::bigint), 0) from pg_attrdef
    union all select count(*) || ':' || coalesce(sum(xmin::text::bigint), 0) from pg_db_role_setting
) as parts
"""
_END_OTHERS = """
select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity
 where datname = current_database() and backend_type = 'client backend' and pid <> all ($1)
"""


class Recycler:
    """One worker's database of one template, for one test at a time."""

    def __init__(self, cluster_url: str, template: str) -> None:
        self._cluster_url, self._template = cluster_url, template
        self._name = ""
        self._lender: Lender | None = None
        self._owner: asyncpg.Connection[asyncpg.Record] | None = None
        self._catalogue = ""

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """The URL of a database that is as the template, under the application's login."""
        if not self._name:
            await self._make()
        yield with_database(self._cluster_url, self._name, APP_ROLE)
        try:
            as_new = await self._restore()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # whatever the test has done to it
            as_new = False
        if not as_new:
            await self.drop()

    async def _make(self) -> None:
        self._name = f"recycled_{uuid4().hex}"
        await administer(self._cluster_url, f"create database {self._name} template {self._template}")
        self._owner = await asyncpg.connect(with_database(self._cluster_url, self._name, OWNER_ROLE))
        await self._owner.execute(_KEEP)
        await self._owner.execute("select kept.restore()")
        self._catalogue = await self._owner.fetchval(_CATALOGUE)
        url = with_database(self._cluster_url, self._name, APP_ROLE)
        self._lender = LENDERS[url] = Lender(url)

    async def _restore(self) -> bool:
        """Put it back; False where it is not what it was."""
        assert self._owner is not None and self._lender is not None
        await self._owner.fetchval(_END_OTHERS, [self._owner.get_server_pid(), *self._lender.idle()])
        await self._owner.execute("select kept.restore()")
        return bool(await self._owner.fetchval(_CATALOGUE) == self._catalogue)

    async def drop(self) -> None:
        """Drop it, if there is one; the next test gets another."""
        if not self._name:
            return
        if self._lender is not None:
            del LENDERS[self._lender.url]
            self._lender.terminate()
        if self._owner is not None:
            self._owner.terminate()
        await administer(self._cluster_url, f"drop database {self._name} with (force)")
        self._name, self._lender, self._owner = "", None, None
