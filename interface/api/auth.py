"""Who is asking: bearer tokens, the OAuth 2.0 token endpoint of clients, the login of users."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import unquote_plus

import structlog
from aiohttp import web

from interface.api.bodies import read_body, read_form
from interface.api.context import (
    ACTOR,
    ADDRESS,
    NEEDS,
    NOTED,
    PUBLIC,
    REQUEST_ID,
    TOKEN,
    Handler,
    Need,
    Route,
    actor_of,
    json_response,
    services,
)
from interface.api.limits import UNLIMITED, slowed
from interface.domain.permissions import RESOURCES
from interface.domain.views import ActorKind
from interface.errors import ApiError, StoreError
from interface.flow import actors
from interface.flow.client_keys import ALGORITHMS

_log = structlog.get_logger(__name__)
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749 5.1


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let through who may; a route that no table knows is not let through at all."""
    if request.match_info.http_exception is not None:  # no such route or method: the router's own answer
        if request.path not in UNLIMITED:  # else the audit could be filled with it
            await _recognize(request)
        return await handler(request)
    resource = request.match_info.route.resource
    need = request.app[NEEDS].get((request.method, resource.canonical if resource is not None else ""))
    if need is None:
        raise ApiError(403, "forbidden", "nobody may do this")
    if need.public:
        return await handler(request)
    token = _bearer(request)
    ahead = need.along is not None and not slowed(request, token)
    find = need.along(request) if ahead and need.along is not None else None
    actor = await services(request).tokens.actor(token, request[ADDRESS], find) if token else None
    if actor is None:
        await _note_refused(request, token)
        raise ApiError(401, "login", "a valid bearer token is needed")
    request[ACTOR], request[TOKEN] = actor, token
    if not need.met_by(actor):
        detail = {"request": request[REQUEST_ID], "needs": _needed(need, actor.kind)}
        await services(request).audit.read(actor, request.method.lower(), "route", None, detail, "refused")
        request[NOTED] = True
        raise ApiError(403, "forbidden", f"this needs {_needed(need, actor.kind)}")
    return await handler(request)


async def _recognize(request: web.Request) -> None:
    """Say who asks for what there is not, if it is somebody: it counts, and stands in the audit.

    Without a database nobody can be told from anybody. A path that there is not has nothing to protect, and asking
    again later helps nobody: it is answered as a stranger's, and the log has what the audit lacks. Who tries another
    method on what there is has to be known: that is 503, as every request is that is kept waiting for the database.
    """
    token = _bearer(request)
    try:
        actor = await services(request).tokens.actor(token, request[ADDRESS]) if token else None
    except StoreError as error:
        if not isinstance(request.match_info.http_exception, web.HTTPNotFound):
            raise
        text = "request for no path is not in the audit: no database"
        _log.warning(text, action="api.unaudited", request=request[REQUEST_ID], error=error.slug)
        return
    if actor is not None:
        request[ACTOR], request[TOKEN] = actor, token


async def _note_refused(request: web.Request, token: str) -> None:
    """A token that is not valid, in the audit of the laboratory that it would be of."""
    refused = await actors.refused_token(services(request).database, token, request[ADDRESS]) if token else None
    if refused is not None:
        holder, reason = refused
        detail = {"request": request[REQUEST_ID], "reason": reason}
        await services(request).audit.read(holder, "authenticate", "token", None, detail, "refused")


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _needed(need: Need, kind: ActorKind) -> str:
    if kind is ActorKind.USER:
        return f"the permission {need.permission}" if need.permission else "a client"
    return f"the scope system/{need.resource}.{need.action}" if need.resource else "a user"


# ---- OAuth 2.0 client credentials (RFC 6749 4.4) --------------------------------------------------------------------


class _OauthError(Exception):
    """An error of RFC 6749 5.2."""

    def __init__(self, error: str, text: str, status: int = 400) -> None:
        self.error, self.text, self.status = error, text, status
        super().__init__(text)


_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 2.2


async def token(request: web.Request) -> web.StreamResponse:
    try:
        form = await _form(request)
        issued = await _issued(request, form)
    except _OauthError as error:
        return _oauth_error(request, error)
    except actors.BadCredentials as error:
        return _oauth_error(request, _OauthError("invalid_client", str(error), 401))
    except ApiError as error:
        if error.code != "invalid_scope":
            raise
        return _oauth_error(request, _OauthError("invalid_scope", str(error)))
    answer = {
        "access_token": issued.token,
        "token_type": "bearer",
        "expires_in": issued.lifetime_s,
        "scope": " ".join(sorted(issued.actor.scopes)),
    }
    return json_response(answer, headers=_NO_STORE)


