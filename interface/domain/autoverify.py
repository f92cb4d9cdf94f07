"""Which results of a specimen are released without a person, by what is in force at this moment. Pure.

In force are: one active revision or none, the switches that are off, and the revisions that run in the shadow, of which
is only kept what they would have done. `flow.rules` reads all of it in the deciding transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from interface.domain.facts import Facts, Finding, Verdict
from interface.domain.model import LabTest
from interface.domain.predicates import Case
from interface.domain.rule_set import RuleSet
from interface.domain.rules import ENGINE, Action, AutoVerdict, evaluated, is_held, together


class Scope(StrEnum):
    """What a switch turns off."""

    ORGANIZATION = "organization"
    ANALYZER = "analyzer"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Switch:
    """Autoverification is off for a test, an analyzer (`key`: its code, its name) or the whole laboratory."""

    scope: Scope
    key: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Shadow:
    """A revision that decides nothing, and its row's id."""

    id: UUID
    rule_set: RuleSet


@dataclass(frozen=True, slots=True)
class Autoverification:
    """What is in force. `void`: why the active revision's validation does not count any more; "" when it does."""

    active: RuleSet | None = None
    switches: tuple[Switch, ...] = ()
    shadows: tuple[Shadow, ...] = ()
    void: str = ""
    active_id: UUID | None = None  # of the active revision's row

    def off(self, facts: Facts) -> str:
        """Why nothing of this test on this analyzer is released now; "" when it may be."""
        if self.active is None:
            return self.void or "no rule set is active"
        if self.void:
            return f"{self.active.version} must be validated again: {self.void}"
        for switch in self.switches:
            if switch.scope is Scope.ORGANIZATION:
                return "switched off for the laboratory"
            if switch.scope is Scope.TEST and switch.key == facts.test.code:
                return f"switched off for the test {switch.key}"
            if switch.scope is Scope.ANALYZER and facts.analyzer in ("", switch.key):  # one that is not known may be it
                return f"switched off for the analyzer {switch.key}"
        return ""


def decide(now: Autoverification, cases: Sequence[Case]) -> tuple[AutoVerdict, ...]:
    """What is done with each result of one specimen, in their order; `Facts.holds` is what stands against each already.

    The results of one specimen that are decided in one transaction belong in one call: linked sets look at all of them.
    """
    if now.active is None:
        return tuple(_off(now, now.void or "no rule set is active", case) for case in cases)
    said = []
    for case in cases:
        why = now.off(case.facts)
        verdict = _off(now, why, case) if why else evaluated(now.active, case)
        said.append((case.facts, verdict))
    return together(now.active, said)


def shadowed(rule_set: RuleSet, cases: Sequence[Case]) -> tuple[AutoVerdict, ...]:
    """What a revision in the shadow would have done; the cases' verdicts are those of its own checks."""
    on = rule_set if rule_set.autoverification else replace(rule_set, autoverification=True)
    return together(on, [(case.facts, evaluated(on, case)) for case in cases])


OFF = "off"  # among the inputs of the step: nothing was released then, whatever the rules said
_OFF = MappingProxyType({OFF: "yes"})


def _off(now: Autoverification, why: str, case: Case) -> AutoVerdict:
    version = now.active.version if now.active else ""
    text = f"waits for a person: {why}"
    said = Verdict("autoverification", Finding.NOT_APPLICABLE, text, "", version, _OFF)
    return AutoVerdict(Action.WAIT, (said,), ("off",), is_held(case.facts, case.verdicts))


def catalogue_digest(rule_set: RuleSet, tests: Iterable[LabTest]) -> str:
    """Of what a validation relies on in the catalogue: the units, decimals and kinds of the tests that are judged, and
    the substances by which limits and values are converted; of those that are only named, that they are in use."""
    known = {test.code: test for test in tests}
    lines = []
    for code in sorted(rule_set.tests()):
        test = known.get(code)
        lines.append(f"{code}|{_relied_on(test) if test else '-'}\n")
    lines += [f"{code}|-\n" for code in sorted(rule_set.named_beside().difference(known))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _relied_on(test: LabTest) -> str:
    """Of a test of which no substance is known, the same as ever."""
    said, substance = f"{test.unit}|{test.decimals}|{test.kind.value}", test.substance
    known = (substance.molar_mass, substance.valence) != (None, None)
    return f"{said}|{substance.molar_mass}|{substance.valence}" if known else said


@dataclass(frozen=True, slots=True)
class Stamp:
    """That the rule bench found nothing wrong: with which text, meaning of rules, and tests."""

    digest: str
    engine: str
    catalogue: str


def void(stamp: Stamp | None, digest: str, catalogue: str) -> str:
    """Why a validation does not count for a revision; "" when it does."""
    if stamp is None:
        return "it has not been validated"
    if stamp.digest != digest:
        return "its text is another one"
    if stamp.engine != ENGINE:
        return f"rules mean something else now ({stamp.engine}, {ENGINE})"
    if stamp.catalogue != catalogue:
        return "a test that it names has another unit, decimals, kind or substance now, or is not in use any more"
    return ""


def digest_of(text: str) -> str:
    """Of a document's text, to the letter."""
    return hashlib.sha256(text.encode()).hexdigest()
