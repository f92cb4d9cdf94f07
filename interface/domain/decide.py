"""The decision on one observation: map → match → value → unit → rounding → interval → flags → status.

Pure, so re-running is safe. Every step leaves a line in the explanation. Whatever is not certain becomes a hold reason;
a held decision is `registered`, one without holds is `preliminary`, and nothing here ever releases a result.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from functools import lru_cache

from interface.domain.book import NO_LIMITS, Limits, Plan
from interface.domain.catalogue import Catalogue
from interface.domain.decision_context import RULES, DecisionContext
from interface.domain.flags import CRITICAL, DEFAULT_RULE, Evaluation, evaluate, evaluate_each
from interface.domain.intervals import Selection, has_critical
from interface.domain.matching import Match
from interface.domain.model import (
    CodeMapping,
    Comparator,
    HoldReason,
    Interval,
    LabTest,
    Observed,
    ObservedSpecimen,
    OrderedItem,
    ResultStatus,
    SpecimenFacts,
    SpecimenRole,
    Step,
    Value,
    ValueKind,
)
from interface.domain.record import record
from interface.domain.units import Substance, bare, canonical, convert
from interface.errors import UnknownUnit

HOLD = "hold"  # the step that says what a result waits for
MAX_DIGITS = 40  # of a number, and of its distance from the point: what is larger is no measurement

_PATIENT = SpecimenRole.PATIENT
_REGISTERED, _PRELIMINARY = ResultStatus.REGISTERED, ResultStatus.PRELIMINARY
_NUMERIC = frozenset({ValueKind.NUMERIC})
_MEASURED = _NUMERIC | {ValueKind.RATIO, ValueKind.RANGE}
_WORDS = frozenset({ValueKind.TEXT, ValueKind.CODED})
# What an analyzer may answer to a test of each kind. EMPTY and FAILED answer none.
ACCEPTED: dict[ValueKind, frozenset[ValueKind]] = {
    ValueKind.NUMERIC: _NUMERIC,
    ValueKind.TEXT: _WORDS | _NUMERIC | {ValueKind.RATIO, ValueKind.RANGE, ValueKind.TIME},
    ValueKind.CODED: _WORDS,
    ValueKind.RATIO: frozenset({ValueKind.RATIO}),
    ValueKind.RANGE: frozenset({ValueKind.RANGE}),
    ValueKind.TIME: frozenset({ValueKind.TIME}),
    ValueKind.IMAGE: frozenset({ValueKind.IMAGE}),
}


@record
class Decision:
    """The result as the laboratory reports it. `value.text` is what is shown; the raw text stays in the observation."""

    value: Value
    status: ResultStatus
    test: LabTest | None = None
    specimen: SpecimenFacts | None = None
    item: OrderedItem | None = None
    patient_id: str | None = None
    unit: str = ""  # UCUM when converted; as sent when it could not be
    low: Decimal | None = None
    high: Decimal | None = None
    reference: str = ""
    critical_low: Decimal | None = None
    critical_high: Decimal | None = None
    flags: tuple[str, ...] = ()  # the laboratory's own; the instrument's stand in the explanation
    display: str = ""  # LL or HH by the rule of thumb: shown, and never a critical result
    holds: tuple[HoldReason, ...] = ()
    steps: tuple[Step, ...] = ()
    map_revision: int = 0
    method: str = ""  # by which it was measured; "": not known
    unsure: bool = False  # it has no reference interval because of what is not known of the patient
    critical_unsure: bool = False  # so with the critical limits


@dataclass(slots=True)
class _Draft:
    """A value while it is judged: what is known so far, the explanation and the holds."""

    value: Value
    unit: str
    low: Decimal | None = None
    high: Decimal | None = None
    reference: str = ""
    critical_low: Decimal | None = None
    critical_high: Decimal | None = None
    flags: tuple[str, ...] = ()
    display: str = ""
    unsure: bool = False
    critical_unsure: bool = False
    steps: list[Step] = field(default_factory=list)
    holds: list[HoldReason] = field(default_factory=list)

    def add(
        self,
        step: str,
        text: str,
        *,
        holds: tuple[HoldReason, ...] = (),
        verdict: str = "ok",
        version: str = RULES,
        **inputs: str,
    ) -> None:
        """One line of the explanation."""
        self.steps.append(_step(step, "hold" if holds else verdict, text, version, tuple(inputs.items())))
        self.holds += [hold for hold in dict.fromkeys(holds) if hold not in self.holds]


@dataclass(slots=True, eq=False)
class _Reading:
    """What a value comes to for a test and limits, whosever it is. `given`: the value as the driver read it."""

    given: Value
    value: Value
    unit: str
    low: Decimal | None
    high: Decimal | None
    reference: str
    critical_low: Decimal | None
    critical_high: Decimal | None
    flags: tuple[str, ...]
    display: str
    unsure: bool
    critical_unsure: bool
    steps: tuple[Step, ...]
    holds: tuple[HoldReason, ...]


@lru_cache(maxsize=4096)
def _step(step: str, verdict: str, text: str, version: str, inputs: tuple[tuple[str, str], ...]) -> Step:
    """A line that many explanations have, made once."""
    return Step(step, verdict, text, version, dict(inputs))


@lru_cache(maxsize=1024)
def waiting(holds: tuple[HoldReason, ...]) -> Step:
    """The last line of an explanation of what waits for a person."""
    return Step(HOLD, "hold", f"waits for a person: {', '.join(holds)}", RULES)


def decide(observed: Observed, specimen: ObservedSpecimen, context: DecisionContext) -> Decision:
    """Decide one observation. Never raises for what an analyzer sends; every doubt is a hold reason with its step."""
    decoded, said = _decoded(observed, context)
    if specimen.role is not _PATIENT:
        step = Step("match", "hold", f"a {specimen.role.value} specimen", RULES)
        holds = tuple(dict.fromkeys((*said, HoldReason.NOT_PATIENT)))
        steps = (decoded, step, waiting(holds))
        status, method = ResultStatus.REGISTERED, observed.method
        return Decision(observed.value, status, unit=observed.unit, holds=holds, steps=steps, method=method)
    specimen_type = context.specimens[0].type if len(context.specimens) == 1 else ""
    specimen_type = specimen_type or specimen.type
    plan = _plan(observed.code, specimen_type, context)
    test = plan.test
    found = context.find(specimen.specimen_id, test.id if test else None)
    method = plan.method or observed.method
    limits = context.limits(test, method, found.specimen, specimen_type) if test else NO_LIMITS
    reading = _reading(plan, limits, observed, context.catalogue)
    matched = context.matched(found)
    first: tuple[Step, ...] = (decoded, plan.step, matched)
    if method:
        first = (decoded, plan.step, _measured(method, mapped=bool(plan.method)), matched)
    holds = said + plan.holds + found.holds + reading.holds
    return _decision(reading, found, test, first, holds, plan.mapping, method)


def decide_value(
    test: LabTest,
    value: Value,
    unit: str,
    specimen: SpecimenFacts,
    item: OrderedItem | None,
    context: DecisionContext,
    made: Step,
    method: str = "",
) -> Decision:
    """Decide a value that no analyzer sent: what a person entered, or what was calculated; `made` says which.

    `unit` "" is the test's own, `method` "" is not known. It is of the specimen's patient and answers the item; all
    else is as for an analyzer's.
    """
    mapping = CodeMapping("", test.id, unit=test.unit)
    limits = context.limits(test, method, specimen, specimen.type)
    reading = _read(value, unit, None, test, mapping, limits.selection, context.catalogue)
    return _decision(reading, Match(specimen, item, specimen.patient), test, (made,), reading.holds, None, method)


def _decision(
    reading: _Reading,
    found: Match,
    test: LabTest | None,
    first: tuple[Step, ...],
    holds: tuple[HoldReason, ...],
    mapping: CodeMapping | None,
    method: str,
) -> Decision:
    steps = first + reading.steps
    if holds:
        holds = tuple(dict.fromkeys(holds))
        steps = (*steps, waiting(holds))
    return Decision(
        reading.value, _REGISTERED if holds else _PRELIMINARY, test, found.specimen, found.item,
        found.patient.id if found.patient else None, reading.unit, reading.low, reading.high, reading.reference,
        reading.critical_low, reading.critical_high, reading.flags, reading.display, holds, steps,
        mapping.revision if mapping and test else 0, method, reading.unsure, reading.critical_unsure,
    )  # fmt: skip


def _decoded(observed: Observed, context: DecisionContext) -> tuple[Step, tuple[HoldReason, ...]]:
    holds = observed.holds
    if context.holds or context.incomplete:
        holds = (*holds, *context.holds)
        if context.incomplete:
            holds = (*holds, HoldReason.INCOMPLETE_TRANSMISSION)
    return context.decoded(holds), holds


def _plan(code: str, specimen_type: str, context: DecisionContext) -> Plan:
    book = context.book
    plans = book.plans.get(specimen_type)
    plan = plans.get(code) if plans is not None else None
    if plan is None:
        plan = _planned(code, specimen_type, context)
        if plan.test is not None:  # codes that mean nothing here are without number
            book.plans.setdefault(specimen_type, {})[code] = plan
    return plan


def _planned(code: str, specimen_type: str, context: DecisionContext) -> Plan:
    mapping = context.catalogue.mapping(code, specimen_type)
    test = context.catalogue.tests.get(mapping.test_id) if mapping else None
    version, row = RULES, ""
    if mapping is not None:
        version = f"{'site' if mapping.site else context.driver} map {mapping.revision}".strip()
        row = mapping.row
    if mapping is None or test is None:
        text = "no test for this code" if code else "no code was sent"
        if mapping is not None:
            text = "the laboratory wants this code held" if not mapping.test_id else "its test is not in use"
        inputs = {"code": code, "specimen_type": specimen_type, "row": row}
        return Plan(mapping, None, Step("map", "hold", text, version, inputs), (HoldReason.UNMAPPED_CODE,))
    inputs = {"row": row, "specimen_type": mapping.specimen_type} if mapping.specimen_type else {"row": row}
    if specimen_type and not mapping.specimen_type:
        inputs["measured_on"] = specimen_type  # another row may come to stand for the code there
    return Plan(mapping, test, Step("map", "ok", f"{test.code} {test.name}", version, inputs))


@lru_cache(maxsize=1024)
def _measured(method: str, *, mapped: bool) -> Step:
    """By which method, and who says so."""
    return Step("method", "ok", f"{method} {'by the map' if mapped else 'as sent'}", RULES, {"method": method})


_READINGS: dict[tuple[Plan, Limits, str, str, str | None], _Reading] = {}
_MOST_READINGS = 16_384  # about a kilobyte each; a laboratory reports the same few digits again and again


def _reading(plan: Plan, limits: Limits, observed: Observed, catalogue: Catalogue) -> _Reading:
    """What the value comes to. The same of every value that is like it: it does not depend on whose it is."""
    value = observed.value
    key = (plan, limits, value.text, observed.unit, observed.ucum)
    known = _READINGS.get(key)
    if known is not None and _alike(known.given, value):
        return known
    made = _read(value, observed.unit, observed.ucum, plan.test, plan.mapping, limits.selection, catalogue)
    if plan.test is not None:
        if len(_READINGS) >= _MOST_READINGS:
            _READINGS.clear()
        _READINGS[key] = made
    return made


def _alike(one: Value, other: Value) -> bool:
    """The same also in its digits: 120 and 12E1 are one number, and were not measured alike."""
    if one is other:
        return True
    if one != other or one.number is None or other.number is None:
        return False
    return one.number.compare_total(other.number) == 0


def _read(
    value: Value,
    unit: str,
    ucum: str | None,
    test: LabTest | None,
    mapping: CodeMapping | None,
    selection: Selection,
    catalogue: Catalogue,
) -> _Reading:
    draft = _Draft(value, unit)
    if _readable(draft, test) and mapping is not None and test is not None:
        if _reported(unit, ucum, test, mapping, catalogue, draft):
            _judged(selection, draft, test.substance)
    return _Reading(
        value, draft.value, draft.unit, draft.low, draft.high, draft.reference, draft.critical_low, draft.critical_high,
        draft.flags, draft.display, draft.unsure, draft.critical_unsure, tuple(draft.steps), tuple(draft.holds),
    )  # fmt: skip


def _readable(draft: _Draft, test: LabTest | None) -> bool:
    """Whether there is a value that can answer the test."""
    value = draft.value
    if value.kind is ValueKind.FAILED:
        draft.add("value", "the run failed: there is no result", holds=(HoldReason.RUN_FAILED,))
    elif value.kind is ValueKind.EMPTY:
        draft.add("value", "no value was sent", holds=(HoldReason.NO_VALUE,))
    elif not _finite(value):
        draft.add("value", "not a number that can be measured", holds=(HoldReason.UNREADABLE_VALUE,))
    elif test is not None and value.kind not in ACCEPTED.get(test.kind, frozenset()):
        text = f"a {value.kind.value} value for a {test.kind.value} test"
        draft.add("value", text, holds=(HoldReason.UNREADABLE_VALUE,))
    else:
        return True
    return False


def _finite(value: Value) -> bool:
    """A numeric value has a number, and one whose digits are few enough to write out."""
    if value.kind is not ValueKind.NUMERIC:
        return True
    number = value.number
    if number is None or not number.is_finite():
        return False
    digits, exponent = number.as_tuple().digits, number.as_tuple().exponent
    return len(digits) <= MAX_DIGITS and isinstance(exponent, int) and abs(exponent) <= MAX_DIGITS


def _reported(
    unit: str, ucum: str | None, test: LabTest, mapping: CodeMapping, catalogue: Catalogue, draft: _Draft
) -> bool:
    """Put the value as reported and its UCUM unit into the draft; False when the unit holds it.

    Words have no unit. What was measured but is not reported as a number (a titre, a range) is never converted.
    """
    value = draft.value
    if value.kind not in _MEASURED:
        draft.unit = ""
        return True
    plain = value.number if test.kind is ValueKind.NUMERIC else None
    version = f"units {catalogue.aliases.revision}"
    try:
        sent = _sent_unit(unit if ucum is None else ucum, mapping, test, catalogue)
        measured = Decimal(1) if plain is None else plain
        number = convert(measured, sent, test.unit, test.substance) if sent != test.unit else plain
        if plain is None and number not in (None, 1):
            raise UnknownUnit(f"{sent} cannot be converted to {test.unit} in a {value.kind.value} value")
    except UnknownUnit as error:
        draft.add(
            "unit",
            error.text,
            holds=(HoldReason.UNKNOWN_UNIT,),
            version=version,
            sent=unit,
            reported=test.unit,
        )
        return False
    origin = "by the driver" if ucum else "as sent" if unit and ucum is None else "by the map"
    text = f"{sent or 'no unit'} {origin}" + (f", converted to {test.unit}" if sent != test.unit else "")
    mass, valence = test.substance.molar_mass, test.substance.valence
    if sent == test.unit or (mass is None and valence is None):
        draft.add("unit", text, version=version, sent=unit, reported=test.unit)
    else:  # by which it may have been converted
        by = {"molar_mass": str(mass or ""), "valence": str(valence or "")}
        draft.steps.append(_step("unit", "ok", text, version, (("sent", unit), ("reported", test.unit), *by.items())))
    draft.unit = test.unit
    if plain is None or number is None:
        return True
    number = _rounded(number, plain, value.comparator, test.decimals, draft)
    draft.value = Value(ValueKind.NUMERIC, format(number, "f"), number, value.comparator)
    return True


def _sent_unit(raw_unit: str, mapping: CodeMapping, test: LabTest, catalogue: Catalogue) -> str:
    """The UCUM code of the unit the number is in. Raises UnknownUnit."""
    if raw_unit:
        return canonical(raw_unit, catalogue.aliases, test.unit) if test.unit else _pure(raw_unit, catalogue)
    if mapping.unit or not test.unit:
        return mapping.unit or test.unit
    if bare(test.unit):
        return test.unit  # {INR}, {ratio}, [pH], 1: no unit is how such a number is written
    raise UnknownUnit("no unit was sent and the map names none")


def _pure(raw_unit: str, catalogue: Catalogue) -> str:
    """No unit, for a test that has none: what was sent must be a pure number's. Raises UnknownUnit."""
    if not bare(canonical(raw_unit, catalogue.aliases)):
        raise UnknownUnit("a unit for a test that has none")
    return ""


