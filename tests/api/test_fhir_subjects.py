"""Of whom an order over FHIR is: numbers that are no longer somebody's, and searches as references."""

from __future__ import annotations

import pytest

from tests.api.bench import Bench, Laboratory
from tests.api.test_fhir_orders import (
    EVA,
    TUBE,
    Json,
    answered,
    bundle,
    counted,
    entry,
    patient,
    request,
    send,
    specimen,
)


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.client_token("system/*.cruds")


@pytest.mark.parametrize(
    "ended",
    [
        {"use": "old", "period": {"end": "2999-12-31"}},
        {"period": {"start": "2020", "end": "2025-12-31"}},
        {"period": {"end": "2026-01"}},
    ],
)
async def test_a_number_that_is_no_longer_a_patients_leads_to_nobody(bench: Bench, token: str, ended: Json) -> None:
    """R4 datatypes.html#Identifier: `use` is a modifier, for an old number may be somebody else's now."""
    numbers = [{"system": "urn:hospital", "value": "M-2"}, {"system": "urn:hospital", "value": "M-1"} | ended]
    eva = bundle(entry(patient(identifier=numbers), EVA), entry(specimen(), TUBE), entry(request()))
    first = answered(await send(bench, token, eva))
    shown = (await bench.get(f"/fhir/{first[0][1]}", token)).json
    assert [one["value"] for one in shown["identifier"]] == ["M-2"]
    other = patient("M-1", name=[{"family": "Other"}], birthDate=None, gender=None)
    now = bundle(entry(other, EVA), entry(specimen("B-2"), TUBE), entry(request(placer="PL-2")))
    assert answered(await send(bench, token, now))[0][1] != first[0][1], "the order is of who has the number now"
    logical = {"identifier": {"system": "urn:hospital", "value": "M-1"} | ended}
    refused = await send(bench, token, bundle(entry(request(placer="PL-3", subject=logical, specimen=[]))))
    assert refused.status == 422
    assert refused.json["issue"][0]["expression"] == ["Bundle.entry[0].resource.subject.identifier"]


async def test_a_number_that_is_still_a_patients_leads_to_it(bench: Bench, token: str) -> None:
    for number in (
        {"use": "official"},
        {"use": "temp", "period": {"start": "2020"}},
        {"period": {"end": "2999-12-31"}},
    ):
        made = patient(identifier=[{"system": "urn:hospital", "value": "M-1"} | number])
        assert (await send(bench, token, made, "/fhir/Patient")).status in (200, 201)
    found = (await bench.get("/fhir/Patient?identifier=urn:hospital|M-1", token)).json
    assert len(found["entry"]) == 1


@pytest.mark.parametrize("more", ["&birthdate=1990-01-01", "&identifier=urn:hospital|M-2", "&active=true"])
async def test_a_conditional_reference_with_other_conditions_is_refused(
    bench: Bench, laboratory: Laboratory, token: str, more: str
) -> None:
    """R4 http.html#trules: it is a search; who it finds by a part of it may be somebody else."""
    await send(bench, token, patient(), "/fhir/Patient")
    before = await counted(laboratory)
    subject = {"reference": f"Patient?identifier=urn:hospital|M-1{more}"}
    answer = await send(bench, token, bundle(entry(request(subject=subject, specimen=[]))))
    assert (answer.status, await counted(laboratory)) == (422, before), answer.body
    alone = {"reference": "Patient?identifier=urn:hospital|M-1"}
    assert (await send(bench, token, bundle(entry(request(subject=alone, specimen=[]))))).status == 200


async def test_a_request_is_not_revoked_as_another_patients(bench: Bench, token: str) -> None:
    """R4 http.html#update: a PUT is the whole resource; what says another patient was meant for another request."""
    eva = answered(await send(bench, token, bundle(entry(patient(), EVA), entry(specimen(), TUBE), entry(request()))))
    anna = bundle(entry(patient("M-2"), EVA), entry(specimen("B-2"), TUBE), entry(request(placer="PL-2")))
    other, path = answered(await send(bench, token, anna))[0][1], f"/fhir/{eva[2][1]}"
    theirs = request(status="revoked", subject={"reference": other})
    for body, method, at in (
        (theirs, "PUT", path),
        (bundle(entry(theirs, method="PUT", url=eva[2][1])), "POST", "/fhir"),
    ):
        refused = await send(bench, token, body, at, method)
        assert refused.status == 422, refused.body
        assert refused.json["issue"][0]["expression"][0].endswith(".subject")
        assert (await bench.get(path, token)).json["status"] == "active"
    own = request(status="revoked", subject={"reference": "Patient/7d1c2f58-3c1f-4a87-9a52-0d2b7f6f0a11"})
    assert (await send(bench, token, own, path, "PUT")).status == 200, "an id of the sender's own"
    shown = (await bench.get(path, token)).json
    assert (shown["status"], (await send(bench, token, shown, path, "PUT")).status) == ("revoked", 200)


