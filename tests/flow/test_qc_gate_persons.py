"""What a second person, a person at the bench and a fault may not open: the gate from where it is not expected."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from interface.domain.review import ReviewError
from interface.errors import ApiError
from interface.flow import qc_sweep, worksheets
from interface.flow.review import accept_change, release
from interface.store.ids import uuid7
from interface.store.qc_gate import lock_judging
from interface.store.review import Policy, set_policy
from interface.store.surroundings import lock_only
from interface.store.worksheets import WorkFilter
from tests.flow.controls import REJECT, bench
from tests.flow.laboratory import laboratory
from tests.flow.rulebook import sent
from tests.flow.test_two_links import waits_for_a_lock

FINAL, HELD_ALONE = ("final", ""), ("preliminary", "")


async def test_the_second_of_two_accepts_no_change_that_was_measured_out_of_control(database_url: str) -> None:
    """The first had verified it before the control failed; it is still the analyzer's value."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        otto = replace(lab.director, id=uuid7(), name="otto")
        await lab.order("S1", "NA")
        await at.control(300)
        await at.send("S1", 290, NA="140")
        await lab.send(sent("S1", {"NA": "150"}, control="changed", at=f"{at.ago(290):%Y%m%d%H%M%S}"))
        await lab.settle()
        (one,) = await lab.results()
        assert (one.status.value, one.pending) == ("final", True)
        async with lab.database.transaction(lab.organization_id) as connection:
            await set_policy(connection, lab.organization_id, Policy("", True, None))
            await accept_change(connection, lab.director, one.id, "seen", accept_hold=True)
        await at.control(200, REJECT)
        with pytest.raises(ReviewError, match="qc_failed"):
            async with lab.database.transaction(lab.organization_id) as connection:
                await accept_change(connection, otto, one.id, "seen", accept_hold=True)
        (now,) = await lab.results()
        assert (now.value, now.pending) == ("140", True)
        await at.control(100)
        await at.act()
        async with lab.database.transaction(lab.organization_id) as connection:
            done = await accept_change(connection, otto, one.id, "seen", accept_hold=True)
        assert (done.status.value, done.value) == ("corrected", "150")


async def test_what_is_typed_on_an_analyzers_worksheet_follows_its_controls(database_url: str) -> None:
    """Held again when a control fails afterwards, released by nobody until it is good, and free then."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, rules="")
        await lab.order("S1", "NA")
        name = await lab.owner.fetchval("select name from lab.analyzer where id = $1", lab.context.analyzer_id)
        await at.control(60)
        async with lab.database.transaction(lab.organization_id) as connection:
            sheet = await worksheets.build(connection, lab.director, WorkFilter(analyzers=(name,), test_codes=("NA",)))
            await worksheets.enter(connection, lab.director, sheet.id, [worksheets.PlaceEntry(1, "140")])
        assert await at.said() == {"S1": HELD_ALONE}
        (one,) = await lab.results()
        await at.control(-1, REJECT, follow=False)
        with pytest.raises(ReviewError, match="qc_failed"):  # before the results have followed it
            async with lab.database.transaction(lab.organization_id) as connection:
                await release(connection, lab.director, one.id)
        await at.follow()
        assert await at.said() == {"S1": ("registered", "person qc_failed")}
        await at.control(-2)
        await at.act()
        assert await at.said() == {"S1": ("registered", "person")}


async def test_a_person_and_a_message_with_controls_and_patients_wait_in_one_order(database_url: str) -> None:
    """Whoever judges has the analyzer's lock and then wants the specimen's; so must a person who releases."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, rules="")
        await lab.order("S1", "NA")
        await at.control(300)
        await at.send("S1", 290, NA="140")
        (one,) = await lab.results()
        assert one.specimen_id is not None

        async def released() -> None:
            async with lab.database.transaction(lab.organization_id) as connection:
                await release(connection, lab.director, one.id)

        async with lab.database.transaction(lab.organization_id) as connection:
            await lock_judging(connection, lab.organization_id, lab.context.analyzer_id)
            person = asyncio.create_task(released())
            await waits_for_a_lock(lab)
            await lock_only(connection, {one.specimen_id})  # a deadlock, were it not so
        await person
        assert await at.said() == {"S1": FINAL}


async def test_a_fault_in_what_follows_is_not_said_of_the_message(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is decided and committed; the sweep is done another time."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, rules="")
        await lab.order("S1", "NA")

        async def faulty(*_: object) -> None:
            raise RuntimeError("planted")

        monkeypatch.setattr(qc_sweep, "sweep", faulty)
        control = ["O|2|QC1||^^^CHEM|R||||||Q", f"R|1|^^^2951-2|149|mmol/L||N||F||||{at.ago(200):%Y%m%d%H%M%S}"]
        await lab.send([*at.message("S1", 290, NA="140")[:-1], *control, "L|1|N"])
        with capture_logs() as said:
            await lab.settle()
        actions = [one["action"] for one in said if one["log_level"] == "error"]
        assert actions == ["qc.sweep"]
        assert await lab.owner.fetchval("select count(*) from lab.queue") == 0


async def test_an_action_is_about_the_failure_that_the_person_knows(database_url: str) -> None:
    """Named by its control: what was done about the one that failed first says nothing of what failed since."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, rules="")
        await at.control(300)
        first = await at.control(200, REJECT)
        second = await at.control(100, REJECT)
        with pytest.raises(ApiError, match=f"another control has failed since: look at {second}"):
            await at.act(point_id=first)
        with pytest.raises(ApiError, match="no control of this id"):
            await at.act(None, kind="comment", point_id=uuid7())
        await at.control(50)
        assert await at.stands() == [("", "fail", second)]
        await at.act(point_id=second)
        assert await at.stands() == [("", "ok", None)]


async def test_what_becomes_of_results_is_not_said_where_nothing_has_failed(database_url: str) -> None:
    """Of another module, of a failure that was made good, or by a comment: it was noted, and did nothing."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, rules="")
        await at.control(300, module="M1")
        failed = await at.control(200, REJECT, module="M1")
        with pytest.raises(ApiError, match="another module"):
            await at.act()
        with pytest.raises(ApiError, match="by a corrective action"):
            await at.act(module="M1", kind="comment")
        assert await at.stands() == [("M1", "fail", failed)]
        await at.act(module="M1")
        await at.control(100, module="M1")
        with pytest.raises(ApiError, match="made good"):
            await at.act(module="M1")
        await at.act(None, module="M1")  # words about an analyzer that runs well
