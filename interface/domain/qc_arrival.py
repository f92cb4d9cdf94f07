"""A control that has come: of which lot it is, and what the rules say of it where others came before. Pure.

Nothing is guessed: a control that is of no lot, or may be of two, makes no point until a person says of which it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from interface.domain.exact import shown
from interface.domain.model import Comparator, Step
from interface.domain.qc import Evaluation, Multirule, Point, QcRule, QcVerdict, Violation
from interface.domain.qc_lots import LotView, names, unusable
from interface.domain.record import record
from interface.domain.westgard import HISTORY, evaluate


class QcProblem(StrEnum):
    """Why a control made no point."""

    UNKNOWN_CONTROL = "unknown_control"  # of no lot
    AMBIGUOUS_CONTROL = "ambiguous_control"  # of several
    UNUSABLE_LOT = "unusable_lot"  # expired or closed
    UNMAPPED_CODE = "unmapped_code"
    PATIENT_ID = "patient_id"  # its id is a patient's specimen's
    INCOMPLETE = "incomplete_transmission"
    DRIVER_MISMATCH = "driver_mismatch"
    UNREADABLE = "unreadable_value"  # its record could not be read: its fields may be another's


@record
class Sent:
    """What the analyzer called it."""

    specimen: str = ""
    lot: str = ""
    level: str = ""


@record
class Recognised:
    """The lot, or why there is none; `step` is the line of the explanation."""

    lot: LotView | None
    problem: QcProblem | None
    step: Step


def recognise(sent: Sent, lots: Sequence[LotView], at: datetime) -> Recognised:
    """Which of the lots it is that the analyzer may send, as it was measured `at`.

    A lot that is named must be one that is known, by its number or an identifier: a new lot under an old control's name
    is never judged by the old one's target. Of several the level decides, then who is called so exactly, then which
    of them can be used.
    """
    found = [one for one in lots if any(names(each, sent.specimen) for each in _called(one))] if sent.specimen else []
    if sent.lot:
        of_lot = [one for one in lots if any(names(each, sent.lot) for each in _called(one))]
        found = [one for one in of_lot if one in found] if found and of_lot else of_lot
    for narrow in (_of_level, _exactly, lambda found, _: [one for one in found if not unusable(one, at)]):
        if len(found) > 1:
            found = narrow(found, sent) or found
    inputs = {"specimen": sent.specimen, "lot": sent.lot, "level": sent.level}
    inputs = {name: text for name, text in inputs.items() if text}
    if len(found) != 1:
        problem = QcProblem.AMBIGUOUS_CONTROL if found else QcProblem.UNKNOWN_CONTROL
        which = ", ".join(f"{one.material}/{one.name}" for one in found)
        text = f"it may be of {which}" if found else "no lot of a control is called so"
        return Recognised(None, problem, Step("recognise", "hold", text, inputs=inputs))
    lot = found[0]
    if why := unusable(lot, at):
        return Recognised(None, QcProblem.UNUSABLE_LOT, Step("recognise", "hold", why, inputs=inputs))
    return Recognised(lot, None, Step("recognise", "ok", f"{lot.material}, lot {lot.name}", inputs=inputs))


def _called(lot: LotView) -> tuple[str, ...]:
    return (lot.lot, *lot.identifiers)


def _of_level(found: Sequence[LotView], sent: Sent) -> list[LotView]:
    said = sent.level.casefold()
    return [
        one
        for one in found
        if said and (said in (one.level.casefold(), str(one.level_number)) or sent.level in one.identifiers)
    ]


def _exactly(found: Sequence[LotView], sent: Sent) -> list[LotView]:
    return [one for one in found if {sent.specimen, sent.lot} & set(_called(one))]


def judge_late(
    rule: Multirule, history: Sequence[Point], new: Point, after: Sequence[Point], levels: int
) -> Evaluation:
    """What the rules say of a point that others were measured after, which were judged without it.

    Those stay as they were judged. What is broken only now that it is known, by it and one of them, is said of it: else
    a failure that is there would be nobody's. `after`: oldest first.
    """
    evaluation = evaluate(rule, history, new, levels)
    if new.z is None or not after:
        return evaluation
    stream, found = [*history, new], list(evaluation.violations)
    for one in after[: HISTORY * max(levels, 1)]:
        known = set(evaluate(rule, [each for each in stream if each.id != new.id], one, levels).violations)
        if (one.lot, one.target) == (new.lot, new.target) or one.level != new.level:
            now = evaluate(rule, stream, one, levels).violations
            found += [each for each in now if new.id in each.points and each not in known and each not in found]
        stream.append(one)
    if len(found) == len(evaluation.violations):
        return evaluation
    more = found[len(evaluation.violations) :]
    text = f"{evaluation.text}; with what was measured after it: {', '.join(dict.fromkeys(one.rule for one in more))}"
    verdict = _worse(evaluation.verdict, rule, more)
    return replace(evaluation, verdict=verdict, violations=tuple(found), text=text)


def _worse(verdict: QcVerdict, rule: Multirule, more: Sequence[Violation]) -> QcVerdict:
    if {one.rule for one in more} - {QcRule.R1_2S, *rule.warn_only}:
        return QcVerdict.REJECT
    return QcVerdict.WARN if verdict is QcVerdict.ACCEPT else verdict


def off_scale(comparator: Comparator, limit: Decimal, point: str) -> Evaluation | None:
    """What is certain of a value beyond a limit, by the limit's z: `>50` where 50 is 3 SD too high breaks 1-3s. None:
    nothing is; `<50` may be anything."""
    beyond = limit if comparator in (Comparator.GT, Comparator.GE) else -limit
    if beyond < 3 or (beyond == 3 and comparator in (Comparator.GE, Comparator.LE)):  # a limit itself is not broken
        return None
    text = f"1-3s: beyond {shown(limit, 2)} SD"
    return Evaluation(QcVerdict.REJECT, (Violation(QcRule.R1_3S, (point,)),), text=text)
