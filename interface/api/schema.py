"""JSON Schema (2020-12, as OpenAPI 3.1 has it) of what the interface answers with: of dataclasses, as `render.json`
writes them."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Union, get_args, get_origin
from uuid import UUID

from interface.compiled import hints

Schema = dict[str, Any]

_PLAIN: dict[object, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    Decimal: {"type": "number"},
    UUID: {"type": "string", "format": "uuid"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    time: {"type": "string", "format": "time"},
    type(None): {"type": "null"},
    object: {},
    Any: {},
}
_LISTS = (list, tuple, set, frozenset, Sequence)


def words_of(words: type[Enum]) -> Schema:
    """One of an enumeration's words."""
    return {"type": "string", "enum": [word.value for word in words]}


def members(kind: type) -> dict[str, object]:
    """A dataclass's members, as JSON shows them, with their types."""
    fields: dict[str, object] = kind.__dataclass_fields__  # type: ignore[attr-defined]
    types_of = hints(kind)
    return {name: types_of[name] for name in fields if not name.startswith("_")}


class Schemas:
    """The schemas of types, those of dataclasses once each, by name, in `components`."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._named: dict[type, str] = {}

    def of(self, said: object) -> Schema:
        """Of a type; of a mapping of names to such: an object with these members, those with `?` not always
        there; of a list of one: a list of it."""
        if isinstance(said, Mapping):
            members = {name.rstrip("?"): self.of(one) for name, one in said.items()}
            required = [name for name in said if not name.endswith("?")]
            return {"type": "object", "properties": members, "required": required, "additionalProperties": False}
        if isinstance(said, list):
            return {"type": "array", "items": self.of(said[0])}
        if said in _PLAIN:
            return dict(_PLAIN[said])
        origin, arguments = get_origin(said), get_args(said)
        if origin in (Union, types.UnionType):
            return self._any(arguments)
        if origin in _LISTS:
            return self._list(origin, arguments)
        if origin in (dict, Mapping):
            return {"type": "object", "additionalProperties": self.of(arguments[1])}
        if isinstance(said, type) and issubclass(said, Enum):
            return words_of(said)
        if isinstance(said, type) and dataclasses.is_dataclass(said):
            return {"$ref": f"#/components/schemas/{self._name(said)}"}
        raise TypeError(f"no schema for {said!r}")

    def _any(self, choices: Sequence[object]) -> Schema:
        found = [self.of(one) for one in choices]
        simple = [one["type"] for one in found if set(one) == {"type"}]
        return {"type": simple} if len(simple) == len(found) else {"anyOf": found}

    def _list(self, origin: object, arguments: Sequence[object]) -> Schema:
        if origin is not tuple or Ellipsis in arguments:
            return {"type": "array", "items": self.of(arguments[0])}
        each = [self.of(one) for one in arguments]
        return {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}

    def _name(self, kind: type) -> str:
        if kind in self._named:
            return self._named[kind]
        name = kind.__name__.removesuffix("View")
        if name in self.components:  # two rooms have a thing of that name
            name = "".join(part.title() for part in kind.__module__.rsplit(".", 1)[-1].split("_")) + name
        self._named[kind] = name
        self.components[name] = {}  # it may hold others of its kind
        self.components[name] = self.of(members(kind))
        return name
