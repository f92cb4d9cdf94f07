"""Request bodies: forms, and JSON read into our own words, every fault in it reported at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID

import orjson
from aiohttp import web

from interface.domain.times import OUT_OF_RANGE, in_range
from interface.errors import ApiError

E = TypeVar("E", bound=StrEnum)
V = TypeVar("V")
MOST_PROBLEMS = 50
MOST_DEPTH = 50  # of objects and lists in one another
MOST_NUMBER: Final = 2**31 - 1  # what the database keeps of whole numbers
MOST_DIGITS: Final = 100  # of a quantity, before and after its point; 1E+999999 is no longer one
FORM: Final = "application/x-www-form-urlencoded"
MOST_FIELDS: Final = 1000
# What a form may be written in. Others that Python knows are slow, or turn the names of fields into other names.
_CHARSETS: Final = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "utf-8", "iso-8859-1": "latin-1"}


async def read_body(request: web.Request, *, optional: bool = False) -> Body:
    """The JSON object that is the body. `optional`: none is as good as an empty one. Raises as `read_json`."""
    described: Callable[[], Body] | None = getattr(request, "described_body", None)  # see `api.described`
    if described is not None:
        return described()
    return Body(await read_json(request) if request.body_exists or not optional else {})


async def read_json(request: web.Request) -> object:
    """The body as JSON. Raises ApiError 415 for another media type, 400 for what is no JSON."""
    if request.content_type != "application/json":
        raise ApiError(415, "not-supported", "the body is application/json")
    return parse_json(await request.read())


async def read_form(request: web.Request) -> list[tuple[str, str]]:
    """The fields of the form that is the body, in their order. Raises ApiError 415 for another media type or charset,
    400 for what is not written in it, 413 for too many fields."""
    charset = _CHARSETS.get((request.charset or "utf-8").lower()) if request.content_type == FORM else None
    if charset is None:
        raise ApiError(415, "not-supported", f"the body is {FORM}, in UTF-8")
    try:
        text = (await request.read()).decode(charset)
    except UnicodeDecodeError:
        raise ApiError(400, "structure", "the body is not UTF-8") from None
    try:
        return parse_qsl(text, keep_blank_values=True, encoding=charset, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise ApiError(413, "too-long", f"the form has more than {MOST_FIELDS} fields") from None


def parse_json(text: bytes) -> object:
    """What JSON says. Raises ApiError 400 for what is none, or is nested deeper than anything that we take."""
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ApiError(400, "structure", "the body is not JSON") from None
    if text.count(b"{") + text.count(b"[") > MOST_DEPTH and _depth(value) > MOST_DEPTH:
        raise ApiError(400, "structure", f"the body is nested more than {MOST_DEPTH} deep")
    return value


def _depth(value: object) -> int:
    """Level by level: what recurses over it later is sure of its bound."""
    level, depth = [value], 0
    while level and depth <= MOST_DEPTH:
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
            if isinstance(inner, dict | list)
        ]
        depth += 1
    return depth


class Body:
    """One JSON object. Each method takes a member and notes what is wrong with it; `done` raises for all of that.

    Problems name members, never their values, which may be a patient's.
    """

    def __init__(self, value: object, path: str = "", problems: list[str] | None = None) -> None:
        self._path = path
        self.problems: list[str] = [] if problems is None else problems
        self._rest: dict[str, object] = {}
        if isinstance(value, Mapping):
            self._rest = dict(value)
        else:
            self._problem("", "is not an object")

    def _problem(self, name: str, text: str) -> None:
        where = ".".join(part for part in (self._path, name) if part) or "the body"
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(f"{where} {text}")

    def has(self, name: str) -> bool:
        return self._rest.get(name) is not None

    def null(self, name: str) -> bool:
        """Take the member if it is there and is null; whether it was."""
        there = name in self._rest and self._rest[name] is None
        if there:
            del self._rest[name]
        return there

    def required(self, name: str) -> None:
        """Note it when the member is not there, or empty, for readers that have a default of their own."""
        if self._rest.get(name) in (None, ""):
            self._problem(name, "is missing")

    def text(self, name: str, default: str | None = None) -> str:
        """Text; required when there is no default."""
        value = self._rest.pop(name, None)
        if value is None:
            if default is None:
                self._problem(name, "is missing")
            return default or ""
        if not isinstance(value, str):
            self._problem(name, "is not text")
            return ""
        if "\0" in value:  # no text of PostgreSQL's holds it
            self._problem(name, "holds a character that is none")
            return ""
        return value

    def flag(self, name: str) -> bool:
        value = self._rest.pop(name, None)
        if value is not None and not isinstance(value, bool):
            self._problem(name, "is neither true nor false")
        return value is True

    def maybe(self, name: str) -> bool | None:
        """True, False, or None where nothing is said."""
        said = self.has(name)
        value = self.flag(name)
        return value if said else None

    def number(self, name: str, most: int = MOST_NUMBER) -> int | None:
        value = self._rest.pop(name, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            self._problem(name, "is not a whole number")
            return None
        if isinstance(value, int) and abs(value) > most:
            self._problem(name, f"is beyond {most}")
            return None
        return value if isinstance(value, int) else None

    def decimal(self, name: str) -> Decimal | None:
        """A quantity, exact: as text, or a whole number. A JSON number with a point has been a float on its way."""
        value = self._rest.pop(name, None)
        if value is None or value == "":
            return None
        try:
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise ValueError
            number = Decimal(value)
        except (ValueError, ArithmeticError):
            self._problem(name, 'is not a number written as text, such as "2.5"')
            return None
        if not number.is_finite():
            self._problem(name, "is not a finite number")
            return None
        if abs(number.adjusted()) > MOST_DIGITS or len(number.as_tuple().digits) > MOST_DIGITS:
            self._problem(name, f"has more than {MOST_DIGITS} digits")
            return None
        return number

    def choice(self, name: str, words: type[E], default: E) -> E:
        text = self.text(name, default.value)
        try:
            return words(text)
        except ValueError:
            self._problem(name, f"is none of {', '.join(word.value for word in words)}")
            return default

    def word(self, name: str, words: Mapping[str, V]) -> V | None:
        """What one of `words` stands for; it must be there."""
        text = self.text(name)
        if text and text not in words:
            self._problem(name, f"is none of {', '.join(words)}")
        return words.get(text)

    def day(self, name: str) -> date | None:
        text = self.text(name, "")
        try:
            return date.fromisoformat(text) if text else None
        except ValueError:
            self._problem(name, "is not a date, YYYY-MM-DD")
            return None

    def instant(self, name: str) -> datetime | None:
        text = self.text(name, "")
        try:
            at = datetime.fromisoformat(text) if text else None
        except ValueError:
            at = None
            self._problem(name, "is not a time, YYYY-MM-DDThh:mm:ss+hh:mm")
        if at is not None and at.tzinfo is None:
            self._problem(name, "has no time zone")
            return None
        if at is not None and not in_range(at):
            self._problem(name, OUT_OF_RANGE)
            return None
        return at

    def id(self, name: str) -> UUID | None:
        text = self.text(name, "")
        try:
            return UUID(text) if text else None
        except ValueError:
            self._problem(name, "is not an id")
            return None

    def texts(self, name: str) -> tuple[str, ...]:
        entries = self._list(name)
        if not all(isinstance(entry, str) and "\0" not in entry for entry in entries):
            self._problem(name, "holds something that is not text")
        return tuple(entry for entry in entries if isinstance(entry, str))

    def choices(self, name: str, words: type[E]) -> tuple[E, ...]:
        found = []
        for text in self.texts(name):
            try:
                found.append(words(text))
            except ValueError:
                self._problem(name, f"holds something that is none of {', '.join(word.value for word in words)}")
        return tuple(found)

    def numbers(self, name: str) -> tuple[int, ...]:
        entries = self._list(name)
        if any(isinstance(entry, bool) or not isinstance(entry, int) for entry in entries):
            self._problem(name, "holds something that is not a whole number")
        return tuple(entry for entry in entries if isinstance(entry, int))

    def ids(self, name: str) -> tuple[UUID, ...]:
        found = []
        for text in self.texts(name):
            try:
                found.append(UUID(text))
            except ValueError:
                self._problem(name, "holds something that is not an id")
        return tuple(found)

    def objects(self, name: str) -> list[Body]:
        return [
            Body(entry, f"{self._at(name)}[{index}]", self.problems) for index, entry in enumerate(self._list(name))
        ]

    def part(self, name: str) -> Body | None:
        value = self._rest.pop(name, None)
        return None if value is None else Body(value, self._at(name), self.problems)

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _list(self, name: str) -> list[object]:
        value = self._rest.pop(name, None)
        if value is not None and not isinstance(value, list):
            self._problem(name, "is not a list")
        return value if isinstance(value, list) else []

    def close(self) -> None:
        """Note the members that nobody asked for: a misspelt one must not be left out in silence."""
        for name in self._rest:
            self._problem(name if name.isidentifier() and len(name) <= 40 else "a member", "is not known here")

    def done(self) -> None:
        """Raise ApiError 422 with everything that was noted."""
        self.close()
        if self.problems:
            raise ApiError(422, "value", "; ".join(self.problems))


def version_of(request: web.Request, body: Body) -> int:
    """The version that a change was made from. Raises ApiError 428 where nobody says it."""
    version = body.number("version")
    tag = request.headers.get("If-Match", "").removeprefix("W/").strip('" ')
    if version is None and tag.isascii() and tag.isdigit():
        version = int(tag[:18])  # no version has so many
    if version is None:
        raise ApiError(428, "required", "say from which version the change was made: version, or If-Match")
    return version
