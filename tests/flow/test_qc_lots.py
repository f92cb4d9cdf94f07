"""Materials, lots and what analyzers use: who may, what is refused, and that history stays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

import pytest

from interface.domain.permissions import Role
from interface.domain.qc_lots import LotKind, LotView, MaterialView
from interface.domain.views import Actor, ActorKind
from interface.errors import ApiError
from interface.flow import catalogue
from interface.flow import qc_lots as flow
from interface.flow.qc_lots import LotChange, MaterialChange, NewUse, Seen
from interface.store import qc_lots as rows
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from tests.conftest import Organization
from tests.qc_records import WHY, add_lot, add_points, add_target, director
from tests.records import Laboratory, found, user

T = TypeVar("T")
Step = Callable[[Connection, Actor], Awaitable[object]]
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


async def does(
    laboratory: Laboratory, step: Callable[[Connection, Actor], Awaitable[T]], actor: Actor | None = None
) -> T:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        return await step(connection, actor or director(laboratory))


async def refused(laboratory: Laboratory, step: Step) -> str:
    with pytest.raises(ApiError) as caught:
        await does(laboratory, step)
    return f"{caught.value.status} {caught.value}"


def creates(material_id: UUID, change: LotChange) -> Step:
    return lambda c, a: flow.create_lot(c, a, material_id, change)


def changes(lot_id: UUID, change: LotChange) -> Step:
    return lambda c, a: flow.change_lot(c, a, lot_id, change, WHY)


def finds(text: str) -> Callable[[Connection, Actor], Awaitable[LotView]]:
    return lambda c, a: flow.lot_named(c, text)


def enters(new: NewUse) -> Step:
    return lambda c, a: flow.enter_use(c, a, new)


def ends(use_id: UUID, at: datetime | None) -> Step:
    return lambda c, a: flow.end_use(c, a, use_id, "empty", at)


# ---- materials and lots ---------------------------------------------------------------------------------------------


async def test_a_material_is_added_changed_closed_and_opened_again(laboratory: Laboratory) -> None:
    made = await does(laboratory, lambda c, a: flow.create_material(c, a, MaterialChange(" Control ", "Maker", "C-1")))
    assert (made.name, made.manufacturer, made.catalogue_number, made.version) == ("Control", "Maker", "C-1", 1)
    assert "409 there is a control material 'Control'" in await refused(
        laboratory, lambda c, a: flow.create_material(c, a, MaterialChange("Control"))
    )
    assert "422 a control material needs a name" in await refused(
        laboratory, lambda c, a: flow.create_material(c, a, MaterialChange(" "))
    )
    changed = await does(
        laboratory, lambda c, a: flow.change_material(c, a, made.id, MaterialChange(note="frozen"), WHY, 1)
    )
    assert (changed.note, changed.manufacturer, changed.version) == ("frozen", "Maker", 2)
    assert "409" in await refused(
        laboratory, lambda c, a: flow.change_material(c, a, made.id, MaterialChange(note="x"), WHY, 1)
    )
    lot = await add_lot(laboratory)
    assert "409 Control has lots that are open" in await refused(
        laboratory, lambda c, a: flow.close_material(c, a, made.id, WHY)
    )
    await does(laboratory, lambda c, a: flow.close_lot(c, a, lot.id, WHY))
    closed: MaterialView = await does(laboratory, lambda c, a: flow.close_material(c, a, made.id, WHY))
    assert closed.closed_at is not None
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        assert await rows.read_materials(connection) == []
        assert [one.name for one in await rows.read_materials(connection, closed=True)] == ["Control"]
    assert "409 Control is closed" in await refused(
        laboratory, lambda c, a: flow.create_lot(c, a, made.id, LotChange("2"))
    )
    assert "409 Control is closed" in await refused(laboratory, lambda c, a: flow.reopen_lot(c, a, lot.id, WHY))
    await does(laboratory, lambda c, a: flow.reopen_material(c, a, made.id, WHY))
    assert (await does(laboratory, lambda c, a: flow.reopen_lot(c, a, lot.id, WHY))).closed_at is None
    steps = await laboratory.count("audit_event", "entity_kind in ('qc_material', 'qc_lot')")
    assert steps == 7, "every change has its audit row, and nothing that was refused"


REFUSED = (
    (LotChange(" "), "422 a lot needs its number"),
    (LotChange("1", level_number=0), "422 the number of a level is from 1 to 9"),
    (LotChange("1", level_number=10), "422 the number of a level is from 1 to 9"),
    (LotChange("1", identifiers=("Q*C",)), "422 an identifier has its * at the end"),
    (LotChange("1", identifiers=("*",)), "422 an identifier is empty"),
    (LotChange("1", identifiers=("QC ",)), "begins or ends with a space"),
    (LotChange("1", identifiers=("QC", "QC")), "422 an identifier is given twice"),
    (LotChange("1", identifiers=("Q\n",)), "422 an identifier is empty, or begins or ends with a space"),
    (LotChange("1" * 81), "422 the lot is longer than 80 characters"),
    (LotChange("1", analyzers=("nobody",)), "422 there is no analyzer 'nobody'"),
    (LotChange("4711", "low", 3), "409 there is a lot 4711/low of Control already"),
    (LotChange("4711", "high", 1), "409 level low of lot 4711 has the number 1"),
    (LotChange("4712", "low", 1, identifiers=("QC1",)), "409 'QC1' is also what lot 4711/low of Control is called"),
    (LotChange("4712", "low", 1, identifiers=("Q*",)), "409 'Q*' is also what"),
    (LotChange("4712", "low", 1, identifiers=("QC1",), analyzers=("hema",)), "409 'QC1' is also what"),
)


async def test_a_lot_that_is_no_lot_or_could_be_taken_for_another_is_refused(laboratory: Laboratory) -> None:
    known = await add_lot(laboratory, identifiers=("QC1", "C*"))
    for change, said in REFUSED:
        assert said in await refused(laboratory, creates(known.material_id, change))


async def test_two_analyzers_may_call_different_lots_alike_and_levels_share_a_name(laboratory: Laboratory) -> None:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        other = uuid7()
        await connection.execute(
            "insert into lab.analyzer (id, organization_id, name) values ($1, $2, 'chem')",
            other, laboratory.organization_id,
        )  # fmt: skip
    low = await add_lot(laboratory, identifiers=("QC1",), analyzers=("hema",))
    high = await add_lot(laboratory, level="high", number=2, identifiers=("QC1",), analyzers=("hema",))
    chem = await add_lot(laboratory, "9", identifiers=("QC1",), analyzers=("chem",))
    anybody = await add_lot(laboratory, "10", identifiers=("ANY",))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        on_hema = {one.id for one in await rows.lots_of(connection, laboratory.analyzer_id)}
        on_chem = {one.id for one in await rows.lots_of(connection, other)}
    assert on_hema == {low.id, high.id, anybody.id}
    assert on_chem == {chem.id, anybody.id}
    # once one is closed, its name is free
    await does(laboratory, lambda c, a: flow.close_lot(c, a, low.id, WHY))
    await does(laboratory, lambda c, a: flow.close_lot(c, a, high.id, WHY))
    await does(laboratory, lambda c, a: flow.change_lot(c, a, chem.id, LotChange(analyzers=()), WHY))
    assert "409 'QC1' is also what" in await refused(laboratory, lambda c, a: flow.reopen_lot(c, a, low.id, WHY))


async def test_a_lot_that_cannot_be_used_is_known_for_a_year(laboratory: Laboratory) -> None:
    today = datetime.now(UTC).date()
    await add_lot(laboratory, "good", expires_on=today)
    await add_lot(laboratory, "expired", expires_on=today - timedelta(days=30))
    await add_lot(laboratory, "long ago", expires_on=today - timedelta(days=400))
    closed = await add_lot(laboratory, "closed")
    await does(laboratory, lambda c, a: flow.close_lot(c, a, closed.id, WHY))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        there = {one.lot for one in await rows.lots_of(connection, laboratory.analyzer_id)}
    assert there == {"good", "expired", "closed"}


async def test_a_lot_is_changed_but_keeps_what_its_points_rely_on(laboratory: Laboratory) -> None:
    lot = await add_lot(laboratory)
    renamed = await does(laboratory, lambda c, a: flow.change_lot(c, a, lot.id, LotChange(level="L1"), WHY))
    assert renamed.level == "L1"
    await add_points(laboratory, lot.id, ["12"])
    for change in (LotChange(lot="5"), LotChange(level="L2"), LotChange(level_number=2)):
        assert "409 lot 4711/L1 has targets or points" in await refused(laboratory, changes(lot.id, change))
    change = LotChange(expires_on=date(2027, 1, 31), identifiers=("QC1",), note="opened")
    view: LotView = await does(laboratory, lambda c, a: flow.change_lot(c, a, lot.id, change, WHY))
    assert (view.expires_on, view.identifiers, view.note, view.level) == (date(2027, 1, 31), ("QC1",), "opened", "L1")
    assert await laboratory.count("audit_event", "detail->>'expires_on' = ' → 2027-01-31' and action = 'update'") == 1


async def test_a_lot_is_found_by_what_people_call_it(laboratory: Laboratory) -> None:
    low, high = await add_lot(laboratory), await add_lot(laboratory, level="high", number=2)
    asked = [("4711/low", low), ("Control/4711/high", high), (str(low.id), low)]
    for text, wanted in asked:
        assert (await does(laboratory, finds(text))).id == wanted.id
    assert "409 '4711' is more than one lot: say which of Control/4711/low, Control/4711/high" in await refused(
        laboratory, lambda c, a: flow.lot_named(c, "4711")
    )
    for text in ("4711/middle", str(uuid4()), ""):
        assert "404" in await refused(laboratory, finds(text))
    await does(laboratory, lambda c, a: flow.close_lot(c, a, high.id, WHY))
    assert (await does(laboratory, lambda c, a: flow.lot_named(c, "4711"))).id == low.id


async def test_only_who_manages_quality_control_changes_lots(laboratory: Laboratory) -> None:
    lot = await add_lot(laboratory)
    link = Actor(ActorKind.LINK, laboratory.link_id, "hema-1", laboratory.organization_id)
    new = MaterialChange("Other")
    change = LotChange(note="x")
    steps: list[Step] = [
        lambda c, a: flow.create_material(c, a, new),
        lambda c, a: flow.change_material(c, a, lot.material_id, new, WHY),
        lambda c, a: flow.close_material(c, a, lot.material_id, WHY),
        lambda c, a: flow.reopen_material(c, a, lot.material_id, WHY),
        lambda c, a: flow.create_lot(c, a, lot.material_id, LotChange("2")),
        lambda c, a: flow.change_lot(c, a, lot.id, change, WHY),
        lambda c, a: flow.close_lot(c, a, lot.id, WHY),
        lambda c, a: flow.reopen_lot(c, a, lot.id, WHY),
    ]
    for actor in (laboratory.technologist, user(laboratory.organization_id, Role.VIEWER), link):
        for step in steps:
            with pytest.raises(ApiError, match="qc:manage"):
                await does(laboratory, step, actor)
    with pytest.raises(ApiError, match="reason"):
        await does(laboratory, lambda c, a: flow.close_lot(c, a, lot.id, " "))


# ---- reagents and calibrators ---------------------------------------------------------------------------------------


def link_of(laboratory: Laboratory) -> Actor:
    return Actor(ActorKind.LINK, laboratory.link_id, "hema-1", laboratory.organization_id)


async def says(laboratory: Laboratory, *said: Seen) -> int:
    step = lambda c, a: flow.seen_many(c, a, laboratory.analyzer_id, said)  # noqa: E731
    return await does(laboratory, step, link_of(laboratory))


async def uses(laboratory: Laboratory, at: datetime, test: str = "HGB", module: str = "") -> str:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        known = await rows.in_use(connection, laboratory.analyzer_id, NOON - 1000 * HOUR)
    return known.lot(LotKind.REAGENT, module, laboratory.tests[test], at)


def reagent(lot: str, at: datetime, expires_on: date | None = None) -> Seen:
    return Seen("", None, LotKind.REAGENT, lot, expires_on, at)


async def test_what_an_analyzer_says_is_written_once_and_the_former_lot_ends(laboratory: Laboratory) -> None:
    assert await says(laboratory, reagent("R1", NOON)) == 1
    for hours in range(3):
        assert await says(laboratory, reagent("R1", NOON + hours * HOUR)) == 0, "it is known already"
    assert await says(laboratory, reagent("R2", NOON + 4 * HOUR), reagent("R2", NOON + 5 * HOUR)) == 1
    assert await laboratory.count("analyzer_lot", "true") == 2
    assert await laboratory.count("analyzer_lot", "ended_at is null") == 1
    asked = [await uses(laboratory, NOON + hours * HOUR) for hours in (-1, 0, 3, 4, 99)]
    assert asked == ["", "R1", "R1", "R2", "R2"]
    assert await laboratory.count("audit_event", "actor_kind = 'link' and entity_kind = 'analyzer_lot'") == 2


async def test_what_an_analyzer_uploads_late_takes_its_place_in_time(laboratory: Laboratory) -> None:
    await says(laboratory, reagent("R1", NOON), reagent("R3", NOON + 8 * HOUR))
    assert await says(laboratory, reagent("R2", NOON + 4 * HOUR)) == 1
    assert await says(laboratory, reagent("R2", NOON + 5 * HOUR)) == 0
    assert await says(laboratory, reagent("R0", NOON - 4 * HOUR)) == 1
    asked = [await uses(laboratory, NOON + hours * HOUR) for hours in (-5, -4, -1, 0, 3, 4, 7, 8)]
    assert asked == ["", "R0", "R0", "R1", "R1", "R2", "R2", "R3"]


async def test_an_expiry_that_is_said_later_is_kept(laboratory: Laboratory) -> None:
    await says(laboratory, reagent("R1", NOON))
    assert await says(laboratory, reagent("R1", NOON + HOUR, date(2027, 1, 1))) == 1
    assert await says(laboratory, reagent("R1", NOON + 2 * HOUR)) == 0
    assert await says(laboratory, reagent("", NOON)) == 0
    assert await laboratory.count("analyzer_lot", "ended_at is null and expires_on = '2027-01-01'") == 1


async def test_two_messages_that_say_the_same_at_once_write_it_once(laboratory: Laboratory) -> None:
    made = await asyncio.gather(*(says(laboratory, reagent("R1", NOON)) for _ in range(4)))
    assert sum(made) == 1
    assert await laboratory.count("analyzer_lot", "true") == 1


async def test_a_person_says_what_is_in_use_and_ends_it(laboratory: Laboratory) -> None:
    vera = laboratory.technologist
    new = NewUse("hema", LotKind.REAGENT, "R1", test="HGB", from_at=NOON)
    first = await does(laboratory, lambda c, a: flow.enter_use(c, a, new), vera)
    assert (first.analyzer, first.test, first.lot, first.by, first.from_at) == ("hema", "HGB", "R1", "vera", NOON)
    other = NewUse("hema", LotKind.REAGENT, "R2", test="HGB", from_at=NOON + HOUR)
    second = await does(laboratory, lambda c, a: flow.enter_use(c, a, other), vera)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        assert [one.lot for one in await rows.find_analyzer_lots(connection)] == ["R2"]
        [_, ended] = await rows.find_analyzer_lots(connection, ended=True)
        assert (ended.lot, ended.ended_at, ended.ended_by) == ("R1", NOON + HOUR, "vera")
        assert await rows.find_analyzer_lots(connection, kind=LotKind.CALIBRATOR) == []
    gone = await does(laboratory, lambda c, a: flow.end_use(c, a, second.id, "empty", NOON + 2 * HOUR), vera)
    assert (gone.end_reason, gone.ended_at) == ("empty", NOON + 2 * HOUR)
    assert [await uses(laboratory, NOON + hours * HOUR) for hours in (0, 1, 2)] == ["R1", "R2", ""]


async def test_what_a_person_may_not_say_of_a_lot_in_use(laboratory: Laboratory) -> None:
    vera = laboratory.technologist
    made = await does(laboratory, lambda c, a: flow.enter_use(c, a, NewUse("hema", LotKind.REAGENT, "R1")), vera)
    for new, said in (
        (NewUse("hema", LotKind.REAGENT, " "), "422 a lot needs its number"),
        (NewUse("none", LotKind.REAGENT, "R"), "404 there is no analyzer 'none'"),
        (NewUse("hema", LotKind.REAGENT, "R", test="NO"), "404 there is no test 'NO'"),
        (NewUse("hema", LotKind.REAGENT, "R1"), "409 hema uses lot R1 already"),
        (NewUse("hema", LotKind.REAGENT, "R", expires_on=date(2020, 1, 1)), "422 lot R expired on 2020-01-01"),
    ):
        with pytest.raises(ApiError) as caught:
            await does(laboratory, enters(new), vera)
        assert f"{caught.value.status} {caught.value}" == said
    for at, said in ((made.from_at - HOUR, "would end before it begins"), (None, "")):
        if said:
            with pytest.raises(ApiError, match=said):
                await does(laboratory, ends(made.id, at), vera)
        else:
            await does(laboratory, lambda c, a: flow.end_use(c, a, made.id, "empty"), vera)
    with pytest.raises(ApiError, match="ended already"):
        await does(laboratory, lambda c, a: flow.end_use(c, a, made.id, "empty"), vera)
    with pytest.raises(ApiError, match="reason"):
        await does(laboratory, lambda c, a: flow.end_use(c, a, made.id, ""), vera)
    viewer = user(laboratory.organization_id, Role.VIEWER)
    with pytest.raises(ApiError, match="qc:write"):
        await does(laboratory, lambda c, a: flow.enter_use(c, a, NewUse("hema", LotKind.REAGENT, "R")), viewer)
    with pytest.raises(ApiError, match="qc:write"):
        await does(laboratory, lambda c, a: flow.end_use(c, a, made.id, "empty"), viewer)


async def test_a_test_with_a_target_keeps_its_unit(laboratory: Laboratory) -> None:
    await add_lot(laboratory)
    await add_target(laboratory)
    said = await refused(
        laboratory, lambda c, a: catalogue.set_test(c, a, "HGB", catalogue.TestChange(unit="mmol/L"), WHY)
    )
    assert "409 HGB has results" in said
