"""FHIR searches over HTTP: what US Core asks of a laboratory, scopes in chains and includes, pages, parts, versions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from interface.api.fhir.page import MOST_INCLUDED, SUBSETTED
from interface.domain.model import HoldReason, ResultStatus
from interface.store.db import Database
from tests.api.bench import Answer, Bench, Laboratory, found_laboratory, serving

LAB = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"


def found(answer: Answer, mode: str = "match") -> list[str]:
    assert answer.status == 200, answer.body
    return [one["resource"]["id"] for one in answer.json.get("entry", []) if one["search"]["mode"] == mode]


def link(answer: Answer, relation: str) -> str:
    return next((one["url"] for one in answer.json["link"] if one["relation"] == relation), "")


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.client_token("system/*.rs")


# ---- US Core (STU 3.1.1 and later): what a server SHALL let be searched for, of what a laboratory has ----------------

US_CORE = {  # https://hl7.org/fhir/us/core/CapabilityStatement-us-core-server.html, with the ids of the case put in
    "patient-by-id": "Patient?_id={patient}",
    "patient-by-identifier": "Patient?identifier=urn:hospital|MRN-1",
    "patient-by-name": "Patient?name=Muster",
    "patient-by-birthdate-and-name": "Patient?birthdate=1980-05-01&name=Muster",
    "patient-by-gender-and-name": "Patient?gender=female&name=Muster",
    "observation-by-patient-and-category": "Observation?patient={patient}&category=" + LAB,
    "observation-by-patient-and-code": "Observation?patient={patient}&code=http://loinc.org|718-7",
    "observation-by-patient-and-codes": "Observation?patient={patient}&code=http://loinc.org|718-7,http://loinc.org|1-8",
    "observation-by-patient-category-and-date": "Observation?patient=Patient/{patient}&category=laboratory"
    "&date=ge2026-01-01&date=lt2026-02-01",
    "observation-by-patient-category-and-status": "Observation?patient={patient}&category=laboratory&status=final",
    "report-by-patient": "DiagnosticReport?patient={patient}",
    "report-by-patient-and-category": "DiagnosticReport?patient={patient}&category=LAB",
    "report-by-patient-and-code": "DiagnosticReport?patient={patient}&code=http://loinc.org|11502-2",
    "report-by-patient-category-and-date": "DiagnosticReport?patient={patient}&category=LAB&date=ge2026-01-02",
    "request-by-id": "ServiceRequest?_id={item}",
    "request-by-patient": "ServiceRequest?patient={patient}",
    "request-by-patient-and-category": "ServiceRequest?patient={patient}&category=http://snomed.info/sct|108252007",
    "request-by-patient-and-code": "ServiceRequest?patient={patient}&code=http://loinc.org|718-7",
    "request-by-patient-category-and-authored": "ServiceRequest?patient={patient}&category=108252007"
    "&authored=ge2026-01-02&authored=le2026-01-02",
    "specimen-by-id": "Specimen?_id={specimen}",
    "specimen-by-patient": "Specimen?patient={patient}",
}
FINDS = {"Patient": "patient", "Observation": "result", "DiagnosticReport": "order", "ServiceRequest": "item",
         "Specimen": "specimen"}  # fmt: skip


@pytest.fixture
async def case(laboratory: Laboratory) -> dict[str, UUID]:
    """One patient's order and result, beside another's."""
    mine = await laboratory.order(mrn="MRN-1")
    mine["result"] = await laboratory.result(mine)
    other = await laboratory.order()
    await laboratory.result(other, test_code="WBC", loinc="6690-2")
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute("update lab.patient set birth_date = '1980-05-01' where id = $1", mine["patient"])
        await connection.execute("update lab.patient set family = 'Other' where id = $1", other["patient"])
        await connection.execute("delete from lab.patient_word where patient_id = $1", other["patient"])
        at = datetime(2026, 1, 2, 3, tzinfo=UTC)
        await connection.execute("update lab.specimen set collected_at = $1 where id = $2", at, mine["specimen"])
        await connection.execute("update lab.lab_order set ordered_at = $1 where id = $2", at, mine["order"])
    return mine


@pytest.mark.parametrize("name", US_CORE)
async def test_us_core(bench: Bench, token: str, case: dict[str, UUID], name: str) -> None:
    query = US_CORE[name].format(**case)
    kind = query.partition("?")[0]
    strict = {"Prefer": "handling=strict"}
    assert found(await bench.get(f"/fhir/{query}", token, headers=strict)) == [str(case[FINDS[kind]])]


# ---- scopes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "Observation?patient.identifier=MRN-1", "Observation?subject:Patient.name=Muster",
        "Observation?subject:identifier=urn:hospital|MRN-1", "Observation?specimen.subject.name=Muster",
        "Observation?_has:DiagnosticReport:result:status=final", "Observation?_include=Observation:patient",
        "Observation?_revinclude=DiagnosticReport:result", "Observation?_include:iterate=Specimen:patient",
    ],
)  # fmt: skip
async def test_what_may_not_be_read_is_no_way_to_search(
    bench: Bench, laboratory: Laboratory, case: dict[str, UUID], query: str
) -> None:
    for scopes in ("system/Observation.rs", "system/Observation.rs system/Specimen.rs system/Patient.c"):
        answer = await bench.get(f"/fhir/{query}", await laboratory.client_token(*scopes.split()))
        assert (answer.status, answer.json["issue"][0]["code"]) == (403, "forbidden")


async def test_a_wildcard_brings_only_what_may_be_read(
    bench: Bench, laboratory: Laboratory, case: dict[str, UUID]
) -> None:
    token = await laboratory.client_token("system/Observation.rs", "system/Specimen.r")
    answer = await bench.get("/fhir/Observation?code=718-7&_include=*&_revinclude=*", token)
    assert found(answer) == [str(case["result"])]
    assert found(answer, "include") == [str(case["specimen"])]


async def test_what_narrows_a_scope_holds_for_reads_searches_chains_and_includes(
    bench: Bench, laboratory: Laboratory
) -> None:
    of = await laboratory.order()
    mine, other = await laboratory.result(of), await laboratory.result(of, test_code="WBC", loinc="6690-2")
    second = await laboratory.order()
    third = await laboratory.result(second)
    token = await laboratory.client_token(
        "system/Observation.rs?code=http://loinc.org|718-7", f"system/Patient.rs?_id={of['patient']}",
        "system/DiagnosticReport.rs",
    )  # fmt: skip
    assert set(found(await bench.get("/fhir/Observation", token))) == {str(mine), str(third)}
    assert found(await bench.get(f"/fhir/Observation?_id={other}", token)) == []
    assert [(await bench.get(f"/fhir/Observation/{id}", token)).status for id in (mine, other)] == [200, 404]
    assert found(await bench.get("/fhir/DiagnosticReport?result.code=WBC,6690-2", token)) == []
    assert found(await bench.get("/fhir/Patient?_has:Observation:patient:code=WBC", token)) == []
    assert found(await bench.get("/fhir/Patient?_has:Observation:patient:code=HGB", token)) == [str(of["patient"])]
    assert found(await bench.get("/fhir/Observation?patient.family=Muster", token)) == [str(mine)]
    came = await bench.get("/fhir/Observation?_include=Observation:patient", token)
    assert found(came, "include") == [str(of["patient"])]
    back = await bench.get("/fhir/Patient?_revinclude=Observation:patient", token)
    assert (found(back), found(back, "include")) == ([str(of["patient"])], [str(mine)])


async def test_another_laboratorys_records_are_found_by_no_chain_and_come_with_nothing(
    bench: Bench, laboratory: Laboratory, case: dict[str, UUID]
) -> None:
    stranger = await found_laboratory(laboratory.database)
    token = await stranger.client_token("system/*.rs")
    await stranger.result(await stranger.order(mrn="theirs"))
    for query in (
        f"Observation?patient={case['patient']}", "Observation?patient.identifier=MRN-1",
        f"Patient?_has:Observation:patient:_id={case['result']}",
        f"Specimen?_has:Observation:specimen:_id={case['result']}",
        f"DiagnosticReport?result={case['result']}", f"Patient?link={case['patient']}",
        f"ServiceRequest?specimen={case['specimen']}", f"DiagnosticReport?based-on={case['item']}",
        f"Observation?specimen:identifier={case['specimen']}", f"Observation?_id={case['result']}&_include=*",
    ):  # fmt: skip
        answer = await bench.get(f"/fhir/{query}", token)
        assert (found(answer), found(answer, "include")) == ([], []), query


async def test_a_held_result_is_told_of_by_no_chain_and_no_include(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    of = await laboratory.order()
    held = await laboratory.result(of, status=ResultStatus.PRELIMINARY, held=(HoldReason.QUESTIONABLE,))
    unreleased = await laboratory.result(of, status=ResultStatus.REGISTERED)
    for id in (held, unreleased):
        for query in (
            f"DiagnosticReport?result={id}", f"DiagnosticReport?result=Observation/{id}",
            f"DiagnosticReport?result._id={id}", f"Patient?_has:Observation:patient:_id={id}",
            f"Specimen?_has:Observation:specimen:_id={id}", f"ServiceRequest?_has:Observation:based-on:_id={id}",
        ):  # fmt: skip
            assert found(await bench.get(f"/fhir/{query}", token)) == [], query
    for query in (
        "Patient?_has:Observation:patient:code=HGB", "Specimen?_has:Observation:specimen:code=HGB",
        "DiagnosticReport?result.code=HGB", "DiagnosticReport?result:missing=false",
        "DiagnosticReport?date:missing=false",
        "ServiceRequest?_has:Observation:based-on:category=laboratory", "DiagnosticReport?status:not=registered",
    ):  # fmt: skip
        assert found(await bench.get(f"/fhir/{query}", token)) == [], query
    for query in ("Patient?_revinclude=Observation:patient", "ServiceRequest?_revinclude=Observation:based-on",
                  "DiagnosticReport?_include=DiagnosticReport:result"):  # fmt: skip
        answer = await bench.get(f"/fhir/{query}", token)
        assert found(answer)
        assert found(answer, "include") == [], query


async def test_a_retracted_result_is_not_found_by_what_it_was(bench: Bench, laboratory: Laboratory, token: str) -> None:
    id = await laboratory.result(await laboratory.order(), "5.10", ResultStatus.ENTERED_IN_ERROR)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute("update lab.result set released_at = now() where id = $1", id)
    assert found(await bench.get("/fhir/Observation?status=entered-in-error", token)) == [str(id)]
    for query in ("value-quantity=5.10", "value-quantity=gt0", "value-quantity:missing=false", "value-quantity=ne9"):
        assert found(await bench.get(f"/fhir/Observation?{query}", token)) == [], query


# ---- pages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sort", ["", "_lastUpdated", "-_lastUpdated", "-date", "date,-_lastUpdated", "-code,date"])
async def test_a_page_link_holds_its_place_while_others_come(
    bench: Bench, laboratory: Laboratory, token: str, sort: str
) -> None:
    begin = datetime(2026, 1, 2, tzinfo=UTC)
    first = [await laboratory.result(await laboratory.order()) for _ in range(7)]
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        for place, id in enumerate(first):  # some at the same time
            at = begin + timedelta(days=place // 3)
            await connection.execute(
                "update lab.specimen s set collected_at = $2 from lab.result r"
                " where r.id = $1 and s.id = r.specimen_id",
                id, at if place else None,
            )  # fmt: skip
    seen: list[str] = []
    url = f"/fhir/Observation?_count=2&_sort={sort}"
    while url:
        answer = await bench.get(url, token)
        seen += found(answer)
        url = link(answer, "next")
        if len(seen) < 10:
            await laboratory.result(await laboratory.order())
    assert [id for id in seen if id in set(map(str, first))] != []
    assert len(seen) == len(set(seen))
    assert {str(id) for id in first} <= set(seen)


async def test_every_process_opens_a_page_link_and_a_restart_does_not_end_it(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    ids = [str(await laboratory.result(await laboratory.order())) for _ in range(2)]
    first = await bench.get("/fhir/Observation?_count=1&patient.family=Muster&_total=accurate", token)
    rest = await bench.get("/api/results?limit=1", token)
    async with serving(laboratory.database) as other:
        following = link(first, "next").replace(bench.url, other.url)
        answer = await other.get(following, token)
        assert (found(first) + found(answer), answer.json["total"]) == (ids, 2)
        assert (await other.get(rest.json["next"], token)).status == 200
        # not the last letter, some of whose bits say nothing
        other_letter = "A" if following[-9] != "A" else "B"
        assert (await other.get(following[:-9] + other_letter + following[-8:], token)).status == 410
    assert "Muster" not in following


async def test_a_total_is_told_when_it_is_asked_for_or_costs_nothing(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    for _ in range(3):
        await laboratory.result(await laboratory.order())
    for query, total in (("", 3), ("_count=2", None), ("_count=2&_total=none", None), ("_count=2&_total=accurate", 3),
                         ("_count=2&_total=estimate", 3), ("_count=0", 3), ("_summary=count", 3)):  # fmt: skip
        answer = await bench.get(f"/fhir/Observation?{query}", token)
        assert answer.json.get("total") == total, query
        assert bool(found(answer)) == (query not in ("_count=0", "_summary=count"))


async def test_more_than_may_come_along_is_said(bench: Bench, laboratory: Laboratory, token: str) -> None:
    of = await laboratory.order()
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute(
            """insert into lab.specimen (id, organization_id, barcode, order_id, patient_id)
               select gen_random_uuid(), $1, 'many-' || n, $2, $3 from generate_series(1, $4) n""",
            laboratory.organization_id, of["order"], of["patient"], MOST_INCLUDED,
        )  # fmt: skip
    answer = await bench.get("/fhir/Patient?_revinclude=Specimen:patient", token)
    assert len(found(answer, "include")) == MOST_INCLUDED
    outcome = next(one for one in answer.json["entry"] if one["search"]["mode"] == "outcome")
    assert outcome["resource"]["issue"][0]["code"] == "incomplete"


# ---- parts of resources, conditional reads ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "there", "not_there"),
    [
        ("_summary=true", {"status", "code", "subject", "valueQuantity"}, {"referenceRange", "interpretation"}),
        ("_summary=text", {"status", "code"}, {"valueQuantity", "subject"}),
        ("_summary=data", {"status", "code", "valueQuantity", "referenceRange"}, {"text"}),
        ("_elements=valueQuantity,subject", {"status", "code", "valueQuantity", "subject"}, {"referenceRange"}),
        ("_elements=Observation.issued", {"status", "code", "issued"}, {"subject"}),
    ],
)  # fmt: skip
async def test_a_part_of_a_resource_says_that_it_is_one(
    bench: Bench, token: str, case: dict[str, UUID], query: str, there: set[str], not_there: set[str]
) -> None:
    answer = await bench.get(f"/fhir/Observation?_id={case['result']}&{query}", token)
    resource = answer.json["entry"][0]["resource"]
    assert {"resourceType", "id", "meta"} | there <= set(resource)
    assert not not_there & set(resource)
    assert SUBSETTED in resource["meta"]["tag"]


async def test_a_read_is_not_sent_again_to_who_has_it(bench: Bench, token: str, case: dict[str, UUID]) -> None:
    path = f"/fhir/Observation/{case['result']}"
    whole = await bench.get(path, token)
    tag, changed = whole.headers["ETag"], whole.headers["Last-Modified"]
    later = "Fri, 01 Jan 2100 00:00:00 GMT"
    cases: tuple[tuple[dict[str, str], int], ...] = (
        ({"If-None-Match": tag}, 304), ({"If-None-Match": tag.removeprefix("W/")}, 304), ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": f'W/"x", {tag}'}, 304), ({"If-None-Match": 'W/"x"'}, 200),
        ({"If-Modified-Since": changed}, 200), ({"If-Modified-Since": later}, 200),
        ({"If-None-Match": 'W/"x"', "If-Modified-Since": later}, 200),
    )  # fmt: skip
    for headers, status in cases:
        answer: Any = await bench.get(path, token, headers=headers)
        assert answer.status == status, headers
        assert answer.headers["ETag"] == tag
        assert (answer.body == b"") == (status == 304)


async def test_a_report_with_a_result_that_was_under_way_is_another_version(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    """A time of change is when its transaction began: what began first may be committed last."""
    of = await laboratory.order()
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute("select")
        first = await laboratory.result(of)
        seen = await bench.get(f"/fhir/DiagnosticReport/{of['order']}", token)
        late = await laboratory.result(of, "7.0", within=connection)
    path, known = f"/fhir/DiagnosticReport/{of['order']}", {"If-None-Match": seen.headers["ETag"]}
    again = await bench.get(path, token, headers=known)
    assert again.status == 200, "who has the report without it is not told that it has it"
    since = {"If-Modified-Since": seen.headers["Last-Modified"]}
    assert (await bench.get(path, token, headers=since)).json == again.json, "nor who asks by the second of its change"
    assert {one["reference"] for one in again.json["result"]} == {f"Observation/{id}" for id in (first, late)}
    assert again.json["meta"]["versionId"] != seen.json["meta"]["versionId"]
    past = await bench.get(f"{path}/_history", token)
    versions = [one["resource"]["meta"]["versionId"] for one in past.json["entry"]]
    assert versions[0] == again.json["meta"]["versionId"] and len(versions) == len(set(versions))
    assert (await bench.get(f"{path}/_history/{versions[0]}", token)).json["result"] == again.json["result"]


@pytest.mark.parametrize("path", ["Observation/{}", "Observation?_id={}", "Observation/{}/_history", "metadata"])
async def test_who_asks_for_the_head_has_it_alone(
    bench: Bench, laboratory: Laboratory, token: str, case: dict[str, UUID], path: str
) -> None:
    path = f"/fhir/{path.format(case['result'])}"
    whole, head = await bench.get(path, token), await bench.ask("HEAD", path, token)
    own = {"Date", "X-Request-ID"}
    assert (head.status, head.body) == (200, b"")
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in whole.headers.items() if k not in own
    }
    if path != "/fhir/metadata":
        assert (await bench.ask("HEAD", path)).status == 401
        await bench.writer.flush()
        assert len(await laboratory.audit("disclose")) % 2 == 0, "it says as much as what is sent"
    # the last is asked as a patient of this id
    for begins, status in (("/api/events", 405), ("/fhir/$export", 405), ("/fhir/Patient/$export", 404)):
        assert (await bench.ask("HEAD", begins, token)).status == status


async def test_a_date_near_today_is_found_by_ap(database: Database, bench: Bench) -> None:
    laboratory = await found_laboratory(database)
    token = await laboratory.client_token("system/*.rs")
    of = await laboratory.order()
    id = await laboratory.result(of)
    now = datetime.now(UTC)
    async with database.transaction(laboratory.organization_id) as connection:
        await connection.execute(
            "update lab.specimen set collected_at = $1 where id = $2", now - timedelta(days=100), of["specimen"]
        )
    for days, there in ((100, True), (93, True), (109, True), (80, False), (130, False)):
        day = (now - timedelta(days=days)).date()
        assert (found(await bench.get(f"/fhir/Observation?date=ap{day}", token)) == [str(id)]) == there, days
