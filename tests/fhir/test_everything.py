"""Patient/[id]/$everything: all that is the patient's and may be seen, each once, and nothing of another."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.store.ids import uuid7
from tests.api.bench import Answer, Bench, Laboratory
from tests.api.conftest import bench as bench
from tests.api.conftest import laboratory as laboratory

ALL = {
    "Patient": 1, "ServiceRequest": 3, "Specimen": 3, "Observation": 2, "DiagnosticReport": 3, "Provenance": 2,
    "Practitioner": 1, "Device": 1, "Organization": 1,
}  # fmt: skip


async def _patient(laboratory: Laboratory) -> str:
    """Three orders of one patient, with two released results and a held one; and another patient's."""
    orders = [await laboratory.order() for _ in range(3)]
    patient, requester = orders[0]["patient"], uuid7()
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await laboratory._insert(connection, "practitioner", id=requester, family="House")
        for table in ("lab_order", "specimen"):
            await connection.execute(f"update lab.{table} set patient_id = $1", patient)  # noqa: S608
        await connection.execute("update lab.lab_order set requester_id = $1", requester)
        await connection.execute("update lab.specimen set collected_at = '2026-01-02T03:04:05Z'")
    for order in orders[:2]:
        await laboratory.result({**order, "patient": patient})
    held = {**orders[2], "patient": patient}
    await laboratory.result(held, "99", ResultStatus.REGISTERED, (HoldReason.QUESTIONABLE,))
    await laboratory.result(await laboratory.order(), "77")
    return str(patient)


def counted(answer: Answer) -> dict[str, int]:
    assert answer.status == 200, answer.body
    found: dict[str, int] = {}
    for entry in answer.json.get("entry", []):
        kind = entry["resource"]["resourceType"]
        found[kind] = found.get(kind, 0) + 1
    return found


async def test_everything_of_a_patient_comes_once_in_pages_of_any_size(bench: Bench, laboratory: Laboratory) -> None:
    url = f"/fhir/Patient/{await _patient(laboratory)}/$everything"
    token = await laboratory.client_token("system/*.rs")
    whole = await bench.get(url, token)
    assert counted(whole) == ALL
    assert b'"value":99' not in whole.body and b'"value":77' not in whole.body
    ids = [entry["resource"]["id"] for entry in whole.json["entry"]]
    for count in (1, 4, 16):
        paged: list[str] = []
        following: str | None = f"{url}?_count={count}"
        while following:
            page = (await bench.get(following, token)).json
            assert len(page["entry"]) <= count
            paged += [entry["resource"]["id"] for entry in page["entry"]]
            following = next((one["url"] for one in page["link"] if one["relation"] == "next"), None)
        assert paged == ids, count


@pytest.mark.parametrize(
    ("query", "scope", "expected"),
    [
        ("_type=Observation,Device", "*.rs", {"Observation": 2, "Device": 1}),
        ("", "Patient.r system/Observation.r", {"Patient": 1, "Observation": 2}),
        ("_type=Patient,Observation", "Patient.r", {"Patient": 1}),
        ("_type=Observation&start=2026-01-02&end=2026-01-02", "*.rs", {"Observation": 2}),
        ("_type=Observation&start=2026-01-03", "*.rs", {}), ("_type=Specimen&end=2026-01-01", "*.rs", {}),
        ("_type=Patient,Observation&_since=2100-01-01T00:00:00Z", "*.rs", {}),
        ("_type=Observation", "Patient.r system/Observation.r?code=718-7", {"Observation": 2}),
        ("_type=Observation", "Patient.r system/Observation.r?code=nothing", {}),
        # who asked for what is not told to who may not read the requests, nor by results that may not be read
        ("_type=Practitioner,Device", "Patient.r system/Practitioner.r system/Device.r", {}),
        ("_type=Practitioner,Device", "Patient.r system/Device.r system/Observation.r?code=718-7", {"Device": 1}),
        ("_type=Practitioner,Device", "Patient.r system/Device.r system/Observation.r?code=nothing", {}),
    ],
)  # fmt: skip
async def test_it_can_be_narrowed_and_is_by_scopes(
    bench: Bench, laboratory: Laboratory, query: str, scope: str, expected: dict[str, int]
) -> None:
    patient = await _patient(laboratory)
    token = await laboratory.client_token(*f"system/{scope}".split())
    assert counted(await bench.get(f"/fhir/Patient/{patient}/$everything?{query}", token)) == expected


