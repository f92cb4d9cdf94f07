"""Whether a result is judged otherwise now than it was, because something else is known of its patient, specimen or
order: a sex that was put right, a time of collection that was added, a pregnancy. Or because limits of its test were
found to be wrong: one that was typed for another makes a critical value ordinary. And whether a calculated result is
still made of what it was calculated from, and that is released: quality control speaks of what was measured alone, and
a look-back list names what is calculated of it because that is on the list.

What was measured is not judged anew by such a change. Whoever would release the result is told, so that nobody gives
out the limits and flags of somebody else; replaying its message, or entering the value once more, judges it for whom it
is of. What is calculated is calculated anew at once (`flow.recalculation`), unless nothing calculates then: no rules
are in force, or a program makes the change that does not know of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from interface.domain.calculated import AGE, CHECK, SEX, inputs_of, outdated
from interface.domain.decide import decide_value
from interface.domain.decision_context import DecisionContext
from interface.domain.facts import Sibling, Subject
from interface.domain.flags import ABNORMAL, CRITICAL, HIGH, LOW, NORMAL
from interface.domain.formulas import FORMULAS
from interface.domain.model import RELEASED, Step
from interface.domain.review import InputsWait, Refusal, ReviewError, ReviewStep, Standing
from interface.flow import recalculation
from interface.flow.cases import siblings_of, subject_of
from interface.flow.outcome import Surroundings, beside_of
from interface.store import judged_for as rows
from interface.store import surroundings
from interface.store.db import Connection
from interface.store.lab_changes import ResultRow
from interface.store.read_otherwise import read_otherwise
from interface.store.review import two_steps

_OF_LIMITS = CRITICAL | {NORMAL, LOW, HIGH, ABNORMAL}
_ONLY_TO_COMPARE = Step("enter", "ok", "to compare")


async def require(connection: Connection, row: ResultRow, step: ReviewStep, place: Standing) -> None:
    """Raise ReviewError where something speaks against releasing the version that a person would release. The caller
    has the result's locks."""
    if text := await _read(connection, row):
        raise ReviewError(Refusal.CONFLICT, text)
    text, unreleased = await _against(connection, row)
    if text:
        raise ReviewError(Refusal.CONFLICT, text)
    if unreleased and not (_may_be_first(row, step, place) and await two_steps(connection, row.test_id)):
        raise InputsWait(unreleased)


def _may_be_first(row: ResultRow, step: ReviewStep, place: Standing) -> bool:
    """Where two verify, whether this is the first: by that nothing is released yet."""
    if step is ReviewStep.ACCEPT_CHANGE:
        return row.candidate_author is None
    return step is ReviewStep.VERIFY and place is not Standing.VERIFIED


async def _read(connection: Connection, row: ResultRow) -> str:
    """What its map or its test, changed since, says against it; "" for nothing. A change of what is released is of its
    test: the order item, what is compared with it and what is calculated of it are that test's."""
    if row.pending and (other := await rows.other_test(connection, row.id, row.candidate_id)):
        return f"the change is of another test ({other}): reject it; if what is released is wrong, retract it"
    waited = await surroundings.waited(connection, [row.candidate_id])
    if (said := (await read_otherwise(connection, waited)).get(row.candidate_id)) is None:
        return ""
    return f"{said}; replay its message, or {'reject the change' if row.pending else 'correct it to the same value'}"


async def _against(connection: Connection, row: ResultRow) -> tuple[str, list[str]]:
    """A sentence, "" when nothing speaks against it; and the tests it is calculated from that are not released."""
    unreleased: list[str] = []
    if row.specimen_id is None or row.test_id is None:
        return "", unreleased
    judged = await rows.changed_since(connection, row.id, row.candidate_id)
    if judged is None:
        return "", unreleased
    catalogue = await rows.catalogue_of(connection, row.organization_id, row.test_id)
    test = catalogue.of_result(str(row.test_id))
    locked = await surroundings.lock(connection, (), [row.specimen_id])
    specimen = locked.by_id.get(str(row.specimen_id))
    if test is None or specimen is None:
        return "", unreleased
    context = DecisionContext(catalogue, received_at=judged.received_at, analyzer=judged.analyzer)
    at = Surroundings(locked)
    if (inputs := inputs_of(judged.steps)) is not None:
        siblings = siblings_of((), beside_of(specimen, at).known)
        if text := _calculated(judged, inputs, siblings, subject_of(specimen, specimen.type, context)):
            anew = await recalculation.helps(connection, row.organization_id, at, row.specimen_id, row.id)
            return f"{text}; {'`labora result recalculate` calculates it anew' if anew else _without(row)}", unreleased
        unreleased = [code for code in inputs if code in siblings and siblings[code].status not in RELEASED]
    if not (judged.changed or judged.limits) or judged.unit != test.unit:
        return "", unreleased
    reported = replace(test, decimals=None)  # its decimals may be others now, which are no limits
    now = decide_value(reported, judged.value, judged.unit, specimen, None, context, _ONLY_TO_COMPARE, judged.method)
    limits, flags = (now.low, now.high, now.reference), _OF_LIMITS.intersection(now.flags)
    if limits == (judged.low, judged.high, judged.reference) and flags == _OF_LIMITS.intersection(judged.flags):
        return "", unreleased
    was, becomes = _words(judged.reference, judged.flags & _OF_LIMITS), _words(now.reference, flags)
    anew = not judged.steps or await recalculation.helps(connection, row.organization_id, at, row.specimen_id, row.id)
    what = "its patient, specimen or order was" if judged.changed else "the limits of its test were"
    text = f"{what} changed since it was judged: {was} then, {becomes} now"
    return f"{text}; {_judging(row, calculated=bool(judged.steps), anew=anew)}", unreleased


def _calculated(
    judged: rows.JudgedVersion, inputs: Mapping[str, str], siblings: Mapping[str, Sibling], subject: Subject
) -> str:
    """What a calculated result is not made of any more. Before it was said of whom it is, that may be anybody else."""
    if others := outdated(inputs, siblings, subject):
        return f"it was calculated from what has changed since: {'; '.join(others)}"
    by = next((step.text for step in judged.steps if step.step == CHECK), "")
    formula = FORMULAS.get(by.removeprefix("by "))
    if judged.changed and formula is not None and formula.of_persons and not {SEX, AGE}.intersection(inputs):
        return "its patient or specimen was changed since it was calculated"
    return ""


def _without(row: ResultRow) -> str:
    """What helps where calculating anew does not: nothing calculates it now, or what is released is right again."""
    return "reject the change" if row.pending else "correct or reject it"


def _judging(row: ResultRow, *, calculated: bool, anew: bool) -> str:
    """What judges it by the limits of now. Nobody corrects a result of which a change waits; and of the same inputs no
    second change is calculated beside one."""
    if calculated and not anew:
        return "reject the change, then recalculate the result" if row.pending else "correct it to the same value"
    other = "reject the change" if row.pending else "correct it to the same value"
    return f"{'recalculate it' if calculated else 'replay its message'}, or {other}"


def _words(reference: str, flags: frozenset[str]) -> str:
    return " ".join((*sorted(flags), f"({reference or 'no interval'})"))
