"""The laboratory's own REST interface: users, results, links.

Staff see everything of their organization, held results too; a client that comes here sees what an EMR may see.
"""

from __future__ import annotations

from aiohttp import web

from interface.api.bodies import Body, read_json
from interface.api.context import (
    Need,
    Route,
    actor_of,
    audience_of,
    json_response,
    note_read,
    services,
)
from interface.api.lists import Query, not_found, one, path_id
from interface.domain.model import ResultStatus
from interface.domain.permissions import Permission
from interface.domain.views import Audience
from interface.flow import actors, review
from interface.store import lab
from interface.store.lab import ResultFilter

# ---- users ----------------------------------------------------------------------------------------------------------


async def list_users(request: web.Request) -> web.StreamResponse:
    found = await actors.list_users(services(request).database, actor_of(request))
    return json_response({"users": found})


async def create_user(request: web.Request) -> web.StreamResponse:
    body = Body(await read_json(request))
    new = actors.NewUser(
        body.text("username"), body.text("password"), body.texts("roles"), full_name=body.text("full_name", "")
    )
    body.done()
    return json_response(await actors.create_user(services(request).database, actor_of(request), new), 201)


# ---- results --------------------------------------------------------------------------------------------------------


async def list_results(request: web.Request) -> web.StreamResponse:
    query = Query(request, "api/results", ("held", "patient_id", "order_id", "barcode", "test", "status"))
    filter = ResultFilter(
        patient_ids=query.id("patient_id"),
        order_ids=query.id("order_id"),
        barcodes=one(query.text("barcode")),
        test_codes=one(query.text("test")),
        statuses=query.choices("status", ResultStatus),
        held_only=query.flag("held"),
        page=query.page,
    )
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await lab.find_results(connection, filter, audience_of(request))
    patients = [view.patient_id for view in found[: query.limit]]
    await note_read(request, "search", "result", None, patients, {"query": query.words})
    return query.answer("results", found)


async def get_result(request: web.Request) -> web.StreamResponse:
    """The current version; for staff also its earlier versions and the explanation of each."""
    result_id, audience = path_id(request), audience_of(request)
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        view = await lab.get_result(connection, result_id, audience)
        history = await lab.result_history(connection, result_id, audience) if view is not None else []
        known = [version.version_id for version in history] if audience is Audience.STAFF else []
        explained = await lab.explanations(connection, known)
    patients = [view.patient_id] if view is not None else []
    await note_read(request, "read", "result", result_id, patients, {"found": "no" if view is None else "yes"})
    if view is None:
        raise not_found()
    if audience is not Audience.STAFF:
        return json_response({"result": view})
    versions = [{"version": version, "explanation": explained.get(version.version_id, ())} for version in history]
    return json_response({"result": view, "explanation": explained.get(view.version_id, ()), "versions": versions})


async def release(request: web.Request) -> web.StreamResponse:
    return await _decide(request, "release")


async def accept_change(request: web.Request) -> web.StreamResponse:
    return await _decide(request, "accept-change")


async def reject_change(request: web.Request) -> web.StreamResponse:
    return await _decide(request, "reject-change")


async def discard(request: web.Request) -> web.StreamResponse:
    return await _decide(request, "discard")


async def _decide(request: web.Request, what: str) -> web.StreamResponse:
    """`{comment, version, accept_hold}`, all of them optional; `version` is what the person looked at."""
    result_id = path_id(request)
    body = Body(await read_json(request) if request.can_read_body else {})
    comment, version = body.text("comment", ""), body.number("version")
    accept_hold = body.flag("accept_hold") if what in ("release", "accept-change") else False
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        if what == "release":
            view = await review.release(connection, actor, result_id, comment, version, accept_hold)
        elif what == "accept-change":
            view = await review.accept_change(connection, actor, result_id, comment, version, accept_hold)
        elif what == "reject-change":
            view = await review.reject_change(connection, actor, result_id, comment, version)
        else:
            view = await review.discard(connection, actor, result_id, comment, version)
    return json_response({"result": view})


# ---- links ----------------------------------------------------------------------------------------------------------


async def list_links(request: web.Request) -> web.StreamResponse:
    """The organization's own links."""
    own = actor_of(request).organization_id
    return json_response({"links": [link for link in services(request).link_status() if link.organization_id == own]})


_P = Permission
ROUTES = (
    Route("GET", "/api/users", list_users, Need(_P.USER_READ)),
    Route("POST", "/api/users", create_user, Need(_P.USER_WRITE)),
    Route("GET", "/api/results", list_results, Need(_P.RESULT_READ, "Observation", "s")),
    Route("GET", "/api/results/{id}", get_result, Need(_P.RESULT_READ, "Observation", "r")),
    Route("POST", "/api/results/{id}/release", release, Need(_P.RESULT_RELEASE)),
    Route("POST", "/api/results/{id}/accept-change", accept_change, Need(_P.RESULT_RELEASE)),
    Route("POST", "/api/results/{id}/reject-change", reject_change, Need(_P.RESULT_RELEASE)),
    Route("POST", "/api/results/{id}/discard", discard, Need(_P.RESULT_RELEASE)),
    Route("GET", "/api/links", list_links, Need(_P.LINK_READ)),
)
