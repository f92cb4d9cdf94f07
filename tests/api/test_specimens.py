"""Orders' changes, specimens, labels, the worklist and worksheets over HTTP, as the laboratory and as an EMR."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from interface.api.context import json_response
from interface.domain.model import HoldReason, ResultStatus
from interface.domain.permissions import Role
from interface.flow.trace import trace
from tests.api.bench import Bench, Laboratory

ORDER: dict[str, Any] = {
    "patient": {
        "identifiers": [{"value": "4711"}], "family": "Muster & Söhne", "given": "Eva", "birth_date": "1980-05-01",
    },
    "priority": "stat",
    "ward": "3B",
    "patient_group": "dialysis",
    "pregnant": True,
    "gestation_weeks": 12,
    "requester": {"identifier": "D1", "family": "House", "authority": "urn:doctors"},
    "specimens": [
        {"tests": ["HGB"], "type": "BLD", "container": "EDTA"},
        {"tests": ["GLU"], "type": "PLAS", "time_points_min": [0, 120]},
    ],
}  # fmt: skip


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.user_token(Role.TECHNOLOGIST)


async def post(bench: Bench, token: str, path: str, status: int = 200, **body: Any) -> Any:
    answer = await bench.ask("POST", path, token, json=body)
    assert answer.status == status, (path, answer.body)
    return answer.json


async def test_a_specimen_goes_its_way_over_http(bench: Bench, token: str) -> None:
    made = await post(bench, token, "/api/orders", 201, **ORDER)
    assert (made["ward"], made["pregnant"], made["gestation_weeks"], made["patient_group"]) == (
        "3B", True, 12, "dialysis",
    )  # fmt: skip
    assert made["requester"]["identifier"] == "D1"
    assert [item["time_point_min"] for item in made["items"]] == [None, 0, 120]
    barcode, specimen = made["items"][0]["barcode"], f"/api/specimens/{made['items'][0]['specimen_id']}"
    taken = await post(bench, token, f"{specimen}/collect", at="2026-01-02T03:04:05Z", by="Nurse")
    assert (taken["specimen"]["state"], taken["specimen"]["collected_by"]) == ("collected", "Nurse")
    again = await post(bench, token, f"{specimen}/collect", 409)
    assert again["detail"] == "the specimen is collected; it cannot become collected"
    await post(bench, token, f"{specimen}/receive")
    child = (await post(bench, token, f"{specimen}/aliquot", tests=["HGB"]))["specimen"]
    assert child["barcode"] == f"{barcode}-1"
    await post(bench, token, f"{specimen}/move", rack="R1", position="A1")
    shown = (await bench.get(f"/api/specimens/barcode/{barcode}", token)).json
    assert shown == (await bench.get(specimen, token)).json
    assert (shown["specimen"]["rack"], shown["specimen"]["position"]) == ("R1", "A1")
    assert [one["barcode"] for one in shown["aliquots"]] == [child["barcode"]]
    assert [one["action"] for one in shown["history"]] == ["create", "collect", "receive", "aliquot", "store"]
    stored = (await bench.get("/api/specimens?rack=R1&state=stored", token)).json
    assert [one["barcode"] for one in stored["specimens"]] == [barcode]
    done = await post(bench, token, f"{specimen}/reject", reason="clotted", recollect=True)
    assert (done["rejected"], done["again"]["state"]) == (["HGB"], "expected")
    assert (await bench.get(f"/api/specimens/{child['id']}", token)).json["specimen"]["state"] == "rejected"


async def test_a_label_says_whose_it_is_in_both_languages_of_printers(bench: Bench, token: str) -> None:
    made = await post(bench, token, "/api/orders", 201, **ORDER)
    path = f"/api/specimens/{made['items'][0]['specimen_id']}/label"
    svg = await bench.get(f"{path}.svg", token)
    assert (svg.status, svg.headers["Content-Type"]) == (200, "image/svg+xml; charset=utf-8")
    text = svg.body.decode()
    for said in ("Muster &amp; Söhne, Eva", "1980-05-01 4711", "BLD EDTA HGB", "STAT", made["number"]):
        assert said in text, said
    zpl = (await bench.get(f"{path}.zpl?dpmm=12&width=60", token)).body.decode()
    assert zpl.startswith("^XA\n^CI28\n^PW720\n")
    for wrong in ("?width=x", "?dpmm=9", "?height=900", "?nope=1"):
        assert (await bench.get(f"{path}.svg{wrong}", token)).status == 400
    assert (await bench.get(f"{path}.svg?width=20", token)).status == 422


@pytest.mark.parametrize(
    ("step", "body", "words"),
    [
        ("reject", {}, "reason is missing"),
        ("reject", {"reason": "ugly"}, "reason is none of expired"),
        ("reject", {"reason": "other"}, "say what the reason is"),
        ("collect", {"at": "2026-01-02T03:04:05"}, "at has no time zone"),
        ("retime", {"reason": "mistyped"}, "at is missing"),
        ("aliquot", {"nope": 1}, "nope is not known here"),
        ("reinstate", {}, "reason is missing"),
    ],
)
async def test_what_is_wrong_with_a_step_is_said(
    bench: Bench, token: str, laboratory: Laboratory, step: str, body: dict[str, Any], words: str
) -> None:
    of = await laboratory.order()
    answer = await post(bench, token, f"/api/specimens/{of['specimen']}/{step}", 422, **body)
    assert words in answer["detail"]


async def test_tests_are_added_and_orders_cancelled(bench: Bench, token: str) -> None:
    made = await post(bench, token, "/api/orders", 201, **ORDER)
    order, on = f"/api/orders/{made['id']}", made["items"][0]["specimen_id"]
    more = await post(bench, token, f"{order}/items", tests=["WBC"], specimen_id=on)
    assert [item["test_code"] for item in more["items"]] == ["HGB", "GLU", "GLU", "WBC"]
    await post(bench, token, f"{order}/items", 409, tests=["WBC"], specimen_id=on)
    one = await post(bench, token, f"{order}/cancel", reason="by mistake", items=[more["items"][3]["id"]])
    assert (one["cancelled"], one["order"]["cancelled"]) == (["WBC"], False)
    whole = await post(bench, token, f"{order}/cancel", reason="by mistake")
    assert whole["order"]["cancelled"]
    await post(bench, token, f"{order}/items", 409, specimen={"tests": ["HGB"]})
    await post(bench, token, f"{order}/cancel", 422)
    await post(bench, token, "/api/orders/00000000-0000-0000-0000-000000000001/cancel", 404, reason="x")


async def test_the_worklist_and_a_worksheet_from_waiting_to_done(bench: Bench, token: str) -> None:
    made = await post(bench, token, "/api/orders", 201, **ORDER)
    for item in made["items"]:
        await post(bench, token, f"/api/specimens/{item['specimen_id']}/receive")
    waiting = (await bench.get("/api/orders/worklist?test=GLU&ward=3B&priority=stat", token)).json
    assert [one["time_point_min"] for one in waiting["items"]] == [0, 120]
    assert (await bench.get("/api/orders/worklist?limit=1", token)).json["more"] is True
    for wrong in ("?status=verified", "?status=x", "?nope=1"):
        assert (await bench.get(f"/api/orders/worklist{wrong}", token)).status == 400
    sheet = await post(bench, token, "/api/worksheets", 201, tests=["GLU"], priorities=["stat"])
    path = f"/api/worksheets/{sheet['number']}"
    assert (await bench.get(path, token)).json == sheet
    values = [{"place": 1, "value": "5.1"}, {"place": 2, "value": "7.2", "comment": "after lunch"}]
    entered = await post(bench, token, f"{path}/entries", entries=values, version=1)
    assert [one["value"] for one in entered["results"]] == ["5.1", "7.2"]
    await post(bench, token, f"{path}/entries", 409, entries=values, version=1)
    await post(bench, token, f"{path}/entries", 422, entries=[{"place": 9, "value": "1"}])
    done = await post(bench, token, f"{path}/complete", note="lot 7")
    assert (done["state"], done["qc"]) == ("completed", "unknown")
    assert [
        one["number"] for one in (await bench.get("/api/worksheets?state=completed", token)).json["worksheets"]
    ] == [sheet["number"]]
    await post(bench, token, "/api/worksheets/W1/complete", 404)


async def test_an_emr_collects_and_cancels_and_sees_what_it_may(bench: Bench, laboratory: Laboratory) -> None:
    emr = await laboratory.client_token("system/*.cruds")
    of = await laboratory.order("B-1")
    await laboratory.result(of, "13.5", ResultStatus.PRELIMINARY, (HoldReason.QUESTIONABLE,))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute("update lab.order_item set status = 'completed' where id = $1", of["item"])
    late = await post(bench, emr, f"/api/specimens/{of['specimen']}/collect", 409, by="ward nurse")
    assert "say when it was taken" in late["detail"]
    taken = await post(
        bench, emr, f"/api/specimens/{of['specimen']}/collect", by="ward nurse", at="2026-01-02T03:04:05Z"
    )
    assert taken["specimen"]["state"] == "collected"
    shown = (await bench.get("/api/specimens/barcode/B-1", emr)).json
    assert set(shown) == {"specimen"}  # its history is the laboratory's
    kept = await post(bench, emr, f"/api/orders/{of['order']}/cancel", 409, reason="moved")
    assert kept["detail"] == "nothing can be cancelled: HGB: in progress"
    await post(bench, emr, f"/api/orders/{of['order']}/cancel", 403, reason="moved", in_progress=True)
    for path in (f"/api/specimens/{of['specimen']}/reject", "/api/worksheets"):
        await post(bench, emr, path, 403)
    for path in (f"/api/specimens/{of['specimen']}/label.svg", "/api/orders/worklist", "/api/worksheets"):
        assert (await bench.get(path, emr)).status == 403


async def test_a_mistyped_barcode_is_told(bench: Bench, token: str) -> None:
    answer = await bench.get("/api/specimens/barcode/26000001012", token)
    assert answer.status == 404
    assert "check digit is wrong" in answer.json["detail"]


async def test_a_specimens_journey_is_for_staff_who_may_read_messages_and_is_audited(
    bench: Bench, laboratory: Laboratory
) -> None:
    of = await laboratory.order(barcode="J-1")
    result_id = await laboratory.result(of, "13.3303", ResultStatus.REGISTERED, (HoldReason.QUESTIONABLE,))
    director = await laboratory.user_token(Role.LABORATORY_DIRECTOR)
    shown = (await bench.get("/api/specimens/barcode/J-1/journey", director)).json
    assert shown == (await bench.get("/api/specimens/J-1/journey", director)).json
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        printed = json_response(await trace(connection, "J-1")).text
    assert shown == orjson.loads(printed or "")
    (result,) = shown["results"]
    assert (result["current"]["id"], result["current"]["held"]) == (str(result_id), ["questionable"])
    assert [version["version"] for version in result["versions"]] == [1]
    await bench.writer.flush()
    rows = [row for row in await laboratory.audit("trace") if row["entity_id"] == of["specimen"]]
    assert [(row["entity_kind"], row["actor_kind"]) for row in rows] == [("specimen", "user")] * 2
    told = [row for row in await laboratory.audit("disclose") if row["entity_id"] == of["patient"]]
    assert len(told) == 2
    client = await laboratory.client_token("system/*.cruds")
    viewer = await laboratory.user_token(Role.VIEWER)
    for token, path, status in (
        (client, "J-1/journey", 403), (viewer, "barcode/J-1/journey", 403), (director, "J-0/journey", 404),
    ):  # fmt: skip
        assert (await bench.get(f"/api/specimens/{path}", token)).status == status, path
