"""A calculated test that is ordered when what it is made of is there: nothing else comes that would make it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.domain.specimens import RejectReason
from interface.domain.views import ResultView
from interface.flow import order_changes, recalculation, results, review, specimens
from interface.flow.around import add_neighbours
from interface.flow.correction import NewValue
from tests.flow.hospital_use import Hospital, link_of, order
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import RULES, put_in_force, sent
from tests.flow.test_recalculated import WITH_EGFR, do, only
from tests.flow.test_two_links import Gate, waits_for_a_lock

FINAL = ResultStatus.FINAL
VALUES = {"NA": "140", "CL": "100", "HCO3": "24"}


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url) as made:
        yield made


async def test_what_is_calculated_is_calculated_when_it_is_ordered_on_a_measured_specimen(lab: Laboratory) -> None:
    await put_in_force(lab)
    made = await lab.order("S-1", "NA", "CL", "HCO3")
    await lab.send(sent("S-1", VALUES))
    await lab.settle()
    [specimen_id] = {view.specimen_id for view in await lab.results()}
    await do(lab, lambda at: order_changes.add(at, lab.director, made.id, ["AGAP"], specimen_id=specimen_id))
    gap = await only(lab, "AGAP")
    assert (gap.value, gap.status) == ("16.0", FINAL)


async def test_so_it_is_where_an_aliquot_was_measured(lab: Laboratory) -> None:
    """The tube that it is ordered on has no results itself."""
    await put_in_force(lab)
    made = await lab.order("S-1", *VALUES)
    [specimen_id] = {one.specimen_id for one in made.items}
    assert specimen_id is not None
    await do(lab, lambda at: specimens.aliquot(at, lab.director, specimen_id, barcode="S-1A", tests=[*VALUES]))
    await lab.send(sent("S-1A", VALUES))
    await lab.settle()
    await do(lab, lambda at: order_changes.add(at, lab.director, made.id, ["AGAP"], specimen_id=specimen_id))
    assert ((await only(lab, "AGAP")).value, (await only(lab, "AGAP")).status) == ("16.0", FINAL)


async def test_so_it_is_where_a_hospital_orders_it_on_the_tube(lab: Laboratory) -> None:
    await put_in_force(lab)
    his = Hospital(lab, *link_of(lab))
    for number, code in enumerate(("NA", "CL", "HCO3")):
        assert (await his.oml(*order(str(number), code, barcode="B-1"))).controls == ["OK"]
    await lab.send(["P|1" if record.startswith("P|") else record for record in sent("B-1", VALUES)])
    await lab.settle()
    assert (await his.oml(*order("9", "AGAP", barcode="B-1"))).controls == ["OK"]
    assert ((await only(lab, "AGAP")).value, (await only(lab, "AGAP")).status) == ("16.0", FINAL)


async def test_what_is_measured_while_it_is_ordered_is_what_it_is_calculated_of(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order waited for who decided, and knew of no result of the specimen from before."""
    await put_in_force(lab)
    made = await lab.order("S-1", *VALUES)
    specimen_id = made.items[0].specimen_id
    gate = Gate("C1")
    monkeypatch.setattr(results, "surroundings", gate.read)
    await lab.send(sent("S-1", VALUES, control="C1"))
    deciding = asyncio.create_task(lab.worker.work())
    await gate.locked.wait()
    adding = asyncio.create_task(
        do(lab, lambda at: order_changes.add(at, lab.director, made.id, ["AGAP"], specimen_id=specimen_id))
    )
    await waits_for_a_lock(lab)
    gate.go_on.set()
    await asyncio.gather(deciding, adding)
    assert ((await only(lab, "AGAP")).value, (await only(lab, "AGAP")).status) == ("16.0", FINAL)