def _rounded(
    number: Decimal, sent: Decimal, comparator: Comparator | None, decimals: int | None, draft: _Draft
) -> Decimal:
    """Half up to the test's decimals; never digits the analyzer did not measure.

    A limit is rounded so that it stays true: `<0.045` is `<0.05`, not `<0.0`. Without decimals a converted number has
    no more significant digits than were sent.
    """
    if not number:
        number = number.copy_abs()  # no one reports -0.0, whoever sends it
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        return number
    if decimals is None:
        surplus = len(number.as_tuple().digits) - len(sent.as_tuple().digits)
        places = -(exponent + surplus) if number != sent and surplus > 0 else -exponent
    else:
        places = decimals
    if places >= -exponent:
        return number
    rounding = ROUND_HALF_UP
    if comparator is not None:
        rounding = ROUND_CEILING if comparator in (Comparator.LT, Comparator.LE) else ROUND_FLOOR
    rounded = number.quantize(Decimal(1).scaleb(-places), rounding=rounding, context=Context(prec=4 * MAX_DIGITS))
    if not rounded:
        rounded = rounded.copy_abs()  # no one reports -0.0
    draft.add("round", f"to {places} decimals", measured=format(number, "f"), reported=format(rounded, "f"))
    return rounded


def _judged(selection: Selection, draft: _Draft, substance: Substance) -> None:
    """Put the reference interval, the critical limits and the flags into the draft."""
    draft.unsure, draft.critical_unsure = selection.unsure, selection.critical_unsure
    interval, critical = selection.interval, selection.critical
    possible: tuple[Interval, ...] = selection.possible if critical is None else ()
    if selection.ambiguous:
        ids = " ".join(one.id for one in selection.ambiguous)
        draft.add("interval", "several apply", holds=(HoldReason.AMBIGUOUS_INTERVAL,), intervals=ids)
    try:
        interval = interval and _in_unit(interval, draft.unit, substance)
        critical = critical and _in_unit(critical, draft.unit, substance)
        possible = tuple([_in_unit(one, draft.unit, substance) for one in possible])
    except UnknownUnit as error:
        rows = [selection.interval, selection.critical, *selection.possible]
        ids = " ".join(dict.fromkeys(one.id for one in rows if one and one.id))
        draft.add("interval", error.text, holds=(HoldReason.UNKNOWN_UNIT,), interval=ids)
        return
    if interval is not None:
        _referred(interval, draft)
    elif not selection.ambiguous:
        text = "which one applies is not known" if selection.unsure else "none applies"
        draft.add("interval", text, verdict="none")
    if critical is not None:
        draft.critical_low, draft.critical_high = critical.critical_low, critical.critical_high
    if selection.possible or (critical is not None and selection.critical is not selection.interval):
        _limited(selection, critical, possible, draft)
    judged = evaluate_each(draft.value, interval, possible) if possible else evaluate(draft.value, interval, critical)
    _flagged(judged, draft)


