"""One table of a `driver.toml`: what is taken from it is checked, what is left is said. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from interface.driver.rules import FieldPath

_PATH = re.compile(r"(?:([A-Z])\.|([A-Z][A-Z0-9]{2})-)([1-9][0-9]?)(?:\.([1-9][0-9]?))?(?:\.([1-9][0-9]?))?")
_NUMBER = r"[1-9][0-9]?"
# The same for readers of the JSON Schema: LIS2 has no subcomponents.
PATH_PATTERN = rf"[A-Z]\.{_NUMBER}(?:\.{_NUMBER})?|[A-Z][A-Z0-9]{{2}}-{_NUMBER}(?:\.{_NUMBER}){{0,2}}"
E = TypeVar("E", bound=StrEnum)


def parse_places(text: str) -> tuple[FieldPath, ...]:
    """`R.3.4 + R.3.8`: what stands at several places makes one; raises ValueError."""
    return tuple(parse_path(part.strip()) for part in text.split(" + "))


def parse_path(text: str) -> FieldPath:
    """`R.3.5`, `OBX-3.1`; raises ValueError."""
    match = _PATH.fullmatch(text)
    if match is None or (match[1] and match[5]):
        raise ValueError(f"{text!r} is not a field path such as R.3.5 or OBX-3.1")
    component, subcomponent = (int(group) if group else None for group in (match[4], match[5]))
    return FieldPath(match[1] or match[2], int(match[3]), component, subcomponent)


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

    def places(self, key: str) -> tuple[tuple[FieldPath, ...], ...] | None:
        """Alternatives, each of one place or of several that make one; None when the key is not there."""
        if key not in self.raw:
            return None
        made = [self.made(key, parse_places, text) for text in self.texts(key)]
        return tuple(places for places in made if places is not None)

    def field_paths(self, key: str) -> tuple[FieldPath, ...] | None:
        """None when the key is not there."""
        if key not in self.raw:
            return None
        made = [self.made(key, parse_path, text) for text in self.texts(key)]
        return tuple(path for path in made if path is not None)

    def finish(self) -> None:
        for key in self.raw.keys() - self.taken:
            self.say(self.at(key), "is not a known key")
        for child in self.children:
            child.finish()
