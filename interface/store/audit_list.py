"""Looking something up in the audit trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from interface.store.db import Connection
from interface.store.ids import uuid7_floor
from interface.store.query import Query


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What is empty is not asked for. `entity_ids`: a patient's id also finds whom their data went to, but
    not the exports of all patients, which are audited as one."""

    since: datetime | None = None
    until: datetime | None = None
    actors: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    entity_ids: tuple[UUID, ...] = ()
    request: str = ""  # all rows of one request have its id
    limit: int = 100


@dataclass(frozen=True, slots=True)
class AuditRow:
    id: UUID
    at: datetime
    actor_kind: str
    actor_id: UUID | None
    actor_name: str
    action: str
    entity_kind: str
    entity_id: UUID | None
    address: str
    outcome: str
    detail: Mapping[str, object]


async def find(connection: Connection, filter: AuditFilter) -> list[AuditRow]:
    """The newest rows of the connection's organization that are asked for, the newest first."""
    query = Query()
    query.between("at", filter.since, filter.until)
    if filter.since is not None:  # ids are of their time: months before it need not be looked at
        query.where("id >= ?", uuid7_floor(filter.since))
    for column, wanted in (
        ("actor_name", filter.actors), ("action", filter.actions), ("entity_kind", filter.kinds),
        ("outcome", filter.outcomes), ("address", filter.addresses), ("entity_id", filter.entity_ids),
    ):  # fmt: skip
        query.any(f"{column} = any(?)", wanted)
    if filter.request:
        query.where("detail ->> 'request' = ?", filter.request)
    rows = await connection.fetch(
        "select id, at, actor_kind, actor_id, actor_name, action, entity_kind, entity_id, address, outcome, detail"  # noqa: S608
        f" from lab.audit_event where {query.conditions} order by at desc, id desc limit {query.bind(filter.limit)}",
        *query.values,
    )
    return [AuditRow(**row) for row in rows]
