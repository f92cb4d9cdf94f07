"""From the journal to decided results: claim, decode, decide, commit (DESIGN §3, steps 6 to 9).

The database is the queue; a claim commits the attempt before anything is decoded, so that a message which kills the
process is counted as well and parked at its last attempt. Messages that speak of different specimens are decided in one
transaction, those of the same specimen one after the other in the order they came. When such a batch fails, each of its
messages is decided by itself, so that the culprit alone is refused. Everything up to the commit may be run again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import ParamSpec, TypeVar
from uuid import UUID

import structlog
from asyncpg import PostgresIOError, Record

from interface import telemetry
from interface.domain.catalogue import Catalogue
from interface.domain.model import HoldReason
from interface.driver import registry
from interface.errors import ConfigError, SchemaChanged, StoreError
from interface.flow import alerting, qc
from interface.flow.around import add_neighbours, gate_beside, rules_for, surroundings, used_beside, used_by
from interface.flow.batches import BATCH_MESSAGES, Batch, Job, batches, urgent_first
from interface.flow.cases import Rules
from interface.flow.context import LinkContext
from interface.flow.controls import controls_of
from interface.flow.courtesy import Courtesy
from interface.flow.criticals import open_for
from interface.flow.message import whole_records
from interface.flow.outcome import judged_of, outcome_of
from interface.flow.qc_gate import gate_of
from interface.flow.qc_sweep import follow
from interface.flow.rules import rule_sets
from interface.flow.sender_clocks import note_clocks
from interface.flow.work import Work, said_again
from interface.flow.work_ids import compared, names_work
from interface.settings import LimitSettings
from interface.store import results as store
from interface.store.catalogues import Catalogues
from interface.store.controls import ControlResult, write_controls
from interface.store.db import Connection, Database
from interface.store.ids import instant_of
from interface.store.leases import elsewhere
from interface.store.migrate import gate
from interface.store.qc_gate import lock_judging
from interface.store.results import AlreadySettled, Claim, Outcome
from interface.store.routes import AHEAD
from interface.store.rules import add_shadow
from interface.store.stored_messages import DAMAGES, Damaged, StoredMessage, readable, readable_heads
from interface.store.surroundings import ordered_at_once

log = structlog.get_logger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")

CLAIM_MESSAGES, LOAD_BYTES = 2 * BATCH_MESSAGES, 16 << 20  # one batch is decided while the other is committed
WINDOWS = 2  # of claimed messages at work: while one is decided and committed, the next is read and decoded
FIRST_MESSAGES = 16  # claimed at once after few, then four times as many: a burst is known for one after 0.1 s
BUSY_MESSAGES = 8  # claimed at once while links deliver: what is decided slowly need not be held long
THREAD_BYTES = 64 << 10  # larger messages are worked on in a thread: the links answer meanwhile
TURN_MESSAGES = 4  # decoded one after the other, then links and what is being decided have theirs
POLL_S, RETRY_S = 1.0, 0.5


@dataclass(slots=True)
class _Window:
    """Messages that were claimed together, with the batches whose deciding has begun."""

    claims: Sequence[Claim]
    begun: list[tuple[Batch, asyncio.Task[bool]]] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether a batch has ended undecided."""
        over = [task for _, task in self.begun if task.done()]
        return any(task.cancelled() or task.exception() or not task.result() for task in over)

    async def end(self) -> None:
        """Wait for all of it, also where something failed; then raise what the first of them raised."""
        ends = await asyncio.gather(*(task for _, task in self.begun), return_exceptions=True)
        for error in ends:
            if isinstance(error, BaseException):
                raise error


class _Again(Exception):
    """A message could not be read and is to be tried again: of what it speaks is not known, so nothing is decided that
    came after it."""