def _referred(interval: Interval, draft: _Draft) -> None:
    """Put the interval into the draft."""
    draft.low, draft.high = interval.low, interval.high
    draft.reference = interval.text or reference_text(interval.low, interval.high)
    words = draft.reference or "no limits"
    if interval.method:
        draft.add("interval", words, version=interval.id, method=interval.method)
    else:
        draft.add("interval", words, version=interval.id)


def _limited(selection: Selection, critical: Interval | None, possible: tuple[Interval, ...], draft: _Draft) -> None:
    """Say which critical limits count, or between which it is not known."""
    words = " or ".join(dict.fromkeys([_critical_text(one) for one in (possible if critical is None else (critical,))]))
    if not selection.possible and critical is not None:
        draft.add("critical", words, version=critical.id)
        return
    ids = " ".join(one.id for one in selection.possible if one.id)
    draft.add("critical", words, verdict="ok" if critical is not None else "none", intervals=ids)


def _critical_text(one: Interval) -> str:
    if not has_critical(one):
        return "no limits"
    return reference_text(one.critical_low, one.critical_high) or ", ".join(one.critical_values)


def _flagged(judged: Evaluation, draft: _Draft) -> None:
    draft.flags, draft.display = judged.flags, judged.display
    if not judged.flags and not judged.holds:
        return
    words = " ".join(judged.flags)
    text = "against the reference interval" if CRITICAL.isdisjoint(judged.flags) else "against the critical limits"
    if judged.holds:
        text = "cannot be judged for certain"
    if judged.display:
        draft.add("flag", text, holds=judged.holds, verdict=words, display=judged.display, origin=DEFAULT_RULE)
    else:
        draft.add("flag", text, holds=judged.holds, verdict=words)


