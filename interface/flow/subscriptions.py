"""Subscriptions as EMRs make them and as people of the laboratory see to them. FHIR, REST and CLI share it.

A client makes its own and sees no other's. What it may be told is bounded twice: by the scopes of the token it was made
with, and by those that the client has when it is told. A person may look, resume and switch off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import parse_qsl
from uuid import UUID

from interface.domain.permissions import Permission, granted, parse_scopes, restrictions
from interface.domain.subscription import MOST_HEADERS, MOST_OF_A_CLIENT, PAYLOADS, SWITCHED_OFF, Status, read_header
from interface.domain.views import Actor, ActorKind
from interface.errors import ApiError, Issue
from interface.flow import actors
from interface.flow.hooks import Hooks
from interface.store import audit, changes
from interface.store import subscriptions as rows
from interface.store.db import Connection
from interface.store.subscriptions import LetterView, NewSubscription, SubscriptionView

Parameters = tuple[tuple[str, str], ...]
MOST_CRITERIA_CHARACTERS, MOST_FIELDS = 2000, 50
HIDDEN = "***"
BY_LABORATORY = f"{SWITCHED_OFF}the laboratory: "  # begins the error of one that only a person turns on again


class Found(Protocol):
    """A resource as the audience may see it now."""

    @property
    def resource(self) -> dict[str, Any]: ...
    @property
    def patient_id(self) -> UUID | None: ...


class Reading(Protocol):
    """Reads resources as an EMR would by search (`api.fhir.reading`): flow knows nothing of FHIR."""

    def of(self, scopes: Iterable[str]) -> Reading:
        """The same for a client with these scopes."""
        ...

    def check(self, type: str, parameters: Parameters) -> None:
        """Raise ApiError for criteria that cannot be searched by."""

    async def among(
        self,
        connection: Connection,
        type: str,
        ids: Sequence[UUID],
        parameters: Parameters,
        within: Sequence[Parameters],
    ) -> Mapping[UUID, Found]:
        """Those of `ids` that meet the parameters and one of `within`, and are seen."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What an EMR asks for. `status`: requested, active, or off."""

    status: str
    criteria: str
    endpoint: str
    payload: str = ""
    headers: tuple[str, ...] = ()
    reason: str = ""
    ends_at: datetime | None = None


def read_criteria(text: str) -> tuple[str, Parameters]:
    """`Observation?code=…`: the type, and the search parameters in order. Raises ApiError 400 for too many."""
    type, _, query = text.partition("?")
    try:
        return type, tuple(parse_qsl(query, keep_blank_values=False, max_num_fields=MOST_FIELDS)) if query else ()
    except ValueError:
        raise ApiError(400, "too-costly", f"criteria have at most {MOST_FIELDS} parameters") from None


def scopes_of(view: SubscriptionView) -> tuple[str, ...]:
    """What it was made with, as far as its client has it now."""
    try:
        return tuple(map(str, granted(parse_scopes(view.scopes), parse_scopes(view.client_scopes))))
    except ValueError:  # a scope of an earlier program
        return ()


def within(scopes: Iterable[str], type: str) -> tuple[Parameters, ...]:
    """The queries of which what is told must meet one; none: nothing may be told."""
    return tuple(one.parameters for one in restrictions(scopes, type, "r"))


# ---- the EMR's own --------------------------------------------------------------------------------------------------


async def create(
    connection: Connection, actor: Actor, asked: Asked, hooks: Hooks, reading: Reading
) -> SubscriptionView:
    """A subscription that is told of what is committed from now on. Raises ApiError 403, 409 (too many), 422."""
    new = _checked(actor, asked, hooks, reading)
    assert actor.id is not None  # noqa: S101 - a client has one
    if asked.status == "off":
        raise ApiError(422, "value", "a subscription begins as requested")
    if await rows.live(connection, actor.id) >= MOST_OF_A_CLIENT:
        raise ApiError(409, "too-costly", f"a client has at most {MOST_OF_A_CLIENT} subscriptions that are not off")
    view = await rows.insert(connection, actor.organization_id, new, await changes.last_position(connection))
    await audit.record(connection, actor, "create", "subscription", view.id, _told(new))
    return view


