"""The laboratory's own interface: orders in, results reviewed, and what every answer has."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from interface.api.context import LinkStatus, Readiness
from interface.api.paging import PAGE_LIFETIME_S, NextPage, Seal
from interface.domain.model import HoldReason, ResultStatus
from interface.domain.permissions import Role
from interface.errors import ApiError
from interface.store.db import Database
from interface.store.query import Cursor
from interface.store.search.engine import Place
from tests.api.bench import PASSWORD, Bench, Laboratory, serving

ORDER: dict[str, Any] = {
    "patient": {
        "identifiers": [{"authority": "urn:hospital", "value": "4711", "type": "MR"}],
        "family": "Muster",
        "given": "Eva",
        "birth_date": "1980-05-01",
        "sex": "female",
    },
    "placer_number": "P-1",
    "priority": "stat",
    "specimens": [{"barcode": "SP-1", "tests": ["HGB", "WBC"], "collected_at": "2026-01-02T03:04:05+07:00"}],
}


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.user_token(Role.TECHNOLOGIST)


async def test_an_order_is_made_and_read_back_by_id_number_and_emr(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    made = await bench.ask("POST", "/api/orders", token, json=ORDER)
    assert made.status == 201, made.body
    assert made.headers["Location"] == f"/api/orders/{made.json['id']}"
    assert [item["test_code"] for item in made.json["items"]] == ["HGB", "WBC"]
    for key in (made.json["id"], made.json["number"], "P-1"):
        assert (await bench.get(f"/api/orders/{key}", token)).json == made.json
    again = await bench.ask("POST", "/api/orders", token, json=ORDER)
    assert again.json["id"] == made.json["id"]
    patient = (await bench.get(f"/api/patients/{made.json['patient_id']}", token)).json
    assert (patient["family"], patient["birth_date"]) == ("Muster", "1980-05-01")
    emr = await laboratory.client_token("system/*.rs")
    request = (await bench.get("/fhir/ServiceRequest?identifier=P-1&code=WBC", emr)).json["entry"][0]["resource"]
    assert (request["priority"], request["status"]) == ("stat", "active")
    specimen = (await bench.get("/fhir/Specimen?accession=SP-1", emr)).json["entry"][0]["resource"]
    assert specimen["collection"]["collectedDateTime"] == "2026-01-01T20:04:05Z"
    assert len(await laboratory.audit("create")) >= 2


async def test_a_client_with_the_scope_may_order(bench: Bench, laboratory: Laboratory) -> None:
    emr = await laboratory.client_token("system/ServiceRequest.c", "system/Patient.c")
    assert (await bench.ask("POST", "/api/orders", emr, json=ORDER)).status == 201
    assert (await bench.get("/api/orders", emr)).status == 403


async def test_a_client_that_may_register_nobody_orders_for_who_is_there(bench: Bench, laboratory: Laboratory) -> None:
    """As over FHIR, where each entry needs its scope."""
    emr, user = (
        await laboratory.client_token("system/ServiceRequest.cu"),
        await laboratory.user_token(Role.TECHNOLOGIST),
    )
    refused = await bench.ask("POST", "/api/orders", emr, json=ORDER)
    assert (refused.status, "system/Patient.c" in refused.json["detail"]) == (403, True), refused.body
    assert (await bench.get("/api/patients", user)).json["patients"] == []
    made = await bench.ask("POST", "/api/orders", user, json=ORDER)
    other = {**ORDER, "placer_number": "P-2", "specimens": [{"tests": ["HGB"]}]}
    known = await bench.ask("POST", "/api/orders", emr, json=other)
    assert known.status == 201, known.body
    elsewhere = {**other, "placer_number": "P-3", "patient": {"family": "Neu"}}
    replaced = await bench.ask(
        "POST", f"/api/orders/{made.json['id']}/replace", emr, json={"reason": "wrong", "order": elsewhere}
    )
    assert replaced.status == 403, replaced.body
    assert len((await bench.get("/api/patients", user)).json["patients"]) == 1


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"specimens": []}, 422, "at least one specimen"),
        ({"specimens": [{"tests": ["NOPE"]}]}, 422, "no test or panel"),
        ({"prioritty": "stat"}, 422, "prioritty is not known"),
        ({"priority": "soon"}, 422, "priority is none of"),
        ({"patient": {"family": "M", "birth_date": "1.5.1980"}}, 422, "patient.birth_date is not a date"),
        ({"specimens": [{"tests": "HGB"}]}, 422, "specimens[0].tests is not a list"),
        ({"specimens": [{"tests": ["HGB"], "collected_at": "2026-01-02T03:04:05"}]}, 422, "no time zone"),
        ({"clinical_history": "\0"}, 422, "clinical_history holds a character"),
        ({"patient": None, "patient_id": "x"}, 422, "patient_id is not an id"),
    ],
)
async def test_a_wrong_order_is_refused_with_its_faults(
    bench: Bench, token: str, change: dict[str, Any], status: int, says: str
) -> None:
    answer = await bench.ask("POST", "/api/orders", token, json=ORDER | change)
    assert answer.status == status
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert says in answer.json["detail"]
    assert "1980" not in answer.json["detail"], "a problem names members, not a patient's data"


async def test_all_faults_of_a_body_are_said_at_once(bench: Bench, token: str) -> None:
    body = {"priority": "soon", "specimens": [{"tests": 1, "barcode": 2}], "other": True}
    detail = (await bench.ask("POST", "/api/orders", token, json=body)).json["detail"]
    assert detail.count(";") == 3


async def test_a_body_that_is_no_json_object_is_refused(bench: Bench, token: str) -> None:
    cases: tuple[tuple[bytes, str, int], ...] = (
        (b"{", "application/json", 400),
        (b'"\xff"', "application/json", 400),
        (b"[]", "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"[" * 5000, "application/json", 400),
    )
    for data, kind, status in cases:
        answer = await bench.ask("POST", "/api/orders", token, data=data, headers={"Content-Type": kind})
        assert answer.status == status, data[:9]


async def test_a_conflict_is_409(bench: Bench, token: str) -> None:
    assert (await bench.ask("POST", "/api/orders", token, json=ORDER)).status == 201
    other = ORDER | {"priority": "routine"}
    assert (await bench.ask("POST", "/api/orders", token, json=other)).status == 409
    patient = ORDER["patient"]
    assert (await bench.ask("POST", "/api/patients", token, json=patient)).status == 409


# ---- results --------------------------------------------------------------------------------------------------------


async def test_a_result_is_released_by_a_user_and_then_seen_by_the_emr(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    result_id = await laboratory.result(await laboratory.order(), status=ResultStatus.PRELIMINARY)
    emr = await laboratory.client_token("system/*.cruds")
    assert (await bench.get(f"/fhir/Observation/{result_id}", emr)).status == 404
    assert (await bench.ask("POST", f"/api/results/{result_id}/release", emr)).status == 403
    viewer = await laboratory.user_token(Role.VIEWER)
    assert (await bench.ask("POST", f"/api/results/{result_id}/release", viewer)).status == 403
    unseen = await bench.ask("POST", f"/api/results/{result_id}/release", token, json={"comment": "seen"})
    assert (unseen.status, unseen.json["code"]) == (428, "required")
    late = await bench.ask("POST", f"/api/results/{result_id}/release", token, json={"version": 7})
    assert (late.status, late.json["code"]) == (409, "conflict")
    done = await bench.ask("POST", f"/api/results/{result_id}/release", token, json={"comment": "seen", "version": 1})
    assert (done.status, done.json["result"]["status"], done.json["result"]["version"]) == (200, "final", 2)
    assert (await bench.get(f"/fhir/Observation/{result_id}", emr)).json["status"] == "final"
    [row] = await laboratory.audit("release")
    assert (row["actor_kind"], row["entity_id"], row["address"]) == ("user", result_id, "127.0.0.1")


async def test_a_held_result_is_listed_explained_and_discarded(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    order = await laboratory.order()
    result_id = await laboratory.result(order, status=ResultStatus.REGISTERED, held=[HoldReason.PATIENT_MISMATCH])
    refused = await bench.ask("POST", f"/api/results/{result_id}/release", token, json={"comment": "x", "version": 1})
    assert (refused.status, refused.json["code"]) in ((409, "conflict"), (422, "value"))
    shown = (await bench.get(f"/api/results/{result_id}", token)).json
    assert shown["result"]["held"] == ["patient_mismatch"]
    assert [one["version"]["version"] for one in shown["versions"]] == [1]
    done = await bench.ask(
        "POST", f"/api/results/{result_id}/reject", token, json={"comment": "mixed up", "version": 1}
    )
    assert done.json["result"]["status"] == "cancelled"
    explained = (await bench.get(f"/api/results/{result_id}", token)).json["explanation"]
    assert explained[-1]["inputs"]["comment"] == "mixed up"


async def test_lists_are_paged_by_links_that_say_nothing(bench: Bench, laboratory: Laboratory, token: str) -> None:
    results = {str(await laboratory.result(await laboratory.order())) for _ in range(3)}
    seen: list[str] = []
    link: str | None = "/api/results?limit=2&test=HGB"
    while link:
        answer = (await bench.get(link, token)).json
        seen += [row["id"] for row in answer["results"]]
        link = answer["next"]
        assert link is None or (link.startswith("/api/results?cursor=") and "HGB" not in link)
    assert len(seen) == 3
    assert set(seen) == results
    for path in ("orders", "patients"):
        answer = (await bench.get(f"/api/{path}?limit=2", token)).json
        assert (len(answer[path]), len((await bench.get(answer["next"], token)).json[path])) == (2, 1)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=501", "held=yes", "status=nonsense", "patient_id=x", "nonsense=1",
              "test=a&test=b", "cursor=x&test=a", "test=%00"],
)  # fmt: skip
async def test_a_wrong_query_is_refused(bench: Bench, token: str, query: str) -> None:
    assert (await bench.get(f"/api/results?{query}", token)).status == 400


# ---- users and links ------------------------------------------------------------------------------------------------


async def test_an_administrator_makes_users_and_sees_no_password(bench: Bench, laboratory: Laboratory) -> None:
    token = await laboratory.user_token(Role.ADMINISTRATOR)
    body = {"username": "Vera", "password": PASSWORD, "roles": ["viewer"], "full_name": "Vera Muster"}
    made = await bench.ask("POST", "/api/users", token, json=body)
    assert (made.status, made.json["username"]) == (201, "vera")
    assert (await bench.ask("POST", "/api/users", token, json=body)).status == 409
    assert (await bench.ask("POST", "/api/users", token, json=body | {"password": "short"})).status == 422
    assert (await bench.ask("POST", "/api/users", token, json=body | {"roles": ["root"]})).status == 422
    listed = await bench.get("/api/users", token)
    assert {row["username"] for row in listed.json["users"]} >= {"vera"}
    assert b"argon2" not in listed.body + made.body


async def test_an_organization_sees_its_own_links(bench: Bench, laboratory: Laboratory, token: str) -> None:
    for organization_id, name in ((laboratory.organization_id, "hema-1"), (uuid4(), "theirs")):
        bench.links.append(
            LinkStatus(
                name, organization_id, "analyzer", "generic_lis2", "tcp-listen", "::1:1", True,
                leniencies={"no_checksum": 2},
            )
        )  # fmt: skip
    listed = await bench.get("/api/links", token)
    assert [(link["name"], link["leniencies"]) for link in listed.json["links"]] == [("hema-1", {"no_checksum": 2})]


# ---- every answer ---------------------------------------------------------------------------------------------------


async def test_health_readiness_and_metrics_need_no_token(bench: Bench) -> None:
    assert (await bench.get("/health")).json == {"status": "ok"}
    assert (await bench.get("/ready")).status == 200
    bench.readiness[0] = Readiness(False, True, "the database does not answer")
    ready = await bench.get("/ready")
    assert (ready.status, ready.json["ready"], ready.json["database"]) == (503, False, False)
    metrics = await bench.get("/metrics")
    assert metrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert b'route="/health"' in metrics.body


async def test_metrics_never_name_a_path(bench: Bench, laboratory: Laboratory, token: str) -> None:
    order = await laboratory.order()
    await bench.get(f"/api/patients/{order['patient']}?x=1", token)
    await bench.get("/no/such/muster-eva", token)
    body = (await bench.get("/metrics")).body
    assert b'route="/api/patients/{id}"' in body
    assert str(order["patient"]).encode() not in body
    assert b"muster" not in body


async def test_every_answer_has_its_security_headers_and_an_id(bench: Bench, token: str) -> None:
    ids = set()
    for path in ("/health", "/api/results", "/fhir/Patient", "/nothing", "/api/results/x", "/fhir/nothing"):
        for who in (token, ""):
            answer = await bench.get(path, who)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Server"] == "Labora"
            ids.add(answer.headers["X-Request-Id"])
    assert len(ids) == 12


async def test_without_a_database_the_answer_is_503_and_says_no_more(database_url: str) -> None:
    database = await Database.connect(database_url)
    async with serving(database) as bench:
        await database.close()
        for path in ("/fhir/Patient", "/api/results"):
            answer = await bench.get(path, f"lab1.{uuid4().hex}.{'A' * 43}")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
            assert b"postgres" not in answer.body.lower()
        assert (await bench.get("/health")).status == 200


async def test_a_path_that_there_is_not_is_none_without_a_database_too(database_url: str) -> None:
    """Nobody can tell then who asks, so the audit has nothing of it, and the log says that. Whoever tries another
    method on what there is has to be known: their request waits for the database."""
    database = await Database.connect(database_url)
    async with serving(database) as bench:
        await database.close()
        token = f"lab1.{uuid4().hex}.{'A' * 43}"
        with capture_logs() as logs:
            for path in ("/nothing", "/fhir/nothing"):
                assert (await bench.get(path, token)).status == 404
            assert (await bench.ask("DELETE", "/api/results", token)).status == 503
        told = [line for line in logs if line["action"] == "api.unaudited"]
        assert [line["event"] for line in told] == ["request for no path is not in the audit: no database"] * 2
        assert "nothing" not in str(told)


async def test_a_fault_inside_is_told_by_its_id_only(bench: Bench, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret of the laboratory")

    monkeypatch.setattr("interface.store.lab.find_results", fail)
    answer = await bench.get("/api/results", token)
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert answer.headers["X-Request-Id"] in answer.json["detail"]


def test_a_page_link_says_nothing_is_its_owners_and_ends() -> None:
    now = [0.0]
    seal = Seal(b"k" * 32, clock=lambda: now[0])
    actor, organization = UUID(int=1), UUID(int=2)
    at = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    page = NextPage(
        "Patient",
        actor,
        organization,
        (("name", "Muster"),),
        Cursor(at, UUID(int=3)),
        Place(("a", ""), UUID(int=4)),
        5,
        at,
    )
    name = seal.keep(page)
    assert seal.keep(page) != name
    assert seal.find(name, "Patient", actor, organization) == page
    long = replace(page, parameters=(("name", "Muster," * 500),))
    assert seal.find(seal.keep(long), "Patient", actor, organization) == long
    assert b"Muster" not in base64.urlsafe_b64decode(name + "==")
    strangers = (("Patient", UUID(int=9), organization), ("Patient", actor, actor), ("Specimen", actor, organization))
    for kind, who, where in strangers:
        with pytest.raises(ApiError, match="no longer there"):
            seal.find(name, kind, who, where)
    for wrong in ("", "x", name[:-2], name[4:], "ä" * 40, "A" * len(name), "=" * 5):
        with pytest.raises(ApiError, match="no longer there"):
            seal.find(wrong, "Patient", actor, organization)
    with pytest.raises(ApiError, match="no longer there"):
        Seal(b"l" * 32, clock=lambda: 0.0).find(name, "Patient", actor, organization)
    now[0] = PAGE_LIFETIME_S + 1
    with pytest.raises(ApiError, match="no longer there"):
        seal.find(name, "Patient", actor, organization)
