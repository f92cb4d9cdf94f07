"""The gate of quality control: what controls that were judged, and what persons did about them, mean for patients.

Whoever decides about patients' results asks `gate_of` first of all: it has the analyzers' locks until the transaction
ends. Whoever judges a control, documents an action or excludes a point has an analyzer's lock alone; then the stream is
gone through anew by `domain.qc_state`, and written with an event where its state is another. What follows for results
that are there already is done by `flow.qc_sweep` from what is written here, and cannot be lost.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

from interface.domain.facts import QcState
from interface.domain.judging import NoQc, QcGate
from interface.domain.model import HoldReason
from interface.domain.permissions import Permission
from interface.domain.qc import Evaluation, Point, Stream
from interface.domain.qc_gate import GateStream, JoinedGate, StreamGate
from interface.domain.qc_state import (
    BEGIN,
    Failure,
    Meanwhile,
    Measured,
    Plan,
    StreamState,
    What,
    fold,
    history_of,
    passed,
    remembered_since,
    unvouched,
    what,
    worst,
)
from interface.domain.views import Actor
from interface.errors import ApiError
from interface.flow.actors import require
from interface.flow.problems import text_problems
from interface.store import audit
from interface.store import qc as controls
from interface.store import qc_gate as rows
from interface.store import qc_lookback as lists
from interface.store.db import Connection
from interface.store.qc_gate import StreamRow, Token

CACHED = 512  # analyzers whose streams a process keeps
LONGEST_TEXT = 2000
CORRECTIVE = "corrective"
ACTIONS = (CORRECTIVE, "comment", "maintenance")  # that a person may document; what has consequences elsewhere is there
HOLDS = {QcState.FAIL: HoldReason.QC_FAILED, QcState.EXPIRED: HoldReason.QC_EXPIRED}
_NO_QC = NoQc()


# ---- for whoever decides ---------------------------------------------------------------------------------------------


class Gates:
    """The streams of analyzers as they were read, good as long as nobody has changed them. One per process."""

    def __init__(self) -> None:
        self._known: OrderedDict[UUID, tuple[Token, StreamGate]] = OrderedDict()

    async def of(self, connection: Connection, analyzer_ids: Collection[UUID]) -> QcGate:
        tokens = await rows.lock_deciding(connection, analyzer_ids)
        if not tokens:
            return _NO_QC
        stale = [one for one, token in tokens.items() if self._known.get(one, (None,))[0] != token]
        if stale:
            await self._read(connection, stale, tokens)
        gates = []
        for one in tokens:
            self._known.move_to_end(one)
            gates.append(self._known[one][1])
        while len(self._known) > max(CACHED, len(tokens)):
            self._known.popitem(last=False)
        return gates[0] if len(gates) == 1 else JoinedGate(tuple(gates))

    async def _read(self, connection: Connection, analyzer_ids: Sequence[UUID], tokens: dict[UUID, Token]) -> None:
        found: dict[UUID, dict[tuple[str, str], list[GateStream]]] = defaultdict(lambda: defaultdict(list))
        for row in await rows.streams_of(connection, analyzer_ids):
            stream = GateStream(row.stream.module, row.history, row.plan)
            found[row.stream.analyzer_id][row.analyzer, row.test].append(stream)
        for one in analyzer_ids:
            self._known[one] = tokens[one], StreamGate(dict(found[one]))


@lru_cache(maxsize=1)
def _gates() -> Gates:
    return Gates()


async def gate_of(connection: Connection, analyzer_ids: Collection[UUID]) -> QcGate:
    """What the controls of these analyzers say, which stays so until the caller's transaction ends.

    To be asked for before anything else is locked. One statement, and another where a control was judged since.
    """
    return await _gates().of(connection, analyzer_ids) if analyzer_ids else _NO_QC


async def against(connection: Connection, version_id: UUID) -> HoldReason | None:
    """What quality control has against the release of a version, by a person too: it may be so new that the result is
    not held for it yet. The caller has the result's locks."""
    of = await rows.of_version(connection, version_id)
    if of is None:
        return None
    gate = await gate_of(connection, [of.analyzer_id])
    return HOLDS.get(gate.state(of.analyzer, of.test, of.at, of.module, of.reagent_lot))


# ---- judging ---------------------------------------------------------------------------------------------------------


async def judge(connection: Connection, actor: Actor, stream: Stream, point: Point, evaluation: Evaluation) -> QcState:
    """Take into account a point that the caller's transaction has written; the stream's state now.

    What it means for patients' results follows when `flow.qc_sweep.sweep` is called after the commit, by whoever it is.
    """
    await rows.lock_judging(connection, actor.organization_id, stream.analyzer_id)
    broken = " ".join(one.rule for one in evaluation.violations)
    reason = f"{evaluation.verdict.value} {broken}".strip()
    return await _gone_through(connection, actor, stream, reason, point_id=UUID(point.id))


