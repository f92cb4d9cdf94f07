"""Versions of reports as rows, what they are made of, and the orders whose report is to be looked at again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Record

from interface.domain.model import TAKEN_BACK
from interface.domain.report import Language, Paper, ReportSettings, StoredReport
from interface.domain.views import Audience, ReportView, ResultView
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.lab import OrderFilter, find_reports, released_before
from interface.store.versions import versions_of

MOST_EARLIER = 5  # of a test: what a trend is drawn of


@dataclass(frozen=True, slots=True)
class EarlierRow:
    """A released result that the patient had before, of the same type of specimen and time point. `of`: the result that
    it is earlier than; `record`: whose it is, where that is another record of the person than the result's own."""

    of: UUID
    record: UUID | None
    at: datetime
    value: str
    number: Any
    comparator: str


@dataclass(frozen=True, slots=True)
class Releaser:
    """When a version was made, and who released what it says, not who has commented on it since. `kind`: an actor's."""

    at: datetime
    kind: str
    name: str
    verified_by: str


@dataclass(frozen=True, slots=True)
class TubeRow:
    id: UUID
    barcode: str
    type: str
    collected_at: datetime | None
    received_at: datetime | None
    rejected: str
    time_point_min: int | None


@dataclass(frozen=True, slots=True)
class Material:
    """All that a report of an order says, as rows."""

    view: ReportView
    history: dict[UUID, tuple[ResultView, ...]]  # versions before the current one, that an EMR could see, oldest first
    earlier: dict[UUID, tuple[EarlierRow, ...]]
    releasers: dict[UUID, Releaser]  # by version
    departments: dict[str, str]  # by test code
    tubes: tuple[TubeRow, ...]
    placers: tuple[str, ...]  # the numbers by which it was ordered, the order's own first

    @property
    def merged(self) -> tuple[UUID, ...]:
        """The other records of the person that it tells earlier results of."""
        rows = (row for rows in self.earlier.values() for row in rows)
        return tuple(sorted({row.record for row in rows if row.record is not None}))


# ---- what a report is made of ---------------------------------------------------------------------------------------

# Step by step from one result to the next, each by an index, whatever the planner thinks of a table that has grown.
_EARLIER = """
select c.id as of, nullif(w.id, r.patient_id) as record, e.at, e.value, e.number, e.comparator
from unnest($1::uuid[]) as c (id)
cross join lateral (
    select r.id, r.version_id, r.patient_id, r.test_id, r.effective_at, r.order_item_id, t.type, t.time_point_min
    from lab.result r left join lab.specimen t on t.id = r.specimen_id where r.id = c.id offset 0
) r
cross join lateral (select v.unit, v.kind from lab.result_version v where v.id = r.version_id offset 0) v
cross join lateral (
    select coalesce(m.merged_into_id, m.id) as id from lab.patient m where m.id = r.patient_id offset 0
) s
cross join lateral (
    select s.id union all select p.id from lab.patient p where p.merged_into_id = s.id offset 0
) w
cross join lateral (
    select b.effective_at as at, x.value, x.number, x.comparator from lab.result b
    cross join lateral (select * from lab.result_version y where y.id = b.version_id offset 0) x
    -- In another fluid, or so long after a glucose load, it is another quantity: as delta checks compare.
    cross join lateral (select t.type, t.time_point_min from (select b.specimen_id as id offset 0) o
        left join lab.specimen t on t.id = o.id offset 0) k
    where b.patient_id = w.id and b.test_id = r.test_id and b.reportable
      and b.status in ('final', 'corrected', 'amended') and b.held = '{}' and b.effective_at < r.effective_at
      and b.id <> r.id and b.order_item_id is distinct from r.order_item_id and x.unit = v.unit and x.kind = v.kind
      and (k.type, k.time_point_min) is not distinct from (r.type, r.time_point_min)
    order by b.effective_at desc limit $2
) e
order by c.id, e.at desc
"""
_RELEASERS = f"""
select v.id, v.created_at, coalesce(g.actor_kind, '') as actor_kind, case g.actor_kind
           when 'user' then coalesce(nullif(u.full_name, ''), u.username, '')
           when 'rule_set' then coalesce(s.name || ' ' || s.revision, '') else '' end as name,
       coalesce(nullif(w.full_name, ''), w.username, '') as verified_by
from lab.result_version v
-- Who only said something of it has not released it.
left join lateral (
    select f.actor_kind, f.actor_id, (d.step -> 'inputs' ->> 'from_version')::int as of
    from {versions_of("= v.result_id")} f
    left join lateral (
        select lab.explained(y.steps)::jsonb -> -1 as step from lab.decision y
        where y.result_version_id = f.id offset 0
    ) d on true
    where f.version <= v.version and f.status in ('final', 'corrected', 'amended')
      and d.step ->> 'step' is distinct from 'comment'
    order by f.version desc limit 1
) g on true
left join lab.app_user u on g.actor_kind = 'user' and u.id = g.actor_id
left join lab.rule_set s on g.actor_kind = 'rule_set' and s.id = g.actor_id
left join lateral {versions_of("= v.result_id")} c on c.version = g.of  -- where two people verify
left join lab.app_user w on w.id = c.verified_by
where v.id = any($1::uuid[])
"""  # noqa: S608 - names of ours
_TUBES = """
select s.id, s.barcode, coalesce(nullif(t.name, ''), s.type) as type, s.collected_at, s.received_at, s.time_point_min,
       case when s.state = 'rejected' then coalesce(nullif(s.reject_reason, ''), nullif(s.reject_code, ''), 'rejected')
            else '' end as rejected
from lab.specimen s left join lab.specimen_type t on t.code = s.type
where s.order_id = $1 or s.id = any($2::uuid[])
order by s.collected_at nulls last, s.id
"""


