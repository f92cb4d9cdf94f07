"""FHIR R4 over HTTP: searches find what they say, pages are whole, the CapabilityStatement is true."""

from __future__ import annotations

from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement

from interface.api.app import routes
from interface.domain.model import ResultStatus
from interface.store import people
from tests.api.bench import Answer, Bench, Laboratory

FORM = {"Content-Type": "application/x-www-form-urlencoded"}

UNKNOWN = "7d1c2f58-3c1f-4a87-9a52-0d2b7f6f0a11"  # the same in every worker: tests are named by it


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.client_token("system/*.rs")


def found(answer: Answer) -> list[str]:
    """The ids of a searchset, in order."""
    assert answer.status == 200, answer.body
    assert answer.json["resourceType"] == "Bundle"
    assert answer.json["type"] == "searchset"
    return [entry["resource"]["id"] for entry in answer.json.get("entry", [])]


def link(answer: Answer, relation: str) -> str | None:
    return next((one["url"] for one in answer.json["link"] if one["relation"] == relation), None)


async def test_decimals_arrive_digit_for_digit(bench: Bench, laboratory: Laboratory, token: str) -> None:
    for value in ("5.10", "0.000", "123456789012345678.123"):
        result_id = await laboratory.result(await laboratory.order(), value)
        for path in (f"/fhir/Observation/{result_id}", f"/fhir/Observation?_id={result_id}"):
            body = (await bench.get(path, token)).body
            assert f'"value":{value},'.encode() in body
            assert b'"low":{"value":11.90,' in body
        assert f'"number":{value},'.encode() in (await bench.get(f"/api/results/{result_id}", token)).body


async def test_a_read_has_its_version_and_time(bench: Bench, laboratory: Laboratory, token: str) -> None:
    order = await laboratory.order()
    result_id = await laboratory.result(order)
    for kind, id in (
        ("Observation", result_id), ("Patient", order["patient"]), ("Specimen", order["specimen"]),
        ("ServiceRequest", order["item"]), ("DiagnosticReport", order["order"]),
    ):  # fmt: skip
        answer = await bench.get(f"/fhir/{kind}/{id}", token)
        assert (answer.status, answer.json["resourceType"], answer.json["id"]) == (200, kind, str(id))
        assert answer.headers["Content-Type"] == "application/fhir+json; charset=utf-8"
        assert answer.headers["ETag"] == f'W/"{answer.json["meta"]["versionId"]}"'
        assert answer.headers["Last-Modified"].endswith("GMT")
        assert answer.headers["Cache-Control"] == "no-store"