async def _issued(request: web.Request, form: Mapping[str, str]) -> actors.IssuedToken:
    at, address, scope = services(request), request[ADDRESS], form.get("scope", "")
    lifetime_s = at.settings.api.token_lifetime_s
    if not form.keys() & {"client_assertion", "client_assertion_type"}:
        return await actors.client_token(at.database, *_client(request, form), scope, lifetime_s, address)
    if "client_secret" in form or request.headers.get("Authorization"):  # RFC 6749 2.3: one method a request
        raise _OauthError("invalid_request", "a client signs or has a secret, not both")
    if form.get("client_assertion_type") != _ASSERTION_TYPE:
        raise _OauthError("invalid_request", f"client_assertion_type is {_ASSERTION_TYPE}")
    return await actors.assertion_token(
        at.database,
        form.get("client_assertion", ""),
        form.get("client_id", ""),
        scope,
        lifetime_s,
        f"{at.base_url}/oauth/token",
        at.keys,
        address,
    )


async def _form(request: web.Request) -> dict[str, str]:
    try:
        fields = await read_form(request)
    except ApiError as error:
        raise _OauthError("invalid_request", str(error)) from None
    form: dict[str, str] = {}
    for name, value in fields:
        if name in form:  # RFC 6749 3.2: no parameter twice
            raise _OauthError("invalid_request", "a parameter is repeated")
        form[name] = value
    if not form.get("grant_type"):
        raise _OauthError("invalid_request", "grant_type is missing")
    if form["grant_type"] != "client_credentials":
        raise _OauthError("unsupported_grant_type", "grant_type is client_credentials")
    return form


def _client(request: web.Request, form: Mapping[str, str]) -> tuple[str, str]:
    header = request.headers.get("Authorization", "")
    scheme, _, encoded = header.partition(" ")
    if not header:
        if not form.get("client_id") or not form.get("client_secret"):
            raise _OauthError("invalid_client", "client_id and client_secret are needed", 401)
        return form["client_id"], form["client_secret"]
    if "client_secret" in form:  # RFC 6749 2.3: one method a request
        raise _OauthError("invalid_request", "the secret is given twice")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        user, separator, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        raise _OauthError("invalid_client", "the Authorization header is not of the Basic scheme", 401) from None
    if not separator:
        raise _OauthError("invalid_client", "the Authorization header holds no secret", 401)
    return unquote_plus(user), unquote_plus(password)  # RFC 6749 2.3.1: both are form-encoded first


def _oauth_error(request: web.Request, error: _OauthError) -> web.Response:
    headers = dict(_NO_STORE)
    if error.status == 401 and request.headers.get("Authorization"):
        headers["WWW-Authenticate"] = 'Basic realm="labora"'
    return json_response({"error": error.error, "error_description": error.text}, error.status, headers)


async def smart_configuration(request: web.Request) -> web.StreamResponse:
    """SMART App Launch 2.0, for backend services; what is not here is not supported."""
    return json_response(
        {
            "token_endpoint": f"{services(request).base_url}/oauth/token",
            "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic", "client_secret_post"],
            "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
            "grant_types_supported": ["client_credentials"],
            "scopes_supported": [f"system/{resource}.rs" for resource in RESOURCES] + ["system/*.rs"],
            "capabilities": [
                "client-confidential-asymmetric",
                "client-confidential-symmetric",
                "permission-v1",
                "permission-v2",
            ],
        }
    )


# ---- users ----------------------------------------------------------------------------------------------------------


async def login(request: web.Request) -> web.StreamResponse:
    """`{organization, username, password}` → a token. 401 says nothing about which of them was wrong."""
    body = await read_body(request)
    organization, username, password = body.text("organization"), body.text("username"), body.text("password")
    body.done()
    issued = await actors.login(
        services(request).database,
        organization,
        username,
        password,
        services(request).settings.api.token_lifetime_s,
        request[ADDRESS],
    )
    answer = {
        "access_token": issued.token,
        "token_type": "bearer",
        "expires_in": issued.lifetime_s,
        "expires_at": issued.expires_at,
        "user": issued.actor.name,
        "roles": sorted(issued.actor.roles),
        "permissions": sorted(issued.actor.scopes),
    }
    return json_response(answer, headers=_NO_STORE)


async def logout(request: web.Request) -> web.StreamResponse:
    await actors.revoke_token(services(request).database, actor_of(request), request[TOKEN])
    return web.Response(status=204)


_TOKEN = {"access_token": str, "token_type": str, "expires_in": int, "scope": str}
_REFUSED = {"error": str, "error_description": str}
_LOGIN = {
    "access_token": str,
    "token_type": str,
    "expires_in": int,
    "expires_at": datetime,
    "user": str,
    "roles": [str],
    "permissions": [str],
}
ROUTES = (
    Route("POST", "/oauth/token", token, PUBLIC, gives=_TOKEN, also={400: _REFUSED, 401: _REFUSED}),
    Route("GET", "/.well-known/smart-configuration", smart_configuration, PUBLIC),
    Route("GET", "/fhir/.well-known/smart-configuration", smart_configuration, PUBLIC),
    Route("POST", "/api/login", login, PUBLIC, gives=_LOGIN),
    Route("POST", "/api/logout", logout, Need(any_actor=True), status=204),
)
