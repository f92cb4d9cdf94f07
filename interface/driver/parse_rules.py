"""The tables of a `driver.toml` that speak on conditions, and those of codes, units and values."""

from __future__ import annotations

import re
from types import MappingProxyType

from interface.domain.check_digits import CheckDigit
from interface.domain.model import Comparator, HoldReason, Protocol, SpecimenRole
from interface.domain.table import Table
from interface.domain.units import parse as parse_unit
from interface.domain.values import DEFAULT_FAILED_PATTERNS, DEFAULT_FAILED_WORDS, ValueGrammar
from interface.driver.manifest import CodeEntry, CodeKind, StatusMeaning
from interface.driver.materials import Material, MaterialRule
from interface.driver.paths import PATH, parse_path
from interface.driver.rules import (
    CODE_PATH,
    ROLE_PATH,
    SPECIMEN_ID_PATH,
    TEXT_PATH,
    VALUE_PATH,
    AlarmRule,
    AttachmentRule,
    Classification,
    Condition,
    FieldPath,
    HoldRule,
    RecordKind,
    RoleRule,
)
from interface.driver.specimen_ids import SpecimenIdRule
from interface.errors import UnknownUnit

# HL7 v3 ObservationInterpretation, as far as instruments say such things.
INTERPRETATIONS = (
    "", "N", "A", "AA", "L", "H", "LL", "HH", "<", ">", "U", "D", "B", "W", "POS", "NEG", "IND", "S", "I", "R", "DET",
    "ND",
)  # fmt: skip
_HOLD = "hold:"
FLAG_MEANINGS = (*INTERPRETATIONS, *(f"{_HOLD}{reason}" for reason in HoldReason))
_RECORD = re.compile(r"[A-Z]|[A-Z][A-Z0-9]{2}")
_WORDS = {str(path): path for path in (SPECIMEN_ID_PATH, CODE_PATH, VALUE_PATH)}
_OF_A_RESULT = frozenset({"R", "OBX", CODE_PATH.record, VALUE_PATH.record})
_COMMENTS = {Protocol.LIS2: "C", Protocol.HL7: "NTE"}


# ---- conditions -----------------------------------------------------------------------------------------------------


def condition_path(text: str, protocol: Protocol) -> FieldPath:
    """A field, a whole record (`H`, `MSH`), or a word for what the driver has made of them; raises ValueError."""
    if protocol is Protocol.DECLARED and text in (ROLE_PATH.record, TEXT_PATH.record):
        return FieldPath(text, 0)
    if text in _WORDS:
        return _WORDS[text]
    return FieldPath(text, 0) if _RECORD.fullmatch(text) else parse_path(text)


def read_condition(table: Table, protocol: Protocol) -> Condition | None:
    """The condition that a table states; None, with the problem said, when it states none."""
    text = table.text("path", None)
    path = table.made("path", lambda one: condition_path(one, protocol), text) if text else None
    equals, pattern = frozenset(table.texts("equals")), table.pattern("pattern")
    empty, negated = table.flag("empty"), table.flag("not")
    if not equals and pattern is None and not empty:
        table.say(table.path, "needs equals, pattern or empty")
    return Condition(path, equals, pattern, empty, negated) if path is not None else None


def read_conditions(table: Table, protocol: Protocol, own: bool) -> tuple[Condition, ...]:
    """All that must hold: `own`, what the table itself says of `path`, and its `when`."""
    first = [read_condition(table, protocol)] if own else []
    found = [*first, *(read_condition(one, protocol) for one in table.tables("when"))]
    return tuple(one for one in found if one is not None)


def read_role(table: Table, protocol: Protocol) -> RoleRule:
    role = table.choice("role", SpecimenRole, SpecimenRole.QC)
    when = read_conditions(table, protocol, own="path" in table.raw or "when" not in table.raw)
    for path in dict.fromkeys(one.path for one in when):
        own = (
            path in (SPECIMEN_ID_PATH, ROLE_PATH) if protocol is Protocol.DECLARED else path.record not in _OF_A_RESULT
        )
        if not own:  # a rule that never holds would make patients' results of a control's
            table.say(table.path, f"{path} is not looked at: a role is a specimen's, whatever its results are")
    return RoleRule(role, when)


