"""Results that wait for what is missing beside them, judged anew when something of their specimen has come. Pure.

A companion, an index, another test that a rule asks for may come in a later message. So whenever results of a specimen
are decided, those of it that wait are looked at again, with the new ones beside them, by the function that decides.
They are looked at twice: without what came, which must say what was said before, and with it. So only what came makes
a difference: what waits because autoverification was off then, or by another revision of the rules, is left to a
person; and so is whatever a person wrote, and what is not certain of whom or what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from interface.domain import judging
from interface.domain.autoverify import OFF
from interface.domain.decide import decide_value
from interface.domain.decision_context import DecisionContext
from interface.domain.facts import QcState
from interface.domain.judging import QcSays
from interface.domain.model import RELEASED, HoldReason, ObservedSpecimen, Origin, SpecimenFacts, Step
from interface.domain.states import CLOSED_ITEM
from interface.flow.cases import Beside, Case, Decided, Rules, judge_together
from interface.store.explanations import comments_of
from interface.store.surroundings import KnownResult, Locked, Waited

# What is found by looking at a value with others beside it: what comes later may find it otherwise.
_BY_OTHERS = frozenset(
    {
        HoldReason.DELTA, HoldReason.INTERFERENCE, HoldReason.SUPPRESSED, HoldReason.MEASURING_RANGE,
        HoldReason.IMPLAUSIBLE, HoldReason.INCONSISTENT, HoldReason.RULE,
    }
)  # fmt: skip
_ORIGINS = frozenset({Origin.ANALYZER, Origin.CALCULATION})
_AGAIN = "again"
_INTERVAL = "interval"  # the step from which on a result is judged; those before it say what it is
_JUDGED = frozenset({_INTERVAL, "critical", "flag"})


def waits(known: KnownResult) -> bool:
    """Whether nothing but what is beside a result may keep it, as far as its row says."""
    return (
        known.status not in RELEASED
        and known.reportable
        and known.pending is None
        and not known.by_person
        and bool(known.item_id and known.test)
        and known.origin in _ORIGINS
        and _BY_OTHERS.issuperset(known.held)
    )


def waiting(locked: Locked) -> list[KnownResult]:
    """Those of every specimen that is locked."""
    return [one for results in locked.results.values() for one in results if waits(one)]


def with_waiting(
    cases: Sequence[Case], beside: Beside, family: Sequence[SpecimenFacts], rules: Rules, context: DecisionContext
) -> list[Case]:
    """The cases of a specimen, and with them those results that it has already and that are to be judged anew.

    `family`: the specimens that count as one with it.
    """
    specimen = beside.specimen
    if specimen is None or not beside.waited or rules.now.active is None:
        return list(cases)
    new = {case.result_id for case in cases} | {case.item.id for case in cases if case.item is not None}
    like = {one.id: one for one in family if (one.type, one.collected_at) == (specimen.type, specimen.collected_at)}
    found = []
    for known in beside.known:
        own, waited = like.get(known.specimen_id), beside.waited.get(known.version_id)
        if own is None or waited is None or known.origin is not Origin.ANALYZER or known.id in new:
            continue
        if known.item_id not in new and waits(known) and decided_by(waited, rules):
            found.append((known, waited, own))
    came = _came(cases)
    controls = [case for one in found if (case := case_of(*one, context, came)) is not None]
    if not controls:
        return list(cases)
    judge_together(Decided(controls), beside, rules, context)
    said = {case.result_id: case.said() for case in controls}
    again = []
    for known, waited, own in found:
        before = said.get(known.id)
        if before is not None and before[:3] == (known.status, frozenset(known.held), frozenset(known.flags)):
            case = case_of(known, waited, own, context, came)
            if case is not None:
                case.as_before = before
                again.append(case)
    return [*cases, *again]


_QC_HOLDS = frozenset({HoldReason.QC_FAILED, HoldReason.QC_EXPIRED})


def held_for_controls(
    beside: Beside, waited: Mapping[UUID, Waited], said: Mapping[UUID, Step], rules: Rules, context: DecisionContext
) -> list[Case]:
    """Those results of a specimen, of `waited`, that were held for quality control and are to be judged anew as it is
    now. `said`: what it says of each now. They are looked at twice as well: with the controls as they were, which must
    say what was said before."""
    specimen, found = beside.specimen, []
    for known in beside.known if specimen is not None else ():
        one, now = waited.get(known.version_id), said.get(known.id)
        if one is None or now is None or specimen is None or known.specimen_id != specimen.id:
            continue
        rest = replace(known, held=tuple(reason for reason in known.held if reason not in _QC_HOLDS))
        if len(rest.held) < len(known.held) and waits(rest) and decided_by(one, rules):
            came = Step(_AGAIN, "ok", f"judged anew: {now.text}", now.version, now.inputs)
            found.append((known, one, specimen, context, came))
    before = [case for one in found if (case := case_of(*one)) is not None]
    as_it_was = replace(rules, qc=_AsItWas({known.test: known.held for known, *_ in found}))
    judge_together(Decided(before), beside, as_it_was, context)
    same = {case.result_id for case in before for known, *_ in found if known.id == case.result_id
            and case.said()[:3] == (known.status, frozenset(known.held), frozenset(known.flags))}  # fmt: skip
    return [case for one in found if one[0].id in same and (case := case_of(*one)) is not None]


@dataclass(frozen=True, slots=True)
class _AsItWas:
    """A `QcGate`: quality control as the reasons to hold say that it was, by test."""

    held: Mapping[str, tuple[HoldReason, ...]]

    def state(self, analyzer: str, test: str, at: datetime | None, module: str = "", reagent_lot: str = "") -> QcState:
        reasons = self.held.get(test, ())
        if HoldReason.QC_FAILED in reasons:
            return QcState.FAIL
        return QcState.EXPIRED if HoldReason.QC_EXPIRED in reasons else QcState.UNKNOWN

    def says(self, analyzer: str, test: str, at: datetime | None, module: str = "", reagent_lot: str = "") -> QcSays:
        return QcSays(self.state(analyzer, test, at))


def calculations_waiting(beside: Beside, rules: Rules) -> set[str]:
    """The tests whose calculated result waits like this."""
    return {
        known.test
        for known in beside.known
        if known.origin is Origin.CALCULATION and waits(known)
        if (waited := beside.waited.get(known.version_id)) is not None and decided_by(waited, rules)
    }


def decided_by(waited: Waited, rules: Rules) -> bool:
    """Whether the same revision decided about it, while it was not switched off."""
    said = [step for step in waited.steps if step.step == judging.AUTOVERIFICATION]
    return bool(said) and said[-1].version == rules.rule_set.version and OFF not in said[-1].inputs


def _came(cases: Iterable[Case]) -> Step:
    tests = dict.fromkeys(case.decision.test.code for case in cases if case.decision.test is not None)
    return Step(_AGAIN, "ok", f"judged anew with what came: {' '.join(tests)}")


def case_of(
    known: KnownResult, waited: Waited, specimen: SpecimenFacts, context: DecisionContext, came: Step
) -> Case | None:
    """A result as the case that it was before anything beside it was looked at; None where it is not open any more."""
    # What waits of a test that is out of use is a person's; what was released may be spoken against all the same.
    catalogue = context.catalogue
    test = catalogue.of_result(known.test_id) if known.status in RELEASED else catalogue.tests.get(known.test_id)
    item = next((one for one in specimen.items if one.id == known.item_id and one.status not in CLOSED_ITEM), None)
    if test is None or item is None or not specimen.available:
        return None
    of = DecisionContext(context.catalogue, received_at=known.created_at, analyzer=waited.analyzer)
    # As it was reported: to round what was rounded is to say another value, where the test has fewer decimals now.
    as_reported = replace(test, decimals=None)
    decision = decide_value(as_reported, known.value, known.unit, specimen, item, of, came, waited.observed.method)
    if decision.holds:
        return None
    names = [step.step for step in waited.steps]
    first = (
        [step for step in waited.steps[: names.index(_INTERVAL)] if step.step != came.step]
        if _INTERVAL in names
        else []
    )
    judged = [step for step in decision.steps if step.step in _JUDGED]
    decision = replace(decision, test=test, steps=(*first, came, *judged), map_revision=waited.map_revision)
    sent = ObservedSpecimen(specimen_id=waited.specimen_as_sent)
    case = Case(waited.natural_key, decision, Origin.ANALYZER, waited.observed, sent, waited=waited)
    case.measured_at = waited.measured_at
    case.keep(comments_of(waited.steps))
    case.follow(known.id, known.version, known.version_id, known.last_version, released=False)
    return case