async def test_nothing_is_calculated_of_what_is_not_released_or_by_no_rule(lab: Laboratory) -> None:
    made = await lab.order("S-1", "NA", "CL", "HCO3")
    await lab.send(sent("S-1", VALUES))
    await lab.settle()
    [specimen_id] = {view.specimen_id for view in await lab.results()}
    await do(lab, lambda at: order_changes.add(at, lab.director, made.id, ["AGAP"], specimen_id=specimen_id))
    assert sorted(view.test_code for view in await lab.results()) == ["CL", "HCO3", "NA"]
    await put_in_force(lab)
    for view in await lab.results():
        await lab.release(view.id)
    assert ((await only(lab, "AGAP")).value, (await only(lab, "AGAP")).status) == ("16.0", FINAL)


async def _not_released(lab: Laboratory) -> tuple[ResultView, UUID]:
    """A gap that no rule releases, and its specimen."""
    await put_in_force(lab, RULES.replace('autoverification = "on"', 'autoverification = "off"'))
    await lab.order("S-1", *VALUES, "AGAP")
    await lab.send(sent("S-1", VALUES))
    await lab.settle()
    gap = await only(lab, "AGAP")
    assert gap.specimen_id is not None
    return gap, gap.specimen_id


async def test_what_was_cancelled_with_a_specimen_is_calculated_again_once_that_is_reinstated(lab: Laboratory) -> None:
    """The rejection was a mistake. Measured again the inputs said the same, and the same was not calculated again, as
    of what a person has taken back: the gap waited for ever, and nobody was told."""
    await put_in_force(lab, RULES.replace('autoverification = "on"', 'autoverification = "off"'))
    await lab.order("S-1", *VALUES, "AGAP")
    await lab.send(sent("S-1", VALUES))
    await lab.settle()
    [specimen_id] = {view.specimen_id for view in await lab.results()}
    assert specimen_id is not None
    await do(lab, lambda at: specimens.reject(at, lab.director, specimen_id, RejectReason.CLOTTED))
    await do(lab, lambda at: specimens.reinstate(at, lab.director, specimen_id, "it was another tube"))
    await lab.send(sent("S-1", VALUES, control="C2", at="20260102040000"))
    await lab.settle()
    [gap] = [view for view in await lab.results() if view.test_code == "AGAP" and view.reportable]
    assert (gap.value, gap.status) == ("16.0", ResultStatus.PRELIMINARY)


async def test_what_a_person_took_back_is_not_said_again_when_its_specimen_is_reinstated(lab: Laboratory) -> None:
    gap, specimen_id = await _not_released(lab)
    await do(lab, lambda at: review.reject(at, lab.director, gap.id, "of two tubes"))
    await do(lab, lambda at: specimens.reject(at, lab.director, specimen_id, RejectReason.CLOTTED))
    await do(lab, lambda at: specimens.reinstate(at, lab.director, specimen_id, "it was another tube"))
    await lab.send(sent("S-1", VALUES, control="C2", at="20260102040000"))
    await lab.settle()
    assert (await only(lab, "AGAP")).status is ResultStatus.CANCELLED


async def test_so_it_is_where_what_it_is_made_of_was_released_before(lab: Laboratory) -> None:
    """That stays when its specimen is rejected, and is not measured again: nothing came with which it would be."""
    _, specimen_id = await _not_released(lab)
    for code in VALUES:
        await lab.release((await only(lab, code)).id)
    await do(lab, lambda at: specimens.reject(at, lab.director, specimen_id, RejectReason.CLOTTED))
    assert (await only(lab, "AGAP")).status is ResultStatus.CANCELLED
    await do(lab, lambda at: specimens.reinstate(at, lab.director, specimen_id, "it was another tube"))
    assert ((await only(lab, "AGAP")).value, (await only(lab, "AGAP")).status) == ("16.0", ResultStatus.PRELIMINARY)


