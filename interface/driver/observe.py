"""What both decoding engines share: results from fields, holds from the driver's tables, occurrence numbers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from interface.domain.model import (
    LONGEST_METHOD,
    UNSAID,
    Attachment,
    Comparator,
    DecodedMessage,
    HoldReason,
    MeasuredWith,
    Observed,
    ObservedPatient,
    ObservedSpecimen,
    Problem,
    Protocol,
    Query,
    Sex,
    SpecimenRole,
    Value,
    ValueKind,
)
from interface.domain.record import draft
from interface.domain.values import read_field
from interface.driver.manifest import Driver, StatusMeaning
from interface.driver.rules import CODE_PATH, VALUE_PATH, Classification, FieldPath, Reader, RecordKind

NO_SPECIMEN_ID = "no specimen id where this driver looks for it"

_SEX = {
    "m": Sex.MALE,
    "male": Sex.MALE,
    "f": Sex.FEMALE,
    "female": Sex.FEMALE,
    "o": Sex.OTHER,
    "other": Sex.OTHER,
    "u": Sex.UNKNOWN,
    "unknown": Sex.UNKNOWN,
}
_SCALED = frozenset({ValueKind.NUMERIC, ValueKind.RATIO})
_SIDES = {Comparator.LT: "<", Comparator.LE: "<", Comparator.GT: ">", Comparator.GE: ">"}
_OFF_SCALE = frozenset({"<", "<=", ">", ">="})


@dataclass(slots=True)
class OpenSpecimen:
    """A specimen while its records are read."""

    patient: int | None
    specimen_id: str | None = None
    type: str = ""
    role: SpecimenRole = SpecimenRole.PATIENT
    order_code: str = ""
    collected: str = ""
    results: list[Observed] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    comments: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()  # of them what stands with each result
    work_id: str = ""


@dataclass(slots=True)
class Draft:
    """A decoded message in the making."""

    protocol: Protocol
    control_id: str = ""
    sender: str = ""
    message_type: str = ""
    version: str = ""
    patients: list[ObservedPatient] = field(default_factory=list)
    specimens: list[OpenSpecimen] = field(default_factory=list)
    queries: list[Query] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, location: str, text: str) -> None:
        self.problems.append(Problem(location, text))

    def finish(self) -> DecodedMessage:
        """Say of each result what is said of its order, number the occurrences and freeze.

        DESIGN §1.2: the result key counts occurrences of (specimen, code path, sub-id) in the message.
        """
        every: dict[str, dict[str | tuple[str, str], int]] = {}  # by specimen
        specimens = []
        for specimen in self.specimens:
            results, seen = specimen.results, every.setdefault(specimen.specimen_id or "", {})
            for at, result in enumerate(results):
                if specimen.remarks:
                    results[at] = result = replace(result, comments=(*specimen.remarks, *result.comments))
                key = (result.code_path, result.sub_id) if result.sub_id else result.code_path
                count = seen.get(key, 0)
                if count:
                    results[at] = replace(result, occurrence=count)
                seen[key] = count + 1
            specimens.append(
                ObservedSpecimen(
                    specimen.patient,
                    specimen.specimen_id,
                    specimen.type,
                    specimen.role,
                    specimen.order_code,
                    specimen.collected,
                    tuple(results),
                    tuple(specimen.attachments),
                    specimen.comments,
                    specimen.work_id,
                )
            )
        return DecodedMessage(
            self.protocol,
            self.control_id,
            self.sender,
            self.message_type,
            self.version,
            tuple(self.patients),
            tuple(specimens),
            tuple(self.queries),
            tuple(self.problems),
        )


@draft
class RawResult:
    """The fields of one result record, read by the driver's paths. Not frozen: one is made and read for each record."""

    location: str
    code: str
    code_path: str
    raw_value: str
    value: Value
    text: str  # the value's words, for a record that is no measurement
    flags: tuple[str, ...]
    status: str
    sub_id: str = ""
    name: str = ""
    unit: str = ""
    reference: str = ""
    instrument_time: str = ""
    operator: str = ""
    comments: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    attachment: Attachment | None = None
    contradicts: bool = False  # the value is not of the kind that the record itself says
    doubted: bool = False  # something is said against its specimen or reagent
    measured_with: MeasuredWith = UNSAID
    method: str = ""


