"""A reflex of a result that was held: due when a person releases it, whatever its rule asks for."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.domain.views import ResultView
from interface.flow import review
from interface.flow.order_changes import cancel
from interface.flow.replay import replay
from interface.flow.review_many import many
from interface.flow.specimens import aliquot
from interface.store.db import Connection
from tests.flow.laboratory import COLLECTED, Laboratory, laboratory
from tests.flow.rulebook import RULES, put_in_force, sent
from tests.flow.test_deciding import items
from tests.flow.test_recalculated import do
from tests.flow.test_rules_by_link import name_rules

REFLEX = """
[[reflex]]
name = "magnesium"
test = "K"
kind = "reflex"
add = ["MG"]
{asks}
reason = "as the book says"

[[delta]]
name = "potassium"
test = "K"
kind = "absolute"
limit = "1.0"
unit = "mmol/L"
window_d = 90
"""


@pytest.mark.parametrize("asks", ['flags = ["U"]', 'flags = ["A"]', 'holds = ["delta"]', 'above = "4.5"'])
async def test_a_reflex_asks_for_flags_and_for_what_held_the_result(database_url: str, asks: str) -> None:
    """For the flag of the delta check, the analyzer's own, the hold that was accepted, and the value."""
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + REFLEX.format(asks=asks))
        await lab.order("S0", "K")
        await lab.send(sent("S0", {"K": "3.6"}, control="C0", at="20260102020000"))
        await lab.settle()
        await lab.order("S1", "K", at=COLLECTED + timedelta(hours=2))
        flagged = [one.replace("||N||F", "||A||F") for one in sent("S1", {"K": "4.9"}, at="20260102040000")]
        await lab.send(flagged)
        await lab.settle()
        found = (await lab.results())[-1]
        assert (found.status, found.held, found.flags) == (ResultStatus.REGISTERED, (HoldReason.DELTA,), ("N", "U"))
        assert "MG" not in await items(lab), "its order would show that there is such a result"
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.release(connection, lab.director, found.id, "seen", accept_hold=True)
        assert "MG" in await items(lab)


async def test_what_its_rule_does_not_ask_for_adds_nothing(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + REFLEX.format(asks='flags = ["D"]'))
        await lab.order("S0", "K")
        await lab.send(sent("S0", {"K": "3.6"}, control="C0", at="20260102020000"))
        await lab.settle()
        await lab.order("S1", "K", at=COLLECTED + timedelta(hours=2))
        await lab.send(sent("S1", {"K": "4.9"}, at="20260102040000"))
        await lab.settle()
        found = (await lab.results())[-1]
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.release(connection, lab.director, found.id, "seen", accept_hold=True)
        assert "MG" not in await items(lab)


async def test_what_held_it_since_a_person_had_it_decided_anew_counts_too(database_url: str) -> None:
    """It came before its order, and waited for that; of what held it then, replayed, nobody had said anything yet."""
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + REFLEX.format(asks='holds = ["delta"]'))
        await lab.order("S0", "K")
        await lab.send(sent("S0", {"K": "3.6"}, control="C0", at="20260102020000"))
        await lab.send(sent("S1", {"K": "4.9"}, at="20260102040000"))
        await lab.settle()
        [_, found] = await lab.results()
        assert HoldReason.NO_SUCH_SPECIMEN in found.held and found.message_id is not None
        await lab.order("S1", "K", at=COLLECTED + timedelta(hours=2))
        await replay(lab.database, lab.director, found.message_id, lab.contexts.get, dry_run=False)
        [_, found] = await lab.results()
        assert found.held == (HoldReason.DELTA,)
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.release(connection, lab.director, found.id, "seen", accept_hold=True)
        assert "MG" in await items(lab)


SEVERAL = "".join(
    f'\n[[reflex]]\nname = "{name}"\ntest = "{test}"\nkind = "reflex"\nadd = ["MG"]\nabove = "2"\nreason = "so"\n'
    for name, test in (("one", "K"), ("another", "K"), ("of creatinine", "CREA"))
)


