"""Rows of patients: the words of their names, their identifiers, and who was found to be whom.

A merge re-points no row: `patient.merged_into_id` names the survivor, and every reader asks for all records of the
person (`persons`, `patients.of_persons`). The rows of `patient_merge` are the edges between two records, in force until
one of them undoes it; `merged_into_id` is what follows from them, never a record that is merged itself.

Every function works in the caller's transaction; what may be written, and when, is decided in `flow.people`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from asyncpg import Record

from interface.domain.model import Sex
from interface.domain.names import index_words
from interface.domain.views import Actor, IdentifierView
from interface.errors import StoreUnavailable
from interface.store.db import Connection
from interface.store.ids import uuid7


@dataclass(frozen=True, slots=True)
class PatientRow:
    """A patient as far as writing needs it."""

    id: UUID
    family: str
    given: str
    birth_date: date | None
    sex: Sex
    birth_at: datetime | None = None
    active: bool = True
    version: int = 1
    merged_into: UUID | None = None

    @property
    def survivor(self) -> UUID:
        return self.merged_into or self.id


@dataclass(frozen=True, slots=True)
class Edge:
    """A merge that is in force."""

    id: UUID
    prior: UUID
    survivor: UUID


_ROW = "select p.id, p.family, p.given, p.birth_date, p.sex, p.birth_at, p.active, p.version, p.merged_into_id"


def _row(row: Record) -> PatientRow:
    return PatientRow(
        row["id"],
        row["family"],
        row["given"],
        row["birth_date"],
        Sex(row["sex"]),
        row["birth_at"],
        row["active"],
        row["version"],
        row["merged_into_id"],
    )


# ---- the records of one person ---------------------------------------------------------------------------------------

# Key by key, so that the indexes are followed whatever the planner knows of a table that has just grown.
_PERSONS = """
select asked.id as asked, m.id, m.survivor
from unnest($1::uuid[]) as k (id)
cross join lateral (
    select p.id, coalesce(p.merged_into_id, p.id) as root from lab.patient p where p.id = k.id offset 0) asked
cross join lateral (
    select s.id, true as survivor from lab.patient s where s.id = asked.root
    union all
    select p.id, false from lab.patient p where p.merged_into_id = asked.root) m
"""
_LOCK = f"""
select p.id from (select distinct s.id from ({_PERSONS}) s order by s.id) k
cross join lateral (select l.id from lab.patient l where l.id = k.id for update) p
"""  # noqa: S608
_CARRIED = f"""
select s.asked, i.authority, i.value, i.type from ({_PERSONS}) s
cross join lateral (
    select i.id, i.authority, i.value, i.type from lab.patient_identifier i
    where i.patient_id = s.id and i.ended_at is null offset 0) i
order by i.id
"""  # noqa: S608


async def persons(connection: Connection, patient_ids: Iterable[UUID]) -> dict[UUID, tuple[UUID, ...]]:
    """Of each patient the ids of all records of the same person, the survivor's first. Unknown ones are left out."""
    found: dict[UUID, tuple[UUID, ...]] = {}
    for row in await connection.fetch(f"{_PERSONS} order by m.survivor desc, m.id", list(set(patient_ids))):
        found[row["asked"]] = (*found.get(row["asked"], ()), row["id"])
    return found


async def lock_persons(connection: Connection, patient_ids: Iterable[UUID]) -> dict[UUID, tuple[UUID, ...]]:
    """`persons`, every record of them locked in id order until the transaction ends: nobody merges them meanwhile, and
    two that decide on records of one person do so one after the other.

    Raises StoreUnavailable when they were merged in the same moment: begin again.
    """
    asked = set(patient_ids)
    locked = await lock_records(connection, asked)
    found = await persons(connection, asked)  # a statement of its own: it sees what the lock has waited for
    if {id for ids in found.values() for id in ids} - locked:
        raise merged_now()
    return found


async def lock_records(connection: Connection, patient_ids: Iterable[UUID]) -> set[UUID]:
    """The locks of `lock_persons` and the ids of what is locked: who reads the persons then asks whether all their
    records are."""
    return {row["id"] for row in await connection.fetch(_LOCK, list(set(patient_ids)))}


def merged_now() -> StoreUnavailable:
    """What to raise when a record of a person is not among the locked ones."""
    return StoreUnavailable("patients were merged at the same moment")


async def identifiers(connection: Connection, patient_ids: Iterable[UUID]) -> dict[UUID, tuple[IdentifierView, ...]]:
    """Of each patient the identifiers that have not ended, of all records of the person. Without any, left out."""
    found: dict[UUID, tuple[IdentifierView, ...]] = {}
    for row in await connection.fetch(_CARRIED, list(set(patient_ids))):
        carried = IdentifierView(row["authority"], row["value"], row["type"])
        found[row["asked"]] = (*found.get(row["asked"], ()), carried)
    return found


