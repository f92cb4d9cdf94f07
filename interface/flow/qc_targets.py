"""What controls should measure: set, replaced, ended, worked out from what was measured. API and command line share it.

A target is never changed: it is ended, and another begins, so that what a point was judged by is found again. A point
keeps the verdict that it was given. Each change is in the caller's transaction, with an audit row. Raises ApiError 403,
404, 409 and 422.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from interface.domain.model import ValueKind
from interface.domain.permissions import Permission
from interface.domain.qc_lots import (
    LotView,
    TargetKind,
    TargetSource,
    TargetView,
    of_its_number,
    overlapping,
    same_place,
    target_problems,
    until,
    unusable,
)
from interface.domain.qc_targets import (
    FEWEST_CUMULATED,
    Former,
    Proposal,
    Spread,
    cumulated,
    former_of,
    propose,
)
from interface.domain.units import canonical
from interface.domain.views import Actor, LabTestView
from interface.errors import ApiError, UnknownUnit
from interface.flow import qc_gate
from interface.flow.actors import require
from interface.flow.changes import given, record_change, refuse
from interface.flow.problems import instant_problems, reason_of, text_problems
from interface.flow.qc_lots import LONGEST_NAME, analyzer_named, lot_named
from interface.store import qc_lots as rows
from interface.store.catalogue import shipped_aliases
from interface.store.catalogue_rows import read_tests
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.qc_gate import wrong_points

MOST_POINTS: Final = 10_000  # that may be asked for before a target is established


@dataclass(frozen=True, slots=True)
class Place:
    """What a target is of. `lot` as `flow.qc_lots.lot_named` takes it; `module` and `reagent_lot` "": of any."""

    lot: str
    analyzer: str
    test: str
    module: str = ""
    reagent_lot: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person says that controls should measure. `valid_from` None: from now on."""

    mean: Decimal
    sd: Decimal
    unit: str = ""  # UCUM, or as analyzers write it; "" only where the test has none
    source: TargetSource = TargetSource.LABORATORY
    kind: TargetKind = TargetKind.FIXED
    note: str = ""
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    points: int = 0


@dataclass(frozen=True, slots=True)
class TargetChange:
    """What is different from now on; None leaves it."""

    mean: Decimal | None = None
    sd: Decimal | None = None
    unit: str | None = None
    source: TargetSource | None = None
    kind: TargetKind | None = None
    note: str | None = None
    valid_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class Establishing:
    """How a target is to be worked out. `points` and `days`: how many are wanted at least; None: as usual."""

    place: Place
    spread: Spread = Spread.OBSERVED
    points: int | None = None
    days: int | None = None
    since: datetime | None = None


# ---- by a person's word ---------------------------------------------------------------------------------------------


async def set_target(connection: Connection, actor: Actor, place: Place, wanted: Wanted, reason: str) -> TargetView:
    """Say what a lot should measure. Refused while another says it: that is changed, or ended first."""
    reason = await _begin(connection, actor, reason)
    new, test = await _target(connection, actor, place, wanted)
    return await _begun(connection, actor, new, test, reason)


async def target_at(connection: Connection, actor: Actor, place: Place, wanted: Wanted) -> TargetView:
    """What `set_target` would write."""
    return (await _target(connection, actor, place, wanted))[0]


async def change_target(
    connection: Connection,
    actor: Actor,
    target_id: UUID,
    change: TargetChange,
    reason: str,
    at: datetime | None = None,
) -> TargetView:
    """From `at` (now) on another target in its place; at its begin: as if it had never been. Returns the new one."""
    reason = await _begin(connection, actor, reason)
    known = await target_of(connection, target_id)
    [test] = await read_tests(connection, [known.test])
    said = given(change, TargetChange.__slots__)
    if "unit" in said:
        said["unit"] = _unit(said["unit"], test)
    if not said or all(getattr(known, name) == value for name, value in said.items()):
        raise ApiError(422, "value", "this changes nothing")
    at = at or _now()
    new = replace(known, id=uuid7(), valid_from=at, by=actor.name, created_at=_now(), points=0, **said)
    if "mean" not in said and "sd" not in said:
        new = replace(new, points=known.points)
    return await _replace(connection, actor, known, new, test, reason)


async def end_target(
    connection: Connection,
    actor: Actor,
    target_id: UUID,
    reason: str,
    at: datetime | None = None,
    never: bool = False,
) -> TargetView:
    """It judges nothing that is measured from `at` (now) on; `never`: it was wrong from its begin."""
    reason = await _begin(connection, actor, reason)
    known = await target_of(connection, target_id)
    await _end(connection, actor, known, known.valid_from if never else at or _now(), reason)
    view = await target_of(connection, target_id)
    await record_change(connection, actor, "qc_target", target_id, _name(view), reason, known, view)
    await _refresh(connection, actor, view, "a target ended", target_id)
    return view


