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
