"""From a specimen id as an analyzer sends it to the barcode that the laboratory printed, by the rules of a link. Pure.

Readers add prefixes, drop leading zeros, send the check digit or leave it out. What no rule of the link fits is taken
as it was sent: then no specimen has it, and its results are held.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from interface.domain.check_digits import CheckDigit, check_character
from interface.settings import BarcodeRules

# Names that laboratories give to controls, calibrators and blanks. Where an id like these is no specimen's, a result of
# it is never taken for a patient's, whatever the link does with what was not ordered.
CONTROL_LIKE = (r"(QC|QCS|CTRL|CTL|CONTROL|CONTROLE|KONTROLLE|CAL|CALIB|CALIBRATOR|BLANK|STD)[-_ ]?[A-Z0-9-]{0,12}",)


def barcode_of(sent: str, rules: BarcodeRules) -> str:
    """The barcode by the link's rules, in their order: prefix, suffix, pattern, check digit, padding."""
    if not rules:
        return sent
    text = sent.removeprefix(rules.strip_prefix).removesuffix(rules.strip_suffix)
    if rules.pattern:
        match = _compiled(rules.pattern).fullmatch(text)
        if match is None:
            return sent
        named = match.groupdict().get("id")
        text = named if named is not None else "".join(filter(None, match.groups())) or match[0]
    if rules.check_digit:
        body, digit = text[:-1], text[-1:]
        if not body or check_character(CheckDigit(rules.check_digit), body) != digit:
            return sent
        text = body
    return text.rjust(rules.pad, "0") if text else sent


def control_like(sent: str, patterns: tuple[str, ...]) -> bool:
    """Whether the whole id is one of these patterns, in any case."""
    return any(_compiled(f"(?i:{pattern})").fullmatch(sent.strip()) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class ControlNames:
    """What the open lots of controls are called that an analyzer may send: whole ids, and begins of ids (`PC*`)."""

    exact: frozenset[str] = frozenset()
    begins: tuple[str, ...] = ()

    def hold(self, sent: str, *, known: bool) -> bool:
        """Whether an id is a control's. A begin says so only of what is no specimen's: somebody chose it widely."""
        return sent in self.exact or (not known and bool(self.begins) and sent.startswith(self.begins))


NO_CONTROLS = ControlNames()


def control_names(identifiers: Collection[str]) -> ControlNames:
    """From the lots' identifiers."""
    begins = {one[:-1] for one in identifiers if one.endswith("*") and len(one) > 1}
    return ControlNames(frozenset(one for one in identifiers if not one.endswith("*")), tuple(sorted(begins)))


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
