"""A person's decisions about results: release, accept or reject a change, discard. API and CLI share them.

Every decision appends a version of the result with its explanation, and happens in the caller's transaction together
with the order item, the audit row and what an EMR is owed. Only a user with the permission `result:release` decides.

    preliminary, not held                        release        → final
    held for a reason in ACCEPTABLE              release, accept_hold and a comment → final
    released, with a change that waits           accept_change  → corrected
    released, with a change that waits           reject_change  → the released version stays
    held, never released                         discard        → cancelled
"""

from __future__ import annotations

from uuid import UUID

from interface.domain.model import RELEASED, HoldReason, ItemStatus, ResultStatus, Step, ValueKind
from interface.domain.permissions import Permission
from interface.domain.review import Refusal, ReviewError
from interface.domain.views import Actor, Audience, ResultView
from interface.errors import IllegalStep
from interface.flow.actors import may
from interface.store import audit, lab, lab_changes
from interface.store.db import Connection
from interface.store.lab_changes import ResultRow

LONGEST_COMMENT = 4000  # characters

# What a person may accept by looking at the value: it was measured, and it is known for whom and what. The others say
# that one of these is not known: accepting them would be guessing. Mend the cause and replay the message instead.
ACCEPTABLE = frozenset({HoldReason.INCOMPLETE_TRANSMISSION, HoldReason.QUESTIONABLE, HoldReason.UNKNOWN_FLAG})

_NO_VALUE = frozenset({ValueKind.EMPTY, ValueKind.FAILED})


async def release(
    connection: Connection,
    actor: Actor,
    result_id: UUID,
    comment: str = "",
    version: int | None = None,
    accept_hold: bool = False,
) -> ResultView:
    """Make a preliminary result final. `version`: the one the person looked at; `comment` becomes part of its note.

    A result that is released already is returned as it is (its version does not change). `accept_hold`: also when it
    is held, for reasons in ACCEPTABLE only and with a comment. Raises ReviewError.
    """
    row = await _locked(connection, actor, result_id, comment)
    if row.status in RELEASED:
        # Whoever repeats a release has looked at the version it was made from.
        _same_version(row.version, version, also=row.version - 1)
        return await _seen_again(connection, actor, result_id, "release")
    _same_version(row.version, version)
    if row.held:
        _accept(row.held, comment, accept_hold)
    elif row.status is not ResultStatus.PRELIMINARY:
        raise ReviewError(
            Refusal.CONFLICT, f"the result is {row.status}; only a result that is preliminary can be released"
        )
    text = f"released by {actor.name}" + (f", although held ({_words(row.held)})" if row.held else "")
    return await _decide(connection, actor, row, ResultStatus.FINAL, comment, "release", text)


async def accept_change(
    connection: Connection,
    actor: Actor,
    result_id: UUID,
    comment: str = "",
    version: int | None = None,
    accept_hold: bool = False,
) -> ResultView:
    """Put the change that waits in the place of the released version: the result is then corrected.

    `version` is the number of the change the person looked at. Raises ReviewError.
    """
    row = await _changed(connection, actor, result_id, comment, version)
    if reasons := row.candidate_held - {HoldReason.CHANGED_AFTER_RELEASE}:
        _accept(reasons, comment, accept_hold)
    text = f"change accepted by {actor.name}"
    return await _decide(connection, actor, row, ResultStatus.CORRECTED, comment, "accept_change", text)


async def reject_change(
    connection: Connection, actor: Actor, result_id: UUID, comment: str = "", version: int | None = None
) -> ResultView:
    """Leave the released version as it is; the change is kept as a cancelled version that was never current.

    `version` is the number of the change the person looked at. Raises ReviewError.
    """
    row = await _changed(connection, actor, result_id, comment, version)
    step = Step("release", "none", f"change rejected by {actor.name}", inputs=_inputs(row, comment))
    _, number = await lab_changes.copy_version(connection, actor, row, ResultStatus.CANCELLED, comment, step)
    await lab_changes.drop_pending(connection, result_id)
    detail = {"change": str(row.candidate_version), "version": str(number)}
    await audit.record(connection, actor, "reject_change", "result", result_id, detail)
    return await _view(connection, result_id)


async def discard(
    connection: Connection, actor: Actor, result_id: UUID, comment: str, version: int | None = None
) -> ResultView:
    """Cancel a held result that was never released; the comment says why. Raises ReviewError."""
    row = await _locked(connection, actor, result_id, comment)
    if row.released:
        raise ReviewError(Refusal.CONFLICT, "the result was released; it cannot be discarded")
    if row.status is ResultStatus.CANCELLED:
        _same_version(row.version, version, also=row.version - 1)
        return await _seen_again(connection, actor, result_id, "discard")
    _same_version(row.version, version)
    if not row.held:
        raise ReviewError(Refusal.CONFLICT, "the result is not held; only a held result can be discarded")
    if not comment.strip():
        raise ReviewError(Refusal.INVALID, "discarding a result needs a comment that says why")
    text = f"discarded by {actor.name}"
    return await _decide(connection, actor, row, ResultStatus.CANCELLED, comment, "discard", text)