@pytest.mark.parametrize("how", ["correct", "comment"])
async def test_what_a_person_made_of_it_before_it_was_cancelled_is_not_released_by_a_rule_in_its_place(
    lab: Laboratory, how: str
) -> None:
    """What is calculated once its specimen is reinstated took the place of a person's value, and of what they said."""
    gap, specimen_id = await _not_released(lab)
    for code in VALUES:
        await lab.release((await only(lab, code)).id)
    if how == "correct":
        await do(lab, lambda at: review.correct(at, lab.director, gap.id, NewValue("20"), "with the lactate"))
    else:
        await do(lab, lambda at: review.comment(at, lab.director, gap.id, "is it of two tubes?"))
    await put_in_force(lab)
    await do(lab, lambda at: specimens.reject(at, lab.director, specimen_id, RejectReason.CLOTTED))
    await do(lab, lambda at: specimens.reinstate(at, lab.director, specimen_id, "it was another tube"))
    found = await only(lab, "AGAP")
    assert (found.value, found.held) == ("16.0", (HoldReason.PERSON,))
    assert ("two tubes" in found.note) is (how == "comment")


GAP = """
[[calculation]]
test = "AGAP"
formula = "anion_gap"
inputs = { sodium = ["NA"], chloride = ["CL"], bicarbonate = ["HCO3"] }
"""


async def test_so_is_what_was_ordered_and_measured_before_its_rule_was_put_in_force(lab: Laboratory) -> None:
    """Nothing came any more that would have had it calculated."""
    await put_in_force(lab, RULES.replace(GAP, ""))
    for barcode, tests in (("S-1", [*VALUES, "AGAP"]), ("S-2", [*VALUES]), ("S-3", ["AGAP"])):
        await lab.order(barcode, *tests)
    for number, barcode in enumerate(("S-1", "S-2"), 1):
        await lab.send(sent(barcode, VALUES, control=f"C{number}"))
    await lab.settle()
    assert "AGAP" not in {view.test_code for view in await lab.results()}
    await put_in_force(lab)
    await recalculation.put_in_force(lab.database, lab.director, "default")
    gap = await only(lab, "AGAP")
    assert (gap.barcode, gap.value, gap.status) == ("S-1", "16.0", FINAL)
    await recalculation.put_in_force(lab.database, lab.director, "default")
    assert (await only(lab, "AGAP")).version == gap.version


async def test_what_is_released_is_not_calculated_anew_by_it(lab: Laboratory) -> None:
    """Another formula is no reason to change it, also where something else of its specimen waits."""
    await put_in_force(lab, WITH_EGFR.replace(GAP, ""))
    await lab.order("S-1", *VALUES, "CREA", "AGAP", "EGFR_2021")
    await lab.send(sent("S-1", VALUES | {"CREA": "1.1"}))
    await lab.settle()
    before = await only(lab)
    assert before.status is FINAL
    await lab.owner.execute("update lab.patient set sex = 'male'")  # as another formula would have it
    await put_in_force(lab, WITH_EGFR)
    await recalculation.put_in_force(lab.database, lab.director, "default")
    assert (await only(lab, "AGAP")).status is FINAL
    assert (await only(lab)).version == before.version
    assert await lab.owner.fetchval("select count(*) from lab.result where pending_version_id is not null") == 0


async def test_so_is_what_was_measured_while_its_rule_was_put_in_force(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who decided by the rules of before was not done when it was looked for what waits, and calculated nothing."""
    await put_in_force(lab, RULES.replace(GAP, ""))
    await lab.order("S-1", *VALUES, "AGAP")
    gate = Gate("")

    async def by_the_rules_of_before(*of: Any) -> None:
        gate.locked.set()
        await gate.go_on.wait()
        await add_neighbours(*of)

    monkeypatch.setattr(results, "add_neighbours", by_the_rules_of_before)
    await lab.send(sent("S-1", VALUES))
    deciding = asyncio.create_task(lab.worker.work())
    await gate.locked.wait()
    await put_in_force(lab)
    following = asyncio.create_task(recalculation.put_in_force(lab.database, lab.director, "default"))
    await asyncio.wait({following, asyncio.create_task(looked(lab))}, return_when=asyncio.FIRST_COMPLETED)
    gate.go_on.set()
    await asyncio.gather(deciding, following)
    assert ((await only(lab, "AGAP")).value, (await only(lab, "AGAP")).status) == ("16.0", FINAL)


async def looked(lab: Laboratory) -> None:
    """Some round trips to the database, in which who does not wait is done."""
    for _ in range(50):
        await lab.owner.fetchval("select pg_sleep(0)")
