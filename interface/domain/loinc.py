"""The form of a LOINC code: up to seven digits, a hyphen, a check digit."""

from __future__ import annotations

import re

_CODE = re.compile(r"([0-9]{1,7})-([0-9])", re.ASCII)


def is_loinc(code: str) -> bool:
    """Whether the text has the form of a LOINC code and its check digit is right. Whether there is such a code is
    another question: only LOINC's own table answers it.

    The check digit is Mod 10 (LOINC Users' Guide, "Calculating Mod 10 check digits").
    """
    match = _CODE.fullmatch(code)
    if match is None:
        return False
    total = 0
    for place, digit in enumerate(reversed(match[1])):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    return (total + int(match[2])) % 10 == 0
