"""Lists and single records of the REST interface: parameters, pages, ids in paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Protocol, TypeVar
from uuid import UUID

from aiohttp import web

from interface.api.context import SEAL, actor_of, json_response
from interface.api.paging import NextPage
from interface.domain.times import OUT_OF_RANGE, in_range
from interface.errors import ApiError
from interface.store.query import Cursor, Page

E = TypeVar("E", bound=StrEnum)


class Listed(Protocol):
    """What pages are made of: they are in the order of (updated_at, id)."""

    @property
    def id(self) -> UUID: ...
    @property
    def updated_at(self) -> datetime: ...


DEFAULT_LIMIT, MOST_LIMIT = 100, 500


class Query:
    """The parameters of a list, each at most once; `cursor` stands for all of them."""

    def __init__(self, request: web.Request, kind: str, known: Sequence[str]) -> None:
        self._request, self._kind = request, kind
        given = tuple((name, value) for name, value in request.query.items() if value)
        actor = actor_of(request)
        self.after: Cursor | None = None
        cursor = request.query.get("cursor")
        if cursor is not None:
            if len(given) > 1:
                raise ApiError(400, "value", "cursor stands alone: it holds the other parameters")
            page = request[SEAL].find(cursor, kind, actor.id, actor.organization_id)
            given, self.after = page.parameters, page.after
        self._given = dict(given)
        unknown = sorted(set(self._given) - {*known, "limit"})
        if unknown or len(self._given) < len(given):
            raise ApiError(
                400, "value", f"a parameter is repeated or not one of {', '.join((*known, 'limit', 'cursor'))}"
            )

    @property
    def words(self) -> str:
        return "&".join(f"{name}={value}" for name, value in self._given.items())

    def text(self, name: str) -> str:
        return self._given.get(name, "")

    def given(self, name: str) -> str | None:
        """As it was given, also where that is nothing: for a parameter whose emptiness says something."""
        return self._request.query.get(name)

    def needed(self, name: str, text: str) -> str:
        """A parameter without which nothing can be answered. Raises ApiError 400 with `text`."""
        if name not in self._given:
            raise ApiError(400, "required", text)
        return self._given[name]

    def id(self, name: str) -> tuple[UUID, ...]:
        try:
            return (UUID(self._given[name]),) if name in self._given else ()
        except ValueError:
            raise ApiError(400, "value", f"{name} is not an id") from None

    def choices(self, name: str, words: type[E]) -> tuple[E, ...]:
        try:
            return tuple(map(words, one(self.text(name))))
        except ValueError:
            raise ApiError(400, "value", f"{name} is one of {', '.join(word.value for word in words)}") from None

    def flag(self, name: str) -> bool:
        return self.asked(name) is True

    def asked(self, name: str) -> bool | None:
        """True, False, or None where it is not asked for."""
        value = self.text(name)
        if value not in ("", "true", "false"):
            raise ApiError(400, "value", f"{name} is true or false")
        return value == "true" if value else None

    def day(self, name: str) -> date | None:
        try:
            return date.fromisoformat(self._given[name]) if name in self._given else None
        except ValueError:
            raise ApiError(400, "value", f"{name} is a date, YYYY-MM-DD") from None

    def instant(self, name: str) -> datetime | None:
        """A date or a time; in UTC where it has no zone."""
        text = self.text(name)
        try:
            at = datetime.fromisoformat(text) if text else None
        except ValueError:
            raise ApiError(400, "value", f"{name} is a date or a time") from None
        at = at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at
        if at is not None and not in_range(at):
            raise ApiError(400, "value", f"{name} {OUT_OF_RANGE}")
        return at

    @property
    def limit(self) -> int:
        value = self._given.get("limit", str(DEFAULT_LIMIT))
        if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= MOST_LIMIT):
            raise ApiError(400, "value", f"limit is a number from 1 to {MOST_LIMIT}")
        return int(value)

    @property
    def page(self) -> Page:
        """One row more than is shown tells whether there is a next page."""
        return Page(after=self.after, newest_first=True, limit=self.limit + 1)

    def number(self, name: str) -> int:
        value = self._given.get(name, "0")
        if not (value.isascii() and value.isdigit() and len(value) <= 9):
            raise ApiError(400, "value", f"{name} is a whole number")
        return int(value)

    def answer(self, name: str, found: Sequence[Listed]) -> web.Response:
        shown = found[: self.limit]
        more = len(found) > self.limit
        link = self.link(name, Cursor(shown[-1].updated_at, shown[-1].id)) if more else None
        return json_response({name: shown, "next": link})

    def link(self, name: str, after: Cursor) -> str:
        """Where the search goes on."""
        actor = actor_of(self._request)
        page = NextPage(self._kind, actor.id, actor.organization_id, tuple(self._given.items()), after)
        return f"/api/{name}?cursor={self._request[SEAL].keep(page)}"


def read_query(request: web.Request, kind: str, known: Sequence[str]) -> Query:
    """The parameters of a list: those of `known`, `limit` and `cursor`. Raises ApiError 400 and 410."""
    described: Callable[[Sequence[str]], Query] | None = getattr(request, "described_query", None)
    if described is not None:  # see `api.described`
        return described(known)
    return Query(request, kind, known)


def listing(name: str, kind: type) -> dict[str, object]:
    """What `Query.answer` answers with, for a route's `gives`."""
    return {name: [kind], "next": str | None}


def path_id(request: web.Request) -> UUID:
    try:
        return UUID(request.match_info["id"])
    except ValueError:
        raise not_found() from None


def not_found() -> ApiError:
    return ApiError(404, "not-found", "there is none of this id")


def one(text: str) -> tuple[str, ...]:
    """A parameter as the values of a filter: none when it was not given."""
    return (text,) if text else ()
