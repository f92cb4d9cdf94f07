"""What waits for a companion, an index or another test, when that comes in a later message."""

from __future__ import annotations

import pytest

from interface.domain.autoverify import Scope, Switch
from interface.domain.model import HoldReason, ResultStatus
from interface.domain.review import ReviewError
from interface.domain.views import Audience
from interface.flow.entry import Entry, enter
from interface.flow.review import hold, reject, release
from interface.flow.rules import switch_off, switch_on
from interface.flow.trace import trace
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import RULES, put_in_force, sent
from tests.flow.test_deciding import by_code, items, steps

FINAL, REGISTERED = ResultStatus.FINAL, ResultStatus.REGISTERED
CONSISTENCY = """
[[consistency]]
name = "sodium and chloride"
sum = { NA = "1", CL = "-1" }
low = "20"
high = "60"
required = true
text = "sodium and chloride do not belong together"
"""
INDEX = """
[[index]]
test = "K"
index = "H"
index_test = "CREA"
limit = "100"
required = true
action = "{action}"
comment = "haemolysed"
"""
SIBLING = """
[[rule]]
name = "with creatinine"
tests = ["K"]
require = [{ sibling_present = "CREA" }]
"""
LINKED = """
[[linked]]
name = "electrolytes"
tests = ["NA", "K"]
complete = true
"""


async def said(lab: Laboratory) -> dict[str, tuple[ResultStatus, tuple[HoldReason, ...], int]]:
    return {code: (one.status, one.held, one.version) for code, one in (await by_code(lab)).items()}


async def send(lab: Laboratory, control: str, **values: str) -> None:
    await lab.send(sent("S1", values, control=control))
    await lab.settle()


@pytest.mark.parametrize(
    ("rules", "waits", "comes"),
    [
        (CONSISTENCY, {"NA": "140"}, {"CL": "102"}),
        (INDEX.format(action="hold"), {"K": "4.1"}, {"CREA": "1.0"}),
        (SIBLING, {"K": "4.1"}, {"CREA": "1.0"}),
        (LINKED, {"K": "4.1"}, {"NA": "140"}),
    ],
    ids=["consistency", "index", "sibling", "linked"],
)
async def test_what_waits_for_another_result_is_judged_anew_when_that_comes(
    database_url: str, rules: str, waits: dict[str, str], comes: dict[str, str]
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + rules)
        await lab.order("S1", "NA", "K", "CL", "CREA")
        await send(lab, "C1", **waits)
        ((code, (status, _, version)),) = (await said(lab)).items()
        assert (status is not FINAL, version) == (True, 1)
        before = (await by_code(lab))[code]
        await send(lab, "C2", **comes)
        assert await said(lab) == {code: (FINAL, (), 2)} | {other: (FINAL, (), 1) for other in comes}
        after = (await by_code(lab, Audience.EMR))[code]
        # The same measurement, with the analyzer's words, its message and a whole explanation.
        for name in ("value", "unit", "message_id", "analyzer", "specimen_id", "order_item_id", "instrument_at"):
            assert getattr(after, name) == getattr(before, name)
        made = [step for step, _ in await steps(lab, after)]
        assert made[:6] == ["receive", "decode", "map", "match", "unit", "again"]
        assert [made.count(step) for step in ("interval", "autoverification", "version")] == [1, 1, 1]
        assert (await items(lab))[code] == "verified"
        async with lab.database.organization(lab.organization_id) as connection:
            (traced,) = [one for one in (await trace(connection, "S1")).results if one.current.id == after.id]
        assert [version.made_by for version in traced.versions] == ["link bench", "rule_set default@1"]
        assert traced.versions[1].record == traced.versions[0].record is not None
        # And again: nothing is new.
        await send(lab, "C3", **comes)
        assert (await said(lab))[code] == (FINAL, (), 2)
        (owed,) = await lab.owner.fetch("select * from lab.outbox where $1 = any(versions)", after.version_id)
        assert (owed["kind"], owed["entity_id"]) == ("order", after.order_id)


