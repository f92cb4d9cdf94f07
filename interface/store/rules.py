"""Rows of rule sets: revisions, validations, what is in force, switches, and what revisions in the shadow said.

Nothing that a row says is written again; a use and a switch are ended. Every function works in the caller's connection
and transaction, which must act for the organization.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from interface.domain.autoverify import Scope, Stamp, Switch, digest_of
from interface.domain.views import Actor
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.versions import versions_of

ACTIVE, SHADOW = "active", "shadow"


@dataclass(frozen=True, slots=True)
class Validation:
    """When the rule bench found nothing wrong with a revision, and for whom."""

    at: datetime
    by: str
    stamp: Stamp
    vectors: int = 0  # generated from the rules
    cases: int = 0  # written by people
    uncovered: int = 0  # branches that neither reached


@dataclass(frozen=True, slots=True)
class Revision:
    """A stored document. `mode`: active, shadow or ""; `since` and `by` of that mode."""

    id: UUID
    name: str
    revision: int
    digest: str
    source: str
    reason: str
    author: str
    created_at: datetime
    mode: str = ""
    since: datetime | None = None
    by: str = ""
    validation: Validation | None = None

    @property
    def version(self) -> str:
        return f"{self.name}@{self.revision}"


@dataclass(frozen=True, slots=True)
class SwitchView:
    """Off since `at`."""

    switch: Switch
    at: datetime
    by: str


@dataclass(frozen=True, slots=True)
class InForce:
    """One revision that is active or in the shadow, or a switch that is off, as a deciding transaction reads it."""

    kind: str
    id: UUID
    name: str
    key: str
    revision: int
    digest: str
    stamp: Stamp | None


@dataclass(frozen=True, slots=True)
class ShadowRow:
    """What a revision in the shadow would have done with a version of a result."""

    rule_set_id: UUID
    result_id: UUID
    result_version_id: UUID
    test_code: str
    action: str
    against: tuple[str, ...] = ()


# ---- revisions ------------------------------------------------------------------------------------------------------


async def lock(connection: Connection, organization_id: UUID) -> None:
    """Let one transaction at a time change an organization's rule sets. Deciding does not wait for it."""
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended($1, 0))", f"labora rule sets {organization_id}"
    )


DRAIN_S, PAUSE_S = 30.0, 0.01
_HOLDERS = """
select l.virtualtransaction from pg_locks l, (select hashtextextended('labora rules ' || $1, 0) as key) k
 where l.locktype = 'advisory' and l.mode = 'ShareLock' and l.granted and l.objsubid = 1
   and l.database = (select oid from pg_database where datname = current_database())
   and l.classid::bigint = (k.key >> 32) & 4294967295 and l.objid::bigint = k.key & 4294967295
"""


async def drained(
    connection: Connection, organization_id: UUID, pause: Callable[[], Awaitable[None]] | None = None
) -> bool:
    """Wait until no transaction is left that decides by what was in force before; False after DRAIN_S.

    What changed that has been committed. Those that read it hold a shared lock until they end (`lab.rules_in_force`);
    whoever takes the lock after this has looked has seen the change. Nobody waits for this: it asks for no lock.
    """
    key = str(organization_id)
    left = {row["virtualtransaction"] for row in await connection.fetch(_HOLDERS, key)}
    end = asyncio.get_running_loop().time() + DRAIN_S
    while left and asyncio.get_running_loop().time() < end:
        await (pause() if pause else asyncio.sleep(PAUSE_S))
        left &= {row["virtualtransaction"] for row in await connection.fetch(_HOLDERS, key)}
    return not left


async def add_revision(
    connection: Connection, actor: Actor, name: str, body: str, source: str, reason: str
) -> tuple[UUID, int]:
    """The next revision of a name; returns its id and number. The caller holds `lock`."""
    revision_id = uuid7()
    number: int = await connection.fetchval(
        """insert into lab.rule_set (id, organization_id, name, revision, body, digest, source, reason, actor_kind,
                                     actor_id, actor_name)
           select $1, $2, $3, coalesce(max(revision), 0) + 1, $4, $5, $6, $7, $8, $9, $10 from lab.rule_set
            where name = $3
           returning revision""",
        revision_id, actor.organization_id, name, body, digest_of(body), source, reason, actor.kind.value, actor.id,
        actor.name,
    )  # fmt: skip
    return revision_id, number


