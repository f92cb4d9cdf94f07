"""A number with more digits than anything measured has costs its own result at most, never its message or specimen."""

from __future__ import annotations

from datetime import timedelta

import pytest

from interface.domain.model import HoldReason, ResultStatus
from tests.flow.laboratory import COLLECTED, laboratory
from tests.flow.rulebook import put_in_force, sent

HUGE = "3" * 39


@pytest.mark.parametrize("number", ["9" * 36, "340282350000000000000000000000000000000"])  # the second: FLT_MAX by "%f"
async def test_a_number_of_many_digits_keeps_nothing_beside_it_from_its_decision(
    database_url: str, number: str
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "CREA", family="Muster", given="Maria")
        await lab.order("S2", "CREA", "NA", "K", at=COLLECTED + timedelta(days=1))
        await lab.send(sent("S1", {"CREA": "0.9"}))
        await lab.settle()
        values = {"NA": "140", "K": "4.1", "CREA": number}
        await lab.send(sent("S2", values, control="C2", at="20260103030000"))
        await lab.settle()
        assert ("complete", "parked") not in await lab.messages()
        found = {one.raw_value: one for one in await lab.results()}
        assert found["140"].status is found["4.1"].status is ResultStatus.FINAL
        assert found[number].status is not ResultStatus.FINAL and found[number].held


async def test_a_number_that_nobody_measures_is_held_where_the_laboratory_gives_no_range(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "CL", "K", family="Muster", given="Maria")
        await lab.send(sent("S1", {"CL": HUGE, "K": "4.1"}))
        await lab.settle()
        found = {one.raw_value: one for one in await lab.results()}
        assert (found[HUGE].status, found[HUGE].held) == (ResultStatus.REGISTERED, (HoldReason.IMPLAUSIBLE,))
        assert found["4.1"].status is ResultStatus.FINAL
        explained = await lab.owner.fetch("select lab.explained(steps) as steps from lab.decision")
        assert len([row for row in explained if "no limit of the test admits" in row["steps"]]) == 1


async def test_what_is_calculated_from_a_number_of_many_digits_parks_no_message(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S2", "NA", "CL", "HCO3", "AGAP", family="Muster", given="Maria")
        await lab.send(sent("S2", {"CL": HUGE}))
        await lab.settle()
        await lab.send(sent("S2", {"NA": "140", "HCO3": "24"}, control="C2", at="20260102040000"))
        await lab.settle()
        assert ("complete", "parked") not in await lab.messages()
        assert {"140", "24", HUGE} <= {one.raw_value for one in await lab.results()}
