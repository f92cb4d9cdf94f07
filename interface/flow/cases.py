"""The results of one specimen on their way to versions: which run counts, what the checks say, what follows. Pure.

A case is one value. The cases of a specimen are decided together, with the results that the specimen has already:
first which of several runs is reported, then the checks with all of them as siblings, then the rules; then what is
calculated of them, which is a case itself (`flow.calculations`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID

from interface.domain import delta, judging
from interface.domain.autoverify import Autoverification, decide
from interface.domain.decide import HOLD, Decision, waiting
from interface.domain.decision_context import DecisionContext
from interface.domain.facts import Facts, Finding, Sibling, Subject, Verdict
from interface.domain.judging import Judged, QcGate
from interface.domain.model import (
    RELEASED,
    UNSAID,
    FollowUpKind,
    HoldReason,
    Observed,
    ObservedSpecimen,
    OrderedItem,
    Origin,
    ResultStatus,
    SpecimenFacts,
    Step,
    ValueKind,
)
from interface.domain.predicates import Case as Rated
from interface.domain.qc_lots import Used
from interface.domain.record import draft
from interface.domain.reflex import Request
from interface.domain.rule_set import RuleSet
from interface.domain.rules import Action, AutoVerdict
from interface.domain.runs import MEASURED, Choice, Run, choose, same
from interface.domain.times import believed
from interface.flow.dilutions import UNDILUTED, dilution_of
from interface.store.ids import uuid7
from interface.store.neighbours import Neighbours
from interface.store.surroundings import KnownResult, Led, Waited

_SAME_KEY = {
    Origin.ANALYZER: "the same analyzer, specimen, code, occurrence and instrument time: a new version",
    Origin.MANUAL: "entered again for the same order item: a new version",
    Origin.CALCULATION: "calculated anew: a new version",
}
_REGISTERED, _PRELIMINARY, _FINAL = ResultStatus.REGISTERED, ResultStatus.PRELIMINARY, ResultStatus.FINAL
_ANALYZER, _CALCULATION = Origin.ANALYZER, Origin.CALCULATION
_REFLEX = FollowUpKind.REFLEX
_RELEASE, _DELTA = Action.RELEASE, HoldReason.DELTA
_AGAIN = "judged anew with what came beside it: a new version"
_NO_VALUE = frozenset({ValueKind.EMPTY, ValueKind.FAILED})
_UNREAD = frozenset({HoldReason.UNKNOWN_UNIT, HoldReason.UNREADABLE_VALUE})
# With these a result asks for nothing to be done: it is not known whose it is, or of what.
_MAY_ASK = MEASURED | {HoldReason.RUN_FAILED, HoldReason.NO_VALUE}


Said: TypeAlias = tuple[ResultStatus, frozenset[HoldReason], frozenset[str], frozenset[str]]


@draft
class Case:
    """One value on its way to a version. `pending`: it will wait beside the result's released version."""

    key: bytes
    decision: Decision
    origin: Origin = Origin.ANALYZER
    observed: Observed | None = None
    sent: ObservedSpecimen | None = None
    came: Step | None = None  # the first line of its explanation
    again: Step | None = None  # the second, where a person has it decided anew
    measured_at: datetime | None = None
    id: UUID = field(default_factory=uuid7)
    version: int = 1
    replaces: tuple[int, UUID] | None = None  # number and id of the version that is the result's current one
    pending: bool = False
    reportable: bool = True
    beside_released: bool = False  # another run of its item is released
    blocked: str = ""  # why no rule may release it
    awaited: bool = False  # a rerun of its item was asked for, and this is not it
    holds: tuple[HoldReason, ...] = ()
    flags: tuple[str, ...] = ()
    status: ResultStatus = ResultStatus.PRELIMINARY
    steps: list[Step] = field(default_factory=list)  # after those of the decision
    judged: Judged | None = None
    auto: AutoVerdict | None = None
    requests: tuple[Request, ...] = ()
    before: KnownResult | None = None  # calculated before, of the same value
    answers: tuple[Led, ...] = ()  # the follow-ups that it is the run of
    waited: Waited | None = None  # it says nothing new, and is judged anew with what came beside it
    as_before: Said | None = None  # and what is said of it without that
    comments: tuple[Step, ...] = ()  # what staff said of the version before
    diluted: tuple[Step, ...] = ()  # decided anew: what its version before says of its dilution
    result_id: UUID = field(init=False)  # a new result has the id of its first version (`store.versions`)
    item: OrderedItem | None = field(init=False)  # the decision's

    def __post_init__(self) -> None:
        decision, self.result_id = self.decision, self.id
        self.holds, self.flags, self.item = decision.holds, decision.flags, decision.item

    @property
    def released(self) -> bool:
        return self.status in RELEASED and not self.pending

    def follow(self, result_id: UUID, version: int, version_id: UUID, last_version: int, *, released: bool) -> None:
        """It is the next version of a result that exists, whose current version is this."""
        self.result_id, self.version = result_id, last_version + 1
        self.replaces, self.pending = (version, version_id), released

    def keep(self, comments: Sequence[Step]) -> None:
        """What staff said of the result stays with it, until it is released or a person takes it back."""
        self.comments = tuple(comments)
        self.steps += comments

    def hold(self, reason: HoldReason, step: Step) -> None:
        self.steps.append(step)
        if reason not in self.holds:
            self.holds = (*self.holds, reason)

    def said(self) -> Said:
        """What the checks and rules make of it."""
        comments = (one.comment for one in self.judged.verdicts if one.comment) if self.judged else ()
        return self.status, frozenset(self.holds), frozenset(self.flags), frozenset(comments)

    def run(self) -> Run:
        return Run(str(self.result_id), self.decision.value, self.holds, self.status, self.decision.unit)


