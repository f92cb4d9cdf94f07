"""The laboratory's own catalogue: its tests, panels, specimen types and intervals, added, changed, taken out of use.

Nothing is deleted, and what decided a result stays readable: a test keeps its unit and kind as long as results of it
exist, a change of an interval ends its row and adds another. Each change is in the caller's transaction, with an audit
row that says what was there before, and why. Raises ApiError 403, 404, 409 and 422.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from interface.domain.intervals import collide, faults
from interface.domain.loinc import is_loinc
from interface.domain.model import Interval, ValueKind
from interface.domain.permissions import Permission
from interface.domain.times import EARLIEST
from interface.domain.units import Substance, commensurable, parse
from interface.domain.views import Actor, IntervalView, LabTestView, PanelView, SpecimenTypeView
from interface.errors import ApiError, UnknownUnit
from interface.flow.actors import require
from interface.flow.changes import given, record_change, refuse, same_version
from interface.flow.problems import reason_of, text_problems
from interface.store import catalogue_rows as rows
from interface.store.catalogue import SITE
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.worksheets import analyzer_id as find_analyzer

KINDS: Final = (ValueKind.NUMERIC, ValueKind.TEXT, ValueKind.CODED, ValueKind.RATIO)  # what a test can be of
MOST_DECIMALS: Final = 10
MOST_VALENCE: Final = 20  # no ion has more
NEVER: Final = EARLIEST  # no specimen was collected before: what ended then applies to none
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,31}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TestChange:
    """What a test is to say; None leaves it as it is, or as a new test begins. `unknown`: of its substance what is not
    known any more, by name: a molar mass that was given by mistake converts until somebody takes it back."""

    name: str | None = None
    loinc: str | None = None
    unit: str | None = None  # UCUM
    decimals: int | None = None
    as_measured: bool = False  # no fixed decimals, whatever `decimals` says
    kind: ValueKind | None = None
    department: str | None = None
    specimen_types: tuple[str, ...] | None = None
    substance: Substance | None = None
    unknown: tuple[str, ...] = ()
    source: str | None = None
    active: bool | None = None


@dataclass(frozen=True, slots=True)
class PanelChange:
    name: str | None = None
    loinc: str | None = None
    tests: tuple[str, ...] | None = None
    source: str | None = None
    active: bool | None = None


# ---- tests -----------------------------------------------------------------------------------------------------------


async def set_test(
    connection: Connection, actor: Actor, code: str, change: TestChange, reason: str, version: int | None = None
) -> LabTestView:
    """Add a test, or change one. `version`: what the change was made from.

    A test that has results keeps its unit and its kind. One that is out of use is not ordered any more, and what an
    analyzer sends of it is held.
    """
    reason = await _begin(connection, actor, code, reason)
    known = await rows.lock_test(connection, code)
    same_version(known.version if known else None, version)
    before = known or LabTestView(uuid7(), 1, code, "", source=SITE)
    after = replace(
        before,
        **given(change, ("name", "loinc", "unit", "kind", "department", "specimen_types", "source", "active")),
        substance=replace(_substance(before.substance, change.substance), **dict.fromkeys(change.unknown)),
        decimals=None if change.as_measured else before.decimals if change.decimals is None else change.decimals,
    )
    types = {type.code for type in await rows.read_specimen_types(connection)}
    refuse([*_test_problems(after), *_unknown("specimen type", after.specimen_types, types)])
    if change.unknown:  # without it limits in the other kind of unit hold every result, which nobody can accept
        limits = {view.interval.unit for view in await rows.read_intervals(connection, [code])} - {""}
        refuse([problem for unit in sorted(limits) for problem in _limit_unit_problems(unit, after)])
    if known is None:
        if await rows.read_panels(connection, [code]):
            raise ApiError(409, "duplicate", f"there is a panel {code}: a code orders one thing only")
        await rows.insert_test(connection, actor.organization_id, after)
    elif after != known:
        changed = [name for name in ("unit", "kind") if getattr(known, name) != getattr(after, name)]
        if changed and await rows.has_results(connection, known.id):
            text = f"{code} has results: its {' and '.join(changed)} cannot change; add a test of another code for it"
            raise ApiError(409, "conflict", text)
        if known.active and not after.active:
            await _in_no_panel(connection, code)
        await rows.update_test(connection, after)
    await record_change(connection, actor, "test", after.id, code, reason, known, after)
    [view] = await rows.read_tests(connection, [code])
    return view


async def deactivate_test(connection: Connection, actor: Actor, code: str, reason: str) -> LabTestView:
    """Take a test out of use."""
    require(actor, Permission.CATALOGUE_WRITE)
    await _test_of(connection, code)
    return await set_test(connection, actor, code, TestChange(active=False), reason)


async def _in_no_panel(connection: Connection, code: str) -> None:
    """An order of a panel would go on without the test, and whoever ordered it would be told that all is ordered."""
    panels = [one.code for one in await rows.read_panels(connection, active=True) if code in one.tests]
    if panels:
        named = f"the panel{'s' if len(panels) > 1 else ''} {', '.join(panels)}"
        raise ApiError(409, "conflict", f"{code} is in {named}: take it out first, an order would go on without it")


def _substance(before: Substance, change: Substance | None) -> Substance:
    """Who says a valence does not take back the molar mass: without it what comes in the other kind of unit is held."""
    if change is None:
        return before
    molar_mass = before.molar_mass if change.molar_mass is None else change.molar_mass
    return Substance(molar_mass, before.valence if change.valence is None else change.valence)


def _test_problems(test: LabTestView) -> Iterable[str]:
    if not test.name.strip():
        yield "a test needs a name"
    for name, text in (("name", test.name), ("department", test.department), ("source", test.source)):
        yield from text_problems(name, text)
    if test.loinc and not is_loinc(test.loinc):
        yield f"{test.loinc!r} is not a LOINC code"
    if test.kind not in KINDS:
        yield f"the kind of a test is one of {', '.join(KINDS)}"
    if test.unit and (problem := _unit_problem(test.unit)):
        yield problem
    if test.kind is ValueKind.NUMERIC and not test.unit:
        yield "a test with numbers needs a unit; 1 for none"
    if test.decimals is not None and not 0 <= test.decimals <= MOST_DECIMALS:
        yield f"decimals are from 0 to {MOST_DECIMALS}"
    if test.substance.molar_mass is not None and test.substance.molar_mass <= 0:
        yield "a molar mass is above 0"
    if test.substance.valence is not None and not 1 <= test.substance.valence <= MOST_VALENCE:
        yield f"a valence is from 1 to {MOST_VALENCE}"


# ---- panels and specimen types ---------------------------------------------------------------------------------------


async def set_panel(
    connection: Connection, actor: Actor, code: str, change: PanelChange, reason: str, version: int | None = None
) -> PanelView:
    """Add a panel of tests, or change one; panels are flat."""
    reason = await _begin(connection, actor, code, reason)
    found = await rows.read_panels(connection, [code])
    known = found[0] if found else None
    same_version(known.version if known else None, version)
    before = known or PanelView(uuid7(), 1, code, "", source=SITE)
    after = replace(before, **given(change, ("name", "loinc", "tests", "source", "active")))
    tests = {test.code: test for test in await rows.read_tests(connection, after.tests)}
    problems = [*_unknown("test", after.tests, tests)]
    problems += [f"{one.code} is not in use" for one in tests.values() if after.active and not one.active]
    if not after.name.strip():
        problems.append("a panel needs a name")
    if not after.tests:
        problems.append("a panel needs a test")
    if len(set(after.tests)) < len(after.tests):
        problems.append("a panel has each test once")
    if after.loinc and not is_loinc(after.loinc):
        problems.append(f"{after.loinc!r} is not a LOINC code")
    for name, text in (("name", after.name), ("source", after.source)):
        problems += text_problems(name, text)
    refuse(problems)
    if known is None and await rows.read_tests(connection, [code]):
        raise ApiError(409, "duplicate", f"there is a test {code}: a code orders one thing only")
    if after != known:
        await rows.put_panel(connection, actor.organization_id, after, [tests[each].id for each in after.tests])
    await record_change(connection, actor, "panel", after.id, code, reason, known, after)
    [view] = await rows.read_panels(connection, [code])
    return view


async def deactivate_panel(connection: Connection, actor: Actor, code: str, reason: str) -> PanelView:
    """Take a panel out of use."""
    require(actor, Permission.CATALOGUE_WRITE)
    if not await rows.read_panels(connection, [code]):
        raise ApiError(404, "not-found", f"there is no panel {code}")
    return await set_panel(connection, actor, code, PanelChange(active=False), reason)


async def set_specimen_type(
    connection: Connection,
    actor: Actor,
    code: str,
    name: str | None,
    reason: str,
    source: str | None = None,
    active: bool | None = None,
) -> SpecimenTypeView:
    """Add a specimen type, or change one; None leaves what it says."""
    reason = await _begin(connection, actor, code, reason)
    known = next((type for type in await rows.read_specimen_types(connection) if type.code == code), None)
    after = known or SpecimenTypeView(code, "", SITE)
    after = SpecimenTypeView(
        code,
        after.name if name is None else name.strip(),
        after.source if source is None else source.strip(),
        after.active if active is None else active,
    )
    problems = [] if after.name else ["a specimen type needs a name"]
    refuse([*problems, *text_problems("name", after.name), *text_problems("source", after.source)])
    if after != known:
        await rows.put_specimen_type(connection, actor.organization_id, after)
    await record_change(connection, actor, "specimen_type", None, code, reason, known, after)
    return after


# ---- intervals -------------------------------------------------------------------------------------------------------


async def add_interval(
    connection: Connection, actor: Actor, test: str, interval: Interval, reason: str
) -> IntervalView:
    """Add an interval of a test; its `id` and `test_id` are made here. It needs a source."""
    reason = await _begin(connection, actor, test, reason)
    of = await _test_of(connection, test)
    new = replace(interval, id=str(uuid7()), test_id=str(of.id), unit=interval.unit or of.unit)
    await _add(connection, actor, of, new)
    await record_change(connection, actor, "interval", UUID(new.id), test, reason, None, new)
    return await _interval(connection, UUID(new.id))


async def change_interval(
    connection: Connection, actor: Actor, interval_id: UUID, new: Interval, reason: str, at: datetime | None = None
) -> IntervalView:
    """From `at` (now) on another interval in its place, for specimens that are collected then; returns that one."""
    known = await _interval(connection, interval_id)
    reason = await _begin(connection, actor, known.test, reason)
    at = at or datetime.now(UTC)
    of, old = await _test_of(connection, known.test), known.interval
    same = replace(new, id=old.id, test_id=old.test_id, valid_from=old.valid_from, valid_to=old.valid_to)
    if repr(same) == repr(old):  # reports print limits as they are written: 5.00 for 5.0 is a change
        raise ApiError(422, "value", "this changes nothing")
    new = replace(new, id=str(uuid7()), test_id=old.test_id, valid_from=at, valid_to=old.valid_to)
    await _end(connection, old, at)
    await _add(connection, actor, of, new)
    await record_change(connection, actor, "interval", UUID(new.id), known.test, reason, old, new)
    return await _interval(connection, UUID(new.id))


async def end_interval(
    connection: Connection,
    actor: Actor,
    interval_id: UUID,
    reason: str,
    at: datetime | None = None,
    never: bool = False,
) -> IntervalView:
    """It applies to no specimen that is collected from `at` (now) on; `never`: it was wrong, and applies to none."""
    known = await _interval(connection, interval_id)
    reason = await _begin(connection, actor, known.test, reason)
    await _end(connection, known.interval, NEVER if never else at or datetime.now(UTC))
    view = await _interval(connection, interval_id)
    await record_change(connection, actor, "interval", interval_id, known.test, reason, known.interval, view.interval)
    return view


async def _end(connection: Connection, interval: Interval, at: datetime) -> None:
    if not await rows.end_interval(connection, UUID(interval.id), at):
        raise ApiError(409, "conflict", "the interval has ended before that")


async def _add(connection: Connection, actor: Actor, test: LabTestView, new: Interval) -> None:
    types = {type.code for type in await rows.read_specimen_types(connection)}
    known = [new.specimen_type] if new.specimen_type else []
    new = replace(new, method=" ".join(new.method.split()))  # as a result's is: blanks that nobody sees tell none apart
    refuse([*_interval_problems(new, test), *_unknown("specimen type", known, types)])
    if new.analyzer and await find_analyzer(connection, new.analyzer) is None:  # it would be for no result at all
        text = f"there is no analyzer {new.analyzer!r}; one is there once its link has been started"
        raise ApiError(404, "not-found", text)
    there = [view.interval for view in await rows.read_intervals(connection, [test.code], ended=True)]
    others = [one for one in there if one.id != new.id and (one.valid_to is None or one.valid_to > NEVER)]
    if new.valid_from is None:  # it follows those that have ended, and was ever so where there were none
        ended = [one.valid_to for one in others if one.valid_to is not None and collide(new, one)]
        new = replace(new, valid_from=max(ended, default=None))
    for other in others:
        if collide(new, other):
            text = f"interval {other.id} of {test.code} is for the same people: change it, or end it first"
            raise ApiError(409, "conflict", text)
    await rows.insert_interval(connection, actor.organization_id, new)


def _interval_problems(new: Interval, test: LabTestView) -> Iterable[str]:
    if not new.source.strip():
        yield "an interval needs a source"
    for name in ("text", "source", "method", "analyzer"):
        yield from text_problems(name, getattr(new, name))
    yield from faults(new)
    if new.age_low_d < 0 or (new.age_low_h or 0) < 0 or (new.gestation_low_w or 0) < 0:
        yield "ages and weeks begin at 0"
    for below, above, text in (
        (new.critical_low, new.low, "the lower critical limit is above the lower limit"),
        (new.high, new.critical_high, "the upper limit is above the upper critical limit"),
    ):
        if below is not None and above is not None and below > above:
            yield text
    if any(limit is not None for limit in (new.low, new.high, new.critical_low, new.critical_high)):
        yield from _limit_unit_problems(new.unit, test)


def _limit_unit_problems(unit: str, test: LabTestView) -> Iterable[str]:
    if unit == test.unit:
        return
    try:
        if not commensurable(unit, test.unit, test.substance):
            yield f"a limit in {unit} cannot be compared with a result in {test.unit}"
    except UnknownUnit as error:
        yield f"the unit {unit!r} cannot be compared with {test.unit!r}: {error}"


async def _test_of(connection: Connection, code: str) -> LabTestView:
    found = await rows.read_tests(connection, [code])
    if not found:
        raise ApiError(404, "not-found", f"there is no test {code}")
    return found[0]


async def _interval(connection: Connection, interval_id: UUID) -> IntervalView:
    found = await rows.read_intervals(connection, ids=[interval_id], ended=True)
    if not found:
        raise ApiError(404, "not-found", "there is no interval of this id")
    return found[0]


# ---- parts -----------------------------------------------------------------------------------------------------------


async def _begin(connection: Connection, actor: Actor, code: str, reason: str) -> str:
    """Who may, a code that can be one, and the reason as it is kept; nobody else changes the catalogue meanwhile."""
    require(actor, Permission.CATALOGUE_WRITE)
    if not _CODE.fullmatch(code):
        raise ApiError(422, "value", "a code is of letters, digits and _.+-, 32 at most")
    reason = reason_of(reason)
    await rows.lock_catalogue(connection, actor.organization_id)
    return reason


def _unit_problem(unit: str) -> str:
    try:
        parse(unit)
    except UnknownUnit as error:
        return f"the unit {unit!r} is not understood: {error}"
    return ""


def _unknown(what: str, codes: Iterable[str], known: Iterable[str]) -> list[str]:
    there = set(known)
    return [f"there is no {what} {code!r}" for code in dict.fromkeys(codes) if code not in there]