def nothing(path: FieldPath) -> tuple[str, ...]:
    return ()


def observe(driver: Driver, raw: RawResult, read: Reader = nothing) -> tuple[Observed, Attachment | None]:
    """One result with the holds that the driver's tables put on it, and what is to be kept with the specimen.

    `read`: what stands in and around its record, for the driver's conditions.
    """
    kind = driver.classify(raw.code, read) if driver.classifications or driver.codes else None
    value = _limited(driver, raw, _classified(kind, raw) if kind else raw.value)
    attachment = raw.attachment
    if kind is not None and kind.kind is RecordKind.IMAGE and attachment is None and raw.text:
        attachment = Attachment(raw.name or raw.code, kind.media_type, raw.text, raw.location)
        value = Value(ValueKind.IMAGE, raw.text)
    elif attachment is not None:
        value = Value(ValueKind.IMAGE, raw.name or raw.code)  # the picture itself never stands in a value
    meaning = driver.status(raw.status)
    ruled = driver.hold(read) if driver.holds else ()
    failed = meaning is StatusMeaning.FAILED or HoldReason.RUN_FAILED in ruled
    if failed and value.kind is not ValueKind.FAILED:
        # A failed run is never a result, least of all a negative one (DESIGN §1.3).
        value = Value(ValueKind.FAILED, value.text)
    holds = tuple(dict.fromkeys((*_holds(driver, raw, value, meaning), *ruled)))
    if raw.contradicts:
        holds = _also(holds, HoldReason.UNREADABLE_VALUE)
    if not raw.code and raw.value.kind is not ValueKind.EMPTY:
        holds = _also(holds, HoldReason.UNMAPPED_CODE)
    observed = Observed(
        raw.code, value, raw.raw_value, raw.code_path, raw.sub_id, 0, raw.name, raw.unit, raw.reference, raw.flags,
        raw.status, raw.instrument_time, raw.operator, raw.comments, holds, raw.location,
        kind is not None and kind.kind is RecordKind.DETAIL, driver.units.get(raw.unit) if raw.unit else None,
        raw.measured_with, _method(raw.method) if raw.method else "",
    )  # fmt: skip
    return observed, attachment


