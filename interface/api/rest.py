"""The laboratory's own REST interface: users and links.

Staff see everything of their organization, held results too; a client that comes here sees what an EMR may see.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from aiohttp import web

from interface.api.bodies import read_body
from interface.api.context import (
    LinkStatus,
    Need,
    Route,
    actor_of,
    json_response,
    services,
)
from interface.domain.permissions import Permission
from interface.flow import actors
from interface.store import leases
from interface.store.actors import UserView
from interface.store.leases import Owner

# ---- users ----------------------------------------------------------------------------------------------------------


async def list_users(request: web.Request) -> web.StreamResponse:
    found = await actors.list_users(services(request).database, actor_of(request))
    return json_response({"users": found})


async def create_user(request: web.Request) -> web.StreamResponse:
    body = await read_body(request)
    new = actors.NewUser(
        body.text("username"), body.text("password"), body.texts("roles"), full_name=body.text("full_name", "")
    )
    body.done()
    return json_response(await actors.create_user(services(request).database, actor_of(request), new), 201)


# ---- links ----------------------------------------------------------------------------------------------------------


async def list_links(request: web.Request) -> web.StreamResponse:
    """The organization's own links: as they are here, and as their daemons say of those that are served elsewhere."""
    own = actor_of(request).organization_id
    here = {link.name: link for link in services(request).link_status() if link.organization_id == own}
    async with services(request).database.organization(own) as connection:
        owners = {one.link: one for one in await leases.owners(connection) if one.link}
    known = [_of(here.get(name), owner, own) for name, owner in owners.items()]
    return json_response({"links": [*known, *(link for name, link in here.items() if name not in owners)]})


def _of(here: LinkStatus | None, owner: Owner, organization_id: UUID) -> LinkStatus:
    """A link whose lease somebody has, or had."""
    if here is not None:
        return replace(here, owner=owner.daemon, owned_since=owner.since)
    said = dict(owner.status) if owner.daemon else {}
    text = str(said.get("text", "")) if owner.daemon else "no daemon has it"
    leniencies, last = said.get("leniencies"), said.get("last_activity")
    return LinkStatus(
        name=owner.link, organization_id=organization_id, role=str(said.get("role", "")),
        driver=str(said.get("driver", "")), transport=str(said.get("transport", "")),
        listen=str(said.get("listen", "")),
        up=said.get("up") is True, connections=int(str(said.get("connections", 0))), text=text,
        leniencies=leniencies if isinstance(leniencies, dict) else {}, messages=int(str(said.get("messages", 0))),
        last_activity=datetime.fromisoformat(str(last)) if last else None, owner=owner.daemon, owned_since=owner.since,
    )  # fmt: skip


_P = Permission
ROUTES = (
    Route("GET", "/api/users", list_users, Need(_P.USER_READ), gives={"users": [UserView]}),
    Route("POST", "/api/users", create_user, Need(_P.USER_WRITE), gives=UserView, status=201),
    Route("GET", "/api/links", list_links, Need(_P.LINK_READ), gives={"links": [LinkStatus]}),
)
