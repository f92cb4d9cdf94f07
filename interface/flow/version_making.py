"""Cases as the versions of results that are written. No input or output.

Of a version's fifty columns a dozen are its own; the others are those of most versions of its test, flag and link, or
of all of its message. Who makes versions finds what is said of several once, and gives them the same object.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from interface.domain.model import (
    ItemStatus,
    LabTest,
    MeasuredWith,
    Observed,
    ObservedSpecimen,
    Origin,
    ResultStatus,
    SpecimenFacts,
)
from interface.domain.times import measured_at
from interface.domain.values import EMPTY
from interface.domain.views import ActorKind
from interface.flow.cases import Case, Rules, steps_of
from interface.flow.work import Work
from interface.store.ids import read_id
from interface.store.known_ids import known_id
from interface.store.version_rows import Alike, OfMessage, ResultVersion

_ANALYZER, _MANUAL, _CALCULATION = Origin.ANALYZER, Origin.MANUAL, Origin.CALCULATION
_FINAL, _VERIFIED, _COMPLETED = ResultStatus.FINAL, ItemStatus.VERIFIED, ItemStatus.COMPLETED
_RULE_SET = ActorKind.RULE_SET
NOTHING_SENT = Observed("", EMPTY)


@dataclass(frozen=True, slots=True)
class By:
    """Who a case is written by and where it came from: a message by a link, or a person. What rules release or
    calculate is the rule set's."""

    kind: ActorKind
    id: UUID | None
    message_id: UUID | None = None
    received_at: datetime | None = None
    analyzer_id: UUID | None = None
    driver_revision: str = ""
    rule_set_id: UUID | None = None
    note: str = ""


def by_link(work: Work, rules: Rules) -> By:
    driver = work.link.driver
    return By(
        ActorKind.LINK, work.link.link_id, work.message.id, work.message.received_at, work.link.analyzer_id,
        f"{driver.id} {driver.revision}", rules.now.active_id,
    )  # fmt: skip


def versions_of(cases: Iterable[Case], by: By) -> list[ResultVersion]:
    """Cases as the rows to write, in their order."""
    making = _Making(by)
    return [making.version(case) if case.waited is None else version_of(case, by) for case in cases]


def version_of(case: Case, by: By) -> ResultVersion:
    """A case as the row to write."""
    of = case.waited
    if of is not None:
        by = replace(by, message_id=of.message_id, received_at=of.effective_at, analyzer_id=of.analyzer_id,
                     driver_revision=of.driver_revision)  # fmt: skip
    return _Making(by).version(case)


def effective_at(case: Case, specimen: SpecimenFacts | None, received_at: datetime | None) -> datetime | None:
    """When what it says was so: collected, else measured by a clock that is believed, else received."""
    if specimen is not None and specimen.collected_at is not None:
        return specimen.collected_at
    return case.measured_at if received_at is None else measured_at(case.measured_at, received_at)


# ---- what is said of several -----------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Seen:
    """What was said of a version, with what it was made of where that is not in it."""

    alike: Alike
    test: LabTest | None
    name: str
    flags: tuple[str, ...]
    using: MeasuredWith
    ruled: bool


_Author: TypeAlias = tuple[ActorKind, UUID | None, UUID | None, str, UUID | None]
_NEAR = 16  # of a code that are looked through; they differ by flags and by the person's limits
_MOST = 4000  # a kilobyte or two each
_LONG = 500  # characters that were sent or said; such a one hardly comes again


class _Known:
    """What was said of versions of late, by who wrote them, then code."""

    def __init__(self) -> None:
        self._by: dict[_Author, dict[str, list[_Seen]]] = {}
        self._count = 0

    def of(self, by: By) -> dict[str, list[_Seen]]:
        author = by.kind, by.id, by.analyzer_id, by.driver_revision, by.rule_set_id
        found = self._by.get(author)
        if found is None:
            found = self._by[author] = {}
        return found

    def count(self) -> None:
        """One more; where there is too much, it is learnt again."""
        self._count += 1
        if self._count > _MOST:
            self._by.clear()
            self._count = 0


_known = _Known()


