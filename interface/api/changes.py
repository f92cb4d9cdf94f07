"""`/api/changes`: what changed since a position, to be followed without missing anything (docs/changes.md).

Only what the caller may read: a client by its scopes, and nobody more than an EMR may see. A page says where the next
begins, past what the caller may not see as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from aiohttp import web

from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.fhir.reading import EVERYTHING, Parameters, Reader, permission_of
from interface.api.lists import read_query
from interface.domain.permissions import restrictions
from interface.domain.views import Actor, ActorKind, Audience
from interface.errors import ApiError
from interface.store import changes
from interface.store.db import Connection

MOST_ROWS = 500


@dataclass(frozen=True, slots=True)
class Told:
    """A resource that changed, as it can be read now."""

    position: int
    type: str
    id: UUID
    version: str
    patient_id: UUID | None


def readable(actor: Actor) -> dict[str, tuple[Parameters, ...]]:
    """The types that the actor may read, each with the queries of which one must hold."""
    if actor.kind is ActorKind.USER:
        return {type: EVERYTHING for type in changes.FOLLOWED if permission_of(type).value in actor.scopes}
    found = {type: restrictions(actor.scopes, type, "r") for type in changes.FOLLOWED}
    return {type: tuple(one.parameters for one in within) for type, within in found.items() if within}


async def told(
    connection: Connection, reader: Reader, may: dict[str, tuple[Parameters, ...]], after: int, until: int
) -> list[Told]:
    """What the rows of (after, until] mean and may be read. What changed several times is told where it did last."""
    last: dict[tuple[str, UUID], changes.Resource] = {}
    for one in await changes.all_resources(connection, tuple(may), after, until, kinds_of(reader.audience)):
        last.pop((one.type, one.id), None)
        last[one.type, one.id] = one
    found = {}
    for type, within in may.items():
        ids = [id for kind, id in last if kind == type]
        for at in range(0, len(ids), MOST_ROWS):
            matches = await reader.among(connection, type, ids[at : at + MOST_ROWS], (), within)
            found.update({(type, id): match for id, match in matches.items()})
    return [
        Told(one.position, one.type, one.id, found[key].resource["meta"]["versionId"], found[key].patient_id)
        for key, one in last.items()
        if key in found
    ]


async def list_changes(request: web.Request) -> web.StreamResponse:
    """`?after=POSITION&limit=ROWS&type=Observation,…`: `{changes, next, more}`; `after` defaults to the beginning.

    `after=now`: the end, from which to follow after a first full read.
    """
    served, actor = services(request), actor_of(request)
    query = read_query(request, "changes", ("after", "type"))
    may, asked, limit = _asked(query.text("type"), readable(actor)), query.text("after"), query.limit
    await served.feed.look(actor.organization_id)
    async with served.database.organization(actor.organization_id) as connection:
        kinds = kinds_of(served.emr)
        after = await position_of(connection, asked or "0", kinds)
        rows = await changes.after(connection, after, limit + 1, kinds)
        more, rows = len(rows) > limit, rows[:limit]
        until = rows[-1].position if rows else after
        found = await told(connection, Reader(served.emr, served.base_url), may, after, until)
    # At the end it stays where something was told: that something else happened is nothing to tell.
    following = until if more else found[-1].position if found else after
    detail = {"after": str(after), "next": str(following), "types": " ".join(may), "matches": str(len(found))}
    await note_read(request, "search", "change", None, [one.patient_id for one in found], detail)
    return json_response({"changes": [shown(one) for one in found], "next": following, "more": more})


def kinds_of(audience: Audience) -> tuple[str, ...]:
    """Which rows an audience follows."""
    return changes.RELEASED if audience is Audience.EMR else changes.PRELIMINARY


_SHOWN = {"position": int, "type": str, "id": UUID, "version": str}


def shown(one: Told) -> dict[str, object]:
    return {"position": one.position, "type": one.type, "id": one.id, "version": one.version}


async def position_of(connection: Connection, text: str, kinds: Sequence[str]) -> int:
    """A place in the feed. Raises ApiError 400 for what is none, 410 for one that this feed does not have."""
    if text == "now":
        return await changes.last_position(connection, kinds)
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ApiError(400, "value", "a position is a number that this server gave, or now")
    if (position := int(text)) and not await changes.has(connection, position):
        # a database restored from an older copy, or a reader who was away for years: what came after it is not all here
        raise ApiError(410, "expired", "the feed does not have this position; read everything anew, then follow")
    return position


def _asked(wanted: str, may: dict[str, tuple[Parameters, ...]]) -> dict[str, tuple[Parameters, ...]]:
    """Of what may be read, the types that are asked for. Raises ApiError 403 for one that may not, or for nothing."""
    types: Sequence[str] = [one for one in wanted.split(",") if one]
    for type in types:
        if type not in changes.FOLLOWED:
            raise ApiError(400, "value", f"type is of {', '.join(changes.FOLLOWED)}")
        if type not in may:
            raise ApiError(403, "forbidden", f"{type} may not be read")
    if not may:
        raise ApiError(403, "forbidden", "nothing whose changes are told may be read")
    return {type: within for type, within in may.items() if not types or type in types}


ROUTES = (
    Route(
        "GET",
        "/api/changes",
        list_changes,
        Need(any_actor=True),
        gives={"changes": [_SHOWN], "next": int, "more": bool},
    ),
)
