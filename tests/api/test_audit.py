"""Every route there is leaves an audit row by whoever asked, whatever it answers (DESIGN §1.6, §1.9)."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

from interface.api.app import routes
from interface.api.context import Route
from interface.domain.model import HoldReason, ResultStatus
from interface.domain.permissions import Role
from tests.api.alerts_use import use_alerts
from tests.api.bench import PASSWORD, Bench, Laboratory
from tests.api.dispatch_use import USERS as OF_DISPATCHES
from tests.api.pbrtqc_use import BODIES as OF_PBRTQC
from tests.api.qc_lots_use import LOT_BODIES
from tests.api.qc_results_use import RESULT_BODIES
from tests.api.qc_use import USERS as OF_QC
from tests.api.review_use import use_review
from tests.api.rules_use import BODIES as OF_RULES
from tests.api.rules_use import use_rules
from tests.api.specimen_use import SPECIMEN_BODIES, is_theirs, use_specimens
from tests.api.test_holds import use_holds
from tests.api.told_use import BODIES as OF_SUBSCRIPTIONS
from tests.api.told_use import use_subscriptions

WITHOUT_DATA = {
    "/api/links",
    "/api/results/comments",
}  # neither a patient's nor anybody's: what the configuration says, and whether it works
ROUTES = sorted(
    (
        route
        for route in routes()
        if not route.need.public
        and route.path not in WITHOUT_DATA
        and (route.need.permission is not None or route.need.any_actor)  # a client's own: see test_subscriptions
    ),
    key=lambda route: route.path == "/api/logout",  # last: it ends the session
)
EVERYBODY = (Role.TECHNOLOGIST, Role.LABORATORY_DIRECTOR)  # and, as the first user, administrator


BODIES: dict[str, Any] = {**SPECIMEN_BODIES, **LOT_BODIES, **RESULT_BODIES, **OF_SUBSCRIPTIONS} | {
    "/api/patients/{id}": {"version": 1, "given": "Eva"},
    "/api/patients/{id}/identifiers": {"authority": "urn:card", "value": uuid4().hex},
    "/api/patients/{id}/identifiers/end": {"authority": "urn:hospital", "value": "1", "reason": "not theirs"},
    "/api/patients/{id}/merge": {"reason": "registered twice", "into": str(uuid4())},
    "/api/patients/{id}/unmerge": {"reason": "two people"},
    "/api/providers": {"family": "Arzt"},
    "/api/providers/{id}": {"version": 1, "role": "surgeon"},
    "/api/tests/{code}": {"reason": "as printed", "name": "Haemoglobin, blood"},
    "/api/tests/{code}/deactivate": {"reason": "not done any more"},
    "/api/panels/{code}": {"reason": "new", "name": "Count", "tests": ["HGB"]},
    "/api/panels/{code}/deactivate": {"reason": "not done any more"},
    "/api/specimen-types/{code}": {"reason": "new", "name": "Something"},
    "/api/intervals": {"reason": "new", "test": "WBC", "low": "1", "specimen_type": "CSF", "source": "ours"},
    "/api/intervals/{id}": {"reason": "other lot", "low": "2"},
    "/api/intervals/{id}/end": {"reason": "not used"},
    "/api/legal-holds/{id}/end": {"reason": "released"},
    "/api/reports/settings": {"director": "dr. S. Wijaya"},
    "/api/reports/turnaround/targets": {"targets": [{"stage": "received-released", "minutes": 60}]},
}
_EVA = {"resourceType": "Patient", "name": [{"family": "Muster"}]}
_TEST = {"code": {"coding": [{"system": "urn:labora:test", "code": "HGB"}]}, "status": "active", "intent": "order"}
BODIES |= {  # over FHIR
    "/fhir": {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": _EVA, "request": {"method": "POST", "url": "Patient"}}],
    },
    "/fhir/Patient": _EVA,
    "/fhir/Patient/{id}/$everything": {"resourceType": "Parameters"},
    "/fhir/ServiceRequest": {"resourceType": "ServiceRequest", **_TEST},
    "/fhir/ServiceRequest/{id}": {"resourceType": "ServiceRequest", **_TEST, "status": "revoked"},
}
BODIES |= {
    route.path: OF_PBRTQC[word]
    for route in ROUTES
    if route.path.startswith("/api/pbrtqc/") and (word := route.path.rsplit("/", 1)[-1]) in OF_PBRTQC
}


def body_of(route: Route, barcode: str) -> Any:
    if route.path == "/api/users":
        return {"username": f"u-{uuid4().hex[:12]}", "password": PASSWORD, "roles": ["technologist"]}
    if route.path in ("/api/patients", "/api/patients/duplicates"):
        return {"family": "Muster", "identifiers": [{"value": uuid4().hex}]}
    if route.path == "/api/orders":
        return {"patient": {"family": "Muster"}, "specimens": [{"barcode": barcode, "tests": ["HGB"]}]}
    if route.path in OF_RULES:
        return OF_RULES[route.path]
    if route.path in BODIES:
        return new_of(route.path)
    return {} if route.path.endswith("/recalculate") else {"comment": "seen"}


def new_of(path: str) -> Any:
    """An interval is for other people than those there are, or it is refused."""
    return BODIES[path] | ({"priority": uuid4().int % 10**9} if path == "/api/intervals" else {})


NIL = UUID(int=0)


async def events(laboratory: Laboratory, after: UUID = NIL) -> list[Any]:
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        return await connection.fetch("select * from lab.audit_event where id > $1 order by id", after)


async def evidence_key(laboratory: Laboratory, kind: str, result_id: UUID) -> UUID | None:
    """The id of what stands behind a result, of this FHIR type."""
    asked = {
        "Organization": "select id from lab.organization", "Device": "select id from lab.analyzer",
        "Provenance": "select version_id from lab.result where id = $1",
        "AuditEvent": "select id from lab.audit_event where action = 'search' and entity_kind ~ '^[A-Z]'"
                      " limit 1",
        "Practitioner": "insert into lab.practitioner (id, organization_id) select gen_random_uuid(), id"
                        " from lab.organization returning id",
    }.get(kind)  # fmt: skip
    if asked is None:
        return None
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        id: UUID = await connection.fetchval(asked, *((result_id,) if "$1" in asked else ()))
        return id


async def use(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    """Ask for something that is there, in the way the route wants to be asked; the answer's status."""
    kind = route.path.split("/")[2] if route.path != "/fhir" else ""
    if kind in ("results", "criticals", "review"):
        return await use_review(bench, laboratory, token, route)
    if kind == "rules":
        return await use_rules(bench, laboratory, token, route)
    if (user := OF_QC.get(kind) or OF_DISPATCHES.get(kind)) is not None:
        return await user(bench, laboratory, token, route)
    if kind in ("alerts", "alert-silences"):
        return await use_alerts(bench, laboratory, token, route)
    if kind == "legal-holds":
        return await use_holds(bench, laboratory, token, route)
    if kind == "subscriptions":
        return await use_subscriptions(bench, laboratory, token, route)
    if is_theirs(route):
        return await use_specimens(bench, laboratory, token, route)
    of = await laboratory.order(mrn=(number := uuid4().hex))
    result_id = await laboratory.result(of)
    of_kind = {"Patient": "patient", "patients": "patient", "ServiceRequest": "item", "Specimen": "specimen"}
    key = of[of_kind.get(kind, "order")] if kind != "Observation" else result_id
    if kind in ("providers", "intervals"):
        made = await bench.ask("POST", f"/api/{kind}", token, json=new_of(f"/api/{kind}"))
        key = made.json["id"]
    key = await evidence_key(laboratory, kind, result_id) or key
    options: dict[str, Any] = {}
    if route.method == "POST" and route.path.endswith("_search"):
        options["data"] = {"_count": "10", "_id": str(key)} if kind == "Binary" else {"_count": "10"}
    elif route.method in ("POST", "PATCH", "PUT") and route.path != "/api/logout":
        options["json"] = body_of(route, uuid4().hex[:12])
    if route.path.endswith("/identifiers/end"):
        options["json"] = {**options["json"], "value": number}
    if route.path.endswith("merge"):
        merge = {"reason": "registered twice", "into": str((await laboratory.order())["patient"])}
        if route.path.endswith("/unmerge"):
            await bench.ask("POST", f"/api/patients/{key}/merge", token, json=merge)
        else:
            options["json"] = merge
    if (route.method, route.path) == ("POST", "/fhir/ServiceRequest"):
        options["json"] = {**options["json"], "subject": {"reference": f"Patient/{of['patient']}"}}
    if kind == "events":
        options["params"] = {"after": "0", "wait": "false"}  # it does not end of itself
    if (route.method, route.path) == ("GET", "/fhir/Binary"):
        options["params"] = {"_id": str(key)}
    if route.path == "/api/reports/qc":
        options["params"] = {"month": "2026-11"}
    code = {"panels": "PANEL", "specimen-types": "NEW"}.get(kind, "WBC")
    code = "T3U" if route.path == "/api/tests/{code}/deactivate" else code  # in no panel
    path = route.path.replace("{id}", str(key)).replace("{code}", code)
    if "{vid}" in path:
        past = await bench.get(path.removesuffix("/{vid}"), token)
        path = path.replace("{vid}", past.json["entry"][0]["resource"]["meta"]["versionId"])
    answer = await bench.ask(route.method, path, token, **options)
    assert answer.status < 300, answer.body
    return answer.status


