"""`/api/legal-holds`: set, seen and ended by whom the permissions allow, each with its reason in the audit trail."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from interface.api.context import Route
from interface.domain.permissions import Role
from tests.api.bench import Bench, Laboratory, found_laboratory

PATH = "/api/legal-holds"


async def use_holds(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    """Every route about holds, with one that is there: for tests that ask all routes."""
    key, options = "", dict[str, Any]()
    if route.method == "POST":
        options["json"] = {"reason": "claim 17/2026"}
    if route.path.endswith("/end"):
        key = (await bench.ask("POST", PATH, token, **options)).json["hold"]["id"]
    answer = await bench.ask(route.method, route.path.replace("{id}", key), token, **options)
    assert answer.status < 300, answer.body
    return answer.status


async def test_a_hold_is_set_listed_and_ended(bench: Bench, laboratory: Laboratory) -> None:
    director = await laboratory.user_token(Role.LABORATORY_DIRECTOR)
    of = await laboratory.order()
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        number = await connection.fetchval("select number from lab.lab_order where id = $1", of["order"])
    bodies = ({"patient": str(of["patient"])}, {"order": number}, dict[str, str]())
    ids = []
    for body in bodies:
        for _ in range(2):
            made = await bench.ask("POST", PATH, director, json={**body, "reason": "claim 17/2026"})
            assert made.status == 201, made.body
        ids.append(made.json["hold"]["id"])
    listed = (await bench.get(PATH, director)).json["holds"]
    assert [(one["id"], one["kind"]) for one in listed] == list(
        zip(ids, ("patient", "order", "organization"), strict=True)
    )
    assert [one["subject"] for one in listed[:2]] == [str(of["patient"]), number]
    for id in ids:
        assert (await bench.ask("POST", f"{PATH}/{id}/end", director, json={"reason": "settled"})).status == 200
        assert (await bench.ask("POST", f"{PATH}/{id}/end", director, json={"reason": "settled"})).status == 404
    assert (await bench.get(PATH, director)).json == {"holds": []}
    told = [row["detail"] for row in await laboratory.audit("end") if row["entity_kind"] == "legal_hold"]
    assert [one["reason"] for one in told] == ["settled"] * 3


async def test_what_is_no_hold_is_refused(bench: Bench, laboratory: Laboratory) -> None:
    director = await laboratory.user_token(Role.LABORATORY_DIRECTOR)
    for body, status in (
        ({"reason": " "}, 422), ({}, 422), ({"order": "2026-999999", "reason": "why"}, 404),
        ({"patient": str(uuid4()), "reason": "why"}, 404), ({"patient": "a", "order": "b", "reason": "why"}, 422),
    ):  # fmt: skip
        assert (await bench.ask("POST", PATH, director, json=body)).status == status
    assert (await bench.ask("POST", f"{PATH}/{uuid4()}/end", director, json={"reason": "why"})).status == 404


async def test_who_may_not_neither_holds_nor_sees_nor_ends(
    bench: Bench, laboratory: Laboratory, database: Any
) -> None:  # fmt: skip
    made = await bench.ask(
        "POST", PATH, await laboratory.user_token(Role.LABORATORY_DIRECTOR), json={"reason": "claim 17/2026"}
    )
    end = f"{PATH}/{made.json['hold']['id']}/end"
    other = await found_laboratory(database)
    theirs = await other.user_token(Role.ADMINISTRATOR)
    assert (await bench.get(PATH, theirs)).json == {"holds": []}
    assert (await bench.ask("POST", end, theirs, json={"reason": "why"})).status == 404
    auditor, client = await laboratory.user_token(Role.AUDITOR), await laboratory.client_token("system/*.rs")
    assert (await bench.get(PATH, auditor)).status == 200
    for token in (auditor, client, await laboratory.user_token(Role.TECHNOLOGIST)):
        for path in (PATH, end):
            assert (await bench.ask("POST", path, token, json={"reason": "why"})).status == 403
    assert (await bench.get(PATH, client)).status == 403
