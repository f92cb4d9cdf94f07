"""From the text of a `driver.toml` to a `Driver`, every problem said with its TOML path."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar

from interface.domain.model import HoldReason, Protocol, SpecimenRole
from interface.domain.values import DEFAULT_FAILED_PATTERNS, DEFAULT_FAILED_WORDS, ValueGrammar
from interface.driver.defaults import DEFAULT_PATHS, DEFAULT_QUERIES
from interface.driver.manifest import (
    AlarmRule,
    Classification,
    Driver,
    FieldPath,
    FieldPaths,
    HeaderMatch,
    QueryRule,
    RecordKind,
    RoleRule,
    SpecimenIdRule,
    StatusMeaning,
    Tier,
)
from interface.errors import DriverError
from interface.wire.datalink_events import Leniency

_PATH = re.compile(r"(?:([A-Z])\.|([A-Z][A-Z0-9]{2})-)([1-9][0-9]?)(?:\.([1-9][0-9]?))?(?:\.([1-9][0-9]?))?")
_ID = re.compile(r"[a-z][a-z0-9_]{1,63}")
# HL7 v3 ObservationInterpretation, as far as instruments say such things.
_INTERPRETATIONS = frozenset(
    {
        "",
        "N",
        "A",
        "AA",
        "L",
        "H",
        "LL",
        "HH",
        "<",
        ">",
        "U",
        "D",
        "B",
        "W",
        "POS",
        "NEG",
        "IND",
        "S",
        "I",
        "R",
        "DET",
        "ND",
    }
)
_HOLD = "hold:"
E = TypeVar("E", bound=StrEnum)


def parse_path(text: str) -> FieldPath:
    """`R.3.5`, `OBX-3.1`; raises ValueError."""
    match = _PATH.fullmatch(text)
    if match is None or (match[1] and match[5]):
        raise ValueError(f"{text!r} is not a field path such as R.3.5 or OBX-3.1")
    component, subcomponent = (int(group) if group else None for group in (match[4], match[5]))
    return FieldPath(match[1] or match[2], int(match[3]), component, subcomponent)


def parse_manifest(text: str, file: str, folder: str = "") -> Driver:
    """Read a manifest. `file` is named in problems; `folder`, when given, must be the driver's id.

    Raises DriverError with every problem found.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DriverError(f"{file}: {error}") from error
    table = _Table(raw, "", [])
    driver = _driver(table)
    if folder and driver.id != folder:
        table.say("driver.id", f"is {driver.id!r} but the folder is {folder!r}")
    table.finish()
    if table.problems:
        raise DriverError("; ".join(f"{file}: {problem}" for problem in table.problems))
    return driver


