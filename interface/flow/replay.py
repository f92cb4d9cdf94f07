"""Deciding messages anew: results that wait are decided again with the maps, orders and rules of now.

A replay may change only what waits: a result that nobody has released, or the held change beside a released one, and
only where the version that waits came from this very message. What a later message said, what a person decided and what
was released are left alone. It is decided as it would be had the message come now: what the rules in force release, the
rule set releases. `dry_run` does all of it and takes it back, and may do it by a rule set that is not in force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from interface.domain.autoverify import Autoverification
from interface.domain.catalogue import Catalogue
from interface.domain.model import RELEASED, HoldReason, ResultStatus, Step
from interface.domain.permissions import Permission
from interface.domain.views import Actor
from interface.errors import LaboraError
from interface.flow.actors import may
from interface.flow.around import add_neighbours, rules_for, surroundings, used_by
from interface.flow.cases import Case
from interface.flow.context import LinkContext
from interface.flow.criticals import open_for
from interface.flow.outcome import by_link, decisions, effects_of, judged_of, version_of
from interface.flow.qc_gate import gate_of
from interface.flow.qc_sweep import follow
from interface.flow.replay_controls import ControlChange, judged_again
from interface.flow.results import decode
from interface.flow.rules import RuleError, load, rule_sets
from interface.flow.work import Work
from interface.flow.work_ids import compared, names_work
from interface.settings import LinkRole
from interface.store import audit
from interface.store import results as store
from interface.store.catalogues import read_catalogue
from interface.store.db import Connection, Database
from interface.store.replay import Candidate, candidates, lock_message, settle_again
from interface.store.results import CurrentResult, ResultVersion
from interface.store.stored_messages import read_messages


class ReplayError(LaboraError):
    """A message that cannot be decided anew, in one sentence."""

    slug = "replay"


@dataclass(frozen=True, slots=True)
class Decided:
    """How a result is decided: "" and nothing held where there is none yet."""

    held: tuple[str, ...] = ()
    test: str = ""
    value: str = ""
    unit: str = ""
    flags: tuple[str, ...] = ()
    reference: str = ""
    method: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One result before and after. `patient_id` for the audit of whose data was shown."""

    message_id: UUID
    result_id: UUID
    location: str
    barcode: str
    code: str
    before: Decided
    after: Decided
    status: str
    patient_id: UUID | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What deciding a message anew came to. `unchanged`: results that waited and wait for the same reasons; `controls`:
    those that are judged now, and points that would be judged otherwise."""

    message_id: UUID
    link: str
    settled: str
    changes: tuple[Change, ...]
    unchanged: int = 0
    rule_set: str = ""  # by which it was decided
    controls: tuple[ControlChange, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything is another than before."""
        return bool(self.changes) or any(not one.stays for one in self.controls)


class _TakeBack(Exception):
    """Ends a dry run's transaction."""


async def replay(
    database: Database,
    actor: Actor,
    message_id: UUID,
    find_link: Callable[[UUID], LinkContext | None],
    *,
    dry_run: bool,
    code: str | None = None,
    reason: str = "",
    rule_set: tuple[str, int] | None = None,
) -> Replayed:
    """Decide a message anew, its controls first. `code`: only what is held because this code had no test; `rule_set`:
    by this revision, in a dry run only.

    Raises ReplayError: nobody who may, no such message, one that is not decided yet or whose link is not configured.
    """
    if not may(actor, Permission.MESSAGE_REPLAY):
        raise ReplayError(f"only a user with the permission {Permission.MESSAGE_REPLAY} may replay messages")
    if rule_set is not None and not dry_run:
        raise ReplayError("a rule set that is not in force decides nothing; it can be tried in a dry run")
    found: list[Replayed] = []
    try:
        async with database.transaction(actor.organization_id) as connection:
            found.append(await _replay(connection, actor, message_id, find_link, code, reason, rule_set))
            if dry_run:
                raise _TakeBack
    except _TakeBack:
        pass
    if not dry_run and any(not one.stays for one in found[0].controls):
        await follow(database, actor.organization_id)
    return found[0]