# Two wards, or a hospital's two orders, may have ordered on one tube; those of a group are known by the group's number.
_PLACERS = """
select p.number from lab.placer_order p
where p.id in (
    select q.id from lab.placer_order q where q.order_id = $1
    union select w.placer_order_id from lab.order_item i join lab.placer_item w on w.order_item_id = i.id
    where i.order_id = $1 and w.dropped_at is null)
  and p.ended_at is null and p.group_number <> all($2::text[])
order by p.created_at, p.id
"""


async def material(connection: Connection, order_id: UUID, audience: Audience) -> Material | None:
    """What `audience`, which is no staff, may see of an order; None when there is no such order."""
    found = await find_reports(connection, OrderFilter(ids=(order_id,)), audience)
    if not found:
        return None
    [view] = found
    # Printed is what is known; that something was taken back, a version without it says.
    view = replace(view, results=tuple(one for one in view.results if one.status not in TAKEN_BACK))
    ids = [one.id for one in view.results]
    named = {item.specimen_id for item in view.order.items} | {one.specimen_id for one in view.results}
    codes = {item.test_code for item in view.order.items} | {one.test_code for one in view.results}
    return Material(
        view,
        await released_before(connection, ids, audience),
        await _earlier(connection, ids),
        await _releasers(connection, [one.version_id for one in view.results]),
        await _departments(connection, codes),
        await _tubes(connection, order_id, [id for id in named if id is not None]),
        await _placers(connection, view),
    )


async def _earlier(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, tuple[EarlierRow, ...]]:
    found: dict[UUID, list[EarlierRow]] = {}
    for row in await connection.fetch(_EARLIER, ids, MOST_EARLIER) if ids else ():
        found.setdefault(row["of"], []).append(EarlierRow(**dict(row.items())))
    # Of a person with several records, each has given its own.
    return {id: tuple(sorted(rows, key=lambda one: one.at, reverse=True)[:MOST_EARLIER]) for id, rows in found.items()}


async def _releasers(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Releaser]:
    rows = await connection.fetch(_RELEASERS, ids) if ids else ()
    return {row["id"]: Releaser(row["created_at"], row["actor_kind"], row["name"], row["verified_by"]) for row in rows}


async def _departments(connection: Connection, codes: Iterable[str]) -> dict[str, str]:
    rows = await connection.fetch("select code, department from lab.test where code = any($1::text[])", sorted(codes))
    return {row["code"]: row["department"] for row in rows}


async def _tubes(connection: Connection, order_id: UUID, ids: Sequence[UUID]) -> tuple[TubeRow, ...]:
    return tuple(TubeRow(**dict(row.items())) for row in await connection.fetch(_TUBES, order_id, ids))


async def _placers(connection: Connection, view: ReportView) -> tuple[str, ...]:
    own = [view.order.placer_number] if view.order.placer_number else []
    rows = await connection.fetch(_PLACERS, view.order.id, own)
    return tuple(dict.fromkeys((*own, *(row["number"] for row in rows))))


# ---- versions -------------------------------------------------------------------------------------------------------

_STORED = "select id, order_id, version, status, created_at, preliminary, paper, language from lab.report where"
_NUMBERED = "and version = coalesce($3, version) order by version desc limit 1"
# A version that tells what is preliminary is there only for those who may see that.
_SHOWN = "($2 or not preliminary)"


def _stored(row: Record) -> StoredReport:
    return StoredReport(**{**dict(row.items()), "paper": Paper(row["paper"]), "language": Language(row["language"])})


