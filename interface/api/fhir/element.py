"""FHIR JSON that somebody sends, read element by element; every fault in it reported at once, each with its place.

What is not asked for is passed over, as R4 has it, but for what may change the meaning of the rest: modifier extensions
and rules of the sender's own (R4 extensibility.html#modifierExtension, resource.html#implicitRules). Faults name
elements, never their values, which may be a patient's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple

from interface.domain.times import OUT_OF_RANGE, in_range
from interface.errors import ApiError, Issue

MOST_FAULTS = 50
_YEAR_OR_MONTH = re.compile(r"[0-9]{4}(?:-[0-9]{2})?")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}.*")


class Coding(NamedTuple):
    system: str
    code: str


@dataclass(slots=True)
class Faults:
    """What is wrong with what was sent."""

    found: list[Issue] = field(default_factory=list)

    def add(self, text: str, expression: str, code: str = "value") -> None:
        if len(self.found) < MOST_FAULTS:
            self.found.append(Issue(text, expression, code))

    def check(self) -> None:
        """Raise ApiError 422 where anything was found."""
        if self.found:
            raise ApiError(422, self.found[0].code, "; ".join(one.text for one in self.found), tuple(self.found))


class Element:
    """One JSON object at a place, `path` in FHIRPath. Methods take an element and note what is wrong with it."""

    def __init__(self, value: object, path: str, faults: Faults) -> None:
        self.path, self.faults = path, faults
        self._members: Mapping[str, object] = {}
        if isinstance(value, Mapping):
            self._members = value
        else:
            self.fault("is not an object", code="structure")
        for name in ("modifierExtension", "implicitRules"):
            if self._members.get(name):
                self.fault("is not understood here, and may change what the rest says", name, "extension")

    def fault(self, text: str, name: str = "", code: str = "value") -> None:
        at = self.at(name)
        self.faults.add(f"{at} {text}", at, code)

    def at(self, name: str = "") -> str:
        return f"{self.path}.{name}" if name else self.path

    def has(self, name: str) -> bool:
        return self._members.get(name) not in (None, "", [], {})

    def text(self, name: str, required: bool = False) -> str:
        value = self._members.get(name)
        if value is None or value == "":
            if required:
                self.fault("is missing", name, "required")
            return ""
        if not isinstance(value, str):
            self.fault("is not text", name, "structure")
            return ""
        if "\0" in value:  # no text of PostgreSQL's holds it
            self.fault("holds a character that is none", name)
            return ""
        return value.strip()

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._members.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) and "\0" not in each for each in value):
            self.fault("is not a list of texts", name, "structure")
            return ()
        return tuple(value)

    def flag(self, name: str) -> bool | None:
        value = self._members.get(name)
        if value is not None and not isinstance(value, bool):
            self.fault("is neither true nor false", name, "structure")
            return None
        return value

    def instant(self, name: str) -> datetime | None:
        """A dateTime to the minute at least and with its zone: a day alone is no time."""
        text = self.text(name)
        if not text:
            return None
        try:
            at = datetime.fromisoformat(text) if _INSTANT.fullmatch(text) else None
        except ValueError:
            at = None
        if at is None or at.tzinfo is None:
            self.fault("is not a time with its zone, such as 2026-01-02T03:04:05+01:00", name)
            return None
        if not in_range(at):
            self.fault(OUT_OF_RANGE, name)
            return None
        return at

    def day(self, name: str) -> date | None:
        """A whole date; a year or a month alone is none."""
        text = self.text(name)
        if not text:
            return None
        try:
            return date.fromisoformat(text)
        except ValueError:
            part = "is only a part of a date; leave it out" if _YEAR_OR_MONTH.fullmatch(text) else "is not a date"
            self.fault(part, name)
            return None

    def primitive(self) -> str:
        """`value[x]` of a simple type, as a URL would say it; of a reference, whom it refers to."""
        found = [(name, value) for name, value in self._members.items() if name.startswith("value")]
        if len(found) != 1:
            self.fault("has one value", "value[x]", "structure")
            return ""
        [(name, value)] = found
        if name == "valueReference":
            return Element(value, self.at(name), self.faults).text("reference")
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str | int | float) and "\0" not in str(value):
            return str(value)
        self.fault("is not of a simple type", name, "structure")
        return ""

    def one(self, name: str) -> Element | None:
        value = self._members.get(name)
        return None if value is None else Element(value, self.at(name), self.faults)

    def many(self, name: str) -> Iterator[Element]:
        value = self._members.get(name)
        if value is None:
            return
        if not isinstance(value, list):
            self.fault("is not a list", name, "structure")
            return
        for place, entry in enumerate(value):
            yield Element(entry, f"{self.at(name)}[{place}]", self.faults)

    def codings(self) -> tuple[Coding, ...]:
        """Of a CodeableConcept."""
        said = (Coding(coding.text("system"), coding.text("code")) for coding in self.many("coding"))
        return tuple(coding for coding in said if coding.code)

    def extension(self, url: str) -> Element | None:
        return next((each for each in self.many("extension") if each.text("url") == url), None)
