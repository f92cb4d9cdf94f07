"""Deciding messages anew: results that wait are decided again with the maps, orders and rules of now.

A replay may change only what waits: a result that nobody has released, or the held change beside a released one, and
only where the version that waits came from this very message. What a later message said, what a person decided and what
was released are left alone; what is new of an index or a companion may be said beside a release, as when it comes. It
is decided as it would be had the message come now: what the rules in force release, the rule set releases. `dry_run`
does all of it and takes it back. A dry run may be of a trial (`flow.trial`): of a map, a driver, a rule set that is not
in force. Then nothing is written at all, and of released results it is said as well what would be made of them had they
come by it; they stay as they are. Tried on them, what is in force finds those that were released under a limit that was
wrong, or before what they were compared with was corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from interface.domain.autoverify import Autoverification
from interface.domain.model import RELEASED, HoldReason, ResultStatus, Step
from interface.domain.permissions import Permission
from interface.domain.values import signed
from interface.domain.views import Actor
from interface.errors import LaboraError
from interface.flow.actors import may
from interface.flow.around import add_neighbours, rules_for, surroundings, used_by
from interface.flow.cases import Case, Rules
from interface.flow.cases import Decided as Decisions
from interface.flow.context import LinkContext
from interface.flow.criticals import open_for
from interface.flow.dilutions import STEP as DILUTION
from interface.flow.outcome import Surroundings, decisions, effects_of, judged_of
from interface.flow.qc_gate import gate_of
from interface.flow.qc_sweep import follow
from interface.flow.replay_controls import ControlChange, judged_again
from interface.flow.results import decode
from interface.flow.rules import rule_sets
from interface.flow.trial import Trial, Tried
from interface.flow.version_making import by_link, version_of
from interface.flow.work import Work
from interface.flow.work_ids import compared, names_work
from interface.settings import LinkRole
from interface.store import audit
from interface.store import results as store
from interface.store.catalogues import read_catalogue
from interface.store.db import Connection, Database
from interface.store.read_otherwise import read_otherwise
from interface.store.replay import Candidate, candidates, held_ever, lock_message, settle_again, stored, taken_back
from interface.store.results import CurrentResult
from interface.store.stored_messages import StoredMessage, read_messages
from interface.store.surroundings import waited as waited_of
from interface.store.version_rows import ResultVersion


class ReplayError(LaboraError):
    """A message that cannot be decided anew, in one sentence."""

    slug = "replay"


@dataclass(frozen=True, slots=True)
class Decided:
    """How a result is decided: "" and nothing held where there is none yet."""

    held: tuple[str, ...] = ()
    code: str = ""
    status: str = ""
    test: str = ""
    value: str = ""
    unit: str = ""
    flags: tuple[str, ...] = ()
    reference: str = ""
    method: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One result before and after. `patient_id` for the audit of whose data was shown; `stays`: in a trial, a result
    that no replay changes (it is released, or would not be read any more); nothing but its code is said where there
    would be none."""

    message_id: UUID
    result_id: UUID
    location: str
    barcode: str
    code: str
    before: Decided
    after: Decided
    status: str
    patient_id: UUID | None
    stays: bool = False


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


