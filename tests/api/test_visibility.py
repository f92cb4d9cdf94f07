"""What is held or not released is seen by no EMR, in no answer of any route that there is (DESIGN §1.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from interface.api.app import routes
from interface.api.fhir.types import TYPES
from interface.domain.model import HoldReason, ResultStatus
from interface.domain.permissions import Role
from interface.domain.review import ReviewError
from interface.domain.views import Actor, Audience, ResultView
from interface.flow import review
from interface.flow.correction import NewValue
from interface.settings import Preliminary
from interface.store import review as rows
from interface.store.db import Connection, Database
from interface.store.review import Policy
from interface.store.search.kinds import kinds
from tests.api.bench import Bench, Laboratory, found_laboratory, serving
from tests.api.test_audit import body_of
from tests.flow import laboratory as flow

HELD = (HoldReason.QUESTIONABLE,)


@dataclass(frozen=True, slots=True)
class Case:
    """A laboratory with a released, an unreleased and held results; every value is told apart by its digits."""

    laboratory: Laboratory
    orders: dict[str, dict[str, UUID]]
    results: dict[str, UUID]


VALUES = {"released": "11.1101", "unreleased": "12.2202", "held": "13.3303", "held_final": "14.4404"}
STATUSES = {
    "released": ResultStatus.FINAL,
    "unreleased": ResultStatus.PRELIMINARY,
    "held": ResultStatus.PRELIMINARY,
    "held_final": ResultStatus.FINAL,  # no path makes one; were there one, it must not be seen either
}


async def make_case(database: Database) -> Case:
    laboratory = await found_laboratory(database)
    orders, results = {}, {}
    for name, value in VALUES.items():
        orders[name] = await laboratory.order(barcode=f"bc-{name}", number=f"N-{name}", mrn=f"mrn-{name}")
        held = HELD if name.startswith("held") else ()
        results[name] = await laboratory.result(orders[name], value, STATUSES[name], held)
    return Case(laboratory, orders, results)


EVENTS, EVENTS_SO_FAR = "/api/events", "/api/events?after=0&wait=false"  # they do not end of themselves
_ANY = {
    "token": "x",
    "uri": "x",
    "string": "x",
    "date": "gt2000",
    "quantity": "gt0",
    "reference": "Patient/x",
    "number": "gt0",
}


def searches(case: Case) -> Iterator[str]:
    """Every type by every parameter, with values that name what must not be seen."""
    for name, order in case.orders.items():
        values = {
            "_id": str(case.results[name]), "_lastUpdated": "gt2000", "patient": str(order["patient"]),
            "subject": f"Patient/{order['patient']}", "code": "718-7", "status": "preliminary,registered,final",
            "category": "", "date": "gt2000", "specimen": f"Specimen/{order['specimen']}",
            "identifier": f"N-{name}", "based-on": f"ServiceRequest/{order['item']}", "authored": "gt2000",
            "accession": f"bc-{name}", "family": "M", "given": "E", "name": "M", "birthdate": "gt1900",
            "gender": "female",
        }  # fmt: skip
        for resource, kind in kinds(Audience.EMR).items():
            yield f"/fhir/{resource}"
            yield f"/fhir/{resource}?_count=0"
            yield f"/fhir/{resource}?_sort=-_lastUpdated"
            for parameter in kind.parameters:
                value = values.get(parameter.name, _ANY[parameter.field.type])
                yield f"/fhir/{resource}?{parameter.name}={value}"
    for resource, kind in kinds(Audience.EMR).items():
        for parameter in kind.parameters:
            yield f"/fhir/{resource}?{parameter.name}:missing=true"
    yield "/fhir/Observation?_sort=date"
    yield "/fhir/Observation?_include=Observation:specimen"
    yield "/api/results"
    yield "/api/results?held=true"
    yield "/api/results?status=preliminary"
    yield "/api/results?barcode=bc-held"
    yield "/api/orders"


# What an EMR is shown early where that is configured, `test_where_configured_…` says; with every route it takes longer.
SHOWN = pytest.mark.parametrize(
    "preliminary", [Preliminary.HIDDEN, pytest.param(Preliminary.VISIBLE, marks=pytest.mark.long)]
)


async def everything(bench: Bench, case: Case, token: str) -> dict[str, bytes]:
    """Every GET route's answer, with every id there is; and every search."""
    answers: dict[str, bytes] = {}
    ids = [id for order in case.orders.values() for id in order.values()] + list(case.results.values())
    for route in routes():
        if route.method == "GET" and not route.need.public and route.path != EVENTS:
            for id in ids if "{id}" in route.path else ids[:1]:
                path = route.path.replace("{id}", str(id))
                answers[path] = (await bench.get(path, token)).body
    for path in dict.fromkeys((*searches(case), EVENTS_SO_FAR)):
        answers[path] = (await bench.get(path, token)).body
        if path.startswith("/fhir/"):
            resource, _, query = path.removeprefix("/fhir/").partition("?")
            posted = await bench.ask(
                "POST", f"/fhir/{resource}/_search", token, data=query,
                headers={"Content-Type": "application/x-www-form-urlencoded"},
            )  # fmt: skip
            answers["POST " + path] = posted.body
    return answers