async def test_neither_is_a_group_a_patient_nor_a_device_a_specimen(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    await send(bench, token, patient(), "/fhir/Patient")
    before, numbered = await counted(laboratory), {"identifier": {"system": "urn:hospital", "value": "M-1"}}
    group = request(subject={"type": "Group", **numbered}, specimen=[])
    held = {"resourceType": "Device", "id": "d", "identifier": [{"value": "SN-1"}], "type": specimen()["type"]}
    device = request(subject=numbered, contained=[held], specimen=[{"reference": "#d"}])
    for body in (group, device):
        refused = await send(bench, token, bundle(entry(body)))
        assert (refused.status, await counted(laboratory)) == (422, before), refused.body


@pytest.mark.parametrize(
    "whose",
    [{"identifier": {"system": "urn:hospital", "value": "M-2"}}, {"reference": "Patient?identifier=urn:hospital|M-2"}],
    ids=["logical", "conditional"],
)
async def test_nor_by_the_number_of_another_patient(bench: Bench, token: str, whose: Json) -> None:
    eva = answered(await send(bench, token, bundle(entry(patient(), EVA), entry(specimen(), TUBE), entry(request()))))
    await send(bench, token, patient("M-2"), "/fhir/Patient")
    path = f"/fhir/{eva[2][1]}"
    refused = await send(bench, token, request(status="revoked", subject=whose), path, "PUT")
    assert (refused.status, (await bench.get(path, token)).json["status"]) == (422, "active"), refused.body
    other = entry(request(status="revoked", subject={"reference": EVA}), method="PUT", url=eva[2][1])
    refused = await send(bench, token, bundle(entry(patient("M-2"), EVA), other))
    assert (refused.status, (await bench.get(path, token)).json["status"]) == (422, "active"), refused.body
    for number in ("M-1", "M-9"):
        own = request(status="revoked", subject={"identifier": {"system": "urn:hospital", "value": number}})
        assert (await send(bench, token, own, path, "PUT")).status == 200


@pytest.mark.parametrize(
    ("code", "system", "status"),
    [
        ("HGB", "urn:labora:test", 200), ("718-7", "http://loinc.org", 200), ("12345", "urn:emr:catalogue", 200),
        ("PLT", "urn:labora:test", 422), ("777-3", "http://loinc.org", 422),
    ],
)  # fmt: skip
async def test_a_request_is_not_revoked_as_one_for_another_test(
    bench: Bench, token: str, code: str, system: str, status: int
) -> None:
    """R4 http.html#update: what says another test was meant for another request, and this one was cancelled."""
    two = bundle(entry(patient(), EVA), entry(specimen(), TUBE), entry(request()), entry(request("PLT")))
    told = answered(await send(bench, token, two))
    path, person = f"/fhir/{told[2][1]}", {"reference": told[0][1]}
    answer = await send(bench, token, request(code, system, status="revoked", subject=person), path, "PUT")
    assert answer.status == status, answer.body
    left = "revoked" if status == 200 else "active"
    assert (await bench.get(path, token)).json["status"] == left
    if status == 422:
        assert answer.json["issue"][0]["expression"][0].endswith(".code")


async def test_what_was_ordered_as_a_panel_is_revoked_as_the_panel(bench: Bench, token: str) -> None:
    alone = request("24360-0", "http://loinc.org", specimen=[])
    told = answered(await send(bench, token, bundle(entry(patient(), EVA), entry(alone))))
    path, person = f"/fhir/{told[1][1]}", {"reference": told[0][1]}
    revoked = request("24360-0", "http://loinc.org", status="revoked", subject=person, specimen=[])
    assert (await send(bench, token, revoked, path, "PUT")).status == 200
    assert (await bench.get(path, token)).json["status"] == "revoked"