async def refresh(
    connection: Connection, actor: Actor, stream: Stream, reason: str, point_id: UUID | None = None
) -> QcState:
    """Go through a stream anew, because a point of it was excluded or restored, or its plan or targets are others.

    An excluded point vouches for nothing; one that was rejected holds all the same.
    """
    await rows.lock_judging(connection, actor.organization_id, stream.analyzer_id)
    return await _gone_through(connection, actor, stream, reason, point_id=point_id)


async def _gone_through(
    connection: Connection, actor: Actor, stream: Stream, reason: str, *,
    point_id: UUID | None = None, action_id: UUID | None = None,
) -> QcState:  # fmt: skip
    before = await rows.stream_row(connection, stream)
    plan = await rows.plan_of(connection, stream.analyzer_id, stream.test_id)
    points = await rows.points_of(connection, stream, plan, _since(before, plan), point_id)
    actions = await rows.actions_of(connection, stream, min(one.known_at for one in points)) if points else []
    made = fold(points, actions)
    history = history_of(made, plan, points)
    if before is not None:
        history = replace(history, alarm=before.alarm, alarm_since=before.alarm_since)
    state = made.now if history.alarm is None else worst((made.now, history.alarm))
    since = _brought_about(made, points)
    now = rows.Standing(state, since, made, history, plan.name, _reason(made, reason, points))
    await rows.write_stream(connection, actor.organization_id, stream, now)
    await _list(connection, actor, stream, before, made, points, point_id)
    if before is None or before.state is not state or _other(before, made):
        await rows.add_event(connection, actor, stream, state, since, now.reason, point_id, action_id)
        detail = {"state": state.value, "reason": now.reason, "module": stream.module}
        await audit.record(connection, actor, "qc_state", "qc_stream", stream.test_id, detail)
    return state


async def look_at_unvouched(
    connection: Connection, actor: Actor, stream: Stream, wrong: Sequence[UUID], reason: str
) -> None:
    """List what was released while nothing vouched but these points, oldest first, which count no more. That a later
    control is acceptable ends the list; what it says of so long a time before it is for a person to say (42 CFR
    493.1256(d)(3): each day). The caller has gone through the stream since."""
    await _look_at(connection, actor, stream, wrong[0], {str(id) for id in wrong}, reason)


async def look_no_more(connection: Connection, actor: Actor, stream: Stream, again: UUID, reason: str) -> None:
    """Controls count again, `again` and later ones: lists of what such had vouched for, and that go on after it, cover
    what nothing vouches for now. It says nothing of those before it, which a person has looked at."""
    known = await lists.of_unvouched(connection, stream, again)
    found = await _look_at(connection, actor, stream, known[0], None, reason) if known else set()
    for id in known:
        if id not in found:
            await lists.cover_nothing(connection, id)


async def _look_at(
    connection: Connection, actor: Actor, stream: Stream, since: UUID, wrong: set[str] | None, reason: str
) -> set[UUID]:
    """`wrong` None: all that count no more since the point `since`. The points by which the lists begin."""
    plan = await rows.plan_of(connection, stream.analyzer_id, stream.test_id)
    points = await rows.points_of(connection, stream, plan, None, since)
    actions = await rows.actions_of(connection, stream, min(one.known_at for one in points))
    if wrong is None:
        begin = next(one.at for one in points if one.id == str(since))
        wrong = {one.id for one in points if (one.excluded or one.expired) and one.at >= begin and passed(one)}
    points = [replace(one, excluded=True) if one.expired or one.id in wrong else one for one in points]
    found, now = unvouched(points, actions, plan, wrong), datetime.now(UTC)
    for one in found:
        if one.since < now:
            await lists.begin(
                connection, actor.organization_id, stream, UUID(one.point), "", one.since, one.until, reason
            )
    return {UUID(one.point) for one in found}


def _since(before: StreamRow | None, plan: Plan) -> datetime | None:
    """From when on points are needed whatever their number: neither a failure must be forgotten while something that
    was measured in it may come, nor the run that vouches, all of it, while it does."""
    if before is None:
        return None
    needed = [remembered_since(before.history.spans, datetime.now(UTC))]
    if before.failed_id is not None or not _expired(before):
        needed.append(before.last_ok_at or BEGIN)
    since = min((at for at in needed if at is not None), default=None)
    return since if since is None or since == BEGIN else since - timedelta(minutes=plan.run_minutes)


def _expired(before: StreamRow) -> bool:
    """Whether nothing vouches any more."""
    return before.last_ok_at is None or (before.expires_at is not None and before.expires_at <= datetime.now(UTC))


