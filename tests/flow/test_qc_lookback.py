"""What is on a look-back list: what was calculated too; and what a person said of a result before another failure."""

from __future__ import annotations

from uuid import UUID

import pytest

from interface.domain.facts import QcState
from interface.errors import ApiError
from interface.flow import qc_lookback
from interface.flow.qc_gate import patient_alarm, patient_alarm_ended
from interface.flow.qc_lookback import Decision
from interface.flow.qc_people import exclude
from interface.flow.review import comment, release
from tests.flow.controls import ACCEPT, IN_CONTROL, REJECT, Bench, bench
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.test_deciding import by_code
from tests.flow.test_late import INDEX

INPUTS = ("NA", "CL", "HCO3")
EXEMPT = '\n[[exempt]]\ntest = "AGAP"\n'
CALCULATED = IN_CONTROL.replace(EXEMPT, f"{EXEMPT}qc = true\n")  # which has no controls of its own


async def controlled(lab: Laboratory) -> Bench:
    """Every input in control; what is calculated of them is released with them."""
    at = await bench(lab, CALCULATED)
    for test in INPUTS:
        await at.control(300, test=test)
    return at


async def listed(lab: Laboratory) -> list[tuple[str, str, str]]:
    """Specimen, test and state of all items."""
    found = await lab.owner.fetch(
        """select s.barcode, t.code, i.state from lab.qc_lookback_item i join lab.result r on r.id = i.result_id
           join lab.specimen s on s.id = r.specimen_id join lab.test t on t.id = r.test_id order by 1, 2, i.id"""
    )
    return [tuple(row) for row in found]


async def the_list(lab: Laboratory) -> UUID:
    found: UUID = await lab.owner.fetchval("select id from lab.qc_lookback order by id desc limit 1")
    return found


async def decide(
    at: Bench, decision: Decision, *results: UUID, of: UUID | None = None, version: int | None = None
) -> None:
    async with at.lab.database.transaction(at.lab.organization_id) as connection:
        await qc_lookback.decide(
            connection, at.lab.director, of or await the_list(at.lab), decision, "looked at", results, version
        )  # fmt: skip
    await at.follow()


async def test_what_was_calculated_of_a_result_on_the_list_is_on_it_too(database_url: str) -> None:
    """And nothing else that was calculated: not of another specimen, not of another input."""
    async with laboratory(database_url) as lab:
        at = await controlled(lab)
        for barcode in ("S1", "S2"):
            await lab.order(barcode, *INPUTS, "AGAP")
        await at.send("S2", 290, NA="139", CL="101", HCO3="25")
        await at.control(200)
        await at.send("S1", 190, NA="140", CL="102", HCO3="24")
        assert {one.status.value for one in await lab.results()} == {"final"}
        await at.control(100, REJECT)
        assert await listed(lab) == [("S1", "AGAP", "waiting"), ("S1", "NA", "waiting")]
        found = {one.test_code: one.id for one in await lab.results() if one.barcode == "S1"}
        async with lab.database.transaction(lab.organization_id) as connection:
            view = await qc_lookback.view(connection, await the_list(lab))
        assert [(one.test, one.result_id, one.of_result_id) for one in view.items] == [
            ("NA", found["NA"], None), ("AGAP", found["AGAP"], found["NA"]),
        ]  # fmt: skip
        assert {one.measured_at for one in view.items} == {at.ago(190)}
        await decide(at, Decision.STANDS)
        assert await listed(lab) == [("S1", "AGAP", "stands"), ("S1", "NA", "stands")]


@pytest.mark.parametrize("code", ["AGAP", ""], ids=["alone", "all"])
async def test_what_was_calculated_is_done_again_by_measuring_its_input(database_url: str, code: str) -> None:
    async with laboratory(database_url) as lab:
        at = await controlled(lab)
        await lab.order("S1", *INPUTS, "AGAP")
        await at.send("S1", 190, NA="140", CL="102", HCO3="24")
        await at.control(100, REJECT)
        found = {one.test_code: one.id for one in await lab.results()}
        await decide(at, Decision.REPEAT, *([found[code]] if code else []))
        asked = await lab.owner.fetch("select result_id, kind from lab.follow_up")
        assert [tuple(row) for row in asked] == [(found["NA"], "rerun")]


