"""Of an order that several wards have ordered on, each is told; of one that was cancelled twice, both times."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date

import pytest

from interface.domain.model import Sex
from interface.domain.roster import NoticeKind
from interface.domain.views import IdentifierView
from interface.flow import order_changes
from interface.flow.order_changes import OrderChange
from interface.flow.orders import NewOrder, NewPractitioner, NewSpecimen, create_order
from interface.flow.people import NewPatient
from interface.store import changes, notices
from tests.flow.hospital_use import PID, Hospital, hospital, link_of, order
from tests.flow.laboratory import laboratory
from tests.flow.test_judged_for_certain import CRITICAL, intervals, measured


@pytest.fixture
async def his(database_url: str) -> AsyncIterator[Hospital]:
    async with hospital(database_url) as made:
        assert await told(made) == []
        yield made


async def told(his: Hospital) -> list[tuple[NoticeKind, str, str]]:
    """What, which ward and which practitioner, since it was asked last."""
    lab = his.lab
    async with lab.database.transaction(lab.organization_id) as connection:
        await changes.seal(connection, lab.organization_id)
    async with lab.database.transaction(lab.organization_id) as connection:
        found = await notices.happened(connection, lab.organization_id)
    asked = [(one.what, ward, max(numbers, default="")) for one in found for ward, numbers in one.asked]
    return sorted(set(asked))


async def reported(his: Hospital) -> None:
    await his.lab.owner.execute("update lab.order_item set status = 'verified' where status <> 'cancelled'")
    await his.lab.owner.execute("update lab.lab_order set version = version + 1, updated_at = now()")


def asks(order_lines: list[str], doctor: str) -> list[str]:
    orc, *others = order_lines
    return [f"{orc}||||||||{doctor}^ARZT {doctor}^^^^^^^DOCS", *others]


async def test_each_ward_and_practitioner_that_ordered_on_a_tube_is_told_that_it_is_reported(his: Hospital) -> None:
    """The one that ordered last was told, for it is of the same order here: the other waited for its result."""
    await his.oml("PV1|1|I|3A", *asks(order("1", "K", barcode="B-1"), "11"))
    await his.oml("PV1|1|I|ICU", *asks(order("2", "NA", barcode="B-1"), "22"))
    await his.oml("PV1|1|I|OPS", *asks(order("3", "CL", barcode="B-1"), "33"))
    assert (await his.oml(*order("3", control="CA"), pid="")).controls == ["CR"]
    await his.oml("PV1|1|I|4B", *asks(order("2", "NA", control="XO", barcode="B-1"), "22"))
    assert len(await his.orders()) == 1
    await reported(his)
    now = "4B"
    assert await told(his) == [
        (NoticeKind.FINAL, "3A", "DOCS|11"), (NoticeKind.FINAL, now, "DOCS|11"), (NoticeKind.FINAL, now, "DOCS|22"),
    ]  # fmt: skip
    assert await told(his) == []


async def test_an_order_that_is_cancelled_once_more_is_told_of_once_more(his: Hospital) -> None:
    """Its tube had been drawn and served the next order, which the laboratory cancelled: that nobody was told."""
    for number in ("1", "2"):
        await his.oml("PV1|1|I|3A", *order(number, "K", barcode="B-1"))
        [made] = await his.orders()
        async with his.lab.database.transaction(his.lab.organization_id) as connection:
            tube = await connection.fetchval("select id from lab.specimen")
            await connection.execute("update lab.specimen set state = 'received', status = 'available'")
            await order_changes.cancel(connection, his.lab.director, made.id, "not enough")
            assert tube
        assert await told(his) == [(NoticeKind.CANCELLED, "3A", "")], number
        assert await told(his) == []


@pytest.mark.parametrize("by", ["order", "change", "move"])
async def test_the_ward_of_a_number_that_kept_none_is_told_also_when_the_order_has_another(
    his: Hospital, by: str
) -> None:
    """A number of REST, or of before each kept its ward: it was the order's, which is the one that ordered last since,
    or where the patient is now."""
    await his.oml("PV1|1|I|3A", *order("1", "K", barcode="B-1"))
    await his.lab.owner.execute("update lab.placer_order set ward = ''")
    if by == "move":
        assert (await his.adt("A02", PID, "PV1|1|I|ICU")).code == "AA"
    else:
        ward = "ICU" if by == "order" else "3A"
        await his.oml(f"PV1|1|I|{ward}", *order("2", "NA", barcode="B-1"))
    if by == "change":
        said = await his.oml("PV1|1|I|ICU", *order("2", "NA", "NTE|1||fell", control="XO", barcode="B-1"))
        assert said.controls == ["XR"]
    await reported(his)
    assert [ward for _, ward, _ in await told(his)] == ["3A", "ICU"]


async def test_a_critical_result_calls_who_asked_for_it_and_not_who_asked_for_another_on_its_tube(
    database_url: str,
) -> None:
    """The one who had ordered first on the tube was told to call; who had ordered the potassium was not."""
    pid = "PID|1||P-1^^^TEST||Muster^Maria||19800501|F"
    async with laboratory(database_url) as lab:
        his = Hospital(lab, *link_of(lab))
        assert await told(his) == []
        await his.oml("PV1|1|I|3A", *asks(order("1", "NA", barcode="S-1"), "11"), pid=pid)
        await his.oml("PV1|1|I|ICU", *asks(order("2", "K", barcode="S-1"), "22"), pid=pid)
        await intervals(lab, "K", CRITICAL | {"low": 3.5, "high": 5.1})
        found = await measured(lab, "K", "8.1")
        await lab.release(found.id)
        assert [one for one in await told(his) if one[0] is NoticeKind.CRITICAL] == [
            (NoticeKind.CRITICAL, "ICU", "DOCS|22")
        ]


async def test_who_asked_is_whom_the_laboratory_has_put_right_and_who_had_asked_before(database_url: str) -> None:
    """The number of a hospital kept who had asked at first, and whoever asked without one, or over REST, was called no
    more where a hospital asked for the same."""
    pid = "PID|1||P-1^^^TEST||Muster^Maria||19800501|F"
    async with laboratory(database_url) as lab:
        his = Hospital(lab, *link_of(lab))
        assert await told(his) == []
        await his.oml("PV1|1|I|3A", *asks(order("1", "K", barcode="S-1"), "11"), pid=pid)
        [made] = await his.orders()
        async with lab.database.transaction(lab.organization_id) as connection:
            right = OrderChange(requester=NewPractitioner("33", "ARZT 33", authority="DOCS"))
            await order_changes.change(connection, lab.director, made.id, right)
        await intervals(lab, "K", CRITICAL | {"low": 3.5, "high": 5.1})
        found = await measured(lab, "K", "8.1")
        await lab.release(found.id)
        assert [one for one in await told(his) if one[0] is NoticeKind.CRITICAL] == [
            (NoticeKind.CRITICAL, "3A", "DOCS|33")
        ]


@pytest.mark.parametrize("number", ["", "EMR-1"])
async def test_who_had_asked_over_rest_is_called_beside_the_hospital_that_asks_for_the_same(
    database_url: str, number: str
) -> None:
    pid = "PID|1||P-1^^^TEST||Muster^Maria||19800501|F"
    async with laboratory(database_url) as lab:
        his = Hospital(lab, *link_of(lab))
        assert await told(his) == []
        new = NewOrder(
            (NewSpecimen(("K",), "S-1"),), ward="3A", requester=NewPractitioner("11", "ARZT 11", authority="DOCS"),
            patient=NewPatient((IdentifierView("TEST", "P-1"),), "Muster", "Maria", date(1980, 5, 1), Sex.FEMALE),
            placer_number=number,
        )  # fmt: skip
        async with lab.database.transaction(lab.organization_id) as connection:
            await create_order(connection, lab.director, new)
        await his.oml("PV1|1|I|3A", *asks(order("2", "K", barcode="S-1"), "22"), pid=pid)
        await intervals(lab, "K", CRITICAL | {"low": 3.5, "high": 5.1})
        found = await measured(lab, "K", "8.1")
        await lab.release(found.id)
        assert [one for one in await told(his) if one[0] is NoticeKind.CRITICAL] == [
            (NoticeKind.CRITICAL, "3A", "DOCS|11"), (NoticeKind.CRITICAL, "3A", "DOCS|22"),
        ]  # fmt: skip