def read_classification(table: Table, protocol: Protocol) -> Classification:
    own = "path" in table.raw
    made = Classification(
        table.choice("kind", RecordKind, RecordKind.TEXT),
        frozenset(table.texts("codes")),
        None if own else table.pattern("pattern"),
        table.text("media_type", "application/octet-stream"),
        read_conditions(table, protocol, own),
    )
    if not (made.codes or made.pattern or made.when):
        table.say(table.path, "needs codes, pattern, path or when")
    return made


def read_hold(table: Table, protocol: Protocol) -> HoldRule:
    reason, beside = table.choice("reason", HoldReason, HoldReason.QUESTIONABLE), table.flag("beside")
    if beside and protocol is not Protocol.LIS2:
        table.say(table.path, "beside is for LIS2")
    when = read_conditions(table, protocol, own="path" in table.raw or "when" not in table.raw)
    return HoldRule(reason, when, beside)


def read_attachment(table: Table, protocol: Protocol) -> AttachmentRule | None:
    record = table.text("record", None)
    name, data = (table.made(key, parse_path, table.text(key, None)) for key in ("name", "data"))
    media_type = table.text("media_type", "application/octet-stream")
    when = read_conditions(table, protocol, own=False)
    if protocol is not Protocol.LIS2:
        table.say(table.path, "is for LIS2: HL7 carries pictures in OBX, which classify finds")
    if name is None or data is None:
        return None
    if record not in ("M", "C") or {name.record, data.record} != {record}:
        table.say(table.path, "record is M or C, and name and data stand in it")
    return AttachmentRule(record, name, data, media_type, when)


def read_alarm(root: Table, protocol: Protocol) -> AlarmRule | None:
    table = root.table("alarm")
    if not table.raw:
        return None
    path = table.made("path", parse_path, table.text("path", None))
    if path is not None and path.record != (place := _COMMENTS.get(protocol, "")):
        where = f"stands in {place}, which are comments" if place else "is for comments of LIS2 and HL7"
        table.say(table.at("path"), f"an alarm {where}: nothing is looked for in {path.record}")
    known, pattern = frozenset(table.texts("known")), table.pattern("known_pattern")
    remark = table.pattern("remark_pattern")
    holds = table.table("holds")
    reasons = {key: holds.choice(key, HoldReason, HoldReason.UNKNOWN_FLAG) for key in holds.keys()}
    return AlarmRule(path, known, pattern, remark, reasons) if path is not None else None


def read_materials(root: Table, paths: Table, protocol: Protocol) -> tuple[MaterialRule, ...]:
    """What a result was measured with: one of the places, or of records of several kinds those that are meant."""
    plain = {what: paths.forms(what, PATH) or () for what in Material}
    made = [MaterialRule(what, path) for what, places in plain.items() for path in places]
    for table in root.tables("with"):
        what = table.choice("what", Material, Material.REAGENT_LOT)
        path = table.made("path", parse_path, table.text("path", None))
        when, pattern = read_conditions(table, protocol, own=False), table.pattern("pattern")
        beside = table.flag("beside")
        if pattern is not None and not pattern.groups:
            table.say(table.at("pattern"), "needs a group: what is said")
        elif path is not None:
            made.append(MaterialRule(what, path, when, pattern, beside))
    if made and protocol is Protocol.DECLARED:
        root.say("with", "is for records of a standard: a layout of one's own names them in record.fields")
    return tuple(made)


# ---- specimen ids, codes, units, values -----------------------------------------------------------------------------