async def test_a_good_control_that_comes_late_vouches_for_what_was_calculated(database_url: str) -> None:
    """By when its input was measured."""
    async with laboratory(database_url) as lab:
        at = await controlled(lab)
        await lab.order("S1", *INPUTS, "AGAP")
        await at.send("S1", 190, NA="140", CL="102", HCO3="24")
        await at.control(100, REJECT)
        assert await listed(lab) == [("S1", "AGAP", "waiting"), ("S1", "NA", "waiting")]
        await at.control(150)
        assert await listed(lab) == [("S1", "AGAP", "stands"), ("S1", "NA", "stands")]


@pytest.mark.parametrize("late", [False, True], ids=["before the failure", "after it"])
async def test_nothing_is_released_that_is_calculated_of_a_result_on_the_list(database_url: str, late: bool) -> None:
    """Its input is released, and suspect. What is missing comes before the failure, or after it."""
    async with laboratory(database_url) as lab:
        at = await controlled(lab)
        await at.control(250, REJECT, test="CL")  # what keeps the chloride, and with it the gap
        await lab.order("S1", *INPUTS, "AGAP")
        await at.send("S1", 190, NA="140", HCO3="24", **({} if late else {"CL": "102"}))
        await at.control(100, REJECT)
        if late:
            await at.send("S1", 180, CL="102")
        await at.control(90, test="CL")
        await at.act(test="CL")
        found = await by_code(lab)
        assert {code: (one.status.value, tuple(one.held)) for code, one in found.items()} == {
            "NA": ("final", ()), "HCO3": ("final", ()), "CL": ("final", ()),
            "AGAP": ("registered", ("qc_failed",)),
        }  # fmt: skip
        await decide(at, Decision.STANDS, found["NA"].id)
        assert (await by_code(lab))["AGAP"].status.value == "final"


async def test_what_was_measured_in_the_same_instant_as_the_last_good_control_is_looked_back_at(
    database_url: str,
) -> None:
    """A clock that says seconds does not say which was first; what waits is held for it as well."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.control(300)
        await lab.order("S1", "NA")
        await at.send("S1", 300, NA="140")
        await at.control(200, REJECT)
        assert await listed(lab) == [("S1", "NA", "waiting")]


# ---- what a person said before they knew -----------------------------------------------------------------------------


async def stands(at: Bench) -> UUID:
    """A result was released, its control failed, and a person said that it stands."""
    await at.wanted(1, 2)
    run = await at.control(300, level=1)
    await at.control(299, level=2, run=run)
    await at.lab.order("S1", "NA")
    await at.send("S1", 290, NA="140")
    await at.control(200, REJECT)
    assert await listed(at.lab) == [("S1", "NA", "waiting")]
    await decide(at, Decision.STANDS)
    assert await listed(at.lab) == [("S1", "NA", "stands")]
    return await the_list(at.lab)


async def test_another_level_that_fails_asks_again_what_stood_before_it_was_known(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        of = await stands(at)
        await at.control(190, REJECT, level=1)
        assert await listed(lab) == [("S1", "NA", "stands")]  # the same once more says nothing new of it
        await at.control(180, REJECT, level=2)
        assert await listed(lab) == [("S1", "NA", "waiting")]
        asked = "select state || coalesce(closed_at::text, '') from lab.qc_lookback where id = $1"
        assert await lab.owner.fetchval(asked, of) == "open"
        await decide(at, Decision.STANDS)
        await at.control(170, REJECT, level=2)
        assert await listed(lab) == [("S1", "NA", "stands")]


async def test_a_failure_that_was_made_good_and_is_there_again_asks_again(database_url: str) -> None:
    """A control that was measured before it was made good comes late: another episode of the same list."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        of = await stands(at)
        await at.control(100, ACCEPT)
        await at.act()
        assert await lab.owner.fetchval("select state from lab.qc_lookback where id = $1", of) == "closed"
        await at.control(150, REJECT)
        assert await listed(lab) == [("S1", "NA", "waiting")]
        assert await lab.owner.fetchval("select state from lab.qc_lookback where id = $1", of) == "open"
        (said,) = await lab.owner.fetch("select reason, decided_by, decided_by_name from lab.qc_lookback_item")
        assert tuple(said) == ("", None, "")
        audited = await lab.owner.fetchval("select count(*) from lab.audit_event where action = 'qc_ask_again'")
        assert audited == 1