# Of results that are looked at again: it is not known any more whose they are, as their order is over; and what says
# something of the moment, not of what they say.
_WHOSE = frozenset(
    {HoldReason.NO_SUCH_SPECIMEN, HoldReason.AMBIGUOUS_SPECIMEN, HoldReason.NOT_ORDERED, HoldReason.OUTSIDE_WINDOW}
)
_OF_THE_MOMENT = frozenset(
    {HoldReason.QC_FAILED, HoldReason.QC_EXPIRED, HoldReason.RERUN, HoldReason.ALREADY_REPORTED, HoldReason.SAID_ANEW}
)


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
    trial: Trial | None = None,
) -> Replayed:
    """Decide a message anew, its controls first. `code`: only what is held because this code had no test; `trial`: by
    what is not in force, in a dry run only.

    Raises ReplayError: nobody who may, no such message, one that is not decided yet or whose link is not configured.
    """
    if not may(actor, Permission.MESSAGE_REPLAY):
        raise ReplayError(f"only a user with the permission {Permission.MESSAGE_REPLAY} may replay messages")
    if trial is not None and not dry_run:
        raise ReplayError("what is not in force decides nothing; it can be tried in a dry run")
    found: list[Replayed] = []
    try:
        async with database.by_index(actor.organization_id) as connection:
            if trial is None:
                found.append(await _replay(connection, actor, message_id, find_link, code, reason))
            else:
                found.append(await _try(connection, actor, message_id, find_link, code, trial))
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
) -> Replayed:
    work = await _work(connection, message_id, find_link)
    by = Tried(work.link, await read_catalogue(connection, actor.organization_id, work.link.driver.id,
                                               work.link.link_id))  # fmt: skip
    # Controls first, as when they came: their lock is the one to begin with.
    controls = await judged_again(connection, actor, work, by.catalogue, code, reason)
    again = await _again(connection, actor, work, by, code, reason)
    if again.versions:
        await store.write_versions(connection, actor.organization_id, again.versions)
        effects = effects_of(again.decided, by.catalogue)
        await store.write_effects(connection, actor.organization_id, [effects], again.now.active_id)
        await open_for(connection, actor, judged_of(again.versions))
    problems = tuple(f"{problem.location}: {problem.text}" for problem in work.decoded.problems)
    settled = await settle_again(connection, message_id, problems, work.incomplete)
    detail = {"code": code or "", "reason": reason, "settled": settled,
              "results": " ".join(str(version.result_id) for version in again.versions)}  # fmt: skip
    await audit.record(connection, actor, "replay", "message", message_id, detail)
    changes = tuple(_change(message_id, before, version) for version, before in again.pairs)
    name = again.now.active.version if again.now.active else ""
    return Replayed(message_id, work.link.name, settled, changes, again.unchanged, name, controls)


@dataclass(frozen=True, slots=True)
class _Again:
    """What waits, decided anew: each version with what was there before; what is as it was is only counted."""

    decided: list[Decisions]
    pairs: list[tuple[ResultVersion, Candidate | None]]
    unchanged: int
    now: Autoverification
    known: frozenset[UUID]  # of which the message says something

    @property
    def versions(self) -> list[ResultVersion]:
        return [version for version, _ in self.pairs]


async def _again(connection: Connection, actor: Actor, work: Work, by: Tried, code: str | None, reason: str) -> _Again:
    at = await surroundings(connection, [work])
    now, rules = await _deciding(connection, at, work, by)
    waiting = await candidates(connection, [one.id for one in at.current.values()])
    told = await _diluted(connection, work, waiting)
    # What comes to the same by a map or molar mass that was changed since is said anew all the same: else nobody could
    # release it.
    decided_by = await waited_of(connection, [one.version_id for one in waiting.values()])
    otherwise = await read_otherwise(connection, decided_by)
    gone = await taken_back(connection, work.message.id)
    wanted = partial(_of_interest, waiting=waiting, message_id=work.message.id, code=code, diluted=told, gone=gone)
    decided = decisions(work, by.catalogue, at, rules, wanted)
    step = Step("replay", "ok", f"decided anew by {actor.name}", inputs={"reason": reason} if reason else {})
    author = replace(by_link(work, rules), kind=actor.kind, id=actor.id)
    known = {one.id: one for one in at.current.values()}
    pairs: list[tuple[ResultVersion, Candidate | None]] = []
    unchanged = 0
    spoken_against = [case.result_id for one in decided for case in one.cases if case.waited is not None]
    if spoken_against:  # released results of other messages
        waiting |= await candidates(connection, spoken_against)
    for one in decided:
        for case in list(one.cases):
            case.again = step if case.observed is not None and case.waited is None else None
            version, before = version_of(case, author), waiting.get(case.result_id)
            same = before is not None and _alike(before, version, known.get(case.result_id))
            if before is not None and same and before.version_id not in otherwise:
                unchanged += 1
                one.cases.remove(case)
                continue
            pairs.append((version, before))
    return _Again(decided, pairs, unchanged, now, frozenset(known))


async def _deciding(connection: Connection, at: Surroundings, work: Work, by: Tried) -> tuple[Autoverification, Rules]:
    """What decides about a message, with what it compares with read."""
    gate = await gate_of(connection, [work.link.analyzer_id])
    if by.rules is not None:
        now = Autoverification(active=by.rules)
    else:
        now = await rule_sets().current(connection, by.catalogue.tests, work.link.settings.rules)
    await add_neighbours(connection, at, [(work, by.catalogue, now)])
    used = await used_by(connection, work.link.analyzer_id, by.catalogue, now)
    return now, rules_for(work.link, now, gate, used)


