"""Wards and practitioners are told of the end of their orders, once, and no more than the policy allows."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from interface.domain.model import ResultStatus
from interface.domain.roster import Contact, NoticeKind, Roster, Wish
from interface.flow import criticals, order_changes
from interface.ops.notices import tell_of_orders
from interface.settings import Content
from interface.store import changes
from interface.store.criticals import Judged
from interface.store.lab_changes import owe
from interface.store.specimens import touch_orders
from tests.ops.telling import Telling
from tests.records import Laboratory, found

WARD = Wish((Contact("mail", "ward3a@x.example"),), frozenset(NoticeKind), ward="3A")
CANARIES = ("Kanarienvogel", "CANARY-PID-77", "KANARI-BARCODE", "987654.3")


class Ward:
    def __init__(self, telling: Telling, laboratory: Laboratory) -> None:
        self.telling, self.laboratory = telling, laboratory
        self.roster = Roster(wishes=(WARD,))

    async def order(self, ward: str = "3A") -> tuple[UUID, UUID, str]:
        """Of a patient that every field names: the order, its result, its number."""
        made = await self.laboratory.order()
        result_id = await self.laboratory.result(made, CANARIES[3])
        async with self.telling.transaction() as connection:
            await connection.execute("update lab.lab_order set ward = $2 where id = $1", made.id, ward)
            await connection.execute("update lab.patient set family = $1", CANARIES[0])
            await connection.execute("update lab.patient_identifier set value = $1 || id::text", CANARIES[1])
            await connection.execute("update lab.specimen set barcode = $1 || id::text", CANARIES[2])
        return made.id, result_id, made.number

    async def did(self, statement: str, *values: object) -> None:
        async with self.telling.transaction() as connection:
            await connection.execute(statement, *values)

    async def rows(self, statement: str) -> list[asyncpg.Record]:
        async with self.telling.transaction() as connection:
            return await connection.fetch(statement)

    async def told(self) -> list[str]:
        """To whom what was said, the feed sealed and looked through."""
        of = self.telling
        async with of.transaction() as connection:
            await changes.seal(connection, of.organization.id)
        async with of.transaction() as connection:
            await tell_of_orders(connection, of.organization.id, "main", of.settings, self.roster, of.now)
        before = len(of.post.got)
        await of.send()
        return sorted(f"{one['To']} {one['Subject']}" for one in of.post.got[before:])


@pytest.fixture
async def ward(telling: Telling) -> Ward:
    made = Ward(telling, await found(telling.database, telling.organization.id))
    await made.order()
    assert await made.told() == [], "what happened before is no news"
    return made


async def release(ward: Ward, order_id: UUID, result_id: UUID) -> None:
    async with ward.telling.transaction() as connection:
        await connection.execute("update lab.result set status = 'final', released_at = now() where id = $1", result_id)
        await connection.execute("update lab.order_item set status = 'verified' where order_id = $1", order_id)
        await owe(connection, ward.laboratory.organization_id, result_id, 1)


@pytest.mark.parametrize("content", [Content.NONE, Content.ORDER_NUMBER])
async def test_a_ward_is_told_once_that_its_order_is_reported(ward: Ward, content: Content) -> None:
    ward.telling.settings = replace(ward.telling.settings, notice_content=content)
    order_id, result_id, number = await ward.order()
    other = await ward.order("3B")
    assert await ward.told() == [], "not before it is"
    for of in ((order_id, result_id), other[:2]):
        await release(ward, *of)
    assert await ward.told() == ["ward3a@x.example [main] An order is reported"]
    await release(ward, order_id, result_id)
    assert await ward.told() == []
    said = "\n".join(one.as_string() for one in ward.telling.post.got)
    assert not [canary for canary in CANARIES if canary in said]
    assert (number in said) is (content is Content.ORDER_NUMBER)
    assert all(number not in str(one["Subject"]) for one in ward.telling.post.got)


async def test_a_ward_is_told_again_once_what_was_ordered_on_it_later_is_reported(ward: Ward) -> None:
    order_id, result_id, _ = await ward.order()
    await release(ward, order_id, result_id)
    reported = ["ward3a@x.example [main] An order is reported"]
    assert await ward.told() == reported
    for test in ("WBC", "GLU"):
        async with ward.telling.transaction() as connection:
            specimen = await connection.fetchval("select id from lab.specimen where order_id = $1", order_id)
            await order_changes.add(connection, ward.laboratory.technologist, order_id, [test], specimen_id=specimen)
        assert await ward.told() == []
        await release(ward, order_id, result_id)
        assert await ward.told() == reported
        await release(ward, order_id, result_id)
        assert await ward.told() == []


async def test_cancelled_orders_and_rejected_specimens_are_told(ward: Ward) -> None:
    order_id, _, _ = await ward.order()
    await ward.did(
        "update lab.specimen set state = 'rejected', status = 'unsatisfactory', version = version + 1,"
        " updated_at = now() where order_id = $1",
        order_id,
    )  # fmt: skip
    assert await ward.told() == ["ward3a@x.example [main] A specimen was rejected"]
    await ward.did(
        "update lab.lab_order set cancelled_at = now(), version = version + 1, updated_at = now() where id = $1",
        order_id,
    )  # fmt: skip
    assert await ward.told() == ["ward3a@x.example [main] An order was cancelled"]
    assert await ward.told() == []


async def test_a_critical_result_calls_the_ward_once_it_is_released_and_never_while_it_is_held(ward: Ward) -> None:
    order_id, result_id, _ = await ward.order()
    version = await ward.laboratory.version(result_id, CANARIES[3], 2, ResultStatus.PRELIMINARY, (), flags=("HH",))
    async with ward.telling.transaction() as connection:
        await connection.execute("update lab.result set version_id = $2, version = 2 where id = $1", result_id, version)
        await criticals.open_for(connection, ward.laboratory.technologist, [Judged(result_id, version, True, True)])
        await connection.execute("update lab.result set held = '{delta}' where id = $1", result_id)
    assert await ward.told() == []
    await ward.did("update lab.result set held = '{}' where id = $1", result_id)
    assert await ward.told() == [], "it is not released"
    await ward.did("update lab.result set status = $2 where id = $1", result_id, ResultStatus.FINAL.value)
    assert await ward.told() == ["ward3a@x.example [main] URGENT: please call the laboratory"]
    assert await ward.told() == []
    assert CANARIES[3] not in ward.telling.post.got[-1].as_string()
    assert order_id


async def test_what_happened_while_no_notice_was_configured_is_no_news(telling: Telling) -> None:
    ward = Ward(telling, await found(telling.database, telling.organization.id))

    async def happens() -> None:
        for critical in (False, True):
            order_id, result_id, _ = await ward.order()
            await release(ward, order_id, result_id)
            if critical:
                version = await ward.laboratory.version(result_id, "2.1", 2, ResultStatus.FINAL, (), flags=("LL",))
                await ward.did("update lab.result set version_id = $2, version = 2 where id = $1", result_id, version)
                async with telling.transaction() as connection:
                    judged = Judged(result_id, version, critical=True, fresh=True)
                    await criticals.open_for(connection, ward.laboratory.technologist, [judged])

    await happens()
    assert await ward.told() == []
    await happens()
    assert len(await ward.told()) == 3
    ward.roster = Roster()
    assert await ward.told() == []
    await happens()
    assert await ward.told() == []
    ward.roster = Roster(wishes=(WARD,))
    assert await ward.told() == []
    await happens()
    assert len(await ward.told()) == 3


async def test_a_report_with_another_name_on_it_is_no_news_of_an_order_that_ended_before(telling: Telling) -> None:
    ward = Ward(telling, await found(telling.database, telling.organization.id))
    order_id, result_id, _ = await ward.order()
    await release(ward, order_id, result_id)
    assert await ward.told() == [], "it was before anybody asked"
    async with telling.transaction() as connection:
        await touch_orders(connection, [order_id])
    assert await ward.told() == []


async def test_a_practitioner_is_told_of_what_they_ordered(ward: Ward) -> None:
    contact = (Contact("mail", "dr@x.example"),)
    ward.roster = Roster(wishes=(Wish(contact, frozenset({NoticeKind.FINAL}), practitioner="urn:doctors|77"),))
    order_id, result_id, _ = await ward.order()
    await ward.did(
        """with p as (insert into lab.practitioner (id, organization_id, family)
                      values (gen_random_uuid(), $2, 'Arzt') returning id),
                i as (insert into lab.practitioner_identifier (id, organization_id, practitioner_id, authority, value)
                      select gen_random_uuid(), $2, id, 'urn:doctors', '77' from p)
           update lab.lab_order set requester_id = p.id from p where lab_order.id = $1""",
        order_id, ward.laboratory.organization_id,
    )  # fmt: skip
    await release(ward, order_id, result_id)
    assert await ward.told() == ["dr@x.example [main] An order is reported"]


async def test_what_waits_goes_to_the_contact_of_now_and_to_nobody_who_is_none(ward: Ward) -> None:
    """The ward's address had been mistyped, or was another's by then: whoever put it right had it told there for a day
    more, and the ward was told of nothing."""
    telling = ward.telling
    telling.post.refuse = {"RCPT": "451 4.3.0 later"}
    for _ in range(2):
        order_id, result_id, _ = await ward.order()
        await release(ward, order_id, result_id)
    assert await ward.told() == []
    telling.post.refuse = {}
    ward.roster = Roster(wishes=(replace(WARD, contacts=(Contact("mail", "3a@x.example"),)),))
    assert await ward.told() == ["3a@x.example [main] An order is reported"] * 2
    telling.post.refuse = {"RCPT": "451 4.3.0 later"}
    order_id, result_id, _ = await ward.order()
    await release(ward, order_id, result_id)
    assert await ward.told() == []
    telling.post.refuse, telling.now = {}, telling.now + timedelta(hours=1)
    ward.roster = Roster(wishes=(replace(WARD, ward="3B"),))
    assert await ward.told() == []
    states = await ward.rows("select state, error from lab.alert_message order by place")
    assert [tuple(row) for row in states] == [
        ("sent", ""),
        ("sent", ""),
        ("failed", "it is no contact of a notice any more"),
    ]


async def test_of_two_contacts_that_have_both_changed_each_is_told(ward: Ward) -> None:
    """The hospital's mail has another domain: one was told twice, and the other of nothing that waited."""
    telling = ward.telling
    for domain, refused in (("old", "451 4.3.0 later"), ("new", "")):
        telling.post.refuse = {"RCPT": refused} if refused else {}
        both = tuple(Contact("mail", f"{name}@{domain}.example") for name in "ab")
        ward.roster = Roster(wishes=(replace(WARD, contacts=both),))
        if refused:
            order_id, result_id, _ = await ward.order()
            await release(ward, order_id, result_id)
            assert await ward.told() == []
    assert sorted(await ward.told()) == [f"{name}@new.example [main] An order is reported" for name in "ab"]


