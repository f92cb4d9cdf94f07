"""Targets: set, replaced, ended, worked out from points; nothing silently, and history stays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

import asyncpg
import pytest

from interface.domain.facts import QcState
from interface.domain.permissions import Role
from interface.domain.qc import Stream
from interface.domain.qc_lots import TargetKind, TargetSource, in_force
from interface.domain.qc_targets import Spread
from interface.domain.views import Actor
from interface.errors import ApiError
from interface.flow import qc_gate
from interface.flow import qc_targets as flow
from interface.flow.qc_lots import LotChange, change_lot, close_lot
from interface.flow.qc_targets import Establishing, Place, TargetChange, Wanted
from interface.store import qc_lots as rows
from interface.store.db import Connection, Database
from interface.store.qc_lots import TargetFilter
from tests.conftest import Organization
from tests.qc_records import WHY, add_lot, add_points, add_target, director
from tests.records import Laboratory, found, user

T = TypeVar("T")
DAY = timedelta(days=1)
PLACE = Place("4711", "hema", "HGB")
# Twenty numbers; mean 12.015, sum of squared deviations 0.2055: worked out by hand.
TWENTY = ("11.9", "12.0", "12.1", "12.0", "11.8", "12.2", "12.0", "12.1", "11.9", "12.0",
          "12.1", "12.0", "11.9", "12.0", "12.1", "12.2", "11.9", "12.0", "12.0", "12.1")  # fmt: skip


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


async def does(
    laboratory: Laboratory, step: Callable[[Connection, Actor], Awaitable[T]], actor: Actor | None = None
) -> T:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        return await step(connection, actor or director(laboratory))


async def refused(laboratory: Laboratory, step: Callable[[Connection, Actor], Awaitable[object]]) -> str:
    with pytest.raises(ApiError) as caught:
        await does(laboratory, step)
    return f"{caught.value.status} {caught.value}"


async def set_(laboratory: Laboratory, wanted: Wanted, place: Place = PLACE) -> str:
    return await refused(laboratory, lambda c, a: flow.set_target(c, a, place, wanted, WHY))


async def test_a_target_is_set_and_judges_from_then_on(laboratory: Laboratory) -> None:
    lot = await add_lot(laboratory)
    made = await add_target(laboratory, unit="gm/dl", source=TargetSource.MANUFACTURER, note="insert 7")
    assert (made.mean, made.sd, made.unit, made.source) == (
        Decimal("12.0"), Decimal("0.5"), "g/dL", TargetSource.MANUFACTURER,
    )  # fmt: skip
    assert (made.analyzer, made.test, made.lot, made.level, made.material, made.by, made.note) == (
        "hema", "HGB", "4711", "low", "Control", "dora", "insert 7",
    )  # fmt: skip
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        [held] = await rows.targets_of(connection, laboratory.analyzer_id, [lot.id])
        assert held == made
        assert in_force([held], lot.id, "", laboratory.tests["HGB"], "R1", datetime.now(UTC)) == made
        assert await rows.targets_of(connection, laboratory.analyzer_id, [laboratory.analyzer_id]) == []
        assert await rows.find_targets(connection, TargetFilter(at=made.valid_from - DAY)) == []


async def test_what_a_target_may_not_be(laboratory: Laboratory) -> None:
    await add_lot(laboratory, expires_on=datetime.now(UTC).date() + timedelta(days=100))
    await add_lot(laboratory, level="high", number=2, analyzers=("hema",))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute("update lab.test set kind = 'coded' where code = 'WBC'")
        await connection.execute(
            "insert into lab.analyzer (id, organization_id, name) values (gen_random_uuid(), $1, 'chem')",
            laboratory.organization_id,
        )
    low, number = Place("4711/low", "hema", "HGB"), Decimal(12)
    now = datetime.now(UTC)
    for place, wanted, said in (
        (low, Wanted(number, Decimal(0), "g/dL"), "422 the SD is not above 0"),
        (low, Wanted(Decimal("NaN"), Decimal(1), "g/dL"), "422 the mean is no number that can be measured"),
        (low, Wanted(number, Decimal(1)), "422 a target of HGB needs a unit, such as g/dL"),
        (low, Wanted(number, Decimal(1), "mmol/L"), "422 mmol/L cannot be converted to g/dL"),
        (low, Wanted(number, Decimal(1), "blobs"), "422 unknown unit 'blobs'"),
        (low, Wanted(number, Decimal(1), "g/dL", valid_to=now - DAY), "422 it would end before it begins"),
        (low, Wanted(number, Decimal(1), "g/dL", valid_from=datetime(2026, 1, 1)), "422 the begin has no time zone"),  # noqa: DTZ001
        (low, Wanted(number, Decimal(1), "g/dL", valid_from=now + 200 * DAY), "409 lot 4711/low expired on"),
        (Place("4711/low", "hema", "WBC"), Wanted(number, Decimal(1)), "422 WBC is not reported as a number"),
        (Place("4711/high", "chem", "HGB"), Wanted(number, Decimal(1), "g/dL"), "409 lot 4711/high is not measured on"),
        (Place("1", "hema", "HGB"), Wanted(number, Decimal(1)), "404 there is no lot '1'"),
        (Place("4711/low", "nobody", "HGB"), Wanted(number, Decimal(1)), "404 there is no analyzer 'nobody'"),
        (Place("4711/low", "hema", "NO"), Wanted(number, Decimal(1)), "404 there is no test 'NO'"),
    ):
        assert said in await set_(laboratory, wanted, place)
    await add_target(laboratory, "4711/low")
    assert "409 lot 4711/low has a target for HGB on hema since" in await set_(
        laboratory, Wanted(number, Decimal(1), "g/dL"), low
    )
    # of another module, of a reagent lot, before the other begins: all of these stand beside it
    await add_target(laboratory, "4711/low", module="M1")
    await add_target(laboratory, "4711/low", reagent_lot="R1")
    await add_target(laboratory, "4711/low", valid_from=now - 3 * DAY, valid_to=now - 2 * DAY)
    lot = await add_lot(laboratory, "4712")
    await does(laboratory, lambda c, a: close_lot(c, a, lot.id, WHY))
    assert "409 lot 4712/low was closed" in await set_(
        laboratory, Wanted(number, Decimal(1), "g/dL"), Place("4712", "hema", "HGB")
    )


async def test_of_two_targets_that_are_set_at_once_one_is_refused(laboratory: Laboratory) -> None:
    await add_lot(laboratory)
    both = await asyncio.gather(
        *(add_target(laboratory, mean=mean) for mean in ("12", "13")), return_exceptions=True
    )  # fmt: skip
    assert sorted(type(one).__name__ for one in both) == ["ApiError", "TargetView"]
    assert await laboratory.count("qc_target", "true") == 1


async def test_a_change_ends_one_and_begins_another_from_then_on(laboratory: Laboratory) -> None:
    lot = await add_lot(laboratory)
    first = await add_target(laboratory)
    at = first.valid_from + DAY / 2
    change = TargetChange(sd=Decimal("0.4"))
    second = await does(laboratory, lambda c, a: flow.change_target(c, a, first.id, change, "too wide", at))
    assert (second.mean, second.sd, second.valid_from, second.unit) == (Decimal("12.0"), Decimal("0.4"), at, "g/dL")
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        [old, new] = await rows.find_targets(connection, TargetFilter(lot_ids=(lot.id,), ended=True))
        assert (old.sd, old.ended_at, old.end_reason, old.ended_by) == (Decimal("0.5"), at, "too wide", "dora")
        assert new == second
        for moment, wanted in ((at - DAY / 4, first.id), (at, second.id), (at + DAY / 4, second.id)):
            [held] = await rows.find_targets(connection, TargetFilter(lot_ids=(lot.id,), at=moment))
            assert held.id == wanted
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("update lab.qc_target set mean = 1")
    assert await laboratory.count("audit_event", "action = 'update' and detail->>'sd' = '0.5 → 0.4'") == 1
    again = lambda c, a: flow.change_target(c, a, first.id, change, WHY)  # noqa: E731
    assert "409 the target has ended" in await refused(laboratory, again)
    for step, said in (
        (lambda c, a: flow.change_target(c, a, second.id, change, WHY), "422 this changes nothing"),
        (lambda c, a: flow.change_target(c, a, second.id, TargetChange(), WHY), "422 this changes nothing"),
        (
            lambda c, a: flow.change_target(c, a, second.id, TargetChange(mean=Decimal(11)), WHY, at - DAY),
            "422 the target begins only on",
        ),
        (lambda c, a: flow.change_target(c, a, second.id, TargetChange(unit="%"), WHY), "422 % cannot be converted"),
        (lambda c, a: flow.change_target(c, a, second.id, TargetChange(sd=Decimal(1)), " "), "422 this needs a reason"),
    ):
        assert said in await refused(laboratory, step)
    assert await laboratory.count("qc_target", "ended_at is null") == 1, "what was refused has ended nothing"


async def test_a_target_that_was_wrong_from_its_begin_never_was(laboratory: Laboratory) -> None:
    await add_lot(laboratory)
    wrong = await add_target(laboratory, mean="1.2")
    change = TargetChange(mean=Decimal("12.0"))
    right = await does(laboratory, lambda c, a: flow.change_target(c, a, wrong.id, change, "typed", wrong.valid_from))
    assert right.valid_from == wrong.valid_from
    gone = await does(laboratory, lambda c, a: flow.end_target(c, a, right.id, WHY, never=True))
    assert gone.ended_at == gone.valid_from
    assert not gone.holds(gone.valid_from)
    await add_target(laboratory)  # neither is in its way
    assert await laboratory.count("qc_target", "true") == 3


async def test_a_target_ends_when_a_person_says_so(laboratory: Laboratory) -> None:
    await add_lot(laboratory)
    made = await add_target(laboratory)
    soon = datetime.now(UTC) + DAY
    view = await does(laboratory, lambda c, a: flow.end_target(c, a, made.id, WHY, soon))
    assert view.ended_at == soon
    assert "409 the target has ended, or will end" in await refused(
        laboratory, lambda c, a: flow.end_target(c, a, made.id, WHY)
    )
    await add_target(laboratory, valid_from=soon)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        assert len(await rows.find_targets(connection, TargetFilter())) == 2, "neither is over"
        assert [one.id for one in await rows.find_targets(connection, TargetFilter(at=datetime.now(UTC)))] == [made.id]


async def test_only_who_manages_quality_control_changes_targets(laboratory: Laboratory) -> None:
    await add_lot(laboratory)
    made = await add_target(laboratory)
    of = Establishing(PLACE)
    steps: list[Callable[[Connection, Actor], Awaitable[object]]] = [
        lambda c, a: flow.set_target(c, a, PLACE, Wanted(Decimal(1), Decimal(1)), WHY),
        lambda c, a: flow.change_target(c, a, made.id, TargetChange(sd=Decimal(1)), WHY),
        lambda c, a: flow.end_target(c, a, made.id, WHY),
        lambda c, a: flow.establish(c, a, of, 20, WHY),
        lambda c, a: flow.recompute(c, a, made.id, WHY),
        lambda c, a: flow.recompute_all(c, a, WHY),
    ]
    for actor in (laboratory.technologist, user(laboratory.organization_id, Role.VIEWER)):
        for step in steps:
            with pytest.raises(ApiError, match="qc:manage"):
                await does(laboratory, step, actor)


# ---- establishing ---------------------------------------------------------------------------------------------------


async def test_a_new_lot_is_established_beside_the_one_in_use(laboratory: Laboratory) -> None:
    old = await add_lot(laboratory, "4710")
    target = await add_target(laboratory, "4710", valid_from=datetime.now(UTC) - 40 * DAY)
    await add_points(laboratory, old.id, ["11.8", "12.0", "12.2"], target_id=target.id)
    new = await add_lot(laboratory, "4711")
    await add_points(laboratory, new.id, TWENTY)
    await add_points(laboratory, new.id, ["99"], excluded=True)
    of = Establishing(PLACE)
    shown = await does(laboratory, lambda c, a: flow.proposal(c, of))
    assert (shown.measured.points, shown.measured.days, shown.problems) == (20, 20, ())
    assert (shown.unit, shown.measured.mean, shown.mean, shown.sd) == (
        "g/dL", Decimal("12.015"), Decimal("12.015"), Decimal("0.104"),
    )  # fmt: skip
    assert shown.former is not None
    assert (shown.former.lot, shown.former.measured.points, shown.former.measured.sd) == ("4710/low", 3, Decimal("0.2"))
    assert shown.remarks == ("its CV is 0.87 %, 0.21 times that of lot 4710/low",)
    assert await laboratory.count("qc_target", "true") == 1, "a proposal sets nothing"

    seen = lambda c, a: flow.establish(c, a, of, 19, WHY)  # noqa: E731
    assert "409 there are 20 points now, and the proposal was from 19" in await refused(laboratory, seen)
    made = await does(laboratory, lambda c, a: flow.establish(c, a, of, 20, WHY))
    assert (made.mean, made.sd, made.points, made.source, made.kind, made.note) == (
        Decimal("12.015"), Decimal("0.104"), 20, TargetSource.LABORATORY, TargetKind.FIXED,
        "established from 20 points on 20 days",
    )  # fmt: skip
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        known = await rows.find_targets(connection, TargetFilter(at=datetime.now(UTC)))
    assert {one.lot for one in known} == {"4710", "4711"}, "both lots are judged until one is closed"


async def test_too_few_points_or_days_establish_nothing_unless_a_person_asks_for_fewer(laboratory: Laboratory) -> None:
    lot = await add_lot(laboratory)
    of = Establishing(PLACE)
    assert "409 there are 0 points on 0 days, and at least 20 on 10 are wanted" in await refused(
        laboratory, lambda c, a: flow.establish(c, a, of, 0, WHY)
    )
    await add_points(laboratory, lot.id, TWENTY, every=timedelta(minutes=1))
    shown = await does(laboratory, lambda c, a: flow.proposal(c, of))
    assert shown.measured.days in (1, 2)  # midnight may be among them
    assert "and at least 20 on 10 are wanted" in shown.problems[0]
    assert "409" in await refused(laboratory, lambda c, a: flow.establish(c, a, of, 20, WHY))
    fewer = Establishing(PLACE, points=5, days=1)
    assert (await does(laboratory, lambda c, a: flow.establish(c, a, fewer, 20, WHY))).points == 20
    none, many = Establishing(PLACE, points=0), Establishing(PLACE, days=10_001)
    assert "422 points wanted" in await refused(laboratory, lambda c, a: flow.proposal(c, none))
    assert "422 days wanted" in await refused(laboratory, lambda c, a: flow.proposal(c, many))


async def test_a_manufacturers_target_ends_where_the_laboratorys_own_begins(laboratory: Laboratory) -> None:
    lot = await add_lot(laboratory)
    theirs = await add_target(laboratory, source=TargetSource.MANUFACTURER, valid_from=datetime.now(UTC) - 60 * DAY)
    await add_points(laboratory, lot.id, TWENTY, target_id=theirs.id)
    of = Establishing(PLACE)
    ours = await does(laboratory, lambda c, a: flow.establish(c, a, of, 20, WHY, TargetKind.CUMULATIVE))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        [old, new] = await rows.find_targets(connection, TargetFilter(lot_ids=(lot.id,), ended=True))
    assert (old.id, old.ended_at, new.id) == (theirs.id, ours.valid_from, ours.id)


async def test_the_sd_of_a_new_lot_may_be_the_former_lots_cv(laboratory: Laboratory) -> None:
    await add_lot(laboratory, "4710")
    new = await add_lot(laboratory, "4711")
    await add_points(laboratory, new.id, TWENTY[:10])
    of = Establishing(PLACE, Spread.PREVIOUS)
    assert "409 there is no lot in use whose CV could be taken" in await refused(
        laboratory, lambda c, a: flow.establish(c, a, of, 10, WHY)
    )
    await add_target(laboratory, "4710", "10.0", "0.25")  # CV 2.5 %
    made = await does(laboratory, lambda c, a: flow.establish(c, a, of, 10, WHY))
    # 12.0 and 2.5 % of it
    assert (made.mean, made.sd, made.note) == (
        Decimal("12.0"), Decimal("0.300"), "established from 10 points on 10 days, with the CV of lot 4710/low",
    )  # fmt: skip


async def test_points_of_another_reagent_lot_module_or_time_are_not_counted_where_one_is_named(
    laboratory: Laboratory,
) -> None:
    lot = await add_lot(laboratory)
    await add_points(laboratory, lot.id, ["12.0"] * 3, module="M1", reagent_lot="R1")
    await add_points(laboratory, lot.id, ["14.0"] * 2, module="M2", reagent_lot="R2")
    await add_points(laboratory, lot.id, ["16.0"], begin=datetime.now(UTC) - 90 * DAY)

    async def counts(**said: str) -> int:
        of = Establishing(Place("4711", "hema", "HGB", **said))
        return (await does(laboratory, lambda c, a: flow.proposal(c, of))).measured.points

    assert [await counts(), await counts(module="M1"), await counts(reagent_lot="R2")] == [6, 3, 2]
    recent = Establishing(PLACE, since=datetime.now(UTC) - 30 * DAY)
    assert (await does(laboratory, lambda c, a: flow.proposal(c, recent))).measured.points == 5


# ---- cumulative -----------------------------------------------------------------------------------------------------


async def test_a_cumulative_target_is_computed_anew_only_when_somebody_says_so(laboratory: Laboratory) -> None:
    lot = await add_lot(laboratory)
    first = await add_target(laboratory, kind=TargetKind.CUMULATIVE, valid_from=datetime.now(UTC) - 60 * DAY)
    await add_points(laboratory, lot.id, TWENTY[:19])
    nothing = lambda c, a: flow.recompute(c, a, first.id, WHY)  # noqa: E731
    assert "409 there is nothing new, or fewer than 20 points" in await refused(laboratory, nothing)
    await add_points(laboratory, lot.id, TWENTY[19:], begin=datetime.now(UTC) - DAY / 2)
    assert await laboratory.count("qc_target", "true") == 1, "points alone change no target"
    second = await does(laboratory, lambda c, a: flow.recompute(c, a, first.id, "month's end"))
    assert (second.mean, second.sd, second.points, second.kind, second.source) == (
        Decimal("12.015"), Decimal("0.104"), 20, TargetKind.CUMULATIVE, TargetSource.LABORATORY,
    )  # fmt: skip
    again = lambda c, a: flow.recompute(c, a, second.id, WHY)  # noqa: E731
    assert "409 there is nothing new" in await refused(laboratory, again)
    assert await does(laboratory, lambda c, a: flow.recompute_all(c, a, WHY)) == []
    await add_points(laboratory, lot.id, ["12.0"], begin=datetime.now(UTC) - DAY / 4)
    [third] = await does(laboratory, lambda c, a: flow.recompute_all(c, a, WHY))
    assert third.points == 21
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        known = await rows.find_targets(connection, TargetFilter(lot_ids=(lot.id,), ended=True))
    assert [one.id for one in known] == [first.id, second.id, third.id]
    assert [one.ended_at for one in known] == [second.valid_from, third.valid_from, None]


async def test_a_fixed_target_is_not_computed_anew_nor_one_of_points_all_alike(laboratory: Laboratory) -> None:
    lot = await add_lot(laboratory)
    fixed = await add_target(laboratory)
    await add_points(laboratory, lot.id, ["12.0"] * 20)
    assert "409 the target is fixed" in await refused(laboratory, lambda c, a: flow.recompute(c, a, fixed.id, WHY))
    change = TargetChange(kind=TargetKind.CUMULATIVE)
    cumulative = await does(laboratory, lambda c, a: flow.change_target(c, a, fixed.id, change, WHY))
    assert "all alike" in await refused(laboratory, lambda c, a: flow.recompute(c, a, cumulative.id, WHY))
    assert await does(laboratory, lambda c, a: flow.recompute_all(c, a, WHY)) == []
    assert "422 422" not in await refused(laboratory, lambda c, a: flow.establish(c, a, Establishing(PLACE), 20, WHY))
    await does(laboratory, lambda c, a: change_lot(c, a, lot.id, LotChange(expires_on=date(2020, 1, 1)), WHY))
    await add_points(laboratory, lot.id, ["12.1"])
    assert "409 lot 4711/low expired" in await refused(
        laboratory, lambda c, a: flow.recompute(c, a, cumulative.id, WHY)
    )


# ---- what follows for the gate --------------------------------------------------------------------------------------


async def test_the_gate_goes_by_the_targets_and_expiries_that_are_said_now(laboratory: Laboratory) -> None:
    lot = await add_lot(laboratory)
    high = await add_lot(laboratory, level="high", number=2)
    today = datetime.now(UTC).date()
    target = await add_target(laboratory, "4711/low", valid_from=datetime.now(UTC) - 2 * DAY)
    await add_points(laboratory, lot.id, ["12.0"], every=DAY / 24, target_id=target.id, verdict="accept")
    stream = Stream(laboratory.analyzer_id, laboratory.tests["HGB"])
    assert await does(laboratory, lambda c, a: qc_gate.refresh(c, a, stream, "a point")) is QcState.OK

    async def state() -> str:
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            found: str = await connection.fetchval("select state from lab.qc_stream")
            return found

    # the run had only one of the two levels that are wanted now
    second = await add_target(laboratory, "4711/high", "16.0", valid_from=datetime.now(UTC) - 2 * DAY)
    assert await state() != QcState.OK
    await does(laboratory, lambda c, a: flow.end_target(c, a, second.id, WHY, never=True))
    assert await state() == QcState.OK
    assert await laboratory.count("qc_event", "true") == 3
    # a level of a lot that is closed is not wanted any more
    await add_target(laboratory, "4711/high", "16.0", valid_from=datetime.now(UTC) - 2 * DAY)
    assert await state() != QcState.OK
    await does(laboratory, lambda c, a: change_lot(c, a, high.id, LotChange(expires_on=today - 3 * DAY), WHY))
    assert await state() == QcState.OK
    past = LotChange(expires_on=date(2020, 1, 1))
    await does(laboratory, lambda c, a: change_lot(c, a, lot.id, past, WHY))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        expires_at = await connection.fetchval("select expires_at from lab.qc_stream")
    assert expires_at == datetime(2020, 1, 2, tzinfo=UTC), "what vouched has expired with its lot"
