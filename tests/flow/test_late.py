"""What comes after a release and would have held it is said beside what was released, which stays as it is."""

from __future__ import annotations

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.domain.views import Audience
from interface.flow.entry import Entry, enter
from interface.flow.replay import replay
from interface.flow.review import hold, reject_change, release
from interface.flow.specimens import aliquot
from interface.store.review import QueueFilter, waiting
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import RULES, put_in_force, sent
from tests.flow.test_deciding import by_code, steps

INDEX = """
[[index]]
name = "haemolysis"
test = "K"
index = "H"
index_test = "CREA"
limit = "1.5"
action = "{action}"
comment = "haemolysed"
"""
SUM = """
[[consistency]]
name = "sodium and chloride"
sum = { NA = "1", CL = "-1" }
low = "20"
high = "60"
text = "sodium and chloride do not belong together"
"""
FINAL, CHANGED = ResultStatus.FINAL, HoldReason.CHANGED_AFTER_RELEASE


async def send(lab: Laboratory, control: str, at: str = "20260102030000", **values: str) -> None:
    await lab.send(sent("S1", values, control=control, at=at))
    await lab.settle()


async def notices(lab: Laboratory) -> dict[str, tuple[frozenset[HoldReason], str]]:
    """Of each result beside which a change waits: what for, and the line that says so."""
    rows = await lab.owner.fetch(
        """select v.test_code, v.held, lab.explained(d.steps)::json as steps from lab.result r
           join lab.result_version v on v.id = r.pending_version_id join lab.decision d on d.result_version_id = v.id"""
    )
    return {
        row["test_code"]: (
            frozenset(map(HoldReason, row["held"])),
            "; ".join(step["text"] for step in row["steps"] if step["step"] in ("index", "consistency")),
        )
        for row in rows
    }


async def decided(lab: Laboratory, step: object, code: str, comment: str = "") -> None:
    view = (await by_code(lab))[code]
    async with lab.database.transaction(lab.organization_id) as connection:
        await step(connection, lab.director, view.id, comment)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("rules", "first", "then", "reasons", "text"),
    [
        (INDEX.format(action="hold"), {"K": "4.1"}, {"CREA": "3.2"}, {HoldReason.INTERFERENCE},
         "CREA 3.2 came after the release: haemolysis interferes with this test"),
        (INDEX.format(action="comment"), {"K": "4.1"}, {"CREA": "3.2"}, {HoldReason.INTERFERENCE},
         "CREA 3.2 came after the release: haemolysis interferes with this test"),
        (INDEX.format(action="suppress"), {"K": "4.1"}, {"CREA": "3.2"},
         {HoldReason.INTERFERENCE, HoldReason.SUPPRESSED},
         "CREA 3.2 came after the release: haemolysis interferes with this test"),
        (SUM, {"NA": "140"}, {"CL": "139"}, {HoldReason.INCONSISTENT},
         "CL 139 came after the release: sodium and chloride do not belong together"),
    ],
    ids=["index", "comment", "suppress", "partner"],
)  # fmt: skip
async def test_what_would_have_held_a_released_result_is_said_and_the_release_stands(
    database_url: str, rules: str, first: dict[str, str], then: dict[str, str], reasons: set[HoldReason], text: str
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + rules)
        await lab.order("S1", *first, *then, "MG")
        await send(lab, "C1", **first)
        (code,) = first
        before = (await by_code(lab, Audience.EMR))[code]
        assert before.status is FINAL
        await send(lab, "C2", **then)
        assert (await by_code(lab, Audience.EMR))[code].version_id == before.version_id
        found = await notices(lab)
        assert found.keys() == {code}
        assert found[code][0] == reasons | {CHANGED} and text in found[code][1]
        async with lab.database.organization(lab.organization_id) as connection:
            queue = await waiting(connection, QueueFilter())
        assert code in {one.result.test_code for one in queue}
        # Said again, or with what is none of it, it is the same notice; what a person has seen to is not said anew.
        await send(lab, "C3", **then)
        await send(lab, "C4", MG="2.0")
        assert await notices(lab) == found
        await decided(lab, reject_change, code, "seen")
        await send(lab, "C5", **then)
        assert await notices(lab) == {}
        now = (await by_code(lab, Audience.EMR))[code]
        assert (now.version_id, now.status) == (before.version_id, FINAL)


async def test_what_agrees_says_nothing(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + INDEX.format(action="hold") + SUM)
        await lab.order("S1", "NA", "K", "CL", "CREA")
        await send(lab, "C1", K="4.1", NA="140")
        await send(lab, "C2", CREA="1.0", CL="102")
        assert await notices(lab) == {}
        assert {one.version for one in (await by_code(lab)).values()} == {1}


