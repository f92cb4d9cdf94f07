"""A reflex of a result that was held: due when a person releases it, whatever its rule asks for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.flow import review
from interface.flow.replay import replay
from tests.flow.laboratory import COLLECTED, laboratory
from tests.flow.rulebook import RULES, put_in_force, sent
from tests.flow.test_deciding import items

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


async def test_what_several_rules_add_is_ordered_once(database_url: str) -> None:
    """One measurement answers all of them; a second item would wait for ever."""
    more = "".join(
        f'\n[[reflex]]\nname = "{name}"\ntest = "{test}"\nkind = "reflex"\nadd = ["MG"]\nabove = "2"\nreason = "so"\n'
        for name, test in (("one", "K"), ("another", "K"), ("of creatinine", "CREA"))
    )
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + more)
        order = await lab.order("S-1", "K", "CREA")
        await lab.send(sent("S-1", {"K": "4.0", "CREA": "3.0"}))
        await lab.settle()
        found = await lab.owner.fetch(
            "select t.code from lab.order_item i join lab.test t on t.id = i.test_id where i.order_id = $1 order by 1",
            order.id,
        )
        assert [row["code"] for row in found] == ["CREA", "K", "MG"]