@draft
class Seen:
    """What was found for the results of one specimen, of which most is so for the next as well: `subject` for all."""

    subject: Subject | None = None
    _measured_at: datetime | None = None
    _received_at: datetime | None = None
    _clock: datetime | None = None

    def clock(self, measured_at: datetime | None, received_at: datetime) -> datetime | None:
        """What the instrument's clock says, where that is to be believed."""
        if self._measured_at is not measured_at or self._received_at is not received_at:
            self._measured_at, self._received_at = measured_at, received_at
            self._clock = believed(measured_at, received_at)
        return self._clock


NOTHING_IN_FORCE = Autoverification()
_AS_BEFORE: Mapping[UUID, bool] = {}


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides, for one link: what is in force, and what rules may ask of the analyzer. `analyzer`: its name."""

    now: Autoverification = NOTHING_IN_FORCE
    analyzer: str = ""
    driver: str = ""
    qc: QcGate = field(default_factory=judging.NoQc)
    used: Used | None = None  # where anything is known of it
    used_by: Mapping[str, Used] = field(default_factory=dict)  # analyzers whose results are judged anew, by name
    names_dilutions: bool = False  # to the analyzer, by which factor

    @property
    def rule_set(self) -> RuleSet:
        return self.now.active or judging.NO_RULES


@dataclass(slots=True)
class Decided:
    """What became of the cases of one specimen. `reported`: known results whose being reported changes; `done`:
    follow-ups whose result has come."""

    cases: list[Case]
    reported: dict[UUID, bool] = field(default_factory=dict)
    done: list[UUID] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Beside:
    """What there is already of a specimen. `neighbours`: by test id; `waited`: by version, of results that wait."""

    specimen: SpecimenFacts | None = None
    known: tuple[KnownResult, ...] = ()
    led: dict[str, tuple[Led, ...]] = field(default_factory=dict)
    neighbours: dict[str, Neighbours] = field(default_factory=dict)
    waited: Mapping[UUID, Waited] = field(default_factory=dict)
    gone: Mapping[str, KnownResult] = field(default_factory=dict)  # calculated and taken back, by order item


def judge_together(decided: Decided, beside: Beside, rules: Rules, context: DecisionContext) -> dict[str, Sibling]:
    """`decide_together` without what is calculated; the reported results of the specimen as they are then."""
    _choose(decided, beside, context)
    siblings = siblings_of(decided.cases, beside.known, decided.reported)
    seen, other = Seen(), False
    for case in decided.cases:
        holds, flags = case.holds, case.flags
        case.judged = judge(case, beside, rules, context, siblings, seen)
        if case.holds is not holds or case.flags is not flags:
            other = other or case.holds != holds or case.flags != flags
    if other:
        siblings |= siblings_of(decided.cases, ())  # in place: rules see what the checks made of the others
    _whose_specimen(decided.cases, rules)
    conclude(decided.cases, rules)
    return siblings


def leave(decided: Decided, beside: Beside, siblings: dict[str, Sibling]) -> None:
    """What was judged anew, and of which the same is said as before, stays the version that it is."""
    same = {case.result_id for case in decided.cases if case.waited is not None and case.said() == case.as_before}
    if same:
        decided.cases = [case for case in decided.cases if case.result_id not in same]
        siblings |= siblings_of((), [one for one in beside.known if one.id in same])


# ---- runs ------------------------------------------------------------------------------------------------------------


def _choose(decided: Decided, beside: Beside, context: DecisionContext) -> None:
    """Of every item that has a new run, or whose run is another test's now, the one that is reported."""
    with_item = [case.item.id for case in decided.cases if case.item is not None]
    items, moved = set(with_item), _moved(decided.cases, beside.known)
    if not moved and len(items) == len(with_item) and items.isdisjoint(beside.led):
        if items.isdisjoint([known.item_id for known in beside.known]):
            return  # each is the only run that there is
    by_item: dict[str, list[Case]] = {}
    for case in decided.cases:
        if case.item is not None:
            by_item.setdefault(case.item.id, []).append(case)
    for item_id in moved.values():
        by_item.setdefault(item_id, [])
    known_runs: dict[str, list[KnownResult]] = {}
    for known in beside.known:
        if known.item_id in by_item and known.id not in moved:
            known_runs.setdefault(known.item_id, []).append(known)
    for item_id, cases in by_item.items():
        led = beside.led.get(item_id, ())
        if len(cases) == 1 and item_id not in known_runs and not led:
            continue
        _choose_of(decided, cases, known_runs.get(item_id, []), led, context)