def _preliminary(audience: Audience) -> bool:
    return audience is Audience.EMR_PRELIMINARY


async def lock(connection: Connection, order_id: UUID) -> None:
    """One at a time makes a version of an order's report, to the end of the transaction."""
    await connection.execute("select pg_advisory_xact_lock(hashtextextended('labora.report.' || $1, 0))", str(order_id))


async def versions(connection: Connection, order_id: UUID, audience: Audience) -> list[StoredReport]:
    """The oldest first."""
    rows = await connection.fetch(
        " ".join((_STORED, "order_id = $1 and", _SHOWN, "order by version")), order_id, _preliminary(audience)
    )
    return [_stored(row) for row in rows]


async def get_version(
    connection: Connection, order_id: UUID, audience: Audience, version: int | None = None
) -> StoredReport | None:
    """A version, or the newest; None when there is none that the audience may see."""
    row = await connection.fetchrow(
        " ".join((_STORED, "order_id = $1 and", _SHOWN, _NUMBERED)),
        order_id, _preliminary(audience), version,
    )  # fmt: skip
    return _stored(row) if row is not None else None


async def find_version(connection: Connection, report_id: UUID, audience: Audience) -> StoredReport | None:
    """By its own id."""
    row = await connection.fetchrow(" ".join((_STORED, "id = $1 and", _SHOWN)), report_id, _preliminary(audience))
    return _stored(row) if row is not None else None


async def content_of(connection: Connection, report_id: UUID) -> bytes:
    """The content of a version that is there."""
    body: bytes = await connection.fetchval("select body from lab.report where id = $1", report_id)
    return body


async def last(connection: Connection, order_id: UUID, audience: Audience) -> tuple[bytes, int, datetime] | None:
    """Digest, number and time of an order's last version that the audience may see."""
    row = await connection.fetchrow(
        """select digest, version, created_at from lab.report
            where order_id = $1 and ($2 or not preliminary) order by version desc limit 1""",
        order_id,
        _preliminary(audience),
    )
    return (row["digest"] or b"", row["version"], row["created_at"]) if row is not None else None


async def is_to_come(connection: Connection, at: datetime) -> bool:
    found: bool = await connection.fetchval("select $1::timestamptz > clock_timestamp()", at)
    return found


async def last_number(connection: Connection, order_id: UUID) -> int:
    """Of all its versions; 0 without one."""
    number: int = await connection.fetchval(
        "select coalesce(max(version), 0) from lab.report where order_id = $1", order_id
    )
    return number


async def own_organization(connection: Connection) -> UUID:
    """The one that the connection acts for: it sees no other."""
    id: UUID = await connection.fetchval("select id from lab.organization")
    return id


async def add_version(
    connection: Connection, organization_id: UUID, report: StoredReport, digest: bytes, body: bytes
) -> None:
    await connection.execute(
        """insert into lab.report (id, organization_id, order_id, version, status, body, digest, preliminary, paper,
                                   language, created_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)""",
        report.id, organization_id, report.order_id, report.version, report.status, body, digest, report.preliminary,
        report.paper.value, report.language.value, report.created_at,
    )  # fmt: skip


# ---- files ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileRow:
    sha1: bytes
    size: int
    body: bytes


async def get_file(connection: Connection, report_id: UUID, paper: Paper, language: Language) -> FileRow | None:
    row = await connection.fetchrow(
        "select sha1, size, body from lab.report_file where report_id = $1 and paper = $2 and language = $3",
        report_id, paper.value, language.value,
    )  # fmt: skip
    return FileRow(**dict(row.items())) if row is not None else None


