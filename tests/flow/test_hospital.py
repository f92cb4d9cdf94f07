"""A hospital's orders: new, changed, cancelled, replaced, asked for; each answered, none twice, nothing half."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.flow.hospital_use import PID, Hospital, hospital, message, order


@pytest.fixture
async def his(database_url: str) -> AsyncIterator[Hospital]:
    async with hospital(database_url) as made:
        yield made


async def test_a_new_order_is_placed_and_answered_with_its_number(his: Hospital) -> None:
    said = await his.oml(*order("A-1^HIS", "K", barcode="B-1"), *order("A-2^HIS", "2951-2^Sodium^LN", barcode="B-1"))
    [made] = await his.orders()
    assert (said.kind, said.code, said.errors) == ("ORL^O22", "AA", [])
    assert said.orders == [("OK", "A-1", made.number, "SC"), ("OK", "A-2", f"{made.number}-2", "SC")]
    assert await his.tests() == [[("K", "requested", "B-1"), ("NA", "requested", "B-1")]]
    assert said.barcodes == ["B-1", "B-1"]