def _moved(cases: Iterable[Case], known: Iterable[KnownResult]) -> dict[UUID, str]:
    """Of results that are a run of their item no more, since their code is mapped otherwise now, which item it was."""
    now = {case.result_id: case.item.id if case.item is not None else "" for case in cases
           if case.replaces is not None and not case.pending}  # fmt: skip
    if not now:
        return {}
    return {one.id: one.item_id for one in known if one.item_id and now.get(one.id, one.item_id) != one.item_id}


def _choose_of(
    decided: Decided, cases: list[Case], known: list[KnownResult], led: Sequence[Led], context: DecisionContext
) -> None:
    mine = {case.result_id: case for case in cases if not case.pending}
    runs: list[Run] = []
    for of in sorted(known, key=lambda of: (of.created_at, of.id)):
        again = mine.get(of.id)
        held_run = Run(str(of.id), of.value, of.held, of.status, of.unit)
        runs.append(again.run() if again else held_run)
    there = {of.id: of.measured_at for of in known}
    fresh = [case for case in cases if case.result_id not in there and not case.pending]
    runs += [case.run() for case in fresh]
    awaited = [one for one in led if one.open]
    answering = [case for case in fresh if case.decision.value.kind not in _NO_VALUE]
    answers: dict[str, bool] = {}
    for one in awaited:
        found = [case for case in answering if _answers(case, one, there.get(one.result_id), context)]
        if found:
            decided.done.append(one.id)
        for case in found:
            case.answers = (*case.answers, one)
            if one.result_id in there:
                answers[str(case.result_id)] = one.by_person or answers.get(str(case.result_id), False)
    if not runs:
        return
    choice = choose(runs, answers)
    by_id = {run.id: run for run in runs}
    for case in mine.values():
        _reported_or_not(case, choice, by_id, len(runs))
        reruns = [one for one in awaited if one.kind is not _REFLEX]
        case.awaited = not all(_since(case, one, there.get(one.result_id), context) for one in reruns)
        if case.reportable and case.awaited:
            case.blocked = "a rerun was asked for, and this is not it: it came or was measured before"
    for of in known:
        if of.id not in mine and of.reportable is not (str(of.id) == choice.id):
            decided.reported[of.id] = not of.reportable


