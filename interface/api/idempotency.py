"""The Idempotency-Key header: a change that is sent again under the same key is not made again, but answered as it was,
also after a crash between the commit and the answer. The answer is kept in the transaction of the change."""

from __future__ import annotations

import hashlib
import re

from aiohttp import web

from interface.api.context import REQUEST_ID, Handler, actor_of, services
from interface.errors import ApiError
from interface.store import idempotency
from interface.store.idempotency import Kept

HEADER, REPLAYED = "Idempotency-Key", "Idempotency-Replayed"
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_PART_OF_IT = ("Content-Type", "If-Match", "If-None-Exist")


class _Undone(Exception):
    """The answer is a refusal: nothing was changed, and nothing is kept."""

    def __init__(self, response: web.StreamResponse) -> None:
        self.response = response
        super().__init__()


async def once(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around the handlers of changes by an actor. Raises ApiError 422 for a key that stood for another request."""
    key = request.headers.get(HEADER)
    if key is None:
        return await handler(request)
    actor = actor_of(request)
    if not _KEY.fullmatch(key) or actor.id is None:
        raise ApiError(400, "value", f"{HEADER} is 1 to 200 visible characters")
    asked = await _asked(request)
    try:
        async with services(request).database.joined(actor.organization_id) as connection:
            known = await idempotency.claim(connection, actor.organization_id, actor.id, key)
            if known is not None:
                answer = _again(known, asked)
                await _note(request, known)
                return answer
            response = await handler(request)
            if response.status >= 400 or not isinstance(response, web.Response):
                raise _Undone(response)
            await idempotency.keep(connection, actor.id, key, _kept(response, asked))
            return response
    except _Undone as undone:
        return undone.response


async def _note(request: web.Request, kept: Kept) -> None:
    """Who is answered again has what the answer tells of a patient again, and no handler says so."""
    resource = request.match_info.route.resource
    pattern = resource.canonical if resource is not None else ""
    detail = {"request": request[REQUEST_ID], "route": pattern, "location": kept.location}
    await services(request).audit.read(actor_of(request), "replay", "route", None, detail)


async def _asked(request: web.Request) -> bytes:
    """A digest of what is asked, and of what who asks may: what must be the same for it to be the same request. An
    answer shows what a token with other scopes may not see."""
    scopes = " ".join(sorted(actor_of(request).scopes))
    said = (request.method, request.path_qs, scopes, *(request.headers.get(name, "") for name in _PART_OF_IT))
    return hashlib.sha256(b"\0".join((*(one.encode() for one in said), await request.read()))).digest()


def _kept(response: web.Response, asked: bytes) -> Kept:
    body = response.body
    return Kept(
        asked,
        response.status,
        response.headers.get("Content-Type", "") if body else "",
        response.headers.get("Location", response.headers.get("Content-Location", "")),
        response.headers.get("ETag", ""),
        body if isinstance(body, bytes) else b"",
    )


def _again(kept: Kept, asked: bytes) -> web.Response:
    if kept.request != asked:
        text = f"this {HEADER} stood for another request, or for the same by a token of other scopes, and that was done"
        raise ApiError(422, "business-rule", f"{text}: only what is something else needs a new key")
    where = "Content-Location" if kept.status == 202 else "Location"  # of an export, which goes on after the answer
    said = {"Content-Type": kept.media, where: kept.location, "ETag": kept.etag, REPLAYED: "true"}
    return web.Response(
        body=kept.body or None, status=kept.status, headers={name: value for name, value in said.items() if value}
    )
