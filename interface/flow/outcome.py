"""What a decided message comes to: versions of results as rows to write, and what follows from them. No input or
output but new ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import TypeAlias
from uuid import UUID

from interface.domain.calculated import inputs_of
from interface.domain.catalogue import Catalogue
from interface.domain.decide import decide
from interface.domain.decision_context import DecisionContext
from interface.domain.facts import PreviousResult
from interface.domain.flags import CRITICAL
from interface.domain.matching import Policy, before
from interface.domain.model import (
    RELEASED,
    FollowUpKind,
    HoldReason,
    LabTest,
    Observed,
    ObservedSpecimen,
    Origin,
    SpecimenFacts,
    Step,
)
from interface.domain.qc_lots import Used
from interface.domain.reflex import Request
from interface.domain.runs import GONE
from interface.domain.states import CLOSED_ITEM
from interface.domain.times import instrument_instant, measured_at
from interface.flow.again import calculations_waiting, with_waiting
from interface.flow.calculations import decide_together
from interface.flow.cases import Beside, Case, Decided, Rules, steps_of
from interface.flow.late import came, came_late
from interface.flow.shadows import shadows_of
from interface.flow.version_making import NOTHING_SENT, By, by_link, effective_at, versions_of
from interface.flow.work import Rerun, Work
from interface.settings import Unsolicited
from interface.store.controls import ControlResult
from interface.store.criticals import Judged
from interface.store.ids import read_id, uuid7, uuid7s
from interface.store.neighbours import Neighbours, nearer
from interface.store.results import CurrentResult, Effects, FollowUpRow, Outcome, Said
from interface.store.surroundings import KnownResult, Locked, Waited
from interface.store.version_rows import ResultVersion

# What is found by looking at a value with others beside it. It may be found otherwise the next time, and is no reason
# to write what was said before once more.
_BY_CHECKS = frozenset(
    {
        HoldReason.DELTA, HoldReason.INTERFERENCE, HoldReason.SUPPRESSED, HoldReason.MEASURING_RANGE,
        HoldReason.IMPLAUSIBLE, HoldReason.INCONSISTENT, HoldReason.QC_FAILED, HoldReason.QC_EXPIRED, HoldReason.RULE,
        HoldReason.RERUN, HoldReason.ALREADY_REPORTED, HoldReason.CHANGED_AFTER_RELEASE,
        HoldReason.PERSON, HoldReason.SAID_ANEW,
    }
)  # fmt: skip


_ANALYZER, _CALCULATION = Origin.ANALYZER, Origin.CALCULATION

Wanted: TypeAlias = Callable[[Case, CurrentResult | None], bool]
# What reflexes add in one transaction, by family and test: the item, with its order and specimen.
Added: TypeAlias = dict[tuple[str, str], tuple[UUID, UUID, UUID]]
_LATER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Made:
    """What was decided of one specimen. `by`, `rules`: of the message that said it."""

    cases: Sequence[Case]
    by: By | None = None
    rules: Rules | None = None


@dataclass(slots=True)
class Surroundings:
    """What there is already of what messages speak of. Deciding one message adds what it made for those after it."""

    locked: Locked = field(default_factory=Locked)
    now: datetime = _LATER  # after everything that is known
    current: dict[bytes, CurrentResult] = field(default_factory=dict)
    apart: dict[bytes, bytes] = field(default_factory=dict)  # the key to take, by the key as sent
    retracted: dict[bytes, CurrentResult] = field(default_factory=dict)  # by the key of what comes after it
    reruns: dict[bytes, Rerun] = field(default_factory=dict)  # by their own keys
    neighbours: dict[str, dict[str, Neighbours]] = field(default_factory=dict)  # by specimen, then test
    waited: dict[UUID, Waited] = field(default_factory=dict)  # by version, of results that wait
    made: dict[str, list[Made]] = field(default_factory=dict)  # by specimen, not among the locked results yet
    added: Added = field(default_factory=dict)
    persons: dict[tuple[str, ...], list[SpecimenFacts]] = field(default_factory=dict)  # once somebody has asked

    def add_neighbours(self, found: Mapping[str, Mapping[str, Neighbours]]) -> None:
        """By specimen, then test."""
        for specimen_id, near in found.items():
            self.neighbours.setdefault(specimen_id, {}).update(near)

    def forget(self) -> None:
        """After a message of whose specimens no other speaks: what was made of one is asked for by its family only. It
        is a score of objects a result, and the next message's take their place while it is in the processor's cache."""
        alone = [each for each in self.made if len(self.locked.by_id[each].family) < 2]
        for each in alone:
            del self.made[each]

    def of_person(self, person: tuple[str, ...]) -> list[SpecimenFacts]:
        """The person's specimens, of those that are locked."""
        if not self.persons:
            for one in self.locked.by_id.values():
                self.persons.setdefault(one.person, []).append(one)
        return self.persons.get(person, [])

    @property
    def specimens(self) -> Mapping[str, tuple[SpecimenFacts, ...]]:
        return self.locked.specimens


