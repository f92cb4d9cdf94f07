"""The facts that rules may ask about: a closed table. What is not in it cannot be asked. Pure.

`read` finds a fact of a case, or None where it is not known; `write` makes the case in which it is something else, or
not known: by it the rule bench finds cases on both sides of every bound, and people write cases down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Any

from interface.domain.facts import Facts, Finding, PreviousResult, QcState, Sibling, Verdict
from interface.domain.model import Comparator, HoldReason, Priority, Sex, Value, ValueKind
from interface.domain.record import record
from interface.domain.values import numeric

CRITICAL_FLAGS = ("LL", "HH", "AA")
JUDGING_FLAGS = ("N", "L", "H", "A", *CRITICAL_FLAGS)  # whatever judged a value said one of them
_JUDGING = frozenset(JUDGING_FLAGS)
_CRITICAL = frozenset(CRITICAL_FLAGS)
_HOUR = 3600
_AN_INSTANT = datetime(2026, 1, 1, 12, tzinfo=UTC)  # of cases that are written down: only differences matter
_A_NUMBER = Decimal(1)


@record
class Case:
    """What a rule sees of one result: the facts, and what the checks before it said."""

    facts: Facts
    verdicts: tuple[Verdict, ...] = ()


class Kind(StrEnum):
    """What a fact is, and so what may be asked of it."""

    NUMBER = "range"
    WORD = "words"
    YES_NO = "yes or no"
    TAGS = "tags"


@dataclass(frozen=True, slots=True)
class Predicate:
    """`argument`: the fact is another test's, which is named. `words`: the only ones there are; none: any. `judging`:
    tags without one of which the others are not known."""

    key: str
    kind: Kind
    text: str
    read: Callable[[Case, str], Any]
    write: Callable[[Case, str, Any], Case]
    words: tuple[str, ...] = ()
    argument: bool = False
    of_value: bool = False  # a number in the test's unit, with its decimals
    judging: tuple[str, ...] = ()


# ---- ways to read and write -----------------------------------------------------------------------------------------


def _fact(name: str, case: Case, _: str) -> Any:
    """None and "" are what is not known."""
    found = getattr(case.facts, name)
    return None if found == "" else found


def _put_fact(name: str, absent: Any, case: Case, _: str, value: Any) -> Case:
    changes: dict[str, Any] = {name: absent if value is None else value}
    return replace(case, facts=replace(case.facts, **changes))


def _subject(name: str, case: Case, _: str) -> Any:
    found = getattr(case.facts.subject, name)
    return None if found == "" else found


def _put_subject(name: str, absent: Any, case: Case, _: str, value: Any) -> Case:
    changes: dict[str, Any] = {name: absent if value is None else value}
    return replace(case, facts=replace(case.facts, subject=replace(case.facts.subject, **changes)))


def _value(case: Case, _: str) -> Value | None:
    value = case.facts.value
    return value if value.number is not None and value.number.is_finite() else None


def _put_value(case: Case, _: str, value: Any) -> Case:
    """A number, or one with a comparator as `(comparator, number)`."""
    return replace(case, facts=replace(case.facts, value=_as_value(value)))


def _as_value(value: Any) -> Value:
    if value is None:
        return Value(ValueKind.TEXT)
    if isinstance(value, Value):
        return value
    return numeric(Decimal(value))


def _text(case: Case, _: str) -> str | None:
    value = case.facts.value
    return value.text if value.kind in (ValueKind.TEXT, ValueKind.CODED) and value.text else None


def _put_text(case: Case, _: str, value: Any) -> Case:
    made = Value(ValueKind.NUMERIC) if value is None else Value(ValueKind.TEXT, value)
    return replace(case, facts=replace(case.facts, value=made))


def _comparator(case: Case, _: str) -> str:
    comparator = case.facts.value.comparator
    return "none" if comparator is None else comparator.value


def _put_comparator(case: Case, _: str, value: Any) -> Case:
    made = None if value in (None, "none") else Comparator(value)
    number = case.facts.value.number
    return replace(case, facts=replace(case.facts, value=numeric(_A_NUMBER if number is None else number, made)))


def _sex(case: Case, _: str) -> str | None:
    sex = case.facts.subject.sex
    return None if sex is Sex.UNKNOWN else sex


def _put_sex(case: Case, _: str, value: Any) -> Case:
    return _put_subject("sex", Sex.UNKNOWN, case, "", None if value is None else Sex(value))


def _priority(case: Case, _: str) -> str:
    return case.facts.subject.priority


def _put_priority(case: Case, _: str, value: Any) -> Case:
    return _put_subject("priority", Priority.ROUTINE, case, "", None if value is None else Priority(value))


def _qc(case: Case, _: str) -> str | None:
    state = case.facts.qc
    return None if state is QcState.UNKNOWN else state


def _put_qc(case: Case, _: str, value: Any) -> Case:
    return _put_fact("qc", QcState.UNKNOWN, case, "", None if value is None else QcState(value))


def _age_y(case: Case, _: str) -> int | None:
    """Completed years on the day of collection; a birthday of 29 February is met on 1 March of other years."""
    born, days = case.facts.subject.birth_date, case.facts.subject.age_d
    if born is None or days is None or days < 0:
        return None
    day = born + timedelta(days=days)
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def _put_age_y(case: Case, _: str, value: Any) -> Case:
    day = _AN_INSTANT.date()
    subject = case.facts.subject
    if value is None:
        changed = replace(subject, birth_date=None, age_d=None, birth_at=None, age_h=None)
    else:
        born = date(day.year - int(value), day.month, day.day)
        changed = replace(subject, birth_date=born, age_d=(day - born).days)
    return replace(case, facts=replace(case.facts, subject=changed))


def _measured(name: str, case: Case, _: str) -> int | None:
    """A number that is not negative."""
    found: int | None = getattr(case.facts.subject, name)
    return None if found is None or found < 0 else found


def _put_measured(name: str, case: Case, _: str, value: Any) -> Case:
    return _put_subject(name, None, case, "", None if value is None else int(value))


def _hours(start: datetime | None, end: datetime | None) -> Decimal | None:
    """None also when the end is before the start: then one of the two clocks is wrong."""
    if start is None or end is None or end < start:
        return None
    passed = end - start
    return Decimal(passed.days * 24) + Decimal(passed.seconds) / _HOUR


def _before(value: Any) -> datetime | None:
    return None if value is None else _AN_INSTANT - timedelta(seconds=int(Decimal(value) * _HOUR))


def _specimen_age(case: Case, _: str) -> Decimal | None:
    return _hours(case.facts.subject.collected_at, case.facts.measured_at)


def _put_specimen_age(case: Case, _: str, value: Any) -> Case:
    facts = replace(case.facts, measured_at=_AN_INSTANT)
    return _put_subject("collected_at", None, replace(case, facts=facts), "", _before(value))


def _transport(case: Case, _: str) -> Decimal | None:
    return _hours(case.facts.subject.collected_at, case.facts.subject.received_at)


def _put_transport(case: Case, _: str, value: Any) -> Case:
    """The collection stays as it is where it is known."""
    start = case.facts.subject.collected_at or _AN_INSTANT
    end = None if value is None else start + (_AN_INSTANT - (_before(value) or _AN_INSTANT))
    return _put_subject("received_at", None, _put_subject("collected_at", None, case, "", start), "", end)


def _calibration_age(case: Case, _: str) -> Decimal | None:
    return _hours(case.facts.calibrated_at, case.facts.measured_at)


def _put_calibration_age(case: Case, _: str, value: Any) -> Case:
    facts = replace(case.facts, measured_at=_AN_INSTANT, calibrated_at=_before(value))
    return replace(case, facts=facts)


def _has_previous(case: Case, _: str) -> bool:
    return case.facts.previous is not None


def _a_previous(case: Case) -> PreviousResult:
    at = (case.facts.subject.collected_at or _AN_INSTANT) - timedelta(days=1)
    return case.facts.previous or PreviousResult(numeric(_A_NUMBER), case.facts.unit, at, "")


def _put_has_previous(case: Case, _: str, value: Any) -> Case:
    return replace(case, facts=replace(case.facts, previous=_a_previous(case) if value else None))


def _previous_value(case: Case, _: str) -> Value | None:
    """Only in the same unit: numbers of different units are never compared."""
    previous = case.facts.previous
    if previous is None or previous.value.number is None or previous.unit != case.facts.unit:
        return None
    return previous.value


def _put_previous_value(case: Case, _: str, value: Any) -> Case:
    previous = None if value is None else replace(_a_previous(case), value=_as_value(value))
    return replace(case, facts=replace(case.facts, previous=previous))


def _previous_age(case: Case, _: str) -> Decimal | None:
    """To the collection and to nothing else: another time in its place would be another age, not an unknown one."""
    previous = case.facts.previous
    return None if previous is None else _hours(previous.at, case.facts.subject.collected_at)


def _put_previous_age(case: Case, _: str, value: Any) -> Case:
    if value is None:
        return replace(case, facts=replace(case.facts, previous=None))
    now = case.facts.subject.collected_at or _AN_INSTANT
    at = now - (_AN_INSTANT - (_before(value) or _AN_INSTANT))
    facts = replace(case.facts, previous=replace(_a_previous(case), at=at))
    return _put_subject("collected_at", None, replace(case, facts=facts), "", now)


def _known_flags(flags: tuple[str, ...]) -> tuple[str, ...] | None:
    """None where nothing judged the value: no flag is then not the same as nothing to flag."""
    return None if _JUDGING.isdisjoint(flags) else flags


def _flags(case: Case, _: str) -> tuple[str, ...] | None:
    return _known_flags(case.facts.flags)


def _critical(case: Case, _: str) -> bool | None:
    """None where there are critical limits, and what is not known of the patient says which."""
    for flag in case.facts.flags:
        if flag in _CRITICAL:
            return True
    return None if case.facts.critical_unsure else False


def _put_critical(case: Case, _: str, value: Any) -> Case:
    others = tuple(flag for flag in case.facts.flags if flag not in CRITICAL_FLAGS)
    flags = (*others, CRITICAL_FLAGS[1]) if value else others
    return replace(case, facts=replace(case.facts, flags=flags, critical_unsure=value is None))


def _limited(low: str, high: str, unsure: str, case: Case, _: str) -> bool | None:
    facts = case.facts
    if getattr(facts, low) is not None or getattr(facts, high) is not None:
        return True
    return None if getattr(facts, unsure) else False


def _put_limited(low: str, high: str, unsure: str, case: Case, _: str, value: Any) -> Case:
    changes: dict[str, Any] = {unsure: value is None}
    if not value:
        changes |= {low: None, high: None}
    elif not _limited(low, high, unsure, case, ""):
        changes |= {low: _A_NUMBER, high: 2 * _A_NUMBER}
    return replace(case, facts=replace(case.facts, **changes))


_UNKNOWN = Finding.UNKNOWN
_STRENGTH = {Finding.NOT_APPLICABLE: 0, Finding.PASS: 1, Finding.HOLD: 2}
_WORD = {finding: finding.value for finding in Finding}  # reading `.value` is slow, and this is done for every rule


def _verdict(check: str, case: Case, _: str) -> str | None:
    """What a check said; None when it was not made, or said that something was not known."""
    strongest = None
    for verdict in case.verdicts:
        if verdict.check == check:
            if verdict.finding is _UNKNOWN:
                return None
            if strongest is None or _STRENGTH[verdict.finding] > _STRENGTH[strongest]:
                strongest = verdict.finding
    return None if strongest is None else _WORD[strongest]


_HOLDS_OF = {
    "delta": HoldReason.DELTA,
    "index": HoldReason.INTERFERENCE,
    "range": HoldReason.MEASURING_RANGE,
    "consistency": HoldReason.INCONSISTENT,
}


def _put_verdict(check: str, case: Case, _: str, value: Any) -> Case:
    others = tuple(verdict for verdict in case.verdicts if verdict.check != check)
    if value is None:
        return replace(case, verdicts=others)
    finding = Finding(value)
    holds = (_HOLDS_OF[check],) if finding in (Finding.HOLD, Finding.UNKNOWN) else ()
    return replace(case, verdicts=(*others, Verdict(check, finding, f"{check} {value}", holds=holds)))


def _counted(case: Case, test: str) -> Sibling | None:
    """The other test's result, where nothing holds it: what is held may be another patient's, and says nothing."""
    found = case.facts.siblings.get(test)
    return None if found is None or found.holds else found


def _sibling(case: Case, test: str) -> Value | None:
    found = _counted(case, test)
    return None if found is None or found.value.number is None else found.value


def _sibling_present(case: Case, test: str) -> bool | None:
    return None if _sibling_held(case, test) else test in case.facts.siblings


def _sibling_held(case: Case, test: str) -> bool | None:
    found = case.facts.siblings.get(test)
    return bool(found.holds) if found else None


def _sibling_flags(case: Case, test: str) -> tuple[str, ...] | None:
    found = _counted(case, test)
    return _known_flags(found.flags) if found else None


def _put_sibling(case: Case, test: str, sibling: Sibling | None) -> Case:
    siblings = {code: one for code, one in case.facts.siblings.items() if code != test}
    if sibling is not None:
        siblings[test] = sibling
    return replace(case, facts=replace(case.facts, siblings=siblings))


def _a_sibling(case: Case, test: str) -> Sibling:
    return case.facts.siblings.get(test) or Sibling(test, numeric(_A_NUMBER), "")


def _put_sibling_value(case: Case, test: str, value: Any) -> Case:
    made = None if value is None else replace(_a_sibling(case, test), value=_as_value(value), holds=())
    return _put_sibling(case, test, made)


def _put_sibling_present(case: Case, test: str, value: Any) -> Case:
    return _put_sibling(case, test, replace(_a_sibling(case, test), holds=()) if value else None)


def _put_sibling_held(case: Case, test: str, value: Any) -> Case:
    holds = (HoldReason.QUESTIONABLE,) if value else ()
    return _put_sibling(case, test, None if value is None else replace(_a_sibling(case, test), holds=holds))


def _put_sibling_flags(case: Case, test: str, value: Any) -> Case:
    made = None if value is None else replace(_a_sibling(case, test), flags=tuple(value), holds=())
    return _put_sibling(case, test, made)


def _put_follow_ups(case: Case, _: str, value: Any) -> Case:
    return _put_fact("follow_ups", 0, case, "", None if value is None else int(value))


# ---- the table ------------------------------------------------------------------------------------------------------


def _word(key: str, text: str, name: str = "") -> Predicate:
    name = name or key
    return Predicate(key, Kind.WORD, text, partial(_fact, name), partial(_put_fact, name, ""))


def _of_subject(key: str, text: str) -> Predicate:
    return Predicate(key, Kind.WORD, text, partial(_subject, key), partial(_put_subject, key, ""))


def _check(key: str, text: str) -> Predicate:
    words = (Finding.PASS.value, Finding.HOLD.value, Finding.NOT_APPLICABLE.value)
    return Predicate(key, Kind.WORD, text, partial(_verdict, key), partial(_put_verdict, key), words)


def _age(key: str, text: str) -> Predicate:
    return Predicate(key, Kind.NUMBER, text, partial(_measured, key), partial(_put_measured, key))


def _limits(key: str, text: str, low: str, high: str, unsure: str) -> Predicate:
    read, write = partial(_limited, low, high, unsure), partial(_put_limited, low, high, unsure)
    return Predicate(key, Kind.YES_NO, text, read, write)


_SEXES = tuple(sex.value for sex in Sex if sex is not Sex.UNKNOWN)
_QC_STATES = tuple(state.value for state in QcState if state is not QcState.UNKNOWN)
_COMPARATORS = ("none", *(comparator.value for comparator in Comparator))

PREDICATES: Mapping[str, Predicate] = {
    one.key: one
    for one in (
        Predicate("value", Kind.NUMBER, "the number as reported", _value, _put_value, of_value=True),
        Predicate("text", Kind.WORD, "the words of a result that is no number", _text, _put_text),
        Predicate(
            "comparator", Kind.WORD, "what stands before the number", _comparator, _put_comparator, _COMPARATORS
        ),
        Predicate(
            "flags", Kind.TAGS, "the laboratory's own flags; not known where nothing judged the value", _flags,
            partial(_put_fact, "flags", ()), judging=JUDGING_FLAGS,
        ),
        Predicate(
            "instrument_flags", Kind.TAGS, "the flags as the analyzer sent them", partial(_fact, "instrument_flags"),
            partial(_put_fact, "instrument_flags", ()),
        ),
        _word("instrument_status", "the status as the analyzer sent it"),
        Predicate("critical", Kind.YES_NO, "a flag says that it is critical", _critical, _put_critical),
        _limits("critical_limits", "there are critical limits for this patient", "critical_low", "critical_high",
                "critical_unsure"),
        _limits("interval", "there is a reference interval for this patient", "low", "high", "interval_unsure"),
        _check("delta", "what the delta checks say"),
        _check("index", "what the checks of hemolysis, icterus and lipemia say"),
        _check("range", "what the checks of the measuring range and of absurd values say"),
        _check("consistency", "what the checks against other analytes say"),
        Predicate("qc", Kind.WORD, "the state of the quality control", _qc, _put_qc, _QC_STATES),
        Predicate(
            "calibration_age_h", Kind.NUMBER, "hours from calibration to measurement, by a clock that is believed; "
            "what failed, or is doubted by the analyzer, is no calibration",
            _calibration_age, _put_calibration_age,
        ),
        _word("reagent_lot", "the lot of the reagent"),
        Predicate(
            "dilution", Kind.NUMBER, "the factor of dilution, 1 for none; unknown of what is calculated",
            partial(_fact, "dilution"), partial(_put_fact, "dilution", None),
        ),
        Predicate(
            "follow_ups", Kind.NUMBER, "reruns, dilutions and reflexes that led to it",
            partial(_fact, "follow_ups"), _put_follow_ups,
        ),
        _age("age_h", "age in whole hours at collection; known where the hour of birth is"),
        _age("age_d", "age in whole days at collection"),
        Predicate("age_y", Kind.NUMBER, "age in whole years at collection", _age_y, _put_age_y),
        Predicate("sex", Kind.WORD, "the patient's sex", _sex, _put_sex, _SEXES),
        Predicate(
            "pregnant", Kind.YES_NO, "the patient is pregnant", partial(_subject, "pregnant"),
            partial(_put_subject, "pregnant", None),
        ),
        _age("gestation_weeks", "whole weeks of gestation"),
        _of_subject("ward", "the ward"),
        _of_subject("patient_group", "the patient's group"),
        Predicate(
            "priority", Kind.WORD, "the order's priority", _priority, _put_priority,
            tuple(priority.value for priority in Priority),
        ),
        _of_subject("specimen_type", "the specimen's type"),
        Predicate(
            "specimen_age_h", Kind.NUMBER, "hours from collection to measurement; by a clock that is believed",
            _specimen_age, _put_specimen_age,
        ),
        Predicate("transport_h", Kind.NUMBER, "hours from collection to receipt", _transport, _put_transport),
        Predicate("previous", Kind.YES_NO, "there is a previous result", _has_previous, _put_has_previous),
        Predicate(
            "previous_value", Kind.NUMBER, "the previous result's number, in the same unit", _previous_value,
            _put_previous_value, of_value=True,
        ),
        Predicate(
            "previous_age_h", Kind.NUMBER, "hours from the previous result to this collection", _previous_age,
            _put_previous_age,
        ),
        Predicate(
            "sibling", Kind.NUMBER, "another test's number on the same specimen", _sibling, _put_sibling_value,
            argument=True,
        ),
        Predicate(
            "sibling_present", Kind.YES_NO, "another test has a result on the same specimen", _sibling_present,
            _put_sibling_present, argument=True,
        ),
        Predicate(
            "sibling_held", Kind.YES_NO, "another test's result on the same specimen is held", _sibling_held,
            _put_sibling_held, argument=True,
        ),
        Predicate(
            "sibling_flags", Kind.TAGS, "another test's flags on the same specimen", _sibling_flags,
            _put_sibling_flags, argument=True, judging=JUDGING_FLAGS,
        ),
        _word("analyzer", "the analyzer's name in the laboratory"),
        _word("driver", "the analyzer's driver"),
        _word("method", "the method by which it was measured"),
    )
}  # fmt: skip


def shown(observed: object) -> str:
    """An observed fact in an explanation."""
    if isinstance(observed, str):
        return observed
    if isinstance(observed, Value):
        return observed.text if observed.comparator is None else f"{observed.comparator}{observed.text}"
    if isinstance(observed, tuple):
        return " ".join(observed) or "none"
    if isinstance(observed, Decimal):
        return f"{observed:f}"
    if isinstance(observed, int) and not isinstance(observed, bool):
        return str(observed)
    return {True: "yes", False: "no", None: "not known"}[observed]  # type: ignore[index]  # of a yes-or-no fact