def _answers(case: Case, one: Led, before: datetime | None, context: DecisionContext) -> bool:
    """Whether a new run is what a follow-up asked for. `before`: when the run was measured that it repeats."""
    return case.result_id != one.result_id and (one.kind is _REFLEX or _since(case, one, before, context))


def _since(case: Case, one: Led, before: datetime | None, context: DecisionContext) -> bool:
    """Whether it came after the rerun was asked for, and was not measured before what is repeated. What an analyzer had
    sent by then, and waited for its turn, or what it kept and sends late, nobody asked for."""
    came = case.waited.received_at if case.waited is not None else context.received_at
    if came is None or not one.asked_before(came):
        return False
    return before is None or case.measured_at is None or case.measured_at >= before


def _reported_or_not(case: Case, choice: Choice, runs: Mapping[str, Run], count: int) -> None:
    case.reportable = str(case.result_id) == choice.id
    case.beside_released = choice.released and not case.reportable
    if count < 2:
        return
    if case.reportable:
        case.steps.append(Step("run", "ok", f"reported: {choice.text}"))
        if choice.disputed:
            case.blocked = "another run of this order item says something else"
        return
    step = Step("run", "none", f"not reported: another run is ({choice.text})", inputs={"reported": choice.id})
    if choice.released and not same(runs[str(case.result_id)], runs[choice.id]):
        case.hold(HoldReason.ALREADY_REPORTED, Step("run", "hold", step.text, inputs=step.inputs))
    else:
        case.steps.append(step)


# ---- checks ----------------------------------------------------------------------------------------------------------


def siblings_of(
    cases: Collection[Case], known: Iterable[KnownResult], reported: Mapping[UUID, bool] = _AS_BEFORE
) -> dict[str, Sibling]:
    """The reported results of the specimen by test: those it has, with the new ones in their place, as another test's
    perhaps. `reported`: of those that it has, whose being reported changes."""
    siblings: dict[str, Sibling] = {}
    said_anew = {case.result_id for case in cases if case.replaces is not None and not case.pending}
    for one in known:
        if one.test and reported.get(one.id, one.reportable) and one.id not in said_anew:
            siblings[one.test] = Sibling(
                one.test, one.value, one.unit, one.flags, one.held, one.status, str(one.version_id), one.suspect
            )  # fmt: skip
    for case in cases:
        if case.decision.test is not None and case.reportable and not case.pending:
            siblings[case.decision.test.code] = sibling_of(case, case.decision.test.code)
    return siblings


def sibling_of(case: Case, code: str) -> Sibling:
    decision = case.decision
    return Sibling(code, decision.value, decision.unit, case.flags, case.holds, case.status, str(case.id))


