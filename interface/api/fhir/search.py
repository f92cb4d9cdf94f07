"""Searches: the table of parameters each type has, and what their values mean (FHIR R4 search.html).

The table is the only list: routes, CapabilityStatement and tests read it. A parameter that is not in it is ignored, or
refused under `Prefer: handling=strict`; a modifier, prefix, chain or list that is not supported is always refused,
because leaving out a condition shows other patients.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

from interface.domain.model import ResultStatus, Sex
from interface.errors import ApiError
from interface.render import fhir

DEFAULT_COUNT, MOST_COUNT = 50, 500

Interval = tuple[datetime | None, datetime | None]  # since inclusive, until exclusive


def bad(text: str) -> ApiError:
    return ApiError(400, "value", text)


def unsupported(text: str) -> ApiError:
    return ApiError(400, "not-supported", text)


@dataclass
class Criteria:
    """What a search asks. Repeated parameters must all hold: sets are intersected, intervals too."""

    base_url: str
    sets: dict[str, frozenset[object]] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    nothing: bool = False  # no row can match
    sort: str = "_lastUpdated"
    descending: bool = False
    count: int = DEFAULT_COUNT

    def among(self, name: str, values: Sequence[object]) -> None:
        """The field must be one of `values`."""
        self.sets[name] = frozenset(values) & self.sets.get(name, frozenset(values))
        self.nothing = self.nothing or not self.sets[name]

    def within(self, name: str, interval: Interval) -> None:
        since, until = self.intervals.get(name, (None, None))
        since = max(filter(None, (since, interval[0])), default=None)
        until = min(filter(None, (until, interval[1])), default=None)
        self.intervals[name] = since, until
        self.nothing = self.nothing or (since is not None and until is not None and since >= until)

    def like(self, name: str, text: str) -> None:
        if self.texts.get(name, text) != text:
            raise unsupported(f"{name} is given twice")
        self.texts[name] = text

    def ids(self, name: str) -> tuple[UUID, ...]:
        return tuple(value for value in self.sets.get(name, ()) if isinstance(value, UUID))

    def words(self, name: str) -> tuple[str, ...]:
        return tuple(value for value in self.sets.get(name, ()) if isinstance(value, str))


@dataclass(frozen=True, slots=True)
class Parameter:
    """One search parameter. `apply` takes the values of one occurrence, of which any may match."""

    name: str
    type: str  # search-param-type
    text: str
    apply: Callable[[Criteria, Sequence[str]], None]
    targets: tuple[str, ...] = ()  # of a reference: the types that may stand as modifier, `subject:Patient`


# ---- values ---------------------------------------------------------------------------------------------------------

_DATE = re.compile(
    r"(?P<prefix>[a-z]{2})?(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:T(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>Z|[+ -]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)


def split(value: str, separator: str) -> list[str]:
    """Split at `separator` unless a backslash stands before it, then take the backslashes away (R4 search.html)."""
    parts, part, escaped = [], "", False
    for letter in value:
        if escaped:
            part, escaped = part + (letter if letter in ",|$\\" else "\\" + letter), False
        elif letter == "\\":
            escaped = True
        elif letter == separator:
            parts.append(part)
            part = ""
        else:
            part += letter
    return [*parts, part + ("\\" if escaped else "")]


def alternatives(value: str) -> list[str]:
    """The comma-separated values, still escaped for what is within them; empty ones say nothing."""
    parts, part, escaped = [], "", False
    for letter in value:
        if letter == "," and not escaped:
            parts.append(part)
            part = ""
            continue
        part += letter
        escaped = letter == "\\" and not escaped
    return [one for one in (*parts, part) if one]


def interval(value: str, name: str) -> Interval:
    """A date with a prefix as the instants that match, each an instant too (R4 search.html 3.1.1.4.5)."""
    match = _DATE.fullmatch(value)
    if match is None:
        raise bad(f"{name} is not a date")
    try:
        low, high = _bounds(match)
    except (ValueError, OverflowError):
        raise bad(f"{name} is not a date") from None
    prefix = match["prefix"] or "eq"
    if prefix == "eq":
        return low, high
    if prefix in ("gt", "sa"):
        return high, None
    if prefix == "ge":
        return low, None
    if prefix in ("lt", "eb"):
        return None, low
    if prefix == "le":
        return None, high
    if prefix in ("ne", "ap"):
        raise unsupported(f"the prefix {prefix} of {name} is not supported")
    raise bad(f"{name} has a prefix that is none")


def _bounds(match: re.Match[str]) -> tuple[datetime, datetime]:
    year, month = int(match["year"]), int(match["month"] or 1)
    if match["month"] is None:
        return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    if match["day"] is None:
        return datetime(year, month, 1, tzinfo=UTC), datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    low = datetime(year, month, int(match["day"]), tzinfo=UTC)
    if match["hour"] is None:
        return low, low + timedelta(days=1)
    zone = (match["zone"] or "Z").replace(" ", "+")  # a + that was not escaped arrives as a blank
    if zone != "Z":
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
        low = low.replace(tzinfo=timezone(-offset if zone[0] == "-" else offset))
    low = low.replace(hour=int(match["hour"]), minute=int(match["minute"]))
    if match["second"] is None:
        return low, low + timedelta(minutes=1)
    low = low.replace(second=int(match["second"]))
    if match["fraction"] is None:
        return low, low + timedelta(seconds=1)
    digits = match["fraction"][:6]
    low = low.replace(microsecond=int(digits.ljust(6, "0")))
    return low, low + timedelta(microseconds=10 ** (6 - len(digits)))


def _only(values: Sequence[str], name: str) -> str:
    if len(values) != 1:
        raise unsupported(f"{name} takes one value, not a list")
    return values[0]


def _token(value: str) -> tuple[str | None, str]:
    """System and code: None is any system, "" is none."""
    parts = split(value, "|")
    if len(parts) > 2:
        raise bad("a token is system|code")
    if len(parts) == 2 and not parts[1]:
        raise unsupported("a token without a code is not supported")
    return (None, parts[0]) if len(parts) == 1 else (parts[0], parts[1])


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if str(UUID(text)) == text.lower() else None
    except ValueError:
        return None


def _id(name: str) -> Callable[[Criteria, Sequence[str]], None]:
    def apply(criteria: Criteria, values: Sequence[str]) -> None:
        criteria.among(name, [id for id in map(_uuid, values) if id is not None])

    return apply


def _reference(name: str, kind: str) -> Callable[[Criteria, Sequence[str]], None]:
    """`id`, `Type/id` or an absolute URL of ours; others refer to nothing that we have."""

    def apply(criteria: Criteria, values: Sequence[str]) -> None:
        found = []
        for value in values:
            text = split(value, ",")[0].removeprefix(f"{criteria.base_url}/fhir/").removeprefix(f"{kind}/")
            if (id := _uuid(text)) is not None:
                found.append(id)
        criteria.among(name, found)

    return apply


def _coded(name: str, *systems: str) -> Callable[[Criteria, Sequence[str]], None]:
    """Pairs of (system, code), so that what must both hold is compared as what it is."""

    def apply(criteria: Criteria, values: Sequence[str]) -> None:
        pairs = []
        for system, code in map(_token, values):
            pairs += [(known, code) for known in systems if system in (None, known)]
        criteria.among(name, pairs)

    return apply


_code = _coded("code", fhir.LOINC, fhir.TEST_SYSTEM)  # a test


def _fixed(*codings: tuple[str, str]) -> Callable[[Criteria, Sequence[str]], None]:
    """An element that is the same in every resource of the type."""

    def apply(criteria: Criteria, values: Sequence[str]) -> None:
        tokens = list(map(_token, values))
        if not any(code == own and system in (None, at) for system, code in tokens for at, own in codings):
            criteria.nothing = True

    return apply


def _status(name: str, system: str, known: Sequence[str]) -> Callable[[Criteria, Sequence[str]], None]:
    def apply(criteria: Criteria, values: Sequence[str]) -> None:
        tokens = list(map(_token, values))
        criteria.among(name, [code for at, code in tokens if code in known and at in (None, system)])

    return apply


def _number(name: str, *systems: str) -> Callable[[Criteria, Sequence[str]], None]:
    """An identifier that the laboratory gave."""

    def apply(criteria: Criteria, values: Sequence[str]) -> None:
        criteria.among(name, [code for system, code in map(_token, values) if system is None or system in systems])

    return apply


def _patient_identifier(criteria: Criteria, values: Sequence[str]) -> None:
    system, value = _token(_only(values, "identifier"))
    criteria.like("identifier", value)
    if system == "":
        criteria.nothing = True  # `|value`: without a system, which every identifier of ours has
    elif system is not None:
        criteria.like("authority", fhir.authority_of(system))


def _gender(criteria: Criteria, values: Sequence[str]) -> None:
    _, code = _token(_only(values, "gender"))
    criteria.among("gender", [sex.value for sex in Sex if sex.value == code])


def _date(name: str, parameter: str) -> Callable[[Criteria, Sequence[str]], None]:
    def apply(criteria: Criteria, values: Sequence[str]) -> None:
        criteria.within(name, interval(_only(values, parameter), parameter))

    return apply


def _day(criteria: Criteria, values: Sequence[str]) -> None:
    if "T" in _only(values, "birthdate"):
        raise bad("birthdate has no time")
    criteria.within("birthdate", interval(values[0], "birthdate"))


def _string(name: str) -> Callable[[Criteria, Sequence[str]], None]:
    def apply(criteria: Criteria, values: Sequence[str]) -> None:
        criteria.like(name, split(_only(values, name), ",")[0])

    return apply


# ---- the table ------------------------------------------------------------------------------------------------------

_COMMON = (
    Parameter("_id", "token", "the resource's id", _id("_id")),
    Parameter("_lastUpdated", "date", "when it last changed", _date("_lastUpdated", "_lastUpdated")),
)
_SUBJECT = (
    Parameter("patient", "reference", "the patient", _reference("patient", "Patient"), ("Patient",)),
    Parameter("subject", "reference", "the patient", _reference("patient", "Patient"), ("Patient",)),
)
_ORDER_NUMBER = Parameter(
    "identifier", "token", "the number of the order, the laboratory's or the placer's",
    _coded("number", fhir.ORDER_SYSTEM, fhir.PLACER_SYSTEM),
)  # fmt: skip
REPORT_STATUSES = ("registered", "partial", "preliminary", "final", "amended", "corrected", "appended", "cancelled")
REQUEST_STATUSES = ("draft", "active", "on-hold", "revoked", "completed", "entered-in-error", "unknown")

PARAMETERS: dict[str, tuple[Parameter, ...]] = {
    "Patient": (
        *_COMMON,
        Parameter("identifier", "token", "an identifier of the patient", _patient_identifier),
        Parameter("family", "string", "how the family name begins", _string("family")),
        Parameter("given", "string", "how the given name begins", _string("given")),
        Parameter("name", "string", "how the family or the given name begins", _string("name")),
        Parameter("birthdate", "date", "the date of birth", _day),
        Parameter("gender", "token", "administrative gender", _gender),
    ),
    "Observation": (
        *_COMMON,
        *_SUBJECT,
        Parameter("code", "token", "the test: LOINC code, or the laboratory's own", _code),
        Parameter(
            "status", "token", "the status of the result",
            _status("status", "http://hl7.org/fhir/observation-status", [status.value for status in ResultStatus]),
        ),
        Parameter(
            "category", "token", "laboratory", _fixed((fhir.TERMINOLOGY + "observation-category", "laboratory"))
        ),
        Parameter("date", "date", "when the specimen was taken, else measured", _date("date", "date")),
        Parameter("specimen", "reference", "the specimen", _reference("specimen", "Specimen"), ("Specimen",)),
    ),
    "DiagnosticReport": (
        *_COMMON,
        *_SUBJECT,
        _ORDER_NUMBER,
        Parameter(
            "status", "token", "the status of the report",
            _status("status", "http://hl7.org/fhir/diagnostic-report-status", REPORT_STATUSES),
        ),
        Parameter("category", "token", "LAB", _fixed((fhir.TERMINOLOGY + "v2-0074", "LAB"))),
        Parameter("code", "token", "11502-2, laboratory report", _fixed((fhir.LOINC, "11502-2"))),
        Parameter("date", "date", "when the specimen was taken, else measured", _date("date", "date")),
        Parameter(
            "based-on", "reference", "the request", _reference("based-on", "ServiceRequest"), ("ServiceRequest",)
        ),
    ),
    "ServiceRequest": (
        *_COMMON,
        *_SUBJECT,
        _ORDER_NUMBER,
        Parameter("code", "token", "the test: LOINC code, or the laboratory's own", _code),
        Parameter(
            "status", "token", "the status of the request",
            _status("status", "http://hl7.org/fhir/request-status", REQUEST_STATUSES),
        ),
        Parameter("category", "token", "laboratory procedure", _fixed((fhir.SNOMED, "108252007"))),
        Parameter("authored", "date", "when it was ordered", _date("authored", "authored")),
        Parameter("specimen", "reference", "the specimen", _reference("specimen", "Specimen"), ("Specimen",)),
    ),
    "Specimen": (
        *_COMMON,
        *_SUBJECT,
        Parameter("identifier", "token", "the barcode", _number("barcode", fhir.BARCODE_SYSTEM)),
        Parameter("accession", "token", "the barcode", _number("barcode", fhir.BARCODE_SYSTEM)),
    ),
}  # fmt: skip
SORTS: dict[str, tuple[str, ...]] = {
    resource: ("_lastUpdated", "date") if resource == "Observation" else ("_lastUpdated",) for resource in PARAMETERS
}


def read_search(
    resource: str, given: Sequence[tuple[str, str]], base_url: str, strict: bool
) -> tuple[Criteria, tuple[tuple[str, str], ...]]:
    """What a search of `resource` asks, and the parameters as they were applied. Raises ApiError 400."""
    criteria, applied = Criteria(base_url), []
    known = {parameter.name: parameter for parameter in PARAMETERS[resource]}
    for name, value in given:
        if name in ("_format", "_pretty") or not value:
            continue
        if "\0" in value:
            raise bad(f"{name} holds a character that is none")
        if name == "_count":
            criteria.count = _count(value)
        elif name == "_sort":
            _sort(criteria, resource, value)
        elif (parameter := _parameter(known, name)) is not None:
            parameter.apply(criteria, alternatives(value))
        elif strict:
            raise unsupported(f"a {resource} has no search parameter {name[:60]!r}")
        else:
            continue
        applied.append((name, value))
    return criteria, tuple(applied)


def _parameter(known: dict[str, Parameter], name: str) -> Parameter | None:
    """The parameter of that name; None when there is none and it may be ignored."""
    base, _, modifier = name.partition(":")
    if base == "_has" or ("." in name and base.partition(".")[0] in known) or "." in modifier:
        raise unsupported("chained parameters are not supported")
    parameter = known.get(base)
    if parameter is not None and modifier and modifier not in parameter.targets:
        raise unsupported(f"the modifier {modifier[:40]!r} of {base} is not supported")
    return parameter


def _count(value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise bad("_count is a number")
    return min(int(value[:9]), MOST_COUNT)


def _sort(criteria: Criteria, resource: str, value: str) -> None:
    if value.removeprefix("-") not in SORTS[resource]:
        raise unsupported(f"a {resource} can be sorted by one of {', '.join(SORTS[resource])}")
    criteria.sort, criteria.descending = value.removeprefix("-"), value.startswith("-")
