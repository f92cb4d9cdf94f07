"""Patient/[id]/$everything: all that is the patient's and may be seen, each once, and nothing of another."""

from __future__ import annotations

from typing import Any

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
        f"{patient}/$everything?_cursor=x": 410,
    }  # fmt: skip
    for path, status in cases.items():
        assert (await bench.get(f"/fhir/Patient/{path}", token)).status == status, path
    assert (
        await bench.get(f"/fhir/Patient/{patient}/$everything", await laboratory.client_token("system/Observation.rs"))
    ).status == 403