class ResultWorker:
    """Works on the queue until stopped. `find_link`: the link a message came by, None when it is not known any more.

    `busy`, `asked`: whether links deliver at the moment, and whether clients of the API ask for much; they go
    first, see `flow.courtesy`.
    """

    def __init__(
        self,
        database: Database,
        find_link: Callable[[UUID], LinkContext | None],
        limits: LimitSettings,
        busy: Callable[[], bool] = lambda: False,
        asked: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database, self._find_link, self._limits = database, find_link, limits
        self._courtesy = Courtesy(busy, asked)
        self._waited_s = 0.0  # how long the oldest message of the window has waited
        self._counted_s = float("-inf")  # when those that wait were counted last
        self._woken = asyncio.Event()
        self._organization_ids: set[UUID] | None = None  # of whose messages it decides; None: of all
        self.not_of: frozenset[UUID] = frozenset()  # links whose messages wait: only another daemon knows them
        self._stopping = self._away = False
        self._unreturned: set[UUID] = set()  # claimed, not decided, and not given back because the database was away
        self._doubtful = False  # a claim may have been committed whose answer was lost
        self._decided = 0  # messages
        self._unread: dict[UUID, int] = {}  # how many were, when the disk did not give what one of them needs
        self._emptied = False  # the last claim took all there was
        self._claims = 0  # how many it took
        self._slots = asyncio.Semaphore(limits.workers)
        self._deciding = asyncio.Lock()  # one batch after the other: the first is committed while the next is decided
        self._rule_sets = rule_sets()
        self._lots = qc.LotsSaid()
        self._catalogues = Catalogues()
        self._windows: list[_Window] = []  # what is being decided, the oldest first
        self._task: asyncio.Task[None] | None = None
        self.turns = 0  # that it is not stuck: looks at the queue, and batches done

    @property
    def engaged(self) -> bool:
        """Whether it works on the queue, which it looks at once a second when there is nothing in it."""
        return self._task is not None and not self._stopping

    @property
    def at_work(self) -> bool:
        """Whether messages are being decided at this moment."""
        return bool(self._windows)

    def wake(self) -> None:
        """There is something new in the queue."""
        self._woken.set()

    async def start(self, organization_ids: Sequence[UUID]) -> None:
        """Work, for these alone; what whoever did so before had claimed is free."""
        self._organization_ids = set()
        await self.take_on(organization_ids)
        self._task = asyncio.create_task(self._run(), name="results")

    async def take_on(self, organization_ids: Sequence[UUID], answering: Collection[UUID] = ()) -> None:
        """Work for these too, as `start` did for the others: only one daemon decides for an organization at a time,
        for what is said of a specimen is decided in the order in which it came. `answering`: links of other daemons.
        Raises StoreError."""
        async with self._database.system() as system:
            telemetry.set_queue_depth(await store.free_all(system, organization_ids, answering))
        if self._organization_ids is not None:
            self._organization_ids.update(organization_ids)
        self.wake()

    def leave(self, organization_ids: Collection[UUID]) -> None:
        """Claim nothing of theirs any more. What is being decided is settled once, whoever is first."""
        if self._organization_ids is not None:
            self._organization_ids -= set(organization_ids)

    async def stop(self) -> None:
        """Finish the messages that are being decided, then stop."""
        self._stopping = True
        self._woken.set()
        if self._task is not None:
            await self._task

    async def work(self) -> int:
        """Claim one window of messages and see them through; returns how many were claimed. Raises StoreError."""
        claimed = await self._begin()
        await self._see_through(0)
        return claimed

    async def _begin(self) -> int:
        """Claim one window of messages, decode them and begin to decide them; returns how many were claimed."""
        claims = await self._claimed()
        if claims:
            self._waited_s = _waited_s(min(claim.message_id for claim in claims))
            before, window = list(self._windows), _Window(claims)
            self._windows.append(window)
            try:
                if claims[0].attempts > 1:  # it may have ended the process: nothing else is at work beside it
                    for other in before:  # which stay: what of them was not decided must be before it
                        await other.end()
                await self._window(window)
            except BaseException:
                self._windows.remove(window)
                self._unreturned.update(claim.message_id for claim in claims)
                await window.end()
                raise
            if claims[0].attempts > 1:
                await self._see_through(0)
        return len(claims)

    async def _claimed(self) -> list[Claim]:
        """Claim, after what was claimed in vain is free again: nothing overtakes it."""
        if self._doubtful or any(window.failed for window in self._windows):
            await self._see_through(0)  # then nothing that is claimed is at work, but what nobody knows of
        async with self._database.system() as system:
            if self._unreturned:
                await store.give_back(system, self._unreturned, refund=1)
                self._unreturned.clear()
            if self._doubtful:
                await store.free_lost(system, self._organization_ids)
            self._doubtful = True
            most = min(CLAIM_MESSAGES, max(FIRST_MESSAGES, 4 * self._claims))
            most = BUSY_MESSAGES if self._courtesy.busy() else most
            claims = await self._readable(await store.claim(system, most, self._organization_ids, self.not_of))
            await self._count_waiting(system, whether=bool(claims or self.not_of))
        self._doubtful = False
        self._claims = len(claims)
        self._emptied = len(claims) < most and not any(claim.attempts > 1 for claim in claims)
        return claims

    async def _readable(self, claims: list[Claim]) -> list[Claim]:
        """Those of links that are known here. What a link took that only another daemon has in its configuration is
        given back, and waits until this one's has it too; nobody's is parked."""
        strange = {claim.link_id: claim.organization_id for claim in claims if self._find_link(claim.link_id) is None}
        theirs: set[UUID] = set()
        for organization_id in set(strange.values()):
            async with self._database.organization(organization_id) as connection:
                theirs |= strange.keys() & await elsewhere(connection)
        if not theirs:
            return claims
        self.not_of |= theirs
        await self._give_back([claim.message_id for claim in claims if claim.link_id in theirs], refund=1)
        return [claim for claim in claims if claim.link_id not in theirs]

    async def _count_waiting(self, system: Connection, *, whether: bool) -> None:
        """Say how many messages wait. All are looked at for that: once a second, however fast they are claimed."""
        now_s = asyncio.get_running_loop().time()
        if not whether:
            telemetry.set_queue_depth(0)
        elif now_s - self._counted_s >= POLL_S:
            self._counted_s = now_s
            telemetry.set_queue_depth(await store.depth(system))

    async def _see_through(self, most: int) -> None:
        """Wait until no more than so many windows are being decided."""
        while len(self._windows) > most:
            window = self._windows[0]
            try:
                await window.end()
            except BaseException:
                self._unreturned.update(claim.message_id for claim in window.claims)
                raise
            finally:
                self._windows.remove(window)

    async def _run(self) -> None:
        while not self._stopping:
            self._woken.clear()
            self.turns += 1
            self._away, claimed, began = False, 0, asyncio.get_running_loop().time()
            try:
                claimed = await self._begin()
                await self._see_through(WINDOWS - 1 if claimed else 0)
            except StoreError as error:
                log.warning("queue not reachable", action="queue.down", error=error.slug)
                self._away = True
            except Exception as error:  # a fault of ours must not end the work; what was claimed becomes free again
                log.error("window of messages failed", action="queue.fault", exc_info=error)
                self._away = True
            if self._away:  # what was given back comes first again, with all that followed it
                await self._pause(RETRY_S)
            elif not claimed:
                await self._pause(POLL_S)
            elif self._emptied:
                await self._courtesy.gather(began)
        with contextlib.suppress(Exception):  # it was logged, and its claims run out
            await self._see_through(0)

    async def _pause(self, seconds: float) -> None:
        if not self._stopping:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), seconds)

    async def _window(self, window: _Window) -> None:
        """Begin to decide claimed messages, in portions that fit into memory."""
        heads: dict[UUID, Record] = {}
        damaged: set[UUID] = set()
        for organization_id in {claim.organization_id for claim in window.claims}:
            ids = [claim.message_id for claim in window.claims if claim.organization_id == organization_id]
            async with self._database.each_by_index(organization_id) as connection:
                found, lost = await readable_heads(connection, ids)
            heads |= found
            damaged |= lost
        if damaged:  # that they are parked could not be written there: they wait, and keep nobody else waiting
            log.error("messages cannot be read in the database", action="queue.damaged", messages=len(damaged))
            await self._give_back(sorted(damaged), refund=1, at_once=False)
        claims = [claim for claim in window.claims if claim.message_id not in damaged]
        portion: list[Claim] = []
        size = 0
        for claim in claims:
            head = heads.get(claim.message_id)
            size += head["bytes"] if head else 0
            if portion and size > LOAD_BYTES:
                if not await self._portion(window, portion, heads):
                    return
                await window.end()
                portion, size = [], head["bytes"] if head else 0
            portion.append(claim)
        await self._portion(window, portion, heads)

    async def _portion(self, window: _Window, claims: Sequence[Claim], heads: Mapping[UUID, Record]) -> bool:
        """False: one of them is to be tried again, and what was claimed after it has been given back."""
        messages: dict[UUID, StoredMessage | Damaged] = {}
        known = [claim for claim in claims if claim.message_id in heads]
        for organization_id in {claim.organization_id for claim in known}:
            own = {one.message_id: heads[one.message_id] for one in known if one.organization_id == organization_id}
            async with self._database.each_by_index(organization_id) as connection:
                messages |= await readable(connection, own)
        jobs: list[Job] = []
        again: Claim | None = None
        for at in range(0, len(claims), TURN_MESSAGES):
            some = partial(self._turn, claims[at : at + TURN_MESSAGES], messages)
            decoded, again = await self._courtesy.turn(self._waited_s, some)
            jobs += [await self._compared(job) if names_work(job.work) else job for job in decoded]
            if again is not None:
                after = window.claims[window.claims.index(again) + 1 :]
                await self._give_back([one.message_id for one in after], refund=1)
                break
            await asyncio.sleep(0)  # what is being decided goes on meanwhile
        earlier = [each for other in self._windows for each in other.begun]
        tasks: list[asyncio.Task[bool]] = []
        for batch in await self._batches(jobs):
            before = {tasks[number] for number in batch.after}
            before |= {task for other, task in earlier if batch.follows(other)}
            tasks.append(asyncio.create_task(self._after(batch, before)))
            window.begun.append((batch, tasks[-1]))
        return again is None

    async def _turn(
        self, claims: Sequence[Claim], messages: Mapping[UUID, StoredMessage | Damaged]
    ) -> tuple[list[Job], Claim | None]:
        """Some messages decoded, and the one that is to be tried again before any after it."""
        jobs: list[Job] = []
        for claim in claims:
            try:
                job = await self._decoded(claim, messages.get(claim.message_id))
            except _Again:
                return jobs, claim
            if job is not None:
                jobs.append(job)
        return jobs, None

    async def _compared(self, job: Job) -> Job:
        """A message that names work, held where that is another specimen's."""
        async with self._database.organization(job.claim.organization_id) as connection:
            return Job(job.claim, await compared(connection, job.work))

    async def _batches(self, jobs: Sequence[Job]) -> list[Batch]:
        """The messages in batches; what was ordered at once first, where one batch does not take them all."""
        made = batches(jobs, BATCH_MESSAGES)
        urgent = await self._urgent(jobs) if len(made) > 1 else set()
        return batches(urgent_first(jobs, urgent), BATCH_MESSAGES) if urgent else made

    async def _urgent(self, jobs: Sequence[Job]) -> set[tuple[UUID, str]]:
        """Which of their specimens were ordered at once."""
        found = set()
        for organization_id in {job.claim.organization_id for job in jobs}:
            lanes = {lane for job in jobs for lane in job.lanes if lane[0] == organization_id}
            async with self._database.each_by_index(organization_id) as connection:
                urgent = await ordered_at_once(connection, [barcode for _, barcode in lanes])
            found |= {(organization_id, barcode) for barcode in urgent}
        return found

    async def _decoded(self, claim: Claim, message: StoredMessage | Damaged | None) -> Job | None:
        """The message decoded; None when it has been parked. `message`: or why it cannot be read. Raises _Again."""
        link = self._find_link(claim.link_id)
        if message is None or link is None:
            parked = await self._park(claim, link, "the message or its link is not known here")
        elif claim.attempts > self._limits.max_attempts:
            parked = await self._park(claim, link, "every attempt to decode it ended the process")
        else:
            try:
                if isinstance(message, DAMAGES):  # each attempt would fail so: it must not keep all others
                    raise message
                return Job(claim, await _aside(message, decode, message, link))
            except Exception as error:  # whatever a driver stumbles over costs this message only (DESIGN §1.7)
                parked = await self._failed(claim, link, error)
        if not parked:
            raise _Again
        return None

    async def _after(self, batch: Batch, before: set[asyncio.Task[bool]]) -> bool:
        """Decide when the earlier messages of the same specimens are done; False when one of them was not."""
        if before and not all(await asyncio.gather(*before)):
            await self._give_back([job.claim.message_id for job in batch.jobs], refund=1)
            return False
        async with self._slots:
            if len(batch.jobs) > 1:
                try:
                    return await self._done(batch.organization_id, batch.jobs)
                except Exception as error:  # one of them, or one that another worker has settled: each by itself
                    if await self._is_away(error) and not isinstance(error.__cause__, PostgresIOError):
                        return await self._database_away(batch.jobs)
                    log.warning("batch not decided", action="batch.failed", messages=len(batch.jobs), exc_info=error)
            done = [await self._alone(job) for job in batch.jobs]
        return all(done)

    async def _alone(self, job: Job) -> bool:
        try:
            return await self._done(job.claim.organization_id, [job])
        except AlreadySettled:
            return True
        except Exception as error:
            if await self._is_away(error) and not self._is_its_page(job.claim.message_id, error):
                # What has been tried is taken alone: no other would ever be decided, by which this may count.
                every = job.claim.attempts if isinstance(error.__cause__, PostgresIOError) else 1
                return await self._database_away([job], refund=every)
            return await self._failed(job.claim, job.work.link, error)

    def _is_its_page(self, message_id: UUID, error: Exception) -> bool:
        """Whether the disk does not give what this message needs, and gave what others did since it first did not."""
        of_the_disk = isinstance(error.__cause__, PostgresIOError)  # as of one that is full it counts for an outage
        return of_the_disk and self._decided > self._unread.setdefault(message_id, self._decided)

    async def _is_away(self, error: Exception) -> bool:
        """Whether an error says nothing against a message. What a statement names and the database has not, though its
        schema is the one that this program knows, is a fault of ours, which may be in what few messages need."""
        if not isinstance(error, SchemaChanged):
            return isinstance(error, StoreError)
        try:
            async with self._database.system() as system:
                await gate(system)
        except (ConfigError, StoreError):
            return True
        return False

    async def _database_away(self, jobs: Sequence[Job], refund: int = 1) -> bool:
        """Nothing is said against the messages."""
        self._away = True
        await self._give_back([job.claim.message_id for job in jobs], refund=refund)
        return False

    async def _done(self, organization_id: UUID, jobs: Sequence[Job]) -> bool:
        self.turns += 1
        outcomes = await self._courtesy.turn(self._waited_s, partial(self._decide, organization_id, jobs))
        self._decided += len(jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            self._count(job.work, outcome)
        note_clocks([job.work for job in jobs])
        said = [version.alike for outcome in outcomes for version in outcome.versions]
        telemetry.count_results([one.status for one in said], [one.held for one in said])
        if any(job.barrier for job in jobs):
            await follow(self._database, organization_id)
        return True

    async def _decide(self, organization_id: UUID, jobs: Sequence[Job]) -> list[Outcome]:
        outcomes = []
        analyzers = {job.analyzer for job in jobs}
        async with self._database.by_index(organization_id) as connection:
            for one in {job.analyzer for job in jobs if job.barrier}:
                await lock_judging(connection, organization_id, one)
            works = await self._works(connection, jobs)
            controls = [await _controls(connection, *one) for one in works]
            gate = await gate_of(connection, analyzers)
            at = await surroundings(connection, [job.work for job in jobs])
            names = {work.link.settings.rules for work, _ in works}
            now = await self._rule_sets.by_name(connection, works[0][1].tests, names)
            await add_neighbours(connection, at, [(*one, now[one[0].link.settings.rules]) for one in works])
            gate = await gate_beside(connection, at, gate, analyzers)
            beside = await used_beside(connection, at, now.values())
            rules: dict[int, Rules] = {}  # by link as it is set up for these messages
            for work, catalogue in works:
                link = work.link
                if id(link) not in rules:
                    used = await used_by(connection, link.analyzer_id, catalogue, now[link.settings.rules])
                    rules[id(link)] = rules_for(link, now[link.settings.rules], gate, used, beside)
            at_once = any(_large(work.message) for work, _ in works)  # in a thread, others need not wait for it
            async with contextlib.nullcontext() if at_once else self._deciding:
                for (work, catalogue), own in zip(works, controls, strict=True):
                    decided = await _aside(work.message, outcome_of, work, catalogue, at, rules[id(work.link)], own)
                    outcomes.append(decided)
                    at.forget()  # no other message of the batch speaks of the same specimens
                    await asyncio.sleep(0)  # the links answer between two messages
            await store.commit(connection, organization_id, outcomes)
            for (work, _), outcome in zip(works, outcomes, strict=True):
                if judged := judged_of(outcome.versions):
                    await open_for(connection, work.link.actor, judged)
            shadows = [row for outcome in outcomes for row in outcome.shadows]
            await add_shadow(connection, organization_id, shadows)
            said = [await self._lots.note(connection, work.link.actor, work.message.id, outcome.versions,
                                          work.message.received_at)
                    for (work, _), outcome in zip(works, outcomes, strict=True)
                    if qc.names_lots(outcome.versions)]  # fmt: skip
        for lots in said:
            self._lots.keep(lots)
        return outcomes

    async def _works(self, connection: Connection, jobs: Sequence[Job]) -> list[tuple[Work, Catalogue]]:
        """Each message with the catalogue of its link, which is asked for once."""
        of: dict[tuple[UUID, str], Catalogue] = {}
        works: list[tuple[Work, Catalogue]] = []
        for job in jobs:
            link = job.work.link
            key = link.link_id, link.driver.id  # SIGHUP may have given it another
            if key not in of:
                of[key] = await self._catalogue(connection, link)
            works.append((job.work, of[key]))
        return works

    async def _catalogue(self, connection: Connection, link: LinkContext) -> Catalogue:
        now_s = asyncio.get_running_loop().time()
        return await self._catalogues.of(connection, link.organization_id, link.driver.id, link.link_id, now_s)

    async def _failed(self, claim: Claim, link: LinkContext, error: Exception) -> bool:
        """A fault of ours or a poisoned message: again, or parked at the last attempt. True: it is out of the way."""
        log.error("message not decided", action="message.failed", link=link.name, message_id=str(claim.message_id),
                  attempts=claim.attempts, exc_info=error)  # fmt: skip
        if claim.attempts < self._limits.max_attempts:
            await self._give_back([claim.message_id], refund=0)
            return False
        return await self._park(claim, link, f"{type(error).__name__} in each of {claim.attempts} attempts")

    async def _park(self, claim: Claim, link: LinkContext | None, reason: str) -> bool:
        self._unread.pop(claim.message_id, None)
        name, link_id = (link.name, link.link_id) if link else ("", claim.link_id)
        outcome = Outcome(claim.message_id, "parked", link_id, name, reason=reason)
        try:
            async with self._database.transaction(claim.organization_id) as connection:
                await store.commit(connection, claim.organization_id, [outcome])
                await alerting.parked(connection, claim.organization_id, claim.message_id, name, reason)
        except AlreadySettled:
            return True
        except StoreError:
            self._away = True
            self._unreturned.add(claim.message_id)
            return False
        telemetry.count_message(name, "parked")
        log.error("message parked", action="message.parked", link=name, message_id=str(claim.message_id), reason=reason)
        return True

    async def _give_back(self, message_ids: Sequence[UUID], *, refund: int, at_once: bool = True) -> None:
        try:
            async with self._database.system() as system:
                await store.give_back(system, message_ids, refund=refund, at_once=at_once)
        except StoreError:
            self._unreturned.update(message_ids)

    @staticmethod
    def _count(work: Work, outcome: Outcome) -> None:
        telemetry.count_message(work.link.name, outcome.settled)
        log.info("message settled", action="message.settled", link=work.link.name, message_id=str(work.message.id),
                 settled=outcome.settled, results=len(outcome.versions), controls=len(outcome.controls),
                 held=len([version for version in outcome.versions if version.alike.held]))  # fmt: skip


def _waited_s(message_id: UUID) -> float:
    """How long a message has waited. Ids go on after those of a clock that was ahead: then nobody knows."""
    waited = datetime.now(UTC) - instant_of(message_id)
    return waited.total_seconds() if waited > -AHEAD else math.inf


async def _controls(connection: Connection, work: Work, catalogue: Catalogue) -> tuple[ControlResult, ...]:
    """A message's controls, kept and judged before anything is decided about patients: also those it speaks of."""
    if not work.has_controls:
        return ()
    controls = controls_of(work, catalogue)
    await write_controls(connection, work.link.organization_id, controls)
    await qc.record(connection, work.link.actor, controls)
    return controls


async def _aside(message: StoredMessage, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Pure work on a message, out of the links' way when there is much of it."""
    if _large(message):
        return await asyncio.to_thread(work, *args, **kwargs)
    return work(*args, **kwargs)


def _large(message: StoredMessage) -> bool:
    return message.bytes >= THREAD_BYTES


def decode(message: StoredMessage, link: LinkContext) -> Work:
    """Decode a message by its link's driver. Raises whatever a driver may stumble over."""
    text = whole_records(message)
    decoded = registry.decode(link.driver, text, link.settings.encoding)
    if message.duplicate_of is not None:
        decoded = said_again(decoded)
    known = registry.recognises(link.driver, text)
    return Work(message, link, decoded, () if known else (HoldReason.DRIVER_MISMATCH,))
