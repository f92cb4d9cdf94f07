"""How a driver reads specimen ids: padding, composite ids, prefixes and suffixes, check digits. Pure.

In this order: blanks off, the part of a composite id, prefix and suffix off, padding off, the pattern, the check digit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

_CODE39 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-. $/+%"  # ISO/IEC 16388: the values 0 to 42
_CODABAR = "0123456789-$:/.+ABCD"  # the values 0 to 19; A to D are start and stop
_ISBT = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ*"  # ISO/IEC 7064 MOD 37-2


class CheckDigit(StrEnum):
    """The check characters that barcode symbologies and analyzers use; the last character of the id is it."""

    LUHN = "luhn"  # ISO/IEC 7812: every second digit doubled
    MOD10 = "mod10"  # weights 3 and 1 from the right: interleaved 2 of 5, GS1
    MOD16 = "mod16"  # Codabar (NW-7)
    MOD43 = "mod43"  # Code 39
    MOD37_2 = "mod37_2"  # ISO/IEC 7064 MOD 37-2: ISBT 128 donation numbers


def check_character(rule: CheckDigit, text: str) -> str:
    """The check character of `text`; "" when a character of it has no value under the rule."""
    try:
        return _CHECKS[rule](text)
    except ValueError:
        return ""


def _digits(text: str) -> list[int]:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return [int(character) for character in reversed(text)]


def _luhn(text: str) -> str:
    doubled = (sum(divmod(d * 2, 10)) if at % 2 == 0 else d for at, d in enumerate(_digits(text)))
    return str(-sum(doubled) % 10)


def _mod10(text: str) -> str:
    return str(-sum(d * (3 if at % 2 == 0 else 1) for at, d in enumerate(_digits(text))) % 10)


def _mod43(text: str) -> str:
    return _CODE39[sum(map(_CODE39.index, text)) % 43]


def _mod16(text: str) -> str:
    """Without the start and stop characters, which readers leave out."""
    return _CODABAR[-sum(map(_CODABAR[:16].index, text)) % 16]


def _mod37_2(text: str) -> str:
    total = 0
    for character in text:
        total = (total + _ISBT[:36].index(character)) * 2 % 37
    return _ISBT[(38 - total) % 37]


_CHECKS: dict[CheckDigit, Callable[[str], str]] = {
    CheckDigit.LUHN: _luhn,
    CheckDigit.MOD10: _mod10,
    CheckDigit.MOD16: _mod16,
    CheckDigit.MOD43: _mod43,
    CheckDigit.MOD37_2: _mod37_2,
}


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