def outcome_of(
    work: Work, catalogue: Catalogue, at: Surroundings, rules: Rules, controls: tuple[ControlResult, ...] = ()
) -> Outcome:
    """Decide every result of a message. `controls`: those of it, which are written already."""
    decided = decisions(work, catalogue, at, rules)
    by = by_link(work, rules)
    cases = [case for one in decided for case in one.cases]
    versions = tuple(versions_of(cases, by))
    problems = tuple(f"{problem.location}: {problem.text}" for problem in work.decoded.problems)
    held = problems or work.incomplete or any([case.holds for case in cases if case.waited is None])
    settled, reason = ("held", "") if held else ("released", "")
    if work.decoded.queries and not versions and not controls:
        settled, reason = "rejected", "query_not_answered"
    if work.message.duplicate_of is not None and not controls and not versions:
        settled = "duplicate"
    return Outcome(
        work.message.id, settled, work.link.link_id, work.link.name, versions, controls, problems, reason,
        effects=effects_of(decided, catalogue, at.added), rule_set=rules.rule_set.version,
        rule_set_id=rules.now.active_id,
        shadows=tuple(shadows_of(decided, rules)) if rules.now.shadows else (),
    )  # fmt: skip


def decisions(
    work: Work, catalogue: Catalogue, at: Surroundings, rules: Rules, wanted: Wanted | None = None
) -> list[Decided]:
    """The decision on every result of a message that says something new, specimen by specimen; with what is calculated
    of them. `wanted`: on those it wants instead, and no others."""
    by_place: dict[str, tuple[DecisionContext, list[Case]]] = {}
    context: DecisionContext | None = None
    of: ObservedSpecimen | None = None
    came, zone, by_rote = _came(work.message.state, work.link.name), work.zone, work.by_rote
    received_at = work.message.received_at
    ids = uuid7s(len(work.observations()))[::-1]
    sent_time = ""  # one message, one time for most of its results
    at_instrument: datetime | None = None
    for specimen, observed, as_sent in work.observations():
        # What its driver calls a detail of another result is kept in the message, and is a result where a map names it.
        if observed.detail and not catalogue.maps(observed.code):
            continue
        if context is None or specimen is not of:
            context, of = _context(specimen, work, catalogue, at, rules), specimen
        decision = decide(observed, specimen, context)
        if observed.instrument_time != sent_time:
            sent_time = observed.instrument_time
            at_instrument = instant(sent_time, zone, by_rote, received_at)
        if rules.used is not None and decision.test is not None:
            observed = _with_lots(observed, decision.test, rules.used, measured_at(at_instrument, received_at))
        key = at.apart.get(as_sent, as_sent) if at.apart else as_sent
        case = Case(key, decision, _ANALYZER, observed, specimen, came, None, at_instrument, ids.pop())
        _is_of_before(case, received_at, at.locked)
        if not _is_to_be_decided(case, at, work, wanted):
            continue
        found = case.decision.specimen
        place = found.id if found else f"as sent {specimen.specimen_id}"
        there = by_place.get(place)
        if there is None:
            by_place[place] = context, [case]
        else:
            there[1].append(case)
    made, by = [], by_link(work, rules)
    for context, cases in by_place.values():
        beside = beside_of(cases[0].decision.specimen, at)
        if wanted is not None:  # what waits of other messages is not decided; what was released may be spoken against
            stands = {known.version_id for known in beside.known if known.status in RELEASED}
            beside = replace(beside, waited={of: one for of, one in beside.waited.items() if of in stands})
        decided = decide_beside(cases, beside, at, rules, context)
        remember(decided, beside, at, by, rules)
        made.append(decided)
    return made


