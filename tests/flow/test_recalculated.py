"""Calculated results of whose patient, or of whose inputs, something else is known than when they were calculated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from interface.domain.model import HoldReason, Interval, Origin, ResultStatus, Sex, Step
from interface.domain.review import ReviewError
from interface.domain.views import IdentifierView, ResultView
from interface.flow import order_changes, results, review
from interface.flow.catalogue import add_interval
from interface.flow.correction import NewValue
from interface.flow.entry import Entry, enter
from interface.flow.orders import NewOrder, NewSpecimen, create_order
from interface.flow.people import NewPatient, PatientChange, create_patient, merge, unmerge, update_patient
from interface.flow.recalculation import recalculate
from interface.flow.replay import replay
from interface.flow.rules import deactivate
from interface.flow.specimens import aliquot, receive
from interface.store import lab as store
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.review import Queue, QueueFilter, waiting
from tests.flow.hospital_use import Hospital, link_of
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import RULES, put_in_force, sent
from tests.flow.test_two_links import Gate, waits_for_a_lock

FINAL, PRELIMINARY, CORRECTED = ResultStatus.FINAL, ResultStatus.PRELIMINARY, ResultStatus.CORRECTED
WITH_EGFR = (
    RULES.replace('"MG", "AGAP"]', '"MG", "AGAP", "EGFR_2021"]')
    + """
[[calculation]]
test = "EGFR_2021"
formula = "ckd_epi_2021"
inputs = { creatinine = ["CREA"] }

