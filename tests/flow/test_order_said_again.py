"""An order that is said again, since its answer was lost, after the laboratory has said something else of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from interface.domain.model import Priority
from interface.domain.views import OrderView
from interface.flow import order_changes, specimens
from interface.flow.order_changes import OrderChange
from interface.flow.orders import NewOrder, NewPractitioner, NewSpecimen, create_order
from interface.flow.problems import OrderError
from interface.store.db import Database
from tests.conftest import Organization
from tests.records import Laboratory, found, order, patient

FIRST, OTHER = NewPractitioner("D-1", "Arzt"), NewPractitioner("D-2", "Chirurg")
SAID = NewSpecimen(("HGB",), type="BLD", container="EDTA")


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


def said(**more: object) -> NewOrder:
    whole = replace(
        order(placer_number="EMR-1"), patient=patient("P-1"), specimens=(SAID,), requester=FIRST,
        clinical_history="pallor",
    )  # fmt: skip
    return replace(whole, **more)  # type: ignore[arg-type]


def changed(**facts: object) -> Callable[[Laboratory, OrderView], Awaitable[None]]:
    async def change(laboratory: Laboratory, made: OrderView) -> None:
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            told = OrderChange(**facts)  # type: ignore[arg-type]
            await order_changes.change(connection, laboratory.technologist, made.id, told)

    return change


async def collected_in_another(laboratory: Laboratory, made: OrderView) -> None:
    specimen_id = made.items[0].specimen_id
    assert specimen_id is not None
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await specimens.collect(connection, laboratory.technologist, specimen_id, at=datetime.now(UTC), container="HEP")


TAKEN = datetime.now(UTC) - timedelta(hours=6)


async def timed_otherwise(laboratory: Laboratory, made: OrderView) -> None:
    specimen_id = made.items[0].specimen_id
    assert specimen_id is not None
    at = TAKEN - timedelta(days=1)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await specimens.retime(connection, laboratory.technologist, specimen_id, at=at, reason="another day")


async def test_so_it_is_when_its_type_was_told_since(laboratory: Laboratory) -> None:
    tube = replace(SAID, type="")
    made = await laboratory.order(said(specimens=(tube,)))
    specimen_id = made.items[0].specimen_id
    assert specimen_id is not None
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await specimens.tell_type(connection, laboratory.technologist, specimen_id, "BLD")
    assert (await laboratory.order(said(specimens=(tube,)))).id == made.id
    with pytest.raises(OrderError, match="different"):
        await laboratory.order(said(specimens=(replace(tube, type="SER"),)))


async def test_so_it_is_when_its_time_of_collection_was_put_right(laboratory: Laboratory) -> None:
    tube = replace(SAID, collected_at=TAKEN)
    made = await laboratory.order(said(specimens=(tube,)))
    await timed_otherwise(laboratory, made)
    for at in (TAKEN, TAKEN - timedelta(days=1)):
        assert (await laboratory.order(said(specimens=(replace(tube, collected_at=at),)))).id == made.id
    with pytest.raises(OrderError, match="different"):
        await laboratory.order(said(specimens=(replace(tube, collected_at=TAKEN - timedelta(hours=1)),)))


@pytest.mark.parametrize(
    ("step", "never_said"),
    [
        (changed(priority=Priority.STAT), {"priority": Priority.ASAP}),
        (changed(clinical_history="pallor, melaena"), {"clinical_history": "fever"}),
        (changed(requester=OTHER), {"requester": NewPractitioner("D-3", "Dritter")}),
        (collected_in_another, {"specimens": (replace(SAID, container="CIT"),)}),
    ],
    ids=["priority", "clinical history", "requester", "container"],
)
async def test_it_is_the_same_order(
    laboratory: Laboratory, step: Callable[[Laboratory, OrderView], Awaitable[None]], never_said: dict[str, object]
) -> None:
    """It was refused as another order of the same number: whoever had no answer believed that nothing was ordered."""
    made = await laboratory.order(said())
    await step(laboratory, made)
    assert (await laboratory.order(said())).id == made.id
    with pytest.raises(OrderError, match="different"):
        await laboratory.order(said(**never_said))


async def test_so_it_is_as_the_laboratory_says_it_now(laboratory: Laboratory) -> None:
    made = await laboratory.order(said())
    await changed(priority=Priority.STAT)(laboratory, made)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        again = await create_order(connection, laboratory.technologist, said(priority=Priority.STAT))
    assert (again.id, again.priority) == (made.id, Priority.STAT)
