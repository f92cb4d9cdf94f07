"""Orders over FHIR: a transaction is one order however often it is sent, whole or not at all; faults have places."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import orjson
import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.operationoutcome import OperationOutcome

from interface.domain.permissions import Role
from interface.domain.views import Actor, ActorKind
from interface.flow.orders import NewSpecimen
from interface.flow.placing import Batch, PlacedTube, Placing, place
from interface.store import lab_changes, placing
from interface.store.placing import PlacerNumber
from tests.api.bench import Answer, Bench, Laboratory

FHIR = {"Content-Type": "application/fhir+json"}
EVA, TUBE = "urn:uuid:0190a7c0-0000-7000-8000-000000000001", "urn:uuid:0190a7c0-0000-7000-8000-000000000002"
Json = dict[str, Any]


def entry(resource: Json, full_url: str = "", **request: str) -> Json:
    kind = resource["resourceType"]
    made: Json = {"resource": resource, "request": {"method": "POST", "url": kind} | request}
    return made | ({"fullUrl": full_url} if full_url else {})


def patient(mrn: str = "M-1", **changed: Any) -> Json:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:hospital", "value": mrn}],
        "name": [{"family": "Muster", "given": ["Eva", "Maria"]}],
        "gender": "female",
        "birthDate": "1980-05-01",
    } | changed


def specimen(barcode: str = "B-1", **changed: Any) -> Json:
    return {
        "resourceType": "Specimen",
        "accessionIdentifier": {"value": barcode},
        "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0487", "code": "BLD"}]},
        "subject": {"reference": EVA},
        "collection": {"collectedDateTime": "2026-01-02T03:04:05+01:00"},
        "receivedTime": "2026-01-02T04:00:00Z",
    } | changed


def request(code: str = "HGB", system: str = "urn:labora:test", placer: str = "PL-1", **changed: Any) -> Json:
    return {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "requisition": {"system": "urn:ward", "value": placer},
        "code": {"coding": [{"system": system, "code": code}]},
        "subject": {"reference": EVA},
        "specimen": [{"reference": TUBE}],
        "priority": "stat",
        "authoredOn": "2026-01-02T03:00:00Z",
        "reasonCode": [{"text": "pallor"}],
    } | changed


def bundle(*entries: Json) -> Json:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


def whole(**changed: Any) -> Json:
    """A patient, a tube, one test by our code, one by LOINC."""
    tests = (request(**changed), request("777-3", "http://loinc.org", **changed))
    return bundle(entry(patient(), EVA), entry(specimen(), TUBE), *map(entry, tests))


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.client_token("system/*.cruds")


async def send(bench: Bench, token: str, body: object, path: str = "/fhir", method: str = "POST") -> Answer:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return await bench.ask(method, path, token, data=data, headers=FHIR)


def answered(answer: Answer) -> list[tuple[str, str]]:
    """Status and location of each entry."""
    assert answer.status == 200, answer.body
    Bundle.model_validate_json(answer.body)
    responses = [entry["response"] for entry in answer.json["entry"]]
    return [(one["status"][:3], one.get("location", "")) for one in responses]


async def counted(laboratory: Laboratory) -> tuple[int, int, int, int]:
    """Patients, orders, specimens, items."""
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        tables = ("patient", "lab_order", "specimen", "order_item")
        found = [await connection.fetchval(f"select count(*) from lab.{table}") for table in tables]  # noqa: S608
    return (found[0], found[1], found[2], found[3])


async def test_a_bundle_is_an_order_and_the_same_again_is_the_same_order(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    first = answered(await send(bench, token, whole()))
    assert [status for status, _ in first] == ["201"] * 4
    assert [location.partition("/")[0] for _, location in first] == [
        "Patient", "Specimen", "ServiceRequest", "ServiceRequest",
    ]  # fmt: skip
    read = [(await bench.get(f"/fhir/{location}", token)).json for _, location in first]
    assert (read[0]["name"], read[0]["birthDate"]) == ([{"family": "Muster", "given": ["Eva", "Maria"]}], "1980-05-01")
    assert read[1]["accessionIdentifier"]["value"] == "B-1"
    assert [one["code"]["coding"][-1]["code"] for one in read[2:]] == ["HGB", "PLT"]
    for one in read[2:]:
        assert one["subject"]["reference"] == first[0][1]
        assert one["specimen"] == [{"reference": first[1][1]}]
        assert (one["priority"], one["reasonCode"]) == ("stat", [{"text": "pallor"}])
        assert [known["system"] for known in one["identifier"]] == ["urn:labora:order", "urn:ward"]
    again = answered(await send(bench, token, whole()))
    assert again == [("200", location) for _, location in first]
    assert await counted(laboratory) == (1, 1, 1, 2)


async def test_the_same_number_with_other_content_is_refused(bench: Bench, laboratory: Laboratory, token: str) -> None:
    await send(bench, token, whole())
    other = whole()
    other["entry"][3]["resource"]["code"]["coding"][0]["code"] = "6690-2"
    for changed in (other, whole(priority="routine"), bundle(entry(patient("M-2"), EVA), *whole()["entry"][1:])):
        answer = await send(bench, token, changed)
        assert (answer.status, answer.json["issue"][0]["code"]) == (409, "conflict")
        assert "Bundle.entry[2].resource" in answer.json["issue"][0]["diagnostics"]
    assert await counted(laboratory) == (1, 1, 1, 2)


async def test_what_exists_is_answered_with_whatever_else_it_says_where_that_is_the_condition(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    """R4 http.html#ccreate: one match is 200, and what was posted is ignored; but never for another patient's order or
    one of other tests, which would be taken for placed."""
    people = [id_in(await send(bench, token, patient(mrn), "/fhir/Patient")) for mrn in ("M-1", "M-2")]
    condition = FHIR | {"If-None-Exist": "identifier=urn:emr|77"}

    async def post(body: Json, headers: dict[str, str]) -> Answer:
        return await bench.ask("POST", "/fhir/ServiceRequest", token, data=orjson.dumps(body), headers=headers)

    first = alone("urn:emr", "77", people[0], "B-1")
    made = await post(first, condition)
    assert made.status == 201, made.body
    later = first | {"priority": "routine", "reasonCode": [{"text": "fever"}], "authoredOn": "2026-01-03T03:00:00Z"}
    del (unnumbered := alone("urn:emr", "77", people[0], "B-1"))["contained"][0]["accessionIdentifier"]
    for body in (first, later, unnumbered):
        again = await post(body, condition)
        assert (again.status, again.headers["Location"]) == (200, made.headers["Location"]), again.body
    for refused, headers in (
        (later, FHIR), (alone("urn:emr", "77", people[1], "B-1"), condition),
        (alone("urn:emr", "77", people[0], "B-2"), condition),
        (first | {"code": {"coding": [{"system": "urn:labora:test", "code": "WBC"}]}}, condition),
    ):  # fmt: skip
        answer = await post(refused, headers)
        assert (answer.status, answer.json["issue"][0]["code"]) == (409, "conflict"), answer.body
    assert (await counted(laboratory))[1:] == (1, 1, 1)


async def test_a_condition_of_every_request_of_an_order_is_one_of_the_order(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    first = answered(await send(bench, token, whole()))
    condition = "identifier=urn:ward|PL-1"

    def again(*conditions: str) -> Json:
        sent = whole(priority="routine")
        for one, said in zip(sent["entry"][2:], conditions, strict=True):
            one["request"] |= {"ifNoneExist": said} if said else {}
        return sent

    assert answered(await send(bench, token, again(condition, condition))) == [("200", at) for _, at in first]
    assert (await send(bench, token, again(condition, ""))).status == 409
    tube = specimen(id="tube")
    del tube["subject"]
    person = {"reference": first[0][1]}
    one = request("777-3", "http://loinc.org", subject=person, contained=[tube], specimen=[{"reference": "#tube"}])
    headers = FHIR | {"If-None-Exist": condition}
    found = await bench.ask("POST", "/fhir/ServiceRequest", token, data=orjson.dumps(one), headers=headers)
    assert (found.status, f"ServiceRequest/{id_in(found)}") == (200, first[3][1]), found.body
    assert await counted(laboratory) == (1, 1, 1, 2)


async def test_sent_twice_at_the_same_moment_it_is_one_order(bench: Bench, laboratory: Laboratory, token: str) -> None:
    answers = await asyncio.gather(*(send(bench, token, whole()) for _ in range(4)))
    told = [answered(answer) for answer in answers]
    assert len({tuple(location for _, location in one) for one in told}) == 1
    assert sorted(one[2][0] for one in told) == ["200", "200", "200", "201"]
    assert await counted(laboratory) == (1, 1, 1, 2)


async def test_a_panel_is_told_by_its_members_and_tests_without_a_specimen_expect_one(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    alone = request("24360-0", "http://loinc.org", specimen=[])
    answer = await send(bench, token, bundle(entry(patient(), EVA), entry(alone)))
    told = answered(answer)
    note = answer.json["entry"][1]["response"]["outcome"]["issue"][0]
    assert (told[1][0], note["severity"]) == ("201", "information")
    assert note["diagnostics"].count("ServiceRequest/") == 2 and "HCT" in note["diagnostics"]
    assert await counted(laboratory) == (1, 1, 1, 2)


async def test_a_requests_own_number_is_one_of_its_authority_by_whichever_way(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    def own(code: str, value: str, **more: Any) -> Json:
        number = {"type": {"coding": [{"code": "PLAC"}]}, "system": "urn:his", "value": value}
        return request(code, identifier=[number], **more)

    sent = bundle(entry(patient(), EVA), entry(specimen(), TUBE), entry(own("HGB", "R-1")), entry(own("WBC", "R-2")))
    for status in ("201", "200"):
        assert {said for said, _ in answered(await send(bench, token, sent))} >= {status}
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        group = PlacerNumber("PL-1", "urn:ward")
        for number, test in (("R-1", "HGB"), ("R-2", "WBC")):
            known = await placing.find(connection, PlacerNumber(number, "urn:his"))
            assert known is not None and known.group == group
            assert [item.test_code for item in await placing.items(connection, known.id)] == [test]
    assert await counted(laboratory) == (1, 1, 1, 2)
    second = "urn:uuid:0190a7c0-0000-7000-8000-000000000003"
    stolen = own("HGB", "R-1", placer="PL-2", specimen=[{"reference": second}])
    other = await send(bench, token, bundle(entry(patient(), EVA), entry(specimen("B-9"), second), entry(stolen)))
    assert other.status == 409
    assert await counted(laboratory) == (1, 1, 1, 2)


def alone(system: str, value: str, patient_id: str, barcode: str) -> Json:
    """A request by itself whose one identifier is this."""
    number = {"value": value} | ({"system": system} if system else {})
    tube = specimen(barcode, id="tube")
    del tube["subject"]
    made = request(identifier=[number], contained=[tube], specimen=[{"reference": "#tube"}])
    del made["requisition"]
    return made | {"subject": {"reference": f"Patient/{patient_id}"}}


async def test_a_placers_number_is_shown_and_found_in_the_system_it_was_sent_in(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    person = id_in(await send(bench, token, patient(), "/fhir/Patient"))
    systems = {
        "urn:emrA": "urn:emrA", "urn:emrB": "urn:emrB", "": "urn:labora:placer-order",
        "urn:labora:authority:St.%20Anna": "urn:labora:authority:St.%20Anna",
    }  # fmt: skip
    requests, reports = {}, {}
    for number, (sent, shown) in enumerate(systems.items()):
        answer = await send(bench, token, alone(sent, "77", person, f"B-{number}"), "/fhir/ServiceRequest")
        assert answer.status == 201, answer.body
        id = id_in(answer)
        read = (await bench.get(f"/fhir/ServiceRequest/{id}", token)).json
        assert [(one["system"], one["value"]) for one in read["identifier"][1:]] == [(shown, "77")]
        requests[shown] = id
        found = await bench.get(f"/fhir/DiagnosticReport?based-on={id}", token)
        assert found.json["entry"][0]["resource"]["identifier"] == read["identifier"]
        reports[shown] = found.json["entry"][0]["resource"]["id"]
    for kind, ids in (("ServiceRequest", requests), ("DiagnosticReport", reports)):
        for system, id in ids.items():
            for value in ("77", ""):
                assert await ids_of(bench, token, kind, system, value) == {id}, (kind, system)
            others = set(ids.values()) - {id}
            assert await ids_of(bench, token, kind, system, "77", ":not") == others, (kind, system)
        assert await ids_of(bench, token, kind, None, "77") == set(ids.values())
        for system in ("", "urn:emr", "urn:labora:order", "urn:labora:patient"):
            assert await ids_of(bench, token, kind, system, "77") == set(), (kind, system)
        assert await ids_of(bench, token, kind, "urn:emrA", "78") == set()
    again = await bench.ask(
        "POST", "/fhir/ServiceRequest", token, data=orjson.dumps(alone("urn:emrA", "77", person, "B-0")),
        headers=FHIR | {"If-None-Exist": "identifier=urn:emrA|77"},
    )  # fmt: skip
    assert (again.status, id_in(again)) == (200, requests["urn:emrA"])


def id_in(answer: Answer) -> str:
    """That of the resource whose Location is answered."""
    return answer.headers["Location"].partition("/fhir/")[2].split("/")[1]


async def ids_of(bench: Bench, token: str, kind: str, system: str | None, value: str, modifier: str = "") -> set[str]:
    query = quote(value if system is None else f"{system}|{value}")
    answer = await bench.get(f"/fhir/{kind}?identifier{modifier}={query}", token)
    assert answer.status == 200, answer.body
    return {one["resource"]["id"] for one in answer.json.get("entry", [])}


async def test_two_requisitions_are_two_orders_of_one_patient(bench: Bench, laboratory: Laboratory, token: str) -> None:
    second = "urn:uuid:0190a7c0-0000-7000-8000-000000000003"
    entries = [
        entry(patient(identifier=[]), EVA), entry(specimen(), TUBE), entry(request()),
        entry(specimen("B-2"), second), entry(request(placer="PL-2", specimen=[{"reference": second}])),
    ]  # fmt: skip
    told = answered(await send(bench, token, bundle(*entries)))
    assert {status for status, _ in told} == {"201"}
    assert await counted(laboratory) == (1, 2, 2, 2)


async def test_nothing_of_a_transaction_is_done_when_a_part_cannot_be(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    await send(bench, token, whole())
    taken = bundle(
        entry(patient("M-7"), EVA), entry(specimen("B-7"), TUBE), entry(request(placer="PL-7")),
        entry(specimen("B-1"), TUBE + "x"), entry(request(placer="PL-8", specimen=[{"reference": TUBE + "x"}])),
    )  # fmt: skip
    answer = await send(bench, token, taken)
    assert answer.status == 409, answer.body
    assert await counted(laboratory) == (1, 1, 1, 2)


def _set(path: str, value: object) -> Callable[[Json], None]:
    def change(body: Json) -> None:
        *way, last = path.split(".")
        at: Any = body
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at[step]
        at[int(last) if isinstance(at, list) else last] = value

    return change


FAULTS = {
    "status": ("entry.2.resource.status", "draft", "Bundle.entry[2].resource.status"),
    "intent": ("entry.2.resource.intent", "plan", "Bundle.entry[2].resource.intent"),
    "do not": ("entry.2.resource.doNotPerform", True, "Bundle.entry[2].resource.doNotPerform"),
    "again and again": ("entry.2.resource.occurrenceTiming", {"repeat": {}},
                        "Bundle.entry[2].resource.occurrenceTiming"),
    "modifier": ("entry.2.resource.modifierExtension", [{"url": "u"}], "Bundle.entry[2].resource.modifierExtension"),
    "unknown code": ("entry.2.resource.code.coding", [{"code": "HGB"}], "Bundle.entry[2].resource.code"),
    "two tests": ("entry.2.resource.code.coding", [{"system": "urn:labora:test", "code": "HGB"},
                  {"system": "http://loinc.org", "code": "777-3"}], "Bundle.entry[2].resource.code"),
    "two specimens": ("entry.2.resource.specimen", [{"reference": TUBE}, {"reference": TUBE}],
                      "Bundle.entry[2].resource.specimen"),
    "lost specimen": ("entry.2.resource.specimen", [{"reference": "urn:uuid:none"}],
                      "Bundle.entry[2].resource.specimen"),
    "priority": ("entry.2.resource.priority", "now", "Bundle.entry[2].resource.priority"),
    "a day is no time": ("entry.1.resource.collection", {"collectedDateTime": "2026-01-02"},
                         "Bundle.entry[1].resource.collection.collectedDateTime"),
    "no zone": ("entry.1.resource.receivedTime", "2026-01-02T03:04:05", "Bundle.entry[1].resource.receivedTime"),
    "bad tube": ("entry.1.resource.status", "unsatisfactory", "Bundle.entry[1].resource.status"),
    "type": ("entry.1.resource.type", {"text": "blood"}, "Bundle.entry[1].resource.type"),
    "another's tube": ("entry.1.resource.subject", {"reference": "Patient/1"}, "Bundle.entry[1].resource.subject"),
    "unused tube": ("entry.2.resource.specimen", [], None),
    "gender": ("entry.0.resource.gender", "f", "Bundle.entry[0].resource.gender"),
    "born some time": ("entry.0.resource.birthDate", "1980", "Bundle.entry[0].resource.birthDate"),
    "inactive": ("entry.0.resource.active", False, "Bundle.entry[0].resource.active"),
    "no value": ("entry.0.resource.identifier", [{"system": "urn:x"}], "Bundle.entry[0].resource.identifier[0].value"),
    "name as text": ("entry.0.resource.name", [{"text": "Eva Muster"}], "Bundle.entry[0].resource.name[0].family"),
    "NUL": ("entry.0.resource.name", [{"family": "Mu\0ster"}], "Bundle.entry[0].resource.name[0].family"),
    "condition": ("entry.0.request.ifNoneExist", "identifier=other", "Bundle.entry[0].request.ifNoneExist"),
    "delete": ("entry.0.request.method", "DELETE", "Bundle.entry[0].request"),
    "other kind": ("entry.0.request.url", "Group", "Bundle.entry[0].request"),
    "twice": ("entry.1.fullUrl", EVA, "Bundle.entry.fullUrl"),
    "shape": ("entry.0", 7, "Bundle.entry[0]"),
}  # fmt: skip


async def test_every_fault_is_said_with_its_place_and_nothing_is_done(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    for name, (path, value, expression) in FAULTS.items():
        body = whole()
        if name == "unused tube":
            _set("entry.3.resource.specimen", [])(body)
        _set(path, value)(body)
        answer = await send(bench, token, body)
        assert answer.status == 422, (name, answer.body)
        OperationOutcome.model_validate_json(answer.body)
        places = [place for issue in answer.json["issue"] for place in issue.get("expression", ())]
        assert (expression or "Bundle.entry[1].resource") in places, (name, answer.body)
        assert b"Muster" not in answer.body, name
    assert await counted(laboratory) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("subject", "status"),
    [
        ({"identifier": {"system": "urn:hospital", "value": "M-1"}}, 201),
        ({"reference": "Patient?identifier=urn:hospital%7CM-1"}, 201),
        ({"identifier": {"system": "urn:other", "value": "M-1"}}, 422),
        ({"reference": "Patient?identifier=M-2"}, 422),
        ({"reference": "Patient/7d1c2f58-3c1f-4a87-9a52-0d2b7f6f0a11"}, 422),
        ({"reference": "Group/1"}, 422),
        ({}, 422),
    ],
)
async def test_one_request_by_itself_names_a_patient_who_is_there(
    bench: Bench, laboratory: Laboratory, token: str, subject: Json, status: int
) -> None:
    made = await send(bench, token, patient(), "/fhir/Patient")
    assert made.status == 201
    again = await bench.ask("POST", "/fhir/Patient", token, data=orjson.dumps(patient()),
                            headers=FHIR | {"If-None-Exist": "identifier=urn:hospital|M-1"})  # fmt: skip
    assert (again.status, again.headers["Location"]) == (200, made.headers["Location"])
    tube = specimen() | {"id": "tube"}
    del tube["subject"]
    body = request(subject=subject, contained=[tube], specimen=[{"reference": "#tube"}])
    answer = await send(bench, token, body, "/fhir/ServiceRequest")
    assert answer.status == status, answer.body
    if status == 201:
        read = await bench.get(answer.headers["Location"].removeprefix(bench.url), token)
        assert read.json["subject"]["reference"] in made.headers["Location"]
        assert (await send(bench, token, body, "/fhir/ServiceRequest")).status == 200
    assert (await counted(laboratory))[1] == (status == 201)


async def test_a_request_is_revoked_and_nothing_else(bench: Bench, laboratory: Laboratory, token: str) -> None:
    told = answered(await send(bench, token, whole()))
    first, second = told[2][1], told[3][1]
    for change, status in (({"status": "on-hold"}, 422), ({"status": "revoked", "id": "other"}, 400)):
        assert (await send(bench, token, request(**change), f"/fhir/{first}", "PUT")).status == status
    assert (await bench.get(f"/fhir/{first}", token)).json["status"] == "active"
    answer = await send(bench, token, request(status="revoked"), f"/fhir/{first}", "PUT")
    assert answer.status == 200, answer.body
    revoke = entry(request("PLT", status="revoked"), method="PUT", url=second)
    assert answered(await send(bench, token, bundle(revoke))) == [("200", second)]
    for path in (first, second):
        assert (await bench.get(f"/fhir/{path}", token)).json["status"] == "revoked"
    missing = "/fhir/ServiceRequest/7d1c2f58-3c1f-4a87-9a52-0d2b7f6f0a11"
    assert (await send(bench, token, request(status="revoked"), missing, "PUT")).status == 404


async def test_a_request_that_changed_since_it_was_read_is_not_revoked(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    path = answered(await send(bench, token, whole()))[2][1]
    tag = (await bench.get(f"/fhir/{path}", token)).headers["ETag"]
    revoked = orjson.dumps(request(status="revoked"))
    for stale in ('W/"1"', '"x", W/"2"', "none"):
        answer = await bench.ask("PUT", f"/fhir/{path}", token, data=revoked, headers=FHIR | {"If-Match": stale})
        assert (answer.status, answer.json["issue"][0]["code"]) == (412, "conflict"), answer.body
        within = entry(request(status="revoked"), method="PUT", url=path)
        within["request"]["ifMatch"] = stale
        assert (await send(bench, token, bundle(within))).status == 412
    assert (await bench.get(f"/fhir/{path}", token)).json["status"] == "active"
    listed = FHIR | {"If-Match": f'"x", {tag}'}
    assert (await bench.ask("PUT", f"/fhir/{path}", token, data=revoked, headers=listed)).status == 200


@pytest.mark.parametrize("condition", ["identifier=urn:hospital|other", "status=active", "nonsense"])
async def test_a_condition_that_is_not_supported_creates_nothing(
    bench: Bench, laboratory: Laboratory, token: str, condition: str
) -> None:
    headers = FHIR | {"If-None-Exist": condition}
    answer = await bench.ask("POST", "/fhir/Patient", token, data=orjson.dumps(patient()), headers=headers)
    assert (answer.status, answer.json["issue"][0]["code"]) == (412, "not-supported"), answer.body
    assert await counted(laboratory) == (0, 0, 0, 0)


async def test_what_was_created_is_answered_with_as_is_preferred(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    blind = await laboratory.client_token("system/Patient.c")

    async def created(prefer: str, token: str) -> Answer:
        headers = FHIR | {"Prefer": prefer, "Idempotency-Key": uuid4().hex}
        return await bench.ask("POST", "/fhir/Patient", token, data=orjson.dumps(patient()), headers=headers)

    shown = await created("respond-async, return=representation", token)
    assert (shown.status, shown.json["resourceType"]) == (201, "Patient")
    assert shown.json["identifier"][0]["value"] == "M-1"
    version = shown.json["meta"]["versionId"]
    assert shown.headers["Location"].endswith(f"/fhir/Patient/{shown.json['id']}/_history/{version}")
    assert shown.headers["ETag"] == f'W/"{shown.json["meta"]["versionId"]}"'
    await bench.writer.flush()
    assert [row["entity_id"] for row in await laboratory.audit("read")] == [UUID(shown.json["id"])]
    said = await created("return=minimal", token)
    assert (said.status, said.body, said.headers["Location"]) == (200, b"", shown.headers["Location"])
    for prefer, who in (("return=OperationOutcome", token), ("", token), ("return=representation", blind)):
        assert (await created(prefer, who)).json["resourceType"] == "OperationOutcome", "who may not read is not shown"


async def test_what_is_answered_of_a_resource_is_of_the_version_that_is_read(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    """R4 http.html#create: Location with the version, ETag, Last-Modified; in a transaction the entry's."""
    person = await send(bench, token, patient(), "/fhir/Patient")
    asked = await send(bench, token, alone("urn:emrA", "1", id_in(person), "B-7"), "/fhir/ServiceRequest")
    for made in (person, asked):
        assert made.status == 201, made.body
        read = await bench.get(made.headers["Location"].removeprefix(bench.url), token)
        assert made.headers["Location"].endswith(f"/{id_in(made)}/_history/{read.json['meta']['versionId']}")
        for name in ("ETag", "Last-Modified"):
            assert made.headers[name] == read.headers[name]

    made = (await send(bench, token, whole())).json["entry"]
    await of_now(bench, token, made)
    revoked = [
        entry(request(code, status="revoked"), method="PUT", url=one["response"]["location"])
        for code, one in zip(("HGB", "PLT"), made[2:], strict=True)
    ]
    await of_now(bench, token, (await send(bench, token, bundle(*revoked))).json["entry"])