async def update(
    connection: Connection,
    actor: Actor,
    id: UUID,
    asked: Asked,
    hooks: Hooks,
    reading: Reading,
    version: int | None = None,
) -> SubscriptionView:
    """What the EMR says anew; `off` ends the telling and keeps the place. Raises ApiError 403, 404, 409 (a person of
    the laboratory switched it off), 410, 412, 422."""
    before = await own(connection, actor, id, lock=True)
    if version is not None and version != before.version:
        raise ApiError(412, "conflict", f"it is at version {before.version} now")
    if before.status is Status.OFF and before.error.startswith(BY_LABORATORY):
        raise ApiError(409, "conflict", f"{before.error}; the laboratory resumes it")
    if asked.status == "off":
        await rows.set_status(connection, id, Status.OFF, f"{SWITCHED_OFF}its client")
        await audit.record(connection, actor, "off", "subscription", id)
        return await own(connection, actor, id)
    # What a reader is not shown it cannot send back: a header without its value stays as it is, for the same endpoint.
    if asked.endpoint == before.endpoint:
        known = {masked(one): one for one in before.headers}
        asked = replace(asked, headers=tuple(known.get(one, one) for one in asked.headers))
    new = _checked(actor, asked, hooks, reading)
    same = (new.resource, new.criteria) == (before.resource, before.criteria)
    await rows.replace(connection, id, new, None if same else await changes.last_position(connection))
    await audit.record(connection, actor, "update", "subscription", id, _told(new))
    return await own(connection, actor, id)


async def delete(connection: Connection, actor: Actor, id: UUID) -> None:
    """Once is enough; again does nothing. Raises ApiError 404 for what never was the client's."""
    if await rows.deleted(connection, id, actor.id or id):
        return
    await own(connection, actor, id, lock=True)
    await rows.end(connection, id)
    await audit.record(connection, actor, "delete", "subscription", id)


async def own(connection: Connection, actor: Actor, id: UUID, *, lock: bool = False) -> SubscriptionView:
    """The client's subscription. Raises ApiError 404, 410 where it was deleted."""
    view = await rows.find(connection, id, lock=lock)
    if view is None or view.client_id != actor.id:
        if actor.id is not None and await rows.deleted(connection, id, actor.id):
            raise ApiError(410, "deleted", "it was deleted")
        raise ApiError(404, "not-found", "there is no Subscription of this id")
    return view


def masked(header: str) -> str:
    """A header as it is shown: its value is a secret, more often than not."""
    return f"{header.partition(':')[0]}: {HIDDEN}"


def _checked(actor: Actor, asked: Asked, hooks: Hooks, reading: Reading) -> NewSubscription:
    """Raises ApiError 403 for a type that may not be read, 422 with everything else that is wrong."""
    issues: list[Issue] = []
    type, parameters = read_criteria(asked.criteria)
    if type not in changes.FOLLOWED or len(asked.criteria) > MOST_CRITERIA_CHARACTERS:
        text = f"Subscription.criteria is a search of one of {', '.join(changes.FOLLOWED)}"
        issues.append(Issue(text, "Subscription.criteria", "not-supported"))
    elif not restrictions(actor.scopes, type, "r"):
        raise ApiError(403, "forbidden", f"this needs the scope system/{type}.r")
    else:
        try:
            reading.of(actor.scopes).check(type, parameters)
        except ApiError as error:
            issues.append(Issue(f"Subscription.criteria: {error}", "Subscription.criteria", error.code))
    try:
        endpoint = str(hooks.check(asked.endpoint))
    except ValueError as error:
        endpoint = ""
        issues.append(Issue(f"Subscription.channel.endpoint {error}", "Subscription.channel.endpoint"))
    if asked.payload not in PAYLOADS:
        issues.append(Issue("Subscription.channel.payload is application/fhir+json, or nothing",
                            "Subscription.channel.payload", "not-supported"))  # fmt: skip
    for place, header in enumerate(asked.headers[: MOST_HEADERS + 1]):
        at = f"Subscription.channel.header[{place}]"
        try:
            if read_header(header)[1] == HIDDEN:
                raise ValueError("has no value: say it again")
        except ValueError as error:
            issues.append(Issue(f"{at} {error}", at))
    if len(asked.headers) > MOST_HEADERS:
        issues.append(Issue(f"at most {MOST_HEADERS} headers are sent", "Subscription.channel.header", "too-costly"))
    if asked.status not in ("requested", "active", "off"):
        issues.append(Issue("Subscription.status is requested, or off", "Subscription.status"))
    if issues:
        raise ApiError(422, issues[0].code, "; ".join(one.text for one in issues), tuple(issues))
    assert actor.id is not None  # noqa: S101 - a client has one
    return NewSubscription(
        actor.id, type, asked.criteria, endpoint, asked.payload, asked.headers, asked.reason[:500], asked.ends_at,
        tuple(sorted(actor.scopes)),
    )  # fmt: skip