def judge(
    case: Case,
    beside: Beside,
    rules: Rules,
    context: DecisionContext,
    siblings: Mapping[str, Sibling],
    seen: Seen,
) -> Judged | None:
    """What the checks say of a case; None where there is nothing they could look at."""
    holds = case.holds
    if case.decision.test is None or (holds and not _UNREAD.isdisjoint(holds)):
        return None
    facts = facts_of(case, beside, rules, context, siblings, seen)
    near = beside.neighbours.get(case.decision.test.id)
    asks = case.reportable and not case.pending and case.item is not None
    if asks and holds:
        asks = _MAY_ASK.issuperset(holds)
    judged = judging.check(
        rules.rule_set, facts, near.later if near else None, measured=facts.value.kind not in _NO_VALUE, asks=asks
    )
    case.holds, case.flags, case.requests = judged.holds, judged.flags, judged.requests
    judging.tell(judged.verdicts, case.steps)
    if (vouched := judging.qc_step(facts)) is not None:
        case.steps.append(vouched)
    return judged


def facts_of(
    case: Case,
    beside: Beside,
    rules: Rules,
    context: DecisionContext,
    siblings: Mapping[str, Sibling],
    seen: Seen,
) -> Facts:
    """A case of a known test with all that is known around it."""
    if case.waited is not None:
        its = case.waited.analyzer
        used = rules.used_by.get(its) or (rules.used if its == rules.analyzer else None)
        rules = replace(rules, analyzer=its, driver=case.waited.driver, used=used)
    decision, specimen, test = case.decision, beside.specimen, case.decision.test
    assert test is not None  # noqa: S101 - the caller has looked
    kind = specimen.type if specimen else ""
    subject = seen.subject
    if subject is None:
        subject = seen.subject = subject_of(specimen, kind, context)
    led = beside.led.get(case.item.id, ()) if case.item and beside.led else ()
    near = beside.neighbours.get(test.id)
    observed, measured = case.observed, case.origin is _ANALYZER
    using = observed.measured_with if observed else UNSAID
    received_at = case.waited.received_at if case.waited is not None else context.received_at
    clock = None if received_at is None else seen.clock(case.measured_at, received_at)
    at = case.measured_at if received_at is None else clock or received_at
    qc = rules.qc.says(rules.analyzer, test.code, at, using.module, using.reagent_lot)
    calibrated_at = None
    if rules.used is not None and measured and at is not None:
        calibrated_at = rules.used.calibrated_at(UUID(test.id), at)
    return Facts(
        test,
        decision.value,
        decision.unit,
        subject,
        decision.flags,
        observed.flags if observed else (),
        observed.status if observed else "",
        decision.low,
        decision.high,
        decision.critical_low,
        decision.critical_high,
        case.holds,
        rules.analyzer if case.origin is not _CALCULATION else "",  # by hand too: on a worksheet of the analyzer
        rules.driver if measured else "",
        decision.method,
        previous=near.previous if near else None,
        siblings=siblings,
        qc=qc.state,
        qc_step=qc.step,
        reagent_lot=using.reagent_lot,
        calibrated_at=calibrated_at,
        measured_at=clock,
        dilution=_dilution(case, led, named=rules.names_dilutions),
        follow_ups=max((one.depth for one in led if one.result_id != case.result_id), default=0) if led else 0,
        interval_unsure=decision.unsure,
        critical_unsure=decision.critical_unsure,
    )


def _dilution(case: Case, led: Sequence[Led], *, named: bool) -> Decimal | None:
    """The factor by which it was diluted, 1 for none, with its line in the explanation; None: not known."""
    if case.origin is _CALCULATION:
        return None
    said = case.observed.dilution if case.observed else None
    if not led and case.waited is None and (said is None or said == 1):
        return UNDILUTED  # most are like this
    steps = case.waited.steps if case.waited is not None else case.diluted
    others = [one for one in led if one.result_id != case.result_id]
    factor, step = dilution_of(said, case.answers, others, steps, named=named)
    if step is not None:
        case.steps.append(step)
    return factor


def subject_of(specimen: SpecimenFacts | None, kind: str, context: DecisionContext) -> Subject:
    found = context.collections(specimen, kind)
    return found[0] if len(found) == 1 else _not_timed(found[0])