async def test_what_comes_with_its_companion_missing_still_or_disagreeing_stays_held(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + CONSISTENCY)
        await lab.order("S1", "NA", "CL", "MG")
        await send(lab, "C1", NA="140")
        await send(lab, "C2", MG="2.0")
        assert (await said(lab))["NA"] == (REGISTERED, (HoldReason.INCONSISTENT,), 1)
        await send(lab, "C3", CL="139")
        found = await said(lab)
        assert (found["NA"], found["CL"]) == (
            (REGISTERED, (HoldReason.INCONSISTENT,), 1),
            (REGISTERED, (HoldReason.INCONSISTENT,), 1),
        )
        await send(lab, "C4", CL="102")
        found = await said(lab)
        assert (found["NA"], found["CL"]) == ((FINAL, (), 2), (FINAL, (), 2))


async def test_what_a_person_holds_or_what_was_switched_off_is_left_to_a_person(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + CONSISTENCY)
        await lab.order("S1", "NA", "K", "CL")
        off = Switch(Scope.TEST, "K", "wrong lot")
        async with lab.database.transaction(lab.organization_id) as connection:
            await switch_off(connection, lab.director, off)
        await send(lab, "C1", NA="140", K="4.1")
        async with lab.database.transaction(lab.organization_id) as connection:
            await hold(connection, lab.director, (await by_code(lab))["NA"].id, "clotted?")
            await switch_on(connection, lab.director, off)
        before = await said(lab)
        await send(lab, "C2", CL="102")
        found = await said(lab)
        assert {code: found[code] for code in before} == before
        assert HoldReason.PERSON in found["NA"][1]
        assert found["K"][0] is ResultStatus.PRELIMINARY


async def test_what_a_person_enters_is_what_was_missing_too(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + CONSISTENCY)
        order = await lab.order("S1", "NA", "CL")
        await send(lab, "C1", NA="140")
        chloride = next(item.id for item in order.items if item.test_code == "CL")
        async with lab.database.transaction(lab.organization_id) as connection:
            await enter(connection, lab.director, [Entry(chloride, "102")])
        assert await said(lab) == {"NA": (FINAL, (), 2), "CL": (FINAL, (), 1)}


async def test_a_calculated_result_that_waits_for_a_sibling_is_made_final_when_that_comes(database_url: str) -> None:
    text = RULES + SIBLING.replace('"K"', '"AGAP"')
    async with laboratory(database_url) as lab:
        await put_in_force(lab, text)
        await lab.order("S1", "NA", "CL", "HCO3", "AGAP", "CREA")
        await send(lab, "C1", NA="140", CL="102", HCO3="24")
        assert (await said(lab))["AGAP"] == (REGISTERED, (HoldReason.RULE,), 1)
        await send(lab, "C2", CREA="1.0")
        assert (await said(lab))["AGAP"] == (FINAL, (), 2)


async def test_a_suppressed_value_is_released_by_nobody_and_keeps_its_comment(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + INDEX.format(action="suppress").replace("100", "7"))
        await lab.order("S1", "K", "CREA")
        await send(lab, "C1", K="5.9", CREA="7.5")
        potassium = (await by_code(lab))["K"]
        assert (potassium.status, potassium.note) == (REGISTERED, "haemolysed")
        assert potassium.held[:2] == (HoldReason.INTERFERENCE, HoldReason.SUPPRESSED)
        with pytest.raises(ReviewError, match=r"suppressed.* nobody can accept"):
            async with lab.database.transaction(lab.organization_id) as connection:
                await release(connection, lab.director, potassium.id, "known", accept_hold=True)
        assert "K" not in await by_code(lab, Audience.EMR_PRELIMINARY)
        async with lab.database.transaction(lab.organization_id) as connection:
            done = await reject(connection, lab.director, potassium.id, "haemolysed: another specimen, please")
        assert done.note == "haemolysed\nhaemolysed: another specimen, please"
        assert (await items(lab))["K"] in ("received", "in_progress")