def _with_lots(observed: Observed, test: LabTest, used: Used, at: datetime) -> Observed:
    """The lots that were in use where the analyzer does not say its own."""
    filled = used.filled(observed.measured_with, read_id(test.id), at)
    return observed if filled is observed.measured_with else replace(observed, measured_with=filled)


def decide_beside(
    cases: Sequence[Case], beside: Beside, at: Surroundings, rules: Rules, context: DecisionContext
) -> Decided:
    """Decide the new results of one specimen, and anew those of it that wait for what is beside them. Of what was
    released, and would be held now, a change says so."""
    if not beside.waited or beside.specimen is None:
        return decide_together(cases, beside, rules, context)
    family = [at.locked.by_id[one] for one in beside.specimen.family or (beside.specimen.id,)]
    together = with_waiting(cases, beside, family, rules, context)
    decided = decide_together(together, beside, rules, context, calculations_waiting(beside, rules))
    if tests := came(decided.cases):
        decided.cases += came_late(tests, decided.cases, beside, family, rules, context)
    return decided


def _context(
    specimen: ObservedSpecimen, work: Work, catalogue: Catalogue, at: Surroundings, rules: Rules
) -> DecisionContext:
    """What the decisions on the results of a specimen as sent are taken in."""
    patients, barcode, driver = work.decoded.patients, work.barcode(specimen), work.link.driver
    return DecisionContext(
        catalogue,
        driver=driver.id,
        driver_revision=driver.revision,
        specimens=at.specimens.get(barcode, ()),
        observed_patient=patients[specimen.patient] if specimen.patient is not None else None,
        policy=_policy(work, catalogue, closed=barcode in at.locked.closed),
        incomplete=work.incomplete,
        received_at=work.message.received_at,
        holds=work.holds,
        analyzer=rules.analyzer,
    )


def _policy(work: Work, catalogue: Catalogue, *, closed: bool) -> Policy:
    """How the link's results are matched. A tube that was closed or rejected is no unknown one: its results are never
    taken without an order."""
    link = work.link.settings
    unsolicited = Unsolicited.HOLD if closed else link.unsolicited
    return Policy(unsolicited, link.specimen_window_days, link.control_ids, link.name_mismatch, catalogue.controls)


@lru_cache(maxsize=1024)
def _came(state: str, link: str) -> Step:
    """Which message and where in it stands in the version's own columns."""
    return Step("receive", "ok", f"{state} message on link {link}")


def _is_of_before(case: Case, received_at: datetime, locked: Locked) -> None:
    """Hold what was measured before its specimen was taken."""
    specimen = case.decision.specimen
    if specimen is None:
        return
    others: list[SpecimenFacts] = []
    if specimen.barcode in locked.closed:
        others = [one for one in locked.by_id.values() if one.barcode == specimen.barcode and not one.available]
    measured = measured_at(case.measured_at, received_at)
    if text := before(specimen, measured, received_at, others):
        times = {"measured": measured, "collected": specimen.collected_at, "made": specimen.created_at}
        said = {name: at.isoformat() for name, at in times.items() if at is not None}
        case.hold(HoldReason.BEFORE_SPECIMEN, Step("match", "hold", text, inputs=said))