async def test_every_parameter_finds_what_it_names_and_nothing_else(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    at = "2026-01-02T03:04:05Z"
    mine = await laboratory.order("B-1", number="N-1", placer="PL-1", mrn="M-1")
    await laboratory.order("B-2", number="N-2", placer="PL-2", mrn="M-2")
    result_id = await laboratory.result(mine)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute(
            "update lab.specimen set collected_at = $1::text::timestamptz where id = $2", at, mine["specimen"]
        )
        await connection.execute(
            "update lab.lab_order set ordered_at = $1::text::timestamptz where id = $2", at, mine["order"]
        )
        await connection.execute(
            "update lab.patient set birth_date = '1980-05-01', family = 'Öztürk', given = 'Ada', sex = 'other'"
            " where id = $1",
            mine["patient"],
        )
        await people.write_words(connection, laboratory.organization_id, mine["patient"], "Öztürk", "Ada")
    patient = str(mine["patient"])
    expected = {
        "Patient": (patient, [
            f"_id={patient}", "identifier=M-1", "identifier=urn:hospital|M-1", "family=Özt", "given=AD", "name=ada",
            "birthdate=1980-05-01", "birthdate=1980", "birthdate=lt1981", "gender=other", "family=Özt&given=A",
        ]),
        "Observation": (str(result_id), [
            f"_id={result_id}", f"patient={patient}", f"subject=Patient/{patient}", f"subject:Patient={patient}",
            f"patient={bench.url}/fhir/Patient/{patient}", "code=718-7", "code=http://loinc.org|718-7", "code=HGB",
            "code=x,718-7", "code=urn:labora:test|HGB", "status=final", "status=preliminary,final",
            "category=laboratory", f"specimen=Specimen/{mine['specimen']}", "date=2026-01-02", "date=2026-01",
            "date=ge2026-01-02T03:04:05Z", "date=2026-01-02T04:04:05 01:00", "date=gt2026-01-01&date=lt2026-01-03",
            "_lastUpdated=gt2000", "_sort=-date", "status=final&code=718-7&category=laboratory",
        ]),
        "DiagnosticReport": (str(mine["order"]), [
            f"_id={mine['order']}", f"patient={patient}", "identifier=N-1", "identifier=PL-1", "status=final",
            "date=2026-01-02", f"based-on=ServiceRequest/{mine['item']}", "code=11502-2&status=final",
            "category=LAB&date=2026",
        ]),
        "ServiceRequest": (str(mine["item"]), [
            f"_id={mine['item']}", f"patient={patient}", "identifier=N-1", "identifier=PL-1", "authored=2026-01-02",
            "authored=le2026-02", f"specimen={mine['specimen']}", "code=HGB&identifier=N-1",
            "status=active&identifier=N-1",
        ]),
        "Specimen": (str(mine["specimen"]), [
            f"_id={mine['specimen']}", f"patient={patient}", "identifier=B-1", "accession=B-1",
            "accession=urn:labora:specimen|B-1",
        ]),
    }  # fmt: skip
    for kind, (id, queries) in expected.items():
        for query in queries:
            answer = await bench.get(f"/fhir/{kind}?{query}", token)
            assert found(answer) == [id], f"{kind}?{query}"
            assert answer.json["total"] == 1, f"{kind}?{query}"
            posted = await bench.ask("POST", f"/fhir/{kind}/_search", token, data=query.encode(), headers=FORM)
            assert found(posted) == [id], f"{kind}/_search {query}"
            Bundle.model_validate_json(answer.body)


@pytest.mark.parametrize("kind", ["DiagnosticReport", "ServiceRequest"])
async def test_an_orders_number_is_found_in_its_own_system_only(
    bench: Bench, laboratory: Laboratory, token: str, kind: str
) -> None:
    """One order's laboratory number may be another's number at the placer."""
    one = await laboratory.order(number="4711", placer="A-1")
    other = await laboratory.order(number="4712", placer="4711")
    id = "order" if kind == "DiagnosticReport" else "item"
    for query, ids in (
        ("urn:labora:order|4711", {one[id]}),
        ("urn:labora:placer-order|4711", {other[id]}),
        ("4711", {one[id], other[id]}),
        ("urn:labora:order|4712,urn:labora:placer-order|A-1", {one[id], other[id]}),
        ("urn:labora:placer-order|4712", set()),
    ):
        answer = await bench.get(f"/fhir/{kind}?identifier={query}", token)
        assert set(found(answer)) == {str(one) for one in ids}, query


@pytest.mark.parametrize(
    "query",
    [
        "Observation?_id=x", f"Observation?_id={UNKNOWN}", f"Observation?patient={UNKNOWN}", "Observation?code=nothing",
        "Observation?code=http://snomed.info/sct|718-7", "Observation?status=cancelled", "Observation?status=nonsense",
        "Observation?category=imaging", "Observation?code=718-7&code=WBC", "Observation?date=gt2100",
        "Observation?date=gt2026&date=lt2020", "Observation?subject=Group/1", "Patient?gender=unknown",
        "Patient?identifier=urn:other|M-1", "Patient?identifier=|M-1", "Patient?family=ust", "Patient?family=%25",
        "DiagnosticReport?status=cancelled", "ServiceRequest?status=completed", "Specimen?accession=other|B-1",
    ],
)  # fmt: skip
async def test_what_matches_nothing_is_an_empty_bundle(
    bench: Bench, laboratory: Laboratory, token: str, query: str
) -> None:
    await laboratory.result(await laboratory.order("B-1", mrn=f"M-1-{uuid4()}"))
    answer = await bench.get(f"/fhir/{query}", token)
    assert (found(answer), answer.json["total"]) == ([], 0)
    assert "entry" not in answer.json


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("Observation?date=yesterday", "value"), ("Observation?date=2026-13-01", "value"),
        ("Observation?date=2026-02-30", "value"), ("Observation?date=xx2026", "value"),
        ("Observation?date=2026,x", "value"), ("Observation?code:missing=x", "value"),
        ("Observation?_count=many", "value"), ("Observation?_count=-1", "value"), ("Observation?_total=x", "value"),
        ("Observation?_summary=x", "value"), ("Observation?value-quantity=x", "value"),
        ("Observation?value-quantity=5|g/dL", "value"), ("Patient?identifier:of-type=MR|1", "value"),
        ("Observation?_sort=date,-date", "value"), ("Observation?_sort=date,code,date,status", "value"),
        ("Observation?_sort=value-quantity", "not-supported"), ("Observation?code:above=718-7", "not-supported"),
        ("Observation?subject:Group=1", "not-supported"), ("Observation?status.name=M", "not-supported"),
        ("Observation?patient.nothing=M", "not-supported"), ("Observation?patient:Group.name=M", "not-supported"),
        ("Observation?_include:recurse=Observation:patient", "not-supported"),
        ("Patient?_has:Observation:specimen:code=1", "not-supported"), ("Patient?_has:Observation=1", "not-supported"),
        ("Patient?_has:Observation:patient:nothing=1", "not-supported"),
        ("Patient?_has:Medication:patient:code=1", "not-supported"), ("Patient?gender:text=M", "not-supported"),
        ("Observation?" + "&".join(f"code={n}" for n in range(31)), "too-costly"),
        ("Observation?code=" + ",".join(map(str, range(201))), "too-costly"),
        ("Observation?code=" + "x" * 4001, "too-costly"), ("Observation?_sort=date,code,status,_id", "too-costly"),
        ("Observation?specimen.subject.link.link.name=x", "too-costly"),
        ("Patient?birthdate=1980-01-01T00:00:00Z", "value"), ("Observation?code=a|b|c", "value"),
        ("Observation?code=|", "value"), ("Observation?code=%00", "value"), ("Observation?date=0000", "value"),
        ("Observation?date=9999-12-31T23:59-14:00", "value"), ("Observation?date=2026-01-01T00:00:61Z", "value"),
    ],
)  # fmt: skip
async def test_a_value_that_cannot_be_read_is_refused(bench: Bench, token: str, query: str, code: str) -> None:
    answer = await bench.get(f"/fhir/{query}", token)
    assert (answer.status, answer.json["resourceType"]) == (400, "OperationOutcome")
    assert answer.json["issue"][0]["code"] == code
    assert answer.headers["Content-Type"].startswith("application/fhir+json")


