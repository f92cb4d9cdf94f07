"""The JSON Schema of `driver.toml`, recorded from the parser itself: what it asks for is what may stand there. Pure.

`record` runs `parse.read_driver` over a table that answers nothing and notes each question, once for each way through.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from itertools import product
from typing import Any

from interface.domain.model import Protocol
from interface.domain.table import E, Form, T, Table
from interface.driver.layout import LayoutKind
from interface.driver.parse import read_driver
from interface.driver.schema_words import WORDS

_ANY = "*"  # stands for any key where the writer's own are keys
_LINES_DEEP = 4  # within the file: `each` within `each`: tests of a specimen


def schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12."""
    found: dict[str, Any] = {}
    for protocol, kind, nested in product(Protocol, LayoutKind, (False, True)):
        recorder = _Recorder("", {"driver.protocol": protocol, "record.kind": kind}, nested)
        read_driver(recorder)
        found = _merged(found, recorder.recorded())
    found.pop("description", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "driver.toml",
        "description": "What one analyzer says and how it is answered. docs/drivers.md and docs/framing.md explain it.",
    } | found


def as_text() -> str:
    """The schema as the repository keeps it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


class _Asked(dict[str, Any]):
    """A table that holds every key as far as anybody looks, and notes which ones were looked for before being taken."""

    def __init__(self, nested: bool) -> None:
        super().__init__()
        self.optional: set[str] = set()
        self._nested = nested

    def __contains__(self, key: object) -> bool:
        self.optional.add(str(key))
        return True

    def __bool__(self) -> bool:
        return True

    def get(self, key: str, default: Any = None) -> Any:
        return {} if self._nested and key == _ANY else default


class _Recorder(Table):
    """Notes what is asked. `fixed`: what a choice is to be for this way through the parser."""

    def __init__(self, path: str, fixed: Mapping[str, StrEnum], nested: bool, depth: int = 0) -> None:
        super().__init__(_Asked(nested), path, [])
        self._fixed, self._nested, self._depth = fixed, nested, depth
        self._properties: dict[str, dict[str, Any]] = {}
        self._required: set[str] = set()
        self._inner: list[tuple[str, _Recorder, bool]] = []  # key, table, whether it is one of several

    # ---- what is asked

    def take(self, key: str) -> Any:
        return None

    def keys(self, allowed: type[StrEnum] | None = None) -> list[str]:
        return [_ANY] if allowed is None else [str(one) for one in allowed]

    def table(self, key: str) -> Table:
        return self._open(key, False)

    def tables(self, key: str) -> list[Table]:
        return [self._open(key, True)]

    def child(self, value: dict[str, Any], key: str) -> Table:
        return self._open(key.split("[")[0], True)

    def lines(self, key: str) -> list[str | dict[str, Any]]:
        self._note(key, {"type": "array", "items": {"anyOf": [{"type": "string"}]}}, required=True)
        return [{}] if self._depth < _LINES_DEEP else []

    def text(self, key: str, default: str | None = "") -> str:
        self._note(key, {"type": "string"}, required=default is None)
        return default or ""

    def word(self, key: str, allowed: Sequence[str]) -> str:
        self._note(key, {"enum": list(allowed)})
        return ""

    def flag(self, key: str) -> bool:
        self._note(key, {"type": "boolean"})
        return False

    def whole(self, key: str, default: int = 0) -> int:
        self._note(key, {"type": "integer", "minimum": 0})
        return default

    def seconds(self, key: str, default: float) -> float:
        self._note(key, {"type": "number", "minimum": 0})
        return default

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        self._several(key, {"type": "string"})
        return default

    def choice(self, key: str, kind: type[E], default: E) -> E:
        self._note(key, {"enum": [str(one) for one in kind]}, required=True)
        fixed = self._fixed.get(self.at(key))
        return fixed if isinstance(fixed, kind) else default

    def made(self, key: str, make: Callable[[str], Any], text: str) -> Any:
        return None

    def pattern(self, key: str) -> None:
        self._note(key, {"type": "string", "format": "regex"})

    def patterns(self, key: str) -> tuple[Any, ...]:
        self._several(key, {"type": "string", "format": "regex"})
        return ()

    def forms(self, key: str, form: Form[T]) -> tuple[T, ...] | None:
        self._several(key, {"type": "string", "pattern": form.pattern})
        return None

    def finish(self) -> None:
        return None

    # ---- what is noted

    def _open(self, key: str, several: bool) -> _Recorder:
        made = _Recorder(self.at(key), self._fixed, self._nested, self._depth + 1)
        self._inner.append((key, made, several))
        return made

    def _several(self, key: str, one: dict[str, Any]) -> None:
        self._note(key, {"anyOf": [one, {"type": "array", "items": one}]})

    def _note(self, key: str, what: dict[str, Any], required: bool = False) -> None:
        self._properties[key] = _merged(self._properties.get(key, {}), what)
        if required:
            self._required.add(key)

    def recorded(self) -> dict[str, Any]:
        """The table as a schema."""
        properties = dict(self._properties)
        for key, inner, several in self._inner:
            one = inner.recorded()
            if key in properties and "items" in properties[key]:  # lines: strings, or tables among them
                options = properties[key]["items"]["anyOf"]
                properties[key]["items"]["anyOf"] = [*options, one]
                continue
            what = {"type": "array", "items": one} if several else one
            properties[key] = _merged(properties.get(key, {}), what)
        made: dict[str, Any] = {"type": "object", "additionalProperties": properties.pop(_ANY, False)}
        if words := WORDS.get(self.path):
            made["description"] = words
        for key, what in properties.items():
            if (words := WORDS.get(self.at(key))) and "description" not in what:
                what["description"] = words
        if properties:
            made["properties"] = dict(sorted(properties.items()))
        if not self.path:
            self._required.add("driver")
        asked = self.raw.optional if isinstance(self.raw, _Asked) else set()
        if required := sorted((self._required - asked) & properties.keys()):
            made["required"] = required
        return made


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A schema for what either allows; what both require."""
    if not one or one == other:
        return other
    if not other:
        return one
    if one.get("type") == other.get("type") == "object":
        return _merged_objects(one, other)
    if one.get("type") == other.get("type") == "array" and "items" in one and "items" in other:
        return one | {"items": _merged(one["items"], other["items"])}
    options = [option for each in (one, other) for option in each.get("anyOf", [each])]
    kept: list[dict[str, Any]] = []
    for option in options:
        like = next((at for at, known in enumerate(kept) if _alike(known, option)), None)
        if like is None:
            kept.append(option)
        else:
            kept[like] = _merged(kept[like], option)
    return {"anyOf": kept} if len(kept) > 1 else kept[0]


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one == other or (one.get("type") in ("object", "array") and one.get("type") == other.get("type"))


def _merged_objects(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    made = {"type": "object", "additionalProperties": _free(one, other)}
    if words := one.get("description") or other.get("description"):
        made["description"] = words
    known = one.get("properties", {}), other.get("properties", {})
    names = sorted(known[0].keys() | known[1].keys())
    if names:
        made["properties"] = {name: _merged(known[0].get(name, {}), known[1].get(name, {})) for name in names}
    required = set(one.get("required", ())) & set(other.get("required", ()))
    if required:
        made["required"] = sorted(required)
    return made


def _free(one: dict[str, Any], other: dict[str, Any]) -> Any:
    options = [each["additionalProperties"] for each in (one, other) if each["additionalProperties"] is not False]
    if not options:
        return False
    return _merged(options[0], options[-1])
