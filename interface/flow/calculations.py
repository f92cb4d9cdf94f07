"""Calculated results of one specimen: made of its other results, with the rules in force, judged as all results. Pure.

What a result was calculated from stands in its explanation: the values that went in and, where the formula asks, the
sex and the age at collection. A version is left as it is only while a new calculation would say all of that again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from interface.domain.calculated import CHECK, Calculation, calculate, outdated
from interface.domain.decide import decide_value
from interface.domain.decision_context import DecisionContext
from interface.domain.facts import Sibling
from interface.domain.flags import CRITICAL
from interface.domain.model import (
    RELEASED,
    HoldReason,
    OrderedItem,
    Origin,
    ResultStatus,
    Step,
    Value,
    ValueKind,
)
from interface.domain.states import CLOSED_ITEM
from interface.flow.cases import (
    Beside,
    Case,
    Decided,
    Rules,
    Seen,
    conclude,
    judge,
    judge_together,
    leave,
    sibling_of,
    subject_of,
)
from interface.flow.work import own_key
from interface.store.surroundings import KnownResult

_QC_HOLDS = frozenset({HoldReason.QC_FAILED, HoldReason.QC_EXPIRED})  # nothing else than its inputs takes these away


def decide_together(
    cases: Sequence[Case], beside: Beside, rules: Rules, context: DecisionContext, waiting: Iterable[str] = ()
) -> Decided:
    """Everything that is decided about the results of one specimen (of none: of one barcode that nobody knows).

    `waiting`: tests whose calculated result is to be judged anew too.
    """
    decided = Decided(list(cases))
    siblings = judge_together(decided, beside, rules, context)
    leave(decided, beside, siblings)
    if rules.rule_set.calculations and beside.specimen is not None:
        _calculate(decided, beside, rules, context, siblings, waiting)
    return decided


def _calculate(
    decided: Decided, beside: Beside, rules: Rules, context: DecisionContext, siblings: dict[str, Sibling],
    waiting: Iterable[str],
) -> None:  # fmt: skip
    """What is calculated anew because one of its inputs is new, or because it waits for what is beside it."""
    cases = [case for case in decided.cases if not case.pending]
    now = {case.result_id: case.decision.test.code if case.decision.test else "" for case in cases}
    # Also what has lost a result to another test, by a map that was put right: what is made of it is so no more.
    changed = {
        one.test for one in beside.known if decided.reported.get(one.id) or now.get(one.id, one.test) != one.test
    }
    for case in decided.cases:
        if case.decision.test is not None and case.reportable and not case.pending:
            siblings[case.decision.test.code] = sibling_of(case, case.decision.test.code)
            changed.add(case.decision.test.code)
    decided.cases += calculate_anew(changed, beside, rules, context, siblings, decided.cases, frozenset(waiting))


def calculate_anew(
    changed: Iterable[str],
    beside: Beside,
    rules: Rules,
    context: DecisionContext,
    siblings: dict[str, Sibling],
    others: Sequence[Case] = (),
    waiting: frozenset[str] = frozenset(),
) -> list[Case]:
    """The calculated results of a specimen that are new, or other than before, now that these tests have changed.

    Only what is ordered on the specimen is calculated, and nothing that an analyzer or a person has measured. What is
    made of calculated results is calculated after them; `siblings` gets what was made.
    """
    made: list[Case] = []
    calculations, made_of = rules.rule_set.calculations, rules.rule_set.made_of
    due = {rule.target: None for code in changed for rule in rules.rule_set.of(code).calculations}
    if waiting:
        due |= {rule.target: None for rule in calculations if rule.target in waiting}
    done: set[str] = set()
    while due:
        ready = [target for target in due if due.keys().isdisjoint(made_of[target] - {target})]
        if not ready:  # tests that are made of each other: neither is
            break
        for target in ready:
            del due[target]
            done.add(target)
            several = [rule for rule in calculations if rule.target == target]
            case = _calculation(several, beside, rules, context, siblings, others)
            if case is None:
                continue
            case.judged = judge(case, beside, rules, context, siblings, Seen())
            conclude([case], rules)
            if case.before is not None and _says_again(case, case.before):
                continue
            made.append(case)
            if not case.pending:
                siblings[target] = sibling_of(case, target)
                of_it = rules.rule_set.of(target).calculations
                due |= {one.target: None for one in of_it if one.target not in done}
    return made


def _calculation(
    several: Sequence[Calculation],
    beside: Beside,
    rules: Rules,
    context: DecisionContext,
    siblings: Mapping[str, Sibling],
    others: Sequence[Case],
) -> Case | None:
    """What the rules of one test make of the specimen's results; None where nothing is to be said, or nothing new. Of
    several, as one to 400 mg/dL of triglycerides and one beyond, the first that has a result counts."""
    specimen, test = beside.specimen, context.catalogue.by_code(several[0].target)
    if specimen is None or test is None:
        return None
    item = next((one for one in specimen.items if one.test_id == test.id and one.status not in CLOSED_ITEM), None)
    runs = [one for one in beside.known if item is not None and one.item_id == item.id]
    known = next((one for one in runs if one.origin is Origin.CALCULATION), None)
    if item is None or _measured(item, runs, known, others):
        return None
    version, subject = rules.rule_set.version, subject_of(specimen, specimen.type, context)
    all_said = [(calculate(rule, test, siblings, subject, version), rule) for rule in several]
    said, rule = next((one for one in all_said if one[0].value is not None), all_said[0])
    gone = beside.gone.get(item.id)
    if said.value is None and known is None:
        return None
    value, verdict = (said.value, "ok") if said.value is not None else (Value(ValueKind.EMPTY), "none")
    step = Step(CHECK, verdict, said.text, version, said.explained)
    case = Case(
        own_key("calculation", item.id),
        decide_value(test, value, said.unit, specimen, item, context, step),
        Origin.CALCULATION,
    )
    unreleased = [code for code in said.inputs if code in siblings and siblings[code].status not in RELEASED]
    if unreleased:
        case.blocked = f"{' '.join(unreleased)} is not released"
    suspect = {code: siblings[code].suspect for code in said.inputs if code in siblings and siblings[code].suspect}
    if suspect:
        case.blocked = case.blocked or f"{' '.join(suspect)} was released before its control failed"
    if known is not None:
        inputs = [one for one in beside.known if one.reportable and one.test in rule.tests]
        new = _follows(case, known, step.inputs, inputs)
    else:
        new = gone is None or _follows_gone(case, gone, item.id)
    if not new:
        return None
    # A person cannot know of it either, until what it is made of was looked at; what waits beside a released one does.
    if waits := [code for code, said_of in suspect.items() if said_of == "waiting" and not case.pending]:
        text = f"{' '.join(waits)} waits on a look-back list: its control failed"
        case.hold(HoldReason.QC_FAILED, Step("qc", "hold", text))
    return case


def _follows_gone(case: Case, gone: KnownResult, item_id: str) -> bool:
    """Of one that was cancelled or taken back; False where nothing new is said."""
    if gone.with_specimen:  # which may be measured after all
        case.follow(gone.id, gone.version, gone.version_id, gone.last_version, released=False)
        case.keep(gone.comments)
        if gone.spoken_of:  # before it was cancelled
            case.hold(HoldReason.PERSON, _a_persons(gone))
        return True
    # A person took it back: the same is not said again, another is theirs.
    if (_shown(gone.value), gone.unit) == (_shown(case.decision.value), case.decision.unit):
        return False
    case.hold(HoldReason.PERSON, _a_persons(gone))
    if gone.status is ResultStatus.ENTERED_IN_ERROR:  # whoever has it must go on seeing that
        case.key = own_key("calculation", item_id, str(gone.id))
    else:
        case.follow(gone.id, gone.version, gone.version_id, gone.last_version, released=False)
    return True


def _follows(case: Case, known: KnownResult, made_of: Mapping[str, str], inputs: Iterable[KnownResult]) -> bool:
    """Of one that is there; False where nothing new is said. `made_of`: what its explanation says; `inputs`: the
    results that it may be made of."""
    says = (_shown(case.decision.value), case.decision.unit)
    if known.pending == says and known.pending_inputs in (None, made_of):
        return False
    case.follow(known.id, known.version, known.version_id, known.last_version, released=known.status in RELEASED)
    if (_shown(known.value), known.unit) == says:
        stays = known.by_person and known.inputs in (None, made_of) and _QC_HOLDS.isdisjoint(known.held)
        if known.status in RELEASED or stays:
            return False
        case.before = known
    if known.corrected:
        text = "a person's correction waited: a person looks at both"
        case.hold(HoldReason.PERSON, Step("review", "hold", text, inputs={"version": str(known.last_version)}))
    if known.status not in RELEASED:
        case.keep(known.comments)
        _after(case, known, inputs)
    return True


def _after(case: Case, known: KnownResult, inputs: Iterable[KnownResult]) -> None:
    """What was not released, and is calculated anew: as what is said anew (`outcome.after_a_person`), it undoes nothing
    that a person said, and takes the place of a critical value only when a person says so, or had an input rerun."""
    if known.by_person or HoldReason.PERSON in known.held:
        case.hold(HoldReason.PERSON, _a_persons(known))
        return
    another = (_shown(known.value), known.unit) != (_shown(case.decision.value), case.decision.unit)
    asked = any(HoldReason.RERUN in one.held for one in inputs)
    if HoldReason.SAID_ANEW in known.held:
        text = "it was calculated anew before, and no person has decided since"
    elif another and not asked and not CRITICAL.isdisjoint(known.flags):
        text = "it was critical before, and what it is calculated from says something else"
    else:
        return
    case.hold(HoldReason.SAID_ANEW, Step("review", "hold", text, inputs={"version": str(known.version)}))


def _says_again(case: Case, before: KnownResult) -> bool:
    held = (before.status, frozenset(before.held)) == (case.status, frozenset(case.holds))
    return held and made_of_the_same(case, before)


def made_of_the_same(case: Case, before: KnownResult) -> bool:
    """Of the same value: whether it comes from the same inputs, and has the same limits and flags."""
    decision = case.decision
    limits = decision.low, decision.high, decision.reference
    return (
        before.inputs in (None, decision.steps[0].inputs)
        and before.limits in (None, limits)
        and frozenset(before.flags) == frozenset(case.flags)
    )


def left_over(
    changed: Collection[str], beside: Beside, rules: Rules, context: DecisionContext, siblings: Mapping[str, Sibling]
) -> list[Case]:
    """Of released results that were calculated from these (tests, or what is known of the person), and that are not
    calculated any more, by the rules in force or for want of a test in use: a change without a value, which waits for a
    person. What is released would stand there as if nothing had happened."""
    specimen, made = beside.specimen, []
    targets = {rule.target for rule in rules.rule_set.calculations if context.catalogue.by_code(rule.target)}
    for known in beside.known if specimen is not None else ():
        if known.status not in RELEASED or known.test in targets or not set(changed).intersection(known.inputs or ()):
            continue
        case = _left(known, beside, rules, context, siblings)
        if case is not None and known.pending != (_shown(case.decision.value), case.decision.unit):
            made.append(case)
    return made


def _left(
    known: KnownResult, beside: Beside, rules: Rules, context: DecisionContext, siblings: Mapping[str, Sibling]
) -> Case | None:
    specimen, test = beside.specimen, context.catalogue.of_result(known.test_id)
    item = next((one for one in specimen.items if one.id == known.item_id), None) if specimen else None
    if specimen is None or test is None or known.inputs is None:
        return None
    others = outdated(known.inputs, siblings, subject_of(specimen, specimen.type, context))
    if not others:
        return None
    why = "no rule in force calculates it" if context.catalogue.by_code(known.test) else "its test is not in use"
    step = Step(CHECK, "none", f"{why}: {'; '.join(others)}", inputs=dict(known.inputs))
    case = Case(
        own_key("calculation", known.item_id),
        decide_value(test, Value(ValueKind.EMPTY), "", specimen, item, context, step),
        Origin.CALCULATION,
    )
    case.follow(known.id, known.version, known.version_id, known.last_version, released=True)
    conclude([case], rules)
    return case


def _a_persons(known: KnownResult) -> Step:
    text = f"version {known.version} is what a person made of it ({known.status}): a person looks at it again"
    return Step("review", "hold", text, inputs={"version": str(known.version)})


def _shown(value: Value) -> str:
    return f"{value.comparator or ''}{value.text}"


def _measured(
    item: OrderedItem, runs: Iterable[KnownResult], calculated: KnownResult | None, others: Iterable[Case]
) -> bool:
    """Whether somebody has measured what would be calculated. What waits beside the calculated value that is reported
    takes nothing of it: that goes on to be what its inputs make."""
    fresh = [case for case in others if case.item is not None and case.item.id == item.id]
    if calculated is not None and calculated.reportable:
        return any(case.reportable for case in fresh)
    return bool(fresh) or any(one.origin is not Origin.CALCULATION for one in runs)