async def target_of(connection: Connection, target_id: UUID) -> TargetView:
    found = await rows.find_targets(connection, rows.TargetFilter(ids=(target_id,)))
    if not found:
        raise ApiError(404, "not-found", "there is no target of this id")
    return found[0]


async def filter_of(
    connection: Connection, analyzer: str, test: str, lot: str, at: datetime | None, ended: bool
) -> rows.TargetFilter:
    """Which targets, by what people call an analyzer, a test and a lot (or all its levels); "" any."""
    lots = [one.id for one in await rows.read_lots(connection, named=lot, closed=True)] if lot else []
    if lot and not lots:
        lots = [(await lot_named(connection, lot)).id]
    return rows.TargetFilter(
        analyzer_id=await analyzer_named(connection, analyzer) if analyzer else None,
        test_id=(await _test(connection, test)).id if test else None,
        lot_ids=tuple(lots),
        at=at,
        ended=ended,
    )


async def sharing(connection: Connection) -> list[str]:
    """Levels of a test on an analyzer that have one number, by targets in force: `_begun` refuses them since."""
    known, told = defaultdict[tuple[UUID, UUID], list[TargetView]](list), []
    for one in await rows.find_targets(connection, rows.TargetFilter(at=_now())):
        beside = known[one.analyzer_id, one.test_id]
        if other := of_its_number(one, beside):
            names = " and ".join(f"{each.material}/{each.lot}/{each.level}".rstrip("/") for each in (other, one))
            told.append(f"{names} of {one.test} on {one.analyzer}")
        beside.append(one)
    return told


async def _check(connection: Connection, new: TargetView, test: LabTestView) -> None:
    """Raise for whatever is wrong with a target, by itself or beside the others of its lot."""
    problems = [*text_problems("note", new.note), *text_problems("module", new.module, LONGEST_NAME)]
    problems += text_problems("reagent lot", new.reagent_lot, LONGEST_NAME)
    problems += [*instant_problems("the begin", new.valid_from), *instant_problems("the end", new.valid_to)]
    refuse(problems)
    if test.kind is not ValueKind.NUMERIC:
        problems.append(f"{test.code} is not reported as a number: it has no mean")
    problems += target_problems(
        new.mean, new.sd, new.unit, test.code, test.unit, test.substance, new.valid_from, new.valid_to
    )
    refuse(problems)
    [lot] = await rows.read_lots(connection, ids=[new.lot_id])
    if why := unusable(lot, new.valid_from):
        raise ApiError(409, "conflict", why)
    if lot.analyzers and new.analyzer not in lot.analyzers:
        raise ApiError(409, "conflict", f"lot {lot.name} is not measured on {new.analyzer}")
    known = await rows.find_targets(connection, rows.TargetFilter(lot_ids=(new.lot_id,), ended=True))
    if other := overlapping(new, known):
        since = f"{other.valid_from:%Y-%m-%d %H:%M} UTC"
        text = f"lot {lot.name} has a target for {new.test} on {new.analyzer} since {since}: change it, or end it first"
        raise ApiError(409, "conflict", text)


async def _target(connection: Connection, actor: Actor, place: Place, wanted: Wanted) -> tuple[TargetView, LabTestView]:
    """A target as it would be written, and its test."""
    lot, analyzer_id, test = await _found(connection, place)
    view = TargetView(
        id=uuid7(), lot_id=lot.id, lot=lot.lot, level=lot.level, level_number=lot.level_number, material=lot.material,
        analyzer_id=analyzer_id, analyzer=place.analyzer, module=place.module.strip(), test_id=test.id, test=test.code,
        mean=wanted.mean, sd=wanted.sd, unit=_unit(wanted.unit, test), source=wanted.source, kind=wanted.kind,
        points=wanted.points, reagent_lot=place.reagent_lot.strip(), note=wanted.note.strip(),
        valid_from=wanted.valid_from or _now(), valid_to=wanted.valid_to, created_at=_now(), by=actor.name,
        lot_until=until(lot),
    )  # fmt: skip
    return view, test


async def _found(connection: Connection, place: Place) -> tuple[LotView, UUID, LabTestView]:
    lot, analyzer_id = await lot_named(connection, place.lot), await analyzer_named(connection, place.analyzer)
    return lot, analyzer_id, await _test(connection, place.test)


async def _test(connection: Connection, code: str) -> LabTestView:
    found = await read_tests(connection, [code])
    if not found:
        raise ApiError(404, "not-found", f"there is no test {code!r}")
    return found[0]


