"""A person releases what is calculated after what it is calculated from: of that controls and look-back lists speak."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest

from interface.domain.autoverify import Scope, Switch
from interface.domain.model import ResultStatus
from interface.domain.review import ReviewError
from interface.domain.views import ResultView
from interface.flow import review
from interface.flow.correction import NewValue
from interface.flow.review_many import NotAll, many
from interface.flow.review_policy import set_policy
from interface.flow.rules import switch_off
from interface.store.ids import uuid7
from interface.store.review import Policy
from tests.flow.controls import REJECT, Bench, bench
from tests.flow.laboratory import Laboratory, laboratory

FINAL = ResultStatus.FINAL
INPUTS = ("NA", "CL", "HCO3")
GAP = (*INPUTS, "AGAP")
REFUSED = "it is calculated from {}, which is not released: release that first"
ALL_REFUSED = "it is calculated from NA CL HCO3, which are not released: release those first"


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url) as made:
        yield made


async def calculated(lab: Laboratory) -> Bench:
    """An anion gap and what it is made of, all of which wait for a person."""
    at = await bench(lab)
    for test in INPUTS:
        await at.control(60, test=test)
    await lab.order("S-1", *GAP)
    async with lab.database.transaction(lab.organization_id) as connection:
        await switch_off(connection, lab.director, Switch(Scope.ORGANIZATION, "", "new rules"))
    await at.send("S-1", 10, NA="140", CL="100", HCO3="24")
    assert {view.status for view in await lab.results()} == {ResultStatus.PRELIMINARY}
    return at


async def by(lab: Laboratory) -> dict[str, ResultView]:
    return {view.test_code: view for view in await lab.results()}


async def together(lab: Laboratory, *codes: str, all_or_none: bool = False) -> dict[str, str]:
    """Release them in one call, in this order: what each was refused with."""
    found = await by(lab)
    names = {view.id: code for code, view in found.items()}
    async with lab.database.transaction(lab.organization_id) as connection:

        async def step(result_id: UUID, seen: int | None) -> ResultView:
            return await review.release(connection, lab.director, result_id, "", seen, follow=False)

        results = [(found[code].id, found[code].version) for code in codes]
        answers = await many(connection, lab.director, results, step, all_or_none=all_or_none)
    assert [one.result_id for one in answers] == [result_id for result_id, _ in results]
    return {names[one.result_id]: str(one.error or "") for one in answers}


async def test_released_between_the_control_and_its_consequences(lab: Laboratory) -> None:
    at = await calculated(lab)
    await at.control(5, REJECT, follow=False)
    found = await by(lab)
    for code in ("CL", "HCO3"):
        await lab.release(found[code].id)
    for code, refused in (("NA", "qc_failed"), ("AGAP", REFUSED.format("NA"))):
        with pytest.raises(ReviewError, match=refused):
            await lab.release(found[code].id)


async def test_released_before_the_control_failed(lab: Laboratory) -> None:
    at = await calculated(lab)
    with pytest.raises(ReviewError, match=ALL_REFUSED):
        await lab.release((await by(lab))["AGAP"].id)
    await together(lab, *GAP)
    await at.control(5, REJECT)
    assert await lab.owner.fetchval("select count(*) from lab.qc_lookback_item") == 2  # the sodium, and the gap


@pytest.mark.parametrize("codes", list(itertools.permutations(GAP))[::5], ids=" ".join)
async def test_released_together_in_any_order(lab: Laboratory, codes: tuple[str, ...]) -> None:
    await calculated(lab)
    assert await together(lab, *codes) == dict.fromkeys(codes, "")
    assert {view.status for view in await lab.results()} == {FINAL}


async def test_released_together_without_one_of_them(lab: Laboratory) -> None:
    await calculated(lab)
    with pytest.raises(NotAll):
        await together(lab, "AGAP", "NA", "CL", all_or_none=True)
    assert await together(lab, "AGAP", "NA", "CL") == {"AGAP": REFUSED.format("HCO3"), "NA": "", "CL": ""}
    found = await by(lab)
    assert {code: view.status is FINAL for code, view in found.items()} == dict.fromkeys(GAP, False) | {
        "NA": True, "CL": True,
    }  # fmt: skip


async def test_the_first_of_two_verifies_it_with_its_inputs_and_the_second_releases_it_after_them(
    lab: Laboratory,
) -> None:
    await calculated(lab)
    async with lab.database.transaction(lab.organization_id) as connection:
        await set_policy(connection, lab.director, Policy("", True, None))
    found, other = await by(lab), replace(lab.director, id=uuid7(), name="other")
    for code in ("AGAP", *INPUTS):
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.verify(connection, lab.director, found[code].id)
    for step in (review.verify, review.release):
        with pytest.raises(ReviewError, match=ALL_REFUSED):
            async with lab.database.transaction(lab.organization_id) as connection:
                await step(connection, other, found["AGAP"].id)
    for code in GAP:
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.release(connection, other, found[code].id)
    assert {view.status for view in await lab.results()} == {FINAL}


async def test_a_persons_own_value_is_calculated_from_nothing(lab: Laboratory) -> None:
    await calculated(lab)
    gap = (await by(lab))["AGAP"]
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.correct(connection, lab.director, gap.id, NewValue("15"), "from the other analyzer")
    await lab.release(gap.id)
    assert (await by(lab))["AGAP"].status is FINAL


async def test_a_change_of_it_waits_for_its_inputs(lab: Laboratory) -> None:
    """The sodium was retracted, and is measured again: what that makes of the gap is no more certain than it is."""
    at = await calculated(lab)
    await together(lab, *GAP)
    sodium = (await by(lab))["NA"]
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.retract(connection, lab.director, sodium.id, "another tube")
    await at.send("S-1", 8, NA="144")
    gap, again = (await by(lab))["AGAP"], [v for v in await lab.results() if v.test_code == "NA" and v.id != sodium.id]
    assert (gap.pending, [(one.value, one.held) for one in again]) == (True, [("144", ())])
    with pytest.raises(ReviewError, match=REFUSED.format("NA")):
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.accept_change(connection, lab.director, gap.id, "the new sodium")
    await lab.release(again[0].id)
    async with lab.database.transaction(lab.organization_id) as connection:
        after = await review.accept_change(connection, lab.director, gap.id, "the new sodium")
    assert (after.value, after.held) == ("20.0", ())