# ---- what all of them check -----------------------------------------------------------------------------------------


async def _locked(connection: Connection, actor: Actor, result_id: UUID, comment: str) -> ResultRow:
    if not may(actor, Permission.RESULT_RELEASE):
        raise ReviewError(
            Refusal.FORBIDDEN, f"only a user with the permission {Permission.RESULT_RELEASE} may decide about results"
        )
    if len(comment) > LONGEST_COMMENT:
        raise ReviewError(Refusal.INVALID, f"the comment is longer than {LONGEST_COMMENT} characters")
    if any(not letter.isprintable() and letter not in "\r\n\t" for letter in comment):
        raise ReviewError(Refusal.INVALID, "the comment contains a character that cannot be printed")
    row = await lab_changes.lock_result(connection, result_id)
    if row is None:
        raise ReviewError(Refusal.NOT_FOUND, "there is no such result")
    return row


async def _changed(
    connection: Connection, actor: Actor, result_id: UUID, comment: str, version: int | None
) -> ResultRow:
    row = await _locked(connection, actor, result_id, comment)
    if not row.pending:
        raise ReviewError(Refusal.CONFLICT, "no change to this result waits for a decision")
    _same_version(row.candidate_version, version)
    return row


def _same_version(now: int, seen: int | None, also: int | None = None) -> None:
    if seen not in (None, now, also):
        raise ReviewError(
            Refusal.CONFLICT, f"the result has changed: version {seen} was looked at, it is now version {now}"
        )


def _accept(reasons: frozenset[HoldReason], comment: str, accept_hold: bool) -> None:
    if refused := reasons - ACCEPTABLE:
        text = f"the result is held ({_words(refused)}), which nobody can accept: mend the cause and replay the message"
        raise ReviewError(Refusal.CONFLICT, text)
    if not accept_hold:
        raise ReviewError(Refusal.CONFLICT, f"the result is held ({_words(reasons)}); releasing it must accept this")
    if not comment.strip():
        raise ReviewError(Refusal.INVALID, f"accepting that a result is held ({_words(reasons)}) needs a comment")


def _words(reasons: frozenset[HoldReason]) -> str:
    return ", ".join(sorted(reasons))


def _inputs(row: ResultRow, comment: str) -> dict[str, str]:
    inputs = {"from_version": str(row.candidate_version)}
    return inputs | ({"comment": comment} if comment else {})


async def _decide(
    connection: Connection, actor: Actor, row: ResultRow, status: ResultStatus, comment: str, action: str, text: str
) -> ResultView:
    """Append the version, point the result to it, and write down what follows from it."""
    released = status in RELEASED
    if released and (row.test_id is None or row.candidate_kind in _NO_VALUE):
        raise ReviewError(Refusal.CONFLICT, "the result has no value of a known test; there is nothing to release")
    step = Step("release", "ok" if released else "none", text, inputs=_inputs(row, comment))
    version_id, version = await lab_changes.copy_version(connection, actor, row, status, comment, step)
    first = released and not row.released
    if not await lab_changes.point_to(connection, row, version_id, version, status, first):
        raise ReviewError(Refusal.CONFLICT, "the result was changed by somebody else at the same time")
    if released:
        await _verified(connection, row)
        await lab_changes.owe(connection, actor.organization_id, row.id, version)
    else:
        await lab_changes.reopen_item(connection, row, comment)
    detail = {"version": str(version), "from_version": str(row.candidate_version)}
    if row.candidate_held:
        detail["held"] = _words(row.candidate_held)
    await audit.record(connection, actor, action, "result", row.id, detail)
    return await _view(connection, row.id)


async def _verified(connection: Connection, row: ResultRow) -> None:
    try:
        await lab_changes.step_item(connection, row, ItemStatus.VERIFIED)
    except IllegalStep as error:  # it was cancelled or its specimen rejected
        raise ReviewError(Refusal.CONFLICT, f"nothing can be released: {error}") from None


async def _seen_again(connection: Connection, actor: Actor, result_id: UUID, action: str) -> ResultView:
    """What was decided before: nothing changes, but it is read."""
    await audit.record(connection, actor, "read", "result", result_id, {"by": action})
    return await _view(connection, result_id)


async def _view(connection: Connection, result_id: UUID) -> ResultView:
    view = await lab.get_result(connection, result_id, Audience.STAFF)
    if view is None:
        raise ReviewError(Refusal.NOT_FOUND, "there is no such result")
    return view
