"""Requests with numbers of their own (in HL7: ORC-2, beside the ORC-4 of a requisition), and what is done by them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from interface.domain.views import Actor, ActorKind, Audience
from interface.flow.orders import NewSpecimen
from interface.flow.placing import Batch, PlacedTube, Placing, cancel, change, place
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


# ---- what each is known by ------------------------------------------------------------------------------------------


async def numbers_of(bench: Bench, token: str, location: str) -> list[str]:
    """The placers' numbers by which a request is known."""
    shown = (await bench.get(f"/fhir/{location}", token)).json
    return [one["value"] for one in shown["identifier"] if one["type"]["coding"][0]["code"] == "PLAC"]


async def found(bench: Bench, token: str, number: str) -> set[str]:
    answer = await bench.get(f"/fhir/ServiceRequest?identifier={quote(number)}", token)
    assert answer.status == 200, answer.body
    return {f"ServiceRequest/{one['resource']['id']}" for one in answer.json.get("entry", [])}


async def test_each_request_says_its_own_number_and_is_found_by_it(bench: Bench, token: str) -> None:
    """By the number of one request all of the requisition were found, and none said which it was."""
    _, first, other = await placed(bench, token, own("HGB", "R-1"), own("WBC", "R-2"))
    assert await numbers_of(bench, token, first) == ["PL-1", "R-1"]
    assert await numbers_of(bench, token, other) == ["PL-1", "R-2"]
    assert await found(bench, token, "urn:his|R-1") == {first}
    assert await found(bench, token, "R-2") == {other}
    assert await found(bench, token, "urn:ward|PL-1") == {first, other}
    assert await found(bench, token, "urn:his|PL-1") == set()


async def place_as_hl7_does(laboratory: Laboratory, batch: Batch, number: str, test: str) -> None:
    tube = PlacedTube(NewSpecimen((), "B-9", "BLD"))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await lab_changes.lock_orders(connection, laboratory.organization_id)
        await place(connection, batch, Placing(PlacerNumber(number, "urn:his"), (test,), (tube,)))


