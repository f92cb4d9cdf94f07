"""Legal holds: while one stands, nothing of what it names is deleted by retention (`store.retention`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from interface.domain.views import Actor
from interface.store.db import Connection
from interface.store.ids import uuid7


class HoldKind(StrEnum):
    """What is held."""

    ORGANIZATION = "organization"
    PATIENT = "patient"
    ORDER = "order"


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold that stands. `subject`: the number of the order; the id of the patient or the organization."""

    id: UUID
    kind: HoldKind
    subject: str
    reason: str
    by: str
    since: datetime


async def insert(connection: Connection, actor: Actor, kind: HoldKind, subject_id: UUID, reason: str) -> UUID:
    """A new hold's id, or that of the one that stands already."""
    made: UUID | None = await connection.fetchval(
        """insert into lab.legal_hold (id, organization_id, kind, subject_id, reason, actor_kind, actor_id, actor_name)
           values ($1, $2, $3, $4, $5, $6, $7, $8)
           on conflict (organization_id, kind, subject_id) where ended_at is null do nothing returning id""",
        uuid7(), actor.organization_id, kind.value, subject_id, reason, actor.kind.value, actor.id, actor.name,
    )  # fmt: skip
    if made is None:
        found: UUID = await connection.fetchval(
            "select id from lab.legal_hold where kind = $1 and subject_id = $2 and ended_at is null",
            kind.value, subject_id,
        )  # fmt: skip
        return found
    return made


async def end(connection: Connection, actor: Actor, id: UUID, reason: str) -> bool:
    """Whether there was one that stood."""
    row = await connection.fetchval(
        """update lab.legal_hold set ended_at = now(), ended_by = $2, ended_by_name = $3, end_reason = $4
            where id = $1 and ended_at is null returning id""",
        id, actor.id, actor.name, reason,
    )  # fmt: skip
    return row is not None


async def standing(connection: Connection) -> list[Hold]:
    """Every hold that stands, the oldest first."""
    rows = await connection.fetch(
        """select h.id, h.kind, coalesce(o.number, h.subject_id::text) as subject, h.reason, h.actor_name, h.created_at
             from lab.legal_hold h left join lab.lab_order o on h.kind = 'order' and o.id = h.subject_id
            where h.ended_at is null order by h.id"""
    )
    return [
        Hold(row["id"], HoldKind(row["kind"]), row["subject"], row["reason"], row["actor_name"], row["created_at"])
        for row in rows
    ]


async def subject(connection: Connection, kind: HoldKind, name: str, organization_id: UUID) -> UUID | None:
    """The id of what a person names: a patient's id, an order's number or id; nothing of an organization."""
    if kind is HoldKind.ORGANIZATION:
        return organization_id
    column = "p.id::text" if kind is HoldKind.PATIENT else "o.number"
    table = "lab.patient p" if kind is HoldKind.PATIENT else "lab.lab_order o"
    alias = "p" if kind is HoldKind.PATIENT else "o"
    found: UUID | None = await connection.fetchval(f"select {alias}.id from {table} where {column} = $1", name)  # noqa: S608
    return found
