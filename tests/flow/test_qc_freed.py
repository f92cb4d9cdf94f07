"""What was held for its controls and is judged anew once they are good: as what it was reported, and with all that it
says of what is beside it."""

from __future__ import annotations

import pytest

from interface.domain.qc_state import Plan
from interface.flow import review
from interface.flow.correction import NewValue
from tests.flow.controls import IN_CONTROL, Bench, bench
from tests.flow.laboratory import laboratory
from tests.flow.rulebook import sent
from tests.flow.test_deciding import by_code
from tests.flow.test_late import FINAL

NEEDS = '\n[[rule]]\nname = "with potassium"\ntests = ["NA"]\nrequire = [{ sibling_present = "K" }]\n'


async def spoken_of(at: Bench, how: str) -> None:
    """A result that is held for want of a control, what a person says of it, and the control."""
    lab = at.lab
    await at.plan(Plan(interval_minutes=60))
    await lab.order("S1", "NA", "K")
    for test in ("NA", "K"):
        await at.control(300, test=test)
    await at.send("S1", 100, NA="140")
    assert "qc_expired" in (await at.said())["S1"][1]
    [found] = await lab.results()
    async with lab.database.transaction(lab.organization_id) as connection:
        if how == "comment":
            await review.comment(connection, lab.director, found.id, "clotted?")
        else:
            await review.correct(connection, lab.director, found.id, NewValue("150"), "of the other method")
    for test in ("NA", "K"):
        await at.control(20, test=test)
    assert "qc_expired" not in (await at.said())["S1"][1]


@pytest.mark.parametrize(("how", "anew"), [("comment", "141"), ("correct", "140"), ("correct", "141")])
async def test_what_a_person_made_of_it_is_not_undone_by_what_the_analyzer_says_once_more(
    database_url: str, how: str, anew: str
) -> None:
    """That its controls hold it no more is nobody's word: the rules released the analyzer's value in the place of the
    one that a person had entered."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await spoken_of(at, how)
        await lab.send(sent("S1", {"NA": anew}, control="again", at=f"{at.ago(100):%Y%m%d%H%M%S}"))
        await lab.settle()
        assert await at.said() == {"S1": ("registered", "person")}


@pytest.mark.parametrize("how", ["comment", "correct"])
async def test_what_a_person_made_of_it_is_released_by_no_rule_once_what_it_waited_for_comes(
    database_url: str, how: str
) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab, IN_CONTROL + NEEDS)
        await spoken_of(at, how)
        before = (await by_code(lab))["NA"]
        await at.send("S1", 10, K="4.1")
        found = await by_code(lab)
        assert (found["K"].status, found["NA"].version_id) == (FINAL, before.version_id)