_REVISIONS = """
select s.id, s.name, s.revision, s.digest, s.source, s.reason, s.actor_name as author, s.created_at,
       u.mode, u.created_at as since, u.actor_name as by,
       v.created_at as validated_at, v.actor_name as validated_by, v.digest as validated_digest, v.engine, v.catalogue,
       v.vectors, v.cases, v.uncovered
  from lab.rule_set s
  left join lateral (select * from lab.rule_use o where o.rule_set_id = s.id and o.ended_at is null
                      order by o.mode limit 1) u on true
  left join lateral (select * from lab.rule_validation o where o.rule_set_id = s.id and o.digest = s.digest
                      order by o.id desc limit 1) v on true
"""


async def read_revisions(connection: Connection, name: str = "", limit: int = 1000) -> list[Revision]:
    """The newest of each name first."""
    rows = await connection.fetch(
        f"{_REVISIONS} where $1 = '' or s.name = $1 order by s.name, s.revision desc limit $2", name, limit
    )
    return [_revision(row) for row in rows]


async def find_revision(connection: Connection, name: str, revision: int | None = None) -> Revision | None:
    """This revision; without a number the newest."""
    row = await connection.fetchrow(
        f"{_REVISIONS} where s.name = $1 and ($2::int is null or s.revision = $2) order by s.revision desc limit 1",
        name,
        revision,
    )
    return _revision(row) if row else None


async def read_body(connection: Connection, revision_id: UUID) -> str:
    """A revision's document, as it was written."""
    body: str = await connection.fetchval("select body from lab.rule_set where id = $1", revision_id)
    return body


def _revision(row: Record) -> Revision:
    validation = None
    if row["validated_at"] is not None:
        stamp = Stamp(row["validated_digest"], row["engine"], row["catalogue"])
        validation = Validation(
            row["validated_at"], row["validated_by"], stamp, row["vectors"], row["cases"], row["uncovered"]
        )
    return Revision(
        row["id"], row["name"], row["revision"], row["digest"], row["source"], row["reason"], row["author"],
        row["created_at"], row["mode"] or "", row["since"], row["by"] or "", validation,
    )  # fmt: skip


async def add_validation(
    connection: Connection, actor: Actor, revision_id: UUID, stamp: Stamp, vectors: int, cases: int, uncovered: int
) -> UUID:
    validation_id = uuid7()
    await connection.execute(
        """insert into lab.rule_validation (id, organization_id, rule_set_id, digest, engine, catalogue, vectors, cases,
                                            uncovered, actor_kind, actor_id, actor_name)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)""",
        validation_id, actor.organization_id, revision_id, stamp.digest, stamp.engine, stamp.catalogue, vectors, cases,
        uncovered, actor.kind.value, actor.id, actor.name,
    )  # fmt: skip
    return validation_id


# ---- what is in force -----------------------------------------------------------------------------------------------


async def in_force(connection: Connection) -> list[InForce]:
    """What a transaction that decides goes by until it ends; see `drained`."""
    return [
        InForce(
            row["kind"], row["id"], row["name"], row["key"], row["revision"], row["digest"],
            None if row["engine"] is None else Stamp(row["digest"], row["engine"], row["catalogue"]),
        )
        for row in await connection.fetch("select * from lab.rules_in_force()")
    ]  # fmt: skip


async def read_bodies(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, tuple[str, int]]:
    """Documents with their revision, by id."""
    rows = await connection.fetch("select id, body, revision from lab.rule_set where id = any($1)", list(ids))
    return {row["id"]: (row["body"], row["revision"]) for row in rows}


