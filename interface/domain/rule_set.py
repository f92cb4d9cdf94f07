"""One revision of a laboratory's checks, as every check of a result reads it. Pure.

A rule set is one document (`rule_files` reads it): what is looked at in a result, and what may then be released without
a person. A revision never changes, so what is asked of it per result is computed once: `of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from interface.domain.calculated import Calculation
from interface.domain.conditions import Words
from interface.domain.consistency import Consistency
from interface.domain.delta import Delta
from interface.domain.exemptions import Exemption
from interface.domain.facts import Finding, Verdict
from interface.domain.indices import Index
from interface.domain.ranges import Range
from interface.domain.reflex import Reflex
from interface.domain.rules import LinkedSet, Rule
from interface.domain.scope import Scope


class Entry(Protocol):
    """One entry of a section. `tests`: the codes of the results it is evaluated for; () is every one."""

    @property
    def name(self) -> str: ...

    @property
    def tests(self) -> tuple[str, ...]: ...


# The check that speaks for each section: where the section has an entry for a test, it must have spoken of a result.
CHECKS = {"deltas": "delta", "indices": "index", "ranges": "range", "consistency": "consistency"}
NOTHING = Verdict("autoverification", Finding.NOT_APPLICABLE, "")


@dataclass(frozen=True, slots=True)
class RuleSet:
    """`revision` 0: not stored (yet). Sections keep the document's order. `autoverification`: its rules may release."""

    name: str
    revision: int = 0
    autoverification: bool = False
    deltas: tuple[Delta, ...] = ()
    indices: tuple[Index, ...] = ()
    ranges: tuple[Range, ...] = ()
    consistency: tuple[Consistency, ...] = ()
    calculations: tuple[Calculation, ...] = ()
    reflexes: tuple[Reflex, ...] = ()
    rules: tuple[Rule, ...] = ()
    linked: tuple[LinkedSet, ...] = ()
    exemptions: tuple[Exemption, ...] = ()
    version: str = field(init=False, default="", compare=False)  # as explanations name it: `default 3`
    # What every result is asked for, computed once: whether a rule names a test, the checks that must have been made,
    # and what is said of a result that nothing stands against.
    named: bool = field(init=False, default=False, compare=False, repr=False)
    checks: tuple[str, ...] = field(init=False, default=(), compare=False, repr=False)
    looks_back: bool = field(init=False, default=False, compare=False, repr=False)  # at earlier results
    asks_lots: bool = field(init=False, default=False, compare=False, repr=False)  # reagents, calibrations
    qc_exempt: bool = field(init=False, default=False, compare=False, repr=False)  # needs no quality control
    no_critical: bool = field(init=False, default=False, compare=False, repr=False)  # has no critical limits
    released: Verdict = field(init=False, default=NOTHING, compare=False, repr=False)
    # Of each calculated test all that it is made of, with what that is made of.
    made_of: Mapping[str, frozenset[str]] = field(init=False, default_factory=dict, compare=False, repr=False)
    _by_test: dict[str, RuleSet] = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        version = f"{self.name} {self.revision}"
        said = Verdict("autoverification", Finding.PASS, "released by the rules", self.name, version)
        object.__setattr__(self, "version", version)
        object.__setattr__(self, "released", said)
        object.__setattr__(self, "named", any(rule.tests for rule in self.rules))
        asked = {leaf.predicate.key for rule in self.rules for leaf in rule.leaves}
        object.__setattr__(self, "asks_lots", not asked.isdisjoint(("reagent_lot", "calibration_age_h")))
        looks_back = bool(self.deltas) or any(key.startswith(("previous", "delta")) for key in asked)
        object.__setattr__(self, "looks_back", looks_back)
        object.__setattr__(self, "qc_exempt", any(one.qc for one in self.exemptions))
        object.__setattr__(self, "no_critical", any(one.no_critical for one in self.exemptions))
        object.__setattr__(self, "made_of", _made_of(self.calculations))
        object.__setattr__(self, "checks", tuple(check for name, check in CHECKS.items() if getattr(self, name)))

    def of(self, test: str) -> RuleSet:
        """The part of it that is evaluated for results of a test, by the laboratory's code. Computed once a test."""
        part = self._by_test.get(test)
        if part is None:
            sections: dict[str, Any] = {name: _of(getattr(self, name), test) for name in SECTIONS}
            part = self._by_test[test] = replace(self, **sections)
        return part

    def tests(self) -> frozenset[str]:
        """Every test that an entry is evaluated for by name."""
        return frozenset(test for name in SECTIONS for entry in getattr(self, name) for test in entry.tests)

    def named_beside(self) -> frozenset[str]:
        """The tests that it makes, adds, or asks for beside those: of one that there is not nothing would come, and a
        rule that asks whether it has a result would have its answer."""
        made = [one.target for one in self.calculations] + [test for one in self.reflexes for test in one.add]
        asked = [leaf.argument for rule in self.rules for leaf in rule.leaves if leaf.argument]
        indices = [one.index_test for one in self.indices]
        return frozenset((*made, *asked, *indices)) - self.tests()

    def speaks_of(self) -> tuple[frozenset[str], frozenset[str]]:
        """The analyzers, and the types of specimens, of which it says something by name: of one that there is not it
        would be said of no result."""
        entries = [entry for name in SECTIONS for entry in getattr(self, name)]
        scopes = [entry.scope for entry in entries if isinstance(getattr(entry, "scope", None), Scope)]
        words = {key: {word for rule in self.rules for leaf in rule.leaves if leaf.predicate.key == key
                       and isinstance(leaf.condition, Words) for word in leaf.condition.words}
                 for key in ("analyzer", "specimen_type")}  # fmt: skip
        return (
            frozenset().union(words["analyzer"], *(one.analyzers for one in scopes)),
            frozenset().union(words["specimen_type"], *(one.specimen_types for one in scopes)),
        )

    def never_made(self) -> list[str]:
        """What reflexes add and nothing would make: a calculation is made with what comes after its order. And what is
        calculated of itself, by whatever is between."""
        targets = {one.target for one in self.calculations}
        circles = [f"{code} is calculated of itself" for code, tests in self.made_of.items() if code in tests]
        return circles + [
            f"reflex {one.name} adds {code}, which is calculated: order it beside what it is made of"
            for one in self.reflexes
            for code in one.add
            if code in targets
        ]


def _made_of(calculations: Iterable[Calculation]) -> dict[str, frozenset[str]]:
    made: dict[str, frozenset[str]] = {}
    for one in calculations:
        made[one.target] = made.get(one.target, frozenset()).union(one.tests)
    for _ in made:  # each time what is one step further off
        made = {target: tests.union(*(made.get(test, ()) for test in tests)) for target, tests in made.items()}
    return made


SECTIONS = ("deltas", "indices", "ranges", "consistency", "calculations", "reflexes", "rules", "linked", "exemptions")


def _of(entries: tuple[Entry, ...], test: str) -> tuple[Entry, ...]:
    return tuple(entry for entry in entries if not entry.tests or test in entry.tests)