@dataclass(slots=True)
class _Table:
    """One TOML table; what is not taken from it is a problem."""

    raw: dict[str, Any]
    path: str
    problems: list[str]
    taken: set[str] = field(default_factory=set)
    children: list[_Table] = field(default_factory=list)

    def say(self, path: str, text: str) -> None:
        self.problems.append(f"{path}: {text}")

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def take(self, key: str) -> Any:
        self.taken.add(key)
        return self.raw.get(key)

    def table(self, key: str) -> _Table:
        value = self.take(key)
        if value is not None and not isinstance(value, dict):
            self.say(self.at(key), "is not a table")
            value = None
        child = _Table(value or {}, self.at(key), self.problems)
        self.children.append(child)
        return child

    def tables(self, key: str) -> list[_Table]:
        value = self.take(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.say(self.at(key), "is not an array of tables")
            return []
        made = [_Table(item, f"{self.at(key)}[{index}]", self.problems) for index, item in enumerate(value)]
        self.children += made
        return made

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

    def flag(self, key: str) -> bool:
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            self.say(self.at(key), "is not true or false")
        return value is True

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


def _driver(root: _Table) -> Driver:
    head = root.table("driver")
    driver_id = head.text("id", None)
    if driver_id and not _ID.fullmatch(driver_id):
        head.say(head.at("id"), "is not lower-case letters, digits and underscores")
    protocol = head.choice("protocol", Protocol, Protocol.LIS2)
    generic = head.flag("generic")
    evidence = head.texts("evidence")
    document = head.text("document")
    if not generic and not evidence and not document:
        head.say(head.at("evidence"), "a driver names the document or the capture it is made from")
    flags, flag_holds = _flags(root.table("flags"))
    return Driver(
        id=driver_id,
        revision=head.text("revision", None),
        protocol=protocol,
        tier=head.choice("tier", Tier, Tier.SIMULATED),
        title=head.text("title", None),
        vendor=head.text("vendor"),
        model=head.text("model"),
        document=document,
        evidence=evidence,
        generic=generic,
        encoding=_encoding(head),
        literal_escapes=head.flag("literal_escapes"),
        leniencies=_leniencies(root.table("framing")),
        match=_matches(root.table("match"), generic),
        paths=_paths(root.table("paths"), protocol),
        specimen_ids=_specimen_ids(root.table("specimen_id")),
        code_pattern=_code_pattern(root.table("code")),
        roles=tuple(_role(rule) for rule in root.tables("role")),
        grammar=_grammar(root.table("value")),
        flags=flags,
        flag_holds=flag_holds,
        statuses=_statuses(root.table("status")),
        classifications=tuple(_classification(item) for item in root.tables("classify")),
        query=_query(root.table("query"), protocol),
        alarm=_alarm(root),
    )


def _encoding(head: _Table) -> str:
    name = head.text("encoding")
    if name and head.made("encoding", codecs.lookup, name) is None:
        return ""
    return name


def _leniencies(table: _Table) -> frozenset[str]:
    names = frozenset(table.texts("leniencies"))
    for name in sorted(names - set(Leniency)):
        table.say(table.at("leniencies"), f"{name!r} is not a known leniency")
    return names


def _matches(table: _Table, generic: bool) -> tuple[HeaderMatch, ...]:
    rules = []
    for key in table.raw:
        path = table.made(key, parse_path, key)
        pattern = table.pattern(key)
        if path is not None and pattern is not None:
            rules.append(HeaderMatch(path, pattern))
    if not generic and not rules:
        table.say(table.path, "a driver says which header it recognises")
    return tuple(rules)


def _paths(table: _Table, protocol: Protocol) -> FieldPaths:
    default = DEFAULT_PATHS[protocol]
    chosen: dict[str, tuple[FieldPath, ...]] = {}
    for entry in fields(FieldPaths):
        own = table.field_paths(entry.name)
        chosen[entry.name] = getattr(default, entry.name) if own is None else own
    return FieldPaths(**chosen)


def _specimen_ids(table: _Table) -> SpecimenIdRule:
    return SpecimenIdRule(table.text("strip", " ") or " ", table.pattern("pattern"), frozenset(table.texts("null")))


def _code_pattern(table: _Table) -> re.Pattern[str] | None:
    pattern = table.pattern("pattern")
    if pattern is not None and pattern.groups != 1:
        table.say(table.at("pattern"), "needs exactly one group, the code")
        return None
    return pattern


def _role(table: _Table) -> RoleRule:
    path_text = table.text("path", None)
    path = None if path_text in ("specimen_id", "") else table.made("path", parse_path, path_text)
    rule = RoleRule(
        table.choice("role", SpecimenRole, SpecimenRole.QC),
        path,
        frozenset(table.texts("equals")),
        table.pattern("pattern"),
    )
    if not rule.equals and rule.pattern is None:
        table.say(table.path, "needs equals or pattern")
    return rule


def _grammar(table: _Table) -> ValueGrammar:
    sent = table.texts("failed_patterns", DEFAULT_FAILED_PATTERNS)
    patterns = tuple(pattern for pattern in sent if table.made("failed_patterns", re.compile, pattern) is not None)
    words = table.texts("failed_words", tuple(DEFAULT_FAILED_WORDS))
    return ValueGrammar(
        decimal_comma=table.flag("decimal_comma"),
        exponent=table.flag("exponent"),
        failed_patterns=patterns,
        failed_words=frozenset(word.casefold() for word in words),
        empty_words=frozenset(word.casefold() for word in table.texts("empty_words")),
    )


def _flags(table: _Table) -> tuple[MappingProxyType[str, str], MappingProxyType[str, HoldReason]]:
    meanings: dict[str, str] = {}
    holds: dict[str, HoldReason] = {}
    for key in table.raw:
        value = table.text(key)
        if value.startswith(_HOLD):
            reason = table.made(key, HoldReason, value.removeprefix(_HOLD))
            if reason is not None:
                holds[key] = reason
        elif value in _INTERPRETATIONS:
            meanings[key] = value
        else:
            table.say(table.at(key), f"{value!r} is neither an interpretation code nor hold:<reason>")
    return MappingProxyType(meanings), MappingProxyType(holds)


def _statuses(table: _Table) -> MappingProxyType[str, StatusMeaning]:
    return MappingProxyType({key: table.choice(key, StatusMeaning, StatusMeaning.UNKNOWN) for key in table.raw})


def _classification(table: _Table) -> Classification:
    made = Classification(
        table.choice("kind", RecordKind, RecordKind.TEXT),
        frozenset(table.texts("codes")),
        table.pattern("pattern"),
        table.text("media_type", "application/octet-stream"),
    )
    if not made.codes and made.pattern is None:
        table.say(table.path, "needs codes or pattern")
    return made


def _query(table: _Table, protocol: Protocol) -> QueryRule:
    default = DEFAULT_QUERIES[protocol]
    own = {key: table.field_paths(key) for key in ("specimen_id", "patient_id", "tests")}
    return QueryRule(
        specimen_id=default.specimen_id if own["specimen_id"] is None else own["specimen_id"],
        patient_id=default.patient_id if own["patient_id"] is None else own["patient_id"],
        tests=default.tests if own["tests"] is None else own["tests"],
        all_words=frozenset(table.texts("all_words", tuple(default.all_words))),
        message_types=frozenset(table.texts("message_types", tuple(default.message_types))),
    )


def _alarm(root: _Table) -> AlarmRule | None:
    table = root.table("alarm")
    if not table.raw:
        return None
    path = table.made("path", parse_path, table.text("path", None))
    known = frozenset(table.texts("known"))
    return AlarmRule(path, known) if path is not None else None