def _method(sent: str) -> str:
    """What a method is called, on one line; what is longer than any name of one is none."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in sent).split())
    return text if len(text) <= LONGEST_METHOD else ""


def _also(holds: tuple[HoldReason, ...], reason: HoldReason) -> tuple[HoldReason, ...]:
    return holds if reason in holds else (*holds, reason)


def read_date(text: str) -> date | None:
    """A date from the front of YYYYMMDD[HHMM..]; None for anything that is not one."""
    head = text.strip()[:8]
    if len(head) != 8 or not (head.isascii() and head.isdigit()):
        return None
    try:
        return date(int(head[:4]), int(head[4:6]), int(head[6:]))
    except ValueError:
        return None


def read_sex(text: str) -> Sex | None:
    """Sex as instruments write it; None when it is not said or not understood."""
    return _SEX.get(text.strip().casefold())


def join_name(components: Sequence[str]) -> str:
    """A name as sent, family^given^.., with HL7's component mark whatever the message's was."""
    return "^".join(part.strip() for part in components).rstrip("^")


def _limited(driver: Driver, raw: RawResult, value: Value) -> Value:
    """A number that a flag says is the end of the scale is a limit."""
    limits = driver.grammar.limit_flags
    if not limits or value.kind is not ValueKind.NUMERIC or value.comparator is not None:
        return value
    found = {limits[flag] for flag in raw.flags if flag in limits}
    return replace(value, comparator=found.pop()) if len(found) == 1 else value


def _off_scale(driver: Driver, raw: RawResult, value: Value) -> bool:
    """Whether a flag says off the instrument's scale (HL7 table 0078, LIS02-A2 9.8: `<`, `>`) and the value does not.

    Whether such a number is the scale's end or what was read beyond it only the driver can say (`[value.limits]`).
    """
    limits = driver.grammar.limit_flags
    said = {driver.flags.get(flag) or str(limits.get(flag, "")) for flag in raw.flags}
    sides = {word[0] for word in said if word in _OFF_SCALE}
    return bool(sides) and (value.comparator is None or sides != {_SIDES[value.comparator]})


def _classified(kind: Classification, raw: RawResult) -> Value:
    if kind.kind is RecordKind.FLAG and raw.value.kind is ValueKind.EMPTY:
        # The message has fired when it carries a flag; with neither flag nor value it says nothing.
        return Value(ValueKind.CODED, " ".join(raw.flags)) if raw.flags else raw.value
    if kind.kind is RecordKind.TEXT and raw.value.kind not in (ValueKind.EMPTY, ValueKind.FAILED):
        return Value(ValueKind.TEXT, raw.text.strip())
    return raw.value


def _unknown(alarm: str) -> HoldReason:
    return HoldReason.UNKNOWN_FLAG


def _holds(driver: Driver, raw: RawResult, value: Value, meaning: StatusMeaning) -> tuple[HoldReason, ...]:
    reasons: list[HoldReason] = []
    if value.kind is ValueKind.FAILED or meaning is StatusMeaning.FAILED:
        reasons.append(HoldReason.RUN_FAILED)
    elif value.kind is ValueKind.EMPTY or meaning is StatusMeaning.PENDING:
        reasons.append(HoldReason.NO_VALUE)
    if raw.doubted or meaning is StatusMeaning.QUESTIONABLE:
        reasons.append(HoldReason.QUESTIONABLE)
    elif meaning is StatusMeaning.UNKNOWN:
        reasons.append(HoldReason.UNKNOWN_STATUS)
    for flag in raw.flags:
        hold = driver.flag_hold(flag)
        if hold is not None:
            reasons.append(hold)
    if raw.flags and value.kind in _SCALED and _off_scale(driver, raw, value):
        reasons.append(HoldReason.QUESTIONABLE)
    if raw.alarms:
        known = driver.alarm.hold if driver.alarm is not None else _unknown
        reasons += [hold for alarm in raw.alarms if (hold := known(alarm)) is not None]
    return tuple(dict.fromkeys(reasons)) if reasons else ()


def take_from_order(
    driver: Driver,
    specimen: OpenSpecimen,
    read: Callable[[tuple[FieldPath, ...]], str],
    location: str,
    reader: Callable[[dict[FieldPath, str]], Reader],
) -> None:
    """The result of a control that has no record of its own, where the driver says that its order has it. It has no
    status, which is no doubt. `read`: what paths say; `reader`: what conditions see."""
    rule = driver.control
    if rule is None or specimen.role is not SpecimenRole.QC:
        return
    code, text = read(rule.code), read(rule.value)
    reading = read_field(text, driver.grammar)
    raw = RawResult(
        location,
        driver.code(code),
        code,
        text,
        reading.value,
        text,
        reading.flags,
        "",
        name=read(rule.name),
        unit=read(rule.unit) or reading.unit,
        instrument_time=read(rule.instrument_time),
        measured_with=MeasuredWith(control_lot=read(rule.control_lot), level=read(rule.level)),
    )
    specimen.specimen_id = read(rule.specimen_id) or None
    observed, _ = observe(driver, raw, reader({CODE_PATH: raw.code, VALUE_PATH: text}))
    holds = tuple([hold for hold in observed.holds if hold is not HoldReason.UNKNOWN_STATUS])
    specimen.results.append(replace(observed, holds=holds))


def not_done(specimen: OpenSpecimen, codes: Sequence[str], as_sent: str, status: str, location: str) -> None:
    """What the analyzer says it cannot do and sends no result of: for each test that its order names a run that failed,
    under a key that no result has. `as_sent`: the order's tests; `status`: its own."""
    specimen.results += [
        Observed(
            code, Value(ValueKind.FAILED), code_path=f"{as_sent} {status}", status=status,
            holds=(HoldReason.RUN_FAILED,), location=location,
        )
        for code in codes or ("",)
    ]  # fmt: skip
