"""A history as a Bundle, in pages (R4 http.html#history): the same of every type, whoever keeps its versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from aiohttp import web

from interface.api.context import services
from interface.api.fhir.search import DEFAULT_COUNT, MOST_COUNT
from interface.api.fhir.types import AnyShown
from interface.api.fhir.values import bad, moment
from interface.errors import ApiError
from interface.render import fhir


class Version(Protocol):
    """One of a resource's versions, as far as pages are made of it."""

    @property
    def version(self) -> str: ...
    @property
    def updated_at(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class Deletion:
    """The version that says that the resource was deleted."""

    version: str
    updated_at: datetime


V = TypeVar("V", bound=Version)


@dataclass(frozen=True, slots=True)
class Asked:
    """`_count`, `_since`, and the version that the page before ended with."""

    count: int
    since: datetime | None
    after: str


@dataclass(frozen=True, slots=True)
class Page(Generic[V]):
    """`total`: of all pages; `first`: the version that the resource began with."""

    versions: Sequence[V]
    total: int
    first: str
    more: bool


def asked_of(request: web.Request, most: int = MOST_COUNT) -> Asked:
    """Raises ApiError 400."""
    count, since = request.query.get("_count", ""), request.query.get("_since", "")
    if count and not (count.isascii() and count.isdigit()):
        raise bad("_count is a number")
    return Asked(
        min(int(count[:9]) if count else DEFAULT_COUNT, most),
        moment(since, "_since", datetime.now(UTC)).low if since else None,
        request.query.get("_cursor", ""),
    )


def page_of(found: Sequence[V], asked: Asked) -> Page[V]:
    """Of at least one version, newest first. Raises ApiError 410 for a page link of another history's."""
    within = [one for one in found if asked.since is None or one.updated_at >= asked.since]
    start = next((place for place, one in enumerate(within, 1) if one.version == asked.after), 0)
    if asked.after and not start:
        raise ApiError(410, "expired", "this page link is none of this history's: begin again without it")
    page = within[start : start + asked.count]
    return Page(page, len(within), found[-1].version, bool(page) and start + asked.count < len(within))


def bundle(request: web.Request, kind: str, id: UUID, page: Page[AnyShown | Deletion]) -> fhir.Json:
    base = f"{services(request).base_url}/fhir"
    url = f"{base}/{kind}/{id}/_history"
    applied = {name: text for name in ("_count", "_since", "_cursor") if (text := request.query.get(name))}
    links = [{"relation": "self", "url": f"{url}?{urlencode(applied)}" if applied else url}]
    if page.more:
        following = urlencode({**applied, "_cursor": page.versions[-1].version})
        links.append({"relation": "next", "url": f"{url}?{following}"})
    made: fhir.Json = {"resourceType": "Bundle", "type": "history", "total": page.total, "link": links}
    if page.versions:
        made["entry"] = [_entry(base, kind, id, one, created=one.version == page.first) for one in page.versions]
    return made


def _entry(base: str, kind: str, id: UUID, one: AnyShown | Deletion, *, created: bool) -> fhir.Json:
    url = f"{kind}/{id}"
    said: fhir.Json = {
        "fullUrl": f"{base}/{url}",
        "request": {"method": "POST" if created else "PUT", "url": kind if created else url},
        "response": {
            "status": "201" if created else "200",
            "etag": f'W/"{one.version}"',
            "lastModified": fhir.instant(one.updated_at),
        },
    }
    if isinstance(one, Deletion):
        gone = {"request": {"method": "DELETE", "url": url}, "response": {**said["response"], "status": "204"}}
        return said | gone
    return {**said, "resource": one.resource}
