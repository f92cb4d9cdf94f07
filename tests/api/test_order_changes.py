"""Orders changed and replaced over HTTP as a hospital does over HL7: the same rules, the same numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from interface.domain.permissions import Role
from interface.store import order_changes
from tests.api.bench import Bench, Laboratory
from tests.api.test_fhir_orders import answered, bundle, counted, entry, request, send, whole

ORDER: dict[str, Any] = {
    "patient": {"family": "Muster", "identifiers": [{"authority": "HOSP", "value": "P-1"}]},
    "placer_number": "A-1",
    "placer_authority": "HIS",
    "specimens": [{"barcode": "B-1", "tests": ["HGB"]}],
    "pregnant": True,
    "gestation_weeks": 12,
}


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.user_token(Role.TECHNOLOGIST)


async def ask(bench: Bench, token: str, method: str, path: str, status: int, **body: Any) -> Any:
    answer = await bench.ask(method, path, token, json=body)
    assert answer.status == status, (path, answer.body)
    return answer.json


async def test_a_number_is_one_order_of_its_authority(bench: Bench, token: str) -> None:
    made = await ask(bench, token, "POST", "/api/orders", 201, **ORDER)
    assert (made["placer_number"], made["placer_authority"]) == ("A-1", "HIS")
    assert (await ask(bench, token, "POST", "/api/orders", 201, **ORDER))["id"] == made["id"]
    other = {**ORDER, "placer_authority": "CLINIC", "specimens": [{"tests": ["HGB"]}]}
    assert (await ask(bench, token, "POST", "/api/orders", 201, **other))["id"] != made["id"]
    await ask(bench, token, "POST", "/api/orders", 409, **{**ORDER, "ward": "3B"})


async def test_a_number_whose_order_was_cancelled_orders_nothing(bench: Bench, token: str) -> None:
    """It was answered with 201, and nobody measured anything."""
    made = await ask(bench, token, "POST", "/api/orders", 201, **ORDER)
    await ask(bench, token, "POST", f"/api/orders/{made['id']}/cancel", 200, reason="by mistake")
    told = await ask(bench, token, "POST", "/api/orders", 409, **ORDER)
    assert "is cancelled" in told["detail"]


async def test_nor_does_one_whose_specimen_was_rejected(bench: Bench, token: str) -> None:
    made = await ask(bench, token, "POST", "/api/orders", 201, **ORDER)
    for tube in dict.fromkeys(item["specimen_id"] for item in made["items"]):
        await ask(bench, token, "POST", f"/api/specimens/{tube}/receive", 200)
        await ask(bench, token, "POST", f"/api/specimens/{tube}/reject", 200, reason="haemolysed")
    told = await ask(bench, token, "POST", "/api/orders", 409, **ORDER)
    assert "was rejected" in told["detail"]


async def test_what_was_revoked_is_not_answered_as_if_it_were_placed(bench: Bench, laboratory: Laboratory) -> None:
    token = await laboratory.client_token("system/*.cruds")
    made = answered(await send(bench, token, whole()))
    conditional = whole()
    for one in conditional["entry"][2:]:
        one["request"]["ifNoneExist"] = "identifier=urn:ward|PL-1"
    for at, code, asked in ((2, "HGB", (conditional,)), (3, "PLT", (conditional, whole()))):
        revoke = entry(request(code, status="revoked"), method="PUT", url=made[at][1])
        assert answered(await send(bench, token, bundle(revoke))) == [("200", made[at][1])]
        for body in asked:
            answer = await send(bench, token, body)
            assert (answer.status, answer.json["issue"][0]["code"]) == (409, "conflict"), answer.body
    assert await counted(laboratory) == (1, 1, 1, 2)


async def test_what_is_said_of_an_order_is_changed_while_it_waits(bench: Bench, token: str) -> None:
    made = await ask(bench, token, "POST", "/api/orders", 201, **ORDER)
    path = f"/api/orders/{made['id']}"
    said = {"priority": "stat", "ward": "3B", "clinical_history": "weak", "requester": {"family": "House"}}
    changed = await ask(bench, token, "PATCH", path, 200, version=made["version"], pregnant=None, **said)
    assert (changed["priority"], changed["ward"], changed["clinical_history"]) == ("stat", "3B", "weak")
    assert (changed["pregnant"], changed["gestation_weeks"], changed["requester"]["family"]) == (None, None, "House")
    again = await ask(bench, token, "PATCH", path, 200, version=changed["version"], **said)
    assert again == changed, "the same again changes nothing"
    await ask(bench, token, "PATCH", path, 409, version=made["version"], ward="4")
    await ask(bench, token, "PATCH", path, 428, ward="4")
    await ask(bench, token, "PATCH", path, 422, version=changed["version"], gestation_weeks=50, pregnant=True)
    await ask(bench, token, "PATCH", path, 422, version=changed["version"], barcode="X")
    await ask(bench, token, "POST", f"{path}/cancel", 200, reason="by mistake")
    late = await ask(bench, token, "PATCH", path, 409, version=changed["version"] + 1, ward="4")
    assert "waits to be done" in late["detail"]


async def test_an_order_is_replaced_whole_or_not_at_all(bench: Bench, laboratory: Laboratory, token: str) -> None:
    made = await ask(bench, token, "POST", "/api/orders", 201, **ORDER)
    path = f"/api/orders/{made['id']}/replace"
    new = {"placer_number": "A-2", "placer_authority": "HIS", "specimens": [{"barcode": "B-1", "tests": ["WBC"]}]}
    await ask(bench, token, "POST", path, 422, reason="another test")
    await ask(bench, token, "POST", path, 422, reason="another test", order={**new, "specimens": []})
    another = {**new, "patient": {"family": "Other"}}
    await ask(bench, token, "POST", path, 422, reason="another test", order=another)
    assert (await bench.get(f"/api/orders/{made['id']}", token)).json["cancelled"] is False
    done = await ask(bench, token, "POST", path, 201, reason="another test", order=new)
    assert (done["patient_id"], [item["test_code"] for item in done["items"]]) == (made["patient_id"], ["WBC"])
    old = (await bench.get(f"/api/orders/{made['id']}", token)).json
    assert (old["cancelled"], old["cancel_reason"]) == (True, "another test")
    assert (await ask(bench, token, "POST", path, 201, reason="another test", order=new))["id"] == done["id"]
    await ask(bench, token, "POST", path, 409, reason="another test", order={**new, "placer_number": "A-3"})
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute("update lab.order_item set status = 'in_progress' where order_id = $1", done["id"])
    path = f"/api/orders/{done['id']}/replace"
    kept = await ask(bench, token, "POST", path, 409, reason="x", order={**new, "placer_number": "A-4"})
    assert "WBC: in progress" in kept["detail"]
    emr = await laboratory.client_token("system/*.cruds")
    await ask(bench, emr, "POST", path, 403, reason="x", in_progress=True, order={**new, "placer_number": "A-5"})
    reader = await laboratory.client_token("system/*.rs")
    for method, at in (("POST", path), ("PATCH", f"/api/orders/{done['id']}")):
        assert (await bench.ask(method, at, reader, json={})).status == 403


async def test_the_ward_that_was_said_over_rest_is_left_by_no_transfer_of_before(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    """Only an order of HL7 kept when its ward was said: a transfer that was told late moved others back, and a critical
    result was called to the ward that the patient had left."""
    made = await ask(bench, token, "POST", "/api/orders", 201, **ORDER, ward="ICU")
    path, before = f"/api/orders/{made['id']}", datetime.now(UTC) - timedelta(hours=1)

    async def moved(at: datetime) -> Any:
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            await order_changes.move(connection, [UUID(made["patient_id"])], "3A", at)
        return (await bench.ask("GET", path, token)).json["ward"]

    assert await moved(before) == "ICU"
    await ask(bench, token, "PATCH", path, 200, ward="OPS", version=made["version"])
    assert await moved(before) == "OPS"
    assert await moved(datetime.now(UTC)) == "3A"


async def test_so_it_is_where_the_ward_that_it_has_is_said_once_more(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    made = await ask(bench, token, "POST", "/api/orders", 201, **ORDER, ward="ICU")
    path, before = f"/api/orders/{made['id']}", datetime.now(UTC) - timedelta(hours=1)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute("update lab.lab_order set ward_at = now() - interval '2 hours'")
    await ask(bench, token, "PATCH", path, 200, ward="ICU", version=made["version"])
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        assert await order_changes.move(connection, [UUID(made["patient_id"])], "3A", before) == []