async def _replay(
    connection: Connection,
    actor: Actor,
    message_id: UUID,
    find_link: Callable[[UUID], LinkContext | None],
    code: str | None,
    reason: str,
    rule_set: tuple[str, int] | None,
) -> Replayed:
    work = await _work(connection, message_id, find_link)
    catalogue = await read_catalogue(connection, actor.organization_id, work.link.driver.id, work.link.link_id)
    # Controls first, as when they came: their lock is the one to begin with. A trial of rules is about patients alone.
    controls = () if rule_set is not None else await judged_again(connection, actor, work, catalogue, code, reason)
    gate = await gate_of(connection, [work.link.analyzer_id])
    at = await surroundings(connection, [work])
    now = await _in_force(connection, catalogue, work.link.settings.rules, rule_set)
    await add_neighbours(connection, at, [(work, catalogue, now)])
    waiting = await candidates(connection, [one.id for one in at.current.values()])
    wanted = partial(_of_interest, waiting=waiting, message_id=message_id, code=code)
    rules = rules_for(work.link, now, gate, await used_by(connection, work.link.analyzer_id, catalogue, now))
    decided = decisions(work, catalogue, at, rules, wanted)
    step = Step("replay", "ok", f"decided anew by {actor.name}", inputs={"reason": reason} if reason else {})
    by = replace(by_link(work, rules), kind=actor.kind, id=actor.id)
    known = {one.id: one for one in at.current.values()}
    versions: list[ResultVersion] = []
    changes: list[Change] = []
    unchanged = 0
    for one in decided:
        for case in list(one.cases):
            case.again = step if case.observed is not None else None
            version, before = version_of(case, by), waiting.get(case.result_id)
            if before is not None and _alike(before, version, known.get(case.result_id)):
                unchanged += 1
                one.cases.remove(case)
                continue
            versions.append(version)
            changes.append(_change(message_id, before, version))
    if versions:
        await store.write_versions(connection, actor.organization_id, versions)
        await store.write_effects(connection, actor.organization_id, [effects_of(decided, catalogue)], now.active_id)
        await open_for(connection, actor, judged_of(versions))
    problems = tuple(f"{problem.location}: {problem.text}" for problem in work.decoded.problems)
    settled = await settle_again(connection, message_id, problems, work.incomplete)
    detail = {"code": code or "", "reason": reason, "settled": settled,
              "results": " ".join(str(version.result_id) for version in versions)}  # fmt: skip
    await audit.record(connection, actor, "replay", "message", message_id, detail)
    name = now.active.version if now.active else ""
    return Replayed(message_id, work.link.name, settled, tuple(changes), unchanged, name, controls)


async def _in_force(
    connection: Connection, catalogue: Catalogue, name: str, rule_set: tuple[str, int] | None
) -> Autoverification:
    """What decides: what is in force, or the revision to be tried."""
    if rule_set is None:
        return await rule_sets().current(connection, catalogue.tests, name)
    try:
        found, read, _ = await load(connection, *rule_set)
    except RuleError as error:
        raise ReplayError(str(error)) from error
    return Autoverification(active=read, active_id=found.id)


async def _work(connection: Connection, message_id: UUID, find_link: Callable[[UUID], LinkContext | None]) -> Work:
    """The message decoded by its link's driver, its row locked."""
    state = await lock_message(connection, message_id)
    if state is None:
        raise ReplayError("there is no such message")
    settled, queued = state
    if settled is None or queued:
        raise ReplayError("the message has not been decided yet; the daemon is about to")
    if settled == "duplicate":
        raise ReplayError("the message repeats an earlier one, which is the one to replay")
    message = (await read_messages(connection, [message_id]))[message_id]
    if not message.frames:
        raise ReplayError("the message's frames are no longer kept: there is nothing to decode")
    link = find_link(message.link_id)
    if link is None:
        raise ReplayError("the message's link is not in the configuration any more")
    if link.settings.role is LinkRole.HOSPITAL:
        raise ReplayError("a hospital's message was answered when it came; have the hospital send it again")
    try:
        work = decode(message, link)
    except Exception as error:  # whatever a driver stumbles over; its text may quote a patient
        raise ReplayError(f"the message cannot be decoded ({type(error).__name__})") from error
    return await compared(connection, work) if names_work(work) else work


def _of_interest(
    case: Case,
    known: CurrentResult | None,
    *,
    waiting: Mapping[UUID, Candidate],
    message_id: UUID,
    code: str | None,
) -> bool:
    """Whether a result waits for a decision that this message may give."""
    if known is None:
        return code is None  # of a message that was parked, or that the driver reads otherwise now
    before = waiting[known.id]
    waits = bool(before.held) or known.status is ResultStatus.PRELIMINARY
    if before.message_id != message_id or not waits:
        return False
    if before.by_person and known.status in RELEASED:  # the correction that a person proposes, or has verified
        return False
    return code is None or (before.code == code and HoldReason.UNMAPPED_CODE in before.held)


def _alike(before: Candidate, version: ResultVersion, known: CurrentResult | None) -> bool:
    """Whether it is decided as it was, limits, method and flags too: then no version is added."""
    held = before.held - {HoldReason.CHANGED_AFTER_RELEASE}
    same_specimen = known is None or known.status in RELEASED or known.specimen_id == version.specimen_id
    said = (before.test_code, before.comparator, before.value, before.unit)
    judged = (before.low, before.high, before.reference, before.method, frozenset(before.flags))
    return (
        held == frozenset(version.held) - {HoldReason.CHANGED_AFTER_RELEASE}
        and same_specimen
        and (version.pending or version.status not in RELEASED)
        and said == (version.test_code, version.comparator, version.value, version.unit)
        and judged == (version.low, version.high, version.reference, version.method, frozenset(version.flags))
    )


def _change(message_id: UUID, before: Candidate | None, after: ResultVersion) -> Change:
    was = Decided()
    if before is not None:
        value = before.comparator + before.value
        was = Decided(
            tuple(sorted(before.held)), before.test_code, value, before.unit, before.flags, before.reference,
            before.method,
        )  # fmt: skip
    value = after.comparator + after.value
    now = Decided(
        tuple(after.held), after.test_code, value, after.unit, after.flags, after.reference, after.method
    )  # fmt: skip
    return Change(
        message_id, after.result_id, after.location, after.specimen_as_sent, after.code, was, now, after.status,
        after.patient_id,
    )  # fmt: skip
