"""Critical results: the task to tell somebody, and what was done about it. API and CLI share it.

A task is opened in the transaction that writes the critical version, released or not, so that neither is there without
the other; who corrects, rejects or retracts a result changes its task in the same transaction. Who was reached, when,
by what means and whether it was read back is what a task cannot be closed without. What a task says to whom is in
`domain.critical`; whatever is done appends an event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from interface.domain.critical import Action, Kind, Means, Obstacle, State, plan
from interface.domain.permissions import Permission
from interface.domain.review import Refusal, ReviewError
from interface.domain.values import signed
from interface.domain.views import Actor
from interface.flow.actors import may
from interface.store import audit, lab_changes
from interface.store import criticals as store
from interface.store.criticals import CriticalView, Event, EventView, Judged, Moved
from interface.store.db import Connection

LONGEST_TEXT = 400  # characters of whom was told, and of a comment
CLOCK_SLACK = timedelta(minutes=1)  # people write down minutes, and their clocks are not ours


@dataclass(frozen=True, slots=True)
class Told:
    """Who was told, as a person in the laboratory says it: a practitioner, or words such as "ward 3, nurse on duty".

    `at` None: now.
    """

    person: str = ""
    practitioner_id: UUID | None = None
    at: datetime | None = None
    means: Means = Means.PHONE
    read_back: bool = False


# ---- what a version of a result does --------------------------------------------------------------------------------


async def open_for(connection: Connection, actor: Actor, judged: Sequence[Judged]) -> None:
    """Open, aim or take back the tasks of the versions that this transaction has written.

    Does nothing, and asks nothing, where no version is critical or follows another of its result. The caller has
    locked what its versions are of (specimens, patients, results), and writes or keeps both in one transaction. For
    the same version again it does nothing.
    """
    # What waits beside a released version has not happened yet: it can only make a task, not take one back.
    concerned = [one for one in judged if one.critical or not (one.fresh or one.pending)]
    if not concerned:
        return
    if again := [one.result_id for one in concerned if not one.fresh]:
        for chain in await store.moved(connection, again):
            await _move(connection, actor, chain)
    subjects = await store.subjects(connection, [one.result_id for one in concerned])
    first: dict[UUID, Judged] = {}
    later: list[tuple[UUID, Judged]] = []
    for one in concerned:
        subject_id, chained = subjects[one.result_id]
        if chained or subject_id in first:
            later.append((subject_id, one))
        elif one.critical:
            first[subject_id] = one
    if first:
        await store.insert(connection, actor, [(one, _kind(one), None) for one in first.values()])
    for subject_id, one in later:
        await _follow(connection, actor, subject_id, one)


def _kind(judged: Judged) -> Kind:
    return Kind.CRITICAL if judged.critical else Kind.NO_LONGER


async def _follow(connection: Connection, actor: Actor, subject_id: UUID, judged: Judged) -> None:
    """One version of a subject that has tasks already."""
    at = await store.standing(connection, subject_id, judged)
    now = at.now
    if judged.settled and at.other is not None and at.other_version_id is not None:
        # What this one says is over; what another run says stands, and is what is to be told.
        now = at.other
        judged = Judged(now.result_id, at.other_version_id, critical=True)
    action = plan(now, at.told, at.live, at.seen, settled=judged.settled)
    kind = _kind(judged)
    if action is Action.OPEN:
        await store.insert(connection, actor, [(judged, kind, at.told_id)], subject_id)
    elif action in (Action.AIM, Action.WITHDRAW) and at.live_id is not None and at.live_version_id is not None:
        if action is Action.AIM:
            await store.aim(connection, at.live_id, judged.result_id, judged.version_id, kind)
            event = Event("aimed", kind, judged.version_id)
        else:
            event = Event("withdrawn", kind, judged.version_id, comment="it is not so any more, and nobody has seen it")
            await store.set_state(connection, at.live_id, State.WITHDRAWN, event)
        await store.append(connection, actor, at.live_id, event)
        detail = {"result": str(judged.result_id), "kind": kind.value}
        await audit.record(connection, actor, f"critical.{action.value}", "critical", at.live_id, detail)


async def _move(connection: Connection, actor: Actor, chain: Moved) -> None:
    """A result that answers another order item than before, or one at last, takes its tasks along: of one item there is
    one to be told. As another test it is critical no more."""
    if not chain.same:
        if chain.stands:
            over = Judged(chain.result_id, chain.version_id, critical=False)
            await _follow(connection, actor, chain.subject_id, over)
        return
    if (spare := await store.spare(connection, chain)) is not None:
        task_id, event = spare
        await store.set_state(connection, task_id, State.WITHDRAWN, event)
        await store.append(connection, actor, task_id, event)
        detail = {"result": str(chain.result_id), "kind": event.kind.value}
        await audit.record(connection, actor, "critical.withdraw", "critical", task_id, detail)
    await store.move(connection, chain)


# ---- what people do -------------------------------------------------------------------------------------------------


async def attempt(
    connection: Connection,
    actor: Actor,
    task_id: UUID,
    obstacle: Obstacle,
    *,
    person: str = "",
    means: Means = Means.PHONE,
    at: datetime | None = None,
    comment: str = "",
    version: int | None = None,
) -> CriticalView:
    """Somebody was called and not reached. The timer goes on. Raises ReviewError."""
    task = await _locked(connection, actor, task_id, version, person, comment)
    _still_to_tell(task)
    when = _when(task, at)
    event = Event(
        "attempted", task.kind, task.result_version_id, when, person, means=means, outcome=obstacle, comment=comment
    )
    state = State.NOTIFIED if task.state is State.NOTIFIED else State.ATTEMPTED
    return await _done(connection, actor, task, state, event)


async def notify(
    connection: Connection, actor: Actor, task_id: UUID, told: Told, *, comment: str = "", version: int | None = None
) -> CriticalView:
    """Somebody was told: whom, when, by what means, and whether it was read back. What has changed since the task was
    opened is told by its `version`. Raises ReviewError.

    Told without being read back, it stays overdue as it was, and is told again.
    """
    task = await _locked(connection, actor, task_id, version, told.person, comment)
    _still_to_tell(task)
    if version is None and task.aimed_at != task.opened_at:  # perhaps during the call, which was about another value
        value = f"{signed(task.comparator, task.value)} {task.unit}".strip()
        says = f"{value}{'' if task.kind is Kind.CRITICAL else ', which is not critical'}"
        text = (
            f"what is to be told has changed at {task.aimed_at:%Y-%m-%d %H:%M} UTC: version {task.version} says {says}"
        )
        raise ReviewError(Refusal.CONFLICT, f"{text}; name the version if that was told")
    person = told.person.strip()
    if told.practitioner_id is not None:
        name = await store.practitioner_name(connection, told.practitioner_id)
        if name is None:
            raise ReviewError(Refusal.INVALID, "there is no practitioner of this id")
        person = person or name or str(told.practitioner_id)
    if not person:
        raise ReviewError(Refusal.INVALID, "say who was told: a practitioner, or a name and role in words")
    event = Event(
        "notified", task.kind, task.result_version_id, _when(task, told.at), person, told.practitioner_id, told.means,
        read_back=told.read_back, comment=comment,
    )  # fmt: skip
    return await _done(connection, actor, task, State.NOTIFIED, event)


async def close(
    connection: Connection, actor: Actor, task_id: UUID, *, comment: str = "", version: int | None = None
) -> CriticalView:
    """Finish a task that was told and read back; one that is closed already stays as it is. Raises ReviewError."""
    task = await _locked(connection, actor, task_id, version, "", comment)
    if task.state is State.CLOSED:
        return task
    if task.state is not State.NOTIFIED or not task.notified or task.notified_at is None:
        raise ReviewError(Refusal.CONFLICT, f"the task is {task.state}; it is closed once somebody was told")
    if not task.read_back:
        text = "it was not read back; tell it again, and close the task when it was"
        raise ReviewError(Refusal.CONFLICT, text)
    event = Event("closed", task.kind, task.result_version_id, comment=comment)
    return await _done(connection, actor, task, State.CLOSED, event)


async def withdraw(
    connection: Connection, actor: Actor, task_id: UUID, *, comment: str, version: int | None = None
) -> CriticalView:
    """End a task that has nothing to tell: the result was taken back before anybody was told of it, or saw it released.

    The comment says why. What was told, or was ever released, is told that it is not so: it cannot be withdrawn. Raises
    ReviewError.
    """
    task = await _locked(connection, actor, task_id, version, "", comment)
    _still_to_tell(task)
    if not comment.strip():
        raise ReviewError(Refusal.INVALID, "withdrawing a task needs a comment that says why")
    if task.kind is not Kind.NO_LONGER:
        raise ReviewError(Refusal.CONFLICT, "the result is critical: somebody must be told; or reject the result first")
    if await store.was_told_or_released(connection, task.id):
        text = "the result was told as critical, or released: somebody must be told that it is not so"
        raise ReviewError(Refusal.CONFLICT, text)
    event = Event("withdrawn", task.kind, task.result_version_id, comment=comment)
    return await _done(connection, actor, task, State.WITHDRAWN, event)


async def _locked(
    connection: Connection, actor: Actor, task_id: UUID, version: int | None, person: str, comment: str
) -> CriticalView:
    """Check who asks, then lock in the one order: specimen, patient, result, task."""
    if not may(actor, Permission.CRITICAL_WRITE):
        text = f"only a user with the permission {Permission.CRITICAL_WRITE} may say who was told of a critical result"
        raise ReviewError(Refusal.FORBIDDEN, text)
    for text in (person, comment):
        if len(text) > LONGEST_TEXT:
            raise ReviewError(Refusal.INVALID, f"a text is longer than {LONGEST_TEXT} characters")
        if any(not letter.isprintable() for letter in text):
            raise ReviewError(Refusal.INVALID, "a text contains a character that cannot be printed")
    result_id = await store.result_of(connection, task_id)
    if result_id is not None:
        await lab_changes.lock_result(connection, result_id)
    task = await store.lock(connection, task_id)
    if task is None:
        raise ReviewError(Refusal.NOT_FOUND, "there is no such critical task")
    if version not in (None, task.version):
        text = f"the task has changed: version {version} was looked at, it is now version {task.version}"
        raise ReviewError(Refusal.CONFLICT, text)
    return task


def _still_to_tell(task: CriticalView) -> None:
    if task.state in (State.CLOSED, State.WITHDRAWN):
        raise ReviewError(Refusal.CONFLICT, f"the task is {task.state}; there is nothing more to tell")
    if task.read_back:
        raise ReviewError(Refusal.CONFLICT, "it was told and read back already; close the task")


def _when(task: CriticalView, at: datetime | None) -> datetime:
    """When the call was: not in the future, and not before there was something to tell; if that is to come, it is of a
    clock that has been put back since."""
    now = datetime.now(UTC)
    if at is None:
        return now
    if at > now + CLOCK_SLACK:
        raise ReviewError(Refusal.INVALID, "the time of the call is in the future")
    if at < task.aimed_at - CLOCK_SLACK and task.aimed_at <= now + CLOCK_SLACK:
        text = f"the call was before {task.aimed_at:%Y-%m-%d %H:%M} UTC, when this became what is to be told"
        raise ReviewError(Refusal.INVALID, text)
    return at


async def _done(connection: Connection, actor: Actor, task: CriticalView, state: State, event: Event) -> CriticalView:
    await store.set_state(connection, task.id, state, event)
    await store.append(connection, actor, task.id, event)
    detail = {"result": str(task.result_id), "state": state.value}
    await audit.record(connection, actor, f"critical.{event.what}", "critical", task.id, detail)
    return (await store.find(connection, ids=(task.id,)))[0]


# ---- reads ----------------------------------------------------------------------------------------------------------


async def waiting(connection: Connection, *, overdue: bool = False, limit: int = 500) -> list[CriticalView]:
    """What is not finished, see `store.criticals.find`. `overdue`: past its time and not read back."""
    unfinished = (State.OPEN, State.ATTEMPTED, State.NOTIFIED)
    return await store.find(connection, states=unfinished, overdue=overdue, limit=limit)


async def show(connection: Connection, task_id: UUID) -> tuple[CriticalView, list[EventView]]:
    """A task and everything that was done about it. Raises ReviewError."""
    found = await store.find(connection, ids=(task_id,))
    if not found:
        raise ReviewError(Refusal.NOT_FOUND, "there is no such critical task")
    return found[0], await store.history(connection, task_id)