async def find_rows(connection: Connection, patient_ids: Iterable[UUID], lock: bool = False) -> list[PatientRow]:
    """These patients in id order; `lock`: until the transaction ends."""
    text = " ".join(
        (_ROW, "from lab.patient p where p.id = any($1::uuid[]) order by p.id", "for update" if lock else "")
    )
    return [_row(row) for row in await connection.fetch(text, list(patient_ids))]


async def find_by_identifiers(connection: Connection, identifiers: Sequence[IdentifierView]) -> list[PatientRow]:
    """The patients that carry any of the identifiers (authority and value), as they are: perhaps merged into others."""
    rows = await connection.fetch(
        " ".join(
            (
                _ROW,
                """from lab.patient p where p.id in (
                       select i.patient_id from unnest($1::text[], $2::text[]) as wanted (authority, value)
                       join lab.patient_identifier i on i.authority = wanted.authority and i.value = wanted.value
                       where i.ended_at is null) order by p.id""",
            )
        ),
        [identifier.authority for identifier in identifiers],
        [identifier.value for identifier in identifiers],
    )
    return [_row(row) for row in rows]


# ---- writing ---------------------------------------------------------------------------------------------------------


async def lock_merging(connection: Connection, organization_id: UUID, *, share: bool = False) -> None:
    """Let one transaction at a time merge or unmerge patients of an organization. `share`: keep them out."""
    function = "pg_advisory_xact_lock_shared" if share else "pg_advisory_xact_lock"
    await connection.execute(f"select {function}(hashtextextended('labora.merge.' || $1, 0))", str(organization_id))


async def insert_patient(
    connection: Connection,
    organization_id: UUID,
    family: str,
    given: str,
    birth_date: date | None,
    sex: Sex,
    identifiers: Sequence[IdentifierView],
    birth_at: datetime | None = None,
) -> UUID:
    """Raises asyncpg.UniqueViolationError when a patient carries one of the identifiers."""
    patient_id = uuid7()
    await connection.execute(
        "insert into lab.patient (id, organization_id, family, given, birth_date, sex, birth_at)"
        " values ($1, $2, $3, $4, $5, $6, $7)",
        patient_id, organization_id, family, given, birth_date, sex, birth_at,
    )  # fmt: skip
    await write_words(connection, organization_id, patient_id, family, given)
    await add_identifiers(connection, organization_id, patient_id, identifiers)
    return patient_id


async def update_patient(connection: Connection, organization_id: UUID, row: PatientRow) -> None:
    """What the row says now, as its next version; with the words of its name."""
    await connection.execute(
        "update lab.patient set family = $2, given = $3, birth_date = $4, sex = $5, birth_at = $6, active = $7,"
        " version = version + 1, updated_at = now() where id = $1",
        row.id, row.family, row.given, row.birth_date, row.sex, row.birth_at, row.active,
    )  # fmt: skip
    await write_words(connection, organization_id, row.id, row.family, row.given)


async def touch(connection: Connection, patient_ids: Iterable[UUID]) -> None:
    """A new version of the patients: what is shown with them has changed."""
    await connection.execute(
        "update lab.patient set version = version + 1, updated_at = now() where id = any($1::uuid[])", list(patient_ids)
    )


async def write_words(connection: Connection, organization_id: UUID, patient_id: UUID, family: str, given: str) -> None:
    """The words by which the patient is found, in place of those there are."""
    wanted = [(part, word) for part, name in (("family", family), ("given", given)) for word in index_words(name)]
    await connection.execute(
        """
        with wanted as (select * from unnest($3::text[], $4::text[]) as w (part, word)), gone as (
            delete from lab.patient_word w
            where w.patient_id = $2
              and not exists (select from wanted where (wanted.part, wanted.word) = (w.part, w.word))
        )
        insert into lab.patient_word (organization_id, patient_id, part, word) select $1, $2, part, word from wanted
        on conflict do nothing
        """,
        organization_id, patient_id, [part for part, _ in wanted], [word for _, word in wanted],
    )  # fmt: skip


async def add_identifiers(
    connection: Connection, organization_id: UUID, patient_id: UUID, identifiers: Sequence[IdentifierView]
) -> None:
    """Raises asyncpg.UniqueViolationError when a patient carries one of them."""
    await connection.execute(
        """
        insert into lab.patient_identifier (id, organization_id, patient_id, authority, value, type)
        select row.id, $1, $2, row.authority, row.value, row.type
        from unnest($3::uuid[], $4::text[], $5::text[], $6::text[]) as row (id, authority, value, type)
        """,
        organization_id,
        patient_id,
        [uuid7() for _ in identifiers],
        [identifier.authority for identifier in identifiers],
        [identifier.value for identifier in identifiers],
        [identifier.type for identifier in identifiers],
    )


