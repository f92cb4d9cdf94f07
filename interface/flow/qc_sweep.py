"""What follows for patients' results when a stream's state has changed. It cannot be lost.

Each change of a stream counts its version up; a sweep brings the results after it and then says up to which version
they have followed. Ended in the middle it is done again, by whoever comes next, and finds what is left to do: each
result is looked at under its locks, by what the gate says of the time at which it was measured.

* What waits and was measured out of control is held for that, whoever has looked at it.
* What is held for quality control alone is judged anew once the controls speak for it, and released where the rules
  release it (as `flow.again` does, looked at twice: only the controls may make a difference). Whatever a person said of
  a result, or another reason holds, stays as it is; only quality control holds it no more.
* What was released since the last acceptable control is put on the list of results to be looked at.

Between a failure and its sweep nothing is released: who decides asks the gate, and so does who releases by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from interface import telemetry
from interface.domain.decision_context import DecisionContext
from interface.domain.facts import QcState
from interface.domain.judging import QcGate, QcSays
from interface.domain.model import HoldReason, ResultStatus, Step
from interface.domain.views import Actor, ActorKind
from interface.errors import StoreError
from interface.flow import consequences
from interface.flow.again import held_for_controls
from interface.flow.around import add_neighbours_of, gate_beside, used_beside
from interface.flow.cases import Decided, Rules
from interface.flow.criticals import open_for
from interface.flow.late import came, came_late
from interface.flow.outcome import (
    Surroundings,
    beside_of,
    decide_beside,
    effects_of,
    judged_of,
    remember,
)
from interface.flow.qc_gate import HOLDS, gate_of
from interface.flow.qc_lookback import by_controls
from interface.flow.rules import DEFAULT, rule_sets
from interface.flow.version_making import By, versions_of
from interface.store import audit, lab_changes
from interface.store import qc_gate as rows
from interface.store import qc_lookback as lists
from interface.store import qc_sweep as waits
from interface.store import results as store
from interface.store import surroundings as near
from interface.store.catalogues import read_catalogue
from interface.store.db import Connection, Database
from interface.store.qc_gate import StreamRow
from interface.store.qc_sweep import Waits
from interface.store.read_otherwise import read_otherwise
from interface.store.rules import rules_of

log = structlog.get_logger(__name__)

BATCH_RESULTS = 50  # in one transaction
HORIZON = timedelta(days=30)  # of a list, where no control was ever acceptable
QC_HOLDS = frozenset({HoldReason.QC_FAILED, HoldReason.QC_EXPIRED})


@dataclass(slots=True)
class Swept:
    """How many results were held, freed (and how many of these the rules released), and put on lists."""

    held: int = 0
    freed: int = 0
    released: int = 0
    listed: int = 0


async def sweep(database: Database, organization_id: UUID) -> Swept:
    """Bring the results after every stream that has changed. Raises StoreError; then the rest is done another time."""
    done = Swept()
    async with database.organization(organization_id) as connection:
        due = await rows.unswept(connection)
    for stream in due:
        await _stream(database, organization_id, stream, done)
    return done


async def follow(database: Database, organization_id: UUID) -> None:
    """`sweep` for who has committed what it follows from: what fails is no fault of theirs, and the daemon does it
    later."""
    try:
        await sweep(database, organization_id)
    except StoreError as error:
        log.warning("quality control not followed", action="qc.sweep", error=error.slug)
    except Exception as error:  # a fault of ours with the results, not with what they follow
        log.error("quality control not followed", action="qc.sweep", exc_info=error)


async def _stream(database: Database, organization_id: UUID, row: StreamRow, done: Swept) -> None:
    async with database.transaction(organization_id) as connection:
        gate = await gate_of(connection, [row.stream.analyzer_id])
        for one in await lists.open_of(connection, row.stream):
            if not one.filled:
                done.listed += await lists.fill(connection, organization_id, one, HORIZON)
            await lists.vouched(connection, one)
            await lists.close_if_done(connection, one.id)
        actor = await waits.author(connection, organization_id, row.stream)
        listed = await waits.calculated_of_listed(connection, row.stream)
        stands = await waits.held_back(connection, row.stream)
        found = await waits.read(connection, await waits.waiting(connection, row.stream))
        waiting = [one.id for one in found if _due(one, _says(gate, row, one))]
        if not waiting and not listed and not stands:
            await rows.set_swept(connection, row.id, row.version)
            return
    await _of_the_lists(database, actor, listed, stands, done)
    for at in range(0, len(waiting), BATCH_RESULTS):
        async with database.transaction(organization_id) as connection:
            gate = await gate_of(connection, [row.stream.analyzer_id])
            await _some(connection, actor, gate, row, waiting[at : at + BATCH_RESULTS], done)
    async with database.organization(organization_id) as connection:
        await rows.set_swept(connection, row.id, row.version)


async def _of_the_lists(
    database: Database, actor: Actor, listed: Sequence[UUID], stands: Sequence[UUID], done: Swept
) -> None:
    """Hold what is calculated of results that wait on a list; calculate anew of what waits there no more."""
    said = QcSays(QcState.FAIL, Step("qc", "hold", "what it is calculated of waits on a look-back list"))
    for at in range(0, len(listed), BATCH_RESULTS):
        async with database.transaction(actor.organization_id) as connection:
            await lab_changes.lock_results(connection, listed[at : at + BATCH_RESULTS])
            for one in await waits.read(connection, listed[at : at + BATCH_RESULTS]):
                if HoldReason.QC_FAILED not in one.held:
                    await _held(connection, actor, one, HoldReason.QC_FAILED, said)
                    done.held += 1
    for at in range(0, len(stands), BATCH_RESULTS):
        async with database.transaction(actor.organization_id) as connection:
            await lab_changes.lock_results(connection, stands[at : at + BATCH_RESULTS])
            await consequences.follow(connection, by_controls(actor.organization_id), stands[at : at + BATCH_RESULTS])


def _says(gate: QcGate, row: StreamRow, one: Waits) -> QcSays:
    return gate.says(row.analyzer, row.test, one.at, one.module, one.reagent_lot)


def _due(one: Waits, said: QcSays) -> bool:
    """Whether something is to be done with it; what is, is seen again under its locks."""
    reason = HOLDS.get(said.state)
    return reason not in one.held if reason is not None else said.opens and bool(one.held & QC_HOLDS)


async def _some(
    connection: Connection, actor: Actor, gate: QcGate, row: StreamRow, result_ids: Sequence[UUID], done: Swept
) -> None:
    await lab_changes.lock_results(connection, result_ids)
    found = await waits.read(connection, result_ids)
    said = {one.id: _says(gate, row, one) for one in found}
    free = [one for one in found if one.held & QC_HOLDS and said[one.id].opens]
    anew = await _judged_anew(connection, actor, gate, row, [one for one in free if not one.by_person], said, done)
    for one in free:
        if one.id not in anew:
            await _freed(connection, actor, one, said[one.id])
            done.freed += 1
    for one in found:
        reason = HOLDS.get(said[one.id].state)
        if reason is not None and reason not in one.held:
            await _held(connection, actor, one, reason, said[one.id])
            done.held += 1
            if one.specimen_id is not None:
                await _calculated(connection, actor, one.specimen_id, row.test, reason, said[one.id])


async def _calculated(
    connection: Connection, actor: Actor, specimen_id: UUID, test: str, reason: HoldReason, said: QcSays
) -> None:
    """Hold what was calculated of it as well. It is calculated anew when its input is judged anew, or released."""
    for one in await waits.read(connection, await waits.calculated_of(connection, specimen_id, test)):
        if reason not in one.held:
            await _held(connection, actor, one, reason, said)


async def _held(connection: Connection, actor: Actor, one: Waits, reason: HoldReason, said: QcSays) -> None:
    """Hold it for quality control. A person who has looked at it did not know that: one looks at it again."""
    others = {HoldReason.PERSON} if one.by_person else set()
    held = tuple(sorted((one.held - QC_HOLDS) | others | {reason}))
    await _write(connection, actor, one, held, ResultStatus.REGISTERED, _step(said, "hold"), "qc_hold")
    telemetry.count_results([ResultStatus.REGISTERED], [held])


async def _freed(connection: Connection, actor: Actor, one: Waits, said: QcSays) -> None:
    """Quality control holds it no more; a person decides about it."""
    held = tuple(sorted(one.held - QC_HOLDS))
    status = ResultStatus.REGISTERED if held else ResultStatus.PRELIMINARY
    await _write(connection, actor, one, held, status, _step(said, "ok"), "qc_free")


async def _write(
    connection: Connection, actor: Actor, one: Waits, held: tuple[HoldReason, ...], status: ResultStatus, step: Step,
    action: str,
) -> None:  # fmt: skip
    row = await lab_changes.lock_result(connection, one.id)
    if row is None:
        return
    # The version is nobody's word about the result: who brought the state about is in the audit.
    by = by_controls(actor.organization_id)
    version_id, version = await lab_changes.copy_version(connection, by, row, status, "", step, held)
    await lab_changes.point_to(connection, row, version_id, version, status, False, held)
    if not held:
        await lab_changes.complete_item(connection, row)
    detail = {"version": str(version), "held": " ".join(held), "point": step.inputs.get("point", "")}
    await audit.record(connection, actor, action, "result", one.id, detail)


def _step(said: QcSays, verdict: str) -> Step:
    made = said.step or Step("qc", verdict, f"quality control is {said.state.value}")
    return Step("qc", verdict, f"{made.text} now", made.version, made.inputs)


async def _judged_anew(
    connection: Connection, actor: Actor, gate: QcGate, row: StreamRow, free: Sequence[Waits],
    said: dict[UUID, QcSays], done: Swept,
) -> set[UUID]:  # fmt: skip
    """Judge anew what was held for quality control alone; the results for which that was possible."""
    of = {one.version_id: one for one in free if one.specimen_id is not None}
    waited = await near.waited(connection, list(of))
    for one in await read_otherwise(connection, waited):
        del waited[one]  # its map or test was put right since: a person replays it
    if not waited:
        return set()
    ids = [one.id for one in of.values()]
    catalogue = await read_catalogue(connection, actor.organization_id, "", None)
    name = await rules_of(connection, ids) or DEFAULT
    now = await rule_sets().current(connection, catalogue.tests, name)
    if now.active is None:
        return set()
    specimen_ids = sorted({one.specimen_id for one in of.values() if one.specimen_id is not None})
    at = Surroundings(await near.lock(connection, (), specimen_ids))
    mine = {one.version_id for one in of.values()}
    tests = [
        (at.locked.by_id[known.specimen_id], known.test)
        for results in at.locked.results.values()
        for known in results
        if known.version_id in mine and known.test
    ]
    await add_neighbours_of(connection, at, tests, catalogue, now)
    gate = await gate_beside(connection, at, gate, [row.stream.analyzer_id])
    rules = Rules(now, qc=gate, used_by=await used_beside(connection, at, [now], waited.values()))
    context = DecisionContext(catalogue, received_at=datetime.now(UTC))
    decided: list[Decided] = []
    anew: set[UUID] = set()
    for specimen_id in specimen_ids:
        specimen = at.locked.by_id[str(specimen_id)]
        beside = beside_of(specimen, at)
        steps = {known.id: _step(said[known.id], "ok") for known in beside.known if known.version_id in waited}
        cases = held_for_controls(beside, waited, steps, rules, context)
        if cases:
            anew |= {case.result_id for case in cases}
            made = decide_beside(cases, beside, at, rules, context)
            # An index that was measured out of control said nothing of what was released when it came.
            certain = came(made.cases, {one.id for one in free if HoldReason.QC_FAILED in one.held})
            family = [at.locked.by_id[one] for one in specimen.family or (specimen.id,)]
            made.cases += came_late(certain, made.cases, beside, family, rules, context)
            decided.append(made)
            remember(made, beside, at)
    by = By(ActorKind.RULE_SET, now.active_id, rule_set_id=now.active_id)
    versions = versions_of([case for one in decided for case in one.cases], by)
    await store.write_versions(connection, actor.organization_id, versions)
    await store.write_effects(connection, actor.organization_id, [effects_of(decided, catalogue)], now.active_id)
    await open_for(connection, actor, judged_of(versions))
    for version in versions:
        alike = version.alike
        detail = {"version": str(alike.version), "status": alike.status.value, "held": " ".join(alike.held)}
        await audit.record(connection, actor, "judge_again", "result", version.result_id, detail)
    telemetry.count_results([one.alike.status for one in versions], [one.alike.held for one in versions])
    done.freed += len(anew)
    done.released += sum(version.alike.status is ResultStatus.FINAL for version in versions)
    return anew