async def add_file(
    connection: Connection, organization_id: UUID, report_id: UUID, paper: Paper, language: Language, file: FileRow
) -> None:
    """The first that is made is kept."""
    await connection.execute(
        """insert into lab.report_file (id, organization_id, report_id, paper, language, sha1, size, body)
           values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing""",
        uuid7(), organization_id, report_id, paper.value, language.value, file.sha1, file.size, file.body,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attached:
    """What a DiagnosticReport says of its PDF. Without `hash` and `size` while it has not been printed. `due`: the
    order has changed since, perhaps in what the version tells, of which `digest` is the digest."""

    report: StoredReport
    digest: bytes
    due: bool
    hash: bytes | None
    size: int | None


_ATTACHED = """
select distinct on (p.order_id) p.id, p.order_id, p.version, p.status, p.created_at, p.preliminary, p.paper,
       p.language, f.sha1, f.size, p.digest,
       exists (select from lab.report_due d where d.order_id = p.order_id)
           or exists (select from lab.report n where n.order_id = p.order_id and n.version > p.version) as due
from lab.report p
left join lab.report_file f on f.report_id = p.id and f.paper = p.paper and f.language = p.language
where p.order_id = any($1::uuid[]) and ($2 or not p.preliminary)
order by p.order_id, p.version desc
"""


async def attached(connection: Connection, order_ids: Sequence[UUID], audience: Audience) -> dict[UUID, Attached]:
    """The newest version of each of these orders; `due` also where others may see a newer one."""
    found = {}
    for row in await connection.fetch(_ATTACHED, list(order_ids), _preliminary(audience)) if order_ids else ():
        said = dict(row.items())
        sha1, size, digest, due = (said.pop(name) for name in ("sha1", "size", "digest", "due"))
        report = StoredReport(**{**said, "paper": Paper(said["paper"]), "language": Language(said["language"])})
        found[report.order_id] = Attached(report, digest or b"", due, sha1, size)
    return found


# ---- orders to be looked at -----------------------------------------------------------------------------------------


async def is_due(connection: Connection, order_id: UUID, version: int) -> bool:
    """Whether the order's records may say something else than this version: they have changed, or there is a newer one,
    which was made for those who see preliminary results too."""
    due: bool = await connection.fetchval(
        """select exists (select from lab.report_due where order_id = $1)
            or exists (select from lab.report where order_id = $1 and version > $2)""",
        order_id, version,
    )  # fmt: skip
    return due


async def due_orders(connection: Connection, limit: int) -> list[UUID]:
    """Orders whose records have changed, the one that waits longest first; none that was put off. What is later than
    anything is put off to was written by a clock that has been put back since."""
    rows = await connection.fetch(
        """select order_id from lab.report_due group by order_id
            having max(created_at) <= now() or max(created_at) > now() + interval '2 minutes'
            order by min(created_at) limit $1""",
        limit,
    )
    return [row["order_id"] for row in rows]


async def due_rows(connection: Connection, order_id: UUID) -> list[UUID]:
    rows = await connection.fetch("select id from lab.report_due where order_id = $1", order_id)
    return [row["id"] for row in rows]


async def put_off(connection: Connection, order_id: UUID) -> None:
    """For a minute; who reads the report asks for it nevertheless."""
    await connection.execute(
        "update lab.report_due set created_at = now() + interval '1 minute' where order_id = $1", order_id
    )


_TOLD_OF_OTHERS = """
with w as (select id, coalesce(merged_into_id, id) as person from lab.patient where id = any($1::uuid[]))
select distinct r.order_id
from w join lab.result r on r.patient_id = w.id
cross join w as v join lab.result b on b.patient_id = v.id and b.test_id = r.test_id and b.effective_at < r.effective_at
where v.person <> w.person and b.released_at is not null
  and exists (select from lab.report p where p.order_id = r.order_id)
"""


async def merge_taken_back(connection: Connection, organization_id: UUID, patient_ids: Sequence[UUID]) -> list[UUID]:
    """The orders of these patients, who were one person and are not, whose reports may tell another's results as
    earlier ones: they are looked at, which no trigger does of one whose own record stays as it was."""
    found = [row["order_id"] for row in await connection.fetch(_TOLD_OF_OTHERS, list(patient_ids))]
    await connection.execute(
        """insert into lab.report_due (id, organization_id, order_id)
           select gen_random_uuid(), $1, id from unnest($2::uuid[]) as o (id)""",
        organization_id, found,
    )  # fmt: skip
    return found


async def looked_at(connection: Connection, ids: Sequence[UUID]) -> None:
    if ids:
        await connection.execute("delete from lab.report_due where id = any($1::uuid[])", list(ids))


# ---- settings -------------------------------------------------------------------------------------------------------


async def get_settings(connection: Connection) -> ReportSettings:
    row = await connection.fetchrow(
        "select address, phone, director, accreditation, zone, paper, language, version from lab.report_setting"
    )
    if row is None:
        return ReportSettings()
    return ReportSettings(**{**dict(row.items()), "paper": Paper(row["paper"]), "language": Language(row["language"])})


async def put_settings(connection: Connection, organization_id: UUID, settings: ReportSettings) -> None:
    """`version` is the one that is written."""
    await connection.execute(
        """insert into lab.report_setting (id, organization_id, address, phone, director, accreditation, zone, paper,
                                           language, version)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
           on conflict (organization_id) do update set address = $3, phone = $4, director = $5, accreditation = $6,
               zone = $7, paper = $8, language = $9, version = $10, updated_at = now()""",
        uuid7(), organization_id, settings.address, settings.phone, settings.director, settings.accreditation,
        settings.zone, settings.paper.value, settings.language.value, settings.version,
    )  # fmt: skip
