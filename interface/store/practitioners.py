"""Who orders: doctors and others, with their identifiers. A laboratory has some thousands of them at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from asyncpg import Record

from interface.domain.views import IdentifierView, ProviderView
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.query import FIRST_PAGE, Page, Query


@dataclass(frozen=True, slots=True)
class ProviderFilter:
    """Which. `name`: the beginning of the family or the given name, without regard to case."""

    ids: tuple[UUID, ...] = ()
    identifier: str = ""  # one that has not ended
    authority: str | None = None
    name: str = ""
    active: bool | None = None
    page: Page = FIRST_PAGE


_PROVIDERS = """
select p.id, p.version, p.updated_at, p.family, p.given, p.role, p.active, n.authorities, n.numbers, n.types
from lab.practitioner p
left join lateral (
    select array_agg(i.authority order by i.id) as authorities, array_agg(i.value order by i.id) as numbers,
           array_agg(i.type order by i.id) as types
    from lab.practitioner_identifier i where i.practitioner_id = p.id and i.ended_at is null
) n on true
where
"""
_IDENTIFIER = """p.id in (
    select i.practitioner_id from lab.practitioner_identifier i
    where i.value = ? and (?::text is null or i.authority = ?::text) and i.ended_at is null)"""


async def find_providers(connection: Connection, filter: ProviderFilter) -> list[ProviderView]:
    """A page of them with all their identifiers."""
    query = Query()
    query.any("p.id = any(?::uuid[])", filter.ids)
    if filter.identifier:
        query.where(_IDENTIFIER, filter.identifier, filter.authority, filter.authority)
    if filter.name:
        query.where(
            "(starts_with(lower(p.family), lower(?)) or starts_with(lower(p.given), lower(?)))", *(filter.name,) * 2
        )
    if filter.active is not None:
        query.where("p.active = ?", filter.active)
    end = query.page(filter.page, "p.updated_at", "p.id")
    rows = await connection.fetch(" ".join((_PROVIDERS, query.conditions, end)), *query.values)
    return [_provider(row) for row in rows]


async def get_provider(connection: Connection, provider_id: UUID) -> ProviderView | None:
    found = await find_providers(connection, ProviderFilter(ids=(provider_id,)))
    return found[0] if found else None


async def lock_provider(connection: Connection, provider_id: UUID) -> ProviderView | None:
    """As it is, and nobody else changes it until the transaction ends."""
    await connection.execute("select from lab.practitioner where id = $1 for update", provider_id)
    return await get_provider(connection, provider_id)


async def carriers(connection: Connection, identifiers: Sequence[IdentifierView]) -> set[UUID]:
    """Who carries any of the identifiers."""
    rows = await connection.fetch(
        """
        select i.practitioner_id from unnest($1::text[], $2::text[]) as wanted (authority, value)
        join lab.practitioner_identifier i on i.authority = wanted.authority and i.value = wanted.value
        where i.ended_at is null
        """,
        [identifier.authority for identifier in identifiers],
        [identifier.value for identifier in identifiers],
    )
    return {row["practitioner_id"] for row in rows}


async def insert_provider(
    connection: Connection,
    organization_id: UUID,
    family: str,
    given: str,
    role: str,
    identifiers: Sequence[IdentifierView],
) -> UUID:
    """Raises asyncpg.UniqueViolationError when somebody carries one of the identifiers."""
    provider_id = uuid7()
    await connection.execute(
        "insert into lab.practitioner (id, organization_id, family, given, role) values ($1, $2, $3, $4, $5)",
        provider_id, organization_id, family, given, role,
    )  # fmt: skip
    await add_identifiers(connection, organization_id, provider_id, identifiers)
    return provider_id


async def update_provider(connection: Connection, view: ProviderView) -> None:
    """What the view says, as the next version; its identifiers are changed by themselves."""
    await connection.execute(
        "update lab.practitioner set family = $2, given = $3, role = $4, active = $5, version = version + 1,"
        " updated_at = now() where id = $1",
        view.id, view.family, view.given, view.role, view.active,
    )  # fmt: skip


async def add_identifiers(
    connection: Connection, organization_id: UUID, provider_id: UUID, identifiers: Sequence[IdentifierView]
) -> None:
    await connection.executemany(
        "insert into lab.practitioner_identifier (id, organization_id, practitioner_id, authority, value, type)"
        " values ($1, $2, $3, $4, $5, $6)",
        [(uuid7(), organization_id, provider_id, each.authority, each.value, each.type) for each in identifiers],
    )


async def end_identifiers(connection: Connection, provider_id: UUID, identifiers: Sequence[IdentifierView]) -> None:
    await connection.executemany(
        "update lab.practitioner_identifier set ended_at = now()"
        " where practitioner_id = $1 and authority = $2 and value = $3 and ended_at is null",
        [(provider_id, each.authority, each.value) for each in identifiers],
    )


def _provider(row: Record) -> ProviderView:
    parts = zip(row["authorities"] or (), row["numbers"] or (), row["types"] or (), strict=True)
    return ProviderView(
        id=row["id"],
        version=row["version"],
        updated_at=row["updated_at"],
        identifiers=tuple(IdentifierView(authority, value, type) for authority, value, type in parts),
        family=row["family"],
        given=row["given"],
        role=row["role"],
        active=row["active"],
    )
