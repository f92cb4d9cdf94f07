"""Intervals that are one analyzer's decide whatever was measured on it, by hand too, and whatever is made of that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest

from interface.domain.model import Interval, Sex
from interface.domain.views import ResultView
from interface.flow import review
from interface.flow.catalogue import add_interval
from interface.flow.correction import NewValue
from interface.flow.people import PatientChange, update_patient
from interface.flow.worksheets import PlaceEntry, build, enter
from interface.store.db import Connection
from interface.store.worksheets import WorkFilter
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import RULES, put_in_force, sent

ITS = Interval(
    "", "", "mmol/L", analyzer="bench", low=Decimal("3.8"), high=Decimal("5.5"), source="its leaflet", priority=1
)
REFLEX = RULES.replace('below = "3.0"\nunit = "mmol/L"', 'flags = ["L"]')


async def do(lab: Laboratory, step: Callable[[Connection], Awaitable[object]]) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await step(connection)


async def only(lab: Laboratory, test: str = "K") -> ResultView:
    [found] = [view for view in await lab.results() if view.test_code == test]
    return found


async def by_hand(lab: Laboratory, filter: WorkFilter, value: str = "3.6") -> ResultView:
    """A potassium that is entered on a worksheet."""
    await lab.order("S1", "K")
    async with lab.database.transaction(lab.organization_id) as connection:
        await add_interval(connection, lab.director, "K", ITS, "its method")
        sheet = await build(connection, lab.director, filter)
        await enter(connection, lab.director, sheet.id, [PlaceEntry(1, value)])
    return await only(lab)


async def ordered(lab: Laboratory) -> list[str]:
    rows = await lab.owner.fetch(
        "select t.code from lab.order_item i join lab.test t on t.id = i.test_id order by i.id"
    )
    return [row["code"] for row in rows]


async def test_a_worksheet_of_an_analyzer_is_judged_by_its_intervals(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        result = await by_hand(lab, WorkFilter(analyzers=("bench",)))
        assert (result.flags, result.low, result.high) == (("L",), Decimal("3.8"), Decimal("5.5"))
        await do(lab, lambda at: review.correct(at, lab.director, result.id, NewValue("3.7"), "a typing error"))
        assert ((await only(lab)).flags, (await only(lab)).low) == (("L",), Decimal("3.8"))
        assert result.patient_id is not None
        patient_id = result.patient_id
        await do(lab, lambda at: update_patient(at, lab.director, patient_id, PatientChange(sex=Sex.MALE), 1))
        assert (await lab.release(result.id)).flags == ("L",)


async def test_a_worksheet_of_a_test_is_judged_by_everybodys(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        result = await by_hand(lab, WorkFilter(test_codes=("K",)))
        assert (result.flags, result.low) == (("N",), Decimal("3.5"))


@pytest.mark.parametrize(("analyzer", "asked"), [("bench", True), ("other", False)])
async def test_what_is_by_hand_is_of_the_analyzer_to_rules_too(database_url: str, analyzer: str, asked: bool) -> None:
    rules = REFLEX.replace('flags = ["L"]', f'flags = ["L"]\nanalyzers = ["{analyzer}"]')
    async with laboratory(database_url) as lab:
        await put_in_force(lab, rules)
        await by_hand(lab, WorkFilter(analyzers=("bench",)))
        assert await ordered(lab) == (["K", "MG"] if asked else ["K"])


@pytest.mark.parametrize("narrowed", ["", 'analyzers = ["bench"]'], ids=["any analyzer", "its analyzer"])
@pytest.mark.parametrize("way", ["sent", "by hand"])
async def test_a_reflex_that_is_due_when_a_person_releases_is_by_the_same_intervals(
    database_url: str, way: str, narrowed: str
) -> None:
    """3.6 is low by the intervals of the analyzer only; its reflex waits for as long as the result is held."""
    wide = '\n[[range]]\nname = "hold it"\ntest = "K"\nkind = "absurd"\nlow = "4.5"\nhigh = "9"\nunit = "mmol/L"\n'
    async with laboratory(database_url) as lab:
        await put_in_force(lab, REFLEX.replace('flags = ["L"]', f'flags = ["L"]\n{narrowed}') + wide)
        if way == "sent":
            await do(lab, lambda at: add_interval(at, lab.director, "K", ITS, "its method"))
            await lab.order("S1", "K")
            await lab.send(sent("S1", {"K": "3.6"}))
            await lab.settle()
        else:
            await by_hand(lab, WorkFilter(analyzers=("bench",)))
        result = await only(lab)
        assert (bool(result.held), result.flags, await ordered(lab)) == (True, ("L",), ["K"])
        await do(lab, lambda at: review.release(at, lab.director, result.id, "as seen", accept_hold=True))
        assert await ordered(lab) == ["K", "MG"]
