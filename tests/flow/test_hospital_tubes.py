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
