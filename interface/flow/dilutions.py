"""By which factor a run was diluted, as far as somebody said it. Pure.

The analyzer's word counts first, then what was asked for and what the run answers: by a person, who sees to it, or by a
rule where the analyzer was told the factor, for which only IHE LAW has a place (TCD-2); else nobody dilutes for a rule.
Nobody said anything: it was not diluted. Where a dilution was asked for, and it is not certain that or how this run
answers it, the factor is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TypeAlias

from interface.domain.model import FollowUpKind, FollowUpState, Step
from interface.store.surroundings import Led

UNDILUTED = Decimal(1)
STEP = "dilution"
_DILUTION = FollowUpKind.DILUTION
Told: TypeAlias = tuple[Decimal | None, Step | None]


def dilution_of(
    said: Decimal | None, answers: Sequence[Led], led: Sequence[Led], before: Sequence[Step], *, named: bool
) -> Told:
    """The factor, 1 for none and None where it is not known, and the line that says so where there is something to say.

    `said`: by the analyzer. `led`: the follow-ups of its order item that it did not lead to itself, `answers` among
    them. `before`: the explanation of the same version, where it is judged anew. `named`: what the analyzer is told of
    a dilution names the factor.
    """
    for step in before:
        if step.step == STEP:
            return _read(step), step
    if said is not None and said != UNDILUTED:
        return _told(said, "as the analyzer says") if said > 0 else _unknown("the analyzer says no factor")
    if all(one.kind is not _DILUTION for one in led):
        return UNDILUTED, None
    if all(one.kind is not _DILUTION for one in answers):
        return _unknown("a dilution was asked for, and nothing says that this is its run")
    of_rules = [one for one in answers if one.kind is _DILUTION and not one.by_person]
    if any(not named or one.state is not FollowUpState.SENT for one in of_rules):
        return _unknown("a rule asked for a dilution, and the analyzer was not told the factor")
    factors = {one.dilution if one.kind is _DILUTION else UNDILUTED for one in answers}
    factor = factors.pop()
    if factors or factor is None:
        return _unknown("several runs were asked for" if factors else "the factor was left to the analyzer")
    if said is not None:
        return _unknown(f"1:{_plain(factor)} was asked for, and the analyzer says that it did not dilute")
    return _told(factor, "as it was asked for")


def _told(factor: Decimal, why: str) -> Told:
    return factor, Step(STEP, "ok", f"diluted 1:{_plain(factor)}, {why}", inputs={"factor": _plain(factor)})


def _unknown(why: str) -> Told:
    return None, Step(STEP, "unknown", f"the factor of dilution is not known: {why}")


def _read(step: Step) -> Decimal | None:
    factor = step.inputs.get("factor")
    return None if factor is None else Decimal(factor)


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