async def end_identifier(connection: Connection, patient_id: UUID, authority: str, value: str) -> bool:
    """From now on it is nobody's. False when the patient does not carry it."""
    done = await connection.execute(
        "update lab.patient_identifier set ended_at = now()"
        " where patient_id = $1 and authority = $2 and value = $3 and ended_at is null",
        patient_id, authority, value,
    )  # fmt: skip
    return done.endswith(" 1")


# ---- merges ----------------------------------------------------------------------------------------------------------


async def edges(connection: Connection, patient_ids: Iterable[UUID]) -> list[Edge]:
    """The merges in force between these records."""
    rows = await connection.fetch(
        """
        select e.id, e.prior_id, e.survivor_id from lab.patient_merge e
        where e.prior_id = any($1::uuid[]) and e.undoes_id is null
          and not exists (select from lab.patient_merge u where u.undoes_id = e.id) order by e.id
        """,
        list(patient_ids),
    )
    return [Edge(*row) for row in rows]


async def was_unmerged(connection: Connection, prior: UUID, survivor: UUID) -> bool:
    """Whether the one was merged into the other, and that was taken back."""
    taken_back: bool = await connection.fetchval(
        "select exists (select from lab.patient_merge e join lab.patient_merge u on u.undoes_id = e.id"
        " where e.prior_id = $1 and e.survivor_id = $2)",
        prior, survivor,
    )  # fmt: skip
    return taken_back


async def write_merge(
    connection: Connection, actor: Actor, prior: UUID, survivor: UUID, reason: str, undoes: UUID | None = None
) -> UUID:
    merge_id = uuid7()
    await connection.execute(
        "insert into lab.patient_merge (id, organization_id, prior_id, survivor_id, undoes_id, reason, actor_kind,"
        " actor_id, actor_name) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        merge_id, actor.organization_id, prior, survivor, undoes, reason, actor.kind, actor.id, actor.name,
    )  # fmt: skip
    return merge_id


async def point(connection: Connection, survivors: Mapping[UUID, UUID | None]) -> None:
    """Which record is to be used in place of each of these; None: itself. A new version of each."""
    await connection.execute(
        """
        update lab.patient p set merged_into_id = s.survivor, version = version + 1, updated_at = now()
        from unnest($1::uuid[], $2::uuid[]) as s (id, survivor) where p.id = s.id
        """,
        list(survivors),
        list(survivors.values()),
    )


# ---- who may be the same ---------------------------------------------------------------------------------------------

MOST_CANDIDATES = 500

# Born on nearly the same day, or a word of either name in common, or a number; and of who has no birth date (or where
# none is asked for) one word of the family name. Each by an index; the comparing is `domain.duplicates`.
_CANDIDATES = """
with near as (
    select id from lab.patient where birth_date = any($1::date[])
    union
    select w.patient_id from lab.patient_word w where w.word = any($2::text[])
    group by w.patient_id having count(distinct w.part) = 2
    union
    select i.patient_id from lab.patient_identifier i where i.value = any($4::text[])
    union
    (select w.patient_id from lab.patient_word w join lab.patient p on p.id = w.patient_id
      where w.word = any($3::text[]) and w.part = 'family' and (p.birth_date is null or $1::date[] = '{}')
      limit $6)
)
select p.id from near join lab.patient p on p.id = near.id
where p.merged_into_id is null and p.id <> all($5::uuid[]) order by p.id desc limit $6
"""


async def candidates(
    connection: Connection,
    born: Iterable[date],
    names: Iterable[str],
    family: Iterable[str],
    numbers: Iterable[str],
    apart_from: Iterable[UUID],
) -> list[UUID]:
    """Patients in use that share something with a person, newest first, at most MOST_CANDIDATES."""
    rows = await connection.fetch(
        _CANDIDATES, list(born), list(names), list(family), list(numbers), list(apart_from), MOST_CANDIDATES
    )
    return [row["id"] for row in rows]


async def added_since(connection: Connection, since: datetime | None) -> list[UUID]:
    """Patients in use that were added since then, None for a week ago; newest first."""
    rows = await connection.fetch(
        "select id from lab.patient where merged_into_id is null"
        " and created_at >= coalesce($1, now() - interval '7 days') order by id desc",
        since,
    )
    return [row["id"] for row in rows]
