"""Requests of one requisition with numbers of their own (in HL7: ORC-4 and ORC-2), and what is taken back by them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from interface.domain.views import Actor, ActorKind, Audience
from interface.flow.placing import cancel
from interface.store import lab, lab_changes, placing
from interface.store.placing import PlacerNumber
from tests.api.bench import Bench, Laboratory
from tests.api.test_fhir_orders import EVA, TUBE, Json, answered, bundle, entry, patient, request, send, specimen

GROUP = PlacerNumber("PL-1", "urn:ward")


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.client_token("system/*.cruds")


def own(code: str, value: str, **more: Any) -> Json:
    number = {"type": {"coding": [{"code": "PLAC"}]}, "system": "urn:his", "value": value}
    return request(code, identifier=[number], **more)


async def placed(bench: Bench, token: str, *requests: Json) -> list[str]:
    """Where each of the requests is, after where their patient is."""
    sent = bundle(entry(patient(), EVA), entry(specimen(), TUBE), *map(entry, requests))
    told = answered(await send(bench, token, sent))
    return [told[0][1], *(location for _, location in told[2:])]


async def status(bench: Bench, token: str, location: str) -> str:
    said: str = (await bench.get(f"/fhir/{location}", token)).json["status"]
    return said


async def cancel_as_hl7_does(laboratory: Laboratory, number: PlacerNumber) -> None:
    link = Actor(ActorKind.LINK, UUID(int=2), "his", laboratory.organization_id)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await lab_changes.lock_orders(connection, laboratory.organization_id)
        known = await placing.find(connection, number)
        assert known is not None
        await cancel(connection, link, known, "not wanted")


async def test_one_request_of_a_requisition_is_revoked(bench: Bench, token: str) -> None:
    """409 was the answer, as if another number asked for it as well: its requisition's."""
    person, first, other = await placed(bench, token, own("HGB", "R-1"), own("WBC", "R-2"))
    revoked = own("HGB", "R-1", status="revoked", subject={"reference": person})
    answer = await send(bench, token, revoked, f"/fhir/{first}", "PUT")
    assert answer.status == 200, answer.body
    assert [await status(bench, token, one) for one in (first, other)] == ["revoked", "active"]


@pytest.mark.parametrize(
    ("number", "left"),
    [(PlacerNumber("R-1", "urn:his"), ["revoked", "active"]), (GROUP, ["revoked", "revoked"])],
    ids=["its own number", "the requisition's"],
)
async def test_what_a_hospital_cancels_by_a_number_of_fhirs_is_cancelled(
    bench: Bench, laboratory: Laboratory, token: str, number: PlacerNumber, left: list[str]
) -> None:
    """The hospital was told that it is (ORC-1 CR, ORC-5 CA), and the test was measured."""
    _, *requests = await placed(bench, token, own("HGB", "R-1"), own("WBC", "R-2"))
    await cancel_as_hl7_does(laboratory, number)
    assert [await status(bench, token, one) for one in requests] == left


async def test_what_two_requests_ask_for_is_measured_until_neither_does(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    person, first, again = await placed(bench, token, own("HGB", "R-1"), own("HGB", "R-2"))
    assert first == again, "once on one tube"
    revoked = own("HGB", "R-1", status="revoked", subject={"reference": person})
    assert (await send(bench, token, revoked, f"/fhir/{first}", "PUT")).status == 409
    for number, now in (("R-1", "active"), ("R-2", "revoked")):
        await cancel_as_hl7_does(laboratory, PlacerNumber(number, "urn:his"))
        assert await status(bench, token, first) == now


async def test_the_laboratorys_own_view_of_it_is_as_before(bench: Bench, laboratory: Laboratory, token: str) -> None:
    _, first, _ = await placed(bench, token, own("HGB", "R-1"), own("WBC", "R-2"))
    id = UUID(first.partition("/")[2])
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        [order] = await lab.find_orders(connection, lab.OrderFilter(item_ids=(id,)), Audience.STAFF)
        known = await placing.find(connection, GROUP)
        assert known is not None and known.order_id == order.id
        assert [one.test_code for one in await placing.items(connection, known.id)] == ["HGB", "WBC"]
