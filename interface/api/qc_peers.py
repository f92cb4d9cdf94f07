"""What other laboratories measure, and our own months for them: `/api/qc-peers`. Staff. Nothing of a patient."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from interface.api.bodies import read_body
from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import read_query
from interface.domain.map_files import FileFaults
from interface.domain.permissions import Permission
from interface.domain.qc_peers import ComparedView, PeerView
from interface.errors import ApiError
from interface.flow import qc_peers
from interface.render.qc_fhir import periods_bundle
from interface.render.qc_peer_table import read_peers, write_periods
from interface.store import qc_peers as rows
from interface.store.db import Connection

T = TypeVar("T")
FORMS = ("csv", "fhir")


async def list_peers(request: web.Request) -> web.StreamResponse:
    """What was imported, the newest month first. `period` (2026-11), `peer_group`, `test`."""
    query = read_query(request, "api/qc-peers", ("period", "peer_group", "test"))
    wanted = {name: query.text(name) for name in ("period", "peer_group", "test")}
    found = await _read(request, lambda connection: rows.find_peers(connection, **wanted, limit=query.limit))
    await note_read(request, "search", "qc_peer", None, (), {"query": query.words})
    return json_response({"peers": found})


async def import_peers(request: web.Request) -> web.StreamResponse:
    """`{file, reason, source, dry_run}`: the text of a CSV file. All of it or nothing, every fault with its line."""
    body = await read_body(request)
    text, reason, source = body.text("file"), body.text("reason"), body.text("source", "")
    dry_run = body.flag("dry_run")
    body.done()
    actor = actor_of(request)
    try:
        read = read_peers("file", text.removeprefix("\ufeff"))
        async with services(request).database.transaction(actor.organization_id) as connection:
            done = await qc_peers.import_peers(connection, actor, read, reason, source=source, dry_run=dry_run)
    except FileFaults as error:
        raise ApiError(422, "value", "; ".join(map(str, error.faults))) from None
    if dry_run:
        await note_read(request, "read", "qc_peer", None, (), {"by": "import"})
    return json_response(done)


async def compare(request: web.Request) -> web.StreamResponse:
    """The laboratory beside its peers in a month. `period`, which must be there; `analyzer`, `test`, `peer_group`."""
    query = read_query(request, "api/qc-peers/compare", ("period", "analyzer", "test", "peer_group"))
    wanted = {name: query.text(name) for name in ("analyzer", "test", "peer_group")}
    found = await _read(request, lambda connection: qc_peers.compare(connection, query.text("period"), **wanted))
    await note_read(request, "read", "qc_peer", None, (), {"query": query.words})
    return json_response({"compared": found})


async def export(request: web.Request) -> web.StreamResponse:
    """Our own month for a peer programme. `period`, which must be there; `analyzer`, `test`; `form`: csv or fhir."""
    query = read_query(request, "api/qc-peers/export", ("period", "analyzer", "test", "form"))
    if (form := query.text("form") or "csv") not in FORMS:
        raise ApiError(400, "value", f"form is one of {', '.join(FORMS)}")
    wanted = {name: query.text(name) for name in ("analyzer", "test")}
    found = await _read(request, lambda connection: qc_peers.export(connection, query.text("period"), **wanted))
    await note_read(request, "export", "qc_peer", None, (), {"query": query.words})
    if form == "fhir":
        return json_response(periods_bundle(*found), content_type="application/fhir+json")
    return web.Response(text=write_periods(*found), content_type="text/csv", charset="utf-8")


async def _read(request: web.Request, find: Callable[[Connection], Awaitable[T]]) -> T:
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        return await find(connection)


_READ, _MANAGE = Need(Permission.QC_READ), Need(Permission.QC_MANAGE)
ROUTES = (
    Route("GET", "/api/qc-peers", list_peers, _READ, gives={"peers": [PeerView]}),
    Route("POST", "/api/qc-peers/import", import_peers, _MANAGE, gives=qc_peers.Imported),
    Route("GET", "/api/qc-peers/compare", compare, _READ, gives={"compared": [ComparedView]}),
    Route("GET", "/api/qc-peers/export", export, _READ, gives=str, media="text/csv"),
)