async def test_whoever_uses_any_route_is_in_the_audit(bench: Bench, laboratory: Laboratory) -> None:
    token = await laboratory.user_token(*EVERYBODY)
    last = (await events(laboratory))[-1]["id"]
    for route in ROUTES:
        status = await use(bench, laboratory, token, route)
        await bench.writer.flush()
        new = await events(laboratory, last)
        last = new[-1]["id"] if new else last
        made = [row for row in new if row["actor_kind"] not in ("link", "rule_set")]
        # those are brought by a result, or by a plan that follows results
        assert bool(made) == (status < 300), f"{route.method} {route.path}"
        for row in made:
            assert (row["actor_kind"], row["address"]) == ("user", "127.0.0.1"), route
            assert row["actor_id"] is not None and row["actor_name"], route


async def test_what_is_answered_again_is_audited_as_a_read(bench: Bench, laboratory: Laboratory) -> None:
    """An order that exists and a result that is released already leave with the answer, though nothing changes."""
    token = await laboratory.user_token(*EVERYBODY)
    body = body_of(next(route for route in ROUTES if route.path == "/api/orders"), "SP-1") | {"placer_number": "P-1"}
    body["patient"]["identifiers"] = [{"value": "4711"}]
    result_id = await laboratory.result(await laboratory.order(), status=ResultStatus.PRELIMINARY)
    held_id = await laboratory.result(
        await laboratory.order(), status=ResultStatus.REGISTERED, held=(HoldReason.QUESTIONABLE,)
    )
    for path, content in (
        ("/api/orders", body),
        (f"/api/results/{result_id}/release", {"version": 1}),
        (f"/api/results/{held_id}/reject", {"comment": "clotted", "version": 1}),
    ):
        assert (await bench.ask("POST", path, token, json=content)).status < 300
        before = len(await events(laboratory))
        again = await bench.ask("POST", path, token, json=content)
        assert again.status < 300, again.body
        made = (await events(laboratory))[before:]
        assert [(row["action"], row["actor_kind"]) for row in made] == [("read", "user")], path


async def test_a_read_that_was_answered_is_in_the_audit_after_a_stop(bench: Bench, laboratory: Laboratory) -> None:
    token = await laboratory.user_token(*EVERYBODY)
    of = await laboratory.order()
    asked = [bench.get(f"/api/patients/{of['patient']}", token) for _ in range(20)]
    assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
    await bench.writer.close()
    assert len(await laboratory.audit("read")) == 20
