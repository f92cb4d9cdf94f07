"""What a handler reads of a request, found by letting it read one that notes what is taken.

Nothing is declared twice: the parameters and the body in `/api/openapi.json` are those that the code asks for. A
handler is run until it has read its body whole (`Body.done`) or turns to the database, and no further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast
from uuid import UUID

from aiohttp import web

from interface.api.bodies import MOST_NUMBER, Body
from interface.api.context import ACTOR, REQUEST_ID, SERVICES, TOKEN, Handler, Services
from interface.api.lists import MOST_LIMIT, Query
from interface.api.schema import Schema, words_of
from interface.domain.permissions import Permission
from interface.domain.views import Actor, ActorKind
from interface.errors import ApiError
from interface.settings import Settings
from interface.store.query import Page

E = TypeVar("E", bound=StrEnum)
V = TypeVar("V")

_ID = UUID("00000000-0000-7000-8000-000000000000")
_PATH = {"id": str(_ID), "month": "2026-01"}  # what parts of a path look like; others are a word
_DECIMAL: Schema = {"type": ["string", "integer"], "description": 'exact: as text, such as "2.5", or a whole number'}


@dataclass
class Taken:
    """What was read. `whole`: the handler came to the end of what it reads."""

    parameters: dict[str, Schema] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)  # of the parameters
    headers: set[str] = field(default_factory=set)
    body: Schema | None = None
    body_optional: bool = False
    whole: bool = False


class _ReadAll(Exception):
    """The handler has read what it reads."""


async def describe(handler: Handler, method: str) -> Taken:
    """What a handler reads of a request of that method."""
    taken = Taken()
    with suppress(ApiError):
        try:
            await handler(cast(web.Request, _Request(method, taken)))
        except _ReadAll:
            pass
        taken.whole = True
    return taken


class _Stop:
    """Stands for what is beyond reading, such as the database."""

    def __getattr__(self, name: str) -> NoReturn:
        raise _ReadAll

    def __call__(self) -> NoReturn:
        raise _ReadAll


class _App(dict[object, object]):
    def __missing__(self, key: object) -> NoReturn:
        raise _ReadAll


class _Headers(dict[str, str]):
    def __init__(self, taken: Taken) -> None:
        self._taken = taken

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        self._taken.headers.add(name)
        return default


class _Match(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return _PATH.get(name, "x")


class _Request:
    """As much of `web.Request` as handlers read. `described_body` and `described_query` are what `bodies` and `lists`
    give them instead of their own."""

    content_type, remote, path = "application/json", "", "/"

    def __init__(self, method: str, taken: Taken) -> None:
        self.method, self._taken = method, taken
        self.match_info = _Match()
        self.headers = _Headers(taken)
        stop = cast(Any, _Stop())
        served = Services(**{one.name: stop for one in fields(Services)} | {"settings": Settings(Path())})
        self.app = _App({SERVICES: served})
        every = frozenset(permission.value for permission in Permission)
        self._said = {ACTOR: Actor(ActorKind.USER, _ID, "", _ID, every), REQUEST_ID: "", TOKEN: ""}

    def __getitem__(self, key: object) -> object:
        return self._said[cast(Any, key)]

    @property
    def body_exists(self) -> bool:
        self._taken.body_optional = True
        return True

    def described_query(self, known: Sequence[str]) -> Query:
        return _Query(self._taken, known)

    def described_body(self) -> Body:
        self._taken.body = _object()
        return _Body(self._taken, self._taken.body)


class _Query(Query):
    def __init__(self, taken: Taken, known: Sequence[str]) -> None:
        self._taken, self.after, self._given = taken, None, {}
        for name in known:
            taken.parameters.setdefault(name, {"type": "string"})

    def _note(self, name: str, schema: Schema) -> None:
        self._taken.parameters[name] = schema

    def id(self, name: str) -> tuple[UUID, ...]:
        self._note(name, {"type": "string", "format": "uuid"})
        return ()

    def choices(self, name: str, words: type[E]) -> tuple[E, ...]:
        self._note(name, words_of(words))
        return ()

    def asked(self, name: str) -> bool | None:
        self._note(name, {"type": "boolean"})
        return None

    def day(self, name: str) -> date | None:
        self._note(name, {"type": "string", "format": "date"})
        return None

    def number(self, name: str) -> int:
        self._note(name, {"type": "integer", "minimum": 0, "maximum": 999_999_999})
        return 0

    def needed(self, name: str, text: str) -> str:
        self._taken.required.add(name)
        return "x"

    def given(self, name: str) -> str | None:
        return None

    @property
    def limit(self) -> int:
        self._taken.parameters["limit"] = {"type": "integer", "minimum": 1, "maximum": MOST_LIMIT}
        return 1

    @property
    def page(self) -> Page:
        self._taken.parameters["cursor"] = {"type": "string"}
        return super().page


def _object() -> Schema:
    return {"type": "object", "properties": {}, "additionalProperties": False}


class _Body(Body):
    """Notes its members. It gives what lets a handler read on: each optional member is there, each text is a word."""

    def __init__(self, taken: Taken, schema: Schema) -> None:
        self._taken, self._schema, self.problems = taken, schema, []
        self._asked: set[str] = set()  # whether they are there: then they need not be

    def _note(self, name: str, schema: Schema, required: bool = False) -> None:
        """null is as good as nothing, for every member that need not be there."""
        if required and name not in self._asked:
            self.required(name)
        elif "enum" in schema:
            schema = {"enum": [*schema["enum"], None]}
        elif isinstance(schema.get("type"), list):
            schema = {**schema, "type": [*schema["type"], "null"]}
        else:
            schema = {**schema, "type": [schema["type"], "null"]}
        self._schema["properties"][name] = schema

    def has(self, name: str) -> bool:
        self._asked.add(name)
        return True

    def null(self, name: str) -> bool:
        return False

    def required(self, name: str) -> None:
        if name not in (needed := self._schema.setdefault("required", [])):
            needed.append(name)

    def text(self, name: str, default: str | None = None) -> str:
        self._note(name, {"type": "string"}, default is None)
        return default or "x"

    def flag(self, name: str) -> bool:
        self._note(name, {"type": "boolean"})
        return False

    def number(self, name: str, most: int = MOST_NUMBER) -> int | None:
        self._note(name, {"type": "integer"})
        return 1

    def decimal(self, name: str) -> Decimal | None:
        self._note(name, _DECIMAL)
        return Decimal(1)

    def choice(self, name: str, words: type[E], default: E) -> E:
        self._note(name, words_of(words))
        return default

    def word(self, name: str, words: Mapping[str, V]) -> V | None:
        self._note(name, {"type": "string", "enum": list(words)}, required=True)
        return next(iter(words.values()))

    def day(self, name: str) -> date | None:
        self._note(name, {"type": "string", "format": "date"})
        return date(2026, 1, 1)

    def instant(self, name: str) -> datetime | None:
        self._note(name, {"type": "string", "format": "date-time"})
        return datetime(2026, 1, 1, tzinfo=UTC)

    def id(self, name: str) -> UUID | None:
        self._note(name, {"type": "string", "format": "uuid"})
        return _ID

    def texts(self, name: str) -> tuple[str, ...]:
        self._list_of(name, {"type": "string"})
        return ("x",)

    def choices(self, name: str, words: type[E]) -> tuple[E, ...]:
        self._list_of(name, words_of(words))
        return ()

    def numbers(self, name: str) -> tuple[int, ...]:
        self._list_of(name, {"type": "integer"})
        return (1,)

    def ids(self, name: str) -> tuple[UUID, ...]:
        self._list_of(name, {"type": "string", "format": "uuid"})
        return (_ID,)

    def objects(self, name: str) -> list[Body]:
        inner = _object()
        self._list_of(name, inner)
        return [_Body(self._taken, inner)]

    def part(self, name: str) -> Body | None:
        inner = _object()
        self._schema["properties"][name] = {"anyOf": [inner, {"type": "null"}]}
        return _Body(self._taken, inner)

    def _list_of(self, name: str, items: Schema) -> None:
        self._note(name, {"type": "array", "items": items})

    def close(self) -> None:
        """Nothing that was not asked for is in it."""

    def done(self) -> NoReturn:
        raise _ReadAll
