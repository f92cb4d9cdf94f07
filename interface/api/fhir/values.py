"""The values of search parameters, read (FHIR R4 search.html): what a text says, or a refusal in one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import MAXYEAR, UTC, datetime, timedelta, timezone
from decimal import Context, Decimal
from uuid import UUID

from interface.domain.search import Amount, Label, Match, Moment, Phrase, Prefix, Token, Value
from interface.errors import ApiError
from interface.store import ids

_DATE = re.compile(
    r"(?P<prefix>[a-z]{2})?(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:T(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>[0-5]\d|60)(?:\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>Z|[+ -]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
_NUMBER = re.compile(
    r"(?P<prefix>[a-z]{2})?(?P<number>[+-]?\d{1,18}(?:\.\d{1,18})?)(?:[eE](?P<power>[+-]?\d{1,2}))?", re.ASCII
)
_EXACT = Context(prec=300)  # more digits than a number here can have
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def bad(text: str) -> ApiError:
    return ApiError(400, "value", text)


def unsupported(text: str) -> ApiError:
    return ApiError(400, "not-supported", text)


def with_article(kind: str) -> str:
    """A type's name with its article."""
    return f"{'an' if kind[:1] in 'AEIOU' else 'a'} {kind}"


def split(value: str, separator: str) -> list[str]:
    """Split at `separator` unless a backslash stands before it, then take the backslashes away (R4 search.html)."""
    if "\\" not in value:
        return value.split(separator)
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


def plain(value: str) -> str:
    """A value that has no parts, without its backslashes."""
    return split(value, "\0")[0]  # which no value holds


def alternatives(value: str) -> list[str]:
    """The comma-separated values, still escaped for what is within them; empty ones say nothing."""
    if "\\" not in value:
        return [one for one in value.split(",") if one]
    parts, part, escaped = [], "", False
    for letter in value:
        if letter == "," and not escaped:
            parts.append(part)
            part = ""
            continue
        part += letter
        escaped = letter == "\\" and not escaped
    return [one for one in (*parts, part) if one]


def read_id(text: str) -> UUID | None:
    """An id of ours; None for what can be none."""
    try:
        id = ids.read_id(text)
    except ValueError:
        return None
    return id if str(id) == text.lower() else None


# ---- by type of parameter -------------------------------------------------------------------------------------------


def token(value: str, name: str) -> Token:
    """`code`, `system|code`, `|code`, `system|`."""
    parts = split(value, "|")
    if len(parts) > 2 or not any(parts):
        raise bad(f"{name} is a token, system|code")
    return Token(None, parts[0]) if len(parts) == 1 else Token(parts[0], parts[1] or None)


def typed_token(value: str, name: str) -> Token:
    """`:of-type`: `system|code|value` of the identifier's type and of the identifier."""
    parts = split(value, "|")
    if len(parts) != 3 or not all(parts):
        raise bad(f"{name}:of-type is the type's system|code|value")
    return Token(None, parts[2], (parts[0], parts[1]))


def moment(value: str, name: str, now: datetime) -> Moment:
    """A date with a prefix. Without a zone it is UTC. `ap`: within a tenth of its distance from `now`."""
    match = _DATE.fullmatch(value)
    if match is None:
        raise bad(f"{name} is not a date")
    try:
        low, high = _bounds(match)
    except (ValueError, OverflowError):
        raise bad(f"{name} is not a date") from None
    prefix = match["prefix"] or "eq"
    if prefix == "ap":
        near = abs(now - low) / 10
        low = low - near if low - _EARLIEST > near else _EARLIEST
        return Moment(Prefix.EQ, low, high + near if _LATEST - high > near else _LATEST)
    return Moment(_prefix(prefix, name), low, high)


def period(value: str, name: str) -> tuple[datetime, datetime]:
    """What a date means that has no prefix: the first instant of it, and the one after it."""
    if value[:2].isalpha():
        raise bad(f"{name} is a date, without a prefix")
    read = moment(value, name, _EARLIEST)
    return read.low, read.high