@pytest.mark.parametrize(
    "query", ["nonsense=1", "nonsense.name=1", "_include=Observation:nothing", "_revinclude=Medication:subject"]
)
async def test_an_unknown_parameter_is_ignored_unless_handling_is_strict(
    bench: Bench, laboratory: Laboratory, token: str, query: str
) -> None:
    result_id = await laboratory.result(await laboratory.order())
    lenient = await bench.get(f"/fhir/Observation?{query}", token)
    assert found(lenient) == [str(result_id)]
    assert link(lenient, "self") == f"{bench.url}/fhir/Observation"
    strict = await bench.get(f"/fhir/Observation?{query}", token, headers={"Prefer": "handling=strict"})
    assert (strict.status, strict.json["issue"][0]["code"]) == (400, "not-supported")


async def every_page(bench: Bench, path: str, token: str) -> tuple[list[str], list[int | None]]:
    """The ids and totals of all pages; no link may say what was searched for."""
    ids: list[str] = []
    totals: list[int | None] = []
    url: str | None = path
    while url:
        answer = await bench.get(url, token)
        ids += found(answer)
        totals.append(answer.json.get("total"))
        url = link(answer, "next")
        assert url is None or set(url.partition("?")[2].partition("=")[0].split("&")) == {"_cursor"}
    return ids, totals


