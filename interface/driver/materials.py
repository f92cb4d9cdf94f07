"""What a result was measured with, as a driver's manifest says: module, lots of reagent and calibrator; of a control
its lot and level. Pure.

Records of several kinds stand beside a result (INV-3, LIS2's M): a rule says which of them it reads. What stands
nearest to the result is taken: its own records, else its order's, else those above.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from interface.domain.model import UNSAID, MeasuredWith
from interface.driver.rules import Condition, FieldPath, Reader, met

_BETWEEN_LOTS, _BETWEEN_GROUPS = "+", "/"


class Material(StrEnum):
    """What may be said; the attributes of `MeasuredWith`."""

    MODULE = "module"
    REAGENT_LOT = "reagent_lot"
    CALIBRATOR_LOT = "calibrator_lot"
    CONTROL_LOT = "control_lot"
    LEVEL = "level"


@dataclass(frozen=True, slots=True)
class MaterialRule:
    """Where one of them stands: at `path` of each record in which `when` holds. `pattern`: it is its groups, where it
    matches, and nothing where it does not."""

    what: Material
    path: FieldPath
    when: tuple[Condition, ...] = ()
    pattern: re.Pattern[str] | None = None
    beside: bool = False  # else what stands below another result of the order

    def take(self, as_sent: str) -> str:
        """What is said there; "" for nothing, HL7's null included."""
        text = "" if as_sent == '""' else as_sent.strip()
        if self.pattern is None or not text:
            return text
        match = self.pattern.search(text)
        return _BETWEEN_GROUPS.join(filter(None, match.groups())) if match else ""


# The records of a kind, the nearest to the result first, and whether those below other results of the order too; each
# read by itself, and around it where a condition asks.
Levels = Callable[[str, bool], Sequence[Sequence[Reader]]]


def measured_with(rules: Sequence[MaterialRule], levels: Levels) -> MeasuredWith:
    """What the rules find. Several lots of one kind are one text in the order of the message, each once: it is another
    when any of them is."""
    found: dict[str, str] = {}
    for rule in rules:
        if rule.what in found:
            continue
        for records in levels(rule.path.record, rule.beside):
            sent = (text for read in records if met(rule.when, read) for text in read(rule.path))
            if text := _BETWEEN_LOTS.join(filter(None, dict.fromkeys(map(rule.take, sent)))):
                found[rule.what] = text
                break
    return MeasuredWith(**found) if found else UNSAID