# ---- trials ----------------------------------------------------------------------------------------------------------


async def _try(
    connection: Connection,
    actor: Actor,
    message_id: UUID,
    find_link: Callable[[UUID], LinkContext | None],
    code: str | None,
    trial: Trial,
) -> Replayed:
    """What would become of a message; only controls are written, for they are judged where they are kept, and the
    caller takes that back."""
    as_is = await _work(connection, message_id, find_link)
    by = trial.links.get(as_is.link.link_id)
    if by is None:
        raise ReplayError("nothing that is tried concerns the message's link")
    work = as_is if by.link.driver is as_is.link.driver else await _decoded(connection, as_is.message, by.link)
    controls = await judged_again(connection, actor, work, by.catalogue, code, "") if trial.reads else ()
    there = await stored(connection, message_id)
    again = await _again(connection, actor, work, by, code, "")
    released = {one.version_id: one for one in there.values() if one.status in RELEASED and not one.pending}
    places = {(one.specimen, one.location): one for one in there.values()}
    changes = []
    for version, before in again.pairs:
        # What the driver reads under another code is the result that was read from the same place before.
        before = before or places.get((version.message.specimen_as_sent, version.location))
        if before is None or before.version_id not in released:
            changes.append(_change(message_id, before, version))
    if code is None and trial.in_force:
        said = await waited_of(connection, list(released))
        own = [released[id] for id, one in said.items() if all(step.step != "correct" for step in one.steps)]
        held = await held_ever(connection, [one.result_id for one in own])
        after_it = await _as_if_new(connection, work, by, there)
        changes += _released_otherwise(message_id, own, after_it, held)
    elif code is None:
        catalogue = await read_catalogue(connection, actor.organization_id, as_is.link.driver.id, as_is.link.link_id)
        before_it = await _as_if_new(connection, as_is, Tried(as_is.link, catalogue), there)
        after_it = await _as_if_new(connection, work, by, there)
        changes += _of_released(message_id, list(released.values()), before_it, after_it)
        read = {(sent.specimen_id or "", observed.location) for sent, observed, _ in work.observations()}
        changes += [_unread(message_id, one) for place, one in places.items() if place not in read]
    waits = bool(work.decoded.problems) or work.incomplete or any(one.after.held for one in changes if not one.stays)
    settled = "held" if waits or again.unchanged else "released"
    name = by.rules_name or (again.now.active.version if again.now.active else "")
    return Replayed(message_id, work.link.name, settled, tuple(changes), again.unchanged, name, controls)


_Place = tuple[str, str]  # the specimen as sent, and where in the message


async def _as_if_new(
    connection: Connection, work: Work, by: Tried, there: Mapping[UUID, Candidate]
) -> dict[_Place, ResultVersion]:
    """What would be made of a message's results had none of them come before."""
    at = await surroundings(connection, [work])
    at.current = {key: one for key, one in at.current.items() if one.id not in there}
    for specimen_id, known in at.locked.results.items():
        at.locked.results[specimen_id] = tuple(one for one in known if one.id not in there)
    _, rules = await _deciding(connection, at, work, by)
    decided = decisions(work, by.catalogue, at, rules, lambda case, known: known is None)
    author = by_link(work, rules)
    sent = (case for one in decided for case in one.cases if case.observed is not None and case.waited is None)
    versions = (version_of(case, author) for case in sent)
    return {(one.message.specimen_as_sent, one.location): one for one in versions}


def _of_released(
    message_id: UUID,
    released: Sequence[Candidate],
    before_it: Mapping[_Place, ResultVersion],
    after_it: Mapping[_Place, ResultVersion],
) -> Iterator[Change]:
    """Of each released result of which the trial says something else than what is in force."""
    for one in released:
        now, then = before_it.get((one.specimen, one.location)), after_it.get((one.specimen, one.location))
        if now is not None and then is not None and _told(now) != _told(then):
            yield replace(_change(message_id, one, then), result_id=one.result_id, stays=True)


def _released_otherwise(
    message_id: UUID,
    released: Sequence[Candidate],
    now: Mapping[_Place, ResultVersion],
    held_ever: Mapping[UUID, frozenset[HoldReason]],
) -> Iterator[Change]:
    """Of each released result of which something else would be said now than was, but for what a person has corrected:
    that is the person's word. What has held it once, somebody has seen; and whose order has ended since, or whose
    control has failed, says nothing of what it says."""
    for one in released:
        then = now.get((one.specimen, one.location))
        if then is None:
            continue
        was, said, held = _was(one), _told(then), held_ever[one.result_id]
        new = frozenset(map(HoldReason, said.held)) - held
        if new & _WHOSE:
            continue
        same = replace(said, held=was.held, status=was.status) == was
        if not same or new - _OF_THE_MOMENT:
            yield replace(_change(message_id, one, then), stays=True)


