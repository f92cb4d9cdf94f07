"""Barcodes are used again: what was measured before a specimen was taken is of one that carried its barcode before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.domain.permissions import permissions
from interface.domain.specimens import RejectReason
from interface.domain.views import Actor, ActorKind, OrderView, ResultView
from interface.flow import specimens
from interface.flow.orders import NewOrder, NewSpecimen, create_order
from interface.flow.replay import replay
from interface.flow.review import release
from interface.store.ids import uuid7
from tests.flow.laboratory import Laboratory, laboratory, message
from tests.flow.test_specimen_results import WBC, specimen_of

NOW = datetime.now(UTC).replace(microsecond=0)
HELD = (HoldReason.BEFORE_SPECIMEN,)


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url) as made:
        yield made


def wbc(at: datetime | None = None) -> str:
    return WBC.replace("20260102030000", at.strftime("%Y%m%d%H%M%S") if at else "")


async def replayed(lab: Laboratory, message_id: UUID | None) -> None:
    roles = frozenset({"administrator", "laboratory_director"})
    person = Actor(ActorKind.USER, uuid7(), "anna", lab.organization_id, permissions(roles), roles)
    assert message_id is not None
    await replay(lab.database, person, message_id, lambda _: lab.context, dry_run=False)


async def of_item(lab: Laboratory, made: OrderView) -> ResultView:
    [one] = [one for one in await lab.results() if one.order_item_id == made.items[0].id]
    return one


@pytest.mark.parametrize(
    ("earlier", "held"),
    [(timedelta(days=2), HELD), (timedelta(hours=3), HELD), (timedelta(hours=1), ()), (timedelta(hours=-1), ())],
)
async def test_what_an_analyzer_kept_is_not_of_the_tube_that_carries_the_number_now(
    lab: Laboratory, earlier: timedelta, held: tuple[HoldReason, ...]
) -> None:
    """Clocks may be an hour apart, and a collection may be noted a little late."""
    collected_at = NOW - timedelta(hours=2)
    made = await lab.order("7", "WBC", at=collected_at)
    await lab.send(message("O|1|7", wbc(collected_at - earlier)))
    await lab.settle()
    assert (await of_item(lab, made)).held == held


async def test_a_person_who_knows_that_a_clock_is_wrong_releases_it(lab: Laboratory) -> None:
    made = await lab.order("7", "WBC", at=NOW)
    await lab.send(message("O|1|7", wbc(NOW - timedelta(days=2))))
    await lab.settle()
    one = await of_item(lab, made)
    async with lab.database.transaction(lab.organization_id) as connection:
        await release(connection, lab.director, one.id, "its clock is two days behind", accept_hold=True)
    assert (await of_item(lab, made)).status is ResultStatus.FINAL


@pytest.mark.parametrize("told", ["collected", "nothing"])
async def test_a_message_of_before_is_not_of_the_patient_whose_tube_carries_the_number_now(
    lab: Laboratory, told: str
) -> None:
    """It was decided anew, by whichever tube carried the number then: one patient's value was another's result."""
    first = await lab.order("7", "HGB", at=NOW - timedelta(hours=5))
    receipt = await lab.send(message("O|1|7", wbc()))
    await lab.settle()
    async with lab.database.transaction(lab.organization_id) as connection:
        await specimens.reject(connection, lab.director, specimen_of(first), RejectReason.CLOTTED)
    if told == "collected":
        second = await lab.order("7", "WBC", patient_id="P-2", family="Other", at=NOW)
    else:
        new = NewOrder((NewSpecimen(("WBC",), "7"),), patient_id=first.patient_id)
        async with lab.database.transaction(lab.organization_id) as connection:
            second = await create_order(connection, lab.context.actor, new)
    await replayed(lab, receipt.message_id)
    # And what came of the message went with the tube that a person rejected: one looks at it again.
    assert set((await of_item(lab, second)).held) == {*HELD, HoldReason.PERSON}


async def test_what_came_before_its_order_is_still_the_orders(lab: Laboratory) -> None:
    receipt = await lab.send(message("O|1|7", wbc(NOW - timedelta(minutes=1))))
    await lab.settle()
    made = await lab.order("7", "WBC", at=NOW - timedelta(hours=1))
    await replayed(lab, receipt.message_id)
    assert (await of_item(lab, made)).held == ()
