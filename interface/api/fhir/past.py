"""A history as a Bundle, in pages (R4 http.html#history): the same of every type, whoever keeps its versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, Protocol, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from aiohttp import web

from interface.api.context import services
from interface.api.fhir.negotiation import only
from interface.api.fhir.search import DEFAULT_COUNT, MOST_COUNT
from interface.api.fhir.types import AnyShown
from interface.api.fhir.values import bad, period
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
_ONCE: Final = ("_count", "_since", "_at", "_cursor")


@dataclass(frozen=True, slots=True)
class Asked:
    """`count` versions after the one that the page before ended with; made since, and current at some moment of a
    period (R4 http.html#history)."""

    count: int
    since: datetime | None
    at: tuple[datetime, datetime] | None
    after: str

    def within(self, found: Sequence[V]) -> list[V]:
        """Of the versions, newest first."""
        ends = [None, *(one.updated_at for one in found)]  # when each was replaced
        return [
            one
            for one, end in zip(found, ends, strict=False)
            if (self.since is None or one.updated_at >= self.since)
            and (self.at is None or (one.updated_at < self.at[1] and (end is None or end > self.at[0])))
        ]


@dataclass(frozen=True, slots=True)
class Page(Generic[V]):
    """`total`: of all pages; `first`: the version that the resource began with."""

    versions: Sequence[V]
    total: int
    first: str
    more: bool


def asked_of(request: web.Request, most: int = MOST_COUNT) -> Asked:
    """Raises ApiError 400."""
    only(request, request.query.items(), "a history", _ONCE)
    count, since, at = (request.query.get(name, "") for name in ("_count", "_since", "_at"))
    if count and not (count.isascii() and count.isdigit()):
        raise bad("_count is a number")
    return Asked(
        min(int(count[:9]) if count else DEFAULT_COUNT, most),
        period(since, "_since")[0] if since else None,
        period(at, "_at") if at else None,
        request.query.get("_cursor", ""),
    )


def page_of(found: Sequence[V], asked: Asked) -> Page[V]:
    """Of at least one version, newest first. Raises ApiError 410 for a page link of another history's."""
    within = asked.within(found)
    start = next((place for place, one in enumerate(within, 1) if one.version == asked.after), 0)
    if asked.after and not start:
        raise ApiError(410, "expired", "this page link is none of this history's: begin again without it")
    page = within[start : start + asked.count]
    return Page(page, len(within), found[-1].version, bool(page) and start + asked.count < len(within))


def bundle(request: web.Request, kind: str, id: UUID, page: Page[AnyShown | Deletion]) -> fhir.Json:
    base = f"{services(request).base_url}/fhir"
    url = f"{base}/{kind}/{id}/_history"
    applied = {name: text for name in _ONCE if (text := request.query.get(name))}
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