def _is_to_be_decided(case: Case, at: Surroundings, work: Work, wanted: Wanted | None) -> bool:
    """False where it says nothing new, or nothing that is wanted; else it follows what there is of it already."""
    key = case.key
    known = at.current.get(key) if at.current else None
    retracted = at.retracted.get(key) if at.retracted else None
    rerun = at.reruns.get(key) if at.reruns else None
    if rerun is None and work.message.duplicate_of is not None:
        return False
    if wanted is not None:
        if not wanted(case, known or retracted):
            return False
    elif not _says_something_new(case, known or retracted, incomplete=work.incomplete):
        return False
    if known is not None:
        released = known.status in RELEASED
        case.follow(known.id, known.version, known.version_id, known.last_version, released=released)
        after_a_person(case, known)
    elif retracted is not None:
        after_a_person(case, retracted)
    elif rerun is not None:
        _run_again(case, rerun)
    return True


def _says_something_new(case: Case, known: CurrentResult | None, *, incomplete: bool) -> bool:
    """False where a result that exists says it already (DESIGN §1.2, §1.4)."""
    if known is None:
        return True
    said = said_of(case)
    same = said == known.said
    if known.status in RELEASED:
        return not same and said != known.pending_said
    specimen = case.decision.specimen
    alike = _base(case.holds) == _base(known.held) and (specimen.id if specimen else None) == (
        str(known.specimen_id) if known.specimen_id else None
    )
    return not (same and (incomplete or alike) and (known.status not in GONE or incomplete))


def _run_again(case: Case, rerun: Rerun) -> None:
    """What comes without a time after a rerun was asked for is that run. An analyzer that was not told of it may as
    well say its old result once more: no rule releases that."""
    told = "told of it" if rerun.told else "not told of it"
    text = f"it has no time, and came after the rerun was asked for; the analyzer was {told}"
    case.steps.append(Step("rerun", "ok", text, inputs={"before": str(rerun.before.version_id)}))
    if not rerun.told and said_of(case)[:2] == rerun.before.said[:2]:
        again = "it may be the result before, said once more: it has no time, and no rerun was told"
        case.hold(HoldReason.SAID_ANEW, Step("rerun", "hold", again))


def after_a_person(case: Case, known: CurrentResult) -> None:
    """What comes for a result that a person held, rejected, retracted or corrected undoes none of it: a person looks at
    it again. Whatever else a person said of it, and where it was critical before, it is held as well, but for the value
    of a rerun. Both holds stay whatever comes: whoever looks at it next sees no version but this.
    """
    if known.status in RELEASED:
        if known.corrected:
            text = f"version {known.corrected}, which waited, is what a person corrected it to, or came after that"
            case.hold(HoldReason.PERSON, Step("review", "hold", text, inputs={"version": str(known.corrected)}))
        return
    if known.status not in GONE:
        case.keep(known.comments)
    mine = known.status in GONE or HoldReason.PERSON in known.held
    another, waits = said_of(case)[:2] != known.said[:2], HoldReason.RERUN in known.held
    anew = HoldReason.SAID_ANEW in known.held and not known.by_person
    if waits and another and not (mine or anew):
        return
    if mine or (known.by_person and another):
        _hold_again(case, known, HoldReason.PERSON, "a person looks at it again")
    elif known.by_person:
        if waits:
            _hold_again(case, known, HoldReason.RERUN, "it still waits for its rerun")
        _hold_again(case, known, HoldReason.SAID_ANEW, "a person has said something of it")
    elif anew:
        if waits:
            case.hold(HoldReason.RERUN, _before(known, "it still waits for its rerun"))
        case.hold(HoldReason.SAID_ANEW, _before(known, "it was said anew before, and no person has decided since"))
    elif another and known.critical:
        case.hold(HoldReason.SAID_ANEW, _before(known, "it was critical before, and nobody asked for another value"))


