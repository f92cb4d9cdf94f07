"""What every handler needs, and the table of routes: a route without a row here does not exist."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from aiohttp import web

from interface.api.paging import Pages, Seal
from interface.domain.permissions import Permission, allows, restrictions
from interface.domain.views import Actor, ActorKind, Audience
from interface.flow.actors import FindHolder, Tokens
from interface.flow.client_keys import KeySource
from interface.flow.feed import Feed
from interface.flow.report_watch import emr_audience
from interface.render.json import dumps
from interface.settings import Settings
from interface.store.audit import AuditWriter
from interface.store.db import Database

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the daemon can do its work now. `text`: why not, without patient data and without names of links."""

    database: bool
    links: bool
    text: str = ""
    active: bool = True  # it has the links of its configuration

    @property
    def ready(self) -> bool:
        return self.database and self.links


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """One link as `/api/links` shows it, to its own organization only."""

    name: str
    organization_id: UUID
    role: str
    driver: str
    transport: str
    listen: str
    up: bool
    connections: int = 0
    text: str = ""  # why it is not up
    leniencies: Mapping[str, int] = field(default_factory=dict)  # departures that were taken since the start, by name
    messages: int = 0  # that were taken since the start
    last_activity: datetime | None = None  # when a byte came last
    owner: str = ""  # the daemon that has it; "": none at the moment, and then it is not up
    owned_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Services:
    """The running parts that handlers use."""

    database: Database
    settings: Settings
    audit: AuditWriter
    ready: Callable[[], Readiness]
    metrics: Callable[[], Awaitable[tuple[bytes, str]]]
    link_status: Callable[[], Sequence[LinkStatus]]
    pages: Pages
    keys: KeySource
    feed: Feed
    tokens: Tokens

    @property
    def base_url(self) -> str:
        return base_url_of(self.settings)

    @property
    def emr(self) -> Audience:
        return emr_of(self.settings)


def base_url_of(settings: Settings) -> str:
    """As clients see the server, without a slash at the end; never taken from a request's Host."""
    scheme = "https" if settings.api.tls is not None else "http"
    return (settings.api.base_url or f"{scheme}://{settings.api.listen}").rstrip("/")


def emr_of(settings: Settings) -> Audience:
    """What an EMR may see (`[api] preliminary`)."""
    return emr_audience(settings)


ENDING: web.AppKey[asyncio.Event] = web.AppKey("ending", asyncio.Event)  # clients are to go elsewhere
SERVICES = web.AppKey("services", Services)
NEEDS: web.AppKey[dict[tuple[str, str], Need]] = web.AppKey("needs", dict)
SEAL = web.RequestKey("seal", Seal)  # of the page links of who asks
ACTOR, TOKEN, REQUEST_ID = web.RequestKey("actor", Actor), web.RequestKey("token", str), web.RequestKey("id", str)
# What is done once the change is committed
AFTER: web.RequestKey[Callable[[], Awaitable[None]]] = web.RequestKey("after")
NOTED = web.RequestKey("noted", bool)  # its refusal stands in the audit
ADDRESS = web.RequestKey("address", str)  # from where it comes, `limits.client_address`


@dataclass(frozen=True, slots=True)
class Need:
    """What a caller must have: a user one permission, a client one action (of `cruds`) on one FHIR type.

    Without `permission` no user may, without `resource` no client may; `public` is open to everyone.
    `narrowed`: the handler applies the `restrictions` of the client's scopes itself; without it, a client whose scope a
    query narrows may not. `along`: what finds who asks by the statement that finds what they ask for, if it can.
    """

    permission: Permission | None = None
    resource: str = ""
    action: str = ""
    public: bool = False
    any_actor: bool = False  # whoever is authenticated
    narrowed: bool = False
    along: Callable[[web.Request], FindHolder | None] | None = field(default=None, repr=False, compare=False)

    def met_by(self, actor: Actor) -> bool:
        if self.public or self.any_actor:
            return True
        if actor.kind is ActorKind.USER:
            return self.permission is not None and self.permission.value in actor.scopes
        if actor.kind is ActorKind.CLIENT:
            meets = restrictions if self.narrowed else allows
            return bool(self.resource) and bool(meets(actor.scopes, self.resource, self.action))
        return False


PUBLIC = Need(public=True)


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    handler: Handler = field(repr=False)
    need: Need
    # What it answers with, for `api.schema`: a type, members by name, or a list of one; None: an answer without body
    gives: object = None
    status: int = 200
    media: str | tuple[str, ...] = "application/json"
    also: Mapping[int, object] = field(default_factory=dict)  # other answers, by status


def services(request: web.Request) -> Services:
    return request.app[SERVICES]


def actor_of(request: web.Request) -> Actor:
    """Who asks; only in handlers of routes that are not public."""
    return request[ACTOR]


def audience_of(request: web.Request) -> Audience:
    """Staff see everything of their organization, clients what an EMR may."""
    return Audience.STAFF if actor_of(request).kind is ActorKind.USER else services(request).emr


def json_response(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None, content_type: str = "application/json"
) -> web.Response:
    """`value` as JSON with exact decimals."""
    return web.Response(body=dumps(value), status=status, headers=headers, content_type=content_type, charset="utf-8")


async def note_read(
    request: web.Request,
    action: str,
    entity_kind: str,
    entity_id: UUID | None = None,
    patients: Iterable[UUID | None] = (),
    detail: Mapping[str, str] | None = None,
) -> None:
    """The audit rows of a read: one of what was asked, and one per patient whose data leaves with the answer."""
    actor, audit = actor_of(request), services(request).audit
    told = {"request": request[REQUEST_ID], **(detail or {})}
    await audit.read(actor, action, entity_kind, entity_id, told)
    for patient_id in dict.fromkeys(patients):
        if patient_id is not None and patient_id != entity_id:
            seen = {"request": request[REQUEST_ID], "by": f"{action} {entity_kind}"}
            await audit.read(actor, "disclose", "patient", patient_id, seen)