@SHOWN
async def test_no_route_shows_an_emr_what_is_held_or_not_released(database: Database, preliminary: Preliminary) -> None:
    case = await make_case(database)
    visible = {"released"} | ({"unreleased"} if preliminary is Preliminary.VISIBLE else set())
    async with serving(database, preliminary) as bench:
        token = await case.laboratory.client_token("system/*.cruds")
        answers = await everything(bench, case, token)
    everywhere = b"".join(answers.values())
    for name, value in VALUES.items():
        assert (value.encode() in everywhere) == (name in visible), name
        if name not in visible:  # nor its id, but where the request itself named it
            seen = [path for path, body in answers.items() if str(case.results[name]).encode() in body]
            assert [path for path in seen if str(case.results[name]) not in path] == [], name


async def reports(bench: Bench, token: str) -> dict[str, str]:
    answer = await bench.get("/fhir/DiagnosticReport", token)
    return {entry["resource"]["identifier"][0]["value"]: entry["resource"]["status"] for entry in answer.json["entry"]}


async def test_counts_reports_and_requests_do_not_give_a_hidden_result_away(database: Database) -> None:
    case = await make_case(database)
    async with serving(database) as bench:
        token = await case.laboratory.client_token("system/*.rs")
        total = (await bench.get("/fhir/Observation?_count=0", token)).json["total"]
        assert (total, await reports(bench, token)) == (
            1,
            {"N-released": "final", "N-unreleased": "registered", "N-held": "registered", "N-held_final": "registered"},
        )
        requests = (await bench.get("/fhir/ServiceRequest", token)).json["entry"]
        assert {entry["resource"]["status"] for entry in requests} == {"active"}


async def test_where_configured_a_preliminary_result_is_shown_as_preliminary(database: Database) -> None:
    case = await make_case(database)
    async with serving(database, Preliminary.VISIBLE) as bench:
        token = await case.laboratory.client_token("system/*.rs")
        found = (await bench.get("/fhir/Observation", token)).json
        statuses = {entry["resource"]["id"]: entry["resource"]["status"] for entry in found["entry"]}
        assert statuses == {
            str(case.results["released"]): "final",
            str(case.results["unreleased"]): "preliminary",
        }
        assert found["total"] == 2
        assert (await reports(bench, token))["N-unreleased"] == "preliminary"


async def test_a_hidden_result_is_answered_exactly_like_an_unknown_id(database: Database) -> None:
    case = await make_case(database)
    async with serving(database) as bench:
        token = await case.laboratory.client_token("system/*.rs")
        for base in ("/fhir/Observation/", "/api/results/"):
            answers = set()
            for id in (case.results["held"], case.results["unreleased"], UUID(int=1)):
                answer = await bench.get(f"{base}{id}", token)
                names = frozenset(answer.headers) - {"Date", "X-Request-Id"}
                answers.add((answer.status, answer.body, names))
            assert len(answers) == 1
            assert answers.pop()[0] == 404


