"""What is held for controls, and of which no control says anything once they are good: a person may release it, as
what comes then."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from interface.domain.alerts import AlertKind
from interface.domain.facts import QcState
from interface.domain.qc_state import Meanwhile, Plan
from interface.flow import qc_plans
from interface.flow.qc_gate import patient_alarm, patient_alarm_ended
from interface.ops import alert_watch
from interface.settings import AlertSettings
from tests.flow.controls import IN_CONTROL, REJECT, Bench, bench, modular
from tests.flow.laboratory import laboratory
from tests.flow.rulebook import RULES

FINAL, FAILED, EXPIRED = ("final", ""), ("registered", "qc_failed"), ("registered", "qc_expired")
WAITS = ("preliminary", "")


@pytest.mark.parametrize("rules", [IN_CONTROL, RULES], ids=["asked for", "exempt"])
async def test_what_an_expired_control_of_no_module_held_is_free_when_the_next_is_acceptable(
    database_url: str, tmp_path: Path, rules: str
) -> None:
    """Controls that a person enters say no module, the analyzer says one: nobody could ever release what had come in
    the night."""
    async with laboratory(database_url, drivers=[modular(tmp_path)]) as lab:
        at = await bench(lab, rules)
        await at.plan(Plan(interval_minutes=60))
        for barcode in ("S1", "S2"):
            await lab.order(barcode, "NA")
        await at.control(300)
        await at.send("S1", 100, "1^", NA="140")
        assert await at.said() == {"S1": EXPIRED}
        await at.control(20)
        await at.send("S2", 10, "1^", NA="141")
        said = WAITS if rules is IN_CONTROL else FINAL
        assert await at.said() == {"S1": said, "S2": said}
        if said == WAITS:
            await lab.release(next(one.id for one in await lab.results() if one.barcode == "S1"))


@pytest.mark.parametrize("meanwhile", Meanwhile)
async def test_what_failed_of_no_module_holds_until_it_is_said_what_becomes_of_it(
    database_url: str, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    async with laboratory(database_url, drivers=[modular(tmp_path)]) as lab:
        at = await bench(lab)
        await lab.order("S1", "NA")
        await at.control(300)
        await at.send("S1", 250, "1^", NA="140")
        await at.control(200, REJECT)
        await at.control(100)
        assert await at.said() == {"S1": FAILED}
        await at.act(meanwhile)
        assert await at.said() == {"S1": WAITS if meanwhile is Meanwhile.STANDS else FAILED}


async def alarm(at: Bench, state: QcState | None) -> None:
    lab = at.lab
    async with lab.database.transaction(lab.organization_id) as connection:
        if state is None:
            await patient_alarm_ended(connection, lab.director, at.stream(), "a ward of dialysis patients")
        else:
            await patient_alarm(connection, lab.director, at.stream(), state, at.ago(200), "EWMA above 2.1")
    await at.follow()


async def test_what_the_patients_own_results_held_is_free_when_their_alarm_ends_though_there_are_no_controls(
    database_url: str,
) -> None:
    """Of a test that is exempt from controls nothing else vouches: it was held for ever, for want of a control."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, RULES)
        for barcode in ("S1", "S2"):
            await lab.order(barcode, "NA")
        await alarm(at, QcState.FAIL)
        await at.send("S1", 100, NA="140")
        assert await at.said() == {"S1": FAILED}
        await alarm(at, None)
        await at.send("S2", 50, NA="140")
        assert await at.said() == {"S1": FINAL, "S2": FINAL}


async def test_an_alarm_that_holds_is_told_and_is_wanted_to_be_ended(database_url: str) -> None:
    """Every result of the test was held, and no alert said so: only what a control had failed was told."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, RULES)
        await alarm(at, QcState.FAIL)
        async with lab.database.transaction(lab.organization_id) as connection:
            [due] = await qc_plans.status(connection, only_due=True)
            told = await alert_watch._controls(connection, AlertSettings(), datetime.now(UTC))
        assert (due.state, due.due, due.wanted) == (QcState.FAIL, "overdue", "EWMA above 2.1")
        assert list(told[AlertKind.QC_PROBLEM].values()) == ["NA"]
