"""What the checks and rules of a laboratory make of the results of one specimen. Pure.

First every result by itself, with what is known around it: delta, interference, measuring range, consistency, quality
control; then what it makes the laboratory do next. Whether rules release it is said by `autoverify`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Protocol

from interface.domain import consistency, delta, indices, ranges, reflex
from interface.domain.facts import NOTHING, Facts, Finding, PreviousResult, QcState, Verdict
from interface.domain.model import HoldReason, Step
from interface.domain.record import record
from interface.domain.reflex import Request
from interface.domain.rule_set import RuleSet

NO_RULES = RuleSet("none")
_HOLD, _UNKNOWN, _NOT_APPLICABLE = Finding.HOLD, Finding.UNKNOWN, Finding.NOT_APPLICABLE
_HOLDING = (_HOLD, _UNKNOWN)
_FAIL, _EXPIRED = QcState.FAIL, QcState.EXPIRED
_QC_HOLDS = {QcState.FAIL: HoldReason.QC_FAILED, QcState.EXPIRED: HoldReason.QC_EXPIRED}


@record
class QcSays:
    """What quality control says of one result: one line of its explanation, where it has a say. `opens`: what was held
    for quality control is held for that no more."""

    state: QcState
    step: Step | None = None
    opens: bool = False


QC_UNKNOWN = QcSays(QcState.UNKNOWN)


class QcGate(Protocol):
    """The state of quality control, for whoever decides about patients' results. What has these methods is one:
    classes do not name it as a base, since none that Python makes may inherit from a compiled one."""

    def state(self, analyzer: str, test: str, at: datetime | None, module: str = "", reagent_lot: str = "") -> QcState:
        """Of an analyzer's stream for a test (its code), at the time of the measurement, on a module and with a reagent
        lot where they are known."""
        ...

    def says(self, analyzer: str, test: str, at: datetime | None, module: str = "", reagent_lot: str = "") -> QcSays:
        """The same with the words of it."""
        ...


class NoQc:
    """Nothing is known of quality control: nothing is released on it, but what is exempt by name."""

    def state(self, analyzer: str, test: str, at: datetime | None, module: str = "", reagent_lot: str = "") -> QcState:
        return QcState.UNKNOWN

    def says(self, analyzer: str, test: str, at: datetime | None, module: str = "", reagent_lot: str = "") -> QcSays:
        return QC_UNKNOWN


@record
class Judged:
    """What the checks say of one result, before the rules. `facts` are what they saw; `holds`, `flags`: with theirs."""

    facts: Facts
    verdicts: tuple[Verdict, ...]
    requests: tuple[Request, ...]
    holds: tuple[HoldReason, ...]
    flags: tuple[str, ...]


def check(
    rule_set: RuleSet,
    facts: Facts,
    later: PreviousResult | None = None,
    *,
    measured: bool = True,
    asks: bool = True,
) -> Judged:
    """Every check of the result. `later`: a result of the same test, of a specimen that was collected after this one,
    and decided before: the delta between the two is judged now, because nobody has before. `measured`: there is a value
    to check; `asks`: the result may make the laboratory do something next."""
    part, version = rule_set.of(facts.test.code), rule_set.version
    verdicts = _checked(part, facts, later, version) if measured else []
    if facts.qc is _FAIL or facts.qc is _EXPIRED:
        text, said = f"quality control is {facts.qc.value}", facts.qc_step
        plan, inputs = (said.version, said.inputs) if said else ("", NOTHING)
        verdicts.append(Verdict("qc", Finding.HOLD, text, "", plan, inputs, (_QC_HOLDS[facts.qc],)))
    requests: tuple[Request, ...] = ()
    if part.reflexes and asks and facts.qc is not QcState.FAIL:  # out of control it is no reason to order anything
        asked = reflex.evaluate(part.reflexes, facts, verdicts, version)
        verdicts += asked.verdicts
        requests = asked.requests
    if not _changing(verdicts):
        return Judged(facts, tuple(verdicts), requests, facts.holds, facts.flags)
    holds = dict.fromkeys(facts.holds)
    flags = dict.fromkeys(facts.flags)
    for verdict in verdicts:
        if verdict.finding in _HOLDING:
            holds |= dict.fromkeys(verdict.holds)
        flags |= dict.fromkeys(verdict.flags)
    return Judged(facts, tuple(verdicts), requests, tuple(holds), tuple(flags))


def _changing(verdicts: list[Verdict]) -> bool:
    """Whether one of them holds the result or flags it."""
    for one in verdicts:
        if one.flags or one.finding is _HOLD or one.finding is _UNKNOWN:
            return True
    return False


def _checked(part: RuleSet, facts: Facts, later: PreviousResult | None, version: str) -> list[Verdict]:
    verdicts: list[Verdict] = []
    if part.deltas:
        for rule in part.deltas:
            verdicts.append(delta.checked(rule, facts, version))
        if later is not None:
            verdicts += _against_later(part, facts, later, version)
    if part.indices:
        verdicts += indices.check(part.indices, facts, version)
    if part.ranges:
        verdicts += ranges.check(part.ranges, facts, version)
    verdicts += ranges.unmeasurable(part.ranges, facts, version)
    if part.consistency:
        verdicts += consistency.check(part.consistency, facts, version)
    return verdicts


def _against_later(part: RuleSet, facts: Facts, later: PreviousResult, version: str) -> list[Verdict]:
    """The delta of the later result against this one, as it would have been found had they come in their order. The
    flag of a change is the later one's."""
    here = PreviousResult(facts.value, facts.unit, delta.time_of(facts) or later.at, "")
    subject = replace(facts.subject, collected_at=later.at)
    turned = replace(facts, value=later.value, unit=later.unit, previous=here, subject=subject, measured_at=later.at)
    return [
        replace(one, text=f"the later result: {one.text}", inputs={**one.inputs, "later": later.version_id}, flags=())
        for one in delta.check(part.deltas, turned, version)
        if one.finding in _HOLDING
    ]


def wants_previous(part: RuleSet) -> bool:
    """Whether results of a test are compared with earlier ones; `part` is the rule set's for the test."""
    return part.looks_back


def qc_step(facts: Facts) -> Step | None:
    """The line that says which control vouches for a result, or that none does; what holds is a verdict of its own."""
    return None if facts.qc is _FAIL or facts.qc is _EXPIRED else facts.qc_step


def tell(verdicts: tuple[Verdict, ...], steps: list[Step]) -> None:
    """Add the verdicts to an explanation, each with its line. What does not speak of the result has none."""
    for one in verdicts:
        if one.finding is not _NOT_APPLICABLE or one.check == AUTOVERIFICATION:
            steps.append(one.step or _step(one))


def _step(verdict: Verdict) -> Step:
    """Kept with the verdict, which many results may share."""
    step = Step(verdict.check, _WORDS[verdict.finding], verdict.text, verdict.version, _inputs(verdict))
    object.__setattr__(verdict, "step", step)
    return step


AUTOVERIFICATION = "autoverification"
_WORDS = {Finding.PASS: "ok", Finding.HOLD: "hold", Finding.UNKNOWN: "hold", Finding.NOT_APPLICABLE: "none"}


def _inputs(verdict: Verdict) -> dict[str, str]:
    if not verdict.rule or verdict.check == AUTOVERIFICATION:
        return dict(verdict.inputs)
    named = {"rule": verdict.rule}
    named.update(verdict.inputs)
    return named