def _told(new: NewSubscription) -> dict[str, str]:
    return {"criteria": new.criteria, "endpoint": new.endpoint, "payload": new.payload or "none"}


# ---- the laboratory's people ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shown:
    """A subscription for the laboratory's people. `behind`: rows of the feed that it has not been told or passed over;
    `letters`: what its endpoint refused."""

    id: UUID
    client: str
    status: Status
    criteria: str
    endpoint: str
    payload: str
    error: str
    attempts: int
    due_at: datetime
    behind: int
    letters: int
    sent: int
    sent_at: datetime | None
    ends_at: datetime | None
    created_at: datetime


async def listed(connection: Connection, actor: Actor) -> list[Shown]:
    """Every subscription of the organization. Raises ApiError 403."""
    _may_look(actor)
    await audit.record(connection, actor, "search", "subscription")
    end = await changes.last_position(connection)
    return [await _shown(connection, view, end) for view in await rows.all_of(connection)]


async def shown(connection: Connection, actor: Actor, id: UUID) -> tuple[Shown, list[LetterView]]:
    """One, with its letters. Raises ApiError 403, 404."""
    _may_look(actor)
    view = await _any(connection, id)
    await audit.record(connection, actor, "read", "subscription", id)
    end = await changes.last_position(connection)
    return await _shown(connection, view, end), await rows.letters(connection, id)


async def resume(connection: Connection, actor: Actor, id: UUID, *, letters: bool = False) -> Shown:
    """Go on at once from where it is; `letters`: with what was refused, first. Raises ApiError 403, 404."""
    actors.require(actor, Permission.CLIENT_WRITE)
    await _any(connection, id, lock=True)
    await rows.set_status(connection, id, Status.ACTIVE)
    again = await rows.send_again(connection, id) if letters else 0
    await audit.record(connection, actor, "resume", "subscription", id, {"letters": str(again)})
    return await _shown(connection, await _any(connection, id), await changes.last_position(connection))


async def switch_off(connection: Connection, actor: Actor, id: UUID, reason: str) -> Shown:
    """Tell it nothing more; its place is kept. Raises ApiError 403, 404, 422 (no reason)."""
    actors.require(actor, Permission.CLIENT_WRITE)
    if not reason.strip():
        raise ApiError(422, "required", "switching a subscription off needs a reason, which its client is told")
    await _any(connection, id, lock=True)
    await rows.set_status(connection, id, Status.OFF, BY_LABORATORY + reason.strip()[:500])
    await audit.record(connection, actor, "off", "subscription", id, {"reason": reason.strip()})
    return await _shown(connection, await _any(connection, id), await changes.last_position(connection))


def _may_look(actor: Actor) -> None:
    """Who asks at the machine without a name has got at the database itself."""
    if actor.kind is not ActorKind.SETUP:
        actors.require(actor, Permission.CLIENT_WRITE)


async def _any(connection: Connection, id: UUID, *, lock: bool = False) -> SubscriptionView:
    view = await rows.find(connection, id, lock=lock)
    if view is None:
        raise ApiError(404, "not-found", "there is no subscription of this id")
    return view


async def _shown(connection: Connection, view: SubscriptionView, end: int) -> Shown:
    return Shown(
        view.id, view.client, view.status, view.criteria, view.endpoint, view.payload, view.error, view.attempts,
        view.due_at, max(0, end - view.position), len(await rows.letters(connection, view.id)), view.sent, view.sent_at,
        view.ends_at, view.created_at,
    )  # fmt: skip