def _unit(text: str, test: LabTestView) -> str:
    """A unit as analyzers write it is that which can be compared with the test's."""
    if not text.strip():
        return test.unit if test.unit in ("", "1") else ""
    try:
        return canonical(text, shipped_aliases(), test.unit)
    except UnknownUnit as error:
        raise ApiError(422, "value", str(error)) from None


async def _replace(
    connection: Connection, actor: Actor, known: TargetView, new: TargetView, test: LabTestView, reason: str
) -> TargetView:
    await _end(connection, actor, known, new.valid_from, reason)
    await _check(connection, new, test)
    return await _write(connection, actor, new, known, reason)


async def _end(connection: Connection, actor: Actor, known: TargetView, at: datetime, reason: str) -> None:
    refuse(list(instant_problems("the end", at)))
    if known.ended_at is not None or (known.valid_to is not None and known.valid_to <= at):
        raise ApiError(409, "conflict", f"the target has ended, or will end, on {known.end:%Y-%m-%d %H:%M} UTC")
    if at < known.valid_from:
        raise ApiError(422, "value", f"the target begins only on {known.valid_from:%Y-%m-%d %H:%M} UTC")
    await rows.end_target(connection, actor, known.id, at, reason)


async def _begun(connection: Connection, actor: Actor, new: TargetView, test: LabTestView, reason: str) -> TargetView:
    """The first target of its points. One that is there stays correctable, whatever its number."""
    await _check(connection, new, test)
    beside = rows.TargetFilter(analyzer_id=new.analyzer_id, test_id=new.test_id)
    if other := of_its_number(new, await rows.find_targets(connection, beside)):
        name = f"{other.lot}/{other.level}".rstrip("/")
        text = f"level number {new.level_number} of {new.test} on {new.analyzer} is lot {name} of {other.material}"
        text += ", and a run would need only one of the two: give each level a number of its own, or end that target"
        raise ApiError(409, "conflict", text)
    return await _write(connection, actor, new, None, reason)


async def _write(
    connection: Connection, actor: Actor, new: TargetView, known: TargetView | None, reason: str
) -> TargetView:
    await rows.insert_targets(connection, actor, [new])
    view = await target_of(connection, new.id)
    await record_change(connection, actor, "qc_target", view.id, _name(view), reason, known, view)
    await _refresh(connection, actor, view, "a target began", known.id if known is not None else None)
    return view


async def _refresh(connection: Connection, actor: Actor, target: TargetView, reason: str, ended: UUID | None) -> None:
    """Which levels an acceptable run has follows from the targets there are. `ended`: one that is in force no more;
    where it was wrong, what failed since may have been good for less long than its list says, and what it alone
    vouched for is looked at."""
    lot = f"lot {target.lot}/{target.level}"
    for stream in await rows.streams_at(connection, target.analyzer_id, target.test_id, target.module):
        wrong = await wrong_points(connection, stream, ended) if ended is not None else []
        await qc_gate.refresh(connection, actor, stream, f"{reason}: {lot}", wrong[0] if wrong else None)
        if wrong:
            await qc_gate.look_at_unvouched(connection, actor, stream, wrong, f"the target of {lot} was wrong")


# ---- from what was measured -----------------------------------------------------------------------------------------


async def proposal(connection: Connection, of: Establishing) -> Proposal:
    """What a lot's own points make of its target, beside that of the lot in use; nothing is written."""
    lot, analyzer_id, test = await _found(connection, of.place)
    for name, number in (("points", of.points), ("days", of.days)):
        if number is not None and not 1 <= number <= MOST_POINTS:
            raise ApiError(422, "value", f"{name} wanted are from 1 to {MOST_POINTS}")
    if test.kind is not ValueKind.NUMERIC:
        raise ApiError(422, "value", f"{test.code} is not reported as a number: it has no mean")
    place = of.place
    points = await _points(connection, analyzer_id, test.id, lot.id, place.module, place.reagent_lot, of.since)
    former = await _former(connection, lot, analyzer_id, test.id, place.module)
    return propose(points, test.unit, test.decimals, former, of.spread, of.points, of.days)