async def test_of_two_contacts_the_one_that_is_put_right_is_told(ward: Ward) -> None:
    """What had waited for it went to the other one, once more, and never to the address that is right."""
    telling, right = ward.telling, Contact("mail", "right@x.example")
    ward.roster = Roster(wishes=(replace(WARD, contacts=(*WARD.contacts, Contact("mail", "wrong@x.example"))),))
    telling.post.refuse = {"RCPT wrong@x.example": "451 4.3.0 later"}
    for _ in range(2):
        order_id, result_id, _ = await ward.order()
        await release(ward, order_id, result_id)
    assert await ward.told() == ["ward3a@x.example [main] An order is reported"] * 2
    ward.roster = Roster(wishes=(replace(WARD, contacts=(*WARD.contacts, right)),))
    assert await ward.told() == ["right@x.example [main] An order is reported"] * 2
    telling.post.refuse = {"RCPT right@x.example": "451 4.3.0 later"}
    order_id, result_id, _ = await ward.order()
    await release(ward, order_id, result_id)
    assert await ward.told() == ["ward3a@x.example [main] An order is reported"]
    telling.post.refuse, telling.now = {}, telling.now + timedelta(hours=1)
    ward.roster = Roster(wishes=(WARD,))
    assert await ward.told() == [], "the other one has its own"
