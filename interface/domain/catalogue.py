"""The laboratory's catalogue as decisions need it: tests, reference intervals, code maps and unit spellings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING

from interface.domain.barcodes import NO_CONTROLS, ControlNames
from interface.domain.model import CodeMapping, Interval, LabTest
from interface.domain.units import UnitAliases

if TYPE_CHECKING:
    from interface.domain.book import Book


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One organization's catalogue for one link: what was valid when it was read."""

    tests: Mapping[str, LabTest] = field(default_factory=dict)  # by id
    intervals: Mapping[str, tuple[Interval, ...]] = field(default_factory=dict)  # by test id
    mappings: Mapping[tuple[str, str], CodeMapping] = field(default_factory=dict)  # by (code, specimen type)
    aliases: UnitAliases = field(default_factory=UnitAliases)
    controls: ControlNames = NO_CONTROLS  # what the open lots of controls are called that the link may send
    zone: tzinfo = UTC  # of the laboratory: an age is counted in its days
    retired: Mapping[str, LabTest] = field(default_factory=dict)  # by id: out of use, nothing is measured of them
    books: dict[tuple[str, str], Book] = field(default_factory=dict, init=False, compare=False, repr=False)
    _codes: frozenset[str] = field(init=False, compare=False, repr=False)  # that are mapped
    _by_code: Mapping[str, LabTest] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_codes", frozenset(code for code, _ in self.mappings))
        # Of two tests with one code the first counts.
        object.__setattr__(self, "_by_code", {test.code: test for test in reversed(list(self.tests.values()))})

    def mapping(self, code: str, specimen_type: str) -> CodeMapping | None:
        """The mapping for the code on this specimen type, else the one for any type, else None."""
        if not code:
            return None
        return self.mappings.get((code, specimen_type)) or self.mappings.get((code, ""))

    def maps(self, code: str) -> bool:
        """Whether the code is mapped on any specimen type."""
        return code in self._codes

    def of_result(self, test_id: str) -> LabTest | None:
        """The test of a result that there is: in use, or not any more, for what was reported may have to be put right
        long after (ISO 15189:2022 7.4.1.8)."""
        return self.tests.get(test_id) or self.retired.get(test_id)

    def by_code(self, test_code: str) -> LabTest | None:
        """The test in use with the laboratory's own code."""
        return self._by_code.get(test_code)