async def establish(
    connection: Connection,
    actor: Actor,
    of: Establishing,
    points: int,
    reason: str,
    kind: TargetKind = TargetKind.FIXED,
    valid_from: datetime | None = None,
) -> TargetView:
    """Set what `proposal` showed. `points`: how many that was from, so that nothing is set that nobody saw.

    A target that the lot has already, such as its manufacturer's, ends.
    """
    reason = await _begin(connection, actor, reason)
    found = await proposal(connection, of)
    if found.measured.points != points:
        text = f"there are {found.measured.points} points now, and the proposal was from {points}: look at it again"
        raise ApiError(409, "conflict", text)
    if found.problems or found.mean is None or found.sd is None:
        raise ApiError(409, "conflict", "; ".join(found.problems) or "there are no points")
    note = f"established from {points} points on {found.measured.days} days"
    if of.spread is Spread.PREVIOUS and found.former is not None:
        note += f", with the CV of lot {found.former.lot}"
    wanted = Wanted(
        found.mean, found.sd, found.unit, TargetSource.LABORATORY, kind, note, valid_from, points=points
    )  # fmt: skip
    new, test = await _target(connection, actor, of.place, wanted)
    known = await rows.find_targets(connection, rows.TargetFilter(lot_ids=(new.lot_id,), at=new.valid_from))
    for one in known:
        if same_place(one, new):
            return await _replace(connection, actor, one, new, test, reason)
    return await _begun(connection, actor, new, test, reason)


async def recompute(connection: Connection, actor: Actor, target_id: UUID, reason: str) -> TargetView:
    """A cumulative target anew, from all counted points of its lot so far; another begins now."""
    reason = await _begin(connection, actor, reason)
    known = await target_of(connection, target_id)
    if known.kind is not TargetKind.CUMULATIVE:
        raise ApiError(409, "conflict", "the target is fixed: change it, or establish another")
    made = await _recompute(connection, actor, known, reason)
    if made is None:
        text = f"there is nothing new, or fewer than {FEWEST_CUMULATED} points, or they are all alike"
        raise ApiError(409, "conflict", text)
    return made


async def recompute_all(connection: Connection, actor: Actor, reason: str) -> list[TargetView]:
    """Every cumulative target in force for which there is something new; those that begin now."""
    reason = await _begin(connection, actor, reason)
    known = await rows.find_targets(connection, rows.TargetFilter(at=_now()))
    of_kind = [one for one in known if one.kind is TargetKind.CUMULATIVE and one.ended_at is None]
    of_kind.sort(key=lambda one: one.analyzer_id)  # whose streams are locked, in one order everywhere
    made = [await _recompute(connection, actor, one, reason) for one in of_kind]
    return [one for one in made if one is not None]


async def _recompute(connection: Connection, actor: Actor, known: TargetView, reason: str) -> TargetView | None:
    [test] = await read_tests(connection, [known.test])
    found = await _points(
        connection, known.analyzer_id, known.test_id, known.lot_id, known.module, known.reagent_lot
    )  # fmt: skip
    made = cumulated(found, test.decimals)
    if made is None or len(found) == known.points:
        return None
    at = _now()
    new = replace(
        known, id=uuid7(), mean=made[0], sd=made[1], unit=test.unit, source=TargetSource.LABORATORY, points=len(found),
        valid_from=at, created_at=at, by=actor.name,
    )  # fmt: skip
    return await _replace(connection, actor, known, new, test, reason)


async def _points(
    connection: Connection,
    analyzer_id: UUID,
    test_id: UUID,
    lot_id: UUID,
    module: str,
    reagent_lot: str,
    since: datetime | None = None,
) -> list[tuple[datetime, Decimal]]:
    found = await rows.counted_points(connection, analyzer_id, test_id, lot_id, module, reagent_lot, since)
    return [(one.at, one.number) for one in found]


async def _former(connection: Connection, lot: LotView, analyzer_id: UUID, test_id: UUID, module: str) -> Former | None:
    """The lot of the same level of the same material that has or had a target there; of several the newest target."""
    wanted = rows.TargetFilter(analyzer_id=analyzer_id, test_id=test_id, ended=True)
    found: Sequence[TargetView] = [
        one
        for one in await rows.find_targets(connection, wanted)
        if (one.material, one.level_number) == (lot.material, lot.level_number)
        and one.lot_id != lot.id
        and one.module in ("", module)
        and one.valid_from <= _now()
        and (one.end is None or one.end > one.valid_from)
    ]
    newest = max(found, key=lambda one: (one.holds(_now()), bool(one.module), one.valid_from), default=None)
    if newest is None:
        return None
    return former_of(
        newest,
        await _points(
            connection, analyzer_id, test_id, newest.lot_id, newest.module, newest.reagent_lot, newest.valid_from
        ),
    )


# ---- parts ----------------------------------------------------------------------------------------------------------


async def _begin(connection: Connection, actor: Actor, reason: str) -> str:
    require(actor, Permission.QC_MANAGE)
    said = reason_of(reason)
    await rows.lock_lots(connection, actor.organization_id)
    return said


def _name(view: TargetView) -> str:
    """For the audit."""
    return f"{view.test} of {view.lot}/{view.level} on {view.analyzer}"


def _now() -> datetime:
    return datetime.now(UTC)