async def test_an_index_that_waits_says_so_once_it_is_released(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + INDEX.format(action="hold"))
        await lab.order("S1", "K", "CREA")
        await send(lab, "C1", K="4.1")
        await lab.send(
            [one.replace("|N||F|", "|??||F|") if "2160-0" in one else one
             for one in sent("S1", {"CREA": "3.2"}, control="C2")]
        )  # fmt: skip
        await lab.settle()
        crea = (await by_code(lab))["CREA"]
        assert crea.held == (HoldReason.UNKNOWN_FLAG,)
        assert "K" not in await notices(lab)
        async with lab.database.transaction(lab.organization_id) as connection:
            await release(connection, lab.director, crea.id, "flag of the rack", accept_hold=True)
        assert (await notices(lab))["K"][0] == {HoldReason.INTERFERENCE, CHANGED}
        assert ("late", "ok") not in await steps(lab, (await by_code(lab))["K"])
        audited = await lab.owner.fetchval("select count(*) from lab.audit_event where action = 'judge_again'")
        assert audited == 1


async def test_an_index_that_a_person_enters_says_so_too_and_what_a_person_holds_is_no_released_result(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + INDEX.format(action="hold"))
        order = await lab.order("S1", "K", "CREA")
        await send(lab, "C1", K="6.9")  # critical: it waits for a person, and is judged when its index comes
        await decided(lab, hold, "K", "look at the tube")
        item = next(one.id for one in order.items if one.test_code == "CREA")
        async with lab.database.transaction(lab.organization_id) as connection:
            await enter(connection, lab.director, [Entry(item, "3.2", "mg/dL")])
        assert await notices(lab) == {}


async def with_aliquot(lab: Laboratory) -> None:
    tube = (await lab.order("S1", "K", "CREA")).items[0].specimen_id
    assert tube is not None
    async with lab.database.transaction(lab.organization_id) as connection:
        await aliquot(connection, lab.director, tube, barcode="S1-1")


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one after the other"])
async def test_an_index_of_an_aliquot_is_known_to_its_tube_whenever_they_are_decided(
    database_url: str, together: bool
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + INDEX.format(action="hold"))
        await with_aliquot(lab)
        await lab.send(sent("S1", {"K": "4.1"}, control="C1"))
        if not together:
            await lab.settle()
        await lab.send(sent("S1-1", {"CREA": "3.2"}, control="C2"))
        await lab.settle()
        assert (await by_code(lab))["K"].status is FINAL
        assert (await notices(lab))["K"][0] == {HoldReason.INTERFERENCE, CHANGED}


async def test_what_waits_for_an_index_is_judged_again_when_its_aliquot_is_decided_in_the_same_batch(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + INDEX.format(action="hold").replace("limit", "required = true\nlimit"))
        await with_aliquot(lab)
        await lab.send(sent("S1", {"K": "4.1"}, control="C1"))
        await lab.send(sent("S1-1", {"CREA": "1.0"}, control="C2"))
        await lab.settle()
        potassium = (await by_code(lab))["K"]
        assert (potassium.status, potassium.version) == (FINAL, 2)
        assert ("again", "ok") in await steps(lab, potassium)


async def test_an_index_whose_code_had_no_test_says_so_once_it_is_replayed(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + INDEX.format(action="hold"))
        await lab.order("S1", "K", "CREA")
        await send(lab, "C1", K="4.1")
        await lab.send([one.replace("2160-0", "IDX-H") for one in sent("S1", {"CREA": "3.2"}, control="C2")])
        await lab.settle()
        held = next(one for one in await lab.results() if HoldReason.UNMAPPED_CODE in one.held)
        assert held.message_id is not None and await notices(lab) == {}
        await lab.owner.execute(
            """insert into lab.code_map (id, organization_id, driver, code, test_id, origin)
               select gen_random_uuid(), organization_id, driver, 'IDX-H', test_id, 'site' from lab.code_map
                where code = '2160-0' and driver = 'generic_lis2'"""
        )
        tried = await replay(lab.database, lab.director, held.message_id, lab.contexts.get, dry_run=True)
        assert {one.after.test: (one.before.status, set(one.after.held)) for one in tried.changes} == {
            "CREA": (ResultStatus.REGISTERED, set()), "K": (FINAL, {HoldReason.INTERFERENCE, CHANGED}),
        }  # fmt: skip
        await replay(lab.database, lab.director, held.message_id, lab.contexts.get, dry_run=False)
        views = await by_code(lab, Audience.EMR)
        assert (views["CREA"].status, views["K"].status) == (FINAL, FINAL)
        assert (await notices(lab))["K"][0] == {HoldReason.INTERFERENCE, CHANGED}
        again = await replay(lab.database, lab.director, held.message_id, lab.contexts.get, dry_run=False)
        assert again.changes == ()
