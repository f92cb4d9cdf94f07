"""A test that is taken out of use: what was released of it, or calculated with it, can be wrong all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from interface.domain.model import ResultStatus
from interface.domain.review import ReviewError
from interface.domain.views import ResultView
from interface.flow import review
from interface.flow.catalogue import deactivate_panel, deactivate_test
from interface.flow.correction import NewValue
from interface.flow.people import PatientChange, update_patient
from interface.flow.rules import deactivate
from interface.store.catalogue_rows import read_panels
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import RULES, put_in_force, sent
from tests.flow.test_late import INDEX
from tests.flow.test_recalculated import MALE, WITH_EGFR, changed, do, measured, only, put_right

FINAL = ResultStatus.FINAL


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url) as made:
        yield made


async def one(lab: Laboratory, code: str) -> ResultView:
    [found] = [view for view in await lab.results() if view.test_code == code]
    return found


async def retired(lab: Laboratory, code: str) -> None:
    """A gap that is released with what it is made of, and then one of these tests is not used any more."""
    await put_in_force(lab)
    await lab.order("S-1", "NA", "CL", "HCO3", "AGAP")
    await lab.send(sent("S-1", {"NA": "140", "CL": "100", "HCO3": "24"}))
    await lab.settle()
    assert {view.status for view in await lab.results()} == {FINAL}
    async with lab.database.transaction(lab.organization_id) as connection:
        for panel in await read_panels(connection, active=True):
            await deactivate_panel(connection, lab.director, panel.code, "another method")
        await deactivate_test(connection, lab.director, code, "another method")


@pytest.mark.parametrize("code", ["NA", "AGAP"])
@pytest.mark.parametrize("step", ["retract", "correct"])
async def test_what_was_calculated_of_what_was_taken_back_waits(lab: Laboratory, code: str, step: str) -> None:
    await retired(lab, code)
    sodium = await one(lab, "NA")
    async with lab.database.transaction(lab.organization_id) as connection:
        if step == "retract":
            await review.retract(connection, lab.director, sodium.id, "of another tube")
        else:
            await review.correct(connection, lab.director, sodium.id, NewValue("130"), "of another tube")
    assert await changed(lab) == ["AGAP"]


async def test_what_is_released_of_it_is_corrected(lab: Laboratory) -> None:
    await retired(lab, "NA")
    sodium = await one(lab, "NA")
    await do(lab, lambda at: review.correct(at, lab.director, sodium.id, NewValue("130"), "of another tube"))
    after = await one(lab, "NA")
    assert (after.value, after.status, after.low, after.flags) == ("130", ResultStatus.CORRECTED, sodium.low, ("L",))


@pytest.mark.parametrize("step", ["test", "rules"])
async def test_what_was_calculated_of_another_sex_is_told_though_nothing_calculates_it(
    database_url: str, step: str
) -> None:
    async with measured(database_url, WITH_EGFR) as lab:
        assert (await only(lab)).status is FINAL
        if step == "test":
            await do(lab, lambda at: deactivate_test(at, lab.director, "EGFR_2021", "another formula"))
        else:
            await do(lab, lambda at: deactivate(at, lab.director, "default", "another formula"))
        await put_right(lab, MALE)
        assert await changed(lab) == ["EGFR_2021"]
        patient_id, other = (await only(lab)).patient_id, PatientChange(family="Mustermann")
        assert patient_id is not None
        await do(lab, lambda at: update_patient(at, lab.director, patient_id, other, 2))
        assert ((await only(lab)).status, await changed(lab)) == (FINAL, ["EGFR_2021"])


async def test_nobody_releases_what_was_calculated_of_another_sex(database_url: str) -> None:
    async with measured(database_url) as lab:
        rate = await only(lab)
        await do(lab, lambda at: deactivate_test(at, lab.director, "EGFR_2021", "another formula"))
        await put_right(lab, MALE)
        with pytest.raises(ReviewError, match=r"the patient's sex was female, is male; correct or reject it$"):
            await lab.release(rate.id)


async def test_what_comes_after_its_release_and_would_have_held_it_is_said(lab: Laboratory) -> None:
    """The tube was haemolysed, whatever became of the test in the hour between."""
    await put_in_force(lab, RULES + INDEX.format(action="hold"))
    await lab.order("S1", "K", "CREA")
    await lab.send(sent("S1", {"K": "4.1"}))
    await lab.settle()
    async with lab.database.transaction(lab.organization_id) as connection:
        for panel in await read_panels(connection, active=True):
            await deactivate_panel(connection, lab.director, panel.code, "another method")
        await deactivate_test(connection, lab.director, "K", "another method")
    lab.worker._catalogues.clear()  # it keeps a catalogue for seconds, and no time passes here
    await lab.send(sent("S1", {"CREA": "3.2"}, control="C2"))
    await lab.settle()
    assert (await one(lab, "K")).status is FINAL
    assert await changed(lab) == ["K"]
