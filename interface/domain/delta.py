"""Delta checks: a result against the same person's previous one. `[[delta]]` of a rule set. Pure.

| kind | what is compared with the limits | of |
| --- | --- | --- |
| absolute | x - p | the unit |
| percent | 100 (x - p) / |p| | per cent |
| rate | (x - p) / t | the unit per day or hour |
| rate_percent | 100 (x - p) / |p| / t | per cent per day or hour |
| rcv | 100 (x - p) / |p|, against the reference change value | per cent |

The first four are the common methods (Park SH et al., Ann Lab Med 2012;32:345, PMC3427822). The reference change value
is sqrt(2) z sqrt(CVa^2 + CVi^2) (Harris EK, Yasaka T, Clin Chem 1983;29:25); for skewed data its log-normal form
(Fokkema MR et al., Clin Chem 2006;52:1602). On a limit is within it. A value with a comparator is no
number: nothing is computed with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import MAX_PREC, Context, Decimal
from enum import StrEnum

from interface.domain import scope
from interface.domain.exact import EXACT, FINE, exact_number, in_unit_of, rounded, shown
from interface.domain.facts import Facts, Finding, PreviousResult, Verdict
from interface.domain.flags import DELTA_DOWN, DELTA_UP, side
from interface.domain.model import HoldReason, Value, ValueKind
from interface.domain.scope import EVERYTHING, Scope
from interface.domain.table import Table
from interface.domain.verdicts import Memo, said
from interface.errors import UnknownUnit

Z = Decimal("1.96")  # both directions, 95 %
CHECK = "delta"
_RCV_DECIMALS = 6  # of a per cent: far finer than any variation is known
_HOLDS, _PASS = (HoldReason.DELTA,), Finding.PASS
_ONE, _TWO, _HUNDRED, _DAY_S, _HOUR_S = Decimal(1), Decimal(2), Decimal(100), Decimal(86_400), Decimal(3600)
_SECOND = timedelta(seconds=1)
_WHOLE = Context(prec=MAX_PREC)
_SUBTRACT, _MULTIPLY = EXACT.subtract, EXACT.multiply  # at hand: they are asked for each result


class DeltaKind(StrEnum):
    ABSOLUTE = "absolute"
    PERCENT = "percent"
    RATE = "rate"
    RATE_PERCENT = "rate_percent"
    RCV = "rcv"


class Per(StrEnum):
    DAY = "day"
    HOUR = "hour"


_RATES = frozenset({DeltaKind.RATE, DeltaKind.RATE_PERCENT})
_IN_UNITS = frozenset({DeltaKind.ABSOLUTE, DeltaKind.RATE})


@dataclass(frozen=True, slots=True)
class Delta:
    """One check of one test. `up` and `down`: how much it may rise and fall, both positive, None: as much as it likes.

    `window`: a previous result from longer ago is not compared. `suppress_within`: two values that are both surely
    within the reference interval pass, whatever lies between them.
    """

    name: str
    test: str
    kind: DeltaKind
    up: Decimal | None
    down: Decimal | None
    window: timedelta
    unit: str = ""  # of absolute limits and rates; "" is the test's
    per: Per = Per.DAY
    suppress_within: bool = False
    scope: Scope = EVERYTHING
    source: str = ""
    tests: tuple[str, ...] = field(init=False)
    # Of changes in per cent that are no rates: the limits as parts of the previous value, which say the same.
    parts: tuple[Decimal | None, Decimal | None] | None = field(init=False, default=None, compare=False, repr=False)
    memo: Memo = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tests", (self.test,))
        if self.kind in (DeltaKind.PERCENT, DeltaKind.RCV):
            up = None if self.up is None else _WHOLE.scaleb(self.up, -2)
            down = None if self.down is None else _WHOLE.scaleb(self.down, -2)
            object.__setattr__(self, "parts", (up, up if up == down else down))  # in both directions the same: one


def reference_change(
    cva: Decimal, cvi: Decimal, z: Decimal = Z, *, log_normal: bool = False
) -> tuple[Decimal, Decimal]:
    """How many per cent a result may rise and fall by its imprecision and within-subject variation, CVs in per cent."""
    variance = FINE.add(FINE.multiply(cva, cva), FINE.multiply(cvi, cvi))
    spread = FINE.multiply(z, FINE.sqrt(_TWO))
    if not log_normal:
        change = FINE.multiply(spread, FINE.sqrt(variance))
        return change, change
    sigma = FINE.sqrt(FINE.ln(FINE.add(_ONE, FINE.divide(variance, _HUNDRED * _HUNDRED))))
    rise = FINE.exp(FINE.multiply(spread, sigma))
    fall = FINE.divide(_ONE, rise)
    return FINE.multiply(_HUNDRED, FINE.subtract(rise, _ONE)), FINE.multiply(_HUNDRED, FINE.subtract(_ONE, fall))


def parse(entry: Table) -> Delta:
    """One `[[delta]]`. Says what is wrong to the table; what comes back then is of no use."""
    test = entry.text("test", None)
    kind = entry.choice("kind", DeltaKind, DeltaKind.ABSOLUTE)
    up, down = _reference_change(entry) if kind is DeltaKind.RCV else _limits(entry)
    window_d = entry.whole("window_d")
    if not window_d:
        entry.say(entry.at("window_d"), "is missing: from how many days ago a previous result is compared")
    unit = entry.text("unit")
    if unit and kind not in _IN_UNITS:
        entry.say(entry.at("unit"), f"says nothing of {kind.value}, which is in per cent")
    per = entry.word("per", tuple(Per)) or Per.DAY
    if "per" in entry.raw and kind not in _RATES:
        entry.say(entry.at("per"), f"says nothing of {kind.value}, which is no rate")
    return Delta(
        name=entry.text("name") or f"{test} {kind.value}",
        test=test,
        kind=kind,
        up=up,
        down=down,
        window=timedelta(days=window_d),
        unit=unit,
        per=Per(per),
        suppress_within=entry.flag("suppress_within"),
        scope=scope.parse(entry),
        source=entry.text("source"),
    )


def _limits(entry: Table) -> tuple[Decimal | None, Decimal | None]:
    both, up, down = entry.decimal("limit"), entry.decimal("up"), entry.decimal("down")
    if both is not None and (up is not None or down is not None):
        entry.say(entry.at("limit"), "is for both directions: leave out up and down")
    up, down = (both, both) if both is not None else (up, down)
    if up is None and down is None:
        entry.say(entry.path, "says no limit: limit, or up or down")
    for key, number in (("limit", both), ("up", up), ("down", down)):
        if number is not None and number <= 0 and key in entry.raw:
            entry.say(entry.at(key), "is not above zero")
    return up, down


def _reference_change(entry: Table) -> tuple[Decimal | None, Decimal | None]:
    cva, cvi, z = entry.decimal("cva"), entry.decimal("cvi"), entry.decimal("z")
    direction = entry.word("direction", ("up", "down"))
    log_normal = entry.flag("log_normal")
    for key, number in (("cva", cva), ("cvi", cvi)):
        if number is None and key not in entry.raw:
            entry.say(entry.at(key), "is missing: a coefficient of variation in per cent")
        if number is not None and not 0 <= number <= _HUNDRED:
            entry.say(entry.at(key), "is not between 0 and 100 per cent")
            return None, None
    if z is not None and not 0 < z <= 10:
        entry.say(entry.at("z"), "is not between 0 and 10")
        return None, None
    if cva is None or cvi is None:
        return None, None
    limits = reference_change(cva, cvi, Z if z is None else z, log_normal=log_normal)
    up, down = (rounded(limit, _RCV_DECIMALS) for limit in limits)
    return None if direction == "down" else up, None if direction == "up" else down


def check(rules: tuple[Delta, ...], facts: Facts, version: str = "") -> tuple[Verdict, ...]:
    """Each rule of the test on the result."""
    return tuple([checked(rule, facts, version) for rule in rules])


def checked(rule: Delta, facts: Facts, version: str) -> Verdict:
    """One rule of the test on the result."""
    previous = facts.previous
    if previous is None:
        return _none(rule, version, "no previous result")
    if rule.scope is not EVERYTHING:
        applies = rule.scope.applies(facts)
        if applies is None:
            return _unknown(rule, version, "what the rule asks for is not known of this result")
        if not applies:
            return _none(rule, version, "not of such a result")
    at = time_of(facts)
    if at is None:
        return _unknown(rule, version, "the time of this result is not known")
    passed = at - previous.at
    if passed > rule.window:
        return _none(rule, version, "the previous result is too old to compare with")
    number, before = exact_number(facts.value), exact_number(previous.value)
    if number is not None and before is not None and previous.unit != facts.unit:
        try:
            before = in_unit_of(facts.test, before, previous.unit, facts.unit)
        except UnknownUnit:
            return _unknown(rule, version, "the previous result is in a unit that cannot be compared")
    if rule.suppress_within and _both_within(facts, previous, before):
        inputs = {"previous": previous.version_id}
        return Verdict(CHECK, Finding.PASS, "both values are within the reference interval", rule.name, version, inputs)
    if number is None or before is None:
        return _unknown(rule, version, "one of the two values is no exact number")
    return _compared(rule, facts, number, before, passed, version)


def _compared(rule: Delta, facts: Facts, number: Decimal, before: Decimal, passed: timedelta, version: str) -> Verdict:
    """Compare without dividing: 100 (x - p) with the limit times |p|, a rate with the limit times the time."""
    difference = _SUBTRACT(number, before)
    if rule.parts is not None and before:  # most are so, and pass
        part, down = rule.parts
        if part is not down and difference.is_signed():
            part = down
        if part is None or difference.copy_abs() <= _MULTIPLY(part, before.copy_abs()):
            return _passed(rule, version, facts, difference)
    up, down, kind = rule.up, rule.down, rule.kind
    change, unit = difference, _ONE
    if kind in _IN_UNITS:
        if rule.unit not in ("", facts.unit):
            try:
                up = up and in_unit_of(facts.test, up, rule.unit, facts.unit)
                down = down and in_unit_of(facts.test, down, rule.unit, facts.unit)
            except UnknownUnit:
                return _unknown(rule, version, "the rule's limit is in a unit that cannot be compared")
    elif before:
        change, unit = _MULTIPLY(difference, _HUNDRED), before.copy_abs()
    elif difference:
        return _unknown(rule, version, "a change from zero is no percentage")
    if kind in _RATES:
        seconds = passed // _SECOND
        if seconds <= 0:
            return _unknown(rule, version, "no time lies between the two results")
        change = EXACT.multiply(change, _DAY_S if rule.per is Per.DAY else _HOUR_S)
        unit = EXACT.multiply(unit, Decimal(seconds))
    previous = facts.previous.version_id if facts.previous else ""
    # A limit is not below zero, and what it is multiplied with is above: a change is beyond one on its own side only.
    if not change.is_signed():
        if up is not None and change > _MULTIPLY(up, unit):
            return _failed(rule, version, DELTA_UP, previous, EXACT.divide(change, unit), up)
    elif down is not None and change.copy_abs() > _MULTIPLY(down, unit):
        return _failed(rule, version, DELTA_DOWN, previous, EXACT.divide(change, unit), down.copy_negate())
    return _passed(rule, version, facts, difference)


def _passed(rule: Delta, version: str, facts: Facts, difference: Decimal) -> Verdict:
    inputs = {"previous": facts.previous.version_id if facts.previous else "", "difference": str(difference)}
    return Verdict(CHECK, _PASS, "the change is within the limit", rule.name, version, inputs)


def _failed(rule: Delta, version: str, flag: str, previous: str, change: Decimal, limit: Decimal) -> Verdict:
    text = f"the change ({rule.kind.value}) is beyond the limit: may be another person's specimen"
    inputs = {"previous": previous, "change": shown(change, 2), "limit": shown(limit, 2)}
    return Verdict(CHECK, Finding.HOLD, text, rule.name, version, inputs, _HOLDS, (flag,))


def _both_within(facts: Facts, previous: PreviousResult, before: Decimal | None) -> bool:
    """Surely both: a value with a comparator counts as all it may stand for, in the unit of the interval."""
    if facts.low is None and facts.high is None:
        return False
    older = previous.value
    if previous.unit != facts.unit:
        if before is None:
            return False
        older = Value(ValueKind.NUMERIC, "", before)
    return side(older, facts.low, facts.high) == 0 and side(facts.value, facts.low, facts.high) == 0


def _unknown(rule: Delta, version: str, text: str) -> Verdict:
    return said(rule.memo, CHECK, Finding.UNKNOWN, text, rule.name, version, _HOLDS)


def _none(rule: Delta, version: str, text: str) -> Verdict:
    return said(rule.memo, CHECK, Finding.NOT_APPLICABLE, text, rule.name, version)


# ---- several analytes of one tube ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Swap:
    """How much speaks for another person's specimen. `failed` and `compared` are tests, `suspected` says act first."""

    failed: tuple[str, ...]
    compared: int
    suspected: bool
    text: str


def swap(verdicts: Mapping[str, Sequence[Verdict]], at_least: int = 2) -> Swap:
    """What the delta checks of one specimen, by test, say together.

    Suspected when at least `at_least` tests, and at least half of those that could be compared, have changed beyond
    their limit: one analyte changes with an illness, several at once with the name on the tube.
    """
    findings = {
        test: {one.finding for one in said if one.check == CHECK and one.finding in (Finding.PASS, Finding.HOLD)}
        for test, said in verdicts.items()
    }
    compared = [test for test, said in findings.items() if said]
    failed = tuple(sorted(test for test in compared if Finding.HOLD in findings[test]))
    suspected = len(failed) >= at_least and 2 * len(failed) >= len(compared)
    text = f"{len(failed)} of {len(compared)} tests of this specimen changed beyond their limit"
    if suspected:
        text += ": check first whose specimen it is"
    return Swap(failed, len(compared), suspected, text)


def time_of(facts: Facts) -> datetime | None:
    """When the result is of: collected, else measured, else received."""
    return facts.subject.collected_at or facts.measured_at or facts.subject.received_at
