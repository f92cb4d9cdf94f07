"""One table of a TOML file (a driver, a rule set): what is taken from it is checked, what is left is said. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, Generic, TypeVar

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?")


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """A text that means something: `make` says what, or raises ValueError; `pattern` is for readers of a schema."""

    make: Callable[[str], T]
    pattern: str


@dataclass(slots=True)
class Table:
    """One TOML table; what is not taken from it is a problem."""

    raw: dict[str, Any]
    path: str
    problems: list[str]
    taken: set[str] = field(default_factory=set)
    children: list[Table] = field(default_factory=list)

    def say(self, path: str, text: str) -> None:
        self.problems.append(f"{path}: {text}")

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def take(self, key: str) -> Any:
        self.taken.add(key)
        return self.raw.get(key)

    def table(self, key: str) -> Table:
        value = self.take(key)
        if value is not None and not isinstance(value, dict):
            self.say(self.at(key), "is not a table")
            value = None
        child = Table(value or {}, self.at(key), self.problems)
        self.children.append(child)
        return child

    def tables(self, key: str) -> list[Table]:
        value = self.take(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.say(self.at(key), "is not an array of tables")
            return []
        made = [Table(item, f"{self.at(key)}[{index}]", self.problems) for index, item in enumerate(value)]
        self.children += made
        return made

    def keys(self, allowed: type[StrEnum] | None = None) -> list[str]:
        """Every key, in a table whose keys are the writer's own, or are words that the caller checks (`allowed`)."""
        return list(self.raw)

    def child(self, value: dict[str, Any], key: str) -> Table:
        made = Table(value, self.at(key), self.problems)
        self.children.append(made)
        return made

    def lines(self, key: str) -> list[str | dict[str, Any]]:
        """Strings, and tables among them."""
        value = self.take(key)
        if not isinstance(value, list) or not all(isinstance(item, str | dict) for item in value):
            self.say(self.at(key), "is not an array of lines")
            return []
        return value

    def text(self, key: str, default: str | None = "") -> str:
        value = self.take(key)
        if value is None:
            if default is None:
                self.say(self.at(key), "is missing")
            return default or ""
        if not isinstance(value, str):
            self.say(self.at(key), "is not a string")
            return ""
        return value

    def word(self, key: str, allowed: Sequence[str]) -> str:
        """A string that is one of `allowed`; "" with the problem said for another."""
        value = self.text(key)
        if value and value not in allowed:
            self.say(self.at(key), f"{value!r} is not one of {', '.join(filter(None, allowed))}")
            return ""
        return value

    def flag(self, key: str) -> bool:
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            self.say(self.at(key), "is not true or false")
        return value is True

    def whole(self, key: str, default: int = 0) -> int:
        """A number that is not negative."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.say(self.at(key), "is not a whole number")
            return default
        return value

    def seconds(self, key: str, default: float) -> float:
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
            self.say(self.at(key), "is not a number of seconds")
            return default
        return float(value)

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.say(self.at(key), "is not a string or an array of strings")
            return ()
        return tuple(value)

    def choice(self, key: str, kind: type[E], default: E) -> E:
        """`default` stands in for a value that is missing (which is said) or wrong."""
        value = self.text(key, None)
        try:
            return kind(value)
        except ValueError:
            if value:
                self.say(self.at(key), f"{value!r} is not one of {', '.join(kind)}")
            return default

    def made(self, key: str, make: Callable[[str], Any], text: str) -> Any:
        """`make(text)`, or None with the problem said."""
        try:
            return make(text)
        except (ValueError, LookupError, re.error) as error:
            self.say(self.at(key), str(error))
            return None

    def pattern(self, key: str) -> re.Pattern[str] | None:
        text = self.text(key)
        compiled: re.Pattern[str] | None = self.made(key, re.compile, text) if text else None
        return compiled

    def patterns(self, key: str) -> tuple[re.Pattern[str], ...]:
        made = [self.made(key, re.compile, text) for text in self.texts(key)]
        return tuple(one for one in made if one is not None)

    def forms(self, key: str, form: Form[T]) -> tuple[T, ...] | None:
        """What each text means, of one or of an array; None when the key is not there."""
        if key not in self.raw:
            return None
        made = [self.made(key, form.make, text) for text in self.texts(key)]
        return tuple(one for one in made if one is not None)

    def decimal(self, key: str) -> Decimal | None:
        """An exact number: a string, a whole number, or a number read with `parse_float=Decimal`. None: not there."""
        value = self.take(key)
        if value is None:
            return None
        made = exact(value)
        if made is None:
            self.say(self.at(key), "is not a number in plain decimal digits")
        return made

    def decimals(self, key: str) -> tuple[Decimal, ...] | None:
        """An array of exact numbers; None when the key is not there."""
        value = self.take(key)
        if value is None:
            return None
        made = [exact(item) for item in value] if isinstance(value, list) else [None]
        if None in made:
            self.say(self.at(key), "is not an array of numbers in plain decimal digits")
            return ()
        return tuple(one for one in made if one is not None)

    def finish(self) -> None:
        for key in sorted(self.raw.keys() - self.taken):
            self.say(self.at(key), "is not a known key")
        for child in self.children:
            child.finish()


def exact(value: object) -> Decimal | None:
    """The number that a TOML value is, if it is one and is exact: a float never is."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return None
    text = str(value)
    return Decimal(text) if _DECIMAL.fullmatch(text) else None
