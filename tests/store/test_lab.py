from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from interface.domain.model import HoldReason, ItemStatus, ResultStatus, Sex
from interface.domain.views import Audience, IdentifierView, OrderView, PatientView, ResultView
from interface.flow import review
from interface.flow.orders import NewOrder, NewPatient, NewSpecimen
from interface.flow.people import create_patient
from interface.store import lab, patients
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from interface.store.lab import OrderFilter, ResultFilter, SpecimenFilter
from interface.store.patients import PatientFilter
from interface.store.query import Cursor, Page
from tests.conftest import Organization
from tests.records import Laboratory, found, order, patient

HELD = (HoldReason.QUESTIONABLE,)
EMRS = (Audience.EMR, Audience.EMR_PRELIMINARY)


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


@asynccontextmanager
async def reading(laboratory: Laboratory) -> AsyncIterator[Connection]:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        yield connection


async def results(
    laboratory: Laboratory, filter: ResultFilter | None = None, audience: Audience = Audience.STAFF
) -> list[ResultView]:
    async with reading(laboratory) as connection:
        found = await lab.find_results(connection, filter or ResultFilter(), audience)
        assert await lab.count_results(connection, filter or ResultFilter(), audience) >= len(found)
    return found


async def release(laboratory: Laboratory, result_id: UUID) -> ResultView:
    async with reading(laboratory) as connection:
        return await review.release(connection, laboratory.technologist, result_id)


# ---- who sees what --------------------------------------------------------------------------------------------------

# (status, held): who sees it beside staff
SEEN: dict[tuple[ResultStatus, tuple[HoldReason, ...]], tuple[Audience, ...]] = {
    (ResultStatus.REGISTERED, ()): (),
    (ResultStatus.PRELIMINARY, ()): (Audience.EMR_PRELIMINARY,),
    (ResultStatus.FINAL, ()): EMRS,
    (ResultStatus.CORRECTED, ()): EMRS,
    (ResultStatus.AMENDED, ()): EMRS,
    (ResultStatus.CANCELLED, ()): (),
    (ResultStatus.ENTERED_IN_ERROR, ()): (),
    **{(status, HELD): () for status in ResultStatus},
}


def test_the_table_below_speaks_of_every_status() -> None:
    assert (
        {status for status, held in SEEN if held} == {status for status, held in SEEN if not held} == set(ResultStatus)
    )


@pytest.mark.parametrize(("case", "audiences"), SEEN.items(), ids=str)
async def test_every_read_of_a_result_keeps_to_who_may_see_it(
    laboratory: Laboratory, case: tuple[ResultStatus, tuple[HoldReason, ...]], audiences: tuple[Audience, ...]
) -> None:
    status, held = case
    of = await laboratory.order()
    result_id = await laboratory.result(of, status=status, held=held)
    async with reading(laboratory) as connection:
        for audience in Audience:
            seen = [result_id] if audience in (*audiences, Audience.STAFF) else []
            everything = ResultFilter()
            assert [one.id for one in await lab.find_results(connection, everything, audience)] == seen
            assert await lab.count_results(connection, everything, audience) == len(seen)
            one = await lab.get_result(connection, result_id, audience)
            assert ([one.id] if one else []) == seen
            assert [one.id for one in await lab.result_history(connection, result_id, audience)] == seen
            [report] = await lab.find_reports(connection, OrderFilter(ids=(of.id,)), audience)
            assert [one.id for one in report.results] == seen
            by_everything = ResultFilter((result_id,), statuses=tuple(ResultStatus), order_ids=(of.id,))
            assert [one.id for one in await lab.find_results(connection, by_everything, audience)] == seen


@pytest.mark.parametrize("audience", EMRS)
async def test_an_order_does_not_give_away_that_a_result_is_there(laboratory: Laboratory, audience: Audience) -> None:
    of = await laboratory.order()
    before = await one_order(laboratory, of.id, audience)
    await laboratory.result(of, held=HELD)
    assert await one_order(laboratory, of.id, audience) == before
    other = await laboratory.order()
    result_id = await laboratory.result(other)
    shown = (await one_order(laboratory, other.id, audience)).items[0].status
    assert shown is (ItemStatus.REQUESTED if audience is Audience.EMR else ItemStatus.COMPLETED)
    await release(laboratory, result_id)
    assert (await one_order(laboratory, other.id, audience)).items[0].status is ItemStatus.VERIFIED


