"""A person's decisions about results. API and CLI share them.

Which step is legal in which state is in `domain.review`. Every step appends a version of the result with its
explanation, and happens in the caller's transaction together with the order item, the task of a critical result, the
audit row and what an EMR is owed; it locks specimen, patient, result in this order. `version` is the number the person
looked at: of a waiting change the change's, else the current one's. Only a user with `result:release` decides.

    verify          preliminary, or held and accepted → final; where two people verify: verified, by another: final
    release         the same, at once; where two people verify only what the first has verified
    accept_change   the change that waits → corrected; where two people verify: verified, by another: corrected
    reject_change   the released version stays
    reject          not released → cancelled, the item is open again
    hold, rerun     not released → held                        comment         a new version; of a released one amended
    correct         released → corrected; else preliminary     retract         released → entered in error
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from interface.domain.flags import CRITICAL
from interface.domain.model import (
    RELEASED,
    FollowUpKind,
    HoldReason,
    ItemStatus,
    ResultStatus,
    Step,
    ValueKind,
)
from interface.domain.permissions import Permission
from interface.domain.review import (
    AGAIN,
    HOLDS,
    OF_THE_VALUE,
    REFUSED,
    Refusal,
    ReviewError,
    ReviewStep,
    Standing,
    refused,
    same_version,
    standing,
    words,
)
from interface.domain.views import Actor, Audience, ResultView
from interface.errors import IllegalStep
from interface.flow import consequences, criticals, follow_ups, judged_for, qc_gate
from interface.flow.actors import may
from interface.flow.coded_comments import coded_comments
from interface.flow.correction import NewValue, columns, decided, shown
from interface.store import audit, lab, lab_changes, specimens
from interface.store import review as rows
from interface.store.criticals import Judged
from interface.store.db import Connection
from interface.store.lab_changes import ResultRow

LONGEST_COMMENT = 4000  # characters
_NO_VALUE = frozenset({ValueKind.EMPTY, ValueKind.FAILED})
_RELEASING = frozenset({ReviewStep.VERIFY, ReviewStep.RELEASE, ReviewStep.ACCEPT_CHANGE})


# ---- verify and release ---------------------------------------------------------------------------------------------


async def verify(
    connection: Connection,
    actor: Actor,
    result_id: UUID,
    comment: str = "",
    version: int | None = None,
    accept_hold: bool = False,
    *,
    follow: bool = True,
) -> ResultView:
    """Verify a result. Where one person is enough it is final; else it waits for a second one, who is another.

    `accept_hold`: also when it is held, for acceptable reasons only and with a comment. Raises ReviewError.
    """
    row, place = await _begin(connection, actor, result_id, comment, ReviewStep.VERIFY, version)
    if (ReviewStep.VERIFY, place) in AGAIN:
        return await _seen_again(connection, actor, result_id, "verify")
    two = await rows.two_steps(connection, row.test_id)
    if place is Standing.VERIFIED or not two:
        return await _release(connection, actor, row, place, comment, accept_hold, "verify", follow)
    if row.held:
        _accept(row.held, comment, accept_hold)
    _has_value(row)
    text = f"verified by {actor.name}; another person must release it{_although(row.held)}"
    step = Step("verify", "ok", text, inputs=_inputs(row, comment))
    made = _Change(ResultStatus.PRELIMINARY, comment, step, changes={"verified_by": actor.id})
    await _write(connection, actor, row, made, "verify")
    await lab_changes.complete_item(connection, row)
    return await _view(connection, result_id)


async def release(
    connection: Connection,
    actor: Actor,
    result_id: UUID,
    comment: str = "",
    version: int | None = None,
    accept_hold: bool = False,
    *,
    follow: bool = True,
) -> ResultView:
    """Make a result final. One that is released already is returned as it is (its version does not change).

    `comment` becomes part of its note. `accept_hold`: see `verify`; also that another run of the item was reported,
    which is then retracted. Raises ReviewError.
    """
    row, place = await _begin(connection, actor, result_id, comment, ReviewStep.RELEASE, version)
    if (ReviewStep.RELEASE, place) in AGAIN:
        return await _seen_again(connection, actor, result_id, "release")
    if place is not Standing.VERIFIED and await rows.two_steps(connection, row.test_id):
        raise ReviewError(Refusal.CONFLICT, "two people release this test's results: verify it first")
    return await _release(connection, actor, row, place, comment, accept_hold, "release", follow)


async def _release(
    connection: Connection,
    actor: Actor,
    row: ResultRow,
    place: Standing,
    comment: str,
    accept_hold: bool,
    action: str,
    follow: bool,
) -> ResultView:
    if place is Standing.VERIFIED and row.verified_by == actor.id:
        if await rows.two_steps(connection, row.test_id):
            raise ReviewError(Refusal.FORBIDDEN, f"{actor.name} has verified it; another person must release it")
    rivals = await rows.released_runs(connection, row.order_item_id, row.id)
    held = row.held | ({HoldReason.ALREADY_REPORTED} if rivals else frozenset())
    if held:
        _accept(held, comment, accept_hold)
    _has_value(row)
    for rival in rivals:
        await _replace_run(connection, actor, rival, comment)
    step = Step("release", "ok", f"released by {actor.name}{_although(held)}", inputs=_inputs(row, comment))
    reported = []
    if await rows.report_run(connection, row.order_item_id, row.id):
        reported.append(Step("run", "ok", f"this run is reported: {actor.name} released it"))
    made = _Change(ResultStatus.FINAL, comment, step, steps=tuple(reported))
    version = await _write(connection, actor, row, made, action)
    await _verified(connection, row)
    await lab_changes.owe(connection, actor.organization_id, row.id, version)
    return await _done(connection, actor, [row.id, *rivals], follow)


async def _replace_run(connection: Connection, actor: Actor, result_id: UUID, comment: str) -> None:
    """The run that was reported is no more: whoever has it must learn that."""
    rival = await lab_changes.lock_result(connection, result_id)
    if rival is None:
        raise ReviewError(Refusal.CONFLICT, "the run that is reported is not there any more")
    text = f"another run of the test is reported in its place, by {actor.name}"
    step = Step("retract", "none", text, inputs=_inputs(rival, comment))
    note = "Replaced by another measurement of the same specimen."
    made = _Change(ResultStatus.ENTERED_IN_ERROR, note, step, source=rival.version_id)
    version = await _write(connection, actor, rival, made, "retract")
    await lab_changes.owe(connection, actor.organization_id, rival.id, version)


# ---- changes to a released result -----------------------------------------------------------------------------------


async def accept_change(
    connection: Connection,
    actor: Actor,
    result_id: UUID,
    comment: str = "",
    version: int | None = None,
    accept_hold: bool = False,
    *,
    follow: bool = True,
) -> ResultView:
    """Put the change that waits in the place of the released version, with what staff said of that: it is corrected.

    Where two people verify, what an analyzer or a rule changed goes on waiting, verified, until another accepts it too;
    a person's own correction is accepted by another. Raises ReviewError.
    """
    row, _ = await _begin(connection, actor, result_id, comment, ReviewStep.ACCEPT_CHANGE, version)
    if reasons := _beside_change(row):
        _accept(reasons, comment, accept_hold)
    _has_value(row)
    if await rows.two_steps(connection, row.test_id):
        if row.candidate_author is None:
            await _verify_change(connection, actor, row, comment)
            return await _view(connection, result_id)
        _is_another(actor, row)
    step = Step("release", "ok", f"change accepted by {actor.name}", inputs=_inputs(row, comment))
    note, kept = await rows.with_comments(connection, row.version_id, row.candidate_id, comment)
    made = _Change(ResultStatus.CORRECTED, note, step, steps=kept)
    number = await _write(connection, actor, row, made, "accept_change")
    await _verified(connection, row)
    await lab_changes.owe(connection, actor.organization_id, row.id, number)
    return await _done(connection, actor, [result_id], follow)


async def _verify_change(connection: Connection, actor: Actor, row: ResultRow, comment: str) -> None:
    """The first of two people accepts what an analyzer or a rule changed."""
    text = f"change verified by {actor.name}; another person must accept it{_although(_beside_change(row))}"
    step = Step("verify", "ok", text, inputs=_inputs(row, comment))
    held = tuple(sorted(row.candidate_held))
    made = _Change(ResultStatus.REGISTERED, comment, step, held, changes={"verified_by": actor.id})
    await _propose(connection, actor, row, made, "verify_change")


def _beside_change(row: ResultRow) -> frozenset[HoldReason]:
    """What stands against the change beside its being one."""
    return row.candidate_held - {HoldReason.CHANGED_AFTER_RELEASE}


def _is_another(actor: Actor, row: ResultRow) -> None:
    """Raises ReviewError where this person has made or verified the change that waits."""
    if row.candidate_verified_by == actor.id:
        raise ReviewError(Refusal.FORBIDDEN, f"{actor.name} has verified it; another person must accept the change")
    if row.candidate_author == actor.id:
        raise ReviewError(Refusal.FORBIDDEN, f"{actor.name} has corrected it; another person must accept that")


async def reject_change(
    connection: Connection, actor: Actor, result_id: UUID, comment: str = "", version: int | None = None
) -> ResultView:
    """Leave the released version as it is; the change is kept as a cancelled version that was never current.

    Raises ReviewError.
    """
    row, _ = await _begin(connection, actor, result_id, comment, ReviewStep.REJECT_CHANGE, version)
    await leave(connection, actor, row, comment)
    return await _view(connection, result_id)


async def leave(connection: Connection, actor: Actor, row: ResultRow, comment: str) -> None:
    """The change that waits is none; what is released, and whoever is to be told of that, stays."""
    await _drop_change(connection, actor, row, comment)
    still = Judged(row.id, row.version_id, critical=bool(CRITICAL & row.flags))
    await criticals.open_for(connection, actor, [still])


async def _drop_change(connection: Connection, actor: Actor, row: ResultRow, comment: str) -> ResultRow:
    """Keep the change that waits as a cancelled version that was never current; the row as it is then."""
    step = Step("release", "none", f"change rejected by {actor.name}", inputs=_inputs(row, comment))
    _, number = await lab_changes.copy_version(connection, actor, row, ResultStatus.CANCELLED, comment, step)
    await lab_changes.drop_pending(connection, row.id)
    detail = {"change": str(row.candidate_version), "version": str(number)}
    await audit.record(connection, actor, "reject_change", "result", row.id, detail)
    again = await lab_changes.lock_result(connection, row.id)
    if again is None:
        raise ReviewError(Refusal.NOT_FOUND, "there is no such result")
    return again


# ---- what is not released -------------------------------------------------------------------------------------------


async def reject(
    connection: Connection,
    actor: Actor,
    result_id: UUID,
    comment: str,
    version: int | None = None,
    *,
    follow: bool = True,
) -> ResultView:
    """Do not use a result that was never released: it is cancelled, and its order item is open again. The comment says
    why. Raises ReviewError."""
    row, place = await _begin(connection, actor, result_id, comment, ReviewStep.REJECT, version)
    if (ReviewStep.REJECT, place) in AGAIN:
        return await _seen_again(connection, actor, result_id, "reject")
    _needed(comment, "rejecting a result")
    step = Step("reject", "none", f"rejected by {actor.name}", inputs=_inputs(row, comment))
    await _write(connection, actor, row, _Change(ResultStatus.CANCELLED, comment, step), "reject")
    await lab_changes.reopen_item(connection, row, comment)
    return await _done(connection, actor, [result_id], follow)


async def hold(
    connection: Connection,
    actor: Actor,
    result_id: UUID,
    comment: str,
    version: int | None = None,
    *,
    follow: bool = True,
) -> ResultView:
    """Hold a result that is not released, for another person to look at; the comment says why. Raises ReviewError."""
    row, _ = await _begin(connection, actor, result_id, comment, ReviewStep.HOLD, version)
    _needed(comment, "holding a result")
    if HoldReason.PERSON in row.held:
        return await _seen_again(connection, actor, result_id, "hold")
    step = Step("hold", "hold", f"held by {actor.name}", inputs=_inputs(row, comment))
    held = (*sorted(row.held), HoldReason.PERSON)
    await _write(connection, actor, row, _Change(ResultStatus.REGISTERED, "", step, held), "hold")
    return await _done(connection, actor, [result_id], follow)


async def rerun(
    connection: Connection,
    actor: Actor,
    result_id: UUID,
    comment: str = "",
    version: int | None = None,
    *,
    dilution: Decimal | None = None,
) -> ResultView:
    """Ask for another run of the test on the specimen, diluted by a factor or not. What is not released is held for it.

    Raises ReviewError.
    """
    row, _ = await _begin(connection, actor, result_id, comment, ReviewStep.RERUN, version)
    kind = FollowUpKind.RERUN if dilution is None else FollowUpKind.DILUTION
    try:
        await follow_ups.request(connection, actor, row.id, kind, dilution=dilution, reason=comment)
    except follow_ups.FollowUpError as error:
        raise ReviewError(Refusal.CONFLICT, str(error)) from None
    return await _view(connection, result_id)


# ---- comments, corrections, retractions -----------------------------------------------------------------------------


async def comment(
    connection: Connection,
    actor: Actor,
    result_id: UUID,
    text: str = "",
    version: int | None = None,
    *,
    code: str = "",
) -> ResultView:
    """Put a comment on a result, in words or by its code (see `coded_comments`), as a new version.

    A final result is amended by it; a held one stays held, a change that waits goes on waiting. Raises ReviewError.
    """
    row, _ = await _begin(connection, actor, result_id, text, ReviewStep.COMMENT, version)
    if code and code not in coded_comments():
        raise ReviewError(Refusal.INVALID, f"there is no comment of the code {code}")
    said = " ".join(part for part in (coded_comments().get(code, ""), text.strip()) if part)
    _needed(said, "a comment")
    status = ResultStatus.AMENDED if row.status is ResultStatus.FINAL else row.status
    inputs = {"from_version": str(row.version), "comment": said} | ({"code": code} if code else {})
    step = Step("comment", "none", f"comment by {actor.name}", inputs=inputs)
    made = _Change(
        status, said, step, tuple(sorted(row.held)), source=row.version_id, keep_pending=row.pending,
        changes={"verified_by": row.verified_by},
    )  # fmt: skip
    number = await _write(connection, actor, row, made, "comment")
    if row.status in RELEASED:
        await lab_changes.owe(connection, actor.organization_id, row.id, number)
    return await _view(connection, result_id)


async def correct(
    connection: Connection,
    actor: Actor,
    result_id: UUID,
    new: NewValue,
    comment: str,
    version: int | None = None,
    accept_hold: bool = False,
    *,
    follow: bool = True,
) -> ResultView:
    """Put a person's value in the place of what was measured; the comment says why.

    It passes the same unit, rounding, interval, flags and critical limits. A released result is corrected at once;
    where two people verify, as a change that another accepts. One that is not released stays so, and loses the reasons
    to hold that were the value's. Raises ReviewError.
    """
    row, _ = await _begin(connection, actor, result_id, comment, ReviewStep.CORRECT, version)
    _needed(comment, "correcting a result")
    decision = await decided(connection, actor, row, new)
    if text := refused(reasons := frozenset(decision.holds)):
        raise ReviewError(Refusal.INVALID, text.replace("the result is held", "this value would be held"))
    said = f"corrected by {actor.name}: {shown(decision)}"
    inputs = {"from_version": str(row.version), "comment": comment, "typed": new.value, "unit": new.unit}
    step = Step("correct", "ok", said, inputs=inputs)
    changes = columns(decision, new)
    if row.status not in RELEASED:
        held = tuple(sorted((row.held - OF_THE_VALUE) | reasons))
        status = ResultStatus.REGISTERED if held else ResultStatus.PRELIMINARY
        made = _Change(status, comment, step, held, changes=changes, steps=decision.steps)
        await _write(connection, actor, row, made, "correct")
        if not held:
            await lab_changes.complete_item(connection, row)
        return await _done(connection, actor, [result_id], follow)
    if await rows.two_steps(connection, row.test_id):
        held = (*sorted(reasons), HoldReason.CHANGED_AFTER_RELEASE)
        made = _Change(ResultStatus.REGISTERED, comment, step, held, changes=changes, steps=decision.steps)
        await _propose(connection, actor, row, made, "correct")
        return await _view(connection, result_id)
    if reasons:
        _accept(reasons, comment, accept_hold)
    made = _Change(ResultStatus.CORRECTED, comment, step, changes=changes, steps=decision.steps)
    number = await _write(connection, actor, row, made, "correct")
    await lab_changes.owe(connection, actor.organization_id, row.id, number)
    return await _done(connection, actor, [result_id], follow)


async def retract(
    connection: Connection,
    actor: Actor,
    result_id: UUID,
    comment: str,
    version: int | None = None,
    *,
    follow: bool = True,
) -> ResultView:
    """Take back a released result: it was entered in error, which an EMR sees, without its value. The comment says why.

    A change that waits is rejected with it. Its order item is open again. Raises ReviewError.
    """
    row, place = await _begin(connection, actor, result_id, comment, ReviewStep.RETRACT, version)
    if (ReviewStep.RETRACT, place) in AGAIN:
        return await _seen_again(connection, actor, result_id, "retract")
    _needed(comment, "retracting a result")
    if row.pending:
        row = await _drop_change(connection, actor, row, comment)
    step = Step("retract", "none", f"retracted by {actor.name}", inputs=_inputs(row, comment))
    number = await _write(connection, actor, row, _Change(ResultStatus.ENTERED_IN_ERROR, comment, step), "retract")
    if not await rows.released_runs(connection, row.order_item_id, row.id):
        with suppress(IllegalStep):  # it was cancelled since: that is no reason to leave a wrong result standing
            await lab_changes.step_item(connection, row, ItemStatus.IN_PROGRESS, comment)
            await specimens.reject_on_unfit(connection, row.order_item_id, comment)
    await lab_changes.owe(connection, actor.organization_id, row.id, number)
    return await _done(connection, actor, [result_id], follow)


# ---- what all of them check -----------------------------------------------------------------------------------------


async def _begin(
    connection: Connection, actor: Actor, result_id: UUID, comment: str, step: ReviewStep, version: int | None
) -> tuple[ResultRow, Standing]:
    """Lock the result and make sure that this person may take this step with what they have seen."""
    if not may(actor, Permission.RESULT_RELEASE):
        raise ReviewError(
            Refusal.FORBIDDEN, f"only a user with the permission {Permission.RESULT_RELEASE} may decide about results"
        )
    _storable(comment)
    row = await lab_changes.lock_result(connection, result_id)
    if row is None:
        raise ReviewError(Refusal.NOT_FOUND, "there is no such result")
    place = standing(row.status, row.held, pending=row.pending, verified=row.verified_by is not None)
    again = (step, place) in AGAIN
    if (step, place) in REFUSED:
        raise ReviewError(Refusal.CONFLICT, REFUSED[step, place] or refused(row.held))
    # A person's own value is not the analyzer's; a change of the analyzer's that a first person has verified still is.
    corrected = step is ReviewStep.ACCEPT_CHANGE and row.candidate_author and row.candidate_verified_by is None
    if step in _RELEASING and not again and not corrected:
        if (reason := await qc_gate.against(connection, row.candidate_id)) is not None:
            raise ReviewError(Refusal.CONFLICT, refused({reason}))
    if step in _RELEASING and not again:
        await judged_for.require(connection, row, step, place)
    change = step in (ReviewStep.ACCEPT_CHANGE, ReviewStep.REJECT_CHANGE)
    # Whoever repeats a step has looked at the version it was made from.
    same_version(row.candidate_version if change else row.version, version, also=row.version - 1 if again else None)
    return row, place


def _storable(comment: str) -> None:
    if len(comment) > LONGEST_COMMENT:
        raise ReviewError(Refusal.INVALID, f"the comment is longer than {LONGEST_COMMENT} characters")
    if any(not letter.isprintable() and letter not in "\r\n\t" for letter in comment):
        raise ReviewError(Refusal.INVALID, "the comment contains a character that cannot be printed")


def _accept(reasons: frozenset[HoldReason], comment: str, accept_hold: bool) -> None:
    if text := refused(reasons):
        raise ReviewError(Refusal.CONFLICT, text)
    if not accept_hold:
        raise ReviewError(Refusal.CONFLICT, f"the result is held ({words(reasons)}); releasing it must accept this")
    if not comment.strip():
        raise ReviewError(Refusal.INVALID, f"accepting that a result is held ({words(reasons)}) needs a comment")


def _needed(comment: str, what: str) -> None:
    if not comment.strip():
        needs = "needs words, or a code" if what == "a comment" else "needs a comment that says why"
        raise ReviewError(Refusal.INVALID, f"{what} {needs}")


def _has_value(row: ResultRow) -> None:
    if row.test_id is None or row.candidate_kind in _NO_VALUE:
        raise ReviewError(Refusal.CONFLICT, "the result has no value of a known test; there is nothing to release")


def _although(held: frozenset[HoldReason]) -> str:
    """Which reasons were accepted, and what accepting each of them says."""
    if not held:
        return ""
    said = "; ".join(HOLDS[reason].words for reason in sorted(held))
    return f", although held ({words(held)}): {said}"


def _inputs(row: ResultRow, comment: str) -> dict[str, str]:
    inputs = {"from_version": str(row.candidate_version)}
    return inputs | ({"comment": comment} if comment else {})


# ---- writing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Change:
    """A version to be appended: a copy of the candidate (or `source`), in these points another."""

    status: ResultStatus
    comment: str
    step: Step
    held: tuple[HoldReason, ...] = ()
    source: UUID | None = None
    changes: Mapping[str, object] | None = None
    steps: tuple[Step, ...] = ()
    keep_pending: bool = False


async def _append(connection: Connection, actor: Actor, row: ResultRow, made: _Change) -> tuple[UUID, int]:
    return await lab_changes.copy_version(
        connection, actor, row, made.status, made.comment, made.step, made.held, source=made.source,
        changes=made.changes or {}, steps=made.steps,
    )  # fmt: skip


async def _write(connection: Connection, actor: Actor, row: ResultRow, made: _Change, action: str) -> int:
    """Append the version, point the result to it, and see to its critical task and its audit row; its number."""
    version_id, version = await _append(connection, actor, row, made)
    first = made.status in RELEASED and not row.released
    if not await lab_changes.point_to(
        connection, row, version_id, version, made.status, first, made.held, keep_pending=made.keep_pending
    ):
        raise ReviewError(Refusal.CONFLICT, "the result was changed by somebody else at the same time")
    await _judge(connection, actor, row, made, version_id)
    if HoldReason.RERUN in row.held - {*made.held} and made.status is not ResultStatus.CANCELLED:
        await follow_ups.end(connection, actor, row)
    from_version = row.version if made.source == row.version_id else row.candidate_version
    detail = {"version": str(version), "from_version": str(from_version)}
    if row.candidate_held:
        detail["held"] = words(row.candidate_held)
    await audit.record(connection, actor, action, "result", row.id, detail)
    return version


async def _propose(connection: Connection, actor: Actor, row: ResultRow, made: _Change, action: str) -> None:
    """Append the version as a change that waits."""
    version_id, version = await _append(connection, actor, row, made)
    await lab_changes.set_pending(connection, row.id, version_id)
    await _judge(connection, actor, row, made, version_id, pending=True)
    detail = {"version": str(version), "from_version": str(row.candidate_version), "waits": "for another person"}
    await audit.record(connection, actor, action, "result", row.id, detail)


async def _judge(
    connection: Connection, actor: Actor, row: ResultRow, made: _Change, version_id: UUID, *, pending: bool = False
) -> None:
    """What the version means for whoever must be told: nothing that was taken back is critical. A comment on what was
    released says nothing of the change that waits beside it."""
    if made.keep_pending:
        return
    flags = row.flags if made.source == row.version_id else row.candidate_flags
    if made.changes and "flags" in made.changes:
        given = made.changes["flags"]
        flags = frozenset(given) if isinstance(given, list) else flags
    gone = made.status in (ResultStatus.CANCELLED, ResultStatus.ENTERED_IN_ERROR)
    settled = not pending and (gone or made.status in RELEASED)
    judged = Judged(row.id, version_id, critical=not gone and bool(CRITICAL & flags), pending=pending, settled=settled)
    await criticals.open_for(connection, actor, [judged])


async def _verified(connection: Connection, row: ResultRow) -> None:
    try:
        await lab_changes.step_item(connection, row, ItemStatus.VERIFIED)
    except IllegalStep as error:  # it was cancelled or its specimen rejected
        raise ReviewError(Refusal.CONFLICT, f"nothing can be released: {error}") from None


async def _seen_again(connection: Connection, actor: Actor, result_id: UUID, action: str) -> ResultView:
    """What was decided before: nothing changes, but it is read."""
    await audit.record(connection, actor, "read", "result", result_id, {"by": action})
    return await _view(connection, result_id)


async def _done(connection: Connection, actor: Actor, result_ids: Sequence[UUID], follow: bool) -> ResultView:
    """The first of the results as it is now. `follow`: do what follows from them, such as calculating anew."""
    if follow:
        await consequences.follow(connection, actor, result_ids)
    return await _view(connection, result_ids[0])


async def _view(connection: Connection, result_id: UUID) -> ResultView:
    view = await lab.get_result(connection, result_id, Audience.STAFF)
    if view is None:
        raise ReviewError(Refusal.NOT_FOUND, "there is no such result")
    return view
