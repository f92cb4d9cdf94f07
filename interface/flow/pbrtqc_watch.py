"""What follows the patients' results as they are decided: counts them for the plans in use and raises their alarms.

Beside the deciding, never in its way: it reads what was committed. The order is that of the versions' ids, which is
that of deciding; a result is looked at `SETTLE_S` after it was decided, so that what a slower transaction decided a
moment before comes first. One that took longer still is found when the last minutes are read again, and counted then,
late but once: that a version is counted once for a use, the database sees to. Counting, alarm and cursor are one
transaction, so a process that dies in the middle of it has counted nothing, and two processes never count at the same
time for one use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from interface import telemetry
from interface.domain.pbrtqc import Follower, Mode, Side, beyond, treated
from interface.domain.pbrtqc_plan import Plan
from interface.domain.views import Actor, ActorKind
from interface.errors import StoreError
from interface.flow import qc_sweep
from interface.flow.pbrtqc import GATING, PbrtqcError, plan_of, seconds, tell_gate, why_void
from interface.store import audit
from interface.store import pbrtqc as store
from interface.store.db import Connection, Database
from interface.store.ids import instant_of, of_int, uuid7, uuid7_floor
from interface.store.pbrtqc import Candidate, Counted, Event, Revision, State
from interface.store.routes import AHEAD

FOLLOW_S: Final = 5.0
SETTLE_S: Final = 5.0
BATCH: Final = 2000  # versions a transaction: some milliseconds of the event loop
SLICE_S: Final = 600.0  # of deciding a transaction: what a planner that knows nothing yet may have to sort
AGAIN_EVERY: Final = 12  # rounds
AGAIN_S: Final = 120.0  # no transaction that decides takes longer than a statement may (`store.db.COMMAND_TIMEOUT_S`)
AGAIN_AT_START_S: Final = 900.0
CURSOR_S: Final = 20.0  # a cursor that moves alone, without a value, is written as seldom

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Use:
    """A plan in use, as far as this process has read it."""

    revision: Revision
    plan: Plan
    state: State
    begin: UUID  # results decided before are not its own


class PatientWatch:
    """Of all organizations of a process. What it remembers is checked against the database in each round."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database, self._clock = database, clock
        self._followers: dict[UUID, tuple[State, Follower]] = {}
        self._rounds: dict[UUID, int] = {}

    async def follow(self, organization_id: UUID) -> int:
        """Look at what has been decided since; how many values were counted. Raises StoreError."""
        now, done = self._rounds.get(organization_id, 0), 0
        back = AGAIN_AT_START_S if now == 0 else AGAIN_S if now % AGAIN_EVERY == 0 else 0.0
        before = self._end()
        after: UUID | None = None
        while True:
            counted, after = await self._page(organization_id, after, before, back)
            done += counted
            if after is None:
                self._rounds[organization_id] = now + 1
                return done
            await asyncio.sleep(0)

    def _end(self) -> UUID:
        """Up to where it is looked. Of ids that go on after those of a clock that was ahead none says when it was made:
        all there are, what is committed later is found when the last minutes are read again."""
        now, newest = self._clock(), uuid7()
        return newest if instant_of(newest) > now + AHEAD else uuid7_floor(now - timedelta(seconds=SETTLE_S))

    async def alarms(self, organization_id: UUID) -> dict[str, int]:
        """How many alarms are open, by mode. Raises StoreError."""
        async with self._database.organization(organization_id) as connection:
            return await store.alarms_by_mode(connection)

    async def _page(
        self, organization_id: UUID, after: UUID | None, before: UUID, back_s: float
    ) -> tuple[int, UUID | None]:
        """One transaction; what it counted, and where to go on: None at the end."""
        try:
            async with self._database.transaction(organization_id) as connection:
                uses = await self._uses(connection)
                if not uses:
                    return 0, None
                if after is None:
                    first = min(use.state.cursor_id for use in uses)
                    if first > before:  # of such ids, or of a clock that was ahead: what comes now is before it
                        first, back_s = before, max(back_s, AGAIN_S)
                    after = uuid7_floor(instant_of(first) - timedelta(seconds=back_s)) if back_s else first
                until = min(before, uuid7_floor(instant_of(after) + timedelta(seconds=SLICE_S)))
                last = await store.page_end(connection, after, until, BATCH)
                end = until if last is None else of_int(last.int + 1)
                streams = [use.revision.stream for use in uses]
                found = await store.read_results(
                    connection, after, end, {one.analyzer_id for one in streams}, {one.test_id for one in streams}
                )
                cursor = last or until
                counted = [await self._count(connection, organization_id, use, found, cursor) for use in uses]
        except BaseException:
            self._followers.clear()  # nothing of it was committed
            raise
        if any(gated for _, gated in counted):
            await qc_sweep.follow(self._database, organization_id)
        return sum(values for values, _ in counted), None if cursor == before else cursor

    async def _uses(self, connection: Connection) -> list[_Use]:
        revisions = {one.use_id: one for one in await store.in_use(connection) if one.use_id is not None}
        if not revisions:
            return []
        uses = []
        for use_id, state in (await store.lock_states(connection, list(revisions), wait=False)).items():
            revision = revisions[use_id]
            try:
                plan = plan_of(revision)
            except PbrtqcError as error:
                log.error("plan not usable", action="pbrtqc.unreadable", plan=revision.version, error=str(error))
                continue
            uses.append(_Use(revision, plan, state, uuid7_floor(revision.since or revision.created_at)))
        return sorted(uses, key=lambda use: use.revision.stream.analyzer_id)  # as others lock several analyzers

    async def _count(
        self, connection: Connection, organization_id: UUID, use: _Use, found: Sequence[Candidate], cursor: UUID
    ) -> tuple[int, bool]:
        """How many values were counted, and whether the gate was told of an alarm."""
        stream, state = use.revision.stream, use.state
        own = [
            one for one in found
            if one.version_id > use.begin and (one.analyzer_id, one.test_id) == (stream.analyzer_id, stream.test_id)
            and use.plan.counts(one.module, one.unit, one.ward, one.group)
        ]  # fmt: skip
        seen = [one.version_id for one in own if one.version_id <= state.cursor_id]
        if seen:
            known = await store.known(connection, state.use_id, seen)
            own = [one for one in own if one.version_id not in known]
        follower = await self._follower(connection, use)
        step = _Step(use, follower, state)
        for one in own:
            step.see(one)
        await store.add_values(connection, organization_id, state.use_id, step.values)
        moved = replace(step.state, cursor_id=max(cursor, state.cursor_id))
        ahead = instant_of(moved.cursor_id) - instant_of(state.cursor_id)
        if replace(moved, cursor_id=state.cursor_id) != state or ahead > timedelta(seconds=CURSOR_S):
            await self._write(connection, organization_id, use, step.events, moved)
        self._followers[state.use_id] = moved, follower
        return len(step.values), any(event.gates for event in step.events)

    async def _write(
        self, connection: Connection, organization_id: UUID, use: _Use, events: Sequence[Event], moved: State
    ) -> None:
        """Where it has got, and what happened on the way, in the plan's name; the gate learns of what gates."""
        actor = Actor(ActorKind.RULE_SET, use.revision.id, use.revision.version, organization_id)
        for event in events:
            if event.side is not None:
                centre = use.plan.limits.centre
                begun = await store.at_centre(connection, event.use_id, moved.restart, centre, event.side)
                event = replace(event, suspect_from=begun)
            await store.add_event(connection, actor, event)
            told = {"plan": use.revision.version, "mode": event.mode, "reason": event.reason}
            await audit.record(connection, actor, event.kind, "pbrtqc_event", event.id, told)
            log.warning(
                "patient-based quality control", action=f"pbrtqc.{event.kind}", plan=use.revision.version,
                mode=event.mode, gates=event.gates,
            )  # fmt: skip
        await store.write_state(connection, moved)
        if any(event.gates for event in events):
            await tell_gate(connection, actor, use.revision.stream, events[-1].reason)

    async def _follower(self, connection: Connection, use: _Use) -> Follower:
        """The one that this process has, if nobody else moved the use; else a new one, as the rows say."""
        state, method = use.state, use.plan.method
        kept = self._followers.get(state.use_id)
        if kept is not None and (kept[0].ordinal, kept[0].restart, kept[0].last_at) == (
            state.ordinal, state.restart, state.last_at,
        ):  # fmt: skip
            return kept[1]
        follower = Follower(method, use.plan.limits.centre, seconds(state.last_at) if state.last_at else None)
        readings = await store.window(connection, state.use_id, state.restart, method.block)
        recent = [value for reading in readings if (value := treated(method, reading)) is not None]
        follower.monitor.resume(recent, state.statistic, state.ordinal - state.restart)
        return follower