@pytest.mark.parametrize("sort", ["_lastUpdated", "-_lastUpdated", "date", "-date"])
async def test_the_pages_of_a_search_hold_each_match_once(
    bench: Bench, laboratory: Laboratory, token: str, sort: str
) -> None:
    results = [str(await laboratory.result(await laboratory.order())) for _ in range(5)]
    results.sort(reverse=sort.startswith("-"))
    ids, totals = await every_page(bench, f"/fhir/Observation?_count=2&_sort={sort}&code=718-7&_total=accurate", token)
    assert ids == results
    assert totals == [5, 5, 5]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
async def test_an_order_of_several_tests_is_cut_between_pages_without_loss(
    bench: Bench, laboratory: Laboratory, token: str, count: int
) -> None:
    items = []
    for _ in range(3):
        order = await laboratory.order()
        items.append(str(order["item"]))
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            for code in ("WBC", "PLT"):
                id = uuid4()
                await connection.execute(
                    "insert into lab.order_item (id, organization_id, order_id, test_id)"
                    " select $1, $2, $3, id from lab.test where code = $4",
                    id, laboratory.organization_id, order["order"], code,
                )  # fmt: skip
                items.append(str(id))
    ids, _ = await every_page(bench, f"/fhir/ServiceRequest?_count={count}", token)
    assert sorted(ids) == sorted(items)
    some, _ = await every_page(bench, f"/fhir/ServiceRequest?_count={count}&code=PLT", token)
    assert len(some) == len(set(some)) == 3


async def test_a_page_link_is_good_for_its_owner_only(bench: Bench, laboratory: Laboratory, token: str) -> None:
    for _ in range(2):
        await laboratory.result(await laboratory.order())
    first = await bench.get("/fhir/Observation?_count=1&code=718-7", token)
    following = link(first, "next")
    assert following is not None
    assert "718" not in following
    assert len(found(await bench.get(following, token))) == 1
    other = await laboratory.client_token("system/*.rs")
    assert (await bench.get(following, other)).status == 410
    assert (await bench.get(following.replace("Observation", "Patient"), token)).status == 410
    assert (await bench.get("/fhir/Observation?_cursor=x", token)).status == 410


async def test_count_zero_only_counts(bench: Bench, laboratory: Laboratory, token: str) -> None:
    await laboratory.result(await laboratory.order())
    answer = await bench.get("/fhir/Observation?_count=0", token)
    assert (found(answer), answer.json["total"], link(answer, "next")) == ([], 1, None)


@pytest.mark.parametrize(
    ("accept", "format", "status"),
    [
        ("application/fhir+json", "", 200), ("application/json", "", 200), ("*/*", "", 200), ("text/json", "", 200),
        ("text/html, application/fhir+json;q=0.5", "", 200), ("application/fhir+xml", "", 406), ("text/html", "", 406),
        ("application/fhir+json;q=0", "", 406), ("application/fhir+xml", "json", 200), ("*/*", "xml", 406),
        ("*/*", "application/fhir+json", 200), ("*/*", "application/fhir%2Bjson", 200),
    ],
)  # fmt: skip
async def test_json_is_spoken_and_nothing_else(bench: Bench, token: str, accept: str, format: str, status: int) -> None:
    for path in ("/fhir/metadata", "/fhir/Patient"):
        answer = await bench.get(f"{path}?_format={format}", token, headers={"Accept": accept})
        assert answer.status == status
        assert answer.headers["Content-Type"].startswith("application/fhir+json")