async def test_no_audit_event_tells_of_what_the_staff_saw_before_it_was_released(database: Database) -> None:
    case = await make_case(database)
    async with serving(database) as bench:
        staff = await case.laboratory.user_token(Role.TECHNOLOGIST)
        client = await case.laboratory.client_token("system/*.rs", "system/AuditEvent.rs")
        asked = [f"/api/results/{id}" for id in case.results.values()]
        asked += ["/api/results?held=true", "/api/qc-results"]
        for path in asked:
            assert (await bench.get(path, staff)).status == 200, path
        patient = case.orders["released"]["patient"]
        for path in (f"/fhir/Patient/{patient}", f"/fhir/Observation/{case.results['released']}"):
            assert (await bench.get(path, staff)).status == 200, path
        await bench.writer.flush()
        events = await bench.get("/fhir/AuditEvent?_count=100", client)
        for name in ("held", "held_final", "unreleased"):
            for id in (case.results[name], case.orders[name]["patient"]):
                assert str(id).encode() not in events.body, name
        seen = [one["resource"] for one in events.json["entry"]]
        told = [entity["description"] for one in seen for entity in one["entity"]
                if "description" in entity and one["agent"][0]["who"]["type"] == "Practitioner"]  # fmt: skip
        assert sorted(told) == ["Observation", "Patient", "patient"], "what is seen over FHIR, and whose it is"


async def test_staff_see_all_of_it_but_not_through_fhir(database: Database) -> None:
    case = await make_case(database)
    async with serving(database) as bench:
        token = await case.laboratory.user_token(Role.TECHNOLOGIST)
        shown: list[Any] = (await bench.get("/api/results", token)).json["results"]
        assert {row["id"] for row in shown} == {str(id) for id in case.results.values()}
        held = (await bench.get("/api/results?held=true", token)).json["results"]
        assert {row["id"] for row in held} == {str(case.results["held"]), str(case.results["held_final"])}
        assert held[0]["held"] == ["questionable"]
        assert (await bench.get("/fhir/Observation", token)).json["total"] == 1


async def test_another_laboratorys_ids_are_unknown_in_every_route(database: Database) -> None:
    case, stranger = await make_case(database), await found_laboratory(database)
    async with serving(database) as bench:
        tokens = [
            await stranger.client_token("system/*.cruds"),
            await stranger.user_token(Role.LABORATORY_DIRECTOR, Role.ADMINISTRATOR),
        ]
        ids = [*case.orders["held"].values(), case.results["held"], case.results["released"]]  # one of each kind
        theirs = (case.laboratory.organization_id, case.laboratory.analyzer_id)
        for token in tokens:
            for route in (route for route in routes() if "{id}" in route.path):
                for id in ids:
                    looked_at = {"version": 1} if route.path.startswith("/api/results/{id}/") else {}
                    sent = {} if route.method == "GET" else {"json": body_of(route, "SP-1") | looked_at}
                    answer = await bench.ask(route.method, route.path.replace("{id}", str(id)), token, **sent)
                    assert answer.status in (404, 403), (route, id)
            for path in dict.fromkeys(searches(case)):
                answer = await bench.get(path, token)
                if path.startswith(("/fhir/AuditEvent", "/fhir/Organization", "/fhir/Device")):  # of its own there are
                    assert not any(str(id).encode() in answer.body for id in theirs), path
                    continue
                assert answer.status == 200, path
                body = answer.json
                found = body.get("entry", body.get("results", body.get("orders", [])))
                assert found == [], path
                assert body.get("total", 0) == 0, path


SHOWN_HEADERS = ("ETag", "Last-Modified", "Content-Length")


async def seen_by(bench: Bench, token: str, ids: list[UUID]) -> dict[str, tuple[int, bytes, tuple[str | None, ...]]]:
    """All that a client can get: every GET route with every id, and the searches that count, sort and filter."""
    paths = [
        route.path.replace("{id}", str(id))
        for route in routes()
        if route.method == "GET" and not route.need.public and route.path != EVENTS
        for id in (ids if "{id}" in route.path else ids[:1])
    ]
    for kind in TYPES:
        paths += [f"/fhir/{kind}?{query}" for query in ("_count=0", "_sort=-_lastUpdated", "_lastUpdated=gt2000")]
    paths += [f"/fhir/DiagnosticReport?status={status}" for status in ("registered", "partial", "final")]
    answers = {}
    for path in (*paths, EVENTS_SO_FAR):
        answer = await bench.get(path, token)
        answers[path] = (answer.status, answer.body, tuple(answer.headers.get(name) for name in SHOWN_HEADERS))
    return answers


