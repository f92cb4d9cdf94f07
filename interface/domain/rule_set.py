"""One revision of a laboratory's checks, as every check of a result reads it. Pure.

A rule set is one document (`rule_files` reads it): what is looked at in a result, and what may then be released without
a person. A revision never changes, so what is asked of it per result is computed once: `of`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from interface.domain.exemptions import Exemption


class Entry(Protocol):
    """One entry of a section. `tests`: the codes of the results it is evaluated for; () is every one."""

    @property
    def name(self) -> str: ...

    @property
    def tests(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class RuleSet:
    """`revision` 0: not stored (yet). Sections keep the document's order."""

    name: str
    revision: int = 0
    deltas: tuple[Entry, ...] = ()
    indices: tuple[Entry, ...] = ()
    ranges: tuple[Entry, ...] = ()
    consistency: tuple[Entry, ...] = ()
    calculations: tuple[Entry, ...] = ()
    reflexes: tuple[Entry, ...] = ()
    rules: tuple[Entry, ...] = ()
    exemptions: tuple[Exemption, ...] = ()
    _by_test: dict[str, RuleSet] = field(default_factory=dict, init=False, compare=False, repr=False)

    @property
    def version(self) -> str:
        """As explanations name it: `default 3`."""
        return f"{self.name} {self.revision}"

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


SECTIONS = ("deltas", "indices", "ranges", "consistency", "calculations", "reflexes", "rules", "exemptions")


def _of(entries: tuple[Entry, ...], test: str) -> tuple[Entry, ...]:
    return tuple(entry for entry in entries if not entry.tests or test in entry.tests)