class _Step:
    """What a page of results does to one use."""

    def __init__(self, use: _Use, follower: Follower, state: State) -> None:
        self._use, self._follower, self.state = use, follower, state
        self.values: list[Counted] = []
        self.events: list[Event] = []

    def see(self, one: Candidate) -> None:
        value = treated(self._use.plan.method, one.reading)
        statistic = self._follower.see(seconds(one.at), value)
        ordinal = self.state.ordinal + (value is not None)
        count = self._follower.monitor.count
        self.state = replace(
            self.state, ordinal=ordinal, restart=ordinal - count, last_at=one.at,
            statistic=self.state.statistic if value is None and count else statistic,
        )  # fmt: skip
        if value is None:
            return
        self.values.append(Counted(ordinal, one.version_id, one.at, statistic))
        if statistic is not None:
            self._judge(one, beyond(self._use.plan.limits, statistic))

    def _judge(self, one: Candidate, side: Side | None) -> None:
        mode = Mode(self._use.revision.mode)
        if side is not None and self.state.alarm_id is None:
            event = self._event(one, "alarm", mode, side)
            self.state = replace(self.state, alarm_id=event.id)
        elif side is None and self.state.alarm_id is not None and mode not in GATING:
            event = self._event(one, "back", mode, None, self.state.alarm_id)
            self.state = replace(self.state, alarm_id=None)
        else:
            return
        self.events.append(event)

    def _event(self, one: Candidate, kind: str, mode: Mode, side: Side | None, alarm_id: UUID | None = None) -> Event:
        revision, limits, statistic = self._use.revision, self._use.plan.limits, self.state.statistic
        bound = None if side is None else limits.low if side is Side.LOW else limits.high
        what = f"{self._use.plan.method.statistic} of patients' results"
        words = f"{what} inside its limits again" if side is None else f"{what} {_WORDS[side]} {bound:f}"
        void = why_void(revision) if mode in GATING else ""
        reason = f"{revision.version}: {words}" + (f"; it does not {mode}: {void}" if void else "")
        return Event(
            uuid7(), revision.stream, revision.id, self.state.use_id, kind, mode, mode in GATING and not void, side,
            statistic, bound, self.state.ordinal, one.at, reason, alarm_id,
        )  # fmt: skip


_WORDS = {Side.LOW: "below", Side.HIGH: "above"}


async def watch_patients(database: Database, organization_ids: Callable[[], Iterable[UUID]]) -> None:
    """Follow until cancelled."""
    watch = PatientWatch(database)
    while True:
        await follow_all(watch, organization_ids())
        await asyncio.sleep(FOLLOW_S)


async def follow_all(watch: PatientWatch, organization_ids: Iterable[UUID]) -> None:
    """One round of all laboratories, after which the metric of open alarms is true."""
    counted, known = dict.fromkeys(map(str, Mode), 0), True
    for organization_id in organization_ids:
        try:
            await watch.follow(organization_id)
            for mode, number in (await watch.alarms(organization_id)).items():
                counted[mode] += number
        except StoreError as error:
            log.warning("results not followed", action="pbrtqc.follow", error=error.slug)
            known = False
        except Exception as error:  # a fault of ours in one laboratory's plan must not end the others'
            log.error("results not followed", action="pbrtqc.follow", exc_info=error)
            known = False
    if known:
        telemetry.set_patient_alarms(counted)
