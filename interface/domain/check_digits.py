"""Check characters of specimen ids: those that analyzers and barcodes use, and the one our own numbers end in. Pure."""

from __future__ import annotations

from collections.abc import Callable
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