def _brought_about(made: StreamState, points: Sequence[Measured]) -> datetime:
    if made.failure is not None:
        return next(one.at for one in points if one.id == made.failure.last)
    if made.spans:
        return max(made.spans[-1].begin, points[0].at)
    return points[-1].at if points else datetime.now(UTC)


def _reason(made: StreamState, reason: str, points: Sequence[Measured]) -> str:
    if made.failure is None:
        return reason
    wanted = []
    if made.failure.good_at is None:
        names = {one.lot: one.name for one in points}
        left = (f"level {level} ({names[lot]})" for level, lot in sorted(made.failure.left))
        wanted.append(f"an acceptable control of {', '.join(left)}")
    if made.failure.action is None:
        wanted.append("a documented corrective action")
    return f"{reason}; wanted: {' and '.join(wanted)}"


def _other(before: StreamRow, made: StreamState) -> bool:
    failed = made.failure.last if made.failure else ""
    return failed != str(before.failed_id or "") or before.action_due is not (
        made.failure is not None and made.failure.action is None
    )


async def _list(
    connection: Connection, actor: Actor, stream: Stream, before: StreamRow | None, made: StreamState,
    points: Sequence[Measured], point_id: UUID | None,
) -> None:  # fmt: skip
    """The list of results to be looked at begins with the failure; which they are is looked up by the sweep."""
    if (failure := made.failure) is not None:
        lots, first = _lots_that_failed(failure, points), UUID(failure.first)
        anew = before is None or before.failed_id is None
        ended = await lists.until(connection, stream, first)
        await lists.begin(
            connection, actor.organization_id, stream, first, _the_one(lots), _suspect_since(failure, lots, points),
            failure.good_at, anew=anew,
        )  # fmt: skip
        await _ask_again(connection, actor, stream, failure, points, point_id, whole=anew or ended is not None)
    elif made.ok_at is not None and (made.ok_until is None or made.ok_at < made.ok_until):
        await lists.bound_unvouched(connection, stream, made.ok_at)
    for one in _ended_otherwise(before, made, points, point_id):
        assert one.good_at is not None  # noqa: S101 - it ended
        lots = _lots_that_failed(one, points)
        since = _suspect_since(one, lots, points)
        # A run that vouched may stand before the points that were read: that nothing did is known of all of them only.
        unknown = since is None and await rows.older(connection, stream, points[0].at)
        await lists.bound(
            connection, stream, UUID(one.first), one.first_at, _the_one(lots), since, one.good_at, unknown=unknown
        )  # fmt: skip


def _ended_otherwise(
    before: StreamRow | None, made: StreamState, points: Sequence[Measured], point_id: UUID | None
) -> list[Failure]:
    """Failures of whose end something else is known than before: one that is made good just now; those that ended after
    a point that came late, or counts no more; the last where the plan, or what is wanted, is another."""
    changed = next((one.at for one in points if one.id == str(point_id)), None)
    failed = str(before.failed_id) if before is not None else ""
    return [
        one
        for one in made.ended
        if one.last == failed or (point_id is None and one is made.ended[-1])
        or (one.good_at is not None and changed is not None and one.good_at >= changed)
    ]  # fmt: skip


async def _ask_again(
    connection: Connection, actor: Actor, stream: Stream, failure: Failure, points: Sequence[Measured],
    point_id: UUID | None, *, whole: bool,
) -> None:  # fmt: skip
    """A control that failed says something of what a person has let stand before they knew of it: of all of the list
    where the failure had been made good (`whole`), and where its lot had not failed; else of what was measured since
    it last did. That it fails once more says nothing new of what was measured before."""
    new = next((one for one in points if one.id == str(point_id)), None)
    if new is None or what(new) is not What.REJECTED or new.at < failure.first_at:
        return
    known = (one.at for one in points if one.id != new.id and one.control == new.control
             and what(one) is What.REJECTED and failure.first_at <= one.at <= new.at)  # fmt: skip
    since = None if whole else max(known, default=None)
    for result_id in await lists.ask_again(connection, stream, UUID(failure.first), since):
        await audit.record(connection, actor, "qc_ask_again", "result", result_id, {"point": new.id})


def _lots_that_failed(failure: Failure, points: Sequence[Measured]) -> frozenset[str]:
    """The reagent lots with which a control was rejected until it was made good; "" of those that say none."""
    return frozenset(
        one.reagent_lot
        for one in points
        if what(one) is What.REJECTED and failure.first_at <= one.at
        and (failure.good_at is None or one.at < failure.good_at)
    )  # fmt: skip


def _the_one(lots: Collection[str]) -> str:
    """Of several, any: what was measured with each of them is looked at."""
    return next(iter(lots)) if len(lots) == 1 else ""


