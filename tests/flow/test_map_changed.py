"""A map that was put right while results waited that it had decided: nobody gives out another test, or another unit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from interface.domain.mapping import MapKey, Target, Wanted
from interface.domain.model import HoldReason, ResultStatus
from interface.domain.review import ReviewError
from interface.domain.views import ResultView
from interface.flow import criticals, review
from interface.flow import maps as flow
from interface.flow.correction import NewValue
from interface.flow.replay import replay
from interface.store import criticals as critical_rows
from interface.store import maps
from interface.store.catalogues import read_catalogue
from tests.flow.laboratory import Laboratory, laboratory, message
from tests.flow.rulebook import LOINC, RULES, put_in_force
from tests.flow.test_deciding import by_code, items
from tests.flow.test_judged_again import INDEX

FINAL, PRELIMINARY = ResultStatus.FINAL, ResultStatus.PRELIMINARY
WRONG = {"another test": Target("CL", "mmol/L"), "another unit": Target("K", "mg/dL")}
RIGHT = Target("K", "mmol/L")
WAITS = INDEX.format(action="hold")


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url) as made:
        await made.owner.execute("update lab.test set molar_mass = 39.1, valence = 1 where code = 'K'")
        yield made


async def mapped(lab: Laboratory, target: Target, start: datetime | None = None, specimen_type: str = "") -> None:
    key = MapKey("generic_lis2", "", LOINC["K"], specimen_type)
    async with lab.database.transaction(lab.organization_id) as connection:
        wanted = [Wanted(key, target, start)]
        proposal = await flow.propose_put(connection, wanted, await maps.basis(connection), "set")
        await flow.commit(connection, lab.director, proposal, "as its sheet says")
    lab.worker._catalogues.clear()  # it keeps a catalogue for seconds, and no time passes here


async def send(lab: Laboratory, code: str, value: str, *, unit: str = "", control: str = "C1", at: str = "") -> None:
    result = f"R|1|^^^{LOINC[code]}|{value}|{unit}||N||F||||{at}"
    person = "P|1||P-1||Muster^Maria||19800501|F"
    await lab.send(message(person, "O|1|S1||^^^CHEM|R", result, control=control))
    await lab.settle()


async def waiting(lab: Laboratory, wrong: str) -> ResultView:
    """A result that a wrong map decided, and that waits."""
    await mapped(lab, WRONG[wrong])
    await lab.order("S1", "CL", "K", "CREA")
    await send(lab, "K", "16.0")
    [found] = await lab.results()
    return found


async def replayed(lab: Laboratory, result: ResultView) -> None:
    assert result.message_id is not None
    await replay(lab.database, lab.director, result.message_id, lab.contexts.get, dry_run=False)


@pytest.mark.parametrize("wrong", WRONG)
async def test_rules_release_nothing_by_a_map_that_was_found_to_be_wrong(lab: Laboratory, wrong: str) -> None:
    """What it waited for comes after the map was put right: no rule releases what the old one made of it."""
    await put_in_force(lab, RULES + WAITS + WAITS.replace('"K"', '"CL"'))
    before = await waiting(lab, wrong)
    assert before.status is not FINAL
    await mapped(lab, RIGHT)
    await send(lab, "CREA", "1.0", unit="mg/dL", control="C2")
    after = await by_code(lab)
    assert after.pop("CREA").status is FINAL
    assert list(after.values()) == [before]
    await replayed(lab, before)
    after = await by_code(lab)
    assert (after["K"].value, after["K"].unit, after["K"].flags) == ("16.0", "mmol/L", ("HH",))


@pytest.mark.parametrize("wrong", WRONG)
async def test_nor_does_a_person_who_is_not_told(lab: Laboratory, wrong: str) -> None:
    before = await waiting(lab, wrong)
    await mapped(lab, RIGHT)
    for step in (review.release, review.verify):
        async with lab.database.transaction(lab.organization_id) as connection:
            with pytest.raises(
                ReviewError, match=r"map of its code was changed.*: K in mmol/L now; replay its message"
            ):
                await step(connection, lab.director, before.id)
    await replayed(lab, before)
    after = await lab.release(before.id)
    assert (after.test_code, after.value, after.unit, after.flags) == ("K", "16.0", "mmol/L", ("HH",))


async def test_a_person_may_say_that_it_is_right_as_it_is(lab: Laboratory) -> None:
    before = await waiting(lab, "another test")
    await mapped(lab, RIGHT)
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.correct(connection, lab.director, before.id, NewValue("16.0"), "it was chloride until today")
    assert (await lab.release(before.id)).test_code == "CL"


async def test_a_code_that_is_held_now_is_released_by_nobody_as_what_it_was(lab: Laboratory) -> None:
    before = await waiting(lab, "another test")
    await mapped(lab, Target(""))
    with pytest.raises(ReviewError, match="map of its code was changed since it was decided: held now"):
        await lab.release(before.id)


async def test_nor_where_a_row_was_added_for_the_type_that_the_analyzer_says(lab: Laboratory) -> None:
    """Nobody has ordered it as urine; what the code stands for there was not said until today."""
    await mapped(lab, RIGHT)
    await lab.order("S1", "K", "CL")
    urine = "O|1|S1||^^^CHEM|R||||||||||UR"
    await lab.send(message("P|1||P-1||Muster^Maria||19800501|F", urine, f"R|1|^^^{LOINC['K']}|16.0|||N||F"))
    await lab.settle()
    [before] = await lab.results()
    assert before.test_code == "K"
    await mapped(lab, WRONG["another test"], specimen_type="UR")
    with pytest.raises(ReviewError, match="map of its code was changed since it was decided: CL in mmol/L now"):
        await lab.release(before.id)
    await replayed(lab, before)
    assert (await lab.release(before.id)).test_code == "CL"


async def test_what_was_planned_says_nothing_of_what_was_decided_before(lab: Laboratory) -> None:
    """From tomorrow on the code is another test's; tomorrow what came today is still what it was."""
    before = await waiting(lab, "another test")
    await mapped(lab, RIGHT, start=datetime.now(UTC) + timedelta(days=1))
    await lab.owner.execute("update lab.map_change set created_at = created_at - interval '25 hours'")
    await lab.owner.execute(
        """update lab.code_map set valid_from = valid_from - interval '25 hours',
                  valid_to = valid_to - interval '25 hours' where origin = 'site'"""
    )
    async with lab.database.organization(lab.organization_id) as connection:
        catalogue = await read_catalogue(connection, lab.organization_id, "generic_lis2", None)
    mapping = catalogue.mapping(LOINC["K"], "")
    assert mapping is not None
    assert catalogue.tests[mapping.test_id].code == "K"
    assert (await lab.release(before.id)).test_code == "CL"


