"""From the text of a `driver.toml` to a `Driver`, every problem said with its TOML path."""

from __future__ import annotations

import codecs
import re
import tomllib
from dataclasses import fields
from types import MappingProxyType

from interface.domain.model import HoldReason, Protocol, SpecimenRole
from interface.domain.values import DEFAULT_FAILED_PATTERNS, DEFAULT_FAILED_WORDS, ValueGrammar
from interface.driver.defaults import DEFAULT_PATHS, DEFAULT_QUERIES
from interface.driver.manifest import (
    ROLE_PATH,
    TEXT_PATH,
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
from interface.driver.parse_declared import read_framing, read_layout
from interface.driver.table import Table, parse_path
from interface.errors import DriverError
from interface.wire.datalink_events import Leniency
from interface.wire.frames import MAX_TEXT_BYTES

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


def parse_manifest(text: str, file: str, folder: str = "") -> Driver:
    """Read a manifest. `file` is named in problems; `folder`, when given, must be the driver's id.

    Raises DriverError with every problem found.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DriverError(f"{file}: {error}") from error
    table = Table(raw, "", [])
    driver = _driver(table)
    if folder and driver.id != folder:
        table.say("driver.id", f"is {driver.id!r} but the folder is {folder!r}")
    table.finish()
    if table.problems:
        raise DriverError("; ".join(f"{file}: {problem}" for problem in table.problems))
    return driver


def _driver(root: Table) -> Driver:
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
    framing = root.table("framing")
    link, grammar = read_framing(framing, protocol)
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
        leniencies=_leniencies(framing),
        frame_text_bytes=_frame_text_bytes(framing),
        ack_colliding_enq=framing.flag("ack_colliding_enq"),
        link=link,
        blocks=grammar,
        layout=read_layout(root, protocol),
        match=_matches(root.table("match"), generic, protocol),
        paths=_paths(root.table("paths"), protocol),
        specimen_ids=_specimen_ids(root.table("specimen_id")),
        code_pattern=_code_pattern(root.table("code")),
        roles=tuple(_role(rule, protocol) for rule in root.tables("role")),
        grammar=_grammar(root.table("value")),
        flags=flags,
        flag_holds=flag_holds,
        statuses=_statuses(root.table("status")),
        classifications=tuple(_classification(item) for item in root.tables("classify")),
        query=_query(root.table("query"), protocol),
        alarm=_alarm(root),
    )


def _encoding(head: Table) -> str:
    name = head.text("encoding")
    if name and head.made("encoding", codecs.lookup, name) is None:
        return ""
    return name


def _leniencies(table: Table) -> frozenset[str]:
    names = frozenset(table.texts("leniencies"))
    for name in sorted(names - set(Leniency)):
        table.say(table.at("leniencies"), f"{name!r} is not a known leniency")
    return names


def _frame_text_bytes(table: Table) -> int:
    """0 when it is not there."""
    size = table.whole("frame_text_bytes")
    if "frame_text_bytes" in table.raw and not 1 <= size <= MAX_TEXT_BYTES:
        table.say(table.at("frame_text_bytes"), f"is not between 1 and {MAX_TEXT_BYTES}")
    return size


def _matches(table: Table, generic: bool, protocol: Protocol) -> tuple[HeaderMatch, ...]:
    rules = []
    for key in table.raw:
        declared = protocol is Protocol.DECLARED and key == TEXT_PATH.record
        path = TEXT_PATH if declared else table.made(key, parse_path, key)
        pattern = table.pattern(key)
        if path is not None and pattern is not None:
            rules.append(HeaderMatch(path, pattern))
    if not generic and not rules:
        table.say(table.path, "a driver says which header it recognises")
    return tuple(rules)


def _paths(table: Table, protocol: Protocol) -> FieldPaths:
    default = DEFAULT_PATHS.get(protocol, FieldPaths())
    chosen: dict[str, tuple[FieldPath, ...]] = {}
    for entry in fields(FieldPaths):
        own = table.field_paths(entry.name)
        chosen[entry.name] = getattr(default, entry.name) if own is None else own
    return FieldPaths(**chosen)


def _specimen_ids(table: Table) -> SpecimenIdRule:
    return SpecimenIdRule(table.text("strip", " ") or " ", table.pattern("pattern"), frozenset(table.texts("null")))


def _code_pattern(table: Table) -> re.Pattern[str] | None:
    pattern = table.pattern("pattern")
    if pattern is not None and pattern.groups != 1:
        table.say(table.at("pattern"), "needs exactly one group, the code")
        return None
    return pattern


def _role(table: Table, protocol: Protocol) -> RoleRule:
    path_text = table.text("path", None)
    if protocol is Protocol.DECLARED and path_text == ROLE_PATH.record:
        path: FieldPath | None = ROLE_PATH
    else:
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


def _grammar(table: Table) -> ValueGrammar:
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


def _flags(table: Table) -> tuple[MappingProxyType[str, str], MappingProxyType[str, HoldReason]]:
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


def _statuses(table: Table) -> MappingProxyType[str, StatusMeaning]:
    return MappingProxyType({key: table.choice(key, StatusMeaning, StatusMeaning.UNKNOWN) for key in table.raw})


def _classification(table: Table) -> Classification:
    made = Classification(
        table.choice("kind", RecordKind, RecordKind.TEXT),
        frozenset(table.texts("codes")),
        table.pattern("pattern"),
        table.text("media_type", "application/octet-stream"),
    )
    if not made.codes and made.pattern is None:
        table.say(table.path, "needs codes or pattern")
    return made


def _query(table: Table, protocol: Protocol) -> QueryRule:
    default = DEFAULT_QUERIES.get(protocol, QueryRule())
    own = {key: table.field_paths(key) for key in ("specimen_id", "patient_id", "tests")}
    return QueryRule(
        specimen_id=default.specimen_id if own["specimen_id"] is None else own["specimen_id"],
        patient_id=default.patient_id if own["patient_id"] is None else own["patient_id"],
        tests=default.tests if own["tests"] is None else own["tests"],
        all_words=frozenset(table.texts("all_words", tuple(default.all_words))),
        message_types=frozenset(table.texts("message_types", tuple(default.message_types))),
    )


def _alarm(root: Table) -> AlarmRule | None:
    table = root.table("alarm")
    if not table.raw:
        return None
    path = table.made("path", parse_path, table.text("path", None))
    known = frozenset(table.texts("known"))
    return AlarmRule(path, known) if path is not None else None
