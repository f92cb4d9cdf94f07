"""Controls and what they mean for patients' results: held, listed, judged anew and released."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from interface.domain.autoverify import Scope, Switch
from interface.domain.facts import QcState
from interface.domain.model import HoldReason
from interface.domain.permissions import permissions
from interface.domain.qc_state import Meanwhile, Plan
from interface.domain.review import ReviewError
from interface.domain.views import Actor, ActorKind
from interface.errors import ApiError, StoreUnavailable
from interface.flow import qc_lookback, qc_plans, qc_sweep
from interface.flow.qc_gate import gate_of, patient_alarm, patient_alarm_ended
from interface.flow.qc_lookback import Decision, LookbackView
from interface.flow.qc_watch import watch_quality_control
from interface.flow.review import comment, hold, release, retract, verify
from interface.flow.rules import switch_off
from interface.store.ids import uuid7
from tests.flow.controls import IN_CONTROL, REJECT, bench, modular
from tests.flow.laboratory import laboratory
from tests.flow.test_deciding import by_code
from tests.flow.test_two_links import waits_for_a_lock

FINAL, FAILED, EXPIRED = ("final", ""), ("registered", "qc_failed"), ("registered", "qc_expired")
HELD_ALONE = ("preliminary", "")


async def test_a_failing_control_holds_fifty_results_and_a_good_one_with_an_action_releases_them(
    database_url: str,
) -> None:
    """What was released since the last good control is the list, and nothing else is."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        after = [f"A{number}" for number in range(50)]
        for barcode in ("OLD", "S1", "S2", *after):
            await lab.order(barcode, "NA")
        await at.control(300)
        await at.send("OLD", 290, NA="140")
        await at.control(200)
        await at.send("S1", 190, NA="140")
        await at.send("S2", 110, NA="141")
        assert await at.said() == dict.fromkeys(("OLD", "S1", "S2"), FINAL)
        await at.control(100, REJECT)
        assert await at.listed() == ["S1", "S2"]
        for number, barcode in enumerate(after):
            await at.send(barcode, 90 - number, NA="140")
        assert await at.said() == dict.fromkeys(("OLD", "S1", "S2"), FINAL) | dict.fromkeys(after, FAILED)
        await at.control(30)
        assert set((await at.said()).values()) == {FINAL, FAILED}
        await at.act()
        assert await at.said() == dict.fromkeys(("OLD", "S1", "S2", *after), FINAL)
        assert await at.listed() == ["S1", "S2"]