async def test_a_unit_that_the_analyzer_sends_is_not_the_maps(lab: Laboratory) -> None:
    await mapped(lab, WRONG["another unit"])
    await lab.order("S1", "K")
    await send(lab, "K", "4.1", unit="mmol/L")
    await mapped(lab, RIGHT)
    [before] = await lab.results()
    assert (await lab.release(before.id)).value == "4.1"


async def test_what_is_released_is_not_changed_into_another_test(lab: Laboratory) -> None:
    """The order of a chloride was answered by a potassium, and potassium's by nothing."""
    before = await waiting(lab, "another test")
    await lab.release(before.id)
    await mapped(lab, RIGHT)
    await send(lab, "K", "4.4", control="C2")
    async with lab.database.transaction(lab.organization_id) as connection:
        with pytest.raises(ReviewError, match=r"the change is of another test \(K\)"):
            await review.accept_change(connection, lab.director, before.id, "as it came", accept_hold=True)
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.retract(connection, lab.director, before.id, "it was no chloride")
    await send(lab, "K", "4.5", control="C3")
    [chloride, potassium] = await lab.results()
    assert (chloride.test_code, chloride.status) == ("CL", ResultStatus.ENTERED_IN_ERROR)
    assert (potassium.test_code, potassium.value) == ("K", "4.5")
    assert await items(lab) == {"CL": "in_progress", "K": "received", "CREA": "received"}


async def test_what_is_replayed_as_another_test_leaves_the_first_to_be_measured(lab: Laboratory) -> None:
    before = await waiting(lab, "another test")
    assert (await items(lab))["CL"] == "completed"
    await mapped(lab, RIGHT)
    await replayed(lab, before)
    [after] = await lab.results()
    assert (after.id, after.test_code, after.status) == (before.id, "K", PRELIMINARY)
    assert await items(lab) == {"CL": "in_progress", "K": "completed", "CREA": "received"}


async def tasks(lab: Laboratory) -> list[tuple[str, str, str, str]]:
    async with lab.database.organization(lab.organization_id) as connection:
        return [(one.kind, one.state, one.test_code, one.value) for one in await critical_rows.find(connection)]


async def tell(lab: Laboratory) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        [task] = await critical_rows.find(connection)
        await criticals.notify(connection, lab.director, task.id, criticals.Told("ward 3, nurse", read_back=True))
        await criticals.close(connection, lab.director, task.id)


