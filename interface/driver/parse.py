"""From the text of a `driver.toml` to a `Driver`, every problem said with its TOML path."""

from __future__ import annotations

import codecs
import re
import tomllib
from dataclasses import fields, replace

from interface.domain.model import Protocol
from interface.domain.table import Table
from interface.driver.defaults import CONTROL_ROLES, DEFAULT_PATHS, MATERIALS, TRAINING_ROLES
from interface.driver.manifest import Driver, Feature, FieldPaths, HeaderMatch, Tier
from interface.driver.order_value import read_order_value
from interface.driver.parse_declared import read_framing, read_layout
from interface.driver.parse_dialogue import read_answer, read_download, read_law, read_query_rule
from interface.driver.parse_rules import (
    condition_path,
    read_alarm,
    read_attachment,
    read_classification,
    read_codes,
    read_flags,
    read_hold,
    read_materials,
    read_role,
    read_specimen_ids,
    read_statuses,
    read_units,
    read_values,
)
from interface.driver.paths import PATH, PLACES
from interface.driver.revisions import digest_of
from interface.driver.rules import AttachmentRule, FieldPath, RoleRule
from interface.errors import DriverError
from interface.wire.datalink_events import Leniency
from interface.wire.frames import MAX_TEXT_BYTES

_ID = re.compile(r"[a-z][a-z0-9_]{1,63}")


def parse_manifest(text: str, file: str, folder: str = "") -> Driver:
    """Read a manifest. `file` is named in problems; `folder`, when given, must be the driver's id.

    Raises DriverError with every problem found.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DriverError(f"{file}: {error}") from error
    table = Table(raw, "", [])
    driver = read_driver(table)
    if folder and driver.id != folder:
        table.say("driver.id", f"is {driver.id!r} but the folder is {folder!r}")
    table.finish()
    if table.problems:
        raise DriverError("; ".join(f"{file}: {problem}" for problem in table.problems))
    return replace(driver, manifest=text, digest=digest_of(text))


def read_driver(root: Table) -> Driver:
    """What the tables say. Every problem is said to `root`, whose `finish` also says what was not taken."""
    head = root.table("driver")
    protocol = head.choice("protocol", Protocol, Protocol.LIS2)
    generic = head.flag("generic")
    document, evidence = _grounds(head, generic)
    flags, flag_holds = read_flags(root.table("flags"))
    values = root.table("value")
    paths, code = root.table("paths"), root.table("code")
    join = code.text("join", "/")
    framing = root.table("framing")
    link, grammar = read_framing(framing, protocol)
    return Driver(
        id=_id(head),
        revision=head.text("revision", None),
        protocol=protocol,
        tier=head.choice("tier", Tier, Tier.SIMULATED),
        title=head.text("title", None),
        vendor=head.text("vendor"),
        model=head.text("model"),
        document=document,
        evidence=evidence,
        unverified=head.texts("unverified"),
        lacks=_lacks(head),
        generic=generic,
        named_only=head.flag("named_only"),
        encoding=_encoding(head),
        literal_escapes=head.flag("literal_escapes"),
        leniencies=_leniencies(framing),
        frame_text_bytes=_frame_text_bytes(framing),
        ack_colliding_enq=framing.flag("ack_colliding_enq"),
        link=link,
        blocks=grammar,
        layout=read_layout(root, protocol),
        match=_matches(root.table("match"), generic, protocol),
        paths=_paths(paths, protocol),
        control=read_order_value(root, protocol),
        specimen_ids=read_specimen_ids(root.table("specimen_id")),
        code_parts=_code_parts(paths),
        code_join=join,
        code_pattern=_code_pattern(code),
        dilution=_dilution(root.table("dilution"), paths, protocol),
        codes=read_codes(root),
        units=read_units(root.table("units")),
        roles=_roles(root, protocol),
        grammar=read_values(values),
        flag_separator=values.text("flag_separator"),
        flag_width=values.whole("flag_width"),
        flags=flags,
        flag_holds=flag_holds,
        statuses=read_statuses(root.table("status")),
        classifications=tuple(read_classification(item, protocol) for item in root.tables("classify")),
        holds=tuple(read_hold(item, protocol) for item in root.tables("hold")),
        attachments=_attachments(root, protocol),
        query=read_query_rule(root.table("query"), protocol),
        answer=read_answer(root, protocol, join),
        download=read_download(root, protocol),
        law=read_law(root, protocol, join),
        alarm=read_alarm(root, protocol),
        materials=(*read_materials(root, paths, protocol), *MATERIALS.get(protocol, ())),
    )


def _id(head: Table) -> str:
    driver_id = head.text("id", None)
    if driver_id and not _ID.fullmatch(driver_id):
        head.say(head.at("id"), "is not lower-case letters, digits and underscores")
    return driver_id


def _grounds(head: Table, generic: bool) -> tuple[str, tuple[str, ...]]:
    """The document and the captures from which it is known what the analyzer says."""
    document, evidence = head.text("document"), head.texts("evidence")
    if not generic and not evidence and not document:
        head.say(head.at("evidence"), "a driver names the document or the capture it is made from")
    return document, evidence


def _roles(root: Table, protocol: Protocol) -> tuple[RoleRule, ...]:
    """The first that fits says what a specimen is: training before what the driver says, and controls after it."""
    own = (read_role(rule, protocol) for rule in root.tables("role"))
    return (*TRAINING_ROLES.get(protocol, ()), *own, *CONTROL_ROLES.get(protocol, ()))


def _attachments(root: Table, protocol: Protocol) -> tuple[AttachmentRule, ...]:
    rules = (read_attachment(item, protocol) for item in root.tables("attachment"))
    return tuple(rule for rule in rules if rule is not None)


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


def _lacks(table: Table) -> frozenset[Feature]:
    made = [table.made("lacks", Feature, name) for name in table.texts("lacks")]
    return frozenset(feature for feature in made if feature is not None)


def _matches(table: Table, generic: bool, protocol: Protocol) -> tuple[HeaderMatch, ...]:
    rules = []
    for key in table.keys():
        path = table.made(key, lambda text: condition_path(text, protocol), key)
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
        if entry.name == "code":
            parts = table.forms(entry.name, PLACES)
            own = None if parts is None else tuple(places[0] for places in parts)
        else:
            own = table.forms(entry.name, PATH)
        chosen[entry.name] = getattr(default, entry.name) if own is None else own
    return FieldPaths(**chosen)


def _code_parts(table: Table) -> tuple[tuple[FieldPath, ...], ...]:
    """The alternatives of a composite code; () where each is one place."""
    parts = table.forms("code", PLACES) or ()
    return parts if any(len(places) > 1 for places in parts) else ()


def _dilution(table: Table, paths: Table, protocol: Protocol) -> re.Pattern[str] | None:
    """How the factors stand in the place that `paths.dilution` names."""
    pattern = table.pattern("pattern")
    if "dilution" in paths.raw and protocol is not Protocol.LIS2:
        paths.say(paths.at("dilution"), "is of LIS2; HL7 says the factor in TCD and SAC")
    if pattern is not None and (not pattern.groups or "dilution" not in paths.raw):
        table.say(table.at("pattern"), "needs a group for each factor, and paths.dilution")
        return None
    return pattern


def _code_pattern(table: Table) -> re.Pattern[str] | None:
    pattern = table.pattern("pattern")
    if pattern is not None and not pattern.groups:
        table.say(table.at("pattern"), "needs a group, the code; several are joined by join")
        return None
    return pattern
