"""What comes after a release and would have held it: an index that interferes, a companion that does not agree. Pure.

What was released is not altered (DESIGN §1): a change beside it waits, of the same value, held for what was found, and
says what came late. A person lets the release stand by rejecting that change, or corrects or retracts the result.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from uuid import UUID

from interface.domain import consistency, indices
from interface.domain.autoverify import Autoverification
from interface.domain.decision_context import DecisionContext
from interface.domain.facts import Facts, Finding, Sibling, Verdict
from interface.domain.model import RELEASED, HoldReason, Origin, SpecimenFacts, Step
from interface.domain.rule_set import RuleSet
from interface.domain.runs import MEASURED
from interface.flow.again import case_of
from interface.flow.cases import Beside, Case, Rules, Seen, conclude, facts_of, siblings_of
from interface.store.surroundings import KnownResult, Locked

LATE = "late"  # the step that says what came
ALL = frozenset({indices.CHECK, consistency.CHECK})


def released(locked: Locked, by: Mapping[str, Autoverification]) -> Iterator[KnownResult]:
    """The released results of which a rule in force says what another result means for them. `by`: specimen; whatever
    comes for one is said of the whole family."""
    for specimen_id, results in locked.results.items():
        now = by.get(specimen_id)
        if now is None:
            now = next((by[one] for one in locked.by_id[specimen_id].family if one in by), None)
        if now is not None and now.active is not None:
            for one in results:
                if _stands(one) and (part := now.active.of(one.test)) and (part.indices or part.consistency):
                    yield one


def _stands(one: KnownResult) -> bool:
    return (
        one.status in RELEASED
        and one.reportable
        and one.pending is None
        and one.origin is Origin.ANALYZER
        and bool(one.item_id and one.test)
    )


def came(cases: Sequence[Case], anew: Collection[UUID] = ()) -> set[str]:
    """The tests of which something new is known for certain: whose it is, and what was measured. `anew`: results that
    were measured out of control, as it seemed when they came."""
    return {
        case.decision.test.code
        for case in cases
        if case.decision.test is not None and case.reportable and not case.pending
        if case.waited is None or case.result_id in anew
        if MEASURED.issuperset(case.holds)
    }


def came_late(
    tests: Collection[str],
    cases: Sequence[Case],
    beside: Beside,
    family: Sequence[SpecimenFacts],
    rules: Rules,
    context: DecisionContext,
    checks: Collection[str] = ALL,
) -> list[Case]:
    """For each released result that one of these tests, which came, would have held: a change that says so, and waits.

    `cases`: what is decided now; `family`: the specimens that count as one.
    """
    own = {one.id: one for one in family}
    looked = Step(LATE, "ok", f"looked at again with what came: {' '.join(sorted(tests))}")
    siblings: Mapping[str, Sibling] | None = None
    made: list[Case] = []
    for known in beside.known:
        waited, specimen = beside.waited.get(known.version_id), own.get(known.specimen_id)
        if waited is None or specimen is None or known.test in tests or not _stands(known):
            continue
        part = rules.rule_set.of(known.test)
        if not _asks(part, tests):
            continue
        case = case_of(known, waited, specimen, context, looked)
        if case is None:
            continue
        siblings = siblings_of(cases, beside.known) if siblings is None else siblings
        facts = facts_of(case, beside, rules, context, siblings, Seen())
        found = [
            (verdict, late)
            for verdict, of in _verdicts(part, facts, checks)
            if (verdict.finding is Finding.HOLD or verdict.comment) and (late := of.intersection(tests))
        ]
        if found:
            made.append(case)
            case.follow(known.id, known.version, known.version_id, known.last_version, released=True)
            for verdict, late in found:
                _say(case, verdict, " ".join(f"{code} {siblings[code].value.text}" for code in sorted(late)))
    conclude(made, rules)
    return made


def _asks(part: RuleSet, tests: Collection[str]) -> bool:
    """Whether what is said of a result depends on one of these tests."""
    return any(one.index_test in tests for one in part.indices) or any(
        not set(one.tests).isdisjoint(tests) for one in part.consistency
    )


def _verdicts(part: RuleSet, facts: Facts, checks: Collection[str]) -> Iterator[tuple[Verdict, frozenset[str]]]:
    """What each rule says, with the tests that it looks at beside the result's own."""
    version = part.version
    if indices.CHECK in checks:
        for index, verdict in zip(part.indices, indices.check(part.indices, facts, version), strict=True):
            yield verdict, frozenset((index.index_test,))
    if consistency.CHECK in checks:
        said = consistency.check(part.consistency, facts, version)
        for rule, verdict in zip(part.consistency, said, strict=True):
            yield verdict, frozenset(rule.tests) - {facts.test.code}


def _say(case: Case, verdict: Verdict, what: str) -> None:
    """Hold the change for what the check found; a comment that the report should have had is a reason too."""
    text = f"{what} came after the release: {verdict.text}"
    inputs = {"rule": verdict.rule, **verdict.inputs}
    for reason in verdict.holds or (HoldReason.INTERFERENCE,):
        case.hold(reason, Step(verdict.check, "hold", text, verdict.version, inputs))
