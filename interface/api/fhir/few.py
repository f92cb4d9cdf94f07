"""Searches of what `store.search` has no table of, for there are few: a client's Subscriptions, named Binaries.

Parameters, pages and refusals are as of every search; what is found is sifted here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from aiohttp import web

from interface.api.bodies import read_form
from interface.api.context import SEAL, actor_of, services
from interface.api.fhir.negotiation import fhir_response, negotiate, strict
from interface.api.fhir.page import subset
from interface.api.fhir.routes import reader_of
from interface.api.fhir.search import TELLING, Search, Summary
from interface.api.fhir.types import PARTS, Shown
from interface.api.fhir.values import alternatives, bad, moment, unsupported, with_article
from interface.api.paging import NextPage
from interface.domain.search import Moment, Prefix
from interface.render import fhir
from interface.store.search.engine import Place

_CONTROLS = frozenset({*TELLING, "_format", "_pretty", "_cursor"})


class _Found(Protocol):
    @property
    def id(self) -> UUID: ...


T = TypeVar("T", bound=_Found)


@dataclass(frozen=True, slots=True)
class Few:
    """A search as it was understood. `applied`: its parameters in order; `told`: how much of what is found; `after`:
    the last of the page before."""

    kind: str
    applied: tuple[tuple[str, str], ...]
    told: Search
    asked_at: datetime
    after: UUID | None = None
    cursor: str = ""

    @property
    def query(self) -> str:
        return urlencode(self.applied)

    def said(self, name: str) -> list[list[str]]:
        """The values of a parameter: of each time it stands there the alternatives, of which one must hold."""
        return [alternatives(value) for each, value in self.applied if each == name]

    def changed(self, at: datetime) -> bool:
        """Whether what was last changed then is meant (`_lastUpdated`). Raises ApiError 400."""
        return all(
            any(_fits(moment(one, "_lastUpdated", self.asked_at), at) for one in each)
            for each in self.said("_lastUpdated")
        )

    def page(self, found: Sequence[T], named: Sequence[UUID] = ()) -> Sequence[T]:
        """Of all that is found, what is on this page. It is in the order of `named`, else of its ids: what the page
        before ended with need not be there any more."""
        count = 0 if self.told.summary is Summary.COUNT else self.told.count
        if self.after is None:
            return found[:count]
        before = frozenset(named[: named.index(self.after) + 1] if self.after in named else ())
        later = [one for one in found if (one.id not in before if named else one.id > self.after)]
        return later[:count]

    def answer(self, request: web.Request, found: Sequence[T], shown: Sequence[Shown]) -> web.Response:
        """`shown`: what is on this page of all that is found."""
        actor, base = actor_of(request), f"{services(request).base_url}/fhir"
        url, query = f"{base}/{self.kind}", urlencode({"_cursor": self.cursor}) if self.cursor else self.query
        next_url = ""
        if shown and shown[-1].id != found[-1].id:
            kept = NextPage(self.kind, actor.id, actor.organization_id, self.applied,
                            place=Place((), shown[-1].id), asked_at=self.asked_at)  # fmt: skip
            next_url = f"{url}?_cursor={request[SEAL].keep(kept)}"
        parts = [one.json if self.told.whole else subset(PARTS[self.kind], one, self.told) for one in shown]
        entries = [(self.kind, one.id, json) for one, json in zip(shown, parts, strict=True)]
        self_url = f"{url}?{query}" if query else url
        return fhir_response(fhir.searchset(base, entries, self_url, next_url, len(found)))


async def few(request: web.Request, kind: str, parameters: Collection[str], most: int) -> Few:
    """Read a search. Raises ApiError 400, 406, 410 (a page link that is none of this search's), 413, 415."""
    given = list(request.query.items())
    if request.method == "POST" and request.body_exists:
        given += await read_form(request)
    negotiate(request, given)
    actor, after, asked_at = actor_of(request), None, datetime.now(UTC)
    if cursor := dict(given).get("_cursor", ""):
        kept = request[SEAL].find(cursor, kind, actor.id, actor.organization_id)
        given, after = list(kept.parameters), kept.place.id if kept.place is not None else None
        asked_at = kept.asked_at or asked_at
    applied = []
    for name, value in given:
        head, colon, _ = name.partition(":")
        if head in parameters and colon:
            raise unsupported(f"the modifier of {name[:40]!r} is not supported")
        if name not in parameters and name not in _CONTROLS and strict(request):
            raise unsupported(f"{with_article(kind)} has no search parameter {name[:40]!r}")
        if value and (name in parameters or name in TELLING):
            applied.append((name, value))
    names = [name for name, _ in applied]
    if twice := next((one for one in TELLING if names.count(one) > 1), ""):
        raise bad(f"{twice} is given twice")
    told = reader_of(request).told(kind, applied)
    told.count = min(told.count, most)
    return Few(kind, tuple(applied), told, asked_at, after, cursor)


def _fits(wanted: Moment, at: datetime) -> bool:
    """As `store.search.fields.Instant` compares."""
    if wanted.prefix in (Prefix.GT, Prefix.SA):
        return at >= wanted.high
    if wanted.prefix in (Prefix.LT, Prefix.EB):
        return at < wanted.low
    if wanted.prefix is Prefix.GE:
        return at >= wanted.low
    if wanted.prefix is Prefix.LE:
        return at < wanted.high
    return (wanted.low <= at < wanted.high) is (wanted.prefix is not Prefix.NE)