async def test_what_is_not_there_or_cannot_be_read_is_said(bench: Bench, laboratory: Laboratory) -> None:
    patient = await _patient(laboratory)
    token = await laboratory.client_token("system/*.rs")
    cases: dict[str, Any] = {
        f"{uuid7()}/$everything": 404, "x/$everything": 404, f"{patient}/$everything?_type=AuditEvent": 400,
        f"{patient}/$everything?_count=0": 400, f"{patient}/$everything?start=yesterday": 400,
        f"{patient}/$everything?_cursor=x": 410, f"{patient}/$everything?start=ge2026": 400,
        f"{patient}/$everything?_since=lt2026": 400, f"{patient}/$everything?start=2026&start=2025": 400,
        f"{patient}/$everything?code=x": 200,
    }  # fmt: skip
    for path, status in cases.items():
        assert (await bench.get(f"/fhir/Patient/{path}", token)).status == status, path
    strict = {"Prefer": "handling=strict"}
    refused = await bench.get(f"/fhir/Patient/{patient}/$everything?code=x", token, headers=strict)
    assert (refused.status, refused.json["issue"][0]["code"]) == (400, "not-supported")
    known = "start=2026&end=2027&_since=2026&_count=2&_type=Observation&_type=Specimen&_format=json"
    page = await bench.get(f"/fhir/Patient/{patient}/$everything?{known}", token, headers=strict)
    assert counted(page) == {"Specimen": 2}
    following = next(one["url"] for one in page.json["link"] if one["relation"] == "next")
    assert counted(await bench.get(following, token, headers=strict)) == {"Observation": 1, "Specimen": 1}
    assert (
        await bench.get(f"/fhir/Patient/{patient}/$everything", await laboratory.client_token("system/Observation.rs"))
    ).status == 403


async def test_it_may_be_posted_with_its_parameters_in_the_body_or_without(
    bench: Bench, laboratory: Laboratory
) -> None:
    url = f"/fhir/Patient/{await _patient(laboratory)}/$everything"
    token = await laboratory.client_token("system/*.rs")
    fhir, form = ({"Content-Type": f"application/{kind}"} for kind in ("fhir+json", "x-www-form-urlencoded"))
    asked = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "_type", "valueCode": "Observation"}, {"name": "_type", "valueCode": "Device"},
            {"name": "start", "valueDate": "2026-01-02"}, {"name": "_count", "valueInteger": 2},
        ],
    }  # fmt: skip
    bodies: list[dict[str, Any]] = [
        {}, {"headers": fhir}, {"json": {"resourceType": "Parameters"}}, {"data": b"", "headers": form}
    ]  # fmt: skip
    for body in bodies:
        assert counted(await bench.ask("POST", url, token, **body)) == ALL, body
    wanted = await bench.get(f"{url}?_type=Observation&_type=Device&start=2026-01-02", token)
    assert counted(wanted) == {"Observation": 2, "Device": 1}
    bodies = [
        {"data": b"_type=Observation,Device&start=2026-01-02&_count=2", "headers": form},
        {"data": orjson.dumps(asked), "headers": fhir}, {"json": asked},
    ]  # fmt: skip
    for body in bodies:
        page = (await bench.ask("POST", url, token, **body)).json
        [following] = [one["url"] for one in page["link"] if one["relation"] == "next"]
        rest = (await bench.get(following, token)).json  # a page is always fetched
        assert [*page["entry"], *rest["entry"]] == wanted.json["entry"], body
    urled = await bench.ask("POST", f"{url}?_type=Observation", token)
    assert counted(urled) == {"Observation": 2}


async def test_a_body_that_cannot_be_read_is_refused_and_what_is_not_there_is_not(
    bench: Bench, laboratory: Laboratory
) -> None:
    patient = await _patient(laboratory)
    token = await laboratory.client_token("system/*.rs")
    cases: list[tuple[Any, int]] = [
        ({"resourceType": "Patient"}, 400), ([], 400), ({"resourceType": "Parameters", "parameter": [{}]}, 422),
        ({"resourceType": "Parameters", "parameter": [{"name": "start", "valuePeriod": {}}]}, 422),
        ({"resourceType": "Parameters", "parameter": [{"name": "start", "valueDate": "yesterday"}]}, 400),
        ({"resourceType": "Parameters", "parameter": [{"name": "_format", "valueString": "xml"}]}, 406),
        ({"resourceType": "Parameters", "parameter": [{"name": "_count", "valueInteger": 1}] * 201}, 413),
    ]  # fmt: skip
    for body, status in cases:
        answer = await bench.ask("POST", f"/fhir/Patient/{patient}/$everything", token, json=body)
        assert (answer.status, answer.json["resourceType"]) == (status, "OperationOutcome"), body
    text = {"data": b"x", "headers": {"Content-Type": "text/plain"}}
    assert (await bench.ask("POST", f"/fhir/Patient/{patient}/$everything", token, **text)).status == 415
    unknown = uuid7()
    assert (await bench.ask("POST", f"/fhir/Patient/{unknown}/$everything", token)).status == 404
    narrow = await laboratory.client_token("system/Observation.rs")
    assert (await bench.ask("POST", f"/fhir/Patient/{patient}/$everything", narrow)).status == 403
    await bench.writer.flush()
    [asked] = await laboratory.audit("everything")
    assert (asked["detail"]["found"], asked["entity_id"]) == ("no", unknown)