async def test_a_service_does_not_say_the_number_of_another_on_its_tube(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    """All services of a message that has no group are one order, and each said that it is the first one's."""
    made = answered(await send(bench, token, bundle(entry(patient()))))
    person = made[0][1]
    batch = Batch(Actor(ActorKind.LINK, UUID(int=2), "his", laboratory.organization_id), UUID(person.partition("/")[2]))
    for number, test in (("R-1", "HGB"), ("R-2", "WBC")):
        await place_as_hl7_does(laboratory, batch, number, test)
    entries = (await bench.get(f"/fhir/ServiceRequest?patient={person}", token)).json["entry"]
    at = {one["resource"]["code"]["coding"][-1]["code"]: f"ServiceRequest/{one['resource']['id']}" for one in entries}
    assert await numbers_of(bench, token, at["HGB"]) == ["R-1"]
    assert await numbers_of(bench, token, at["WBC"]) == ["R-2"]
    assert await found(bench, token, "urn:his|R-1") == {at["HGB"]}
    assert await found(bench, token, "urn:his|R-2") == {at["WBC"]}


async def test_a_number_that_comes_or_goes_makes_another_version_of_the_request(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    person = answered(await send(bench, token, bundle(entry(patient()))))[0][1]
    batch = Batch(Actor(ActorKind.LINK, UUID(int=2), "his", laboratory.organization_id), UUID(person.partition("/")[2]))
    await place_as_hl7_does(laboratory, batch, "R-1", "HGB")
    [first] = await found(bench, token, "urn:his|R-1")
    seen = [(await bench.get(f"/fhir/{first}", token)).headers["ETag"]]
    await place_as_hl7_does(laboratory, replace(batch, order_id=None), "R-2", "HGB")
    assert await numbers_of(bench, token, first) == ["R-1", "R-2"]
    seen.append((await bench.get(f"/fhir/{first}", token)).headers["ETag"])
    await cancel_as_hl7_does(laboratory, PlacerNumber("R-1", "urn:his"))
    assert (await numbers_of(bench, token, first), await status(bench, token, first)) == (["R-2"], "active")
    assert await found(bench, token, "urn:his|R-1") == set()
    seen.append((await bench.get(f"/fhir/{first}", token)).headers["ETag"])
    await cancel_as_hl7_does(laboratory, PlacerNumber("R-2", "urn:his"))
    assert await status(bench, token, first) == "revoked"
    assert await found(bench, token, "urn:his|R-1") == {first}, "what was ordered under it is found, and is revoked"
    versions = [tag.removeprefix("W/").strip('"') for tag in seen]
    said = [await numbers_of(bench, token, f"{first}/_history/{version}") for version in versions]
    assert (len(set(seen)), said) == (3, [["R-1"], ["R-1", "R-2"], ["R-2"]])


async def test_what_a_hospital_changes_its_order_to_be_without_is_known_by_its_number(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    """An EMR that files by the number was told that something is revoked, and not what."""
    person = answered(await send(bench, token, bundle(entry(patient()))))[0][1]
    batch = Batch(Actor(ActorKind.LINK, UUID(int=2), "his", laboratory.organization_id), UUID(person.partition("/")[2]))
    await place_as_hl7_does(laboratory, batch, "R-1", "HGB")
    [first] = await found(bench, token, "urn:his|R-1")
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await lab_changes.lock_orders(connection, laboratory.organization_id)
        await change(connection, replace(batch, order_id=None), Placing(PlacerNumber("R-1", "urn:his"), ("WBC",)))
    assert (await numbers_of(bench, token, first), await status(bench, token, first)) == (["R-1"], "revoked")
    both = await found(bench, token, "urn:his|R-1")
    assert first in both and len(both) == 2
    newest = (await bench.get(f"/fhir/{first}/_history", token)).json["entry"][0]["resource"]
    assert newest == (await bench.get(f"/fhir/{first}", token)).json


async def test_what_a_request_is_changed_to_ask_for_is_of_its_requisition_too(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    """A hospital that cancelled the requisition was told that it is done, and what it had changed to was measured."""
    person, first, other = await placed(bench, token, own("HGB", "R-1"), own("WBC", "R-2"))
    link = Actor(ActorKind.LINK, UUID(int=2), "his", laboratory.organization_id)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await lab_changes.lock_orders(connection, laboratory.organization_id)
        batch = Batch(link, UUID(person.partition("/")[2]))
        await change(connection, batch, Placing(PlacerNumber("R-1", "urn:his"), ("PLT",)))
    [changed] = await found(bench, token, "urn:his|R-1") - {first}
    assert await numbers_of(bench, token, changed) == ["PL-1", "R-1"]
    await cancel_as_hl7_does(laboratory, GROUP)
    assert [await status(bench, token, one) for one in (first, other, changed)] == ["revoked"] * 3


async def test_what_is_ordered_on_the_tube_of_a_group_is_not_of_the_group(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    """Nor is what it asks for no more, and somebody else does: an EMR that filed by the group had another's test."""
    person = answered(await send(bench, token, bundle(entry(patient()))))[0][1]
    link = Actor(ActorKind.LINK, UUID(int=2), "his", laboratory.organization_id)
    tube = PlacedTube(NewSpecimen((), "B-9", "BLD"))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await lab_changes.lock_orders(connection, laboratory.organization_id)
        for number, test, group in (
            ("R-1", "HGB", GROUP),
            ("R-2", "WBC", PlacerNumber()),
            ("R-3", "HGB", PlacerNumber()),
        ):
            asked = Placing(PlacerNumber(number, "urn:his"), (test,), (tube,), group)
            await place(connection, Batch(link, UUID(person.partition("/")[2])), asked)
    [first], [other] = [await found(bench, token, f"urn:his|{number}") for number in ("R-1", "R-2")]
    assert await numbers_of(bench, token, first) == ["PL-1", "R-1", "R-3"]
    assert await numbers_of(bench, token, other) == ["R-2"]
    assert await found(bench, token, "urn:ward|PL-1") == {first}
    await cancel_as_hl7_does(laboratory, PlacerNumber("R-1", "urn:his"))
    assert (await numbers_of(bench, token, first), await status(bench, token, first)) == (["R-3"], "active")
    assert await found(bench, token, "PL-1") == set()
    await cancel_as_hl7_does(laboratory, PlacerNumber("R-3", "urn:his"))
    assert await found(bench, token, "PL-1") == {first}
