"""The laboratory's own REST interface: users and links.

Staff see everything of their organization, held results too; a client that comes here sees what an EMR may see.
"""

from __future__ import annotations

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
from interface.store.actors import UserView

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
    """The organization's own links."""
    own = actor_of(request).organization_id
    return json_response({"links": [link for link in services(request).link_status() if link.organization_id == own]})


_P = Permission
ROUTES = (
    Route("GET", "/api/users", list_users, Need(_P.USER_READ), gives={"users": [UserView]}),
    Route("POST", "/api/users", create_user, Need(_P.USER_WRITE), gives=UserView, status=201),
    Route("GET", "/api/links", list_links, Need(_P.LINK_READ), gives={"links": [LinkStatus]}),
)
