"""Deciding messages anew: results that wait are decided again with the maps, orders and rules of now.

A replay may change only what waits: a result that is held, or the held change beside a released one, and only where the
version that waits came from this very message. What a later message said, what a person decided and what was released
are left alone. Nothing is released by it. `dry_run` does all of it and takes it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from interface.domain.model import RELEASED, HoldReason, ResultStatus, Step
from interface.domain.permissions import Permission
from interface.domain.views import Actor
from interface.errors import LaboraError
from interface.flow.actors import may
from interface.flow.context import LinkContext
from interface.flow.outcome import Specimens, Work, decisions
from interface.flow.results import decode, surroundings
from interface.store import audit
from interface.store import results as store
from interface.store.catalogue import read_catalogue
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from interface.store.journal import read_messages
from interface.store.replay import Candidate, candidates, lock_message, settle_again
from interface.store.results import CurrentResult, ResultVersion


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
    """What deciding a message anew came to. `unchanged`: results that waited and wait for the same reasons."""

    message_id: UUID
    link: str
    settled: str
    changes: tuple[Change, ...]
    unchanged: int = 0


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
) -> Replayed:
    """Decide a message anew. `code`: only results that are held because this code had no test.

    Raises ReplayError: nobody who may, no such message, one that is not decided yet or whose link is not configured.
    """
    if not may(actor, Permission.MESSAGE_REPLAY):
        raise ReplayError(f"only a user with the permission {Permission.MESSAGE_REPLAY} may replay messages")
    found: list[Replayed] = []
    try:
        async with database.transaction(actor.organization_id) as connection:
            found.append(await _replay(connection, actor, message_id, find_link, code, reason))
            if dry_run:
                raise _TakeBack
    except _TakeBack:
        pass
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
    catalogue = await read_catalogue(connection, actor.organization_id, work.link.driver.id, work.link.link_id)
    at = await surroundings(connection, [work])
    waiting = await candidates(connection, [one.id for one in at.current.values()])
    anew = decisions(work, catalogue, at.specimens, at.apart, at.closed)
    step = Step("replay", "ok", f"decided anew by {actor.name}", inputs={"reason": reason} if reason else {})
    versions: list[ResultVersion] = []
    changes: list[Change] = []
    unchanged = 0
    for version, known in _of_interest(anew, at.current, waiting, message_id, code):
        before = waiting[known.id] if known else None
        if before is not None and _alike(before, version, known, at.specimens):
            unchanged += 1
            continue
        decided = _following(actor, version, known, step)
        versions.append(decided)
        changes.append(_change(message_id, before, decided))
    if versions:
        await store.write_versions(connection, actor.organization_id, versions)
    problems = tuple(f"{problem.location}: {problem.text}" for problem in work.decoded.problems)
    settled = await settle_again(connection, message_id, problems, work.incomplete)
    detail = {"code": code or "", "reason": reason, "settled": settled,
              "results": " ".join(str(version.result_id) for version in versions)}  # fmt: skip
    await audit.record(connection, actor, "replay", "message", message_id, detail)
    return Replayed(message_id, work.link.name, settled, tuple(changes), unchanged)


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
    link = find_link(message.link_id)
    if link is None:
        raise ReplayError("the message's link is not in the configuration any more")
    try:
        return decode(message, link)
    except Exception as error:  # whatever a driver stumbles over; its text may quote a patient
        raise ReplayError(f"the message cannot be decoded ({type(error).__name__})") from error


def _of_interest(
    anew: Iterator[ResultVersion],
    current: Mapping[bytes, CurrentResult],
    waiting: Mapping[UUID, Candidate],
    message_id: UUID,
    code: str | None,
) -> Iterator[tuple[ResultVersion, CurrentResult | None]]:
    """The decisions on what waits for one, each with the result it is of."""
    for version in anew:
        known = current.get(version.natural_key)
        if known is None:
            if code is None:  # of a message that was parked, or that the driver reads otherwise now
                yield version, None
            continue
        before = waiting[known.id]
        if before.message_id != message_id or not before.held:
            continue
        if code is None or (before.code == code and HoldReason.UNMAPPED_CODE in before.held):
            yield version, known


def _alike(before: Candidate, version: ResultVersion, known: CurrentResult | None, specimens: Specimens) -> bool:
    """Whether it is decided as it was: then no version is added."""
    held = before.held - {HoldReason.CHANGED_AFTER_RELEASE}
    same_specimen = known is None or known.status in RELEASED or known.specimen_id == version.specimen_id
    said = (before.test_code, before.comparator, before.value, before.unit)
    return (
        held == frozenset(version.held)
        and same_specimen
        and said == (version.test_code, version.comparator, version.value, version.unit)
    )


def _following(actor: Actor, version: ResultVersion, known: CurrentResult | None, replayed: Step) -> ResultVersion:
    """The decision as the result's next version, with who had it taken anew in its explanation."""
    steps = (version.steps[0], replayed, *version.steps[1:])
    version = replace(version, actor_kind=actor.kind, actor_id=actor.id)
    if known is None:
        return replace(version, steps=steps)
    following = replace(version, id=uuid7(), result_id=known.id, version=known.last_version + 1, fresh=False)
    if known.status not in RELEASED:
        text = "takes the place of the version that waited"
        return replace(
            following, steps=(*steps, Step("version", "ok", text, inputs={"replaces": str(known.version_id)}))
        )
    held = (*version.held, HoldReason.CHANGED_AFTER_RELEASE)
    text = f"version {known.version} is released and stays current until a person decides"
    step = Step("version", "hold", text, inputs={"replaces": str(known.version_id)})
    return replace(following, pending=True, held=held, status=ResultStatus.REGISTERED, steps=(*steps, step))


def _change(message_id: UUID, before: Candidate | None, after: ResultVersion) -> Change:
    was = Decided()
    if before is not None:
        was = Decided(tuple(sorted(before.held)), before.test_code, before.comparator + before.value, before.unit)
    now = Decided(tuple(after.held), after.test_code, after.comparator + after.value, after.unit, after.flags)
    return Change(
        message_id, after.result_id, after.location, after.specimen_as_sent, after.code, was, now, after.status,
        after.patient_id,
    )  # fmt: skip
