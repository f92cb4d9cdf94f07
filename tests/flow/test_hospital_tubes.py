"""A hospital's orders on tubes that are there already: what is said beside the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from interface.domain.model import Priority
from tests.flow.hospital_use import Hospital, hospital, order


@pytest.fixture
async def his(database_url: str) -> AsyncIterator[Hospital]:
    async with hospital(database_url) as made:
        yield made


async def test_a_change_of_one_service_makes_what_waits_beside_it_no_less_urgent(his: Hospital) -> None:
    await his.oml(*order("1", "K", barcode="B-1", priority="R"), *order("2", "NA", barcode="B-1", priority="S"))
    said = await his.oml(*order("1", "K", "NTE|1||fell", control="XO", barcode="B-1", priority="R"))
    assert said.controls == ["XR"]
    [made] = await his.orders()
    assert (made.priority, made.clinical_history) == (Priority.STAT, "fell")
    assert (await his.oml(*order("2", "NA", control="CA"))).controls == ["CR"]
    said = await his.oml(*order("1", "K", "NTE|1||slipped", control="XO", barcode="B-1", priority="R"))
    assert said.controls == ["XR"]
    [made] = await his.orders()
    assert made.priority is Priority.ROUTINE, "nothing else waits"


async def test_a_collection_that_is_told_after_the_receipt_refuses_no_test(his: Hospital) -> None:
    """The ward's clock is ahead, or it noted when it wrote: it cannot know when the tube was scanned in."""
    received = "SPM|1|{barcode}||SER||||||||||||||20260105080000"
    assert (await his.oml(*order("1", "K", barcode="B-9", spm=received))).controls == ["OK"]
    later = "SPM|1|{barcode}||SER|||||||||||||20260105080200"
    for number, code, control, done in (("2", "NA", "NW", "OK"), ("1", "BMP", "XO", "XR")):
        said = await his.oml(*order(number, code, control=control, barcode="B-9", spm=later))
        assert (said.code, said.controls, said.errors) == ("AA", [done], [("ORC^1", "207", "W")])
        assert "the time of collection is after that of the receipt" in said.words[0]
    assert await his.lab.owner.fetchval("select collected_at from lab.specimen") is None
    earlier = later.replace("0802", "0745")
    said = await his.oml(*order("3", "CREA", barcode="B-9", spm=earlier))
    assert (said.controls, said.errors) == (["OK"], [])
    assert await his.lab.owner.fetchval("select collected_at from lab.specimen") is not None