@pytest.mark.parametrize("told", [False, True])
async def test_what_was_critical_as_another_test_is_called_no_more(lab: Laboratory, told: bool) -> None:
    """A potassium of 4.1 is critical as a sodium: nobody goes on calling for that, and who was called is told."""
    await mapped(lab, Target("NA", "mmol/L"))
    await lab.order("S1", "NA", "K")
    await send(lab, "K", "4.1")
    [before] = await lab.results()
    assert await tasks(lab) == [("critical", "open", "NA", "4.1")]
    if told:
        await tell(lab)
    await mapped(lab, RIGHT)
    await replayed(lab, before)
    [after] = await lab.results()
    assert (after.test_code, after.flags) == ("K", ("N",))
    left = [("no_longer_critical", "open", "NA", "4.1")]  # it was preliminary: an EMR may have seen it
    assert await tasks(lab) == [*([("critical", "closed", "NA", "4.1")] if told else []), *left]
    await lab.release(after.id)
    assert (await tasks(lab))[-1:] == left
    assert len(await tasks(lab)) == (2 if told else 1)


@pytest.mark.parametrize("told", [False, True])
async def test_what_was_critical_before_it_was_ordered_is_one_call(lab: Laboratory, told: bool) -> None:
    await mapped(lab, RIGHT)
    await lab.order("S1", "CL")
    await send(lab, "K", "7.2")
    [before] = await lab.results()
    assert before.held == (HoldReason.NOT_ORDERED,)
    if told:
        await tell(lab)
    one = await tasks(lab)
    times = await lab.owner.fetchval("select escalate_at from lab.critical_notification")
    await lab.owner.execute(
        """insert into lab.order_item (id, organization_id, order_id, specimen_id, test_id, status)
           select gen_random_uuid(), i.organization_id, i.order_id, i.specimen_id, t.id, 'received'
             from lab.order_item i join lab.test t on t.organization_id = i.organization_id and t.code = 'K'"""
    )
    await replayed(lab, before)
    [after] = await lab.results()
    assert (after.held, after.flags) == ((), ("HH",))
    assert await tasks(lab) == one == [("critical", "closed" if told else "open", "K", "7.2")]
    assert await lab.owner.fetchval("select escalate_at from lab.critical_notification") == times
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.reject(connection, lab.director, after.id, "haemolysed")
    said = [(kind, state) for kind, state, *_ in await tasks(lab)]
    assert said == [*([("critical", "closed")] if told else []), ("no_longer_critical", "open")]


async def test_so_do_two_runs_of_it_that_one_message_has(lab: Laboratory) -> None:
    await mapped(lab, WRONG["another test"])
    await lab.order("S1", "CL", "K", "CREA")
    runs = [f"R|{at}|^^^{LOINC['K']}|16.{at}|||N||F||||2026010203000{at}" for at in (1, 2)]
    await lab.send(message("P|1||P-1||Muster^Maria||19800501|F", "O|1|S1||^^^CHEM|R", *runs, control="C1"))
    await lab.settle()
    before, _ = await lab.results()
    assert (await items(lab))["CL"] == "completed"
    await mapped(lab, RIGHT)
    await replayed(lab, before)
    assert [one.test_code for one in await lab.results()] == ["K", "K"]
    assert await items(lab) == {"CL": "in_progress", "K": "completed", "CREA": "received"}


@pytest.mark.parametrize("told", ["nobody", "of one", "of both"])
async def test_two_runs_that_were_critical_before_they_were_ordered_are_one_call(lab: Laboratory, told: str) -> None:
    """The second one's task stayed with no order item: it was to be told twice, and who had been told of it did not
    hear that it was rejected."""
    await mapped(lab, RIGHT)
    await lab.order("S1", "CL")
    await send(lab, "K", "7.2", at="20260105080000")
    await send(lab, "K", "7.4", control="C2", at="20260105081000")
    assert [one[:2] for one in await tasks(lab)] == [("critical", "open")] * 2
    async with lab.database.transaction(lab.organization_id) as connection:
        for task in (await critical_rows.find(connection))[{"nobody": 2, "of one": 1, "of both": 0}[told] :]:
            await criticals.notify(connection, lab.director, task.id, criticals.Told("ward 3", read_back=True))
            await criticals.close(connection, lab.director, task.id)
    await lab.owner.execute(
        """insert into lab.order_item (id, organization_id, order_id, specimen_id, test_id, status)
           select gen_random_uuid(), i.organization_id, i.order_id, i.specimen_id, t.id, 'received'
             from lab.order_item i join lab.test t on t.organization_id = i.organization_id and t.code = 'K'"""
    )
    for one in await lab.results():
        await replayed(lab, one)
    left = [one[:2] for one in await tasks(lab) if one[1] not in ("closed", "withdrawn")]
    assert left == ([("critical", "open")] if told != "of both" else [])
    for one in await lab.results():
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.reject(connection, lab.director, one.id, "haemolysed")
    left = [one[:2] for one in await tasks(lab) if one[1] not in ("closed", "withdrawn")]
    assert left == [("no_longer_critical", "open")], "as an EMR may have seen it, or somebody was told"


