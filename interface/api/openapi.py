"""The description of the REST interface, OpenAPI 3.1, made of the routes' table and of what their handlers read
(`api.described`) and give (`Route.gives`); and the pages that show it. FHIR describes itself: `/fhir/metadata`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aiohttp import web

from interface import __version__
from interface.api.context import PUBLIC, Route, json_response
from interface.api.described import Taken, describe
from interface.api.idempotency import HEADER
from interface.api.limits import UNLIMITED
from interface.api.openapi_page import STYLE_HASH, page
from interface.api.schema import Schema, Schemas

OPENAPI_VERSION = "3.1.0"
_JSON = "application/json"
_PROBLEM = "#/components/schemas/ProblemDetails"
_ALWAYS = ("/health", "/ready", "/metrics", "/api/docs", "/api/openapi.json")  # whatever else is the matter
_PATH_PART = re.compile(r"\{(\w+)\}")
_TEXTS = {
    304: "What the client has already is still so.",
    400: "The address or the body is not to be understood; `detail` says where.",
    401: "No valid bearer token.",
    403: "The token does not allow it.",
    404: "There is none.",
    406: "It is not to be had in what Accept wants.",
    408: "The body did not come in time.",
    409: "What is there forbids it, or has changed meanwhile.",
    410: "The page link is too old; search again.",
    412: "It is not the version that was looked at.",
    413: "The body is too long.",
    414: "The address is longer than is read.",
    415: "The body is of another media type.",
    422: "The body says something that cannot be done; each fault with its member.",
    428: "Say from which version the change was made: `version`, or If-Match.",
    429: "Too many requests; Retry-After says when to come again.",
    431: "A header is longer than is read, or there are too many.",
    503: "The database is not available now; Retry-After says when to come again.",
}
_PROBLEM_SCHEMA: Schema = {
    "type": "object",
    "description": "RFC 9457. `code` is an issue type of FHIR.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
    },
    "required": ["type", "title", "status", "code", "detail"],
}
_TOKEN_FORM: Schema = {  # RFC 6749 4.4, RFC 7523 2.2
    "type": "object",
    "properties": {
        name: {"type": "string"}
        for name in ("grant_type", "scope", "client_id", "client_secret", "client_assertion_type", "client_assertion")
    },
    "required": ["grant_type"],
}


def described(routes: Iterable[Route]) -> list[Route]:
    """Those that the document is of: everything but FHIR."""
    return [route for route in routes if not route.path.startswith(("/fhir", "/.well-known"))]


async def document(routes: Iterable[Route]) -> Schema:
    """The whole document, as JSON values."""
    schemas = Schemas()
    paths: dict[str, dict[str, Schema]] = {}
    for route in described(routes):
        taken = await describe(route.handler, route.method)
        operation = _operation(route, taken, schemas)
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "Labora",
            "version": __version__,
            "description": "Users, patients, orders, specimens, results, quality control and their review. A caller "
            "sees its own organization only, and an EMR nothing that is held.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())) | {"ProblemDetails": _PROBLEM_SCHEMA},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}],
    }


def _operation(route: Route, taken: Taken, schemas: Schemas) -> Schema:
    text = " ".join((route.handler.__doc__ or "").split())
    operation: Schema = {
        "operationId": _name(route),
        "tags": [_tag(route)],
        "responses": _responses(route, taken, schemas),
    }
    if text:
        operation |= {"summary": text.split(". ")[0].rstrip("."), "description": text}
    if said := _needed(route):
        operation["description"] = "\n\n".join(filter(None, (operation.get("description"), said)))
    if parameters := _parameters(route, taken):
        operation["parameters"] = parameters
    if taken.body is not None:
        content = {"application/json": {"schema": taken.body}}
        operation["requestBody"] = {"required": not taken.body_optional, "content": content}
    if route.path == "/oauth/token":
        content = {"application/x-www-form-urlencoded": {"schema": _TOKEN_FORM}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.need.public:
        operation["security"] = []
    return operation


def _name(route: Route) -> str:
    """From the path, which is unique with the method."""
    words = re.findall(r"\w+", route.path.removeprefix("/api"))
    return "_".join((route.method.lower(), *(word.replace("-", "_") for word in words)))


def _tag(route: Route) -> str:
    parts = route.path.strip("/").split("/")
    return parts[1] if parts[0] == "api" and len(parts) > 1 else "server"


def _needed(route: Route) -> str:
    need = route.need
    if need.public:
        return "Open to everyone."
    said = [f"a user the permission `{need.permission}`"] if need.permission else []
    said += [f"a client the scope `system/{need.resource}.{need.action}`"] if need.resource else []
    return f"Needs: {', '.join(said)}." if said else "Needs a valid token."


def _parameters(route: Route, taken: Taken) -> list[Schema]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PATH_PART.findall(route.path)
    ]
    found += [
        {"name": name, "in": "query", "required": name in taken.required, "schema": schema}
        for name, schema in taken.parameters.items()
    ]
    if route.method != "GET" and not route.need.public:
        found.append({"name": HEADER, "in": "header", "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"}})
    found += [
        {"name": name, "in": "header", "schema": {"type": "string"}} for name in sorted(taken.headers - {"Accept"})
    ]
    return found


def _responses(route: Route, taken: Taken, schemas: Schemas) -> dict[str, Schema]:
    answers: dict[str, Schema] = {}
    if route.gives is None:
        answers[str(route.status)] = {"description": "Done."}
    else:
        media = (route.media,) if isinstance(route.media, str) else route.media
        content = {one: {"schema": schemas.of(route.gives)} if one == _JSON else {} for one in media}
        answers[str(route.status)] = {"description": "Done.", "content": content}
    for status, gives in route.also.items():
        content = {} if gives is None else {"content": {_JSON: {"schema": schemas.of(gives)}}}
        answers[str(status)] = {"description": _TEXTS[status], **content}
    for status in _statuses(route, taken):
        problem = {"application/problem+json": {"schema": {"$ref": _PROBLEM}}}
        answer = answers.setdefault(str(status), {"description": _TEXTS[status]})
        answer["content"] = {**answer.get("content", {}), **problem}  # OAuth's own words, or what is before it
    return answers


def _statuses(route: Route, taken: Taken) -> list[int]:
    """Those that a route may answer with besides its own."""
    found = {400, 414, 431}
    if not route.need.public:
        found |= {401, 403}
    if route.path not in UNLIMITED:
        found.add(429)
    if route.path not in _ALWAYS:
        found.add(503)
    if _PATH_PART.search(route.path):
        found.add(404)
    if route.path == "/api/login":
        found.add(401)
    if taken.body is not None or route.method != "GET":
        found |= {404, 408, 409, 413, 415, 422}
    if taken.parameters:
        found |= {404, 410, 422}
    found |= {412, 428} if "If-Match" in taken.headers else set()
    found |= {406} if "Accept" in taken.headers else set()
    return sorted(found)


# ---- served ---------------------------------------------------------------------------------------------------------


class Described:
    """The document of an application's routes, made when it is first asked for."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes, self._document = routes, Schema()

    async def document(self) -> Schema:
        self._document = self._document or await document(self._routes)
        return self._document


DESCRIBED = web.AppKey("described", Described)


async def get_document(request: web.Request) -> web.StreamResponse:
    """This document."""
    return json_response(await request.app[DESCRIBED].document())


async def get_page(request: web.Request) -> web.StreamResponse:
    """The same to read, in a browser: no script, nothing from elsewhere."""
    text = page(await request.app[DESCRIBED].document())
    headers = {"Content-Security-Policy": f"default-src 'none'; style-src '{STYLE_HASH}'; frame-ancestors 'none'"}
    return web.Response(text=text, content_type="text/html", charset="utf-8", headers=headers)


ROUTES = (
    Route("GET", "/api/openapi.json", get_document, PUBLIC, gives=dict[str, object]),
    Route("GET", "/api/docs", get_page, PUBLIC, gives=str, media="text/html"),
)
