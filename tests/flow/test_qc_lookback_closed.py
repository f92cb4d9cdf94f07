"""A look-back list that a person has closed opens only for what is known otherwise."""

from __future__ import annotations

from datetime import timedelta

import pytest

from interface.domain.qc_state import Meanwhile
from interface.flow import qc_gate, qc_lookback
from interface.flow.qc_lookback import Decision
from interface.store.qc_gate import POINTS
from interface.store.qc_lookback import Lookback, lookbacks
from tests.flow.controls import REJECT, Bench, bench
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.test_qc_late import documented, many


@pytest.mark.parametrize("days", [0, 100], ids=["lately", "longer ago than a clock may be behind"])
async def test_a_list_that_is_closed_stays_so_however_many_controls_were_measured_since(
    database_url: str, days: int
) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        at.now -= timedelta(days=days)
        for barcode in ("S0", "S1"):
            await lab.order(barcode, "NA")
        await at.control(1330)
        await at.send("S0", 1320, NA="140")
        await at.control(1310)
        await at.send("S1", 1300, NA="140")
        await at.control(1200, REJECT)
        await at.control(1150)
        await at.act(Meanwhile.STANDS)
        await documented(at, 1140)
        on_it = ["S1"] if days == 0 else []
        assert await at.listed() == on_it
        (one,) = await _closed(lab, at)
        await many(at, 1100, count=POINTS - 5)
        for minutes in range(1000, 940, -10):  # the failure's points leave the newest one by one
            await at.control(minutes)
            assert (await _lists(lab), await at.listed()) == ([one], on_it), minutes
        await _plan_again(at)
        assert (await _lists(lab), await at.listed()) == ([one], on_it)


async def _closed(lab: Laboratory, at: Bench) -> list[Lookback]:
    """The lists, once a person has decided about all that is on them."""
    if await at.listed():
        async with lab.database.transaction(lab.organization_id) as connection:
            (one,) = await qc_lookback.lookbacks(connection)
            await qc_lookback.decide(connection, lab.director, one.id, Decision.STANDS, "measured again, the same")
    found = await _lists(lab)
    assert [(one.state, one.since) for one in found] == [("closed", at.ago(1310))]
    return found


async def _lists(lab: Laboratory) -> list[Lookback]:
    async with lab.database.organization(lab.organization_id) as connection:
        return await lookbacks(connection, closed=True)


async def _plan_again(at: Bench) -> None:
    async with at.lab.database.transaction(at.lab.organization_id) as connection:
        await qc_gate.refresh(connection, at.lab.director, at.stream(), "another plan")
    await at.follow()