def _not_timed(subject: Subject) -> Subject:
    """Of a specimen whose collection is not known: its age then is not either."""
    return replace(subject, collected_at=None, age_h=None, age_d=None)


def _whose_specimen(cases: Sequence[Case], rules: Rules) -> None:
    """Several tests of one tube that changed too much at once: each of them says what that most often is."""
    changed = [case for case in cases if _DELTA in case.holds and case.judged is not None]
    if len(changed) < 2:
        return
    judged = {case.decision.test.code: case.judged.verdicts for case in cases if case.judged and case.decision.test}
    found = delta.swap(judged)
    for case in changed if found.suspected else ():
        if case.decision.test is not None and case.decision.test.code in found.failed:
            case.steps.append(Step(delta.CHECK, "hold", found.text, rules.rule_set.version))


# ---- the end ---------------------------------------------------------------------------------------------------------


def conclude(cases: Sequence[Case], rules: Rules) -> None:
    """Whether the rules release each, and the status of all."""
    if rules.now.active is not None or rules.now.void:
        looked_at = [case for case in cases if case.judged is not None]
        # What cannot be released anyway is judged alone: of a linked test the reported result counts, not another run.
        _rule([case for case in looked_at if not _against(case)], rules)
        for case in looked_at:
            if _against(case):
                _rule([case], rules)
    for case in cases:
        _finish(case)


def _rule(cases: list[Case], rules: Rules) -> None:
    """What the rules say of cases that were judged, together."""
    rated = [Rated(case.judged.facts, case.judged.verdicts) for case in cases if case.judged is not None]
    said = decide(rules.now, rated)
    for at, case in enumerate(cases):
        _ruled(case, said[at], _against(case))


def _ruled(case: Case, auto: AutoVerdict, against: str) -> None:
    """`against`: what no rule can know, and what forbids it to release the result."""
    case.auto = auto
    verdicts = auto.verdicts
    if against and auto.action is _RELEASE:
        version = verdicts[-1].version
        text = f"waits for a person: {against}"
        summed = Verdict(judging.AUTOVERIFICATION, Finding.NOT_APPLICABLE, text, version=version)
        verdicts = (*verdicts[:-1], summed)
        case.auto = AutoVerdict(Action.WAIT, verdicts, (against,))
    for reason in auto.holds:
        if reason not in case.holds:
            case.holds = (*case.holds, reason)
    judging.tell(verdicts, case.steps)


def _against(case: Case) -> str:
    """What no rule can know, and what forbids it to release a result."""
    if case.blocked:
        return case.blocked
    if not case.reportable:
        return "another run is reported"
    if case.pending:
        return "a released version stays until a person decides"
    if case.item is None or case.decision.patient_id is None:
        return "it was not ordered for a patient"
    return ""


def _finish(case: Case) -> None:
    if case.replaces is not None:
        number, version_id = case.replaces
        inputs = {"replaces": str(version_id)}
        if case.pending:
            text = f"version {number} is released and stays current until a person decides"
            case.hold(HoldReason.CHANGED_AFTER_RELEASE, Step("version", "hold", text, inputs=inputs))
        else:
            case.steps.append(Step("version", "ok", _AGAIN if case.waited else _SAME_KEY[case.origin], inputs=inputs))
    if case.holds:
        case.status = _REGISTERED
        case.steps.append(waiting(case.holds))
    else:
        case.status = _FINAL if case.auto is not None and case.auto.action is _RELEASE else _PRELIMINARY


def steps_of(case: Case) -> tuple[Step, ...]:
    """The whole explanation: what waits is said at the end, once."""
    decided = case.decision.steps
    if decided and decided[-1].step == HOLD:
        decided = decided[:-1]
    if case.again is None:
        said = decided + tuple(case.steps)
        return said if case.came is None else (case.came,) + said  # noqa: RUF005 - half of what unpacking takes
    first = (step for step in (case.came, case.again) if step is not None)
    return (*first, *decided, *case.steps)
