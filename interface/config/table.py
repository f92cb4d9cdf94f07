"""A TOML table read key by key, and the texts that stand for addresses and line formats."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import TypeVar

from interface.errors import ConfigProblem
from interface.settings import Address, LineFormat, Parity

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
_LINE_FORMAT = re.compile(r"([78])([NEO])([12])")

Choice = TypeVar("Choice", bound=StrEnum)


class Table:
    """A TOML table read key by key; what is wrong is collected under its path, what was never asked for is unknown."""

    def __init__(self, values: Mapping[str, object], path: str, problems: list[ConfigProblem]) -> None:
        self._values, self._path, self._problems = values, path, problems
        self._known: dict[str, None] = {}

    def at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def problem(self, key: str, text: str) -> None:
        self._problems.append(ConfigProblem(self.at(key) if key else self._path, text))

    def has(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> object:
        self._known[key] = None
        return self._values.get(key)

    def text(self, key: str, default: str = "", required: bool = False) -> str:
        value = self.get(key)
        if value is None:
            if required:
                self.problem(key, "is missing")
            return default
        if not isinstance(value, str):
            self.problem(key, f"must be text in quotes, not {toml_type(value)}")
            return default
        if required and not value:
            self.problem(key, "must not be empty")
        return value

    def name(self, key: str, default: str = "", required: bool = False) -> str:
        value = self.text(key, default, required)
        if value and not _NAME.fullmatch(value):
            self.problem(key, f'"{value}" is not a name: lower-case letters, digits, - _ and . only, at most 63')
            return ""
        return value

    def choice(self, key: str, default: Choice) -> Choice:
        value = self.text(key, default.value)
        kind = type(default)
        try:
            return kind(value)
        except ValueError:
            self.problem(key, f'"{value}" is not one of {", ".join(kind)}{hint(value, list(kind))}')
            return default

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.problem(key, f"must be a whole number, not {toml_type(value)}")
        elif not low <= value <= high:
            self.problem(key, f"{value} is not between {low} and {high}")
        else:
            return value
        return default

    def seconds(self, key: str, default: float, low: float, high: float) -> float:
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.problem(key, f"must be a number of seconds, not {toml_type(value)}")
        elif not low <= value <= high:
            self.problem(key, f"{value} is not between {low:g} and {high:g} seconds")
        else:
            return float(value)
        return default

    @property
    def names(self) -> tuple[str, ...]:
        """The keys that are there, of a table whose keys are the user's own."""
        return tuple(self._values)

    def flag(self, key: str) -> bool | None:
        """None when it is not there."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            self.problem(key, f"must be true or false, not {toml_type(value)}")
            return None
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            self.problem(key, "must be a list of texts")
            return ()
        return tuple(value)

    def address(self, key: str, default: Address | None = None) -> Address | None:
        value = self.text(key, str(default) if default else "", required=default is None)
        if not value:
            return default
        try:
            return parse_address(value)
        except ValueError as error:
            self.problem(key, str(error))
            return None

    def table(self, key: str, required: bool = False) -> Table | None:
        value = self.get(key)
        if value is None:
            if required:
                self.problem(key, "is missing")
                return None
            value = {}
        if not isinstance(value, dict):
            self.problem(key, f"must be a table, not {toml_type(value)}")
            return None
        return Table(value, self.at(key), self._problems)

    def tables(self, key: str) -> list[Table]:
        value = self.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            self.problem(key, f"must be written as [[{key}]]")
            return []
        return [Table(entry, f"{self.at(key)}[{index}]", self._problems) for index, entry in enumerate(value)]

    def close(self, known: tuple[str, ...] = ()) -> None:
        """Every key that was not asked for is a problem."""
        names = [*self._known, *known]
        for key in self._values:
            if key not in names:
                self.problem(key, f"is not a key Labora knows{hint(key, names)}")


def parse_address(text: str) -> Address:
    """`host:port` or `[v6]:port`. Raises ValueError with a sentence."""
    host, separator, port = text.rpartition(":")
    if not separator:
        raise ValueError(f'"{text}" is not an address: it must be host:port')
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f'"{text}" is not an address: an IPv6 host stands in brackets, [::1]:4001')
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f'"{text}" is not an address: the port must be between 0 and 65535')
    if not _is_host(host):
        raise ValueError(f'"{text}" is not an address: "{host}" is neither an IP address nor a host name')
    return Address(host, int(port))


def parse_line_format(text: str) -> LineFormat:
    """`8N1`, `7E1` and their like. Raises ValueError with a sentence."""
    match = _LINE_FORMAT.fullmatch(text)
    if not match:
        rule = "data bits 7 or 8, parity N, E or O, stop bits 1 or 2"
        raise ValueError(f'"{text}" is not the format of a serial line such as 8N1: {rule}')
    return LineFormat(int(match[1]), Parity(match[2]), int(match[3]))


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # Digits and dots alone are a mistyped IPv4 address, never a host name.
        return bool(_HOST.fullmatch(host)) and not re.fullmatch(r"[0-9.]+", host)
    return True


def hint(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f' (did you mean "{near[0]}"?)' if near else ""


def toml_type(value: object) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a table"}
    return "text" if isinstance(value, str) else names.get(type(value), "a date or time")
