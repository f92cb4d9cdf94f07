"""A laboratory on paper: the deciding without a database, so that thousands of messages can be decided in a test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from interface.domain.autoverify import Autoverification
from interface.domain.catalogue import Catalogue
from interface.domain.facts import PreviousResult
from interface.domain.model import (
    RELEASED,
    CodeMapping,
    DecodedMessage,
    FollowUpState,
    Interval,
    IntervalUse,
    ItemStatus,
    LabTest,
    Observed,
    ObservedPatient,
    ObservedSpecimen,
    OrderedItem,
    PatientFacts,
    Protocol,
    ResultStatus,
    Sex,
    SpecimenFacts,
)
from interface.domain.rule_files import parse_rule_set
from interface.domain.values import parse_value
from interface.driver import registry
from interface.flow.cases import Case, Rules
from interface.flow.context import LinkContext
from interface.flow.outcome import Surroundings, decisions, effects_of, said_of
from interface.flow.work import Work, keys_apart
from interface.settings import Address, LinkSettings, Transport, TransportType
from interface.store.neighbours import Neighbours, nearer
from interface.store.results import CurrentResult
from interface.store.stored_messages import StoredMessage
from interface.store.surroundings import KnownResult, Led, Locked
from tests.flow.rulebook import RULES, TESTS, UNITS

HERE, AT = UUID(int=1), datetime(2026, 11, 26, 8, tzinfo=UTC)


def _id(*words: str) -> UUID:
    return UUID(int=int.from_bytes(" ".join(words).encode()[:16], "big"))


_NUMBERS = {code: str(_id("test", code)) for code in TESTS}
CATALOGUE = Catalogue(
    tests={id_: LabTest(id_, code, code, unit=UNITS.get(code, "mmol/L"), decimals=2) for code, id_ in _NUMBERS.items()},
    intervals={
        _NUMBERS["K"]: (
            Interval("i-k", _NUMBERS["K"], "mmol/L", Decimal("3.5"), Decimal("5.1"), Decimal("2.8"), Decimal("6.2")),
        )
    },
    mappings={(code, ""): CodeMapping(code, id_) for code, id_ in _NUMBERS.items()},
)
_CRITICAL, _REFERENCE = IntervalUse.CRITICAL, IntervalUse.REFERENCE
# Whose limits they are depends on who it is: critical ones of potassium on the age, those of creatinine on the sex.
PERSONAL = replace(
    CATALOGUE,
    intervals={
        _NUMBERS["K"]: (
            Interval("i-k", _NUMBERS["K"], "mmol/L", Decimal("3.5"), Decimal("5.1"), use=_REFERENCE),
            Interval("c-k-newborn", _NUMBERS["K"], "mmol/L", critical_low=Decimal("2.5"), critical_high=Decimal("6.5"),
                     age_high_d=28, use=_CRITICAL),
            Interval("c-k", _NUMBERS["K"], "mmol/L", critical_low=Decimal("2.8"), critical_high=Decimal("6.2"),
                     age_low_d=28, use=_CRITICAL),
        ),
        _NUMBERS["CREA"]: (
            Interval("i-crea-f", _NUMBERS["CREA"], "mg/dL", Decimal("0.5"), Decimal("1.0"), None, Decimal(5),
                     sex=Sex.FEMALE),
            Interval("i-crea-m", _NUMBERS["CREA"], "mg/dL", Decimal("0.6"), Decimal("1.2"), None, Decimal(6),
                     sex=Sex.MALE),
        ),
    },
)  # fmt: skip
DRIVER = registry.load("generic_lis2")


def specimen(
    name: str, patient: str, at: datetime = AT, tests: Sequence[str] = TESTS, *, sex: Sex = Sex.FEMALE,
    born: date | None = date(1980, 5, 1),
) -> SpecimenFacts:  # fmt: skip
    """A specimen with all tests ordered on it."""
    person = PatientFacts(patient, (patient,), "Muster", "Maria", born, sex)
    order = str(_id(name, "order"))
    items = tuple(
        OrderedItem(str(_id(name, code)), _NUMBERS[code], order, ItemStatus.RECEIVED) for code in tests
    )  # fmt: skip
    return SpecimenFacts(
        str(_id(name)), name, "SER", at, person, items, received_at=at, created_at=at, family=(str(_id(name)),),
        person=(patient,),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sent:
    """One message: a link's, about one specimen, as (code, value) pairs. `clock`: the instrument's time."""

    link: int
    barcode: str
    values: tuple[tuple[str, str], ...]
    clock: str = "20261126080000"
    patient: str = ""
    incomplete: bool = False

    def work(self, number: int) -> Work:
        settings = LinkSettings(
            f"link-{self.link}", "lab", "generic_lis2", Transport(TransportType.TCP_LISTEN, Address("127.0.0.1", 0))
        )
        link = LinkContext(HERE, UUID(int=self.link), UUID(int=self.link), settings, DRIVER)
        results = tuple(
            Observed(code, parse_value(value), value, code_path=code, unit=UNITS.get(code, "mmol/L"),
                     instrument_time=self.clock, location=f"R {place}")
            for place, (code, value) in enumerate(self.values, 1)
        )  # fmt: skip
        # Nothing waits on paper: what comes next comes after all that was asked for, whose ids have the true time.
        received_at = datetime.now(UTC) + timedelta(seconds=1)
        message = StoredMessage(
            id=UUID(int=number), organization_id=HERE, link_id=link.link_id, protocol="lis2",
            state="incomplete" if self.incomplete else "complete", settled=None, control_id="", message_type="",
            reason="", reply="sent", bytes=1, attempts=1, received_at=received_at, sealed_at=received_at,
            settled_at=None, peer="", duplicate_of=None,
        )  # fmt: skip
        decoded = DecodedMessage(
            Protocol.LIS2,
            patients=(ObservedPatient(self.patient),),
            specimens=(ObservedSpecimen(0, self.barcode, results=results),),
        )
        return Work(message, link, decoded)


@dataclass(slots=True)
class Paper:
    """The specimens there are, and what has been decided about them. `written`: every case, in the order of writing."""

    specimens: tuple[SpecimenFacts, ...]
    rules: str = RULES
    catalogue: Catalogue = CATALOGUE
    written: list[Case] = field(default_factory=list)
    current: dict[UUID, Case] = field(default_factory=dict)  # by result
    pending: dict[UUID, Case] = field(default_factory=dict)
    reported: dict[UUID, bool] = field(default_factory=dict)
    led: dict[tuple[str, str], Led] = field(default_factory=dict)
    added: dict[str, list[OrderedItem]] = field(default_factory=dict)
    number: int = 0

    def decide(self, sent: Sent) -> list[Case]:
        """Decide a message and write down what it comes to."""
        self.number += 1
        work, at = sent.work(self.number), self._around()
        keys_apart(work, at.specimens, at.current)
        now = Autoverification(active=parse_rule_set(self.rules, 1) if self.rules else None)
        rules = Rules(now, analyzer=work.link.name, driver="generic_lis2")
        decided = decisions(work, self.catalogue, at, rules)
        cases = [case for one in decided for case in one.cases]
        for case in cases:
            self._write(case)
        effects = effects_of(decided, self.catalogue)
        self.reported |= dict(effects.reported)
        for row in effects.follow_ups:
            made = datetime.now(UTC)
            one = Led(
                row.id, str(row.order_item_id), row.result_id, row.depth, FollowUpState.REQUESTED, made, made, row.kind
            )  # fmt: skip
            if (str(row.result_id), row.rule) not in self.led:
                self.led[str(row.result_id), row.rule] = one
                if row.test_id is not None:
                    item = OrderedItem(
                        str(row.order_item_id), str(row.test_id), str(row.order_id), ItemStatus.RECEIVED
                    )  # fmt: skip
                    self.added.setdefault(str(row.specimen_id), []).append(item)
        done = set(effects.done)
        self.led = {
            key: replace(one, state=FollowUpState.DONE) if one.id in done else one for key, one in self.led.items()
        }
        return cases

    def _write(self, case: Case) -> None:
        self.written.append(case)
        if case.pending:
            self.pending[case.result_id] = case
        else:
            self.current[case.result_id] = case
            self.reported[case.result_id] = case.reportable

    def _around(self) -> Surroundings:
        facts = [replace(one, items=(*one.items, *self.added.get(one.id, ()))) for one in self.specimens]
        results: dict[str, list[KnownResult]] = {}
        for result_id, case in self.current.items():
            found = case.decision.specimen
            if found is not None:
                results.setdefault(found.id, []).append(self._known(result_id, case))
        led: dict[str, tuple[Led, ...]] = {}
        for one in self.led.values():
            led[one.item_id] = (*led.get(one.item_id, ()), one)
        locked = Locked(
            {one.barcode: (one,) for one in facts}, {one.id: one for one in facts}, frozenset(),
            {id_: tuple(group) for id_, group in results.items()}, led,
        )  # fmt: skip
        current = {case.key: self._of_key(result_id, case) for result_id, case in self.current.items()}
        at = Surroundings(locked, current=current)
        for each in facts:
            at.add_neighbours(self._neighbours(each))
        return at

    def _known(self, result_id: UUID, case: Case) -> KnownResult:
        decision, waiting = case.decision, self.pending.get(result_id)
        shown = (waiting.decision.value.text, waiting.decision.unit) if waiting else None
        versions = [one for one in self.written if one.result_id == result_id]
        when = datetime.fromtimestamp(self.written.index(versions[0]), UTC)
        return KnownResult(
            id=result_id,
            version_id=case.id,
            version=case.version,
            last_version=max(one.version for one in versions),
            specimen_id=decision.specimen.id if decision.specimen else "",
            item_id=case.item.id if case.item else "",
            test_id=decision.test.id if decision.test else "",
            test=decision.test.code if decision.test else "",
            status=case.status,
            held=case.holds,
            reportable=self.reported[result_id],
            origin=case.origin,
            value=decision.value,
            unit=decision.unit,
            flags=case.flags,
            created_at=when,
            made_at=when,
            pending=shown,
            measured_at=case.measured_at,
        )

    def _of_key(self, result_id: UUID, case: Case) -> CurrentResult:
        found, waiting = case.decision.specimen, self.pending.get(result_id)
        last = max(one.version for one in self.written if one.result_id == result_id)
        return CurrentResult(
            result_id, case.id, case.version, last, UUID(found.id) if found else None, case.status,
            frozenset(case.holds), said_of(case), said_of(waiting) if waiting else None,
        )  # fmt: skip

    def _neighbours(self, one: SpecimenFacts) -> dict[str, dict[str, Neighbours]]:
        near: dict[str, Neighbours] = {}
        for result_id, case in self.current.items():
            other, test = case.decision.specimen, case.decision.test
            if other is None or test is None or other.id == one.id or other.person != one.person:
                continue
            if case.status in RELEASED and self.reported[result_id] and other.collected_at and one.collected_at:
                result = PreviousResult(
                    case.decision.value, case.decision.unit, other.collected_at, str(case.id), other.id
                )  # fmt: skip
                later = other.collected_at > one.collected_at
                near[test.id] = nearer(near.get(test.id), result, later=later)
        return {one.id: near}

    def state(self) -> list[tuple[object, ...]]:
        """What the laboratory has in the end: every result with its versions' values, whatever their ids are."""
        rows = []
        for result_id, case in self.current.items():
            waiting = self.pending.get(result_id)
            said = [(one.version, one.decision.value.text, one.status.value, tuple(sorted(one.holds)))
                    for one in self.written if one.result_id == result_id]  # fmt: skip
            rows.append((
                case.key, case.decision.test.code if case.decision.test else "", self.reported[result_id],
                waiting.decision.value.text if waiting else "", tuple(said),
            ))  # fmt: skip
        return sorted(rows, key=repr)


def released(cases: Iterable[Case]) -> list[Case]:
    return [case for case in cases if case.status is ResultStatus.FINAL]
