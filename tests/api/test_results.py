"""Reviewing results and telling critical ones over REST: who may, what is answered, and what an EMR sees of it."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from interface.api import criticals, results
from interface.api.context import Route
from interface.domain.model import HoldReason, ResultStatus, Step
from interface.domain.permissions import Role
from interface.domain.review import ReviewStep
from interface.store.explanations import write_steps
from tests.api.bench import Bench, Laboratory, found_laboratory
from tests.api.review_use import BODIES, critical, use_review

ROUTES = (*results.ROUTES, *criticals.ROUTES)
WITH_ID = [route for route in ROUTES if "{id}" in route.path]


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.user_token(Role.TECHNOLOGIST, Role.LABORATORY_DIRECTOR)


async def preliminary(laboratory: Laboratory, *held: HoldReason, **order: Any) -> str:
    status = ResultStatus.REGISTERED if held else ResultStatus.PRELIMINARY
    return str(await laboratory.result(await laboratory.order(**order), status=status, held=held))


async def test_every_step_has_its_route_and_every_use_of_one_is_audited(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    paths = {route.path for route in ROUTES}
    assert {f"/api/results/{{id}}/{step.value.replace('_', '-')}" for step in ReviewStep} <= paths
    for route in ROUTES:
        before = await _audited(laboratory)
        assert await use_review(bench, laboratory, token, route) < 300
        await bench.writer.flush()
        data = route.path != "/api/results/comments"  # what is in a file that everybody has
        assert (await _audited(laboratory) > before) == data, route


async def _audited(laboratory: Laboratory) -> int:
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        count: int = await connection.fetchval("select count(*) from lab.audit_event where actor_kind = 'user'")
        return count


def sent(route: Route) -> dict[str, Any]:
    body = BODIES.get(route.path.rsplit("/", 1)[-1], {"comment": "seen"})
    looked_at = {"version": 1} if route.path.startswith("/api/results/{id}/") else {}
    return {} if route.method == "GET" else {"json": body | looked_at}


async def test_another_laboratory_has_none_of_these_ids(bench: Bench, laboratory: Laboratory) -> None:
    stranger = await found_laboratory(laboratory.database)
    tokens = [await stranger.user_token(Role.TECHNOLOGIST), await stranger.client_token("system/*.cruds")]
    result_id, task_id = await critical(laboratory)
    for route in WITH_ID:
        key = task_id if "/criticals/" in route.path else result_id
        for who in tokens:
            answer = await bench.ask(route.method, route.path.replace("{id}", str(key)), who, **sent(route))
            assert answer.status in (403, 404), route
    batch = {"step": "release", "results": [{"id": str(result_id), "version": 1}]}
    answer = await bench.ask("POST", "/api/results/batch", tokens[0], json=batch)
    assert (answer.json["done"], answer.json["results"][0]["error"]["code"]) == (0, "not-found")


async def test_an_emr_takes_no_step_and_sees_no_task(bench: Bench, laboratory: Laboratory) -> None:
    emr = await laboratory.client_token("system/*.cruds")
    result_id, task_id = await critical(laboratory)
    for route in ROUTES:
        if route.path in ("/api/results", "/api/results/{id}"):
            continue
        key = task_id if "/criticals/" in route.path else result_id
        assert (await bench.ask(route.method, route.path.replace("{id}", str(key)), emr, **sent(route))).status == 403
    assert (await bench.get(f"/api/results/{result_id}", emr)).status == 404
    waiting = await bench.get("/api/results?queue=all", emr)
    assert waiting.json == {"results": [], "reasons": {}, "next": None}


async def test_who_only_reads_takes_no_step(bench: Bench, laboratory: Laboratory) -> None:
    for role in (Role.VIEWER, Role.PHLEBOTOMIST, Role.AUDITOR):
        token = await laboratory.user_token(role)
        if role is Role.VIEWER:  # the first user of a laboratory is its administrator too
            token = await laboratory.user_token(role)
        result_id, task_id = await critical(laboratory)
        for route in WITH_ID:
            if route.method != "GET":
                key = task_id if "/criticals/" in route.path else result_id
                answer = await bench.ask(route.method, route.path.replace("{id}", str(key)), token, **sent(route))
                assert answer.status == 403, (role, route)


async def test_a_queue_is_ordered_filtered_and_counted(bench: Bench, laboratory: Laboratory, token: str) -> None:
    first = await preliminary(laboratory, HoldReason.DELTA, HoldReason.RULE)
    second = await preliminary(laboratory)
    urgent = await preliminary(laboratory, HoldReason.DELTA)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute(
            "update lab.lab_order o set priority = 'stat', ward = '3b' from lab.result r"
            " where r.order_id = o.id and r.id = $1", UUID(urgent),
        )  # fmt: skip
    answer = (await bench.get("/api/results?queue=all", token)).json
    assert [row["id"] for row in answer["results"]] == [urgent, first, second]
    assert answer["reasons"] == {"delta": 2, "rule": 1, "": 1}
    row = answer["results"][0]
    assert (row["priority"], row["ward"], row["patient"], row["held"]) == ("stat", "3b", "Muster, Eva Maria", ["delta"])
    for query, expected in (
        ("queue=held", [urgent, first]), ("queue=preliminary", [second]), ("queue=all&reason=rule", [first]),
        ("queue=all&ward=3b", [urgent]), ("queue=all&priority=stat", [urgent]), ("queue=all&analyzer=hema&limit=500",
        [urgent, first, second]), ("queue=all&analyzer=other", []), ("queue=all&test=HGB", [urgent, first, second]),
        ("queue=all&older_than_min=1", []), ("queue=changed", []), ("queue=verified", []),
        (f"queue=all&patient_id={row['patient_id']}", [urgent]), (f"queue=all&barcode={row['barcode']}x", []),
    ):  # fmt: skip
        found = (await bench.get(f"/api/results?{query}", token)).json["results"]
        assert [one["id"] for one in found] == expected, query
    seen, link = [], "/api/results?queue=all&limit=1"
    while link:
        page = (await bench.get(link, token)).json
        seen += [one["id"] for one in page["results"]]
        link = page["next"]
    assert seen == [urgent, first, second]


@pytest.mark.parametrize(
    "query", ["queue=x", "queue=all&held=true", "queue=all&status=final", "ward=3b", "queue=all&older_than_min=-1",
              "queue=all&reason=nonsense", "reason=delta", "queue=all&priority=soon"],
)  # fmt: skip
async def test_a_wrong_question_of_a_queue_is_refused(bench: Bench, token: str, query: str) -> None:
    assert (await bench.get(f"/api/results?{query}", token)).status == 400


async def test_many_are_answered_each_or_all_or_none(bench: Bench, laboratory: Laboratory, token: str) -> None:
    good, held = await preliminary(laboratory), await preliminary(laboratory, HoldReason.PATIENT_MISMATCH)
    every: dict[str, Any] = {"step": "release", "results": [{"id": id, "version": 1} for id in (good, held)]}
    none = await bench.ask("POST", "/api/results/batch", token, json=every | {"all_or_none": True})
    assert (none.status, none.json["done"], none.json["refused"]) == (409, 0, 1)
    assert [row["result"] for row in none.json["results"]] == [None, None]
    assert (await bench.get(f"/api/results/{good}", token)).json["result"]["status"] == "preliminary"
    each = await bench.ask("POST", "/api/results/batch", token, json=every)
    assert (each.status, each.json["done"], each.json["refused"]) == (200, 1, 1)
    done, refused = each.json["results"]
    assert (done["result"]["status"], done["error"]) == ("final", None)
    assert (refused["result"], refused["error"]["code"]) == (None, "conflict")
    assert "patient_mismatch" in refused["error"]["detail"]
    stale = {"step": "retract", "comment": "wrong", "results": [{"id": good, "version": 1}]}
    [answer] = (await bench.ask("POST", "/api/results/batch", token, json=stale)).json["results"]
    assert "version 1 was looked at" in answer["error"]["detail"]


async def test_who_takes_several_back_is_told_what_was_compared_with_them(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    of = await laboratory.order()
    first = str(await laboratory.result(of))
    version = (await bench.get(f"/api/results/{first}", token)).json["result"]["version_id"]
    delta = write_steps([Step("delta", "ok", "", inputs={"previous": version})])
    later = await laboratory.result(of, "14.10", steps=delta)
    other = {"id": await preliminary(laboratory), "version": 1}
    body = {"step": "retract", "comment": "another tube", "results": [{"id": first, "version": 1}, other]}
    answer = (await bench.ask("POST", "/api/results/batch", token, json=body)).json
    assert (answer["done"], [row["result_id"] for row in answer["look_again"]]) == (1, [str(later)])
    body = {"step": "release", "results": [other]}
    assert "look_again" not in (await bench.ask("POST", "/api/results/batch", token, json=body)).json


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"step": "nonsense"}, "step is none of"),
        ({"step": None}, "step is missing"),
        ({"results": []}, "1 to 500"),
        ({"results": [{"version": 1}]}, "each of results has an id"),
        ({"results": [{"id": str(UUID(int=1))}]}, "and the version that was looked at"),
        ({"results": [{"id": str(UUID(int=1)), "version": 1}] * 2}, "each once"),
        ({"nonsense": 1}, "nonsense is not known"),
    ],
)
async def test_a_wrong_batch_is_refused(bench: Bench, token: str, change: dict[str, Any], says: str) -> None:
    body = {"step": "release", "results": [{"id": str(uuid4()), "version": 1}]} | change
    answer = await bench.ask("POST", "/api/results/batch", token, json=body)
    assert answer.status == 422
    assert says in answer.json["detail"]


async def test_two_batches_at_once_that_name_the_same_results_release_each_once(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    ids = [await preliminary(laboratory) for _ in range(6)]
    orders = (ids, ids[::-1], ids[3:] + ids[:3])
    bodies = [
        {"step": "release", "results": [{"id": id, "version": 1} for id in order], "all_or_none": True}
        for order in orders
    ]
    answers = await asyncio.gather(*(bench.ask("POST", "/api/results/batch", token, json=body) for body in bodies))
    assert {answer.status for answer in answers} == {200}
    assert len(await laboratory.audit("release")) == len(ids)


async def test_a_released_result_is_corrected_commented_and_retracted_before_the_emrs_eyes(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    result_id = await preliminary(laboratory)
    emr = await laboratory.client_token("system/*.rs")

    async def step(name: str, **body: Any) -> Any:
        seen = (await bench.get(f"/api/results/{result_id}", token)).json["result"]["version"]
        answer = await bench.ask("POST", f"/api/results/{result_id}/{name}", token, json=body | {"version": seen})
        assert answer.status == 200, answer.body
        return (await bench.get(f"/fhir/Observation/{result_id}", emr)).json

    assert (await step("release"))["status"] == "final"
    commented = await step("comment", code="HEMOLYSED")
    assert (commented["status"], commented["note"][-1]["text"][:12]) == ("amended", "The specimen")
    corrected = await step("correct", value="9.10", comment="typing error", version=3)
    assert (corrected["status"], corrected["valueQuantity"]["value"]) == ("corrected", 9.1)
    assert b'"value":9.1' in (await bench.get(f"/fhir/Observation/{result_id}", emr)).body
    retracted = await step("retract", comment="wrong tube")
    assert retracted["status"] == "entered-in-error"
    assert "valueQuantity" not in retracted and "interpretation" not in retracted
    assert retracted["dataAbsentReason"]["coding"][0]["code"] == "error"
    report = (await bench.get("/fhir/DiagnosticReport", emr)).json["entry"][0]["resource"]
    assert report["status"] == "entered-in-error"
    shown = (await bench.get(f"/api/results/{result_id}", emr)).json["result"]
    assert (shown["value"], shown["number"], shown["raw_value"]) == ("", None, "")
    history = (await bench.get(f"/api/results/{result_id}", token)).json["versions"]
    assert [one["version"]["status"] for one in history] == [
        "preliminary", "final", "amended", "corrected", "entered-in-error",
    ]  # fmt: skip


async def test_another_run_takes_the_place_of_the_one_that_was_reported(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    order = await laboratory.order()
    runs = [str(await laboratory.result(order, value, ResultStatus.PRELIMINARY)) for value in ("13.5", "9.1")]
    emr = await laboratory.client_token("system/*.rs")
    for name, body in (
        ("release", {"version": 1}),
        ("release", {"version": 1, "comment": "the first was clotted", "accept_hold": True}),
    ):
        run = runs["comment" in body]
        answer = await bench.ask("POST", f"/api/results/{run}/{name}", token, json=body)
        assert answer.status == 200, answer.body
    seen = (await bench.get("/fhir/Observation", emr)).json["entry"]
    statuses = {entry["resource"]["id"]: entry["resource"]["status"] for entry in seen}
    assert statuses == {runs[0]: "entered-in-error", runs[1]: "final"}
    assert (await bench.get("/fhir/DiagnosticReport", emr)).json["entry"][0]["resource"]["status"] == "corrected"


async def test_a_critical_result_is_told_over_rest(bench: Bench, laboratory: Laboratory, token: str) -> None:
    result_id, task_id = await critical(laboratory)
    said = (await bench.get("/api/results/critical", token)).json
    (task,), more = said["criticals"], said["more"]
    await critical(laboratory)
    assert not more and (await bench.get("/api/results/critical?limit=1", token)).json == said | {"more": True}
    assert (task["id"], task["state"], task["result_id"]) == (str(task_id), "open", str(result_id))
    assert (await bench.get("/api/results/critical?overdue=true", token)).json["criticals"] == []
    path = f"/api/criticals/{task_id}"
    early = await bench.ask("POST", f"{path}/close", token, json={})
    assert (early.status, early.json["code"]) == (409, "conflict")
    tried = await bench.ask("POST", f"{path}/attempt", token, json={"obstacle": "busy", "version": 1})
    assert (tried.json["critical"]["state"], tried.json["critical"]["version"]) == ("attempted", 2)
    stale = await bench.ask("POST", f"{path}/notify", token, json={"person": "ward", "version": 1})
    assert stale.status == 409
    nobody = await bench.ask("POST", f"{path}/notify", token, json={"read_back": True})
    assert (nobody.status, "say who was told" in nobody.json["detail"]) == (422, True)
    for name, body in (("notify", BODIES["notify"]), ("close", {"version": 3})):
        answer = await bench.ask("POST", f"{path}/{name}", token, json=body)
        assert answer.status == 200, answer.body
    shown = (await bench.get(path, token)).json
    assert (shown["critical"]["state"], shown["critical"]["notified"]) == ("closed", "ward 3, nurse Meier")
    assert [event["what"] for event in shown["events"]] == ["opened", "attempted", "notified", "closed"]
    (other,) = (await bench.get("/api/results/critical", token)).json["criticals"]
    assert other["id"] != str(task_id)


async def test_only_what_nobody_saw_or_heard_is_withdrawn(bench: Bench, laboratory: Laboratory, token: str) -> None:
    async def withdraw(task_id: UUID) -> Any:
        return await bench.ask("POST", f"/api/criticals/{task_id}/withdraw", token, json={"comment": "haemolysed"})

    async def take(result_id: UUID, step: str) -> None:
        body = {"comment": "haemolysed", "version": 2 if step == "retract" else 1}
        assert (await bench.ask("POST", f"/api/results/{result_id}/{step}", token, json=body)).status == 200

    result_id, task_id = await critical(laboratory)
    assert "somebody must be told" in (await withdraw(task_id)).json["detail"]
    await take(result_id, "reject")
    assert (await withdraw(task_id)).json["critical"]["state"] == "withdrawn"
    result_id, task_id = await critical(laboratory)
    await take(result_id, "release")
    await take(result_id, "retract")
    refused = await withdraw(task_id)
    assert (refused.status, "or released" in refused.json["detail"]) == (409, True)
    told_id, told_task = await critical(laboratory)
    await bench.ask("POST", f"/api/criticals/{told_task}/notify", token, json={"person": "ward 3"})
    await take(told_id, "reject")
    assert (await withdraw(told_task)).status == 409


async def test_the_policy_is_the_directors(bench: Bench, laboratory: Laboratory, token: str) -> None:
    body = {"test": "HGB", "two_steps": True, "critical_minutes": [5, 10]}
    done = await bench.ask("PUT", "/api/review/policies", token, json=body)
    assert done.json["policies"] == [body]
    assert (await bench.get("/api/review/policies", token)).json["policies"] == [body]
    for wrong in ({"test": "NONE"}, {"critical_minutes": [10, 5]}, {"critical_minutes": [0]}):
        assert (await bench.ask("PUT", "/api/review/policies", token, json=wrong)).status == 422
    technologist = await laboratory.user_token(Role.TECHNOLOGIST)
    assert (await bench.ask("PUT", "/api/review/policies", technologist, json=body)).status == 403
    result_id = await preliminary(laboratory)
    alone = await bench.ask("POST", f"/api/results/{result_id}/release", token, json={"version": 1})
    assert "two people" in alone.json["detail"]
