"""What `labora driver list` and `labora driver show` say of a driver, in the vendor's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from interface.driver import registry
from interface.driver.dialogue import Each, Line
from interface.driver.manifest import Driver, FieldPaths, QueryRule
from interface.driver.rules import Condition, FieldPath
from interface.errors import DriverError
from interface.wire.frames import LEGACY_TEXT_BYTES

PACKAGED = "packaged"
_EMPTY = "(empty)"


@dataclass(frozen=True, slots=True)
class DriverRow:
    """One line of `labora driver list`. `fault` is set, and most of the rest empty, when the folder cannot be used."""

    id: str
    revision: str = ""
    tier: str = ""
    vendor: str = ""
    model: str = ""
    title: str = ""
    protocol: str = ""
    document: str = ""
    codes: int = 0
    vectors: int = 0
    unverified: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    origin: str = ""  # packaged, or site: a folder of the site's own
    folder: str = ""
    hides: tuple[str, ...] = ()  # folders of the same name that are searched later
    digest: str = ""
    fault: str = ""


def rows(site: Sequence[Path] = ()) -> list[DriverRow]:
    """Every driver by id, each from the folder that counts."""
    return [_row(driver_id, folder, site) for driver_id, folder in sorted(registry.folders(site).items())]


def _row(driver_id: str, folder: Path, site: Sequence[Path]) -> DriverRow:
    origin = PACKAGED if folder.parent == registry.packaged_path() else "site"
    hidden = tuple(str(root / driver_id) for root in registry.search_path(site) if _hides(root / driver_id, folder))
    try:
        found = registry.load(driver_id, tuple(site))
    except DriverError as error:
        return DriverRow(driver_id, origin=origin, folder=str(folder), hides=hidden, fault=str(error))
    return DriverRow(
        found.id, found.revision, found.tier.value, found.vendor, found.model, found.title, found.protocol.value,
        found.document, len(found.codes), len(registry.vectors(driver_id, tuple(site))), found.unverified,
        tuple(sorted(found.lacks)), origin, str(folder), hidden, found.digest,
    )  # fmt: skip


def _hides(other: Path, folder: Path) -> bool:
    return other != folder and (other / registry.MANIFEST).is_file()


def shown(found: Driver, site: Sequence[Path] = ()) -> dict[str, Any]:
    """Everything that a driver says, as plain data."""
    row = _row(found.id, registry.folders(site)[found.id], site)
    return {
        **_identity(found, row),
        "recognises": [f"{rule.path} {rule.pattern.pattern}" for rule in found.match],
        "leniencies": sorted(found.leniencies),
        "frame_text_bytes": found.frame_text_bytes or LEGACY_TEXT_BYTES,
        "ack_colliding_enq": found.ack_colliding_enq,
        "specimen_id": [str(path) for path in found.paths.specimen_id],
        "specimen_id_rule": _specimen_ids(found),
        "code": [" + ".join(map(str, parts)) for parts in found.code_parts] or [str(path) for path in found.paths.code],
        "paths": {
            entry.name: [str(path) for path in getattr(found.paths, entry.name)]
            for entry in fields(FieldPaths)
            if entry.name not in ("specimen_id", "code") and getattr(found.paths, entry.name)
        },
        "codes": [
            {"code": one.code, "name": one.name, "unit": one.unit, "kind": one.kind.value, "source": one.source}
            for one in found.codes.values()
        ],
        "kinds": [
            f"{rule.kind} where {_where([*rule.codes], rule.pattern, 'code', rule.when)}"
            for rule in found.classifications
        ],
        "roles": [f"{rule.role} where {_conditions(rule.when)}" for rule in found.roles],
        "measured_with": [
            f"{rule.what} at {rule.path}" + (f" where {_conditions(rule.when)}" if rule.when else "")
            for rule in found.materials
        ],
        "holds": [f"{rule.reason.value} where {_conditions(rule.when)}" for rule in found.holds],
        "flags": dict(found.flags) | {flag: f"hold {reason.value}" for flag, reason in found.flag_holds.items()},
        "statuses": {status: meaning.value for status, meaning in found.statuses.items()},
        "units": dict(found.units),
        "query": _query(found.query),
        "answer": _answer(found),
        "vectors": [vector.name for vector in registry.vectors(found.id, tuple(site))],
    }


def _identity(found: Driver, row: DriverRow) -> dict[str, Any]:
    return {
        "id": found.id,
        "revision": found.revision,
        "digest": found.digest,
        "title": found.title,
        "vendor": found.vendor,
        "model": found.model,
        "protocol": found.protocol.value,
        "framing": found.link.value,
        "encoding": found.encoding,
        "tier": found.tier.value,
        "document": found.document,
        "evidence": list(found.evidence),
        "unverified": list(found.unverified),
        "lacks": list(row.lacks),
        "named_only": found.named_only,
        "origin": row.origin,
        "folder": row.folder,
        "hides": list(row.hides),
    }


def _specimen_ids(found: Driver) -> dict[str, Any]:
    """What is asked of a specimen id, without what is not."""
    rule = found.specimen_ids
    said: dict[str, Any] = {
        "strip": rule.strip,
        "separator": rule.separator,
        "part": rule.part if rule.separator else 0,
        "prefix": list(rule.prefixes),
        "suffix": list(rule.suffixes),
        "padding": rule.padding,
        "pattern": [pattern.pattern for pattern in rule.patterns],
        "must_match": rule.must_match,
        "check_digit": rule.check_digit.value if rule.check_digit else "",
        "drop_check_digit": rule.drop_check_digit,
        "null": sorted(rule.null),
        "null_pattern": rule.null_pattern.pattern if rule.null_pattern else "",
    }
    return {key: value for key, value in said.items() if value}


def _conditions(conditions: Sequence[Condition]) -> str:
    return " and ".join(_condition(one) for one in conditions)


def _condition(one: Condition) -> str:
    words = _where(sorted(one.equals), one.pattern, str(one.path), ())
    if one.empty:
        words = " or ".join(filter(None, (words, f"{one.path} is empty")))
    return f"not ({words})" if one.negated else words


def _where(equals: Sequence[str], pattern: Any, subject: str, when: Sequence[Condition]) -> str:
    parts = []
    if equals:
        parts.append(f"{subject} is {', '.join(sorted(equals))}")
    if pattern is not None:
        parts.append(f"{subject} matches {pattern.pattern}")
    said = " or ".join(parts)
    return " and ".join(filter(None, (said, _conditions(when))))


def _query(rule: QueryRule) -> dict[str, Any]:
    said: dict[str, Any] = {
        "messages": sorted(rule.message_types),
        "specimen_id": _paths(rule.specimen_id),
        "patient_id": _paths(rule.patient_id),
        "tests": _paths(rule.tests),
        "all": sorted(rule.all_words),
        "taken back": [f"{path} is {', '.join(sorted(rule.cancels))}" for path in rule.status],
    }
    return {key: value for key, value in said.items() if value}


def _paths(paths: Sequence[FieldPath]) -> list[str]:
    return [str(path) for path in paths]


def _answer(found: Driver) -> dict[str, Any]:
    """The dialect's lines; nothing where the standard's is used."""
    if found.answer is None:
        return {}
    dialect = found.answer
    return {
        "found": [_lines(lines) for lines in dialect.found],
        "none": [_lines(lines) for lines in dialect.none],
        "test": dialect.test,
        "priority": {priority.value: word for priority, word in dialect.priority.items()},
        "sex": {sex.value: word for sex, word in dialect.sex.items()},
    }


def _lines(lines: Sequence[Line], depth: int = 0) -> list[str]:
    said: list[str] = []
    for line in lines:
        if isinstance(line, Each):
            said += [f"{'  ' * depth}each {line.over}:", *_lines(line.lines, depth + 1)]
        else:
            said.append("  " * depth + line)
    return said


def text(data: dict[str, Any]) -> str:
    """What `shown` gives, for people: one key after another, lists and tables below their key."""
    lines: list[str] = []
    for key, value in data.items():
        name = key.replace("_", " ")
        if value in ("", [], {}, None, False):
            continue
        if isinstance(value, dict):
            lines.append(name)
            lines += [f"  {inner or _EMPTY:<16}  {_plain(item)}".rstrip() for inner, item in value.items()]
        elif isinstance(value, list) and key != "lacks":
            lines.append(name)
            lines += [f"  {_plain(item)}" for item in value]
        else:
            lines.append(f"{name:<18}  {_plain(value)}")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        if "code" not in value:
            return ", ".join(f"{key} {word}" for key, word in value.items())
        said = [str(value[key]) for key in ("code", "name", "unit", "kind") if value.get(key)]
        return "  ".join(said) + (f"  ({value['source']})" if value.get("source") else "")
    if isinstance(value, list):
        if any(isinstance(item, list) for item in value):
            return "".join(f"\n    {line}" for item in value for line in item)
        return ", ".join(map(str, value))
    return "yes" if value is True else str(value) if str(value).strip() else repr(value)