async def test_errors_are_operation_outcomes(bench: Bench, laboratory: Laboratory, token: str) -> None:
    cases: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
        ("GET", f"/fhir/Patient/{UNKNOWN}", 404, {}),
        ("GET", "/fhir/Patient/no-uuid", 404, {}),
        ("GET", "/fhir/Medication", 404, {}),
        ("POST", "/fhir/Observation", 405, {"json": {}}),
        ("PUT", f"/fhir/Observation/{UNKNOWN}", 405, {"json": {}}),
        ("DELETE", f"/fhir/Observation/{UNKNOWN}", 405, {}),
        ("POST", "/fhir/Patient/_search", 415, {"json": {}}),
        ("POST", "/fhir/Patient/_search", 413, {"data": BytesIO(b"x" * (2 << 20)), "headers": FORM}),
    )
    for method, path, status, options in cases:
        answer = await bench.ask(method, path, token, **options)
        assert (answer.status, answer.json["resourceType"]) == (status, "OperationOutcome"), path
        assert answer.json["issue"][0]["severity"] == "error"
        if status == 405:
            assert answer.headers["Allow"]


async def test_the_capability_statement_is_public_and_true(bench: Bench, laboratory: Laboratory) -> None:
    token = await laboratory.client_token("system/*.rs", "system/AuditEvent.rs")
    statement = (await bench.get("/fhir/metadata")).json
    CapabilityStatement.model_validate(statement)
    assert statement["fhirVersion"] == "4.0.1"
    for resource in statement["rest"][0]["resource"]:
        kind = resource["type"]
        served = {(route.method, route.path) for route in routes()}
        known = {
            "read": ("GET", f"/fhir/{kind}/{{id}}"), "search-type": ("GET", f"/fhir/{kind}"),
            "create": ("POST", f"/fhir/{kind}"), "update": ("PUT", f"/fhir/{kind}/{{id}}"),
            "delete": ("DELETE", f"/fhir/{kind}/{{id}}"),
            "vread": ("GET", f"/fhir/{kind}/{{id}}/_history/{{vid}}"),
            "history-instance": ("GET", f"/fhir/{kind}/{{id}}/_history"),
        }  # fmt: skip
        assert {one["code"] for one in resource["interaction"]} == {
            name for name, route in known.items() if route in served
        }
        for parameter in resource.get("searchParam", ()):
            value = {"date": "2026", "reference": str(uuid4()), "quantity": "5"}.get(parameter["type"], "x")
            strict = {"Prefer": "handling=strict"}
            named = f"&_id={UNKNOWN}" if kind == "Binary" else ""  # which is searched by its id alone, and by more
            path = f"/fhir/{kind}?{parameter['name']}={value}{named}"
            answer = await bench.get(path, token, headers=strict)
            # the server says what it applied, so a parameter that is declared and ignored is found out
            assert f"{parameter['name']}=" in (link(answer, "self") or ""), parameter


async def test_a_corrected_result_is_the_same_resource_in_a_new_version(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    result_id = await laboratory.result(await laboratory.order(), status=ResultStatus.CORRECTED)
    answer = await bench.get(f"/fhir/Observation/{result_id}", token)
    assert answer.json["status"] == "corrected"


async def test_every_read_of_patient_data_leaves_audit_rows(bench: Bench, laboratory: Laboratory, token: str) -> None:
    order = await laboratory.order()
    result_id = await laboratory.result(order)
    await bench.get(f"/fhir/Observation/{result_id}", token)
    await bench.get("/fhir/Observation?code=718-7", token)
    await bench.get(f"/fhir/Patient/{order['patient']}", token)
    await bench.get(f"/fhir/Patient/{uuid4()}", token)
    await bench.writer.flush()
    reads = await laboratory.audit("read")
    assert [(row["entity_kind"], row["detail"]["found"]) for row in reads] == [
        ("Observation", "yes"), ("Patient", "yes"), ("Patient", "no"),
    ]  # fmt: skip
    assert reads[0]["entity_id"] == result_id
    assert (reads[0]["actor_kind"], reads[0]["address"]) == ("client", "127.0.0.1")
    [search] = await laboratory.audit("search")
    assert (search["detail"]["query"], search["detail"]["matches"]) == ("code=718-7", "1")
    shown = await laboratory.audit("disclose")
    assert [(row["entity_kind"], row["entity_id"]) for row in shown] == [("patient", order["patient"])] * 2
