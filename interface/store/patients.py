"""Reads of patients, as `domain.views`. One that was merged into another stays and says so; see `store.people`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from asyncpg import Record

from interface.domain.model import Sex
from interface.domain.names import LAST_LETTER, search_words
from interface.domain.views import FormerIdentifier, IdentifierView, PatientView
from interface.store.db import Connection
from interface.store.query import FIRST_PAGE, Page, Query


@dataclass(frozen=True, slots=True)
class PatientFilter:
    """Which patients. `born_until` is exclusive.

    Of a name every word that is asked for must begin one of the patient's, in any order, without regard to case and
    accents; `name` looks at family and given names alike.
    """

    ids: tuple[UUID, ...] = ()
    identifier: str = ""  # one that has not ended
    authority: str | None = None  # of the identifier; None: any
    family: str = ""
    given: str = ""
    name: str = ""
    born_since: date | None = None
    born_until: date | None = None
    sex: Sex | None = None
    active: bool | None = None  # False also where merged into another
    page: Page = FIRST_PAGE


_PATIENTS = """
select p.id, p.version, p.updated_at, p.family, p.given, p.birth_date, p.birth_at, p.sex, p.active, p.merged_into_id,
       n.authorities, n.numbers, n.types, m.ids as replaces
from lab.patient p
left join lateral (
    select array_agg(i.authority order by i.id) as authorities, array_agg(i.value order by i.id) as numbers,
           array_agg(i.type order by i.id) as types
    from lab.patient_identifier i where i.patient_id = p.id and i.ended_at is null
) n on true
left join lateral (
    select array_agg(o.id order by o.id) as ids from lab.patient o where o.merged_into_id = p.id
) m on true
where
"""
_IDENTIFIER = """p.id in (
    select i.patient_id from lab.patient_identifier i
    where i.value = ? and (?::text is null or i.authority = ?::text) and i.ended_at is null)"""
_WORD = "p.id in (select w.patient_id from lab.patient_word w where ({words}){part})"


async def find_patients(connection: Connection, filter: PatientFilter) -> list[PatientView]:
    """A page of patients with all their identifiers."""
    query = _query(filter)
    end = query.page(filter.page, "p.updated_at", "p.id")
    rows = await connection.fetch(" ".join((_PATIENTS, query.conditions, end)), *query.values)
    return [_patient(row) for row in rows]


async def count_patients(connection: Connection, filter: PatientFilter) -> int:
    """How many patients `find_patients` would find on all its pages."""
    query = _query(filter)
    query.between("p.updated_at", filter.page.since, filter.page.until)
    text = " ".join(("select count(*) from lab.patient p where", query.conditions))
    count: int = await connection.fetchval(text, *query.values)
    return count


async def get_patient(connection: Connection, patient_id: UUID) -> PatientView | None:
    found = await find_patients(connection, PatientFilter(ids=(patient_id,)))
    return found[0] if found else None


async def former_identifiers(connection: Connection, patient_id: UUID) -> list[FormerIdentifier]:
    """The identifiers that a patient had once, the one that ended last first. For staff: one may be another's now."""
    rows = await connection.fetch(
        "select authority, value, type, ended_at from lab.patient_identifier"
        " where patient_id = $1 and ended_at is not null order by ended_at desc, id desc",
        patient_id,
    )
    return [FormerIdentifier(**dict(row.items())) for row in rows]


def persons(ids: str) -> str:
    """The array of these patients and of those that were merged into them; `ids`: an array too, as SQL.

    Who is of another laboratory, or of none, has no rows here: they need not be looked up themselves.
    """
    return f"{ids} || array(select e.id from lab.patient e where e.merged_into_id = any({ids}))"  # noqa: S608 - places


def of_persons(query: Query, column: str, patient_ids: Iterable[UUID]) -> None:
    """Ask for rows of these patients and of those that were merged into them, unless there are no patients."""
    if ids := list(patient_ids):
        query.where(f"{column} = any({persons(f'{query.bind(ids)}::uuid[]')})")


def _query(filter: PatientFilter) -> Query:
    query = Query()
    query.any("p.id = any(?::uuid[])", filter.ids)
    if filter.identifier:
        query.where(_IDENTIFIER, filter.identifier, filter.authority, filter.authority)
    for part, text in (("family", filter.family), ("given", filter.given), ("", filter.name)):
        if text:
            _named(query, part, search_words(text))
    if filter.sex is not None:
        query.where("p.sex = ?", filter.sex)
    if filter.active is not None:
        query.where("(p.active and p.merged_into_id is null) = ?", filter.active)
    query.between("p.birth_date", filter.born_since, filter.born_until)
    return query


def _named(query: Query, part: str, groups: Sequence[Sequence[str]]) -> None:
    """Comparisons that an index serves under row-level security; see the table `patient_word`."""
    if not groups:
        query.where("false")  # nothing that a name could begin with
    for group in groups:
        values: list[str] = []
        for word in group:
            values += (word, word + LAST_LETTER)
        words = " or ".join("w.word >= ? and w.word < ?" for _ in group)
        ending = " and w.part = ?" if part else ""
        query.where(_WORD.format(words=words, part=ending), *values, *([part] if part else []))


def _patient(row: Record) -> PatientView:
    parts = zip(row["authorities"] or (), row["numbers"] or (), row["types"] or (), strict=True)
    return PatientView(
        id=row["id"],
        version=row["version"],
        updated_at=row["updated_at"],
        identifiers=tuple(IdentifierView(authority, value, type) for authority, value, type in parts),
        family=row["family"],
        given=row["given"],
        birth_date=row["birth_date"],
        sex=Sex(row["sex"]),
        active=row["active"],
        birth_at=row["birth_at"],
        merged_into=row["merged_into_id"],
        replaces=tuple(row["replaces"] or ()),
    )