async def test_a_failure_in_an_earlier_place_asks_again_on_its_own_list(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await stands(at)
        await at.control(250, REJECT)
        assert await listed(lab) == [("S1", "NA", "stands"), ("S1", "NA", "waiting")]


async def test_an_alarm_after_another_has_a_list_of_its_own(database_url: str) -> None:
    """What waits on the list of the first one still waits: the second says nothing of it."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.control(300)
        for barcode, minutes in (("S1", 190), ("S2", 90)):
            await lab.order(barcode, "NA")
            await at.send(barcode, minutes, NA="140")

        async def alarm(minutes: float | None) -> None:
            async with lab.database.transaction(lab.organization_id) as connection:
                of = connection, lab.context.actor, at.stream()
                if minutes is None:
                    await patient_alarm_ended(*of, "closed")
                else:
                    await patient_alarm(*of, QcState.FAIL, at.ago(minutes), "drift")
            await at.follow()

        await alarm(200)
        await alarm(None)
        assert await listed(lab) == [("S1", "NA", "waiting"), ("S2", "NA", "waiting")]
        await alarm(100)
        assert await listed(lab) == [("S1", "NA", "waiting"), ("S2", "NA", "waiting"), ("S2", "NA", "waiting")]


async def test_who_decides_about_all_that_waits_has_seen_all_that_waits(database_url: str) -> None:
    """What vouched counts no more while they look: the list goes further back, and nobody has looked at that."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        for barcode in ("S1", "S2"):
            await lab.order(barcode, "NA")
        await at.control(400)
        await at.send("S1", 350, NA="140")
        vouched = await at.control(300)
        await at.send("S2", 250, NA="140")
        await at.control(200, REJECT)
        async with lab.database.transaction(lab.organization_id) as connection:
            seen = await qc_lookback.view(connection, await the_list(lab))
        assert [one.barcode for one in seen.items] == ["S2"]
        async with lab.database.transaction(lab.organization_id) as connection:
            await exclude(connection, lab.director, vouched, "the wrong vial")
        await at.follow()
        assert await listed(lab) == [("S1", "NA", "waiting"), ("S2", "NA", "waiting")]
        with pytest.raises(ApiError, match="the list has changed"):
            await decide(at, Decision.STANDS, version=seen.lookback.version)
        assert await listed(lab) == [("S1", "NA", "waiting"), ("S2", "NA", "waiting")]
        await decide(at, Decision.STANDS, version=seen.lookback.version + 1)
        assert await listed(lab) == [("S1", "NA", "stands"), ("S2", "NA", "stands")]


@pytest.mark.parametrize("said", [False, True])
async def test_what_is_to_be_measured_again_stays_suspect_whatever_is_said_of_it(database_url: str, said: bool) -> None:
    """By a comment it was another version than that on the list: the rules released what is calculated of it."""
    async with laboratory(database_url) as lab:
        at = await controlled(lab)
        await lab.order("S1", *INPUTS, "AGAP")
        await at.send("S1", 190, NA="140", HCO3="24")
        await at.control(100, REJECT)
        found = await by_code(lab)
        await decide(at, Decision.REPEAT, found["NA"].id)
        if said:
            async with lab.database.transaction(lab.organization_id) as connection:
                await comment(connection, lab.director, found["NA"].id, "to be measured again")
        await at.send("S1", 90, CL="102")
        found = await by_code(lab)
        assert (found["CL"].status.value, found["AGAP"].status.value) == ("final", "preliminary")


async def test_an_index_that_waits_on_a_list_lets_nothing_pass(database_url: str) -> None:
    """It was released, and then its control failed: by it the rules released what came next on the same specimen."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, IN_CONTROL + INDEX.format(action="hold"))
        await lab.order("S1", "K", "CREA")
        for test in ("K", "CREA"):
            await at.control(300, test=test)
        await at.send("S1", 200, CREA="1.0")
        await at.control(100, REJECT, test="CREA")
        assert await listed(lab) == [("S1", "CREA", "waiting")]
        await at.send("S1", 50, K="4.1")
        assert await at.said("K") == {"S1": ("registered", "interference")}
        await decide(at, Decision.STANDS)
        found = (await by_code(lab))["K"]
        async with lab.database.transaction(lab.organization_id) as connection:
            await release(connection, lab.director, found.id, "not haemolysed", accept_hold=True)
