"""What a change of a laboratory's own records does: what is given replaces what was there, and the audit says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any
from uuid import UUID

from interface.domain.views import Actor
from interface.errors import ApiError
from interface.store import audit
from interface.store.db import Connection


def given(change: object, names: Iterable[str]) -> dict[str, Any]:
    """The fields of a change that say something; texts without spaces around them."""
    found = {name: getattr(change, name) for name in names if getattr(change, name) is not None}
    return {name: value.strip() if type(value) is str else value for name, value in found.items()}


def same_version(known: int | None, looked_at: int | None) -> None:
    """Raise ApiError 409 when somebody changed it since it was looked at; None: whatever it is at."""
    if looked_at is not None and looked_at != (known or 0):
        text = f"it is at version {known} now" if known else "there is none of this code"
        raise ApiError(409, "conflict", f"it has been changed: {text}")


def refuse(problems: Sequence[str]) -> None:
    """Raise ApiError 422 with all of them, if there are any."""
    if problems:
        raise ApiError(422, "value", "; ".join(dict.fromkeys(problems)))


async def record_change(
    connection: Connection,
    actor: Actor,
    kind: str,
    id: UUID | None,
    code: str,
    reason: str,
    before: object | None,
    after: Any,
) -> None:
    """The audit row: what was there before and what is there now, field by field."""
    changed = {}
    for name in (field.name for field in fields(after)):
        old, new = "" if before is None else _word(getattr(before, name)), _word(getattr(after, name))
        if old != new and name not in ("id", "test_id", "version", "code"):
            changed[name] = f"{old} → {new}"
    action = "create" if before is None else "update" if changed else "read"
    await audit.record(connection, actor, action, kind, id, {**changed, "code": code, "reason": reason})


def _word(value: object) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