def _hold_again(case: Case, known: CurrentResult, reason: HoldReason, text: str) -> None:
    case.hold(reason, _before(known, f"version {known.version} is what a person made of it ({known.status}): {text}"))


def _before(known: CurrentResult, text: str) -> Step:
    return Step("review", "hold", text, inputs={"version": str(known.version)})


def _base(holds: Iterable[HoldReason]) -> frozenset[HoldReason]:
    return frozenset(holds) - _BY_CHECKS


def said_of(case: Case) -> Said:
    observed = case.observed
    if observed is None:
        return "", "", "", "", ()
    return observed.raw_value, observed.unit, " ".join(observed.flags), observed.status, observed.comments


def beside_of(specimen: SpecimenFacts | None, at: Surroundings) -> Beside:
    """What there is already of a specimen: of the whole family it was parted from and into."""
    if specimen is None:
        return Beside()
    known = known_of(specimen.family or (specimen.id,), at)
    if len(specimen.family) > 1:
        known.sort(key=lambda one: (one.created_at, one.id))
    near = at.neighbours.get(specimen.id, {})
    return Beside(specimen, tuple(known), at.locked.led, near, at.waited, at.locked.gone)


def known_of(family: Iterable[str], at: Surroundings) -> list[KnownResult]:
    """The results that specimens have, with what was decided before in the same transaction."""
    if at.made:
        for each in family:
            for made in at.made.pop(each, ()):
                for case in made.cases:
                    _keep(case, at.locked.by_id[each], at)
                    if made.by is not None and made.rules is not None and not case.pending:
                        at.waited[case.id] = _waited(case, at.locked.by_id[each], made.by, made.rules)
    return [one for each in family for one in at.locked.results.get(each, ())]


def remember(
    decided: Decided, beside: Beside, at: Surroundings, by: By | None = None, rules: Rules | None = None
) -> None:
    """For what is decided after it in the same transaction: its results are there, and those that were released are
    neighbours of the same person's other specimens. `by`, `rules`: of their message."""
    specimen = beside.specimen
    if specimen is None or not specimen.person:
        return
    at.made.setdefault(specimen.id, []).append(Made(decided.cases, by, rules))
    received_at = by.received_at if by is not None else None
    others = [
        one
        for one in at.of_person(specimen.person)
        if one.id != specimen.id and one.type == specimen.type and one.time_point_min == specimen.time_point_min
    ]
    for other in others:
        for case in decided.cases:
            came = received_at if case.waited is None else case.waited.effective_at
            when, test = effective_at(case, specimen, came), case.decision.test
            if test is None or not case.released or not case.reportable or when is None:
                continue
            near = at.neighbours.setdefault(other.id, {})
            result = PreviousResult(case.decision.value, case.decision.unit, when, str(case.id), specimen.id)
            later = other.collected_at is not None and when > other.collected_at
            near[test.id] = nearer(near.get(test.id), result, later=later)


def _keep(case: Case, specimen: SpecimenFacts, at: Surroundings) -> None:
    """A case as a result that there is already, for what is decided after it in the same transaction."""
    decision, now = case.decision, at.now
    kept = KnownResult(
        case.result_id, case.id, case.version, case.version, specimen.id, case.item.id if case.item else "",
        decision.test.id if decision.test else "", decision.test.code if decision.test else "", case.status, case.holds,
        case.reportable, case.origin, decision.value, decision.unit, case.flags, now, now,
        method=decision.method,
        inputs=inputs_of(decision.steps) if case.origin is _CALCULATION else None,
        limits=(decision.low, decision.high, decision.reference),
        measured_at=case.measured_at,
    )  # fmt: skip
    for each in specimen.family or (specimen.id,):
        before = at.locked.results.get(each, ())
        if case.pending:  # the released version is still what there is
            said = (f"{decision.value.comparator or ''}{decision.value.text}", decision.unit)
            inputs = inputs_of(decision.steps) if case.origin is _CALCULATION else None
            waits = {
                one.id: replace(one, last_version=case.version, pending=said, pending_inputs=inputs) for one in before
            }
            at.locked.results[each] = tuple(waits[one.id] if one.id == case.result_id else one for one in before)
        else:
            at.locked.results[each] = tuple(one for one in before if one.id != case.result_id)
    if not case.pending:
        at.locked.results[specimen.id] = (*at.locked.results.get(specimen.id, ()), kept)