def _suspect_since(failure: Failure, lots: Collection[str], points: Sequence[Measured]) -> datetime | None:
    """Of a reagent lot that failed nothing may have been good for longer than of the stream."""
    since = failure.since
    if since is None:
        return None
    for lot in lots:
        of_lot = (one.at for one in points if one.at < failure.first_at and what(one) is What.ACCEPTABLE
                  and one.reagent_lot in ("", lot))  # fmt: skip
        since = min(since, max(of_lot, default=since)) if lot else since
    return since


# ---- what persons do -------------------------------------------------------------------------------------------------


async def act(
    connection: Connection,
    actor: Actor,
    stream: Stream,
    kind: str,
    text: str,
    *,
    meanwhile: Meanwhile | None = None,
    point_id: UUID | None = None,
) -> tuple[UUID, QcState]:
    """Document what was done about a stream: the action's id, and the stream's state.

    A corrective action about a failure says what is to become of what was measured `meanwhile`: without that, results
    that a bad analyzer measured would be released because it measures rightly now. `point_id`: the control that it is
    about; of a failure the last that failed, as the person knows. Needs `qc:write`. Raises ApiError.
    """
    require(actor, Permission.QC_WRITE)
    _checked(kind, text)
    if kind != CORRECTIVE and meanwhile is not None:
        raise ApiError(422, "value", "what becomes of results is said by a corrective action")
    await rows.lock_judging(connection, actor.organization_id, stream.analyzer_id)
    before = await rows.stream_row(connection, stream)
    failed_id = before.failed_id if before is not None and kind == CORRECTIVE else None
    if failed_id is not None and meanwhile is None:
        text = "say what is to become of the results that were measured meanwhile: stands, or again"
        raise ApiError(422, "value", text)
    if failed_id is None and meanwhile is not None:
        raise ApiError(409, "conflict", "no control has failed there, or it was made good: is it of another module?")
    await _meant(connection, stream, failed_id, point_id)
    about = failed_id or point_id
    action_id = await rows.add_action(
        connection, actor, stream, kind, text.strip(), meanwhile.value if failed_id and meanwhile else "", about
    )
    detail = {"kind": kind, "meanwhile": meanwhile.value if failed_id and meanwhile else "", "module": stream.module}
    await audit.record(connection, actor, "qc_action", "qc_action", action_id, detail)
    if failed_id is None:
        return action_id, before.state if before is not None else QcState.UNKNOWN
    state = await _gone_through(connection, actor, stream, f"{kind} action by {actor.name}", action_id=action_id)
    return action_id, state


async def _meant(connection: Connection, stream: Stream, failed_id: UUID | None, point_id: UUID | None) -> None:
    """Raise ApiError where the control that is named is none of the stream, or another has failed since: what was done
    about the one says nothing of the other, nor of what was measured between them."""
    if point_id is None:
        return
    of = None
    with suppress(LookupError):
        of = await controls.stream_of(connection, point_id)
    if of != stream:
        raise ApiError(404, "not-found", "the analyzer and test have no control of this id")
    if failed_id not in (None, point_id):
        raise ApiError(409, "conflict", f"another control has failed since: look at {failed_id}, and say it of that")


def _checked(kind: str, text: str) -> None:
    if kind not in ACTIONS:
        raise ApiError(422, "value", f"an action is one of {', '.join(ACTIONS)}")
    if not text.strip():
        raise ApiError(422, "value", "this needs words: what was found, and what was done")
    for problem in text_problems("text", text, LONGEST_TEXT, lines=True):
        raise ApiError(422, "value", problem)


# ---- what the patients' own results say ------------------------------------------------------------------------------


async def patient_alarm(
    connection: Connection, actor: Actor, stream: Stream, state: QcState, since: datetime, reason: str
) -> None:
    """The patients' own results say that a stream is out of control (`state` WARN or FAIL) since a measured time.

    The caller has the analyzer's lock alone. Module "" means every module. It ends by `patient_alarm_ended` and by
    nothing else.
    """
    await _alarm(connection, actor, stream, state, since, reason)


async def patient_alarm_ended(connection: Connection, actor: Actor, stream: Stream, reason: str) -> None:
    """A person has closed the alarm: the stream is what its controls say."""
    await _alarm(connection, actor, stream, None, None, reason)


async def _alarm(
    connection: Connection, actor: Actor, stream: Stream, state: QcState | None, since: datetime | None, reason: str
) -> None:
    await rows.lock_judging(connection, actor.organization_id, stream.analyzer_id)
    await rows.set_alarm(connection, actor.organization_id, stream, state, since, reason)
    if state is QcState.FAIL:
        await lists.begin(connection, actor.organization_id, stream, None, "", since, None, reason)
    elif state is None:
        await lists.bound_alarm(connection, stream, datetime.now(UTC))
    await _gone_through(connection, actor, stream, reason)