def _unread(message_id: UUID, one: Candidate) -> Change:
    return Change(
        message_id, one.result_id, one.location, one.specimen, one.code, _was(one), Decided(), "", one.patient_id,
        stays=True,
    )  # fmt: skip


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
    return await _decoded(connection, message, link)


async def _decoded(connection: Connection, message: StoredMessage, link: LinkContext) -> Work:
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
    diluted: Mapping[UUID, tuple[Step, ...]],
    gone: Mapping[tuple[str, str], int],
) -> bool:
    """Whether a result waits for a decision that this message may give. `diluted`: what was said of its dilution;
    `gone`: what a person took back of the message, by place. A driver that reads it otherwise now says it under another
    key, and undoes nothing of that: it is held for a person."""
    if known is None:
        sent, observed = case.sent, case.observed
        version = gone.get((sent.specimen_id or "", observed.location)) if sent and observed else None
        if version is not None:
            text = f"version {version} of what was read there is what a person made of it: a person looks at it again"
            case.hold(HoldReason.PERSON, Step("review", "hold", text, inputs={"version": str(version)}))
        return code is None  # of a message that was parked, or that the driver reads otherwise now
    before = waiting[known.id]
    waits = bool(before.held) or known.status is ResultStatus.PRELIMINARY
    if before.message_id != message_id or not waits:
        return False
    if before.by_person and known.status in RELEASED:  # the correction that a person proposes, or has verified
        return False
    case.diluted = diluted.get(known.id, ())
    return code is None or (before.code == code and HoldReason.UNMAPPED_CODE in before.held)


async def _diluted(
    connection: Connection, work: Work, waiting: Mapping[UUID, Candidate]
) -> dict[UUID, tuple[Step, ...]]:
    """By result, the factor that was known when the message came: the request that the run answered is done by now.
    What the analyzer says itself, it says again."""
    silent = {observed.location for _, observed, _ in work.observations() if observed.dilution is None}
    of = {one.version_id: one.result_id for one in waiting.values()
          if one.message_id == work.message.id and one.location in silent}  # fmt: skip
    found = {}
    for version_id, waited in (await waited_of(connection, list(of))).items():
        told = tuple(step for step in waited.steps if step.step == DILUTION and "factor" in step.inputs)
        if told:
            found[of[version_id]] = told
    return found


def _alike(before: Candidate, version: ResultVersion, known: CurrentResult | None) -> bool:
    """Whether it is decided as it was, limits, method and flags too: then no version is added."""
    held = before.held - {HoldReason.CHANGED_AFTER_RELEASE}
    same_specimen = known is None or known.status in RELEASED or known.specimen_id == version.message.specimen_id
    said = (before.test_code, before.comparator, before.value, before.unit)
    judged = (before.low, before.high, before.reference, before.method, frozenset(before.flags))
    now = version.alike
    return (
        held == frozenset(now.held) - {HoldReason.CHANGED_AFTER_RELEASE}
        and same_specimen
        and (now.pending or now.status not in RELEASED)
        and said == (now.test_code, now.comparator, version.value, now.unit)
        and judged == (now.low, now.high, now.reference, now.method, frozenset(now.flags))
    )


def _change(message_id: UUID, before: Candidate | None, after: ResultVersion) -> Change:
    was = Decided() if before is None else _was(before)
    return Change(
        message_id, after.result_id, after.location, after.message.specimen_as_sent, after.alike.code, was,
        _told(after), after.alike.status, after.message.patient_id,
    )  # fmt: skip


def _was(one: Candidate) -> Decided:
    return Decided(
        tuple(sorted(one.held)), one.code, one.status, one.test_code, signed(one.comparator, one.value), one.unit,
        one.flags, one.reference, one.method,
    )  # fmt: skip


def _told(version: ResultVersion) -> Decided:
    one = version.alike
    return Decided(
        one.held, one.code, one.status, one.test_code, signed(one.comparator, version.value), one.unit, one.flags,
        one.reference, one.method,
    )  # fmt: skip