class _Making:
    """Versions in the making, of one author and message."""

    def __init__(self, by: By) -> None:
        self._by, self._near = by, _known.of(by)
        self._message: OfMessage | None = None  # the last one, and what it was made of
        self._specimen: SpecimenFacts | None = None
        self._sent: ObservedSpecimen | None = None
        self._observed = False
        self._measured_at: datetime | None = None
        self._patient_id = self._order_id = self._time = ""

    def version(self, case: Case) -> ResultVersion:
        decision, item, observed = case.decision, case.item, case.observed or NOTHING_SENT
        return ResultVersion(
            case.id, case.result_id, read_id(item.id) if item else None, case.key, observed.location,
            observed.raw_value, decision.value.text, decision.value.number, steps_of(case), self._alike(case, observed),
            self._of_message(case, observed),
        )  # fmt: skip

    def _of_message(self, case: Case, observed: Observed) -> OfMessage:
        specimen, sent, at, item = case.decision.specimen, case.sent, case.measured_at, case.item
        patient_id, order_id = case.decision.patient_id or "", item.order_id if item else ""
        known = self._message
        if (
            known is not None
            and specimen is self._specimen
            and sent is self._sent
            and at is self._measured_at
            and observed.instrument_time == self._time
            and patient_id == self._patient_id
            and order_id == self._order_id
            and (case.observed is not None) is self._observed
        ):
            return known
        self._specimen, self._sent, self._measured_at, self._time = specimen, sent, at, observed.instrument_time
        self._patient_id, self._order_id, self._observed = patient_id, order_id, case.observed is not None
        made = self._message = OfMessage(
            self._by.message_id,
            known_id(specimen.id) if specimen else None,
            known_id(patient_id) if patient_id else None,
            known_id(order_id) if order_id else None,
            (sent.specimen_id or "") if sent else specimen.barcode if specimen else "",
            observed.instrument_time,
            at if case.observed else None,
            effective_at(case, specimen, self._by.received_at),
        )
        return made

    def _alike(self, case: Case, observed: Observed) -> Alike:
        test, by = case.decision.test, self._by
        ruled = case.released or (case.origin is _CALCULATION and by.rule_set_id is not None) or case.waited is not None
        note, item_status = _note(case, by), _item_status(case)
        code = observed.code or (test.code if test else "")
        near = self._near.get(code)
        if near is None:
            near = self._near[code] = []
        for seen in near:
            if (
                seen.test is test
                and seen.ruled is ruled
                and (seen.flags is observed.flags or seen.flags == observed.flags)
                and (seen.using is observed.measured_with or seen.using == observed.measured_with)
                and (test is not None or seen.name == observed.name)
                and _is_said(seen.alike, case)
                and _is_sent(seen.alike, observed)
                and seen.alike.note == note
                and seen.alike.item_status == item_status
            ):
                return seen.alike
        made = _said(case, observed, by, note, item_status, ruled=ruled)
        if _words(made) > _LONG:
            return made
        if len(near) >= _NEAR:
            near.pop()
        near.insert(0, _Seen(made, test, observed.name, observed.flags, observed.measured_with, ruled))
        _known.count()
        return made


def _words(made: Alike) -> int:
    """How much of it is as long as an analyzer or a person likes."""
    texts = (
        made.code, made.code_path, made.raw_unit, made.raw_flags, made.raw_status, made.raw_reference, made.test_name,
        made.unit, made.reference, made.note, made.module, made.reagent_lot, made.calibrator_lot, *made.comments,
    )  # fmt: skip
    return sum([len(text) for text in texts])


def _is_said(alike: Alike, case: Case) -> bool:
    """Whether this is what was decided. Numbers that are equal are not the same: 4.10 says more than 4.1."""
    decision = case.decision
    low, high = decision.low, decision.high
    return (
        (alike.flags is case.flags or alike.flags == case.flags)
        and alike.status is case.status
        and (alike.low is low or str(alike.low) == str(low))
        and (alike.high is high or str(alike.high) == str(high))
        and (alike.held is case.holds or alike.held == case.holds)
        and alike.version == case.version
        and alike.fresh is (case.replaces is None)
        and alike.pending is case.pending
        and alike.kind is decision.value.kind
        and alike.comparator == (decision.value.comparator or "")
        and alike.unit == decision.unit
        and alike.reference == decision.reference
        and alike.map_revision == decision.map_revision
        and alike.reportable is case.reportable
        and alike.origin is case.origin
        and alike.method == decision.method
    )


def _is_sent(alike: Alike, observed: Observed) -> bool:
    """Whether this is what was sent."""
    return (
        alike.code == observed.code
        and alike.code_path == observed.code_path
        and alike.raw_unit == observed.unit
        and alike.raw_status == observed.status
        and alike.raw_reference == observed.reference
        and (alike.comments is observed.comments or alike.comments == observed.comments)
    )


def _said(case: Case, observed: Observed, by: By, note: str, item_status: str, *, ruled: bool) -> Alike:
    decision, test, using = case.decision, case.decision.test, observed.measured_with
    analyzer = case.origin is _ANALYZER
    return Alike(
        flags=case.flags,
        status=case.status,
        held=case.holds,
        comments=observed.comments,
        version=case.version,
        fresh=case.replaces is None,
        pending=case.pending,
        kind=decision.value.kind,
        actor_kind=_RULE_SET if ruled else by.kind,
        actor_id=by.rule_set_id if ruled else by.id,
        analyzer_id=by.analyzer_id if analyzer else None,
        test_id=known_id(test.id) if test else None,
        code=observed.code,
        code_path=observed.code_path,
        raw_unit=observed.unit,
        raw_flags=" ".join(observed.flags),
        raw_status=observed.status,
        raw_reference=observed.reference,
        test_code=test.code if test else "",
        test_name=test.name if test else observed.name,
        loinc=test.loinc if test else "",
        comparator=decision.value.comparator or "",
        unit=decision.unit,
        low=decision.low,
        high=decision.high,
        reference=decision.reference,
        note=note,
        module=using.module,
        reagent_lot=using.reagent_lot,
        calibrator_lot=using.calibrator_lot,
        driver_revision=by.driver_revision if analyzer else "",
        map_revision=decision.map_revision,
        reportable=case.reportable,
        origin=case.origin,
        item_status=item_status,
        method=decision.method,
    )


def _note(case: Case, by: By) -> str:
    """The laboratory's words for the report: a person's, those that a check adds, and what staff said of it before."""
    own = by.note if case.origin is _MANUAL else ""
    said = [one.comment for one in case.judged.verdicts if one.comment] if case.judged is not None else []
    said += [step.inputs["comment"] for step in case.comments]
    if not said:
        return own
    return "\n".join(filter(None, (own, *dict.fromkeys(said))))


def _item_status(case: Case) -> str:
    """What becomes of the order item; "" leaves it as it is."""
    if case.item is None or case.pending or case.awaited:  # an item that is done is measured by nobody any more
        return ""
    if case.status is _FINAL or case.beside_released:
        return _VERIFIED
    return _COMPLETED if case.reportable and not case.holds else ""