async def begin_use(connection: Connection, actor: Actor, revision: Revision, mode: str, reason: str) -> UUID:
    """The caller holds `lock` and has ended what this one replaces."""
    use_id = uuid7()
    await connection.execute(
        """insert into lab.rule_use (id, organization_id, rule_set_id, name, mode, reason, actor_kind, actor_id,
                                     actor_name)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        use_id, actor.organization_id, revision.id, revision.name, mode, reason, actor.kind.value, actor.id, actor.name,
    )  # fmt: skip
    return use_id


async def end_uses(
    connection: Connection, actor: Actor, mode: str, reason: str, *, name: str = "", revision_id: UUID | None = None
) -> list[int]:
    """End the uses in this mode, of a name or of one revision; returns the revisions that were in use."""
    rows = await connection.fetch(
        """update lab.rule_use u set ended_at = now(), ended_by = $1, ended_by_name = $2, end_reason = $3
             from lab.rule_set s
            where s.id = u.rule_set_id and u.ended_at is null and u.mode = $4 and ($5 = '' or u.name = $5)
              and ($6::uuid is null or u.rule_set_id = $6)
            returning s.revision""",
        actor.id, actor.name, reason, mode, name, revision_id,
    )  # fmt: skip
    return sorted(row["revision"] for row in rows)


# ---- switches -------------------------------------------------------------------------------------------------------


async def switch_off(connection: Connection, actor: Actor, switch: Switch) -> bool:
    """False: it was off already."""
    done = await connection.fetchval(
        """insert into lab.rule_switch (id, organization_id, scope, key, reason, actor_kind, actor_id, actor_name)
           values ($1, $2, $3, $4, $5, $6, $7, $8)
           on conflict (organization_id, scope, key) where ended_at is null do nothing returning id""",
        uuid7(), actor.organization_id, switch.scope.value, switch.key, switch.reason, actor.kind.value, actor.id,
        actor.name,
    )  # fmt: skip
    return done is not None


async def switch_on(connection: Connection, actor: Actor, switch: Switch) -> bool:
    """False: it was not off."""
    done = await connection.fetchval(
        """update lab.rule_switch set ended_at = now(), ended_by = $1, ended_by_name = $2, end_reason = $3
            where scope = $4 and key = $5 and ended_at is null returning id""",
        actor.id, actor.name, switch.reason, switch.scope.value, switch.key,
    )  # fmt: skip
    return done is not None


async def read_switches(connection: Connection) -> list[SwitchView]:
    """What is off now, the oldest first."""
    rows = await connection.fetch(
        "select scope, key, reason, created_at, actor_name from lab.rule_switch where ended_at is null order by id"
    )
    return [
        SwitchView(Switch(Scope(row["scope"]), row["key"], row["reason"]), row["created_at"], row["actor_name"])
        for row in rows
    ]


# ---- the shadow -----------------------------------------------------------------------------------------------------


async def add_shadow(connection: Connection, organization_id: UUID, rows: Sequence[ShadowRow]) -> None:
    """One statement for all of them."""
    if not rows:
        return
    await connection.execute(
        """insert into lab.shadow_verdict (id, organization_id, rule_set_id, result_id, result_version_id, test_code,
                                           action, against)
           select n.id, $1, n.rule_set_id, n.result_id, n.version_id, n.test, n.action,
                  coalesce(string_to_array(nullif(n.against, ''), E'\\n'), '{}')
             from unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[])
                  as n (id, rule_set_id, result_id, version_id, test, action, against)""",
        organization_id,
        [uuid7() for _ in rows],
        [row.rule_set_id for row in rows],
        [row.result_id for row in rows],
        [row.result_version_id for row in rows],
        [row.test_code for row in rows],
        [row.action for row in rows],
        ["\n".join(row.against) for row in rows],
    )


# ---- by which results were decided -----------------------------------------------------------------------------------


async def rules_of(connection: Connection, result_ids: Collection[UUID]) -> str:
    """The name of the rule set that decided about these results last; "" where none did."""
    return last_rules((await rules_of_each(connection, result_ids)).values())


def last_rules(decided: Iterable[tuple[datetime, int, str]]) -> str:
    """The name of the rule set that decided last of these; "" where none did."""
    last = max(decided, default=None)
    return last[2].rpartition(" ")[0] if last else ""


async def rules_of_each(connection: Connection, result_ids: Collection[UUID]) -> dict[UUID, tuple[datetime, int, str]]:
    """When, in which version and by which rules each of these results was decided last; without those that none did."""
    rows = await connection.fetch(
        f"""SELECT DISTINCT ON (v.result_id) v.result_id, v.created_at, v.version, step ->> 'version' AS rules
           FROM {versions_of("= ANY($1)")} v
           CROSS JOIN LATERAL (SELECT * FROM lab.decision y WHERE y.result_version_id = v.id OFFSET 0) d
           CROSS JOIN LATERAL json_array_elements(lab.explained(d.steps)::json) WITH ORDINALITY AS s (step, n)
           WHERE step ->> 'step' = 'autoverification' AND step ->> 'version' <> ''
           ORDER BY v.result_id, v.created_at DESC, v.version DESC, n DESC""",  # noqa: S608 - names of ours
        list(result_ids),
    )
    return {row["result_id"]: (row["created_at"], row["version"], row["rules"]) for row in rows}


async def analyzer_names(connection: Connection) -> set[str]:
    return {row["name"] for row in await connection.fetch("select name from lab.analyzer")}


async def specimen_types(connection: Connection) -> set[str]:
    return {row["code"] for row in await connection.fetch("select code from lab.specimen_type")}