async def test_what_was_measured_is_reported_again_once_the_run_in_its_place_is_another_tests(lab: Laboratory) -> None:
    """A potassium stood as the later run of the sodium. With its message decided anew the sodium was no run that is
    reported: on no list and in no report, its test completed, and nothing was calculated of it."""
    await put_in_force(lab, RULES.replace('autoverification = "on"', 'autoverification = "off"'))
    await mapped(lab, Target("NA", "mmol/L"))
    await lab.order("S1", "NA", "CL", "HCO3", "AGAP")
    for at, (code, value) in enumerate((("NA", "140"), ("K", "4.1"), ("CL", "100"), ("HCO3", "24"))):
        await send(lab, code, value, unit="mmol/L", control=code, at=f"202601050{at}0000")
    [wrong] = [one for one in await lab.results() if one.value == "4.1"]
    assert (wrong.test_code, wrong.reportable) == ("NA", True)
    await mapped(lab, RIGHT)
    await replayed(lab, wrong)
    found = await by_code(lab)
    assert {code: (one.value, one.reportable) for code, one in found.items()} == {
        "NA": ("140", True), "K": ("4.1", True), "CL": ("100", True), "HCO3": ("24", True), "AGAP": ("16.0", True),
    }  # fmt: skip
    assert await items(lab) == dict.fromkeys(("NA", "CL", "HCO3", "AGAP"), "completed")


async def test_what_only_a_failed_run_is_left_of_is_measured_again(lab: Laboratory) -> None:
    """The test stayed completed once the run that had completed it was another test's: no analyzer was told of it, and
    no worksheet took it."""
    await mapped(lab, Target("NA", "mmol/L"))
    await lab.order("S1", "NA")
    await send(lab, "NA", "----", unit="mmol/L", at="20260105010000")
    await send(lab, "K", "4.1", unit="mmol/L", control="C2", at="20260105020000")
    assert await items(lab) == {"NA": "completed"}
    [wrong] = [one for one in await lab.results() if one.value == "4.1"]
    await mapped(lab, RIGHT)
    await replayed(lab, wrong)
    assert {one.test_code: (one.held, one.reportable) for one in await lab.results()} == {
        "NA": ((HoldReason.RUN_FAILED,), True), "K": ((HoldReason.NOT_ORDERED,), True),
    }  # fmt: skip
    assert await items(lab) == {"NA": "in_progress"}


async def test_a_titre_is_shown_with_its_sign_once_where_its_message_is_decided_anew(lab: Laboratory) -> None:
    """`<<1:10` is no titre."""
    await lab.owner.execute("update lab.test set kind = 'ratio', unit = '' where code = 'K'")
    await lab.order("S1", "K")
    await mapped(lab, Target(""))
    await send(lab, "K", "<1:10")
    [before] = await lab.results()
    await mapped(lab, Target("K"))
    assert before.message_id is not None
    for dry_run in (True, False):
        done = await replay(lab.database, lab.director, before.message_id, lab.contexts.get, dry_run=dry_run)
        assert [(one.before.value, one.after.value) for one in done.changes] == [("<1:10", "<1:10")]


@pytest.mark.parametrize("again", ["replayed", "said anew"])
async def test_what_was_calculated_of_a_result_that_is_another_tests_now_is_not(lab: Laboratory, again: str) -> None:
    """A potassium stood as the sodium of an anion gap, which stayed as it was, and was for everybody to read, when its
    sodium was a potassium."""
    await put_in_force(lab, RULES.replace('autoverification = "on"', 'autoverification = "off"'))
    await mapped(lab, Target("NA", "mmol/L"))
    await lab.order("S1", "NA", "K", "CL", "HCO3", "AGAP")
    for at, (code, value) in enumerate((("K", "134"), ("CL", "100"), ("HCO3", "24"))):
        await send(lab, code, value, unit="mmol/L", control=code, at=f"202601050{at}0000")
    assert ((await by_code(lab))["AGAP"].value, (await by_code(lab))["AGAP"].held) == ("10.0", ())
    [wrong] = [one for one in await lab.results() if one.value == "134"]
    await mapped(lab, RIGHT)
    if again == "replayed":
        await replayed(lab, wrong)
    else:
        await send(lab, "K", "4.1", unit="mmol/L", control="K2", at="20260105000000")
    found = await by_code(lab)
    assert sorted(found) == ["AGAP", "CL", "HCO3", "K"]
    assert (found["AGAP"].value, found["AGAP"].held) == ("", (HoldReason.NO_VALUE,))
