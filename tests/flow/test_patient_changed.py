"""A patient of whom something else is known than when a result was judged: nobody gives out somebody else's limits."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import pytest

from interface.domain.model import Interval, IntervalUse, ResultStatus, Sex
from interface.domain.review import ReviewError
from interface.domain.units import Substance
from interface.domain.views import ResultView
from interface.flow import catalogue, review
from interface.flow.catalogue import _interval as interval_of
from interface.flow.catalogue import add_interval, change_interval, end_interval, set_test
from interface.flow.correction import NewValue
from interface.flow.people import PatientChange, update_patient
from interface.flow.replay import Replayed, replay
from tests.flow.controls import ACCEPT, REJECT, bench
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import sent

PRELIMINARY, FINAL = ResultStatus.PRELIMINARY, ResultStatus.FINAL


async def creatinine(lab: Laboratory) -> ResultView:
    """1.2 mg/dL of a woman: high; a man's limits are others."""
    await lab.order("S1", "CREA")
    await lab.send(["P|1" if record.startswith("P|") else record for record in sent("S1", {"CREA": "1.20"})])
    await lab.settle()
    [found] = await lab.results()
    assert (found.status, found.flags, found.high) == (PRELIMINARY, ("H",), Decimal("1.1"))
    return found


async def is_a_man(lab: Laboratory, result: ResultView) -> None:
    assert result.patient_id is not None
    async with lab.database.transaction(lab.organization_id) as connection:
        await update_patient(connection, lab.director, result.patient_id, PatientChange(sex=Sex.MALE), 1)


async def replayed(lab: Laboratory, result: ResultView, *, dry_run: bool = False) -> Replayed:
    assert result.message_id is not None
    return await replay(lab.database, lab.director, result.message_id, lab.contexts.get, dry_run=dry_run)