async def of_now(bench: Bench, token: str, entries: list[Json]) -> None:
    """Each is answered with the version that it has after the whole transaction."""
    for response in (one["response"] for one in entries):
        read = await bench.get(f"/fhir/{response['location']}", token)
        assert (response["etag"], response["lastModified"]) == (read.headers["ETag"], read.json["meta"]["lastUpdated"])


async def test_what_another_number_asks_for_as_well_is_not_revoked(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "PLAC"}]}
    numbered = request(identifier=[{"type": kind, "system": "urn:ward", "value": "A-1"}], placer="G-1")
    told = answered(await send(bench, token, bundle(entry(patient(), EVA), entry(specimen(), TUBE), entry(numbered))))
    person, path = UUID(told[0][1].partition("/")[2]), told[2][1]
    actor = Actor(ActorKind.LINK, UUID(int=1), "hospital", laboratory.organization_id)
    again = Placing(PlacerNumber("A-2", "urn:ward"), ("HGB",), (PlacedTube(NewSpecimen((), "B-1")),))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await lab_changes.lock_orders(connection, laboratory.organization_id)
        await place(connection, Batch(actor, person), again)
    assert await counted(laboratory) == (1, 1, 1, 1), "both are measured once"
    answer = await send(bench, token, request(status="revoked"), f"/fhir/{path}", "PUT")
    assert (answer.status, answer.json["issue"][0]["code"]) == (409, "conflict"), answer.body
    assert (await bench.get(f"/fhir/{path}", token)).json["status"] == "active"


