"""Who orders: added, changed, not working here any more. In the caller's transaction, with its audit row.

Raises OrderError for what is wrong with one, ApiError 403, 404 and 409.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from interface.domain.permissions import Permission
from interface.domain.views import Actor, IdentifierView, ProviderView
from interface.errors import ApiError
from interface.flow.actors import require
from interface.flow.problems import OrderError, identifier_problems, text_problems
from interface.store import audit, lab_changes, practitioners
from interface.store.db import Connection


@dataclass(frozen=True, slots=True)
class NewProvider:
    """Somebody with at least a family name or an identifier. `role`: in the laboratory's own words."""

    identifiers: tuple[IdentifierView, ...] = ()
    family: str = ""
    given: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class ProviderChange:
    """What is to be said from now on; None leaves it. `identifiers` are all of them: those left out end."""

    identifiers: tuple[IdentifierView, ...] | None = None
    family: str | None = None
    given: str | None = None
    role: str | None = None
    active: bool | None = None


async def create_provider(connection: Connection, actor: Actor, provider: NewProvider) -> ProviderView:
    """Add somebody. Refused when one of the identifiers is somebody's already."""
    require(actor, Permission.PROVIDER_WRITE)
    _check(provider.identifiers, provider.family, provider.given, provider.role)
    await lab_changes.lock_orders(connection, actor.organization_id)  # an order may add its requester
    if await practitioners.carriers(connection, provider.identifiers):
        raise OrderError(["somebody with one of these identifiers exists already"], conflict=True)
    provider_id = await practitioners.insert_provider(
        connection, actor.organization_id, provider.family.strip(), provider.given.strip(), provider.role.strip(),
        provider.identifiers,
    )  # fmt: skip
    await audit.record(connection, actor, "create", "provider", provider_id)
    return await _view(connection, provider_id)


async def update_provider(
    connection: Connection, actor: Actor, provider_id: UUID, change: ProviderChange, version: int
) -> ProviderView:
    """Change what is said of somebody; `version` is the one the change was made from."""
    require(actor, Permission.PROVIDER_WRITE)
    await lab_changes.lock_orders(connection, actor.organization_id)
    known = await practitioners.lock_provider(connection, provider_id)
    if known is None:
        raise ApiError(404, "not-found", "there is no provider of this id")
    if version != known.version:
        raise ApiError(409, "conflict", f"the provider has been changed: it is at version {known.version} now")
    given = {name: value for name in ("family", "given", "role") if (value := getattr(change, name)) is not None}
    new = replace(
        known,
        active=known.active if change.active is None else change.active,
        identifiers=known.identifiers if change.identifiers is None else change.identifiers,
        **{name: value.strip() for name, value in given.items()},
    )
    if new == known:
        await audit.record(connection, actor, "read", "provider", provider_id, {"by": "update"})
        return known
    _check(new.identifiers, new.family, new.given, new.role)
    pairs = {(each.authority, each.value) for each in known.identifiers}
    added = [each for each in new.identifiers if (each.authority, each.value) not in pairs]
    kept = {(each.authority, each.value) for each in new.identifiers}
    ended = [each for each in known.identifiers if (each.authority, each.value) not in kept]
    if await practitioners.carriers(connection, added):
        raise OrderError(["somebody with one of these identifiers exists already"], conflict=True)
    await practitioners.end_identifiers(connection, provider_id, ended)
    await practitioners.add_identifiers(connection, actor.organization_id, provider_id, added)
    await practitioners.update_provider(connection, new)
    fields = ("family", "given", "role", "active", "identifiers")
    detail = {
        name: f"{_text(getattr(known, name))} → {_text(getattr(new, name))}"
        for name in fields
        if getattr(known, name) != getattr(new, name)
    }
    await audit.record(connection, actor, "update", "provider", provider_id, detail)
    return await _view(connection, provider_id)


def _check(identifiers: Sequence[IdentifierView], family: str, given: str, role: str) -> None:
    problems = list(identifier_problems("provider", identifiers))
    if not identifiers and not family.strip():
        problems.append("a provider needs an identifier or a family name")
    for name, text in (("family name", family), ("given name", given), ("role", role)):
        problems += text_problems(name, text)
    if problems:
        raise OrderError(problems)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(f"{each.authority}|{each.value}" for each in value)
    return str(value)


async def _view(connection: Connection, provider_id: UUID) -> ProviderView:
    view = await practitioners.get_provider(connection, provider_id)
    if view is None:
        raise ApiError(404, "not-found", "there is no provider of this id")
    return view