@SHOWN
async def test_nothing_that_comes_before_a_release_changes_any_answer_to_an_emr(
    recycled_founded_url: str, preliminary: Preliminary
) -> None:
    """Whatever arrives, is held, waits as a change, is discarded or rejected: to an EMR nothing has happened."""
    wbc, hgb = "R|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030000", "R|2|^^^HGB|9.1|g/dL||L||F||||20260102030000"
    async with flow.laboratory(recycled_founded_url) as lab, serving(lab.database, preliminary) as bench:
        token = await Laboratory(lab.database, lab.organization_id, "lab").client_token("system/*.rs")
        await lab.order("S1", "WBC", "HGB")
        await lab.order("S2", "WBC", patient_id="P-2")
        await lab.send(flow.message("O|1|S1", wbc))
        await lab.settle()
        (first,) = await lab.results()
        await lab.release(first.id)
        # None of it for an EMR: a change to the released one, a failed run, an unknown specimen, a preliminary one.
        hidden = [("O|1|S1", wbc.replace("7.35", "1.35")), ("O|1|S2", wbc.replace("7.35", "----")), ("O|1|S9", wbc)]
        if preliminary is Preliminary.HIDDEN:
            hidden.append(("O|1|S1", hgb))
        for number, records in enumerate(hidden):
            await lab.send(flow.message(*records, control=f"D{number}"))
        rows = await lab.owner.fetch(
            "select id from lab.patient union all select id from lab.lab_order union all select id from lab.specimen"
            " union all select id from lab.order_item"
        )
        ids = [row["id"] for row in rows]
        before = await seen_by(bench, token, [*ids, first.id])
        await lab.settle()
        results = await lab.results()
        others = [one for one in results if one.id != first.id]
        # messages of different specimens are decided side by side
        assert sorted((one.status.value, one.pending, bool(one.held)) for one in results) == sorted(
            [("final", True, False), ("registered", False, True), ("registered", False, True),
             ("preliminary", False, False)][: len(hidden)]
        )  # fmt: skip
        assert await seen_by(bench, token, [*ids, first.id]) == before
        await _review(lab, others, shown_early=preliminary is Preliminary.VISIBLE)
        assert await seen_by(bench, token, [*ids, first.id]) == before
        await lab.owner.execute("update lab.result set held = '{questionable}' where status = 'preliminary'")
        async with lab.database.transaction(lab.organization_id) as connection:
            for one in others:
                await review.reject(connection, lab.director, one.id, "clot")
            await review.reject_change(connection, lab.director, first.id)
            await review.correct(connection, lab.director, first.id, NewValue("1.44"), "waits for a second person")
        assert await seen_by(bench, token, [*ids, first.id]) == before
        for one in others:
            for path in (f"/fhir/Observation/{one.id}", f"/api/results/{one.id}"):
                assert (await bench.get(path, token)).status == 404


async def _review(lab: flow.Laboratory, unreleased: list[ResultView], *, shown_early: bool) -> None:
    """Everything that people may do with a result short of releasing it."""
    taken = set()
    async with lab.database.transaction(lab.organization_id) as connection:
        await rows.set_policy(connection, lab.organization_id, Policy("", True, None))
    for one in unreleased:
        steps = (*_BEFORE, *(() if shown_early else _PRELIMINARY))
        for name in steps:
            try:
                async with lab.database.transaction(lab.organization_id) as connection:
                    await _STEPS[name](connection, lab.director, one.id)
                taken.add(name)
            except ReviewError:
                pass  # not of this one: it has no specimen, or no value
    assert taken == set(steps)


_BEFORE, _PRELIMINARY = ("comment", "hold", "rerun"), ("correct", "verify")  # these make it preliminary
_STEPS: dict[str, Callable[[Connection, Actor, UUID], Awaitable[ResultView]]] = {
    "comment": lambda at, who, id: review.comment(at, who, id, "seen"),
    "hold": lambda at, who, id: review.hold(at, who, id, "please look"),
    "rerun": lambda at, who, id: review.rerun(at, who, id, "short specimen"),
    "correct": lambda at, who, id: review.correct(at, who, id, NewValue("9.1"), "by hand"),
    "verify": lambda at, who, id: review.verify(at, who, id, "seen", accept_hold=True),
}
