"""How a driver reads specimen ids: padding, composite ids, prefixes and suffixes, check digits. Pure.

In this order: blanks off, the part of a composite id, prefix and suffix off, padding off, the pattern, the check digit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from interface.domain.check_digits import CheckDigit, check_character


@dataclass(frozen=True, slots=True)
class SpecimenIdRule:
    """How a specimen id is read. What is not an id by the rule is none, and it is said why."""

    strip: str = " "
    separator: str = ""  # of a composite id in one component: `barcode-position-date`
    part: int = 1  # which of its parts is the id, from 1
    prefixes: tuple[str, ...] = ()  # taken off where they stand: the first that does
    suffixes: tuple[str, ...] = ()
    padding: str = ""  # characters before the id that are none of it, such as zeros
    patterns: tuple[re.Pattern[str], ...] = ()  # the first that matches: its group, else the whole match, is the id
    must_match: bool = False  # what no pattern matches is no id
    check_digit: CheckDigit | None = None  # verified: with a wrong one there is no id
    drop_check_digit: bool = False
    null: frozenset[str] = frozenset()  # values that mean that none was read
    null_pattern: re.Pattern[str] | None = None

    def read(self, raw: str) -> str:
        """The id; "" when there is none."""
        return self.take(raw)[0]

    def take(self, raw: str) -> tuple[str, str]:
        """The id, and in words why what was sent is none; both "" when nothing was sent."""
        value = raw.strip(self.strip)
        if self.separator:
            parts = value.split(self.separator)
            value = parts[self.part - 1].strip(self.strip) if len(parts) >= self.part else ""
        value = self._without_marks(value)
        if match := next((found for one in self.patterns if (found := one.search(value))), None):
            value = match[match.lastindex or 0]
        elif self.must_match and value:
            return "", "what stands there is no specimen id of this analyzer"
        if value in self.null or (self.null_pattern is not None and self.null_pattern.search(value)):
            return "", ""
        if self.check_digit is not None and value:
            if check_character(self.check_digit, value[:-1]) != value[-1]:
                return "", "the check digit of the specimen id is wrong"
            value = value[:-1] if self.drop_check_digit else value
        return value, ""

    def _without_marks(self, value: str) -> str:
        value = next((value.removeprefix(one) for one in self.prefixes if value.startswith(one)), value)
        value = next((value.removesuffix(one) for one in self.suffixes if value.endswith(one)), value)
        if not self.padding:
            return value
        return value.lstrip(self.padding) or value[-1:]  # padding alone is not an empty id: `0000` is 0