async def test_a_replay_judges_a_result_anew_that_has_the_same_value_and_other_limits(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        result = await creatinine(lab)
        assert not (await replayed(lab, result)).changes
        await is_a_man(lab, result)
        [change] = (await replayed(lab, result, dry_run=True)).changes
        assert (change.before.flags, change.after.flags) == (("H",), ("N",))
        assert change.before.reference != change.after.reference
        assert await lab.results() == [result]
        await replayed(lab, result)
        [found] = await lab.results()
        assert (found.version, found.status, found.flags, found.high) == (2, PRELIMINARY, ("N",), Decimal("1.3"))
        assert not (await replayed(lab, result)).changes


@pytest.mark.parametrize("way", ["replay", "correct"])
async def test_nothing_is_released_with_the_limits_of_whom_it_is_not_of(database_url: str, way: str) -> None:
    async with laboratory(database_url) as lab:
        result = await creatinine(lab)
        await is_a_man(lab, result)
        for step in (review.release, review.verify):
            async with lab.database.transaction(lab.organization_id) as connection:
                with pytest.raises(ReviewError, match=r"H \(0\.6 - 1\.1\) then, N \(0\.8 - 1\.3\) now"):
                    await step(connection, lab.director, result.id)
        if way == "replay":
            await replayed(lab, result)
        else:
            async with lab.database.transaction(lab.organization_id) as connection:
                await review.correct(connection, lab.director, result.id, NewValue("1.20"), "for a man")
        released = await lab.release(result.id)
        assert (released.status, released.flags, released.high) == (FINAL, ("N",), Decimal("1.3"))


async def test_nor_where_the_change_had_begun_before_it_was_judged(database_url: str) -> None:
    """Who puts the sex right waits for who decides: the change is the later one, and has the earlier time."""
    async with laboratory(database_url) as lab:
        patient_id = (await lab.order("S1", "CREA")).patient_id
        assert patient_id is not None
        async with lab.database.transaction(lab.organization_id) as connection:
            await connection.fetchval("select now()")
            await lab.send(["P|1" if one.startswith("P|") else one for one in sent("S1", {"CREA": "1.20"})])
            await lab.settle()
            await update_patient(connection, lab.director, patient_id, PatientChange(sex=Sex.MALE), 1)
        [result] = await lab.results()
        with pytest.raises(ReviewError, match=r"H \(0\.6 - 1\.1\) then, N \(0\.8 - 1\.3\) now"):
            await lab.release(result.id)


async def said_since(lab: Laboratory, result: ResultView, how: str) -> None:
    """What makes another version of a result, and judges nothing."""
    if how == "controls":
        at = await bench(lab, "")
        for verdict in (REJECT, ACCEPT):
            await at.control(0, verdict, "CREA")
        await at.act(test="CREA")
        return
    async with lab.database.transaction(lab.organization_id) as connection:
        step = review.hold if how == "hold" else review.comment
        await step(connection, lab.director, result.id, "asked for the sheet")


@pytest.mark.parametrize("how", ["comment", "hold", "controls"])
async def test_nor_once_somebody_has_said_something_of_it_since(database_url: str, how: str) -> None:
    """Who comments on a result makes a version that is newer than the change; so do its controls."""
    async with laboratory(database_url) as lab:
        result = await creatinine(lab)
        await lab.owner.execute("update lab.result set created_at = created_at - interval '3 hours'")
        await lab.owner.execute("update lab.result_version set created_at = created_at - interval '3 hours'")
        await is_a_man(lab, result)
        await lab.owner.execute("update lab.patient set updated_at = updated_at - interval '1 hour'")
        await said_since(lab, result, how)
        with pytest.raises(ReviewError, match=r"H \(0\.6 - 1\.1\) then, N \(0\.8 - 1\.3\) now"):
            async with lab.database.transaction(lab.organization_id) as connection:
                await review.release(connection, lab.director, result.id, "seen", accept_hold=True)
        await replayed(lab, result)
        [found] = await lab.results()
        assert (found.flags, found.high) == (("N",), Decimal("1.3"))


async def weighs(lab: Laboratory, molar_mass: str) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        change = catalogue.TestChange(substance=Substance(Decimal(molar_mass), 1))
        await set_test(connection, lab.director, "K", change, "of the sheet")


@pytest.mark.parametrize("way", ["replay", "correct"])
async def test_nothing_is_released_that_was_converted_by_a_molar_mass_that_was_found_to_be_wrong(
    database_url: str, way: str
) -> None:
    """391 was typed for 39.1: of 16.0 mg/dL potassium, which are 4.1 mmol/L, 0.41 would have gone out."""
    async with laboratory(database_url) as lab:
        await weighs(lab, "391")
        await lab.order("S1", "K")
        await lab.send([one.replace("mmol/L", "mg/dL") for one in sent("S1", {"K": "16.0"})])
        await lab.settle()
        [result] = await lab.results()
        assert (result.value, result.unit) == ("0.41", "mmol/L")
        await weighs(lab, "39.1")
        with pytest.raises(ReviewError, match="was changed since it was converted; replay its message, or correct it"):
            await lab.release(result.id)
        if way == "replay":
            await replayed(lab, result)
        else:
            async with lab.database.transaction(lab.organization_id) as connection:
                await review.correct(connection, lab.director, result.id, NewValue("4.09"), "by hand")
        assert (await lab.release(result.id)).value == "4.09"


async def test_who_replays_what_comes_to_the_same_by_another_molar_mass_may_release_it(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await weighs(lab, "39.1")
        await lab.order("S1", "K")
        await lab.send([one.replace("mmol/L", "mg/dL") for one in sent("S1", {"K": "16.0"})])
        await lab.settle()
        [result] = await lab.results()
        await weighs(lab, "39.098")
        with pytest.raises(ReviewError, match="was changed since it was converted; replay its message, or correct it"):
            await lab.release(result.id)
        await replayed(lab, result)
        released = await lab.release(result.id)
        assert (released.status, released.value) == (FINAL, result.value)


async def test_what_was_sent_in_the_unit_of_its_test_has_nothing_to_do_with_its_molar_mass(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "K")
        await lab.send(sent("S1", {"K": "4.1"}))
        await lab.settle()
        await weighs(lab, "39.1")
        [result] = await lab.results()
        assert (await lab.release(result.id)).value == "4.1"


async def test_nothing_is_released_with_limits_that_were_found_to_be_wrong(database_url: str) -> None:
    """A critical limit of 40 was typed for one of 4.0, while a result waited: who releases it is told."""
    limits = Interval("", "", "mg/dL", Decimal("0.6"), Decimal("1.1"), critical_high=Decimal(40), source="a book")
    async with laboratory(database_url) as lab:
        await lab.owner.execute("delete from lab.reference_interval where unit = 'mg/dL'")
        async with lab.database.transaction(lab.organization_id) as connection:
            wrong = await add_interval(connection, lab.director, "CREA", limits, "of the book")
        await lab.order("S1", "CREA")
        await lab.send(sent("S1", {"CREA": "5.00"}))
        await lab.settle()
        [result] = await lab.results()
        assert (result.status, result.flags) == (PRELIMINARY, ("H",))
        async with lab.database.transaction(lab.organization_id) as connection:
            await end_interval(connection, lab.director, UUID(wrong.interval.id), "typed wrong", never=True)
        with pytest.raises(ReviewError, match=r"H \(0\.6 - 1\.1\) then, \(no interval\) now"):
            await lab.release(result.id)
        right = replace(limits, critical_high=Decimal("4.0"))
        async with lab.database.transaction(lab.organization_id) as connection:
            await add_interval(connection, lab.director, "CREA", right, "as the book has it")
        with pytest.raises(ReviewError, match=r"H \(0\.6 - 1\.1\) then, HH \(0\.6 - 1\.1\) now; replay its message"):
            await lab.release(result.id)
        assert await lab.owner.fetchval("select count(*) from lab.critical_notification") == 0
        await replayed(lab, result)
        assert (await lab.release(result.id)).flags == ("HH",)
        assert await lab.owner.fetchval("select count(*) from lab.critical_notification") == 1


async def test_limits_for_specimens_from_now_on_keep_nobody_from_releasing_what_was_taken_before(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        result = await creatinine(lab)
        async with lab.database.transaction(lab.organization_id) as connection:
            known = await connection.fetch(
                "select i.id from lab.reference_interval i join lab.test t on t.id = i.test_id where t.code = 'CREA'"
            )
            for row in known:
                new = Interval("", "", "mg/dL", Decimal("0.5"), Decimal("1.0"), source="a new reagent")
                of = (await interval_of(connection, row["id"])).interval
                new = replace(of, low=new.low, high=new.high, source=new.source)
                await change_interval(connection, lab.director, row["id"], new, "another reagent")
        assert (await lab.release(result.id)).high == Decimal("1.1")


async def test_what_changes_nothing_about_a_result_keeps_nobody_from_releasing_it(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        result = await creatinine(lab)
        assert result.patient_id is not None
        async with lab.database.transaction(lab.organization_id) as connection:
            await update_patient(connection, lab.director, result.patient_id, PatientChange(family="Mustermann"), 1)
        assert (await lab.release(result.id)).status is FINAL


async def test_a_corrected_value_has_the_limits_of_the_analyzer_that_measured_it(database_url: str) -> None:
    """Critical limits that only this analyzer has are not lost by a correction."""
    async with laboratory(database_url) as lab:
        its = Interval(
            "", "", "mg/dL", analyzer="bench", critical_high=Decimal("4.0"), use=IntervalUse.CRITICAL, source="a book"
        )
        async with lab.database.transaction(lab.organization_id) as connection:
            await add_interval(connection, lab.director, "CREA", its, "its method")
        result = await creatinine(lab)
        async with lab.database.transaction(lab.organization_id) as connection:
            corrected = await review.correct(connection, lab.director, result.id, NewValue("4.20"), "a typing error")
        assert corrected.flags == ("HH",)
