"""Who may have something kept beyond its time, and end that; both are in the audit trail."""

from __future__ import annotations

from uuid import UUID

from interface.domain.permissions import Permission
from interface.domain.review import Refusal, ReviewError
from interface.domain.views import Actor
from interface.flow.actors import may
from interface.store import audit, holds
from interface.store.db import Connection
from interface.store.holds import HoldKind


def _allowed(actor: Actor) -> None:
    if not may(actor, Permission.HOLD_WRITE):
        raise ReviewError(
            Refusal.FORBIDDEN, f"only a user with the permission {Permission.HOLD_WRITE} may say what is kept"
        )


async def add(connection: Connection, actor: Actor, kind: HoldKind, name: str, reason: str) -> UUID:
    """Keep everything of an organization, a patient (by id) or an order (by number). Raises ReviewError."""
    _allowed(actor)
    if not reason.strip():
        raise ReviewError(Refusal.INVALID, "a hold has a reason")
    subject_id = await holds.subject(connection, kind, name, actor.organization_id)
    if subject_id is None:
        raise ReviewError(Refusal.NOT_FOUND, f"there is no such {kind.value}")
    made = await holds.insert(connection, actor, kind, subject_id, reason.strip())
    await audit.record(connection, actor, "create", "legal_hold", made, {"kind": kind.value, "of": str(subject_id)})
    return made


async def remove(connection: Connection, actor: Actor, id: UUID, reason: str) -> None:
    """End a hold: what it kept is deleted with the next retention, if it is old enough. Raises ReviewError."""
    _allowed(actor)
    if not reason.strip():
        raise ReviewError(Refusal.INVALID, "ending a hold has a reason")
    if not await holds.end(connection, actor, id, reason.strip()):
        raise ReviewError(Refusal.NOT_FOUND, "no such hold stands")
    await audit.record(connection, actor, "end", "legal_hold", id, {"reason": reason.strip()})