async def test_every_result_says_which_control_vouches_for_it_or_why_it_is_held(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await lab.order("S1", "NA", "K")
        good = await at.control(200)
        await at.send("S1", 190, NA="140", K="4.1")
        found = await by_code(lab)
        said = await lab.owner.fetchval(
            "select lab.explained(steps)::json from lab.decision where result_version_id = $1", found["NA"].version_id
        )
        (step,) = [one for one in said if one["step"] == "qc"]
        assert (step["verdict"], step["version"], step["inputs"]) == (
            "ok", "without a plan", {"state": "ok", "point": str(good)},
        )  # fmt: skip
        assert (await at.said("K"))["S1"] == HELD_ALONE  # nobody controls it: a person releases
        bad = await at.control(100, REJECT)
        await lab.order("S2", "NA")
        await at.send("S2", 90, NA="140")
        (held,) = [one for one in await lab.results() if one.barcode == "S2"]
        said = await lab.owner.fetchval(
            "select lab.explained(steps)::json from lab.decision where result_version_id = $1", held.version_id
        )
        (step,) = [one for one in said if one["step"] == "qc"]
        assert (step["verdict"], step["inputs"]) == ("hold", {"state": "fail", "point": str(bad)})


async def test_what_was_uploaded_before_the_control_failed_and_waits_is_held(database_url: str) -> None:
    """A batch upload: the patients first, measured after the last good control; what is older is left alone."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, rules="")
        for barcode in ("S0", "S1", "S2"):
            await lab.order(barcode, "NA")
        await at.control(200)
        await at.send("S0", 210, NA="140")
        await at.send("S1", 190, NA="140")
        await at.control(100, REJECT)
        assert await at.said() == {"S0": HELD_ALONE, "S1": FAILED}
        assert await at.listed() == []
        await at.send("S2", 150, NA="140")  # late, and of that time
        assert (await at.said())["S2"] == FAILED
        await at.control(50)
        await at.act()
        assert await at.said() == dict.fromkeys(("S0", "S1", "S2"), HELD_ALONE)


async def test_what_is_to_be_measured_again_stays_held(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        for barcode in ("S1", "S2", "S3"):
            await lab.order(barcode, "NA")
        await at.control(200)
        await at.control(100, REJECT)
        await at.send("S1", 90, NA="140")
        await at.control(50)
        await at.send("S2", 40, NA="140")
        assert await at.said() == {"S1": FAILED, "S2": FAILED}
        await at.act(Meanwhile.AGAIN)
        assert await at.said() == {"S1": FAILED, "S2": FINAL}
        await at.send("S3", 30, NA="140")
        assert (await at.said())["S3"] == FINAL


async def test_a_control_that_comes_late_holds_what_waits_and_lists_what_was_released(database_url: str) -> None:
    """By when it was measured, not by when it came; a good control since then bounds it."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        for barcode in ("S1", "S2", "S3", "S4"):
            await lab.order(barcode, "NA")
        await at.control(300)
        for barcode, minutes in (("S1", 290), ("S2", 240), ("S3", 150)):
            await at.send(barcode, minutes, NA="140")
        await at.control(160)
        assert await at.said() == dict.fromkeys(("S1", "S2", "S3"), FINAL)
        await at.control(250, REJECT)
        assert await at.listed() == ["S1", "S2"]  # the control of 160 minutes ago vouches for S3
        await at.send("S4", 100, NA="140")
        assert (await at.said())["S4"] == FAILED  # until somebody has said what was done
        await at.act()
        assert (await at.said())["S4"] == FINAL


async def test_a_good_control_that_comes_late_takes_from_the_list_what_it_vouches_for(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        for barcode in ("S1", "S2"):
            await lab.order(barcode, "NA")
        await at.control(300)
        await at.send("S1", 290, NA="140")
        await at.send("S2", 240, NA="140")
        await at.control(200, REJECT)
        assert await at.listed() == ["S1", "S2"]
        await at.control(250)
        found = await lab.owner.fetch("select state, decided_by_name from lab.qc_lookback_item order by 1, 2")
        assert [tuple(row) for row in found] == [("stands", "quality control"), ("waiting", "")]


async def test_what_was_measured_out_of_control_is_measured_again_without_being_asked_for(database_url: str) -> None:
    """It asks for nothing, and the new run is reported in its place."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, IN_CONTROL.replace('below = "3.0"', 'below = "3.8"'))
        await at.control(300, test="K")
        await at.control(200, REJECT, test="K")
        await lab.order("S1", "K")
        await at.send("S1", 190, K="3.6")  # so low that the rules would order magnesium
        assert await at.said("K") == {"S1": FAILED}
        assert await lab.owner.fetchval("select count(*) from lab.order_item") == 1
        await at.control(100, test="K")
        await at.act(Meanwhile.AGAIN, "K")
        await at.send("S1", 90, K="4.1")
        assert [(one.value, one.status.value, one.reportable) for one in await lab.results()] == [
            ("3.6", "registered", False), ("4.1", "final", True),
        ]  # fmt: skip


async def test_each_module_is_gated_by_its_own_controls(database_url: str, tmp_path: Path) -> None:
    async with laboratory(database_url, drivers=[modular(tmp_path)]) as lab:
        at = await bench(lab)
        for barcode in ("A", "B", "C", "D", "E"):
            await lab.order(barcode, "NA")
        await at.control(300, module="1")
        await at.control(300, module="2")
        await at.send("A", 290, "1^", NA="140")
        await at.send("B", 290, "2^", NA="140")
        await at.send("C", 290, NA="140")
        assert await at.said() == dict.fromkeys("ABC", FINAL)
        await at.control(200, REJECT, module="1")
        assert await at.listed() == ["A", "C"]  # of which module C is nobody knows
        await at.send("D", 190, "2^", NA="140")
        await at.send("E", 190, "1^", NA="140")
        assert {barcode: (await at.said())[barcode] for barcode in "DE"} == {"D": FINAL, "E": FAILED}


async def test_a_reagent_lot_that_was_never_controlled_vouches_for_nothing(database_url: str, tmp_path: Path) -> None:
    async with laboratory(database_url, drivers=[modular(tmp_path)]) as lab:
        at = await bench(lab)
        for barcode in ("A", "B", "C", "D"):
            await lab.order(barcode, "NA")
        await at.control(300, lot="R1")
        await at.send("A", 290, "^R1", NA="140")
        await at.send("B", 280, "^R2", NA="140")
        assert await at.said() == {"A": FINAL, "B": HELD_ALONE}
        await at.control(270, lot="R2")
        await at.send("C", 260, "^R2", NA="140")
        await at.control(200, REJECT, lot="R2")
        assert (await at.listed(), (await at.said())["B"]) == (["C"], HELD_ALONE)
        await at.send("D", 190, "^R1", NA="140")
        assert (await at.said())["D"] == FAILED


async def test_what_is_measured_after_the_last_control_expired_waits_for_the_next(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.plan(Plan(interval_minutes=60))
        for barcode in ("S1", "S2"):
            await lab.order(barcode, "NA")
        await at.control(100)
        await at.send("S1", 50, NA="140")
        await at.send("S2", 30, NA="140")
        assert await at.said() == {"S1": FINAL, "S2": EXPIRED}
        await at.control(20)
        assert await at.said() == {"S1": FINAL, "S2": FINAL}


async def test_a_persons_word_about_a_result_is_not_overridden(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await lab.order("S1", "NA")
        await lab.order("S2", "NA")
        await at.control(300)
        await at.control(200, REJECT)
        await at.send("S1", 190, NA="140")
        await at.send("S2", 190, NA="140")
        found = {one.barcode: one.id for one in await lab.results()}
        async with lab.database.transaction(lab.organization_id) as connection:
            await hold(connection, lab.director, found["S1"], "clotted?")
            await comment(connection, lab.director, found["S2"], "difficult")
        await at.control(100)
        await at.act()
        assert await at.said() == {"S1": ("registered", "person"), "S2": HELD_ALONE}


async def test_what_was_calculated_of_it_is_held_with_it(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await lab.order("S1", "NA", "CL", "HCO3", "AGAP")
        await at.control(300)
        async with lab.database.transaction(lab.organization_id) as connection:
            await switch_off(connection, lab.director, Switch(Scope.ORGANIZATION, "", "new rules"))
        await at.send("S1", 290, NA="140", CL="102", HCO3="24")
        assert (await by_code(lab))["AGAP"].held == ()
        await at.control(200, REJECT)
        found = await by_code(lab)
        assert {code: one.held == (HoldReason.QC_FAILED,) for code, one in found.items()} == {
            "NA": True, "CL": False, "HCO3": False, "AGAP": True,
        }  # fmt: skip
        with pytest.raises(ReviewError, match="qc_failed"):
            await lab.release(found["AGAP"].id)
        await at.control(100)
        await at.act()
        for code in ("NA", "CL", "HCO3"):
            await lab.release(found[code].id)
        gap = (await by_code(lab))["AGAP"]
        assert (gap.value, gap.held) == ("14.0", ())


async def test_nobody_releases_what_a_control_speaks_against_though_it_is_not_held_yet(database_url: str) -> None:
    """A person's release between the control and its consequences."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, rules="")
        await lab.order("S1", "NA")
        await at.control(300)
        await at.send("S1", 290, NA="140")
        await at.control(200, REJECT, follow=False)
        (one,) = await lab.results()
        assert (one.status.value, one.held) == ("preliminary", ())
        for step in (release, verify):
            with pytest.raises(ReviewError, match=r"qc_failed.* nobody can accept"):
                async with lab.database.transaction(lab.organization_id) as connection:
                    await step(connection, lab.director, one.id)
        assert (await at.follow()).held == 1
        assert (await at.follow()).held == 0


async def test_what_a_sweep_left_when_it_ended_is_done_by_the_next(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kill in the middle leaves it: every result is held, listed and released once."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        monkeypatch.setattr(qc_sweep, "BATCH_RESULTS", 1)
        barcodes = ["S1", "S2", "S3"]
        for barcode in ("S0", *barcodes):
            await lab.order(barcode, "NA")
        await at.control(300)
        await at.send("S0", 290, NA="140")
        async with lab.database.transaction(lab.organization_id) as connection:
            await switch_off(connection, lab.director, Switch(Scope.TEST, "NA", "wrong lot"))
        for barcode in barcodes:
            await at.send(barcode, 280, NA="140")
        await at.control(200, REJECT, follow=False)
        once = qc_sweep._some

        async def ends(*args: Any, **kwargs: Any) -> None:
            await once(*args, **kwargs)
            if await lab.owner.fetchval("select count(*) from lab.result where held = '{qc_failed}'") == 1:
                raise StoreUnavailable("gone")

        monkeypatch.setattr(qc_sweep, "_some", ends)
        with pytest.raises(StoreUnavailable):
            await at.follow()
        assert Counter((await at.said()).values()) == {
            FINAL: 1,
            HELD_ALONE: 2,
            FAILED: 1,
        }  # the second batch was taken back
        monkeypatch.setattr(qc_sweep, "_some", once)
        await at.follow()
        assert Counter((await at.said()).values()) == {FINAL: 1, FAILED: 3}
        assert await at.listed() == ["S0"]
        assert await lab.owner.fetchval("select count(*) from lab.audit_event where action = 'qc_hold'") == 3


@pytest.mark.parametrize("first", ["control", "patient"])
async def test_a_control_and_patients_decided_at_the_same_moment(database_url: str, first: str) -> None:
    """Whoever comes first: nothing measured out of control is both released and on no list."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await lab.order("S1", "NA")
        await at.control(300)
        await lab.send(at.message("S1", 290, NA="140"))
        if first == "control":
            async with lab.database.transaction(lab.organization_id) as connection:
                await at.judged(connection, 200, REJECT)
                working = asyncio.create_task(lab.settle())
                await waits_for_a_lock(lab)
            await working
            assert await at.said() == {"S1": FAILED}
        else:
            async with lab.database.transaction(lab.organization_id) as connection:
                await gate_of(connection, [lab.context.analyzer_id])
                failing = asyncio.create_task(at.control(200, REJECT, follow=False))
                await waits_for_a_lock(lab)
                assert not failing.done()
            await failing
            await lab.settle()
        await at.follow()
        assert await at.said() == {"S1": FAILED}
        assert await at.listed() == []


async def test_a_control_speaks_of_the_patients_in_its_own_message(database_url: str) -> None:
    """Nothing of a message is released by what was known before it."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.wanted(1)
        await lab.order("S1", "NA")
        await at.control(300)
        patient = at.message("S1", 290, NA="140")
        control = ["O|2|QC1||^^^CHEM|R||||||Q", f"R|1|^^^2951-2|149|mmol/L||N||F||||{at.ago(200):%Y%m%d%H%M%S}"]
        await lab.send([*patient[:-1], *control, patient[-1]])
        await lab.settle()
        assert await at.said() == {"S1": FAILED}
        assert await at.listed() == []


async def test_what_a_killed_daemon_left_is_done_by_the_next(database_url: str) -> None:
    """Killed after a control was judged and before the results had followed it."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, rules="")
        await lab.order("S1", "NA")
        await at.control(300)
        await at.send("S1", 290, NA="140")
        await at.control(200, REJECT, follow=False)
        watch = asyncio.create_task(watch_quality_control(lab.database, lambda: [lab.organization_id]))
        async with asyncio.timeout(20):
            while await at.said() != {"S1": FAILED}:  # nothing tells when it has gone round
                pass
        watch.cancel()
        assert await at.said() == {"S1": FAILED}


async def test_a_release_that_was_begun_before_the_control_is_on_the_list(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab, rules="")
        await lab.order("S1", "NA")
        await at.control(300)
        await at.send("S1", 290, NA="140")
        (one,) = await lab.results()
        async with lab.database.transaction(lab.organization_id) as connection:
            await release(connection, lab.director, one.id)
            failing = asyncio.create_task(at.control(200, REJECT))
            await waits_for_a_lock(lab)
        await failing
        assert (await at.said(), await at.listed()) == ({"S1": FINAL}, ["S1"])


async def test_what_is_looked_back_at_is_decided_by_a_person_and_the_list_closes(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        for barcode in ("S1", "S2", "S3"):
            await lab.order(barcode, "NA")
        await at.control(300)
        for barcode in ("S1", "S2", "S3"):
            await at.send(barcode, 290, NA="140")
        bad = await at.control(200, REJECT)
        async with lab.database.transaction(lab.organization_id) as connection:
            (found,) = await qc_lookback.lookbacks(connection)
        assert (found.qc_result_id, found.since, found.until, found.items, found.waiting) == (
            bad, at.ago(300), None, 3, 3,
        )  # fmt: skip
        ids = {one.barcode: one.id for one in await lab.results()}

        async def decided(decision: Decision, *barcodes: str) -> LookbackView:
            async with lab.database.transaction(lab.organization_id) as connection:
                return await qc_lookback.decide(
                    connection, lab.director, found.id, decision, "compared", [ids[one] for one in barcodes]
                )

        await decided(Decision.STANDS, "S1")
        with pytest.raises(ApiError, match="neither corrected nor retracted"):
            await decided(Decision.CORRECTED, "S2")
        async with lab.database.transaction(lab.organization_id) as connection:
            await retract(connection, lab.director, ids["S2"], "out of control")
        await decided(Decision.CORRECTED, "S2")
        with pytest.raises(ApiError, match="was decided about: stands"):
            await decided(Decision.REPEAT, "S1")
        done = await decided(Decision.REPEAT)
        assert [(item.barcode, item.state) for item in done.items] == [
            ("S1", "stands"), ("S2", "corrected"), ("S3", "repeat"),
        ]  # fmt: skip
        asked = await lab.owner.fetch("select result_id, kind, reason from lab.follow_up")
        assert [tuple(row) for row in asked] == [(ids["S3"], "rerun", "compared")]
        assert done.lookback.state == "open"  # no control has been acceptable since
        await at.control(100)
        await at.act()
        async with lab.database.transaction(lab.organization_id) as connection:
            shown = (await qc_lookback.view(connection, found.id)).lookback
        assert (shown.state, shown.until) == ("closed", at.ago(100))


async def test_what_is_due_is_said(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.plan(Plan(interval_minutes=60))
        await at.control(100, test="NA")
        await at.control(20, test="K")
        await at.control(20, REJECT, test="CL")
        await at.control(59, test="CREA")
        await at.wanted(1, test="MG")
        async with lab.database.transaction(lab.organization_id) as connection:
            found = await qc_plans.status(connection, at.now, due_minutes=10)
            due = await qc_plans.status(connection, at.now, due_minutes=10, only_due=True)
        assert {one.test: (one.state.value, one.due) for one in found} == {
            "NA": ("expired", "overdue"), "K": ("ok", ""), "CL": ("fail", "overdue"), "CREA": ("ok", "due"),
            "MG": ("unknown", "overdue"),
        }  # fmt: skip
        assert {one.test for one in due} == {"NA", "CL", "CREA", "MG"}
        (chloride,) = [one for one in found if one.test == "CL"]
        wanted = "an acceptable control of level 1 (L) and a documented corrective"
        assert chloride.action_due and wanted in chloride.wanted


async def test_a_failure_needs_a_word_about_what_was_measured_meanwhile(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab, rules="")
        await at.control(300)
        await at.control(200, REJECT)
        with pytest.raises(ApiError, match="stands, or again"):
            await at.act(None)
        viewer = Actor(ActorKind.USER, uuid7(), "viewer", lab.organization_id, permissions({"viewer"}))
        with pytest.raises(ApiError, match="qc:write"):
            await at.act(actor=viewer)


async def test_the_patients_own_results_hold_until_somebody_closes_their_alarm(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        for barcode in ("S1", "S2", "S3"):
            await lab.order(barcode, "NA")
        await at.control(300)
        await at.send("S1", 290, NA="140")
        await at.send("S2", 190, NA="140")
        org = lab.organization_id
        async with lab.database.transaction(org) as connection:
            await patient_alarm(connection, lab.director, at.stream(), QcState.FAIL, at.ago(200), "EWMA above 2.1")
        await at.follow()
        assert await at.listed() == ["S2"]
        await at.send("S3", 100, NA="140")
        await at.control(90)
        await at.act(None)
        assert (await at.said())["S3"] == FAILED
        async with lab.database.transaction(org) as connection:
            await patient_alarm_ended(connection, lab.director, at.stream(), "a ward of dialysis patients")
        await at.follow()
        assert (await at.said())["S3"] == FINAL