def _prefix(text: str, name: str) -> Prefix:
    try:
        return Prefix(text)
    except ValueError:
        raise bad(f"{name} has a prefix that is none") from None


def _bounds(match: re.Match[str]) -> tuple[datetime, datetime]:
    year, month = int(match["year"]), int(match["month"] or 1)
    if match["month"] is None:
        return datetime(year, 1, 1, tzinfo=UTC), _first_of(year + 1, 1)
    if match["day"] is None:
        return datetime(year, month, 1, tzinfo=UTC), _first_of(year + month // 12, month % 12 + 1)
    low = datetime(year, month, int(match["day"]), tzinfo=UTC)
    if match["hour"] is None:
        return low, _after(low, timedelta(days=1))
    zone = (match["zone"] or "Z").replace(" ", "+")  # a + that was not escaped arrives as a blank
    if zone != "Z":
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
        low = low.replace(tzinfo=timezone(-offset if zone[0] == "-" else offset))
    low = low.replace(hour=int(match["hour"]), minute=int(match["minute"])).astimezone(UTC)
    if match["second"] is None:
        return low, _after(low, timedelta(minutes=1))
    low += timedelta(seconds=int(match["second"]))  # 60: a leap second, which is the next minute's first here
    if match["fraction"] is None:
        return low, _after(low, timedelta(seconds=1))
    digits = match["fraction"][:6]
    low = low.replace(microsecond=int(digits.ljust(6, "0")))
    return low, _after(low, timedelta(microseconds=10 ** (6 - len(digits))))


def _first_of(year: int, month: int) -> datetime:
    return datetime(year, month, 1, tzinfo=UTC) if year <= MAXYEAR else _LATEST


def _after(low: datetime, length: timedelta) -> datetime:
    """The end of what begins at `low`; 9999-12-31, by which many say that there is none, ends with time itself."""
    return low + length if _LATEST - low > length else _LATEST


def amount(value: str, name: str, now: datetime) -> Amount:
    """`[prefix]number`, `[prefix]number|system|code`, `[prefix]number||code`."""
    parts = split(value, "|")
    match = _NUMBER.fullmatch(parts[0])
    if match is None or len(parts) not in (1, 3):
        raise bad(f"{name} is a quantity, number|system|code")
    number = _EXACT.scaleb(Decimal(match["number"]), int(match["power"] or 0))
    exponent = number.as_tuple().exponent
    half = _EXACT.scaleb(Decimal(5), int(exponent) - 1)  # R4 search.html#number: 5.40 is from 5.395 to 5.405
    prefix = match["prefix"] or "eq"
    system, unit = (parts[1] or None, parts[2] or None) if len(parts) == 3 else (None, None)
    if prefix == "ap":
        half, prefix = max(half, _EXACT.scaleb(abs(number), -1)), "eq"
    low, high = _EXACT.subtract(number, half), _EXACT.add(number, half)
    return Amount(_prefix(prefix, name), number, low, high, system, unit)


def phrase(value: str, how: Match) -> Phrase:
    return Phrase(plain(value), how)


def _text(how: Match) -> Callable[[str, str, datetime], Value]:
    return lambda value, name, now: phrase(value, how)


READERS: dict[tuple[str, str], Callable[[str, str, datetime], Value]] = {  # by type of parameter and modifier
    ("token", ""): lambda value, name, now: token(value, name),
    ("token", "not"): lambda value, name, now: token(value, name),
    ("token", "text"): lambda value, name, now: Label(plain(value)),
    ("token", "of-type"): lambda value, name, now: typed_token(value, name),
    ("date", ""): moment,
    ("quantity", ""): amount,
    ("uri", ""): _text(Match.EXACT),
    ("string", ""): _text(Match.STARTS),
    ("string", "exact"): _text(Match.EXACT),
    ("string", "contains"): _text(Match.CONTAINS),
}
