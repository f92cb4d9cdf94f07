"""What is common to every type of FHIR: parameters of `meta`, parts of what is read, the order of ids, page links."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from interface.api.fhir.page import SUBSETTED
from interface.api.fhir.types import TYPES
from interface.store.ids import uuid7
from tests.api.bench import Bench, Laboratory
from tests.api.test_search import found

STRICT = {"Prefer": "handling=strict"}


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.client_token("system/*.rs system/AuditEvent.rs")


async def _results(laboratory: Laboratory) -> list[str]:
    case = await laboratory.order()
    return sorted(
        [str(await laboratory.result(case)), str(await laboratory.result(case, test_code="WBC", loinc="6690-2"))]
    )


@pytest.mark.parametrize("name", ["_tag", "_security", "_profile", "_source"])
async def test_what_no_resource_says_of_itself_finds_none(
    bench: Bench, laboratory: Laboratory, token: str, name: str
) -> None:
    """It was passed over: the whole laboratory came instead."""
    results = await _results(laboratory)
    for kind in TYPES:
        assert found(await bench.get(f"/fhir/{kind}?{name}=urn:x", token, headers=STRICT)) == []
    assert sorted(found(await bench.get(f"/fhir/Observation?{name}:missing=true", token, headers=STRICT))) == results
    negated = await bench.get(f"/fhir/Observation?{name}:not=urn:x", token)
    if name in ("_tag", "_security"):
        assert sorted(found(negated)) == results
    else:
        assert negated.status == 400
    statement = (await bench.get("/fhir/metadata")).json["rest"][0]["resource"]
    said: dict[str, Any] = {one["type"]: [each["name"] for each in one["searchParam"]] for one in statement
                            if one["type"] in TYPES}  # fmt: skip
    assert all(name in each for each in said.values())


async def test_results_in_the_order_of_their_ids(bench: Bench, laboratory: Laboratory, token: str) -> None:
    results = await _results(laboratory)
    backwards = results[::-1]
    orders = {"_id": results, "-_id": backwards, "-status,_id": results, "status,-_id": backwards}
    for asked, expected in orders.items():
        first = await bench.get(f"/fhir/Observation?_sort={asked}&_count=1", token, headers=STRICT)
        following = next(one["url"] for one in first.json["link"] if one["relation"] == "next")
        second = await bench.get(following.partition("/fhir")[1] + following.partition("/fhir")[2], token)
        assert found(first) + found(second) == expected, asked


@pytest.mark.parametrize(
    "query",
    ["_sort=date&_sort=code", "_sort:desc=date", "_count=1&_count=2", "_summary=true&_summary=data",
     "_elements=code&_elements=status", "_count:exact=1"],
)  # fmt: skip
async def test_how_an_answer_is_to_be_is_said_once(bench: Bench, token: str, query: str) -> None:
    """The last counted, and a modifier was passed over: _sort:desc came the other way about."""
    answer = await bench.get(f"/fhir/Observation?{query}", token)
    assert (answer.status, answer.json["resourceType"]) == (400, "OperationOutcome"), answer.body


@pytest.fixture
async def result(laboratory: Laboratory) -> UUID:
    return await laboratory.result(await laboratory.order())


async def test_a_read_shows_the_elements_that_are_asked_for(bench: Bench, token: str, result: UUID) -> None:
    whole = (await bench.get(f"/fhir/Observation/{result}", token)).json
    version = whole["meta"]["versionId"]
    for path in (f"/fhir/Observation/{result}", f"/fhir/Observation/{result}/_history/{version}"):
        few = (await bench.get(f"{path}?_elements=subject", token)).json
        assert set(few) == {"resourceType", "id", "meta", "status", "code", "subject"}
        assert few["meta"]["tag"] == [SUBSETTED]
        summary = (await bench.get(f"{path}?_summary=true", token)).json
        assert set(summary) < set(whole) and summary["subject"] == whole["subject"]
        assert (await bench.get(f"{path}?_summary=false", token)).json == whole
        assert (await bench.get(f"{path}?_summary=count", token)).status == 400
        assert (await bench.get(f"{path}?_summary=nonsense", token)).status == 400


async def test_a_page_link_that_nobody_gave_is_refused(bench: Bench, token: str, result: UUID) -> None:
    """It was answered by an empty page, as if nothing came after it."""
    answer = await bench.get(f"/fhir/Observation/{result}/_history?_cursor=nonsense", token)
    assert answer.status == 410
    assert answer.json["resourceType"] == "OperationOutcome"


async def test_an_observation_is_called_one(bench: Bench, token: str) -> None:
    answer = await bench.get("/fhir/Observation?nonsense=1", token, headers=STRICT)
    assert answer.json["issue"][0]["diagnostics"].startswith("an Observation has no search parameter")


async def test_who_has_no_name_is_found_by_what_is_shown_for_one(bench: Bench, laboratory: Laboratory) -> None:
    token = await laboratory.client_token("system/AuditEvent.rs")
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await laboratory._insert(connection, "audit_event", id=(id := uuid7()), actor_kind="client", action="read",
                                 entity_kind="Patient")  # fmt: skip
    shown = (await bench.get(f"/fhir/AuditEvent/{id}", token)).json["agent"][0]["name"]
    assert found(await bench.get(f"/fhir/AuditEvent?agent-name:exact={shown}&_id={id}", token)) == [str(id)]
