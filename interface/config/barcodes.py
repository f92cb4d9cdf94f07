"""The keys of a `[[link]]` that say what its specimen ids mean."""

from __future__ import annotations

import re

from interface.config.table import Table, hint
from interface.domain.check_digits import CheckDigit
from interface.settings import BarcodeRules

LONGEST_BARCODE, LONGEST_PATTERN = 64, 200
# What makes a regular expression take exponential time is one repetition inside another.
_NESTED = re.compile(r"\([^()]*[*+}][^()]*\)[*+{]")


def read_barcode(table: Table) -> BarcodeRules:
    """`barcode = { strip_prefix, strip_suffix, pattern, check_digit, pad }`."""
    inner = table.table("barcode") if table.has("barcode") else None
    if inner is None:
        return BarcodeRules()
    check = inner.text("check_digit")
    if check and check not in list(CheckDigit):
        inner.problem("check_digit", f'"{check}" is not one of {", ".join(CheckDigit)}{hint(check, list(CheckDigit))}')
        check = ""
    rules = BarcodeRules(
        strip_prefix=inner.text("strip_prefix"),
        strip_suffix=inner.text("strip_suffix"),
        pattern=_pattern(inner, "pattern", inner.text("pattern")),
        check_digit=check,
        pad=inner.whole("pad", 0, 0, LONGEST_BARCODE),
    )
    inner.close()
    return rules


def read_patterns(table: Table, key: str) -> tuple[str, ...]:
    """Regular expressions, each for the whole of an id."""
    patterns = table.texts(key)
    for index, pattern in enumerate(patterns):
        _pattern(table, f"{key}[{index}]", pattern)
    return patterns


def _pattern(table: Table, key: str, pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        table.problem(key, f'"{pattern}" is not a regular expression: {error}')
        return ""
    if len(pattern) > LONGEST_PATTERN or _NESTED.search(pattern):
        table.problem(key, f'"{pattern}" is too long, or repeats a repetition, which may take for ever')
        return ""
    return pattern
