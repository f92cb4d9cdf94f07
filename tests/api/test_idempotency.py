"""A change under a key of the client's own is made once, and answered the same each time it is sent (docs/rest.md)."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import orjson
import pytest

from interface.api.idempotency import HEADER, REPLAYED
from interface.domain.permissions import Role
from interface.flow import actors
from interface.store import idempotency
from interface.store.db import Connection
from interface.store.idempotency import Kept
from tests.api.bench import Answer, Bench, Laboratory
from tests.api.test_fhir_orders import FHIR, patient


def someone() -> dict[str, Any]:
    return {"family": f"Family{uuid4().hex[:8]}", "given": "Ana", "identifiers": [{"value": uuid4().hex}]}


async def post(bench: Bench, token: str, key: str, body: dict[str, Any], path: str = "/api/patients") -> Answer:
    return await bench.ask("POST", path, token, json=body, headers={HEADER: key})


async def count(laboratory: Laboratory, family: str) -> int:
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        found: int = await connection.fetchval("select count(*) from lab.patient where family = $1", family)
        return found


async def test_the_same_request_again_is_answered_as_the_first_and_nothing_is_made(
    bench: Bench, laboratory: Laboratory
) -> None:
    token, key, body = await laboratory.user_token(Role.TECHNOLOGIST), uuid4().hex, someone()
    del body["identifiers"]  # with them the patient would be found again anyway
    first = await post(bench, token, key, body)
    again = await post(bench, token, key, body)
    assert (first.status, again.status) == (201, 201)
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert again.body == first.body
    assert again.headers["Location"] == first.headers["Location"]
    assert await count(laboratory, body["family"]) == 1
    other = await post(bench, token, uuid4().hex, body)
    assert other.json["id"] != first.json["id"], "another key is another request"


async def test_who_is_answered_again_stands_in_the_audit_again(bench: Bench, laboratory: Laboratory) -> None:
    token, key, body = await laboratory.user_token(Role.TECHNOLOGIST), uuid4().hex, someone()
    first = await post(bench, token, key, body)
    again = await post(bench, token, key, body)
    await bench.writer.flush()
    [row] = [
        row for row in await laboratory.audit("replay") if row["detail"]["request"] == again.headers["X-Request-Id"]
    ]
    assert (row["outcome"], row["detail"]["route"]) == ("ok", "/api/patients")
    assert row["detail"]["location"] == first.headers["Location"]


async def test_a_key_of_another_request_or_of_another_user_stands_for_nothing(
    bench: Bench, laboratory: Laboratory
) -> None:
    token, other, key = await laboratory.user_token(Role.TECHNOLOGIST), "", uuid4().hex
    first = await post(bench, token, key, someone())
    changed = await post(bench, token, key, someone())
    assert (changed.status, changed.json["code"]) == (422, "business-rule")
    other = await laboratory.user_token(Role.TECHNOLOGIST)
    mine = await post(bench, other, key, someone())
    assert mine.status == 201
    assert mine.json["id"] != first.json["id"]


async def test_what_was_looked_at_is_part_of_a_request(bench: Bench, laboratory: Laboratory) -> None:
    token, key = await laboratory.user_token(Role.TECHNOLOGIST), uuid4().hex
    path = (await post(bench, token, uuid4().hex, someone())).headers["Location"]

    async def change(version: str) -> Answer:
        headers = {HEADER: key, "If-Match": version}
        return await bench.ask("PATCH", path, token, json={"given": "Eva"}, headers=headers)

    assert [(await change("1")).status, (await change("1")).status, (await change("2")).status] == [200, 200, 422]


async def test_what_was_refused_is_not_kept_and_leaves_nothing(bench: Bench, laboratory: Laboratory) -> None:
    token, key = await laboratory.user_token(Role.TECHNOLOGIST), uuid4().hex
    patient = someone()
    wrong: dict[str, Any] = {"specimens": [{"tests": ["NO-SUCH-TEST"]}], "patient": patient}
    refused = await post(bench, token, key, wrong, "/api/orders")
    assert refused.status == 422
    assert await count(laboratory, patient["family"]) == 0
    right = wrong | {"specimens": [{"tests": ["HGB"]}]}
    made = await post(bench, token, key, right, "/api/orders")
    assert made.status == 201
    assert (await post(bench, token, key, right, "/api/orders")).json == made.json


async def test_many_at_once_are_one(bench: Bench, laboratory: Laboratory) -> None:
    token, key, body = await laboratory.user_token(Role.TECHNOLOGIST), uuid4().hex, someone()
    del body["identifiers"]
    answers = await asyncio.gather(*(post(bench, token, key, body) for _ in range(6)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert sorted(REPLAYED in answer.headers for answer in answers) == [False, True, True, True, True, True]
    assert await count(laboratory, body["family"]) == 1


async def test_an_answer_that_cannot_be_kept_is_not_given_and_its_change_not_made(
    bench: Bench, laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change and its answer are one transaction: there is no moment at which one is there without the other."""
    token, key, body = await laboratory.user_token(Role.TECHNOLOGIST), uuid4().hex, someone()

    async def lost(connection: Connection, actor_id: object, key: str, kept: Kept) -> None:
        raise RuntimeError("the machine stops here")

    with monkeypatch.context() as patch:
        patch.setattr(idempotency, "keep", lost)
        assert (await post(bench, token, key, body)).status == 500
    assert await count(laboratory, body["family"]) == 0
    assert (await post(bench, token, key, body)).status == 201


@pytest.mark.parametrize("key", ["", "with space", "x" * 201])
async def test_a_key_that_is_none_is_refused(bench: Bench, laboratory: Laboratory, key: str) -> None:
    token = await laboratory.user_token(Role.TECHNOLOGIST)
    answer = await post(bench, token, key, someone())
    assert (answer.status, answer.json["code"]) == (400, "value")


async def test_what_was_answered_is_forgotten_whoever_asks_next(bench: Bench, laboratory: Laboratory) -> None:
    """An answer may be of a patient: it does not stay until its client comes again."""
    token, old, new = await laboratory.user_token(Role.TECHNOLOGIST), uuid4().hex, uuid4().hex
    for key in (old, new):
        await post(bench, token, key, someone())
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute(
            "update lab.idempotency_key set created_at = now() - make_interval(hours => $1, secs => 1) where key = $2",
            idempotency.KEPT_HOURS, old,
        )  # fmt: skip
        assert await idempotency.forget(connection) == 1
        assert await connection.fetchval("select key from lab.idempotency_key") == new


async def test_what_a_token_may_not_read_is_not_answered_again_to_it(bench: Bench, laboratory: Laboratory) -> None:
    """The whole patient was, though the token had been asked for to write and not to read."""
    made, key = await laboratory.client("system/Patient.cr"), uuid4().hex
    headers = FHIR | {HEADER: key, "Prefer": "return=representation"}

    async def created(scope: str) -> Answer:
        issued = await actors.client_token(laboratory.database, made.client_id, made.secret, scope, 600)
        return await bench.ask("POST", "/fhir/Patient", issued.token, data=orjson.dumps(patient()), headers=headers)

    first = await created("system/Patient.cr")
    assert (first.status, first.json["resourceType"]) == (201, "Patient")
    blind = await created("system/Patient.c")
    assert (blind.status, blind.json["resourceType"]) == (422, "OperationOutcome")
    assert "the same by a token of other scopes, and that was done" in blind.json["issue"][0]["diagnostics"]
    assert (await created("system/Patient.cr")).body == first.body