async def one_order(laboratory: Laboratory, order_id: UUID, audience: Audience) -> OrderView:
    async with reading(laboratory) as connection:
        view = await lab.get_order(connection, order_id, audience)
    assert view is not None
    return view


async def test_staff_see_an_item_as_it_is(laboratory: Laboratory) -> None:
    of = await laboratory.order()
    await laboratory.result(of)
    assert (await one_order(laboratory, of.id, Audience.STAFF)).items[0].status is ItemStatus.COMPLETED


@pytest.mark.parametrize("audience", EMRS)
async def test_a_change_that_waits_leaves_no_trace_outside(laboratory: Laboratory, audience: Audience) -> None:
    of = await laboratory.order()
    result_id = await laboratory.result(of)
    await release(laboratory, result_id)
    async with reading(laboratory) as connection:
        before = await lab.get_result(connection, result_id, audience)
        past = await lab.result_history(connection, result_id, audience)
        reports = await lab.find_reports(connection, OrderFilter(), audience)
    await laboratory.change(result_id, "99", version=3)
    async with reading(laboratory) as connection:
        assert await lab.get_result(connection, result_id, audience) == before
        assert await lab.result_history(connection, result_id, audience) == past
        assert await lab.find_reports(connection, OrderFilter(), audience) == reports
        assert await lab.find_results(connection, ResultFilter(held_only=True), audience) == []
        assert await lab.count_results(connection, ResultFilter(held_only=True), audience) == 0
    [staff] = await results(laboratory, ResultFilter(held_only=True))
    assert (staff.pending, staff.value, staff.status) == (True, "13.5", ResultStatus.FINAL)


async def test_a_preliminary_version_is_history_only_where_preliminary_results_are_shown(
    laboratory: Laboratory,
) -> None:
    result_id = await laboratory.result(await laboratory.order())
    await release(laboratory, result_id)
    async with reading(laboratory) as connection:
        seen = {
            audience: [one.version for one in await lab.result_history(connection, result_id, audience)]
            for audience in Audience
        }
    assert seen == {Audience.STAFF: [1, 2], Audience.EMR: [2], Audience.EMR_PRELIMINARY: [1, 2]}


async def test_a_specimen_nobody_ordered_is_shown_with_its_first_visible_result(laboratory: Laboratory) -> None:
    specimen_id, result_id = uuid7(), await laboratory.result(None, barcode="stray")
    async with reading(laboratory) as connection:
        await connection.execute(
            "insert into lab.specimen (id, organization_id, barcode) values ($1, $2, 'stray')",
            specimen_id,
            laboratory.organization_id,
        )
        await connection.execute("update lab.result set specimen_id = $2 where id = $1", result_id, specimen_id)
        seen = {
            audience: [one.id for one in await lab.find_specimens(connection, SpecimenFilter(), audience)]
            for audience in Audience
        }
    assert seen == {
        Audience.STAFF: [specimen_id],
        Audience.EMR: [],
        Audience.EMR_PRELIMINARY: [specimen_id],
    }


async def test_one_laboratory_never_sees_anothers(laboratory: Laboratory, other_organization: Organization) -> None:
    other = await found(laboratory.database, other_organization.id)
    of = await other.order(order(barcode="B"))
    result_id = await other.result(of, status=ResultStatus.FINAL)
    assert of.patient_id is not None
    async with reading(laboratory) as connection:
        assert await lab.find_results(connection, ResultFilter((result_id,)), Audience.STAFF) == []
        assert await lab.result_history(connection, result_id, Audience.STAFF) == []
        assert await lab.find_orders(connection, OrderFilter(barcodes=("B",)), Audience.STAFF) == []
        assert await lab.find_reports(connection, OrderFilter(), Audience.STAFF) == []
        assert await lab.find_specimens(connection, SpecimenFilter(), Audience.STAFF) == []
        assert await patients.find_patients(connection, PatientFilter()) == []
        assert await patients.get_patient(connection, of.patient_id) is None


# ---- what is found --------------------------------------------------------------------------------------------------