def read_specimen_ids(table: Table) -> SpecimenIdRule:
    check = table.choice("check_digit", CheckDigit, CheckDigit.LUHN) if "check_digit" in table.raw else None
    rule = SpecimenIdRule(
        strip=table.text("strip", " ") or " ",
        separator=table.text("separator"),
        part=table.whole("part", 1),
        prefixes=table.texts("prefix"),
        suffixes=table.texts("suffix"),
        padding=table.text("padding"),
        patterns=table.patterns("pattern"),
        must_match=table.flag("must_match"),
        check_digit=check,
        drop_check_digit=table.flag("drop_check_digit"),
        null=frozenset(table.texts("null")),
        null_pattern=table.pattern("null_pattern"),
    )
    faults = {
        "must_match needs a pattern": rule.must_match and not rule.patterns,
        "drop_check_digit needs check_digit": rule.drop_check_digit and rule.check_digit is None,
        "part counts from 1": rule.part < 1,
        "part needs a separator": "part" in table.raw and not rule.separator,
    }
    for text in (text for text, broken in faults.items() if broken):
        table.say(table.path, text)
    return rule


def read_codes(root: Table) -> MappingProxyType[str, CodeEntry]:
    """Every `[[codes]]`: groups of codes from one source."""
    made: dict[str, CodeEntry] = {}
    for table in root.tables("codes"):
        source, unit = table.text("source", None), table.text("unit")
        kind = table.choice("kind", CodeKind, CodeKind.NUMERIC) if "kind" in table.raw else CodeKind.NUMERIC
        names = table.table("list")
        for code in names.keys():
            if code in made:
                names.say(names.at(code), "stands twice")
            if not isinstance(names.raw.get(code), dict):
                made[code] = CodeEntry(code, names.text(code), source, unit, kind)
                continue
            own = names.table(code)
            made[code] = CodeEntry(
                code, own.text("name"), own.text("source", source), own.text("unit", unit),
                own.choice("kind", CodeKind, kind) if "kind" in own.raw else kind,
            )  # fmt: skip
    return MappingProxyType(made)


def read_units(table: Table) -> MappingProxyType[str, str]:
    """A unit as printed to UCUM; "" where it says nothing."""
    made = {key: table.text(key) for key in table.keys()}
    for key, unit in made.items():
        try:
            parse_unit(unit or "1")
        except UnknownUnit as error:
            table.say(table.at(key), error.text)
    return MappingProxyType(made)


def read_values(table: Table) -> ValueGrammar:
    limits = table.table("limits")
    failed = table.texts("failed_patterns")
    return ValueGrammar(
        decimal_comma=table.flag("decimal_comma"),
        exponent=table.flag("exponent"),
        failed_patterns=(
            *DEFAULT_FAILED_PATTERNS,
            *(pattern for pattern in failed if table.made("failed_patterns", re.compile, pattern) is not None),
        ),
        failed_words=DEFAULT_FAILED_WORDS | {word.casefold() for word in table.texts("failed_words")},
        empty_words=frozenset(word.casefold() for word in table.texts("empty_words")),
        not_failed=frozenset(word.casefold() for word in table.texts("not_failed")),
        thousands=table.text("thousands"),
        marks=table.texts("marks"),
        patterns=_value_patterns(table),
        quantified_calls=frozenset(word.casefold() for word in table.texts("quantified_calls")),
        limit_flags=MappingProxyType({key: limits.choice(key, Comparator, Comparator.LT) for key in limits.keys()}),
    )


def _value_patterns(table: Table) -> tuple[re.Pattern[str], ...]:
    found = table.patterns("pattern")
    if not all({"value"} <= one.groupindex.keys() <= {"value", "unit", "flags", "comparator"} for one in found):
        table.say(table.at("pattern"), "needs the group value, and may have unit, flags and comparator")
        return ()
    return found


def read_flags(table: Table) -> tuple[MappingProxyType[str, str], MappingProxyType[str, HoldReason]]:
    meanings: dict[str, str] = {}
    holds: dict[str, HoldReason] = {}
    for key in table.keys():
        value = table.word(key, FLAG_MEANINGS)
        if value.startswith(_HOLD):
            holds[key] = HoldReason(value.removeprefix(_HOLD))
        else:
            meanings[key] = value
    return MappingProxyType(meanings), MappingProxyType(holds)


def read_statuses(table: Table) -> MappingProxyType[str, StatusMeaning]:
    return MappingProxyType({key: table.choice(key, StatusMeaning, StatusMeaning.UNKNOWN) for key in table.keys()})