def _waited(case: Case, specimen: SpecimenFacts, by: By, rules: Rules) -> Waited:
    """What will be known of a case when it has been written."""
    steps = steps_of(case)
    if case.waited is not None:
        return replace(case.waited, steps=steps)
    return Waited(
        case.key, by.analyzer_id, rules.analyzer, rules.driver, by.message_id,
        (case.sent.specimen_id or "") if case.sent else specimen.barcode, case.observed or NOTHING_SENT,
        case.measured_at, effective_at(case, specimen, by.received_at) or _LATER, by.driver_revision,
        case.decision.map_revision, steps, by.received_at,
    )  # fmt: skip


# ---- what follows ----------------------------------------------------------------------------------------------------


def effects_of(decided: Sequence[Decided], catalogue: Catalogue, added: Added | None = None) -> Effects:
    """What follows from the cases beside their versions: follow-ups, and what becomes of other runs. `added`: by what
    was decided before in the same transaction."""
    asked: list[FollowUpRow] = []
    added = {} if added is None else added
    for one in decided:
        for case in one.cases:
            for request in case.requests:
                asked += _asked(case, request, catalogue, added)
    return Effects(
        follow_ups=tuple(asked),
        reported=tuple(pair for one in decided for pair in one.reported.items()),
        done=tuple(led for one in decided for led in one.done),
    )


def _asked(case: Case, request: Request, catalogue: Catalogue, added: Added) -> Iterator[FollowUpRow]:
    """A reflex adds an item for each of its tests that is not ordered yet; all else runs the item's own test again. One
    measurement is what several rules ask for: each has its follow-up, for one of them may have had its own before, and
    all have the item."""
    specimen, item = case.decision.specimen, case.item
    if item is None or specimen is None:
        return
    kind = FollowUpKind(request.kind.value)
    if kind is not FollowUpKind.REFLEX:
        yield FollowUpRow(
            uuid7(), kind, case.result_id, request.rule, request.depth, UUID(item.id), request.factor, request.reason
        )
        return
    ordered = {one.test_id for one in specimen.items if one.status not in CLOSED_ITEM}
    family = min(specimen.family, default=specimen.id)
    for code in request.tests:
        test = catalogue.by_code(code)
        if test is not None and test.id not in ordered:
            rule = request.rule if len(request.tests) == 1 else f"{request.rule}: {code}"
            its, *of = added.setdefault((family, test.id), (uuid7(), UUID(item.order_id), UUID(specimen.id)))
            yield FollowUpRow(
                uuid7(), kind, case.result_id, rule, request.depth, its, None, request.reason, UUID(test.id), *of
            )


def judged_of(versions: Iterable[ResultVersion]) -> list[Judged]:
    """The versions as the tasks to tell somebody of critical results see them. What is the first of its result, and is
    not critical, opens none and changes none."""
    return [
        Judged(one.result_id, one.id, critical, fresh=of.fresh, pending=of.pending,
               settled=of.status in RELEASED and not of.pending)
        for one in versions
        if (critical := not CRITICAL.isdisjoint((of := one.alike).flags)) or not of.fresh
    ]  # fmt: skip


@lru_cache(maxsize=1024)  # one message, one time for most of its results
def instant(text: str, zone: tzinfo, by_rote: timedelta | None, came_at: datetime) -> datetime | None:
    return instrument_instant(text, zone, by_rote, came_at)