[[exempt]]
test = "EGFR_2021"
qc = true
critical = "none"
reason = "a test of deciding"
"""
)
OFF = WITH_EGFR.replace('autoverification = "on"', 'autoverification = "off"')
MALE, YOUNGER = PatientChange(sex=Sex.MALE), PatientChange(birth_date=date(1990, 5, 1))
OF_A_WOMAN, OF_A_MAN, OF_A_YOUNGER_WOMAN = "57", "76", "61"


async def only(lab: Laboratory, test: str = "EGFR_2021") -> ResultView:
    [found] = [view for view in await lab.results() if view.test_code == test]
    return found


async def released(lab: Laboratory, calculated: ResultView, *inputs: str) -> ResultView:
    """By a person, after what it is calculated from."""
    for test in inputs:
        await lab.release((await only(lab, test)).id)
    return await lab.release(calculated.id)


async def replayed(lab: Laboratory, test: str) -> None:
    """What was measured is judged for whom it is of now."""
    message_id = (await only(lab, test)).message_id
    assert message_id is not None
    await replay(lab.database, lab.director, message_id, lab.contexts.get, dry_run=False)


async def do(lab: Laboratory, step: Callable[[Connection], Awaitable[object]]) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await step(connection)


async def explained(lab: Laboratory, version_id: UUID) -> tuple[Step, ...]:
    async with lab.database.organization(lab.organization_id) as connection:
        return (await store.explanations(connection, [version_id]))[version_id]


async def changed(lab: Laboratory) -> list[str]:
    """The tests of the results that are released and of which a change waits."""
    async with lab.database.organization(lab.organization_id) as connection:
        return sorted(one.result.test_code for one in await waiting(connection, QueueFilter(Queue.CHANGED)))


@asynccontextmanager
async def measured(database_url: str, rules: str = OFF, sex: Sex = Sex.FEMALE) -> AsyncIterator[Laboratory]:
    """A creatinine of 1.20 mg/dL with the eGFR that is calculated of it."""
    async with laboratory(database_url) as lab:
        await put_in_force(lab, rules)
        await lab.order("S1", "CREA", "EGFR_2021", sex=sex)
        await lab.send(["P|1" if record.startswith("P|") else record for record in sent("S1", {"CREA": "1.20"})])
        await lab.settle()
        yield lab


async def put_right(lab: Laboratory, change: PatientChange) -> None:
    [patient_id] = {view.patient_id for view in await lab.results()}
    assert patient_id is not None
    await do(lab, lambda at: update_patient(at, lab.director, patient_id, change, 1))


async def put_right_without_us(lab: Laboratory) -> None:
    """As a program did it that knew nothing of what is calculated."""
    await lab.owner.execute("update lab.patient set sex = 'male', version = version + 1, updated_at = now()")


@pytest.mark.parametrize(
    ("change", "value", "of"),
    [(MALE, OF_A_MAN, ("male", "45")), (YOUNGER, OF_A_YOUNGER_WOMAN, ("female", "35"))],
    ids=["sex", "birth date"],
)
async def test_what_waits_is_calculated_anew_with_its_patient(
    database_url: str, change: PatientChange, value: str, of: tuple[str, str]
) -> None:
    async with measured(database_url) as lab:
        before = await only(lab)
        assert (before.value, before.status) == (OF_A_WOMAN, PRELIMINARY)
        await put_right(lab, change)
        after = await only(lab)
        assert (after.value, after.status, after.held, after.version) == (value, PRELIMINARY, (), 2)
        [step] = [one for one in await explained(lab, after.version_id) if one.step == "calculation"]
        assert (step.inputs["sex"], step.inputs["age in years"], step.inputs["CREA"]) == (*of, "1.20")
        await replayed(lab, "CREA")
        assert (await released(lab, after, "CREA")).value == value


async def test_of_what_is_released_the_new_value_waits_for_a_person(database_url: str) -> None:
    async with measured(database_url, WITH_EGFR) as lab:
        before = await only(lab)
        assert (before.value, before.status) == (OF_A_WOMAN, FINAL)
        await put_right(lab, MALE)
        assert await only(lab) == before.__class__(
            **{name: getattr(await only(lab), name) for name in before.__slots__}
        )
        assert ((await only(lab)).value, await changed(lab)) == (OF_A_WOMAN, ["EGFR_2021"])
        await do(lab, lambda at: review.accept_change(at, lab.director, before.id, "is a man", accept_hold=True))
        after = await only(lab)
        assert (after.value, after.status) == (OF_A_MAN, CORRECTED)


async def test_so_it_does_where_a_person_has_typed_another_run_that_waits(database_url: str) -> None:
    """A run beside the one that is reported: its value stays, whatever it was made of says by now."""
    async with measured(database_url, WITH_EGFR) as lab:
        before = await only(lab)
        assert before.order_item_id is not None
        typed = Entry(before.order_item_id, "11", "", "by hand")
        await do(lab, lambda at: enter(at, lab.director, [typed]))
        runs = {view.origin: view for view in await lab.results() if view.test_code == "EGFR_2021"}
        assert runs[Origin.MANUAL].held == (HoldReason.ALREADY_REPORTED,)
        creatinine = await only(lab, "CREA")
        await do(lab, lambda at: review.correct(at, lab.director, creatinine.id, NewValue("9.5"), "was diluted"))
        assert [view.pending for view in await lab.results() if view.id == before.id] == [True]


async def test_another_name_changes_nothing_that_is_calculated(database_url: str) -> None:
    async with measured(database_url) as lab:
        before = await only(lab)
        await put_right(lab, PatientChange(family="Mustermann"))
        assert await only(lab) == before


async def test_what_could_not_be_calculated_of_an_unknown_sex_is_when_it_is_known(database_url: str) -> None:
    async with measured(database_url, sex=Sex.UNKNOWN) as lab:
        assert [view.test_code for view in await lab.results()] == ["CREA"]
        await put_right(lab, MALE)
        assert ((await only(lab)).value, (await only(lab)).version) == (OF_A_MAN, 1)


async def test_nor_is_it_lost_where_an_aliquot_was_measured(database_url: str) -> None:
    """What is calculated is ordered on the tube, and has no results there."""
    async with laboratory(database_url) as lab:
        await put_in_force(lab, WITH_EGFR)
        made = await lab.order("S1", "CREA", "EGFR_2021", sex=Sex.UNKNOWN)
        specimen_id = made.items[0].specimen_id
        assert specimen_id is not None
        await do(lab, lambda at: aliquot(at, lab.director, specimen_id, barcode="S1-A", tests=["CREA"]))
        await lab.send(["P|1" if record.startswith("P|") else record for record in sent("S1-A", {"CREA": "1.20"})])
        await lab.settle()
        assert [one.test_code for one in await lab.results()] == ["CREA"]
        await put_right(lab, PatientChange(sex=Sex.FEMALE))
        assert (await only(lab)).value == OF_A_WOMAN


async def test_a_merge_and_its_end_are_changes_of_the_patient_too(database_url: str) -> None:
    async with measured(database_url) as lab:
        prior = (await only(lab)).patient_id
        assert prior is not None
        man = NewPatient((IdentifierView("TEST", "P-2"),), "Muster", "Mario", date(1980, 5, 1), Sex.MALE)
        async with lab.database.transaction(lab.organization_id) as connection:
            survivor = (await create_patient(connection, lab.director, man)).id
        await do(lab, lambda at: merge(at, lab.director, prior, survivor, "one person", accept_differences=True))
        assert ((await only(lab)).value, (await only(lab)).version) == (OF_A_MAN, 2)
        await do(lab, lambda at: unmerge(at, lab.director, prior, "two after all"))
        assert ((await only(lab)).value, (await only(lab)).version) == (OF_A_WOMAN, 3)


async def test_what_a_person_said_of_a_calculated_result_is_theirs(database_url: str) -> None:
    async with measured(database_url) as lab:
        one = await only(lab)
        await do(lab, lambda at: review.correct(at, lab.director, one.id, NewValue("90"), "by cystatin"))
        await put_right(lab, MALE)
        after = await only(lab)
        assert (after.value, after.status, after.held) == (OF_A_MAN, ResultStatus.REGISTERED, (HoldReason.PERSON,))


async def test_nothing_is_released_that_was_calculated_of_somebody_else(database_url: str) -> None:
    async with measured(database_url) as lab:
        before = await only(lab)
        await put_right_without_us(lab)
        for step in (review.release, review.verify):
            async with lab.database.transaction(lab.organization_id) as connection:
                with pytest.raises(ReviewError, match="the patient's sex was female, is male; `labora result recalc"):
                    await step(connection, lab.director, before.id)
        await do(lab, lambda at: recalculate(at, lab.director, before.id))
        await replayed(lab, "CREA")
        assert (await released(lab, before, "CREA")).value == OF_A_MAN


async def test_without_rules_in_force_a_person_is_told_that_nothing_can_be_calculated(database_url: str) -> None:
    async with measured(database_url) as lab:
        before = await only(lab)
        await do(lab, lambda at: deactivate(at, lab.director, "default", "for the test"))
        await put_right(lab, MALE)
        assert await only(lab) == before
        async with lab.database.transaction(lab.organization_id) as connection:
            with pytest.raises(ReviewError, match=r"the patient's sex was female, is male; correct or reject it$"):
                await review.release(connection, lab.director, before.id)
            with pytest.raises(ReviewError, match="no rule in force calculates it"):
                await recalculate(connection, lab.director, before.id)
        await do(lab, lambda at: review.correct(at, lab.director, before.id, NewValue(OF_A_MAN), "by hand"))
        assert (await lab.release(before.id)).value == OF_A_MAN


async def test_other_inputs_that_come_to_the_same_are_said_in_a_new_version(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, OFF)
        await lab.order("S1", "NA", "CL", "HCO3", "AGAP")
        await lab.send(sent("S1", {"NA": "140", "CL": "100", "HCO3": "24"}))
        await lab.send(sent("S1", {"NA": "142", "CL": "102"}, control="C2"))
        await lab.settle()
        gap = await only(lab, "AGAP")
        [step] = [one for one in await explained(lab, gap.version_id) if one.step == "calculation"]
        assert (gap.value, step.inputs["NA"], step.inputs["CL"]) == ("16.0", "142", "102")
        assert (await released(lab, gap, "NA", "CL", "HCO3")).status is FINAL


@pytest.mark.parametrize("in_force", [True, False], ids=["with rules", "without rules"])
@pytest.mark.parametrize("step", ["retract", "correct"])
async def test_what_was_calculated_of_what_was_taken_back_waits_for_a_person(
    database_url: str, step: str, in_force: bool
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "NA", "CL", "HCO3", "AGAP")
        await lab.send(sent("S1", {"NA": "140", "CL": "100", "HCO3": "24"}))
        await lab.settle()
        gap, sodium = await only(lab, "AGAP"), await only(lab, "NA")
        assert (gap.status, sodium.status) == (FINAL, FINAL)
        if not in_force:
            await do(lab, lambda at: deactivate(at, lab.director, "default", "for the test"))
        if step == "retract":
            await do(lab, lambda at: review.retract(at, lab.director, sodium.id, "another tube"))
        else:
            await do(lab, lambda at: review.correct(at, lab.director, sodium.id, NewValue("150"), "was diluted"))
        assert await changed(lab) == ["AGAP"]
        assert ((await only(lab, "AGAP")).value, (await only(lab, "AGAP")).status) == ("16.0", FINAL)


async def test_what_a_hospital_says_of_the_patient_is_followed_too(database_url: str) -> None:
    async with measured(database_url) as lab:
        his = Hospital(lab, *link_of(lab))
        said = await his.adt("A08", "PID|1||P-1^^^TEST||MUSTER^MARIO||19800501|M")
        assert (said.code, (await only(lab)).value, (await only(lab)).version) == ("AA", OF_A_MAN, 2)


async def test_what_is_calculated_first_waits_for_nothing_that_deciding_needs(database_url: str) -> None:
    """Specimens are locked before their patients, as by everybody."""
    async with measured(database_url) as lab:
        specimen = await lab.owner.fetchval("select id from lab.specimen")
        patient = await lab.owner.fetchval("select id from lab.patient")
        async with lab.database.transaction(lab.organization_id) as deciding:
            await deciding.execute("select from lab.specimen where id = $1 for update", specimen)
            changing = asyncio.create_task(put_right(lab, MALE))
            await waits_for_a_lock(lab)
            await deciding.execute("select from lab.patient where id = $1 for update nowait", patient)
        await changing
        assert (await only(lab)).value == OF_A_MAN


async def test_only_what_is_calculated_is_calculated_anew_by_who_has_seen_it(database_url: str) -> None:
    async with measured(database_url) as lab:
        rate, creatinine = await only(lab), await only(lab, "CREA")
        for result_id, version, words in (
            (creatinine.id, 1, "only a calculated result"),
            (rate.id, 7, "version 7 was looked at"),
            (uuid7(), None, "no such result"),
        ):
            async with lab.database.transaction(lab.organization_id) as connection:
                with pytest.raises(ReviewError, match=words):
                    await recalculate(connection, lab.director, result_id, version)
        await do(lab, lambda at: recalculate(at, lab.director, rate.id, 1))
        assert await only(lab) == rate


async def test_what_could_not_be_calculated_without_a_time_of_collection_is_when_it_is_told(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, OFF)
        patient = NewPatient((IdentifierView("TEST", "P-1"),), "Muster", "", date(1980, 5, 1), Sex.FEMALE)
        new = NewOrder((NewSpecimen(("CREA", "EGFR_2021"), "S1"),), patient=patient)
        async with lab.database.transaction(lab.organization_id) as connection:
            order = await create_order(connection, lab.director, new)
        await lab.send(["P|1" if record.startswith("P|") else record for record in sent("S1", {"CREA": "1.20"})])
        await lab.settle()
        assert [view.test_code for view in await lab.results()] == ["CREA"]
        specimen, taken = order.items[0].specimen_id, datetime(2026, 1, 2, tzinfo=UTC)
        assert specimen is not None
        await do(lab, lambda at: receive(at, lab.director, specimen, collected_at=taken))
        assert ((await only(lab)).value, (await only(lab)).version) == (OF_A_WOMAN, 1)


async def test_another_interval_is_in_a_version_of_its_own(database_url: str) -> None:
    """Of the same inputs and the same value: what is released has the limits of now."""
    async with measured(database_url) as lab:
        before = await only(lab)
        its = Interval("", "", "mL/min/{1.73_m2}", sex=Sex.MALE, age_low_d=6575, low=Decimal(90), source="a book")
        await do(lab, lambda at: add_interval(at, lab.director, "EGFR_2021", its, "for men"))
        await lab.owner.execute("update lab.patient set sex = 'male', version = version + 1, updated_at = now()")
        await do(lab, lambda at: recalculate(at, lab.director, before.id))
        after = await only(lab)
        assert (after.value, after.low, after.flags) == (OF_A_MAN, Decimal(90), ("L",))
        await do(lab, lambda at: recalculate(at, lab.director, before.id))
        assert await only(lab) == after


async def test_what_waits_beside_a_released_one_is_calculated_anew_though_it_comes_to_the_same(
    database_url: str,
) -> None:
    """Else nobody could accept it: it would be of an age that the patient has not."""
    async with measured(database_url, WITH_EGFR) as lab:
        before = await only(lab)
        await put_right(lab, MALE)
        [patient_id] = {view.patient_id for view in await lab.results()}
        assert patient_id is not None
        a_year_younger = PatientChange(birth_date=date(1981, 5, 1))  # 76 as well
        await do(lab, lambda at: update_patient(at, lab.director, patient_id, a_year_younger, 2))
        await do(lab, lambda at: review.accept_change(at, lab.director, before.id, "is a man", accept_hold=True))
        after = await only(lab)
        [step] = [one for one in await explained(lab, after.version_id) if one.step == "calculation"]
        assert (after.value, step.inputs["age in years"]) == (OF_A_MAN, "44")


async def test_a_merge_that_a_hospital_tells_waits_for_nothing_that_deciding_needs(database_url: str) -> None:
    async with measured(database_url) as lab:
        specimen = await lab.owner.fetchval("select id from lab.specimen")
        patient = await lab.owner.fetchval("select id from lab.patient")
        his = Hospital(lab, *link_of(lab))
        async with lab.database.transaction(lab.organization_id) as deciding:
            await deciding.execute("select from lab.specimen where id = $1 for update", specimen)
            person = "PID|1||P-1^^^TEST||MUSTER||19800501|F"
            merging = asyncio.create_task(his.adt("A40^ADT_A39", person, "MRG|P-2^^^TEST"))
            await waits_for_a_lock(lab)
            await deciding.execute("select from lab.patient where id = $1 for update nowait", patient)
        assert (await merging).code == "AA"


async def test_what_is_measured_while_the_time_of_collection_is_told_is_calculated(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, OFF)
        patient = NewPatient((IdentifierView("TEST", "P-1"),), "Muster", "", date(1980, 5, 1), Sex.FEMALE)
        new = NewOrder((NewSpecimen(("CREA", "EGFR_2021"), "S1"),), patient=patient)
        async with lab.database.transaction(lab.organization_id) as connection:
            order = await create_order(connection, lab.director, new)
        specimen, taken = order.items[0].specimen_id, datetime(2026, 1, 2, tzinfo=UTC)
        assert specimen is not None
        gate = Gate("C1")
        monkeypatch.setattr(results, "surroundings", gate.read)
        await lab.send(["P|1" if one.startswith("P|") else one for one in sent("S1", {"CREA": "1.20"}, control="C1")])
        deciding = asyncio.create_task(lab.worker.work())
        await gate.locked.wait()
        telling = asyncio.create_task(do(lab, lambda at: receive(at, lab.director, specimen, collected_at=taken)))
        await waits_for_a_lock(lab)
        gate.go_on.set()
        await asyncio.gather(deciding, telling)
        assert (await only(lab)).value == OF_A_WOMAN


async def test_many_specimens_are_calculated_anew_in_as_many_statements_as_one(database_url: str) -> None:
    """Else a hospital that tells of somebody with hundreds of them would get no answer in time, whenever it asks."""
    async with measured(database_url) as lab:
        [patient_id] = {view.patient_id for view in await lab.results()}
        assert patient_id is not None
        counts: list[int] = []
        for version, sex in enumerate((Sex.MALE, Sex.FEMALE), 1):
            asked: list[object] = []
            change = PatientChange(sex=sex)
            async with lab.database.transaction(lab.organization_id) as connection:
                with connection.query_logger(asked.append):
                    await update_patient(connection, lab.director, patient_id, change, version)
            counts.append(len(asked))
            for barcode in ("S2", "S3", "S4", "S5") if sex is Sex.MALE else ():
                await lab.order(barcode, "CREA", "EGFR_2021", sex=Sex.MALE)
                mine = sent(barcode, {"CREA": "1.20"}, control=barcode)
                await lab.send(["P|1" if record.startswith("P|") else record for record in mine])
                await lab.settle()
        assert {view.value for view in await lab.results() if view.test_code == "EGFR_2021"} == {OF_A_WOMAN}
        assert len(await lab.results()) == 10
        assert counts[1] <= counts[0]


@pytest.mark.parametrize("way", ["nothing changed", "recalculated", "corrected without rules"])
async def test_what_was_calculated_before_explanations_said_of_whom_can_be_released(
    database_url: str, way: str
) -> None:
    """Where the patient or the specimen was changed since, not as it is, but there is a way out."""
    async with measured(database_url) as lab:
        one = await only(lab)
        await lab.owner.execute(
            "update lab.result_version set steps = replace(lab.explained(steps), $1, '') where test_code = 'EGFR_2021'",
            ',"sex":"female","age in years":"45"',
        )
        assert "sex" not in (await explained(lab, one.version_id))[0].inputs
        if way != "nothing changed":
            await lab.owner.execute("update lab.specimen set updated_at = now()")
            async with lab.database.transaction(lab.organization_id) as connection:
                with pytest.raises(ReviewError, match="was changed since it was calculated"):
                    await review.release(connection, lab.director, one.id)
        if way == "recalculated":
            await do(lab, lambda at: recalculate(at, lab.director, one.id))
            assert (await explained(lab, (await only(lab)).version_id))[0].inputs["sex"] == "female"
        elif way == "corrected without rules":
            await do(lab, lambda at: deactivate(at, lab.director, "default", "for the test"))
            await do(lab, lambda at: review.correct(at, lab.director, one.id, NewValue(one.value), "it is hers"))
        after = await released(lab, one, "CREA")
        assert (after.value, after.status) == (OF_A_WOMAN, FINAL)


async def test_a_value_that_waits_for_nobody_any_more_can_be_rejected(database_url: str) -> None:
    """The sex was put right by mistake, and back: what is released is right, what waits is not."""
    async with measured(database_url, WITH_EGFR) as lab:
        before = await only(lab)
        await put_right(lab, MALE)
        [patient_id] = {view.patient_id for view in await lab.results()}
        assert patient_id is not None
        her = PatientChange(sex=Sex.FEMALE)
        await do(lab, lambda at: update_patient(at, lab.director, patient_id, her, 2))
        async with lab.database.transaction(lab.organization_id) as connection:
            with pytest.raises(ReviewError, match=r"the patient's sex was male, is female; reject the change$"):
                await review.accept_change(connection, lab.director, before.id, "is a man", accept_hold=True)
        await do(lab, lambda at: review.reject_change(at, lab.director, before.id, "is a woman"))
        assert ((await only(lab)).value, await changed(lab)) == (OF_A_WOMAN, [])


async def test_a_change_that_can_be_calculated_anew_is_not_said_to_be_good_for_nothing(database_url: str) -> None:
    async with measured(database_url, WITH_EGFR) as lab:
        before = await only(lab)
        await put_right(lab, MALE)
        await lab.owner.execute("update lab.patient set birth_date = '1990-05-01', updated_at = now()")
        async with lab.database.transaction(lab.organization_id) as connection:
            with pytest.raises(ReviewError, match=r"is 35; `labora result recalculate` calculates it anew$"):
                await review.accept_change(connection, lab.director, before.id, "is a man", accept_hold=True)
        await do(lab, lambda at: recalculate(at, lab.director, before.id))
        await do(lab, lambda at: review.accept_change(at, lab.director, before.id, "is younger", accept_hold=True))
        assert (await only(lab)).status is CORRECTED


async def test_a_change_of_other_limits_is_rejected_and_calculated_anew(database_url: str) -> None:
    """It says the same of the same: calculated anew beside it, nothing would be new. Nor is it corrected."""
    async with measured(database_url, WITH_EGFR) as lab:
        before = await only(lab)
        await put_right(lab, MALE)
        its = Interval("", "", "mL/min/{1.73_m2}", sex=Sex.MALE, age_low_d=6575, low=Decimal(90), source="a book")
        await do(lab, lambda at: add_interval(at, lab.director, "EGFR_2021", its, "for men"))
        await lab.owner.execute("update lab.patient set updated_at = now()")
        async with lab.database.transaction(lab.organization_id) as connection:
            with pytest.raises(ReviewError, match=r"\(>= 90\) now; reject the change, then recalculate the result$"):
                await review.accept_change(connection, lab.director, before.id, "is a man", accept_hold=True)
        await do(lab, lambda at: review.reject_change(at, lab.director, before.id, "has other limits"))
        await do(lab, lambda at: recalculate(at, lab.director, before.id))
        await do(lab, lambda at: review.accept_change(at, lab.director, before.id, "is a man", accept_hold=True))
        after = await only(lab)
        assert (after.value, after.low, after.status) == (OF_A_MAN, Decimal(90), CORRECTED)


async def test_what_a_person_left_as_it_is_is_asked_for_again_by_no_other_order(database_url: str) -> None:
    """Whoever ordered a sodium on the tube had the change of the eGFR wait once more that somebody had rejected."""
    async with measured(database_url, WITH_EGFR) as lab:
        rate = await only(lab)
        await put_right(lab, MALE)
        assert await changed(lab) == ["EGFR_2021"]
        await do(lab, lambda at: review.reject_change(at, lab.director, rate.id, "as asked"))
        order_id, specimen_id = await lab.owner.fetchrow("select order_id, id from lab.specimen")  # type: ignore[misc]
        await do(lab, lambda at: order_changes.add(at, lab.director, order_id, ["NA"], specimen_id=specimen_id))
        assert await changed(lab) == []
