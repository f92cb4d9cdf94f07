"""The laboratory's catalogue as decisions need it: tests, reference intervals, code maps and unit spellings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from interface.domain.model import CodeMapping, Interval, LabTest
from interface.domain.units import UnitAliases


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One organization's catalogue for one link: what was valid when it was read."""

    tests: Mapping[str, LabTest] = field(default_factory=dict)  # by id
    intervals: Mapping[str, tuple[Interval, ...]] = field(default_factory=dict)  # by test id
    mappings: Mapping[tuple[str, str], CodeMapping] = field(default_factory=dict)  # by (code, specimen type)
    aliases: UnitAliases = field(default_factory=UnitAliases)

    def mapping(self, code: str, specimen_type: str) -> CodeMapping | None:
        """The mapping for the code on this specimen type, else the one for any type, else None."""
        if not code:
            return None
        return self.mappings.get((code, specimen_type)) or self.mappings.get((code, ""))

    def maps(self, code: str) -> bool:
        """Whether the code is mapped on any specimen type."""
        return any(mapped == code for mapped, _ in self.mappings)

    def by_code(self, test_code: str) -> LabTest | None:
        """The test with the laboratory's own code."""
        return next((test for test in self.tests.values() if test.code == test_code), None)