async def test_a_result_is_shown_with_all_that_is_known_of_it(laboratory: Laboratory) -> None:
    collected = datetime(2026, 11, 20, 8, tzinfo=UTC)
    of = await laboratory.order(NewOrder((NewSpecimen(("HGB",), collected_at=collected),), patient()))
    await laboratory.result(of, "13.50")
    [view] = await results(laboratory)
    assert (view.value, str(view.number), view.unit, view.flags) == ("13.50", "13.50", "g/dL", ("N",))
    assert (view.test_code, view.loinc, view.analyzer, view.code) == ("HGB", "718-7", "hema", "HB")
    assert (view.patient_id, view.order_id, view.order_item_id) == (of.patient_id, of.id, of.items[0].id)
    assert (view.specimen_id, view.barcode) == (of.items[0].specimen_id, of.items[0].barcode)
    assert view.collected_at == collected


async def test_results_are_found_by_each_filter_and_not_beyond_it(laboratory: Laboratory) -> None:
    collected = datetime(2026, 11, 20, 8, tzinfo=UTC)
    of = await laboratory.order(NewOrder((NewSpecimen(("HGB",), "B1", collected_at=collected),), patient()))
    other = await laboratory.order(order("WBC", barcode="B2"))
    message_id = uuid7()
    wanted = await laboratory.result(of, message_id=message_id)
    await laboratory.result(other, held=HELD, status=ResultStatus.REGISTERED)
    assert of.patient_id and of.items[0].specimen_id
    later = collected + timedelta(seconds=1)
    for filter in (
        ResultFilter(ids=(wanted,)),
        ResultFilter(patient_ids=(of.patient_id,)),
        ResultFilter(order_ids=(of.id,)),
        ResultFilter(specimen_ids=(of.items[0].specimen_id,)),
        ResultFilter(message_ids=(message_id,)),
        ResultFilter(barcodes=("B1",)),
        ResultFilter(test_codes=("HGB", "GLU")),
        ResultFilter(loincs=("718-7",)),
        ResultFilter(statuses=(ResultStatus.PRELIMINARY,)),
        ResultFilter(effective_since=collected, effective_until=later),
    ):
        assert [one.id for one in await results(laboratory, filter)] == [wanted], filter
    for filter in (
        ResultFilter(ids=(wanted,), barcodes=("B2",)),
        ResultFilter(test_codes=("GLU",)),
        ResultFilter(loincs=("",)),
        ResultFilter(effective_since=later),
        ResultFilter(effective_until=collected),
    ):
        assert await results(laboratory, filter) == [], filter
    [held] = await results(laboratory, ResultFilter(held_only=True))
    assert held.held == HELD


async def test_pages_show_every_result_once_in_either_direction(laboratory: Laboratory) -> None:
    of = await laboratory.order()
    made = [await laboratory.result(of, str(place)) for place in range(7)]
    for newest_first in (False, True):
        page, seen = Page(limit=3, newest_first=newest_first), list[UUID]()
        while found := await results(laboratory, ResultFilter(page=page)):
            seen += [one.id for one in found]
            page = replace(page, after=Cursor(found[-1].updated_at, found[-1].id))
        assert seen == (made[::-1] if newest_first else made)


async def test_results_are_found_by_the_time_of_their_last_change(laboratory: Laboratory) -> None:
    of = await laboratory.order()
    first, second = await laboratory.result(of), await laboratory.result(of)
    [one, two] = await results(laboratory)
    assert (one.id, two.id) == (first, second)
    assert [r.id for r in await results(laboratory, ResultFilter(page=Page(since=two.updated_at)))] == [second]
    assert [r.id for r in await results(laboratory, ResultFilter(page=Page(until=two.updated_at)))] == [first]