async def ordered(lab: Laboratory) -> list[tuple[str, str]]:
    """The magnesium items with their states, the first one first."""
    found = await lab.owner.fetch(
        "select t.code, i.status from lab.order_item i join lab.test t on t.id = i.test_id where t.code = 'MG'"
        " order by i.id"
    )
    return [(row["code"], row["status"]) for row in found]


async def test_what_several_rules_add_is_ordered_once(database_url: str) -> None:
    """One measurement answers all of them; a second item would wait for ever."""
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + SEVERAL)
        await lab.order("S-1", "K", "CREA")
        await lab.send(sent("S-1", {"K": "4.0", "CREA": "3.0"}))
        await lab.settle()
        assert await ordered(lab) == [("MG", "received")]
        await lab.send(sent("S-1", {"MG": "2.0"}, control="C2"))
        await lab.settle()
        states = await lab.owner.fetch("select kind, state from lab.follow_up")
        assert [tuple(row) for row in states] == [("reflex", "done")] * 3


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one after the other"])
async def test_a_tube_and_its_aliquot_have_it_ordered_once(database_url: str, together: bool) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + SEVERAL)
        tube = (await lab.order("S-1", "K", "CREA")).items[0].specimen_id
        assert tube is not None
        await do(lab, lambda at: aliquot(at, lab.director, tube, barcode="S-1-1"))
        await lab.send(sent("S-1", {"K": "4.0"}))
        if not together:
            await lab.settle()
        await lab.send(sent("S-1-1", {"CREA": "3.0"}, control="C2"))
        await lab.settle()
        assert await ordered(lab) == [("MG", "received")]


async def test_what_one_rule_had_added_before_is_still_ordered_for_another(database_url: str) -> None:
    """A rule adds once because of a result. When that was cancelled, and both ask, it is the other's."""
    async with laboratory(database_url) as lab:
        await put_in_force(lab, (RULES + SEVERAL).replace('autoverification = "on"', 'autoverification = "off"'))
        order = await lab.order("S-1", "K", "CREA")
        await lab.send(sent("S-1", {"K": "4.0"}))
        await lab.settle()
        item = await lab.owner.fetchval(
            "select i.id from lab.order_item i join lab.test t on t.id = i.test_id where t.code = 'MG'"
        )
        await do(lab, lambda at: cancel(at, lab.director, order.id, "not of this", item_ids=[item]))
        await lab.send(sent("S-1", {"K": "4.2", "CREA": "3.0"}, control="C2"))
        await lab.settle()
        assert await ordered(lab) == [("MG", "cancelled"), ("MG", "received")]


async def test_what_the_rules_of_two_links_add_to_a_tube_and_its_aliquot_is_ordered_once(database_url: str) -> None:
    """Both wait, and are released together: each by the rules of its link."""
    doubted = "".join(
        f'[[range]]\ntest = "{test}"\nkind = "absurd"\nlow = "5"\nunit = "{unit}"\n'
        for test, unit in (("K", "mmol/L"), ("CREA", "mg/dL"))
    )
    text = RULES + SEVERAL + doubted
    async with laboratory(database_url) as lab:
        await put_in_force(lab, text)
        other = text.replace('name = "default"', 'name = "pediatrics"')
        for name in ("one", "another", "of creatinine"):
            other = other.replace(f'name = "{name}"', f'name = "{name} in children"')
        await put_in_force(lab, other)
        tube = (await lab.order("S-1", "K", "CREA")).items[0].specimen_id
        assert tube is not None
        await do(lab, lambda at: aliquot(at, lab.director, tube, barcode="S-1-1"))
        await lab.send(sent("S-1", {"K": "4.0"}))
        await lab.settle()
        name_rules(lab, "pediatrics")
        await lab.send(sent("S-1-1", {"CREA": "3.0"}, control="C2"))
        await lab.settle()
        found = await lab.results()
        assert [one.held for one in found] == [(HoldReason.IMPLAUSIBLE,)] * 2

        async def together(connection: Connection) -> None:
            async def step(result_id: UUID, version: int | None) -> ResultView:
                return await review.release(
                    connection, lab.director, result_id, "seen", version, accept_hold=True, follow=False
                )

            await many(connection, lab.director, [(one.id, None) for one in found], step, all_or_none=True)

        await do(lab, together)
        assert await ordered(lab) == [("MG", "received")]