_LIMIT_DIGITS = Context(prec=6)


@lru_cache(maxsize=4096)
def _in_unit(interval: Interval, unit: str, substance: Substance) -> Interval:
    """The interval's limits in the unit of the report. Raises UnknownUnit when they cannot be compared.

    Its own words are of its own unit: converted limits are told by numbers.
    """
    if interval.unit in ("", unit):
        return interval
    limited = (interval.low, interval.high) != (None, None)
    return replace(
        interval,
        unit=unit,
        text="" if limited else interval.text,
        low=_limit(interval.low, interval.unit, unit, substance),
        high=_limit(interval.high, interval.unit, unit, substance),
        critical_low=_limit(interval.critical_low, interval.unit, unit, substance),
        critical_high=_limit(interval.critical_high, interval.unit, unit, substance),
    )


def _limit(limit: Decimal | None, from_unit: str, to_unit: str, substance: Substance) -> Decimal | None:
    """Of a limit in another unit, six digits: it is shown, and was never measured more finely."""
    return None if limit is None else _LIMIT_DIGITS.plus(convert(limit, from_unit, to_unit, substance))


def reference_text(low: Decimal | None, high: Decimal | None) -> str:
    """`3.5 - 5.1`, `<= 5`, `>= 60`; "" without limits."""
    if low is None and high is None:
        return ""
    if low is None:
        return f"<= {high:f}"
    return f">= {low:f}" if high is None else f"{low:f} - {high:f}"