async def test_orders_and_specimens_are_found_by_each_filter(laboratory: Laboratory) -> None:
    of = await laboratory.order(order("HGB", barcode="B1", placer_number="EMR-1"))
    await laboratory.order(order("WBC", barcode="B2"))
    specimen_id = of.items[0].specimen_id
    assert of.patient_id and specimen_id
    async with reading(laboratory) as connection:
        for filter in (
            OrderFilter(ids=(of.id,)),
            OrderFilter(patient_ids=(of.patient_id,)),
            OrderFilter(item_ids=(of.items[0].id,)),
            OrderFilter(specimen_ids=(specimen_id,)),
            OrderFilter(numbers=(of.number,)),
            OrderFilter(numbers=("EMR-1",)),
            OrderFilter(barcodes=("B1",)),
            OrderFilter(test_codes=("HGB",)),
            OrderFilter(loincs=("718-7",)),
        ):
            assert await lab.find_orders(connection, filter, Audience.STAFF) == [of], filter
        assert len(await lab.find_orders(connection, OrderFilter(cancelled=False), Audience.EMR)) == 2
        for empty in (
            OrderFilter(numbers=("",)),
            OrderFilter(cancelled=True),
            OrderFilter(ordered_until=of.ordered_at),
        ):
            assert await lab.find_orders(connection, empty, Audience.STAFF) == [], empty
        for specimens in (
            SpecimenFilter(ids=(specimen_id,)),
            SpecimenFilter(barcodes=("B1",)),
            SpecimenFilter(patient_ids=(of.patient_id,)),
            SpecimenFilter(order_ids=(of.id,)),
        ):
            [one] = await lab.find_specimens(connection, specimens, Audience.EMR)
            assert (one.id, one.barcode, one.status, one.order_id) == (specimen_id, "B1", "available", of.id)


async def test_an_orders_pages_hold_whole_orders(laboratory: Laboratory) -> None:
    made = [await laboratory.order(order("CBC", "GLU")) for _ in range(3)]
    async with reading(laboratory) as connection:
        page = Page(limit=2)
        first = await lab.find_orders(connection, OrderFilter(page=page), Audience.STAFF)
        assert first == made[:2]
        page = replace(page, after=Cursor(first[-1].updated_at, first[-1].id))
        assert await lab.find_orders(connection, OrderFilter(page=page), Audience.STAFF) == made[2:]


async def test_a_report_changes_with_its_visible_results_only(laboratory: Laboratory) -> None:
    of = await laboratory.order(order("CBC"))
    result_id = await laboratory.result(of)
    async with reading(laboratory) as connection:
        [hidden] = await lab.find_reports(connection, OrderFilter(), Audience.EMR)
        [shown] = await lab.find_reports(connection, OrderFilter(), Audience.EMR_PRELIMINARY)
        [result] = shown.results
    assert (hidden.results, hidden.updated_at) == ((), of.updated_at)
    assert (result.id, shown.updated_at) == (result_id, result.updated_at)
    assert shown.updated_at > of.updated_at
    since = OrderFilter(page=Page(since=result.updated_at))
    async with reading(laboratory) as connection:
        assert await lab.find_reports(connection, since, Audience.EMR) == []
        assert await lab.find_reports(connection, since, Audience.EMR_PRELIMINARY) == [shown]


async def test_patients_are_found_by_identifier_and_by_the_beginning_of_a_name(laboratory: Laboratory) -> None:
    async def add(family: str, given: str, born: date, sex: Sex, *identifiers: IdentifierView) -> PatientView:
        async with reading(laboratory) as connection:
            new = NewPatient(identifiers, family, given, born, sex)
            return await create_patient(connection, laboratory.technologist, new)

    value = uuid4().hex
    mrn, card = IdentifierView("urn:hospital", value, "MR"), IdentifierView("urn:card", value)
    eva = await add("O_Muster", "Eva", date(1980, 2, 29), Sex.FEMALE, mrn, IdentifierView("", "7"))
    adam = await add("Mustermann", "Adam", date(1990, 1, 1), Sex.MALE, card)
    assert eva.identifiers == (mrn, IdentifierView("", "7"))
    for filter, expected in (
        (PatientFilter(), [eva, adam]),
        (PatientFilter(ids=(eva.id,)), [eva]),
        (PatientFilter(identifier=value), [eva, adam]),
        (PatientFilter(identifier=value, authority="urn:card"), [adam]),
        (PatientFilter(identifier="7", authority=""), [eva]),
        (PatientFilter(identifier=value, authority=""), []),
        (PatientFilter(family="mUSTER"), [eva, adam]),
        (PatientFilter(family="o_m"), [eva]),
        (PatientFilter(family="m_s"), []),
        (PatientFilter(family="%"), []),
        (PatientFilter(given="ev"), [eva]),
        (PatientFilter(name="ADA"), [adam]),
        (PatientFilter(sex=Sex.MALE), [adam]),
        (PatientFilter(born_since=date(1980, 2, 29), born_until=date(1980, 3, 1)), [eva]),
        (PatientFilter(page=Page(limit=1)), [eva]),
    ):
        async with reading(laboratory) as connection:
            assert await patients.find_patients(connection, filter) == expected, filter