async def test_each_entry_needs_its_scope(bench: Bench, laboratory: Laboratory) -> None:
    for scopes, status in (
        ("system/ServiceRequest.c system/Specimen.c system/Patient.c", 200),
        ("system/ServiceRequest.c system/Specimen.c", 403),
        ("system/ServiceRequest.c system/Patient.c", 403),
        ("system/Patient.c system/Specimen.c", 403),
        ("system/*.rs", 403),
    ):
        answer = await send(bench, await laboratory.client_token(*scopes.split()), whole())
        assert answer.status == status, scopes
    revoking = bundle(entry(request(status="revoked"), method="PUT", url=f"ServiceRequest/{UUID(int=1)}"))
    create_only = await laboratory.client_token("system/ServiceRequest.c")
    assert (await send(bench, create_only, revoking)).status == 403
    await laboratory.user()  # the first is an administrator
    assert (await send(bench, await laboratory.user_token(Role.VIEWER), whole(placer="PL-9"))).status == 403


@pytest.mark.parametrize("seed", range(3))
async def test_no_shape_of_body_breaks_anything(bench: Bench, laboratory: Laboratory, token: str, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    values: tuple[Any, ...] = (
        None,
        7,
        "",
        "x",
        [],
        {},
        [[]],
        [None],
        {"a": {}},
        True,
        -1.5,
        "2026-13-45T99:99:99Z",
        "\ud7ff" * 40,
        10**30,
    )
    for _ in range(60):
        body: Any = copy.deepcopy(whole(placer=f"PL-{chance.random()}"))
        for _ in range(chance.randint(1, 3)):
            at = body
            way: list[tuple[Any, Any]] = []
            while isinstance(at, dict | list) and at and (not way or chance.random() < 0.8):
                key = chance.choice(list(at) if isinstance(at, dict) else range(len(at)))
                way.append((at, key))
                at = at[key]
            holder, key = way[-1]
            holder[key] = chance.choice(values)
        answer = await send(bench, token, orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS) if _fits(body) else b"{")
        assert answer.status in (200, 400, 409, 422), (answer.status, body)


def _fits(body: object) -> bool:
    """orjson writes no number of more than 64 bits."""
    try:
        orjson.dumps(body)
    except TypeError:
        return False
    return True
