"""What was held for its controls and is judged anew once they are good: as what it was reported, and with all that it
says of what is beside it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from interface.domain.model import HoldReason
from interface.domain.qc_state import Plan
from interface.flow import catalogue, qc_lookback, review
from interface.flow.correction import NewValue
from interface.store import rules as store
from tests.flow.controls import IN_CONTROL, REJECT, Bench, bench
from tests.flow.laboratory import COLLECTED, Laboratory, laboratory
from tests.flow.rulebook import RULES, proved, put_in_force, sent
from tests.flow.test_added_later import VALUES
from tests.flow.test_deciding import by_code, items
from tests.flow.test_late import CHANGED, FINAL, INDEX, notices
from tests.flow.test_reflex_released import REFLEX


async def test_an_index_that_was_measured_out_of_control_says_so_once_it_stands(database_url: str) -> None:
    """Potassium had been released before it came; of an index that is out of control nothing is known. Then the rules
    released it, and nobody heard that the specimen was haemolysed."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, IN_CONTROL + INDEX.format(action="hold"))
        await lab.order("S1", "K", "CREA")
        for test in ("K", "CREA"):
            await at.control(300, test=test)
        await at.control(250, REJECT, test="CREA")
        await at.send("S1", 200, K="4.1")
        await at.send("S1", 190, CREA="3.2")
        assert await at.said("K") == {"S1": ("final", "")}
        assert await at.said("CREA") == {"S1": ("registered", "qc_failed")}
        assert await notices(lab) == {}
        await at.control(100, test="CREA")
        await at.act(test="CREA")
        found = await by_code(lab)
        assert (found["CREA"].status, found["K"].status) == (FINAL, FINAL)
        assert (await notices(lab))["K"][0] == {HoldReason.INTERFERENCE, CHANGED}


async def decimals(lab: Laboratory, number: int) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        change = catalogue.TestChange(decimals=number)
        await catalogue.set_test(connection, lab.director, "K", change, "as the method does")


async def test_what_was_rounded_is_not_rounded_once_more(database_url: str) -> None:
    """Its test has fewer decimals now: 4.449 was reported as 4.45, and became 4.5."""
    async with laboratory(database_url) as lab:
        await decimals(lab, 2)
        at = await bench(lab)
        await at.plan(Plan(interval_minutes=60))
        await lab.order("S1", "K")
        await at.control(300, test="K")
        await at.send("S1", 100, K="4.449")
        assert await at.said("K") == {"S1": ("registered", "qc_expired")}
        await decimals(lab, 1)
        async with lab.database.transaction(lab.organization_id) as connection:
            revision = await store.find_revision(connection, "default")
            assert revision is not None
            await proved(connection, lab.director, revision, IN_CONTROL)
        await at.control(20, test="K")
        found = (await by_code(lab))["K"]
        assert (found.status, found.value) == (FINAL, "4.45")


async def test_what_was_rounded_is_compared_as_it_was_reported(database_url: str) -> None:
    """Rounded once more it is within its limits: nobody could release it, since these were changed, which they were
    not."""
    async with laboratory(database_url) as lab:
        await decimals(lab, 2)
        await bench(lab, IN_CONTROL.replace('autoverification = "on"', 'autoverification = "off"'))
        await lab.order("S1", "K")
        await lab.send(sent("S1", {"K": "5.24"}))
        await lab.settle()
        found = (await by_code(lab))["K"]
        assert ("H" in found.flags, found.high) == (True, Decimal("5.2"))
        await decimals(lab, 1)
        await lab.release(found.id)
        found = (await by_code(lab))["K"]
        assert (found.status, found.value, "H" in found.flags) == (FINAL, "5.24", True)


async def test_what_follows_from_what_was_rounded_follows_from_it_as_it_was_reported(database_url: str) -> None:
    """A reflex that it asks for when a person releases it: rounded once more it asked for none."""
    async with laboratory(database_url) as lab:
        await decimals(lab, 2)
        rules = RULES + REFLEX.format(asks='above = "4.5"')
        made = await put_in_force(lab, rules)
        await lab.order("S0", "K")
        await lab.send(sent("S0", {"K": "3.4"}, control="C0", at="20260102020000"))
        await lab.settle()
        await lab.order("S1", "K", at=COLLECTED + timedelta(hours=2))
        await lab.send(sent("S1", {"K": "4.54"}, at="20260102040000"))
        await lab.settle()
        found = (await lab.results())[-1]
        assert found.held == (HoldReason.DELTA,)
        await decimals(lab, 1)
        async with lab.database.transaction(lab.organization_id) as connection:
            await proved(connection, lab.director, made, rules)
            await review.release(connection, lab.director, found.id, "seen", accept_hold=True)
        assert "MG" in await items(lab)


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


@pytest.mark.parametrize("how", ["control", "list"])
async def test_what_is_calculated_and_was_spoken_of_is_held_for_no_control_that_is_good(
    database_url: str, how: str
) -> None:
    """What a person had said of an anion gap kept it from being calculated anew of the same: it was held for a control
    of sodium that had been made good, which nobody can accept."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, IN_CONTROL.replace('autoverification = "on"', 'autoverification = "off"'))
        await lab.order("S1", *VALUES, "AGAP")
        for test in VALUES:
            await at.control(300, test=test)
        await at.send("S1", 200, **VALUES)
        gap = (await by_code(lab))["AGAP"]
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.comment(connection, lab.director, gap.id, "of two tubes?")
        if how == "list":
            await lab.release((await by_code(lab))["NA"].id)
        await at.control(100, REJECT)
        assert (await at.said("AGAP"))["S1"] == ("registered", "person qc_failed")
        await at.control(50)
        await at.act()
        if how == "list":
            async with lab.database.transaction(lab.organization_id) as connection:
                [of] = await qc_lookback.lookbacks(connection)
                await qc_lookback.decide(connection, lab.director, of.id, qc_lookback.Decision.STANDS, "repeated")
        found = (await by_code(lab))["AGAP"]
        assert (found.held, found.note) == ((HoldReason.PERSON,), "of two tubes?")
