"""Tests of which no quality control or no critical limits are asked, with the reason: `[[exempt]]` of a rule set. Pure.

Autoverification asks for both of every test. What is not asked of one is said by its name and by nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from interface.domain.table import Table

NO_CRITICAL_LIMITS = "none"


@dataclass(frozen=True, slots=True)
class Exemption:
    """`qc`: the state of its quality control is not asked for; `no_critical`: no critical limits are meant to exist."""

    name: str
    test: str
    reason: str
    qc: bool = False
    no_critical: bool = False

    @property
    def tests(self) -> tuple[str, ...]:
        return (self.test,)


def parse(entry: Table) -> Exemption:
    """One `[[exempt]]`. Says what is wrong to the table; what comes back then is of no use."""
    test, reason = entry.text("test", None), entry.text("reason", None)
    if "reason" in entry.raw and not reason.strip():
        entry.say(entry.at("reason"), "is empty")
    qc, critical = entry.flag("qc"), entry.word("critical", (NO_CRITICAL_LIMITS,))
    if not qc and not critical:
        entry.say(entry.path, 'exempts from nothing: say qc = true or critical = "none"')
    return Exemption(entry.path, test, reason, qc, bool(critical))
